"""Diffuse scattering by motions as in a liquid."""

import numpy as np
import pytest
from bragg_numba.kernels import physics

from bragg_numba import (
    Background,
    Beam,
    Crystal,
    Detector,
    Diffuse,
    Experiment,
    InputError,
    Simulator,
    StructureFactors,
)
from bragg_numba.plan.plan import make_plan
from bragg_numba.render.diffuse import render_diffuse

EPS = float(np.finfo(np.float32).eps)
CELL = (30.0, 34.0, 41.0, 90.0, 100.0, 90.0)


def _experiment(**parts):
    indices = np.array(list(np.ndindex(9, 9, 9))) - 4
    amplitudes = np.random.default_rng(2).uniform(10, 100, len(indices))
    parts = {
        "beam": Beam(wavelength_A=1.2, fluence_per_m2=1e24, polarization=0.5),
        "crystal": Crystal(cell=CELL, cell_counts=(20, 21, 22), misset_deg=(10, 20, 30)),
        "structure_factors": StructureFactors(indices=indices, amplitudes=amplitudes),
        "detector": Detector(n_fast=40, n_slow=30, pixel_mm=1.0, distance_mm=100),
        "diffuse": Diffuse(correlation_A=12.0, displacement_A=0.4, reach=2),
        **parts,
    }
    return Experiment(**parts)


def test_the_peak_around_a_reflection_integrates_to_its_weight():
    correlation, displacement, h = 1.5e-9, 4e-11, 3e9
    motion = physics.liquid_motion.py_func
    q = np.linspace(0.0, 400.0 / correlation, 400_001)
    values = np.array([motion(h * h, x * x, correlation, displacement) for x in q])
    exponent = (2.0 * np.pi * displacement * h) ** 2
    # Beyond the end lies 1 / (pi^2 gamma q) of it and less.
    assert np.trapezoid(4.0 * np.pi * q * q * values, q) == pytest.approx(exponent * np.exp(-exponent), rel=1e-3)


def test_photons_are_those_of_the_equation():
    experiment = _experiment()
    plan = make_plan(experiment)
    at = experiment.pixel_positions_m()
    far = np.linalg.norm(at, axis=-1, keepdims=True)
    d, beam, axis = at / far, np.array(plan.detector.beam), np.array(plan.detector.polarization)
    q = (d - beam) / 1.2  # 1/angstrom
    real = plan.cells[0].reshape(3, 3) * 1e10
    stars = np.linalg.inv(real).T
    volume, nearest = abs(np.linalg.det(real)), np.ceil(q @ real.T - 0.5)
    factors = dict(
        zip(map(tuple, experiment.structure_factors.indices), experiment.structure_factors.amplitudes, strict=True)
    )
    total = np.zeros(at.shape[:2])
    for step in np.ndindex(5, 5, 5):
        hkl = nearest + np.array(step) - 2
        F = np.array([[factors.get(tuple(map(int, one)), 0.0) for one in row] for row in hkl])
        h = hkl @ stars
        exponent = (2.0 * np.pi * 0.4) ** 2 * (h**2).sum(-1)
        near = ((q - h) ** 2).sum(-1)
        total += F**2 * exponent * np.exp(-exponent) * 8 * np.pi * 12.0**3 / (1 + (2 * np.pi * 12.0) ** 2 * near) ** 2
    b = np.cross(axis, beam)
    psi = np.arctan2(d @ b, d @ np.cross(beam, b))
    cos = d @ beam
    polar = 0.5 * (1 + cos**2 - 0.5 * np.cos(2 * psi) * (1 - cos**2))
    omega = 1e-6 * 0.1 / far[..., 0] ** 3
    expected = physics.R_E_SQUARED * 1e24 * 20 * 21 * 22 / volume * total * polar * omega
    assert np.allclose(render_diffuse(plan), expected, rtol=8 * EPS, atol=0.0)


def test_a_frame_is_bragg_photons_and_diffuse_ones_and_turns_with_the_crystal():
    experiment = _experiment(backgrounds=(Background(material="air", thickness_mm=1.0),))
    still = experiment.replace(diffuse=None)
    diffuse = render_diffuse(make_plan(experiment))
    both = Simulator(experiment)
    assert np.allclose(both.render(), Simulator(still).render() + diffuse, rtol=8 * EPS)
    assert np.array_equal(np.concatenate([tile.copy() for _, tile in both.tiles(rows=11)]), both.render())
    turned = experiment.crystal.replace(misset_deg=(10, 20, 75))
    assert not np.allclose(render_diffuse(make_plan(experiment.replace(crystal=turned))), diffuse, rtol=0.1)


def test_it_grows_with_the_number_of_cells_and_not_with_its_square():
    few, many = (
        render_diffuse(make_plan(_experiment(crystal=Crystal(cell=CELL, cell_counts=(n, 4, 4))))) for n in (5, 10)
    )
    assert np.allclose(many, 2.0 * few, rtol=4 * EPS)


def test_experiments_with_diffuse_scattering_are_saved_and_refuse_what_is_none():
    experiment = _experiment()
    assert Experiment.from_json(experiment.to_json()) == experiment
    assert "correlation_A" in str(experiment) and "12" in str(experiment)
    assert "diffuse" not in _experiment(diffuse=None).to_json()
    for fields in ({"correlation_A": 0.0}, {"displacement_A": -1}, {"reach": 1.5}):
        with pytest.raises(InputError, match="Diffuse"):
            Diffuse(**fields)
    with pytest.raises(InputError, match="Diffuse"):
        _experiment(diffuse="liquid")
