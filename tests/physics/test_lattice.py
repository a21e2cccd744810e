"""Lattice transforms of whole images against explicit sums and integrals."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from bragg_numba.kernels import physics
from scipy import integrate

from bragg_numba import Beam, Crystal, Detector, Experiment, Sampling, Simulator, StructureFactors

#: A rendered pixel is one rounding to float32 of a float64 number.
EPS32 = float(np.finfo(np.float32).eps)

#: Every multiplication in float64: what is tested is the equation, not an economy of the kernels.
exact = partial(Simulator, precision="float64")

CELL = (31.0, 42.0, 37.0, 81.0, 97.0, 104.0)


def experiment(**crystal) -> Experiment:
    crystal = {"cell": CELL, "misset_deg": (13.0, 27.0, -41.0), **crystal}
    return Experiment(
        crystal=Crystal(**crystal),
        beam=Beam(polarized=False),
        detector=Detector(n_fast=24, n_slow=20, pixel_mm=1.5, distance_mm=50.0, point_pixel=True),
        sampling=Sampling(oversample=1, interpolate=False),
        structure_factors=StructureFactors(default_F=3.0),
    )


def scattering_vectors(sim: Simulator) -> tuple[np.ndarray, np.ndarray]:
    """Return q (slow, fast, 3) in 1/m at the pixels' centres, and their distances in metres."""
    d = sim.plan.detector
    fast = (np.arange(d.n_fast) + 0.5) * d.pixel_size
    slow = (np.arange(d.n_slow) + 0.5) * d.pixel_size
    place = np.array(d.origin) + fast[None, :, None] * np.array(d.fast) + slow[:, None, None] * np.array(d.slow)
    distance = np.linalg.norm(place, axis=2)
    wavelength = sim.experiment.beam.wavelength_A * 1e-10
    return (place / distance[..., None] - np.array(d.beam)) / wavelength, distance


def photons(sim: Simulator) -> np.ndarray:
    return sim.render().astype(np.float64)


def explicit_waves(q: np.ndarray, vectors: np.ndarray, counts) -> np.ndarray:
    """Sum exp(2 pi i q.r) over every unit cell, one by one."""
    total = np.zeros(q.shape[:2], dtype=complex)
    for i in range(counts[0]):
        for j in range(counts[1]):
            for k in range(counts[2]):
                total += np.exp(2j * np.pi * (q @ (i * vectors[0] + j * vectors[1] + k * vectors[2])))
    return total


@pytest.mark.parametrize("counts", [(1, 1, 1), (3, 4, 2), (7, 1, 5)])
def test_square_crystal_is_the_sum_of_waves_from_every_unit_cell(counts):
    sim = exact(experiment(cell_counts=counts))
    q, distance = scattering_vectors(sim)
    waves = explicit_waves(q, sim.plan.cells.reshape(3, 3), counts)
    expected = 9.0 * np.abs(waves) ** 2 / distance**2
    # Peaks: float32 rounding. Between peaks N waves of size 1 cancel, each with a phase error of a few eps.
    np.testing.assert_allclose(photons(sim), expected, rtol=4 * EPS32, atol=1e-12 * expected.max())


def test_mosaic_and_spindle_steps_are_the_mean_over_their_orientations():
    base = experiment(cell_counts=(3, 2, 4), mosaic_spread_deg=2.0, mosaic_domains=3)
    sim = exact(base.replace(rotation=base.rotation.replace(osc_deg=6.0, phi_steps=2)))
    q, distance = scattering_vectors(sim)
    assert len(sim.plan.cells) == 6
    squares = [np.abs(explicit_waves(q, cell.reshape(3, 3), (3, 2, 4))) ** 2 for cell in sim.plan.cells]
    expected = 9.0 * np.mean(squares, axis=0) / distance**2
    np.testing.assert_allclose(photons(sim), expected, rtol=4 * EPS32, atol=1e-12 * expected.max())


def aimed(counts, shape="square", default_F=3.0, n=(1, 0, 0)) -> tuple[Simulator, tuple[int, int]]:
    """A crystal turned so that reflection ``n`` of its lattice lies exactly on the centre of one pixel."""
    base = exact(experiment())
    at = (4, 17)
    q = scattering_vectors(base)[0][at]
    along = q / np.linalg.norm(q)
    across = np.cross(along, (0.3, -0.5, 0.8))
    across /= np.linalg.norm(across)
    star = np.linalg.norm(q) / np.linalg.norm(n)
    axes = np.array([along, across, np.cross(along, across)]) * star * 1e-10
    if n != (1, 0, 0):
        h, k, _ = np.array(n) / np.linalg.norm(n)
        a_star = h * axes[0] - k * axes[1]
        b_star = k * axes[0] + h * axes[1]
        axes = np.array([a_star, b_star, axes[2]])
    crystal = Crystal(mosflm_matrix=axes.T.tolist(), cell_counts=counts, shape=shape)
    factors = StructureFactors(default_F=default_F)
    return exact(base.experiment.replace(crystal=crystal, structure_factors=factors)), at


@pytest.mark.parametrize("n", [(1, 0, 0), (2, 1, 0)])
@pytest.mark.parametrize("counts", [(1, 1, 1), (5, 5, 5), (3, 8, 20)])
def test_peak_height_is_the_squared_product_of_the_cell_counts(counts, n):
    sim, at = aimed(counts, n=n)
    _, distance = scattering_vectors(sim)
    expected = 9.0 * float(np.prod(counts)) ** 2 / distance[at] ** 2
    # The aim is off by eps of an index; the peak is flat there.
    assert photons(sim)[at] == pytest.approx(expected, rel=4 * EPS32)


