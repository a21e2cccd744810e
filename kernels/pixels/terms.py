"""The terms of one step in float32: phases, lattice factor, structure factor, added to each pixel's sum.

``cell`` holds a, b, c over the wavelength (nine numbers), ``slows`` the slow axis' own phases (three), ``incident``
the source's direction. Some arguments only say which code is wanted (parameters.Code):

split
    None: the whole way from a group's centre to a pixel is one float32 (eq. 32). Else the change per pixel is
    split as well, and only what bends away from it is one float32 (eq. 33).
placed
    None: no place in a table of structure factors is asked.
"""

import math

import numpy as np
from bragg_numba.kernels import physics, walk
from bragg_numba.kernels._jit import device_function, fused_kernel, serial_kernel
from bragg_numba.kernels.parameters import ROUND, SQUARE
from bragg_numba.kernels.pixels.rays import paces_of_lane, scatter_at_pixel
from bragg_numba.kernels.pixels.rows import (
    AIM_X,
    AIM_Y,
    AIM_Z,
    AMPLITUDE,
    BEND,
    CHANGE_H,
    CHANGE_K,
    CHANGE_L,
    COARSE_H,
    COARSE_K,
    COARSE_L,
    FINE_H,
    FINE_K,
    FINE_L,
    GROUPS,
    LANES,
    LEFT_H,
    LEFT_K,
    LEFT_L,
    NEAR_H,
    NEAR_K,
    NEAR_L,
    PITCH_64,
    PIXELS,
    PLACE,
    PLACE_OF_GROUP,
    SLANT_64,
    SUM,
    TERM,
    TILT_H,
    TILT_K,
    TILT_L,
    TURNS_H,
    TURNS_K,
    TURNS_L,
    TWIST,
)

# Rows of one index.
_ROWS_H = (FINE_H, COARSE_H, TURNS_H, TILT_H, CHANGE_H, LEFT_H)
_ROWS_K = (FINE_K, COARSE_K, TURNS_K, TILT_K, CHANGE_K, LEFT_K)
_ROWS_L = (FINE_L, COARSE_L, TURNS_L, TILT_L, CHANGE_L, LEFT_L)

# --- phases of the groups, float64 --------------------------------------------------------------


@device_function
def dot(a_x, a_y, a_z, b_x, b_y, b_z):
    """Scalar product."""
    return a_x * b_x + a_y * b_y + a_z * b_z


@device_function
def change_per_pixel(tilt, slow, group, exact):
    """How a phase changes from one pixel of a group to the next at its centre (first order, eq. 23)."""
    return exact[PITCH_64 + group] * (slow - exact[SLANT_64 + group] * tilt)


@device_function
def split_axis(a_x, a_y, a_z, slow, incident, n, first, rows, near_row, split, placed, work, exact):
    """Fill the rows of one index with its phase at the groups' centres, where ``split`` at their first pixels.

    ``n`` are the cells along the axis, ``first`` is the table's first index.
    """
    fine_row, coarse_row, turns_row, tilt_row, change_row, left_row = rows
    towards = dot(a_x, a_y, a_z, incident[0], incident[1], incident[2]) - physics.NUDGE
    to_first = 0.5 * (LANES - 1)
    for group in range(GROUPS):
        tilt = dot(a_x, a_y, a_z, exact[AIM_X + group], exact[AIM_Y + group], exact[AIM_Z + group])
        h = tilt - towards
        change = change_per_pixel(tilt, slow, group, exact)
        if split is not None:
            h -= to_first * change
            coarse_change, left = physics.split_change(change)
            work[change_row + group], work[left_row + group] = np.float32(coarse_change), np.float32(left)
        else:
            work[change_row + group] = np.float32(change)
        whole, coarse, fine = physics.split_phase(h)
        work[fine_row + group], work[coarse_row + group] = np.float32(fine), np.float32(coarse)
        work[tilt_row + group] = np.float32(tilt)
        if placed is not None:
            work[near_row + group] = np.float32(whole - first)
        if split is None:
            work[turns_row + group] = physics.fraction_single(n * np.float32(coarse))


