"""What a step brings to a pixel of a GPU's slopes: its term, the slopes of that, and their sums.

Twins of slopes/steps in scalars of one pixel. Phases are float64 down to what remains of a whole number, the rest is
of the type that a kernel is made for: of ``weight``, where a function has to be told.
"""

import math
from typing import NamedTuple

import numpy as np
from bragg_numba.kernels._jit_cuda import gpu_function
from bragg_numba.kernels.parameters import GAUSS, ROUND, SQUARE, TOPHAT
from bragg_numba.kernels.pixels.cuda_functions import physics, walk
from numba import float32, int32, uint32


class SlopeKind(NamedTuple):
    """What a kernel of slopes is compiled for: the compiler knows it, so that branches on it vanish."""

    shape: int
    single: bool  #: terms in float32
    amplitudes: int  #: UNIFORM, LISTED or INTERPOLATED of slopes/steps
    curved: bool


class Steps(NamedTuple):
    """The steps that every pixel walks, of all sources and orientations; ``real`` is the type of terms."""

    wave_numbers: np.ndarray  #: float64 (sources,), 1 / wavelength
    stretches: np.ndarray  #: real (sources,), wave numbers over the first
    weights: np.ndarray  #: real (sources,), 1 where a source is all of a beam
    cells: np.ndarray  #: float64 (orientations, 9): a, b, c
    lean: np.ndarray  #: real (orientations, 9), the same times the first source's wave number
    shares: np.ndarray  #: real (orientations,), of the photons
    spins: np.ndarray  #: real (orientations, 9): change of h, k, l with the mosaic spread, times h, k, l


class Beams(NamedTuple):
    """How sources are summed: of nouns.Beams what a GPU needs, which cannot be handed arrays without elements."""

    first: np.ndarray  #: int64 (beams + 1,): the first source of each
    weights: np.ndarray  #: float64 (sources, moves, or 1): changes of their weights
    waves: np.ndarray  #: float64 (sources, moves, or 1): relative changes of their wavelengths


class Margins(NamedTuple):
    """Distances of h, k, l from whole numbers beyond which there is no spot."""

    h: float
    k: float
    l: float  # noqa: E741


class Term(NamedTuple):
    """A lattice factor over its largest value, its slopes in h, k, l, and in cell counts or the metric's numbers."""

    value: float
    y_h: float
    y_k: float
    y_l: float
    shape_0: float
    shape_1: float
    shape_2: float
    shape_3: float
    shape_4: float
    shape_5: float


class Chunk(NamedTuple):
    """Sums over some steps: of terms, and of what slopes are linear in (eq. 60)."""

    term: float
    hh: float  #: slopes in h, k, l times h, k, l
    hk: float
    hl: float
    kh: float
    kk: float
    kl: float
    lh: float
    lk: float
    ll: float
    aim_x: float  #: slopes in the direction of the ray
    aim_y: float
    aim_z: float
    shape_0: float
    shape_1: float
    shape_2: float
    shape_3: float
    shape_4: float
    shape_5: float
    spread: float


@gpu_function
def nothing(weight):
    """A Chunk of no steps, of the type of ``weight``."""
    real = type(weight)
    zero = real(0.0)
    return Chunk(
        zero,
        zero,
        zero,
        zero,
        zero,
        zero,
        zero,
        zero,
        zero,
        zero,
        zero,
        zero,
        zero,
        zero,
        zero,
        zero,
        zero,
        zero,
        zero,
        zero,
    )


@gpu_function
def keep_of_beam(panel, off, wave_number):
    """1, or 0 beyond dmin (eq. 7); ``off`` is a ray's direction less the beam's."""
    return walk.keep_within_dmin(panel, off[0] * wave_number, off[1] * wave_number, off[2] * wave_number)


@gpu_function
def indices_of_step(steps, source, cell, off):
    """h, k, l of a ray (eq. 22): the wave number comes last, for a beam's sources share all else."""
    (x, y, z), c, per = off, steps.cells, steps.wave_numbers[source]
    h = c[cell, uint32(0)] * x + c[cell, uint32(1)] * y + c[cell, uint32(2)] * z
    k = c[cell, uint32(3)] * x + c[cell, uint32(4)] * y + c[cell, uint32(5)] * z
    l = c[cell, uint32(6)] * x + c[cell, uint32(7)] * y + c[cell, uint32(8)] * z  # noqa: E741
    return per * h, per * k, per * l