def test_peak_height_grows_with_the_sixth_power_of_the_crystal_size():
    heights = [photons(aimed((n, n, n))[0])[4, 17] for n in (4, 8, 16, 32)]
    slopes = np.diff(np.log2(heights))
    assert slopes == pytest.approx([6.0] * 3, abs=8 * EPS32 / np.log(2))


def test_photons_grow_with_the_square_of_the_structure_factor():
    one, ten = (photons(aimed((3, 3, 3), default_F=f)[0]) for f in (1.0, 10.0))
    np.testing.assert_allclose(ten, 100.0 * one, rtol=4 * EPS32)


def test_total_scattered_by_a_square_crystal_grows_with_its_number_of_cells():
    totals = [
        integrate.quad(lambda h, n=n: n * n * physics.grating_squared(h, n), 0, 1, limit=500)[0] for n in (5.0, 20.0)
    ]
    assert totals == pytest.approx([5.0, 20.0], rel=1e-7)


def test_round_crystal_is_the_fourier_integral_of_a_ball():
    # Chords along q: the transform of a ball of diameter 1 is a one-dimensional integral over its slices.
    for r in (0.0, 0.03, 0.2, 0.71, 1.5, 3.3):
        slices = integrate.quad(lambda z, r=r: np.pi * (0.25 - z * z) * np.cos(2 * np.pi * r * z), -0.5, 0.5)[0]
        ball = integrate.quad(lambda z: np.pi * (0.25 - z * z), -0.5, 0.5)[0]
        expected = physics.SPHERE_SCALE**2 * (slices / ball) ** 2
        assert physics.sphere_squared(r * r) == pytest.approx(expected, rel=1e-9, abs=1e-15)


def test_round_crystal_image_is_the_fourier_integral_of_an_ellipsoid():
    counts = (6, 9, 7)
    sim = exact(experiment(cell_counts=counts, shape="round"))
    q, distance = scattering_vectors(sim)
    index = q @ sim.plan.cells.reshape(3, 3).T
    delta = (index - np.rint(index)) * np.array(counts)
    nodes, weights = np.polynomial.legendre.leggauss(80)
    z, w = nodes / 2, weights / 2
    # The largest r is half the diagonal of the counts, 6.4 cycles over the diameter: 80 nodes resolve it.
    r = np.linalg.norm(delta, axis=2)
    slices = (np.cos(2 * np.pi * r[..., None] * z) * (0.25 - z * z) * np.pi) @ w
    expected = 9.0 * (np.prod(counts) * physics.SPHERE_SCALE * slices / (np.pi / 6)) ** 2 / distance**2
    np.testing.assert_allclose(photons(sim), expected, rtol=4 * EPS32, atol=1e-12 * expected.max())


def test_inverting_the_lattice_changes_nothing_where_friedel_pairs_are_equal():
    rows = np.array(aimed((4, 3, 5))[0].experiment.crystal.mosflm_matrix)
    indices = np.array([(h, k, n) for h in range(-3, 4) for k in range(-3, 4) for n in range(-3, 4)])
    amplitudes = 1.0 + np.abs(indices @ (3, 5, 7))
    images = []
    for sign in (1, -1):
        base = experiment(cell=None, mosflm_matrix=(sign * rows).tolist(), misset_deg=None, cell_counts=(4, 3, 5))
        images.append(
            photons(exact(base.replace(structure_factors=StructureFactors(indices=indices, amplitudes=amplitudes))))
        )
    assert np.median(images[0]) > 1e-9 * images[0].max() > 0
    np.testing.assert_allclose(images[1], images[0], rtol=4 * EPS32, atol=1e-12 * images[0].max())


def test_permuting_the_cell_axes_permutes_the_indices():
    rng = np.random.default_rng(3)
    indices = np.array([(h, k, n) for h in range(-4, 5) for k in range(-4, 5) for n in range(-4, 5)])
    amplitudes = rng.uniform(1, 9, len(indices))
    rows = np.linalg.inv(np.array(exact(experiment()).plan.cells).reshape(3, 3)) * 1e-10
    counts = np.array([3, 5, 4])
    images = []
    for order in ([0, 1, 2], [1, 2, 0], [2, 0, 1]):
        base = experiment(
            cell=None,
            misset_deg=None,
            mosflm_matrix=rows[:, order].tolist(),
            cell_counts=tuple(int(n) for n in counts[order]),
        )
        factors = StructureFactors(indices=indices[:, order], amplitudes=amplitudes)
        images.append(photons(exact(base.replace(structure_factors=factors))))
    assert images[0].max() > 0
    for other in images[1:]:
        np.testing.assert_allclose(other, images[0], rtol=4 * EPS32, atol=1e-12 * images[0].max())


@pytest.mark.parametrize("turn", [{"phi_deg": 360.0}, {"phi_deg": -720.0}])
def test_a_rotation_by_whole_turns_changes_nothing(turn):
    base = experiment(cell_counts=(5, 4, 6))
    still = photons(exact(base))
    turned = photons(exact(base.replace(rotation=base.rotation.replace(**turn))))
    # sin(2 pi n) is 2.4e-16 n instead of 0: an index of at most 40 moves by 4e-14 of 1/6 of a fringe.
    np.testing.assert_allclose(turned, still, rtol=4 * EPS32, atol=1e-12 * still.max())


def test_photons_fall_with_the_square_of_the_distance_at_equal_angles():
    near = exact(experiment(cell_counts=(3, 3, 3)))
    d = near.experiment.detector
    far = exact(near.experiment.replace(detector=d.replace(pixel_mm=3 * d.pixel_mm, distance_mm=3 * d.distance_mm)))
    brightest = near.render().max()
    np.testing.assert_allclose(9.0 * photons(far), photons(near), rtol=4 * EPS32, atol=1e-12 * brightest)
