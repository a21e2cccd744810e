"""Sums over frames against NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from bragg_numba import Experiment, Simulator

LINE = "-cell 100 100 100 90 90 90 -default_F 100 -N 5 -pixel 0.7 -distance 60 -twotheta 20 -detpixels_x 131"
LINE += " -detpixels_y 9"
EPS = np.finfo(np.float64).eps


def _angles(geometry) -> np.ndarray:
    """Solid angle of every pixel, steradian: pixel area times close distance over r^3 (eq. 5)."""
    slow, fast = np.mgrid[: geometry.n_slow, : geometry.n_fast] * geometry.pitch_fast + geometry.half_fast
    position = [
        fast * getattr(geometry, f"fast_{axis}")
        + slow * getattr(geometry, f"slow_{axis}")
        + getattr(geometry, f"origin_{axis}")
        for axis in "xyz"
    ]
    r = np.sqrt(sum(x * x for x in position))
    if geometry.point_pixel:
        return 1.0 / r**2
    return geometry.pitch_fast * geometry.height * geometry.close_distance / r**3


@pytest.mark.parametrize("words", ["", "-oversample 3", "-point_pixel", "-roi 3 70 2 5", "-roi 64 127 0 8"])
def test_the_solid_angle_is_the_sum_over_rendered_pixels(words):
    simulator = Simulator(Experiment.from_nanobragg(f"{LINE} {words}"))
    fast_min, fast_max, slow_min, slow_max = simulator.plan.roi

    expected = _angles(simulator.plan.panels[0])[slow_min : slow_max + 1, fast_min : fast_max + 1].sum()

    # Ten operations a pixel, and sums of up to 131 * 9 positive terms in another order.
    assert simulator.solid_angle() == pytest.approx(expected, rel=1200 * EPS)


def test_masked_pixels_have_no_solid_angle():
    experiment = Experiment.from_nanobragg(LINE)
    mask = np.random.default_rng(1).random((9, 131)) < 0.5
    masked = experiment.replace(detector=experiment.detector.replace(mask=mask))
    simulator = Simulator(masked)

    expected = _angles(simulator.plan.panels[0])[mask].sum()

    assert simulator.solid_angle() == pytest.approx(expected, rel=1200 * EPS)
