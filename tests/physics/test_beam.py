"""Polarization, sources, absolute scale."""

from __future__ import annotations

import numpy as np
import pytest
from bragg_numba.kernels import physics

from bragg_numba import Beam, Crystal, Detector, Experiment, InputError, Sampling, Simulator, StructureFactors

EPS = float(np.finfo(np.float64).eps)
EPS32 = float(np.finfo(np.float32).eps)

BEAM, E_AXIS, B_AXIS = np.eye(3)[2], np.eye(3)[0], np.eye(3)[1]


def factor(kahn: float, toward) -> float:
    toward = np.asarray(toward, dtype=float)
    return physics.polarization_factor(kahn, *BEAM, *(toward / np.linalg.norm(toward)), *E_AXIS)


def test_a_fully_polarized_beam_scatters_nothing_along_its_electric_vector():
    assert factor(1.0, E_AXIS) == pytest.approx(0.0, abs=EPS)


def test_a_fully_polarized_beam_scatters_everything_across_its_electric_vector():
    assert factor(1.0, B_AXIS) == pytest.approx(1.0, rel=EPS)


@pytest.mark.parametrize("kahn", [-1.0, 0.0, 0.3, 1.0])
def test_forward_scattering_is_not_weakened_by_polarization(kahn):
    assert factor(kahn, BEAM) == pytest.approx(1.0, rel=EPS)


def test_an_unpolarized_beam_scatters_by_the_mean_of_one_and_cosine_squared():
    for angle in np.linspace(0, np.pi, 13):
        for around in np.linspace(0, 6, 7):
            toward = np.cos(angle) * BEAM + np.sin(angle) * (np.cos(around) * E_AXIS + np.sin(around) * B_AXIS)
            assert factor(0.0, toward) == pytest.approx((1 + np.cos(angle) ** 2) / 2, rel=8 * EPS)


@pytest.mark.parametrize("kahn", [-0.7, 0.25, 1.0])
def test_polarization_is_the_dipole_pattern_of_its_two_parts(kahn):
    # A share (1 + K) / 2 of the photons has its field along E, the rest along B: dipoles radiate sin^2.
    rng = np.random.default_rng(17)
    for toward in rng.normal(size=(40, 3)):
        toward = toward / np.linalg.norm(toward)
        along_e, along_b = 1 - (toward @ E_AXIS) ** 2, 1 - (toward @ B_AXIS) ** 2
        expected = (1 + kahn) / 2 * along_e + (1 - kahn) / 2 * along_b
        assert factor(kahn, toward) == pytest.approx(expected, abs=8 * EPS)


def spotty(beam: Beam, fidelity: str = "physical", **detector) -> Experiment:
    detector = {"n_fast": 20, "n_slow": 16, "pixel_mm": 2.0, "distance_mm": 40.0, **detector}
    return Experiment(
        crystal=Crystal(cell=(30.0, 41.0, 52.0, 90.0, 103.0, 90.0), misset_deg=(5, 17, 40), cell_counts=(3, 4, 2)),
        beam=beam,
        detector=Detector(**detector),
        sampling=Sampling(oversample=2, interpolate=False),
        structure_factors=StructureFactors(default_F=5.0),
        fidelity=fidelity,
    )


def photons(experiment: Experiment) -> np.ndarray:
    return Simulator(experiment, precision="float64").render().astype(float)


# x, y, z, weight, wavelength
SOURCES = [
    (-10.0, 0.0, 0.0, 1.0, 1.5e-10),
    (-10.0, 0.05, 0.02, 2.5, 1.48e-10),
    (-10.0, -0.03, 0.04, 0.5, 1.53e-10),
    (-10.0, 0.1, 0.1, 0.0, 1.4e-10),
]


def test_weighted_sources_give_the_weighted_mean_of_single_source_images():
    together = photons(spotty(Beam(sources=SOURCES)))
    alone = [photons(spotty(Beam(sources=[(*source[:3], 1.0, source[4])]))) for source in SOURCES]
    expected = np.average(alone, axis=0, weights=[source[3] for source in SOURCES])
    np.testing.assert_allclose(together, expected, rtol=8 * EPS32)


def test_source_weights_count_only_relative_to_each_other():
    once, twice = (
        photons(spotty(Beam(sources=[(x, y, z, scale * w, wave) for x, y, z, w, wave in SOURCES]))) for scale in (1, 7)
    )
    np.testing.assert_allclose(twice, once, rtol=4 * EPS32)


