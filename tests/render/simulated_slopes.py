"""Slopes on a GPU against those of the CPU in float64; tests/simulated_gpu.py runs its cases where they can run.

In numba's simulator, and on a device where there is one: ``scripts/test tests/render/simulated_slopes.py`` has both.
The simulator runs Python for every thread and step: frames are tiny. Its arithmetic is the CPU's.
"""

from __future__ import annotations

import importlib.util
import pickle

import numpy as np
import pytest

if importlib.util.find_spec("numba_cuda") is None:
    pytest.skip("needs numba-cuda", allow_module_level=True)

from sample_panels import crooked, lit
from sample_slopes import NAMES, a_table, an_experiment, assert_near, curved_names

from bragg_numba import Crystal, Experiment, InputError, Rotation, Sampling, Simulator
from bragg_numba.render import cuda_slopes

GPUS = ("simulator", "device")
pytestmark = pytest.mark.usefixtures("gpu")


def pair(experiment: Experiment, names: str, precision: str = "float64", **options):
    """Slopes on a GPU, and in float64 on the CPU."""
    gpu = Simulator(experiment, backend="cuda").slopes(names, precision=precision, **options)
    assert (gpu.backend, gpu.precision) == ("cuda", precision)
    return gpu, Simulator(experiment, backend="cpu").slopes(names, precision="float64", **options)


def assert_agree(experiment: Experiment, names: str, precision: str, **options) -> None:
    gpu, cpu = pair(experiment, names, precision, **options)
    value, images = gpu.value_and_images()
    expected, slopes = cpu.value_and_images()
    assert value.dtype == images.dtype == (np.float32 if precision == "tile" else np.float64)
    assert_near(value, expected, precision)
    for name, image, slope in zip(gpu.names, images, slopes, strict=True):
        assert image.any(), name
        assert_near(image, slope, precision)


#: Each fidelity and each precision; all four in the long profile.
BOTH = pytest.mark.parametrize(
    ("fidelity", "precision"),
    [
        ("physical", "tile"),
        ("nanobragg", "float64"),
        pytest.param("physical", "float64", marks=pytest.mark.slow),
        pytest.param("nanobragg", "tile", marks=pytest.mark.slow),
    ],
)


@BOTH
@pytest.mark.parametrize("shape", ["square", "gauss", pytest.param("round", marks=pytest.mark.slow)])
def test_slope_images_are_those_of_the_cpu(shape, fidelity, precision):
    assert_agree(an_experiment(shape, fidelity), NAMES, precision)


@BOTH
def test_slopes_go_through_sub_pixels_layers_sources_and_spindle(fidelity, precision):
    experiment = an_experiment(
        fidelity=fidelity,
        crystal={"water_um": 2.0, "mosaic_domains": 2},
        detector={"n_fast": 4, "n_slow": 3, "thickness_um": 300.0, "attenuation_depth_um": 200.0, "thickness_steps": 2},
        beam={"dispersion_percent": 2.0, "dispersion_steps": 2, "horizontal_divergence_mrad": 1.0},
        rotation=Rotation(phi_deg=3.0, osc_deg=0.5, phi_steps=2),
        sampling=Sampling(oversample=2, dmin_A=2.0),
    )
    assert_agree(experiment, f"{NAMES}, detector.thickness_um, detector.attenuation_depth_um", precision)


@pytest.mark.parametrize("fidelity", ["physical", "nanobragg"])
def test_what_lies_beyond_dmin_has_no_slopes(fidelity):
    # Half of the pixels lie beyond; of the others some see only the longer of the wavelengths within.
    beam = {"dispersion_percent": 20.0, "dispersion_steps": 2}
    experiment = an_experiment(fidelity=fidelity, beam=beam, sampling=Sampling(oversample=1, dmin_A=60.0))
    gpu, cpu = pair(experiment, NAMES)
    expected = cpu.images()
    assert 0 < np.count_nonzero(cpu.image()) < 35
    np.testing.assert_array_equal(gpu.image() == 0, cpu.image() == 0)
    for image, slope in zip(gpu.images(), expected, strict=True):
        assert_near(image, slope)


@pytest.mark.parametrize("fidelity", ["physical", "nanobragg"])
def test_sources_move_one_by_one(fidelity):
    experiment = an_experiment("gauss", fidelity, beam={"dispersion_percent": 2.0, "dispersion_steps": 3})
    assert_agree(experiment, "beam.weights, beam.dispersion_percent, beam.wavelength_A", "float64")


def test_structure_factors_come_from_a_table():
    experiment = an_experiment(structure_factors=a_table())
    gpu, cpu = pair(experiment, "crystal.cell[0], structure_factors.F2, structure_factors.default_F")
    direction = {"crystal.cell[0]": 0.01, "structure_factors.F2": experiment.structure_factors.amplitudes**2}
    assert_near(gpu.image(), cpu.image())
    assert_near(gpu.push(direction), cpu.push(direction))
    weights = np.random.default_rng(5).normal(size=gpu.shape)
    pulled, expected = gpu.pull(weights), cpu.pull(weights)
    for name in gpu.names:
        assert_near(np.asarray(pulled[name]), np.asarray(expected[name]))
    assert gpu.notes == ("the gradient in structure_factors.F2 is made on the CPU: no kernel of the GPU has it",)


@pytest.mark.parametrize("fidelity", ["physical", "nanobragg"])
def test_a_curved_detector_has_slopes_of_all_but_its_place(fidelity):
    experiment = an_experiment(fidelity=fidelity, detector={"curved": True})
    assert_agree(experiment, curved_names(), "tile")


