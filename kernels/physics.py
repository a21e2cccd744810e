"""The equations, each written once as a scalar function that every kernel inlines.

Metres, radians and photons throughout. Equation numbers point to docs/physics.md.
"""

import math

import numpy as np
from bragg_numba.kernels._jit import device_function

#: Square of the classical electron radius, m^2 (Thomson; the value that nanoBragg uses).
R_E_SQUARED = 7.94079248018965e-30

#: Adding and subtracting 1.5 * 2^52 rounds a float64 to the nearest integer (ties to even).
ROUND_64 = 6755399441055744.0

#: The same for multiples of 2^-12.
ROUND_12 = ROUND_64 / 4096.0

#: Turns that are added to a phase before it is split. Where a row of pixels, say, lies on a plane of reflections, a
#: phase is 0 but for rounding; the product of three sines beside a peak would then be no normal float32.
NUDGE = 2.0**-40

LOG2E = 1.0 / math.log(2.0)

#: Thinnest sensor layer, in attenuation depths, whose captured fraction is made in float32 (2^-24 / 0.05 = 1.2e-6).
THIN_LAYER = 0.05

#: sqrt of the volume ratio that makes a sphere scatter as much as its cube (nanoBragg's constant).
SPHERE_SCALE = 0.723601254558268


# --- geometry -----------------------------------------------------------------------------------


@device_function
def rotate_by(axis_x, axis_y, axis_z, x, y, z, sine, cosine):
    """Rotate (x, y, z) about a unit axis, right-handed, by the angle of a sine and cosine (Rodrigues; eq. 1)."""
    along = (axis_x * x + axis_y * y + axis_z * z) * (1.0 - cosine)
    rotated_x = axis_x * along + x * cosine + (-axis_z * y + axis_y * z) * sine
    rotated_y = axis_y * along + y * cosine + (axis_z * x - axis_x * z) * sine
    rotated_z = axis_z * along + z * cosine + (-axis_y * x + axis_x * y) * sine
    return rotated_x, rotated_y, rotated_z


@device_function
def unit_cross(a_x, a_y, a_z, b_x, b_y, b_z):
    """Unit vector along a x b."""
    x = a_y * b_z - a_z * b_y
    y = a_z * b_x - a_x * b_z
    z = a_x * b_y - a_y * b_x
    length = math.sqrt(x * x + y * y + z * z)
    return x / length, y / length, z / length


@device_function
def flat_position(panel, fast, slow, depth):
    """Place a point of the flat detector in the lab, metres (eq. 2); ``depth`` lies along the normal."""
    g = panel
    x = fast * g.fast_x + slow * g.slow_x + depth * g.normal_x + g.origin_x
    y = fast * g.fast_y + slow * g.slow_y + depth * g.normal_y + g.origin_y
    z = fast * g.fast_z + slow * g.slow_z + depth * g.normal_z + g.origin_z
    return x, y, z


@device_function
def arcs_of_curve(panel, fast, slow):
    """Angles by which a point of the curved detector lies along fast and slow from where the direct beam hits (eq. 3).

    Arc length over radius; the signs are those of the rotations about the slow and the fast axis.
    """
    g = panel
    along_fast = (fast - g.beam_fast) / g.curve_radius
    along_slow = (slow - g.beam_slow) / g.curve_radius
    return g.curve_fast_sign * along_fast, g.curve_slow_sign * along_slow


@device_function
def position_on_arcs(panel, depth, sine_fast, cosine_fast, sine_slow, cosine_slow):
    """Place a point of the curved detector in the lab, metres, from sines and cosines of arcs_of_curve (eq. 3).

    The point where the direct beam hits stays; an offset along fast becomes a rotation about the slow
    axis and an offset along slow one about the fast axis.
    """
    g = panel
    radius = g.curve_radius + depth
    x, y, z = radius * g.beam_x, radius * g.beam_y, radius * g.beam_z
    x, y, z = rotate_by(g.slow_x, g.slow_y, g.slow_z, x, y, z, sine_fast, cosine_fast)
    return rotate_by(g.fast_x, g.fast_y, g.fast_z, x, y, z, sine_slow, cosine_slow)


@device_function
def sine_and_cosine(angle):
    """sin and cos of an angle; on a GPU sine_and_cosine_of_turns stands in for it."""
    return math.sin(angle), math.cos(angle)


@device_function
def curved_position(panel, fast, slow, depth):
    """Place a point of the curved detector in the lab, metres (eq. 3)."""
    by_fast, by_slow = arcs_of_curve(panel, fast, slow)
    sine_fast, cosine_fast = sine_and_cosine(by_fast)
    sine_slow, cosine_slow = sine_and_cosine(by_slow)
    return position_on_arcs(panel, depth, sine_fast, cosine_fast, sine_slow, cosine_slow)