@fused_kernel
def split_phases(cell, slows, incident, counts, firsts, split, placed, work, exact):
    """Fill the groups' rows of h, k, l for one step; ``firsts`` are the table's first indices."""
    c = cell
    n, first = counts[0], float(firsts[0])
    split_axis(c[0], c[1], c[2], slows[0], incident, n, first, _ROWS_H, NEAR_H, split, placed, work, exact)
    n, first = counts[1], float(firsts[1])
    split_axis(c[3], c[4], c[5], slows[1], incident, n, first, _ROWS_K, NEAR_K, split, placed, work, exact)
    n, first = counts[2], float(firsts[2])
    split_axis(c[6], c[7], c[8], slows[2], incident, n, first, _ROWS_L, NEAR_L, split, placed, work, exact)


# --- phases of the pixels, float32 ---------------------------------------------------------------


@device_function
def parts_of_pixel(work, group, pixel, lane, rows, split):
    """One index at a pixel, less its group's whole number: the coarse and the fine part (eq. 32, 33)."""
    fine_row, coarse_row, turns_row, tilt_row, change_row, left_row = rows
    change = work[change_row + group]
    # The small parts first: then a single sum is rounded at the size of the whole.
    fine = work[fine_row + group] + work[tilt_row + group] * work[BEND + pixel]
    if split is not None:
        left = work[left_row + group]
        fine += (change + left) * work[TWIST + pixel]
        return work[coarse_row + group] + np.float32(lane) * change, fine + np.float32(lane) * left
    return work[coarse_row + group], fine + change * (paces_of_lane(lane) + work[TWIST + pixel])


@device_function
def phase_of_pixel(work, group, pixel, lane, n, same_n, rows, split):
    """One index at a pixel: its nearest whole number from the group's, h and n h less their whole numbers."""
    coarse, fine = parts_of_pixel(work, group, pixel, lane, rows, split)
    if split is not None:
        return physics.reduced_pair(coarse, fine, n)
    whole, d = physics.reduced_single(coarse, fine)
    return whole, d, physics.turns_single(work[rows[2] + group], n, same_n, fine)


@device_function
def phases_of_pixel(work, group, pixel, lane, counts, same_counts, split):
    """phase_of_pixel for h, k, l: three whole numbers, three h, three n h."""
    w_h, d_h, t_h = phase_of_pixel(work, group, pixel, lane, counts[0], same_counts[0], _ROWS_H, split)
    w_k, d_k, t_k = phase_of_pixel(work, group, pixel, lane, counts[1], same_counts[1], _ROWS_K, split)
    w_l, d_l, t_l = phase_of_pixel(work, group, pixel, lane, counts[2], same_counts[2], _ROWS_L, split)
    return w_h, w_k, w_l, d_h, d_k, d_l, t_h, t_k, t_l


@device_function
def fringes_of_pixel(work, group, pixel, lane, n, rows, split):
    """One index at a pixel: its nearest whole number from the group's, h less that, and n h as eighths and rest."""
    coarse, fine = parts_of_pixel(work, group, pixel, lane, rows, split)
    whole, d = physics.reduced_single(coarse, fine)
    eighths, rest = physics.eighths_of_fringes(coarse, whole, fine, d, n)
    return whole, d, eighths, rest


@device_function
def index_of_pixel(work, group, pixel, lane, rows, split):
    """One index at a pixel: its nearest whole number from the group's, and h less that number."""
    coarse, fine = parts_of_pixel(work, group, pixel, lane, rows, split)
    return physics.reduced_single(coarse, fine)


@device_function
def is_half(d_h, d_k, d_l, near_half):
    """Tell whether a phase lies so near to a half that float32 cannot say which index is the nearest."""
    return max(abs(d_h), max(abs(d_k), abs(d_l))) > near_half


# --- lattice factors -----------------------------------------------------------------------------


