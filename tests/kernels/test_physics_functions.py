"""The scalar functions of kernels/physics.py against arithmetic of 40 digits."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from bragg_numba.kernels import physics

EPS = np.finfo(np.float64).eps


def _relative(value: float, truth) -> float:
    return float(abs((mpmath.mpf(value) - truth) / truth))


@pytest.fixture(autouse=True)
def forty_digits():
    with mpmath.workdps(40):
        yield


def test_sine_of_pi_x_keeps_two_units_in_the_last_place():
    for x in np.linspace(-0.5, 0.5, 2001):
        if x != 0.0:
            # One rounding for each of x^2, the last step of Horner's rule and the product: below 2 eps.
            assert _relative(physics.sin_pi(x), mpmath.sin(mpmath.pi * mpmath.mpf(x))) < 2 * EPS


def test_cosine_of_pi_x_is_absolutely_exact_to_a_few_eps():
    for x in np.linspace(-0.5, 0.5, 2001):
        assert abs(physics.cos_pi(x) - float(mpmath.cos(mpmath.pi * mpmath.mpf(x)))) < 1e-15


@pytest.mark.parametrize("n", [1, 2, 7, 10, 101, 5000])
def test_grating_is_the_squared_mean_of_n_unit_waves(n):
    rng = np.random.default_rng(n)
    for h in rng.uniform(-40, 40, 200):
        x = mpmath.mpf(h)
        truth = (mpmath.sin(n * mpmath.pi * x) / (n * mpmath.sin(mpmath.pi * x))) ** 2
        # n * delta carries one rounding, so that the phase errs by eps * n * |delta| <= eps * n / 2 cycles.
        slope = 2 * np.pi * np.sqrt(float(truth)) / (n * abs(np.sin(np.pi * h)))
        assert abs(physics.grating_squared(h, float(n)) - float(truth)) < slope * EPS * n / 2 + 8 * EPS * float(truth)


@pytest.mark.parametrize("h", [-3.0, 0.0, 1.0, 250.0])
def test_grating_is_one_at_every_whole_index(h):
    assert physics.grating_squared(h, 12.0) == 1.0


def test_sphere_agrees_with_its_closed_form_on_both_sides_of_the_series():
    scale = mpmath.mpf(physics.SPHERE_SCALE)
    for radius in [1e-9, 1e-3, 0.05, 0.0954, 0.0956, 0.1, 0.3, 0.7, 1.3, 4.4, 30.2]:
        x = mpmath.pi * mpmath.mpf(radius)
        truth = (scale * 3 * (mpmath.sin(x) / x - mpmath.cos(x)) / x**2) ** 2
        value = physics.sphere_squared(radius * radius)
        # Two terms of size 1 are subtracted and divided by x^2 / 3; x > 0.3 in the closed form.
        amplitude = abs(mpmath.sqrt(truth))
        bound = 2 * amplitude * 3 / min(max(float(x), 0.3) ** 2, 9.0) * 4 * EPS + 8 * EPS * truth
        assert abs(mpmath.mpf(value) - truth) < bound * (1 + radius)


def test_square_of_the_sphere_scale_is_the_volume_of_a_ball_in_its_cube():
    # Equal totals: the integral of the ball's squared transform over a period is 1 / its volume.
    assert pytest.approx(np.pi / 6, rel=1e-14) == physics.SPHERE_SCALE**2


def test_fraction_is_exact_and_lies_within_half_a_cycle():
    rng = np.random.default_rng(5)
    for h in rng.uniform(-1e6, 1e6, 500):
        left = physics.fraction(h)
        assert abs(left) <= 0.5
        assert h - left == np.rint(h)


@pytest.mark.parametrize(("h", "nearest"), [(0.5, 0.0), (-0.5, -1.0), (1.49, 1.0), (1.51, 2.0), (-3.0, -3.0)])
def test_nearest_index_rounds_halves_downwards(h, nearest):
    assert physics.nearest_index(h) == nearest


def test_cubic_through_four_points_reproduces_every_cubic():
    def cubic(t):
        return 2.0 - 3.0 * t + 0.5 * t * t + 4.0 * t**3

    for x in np.linspace(0, 1, 11):
        value = physics.lagrange4(x, cubic(-1.0), cubic(0.0), cubic(1.0), cubic(2.0))
        # Values reach 29 in size; four products and three sums round.
        assert abs(value - cubic(x)) < 8 * 29 * EPS


def test_capture_fractions_of_all_layers_sum_to_one_minus_the_transmission():
    thickness, depth, parallax = 450e-6, 300e-6, 0.83
    for n in (1, 2, 7, 50):
        total = sum(physics.capture_fraction(i, thickness / n, 1 / depth, parallax) for i in range(n))
        # The sum telescopes: one rounding of an exponential near 1 per layer.
        assert abs(total - (1 - np.exp(-thickness / depth / parallax))) < 2 * (n + 1) * EPS


def test_rotation_about_an_axis_keeps_lengths_and_the_axis():
    rng = np.random.default_rng(8)
    for _ in range(50):
        axis = rng.normal(size=3)
        axis /= np.linalg.norm(axis)
        v, angle = rng.normal(size=3), rng.uniform(-7, 7)
        turned = np.array(physics.rotate_about(*axis, *v, angle))
        assert abs(np.linalg.norm(turned) - np.linalg.norm(v)) < 16 * EPS * np.linalg.norm(v)
        assert abs(turned @ axis - v @ axis) < 16 * EPS * np.linalg.norm(v)


def test_rotation_about_z_by_a_quarter_turn_takes_x_to_y():
    assert physics.rotate_about(0.0, 0.0, 1.0, 1.0, 0.0, 0.0, np.pi / 2) == pytest.approx((0, 1, 0), abs=EPS)