@device_function
def position_on_lab_arcs(panel, fast, slow, depth):
    """Place a point of the curved detector as nonBragg does: lab y and z of the flat one are arcs about slow and fast.

    That mirrors the detector at its diagonal, which nobody sees but where the beam is polarized or the detector turned.
    """
    g = panel
    _, y, z = flat_position(g, fast, slow, depth)
    sine_fast, cosine_fast = sine_and_cosine(y / g.curve_radius)
    sine_slow, cosine_slow = sine_and_cosine(z / g.curve_radius)
    return position_on_arcs(g, 0.0, sine_fast, cosine_fast, sine_slow, cosine_slow)


@device_function
def pixel_position(curved, panel, fast, slow, depth):
    """Place a point of the detector, flat or curved, in the lab (metres)."""
    if curved:
        return curved_position(panel, fast, slow, depth)
    return flat_position(panel, fast, slow, depth)


@device_function
def solid_angle(airpath, pitch, height, close_distance, point_pixel):
    """Solid angle of a pixel, steradian (eq. 5): area (pitch times height) times obliquity over distance squared."""
    if point_pixel:
        return 1.0 / airpath / airpath
    return pitch * height / airpath / airpath * close_distance / airpath


@device_function
def capture_fraction(layer, layer_step, attenuation, parallax):
    """Fraction of the photons that one sensor layer absorbs (eq. 6); parallax is cos of incidence."""
    front = math.exp(-layer * layer_step * attenuation / parallax)
    back = math.exp(-(layer + 1) * layer_step * attenuation / parallax)
    return front - back


# --- scattering ---------------------------------------------------------------------------------


@device_function
def scattering_vector(d_x, d_y, d_z, i_x, i_y, i_z, wavelength):
    """Scattering vector q = (d - i) / wavelength, 1/m (eq. 4); d and i are unit vectors."""
    return (d_x - i_x) / wavelength, (d_y - i_y) / wavelength, (d_z - i_z) / wavelength


@device_function
def is_beyond_dmin(q_x, q_y, q_z, dmin):
    """Tell whether a scattering vector lies at higher resolution than ``dmin`` metres (eq. 7)."""
    sin_theta_over_lambda = 0.5 * math.sqrt(q_x * q_x + q_y * q_y + q_z * q_z)
    return dmin > 0.0 and sin_theta_over_lambda > 0.0 and dmin > 0.5 / sin_theta_over_lambda


@device_function
def polarization_factor(kahn, i_x, i_y, i_z, d_x, d_y, d_z, axis_x, axis_y, axis_z):
    """Polarization factor (Kahn et al. 1982; eq. 8).

    cos(2 psi) of the diffracted ray in the plane of E and B is (E^2 - B^2) / (E^2 + B^2).
    """
    real = type(d_x)
    one, half = real(1.0), real(0.5)
    cos_2theta = i_x * d_x + i_y * d_y + i_z * d_z
    cos_squared = cos_2theta * cos_2theta
    b_x = axis_y * i_z - axis_z * i_y
    b_y = axis_z * i_x - axis_x * i_z
    b_z = axis_x * i_y - axis_y * i_x
    # |B| cancels from the ratio if E is built from the same B: E = i x B has the same length.
    e_x = i_y * b_z - i_z * b_y
    e_y = i_z * b_x - i_x * b_z
    e_z = i_x * b_y - i_y * b_x
    along_b = d_x * b_x + d_y * b_y + d_z * b_z
    along_e = d_x * e_x + d_y * e_y + d_z * e_z
    squares = along_e * along_e + along_b * along_b
    nowhere = squares == real(0.0)  # along the beam the angle does not matter
    cos_2psi = (along_e * along_e - along_b * along_b) / (one if nowhere else squares)
    cos_2psi = one if nowhere else cos_2psi
    return half * (one + cos_squared - kahn * cos_2psi * (one - cos_squared))


@device_function
def polarization_of_parts(kahn, along_beam, along_e, along_b):
    """polarization_factor from the ray's parts along the orthonormal beam, E and B, for any real type (eq. 8).

    E^2 + B^2 is sin^2(2 theta), so that no division is left.
    """
    real = type(along_beam)
    turned = along_e * along_e - along_b * along_b
    return real(0.5) * (real(1.0) + along_beam * along_beam - kahn * turned)


@device_function
def unpolarized_factor(cos_2theta):
    """polarization_factor of a beam that is not polarized, for any real type (eq. 8)."""
    real = type(cos_2theta)
    return real(0.5) * cos_2theta * cos_2theta + real(0.5)