# --- lattice factors: from what h, k, l lie off whole numbers, float64 ------------------------------


@gpu_function
def turns_left(d, count):
    """Cells times d, less the nearest whole number (eq. 56)."""
    turns = count * d
    return turns - np.rint(turns)


@gpu_function
def axis_single(d, count):
    """physics.grating_slope of one index in float32."""
    x, t = float32(d), float32(turns_left(d, count))
    p_d, q_d = physics.sine_parts_single(x)
    p_t, q_t = physics.sine_parts_single(t)
    return physics.grating_slope(x, t, float32(count), float32(p_d), float32(q_d), float32(p_t), float32(q_t))


@gpu_function
def axis_exact(d, count):
    """physics.grating_slope of one index."""
    t = turns_left(d, count)
    p_d, q_d = physics.sine_parts(d)
    p_t, q_t = physics.sine_parts(t)
    return physics.grating_slope(d, t, count, p_d, q_d, p_t, q_t)


@gpu_function
def square_of_axes(h, k, l):  # noqa: E741
    """The Term of a square crystal from the grating_slope of each axis (eq. 56, 57)."""
    value, y_h, y_k, y_l, m_h, m_k, m_l = physics.square_slopes(h, k, l)
    real = type(value)
    return Term(value, y_h, y_k, y_l, m_h, m_k, m_l, real(0.0), real(0.0), real(0.0))


@gpu_function
def square_single(lattice, d_h, d_k, d_l):
    """The Term of a square crystal in float32."""
    h, k, l = axis_single(d_h, lattice.n_a), axis_single(d_k, lattice.n_b), axis_single(d_l, lattice.n_c)  # noqa: E741
    return square_of_axes(h, k, l)


@gpu_function
def square_exact(lattice, d_h, d_k, d_l):
    """The Term of a square crystal."""
    h, k, l = axis_exact(d_h, lattice.n_a), axis_exact(d_k, lattice.n_b), axis_exact(d_l, lattice.n_c)  # noqa: E741
    return square_of_axes(h, k, l)


@gpu_function
def half_gradient(lattice, d_h, d_k, d_l):
    """Half of the squared radius's slopes in h, k, l, and the squared radius (eq. 14, 58), of the type of d."""
    real = type(d_h)
    hh, kk, ll = real(lattice.metric_hh), real(lattice.metric_kk), real(lattice.metric_ll)
    hk, hl, kl = real(lattice.metric_hk), real(lattice.metric_hl), real(lattice.metric_kl)
    half_h = hh * d_h + real(0.5) * (hk * d_k + hl * d_l)
    half_k = kk * d_k + real(0.5) * (hk * d_h + kl * d_l)
    half_l = ll * d_l + real(0.5) * (hl * d_h + kl * d_k)
    return half_h, half_k, half_l, d_h * half_h + d_k * half_k + d_l * half_l


@gpu_function
def radial_term(value, slope, halves, d_h, d_k, d_l):
    """The Term of a shape from its value and slope in the squared radius (eq. 58)."""
    twice = slope + slope
    return Term(
        value,
        twice * halves[0],
        twice * halves[1],
        twice * halves[2],
        slope * d_h * d_h,
        slope * d_k * d_k,
        slope * d_l * d_l,
        slope * d_h * d_k,
        slope * d_h * d_l,
        slope * d_k * d_l,
    )


@gpu_function
def gauss_single(lattice, d_h, d_k, d_l):
    """The Term of a gauss crystal in float32."""
    x, y, z = float32(d_h), float32(d_k), float32(d_l)
    halves = half_gradient(lattice, x, y, z)
    value, slope = physics.gauss_slope_single(float32(halves[3]))
    return radial_term(float32(value), float32(slope), halves, x, y, z)


@gpu_function
def gauss_exact(lattice, d_h, d_k, d_l):
    """The Term of a gauss crystal."""
    halves = half_gradient(lattice, d_h, d_k, d_l)
    value, slope = physics.gauss_slope(halves[3])
    return radial_term(value, slope, halves, d_h, d_k, d_l)


@gpu_function
def round_single(lattice, d_h, d_k, d_l):
    """The Term of a round crystal in float32; the radius is float64, being a phase."""
    q = lattice
    r = math.sqrt(q.metric_hh * d_h * d_h + q.metric_kk * d_k * d_k + q.metric_ll * d_l * d_l)
    value, slope = physics.sphere_slope_single(float32(r), float32(physics.fraction(r)))
    x, y, z = float32(d_h), float32(d_k), float32(d_l)
    return radial_term(float32(value), float32(slope), half_gradient(lattice, x, y, z), x, y, z)


