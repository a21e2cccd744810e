"""Slopes against central differences in float64, against themselves in float32, and what is made of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bragg_numba import (
    Absorption,
    AirPath,
    Background,
    Beam,
    Crystal,
    Damage,
    Detector,
    Diffuse,
    Experiment,
    InputError,
    Lattice,
    Sampling,
    Shadow,
    Simulator,
    StructureFactors,
)
from bragg_numba.slopes.parameters import find_parameters

#: A parameter of each kind, and the step of central differences that leaves least of rounding and curvature.
STEPS = {
    "crystal.cell[0]": 4e-3,
    "crystal.cell[4]": 4e-3,
    "crystal.misset_deg[1]": 2e-3,
    "crystal.turn_deg[2]": 2e-3,
    "crystal.cell_counts[1]": 4e-3,
    "beam.wavelength_A": 4e-5,
    "beam.polarization": 1e-2,
    "beam.fluence_per_m2": 1e26,
    "detector.distance_mm": 4e-3,
    "detector.beam_x_mm": 4e-4,
    "detector.rotation_deg[1]": 4e-3,
    "detector.twotheta_deg": 4e-3,
    "scale": 1e-2,
}

#: What is left of curvature after one extrapolation, and rounding of an image over a step, times 10.
NEAR = 1e-7


def an_experiment(shape="square", fidelity="physical", crystal=None, detector=None, beam=None, **parts) -> Experiment:
    """A frame of few pixels on which a triclinic crystal shows a peak, fringes, and what a tilted detector does."""
    crystal = {
        "cell": (60, 70, 80, 85, 95, 100),
        "cell_counts": (5, 6, 7),
        "misset_deg": (10, 20, 30),
        **(crystal or {}),
    }
    place = {"n_fast": 24, "n_slow": 20, "pixel_mm": 0.4, "distance_mm": 60.0, "rotation_deg": (3, 5, 7)}
    place |= {"twotheta_deg": 10, "beam_x_mm": 4.7, "beam_y_mm": 4.3, **(detector or {})}
    return Experiment(
        beam=Beam(**{"wavelength_A": 1.0, "fluence_per_m2": 1e28, "polarization": 0.7, **(beam or {})}),
        crystal=Crystal(shape=shape, **crystal),
        detector=Detector(**place),
        structure_factors=parts.pop("structure_factors", StructureFactors(default_F=100)),
        sampling=parts.pop("sampling", Sampling(oversample=1)),
        fidelity=fidelity,
        **parts,
    )


def a_simulator(experiment: Experiment, precision="float64") -> Simulator:
    return Simulator(experiment, backend="cpu", precision=precision)


def difference(simulator: Simulator, name: str, step: float) -> np.ndarray:
    """Central difference of the image in a parameter, of two steps, extrapolated to none."""
    here = find_parameters(simulator.experiment, name)[0].value

    def image(offset: float) -> np.ndarray:
        return simulator.slopes("scale", at={name: here + offset}).image()

    wide, narrow = (image(step) - image(-step)) / (2 * step), (image(step / 2) - image(-step / 2)) / step
    return (4 * narrow - wide) / 3


def assert_slopes_are_differences(experiment: Experiment, steps: dict[str, float], near=NEAR) -> None:
    simulator = a_simulator(experiment)
    slopes = simulator.slopes(list(steps))
    value, images = slopes.value_and_images()
    assert value.max() > 0
    for name, image in zip(slopes.names, images, strict=True):
        expected = difference(simulator, name, steps[name])
        assert np.abs(expected).max() > 0, name
        off = np.abs(image - expected) > near * np.abs(expected).max()
        # A pixel may pass from one reflection to the next within the step, where the radius has an edge.
        assert off.sum() <= 2, name


@pytest.mark.parametrize("fidelity", ["physical", "nanobragg"])
@pytest.mark.parametrize("shape", ["square", "gauss", pytest.param("round", marks=pytest.mark.slow)])
def test_slopes_are_central_differences(shape, fidelity):
    assert_slopes_are_differences(an_experiment(shape, fidelity), STEPS)


@pytest.mark.parametrize("fidelity", ["physical", "nanobragg"])
def test_slopes_go_through_sub_pixels_layers_sources_and_spindle(fidelity):
    from bragg_numba import Rotation

    experiment = an_experiment(
        fidelity=fidelity,
        crystal={"water_um": 2.0},
        detector={"thickness_um": 300.0, "attenuation_depth_um": 200.0, "thickness_steps": 3},
        beam={"dispersion_percent": 2.0, "dispersion_steps": 2, "horizontal_divergence_mrad": 1.0},
        rotation=Rotation(phi_deg=3.0, osc_deg=0.5, phi_steps=2),
        sampling=Sampling(oversample=2, dmin_A=2.0),
    )
    names = ("crystal.cell[0]", "crystal.turn_deg[2]", "beam.wavelength_A", "beam.polarization")
    names += ("beam.fluence_per_m2", "detector.distance_mm", "detector.rotation_deg[1]", "detector.twotheta_deg")
    steps = {name: STEPS[name] for name in names}
    # Tolerances: of flat water next to 10^-3 of it in fringes rounding leaves that much less.
    assert_slopes_are_differences(
        experiment, steps | {"detector.thickness_um": 1.0, "detector.attenuation_depth_um": 1.0}, near=10 * NEAR
    )


def test_the_slope_in_a_mosaic_spread_is_that_of_its_domains():
    # The generator of nanoBragg takes the spread as a float32: steps are long, and what is left of them is, too.
    experiment = an_experiment(crystal={"mosaic_spread_deg": 1.0, "mosaic_domains": 4})
    assert_slopes_are_differences(experiment, {"crystal.mosaic_spread_deg": 2.0**-6}, near=1e-4)
    steps = {name: STEPS[name] for name in ("crystal.cell[0]", "crystal.misset_deg[1]", "crystal.turn_deg[2]")}
    assert_slopes_are_differences(experiment, steps)


def a_table(amplitude=lambda h, k, l: 50 + 20 * np.sin(h) + 10 * np.cos(k + 2 * l)) -> StructureFactors:  # noqa: E741
    """Structure factors of all reflections that the frame reaches but some."""
    grid = np.stack(np.meshgrid(*[np.arange(-30, 31)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    grid = grid[grid.sum(axis=1) % 5 != 0]
    return StructureFactors(indices=grid, amplitudes=amplitude(*grid.T), default_F=20.0)


def test_an_image_is_linear_in_the_squares_of_a_table():
    experiment = an_experiment(structure_factors=a_table(), sampling=Sampling(oversample=1, interpolate=False))
    slopes = a_simulator(experiment).slopes("structure_factors.F2, structure_factors.default_F")
    squares = experiment.structure_factors.amplitudes**2
    image, of_table = slopes.image(), slopes.push({"structure_factors.F2": squares})
    of_holes = slopes.push({"structure_factors.default_F": 1.0})
    # I = sum of F^2 over listed reflections, and over those that are not: half of F0 times the slope in F0.
    np.testing.assert_allclose(of_table + 10.0 * of_holes, image, rtol=1e-12)

    weights = np.random.default_rng(7).normal(size=image.shape)
    pulled = slopes.pull(weights)
    assert pulled["structure_factors.F2"] @ squares == pytest.approx((weights * of_table).sum(), rel=1e-10)
    assert pulled["structure_factors.default_F"] == pytest.approx((weights * of_holes).sum(), rel=1e-10)


@pytest.mark.slow
def test_slopes_of_interpolated_structure_factors_are_central_differences():
    experiment = an_experiment("gauss", structure_factors=a_table(), sampling=Sampling(oversample=1, interpolate=True))
    names = ("crystal.cell[0]", "beam.wavelength_A", "detector.distance_mm")
    # Its second slopes jump where one set of nodes gives way to the next.
    assert_slopes_are_differences(experiment, {name: STEPS[name] / 8 for name in names}, near=1e-6)


def assert_float32_is_within_its_bound(experiment: Experiment, names: list[str]) -> None:
    simulator = a_simulator(experiment, "auto")
    slopes, exact = simulator.slopes(names), simulator.slopes(names, precision="float64")
    assert (slopes.precision, exact.precision) == ("tile", "float64")
    for name, image, expected in zip(names, slopes.images(), exact.images(), strict=True):
        assert image.dtype == np.float32
        allowed = 1e-5 * np.abs(expected) + 1e-6 * np.abs(expected).max()
        assert (np.abs(image - expected) <= allowed).all(), name


@pytest.mark.parametrize("shape", ["square", "gauss", pytest.param("round", marks=pytest.mark.slow)])
def test_float32_slopes_are_within_their_bound_of_float64(shape):
    experiment = an_experiment(shape, "nanobragg", crystal={"mosaic_spread_deg": 1.0, "mosaic_domains": 4})
    assert_float32_is_within_its_bound(experiment, [*STEPS, "crystal.mosaic_spread_deg"])


#: Pixels so wide that float32 cannot hold the phases of a block: it gets them in float64.
WIDE = {"n_fast": 24, "n_slow": 20, "pixel_mm": 2.0, "distance_mm": 60.0, "beam_x_mm": 24.0, "beam_y_mm": 20.0}


@pytest.mark.parametrize("shape", ["square", "gauss"])
@pytest.mark.parametrize(
    "parts",
    [
        {"crystal": {"mosaic_spread_deg": 1.0, "mosaic_domains": 70}},
        {"crystal": {"cell_counts": (60, 50, 40), "mosaic_spread_deg": 0.3, "mosaic_domains": 70}},
        {"beam": {"dispersion_percent": 2.0, "dispersion_steps": 9}, "crystal": {"mosaic_domains": 1}},
        {"detector": WIDE},
    ],
    ids=["two chunks", "few steps seen", "many wavelengths", "phases in float64"],
)
def test_float32_slopes_are_within_their_bound_whatever_the_steps(shape, parts):
    assert_float32_is_within_its_bound(an_experiment(shape, "nanobragg", **parts), list(STEPS))


def test_float32_slopes_of_a_table_are_within_their_bound_of_float64():
    sampling = Sampling(oversample=1, interpolate=False)
    experiment = an_experiment(structure_factors=a_table(), sampling=sampling, detector={"n_fast": 60, "n_slow": 70})
    assert_float32_is_within_its_bound(experiment, list(STEPS))


def test_a_pixel_on_a_peak_has_finite_slopes():
    # Exactly forward: h = k = l = 0, where the textbook's slope of a grating is 0/0 and the polarization's angle, too.
    place = {"n_fast": 5, "n_slow": 5, "pixel_mm": 1.0, "distance_mm": 100.0, "rotation_deg": (0, 0, 0)}
    experiment = an_experiment(detector=place | {"twotheta_deg": 0, "beam_x_mm": 2.0, "beam_y_mm": 2.0})
    for precision in ("auto", "float64"):
        value, images = a_simulator(experiment).slopes(list(STEPS), precision=precision).value_and_images()
        assert np.isfinite(value).all() and np.isfinite(images).all()


def test_pushes_pulls_and_normal_equations_agree_with_images():
    simulator = a_simulator(an_experiment(), "auto")
    slopes = simulator.slopes(list(STEPS), precision="float64")
    value, images = slopes.value_and_images()
    rng = np.random.default_rng(3)
    direction, weights = rng.normal(size=len(STEPS)), rng.normal(size=value.shape)
    pushed = np.tensordot(direction, images, 1)
    np.testing.assert_allclose(slopes.push(direction), pushed, rtol=1e-9, atol=1e-12 * np.abs(pushed).max())
    np.testing.assert_allclose(list(slopes.pull(weights).values()), np.tensordot(images, weights, 2), rtol=1e-9)

    behind, mask = 3.0, rng.random(value.shape) < 0.8
    photons = value + behind
    data = rng.poisson(photons).astype(float)
    data[0, 0] = np.nan
    mask[0, 0] = True
    counted = mask & np.isfinite(data)
    u = data - photons
    spread = photons + 4.0
    expected = {
        "gaussian": (u**2 / 18, -u / 9, np.full_like(u, 1 / 9), 9.0),
        "model": (
            (np.log(2 * np.pi * spread) + u**2 / spread) / 2,
            (1 - 2 * u - u**2 / spread) / spread / 2,
            1 / spread + 0.5 / spread**2,
            4.0,
        ),
        "poisson": (
            photons - data + np.where(data > 0, data * np.log(np.maximum(data, 1) / photons), 0),
            1 - data / photons,
            1 / photons,
            None,
        ),
    }
    for likelihood, (of_pixel, slope, curve, variance) in expected.items():
        found = slopes.normal(data, variance, mask, likelihood=likelihood, background=behind)
        j = images[:, counted]
        assert found.pixels == counted.sum()
        assert found.value == pytest.approx(of_pixel[counted].sum(), rel=1e-12)
        terms = np.abs(j) @ np.abs(slope[counted])
        assert (np.abs(found.gradient - j @ slope[counted]) < 1e-12 * terms).all()
        matrix = (j * curve[counted]) @ j.T
        root = np.sqrt(np.diag(matrix))
        assert (np.abs(found.matrix - matrix) < 1e-12 * np.outer(root, root)).all()


def test_boxes_and_masks_leave_out_pixels_and_count_none_twice():
    simulator = a_simulator(an_experiment())
    mask = np.ones(simulator.shape, bool)
    mask[6, 7] = False
    whole = simulator.slopes("scale, crystal.cell[0]", precision="float64")
    part = simulator.slopes(
        "scale, crystal.cell[0]", precision="float64", boxes=[(2, 9, 3, 8), (5, 12, 6, 11)], mask=mask
    )
    wanted = np.zeros(simulator.shape, bool)
    wanted[3:9, 2:10] = wanted[6:12, 5:13] = True
    wanted &= mask
    np.testing.assert_array_equal(part.images(), np.where(wanted, whole.images(), 0.0))
    assert part.normal(np.zeros(simulator.shape)).pixels == wanted.sum()


@pytest.mark.parametrize("threads", [1, 2])
def test_slopes_do_not_depend_on_threads(threads):
    experiment = an_experiment(detector={"n_fast": 50, "n_slow": 40})
    names = "crystal.cell, detector.distance_mm"
    one = Simulator(experiment, backend="cpu", threads=1).slopes(names)
    other = Simulator(experiment, backend="cpu", threads=threads).slopes(names)
    np.testing.assert_array_equal(one.images(), other.images())
    data = one.image() + 1
    np.testing.assert_array_equal(one.normal(data).matrix, other.normal(data).matrix)


def test_the_value_of_real_cell_counts_passes_through_that_of_whole_ones():
    simulator = a_simulator(an_experiment())
    at_7 = simulator.slopes("scale", at={"crystal.cell_counts[0]": 6.0}).image()
    of_7 = a_simulator(an_experiment(crystal={"cell_counts": (6, 6, 7)})).slopes("scale").image()
    np.testing.assert_allclose(at_7, of_7, rtol=1e-9, atol=1e-12 * of_7.max())


def test_the_sum_of_a_frame_has_the_slopes_that_the_torch_program_recorded():
    # Its probe: the default 1024 x 1024 frame of a cubic cell. It keeps the solid angle of a pixel's last sub-pixel
    # for all four; with every sub-pixel's own, angles' slopes differ in the third digit.
    experiment = Experiment(
        crystal=Crystal(cell=(100, 100, 100, 90, 90, 90), cell_counts=(5, 5, 5)),
        detector=Detector(n_fast=1024, n_slow=1024, pixel_mm=0.1, distance_mm=100),
        structure_factors=StructureFactors(default_F=100),
        fidelity="physical",
    )
    slopes = a_simulator(experiment, "auto").slopes("crystal.cell")
    found = list(slopes.pull(np.ones(slopes.shape)).values())
    recorded = [7782.45, -2947.48, -2947.48, 1.66, 5278.16, -5278.15]
    assert found == pytest.approx(recorded, rel=2e-3, abs=0.4)


def surrounded() -> dict:
    """Parts of an experiment whose photons go through something, and come with others."""
    return {
        "transmission": (
            Absorption(thickness_mm=0.4),
            AirPath(),
            Shadow(corners_px=((0, 0), (12, 0), (12, 9)), transmission=0.3),
        ),
        # As bright as the crystal of some hundred cells.
        "backgrounds": (Background(material="water", thickness_mm=1e-10),),
    }


def test_slopes_go_through_obstacles_and_stand_beside_backgrounds():
    experiment = an_experiment(**surrounded())
    steps = {name: STEPS[name] for name in ("crystal.cell[0]", "crystal.turn_deg[2]", "beam.fluence_per_m2", "scale")}
    # Backgrounds are float32: the same in both where the crystal moves, and rounded where photons change.
    assert_slopes_are_differences(experiment, steps, near=1e-5)
    simulator = a_simulator(experiment)
    slopes = simulator.slopes(list(steps))
    value, images = slopes.value_and_images()
    rendered = simulator.render()
    np.testing.assert_allclose(value, rendered, rtol=1e-5, atol=1e-6 * rendered.max())
    bare = a_simulator(experiment.replace(transmission=(), backgrounds=())).slopes("scale").image()
    assert (value > 0.3 * bare).all() and np.abs(value / np.maximum(bare, 1e-3) - 1).max() > 0.5
    assert_contractions_agree_with_images(slopes)


def test_slopes_in_photons_stand_beside_diffuse_scattering():
    experiment = an_experiment(diffuse=Diffuse(displacement_A=0.5, correlation_A=20.0))
    assert_slopes_are_differences(experiment, {"beam.fluence_per_m2": 1e26, "scale": 1e-2}, near=1e-5)
    assert_contractions_agree_with_images(a_simulator(experiment).slopes("scale"))


def test_slopes_are_those_of_the_cell_at_a_dose():
    damage = Damage(dose_MGy=5.0, cell_drift_per_MGy=(1e-3, 2e-3, -1e-3))
    experiment = an_experiment(damage=damage, structure_factors=a_table(), sampling=Sampling(oversample=1))
    names = ("crystal.misset_deg[1]", "crystal.orientation_deg[0]", "crystal.turn_deg[2]", "detector.distance_mm")
    steps = {name: STEPS.get(name, 2e-3) for name in names}
    assert_slopes_are_differences(experiment, steps)
    with pytest.raises(InputError, match=r"crystal.cell\[0\] has no slope at a dose"):
        a_simulator(experiment).slopes("crystal.cell[0]")
    for name in ("F2", "structure_factors.default_F"):
        with pytest.raises(InputError, match="no slopes? at a dose"):
            a_simulator(experiment).slopes(name)


def test_normal_equations_hold_the_reflections_that_no_list_names():
    experiment = an_experiment(structure_factors=a_table(), sampling=Sampling(oversample=1, interpolate=False))
    names = ["scale", "structure_factors.default_F", "crystal.cell[0]"]
    assert_contractions_agree_with_images(a_simulator(experiment).slopes(names))


def test_normal_equations_in_reflections_are_those_of_their_images():
    experiment = an_experiment("gauss", structure_factors=a_table(), sampling=Sampling(oversample=1, interpolate=False))
    slopes = a_simulator(experiment).slopes("scale, F2, crystal.cell[0]")
    images = a_simulator(experiment).slopes("scale, crystal.cell[0]").images()
    image = slopes.image()
    data = np.random.default_rng(3).poisson(image + 0.5).astype(float)
    normal = slopes.normal(data, likelihood="poisson", background=0.5)
    assert normal.names == ("scale", "crystal.cell[0]")
    slope, curve = 1 - data / (image + 0.5), 1 / (image + 0.5)
    found = normal.reflections
    np.testing.assert_allclose(found.gradient, slopes.pull(slope)["structure_factors.F2"], rtol=1e-9)
    for row, of in zip(found.cross, images, strict=True):
        expected = slopes.pull(curve * of)["structure_factors.F2"]
        np.testing.assert_allclose(row, expected, rtol=1e-8, atol=1e-10 * np.abs(expected).max())
    # Times the squares, the diagonal is what the whole matrix is.
    squares = experiment.structure_factors.amplitudes**2
    likely = np.maximum(squares, 1e-3 * squares.mean())
    whole = slopes.pull(curve * slopes.push({"structure_factors.F2": likely}))["structure_factors.F2"]
    np.testing.assert_allclose(found.weight * likely, whole, rtol=1e-8, atol=1e-10 * whole.max())
    strongest = int(np.argmax(found.weight * likely**2))
    alone = slopes.push({"structure_factors.F2": np.eye(1, len(squares), strongest)[0]})
    assert (curve * alone**2).sum() <= found.weight[strongest] * (1 + 1e-9)


def assert_contractions_agree_with_images(slopes) -> None:
    """Pull and normal equations of all likelihoods, made anew from the slope images."""
    value, images = (np.asarray(part, dtype=float) for part in slopes.value_and_images())
    rng = np.random.default_rng(3)
    weights = rng.normal(size=value.shape)
    terms = np.tensordot(np.abs(images), np.abs(weights), 2)
    off = np.array(list(slopes.pull(weights).values())) - np.tensordot(images, weights, 2)
    assert (np.abs(off) < 1e-9 * terms).all()
    photons = value + 0.5
    data = rng.poisson(photons).astype(float)
    data[0, 0] = np.nan
    counted = np.isfinite(data)
    u = data - photons
    expected = {
        "gaussian": (u**2 / 18, -u / 9, np.full_like(u, 1 / 9), 9.0),
        "model": (
            (np.log(2 * np.pi * (photons + 4)) + u**2 / (photons + 4)) / 2,
            (1 - 2 * u - u**2 / (photons + 4)) / (photons + 4) / 2,
            1 / (photons + 4) + 0.5 / (photons + 4) ** 2,
            4.0,
        ),
        "poisson": (
            photons - data + np.where(data > 0, data * np.log(np.maximum(data, 1) / photons), 0),
            1 - data / photons,
            1 / photons,
            None,
        ),
    }
    j = images[:, counted]
    for likelihood, (of_pixel, slope, curve, variance) in expected.items():
        found = slopes.normal(data, variance, likelihood=likelihood, background=0.5)
        assert found.pixels == counted.sum()
        assert found.value == pytest.approx(of_pixel[counted].sum(), rel=1e-9)
        assert (np.abs(found.gradient - j @ slope[counted]) < 1e-9 * (np.abs(j) @ np.abs(slope[counted]))).all()
        matrix = (j * curve[counted]) @ j.T
        root = np.sqrt(np.diag(matrix))
        assert (np.abs(found.matrix - matrix) < 1e-9 * np.outer(root, root)).all()


@pytest.mark.parametrize(
    "parts, parameters, name",
    [
        ({"shape": "tophat"}, "crystal.cell", "crystal.cell"),
        ({}, "crystal.mosaic_spread_deg", "crystal.mosaic_spread_deg"),
        ({}, "structure_factors.F2", "structure_factors.F2"),
        ({}, "detector.thickness_um", "detector.thickness_um"),
        ({}, "crystal.mosaic_seed", "crystal.mosaic_seed"),
        ({"detector": {"curved": True}}, "detector.distance_mm", "detector.distance_mm"),
        (surrounded(), "detector.distance_mm", "detector.distance_mm"),
        (surrounded(), "beam.wavelength_A", "beam.wavelength_A"),
        ({"backgrounds": surrounded()["backgrounds"]}, "beam.polarization", "beam.polarization"),
        ({"diffuse": Diffuse(displacement_A=0.5, correlation_A=20.0)}, "crystal.cell[0]", "crystal.cell[0]"),
        ({"detector": {"sensor": "Si", "thickness_um": 300}}, "beam.wavelength_A", "beam.wavelength_A"),
        ({"detector": {"sensor": "Si", "thickness_um": 300}}, "detector.thickness_um", "detector.thickness_um"),
        ({"sampling": Sampling(oversample=1, pixel_average=True)}, "scale", "Sampling.pixel_average"),
        ({"lattices": (Lattice(crystal=Crystal(cell=(60, 70, 80, 90, 90, 90))),)}, "scale", "Experiment.lattices"),
        (
            {"sampling": Sampling(oversample_omega=True), "fidelity": "nanobragg"},
            "scale",
            "Sampling.oversample_thick, ",
        ),
    ],
)
def test_what_has_no_slope_is_refused_by_name(parts, parameters, name):
    with pytest.raises(InputError) as refusal:
        a_simulator(an_experiment(**parts)).slopes(parameters)
    assert str(refusal.value).startswith(name)


def test_what_does_not_fit_the_frame_is_refused_by_name():
    slopes = a_simulator(an_experiment()).slopes("scale")
    with pytest.raises(InputError, match="^weights must have the frame's shape"):
        slopes.pull(np.ones((3, 3)))
    with pytest.raises(InputError, match="^direction must hold 1 numbers"):
        slopes.push([1.0, 2.0])
    with pytest.raises(InputError, match="^variance must be greater than 0"):
        slopes.normal(np.zeros(slopes.shape), 0.0)
    with pytest.raises(InputError, match=r"^boxes\[0\] must be edges"):
        a_simulator(an_experiment()).slopes("scale", boxes=[(0, 24, 0, 5)])


def test_the_page_of_slopes_works_as_it_stands():
    page = (Path(__file__).parents[2] / "docs" / "slopes.md").read_text(encoding="utf-8")
    names: dict = {}
    exec(compile(page.split("```python")[1].split("```")[0], "slopes.md", "exec"), names)
    growth, images = names["growth"], names["images"]
    expected = np.tensordot([0.55, 0.65, 0.75], images[:3], 1)
    np.testing.assert_allclose(growth, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    assert (names["uncertainty"] > 0).all() and np.isfinite(names["step"]).all()