@device_function
def cubic(rows, place, x):
    """The cubic of a row of parameters.Scattering at x (eq. 44): coefficients of powers of x - row[4], lowest first."""
    t = x - rows[place, 4]
    return ((rows[place, 3] * t + rows[place, 2]) * t + rows[place, 1]) * t + rows[place, 0]


@device_function
def liquid_motion(square, near, correlation, displacement):
    """Diffuse scattering of F = 1 around its reflection, m^3 (eq. 45): W e^-W times a peak whose integral is 1.

    ``square`` is the reflection's |h|^2 and ``near`` the squared distance from it, both 1/m^2.
    """
    exponent = 4.0 * math.pi * math.pi * displacement * displacement * square
    width = 1.0 + 4.0 * math.pi * math.pi * correlation * correlation * near
    volume = 8.0 * math.pi * correlation * correlation * correlation
    return exponent * math.exp(-exponent) * volume / (width * width)


@device_function
def nearest_index(h):
    """Nearest whole Miller index as a float, halves downwards: ceil(h - 1/2) as in nanoBragg (eq. 10)."""
    return math.ceil(h - 0.5)


# --- lattice transforms -------------------------------------------------------------------------
#
# Each returns the square of the lattice factor divided by its largest value, (Na Nb Nc)^2, so that
# float32 sums cannot overflow; the plan carries the scale.


@device_function
def sin_pi(x):
    """sin(pi x) for abs(x) <= 1/2 in float64: odd polynomial, relative error below 1.5e-16 (eq. 12).

    No range reduction and no branch, so that a loop over pixels vectorises. The coefficients are the
    minimax ones of sin(pi sqrt(u)) / sqrt(u) on [0, 1/4]; a test compares them with mpmath.
    """
    u = x * x
    p = -0.000021122952927771243582
    p = p * u + 0.00046597761697805214953
    p = p * u - 0.0073703610716681788881
    p = p * u + 0.082145878256550089741
    p = p * u - 0.59926452877570948715
    p = p * u + 2.5501640398597762522
    p = p * u - 5.1677127800497525666
    p = p * u + 3.1415926535897927919
    return p * x


@device_function
def cos_pi(x):
    """cos(pi x) for abs(x) <= 1/2 in float64, absolute error below 1e-15 (eq. 12)."""
    # cos(pi x) = 1 - 2 sin^2(pi x / 2): no second table of coefficients.
    half = sin_pi(0.5 * x)
    return 1.0 - 2.0 * half * half


@device_function
def sine_and_cosine_of_turns(angle):
    """sin and cos of an angle, float64: no table of 2 / pi, no stack, as math.sin and math.cos would need on a GPU."""
    turns = angle * (1.0 / math.pi)
    half_turns = np.rint(turns)
    odd = half_turns - 2.0 * np.rint(0.5 * half_turns)
    sign = 1.0 - 2.0 * odd * odd
    return sign * sin_pi(turns - half_turns), sign * cos_pi(turns - half_turns)


@device_function
def fraction(x):
    """x minus its nearest integer, float64, in [-1/2, 1/2] (eq. 11)."""
    return x - ((x + ROUND_64) - ROUND_64)


@device_function
def grating_squared(h, n):
    """Interference of n equal cells in a row, [sin(pi n h) / (n sin(pi h))]^2 (eq. 13); 1 at peaks.

    The function has period 1 up to a sign that the square drops, so that h is reduced first: this is
    exact and keeps the argument of the sine small.
    """
    delta = fraction(h)
    denominator = n * sin_pi(delta)
    numerator = sin_pi(fraction(n * delta))
    # Selects instead of branches, so that loops over pixels vectorise.
    at_peak = denominator == 0.0
    ratio = numerator / (1.0 if at_peak else denominator)
    return 1.0 if at_peak else ratio * ratio


@device_function
def quadratic_form(lattice, d_h, d_k, d_l):
    """Squared distance from the nearest reciprocal lattice point in the metric of the plan (eq. 14)."""
    q = lattice
    return (
        q.metric_hh * d_h * d_h
        + q.metric_kk * d_k * d_k
        + q.metric_ll * d_l * d_l
        + q.metric_hk * d_h * d_k
        + q.metric_hl * d_h * d_l
        + q.metric_kl * d_k * d_l
    )


