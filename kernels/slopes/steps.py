"""One step of a block of pixels: phases, lattice factor, its slopes, and their sums.

Phases are float64 down to what remains of a whole number; the rest is of the type of ``step``. Some arguments only say
which code is wanted: ``shape`` is the crystal's, ``single`` whether step is float32, ``amplitudes`` one of three.
"""

import math

import numpy as np
from bragg_numba.kernels import physics, walk
from bragg_numba.kernels._jit import device_function, fused_kernel, serial_kernel
from bragg_numba.kernels.parameters import GAUSS, ROUND, SQUARE
from bragg_numba.kernels.slopes.rows import (
    AIM_X,
    AIM_Y,
    AIM_Z,
    BLOCK,
    D_H,
    D_K,
    D_L,
    RADIUS,
    SHAPE,
    STRIDE,
    SUM_AIM,
    SUM_SHAPE,
    SUM_SPREAD,
    SUM_STRAIN,
    SUM_TERM,
    SUMS,
    T_H,
    T_K,
    T_L,
    TERM,
    TOTAL_TERM,
    Y_H,
    Y_K,
    Y_L,
    H,
    K,
    L,
)

#: How |F|^2 comes about: it is the same everywhere; from a table; interpolated in one.
UNIFORM, LISTED, INTERPOLATED = range(3)


# --- phases ---------------------------------------------------------------------------------------


@device_function
def split_axis(shape, amplitudes, a, incident, count, metric, lookup, rows, step, exact, places):
    """Fill the rows of one index of each pixel: itself, and less the nearest whole number (eq. 10, 22).

    ``count`` are the cells along the axis. For square crystals the third row gets the phase n h (eq. 56), for round
    ones RADIUS grows by ``metric`` times the square. ``lookup`` is the table's first index, size and stride.
    """
    d_row, t_row, h_row = rows
    first, size, stride = lookup
    towards = a[0] * incident[0] + a[1] * incident[1] + a[2] * incident[2]
    for pixel in range(BLOCK):
        h = a[0] * exact[AIM_X + pixel] + a[1] * exact[AIM_Y + pixel] + a[2] * exact[AIM_Z + pixel] - towards
        near = np.ceil(h - 0.5)
        d = h - near
        step[h_row + pixel] = h
        step[d_row + pixel] = d
        if shape == SQUARE:
            turns = count * d
            step[t_row + pixel] = turns - np.rint(turns)
        if shape == ROUND:
            exact[RADIUS + pixel] += metric * d * d
        if amplitudes == LISTED:
            places[pixel] += np.int32(min(max(near - first, 0.0), size - 1.0)) * np.int32(stride)


@device_function
def split_phases(shape, amplitudes, cell, incident, lattice, lookup, step, exact, places):
    """Fill the rows of h, k, l of one step; ``cell`` is a, b, c over the wavelength."""
    if amplitudes == LISTED:
        for pixel in range(BLOCK):
            places[pixel] = np.int32(0)
    if shape == ROUND:
        for pixel in range(BLOCK):
            exact[RADIUS + pixel] = 0.0
    c, q, t = cell, lattice, lookup
    along = (float(t.h_first), float(t.h_count), t.k_count * t.l_count)
    rows = (D_H, T_H, H)
    split_axis(shape, amplitudes, (c[0], c[1], c[2]), incident, q.n_a, q.metric_hh, along, rows, step, exact, places)
    along, rows = (float(t.k_first), float(t.k_count), t.l_count), (D_K, T_K, K)
    split_axis(shape, amplitudes, (c[3], c[4], c[5]), incident, q.n_b, q.metric_kk, along, rows, step, exact, places)
    along, rows = (float(t.l_first), float(t.l_count), 1), (D_L, T_L, L)
    split_axis(shape, amplitudes, (c[6], c[7], c[8]), incident, q.n_c, q.metric_ll, along, rows, step, exact, places)
    if shape == ROUND:
        for pixel in range(BLOCK):
            r = math.sqrt(exact[RADIUS + pixel])
            step[T_H + pixel] = r
            step[T_K + pixel] = physics.fraction(r)


# --- lattice factors ------------------------------------------------------------------------------


@device_function
def axis_of_grating(single, step, pixel, d_row, t_row, count):
    """grating_slope of one index at a pixel."""
    d, t = step[d_row + pixel], step[t_row + pixel]
    if single:
        p_d, q_d = physics.sine_parts_single(d)
        p_t, q_t = physics.sine_parts_single(t)
    else:
        p_d, q_d = physics.sine_parts(d)
        p_t, q_t = physics.sine_parts(t)
    return physics.grating_slope(d, t, count, p_d, q_d, p_t, q_t)


