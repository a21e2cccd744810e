"""fidelity="physical": each replaced approximation against an independent truth."""

from __future__ import annotations

import numpy as np
import pytest
from bragg_numba.kernels import physics
from scipy import integrate, stats

from bragg_numba import Beam, Crystal, Detector, Experiment, Sampling, Simulator, StructureFactors
from bragg_numba.cli.nanobragg import main
from bragg_numba.plan.orientations import random_rotation
from bragg_numba.plan.plan import AVOGADRO, make_plan
from bragg_numba.response.classic import ClassicStream

EPS = float(np.finfo(np.float64).eps)
EPS32 = float(np.finfo(np.float32).eps)


def physical(**parts) -> Experiment:
    parts = {
        "crystal": Crystal(cell=(30.0,)),
        "beam": Beam(polarized=False),
        "detector": Detector(n_fast=8, n_slow=8),
        "sampling": Sampling(oversample=1, interpolate=False),
        "structure_factors": StructureFactors(default_F=1.0),
        "fidelity": "physical",
        **parts,
    }
    return Experiment(**parts)


def photons(experiment: Experiment) -> np.ndarray:
    return Simulator(experiment, precision="float64").render().astype(float)


# --- sensor -------------------------------------------------------------------------------------


def sensor(layers: int, *, distance_mm: float = 2e4, **options) -> Experiment:
    detector = {
        "n_fast": 5,
        "n_slow": 5,
        "pixel_mm": distance_mm / 5,
        "distance_mm": distance_mm,
        "thickness_um": 450.0,
        "attenuation_depth_um": 300.0,
        "thickness_steps": layers,
        **options,
    }
    return physical(detector=Detector(**detector))


@pytest.mark.parametrize("layers", [1, 2, 5, 40])
def test_layers_together_absorb_one_minus_the_transmission_of_the_sensor(layers):
    with_sensor = sensor(layers)
    bare = with_sensor.replace(detector=with_sensor.detector.replace(thickness_um=0.0))
    sim = Simulator(bare)
    d = sim.plan.detector
    fast, slow = np.meshgrid(*[(np.arange(5) + 0.5) * d.pixel_size] * 2)
    place = np.array(d.origin) + fast[..., None] * np.array(d.fast) + slow[..., None] * np.array(d.slow)
    cosine = place @ np.array(d.normal) / np.linalg.norm(place, axis=2)
    assert cosine.min() < 0.9  # oblique incidence counts
    expected = 1 - np.exp(-450.0 / 300.0 / cosine)
    # The crystal is 20 m away: the depth changes the solid angle by less than 450 um / 20 m * 3.
    np.testing.assert_allclose(photons(with_sensor) / photons(bare), expected, rtol=8 * EPS32 + 3 * 450e-6 / 20)


def test_layers_of_the_sensor_converge_to_the_integral_over_its_depth():
    # A crystal with fine fringes close by: parallax smears them along the radius.
    def image(layers):
        base = sensor(layers, distance_mm=20.0, n_fast=60, n_slow=3, pixel_mm=0.05, beam_y_mm=-10.0, beam_x_mm=0.0)
        return photons(base.replace(crystal=Crystal(cell=(30.0,), cell_counts=(20, 20, 20), misset_deg=(3, 2, 1))))

    limit = image(256)
    errors = [np.abs(image(n) - limit).max() / limit.max() for n in (8, 16, 32)]
    assert errors[2] < 0.02
    # Layers absorb in their middle: second order.
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.4)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.4)


def test_fidelity_nanobragg_takes_the_last_layers_fraction_for_all():
    # So its total is not the absorbed fraction: the reason for the row in docs/fidelity.md.
    near = sensor(5, pixel_mm=1.0).replace(fidelity="nanobragg")
    bare = near.replace(detector=near.detector.replace(thickness_um=0.0))
    ratio = photons(near)[2, 2] / photons(bare)[2, 2]
    step = 450.0 / 4 / 300.0
    assert ratio == pytest.approx(5 * (np.exp(-4 * step) - np.exp(-5 * step)), rel=1e-4)  # 3 x 450 um / 20 m