@device_function
def sphere_squared(radius_squared):
    """Lattice factor of an ellipsoidal crystal, [SPHERE_SCALE * 3 (sin x / x - cos x) / x^2]^2 (eq. 15).

    x = pi sqrt(radius_squared). Below x = 0.3 the series is used: the difference cancels there.
    """
    r = math.sqrt(radius_squared)
    x = math.pi * r
    u = x * x
    series = 1.0 - u * (1.0 / 10.0 - u * (1.0 / 280.0 - u * (1.0 / 15120.0 - u / 1330560.0)))
    phase = fraction(r)
    safe = x if u > 0.09 else 1.0
    # Reducing r by a whole number flips the sign of both terms: the square does not see it.
    closed = 3.0 * (sin_pi(phase) / safe - cos_pi(phase)) / (safe * safe)
    value = closed if u > 0.09 else series
    return SPHERE_SCALE * value * SPHERE_SCALE * value


@device_function
def exp2(x):
    """2^x for x <= 0 in float64, relative error below 3e-16; 0 below 2^-1022 (eq. 12).

    As sin_pi without a branch, so that a loop over pixels vectorises: libm's exp took ten times as long.
    """
    x = max(x, -1023.0)
    shifted = x + ROUND_64
    f = x - (shifted - ROUND_64)
    p = 4.455817908336064493e-10
    p = p * f + 7.0741942972885210056e-9
    p = p * f + 1.0178057087733941105e-7
    p = p * f + 1.3215432535912376166e-6
    p = p * f + 0.000015252733841556772589
    p = p * f + 0.00015403530463724354209
    p = p * f + 0.0013333558146406470697
    p = p * f + 0.0096181291075872566681
    p = p * f + 0.055504108664821627039
    p = p * f + 0.24022650695910159567
    p = p * f + 0.69314718055994530925
    p = p * f + 0.99999999999999999693
    # The low bits of the shifted number are its whole part; the exponent's bits of 2^whole are that and 1023.
    power = np.int64((np.float64(shifted).view(np.int64) + np.int64(1023)) << np.int64(52)).view(np.float64)
    return p * power


@device_function
def gauss_squared(radius_squared):
    """Lattice factor of Gaussian spots, exp(-radius_squared / 0.63)^2 (eq. 16)."""
    return exp2(LOG2E * (-2.0 * (radius_squared / 0.63)))


@device_function
def tophat_squared(radius_squared):
    """Lattice factor of top-hat spots: 1 within the square crystal's half width, else 0 (eq. 17)."""
    return 1.0 if radius_squared < 0.3969 else 0.0


@device_function
def lagrange4(x, y0, y1, y2, y3):
    """Cubic through the values at -1, 0, 1, 2, taken at x in [0, 1] (eq. 18)."""
    w0 = -x * (x - 1.0) * (x - 2.0) / 6.0
    w1 = (x + 1.0) * (x - 1.0) * (x - 2.0) / 2.0
    w2 = -(x + 1.0) * x * (x - 2.0) / 2.0
    w3 = (x + 1.0) * x * (x - 1.0) / 6.0
    return w0 * y0 + w1 * y1 + w2 * y2 + w3 * y3


# --- slopes of lattice transforms ----------------------------------------------------------------
#
# Of the lattice factor over its largest value, for any real type: phases come from float64, the rest may be float32.


@device_function
def sine_parts(x):
    """The p and dp/du of sin(pi x) = x p(u), u = x^2, for abs(x) <= 1/2 in float64 (eq. 12, 56)."""
    u = x * x
    p = -0.000021122952927771243582
    q = p
    p = p * u + 0.00046597761697805214953
    q = q * u + p
    p = p * u - 0.0073703610716681788881
    q = q * u + p
    p = p * u + 0.082145878256550089741
    q = q * u + p
    p = p * u - 0.59926452877570948715
    q = q * u + p
    p = p * u + 2.5501640398597762522
    q = q * u + p
    p = p * u - 5.1677127800497525666
    q = q * u + p
    return p * u + 3.1415926535897927919, q


@device_function
def grating_slope(d, t, n, p_d, q_d, p_t, q_t):
    """What a grating's amplitude and its slopes are made of, without a division (eq. 56, 57).

    d is h less its nearest whole number, t is n d less its own; p and q are their sine_parts. Returns (below, above,
    rise, more): the amplitude over n is above / below, its change with h is rise / below^2, and its amplitude's change
    with n, over n, is more / below. Near a peak, where t is n d, nothing is divided by d.
    """
    real = type(d)
    one, two = real(1.0), real(2.0)
    waves = np.rint(n * d - t)
    near = waves == real(0.0)
    bend = n * t * q_t * p_d - d * q_d * p_t
    along = n * d
    below = p_d if near else along * p_d
    above = p_t if near else t * p_t
    rise = two * bend if near else n * (waves * p_t * p_d + two * t * d * bend)
    more = (p_t + two * t * t * q_t) * (one / n if near else d)
    return below, above, rise, more