def test_photons_of_a_top_hat_have_slopes_in_scale_and_F():
    crystal = {"cell_counts": (2, 2, 2), "fudge": 5e-3}
    experiment = an_experiment("tophat", "nanobragg", crystal=crystal)
    for precision in ("tile", "float64"):
        slopes = Simulator(experiment, backend="cuda").slopes("scale", precision=precision)
        expected = Simulator(experiment, backend="cuda", precision="float64").render()
        assert expected.max() > 0
        np.testing.assert_allclose(slopes.images()[0], expected, rtol=1e-6)


def test_pushes_pulls_and_normal_equations_agree_with_images():
    slopes = Simulator(an_experiment("gauss"), backend="cuda").slopes(NAMES, precision="float64")
    value, images = slopes.value_and_images()
    rng = np.random.default_rng(3)
    direction, weights = rng.normal(size=len(slopes.names)), rng.normal(size=value.shape)
    assert_near(slopes.push(direction), np.tensordot(direction, images, 1))
    pulled = np.array(list(slopes.pull(weights).values()))
    terms = np.tensordot(np.abs(images), np.abs(weights), 2)
    assert (np.abs(pulled - np.tensordot(images, weights, 2)) <= 1e-12 * terms).all()
    assert list(slopes.pull(weights).values()) == pulled.tolist()

    data = rng.poisson(value + 3.0).astype(float)
    data[0, 0] = np.nan
    counted = np.isfinite(data)
    u, photons = (data - value - 3.0)[counted], (value + 3.0)[counted]
    spread = photons + 4.0
    j = images[:, counted]
    for likelihood, variance, slope, curve in (
        ("gaussian", 9.0, -u / 9, np.full_like(u, 1 / 9)),
        ("model", 4.0, (1 - 2 * u - u**2 / spread) / spread / 2, 1 / spread + 0.5 / spread**2),
        ("poisson", None, -u / photons, 1 / photons),
    ):
        found = slopes.normal(data, variance, likelihood=likelihood, background=3.0)
        assert found.pixels == counted.sum()
        assert (np.abs(found.gradient - j @ slope) <= 1e-12 * (np.abs(j) @ np.abs(slope))).all()
        matrix = (j * curve) @ j.T
        root = np.sqrt(np.diag(matrix))
        assert (np.abs(found.matrix - matrix) <= 1e-12 * np.outer(root, root)).all()


def test_the_value_of_normal_equations_is_that_of_the_cpu():
    gpu, cpu = pair(an_experiment("gauss"), "scale, crystal.cell")
    data = np.round(cpu.image())
    for likelihood in ("gaussian", "model", "poisson"):
        found, expected = (one.normal(data, 5.0, likelihood=likelihood, background=2.0) for one in (gpu, cpu))
        assert found.value == pytest.approx(expected.value, rel=1e-10)


def test_boxes_and_masks_leave_out_pixels_and_count_none_twice():
    options = {"boxes": [(0, 4, 0, 3), (3, 6, 2, 4)], "mask": np.ones((5, 7), bool)}
    options["mask"][1, 2] = False
    gpu, cpu = pair(an_experiment("gauss"), "scale, crystal.cell[0]", **options)
    images, expected = gpu.images(), cpu.images()
    np.testing.assert_array_equal(images != 0, expected != 0)
    for image, slope in zip(images, expected, strict=True):
        assert_near(image, slope)


def test_panels_have_slopes_of_their_own():
    detector = crooked(thickness_um=300, attenuation_depth_um=400)
    panels = tuple(panel.replace(n_fast=4, n_slow=3) for panel in detector.panels)
    crystal = Crystal(cell=(70, 80, 90, 90, 95, 90), misset_deg=(10, 20, 30), cell_counts=(3, 4, 5), shape="gauss")
    experiment = lit(detector.replace(panels=panels), crystal=crystal)
    assert_agree(experiment, "detector.panels.shift_mm, detector.panels.turn_deg, crystal.cell", "float64")


def test_how_a_frame_is_cut_into_pieces_changes_no_bit(monkeypatch):
    experiment = an_experiment("gauss", crystal={"mosaic_domains": 2}, detector={"n_fast": 18, "n_slow": 9})
    slopes = Simulator(experiment, backend="cuda").slopes("scale, crystal.cell", precision="float64")
    weights = np.random.default_rng(2).normal(size=slopes.shape)
    whole = slopes.images(), list(slopes.pull(weights).values()), slopes.normal(weights).matrix
    monkeypatch.setattr(cuda_slopes, "PIECE_BYTES", 1)
    cut = slopes.images(), list(slopes.pull(weights).values()), slopes.normal(weights).matrix
    for one, other in zip(whole, cut, strict=True):
        np.testing.assert_array_equal(one, other)


def test_more_steps_than_a_kernel_counts_are_refused(monkeypatch):
    monkeypatch.setattr(cuda_slopes, "MOST_STEPS", 3)
    with pytest.raises(InputError, match="^backend cuda has slopes of fewer than 3 steps"):
        Simulator(an_experiment("gauss"), backend="cuda").slopes("scale")


def test_slopes_travel_between_processes():
    slopes = Simulator(an_experiment("gauss"), backend="cuda").slopes("scale, crystal.cell[0]", precision="float64")
    images = slopes.images()
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(slopes)).images(), images)
