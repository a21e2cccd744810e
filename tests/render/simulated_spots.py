"""The spots renderer of the CUDA backend in numba's simulator, against dense images of the CPU in float64.

tests/simulated_gpu.py runs its cases there. The simulator runs a Python thread for each thread of a block: frames are
tiny. What it shows is which spots and steps are found, that every pixel gets all of them once and arrives where it
belongs; the arithmetic is the CPU's, and what a GPU's compiler makes of it is not shown here.
"""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path

import numpy as np
import pytest

if importlib.util.find_spec("numba_cuda") is None:
    pytest.skip("needs numba-cuda", allow_module_level=True)

from bragg_numba.kernels.spots import cuda_terms, cuda_tile
from bragg_numba.kernels.spots.candidates import STEPS
from sample_panels import crooked, lit

from bragg_numba import Crystal, Experiment, InputError, Sampling, Simulator
from bragg_numba.plan.plan import Plan, make_plan
from bragg_numba.render import cuda, cuda_spots, devices
from bragg_numba.render.cuda_spots import CudaSpotsRenderer
from bragg_numba.render.statistics import Tally
from bragg_numba.tolerances import allowed

GPUS = ("simulator", "device")
pytestmark = pytest.mark.usefixtures("gpu")

PROTEIN = Path(__file__).parents[2] / "examples" / "2erl_P1.hkl"
CRYSTAL = "-misset 10 20 30 -lambda 1 -distance 100 -fluence 1e28 -oversample 1"
TABLE = f"-cell 53.91 23.1 23.1 90 110.4 90 -hkl {PROTEIN} -nointerpolate -default_F 30 {CRYSTAL}"
CELL = f"-cell 60 45 38 95 85 100 -default_F 100 {CRYSTAL}"
COUNTS = "-Na 4 -Nb 9 -Nc 9"
#: Four tiles, none of them full.
FRAME = "-detpixels_x 24 -detpixels_y 18 -pixel 0.4"
#: Two, for what never ends.
SMALL = "-detpixels_x 18 -detpixels_y 12 -pixel 0.4"
SPREAD = "-mosaic 8 -mosaic_dom 6"
FEW = "-mosaic_dom 2"
GAUSS = f"{TABLE} {COUNTS} -gauss_xtal {FRAME} {SPREAD}"

#: The crystal, and whether its spots reach half-way to their neighbours.
SHAPES = {
    "square": ("-square_xtal", False),
    "round": ("-round_xtal", False),
    "gauss": ("-gauss_xtal", False),
    "wide gauss": ("-gauss_xtal -fudge 0.2", True),
    "tophat": ("-tophat_spots -fudge 0.3", False),
    "wide tophat": ("-tophat_spots -fudge 0.02", True),
}
OPTIONS = {
    "sub-pixels": "-oversample 2",
    "layers": "-detector_thick 300 -detector_abs 500 -detector_thicksteps 2",
    "unpolarized": "-nopolar",
    "polarized": "-polar 0.9",
    "water": "-water 0.1",
    "dmin": "-dmin 30",
    "energies": "-dispersion 4 -dispsteps 5",
    "divergence": "-hdivrange 20 -hdivstep 10",
    "energies and divergence": "-dispersion 4 -dispsteps 3 -hdivrange 20 -hdivstep 20 -nopolar",
    "spectrum and divergence": "-spectrum pink -bandwidth 4 -channels 3 -hdivrange 20 -hdivstep 20 -polar 0.5",
    "rotation": "-osc 4 -phisteps 3",
    "tilted": "-twotheta 20 -detector_rotx 3 -detector_roty 5 -detector_rotz 7",
    "point pixel": "-point_pixel",
    "region": "-roi 3 17 2 13",
}
PHYSICAL = "-fidelity physical -polar 0.9 -detector_thick 300 -detector_abs 500 -dispersion 3 -dispsteps 3"


def plan_of(words: str) -> Plan:
    return make_plan(Experiment.from_nanobragg(words))


def dense(plan: Plan) -> np.ndarray:
    """The frame pixel by pixel, float64."""
    return Simulator(plan.experiment, plan=plan, backend="cpu", precision="float64").render().astype(float)


def renderer_of(plan: Plan, cutoff: float = 0.0, precision: str = "auto") -> CudaSpotsRenderer:
    experiment = plan.experiment
    experiment = experiment.replace(sampling=experiment.sampling.replace(cutoff_photons=cutoff))
    plan = dataclasses.replace(plan, experiment=experiment)
    return CudaSpotsRenderer(plan, precision, devices.require_device(0))


def rendered(renderer: CudaSpotsRenderer) -> np.ndarray:
    """What the renderer makes of an image that is full of other numbers."""
    out = np.full(renderer.plan.shape, 7.0, np.float32)
    assert list(renderer.render_into(out, Tally()))[-1] == 1.0
    return out


