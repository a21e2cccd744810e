"""The scalar functions of kernels/physics.py against arithmetic of 40 digits."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from bragg_numba.kernels import physics
from bragg_numba.kernels._jit import fused_kernel

EPS = np.finfo(np.float64).eps

#: Half a unit of a float32's last place, relative.
HALF_UNIT = 2.0**-24


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


def test_powers_of_two_keep_two_units_in_the_last_place():
    for x in [*np.linspace(-1021.9, 0.0, 997), -0.5, -1.0, -1021.0, -1e-300]:
        # The last step of Horner's rule and the product.
        assert _relative(physics.exp2(float(x)), mpmath.mpf(2) ** mpmath.mpf(float(x))) < 2 * EPS
    assert physics.exp2(0.0) == 1.0
    assert physics.exp2(-1023.0) == physics.exp2(-1e308) == 0.0


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
        turned = np.array(physics.rotate_by(*axis, *v, np.sin(angle), np.cos(angle)))
        assert abs(np.linalg.norm(turned) - np.linalg.norm(v)) < 16 * EPS * np.linalg.norm(v)
        assert abs(turned @ axis - v @ axis) < 16 * EPS * np.linalg.norm(v)


def test_rotation_about_z_by_a_quarter_turn_takes_x_to_y():
    assert physics.rotate_by(0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 0.0) == pytest.approx((0, 1, 0), abs=EPS)


# --- float32 twins -------------------------------------------------------------------------------


@pytest.mark.parametrize("slant", [0.0, 0.3, -0.7, 0.95])
def test_paces_along_the_detector_turn_the_direction_as_geometry_says(slant):
    """A step t e from the end of the unit vector c: e . c = slant."""
    for t in (1 / 32, 1e-2, 3.5e-3, 1e-5, -1e-3, -1 / 32):
        paces, pitch = np.float32(3.5), np.float32(t / 3.5)
        step, slope = mpmath.mpf(float(paces)) * mpmath.mpf(float(pitch)), mpmath.mpf(float(np.float32(slant)))
        shrunk = 1 / mpmath.sqrt(1 + 2 * slope * step + step**2)
        short = 1 - shrunk

        found_short, bend, twist = physics.offset_single(paces, pitch, np.float32(slant))

        # short is of first order, bend of second; each is made of terms of its own size.
        first = abs(float(slope * step)) + t * t
        assert abs(found_short - float(short)) < 4 * HALF_UNIT * first
        assert abs(bend - float(slope * step * shrunk - short)) < 8 * HALF_UNIT * t * t
        assert abs(twist + 3.5 * float(short)) < 4 * 3.5 * HALF_UNIT * first


def test_a_split_change_is_a_multiple_of_2_to_the_minus_12_and_a_rest():
    for change in np.random.default_rng(2).uniform(-20, 20, 200):
        coarse, rest = physics.split_change(change)
        assert coarse * 4096 == round(coarse * 4096)
        assert coarse + rest == change
        assert abs(rest) <= 2.0**-13


@pytest.mark.parametrize("n", [1, 7, 100, 1000, 4096])
def test_reduced_phases_of_n_cells_are_n_times_the_phase(n):
    rng = np.random.default_rng(n)
    for _ in range(300):
        coarse = np.float32(rng.integers(-9000, 9000) * 2.0**-12)
        fine = np.float32(rng.uniform(-(2.0**-10), 2.0**-10))
        h = float(coarse) + float(fine)

        whole, d, t = physics.reduced_pair(coarse, fine, np.float32(n))

        assert abs(h - whole - d) <= HALF_UNIT * 0.5
        error = n * (h - whole) - t
        # n * fine is rounded once here, where no multiply-add is fused.
        assert abs(error - round(error)) <= HALF_UNIT * (0.5 + 2 * n * abs(float(fine)))


def test_ratio_of_sines_is_the_square_of_three_gratings():
    rng = np.random.default_rng(4)
    for _ in range(300):
        d = rng.uniform(-0.5, 0.5, 3).astype(np.float32)
        t = rng.uniform(-0.5, 0.5, 3).astype(np.float32)
        exact = np.prod([mpmath.sin(mpmath.pi * mpmath.mpf(float(x))) for x in t])
        exact /= np.prod([mpmath.sin(mpmath.pi * mpmath.mpf(float(x))) for x in d])

        # Six polynomials of five roundings each, and their products; squared.
        assert _relative(physics.square_ratio_single(*t, *d), exact**2) < 2 * (6 * 4 + 6) * HALF_UNIT


@fused_kernel
def fused_radius(x_h, x_k, x_l, y_h, y_k, y_l):
    """What the square root leaves out is known only where a multiply-add is fused."""
    return physics.radius_single(x_h, x_k, x_l, y_h, y_k, y_l)


@pytest.mark.parametrize("counts", [(1, 2, 3), (20, 5, 12), (500, 480, 500)])
def test_radius_of_a_round_crystal_keeps_its_fraction(counts):
    rng = np.random.default_rng(sum(counts))
    for _ in range(300):
        coarse = (rng.integers(-2048, 2048, 3) * 2.0**-12).astype(np.float32)
        fine = rng.uniform(-(2.0**-11), 2.0**-11, 3).astype(np.float32)
        parts = []
        for c, f, n in zip(coarse, fine, counts, strict=True):
            whole, d = physics.reduced_single(c, f)
            parts.append(physics.eighths_of_fringes(c, np.float32(whole), f, np.float32(d), np.float32(n)))
        true = [float(c) + float(f) for c, f in zip(coarse, fine, strict=True)]
        fringes = [n * (h - round(h)) for h, n in zip(true, counts, strict=True)]
        radius = float(np.sqrt(sum(x * x for x in fringes)))

        r, phase = fused_radius(*(np.float32(p[0]) for p in parts), *(np.float32(p[1]) for p in parts))

        assert abs(r - radius) <= 2 * HALF_UNIT * radius + HALF_UNIT
        error = phase - radius
        # Rests of up to 1/16 are rounded, and n * fine where no multiply-add is fused.
        assert abs(error - round(error)) < HALF_UNIT * (4 + 2 * max(counts) * 2.0**-11)


def test_sphere_of_radius_and_fraction_agrees_with_the_exact_one():
    for radius in [1e-3, 0.2, 0.31, 0.33, 1.3, 4.4, 30.2, 200.7]:
        r = np.float32(radius)
        value = physics.sphere_single(r, np.float32(float(r) - round(float(r))))
        truth = physics.sphere_squared(float(r) ** 2)
        # (sin x / x - cos x) and its products round a few times; near a zero the amplitude counts.
        amplitude = physics.SPHERE_SCALE * 3 / max(1.0, (np.pi * radius) ** 2)
        assert abs(value - truth) < 16 * HALF_UNIT * (truth + amplitude * np.sqrt(truth) + HALF_UNIT * amplitude**2)


def test_an_unpolarized_beam_has_the_polarization_factor_of_no_polarization():
    for cosine in (1.0, 0.3, -0.2):
        sine = np.sqrt(1 - cosine**2)
        whole = physics.polarization_factor(0.0, 0.0, 0.0, 1.0, sine, 0.0, cosine, 1.0, 0.0, 0.0)
        assert physics.unpolarized_factor(cosine) == pytest.approx(whole, rel=4 * EPS)