@device_function
def square_slopes(h, k, l):  # noqa: E741
    """Lattice factor of a square crystal, its slopes in h, k, l and in the cell counts (eq. 56, 57).

    h, k, l are the grating_slope of each axis. One division serves all.
    """
    b_h, a_h, r_h, m_h = h
    b_k, a_k, r_k, m_k = k
    b_l, a_l, r_l, m_l = l
    real = type(b_h)
    kl = b_k * b_l
    per = real(1.0) / (b_h * kl)
    i_h, i_k, i_l = per * kl, per * b_h * b_l, per * b_h * b_k
    f_h, f_k, f_l = a_h * i_h, a_k * i_k, a_l * i_l
    s_h, s_k, s_l = f_h * f_h, f_k * f_k, f_l * f_l
    w_h, w_k, w_l = s_k * s_l, s_h * s_l, s_h * s_k
    w_h, w_k, w_l = (w_h + w_h) * f_h * i_h, (w_k + w_k) * f_k * i_k, (w_l + w_l) * f_l * i_l
    return (
        s_h * s_k * s_l,
        w_h * i_h * r_h,
        w_k * i_k * r_k,
        w_l * i_l * r_l,
        w_h * m_h,
        w_k * m_k,
        w_l * m_l,
    )


@device_function
def gauss_slope(radius_squared):
    """gauss_squared, and its change with the squared radius (eq. 58)."""
    value = gauss_squared(radius_squared)
    return value, (-2.0 / 0.63) * value


@device_function
def sphere_slope(radius_squared):
    """sphere_squared, and its change with the squared radius (eq. 59)."""
    r = math.sqrt(radius_squared)
    x = math.pi * r
    u = x * x
    series = 1.0 - u * (1.0 / 10.0 - u * (1.0 / 280.0 - u * (1.0 / 15120.0 - u / 1330560.0)))
    bend = -1.0 / 5.0 + u * (1.0 / 70.0 - u * (1.0 / 2520.0 - u * (1.0 / 166320.0 - u / 17297280.0)))
    phase = fraction(r)
    safe = x if u > 0.09 else 1.0
    wave = sin_pi(phase) / safe
    closed = 3.0 * (wave - cos_pi(phase)) / (safe * safe)
    bent = 3.0 * (wave - closed) / (safe * safe)
    value = SPHERE_SCALE * (closed if u > 0.09 else series)
    change = SPHERE_SCALE * (bent if u > 0.09 else bend)
    return value * value, math.pi * math.pi * value * change


@device_function
def capture_slope(layer, depth):
    """The captured fraction of a layer ``depth`` attenuation depths thick along the ray, and its slope (eq. 6, 63)."""
    front, back = math.exp(-layer * depth), math.exp(-(layer + 1) * depth)
    return front - back, (layer + 1) * back - layer * front


# --- float32 twins, for the tile kernels ---------------------------------------------------------
#
# The same equations on a phase that is already small. Constants are float32, so that nothing is widened.

_SIN = (
    3.1415926368954115438,
    -5.167709684799476654,
    2.5500697263299960901,
    -0.5982421263420936507,
    0.077560386790797222249,
)
_SIN_0, _SIN_1, _SIN_2, _SIN_3, _SIN_4 = (np.float32(c) for c in _SIN)
#: The same over the last coefficient.
_MONIC_0, _MONIC_1, _MONIC_2, _MONIC_3 = (np.float32(c / _SIN[4]) for c in _SIN[:4])
#: ((1 + g)^(-1/2) - 1 + g/2) / g^2 for abs(g) <= 1/15.5, within 1.6e-8: Chebyshev interpolation.
_CURVE_0, _CURVE_1, _CURVE_2, _CURVE_3, _CURVE_4 = (
    np.float32(c) for c in (0.375, -0.31249886065774827, 0.27343643180092, -0.24718764899876334, 0.22661151831625097)
)
_ONE, _TWO, _THREE, _HALF = (np.float32(c) for c in (1.0, 2.0, 3.0, 0.5))
_PI = np.float32(math.pi)
#: A phase below which a pixel counts as this far from a peak: the product of three is a normal float32.
_ON_PEAK = np.float32(2.0**-36)
_SPHERE = np.float32(SPHERE_SCALE)
_SERIES_1, _SERIES_2, _SERIES_3, _SERIES_4 = (
    np.float32(c) for c in (1.0 / 10.0, 1.0 / 280.0, 1.0 / 15120.0, 1.0 / 1330560.0)
)
_BEND_0, _BEND_1, _BEND_2, _BEND_3, _BEND_4 = (
    np.float32(c) for c in (-1.0 / 5.0, 1.0 / 70.0, 1.0 / 2520.0, 1.0 / 166320.0, 1.0 / 17297280.0)
)
_GAUSS_SLOPE = np.float32(-2.0 / 0.63)
_TINY = np.float32(1e-30)
#: Adding and subtracting 1.5 * 2^23 / 8 rounds a float32 to the nearest multiple of 1/8.
_TO_EIGHTHS = np.float32(1572864.0)
_TOPHAT = np.float32(0.3969)
_TOPHAT_DOUBT = np.float32(2e-4)
_NAN = np.float32(np.nan)
_LOG2E = np.float32(LOG2E)
_LOG2E_063 = np.float32(-2.0 / 0.63 / math.log(2.0))
_EXP_LOWEST = np.float32(-127.0)
_EXP2 = tuple(np.float32(math.log(2.0) ** n / math.factorial(n)) for n in range(7))
_EXP2_0, _EXP2_1, _EXP2_2, _EXP2_3, _EXP2_4, _EXP2_5, _EXP2_6 = _EXP2