@device_function
def shape_square(single, lattice, step):
    """Fill TERM, Y and three rows of SHAPE of a square crystal (eq. 56, 57)."""
    real = type(step[TERM])
    n_a, n_b, n_c = real(lattice.n_a), real(lattice.n_b), real(lattice.n_c)
    for pixel in range(BLOCK):
        h = axis_of_grating(single, step, pixel, D_H, T_H, n_a)
        k = axis_of_grating(single, step, pixel, D_K, T_K, n_b)
        l = axis_of_grating(single, step, pixel, D_L, T_L, n_c)  # noqa: E741
        term, y_h, y_k, y_l, m_h, m_k, m_l = physics.square_slopes(h, k, l)
        step[TERM + pixel] = term
        step[Y_H + pixel], step[Y_K + pixel], step[Y_L + pixel] = y_h, y_k, y_l
        step[SHAPE + pixel], step[SHAPE + STRIDE + pixel], step[SHAPE + 2 * STRIDE + pixel] = m_h, m_k, m_l


@device_function
def shape_radial(shape, single, lattice, step):
    """Fill TERM, Y and six rows of SHAPE of shapes that depend on the radius alone (eq. 58, 59)."""
    real = type(step[TERM])
    q = lattice
    hh, kk, ll = real(q.metric_hh), real(q.metric_kk), real(q.metric_ll)
    hk, hl, kl = real(q.metric_hk), real(q.metric_hl), real(q.metric_kl)
    for pixel in range(BLOCK):
        d_h, d_k, d_l = step[D_H + pixel], step[D_K + pixel], step[D_L + pixel]
        half_h = hh * d_h + real(0.5) * (hk * d_k + hl * d_l)
        half_k = kk * d_k + real(0.5) * (hk * d_h + kl * d_l)
        half_l = ll * d_l + real(0.5) * (hl * d_h + kl * d_k)
        square = d_h * half_h + d_k * half_k + d_l * half_l
        if shape == ROUND:
            if single:
                term, slope = physics.sphere_slope_single(step[T_H + pixel], step[T_K + pixel])
            else:
                term, slope = physics.sphere_slope(square)
        elif shape == GAUSS:
            if single:
                term, slope = physics.gauss_slope_single(square)
            else:
                term, slope = physics.gauss_slope(square)
        else:
            term, slope = (real(1.0) if square < real(0.3969) else real(0.0)), real(0.0)
        twice = slope + slope
        step[TERM + pixel] = term
        step[Y_H + pixel], step[Y_K + pixel], step[Y_L + pixel] = twice * half_h, twice * half_k, twice * half_l
        step[SHAPE + pixel] = slope * d_h * d_h
        step[SHAPE + STRIDE + pixel] = slope * d_k * d_k
        step[SHAPE + 2 * STRIDE + pixel] = slope * d_l * d_l
        step[SHAPE + 3 * STRIDE + pixel] = slope * d_h * d_k
        step[SHAPE + 4 * STRIDE + pixel] = slope * d_h * d_l
        step[SHAPE + 5 * STRIDE + pixel] = slope * d_k * d_l


# --- structure factors ----------------------------------------------------------------------------


@device_function
def multiply_amplitudes(shape, squares, weight, step, places):
    """Multiply a step by |F|^2 of the places in the table, flat, and by its weight."""
    real = type(step[TERM])
    weight = real(weight)
    for pixel in range(BLOCK):
        # An unsigned index: a signed one could count from the end, which costs more than the look-up.
        square = weight * squares[np.uint32(places[pixel])]
        step[TERM + pixel] *= square
        step[Y_H + pixel] *= square
        step[Y_K + pixel] *= square
        step[Y_L + pixel] *= square
        step[SHAPE + pixel] *= square
        step[SHAPE + STRIDE + pixel] *= square
        step[SHAPE + 2 * STRIDE + pixel] *= square
        if shape != SQUARE:
            step[SHAPE + 3 * STRIDE + pixel] *= square
            step[SHAPE + 4 * STRIDE + pixel] *= square
            step[SHAPE + 5 * STRIDE + pixel] *= square