@gpu_function
def round_exact(lattice, d_h, d_k, d_l):
    """The Term of a round crystal."""
    halves = half_gradient(lattice, d_h, d_k, d_l)
    value, slope = physics.sphere_slope(halves[3])
    return radial_term(value, slope, halves, d_h, d_k, d_l)


@gpu_function
def tophat_single(lattice, d_h, d_k, d_l):
    """The Term of a top hat, which has no slopes, in float32; its side is told in float64."""
    value, zero = float32(physics.tophat_squared(physics.quadratic_form(lattice, d_h, d_k, d_l))), float32(0.0)
    return radial_term(value, zero, (zero, zero, zero), zero, zero, zero)


@gpu_function
def tophat_exact(lattice, d_h, d_k, d_l):
    """The Term of a top hat, which has no slopes."""
    value = physics.tophat_squared(physics.quadratic_form(lattice, d_h, d_k, d_l))
    return radial_term(value, 0.0, (0.0, 0.0, 0.0), 0.0, 0.0, 0.0)


#: What makes the Term, by shape and whether it is float32.
TERMS = {
    (SQUARE, True): square_single,
    (SQUARE, False): square_exact,
    (ROUND, True): round_single,
    (ROUND, False): round_exact,
    (GAUSS, True): gauss_single,
    (GAUSS, False): gauss_exact,
    (TOPHAT, True): tophat_single,
    (TOPHAT, False): tophat_exact,
}


# --- structure factors ------------------------------------------------------------------------------


@gpu_function
def place_of_axis(near, first, count):
    """walk.table_place in whole numbers, of which a GPU has more than of float64 ones."""
    place, last = int32(int32(near) - int32(first)), int32(int32(count) - int32(1))
    return uint32(min(max(place, int32(0)), last))


@gpu_function
def place_in_table(lookup, h_near, k_near, l_near):
    """Place in the flat table of the reflection whose indices are nearest."""
    i = place_of_axis(h_near, lookup.h_first, lookup.h_count)
    j = place_of_axis(k_near, lookup.k_first, lookup.k_count)
    m = place_of_axis(l_near, lookup.l_first, lookup.l_count)
    return uint32((i * uint32(lookup.k_count) + j) * uint32(lookup.l_count) + m)


@gpu_function
def bend_of_four(node, x):
    """The slope in x of walk.weight_of_four (eq. 18)."""
    if node == 0:
        return -(3.0 * x * x - 6.0 * x + 2.0) / 6.0
    if node == 1:
        return (3.0 * x * x - 4.0 * x - 1.0) / 2.0
    if node == 2:
        return -(3.0 * x * x - 2.0 * x - 2.0) / 2.0
    return (3.0 * x * x - 1.0) / 6.0


@gpu_function
def interpolated_slope(lookup, table, h, k, l):  # noqa: E741
    """F at h, k, l and its slopes in them; 0 beyond the table, where the nearest entry counts (eq. 18)."""
    inside = walk.is_inside(h, lookup.h_first, lookup.h_count) and walk.is_inside(k, lookup.k_first, lookup.k_count)
    if not (inside and walk.is_inside(l, lookup.l_first, lookup.l_count)):
        return walk.nearest_factor(lookup, table, h, k, l), 0.0, 0.0, 0.0
    h_floor, k_floor, l_floor = math.floor(h), math.floor(k), math.floor(l)
    i, j = walk.as_place(h_floor - 1.0 - lookup.h_first), walk.as_place(k_floor - 1.0 - lookup.k_first)
    m = walk.as_place(l_floor - 1.0 - lookup.l_first)
    x, y, z = h - h_floor, k - k_floor, l - l_floor
    value, f_h, f_k, f_l = 0.0, 0.0, 0.0, 0.0
    # How often is not said in so many words: unrolled, it would not fit the registers.
    for node in range(64 * int(lookup.interpolate)):
        of_h, of_k, of_l = node // 16, node // 4 % 4, node % 4
        f = table[i + walk.as_place(of_h), j + walk.as_place(of_k), m + walk.as_place(of_l)]
        w_h, w_k, w_l = walk.weight_of_four(of_h, x), walk.weight_of_four(of_k, y), walk.weight_of_four(of_l, z)
        value += w_h * w_k * w_l * f
        f_h += bend_of_four(of_h, x) * w_k * w_l * f
        f_k += w_h * bend_of_four(of_k, y) * w_l * f
        f_l += w_h * w_k * bend_of_four(of_l, z) * f
    return value, f_h, f_k, f_l