@device_function
def sin_pi_single(x):
    """sin(pi x) for abs(x) <= 1/2 in float32; the polynomial's own error is 5e-9 (eq. 12)."""
    u = x * x
    p = _SIN_4 * u + _SIN_3
    p = p * u + _SIN_2
    p = p * u + _SIN_1
    p = p * u + _SIN_0
    return p * x


@device_function
def _sin_pi_monic(x):
    """sin_pi_single over its last coefficient, for ratios of sines: what would be the first product is a sum."""
    u = x * x
    p = u + _MONIC_3
    p = p * u + _MONIC_2
    p = p * u + _MONIC_1
    p = p * u + _MONIC_0
    return p * x


@device_function
def offset_single(paces, pitch, slant):
    """Turn some paces along a detector's axis e into a change of direction, without cancellation, float32 (eq. 23).

    ``pitch`` is a pace over the distance of the point with direction c that they start from, abs(paces * pitch) <=
    1/32, and ``slant`` the cosine between e and c. Returns (short, bend, twist): the new direction is

        (1 + bend) c + (paces + twist) pitch (e - slant c) = (1 - short) c + (paces + twist) pitch e
    """
    t = paces * pitch
    first = slant * t
    square = t * t
    growth = square + (first + first)
    p = _CURVE_4 * growth + _CURVE_3
    p = p * growth + _CURVE_2
    p = p * growth + _CURVE_1
    p = p * growth + _CURVE_0
    second = (growth * growth) * p - _HALF * square
    short = first - second
    return short, second - first * short, -(paces * short)


@device_function
def split_phase(h):
    """Split a phase h (turns) for float32: nearest whole, coarse and fine part; h is their sum (eq. 32).

    The coarse part is a multiple of 2^-12 up to a half, so that it and n times it, n up to 4096, are exact in
    float32; the fine part is small, so that its 24 bits reach 2^-37. What a pixel adds to the fine part then
    enters h and n h alike, and their ratio stays true at a peak.
    """
    whole = np.rint(h)
    fraction_of_h = h - whole
    coarse = (fraction_of_h + ROUND_12) - ROUND_12
    return whole, coarse, fraction_of_h - coarse


@device_function
def split_change(change):
    """Split a phase's change per pixel (turns): a multiple of 2^-12 that float32 holds exactly, and the rest."""
    coarse = (change + ROUND_12) - ROUND_12
    return coarse, change - coarse


@device_function
def fraction_single(x):
    """x minus its nearest integer, float32 (eq. 11)."""
    return x - np.rint(x)


@device_function
def reduced_single(coarse, fine):
    """Nearest whole number of h, and h less that number, from the parts of h (eq. 32).

    The whole number is taken off the coarse part, where that is exact, before the fine part is added.
    """
    whole = np.rint(coarse + fine)
    return whole, (coarse - whole) + fine


@device_function
def turns_single(turns, n, same_n, fine):
    """n h less its nearest whole number, from the coarse part's turns and the fine part of h (eq. 32).

    The whole number is taken off before the last multiply-add, which must be a fused one: the result then
    has its own 24 bits, and near a peak it stays n times the phase that the denominator sees. ``same_n``
    equals ``n``; a compiler that knew it would share the product, and a shared product is not fused.
    """
    whole = np.rint(turns + n * fine)
    return (turns - whole) + same_n * fine


@device_function
def reduced_pair(coarse, fine, n):
    """Nearest whole number of a pixel's phase h, and h and n h, both less their nearest whole number (eq. 33).

    n times the coarse part, a multiple of 2^-13 up to a half, is exact up to n = 4096; the last multiply-add
    must be a fused one.
    """
    whole = np.rint(coarse + fine)
    left = coarse - whole
    d = left + fine
    return whole, d, n * fine + (n * left - np.rint(n * d))


