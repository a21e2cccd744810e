"""The CUDA kernels against the CPU's float64 kernel; tests/simulated_gpu.py runs its cases where they can run.

They run in numba's simulator, and on a device where there is one. In the simulator the arithmetic is the
CPU's: it shows indices, bounds, loops and launches, but not what a GPU's compiler makes of them.
"""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path

import numpy as np
import pytest

if importlib.util.find_spec("numba_cuda") is None:
    pytest.skip("needs numba-cuda", allow_module_level=True)

from bragg_numba.kernels.parameters import Frame, Sources
from bragg_numba.kernels.pixels import cuda as kernels
from bragg_numba.kernels.pixels.cuda_frame import TILE_SIDE, Doubts
from bragg_numba.kernels.pixels.cuda_steps import PATCH_SIDES
from bragg_numba.kernels.random import cuda as random
from numba import cuda

from bragg_numba import Experiment, Simulator
from bragg_numba.plan.arithmetic import cuda as arithmetic
from bragg_numba.plan.plan import Plan, make_plan
from bragg_numba.plan.work import list_tiles
from bragg_numba.render import devices
from bragg_numba.response.counter import draw_counts
from bragg_numba.tolerances import allowed

GPUS = ("simulator", "device")
pytestmark = pytest.mark.usefixtures("gpu")

PROTEIN = Path(__file__).parents[2] / "examples" / "2erl_P1.hkl"

CRYSTAL = "-misset 10 20 30 -lambda 1 -distance 100 -fluence 1e28 -oversample 1"
FRAME = "-detpixels_x 16 -detpixels_y 12 -pixel 0.3"
CELL = f"-cell 60 45 38 95 85 100 -Na 7 -Nb 9 -Nc 12 -default_F 100 {CRYSTAL}"
TABLE = f"-cell 53.91 23.1 23.1 90 110.4 90 -hkl {PROTEIN} -nointerpolate -default_F 30 -Na 7 -Nb 9 -Nc 12 {CRYSTAL}"
# Top-hat spots so wide that some pixels see them.
SHAPES = ("-square_xtal", "-round_xtal", "-gauss_xtal -fudge 0.01", "-tophat_spots -fudge 5e-3")

#: Both round a float64 value to float32; a device fuses products and sums, and its last bit may fall otherwise. The
#: simulator does what the CPU does, to the last bit.
SAME = 2.0**-22


def plan_of(words: str):
    return make_plan(Experiment.from_nanobragg(words), None)


def expected_of(words: str) -> np.ndarray:
    return Simulator(Experiment.from_nanobragg(words), backend="cpu", precision="float64").render().astype(float)