# --- flags without effect -----------------------------------------------------------------------


@pytest.mark.parametrize("flag", ["oversample_omega", "oversample_polar", "oversample_thick"])
def test_running_product_flags_change_nothing_and_say_so(flag):
    base = sensor(3, distance_mm=30.0).replace(beam=Beam(), sampling=Sampling(oversample=2, interpolate=False))
    flagged = base.replace(sampling=Sampling(oversample=2, interpolate=False, **{flag: True}))
    np.testing.assert_array_equal(photons(flagged), photons(base))
    assert any("no effect" in note for note in make_plan(flagged).notes)
    running = flagged.replace(fidelity="nanobragg")
    assert not np.array_equal(photons(running), photons(running.replace(sampling=base.sampling)))


# --- random orientation -------------------------------------------------------------------------


def rotations_of_many_seeds(count: int) -> np.ndarray:
    seeds = np.random.default_rng(2024).integers(1, 2**31 - 1, count)
    return np.array([random_rotation(ClassicStream(), int(seed)) for seed in seeds])


def test_random_orientations_are_proper_rotations():
    for rotation in rotations_of_many_seeds(50):
        assert np.allclose(rotation @ rotation.T, np.eye(3), rtol=0, atol=8 * EPS)
        assert np.linalg.det(rotation) == pytest.approx(1.0, abs=8 * EPS)


def test_random_orientations_are_uniform_in_angle_and_axis():
    rotations = rotations_of_many_seeds(4000)
    angle = np.arccos(np.clip((np.trace(rotations, axis1=1, axis2=2) - 1) / 2, -1, 1))
    axis = np.stack([rotations[:, 2, 1], rotations[:, 0, 2], rotations[:, 1, 0]], axis=1)
    axis -= np.stack([rotations[:, 1, 2], rotations[:, 2, 0], rotations[:, 0, 1]], axis=1)
    axis /= np.linalg.norm(axis, axis=1)[:, None]
    azimuth = np.arctan2(axis[:, 1], axis[:, 0])
    # Haar measure: the angle has the density (1 - cos) / pi; the axis is uniform on the sphere.
    samples = {
        "angle": (angle, lambda t: (t - np.sin(t)) / np.pi),
        "height of the axis": (axis[:, 2], stats.uniform(-1, 2).cdf),
        "azimuth of the axis": (azimuth, stats.uniform(-np.pi, 2 * np.pi).cdf),
    }
    for name, (sample, cdf) in samples.items():
        # Fixed seeds: 1e-3 is the chance that a right generator would have failed when they were chosen.
        assert stats.kstest(sample, cdf).pvalue > 1e-3, name


def test_c_style_random_orientations_fail_that_test():
    seeds = np.random.default_rng(2024).integers(1, 2**31 - 1, 4000)
    rotations = np.array([ClassicStream().misset_umat(int(seed)) for seed in seeds])
    angle = np.arccos(np.clip((np.trace(rotations, axis1=1, axis2=2) - 1) / 2, -1, 1))
    assert stats.kstest(angle, lambda t: (t - np.sin(t)) / np.pi).pvalue < 1e-9


def test_the_drawn_orientation_is_what_turns_the_crystal():
    crystal = Crystal(cell=(30.0,), misset_deg="random", misset_seed=4711)
    cell = make_plan(physical(crystal=crystal)).cell
    expected = random_rotation(ClassicStream(), 4711)
    np.testing.assert_allclose(np.array([cell.a, cell.b, cell.c]).T / 30.0, expected, rtol=0, atol=32 * EPS)


# --- spot shapes --------------------------------------------------------------------------------


def spot_total(profile, n: int) -> float:
    """Integral of a lattice transform over one reciprocal cell, from its profile of sum((N dh)^2)."""
    radius = n / 2
    value = integrate.quad(lambda r: 4 * np.pi * r * r * profile(r * r), 0, radius, limit=500, points=[0.63])[0]
    return n**6 * value / n**3