def assert_agrees(image, expected) -> None:
    assert expected.max() > 0
    worst = np.abs(image - expected) - allowed(expected, expected.max())
    assert (worst <= 0).all(), (worst.max() / expected.max(), np.unravel_index(worst.argmax(), worst.shape))


@pytest.mark.parametrize("crystal", [pytest.param(CELL, marks=pytest.mark.slow), TABLE], ids=["default_F", "table"])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_agrees_with_the_dense_image(shape, crystal):
    words, halved = SHAPES[shape]
    endless = shape in ("square", "round")
    plan = plan_of(f"{crystal} {COUNTS} {words} {SMALL if endless else FRAME} {SPREAD} {FEW if endless else ''}")
    renderer = renderer_of(plan)
    assert renderer.precision == ("float64" if halved else "tile")
    assert_agrees(rendered(renderer), dense(plan))


@pytest.mark.slow
@pytest.mark.parametrize("shape", ["square", "gauss"])
def test_float64_may_be_asked_for(shape):
    plan = plan_of(f"{TABLE} {COUNTS} {SHAPES[shape][0]} {SMALL} {SPREAD} {FEW}")
    renderer = renderer_of(plan, precision="float64")
    assert renderer.precision == "float64"
    assert_agrees(rendered(renderer), dense(plan))


@pytest.mark.slow
@pytest.mark.parametrize("option", [name for name in OPTIONS if name not in ("water", "region")])
def test_every_option_is_seen_in_the_image(option):
    """What an option does must exceed what the tests below overlook."""
    plain, image = (dense(plan_of(f"{GAUSS} {words}")) for words in ("", OPTIONS[option]))
    assert (np.abs(image - plain) > 10 * allowed(plain, plain.max())).sum() > 5


@pytest.mark.slow
@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_agrees_with_the_dense_image(option):
    plan = plan_of(f"{GAUSS} {OPTIONS[option]}")
    assert_agrees(rendered(renderer_of(plan)), dense(plan))


@pytest.mark.slow
@pytest.mark.parametrize(
    "extra", ["", "-water 0.03", "-dmin 30", "-oversample 2 -nopolar", "-hdivrange 20 -hdivstep 20"]
)
def test_physical_fidelity_agrees_with_the_dense_image(extra):
    plan = plan_of(f"{TABLE} -Na 7 -Nb 9 -Nc 12 -gauss_xtal {FRAME} -mosaic 4 -mosaic_dom 3 {PHYSICAL} {extra}")
    renderer = renderer_of(plan)
    assert renderer.precision == "tile"
    assert_agrees(rendered(renderer), dense(plan))


def test_physical_fidelity_of_a_square_crystal_agrees_with_the_dense_image():
    plan = plan_of(f"{TABLE} {COUNTS} -square_xtal {SMALL} {PHYSICAL} -dispsteps 2")
    assert_agrees(rendered(renderer_of(plan)), dense(plan))


@pytest.mark.slow
@pytest.mark.parametrize("shape", ["square", "round"])
def test_no_pixel_is_off_by_more_than_the_cutoff(shape):
    plan = plan_of(f"{TABLE} -Na 14 -Nb 18 -Nc 24 {SHAPES[shape][0]} {FRAME} {SPREAD} {FEW}")
    expected = dense(plan)
    cutoff = 1e-3 * expected.max()
    cut, whole = renderer_of(plan, cutoff), renderer_of(plan)
    image = rendered(cut)
    assert len(cut.lit.spots) < len(whole.lit.spots)
    assert (np.abs(image - expected) <= cutoff + allowed(expected, expected.max())).all()


@pytest.mark.slow
def test_spots_narrower_than_a_pixel_are_found():
    """With ten thousand cells nothing near a pixel's centre may be passed over for a rounding."""
    plan = plan_of(f"{TABLE} -N 10000 -gauss_xtal -fidelity physical {FRAME} -mosaic 0")
    indices = renderer_of(plan_of(GAUSS)).lit.indices
    plan = dataclasses.replace(plan, cells=_turned_onto_a_pixel(plan, indices, (9, 13)))
    expected = dense(plan)
    assert (expected > 0).sum() == 1
    assert_agrees(rendered(renderer_of(plan)), expected)


