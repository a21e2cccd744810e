"""Slopes of random experiments against central differences, in float64: what no list of cases thinks of."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from bragg_numba import Beam, Crystal, Detector, Experiment, Rotation, Sampling, Simulator, StructureFactors
from bragg_numba.slopes.parameters import find_parameters

#: Steps of central differences, four times: a hundredth of a fringe and less, in the unit or relative to the value.
STEPS = {
    "crystal.cell[0]": (1e-3, False),
    "crystal.cell[3]": (1e-3, False),
    "crystal.cell[5]": (1e-3, False),
    "crystal.misset_deg[0]": (5e-4, False),
    "crystal.turn_deg[1]": (5e-4, False),
    "crystal.cell_counts[2]": (1e-3, False),
    "beam.wavelength_A": (1e-5, True),
    "beam.polarization": (1e-2, False),
    "beam.fluence_per_m2": (1e-2, True),
    "detector.distance_mm": (2e-5, True),
    "detector.beam_y_mm": (2e-4, False),
    "detector.rotation_deg[0]": (1e-3, False),
    "detector.twotheta_deg": (1e-3, False),
    "scale": (1e-2, False),
}


def between(low: float, high: float) -> st.SearchStrategy[float]:
    """Numbers of three digits or so: tiny ones, which hypothesis likes, say nothing here."""
    return st.integers(0, 997).map(lambda i: low + (high - low) * i / 997)


@st.composite
def experiments(draw) -> Experiment:
    """Frames of 8 x 7 pixels of anything that a pixel's loops go through."""
    edges = [draw(between(20, 120)) for _ in range(3)]
    angles = [draw(between(75, 105)) for _ in range(3)]
    layers = draw(st.integers(0, 2))
    sensor = {"thickness_um": 300.0, "attenuation_depth_um": draw(between(100, 900)), "thickness_steps": layers}
    mosaic = {"mosaic_spread_deg": draw(between(0.1, 2)), "mosaic_domains": 3} if draw(st.booleans()) else {}
    waves = draw(st.integers(1, 2))
    return Experiment(
        beam=Beam(
            wavelength_A=draw(between(0.5, 3)),
            polarization=draw(between(-0.9, 0.9)),
            fluence_per_m2=1e28,
            dispersion_percent=draw(between(0.1, 3)) if waves > 1 else 0.0,
            dispersion_steps=waves,
        ),
        crystal=Crystal(
            cell=(*edges, *angles),
            misset_deg=tuple(draw(between(-180, 180)) for _ in range(3)),
            cell_counts=tuple(draw(st.integers(5, 12)) for _ in range(3)),
            shape=draw(st.sampled_from(["square", "gauss"])),
            **mosaic,
        ),
        detector=Detector(
            n_fast=8,
            n_slow=7,
            pixel_mm=draw(between(0.05, 2)),
            distance_mm=draw(between(30, 300)),
            rotation_deg=tuple(draw(between(-20, 20)) for _ in range(3)),
            twotheta_deg=draw(between(-30, 30)),
            beam_x_mm=draw(between(-5, 5)),
            beam_y_mm=draw(between(-5, 5)),
            point_pixel=draw(st.booleans()),
            **(sensor if layers else {}),
        ),
        structure_factors=StructureFactors(default_F=100.0),
        rotation=Rotation(osc_deg=0.3, phi_steps=2) if draw(st.booleans()) else Rotation(),
        sampling=Sampling(oversample=draw(st.integers(1, 2))),
        fidelity=draw(st.sampled_from(["physical", "nanobragg"])),
    )


def check_slopes(experiment: Experiment) -> None:
    simulator = Simulator(experiment, backend="cpu", precision="float64", threads=1)
    names = list(STEPS)
    slopes = simulator.slopes(names)
    value, images = slopes.value_and_images()
    # Far from all peaks of a gauss crystal photons change by more than themselves within a step.
    assume(value.max() > 1.0)
    weights = np.random.default_rng(1).normal(size=value.shape)
    pulled = slopes.pull(weights)
    for name, image in zip(names, images, strict=True):
        step, relative = STEPS[name]
        here = find_parameters(simulator.experiment, name)[0].value
        step *= 0.25 * (abs(here) if relative else 1.0)

        def photons(offset: float, name=name, here=here) -> np.ndarray:
            return simulator.slopes("scale", at={name: here + offset}).image()

        wide, narrow = (photons(step) - photons(-step)) / (2 * step), (photons(step / 2) - photons(-step / 2)) / step
        expected = (4 * narrow - wide) / 3
        # 1e-6 of the largest slope, and what rounding leaves of photons over a step.
        allowed = 1e-6 * np.abs(expected).max() + 1e-12 * value.max() / step
        assert (np.abs(image - expected) <= allowed).all(), name
        # The sum is made of others, which cancel on a peak.
        rounding = 1e-10 * np.abs(weights * image).sum() + 1e-14 * np.abs(weights * value).sum() / step
        assert abs(pulled[name] - (weights * image).sum()) <= rounding, name


#: Differences are no slopes where a step carries a pixel over an edge: with five cells and more none is seen.
_CHECKS = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


@given(experiments())
@settings(max_examples=8, deadline=None, suppress_health_check=_CHECKS, derandomize=True, phases=[Phase.generate])
def test_slopes_of_random_experiments_are_central_differences(experiment):
    check_slopes(experiment)


@pytest.mark.slow
@given(experiments())
@settings(max_examples=200, deadline=None, suppress_health_check=_CHECKS, phases=[Phase.generate])
def test_slopes_of_two_hundred_random_experiments_are_central_differences(experiment):
    check_slopes(experiment)