@gpu_function
def with_amplitude(term, amplitude):
    """A Term times |F|^2; F, the first number of ``amplitude``, has the slopes in h, k, l that follow it."""
    t, f = term, amplitude[0]
    square, twice = f * f, 2.0 * f * t.value
    return Term(
        square * t.value,
        square * t.y_h + twice * amplitude[1],
        square * t.y_k + twice * amplitude[2],
        square * t.y_l + twice * amplitude[3],
        square * t.shape_0,
        square * t.shape_1,
        square * t.shape_2,
        square * t.shape_3,
        square * t.shape_4,
        square * t.shape_5,
    )


# --- sums -------------------------------------------------------------------------------------------


@gpu_function
def strain_sums(c, h, k, l, y_h, y_k, y_l):  # noqa: E741
    """The nine sums of slopes times indices, one step on."""
    return (
        c.hh + y_h * h,
        c.hk + y_h * k,
        c.hl + y_h * l,
        c.kh + y_k * h,
        c.kk + y_k * k,
        c.kl + y_k * l,
        c.lh + y_l * h,
        c.lk + y_l * k,
        c.ll + y_l * l,
    )


@gpu_function
def aim_sums(c, lean, step, y_h, y_k, y_l):
    """The three sums of slopes in the ray's direction, one step on."""
    return (
        c.aim_x + (lean[step, uint32(0)] * y_h + lean[step, uint32(3)] * y_k + lean[step, uint32(6)] * y_l),
        c.aim_y + (lean[step, uint32(1)] * y_h + lean[step, uint32(4)] * y_k + lean[step, uint32(7)] * y_l),
        c.aim_z + (lean[step, uint32(2)] * y_h + lean[step, uint32(5)] * y_k + lean[step, uint32(8)] * y_l),
    )


@gpu_function
def spin_of_step(spins, step, h, k, l, y_h, y_k, y_l):  # noqa: E741
    """The slope of a step in the mosaic spread."""
    return (
        y_h * (spins[step, uint32(0)] * h + spins[step, uint32(1)] * k + spins[step, uint32(2)] * l)
        + y_k * (spins[step, uint32(3)] * h + spins[step, uint32(4)] * k + spins[step, uint32(5)] * l)
        + y_l * (spins[step, uint32(6)] * h + spins[step, uint32(7)] * k + spins[step, uint32(8)] * l)
    )


@gpu_function
def add_term(shape, wanted, steps, step, stretch, square, term, h, k, l, c):  # noqa: E741
    """Add a Term times ``square``, its |F|^2 and weight, to a Chunk; h, k, l are of its type (eq. 60)."""
    t, y_h, y_k, y_l = term, square * term.y_h, square * term.y_k, square * term.y_l
    strain = (c.hh, c.hk, c.hl, c.kh, c.kk, c.kl, c.lh, c.lk, c.ll)
    if wanted.strain:
        strain = strain_sums(c, h, k, l, y_h, y_k, y_l)
    aim = (c.aim_x, c.aim_y, c.aim_z)
    if wanted.turn or wanted.detector:
        aim = aim_sums(c, steps.lean, step, stretch * y_h, stretch * y_k, stretch * y_l)
    s_0, s_1, s_2, s_3, s_4, s_5 = c.shape_0, c.shape_1, c.shape_2, c.shape_3, c.shape_4, c.shape_5
    if wanted.shape:
        s_0, s_1, s_2 = s_0 + square * t.shape_0, s_1 + square * t.shape_1, s_2 + square * t.shape_2
        if shape != SQUARE:
            s_3, s_4, s_5 = s_3 + square * t.shape_3, s_4 + square * t.shape_4, s_5 + square * t.shape_5
    spread = c.spread
    if wanted.spread:
        spread += spin_of_step(steps.spins, step, h, k, l, y_h, y_k, y_l)
    return Chunk(
        c.term + square * t.value,
        strain[0],
        strain[1],
        strain[2],
        strain[3],
        strain[4],
        strain[5],
        strain[6],
        strain[7],
        strain[8],
        aim[0],
        aim[1],
        aim[2],
        s_0,
        s_1,
        s_2,
        s_3,
        s_4,
        s_5,
        spread,
    )
