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

from bragg_numba.kernels.parameters import Sources
from bragg_numba.kernels.pixels import cuda as kernels
from numba import cuda

from bragg_numba import Experiment, Simulator
from bragg_numba.plan.arithmetic import cuda as arithmetic
from bragg_numba.plan.plan import make_plan
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

#: Both round a float64 value to float32; a device fuses products and sums, and its last bit may fall otherwise.
SAME = 2.0**-22


def plan_of(words: str):
    return make_plan(Experiment.from_nanobragg(words), None)


def expected_of(words: str) -> np.ndarray:
    return Simulator(Experiment.from_nanobragg(words), backend="cpu", precision="float64").render().astype(float)


def sent(plan) -> tuple:
    """What every kernel is handed after the region: sources and orientations, and the mask."""
    mask = plan.mask.astype(np.uint8) if plan.mask.size else np.ones((1, 1), dtype=np.uint8)
    sources = Sources(*(cuda.to_device(array) for array in plan.sources.arrays))
    return (sources, cuda.to_device(plan.cells)), cuda.to_device(mask)


def render_float64(words: str) -> tuple[np.ndarray, int]:
    """Render a whole frame; photons, and how often interpolation missed the table."""
    plan = plan_of(words)
    steps, mask = sent(plan)
    region = arithmetic.region(plan, 0, plan.shape[0])
    image, missed = cuda.to_device(np.zeros(plan.shape, np.float32)), cuda.to_device(np.zeros(1, np.int64))
    kernel = kernels.float64_kernel(plan.lattice.shape, kernels.lookup_mode(plan.lookup), plan.panels[0].curved)
    kernel[kernels.pixel_blocks(region), kernels.THREADS](
        plan.panels[0],
        plan.lattice,
        plan.lookup,
        plan.rules,
        region,
        *steps,
        cuda.to_device(plan.table),
        mask,
        image,
        missed,
    )
    return image.copy_to_host(), int(missed.copy_to_host()[0])


def render_tile(words, side: int | None = None, rows: int | None = None, **changes) -> tuple[np.ndarray, int]:
    """Render words or a plan ``rows`` rows at a time; photons, and how many pixels were settled in float64."""
    plan = plan_of(words) if isinstance(words, str) else words
    choice = arithmetic.choose(plan, "auto")
    assert choice.side, choice.reason
    if side is not None:
        choice = dataclasses.replace(choice, side=side)
    single = arithmetic.single(plan, choice)._replace(**changes)
    steps, mask = sent(plan)
    nouns = (plan.panels[0], plan.lattice, plan.lookup, plan.rules)
    squares = cuda.to_device(arithmetic.padded_table(plan, choice))
    table = cuda.to_device(plan.table)
    mode, curved = kernels.lookup_mode(plan.lookup), plan.panels[0].curved
    weighted = kernels.is_weighted(plan.panels[0], plan.rules)
    tile = kernels.tile_kernel(plan.lattice.shape, mode, choice.side, curved, weighted)
    settle = kernels.settle_kernel(plan.lattice.shape, mode, curved)
    whole = np.zeros(plan.shape, np.float32)
    n_settled = 0
    for start in range(0, plan.shape[0], rows or plan.shape[0]):
        stop = min(start + (rows or plan.shape[0]), plan.shape[0])
        region = arithmetic.region(plan, start, stop)
        image = cuda.to_device(whole[start:stop])
        marked = cuda.to_device(np.zeros(image.size, np.int64))
        doubts = cuda.to_device(np.zeros(image.size, np.uint32))
        n_marked = cuda.to_device(np.zeros(1, np.int32))
        tile[kernels.tile_blocks(region, choice.side), kernels.THREADS](
            *nouns, region, single, *steps, squares, mask, image, marked, doubts, n_marked
        )
        settle[1, kernels.THREADS](*nouns, region, *steps, table, marked, doubts, n_marked, image)
        whole[start:stop] = image.copy_to_host()
        n_settled += int(n_marked.copy_to_host()[0])
    return whole, n_settled


def assert_agrees(image, expected) -> None:
    assert expected.max() > 0
    worst = np.abs(image - expected) - allowed(expected, expected.max())
    assert (worst <= 0).all(), (worst.max() / expected.max(), np.unravel_index(worst.argmax(), worst.shape))


def assert_same(image, expected) -> None:
    assert expected.max() > 0
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


@pytest.mark.parametrize("side", kernels.SIDES)
def test_tiles_of_every_side_agree_with_float64(side):
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
    assert render_float64(beyond)[1] == cpu._renderer.missed > 0


def test_masked_pixels_are_left_alone(tmp_path):
    rng = np.random.default_rng(3)
    kept = rng.random((12, 16)) < 0.5
    plan = plan_of(f"{CELL} {FRAME}")
    plan = dataclasses.replace(plan, mask=kept)
    steps, mask = sent(plan)
    region = arithmetic.region(plan, 0, 12)
    assert region.masked
    choice = arithmetic.choose(plan, "auto")
    image = cuda.to_device(np.full(plan.shape, -1.0, np.float32))
    lists = (np.zeros(192, np.int64), np.zeros(192, np.uint32), np.zeros(1, np.int32))
    kernels.tile_kernel(plan.lattice.shape, kernels.NO_TABLE, choice.side, False, False)[
        kernels.tile_blocks(region, choice.side), kernels.THREADS
    ](
        plan.panels[0],
        plan.lattice,
        plan.lookup,
        plan.rules,
        region,
        arithmetic.single(plan, choice),
        *steps,
        cuda.to_device(arithmetic.padded_table(plan, choice)),
        mask,
        image,
        *(cuda.to_device(one) for one in lists),
    )
    image = image.copy_to_host()
    assert (image[~kept] == -1.0).all()
    assert_agrees(image[kept], expected_of(f"{CELL} {FRAME}")[kept])


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


@pytest.mark.parametrize("extra", ["", "-dmin 60 -dispersion 1 -dispsteps 2"])
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
    kernels.poisson_counts[2, kernels.THREADS](cuda.to_device(photons), seed, frame, first, counts)

    assert np.array_equal(counts.copy_to_host(), expected)