def _turned_onto_a_pixel(plan: Plan, indices: np.ndarray, pixel: tuple[int, int]) -> np.ndarray:
    """Cells that bring a reflection onto the centre of a pixel: turned, and stretched by the little that is left."""
    panel, wavelength = plan.panels[0], plan.sources.wavelength[0]
    slow, fast = ((n + 0.5) * pitch for n, pitch in zip(pixel, (panel.pitch_slow, panel.pitch_fast), strict=True))
    corner = [
        getattr(panel, f"origin_{x}") + fast * getattr(panel, f"fast_{x}") + slow * getattr(panel, f"slow_{x}")
        for x in "xyz"
    ]
    ray = np.array(corner) / np.linalg.norm(corner)
    q = (ray - plan.sources.incident[0]) / wavelength
    cell = plan.cells[0].reshape(3, 3)
    star = np.linalg.inv(cell)
    points = indices[indices.any(axis=1)] @ star.T
    nearest = points[np.argmin(np.linalg.norm(points - q, axis=1))]
    stretch = np.linalg.norm(q) / np.linalg.norm(nearest)
    u, v = nearest / np.linalg.norm(nearest), q / np.linalg.norm(q)
    cross = np.cross(u, v)
    skew = np.array([[0, -cross[2], cross[1]], [cross[2], 0, -cross[0]], [-cross[1], cross[0], 0]])
    turn = np.eye(3) + skew + skew @ skew / (1.0 + u @ v)
    return np.ascontiguousarray((cell @ turn.T / stretch).reshape(1, 9))


@pytest.mark.parametrize("shape", ["square", "round"])
def test_pixels_half_way_between_reflections_are_settled_in_float64(shape, monkeypatch):
    if not devices.simulated():
        pytest.skip("counts calls of a Python function")
    plan = plan_of(f"{TABLE} {COUNTS} {SHAPES[shape][0]} {SMALL}")
    # As if float32 could not tell from a quarter of a cell on.
    monkeypatch.setattr(cuda_terms, "DOUBT", 0.25)
    calls: list[int] = []
    exact = cuda_tile.exact_term
    monkeypatch.setattr(cuda_tile, "exact_term", lambda *arguments: calls.append(1) or exact(*arguments))
    assert_agrees(rendered(renderer_of(plan)), dense(plan))
    assert len(calls) > 100


def test_a_pixel_exactly_on_a_peak_is_finite():
    plan = plan_of(f"{TABLE} {COUNTS} -square_xtal {FRAME} -mosaic 0")
    lit = renderer_of(plan).lit
    plan = dataclasses.replace(plan, cells=_turned_onto_a_pixel(plan, lit.indices, (9, 13)))
    expected = dense(plan)
    assert np.unravel_index(expected.argmax(), expected.shape) == (9, 13)
    assert_agrees(rendered(renderer_of(plan)), expected)


@pytest.mark.slow
def test_steps_beyond_what_shared_memory_holds_are_all_added():
    words = f"{TABLE} {COUNTS} -gauss_xtal -detpixels 8 -pixel 0.4 -mosaic 8 -mosaic_dom 150 -dispersion 4 -dispsteps 4"
    plan = plan_of(words)
    assert len(plan.cells) > cuda_tile.ITEMS
    renderer = renderer_of(plan)
    assert renderer.lit.extents[:, STEPS].sum() > 3 * cuda_tile.RECORDS
    assert_agrees(rendered(renderer), dense(plan))


@pytest.mark.slow
def test_neither_launches_nor_bands_change_a_bit(monkeypatch):
    plan = plan_of(f"{GAUSS} -dispersion 4 -dispsteps 3")
    whole = rendered(renderer_of(plan))
    assert whole.max() > 0
    launches: list[tuple] = []
    cut = CudaSpotsRenderer._launches
    monkeypatch.setattr(CudaSpotsRenderer, "_launches", lambda *a: (launches.append(one) or one for one in cut(*a)))
    monkeypatch.setattr(cuda_spots, "LAUNCH_TERMS", 1.0)
    monkeypatch.setattr(cuda, "BAND_PIXELS", 24 * 7)
    cuda.release()
    renderer = renderer_of(plan)
    assert len(list(renderer.ranges())) == 3
    np.testing.assert_array_equal(rendered(renderer), whole)
    assert launches and all(stop == start + 1 for start, stop in launches)


@pytest.mark.slow
@pytest.mark.parametrize("water", ["", "-water 0.1"])
def test_pixels_outside_the_region_and_the_mask_are_zero(water):
    experiment = Experiment.from_nanobragg(f"{GAUSS} -roi 3 20 2 15 {water}")
    kept = np.random.default_rng(3).random((18, 24)) < 0.5
    kept[:, 16:] = False  # two tiles without a wanted pixel
    experiment = experiment.replace(detector=experiment.detector.replace(mask=kept))
    plan = make_plan(experiment)
    wanted = kept.copy()
    wanted[:2] = wanted[16:] = False
    wanted[:, :3] = wanted[:, 21:] = False
    image = rendered(renderer_of(plan))
    assert (image[~wanted] == 0).all()
    assert_agrees(image, dense(plan))