@pytest.mark.parametrize("profile", [physics.gauss_squared, physics.tophat_squared, physics.sphere_squared])
def test_spots_of_every_shape_hold_the_photons_of_the_square_crystal(profile):
    # A crystal of N^3 cells scatters N^3 per reciprocal cell in total, whatever the shape of its spots.
    assert spot_total(profile, 10) == pytest.approx(10**3, rel=0.1)


#: Puts the reflection 0 -3 0 of a 30 A cell, 0.1 / A away from the beam, near the detector's centre.
CENTRED = {"beam_x_mm": 3.0 - 10.0, "beam_y_mm": 3.0}


@pytest.mark.parametrize("shape", ["gauss", "tophat"])
def test_a_sweep_through_a_reflection_collects_the_square_crystals_photons(shape):
    def total(shape):
        base = physical(
            crystal=Crystal(cell=(30.0,), cell_counts=(10, 10, 10), shape=shape),
            detector=Detector(n_fast=120, n_slow=120, pixel_mm=0.05, distance_mm=100.0, point_pixel=True, **CENTRED),
        )
        table = StructureFactors(indices=[(0, -3, 0)], amplitudes=[1.0])
        turn = base.rotation.replace(phi_deg=-12.0, osc_deg=18.0, phi_steps=400)
        return photons(base.replace(structure_factors=table, rotation=turn)).sum()

    # The square crystal's fringes leave the cell of this one reflection: a few percent beyond the 10 % above.
    square = total("square")
    assert square > 0
    assert total(shape) == pytest.approx(square, rel=0.12)


def test_spot_radius_counts_cells_along_each_axis():
    crystal = Crystal(cell=(30.0, 60.0, 90.0), cell_counts=(4, 10, 25), shape="gauss")
    lattice = make_plan(physical(crystal=crystal)).lattice
    delta = (0.01, -0.02, 0.005)
    expected = (4 * 0.01) ** 2 + (10 * 0.02) ** 2 + (25 * 0.005) ** 2
    assert physics.quadratic_form(lattice, *delta) == pytest.approx(expected, rel=8 * EPS)


# --- water --------------------------------------------------------------------------------------

DARK = StructureFactors(default_F=1e-30)


def wet(crystal=None, **parts) -> np.ndarray:
    crystal = {"cell": (30.0,), "water_um": 5.0, **(crystal or {})}
    parts = {"detector": Detector(n_fast=6, n_slow=6, pixel_mm=0.2, distance_mm=200.0), "beam": Beam(), **parts}
    return photons(physical(crystal=Crystal(**crystal), structure_factors=DARK, **parts))


def test_water_background_is_what_its_molecules_scatter_in_the_forward_direction():
    molecules = (5e-6) ** 3 * 1e6 * AVOGADRO / 18.0  # at one gram per cubic centimetre
    per_steradian = 2.57**2 * molecules  # at unit fluence
    # At most 0.9 mm off the axis at 200 mm: cos^3 of the solid angle and cos^2 of the polarization.
    assert wet() == pytest.approx(np.full((6, 6), per_steradian * (0.2 / 200) ** 2), rel=2.5 * (0.9 / 200) ** 2)


@pytest.mark.parametrize(
    "change",
    [
        {"sampling": Sampling(oversample=3, interpolate=False)},
        {"crystal": {"mosaic_spread_deg": 1.0, "mosaic_domains": 5}},
        {"beam": Beam(dispersion_percent=2.0, dispersion_steps=4)},
        {"crystal": {"cell_counts": (7, 8, 9)}},
    ],
    ids=["sub-pixels", "mosaic domains", "sources", "cell counts"],
)
def test_water_background_does_not_depend_on_steps(change):
    # Sub-pixels move the mean of cos^3 by (pixel / distance)^2.
    np.testing.assert_allclose(wet(**change), wet(), rtol=(0.2 / 200) ** 2 + 4 * EPS32)


def test_water_background_does_not_depend_on_spindle_steps():
    turn = physical().rotation.replace(osc_deg=5.0, phi_steps=7)
    np.testing.assert_allclose(wet(rotation=turn), wet(), rtol=4 * EPS32)