class Launch:
    """What kernels are handed for a plan: tables and tiles sent, an image that is to be filled."""

    def __init__(self, plan: Plan, rows: tuple[int, int] | None = None, fill: float = 0.0):
        start, stop = rows or (0, plan.shape[0])
        listed = list_tiles(plan.panels, plan.roi, plan.mask, (TILE_SIDE, TILE_SIDE), (start, stop))
        self.rules = plan.rules
        parts = arithmetic.panel_arguments(plan)
        self.panels, self.flats = (cuda.to_device(p) if isinstance(p, np.ndarray) else p for p in parts)
        self.sources = Sources(*(cuda.to_device(array) for array in plan.sources.arrays))
        self.cells = cuda.to_device(plan.cells)
        self.exact = (self.panels, plan.lattice, plan.lookup, plan.rules, self.sources, self.cells)
        self.exact = (*self.exact, cuda.to_device(plan.table))
        self.exact_kind = kernels.exact_kind(plan.panels, plan.lattice, plan.lookup)
        self.tiles = cuda.to_device(listed)
        image = np.full((stop - start, plan.shape[1]), fill, np.float32)
        mask = plan.mask if plan.mask.size else np.ones((1, 1), dtype=np.bool_)
        self.frame = Frame(cuda.to_device(image), cuda.to_device(mask), start)
        kinds = (np.int64, np.int32, np.uint32)
        lists = (*(np.zeros(image.size, kind) for kind in kinds), np.zeros(1, np.int32))
        self.doubts = Doubts(*(cuda.to_device(one) for one in lists))

    def float64(self, blocks: int | None = None) -> int:
        """Render in float64; how often interpolation missed the table."""
        missed = cuda.to_device(np.zeros(1, np.int64))
        blocks = blocks or kernels.BLOCKS_OF_TILE * len(self.tiles)
        kernel = kernels.float64_kernel(self.exact_kind)[blocks, kernels.THREADS]
        kernel(*self.exact, self.tiles, self.frame, missed)
        return int(missed.copy_to_host()[0])

    def tile(self, plan: Plan, choice: arithmetic.CudaArithmetic, blocks: int | None = None, **changes) -> int:
        """Render in float32 phases, with ``changes`` of Single; how many pixels are in doubt."""
        single = arithmetic.single(plan, choice)._replace(**changes)
        squares = cuda.to_device(arithmetic.padded_table(plan, choice))
        kind = kernels.tile_kind(plan.panels, plan.lattice, plan.lookup, plan.rules, choice.side)
        kernel = kernels.tile_kernel(kind)[blocks or len(self.tiles), kernels.THREADS]
        steps = (self.sources, self.cells, squares)
        kernel(self.panels, self.flats, self.rules, single, *steps, self.tiles, self.frame, self.doubts)
        settle = kernels.settle_kernel(self.exact_kind)[1, kernels.THREADS]
        settle(*self.exact, single.part_rounds, self.frame, self.doubts)
        return int(self.doubts.count.copy_to_host()[0])

    def image(self) -> np.ndarray:
        """What the kernels have made of the image."""
        return self.frame.image.copy_to_host()


def render_float64(words: str) -> tuple[np.ndarray, int]:
    """Render a whole frame; photons, and how often interpolation missed the table."""
    launch = Launch(plan_of(words))
    missed = launch.float64()
    return launch.image(), missed


def render_tile(words, side: int | None = None, rows: int | None = None, **changes) -> tuple[np.ndarray, int]:
    """Render words or a plan ``rows`` rows at a time; photons, and how many pixels were settled in float64."""
    plan = plan_of(words) if isinstance(words, str) else words
    choice = arithmetic.choose(plan, "auto")
    assert choice.side, choice.reason
    if side is not None:
        choice = dataclasses.replace(choice, side=side)
    n_slow, n_settled, parts = plan.shape[0], 0, []
    for start in range(0, n_slow, rows or n_slow):
        launch = Launch(plan, (start, min(start + (rows or n_slow), n_slow)))
        n_settled += launch.tile(plan, choice, **changes)
        parts.append(launch.image())
    return np.concatenate(parts), n_settled


def assert_agrees(image, expected) -> None:
    assert expected.max() > 0
    worst = np.abs(image - expected) - allowed(expected, expected.max())
    assert (worst <= 0).all(), (worst.max() / expected.max(), np.unravel_index(worst.argmax(), worst.shape))


def assert_same(image, expected) -> None:
    assert expected.max() > 0
    if devices.simulated():
        assert np.array_equal(image, expected)
    assert (np.abs(image - expected) <= SAME * expected + 1e-12 * expected.max()).all()


#: Wide enough for polarization and curvature to be seen beside the brightest pixel.
WIDE = FRAME.replace("-pixel 0.3", "-pixel 1")
OPTIONS = {
    "sub-pixels": "-oversample 2",
    "layers": "-detector_thick 300 -detector_abs 500 -detector_thicksteps 2",
    "thin layers": "-detector_thick 10 -detector_abs 2000 -detector_thicksteps 2",
    "unpolarized": "-nopolar",
    "polarized": "-polar 0.9",
    "water": "-water 0.1",
    "dmin": "-dmin 60",
    "energies": "-dispersion 1 -dispsteps 3",
    "divergence": "-hdivrange 1 -hdivstep 0.5",
    "mosaic": "-mosaic 1 -mosaic_dom 3",
    "rotation": "-osc 1 -phisteps 3",
    "tilted": "-twotheta 20 -detector_rotx 3 -detector_roty 5 -detector_rotz 7",
    "curved": "-curved_det",
    "point pixel": "-point_pixel",
    "region": "-roi 3 14 2 10",
    "narrow": "-pixel 0.3",
}
# So little water that Bragg photons are seen beside it.
PHYSICAL = "-fidelity physical -water 0.03 -polar 0.9 -detector_thick 300 -detector_abs 500 -dispersion 1 -dispsteps 2"


