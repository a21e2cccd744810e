"""Slopes that are summed reflection by reflection, against those of the engine that walks pixels."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from bragg_numba import Beam, Crystal, Detector, Experiment, InputError, Sampling, Simulator, StructureFactors

#: Parameters of every kind of sum: strain, turn, places and factors of the detector, counts, spread, sources.
NAMES = (
    "crystal.cell, crystal.misset_deg[1], crystal.turn_deg, crystal.cell_counts, crystal.mosaic_spread_deg, "
    "beam.wavelength_A, beam.polarization, detector.distance_mm, detector.beam_x_mm, detector.rotation_deg, scale"
)


def an_experiment(shape="gauss", engine="spots", fidelity="physical", detector=None, cutoff=0.0, **parts) -> Experiment:
    """A frame of more than one field, whose edges cut fields, with spots of some pixels on it."""
    place = {"n_fast": 150, "n_slow": 100, "pixel_mm": 0.2, "distance_mm": 60.0, "rotation_deg": (3, 5, 7)}
    return Experiment(
        beam=Beam(wavelength_A=1.0, fluence_per_m2=1e28, polarization=0.7, **parts.pop("beam", {})),
        crystal=Crystal(
            shape=shape,
            cell=(60, 70, 80, 85, 95, 100),
            cell_counts=(9, 10, 11),
            misset_deg=(10, 20, 30),
            mosaic_spread_deg=0.3,
            mosaic_domains=3,
            **parts.pop("crystal", {}),
        ),
        detector=Detector(**(place | {"twotheta_deg": 10} | (detector or {}))),
        structure_factors=parts.pop("structure_factors", StructureFactors(default_F=100)),
        sampling=Sampling(engine=engine, cutoff_photons=cutoff, **{"oversample": 1, **parts.pop("sampling", {})}),
        fidelity=fidelity,
        **parts,
    )


def a_simulator(experiment: Experiment, **options) -> Simulator:
    return Simulator(experiment, backend="cpu", **options)


def assert_near(slopes, found: np.ndarray, expected: np.ndarray) -> None:
    """The bound of docs/slopes.md, image by image."""
    for name, image, other in zip(slopes.names, found, expected, strict=True):
        assert np.abs(other).max() > 0, name
        allowed = 1e-5 * np.abs(other) + 1e-6 * np.abs(other).max()
        assert (np.abs(image - other) <= allowed).all(), name


@pytest.mark.parametrize("fidelity", ["physical", "nanobragg"])
def test_slopes_of_gauss_spots_are_those_of_pixels(fidelity):
    parts = {
        "fidelity": fidelity,
        "detector": {"thickness_um": 300.0, "attenuation_depth_um": 200.0, "thickness_steps": 2},
        "beam": {"dispersion_percent": 0.5, "dispersion_steps": 2, "horizontal_divergence_mrad": 1.0},
        "crystal": {"water_um": 2.0},
        "sampling": {"oversample": 2, "dmin_A": 2.0},
    }
    # Each source for itself, too: its wavelength moves alone.
    names = f"{NAMES}, detector.thickness_um, detector.attenuation_depth_um, beam.dispersion_percent"
    slopes = a_simulator(an_experiment(**parts)).slopes(names)
    other = a_simulator(an_experiment(engine="pixels", **parts)).slopes(names, precision="float64")
    assert (slopes.engine, other.engine) == ("spots", "pixels")
    value, images = slopes.value_and_images()
    expected, expected_images = other.value_and_images()
    np.testing.assert_allclose(value, expected, rtol=1e-5, atol=2e-7 * expected.max())
    assert_near(slopes, images, expected_images)


def test_pixels_of_one_place_have_factors_of_their_own():
    """Under nanobragg, too, where each pixel's factors come last: with one sub-pixel, one layer and no dmin."""
    slopes = a_simulator(an_experiment(fidelity="nanobragg")).slopes(NAMES)
    other = a_simulator(an_experiment(engine="pixels", fidelity="nanobragg")).slopes(NAMES, precision="float64")
    value, images = slopes.value_and_images()
    expected, expected_images = other.value_and_images()
    np.testing.assert_allclose(value, expected, rtol=1e-5, atol=2e-7 * expected.max())
    assert_near(slopes, images, expected_images)


@cache
def whole() -> tuple[np.ndarray, np.ndarray]:
    return a_simulator(an_experiment()).slopes(NAMES).value_and_images()