@pytest.mark.parametrize("layers", [1, 4, 9])
def test_water_background_is_absorbed_like_everything_else(layers):
    detector = Detector(
        n_fast=6,
        n_slow=6,
        pixel_mm=200.0,
        distance_mm=200e3,
        thickness_um=300.0,
        attenuation_depth_um=250.0,
        thickness_steps=layers,
    )
    bare = wet(detector=detector.replace(thickness_um=0.0))
    # Incidence is normal to 2e-5; the depth changes the distance by 300 um of 200 m.
    np.testing.assert_allclose(wet(detector=detector), bare * (1 - np.exp(-1.2)), rtol=4e-5)


def test_water_background_grows_with_the_fluence_once():
    once, twice = (wet(beam=Beam(fluence_per_m2=f)) for f in (1e29, 2e29))
    np.testing.assert_allclose(twice, 2 * once, rtol=4 * EPS32)


def test_water_survives_where_dmin_skips_every_reflection():
    sampling = Sampling(oversample=1, interpolate=False, dmin_A=1000.0)
    np.testing.assert_allclose(wet(sampling=sampling), wet(), rtol=4 * EPS32)


# --- choices and headers ------------------------------------------------------------------------


def test_interpolation_is_chosen_from_the_final_cell_counts():
    line = "-cell 50 -xtalsize 0.0001 -default_F 1 -detpixels 8"
    table = StructureFactors(indices=[(0, 0, 0)], amplitudes=[1.0])
    base = Experiment.from_nanobragg(line).replace(structure_factors=table)
    assert make_plan(base).cell_counts == (20, 20, 20)
    assert make_plan(base).lookup.interpolate  # the reference looks before the size takes effect
    assert not make_plan(base.replace(fidelity="physical")).lookup.interpolate


def header_value(path, keyword: str) -> float:
    text = path.read_bytes()[:512].decode("latin-1")
    return float(text.split(f"\n{keyword}=")[1].split(";")[0])


def test_smv_header_holds_the_true_distance(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    line = "-cell 50 -default_F 1 -detpixels 16 -distance 100 -twotheta 10 -pivot beam -noprogress -intfile"
    assert main([*line.split(), "c.img"]) == 0
    assert main([*line.split(), "p.img", "-fidelity", "physical"]) == 0
    assert header_value(tmp_path / "p.img", "DISTANCE") == pytest.approx(100.0, rel=1e-5)
    assert header_value(tmp_path / "p.img", "CLOSE_DISTANCE") == pytest.approx(100 * np.cos(np.radians(10)), rel=1e-5)
    assert header_value(tmp_path / "c.img", "DISTANCE") == pytest.approx(98.4808, rel=1e-5)


def test_reported_beam_centre_is_where_the_beam_meets_the_tilted_plane():
    experiment = physical(detector=Detector(n_fast=100, n_slow=100, twotheta_deg=12.0, pivot="sample"))
    d = make_plan(experiment).detector
    hit = np.array(d.beam) * d.distance
    on_plane = np.array(d.origin) + d.beam_fast * np.array(d.fast) + d.beam_slow * np.array(d.slow)
    np.testing.assert_allclose(on_plane, hit, rtol=0, atol=16 * EPS)


# --- the cell


@pytest.mark.parametrize(
    "cell", [(40, 50, 60, 75, 85, 110), (60, 60, 60, 70, 70, 70), (50, 60, 70, 100, 95, 80)], ids=str
)
def test_every_cell_has_the_angles_that_were_given(cell):
    made = make_plan(physical(crystal=Crystal(cell=cell, misset_deg=(10, 20, 30)))).cell
    by_c = make_plan(physical(crystal=Crystal(cell=cell), fidelity="nanobragg")).cell

    assert made.lengths_A == pytest.approx(cell[:3], rel=1e-14)
    assert made.angles_deg == pytest.approx(cell[3:], abs=1e-12)
    a, b, c = (np.array(v) for v in (made.a, made.b, made.c))
    assert np.dot(a, np.cross(b, c)) == pytest.approx(made.volume_A3, rel=1e-13)
    assert by_c.lengths_A == pytest.approx(cell[:3], rel=1e-14)
    assert max(abs(x - y) for x, y in zip(by_c.angles_deg, cell[3:], strict=True)) > 0.01