@device_function
def square_ratio_single(t_h, t_k, t_l, d_h, d_k, d_l):
    """Product of the three gratings' squares, not normalised (eq. 13).

    t are the phases n h in turns, d the phases h, both less their nearest whole number. One division
    serves the three axes. Exactly at a peak the result is 0/0, NaN: the caller renders what is so marked in
    float64. NUDGE keeps the product of the sines from underflow beside a peak.
    """
    top = _sin_pi_monic(t_h) * _sin_pi_monic(t_k) * _sin_pi_monic(t_l)
    bottom = _sin_pi_monic(d_h) * _sin_pi_monic(d_k) * _sin_pi_monic(d_l)
    ratio = top / bottom
    return ratio * ratio


@device_function
def quadratic_form_single(metric, d_h, d_k, d_l):
    """quadratic_form on a tuple of six float32: hh, kk, ll, hk, hl, kl (eq. 14)."""
    hh, kk, ll, hk, hl, kl = metric
    return d_h * (hh * d_h + hk * d_k + hl * d_l) + d_k * (kk * d_k + kl * d_l) + ll * d_l * d_l


@device_function
def eighths_of_fringes(coarse, whole, fine, d, n):
    """n h, less n times a whole number, as a multiple of 1/8 that float32 holds exactly, and the rest (eq. 34).

    ``coarse``, ``fine``, ``whole`` and d are those of reduced_single.
    """
    eighths = (n * d + _TO_EIGHTHS) - _TO_EIGHTHS
    return eighths, n * fine + (n * (coarse - whole) - eighths)


@device_function
def radius_single(x_h, x_k, x_l, y_h, y_k, y_l):
    """Radius in fringes, and less its nearest whole number, from eighths_of_fringes of h, k, l (eq. 34).

    Up to 500 cells along an axis the sum of the eighths' squares is exact. What the square root leaves out of the
    squared radius is added to the fraction: float32 holds the radius itself to 2^-24 only.
    """
    high = x_h * x_h + x_k * x_k + x_l * x_l
    low = y_h * (x_h + x_h + y_h) + y_k * (x_k + x_k + y_k) + y_l * (x_l + x_l + y_l)
    square = high + low
    r = np.sqrt(square)
    left_out = (square - r * r) + ((high - square) + low)
    return r, fraction_single(r) + _HALF * left_out / (r + _TINY)


@device_function
def sphere_single(r, phase):
    """sphere_squared in float32 (eq. 15) from radius_single; the series serves up to x = 1."""
    x = _PI * r
    u = x * x
    series = _ONE - u * (_SERIES_1 - u * (_SERIES_2 - u * (_SERIES_3 - u * _SERIES_4)))
    half = sin_pi_single(_HALF * phase)
    safe = x + _TINY
    closed = _THREE * (sin_pi_single(phase) / safe - (_ONE - _TWO * half * half)) / (safe * safe)
    value = _SPHERE * (closed if u > _ONE else series)
    return value * value


@device_function
def exp2_single(x):
    """2^x for x <= 0 in float32, relative error 2e-7; 0 below 2^-126."""
    x = max(x, _EXP_LOWEST)
    whole = np.rint(x)
    f = x - whole
    p = _EXP2_6 * f + _EXP2_5
    p = p * f + _EXP2_4
    p = p * f + _EXP2_3
    p = p * f + _EXP2_2
    p = p * f + _EXP2_1
    p = p * f + _EXP2_0
    # The exponent's bits of a float32 are a whole number: build 2^whole from them; no bits are 0.
    power = np.int32((np.int32(whole) + np.int32(127)) << np.int32(23)).view(np.float32)
    return p * power


@device_function
def capture_single(layer, layer_depth, parallax):
    """capture_fraction in float32 (eq. 6); ``layer_depth`` is the layer's thickness over the attenuation depth.

    The difference of the two exponentials is 2^-front (1 - 2^-layer): relative error 2^-24 / layer_depth.
    """
    along = _LOG2E * layer_depth / parallax
    return exp2_single(-layer * along) * (_ONE - exp2_single(-along))


@device_function
def gauss_single(radius_squared):
    """gauss_squared in float32 (eq. 16)."""
    return exp2_single(_LOG2E_063 * radius_squared)


@device_function
def tophat_single(radius_squared):
    """tophat_squared in float32 (eq. 17); NaN where float32 cannot tell the side, for a float64 pass."""
    value = _ONE if radius_squared < _TOPHAT else _ONE - _ONE
    return _NAN if abs(radius_squared - _TOPHAT) < _TOPHAT_DOUBT else value