@serial_kernel
def lagrange_weights(x, weights):
    """Fill weights[8] with those of lagrange4's values at x, and with their slopes in x (eq. 18)."""
    weights[0] = -x * (x - 1.0) * (x - 2.0) / 6.0
    weights[1] = (x + 1.0) * (x - 1.0) * (x - 2.0) / 2.0
    weights[2] = -(x + 1.0) * x * (x - 2.0) / 2.0
    weights[3] = (x + 1.0) * x * (x - 1.0) / 6.0
    weights[4] = -(3.0 * x * x - 6.0 * x + 2.0) / 6.0
    weights[5] = (3.0 * x * x - 4.0 * x - 1.0) / 2.0
    weights[6] = -(3.0 * x * x - 2.0 * x - 2.0) / 2.0
    weights[7] = (3.0 * x * x - 1.0) / 6.0


@serial_kernel
def interpolated_slope(lookup, table, h, k, l, weights):  # noqa: E741
    """F at h, k, l and its slopes in them; 0 beyond the table, where the nearest entry counts (eq. 18).

    ``weights`` is float64 (3, 8), to write in.
    """
    inside = walk.is_inside(h, lookup.h_first, lookup.h_count) and walk.is_inside(k, lookup.k_first, lookup.k_count)
    if not (inside and walk.is_inside(l, lookup.l_first, lookup.l_count)):
        return walk.nearest_factor(lookup, table, h, k, l), 0.0, 0.0, 0.0
    h_floor, k_floor, l_floor = math.floor(h), math.floor(k), math.floor(l)
    i = int(h_floor - 1.0 - lookup.h_first)
    j = int(k_floor - 1.0 - lookup.k_first)
    m = int(l_floor - 1.0 - lookup.l_first)
    lagrange_weights(h - h_floor, weights[0])
    lagrange_weights(k - k_floor, weights[1])
    lagrange_weights(l - l_floor, weights[2])
    value, f_h, f_k, f_l = 0.0, 0.0, 0.0, 0.0
    for x in range(4):
        for y in range(4):
            for z in range(4):
                f = table[i + x, j + y, m + z]
                w_h, w_k, w_l = weights[0, x], weights[1, y], weights[2, z]
                value += w_h * w_k * w_l * f
                f_h += weights[0, 4 + x] * w_k * w_l * f
                f_k += w_h * weights[1, 4 + y] * w_l * f
                f_l += w_h * w_k * weights[2, 4 + z] * f
    return value, f_h, f_k, f_l


@device_function
def multiply_interpolated(shape, lookup, table, weight, step, weights):
    """Multiply a step by |F|^2 between the table's entries and by its weight; F has slopes in h, k, l itself."""
    for pixel in range(BLOCK):
        h, k, l = step[H + pixel], step[K + pixel], step[L + pixel]  # noqa: E741
        value, f_h, f_k, f_l = interpolated_slope(lookup, table, h, k, l, weights)
        square, twice = weight * value * value, 2.0 * weight * value * step[TERM + pixel]
        step[TERM + pixel] *= square
        step[Y_H + pixel] = step[Y_H + pixel] * square + twice * f_h
        step[Y_K + pixel] = step[Y_K + pixel] * square + twice * f_k
        step[Y_L + pixel] = step[Y_L + pixel] * square + twice * f_l
        for row in range(3 if shape == SQUARE else 6):
            step[SHAPE + row * STRIDE + pixel] *= square


@device_function
def multiply_weight(shape, weight, step):
    """Multiply a step by its weight."""
    real = type(step[TERM])
    weight = real(weight)
    for pixel in range(BLOCK):
        step[TERM + pixel] *= weight
        step[Y_H + pixel] *= weight
        step[Y_K + pixel] *= weight
        step[Y_L + pixel] *= weight
    for row in range(3 if shape == SQUARE else 6):
        for pixel in range(BLOCK):
            step[SHAPE + row * STRIDE + pixel] *= weight


# --- sums -----------------------------------------------------------------------------------------