def test_equal_weights_are_the_same_under_both_fidelities_but_for_the_place_in_the_pixel():
    sources = [(*source[:3], 3.0, source[4]) for source in SOURCES]
    options = {"pixel_mm": 0.02, "point_pixel": True}
    images = [photons(spotty(Beam(sources=sources, polarized=False), f, **options)) for f in ("physical", "nanobragg")]
    # 1/R^2 within a pixel: 20 um of 40 mm, at up to 0.3 mm off the axis.
    np.testing.assert_allclose(images[0], images[1], rtol=2 * 0.02 * 0.3 / 40**2)


def test_fidelity_nanobragg_ignores_source_weights():
    weighted = photons(spotty(Beam(sources=SOURCES), "nanobragg"))
    plain = photons(spotty(Beam(sources=[(*source[:3], 1.0, source[4]) for source in SOURCES]), "nanobragg"))
    np.testing.assert_array_equal(weighted, plain)


@pytest.mark.parametrize("weights", [(-1.0, 2.0), (0.0, 0.0)])
def test_weights_without_a_mean_are_refused_where_they_count(weights):
    beam = Beam(sources=[(-10.0, 0.0, 0.0, weight, 1e-10) for weight in weights])
    spotty(beam, "nanobragg")
    with pytest.raises(InputError, match="weight"):
        spotty(beam, "physical")


def test_polarization_per_term_converges_to_the_limit_of_fine_sampling():
    # One unit cell with F = 5: the image is the mean of solid angle times polarization over each pixel.
    def error(fidelity, n):
        base = spotty(Beam(polarization=0.9), fidelity, n_fast=4, n_slow=4, pixel_mm=25.0)
        base = base.replace(crystal=Crystal(cell=(30.0,)), sampling=Sampling(oversample=n, interpolate=False))
        return photons(base)

    limit = (4 * error("physical", 128) - error("physical", 64)) / 3
    errors = [np.abs(error("physical", n) / limit - 1).max() for n in (4, 8, 16)]
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.15)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.15)
    assert np.abs(error("nanobragg", 64) / limit - 1).max() > 10 * errors[2]


def test_fluence_from_flux_is_photons_per_beam_area():
    by_flux = Beam(flux_per_s=3e11, exposure_s=0.5, beam_size_mm=0.02)
    assert by_flux.photons_per_m2 == pytest.approx(3e11 * 0.5 / (2e-5) ** 2, rel=4 * EPS)


def test_absolute_scale_is_thomson_scattering():
    # At unit fluence one photon per square metre meets r_e^2; an electron pair (F = 2) scatters 4 r_e^2.
    base = spotty(Beam(fluence_per_m2=1e30, polarized=False), point_pixel=True)
    base = base.replace(crystal=Crystal(cell=(30.0,)), structure_factors=StructureFactors(default_F=2.0))
    sim = Simulator(base.replace(sampling=Sampling(oversample=1, interpolate=False)), precision="float64")
    d = sim.plan.detector
    centre = np.array(d.origin) + 0.5 * d.pixel_size * (np.array(d.fast) + np.array(d.slow))
    classical_radius = 2.8179403262e-15
    expected = 4 * classical_radius**2 * 1e30 / (centre @ centre)
    assert float(sim.render()[0, 0]) == pytest.approx(expected, rel=1e-6)  # nanoBragg's r_e has 7 digits


def test_divergence_and_dispersion_are_means_over_their_sources():
    beam = Beam(
        horizontal_divergence_mrad=8.0,
        horizontal_divergence_steps=3,
        vertical_divergence_mrad=4.0,
        vertical_divergence_steps=2,
        dispersion_percent=3.0,
        dispersion_steps=2,
        round_divergence=False,
    )
    sim = Simulator(spotty(beam), precision="float64")
    sources = sim.plan.sources
    assert len(sources.wavelength) == 3 * 2 * 2
    alone = [
        photons(spotty(Beam(sources=[(*(-10 * incident), 1.0, wavelength)])))
        for incident, wavelength in zip(sources.incident, sources.wavelength, strict=True)
    ]
    np.testing.assert_allclose(sim.render(), np.mean(alone, axis=0), rtol=8 * EPS32)