@device_function
def sine_parts_single(x):
    """sine_parts in float32 (eq. 12, 56)."""
    u = x * x
    p = _SIN_4
    q = p
    p = p * u + _SIN_3
    q = q * u + p
    p = p * u + _SIN_2
    q = q * u + p
    p = p * u + _SIN_1
    q = q * u + p
    return p * u + _SIN_0, q


@device_function
def sine_parts_monic(x):
    """p over its last coefficient, and 2 u dp/du over it: what would be the first products are sums (eq. 12, 56)."""
    u = x * x
    p = u + _MONIC_3
    q = u + p
    p = p * u + _MONIC_2
    q = q * u + p
    p = p * u + _MONIC_1
    q = q * u + p
    return p * u + _MONIC_0, (u + u) * q


@device_function
def square_slopes_single(d, t, waves, counts, square):
    """Lattice factor of a square crystal times ``square``; its slopes in h, k, l and in the cell counts (eq. 56, 57).

    d, t and ``waves``, which is n d - t, are float32, three of each. Not normalised: n^2 on a peak of n cells.
    """
    (d_h, d_k, d_l), (t_h, t_k, t_l), (m_h, m_k, m_l), (n_h, n_k, n_l) = d, t, waves, counts
    # So near to a peak d is as good as 0: it is kept from that, for all is divided by it.
    on_h, on_k, on_l = abs(d_h) < _ON_PEAK, abs(d_k) < _ON_PEAK, abs(d_l) < _ON_PEAK
    t_h, t_k, t_l = n_h * _ON_PEAK if on_h else t_h, n_k * _ON_PEAK if on_k else t_k, n_l * _ON_PEAK if on_l else t_l
    d_h, d_k, d_l = _ON_PEAK if on_h else d_h, _ON_PEAK if on_k else d_k, _ON_PEAK if on_l else d_l
    p_h, z_h = sine_parts_monic(d_h)
    p_k, z_k = sine_parts_monic(d_k)
    p_l, z_l = sine_parts_monic(d_l)
    b_h, b_k, b_l = d_h * p_h, d_k * p_k, d_l * p_l
    # One division serves all.
    kl = b_k * b_l
    per = _ONE / (b_h * kl)
    i_h, per_h = per * kl, per * b_h
    i_k, i_l = per_h * b_l, per_h * b_k
    p, x_h = sine_parts_monic(t_h)
    r_h, g_h, c_h = _slopes_of_ratio(d_h, t_h, m_h, n_h, p_h, z_h, i_h, p, x_h)
    p, x_k = sine_parts_monic(t_k)
    r_k, g_k, c_k = _slopes_of_ratio(d_k, t_k, m_k, n_k, p_k, z_k, i_k, p, x_k)
    p, x_l = sine_parts_monic(t_l)
    r_l, g_l, c_l = _slopes_of_ratio(d_l, t_l, m_l, n_l, p_l, z_l, i_l, p, x_l)
    r_kl = r_k * r_l
    ratio = r_h * r_kl
    strong = square * ratio
    twice = strong + strong
    w_h, w_k, w_l = twice * r_kl, twice * (r_h * r_l), twice * (r_h * r_k)
    return strong * ratio, w_h * g_h, w_k * g_k, w_l * g_l, w_h * c_h, w_k * c_k, w_l * c_l


@device_function
def _slopes_of_ratio(d, t, waves, n, p_d, z, per, p_t, x):
    """A grating's amplitude, and its slopes in h and n; ``per`` is 1 / (d p_d), z and x are of d and t (eq. 56, 57)."""
    e = p_t * per
    r = t * e
    return r, per * (n * x + ((waves * p_d) * e - r * z)), (d * per) * (p_t + x)


@device_function
def gauss_slope_single(radius_squared):
    """gauss_slope in float32 (eq. 58)."""
    value = gauss_single(radius_squared)
    return value, _GAUSS_SLOPE * value


@device_function
def sphere_slope_single(r, phase):
    """sphere_slope in float32 from the radius, and the radius less its nearest whole number (eq. 59)."""
    x = _PI * r
    u = x * x
    series = _ONE - u * (_SERIES_1 - u * (_SERIES_2 - u * (_SERIES_3 - u * _SERIES_4)))
    bend = _BEND_0 + u * (_BEND_1 - u * (_BEND_2 - u * (_BEND_3 - u * _BEND_4)))
    half = sin_pi_single(_HALF * phase)
    safe = x + _TINY
    wave = sin_pi_single(phase) / safe
    closed = _THREE * (wave - (_ONE - _TWO * half * half)) / (safe * safe)
    bent = _THREE * (wave - closed) / (safe * safe)
    value = _SPHERE * (closed if u > _ONE else series)
    change = _SPHERE * (bent if u > _ONE else bend)
    return value * value, _PI * _PI * value * change