@pytest.mark.parametrize("crystal", [CELL, TABLE], ids=["default_F", "table"])
@pytest.mark.parametrize("shape", SHAPES)
def test_tiles_agree_with_float64_for_every_shape(shape, crystal):
    words = f"{crystal} {shape} {FRAME}"
    image, _ = render_tile(words)
    assert_agrees(image, expected_of(words))


@pytest.mark.parametrize("crystal", [CELL, TABLE], ids=["default_F", "table"])
@pytest.mark.parametrize("shape", SHAPES)
def test_float64_is_that_of_the_cpu_for_every_shape(shape, crystal):
    words = f"{crystal} {shape} {FRAME}"
    image, missed = render_float64(words)
    assert_same(image, expected_of(words))
    assert missed == 0


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_is_seen_in_the_image(option):
    """What an option does must exceed what the tests below overlook, and leave the spots to be seen."""
    plain, image = (expected_of(f"{TABLE} {WIDE} {words}") for words in ("", OPTIONS[option]))
    overlooked = allowed(plain, plain.max())
    assert (np.abs(image - plain) > 10 * overlooked).sum() > 12
    assert image.max() > 3 * np.median(image)


@pytest.mark.parametrize("option", OPTIONS)
def test_tiles_agree_with_float64_for_every_option(option):
    words = f"{TABLE} {WIDE} {OPTIONS[option]}"
    image, _ = render_tile(words)
    assert_agrees(image, expected_of(words))


@pytest.mark.parametrize("option", [*OPTIONS, "running"])
def test_float64_is_that_of_the_cpu_for_every_option(option):
    running = (
        "-oversample_thick -oversample_polar -oversample_omega -oversample 2 -detector_thick 300 -detector_abs 500"
    )
    words = f"{TABLE} {WIDE} {OPTIONS.get(option, running)}"
    image, _ = render_float64(words)
    assert_same(image, expected_of(words))


@pytest.mark.parametrize("extra", ["", "-dmin 60", "-curved_det", "-oversample 2 -nopolar"])
def test_physical_fidelity_agrees_in_both_precisions(extra):
    words = f"{TABLE} {FRAME} {PHYSICAL} {extra}"
    expected = expected_of(words)
    assert_agrees(render_tile(words)[0], expected)
    assert_same(render_float64(words)[0], expected)


@pytest.mark.parametrize("side", PATCH_SIDES)
def test_patches_of_every_side_agree_with_float64(side):
    words = f"{TABLE} -detpixels_x 20 -detpixels_y 18 -pixel 0.3 -mosaic 1 -mosaic_dom 2"
    image, _ = render_tile(words, side=side)
    assert_agrees(image, expected_of(words))


def test_interpolation_is_that_of_the_cpu_and_counts_what_it_missed():
    words = f"{TABLE.replace('-nointerpolate', '-interpolate')} {FRAME}"
    image, missed = render_float64(words)
    cpu = Simulator(Experiment.from_nanobragg(words), backend="cpu")
    assert_same(image, cpu.render().astype(float))

    beyond = f"{words} -twotheta 60 -pivot sample -lambda 0.6"
    cpu = Simulator(Experiment.from_nanobragg(beyond), backend="cpu")
    cpu.render()
    assert missed == 0
    assert render_float64(beyond)[1] == int(cpu.notes[-1].split()[0]) > 0