def test_the_value_is_the_rendered_image():
    rendered = a_simulator(an_experiment()).render()
    np.testing.assert_allclose(whole()[0], rendered, rtol=1e-5, atol=2e-7 * rendered.max())


@pytest.mark.parametrize("threads", [1, 2])
def test_slopes_of_spots_do_not_depend_on_threads(threads):
    slopes = a_simulator(an_experiment(), threads=threads).slopes(NAMES)
    np.testing.assert_array_equal(slopes.images(), whole()[1])


def test_boxes_and_masks_leave_pixels_as_they_are():
    mask = np.ones((100, 150), bool)
    mask[40:50, 60:140] = False
    boxes = [(3, 40, 5, 70), (20, 149, 30, 99)]
    slopes = a_simulator(an_experiment()).slopes(NAMES, boxes=boxes, mask=mask)
    wanted = np.zeros(mask.shape, bool)
    wanted[5:71, 3:41] = wanted[30:100, 20:150] = True
    wanted &= mask
    np.testing.assert_array_equal(slopes.images(), np.where(wanted, whole()[1], 0.0))
    assert slopes.normal(np.zeros(mask.shape)).pixels == wanted.sum()


def test_several_panels_have_the_slopes_of_each():
    from bragg_numba import Panel

    size = {"pixel_mm": 0.2, "fast": (1, 0, 0), "slow": (0, -1, 0)}
    left = Panel(origin_mm=(-14, 8, 60), n_fast=70, n_slow=80, **size)
    right = Panel(origin_mm=(1, 8, 60), n_fast=65, n_slow=80, first_column=73, **size)
    names = "crystal.cell[0], detector.panels.shift_mm[0], detector.shift_mm[2]"

    def slopes_of(engine, precision):
        detector = Detector(panels=[left, right], convention="adxv")
        return a_simulator(an_experiment(engine=engine).replace(detector=detector)).slopes(names, precision=precision)

    slopes = slopes_of("spots", "auto")
    assert_near(slopes, slopes.images(), slopes_of("pixels", "float64").images())


def test_pushes_pulls_and_normal_equations_agree_with_images():
    slopes = a_simulator(an_experiment()).slopes(NAMES)
    value, images = (np.asarray(part, dtype=np.float64) for part in whole())
    rng = np.random.default_rng(3)
    direction, weights = rng.normal(size=len(images)), rng.normal(size=value.shape)
    pushed = np.tensordot(direction, images, 1)
    np.testing.assert_allclose(slopes.push(direction), pushed, rtol=1e-4, atol=1e-5 * np.abs(pushed).max())
    pulled = np.array(list(slopes.pull(weights).values()))
    scale = np.abs(images * weights).sum(axis=(1, 2))
    assert (np.abs(pulled - np.tensordot(images, weights, 2)) <= 1e-6 * scale).all()

    data = rng.poisson(value + 3.0).astype(float)
    data[0, 0] = np.nan
    counted = np.isfinite(data)
    found = slopes.normal(data, likelihood="poisson", background=3.0)
    photons = value + 3.0
    off = photons - data + np.where(data > 0, data * np.log(np.maximum(data, 1) / photons), 0)
    assert found.pixels == counted.sum()
    assert found.value == pytest.approx(off[counted].sum(), rel=1e-6)
    jacobian = images[:, counted]
    matrix = (jacobian / photons[counted]) @ jacobian.T
    root = np.sqrt(np.diag(matrix))
    assert (np.abs(found.matrix - matrix) < 1e-6 * np.outer(root, root)).all()
    slope = 1 - data[counted] / photons[counted]
    assert (np.abs(found.gradient - jacobian @ slope) < 1e-6 * (np.abs(jacobian) @ np.abs(slope))).all()