@pytest.mark.slow
@pytest.mark.parametrize("extra", ["", "-water 0.1"])
def test_a_frame_without_a_spot_has_its_background_alone(extra):
    plan = plan_of(f"{TABLE} -N 300 -tophat_spots {FRAME} -mosaic 0 -default_F 0 -dmin 1.5 {extra}")
    renderer = renderer_of(plan, cutoff=1e30)
    assert not len(renderer.lit.spots)
    expected = dense(plan)
    np.testing.assert_allclose(rendered(renderer), expected, rtol=1e-6)
    assert (expected.max() > 0) == bool(extra)


def test_every_panel_of_a_detector_is_rendered_where_it_lies():
    plan = plan_of(f"{GAUSS} -oversample 2 -roi 1 22 1 16")
    whole, panels = plan.panels[0], []
    for first_row, first_column, n_slow, n_fast in ((0, 0, 18, 11), (0, 13, 9, 11), (9, 13, 9, 11)):
        down, across = first_row * whole.pitch_slow, first_column * whole.pitch_fast
        corner = {
            f"origin_{x}": getattr(whole, f"origin_{x}")
            + down * getattr(whole, f"slow_{x}")
            + across * getattr(whole, f"fast_{x}")
            for x in "xyz"
        }
        places = {"first_row": first_row, "first_column": first_column, "n_slow": n_slow, "n_fast": n_fast}
        panels.append(whole._replace(**places, **corner))
    cut = dataclasses.replace(plan, panels=tuple(panels))
    covered = np.zeros(plan.shape, dtype=bool)
    covered[1:17, 1:11] = covered[1:17, 13:23] = True
    assert_agrees(rendered(renderer_of(cut)), np.where(covered, dense(plan), 0.0))


@pytest.mark.slow
@pytest.mark.parametrize(("shape", "counts"), [("square", (3, 4, 5)), ("gauss", (9, 9, 9))])
@pytest.mark.parametrize("fidelity", ["nanobragg", "physical"])
def test_crooked_panels_with_oblong_pixels_are_those_of_the_dense_image(shape, counts, fidelity):
    detector = crooked(thickness_um=300, attenuation_depth_um=400)
    places = ((0, 0), (3, 25), (21, 4))
    panels = [
        panel.replace(n_fast=18, n_slow=12, first_row=row, first_column=column, thickness_um=(0, 300, 500)[number])
        for number, (panel, (row, column)) in enumerate(zip(detector.panels, places, strict=False))
    ]
    mosaic = {"mosaic_spread_deg": 3, "mosaic_domains": 8} if shape == "gauss" else {}
    cell, misset = (70, 80, 90, 90, 95, 90), (10, 20, 30)
    crystal = Crystal(cell=cell, misset_deg=misset, cell_counts=counts, shape=shape, **mosaic)
    sampling = Sampling(oversample=1, engine="spots")
    experiment = lit(detector.replace(panels=panels), fidelity=fidelity, crystal=crystal, sampling=sampling)
    expected = dense(make_plan(experiment.replace(sampling=sampling.replace(engine="pixels"))))

    gpu = Simulator(experiment, backend="cuda")

    assert (gpu.engine, gpu.engine_reason, gpu.precision) == ("spots", "asked for", "tile")
    assert_agrees(gpu.render(), expected)


def test_spots_render_on_a_gpu_where_they_are_asked_for():
    experiment = Experiment.from_nanobragg(GAUSS)
    wanted = experiment.replace(sampling=experiment.sampling.replace(engine="spots", cutoff_photons=1e3))
    sim, undecided = Simulator(wanted, backend="cuda"), Simulator(experiment, backend="cuda")

    assert (sim.backend, sim.engine, sim.engine_reason, sim.cut_photons) == ("cuda", "spots", "asked for", 1e3)
    assert sim.engine_seconds == {} and sim.notes == sim.plan.notes
    assert undecided.engine == "pixels" and undecided.engine_reason.startswith("they are predicted to take")
    expected = dense(make_plan(experiment))
    assert (np.abs(sim.render() - expected) <= 1e3 + allowed(expected, expected.max())).all()


def test_what_spots_cannot_render_is_refused_on_a_gpu():
    experiment = Experiment.from_nanobragg(f"{GAUSS} -curved_det")
    with pytest.raises(InputError, match="Sampling.engine cannot be spots: a detector is curved"):
        Simulator(experiment.replace(sampling=experiment.sampling.replace(engine="spots")), backend="cuda")


def test_a_frame_may_stay_on_the_device():
    renderer = renderer_of(plan_of(GAUSS))
    frame = renderer.new_frame()
    list(renderer.render_on_device(frame, Tally()))
    np.testing.assert_array_equal(frame.copy_to_host(), rendered(renderer))


def test_a_device_without_the_memory_says_so(monkeypatch):
    monkeypatch.setattr(CudaSpotsRenderer, "_free_memory", lambda self: 1000.0)
    with pytest.raises(InputError, match="the plan would take .* bytes on"):
        renderer_of(plan_of(GAUSS))