def test_pixels_that_are_not_wanted_are_left_alone():
    frame = "-detpixels_x 37 -detpixels_y 29 -pixel 0.3 -roi 2 33 1 25"
    kept = np.random.default_rng(3).random((29, 37)) < 0.5
    kept[:16, :16] = kept[16:, 16:32] = False  # two tiles without a wanted pixel
    plan = dataclasses.replace(plan_of(f"{CELL} {frame}"), mask=kept)
    wanted = kept.copy()
    wanted[:1] = wanted[26:] = False
    wanted[:, :2] = wanted[:, 34:] = False
    choice = arithmetic.choose(plan, "auto")
    exact, tile = Launch(plan, fill=-1.0), Launch(plan, fill=-1.0)

    exact.float64()
    tile.tile(plan, choice)

    assert len(exact.tiles) == 4
    expected = expected_of(f"{CELL} {frame}")[wanted]
    for launch, agrees in ((exact, assert_same), (tile, assert_agrees)):
        image = launch.image()
        assert (image[~wanted] == -1.0).all()
        agrees(image[wanted], expected)


@pytest.mark.parametrize("blocks", [1, 3])
def test_few_blocks_stride_over_all_tiles(blocks):
    plan = plan_of(f"{TABLE} -detpixels_x 37 -detpixels_y 29 -pixel 0.3")
    choice = arithmetic.choose(plan, "auto")
    assert len(Launch(plan).tiles) == 6
    images = {}
    for n in (blocks, None):
        exact, tile = Launch(plan), Launch(plan)
        exact.float64(n)
        tile.tile(plan, choice, n)
        images[n] = (exact.image(), tile.image())

    for few, many in zip(images[blocks], images[None], strict=True):
        assert many.min() > 0
        assert np.array_equal(few, many)


def test_how_a_frame_is_cut_into_rows_does_not_change_a_bit():
    words = f"{TABLE} -detpixels_x 20 -detpixels_y 20 -pixel 0.3"
    whole, _ = render_tile(words)
    cut, _ = render_tile(words, rows=7)
    assert np.array_equal(whole, cut)


def test_pixels_exactly_on_a_peak_are_settled_in_float64():
    words = f"{CELL} {FRAME} -mosaic 1 -mosaic_dom 2"
    plan = plan_of(words)
    cells = plan.cells.copy()
    cells[1, 6:] = 0.0  # l is 0 everywhere: the ratio of eq. 13 is 0 / 0
    plan = dataclasses.replace(plan, cells=cells)

    image, n_settled = render_tile(plan)

    assert n_settled == image.size
    exact = Simulator(plan.experiment, plan=plan, backend="cpu", precision="float64").render()
    assert_agrees(image, exact.astype(float))


def test_phases_near_a_half_are_settled_in_float64():
    words = f"{TABLE} {FRAME}"
    # As if float32 could not tell the nearest index from 0.4 on.
    image, n_settled = render_tile(words, near_half=np.float32(0.35))
    assert n_settled > 96
    assert_agrees(image, expected_of(words))


@pytest.mark.parametrize("extra", ["", "-dmin 60 -dispersion 1 -dispsteps 2", PHYSICAL])
def test_only_parts_in_doubt_are_settled(extra):
    words = f"{TABLE} -detpixels_x 8 -detpixels_y 8 -pixel 0.3 -mosaic 2 -mosaic_dom 150 {extra}"
    plan = plan_of(words)
    assert arithmetic.single(plan, arithmetic.choose(plan, "auto")).part_rounds == 1
    image, n_settled = render_tile(words, near_half=np.float32(0.35))
    assert n_settled > 8
    assert_agrees(image, expected_of(words))


def test_counts_are_those_of_the_cpu():
    means = [0.0, 1e-3, 0.1, 1.0, 5.0, 9.99, 10.0, 11.0, 50.0, 1e3, 1e6, 4.2e9, 1e10]
    photons = np.resize(np.array(means, np.float32), (12, 16))
    seed, frame, first = np.uint64(2**63 + 12345), np.uint32(7), np.uint64(2**33)
    expected = np.zeros(photons.shape, np.uint32)
    draw_counts(photons, int(seed), int(frame), expected, top=2**32 - 1, first_pixel=int(first))

    counts = cuda.to_device(np.zeros(photons.shape, np.uint32))
    random.poisson_counts[2, random.THREADS](cuda.to_device(photons), seed, frame, first, counts)

    assert np.array_equal(counts.copy_to_host(), expected)