@device_function
def add_step(shape, wanted, cell, spin, step):
    """Add a step to the sums: its term, and slopes times what they are multiplied by (eq. 60)."""
    real = type(step[TERM])
    for pixel in range(BLOCK):
        step[SUM_TERM + pixel] += step[TERM + pixel]
    if wanted.strain:
        for pixel in range(BLOCK):
            h, k, l = step[H + pixel], step[K + pixel], step[L + pixel]  # noqa: E741
            y_h, y_k, y_l = step[Y_H + pixel], step[Y_K + pixel], step[Y_L + pixel]
            step[SUM_STRAIN + pixel] += y_h * h
            step[SUM_STRAIN + STRIDE + pixel] += y_h * k
            step[SUM_STRAIN + 2 * STRIDE + pixel] += y_h * l
            step[SUM_STRAIN + 3 * STRIDE + pixel] += y_k * h
            step[SUM_STRAIN + 4 * STRIDE + pixel] += y_k * k
            step[SUM_STRAIN + 5 * STRIDE + pixel] += y_k * l
            step[SUM_STRAIN + 6 * STRIDE + pixel] += y_l * h
            step[SUM_STRAIN + 7 * STRIDE + pixel] += y_l * k
            step[SUM_STRAIN + 8 * STRIDE + pixel] += y_l * l
    if wanted.turn or wanted.detector:
        a_x, a_y, a_z = real(cell[0]), real(cell[1]), real(cell[2])
        b_x, b_y, b_z = real(cell[3]), real(cell[4]), real(cell[5])
        c_x, c_y, c_z = real(cell[6]), real(cell[7]), real(cell[8])
        for pixel in range(BLOCK):
            y_h, y_k, y_l = step[Y_H + pixel], step[Y_K + pixel], step[Y_L + pixel]
            step[SUM_AIM + pixel] += a_x * y_h + b_x * y_k + c_x * y_l
            step[SUM_AIM + STRIDE + pixel] += a_y * y_h + b_y * y_k + c_y * y_l
            step[SUM_AIM + 2 * STRIDE + pixel] += a_z * y_h + b_z * y_k + c_z * y_l
    if wanted.shape:
        for row in range(3 if shape == SQUARE else 6):
            for pixel in range(BLOCK):
                step[SUM_SHAPE + row * STRIDE + pixel] += step[SHAPE + row * STRIDE + pixel]
    if wanted.spread:
        hh, hk, hl = real(spin[0]), real(spin[1]), real(spin[2])
        kh, kk, kl = real(spin[3]), real(spin[4]), real(spin[5])
        lh, lk, ll = real(spin[6]), real(spin[7]), real(spin[8])
        for pixel in range(BLOCK):
            h, k, l = step[H + pixel], step[K + pixel], step[L + pixel]  # noqa: E741
            step[SUM_SPREAD + pixel] += (
                step[Y_H + pixel] * (hh * h + hk * k + hl * l)
                + step[Y_K + pixel] * (kh * h + kk * k + kl * l)
                + step[Y_L + pixel] * (lh * h + lk * k + ll * l)
            )


@fused_kernel
def start_sums(step, exact):
    """Empty the sums of a beam."""
    for place in range(SUMS * STRIDE):
        step[SUM_TERM + place] = 0.0
        exact[TOTAL_TERM + place] = 0.0


@fused_kernel
def flush(step, exact):
    """Move the sums of a chunk of steps to those of a beam, which are float64."""
    for place in range(SUMS * STRIDE):
        exact[TOTAL_TERM + place] += step[SUM_TERM + place]
        step[SUM_TERM + place] = 0.0


# --- what a block reaches -------------------------------------------------------------------------


@fused_kernel
def spread_of_block(exact):
    """Direction in the middle of a block's first and last pixel, and the largest distance of any from it."""
    m_x = 0.5 * (exact[AIM_X] + exact[AIM_X + BLOCK - 1])
    m_y = 0.5 * (exact[AIM_Y] + exact[AIM_Y + BLOCK - 1])
    m_z = 0.5 * (exact[AIM_Z] + exact[AIM_Z + BLOCK - 1])
    largest = 0.0
    for pixel in range(BLOCK):
        x, y, z = exact[AIM_X + pixel] - m_x, exact[AIM_Y + pixel] - m_y, exact[AIM_Z + pixel] - m_z
        largest = max(largest, x * x + y * y + z * z)
    return m_x, m_y, m_z, math.sqrt(largest) * (1.0 + 1e-9)


@device_function
def sees_axis(a_x, a_y, a_z, incident, middle, margin):
    """Whether an index of some pixel of a block may lie within ``margin`` of a whole number."""
    x, y, z = middle[0] - incident[0], middle[1] - incident[1], middle[2] - incident[2]
    h = a_x * x + a_y * y + a_z * z
    reach = math.sqrt(a_x * a_x + a_y * a_y + a_z * a_z) * middle[3]
    return abs(h - np.rint(h)) <= reach + margin


@fused_kernel
def sees_spot(cell, incident, middle, margins):
    """Whether some pixel of a block may see a spot that ends at ``margins`` from whole h, k, l (eq. 35)."""
    c = cell
    if not sees_axis(c[0], c[1], c[2], incident, middle, margins[0]):
        return False
    if not sees_axis(c[3], c[4], c[5], incident, middle, margins[1]):
        return False
    return sees_axis(c[6], c[7], c[8], incident, middle, margins[2])