@fused_kernel
def add_square(counts, same_counts, split, work):
    """Add the square crystal's lattice factor of one step to SUM (eq. 13)."""
    for lane in range(LANES):
        for group in range(GROUPS):
            pixel = lane * GROUPS + group
            _, _, _, d_h, d_k, d_l, t_h, t_k, t_l = phases_of_pixel(
                work, group, pixel, lane, counts, same_counts, split
            )
            work[SUM + pixel] += physics.square_ratio_single(t_h, t_k, t_l, d_h, d_k, d_l)


@device_function
def place_pixel(placed, group, pixel, w_h, w_k, w_l, half, strides, at):
    """Fill PLACE with a pixel's place in the table; -1 where float32 cannot tell which (``half``).

    w are whole numbers from the group's index; ``strides`` the places from one h and one k to the next. Without
    ``placed`` the place is 0.
    """
    place = np.int32(0)
    if placed is not None:
        # Whole numbers below 2^24 are exact in float32.
        along = w_h * np.float32(strides[0]) + w_k * np.float32(strides[1]) + w_l
        place = np.int32(at[PLACE_OF_GROUP + group] + np.int32(along))
    at[PLACE + pixel] = np.int32(-1) if half else place


@fused_kernel
def place_square(counts, same_counts, near_half, strides, split, work, at):
    """Fill TERM with the square crystal's lattice factor (eq. 13), and PLACE; return whether there is a -1."""
    doubts = np.int32(0)
    for lane in range(LANES):
        for group in range(GROUPS):
            pixel = lane * GROUPS + group
            w_h, w_k, w_l, d_h, d_k, d_l, t_h, t_k, t_l = phases_of_pixel(
                work, group, pixel, lane, counts, same_counts, split
            )
            work[TERM + pixel] = physics.square_ratio_single(t_h, t_k, t_l, d_h, d_k, d_l)
            half = is_half(d_h, d_k, d_l, near_half)
            doubts = np.int32(doubts | np.int32(half))
            place_pixel((), group, pixel, w_h, w_k, w_l, half, strides, at)
    return doubts != 0


@fused_kernel
def place_round(placed, counts, near_half, strides, split, work, at):
    """Fill TERM with a round crystal's radius, AMPLITUDE with its fraction (eq. 34), and PLACE, as place_square."""
    doubts = np.int32(0)
    for lane in range(LANES):
        for group in range(GROUPS):
            pixel = lane * GROUPS + group
            w_h, d_h, x_h, y_h = fringes_of_pixel(work, group, pixel, lane, counts[0], _ROWS_H, split)
            w_k, d_k, x_k, y_k = fringes_of_pixel(work, group, pixel, lane, counts[1], _ROWS_K, split)
            w_l, d_l, x_l, y_l = fringes_of_pixel(work, group, pixel, lane, counts[2], _ROWS_L, split)
            r, phase = physics.radius_single(x_h, x_k, x_l, y_h, y_k, y_l)
            work[TERM + pixel], work[AMPLITUDE + pixel] = r, phase
            half = is_half(d_h, d_k, d_l, near_half)
            doubts = np.int32(doubts | np.int32(half))
            place_pixel(placed, group, pixel, w_h, w_k, w_l, half, strides, at)
    return doubts != 0


@fused_kernel
def place_radial(placed, metric, near_half, strides, split, work, at):
    """Fill TERM with the squared radius of shapes that depend on it alone (eq. 14), and PLACE, as place_square."""
    doubts = np.int32(0)
    for lane in range(LANES):
        for group in range(GROUPS):
            pixel = lane * GROUPS + group
            w_h, d_h = index_of_pixel(work, group, pixel, lane, _ROWS_H, split)
            w_k, d_k = index_of_pixel(work, group, pixel, lane, _ROWS_K, split)
            w_l, d_l = index_of_pixel(work, group, pixel, lane, _ROWS_L, split)
            work[TERM + pixel] = physics.quadratic_form_single(metric, d_h, d_k, d_l)
            half = is_half(d_h, d_k, d_l, near_half)
            doubts = np.int32(doubts | np.int32(half))
            place_pixel(placed, group, pixel, w_h, w_k, w_l, half, strides, at)
    return doubts != 0