def a_table() -> StructureFactors:
    """Structure factors of reflections some of which are 0, with holes."""
    grid = np.stack(np.meshgrid(*[np.arange(-12, 13)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    grid = grid[grid.sum(axis=1) % 5 != 0]
    h, k, l = grid.T  # noqa: E741
    amplitudes = np.maximum(0.0, 40 + 60 * np.sin(h) + 20 * np.cos(k + 2 * l))
    return StructureFactors(indices=grid, amplitudes=amplitudes, default_F=20.0)


@pytest.mark.parametrize("fidelity", ["physical", "nanobragg"])
def test_structure_factors_have_slopes_where_they_are_0_too(fidelity):
    experiment = an_experiment(fidelity=fidelity, structure_factors=a_table(), sampling={"interpolate": False})
    slopes = a_simulator(experiment).slopes("structure_factors.F2, structure_factors.default_F")
    squares = experiment.structure_factors.amplitudes**2
    image, of_table = slopes.image(), slopes.push({"structure_factors.F2": squares})
    of_holes = slopes.push({"structure_factors.default_F": 1.0})
    np.testing.assert_allclose(of_table + 10.0 * of_holes, image, rtol=1e-5, atol=2e-7 * image.max())

    weights = np.random.default_rng(7).normal(size=image.shape)
    pulled = slopes.pull(weights)
    gradient = pulled["structure_factors.F2"]
    assert pulled["structure_factors.default_F"] == pytest.approx((weights * of_holes).sum(), rel=1e-5)
    direction = np.random.default_rng(8).normal(size=len(squares))
    of_direction = weights * slopes.push({"structure_factors.F2": direction})
    assert gradient @ direction == pytest.approx(of_direction.sum(), abs=1e-6 * np.abs(of_direction).sum())
    dark = squares == 0.0
    assert np.abs(gradient[dark]).max() > 1e-3 * np.abs(gradient).max()


def test_slopes_follow_the_engine_of_the_plan():
    frame = "-distance 80 -detpixels 1024 -pixel 0.1 -lambda 1.1 -oversample 1"
    crystal = "-cell 53.91 23.1 23.1 90 110.4 90 -default_F 100 -N 20 -gauss_xtal -mosaic 0.3 -mosaic_domains 100"
    simulator = a_simulator(Experiment.from_nanobragg(f"{crystal} {frame}"))
    slopes = simulator.slopes("scale")
    assert (slopes.engine, slopes.engine_reason) == (simulator.engine, simulator.engine_reason) != ("pixels", "")
    assert slopes.engine == "spots" and "engine spots" in repr(slopes)
    # In float64 nothing is left out, so that auto keeps to pixels: for slopes, too.
    assert simulator.slopes("scale", precision="float64").engine == "pixels"


@pytest.mark.slow
@pytest.mark.parametrize("shape", ["square", "round"])
def test_slopes_of_whole_fringes_are_those_of_pixels(shape):
    slopes = a_simulator(an_experiment(shape)).slopes(NAMES)
    other = a_simulator(an_experiment(shape, "pixels")).slopes(NAMES, precision="float64")
    assert_near(slopes, slopes.images(), other.images())


@pytest.mark.slow
@pytest.mark.parametrize("shape", ["square", "round", "gauss"])
def test_slopes_of_cut_spots_lack_what_the_cut_leaves_out(shape):
    cutoff = 1.0
    slopes = a_simulator(an_experiment(shape, cutoff=cutoff)).slopes(NAMES)
    value, images = slopes.value_and_images()
    other = a_simulator(an_experiment(shape, "pixels")).slopes(NAMES, precision="float64")
    expected, expected_images = other.value_and_images()
    lacking = expected - value
    assert 0.01 * cutoff < lacking.max() < cutoff
    # Eq. 71, over the largest slope of the frame; of cell counts at most some ten fringes away.
    part = cutoff / expected.max()
    for name, image, of_whole in zip(slopes.names, images, expected_images, strict=True):
        most = 31.4 if name.startswith("crystal.cell_counts") else 10.0
        assert np.abs(image - of_whole).max() < most * part * np.abs(of_whole).max(), name


def test_top_hats_have_slopes_of_scale_and_of_nothing_that_moves_them():
    simulator = a_simulator(an_experiment("tophat"))
    with pytest.raises(InputError, match=r"^crystal.cell\[0\] has no derivative for a tophat"):
        simulator.slopes("crystal.cell[0]")


def test_what_spots_cannot_serve_is_refused():
    curved = an_experiment(engine="pixels", detector={"curved": True})
    simulator = a_simulator(curved)
    from bragg_numba.slopes.slopes import Slopes
    from bragg_numba.slopes.tangents import Tangent

    with pytest.raises(InputError, match="cannot be spots: a detector is curved"):
        Slopes(simulator.plan, {"scale": Tangent(log_scale=1.0)}, engine="spots")
    assert simulator.slopes("scale").engine == "pixels"