@fused_kernel
def place_groups(counts, reach, work, at):
    """Fill PLACE_OF_GROUP with the places of the groups' whole indices, kept ``reach`` inside a table of ``counts``."""
    k_size, l_size = np.int32(counts[1]), np.int32(counts[2])
    low = np.float32(reach)
    h_high, k_high = np.float32(counts[0] - 1 - reach), np.float32(counts[1] - 1 - reach)
    l_high = np.float32(counts[2] - 1 - reach)
    for group in range(GROUPS):
        i = np.int32(min(max(work[NEAR_H + group], low), h_high))
        j = np.int32(min(max(work[NEAR_K + group], low), k_high))
        m = np.int32(min(max(work[NEAR_L + group], low), l_high))
        at[PLACE_OF_GROUP + group] = np.int32(np.int32(np.int32(i * k_size) + j) * l_size) + m


@serial_kernel
def settle_halves(panel, lattice, lookup, cell, wavelength, incident, place, work, at):
    """Give the pixels that are marked -1 the index, and the radius, that float64 finds; ``cell`` is in metres."""
    row, column, wide, sub_slow, sub_fast, depth = place
    for pixel in range(PIXELS):
        if at[PLACE + pixel] >= 0:
            continue
        lane, group = pixel // GROUPS, pixel % GROUPS
        slow = np.float64(row + group // wide * LANES + lane)
        fast = np.float64(column + group % wide)
        q_x, q_y, q_z = scatter_at_pixel(panel, incident, wavelength, slow, fast, sub_slow, sub_fast, depth)
        c = cell
        h, k, l = walk.indices(c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7], c[8], q_x, q_y, q_z)  # noqa: E741
        h_near, k_near, l_near = physics.nearest_index(h), physics.nearest_index(k), physics.nearest_index(l)
        at[PLACE + pixel] = place_of(lookup, h_near, k_near, l_near)
        radius_squared = physics.quadratic_form(lattice, h - h_near, k - k_near, l - l_near)
        if lattice.shape == ROUND:
            r = math.sqrt(radius_squared)
            work[TERM + pixel], work[AMPLITUDE + pixel] = np.float32(r), np.float32(physics.fraction(r))
        elif lattice.shape != SQUARE:
            work[TERM + pixel] = np.float32(radius_squared)


@serial_kernel
def place_of(lookup, h, k, l):  # noqa: E741
    """Place of whole indices (float64) in the flat table; what lies outside falls on its border."""
    i = walk.table_place(h, lookup.h_first, lookup.h_count)
    j = walk.table_place(k, lookup.k_first, lookup.k_count)
    m = walk.table_place(l, lookup.l_first, lookup.l_count)
    return np.int32((i * lookup.k_count + j) * lookup.l_count + m)


@fused_kernel
def shape_round_terms(work):
    """Turn what place_round left in TERM into lattice factors (eq. 15)."""
    for pixel in range(PIXELS):
        work[TERM + pixel] = physics.sphere_single(work[TERM + pixel], work[AMPLITUDE + pixel])


@fused_kernel
def shape_radial_terms(shape, work):
    """Turn what place_radial left in TERM into lattice factors (eq. 16, 17)."""
    for pixel in range(PIXELS):
        work[TERM + pixel] = walk.radial_single(shape, work[TERM + pixel])


@fused_kernel
def add_terms(work):
    """Add TERM to SUM: every F is the same, and multiplied in at the end."""
    for pixel in range(PIXELS):
        work[SUM + pixel] += work[TERM + pixel]


@fused_kernel
def add_reflections(squared, work, at):
    """Add TERM times F^2 of the pixel's place to SUM."""
    for pixel in range(PIXELS):
        # An unsigned index: a signed one could count from the end, which costs more than the look-up.
        work[AMPLITUDE + pixel] = squared[np.uint32(at[PLACE + pixel])]
    for pixel in range(PIXELS):
        work[SUM + pixel] += work[AMPLITUDE + pixel] * work[TERM + pixel]
