"""Squared structure factors of one wavelength in the float32 renderer, made for what a tile reaches (eq. 46).

A tile sees few reflections. Before the terms of a step are made those that lie in the box of indices that it reaches
are worked out into a small table of their own, in float64, vector by vector; pixels look them up there as they would
in a table of one wavelength. Where the box is too large for that each pixel's is worked out.
"""

import math

import numpy as np
from bragg_numba.kernels import walk
from bragg_numba.kernels._jit import device_function, fused_kernel, serial_kernel, shared_function
from bragg_numba.kernels.parameters import OVERHANG, Table
from bragg_numba.kernels.pixels.rays import paces_of_lane
from bragg_numba.kernels.pixels.rows import (
    AIM_X,
    AIM_Y,
    AIM_Z,
    AMPLITUDE,
    GROUPS,
    LANES,
    LISTED,
    LIT_H,
    LIT_K,
    LIT_L,
    PITCH,
    PIXELS,
    PLACE,
    SHORT,
    SIZE_LOCAL,
    SUM,
    TERM,
    TWIST,
)
from bragg_numba.kernels.pixels.terms import dot

#: What a tile's box of reflections is: without any F that is not 0, in the small table, or too large for it.
DARK, NARROW, WIDE = range(3)


@device_function
def middle_of_tile(exact):
    """Direction of the group that a tile's spread is measured from."""
    middle = GROUPS // 2
    return exact[AIM_X + middle], exact[AIM_Y + middle], exact[AIM_Z + middle]


@device_function
def corner_of_tile(panel, corner, wide, middle, work, exact):
    """Direction of the pixel in a corner of a tile, less that of its middle."""
    group = (GROUPS - wide) * (corner // 2) + (wide - 1) * (corner % 2)
    lane = (LANES - 1) * (corner // 2)
    pixel = lane * GROUPS + group
    left = 1.0 - work[SHORT + pixel]
    along = (paces_of_lane(lane) + work[TWIST + pixel]) * work[PITCH + group]
    x = exact[AIM_X + group] * left + panel.slow_x * along - middle[0]
    y = exact[AIM_Y + group] * left + panel.slow_y * along - middle[1]
    z = exact[AIM_Z + group] * left + panel.slow_z * along - middle[2]
    return x, y, z


@fused_kernel
def corners_of_tile(panel, wide, spread, work, exact):
    """corner_of_tile of all four, and by how much a direction may lie beyond what these span (eq. 23).

    That is of the second order of ``spread``, the largest distance of a pixel's direction from the middle's.
    """
    middle = middle_of_tile(exact)
    cosine = max(dot(middle[0], middle[1], middle[2], panel.normal_x, panel.normal_y, panel.normal_z), 1e-3)
    bend = 2.0 * spread * spread * (0.5 + math.sqrt(max(1.0 - cosine * cosine, 0.0)) / cosine)
    first = corner_of_tile(panel, 0, wide, middle, work, exact)
    second = corner_of_tile(panel, 1, wide, middle, work, exact)
    third = corner_of_tile(panel, 2, wide, middle, work, exact)
    fourth = corner_of_tile(panel, 3, wide, middle, work, exact)
    return (first, second, third, fourth), bend


@shared_function
def indices_along(axis, to_middle, around):
    """Lowest and highest whole index along an axis of the cell that a tile's pixels may be nearest to."""
    a_x, a_y, a_z = axis
    corners, spread, bend = around
    first = dot(a_x, a_y, a_z, corners[0][0], corners[0][1], corners[0][2])
    second = dot(a_x, a_y, a_z, corners[1][0], corners[1][1], corners[1][2])
    third = dot(a_x, a_y, a_z, corners[2][0], corners[2][1], corners[2][2])
    fourth = dot(a_x, a_y, a_z, corners[3][0], corners[3][1], corners[3][2])
    edge = math.sqrt(dot(a_x, a_y, a_z, a_x, a_y, a_z))
    low = max(min(min(first, second), min(third, fourth)) - edge * bend, -edge * spread)
    high = min(max(max(first, second), max(third, fourth)) + edge * bend, edge * spread)
    at = dot(a_x, a_y, a_z, to_middle[0], to_middle[1], to_middle[2])
    # The margin covers the rounding of float32 phases next to a half.
    return np.int64(np.rint(at + low - 1e-4)), np.int64(np.rint(at + high + 1e-4))


@fused_kernel
def look_up_tile(dispersed, cell, source, incident, around, lookup, reach, dispersion, local, exact):
    """Fill ``local`` with squared F of the reflections that a tile reaches in a step, float32.

    Parameters
    ----------
    dispersed
        As in parameters.Code.
    cell
        Nine numbers a, b, c over the wavelength.
    around
        Of corners_of_tile the corners; the largest distance of a pixel's direction from the middle's; the bend.
    reach
        How many cells a group's pixels may lie from its own.

    Returns
    -------
    tuple of int
        DARK, NARROW or WIDE; the first h, k, l of the small table, and how many it has of each.
    """
    x, y, z = middle_of_tile(exact)
    to_middle = (x - incident[0], y - incident[1], z - incident[2])
    h_0, h_1 = indices_along((cell[0], cell[1], cell[2]), to_middle, around)
    k_0, k_1 = indices_along((cell[3], cell[4], cell[5]), to_middle, around)
    l_0, l_1 = indices_along((cell[6], cell[7], cell[8]), to_middle, around)
    none = np.int64(0)
    beyond = h_1 <= lookup.h_first or h_0 >= lookup.h_first + lookup.h_count - 1
    beyond = beyond or k_1 <= lookup.k_first or k_0 >= lookup.k_first + lookup.k_count - 1
    beyond = beyond or l_1 <= lookup.l_first or l_0 >= lookup.l_first + lookup.l_count - 1
    if beyond and lookup.default_F == 0.0:
        return DARK, none, none, none, none, none, none
    # On every side as far as a pixel may lie from its group.
    n_h, n_k, n_l = h_1 - h_0 + 1 + 2 * reach, k_1 - k_0 + 1 + 2 * reach, l_1 - l_0 + 1 + 2 * reach
    h_0, k_0, l_0 = h_0 - reach, k_0 - reach, l_0 - reach
    if n_h * n_k * n_l > SIZE_LOCAL - OVERHANG:
        return WIDE, h_0, k_0, l_0, n_h, n_k, n_l
    slab = slab_of_tile(cell, (x, y, z), incident, around[1])
    some = fill_slab(dispersed, source, h_0, k_0, l_0, n_h, n_k, n_l, lookup, reach, slab, dispersion, local)
    return NARROW if some else DARK, h_0, k_0, l_0, n_h, n_k, n_l


@shared_function
def slab_of_tile(cell, middle, incident, spread):
    """Between what limits the part of a reflection along the tile's middle direction lies, if a pixel is nearest to it.

    A pixel's direction d has d m = 1 - abs(d - m)^2 / 2 along the middle one, m; its nearest indices are off by half
    an index at most. Returns that part per h, k and l, and the limits.
    """
    c = cell
    across_a = (c[4] * c[8] - c[5] * c[7], c[5] * c[6] - c[3] * c[8], c[3] * c[7] - c[4] * c[6])
    across_b = (c[7] * c[2] - c[8] * c[1], c[8] * c[0] - c[6] * c[2], c[6] * c[1] - c[7] * c[0])
    across_c = (c[1] * c[5] - c[2] * c[4], c[2] * c[3] - c[0] * c[5], c[0] * c[4] - c[1] * c[3])
    per = 1.0 / dot(c[0], c[1], c[2], across_a[0], across_a[1], across_a[2])
    x, y, z = middle
    of_h = per * dot(x, y, z, across_a[0], across_a[1], across_a[2])
    of_k = per * dot(x, y, z, across_b[0], across_b[1], across_b[2])
    of_l = per * dot(x, y, z, across_c[0], across_c[1], across_c[2])
    at = 1.0 - dot(x, y, z, incident[0], incident[1], incident[2])
    half = 0.501 * (abs(of_h) + abs(of_k) + abs(of_l)) + 1e-9
    return of_h, of_k, of_l, at - 0.5 * spread * spread - half, at + half


@shared_function
def between(low, high, per, first, last):
    """First and last whole number between two ``first`` and ``last`` that times ``per`` lies between two limits."""
    if abs(per) * (last - first) < 1e-12:
        return first, last
    one, other = low / per, high / per
    one, other = min(one, other), max(one, other)
    return np.int64(math.ceil(max(one, float(first)))), np.int64(math.floor(min(other, float(last))))


@fused_kernel
def fill_slab(dispersed, source, h_0, k_0, l_0, n_h, n_k, n_l, lookup, reach, slab, dispersion, local):
    """Fill what a tile may ask of its small table, which is what lies in its slab; return whether any is not 0.

    Vectors go on beyond that, at most into what is filled later.
    """
    parts, factors, faintest = dispersion.parts, dispersion.factors, dispersion.faintest
    cells = np.uint64(lookup.h_count * lookup.k_count * lookup.l_count)
    of_h, of_k, of_l, low, high = slab
    k_low, k_high = k_0 + reach, k_0 + n_k - 1 - reach
    l_low, l_high = l_0 + reach, l_0 + n_l - 1 - reach
    least_l, most_l = min(of_l * l_low, of_l * l_high), max(of_l * l_low, of_l * l_high)
    default = np.float32(lookup.default_F * lookup.default_F)
    if lookup.default_F * lookup.default_F <= faintest:
        default = np.float32(0.0)
    some = np.int32(0)
    for h in range(h_0 + reach, h_0 + n_h - reach):
        first_k, last_k = between(low - of_h * h - most_l, high - of_h * h - least_l, of_k, k_low, k_high)
        for k in range(first_k, last_k + 1):
            part = of_h * h + of_k * k
            first_l, last_l = between(low - part, high - part, of_l, l_low, l_high)
            row, of_row = (
                (h - lookup.h_first) * lookup.k_count + (k - lookup.k_first),
                ((h - h_0) * n_k + k - k_0) * n_l,
            )
            # The part of the row that the large table holds; where there is none, it begins behind the row's end.
            listed, unlisted = max(first_l, lookup.l_first), min(last_l, lookup.l_first + lookup.l_count - 1) + 1
            inside = 0 <= h - lookup.h_first < lookup.h_count and 0 <= k - lookup.k_first < lookup.k_count
            if not inside or unlisted <= listed:
                listed, unlisted = last_l + 1, last_l + 1
            start = np.uint64(row * lookup.l_count + (listed - lookup.l_first))
            to = np.uint64(of_row + (listed - l_0))
            for chunk in range((unlisted - listed + OVERHANG - 1) // OVERHANG):
                begin, end = start + np.uint64(chunk * OVERHANG), to + np.uint64(chunk * OVERHANG)
                for lane in range(OVERHANG):
                    cell = begin + np.uint64(lane)
                    real, imaginary = parts[cell], parts[cells + cell]
                    for element in range(len(dispersed)):
                        f_prime, f_double_prime = factors[source, 2 * element], factors[source, 2 * element + 1]
                        x = parts[np.uint64(2 * element + 2) * cells + cell]
                        y = parts[np.uint64(2 * element + 3) * cells + cell]
                        real += f_prime * x - f_double_prime * y
                        imaginary += f_prime * y + f_double_prime * x
                    square = real * real + imaginary * imaginary
                    square = square if square > faintest else 0.0
                    local[end + np.uint64(lane)] = np.float32(square)
                    some = np.int32(some | np.int32(square > 0.0))
            for l in range(first_l, listed):  # noqa: E741
                local[of_row + (l - l_0)] = default
            for l in range(unlisted, last_l + 1):  # noqa: E741
                local[of_row + (l - l_0)] = default
            if listed > first_l or unlisted <= last_l:
                some = np.int32(some | np.int32(default > 0.0))
    return some != 0


@shared_function
def bright_square(lookup, dispersion, source, h, k, l):  # noqa: E741
    """Squared F of a whole index, 0 where it is too faint to count."""
    square = walk.dispersed_square(lookup, dispersion, source, h, k, l)
    return square if square > dispersion.faintest else 0.0


@shared_function
def all_of_table(lookup):
    """What look_up_tile returns, of the large table itself."""
    look = lookup
    return WIDE, look.h_first, look.k_first, look.l_first, look.h_count, look.k_count, look.l_count


@shared_function
def small_table(lookup, found):
    """The lookup of what look_up_tile found."""
    _, h_0, k_0, l_0, n_h, n_k, n_l = found
    return Table(h_0, k_0, l_0, n_h, n_k, n_l, lookup.has_table, lookup.interpolate, lookup.default_F)


@serial_kernel
def look_up_pixels(small, lookup, dispersion, source, work, at):
    """Fill AMPLITUDE with squared F of every pixel's place in a small table that was too large to be filled."""
    for pixel in range(PIXELS):
        row, l = divmod(np.int64(at[PLACE + pixel]), small.l_count)  # noqa: E741
        h, k = divmod(row, small.k_count)
        h, k, l = float(small.h_first + h), float(small.k_first + k), float(small.l_first + l)  # noqa: E741
        work[AMPLITUDE + pixel] = np.float32(bright_square(lookup, dispersion, source, h, k, l))


@fused_kernel
def add_amplitudes(work):
    """Add TERM times AMPLITUDE to SUM."""
    for pixel in range(PIXELS):
        work[SUM + pixel] += work[AMPLITUDE + pixel] * work[TERM + pixel]


@fused_kernel
def add_dispersed_groups(n_lit, lattice, lookup, dispersion, source, work, at):
    """Add the terms of the listed groups' pixels to SUM, as lit.add_lit_groups (eq. 16, 46)."""
    for pixel in range(n_lit * LANES):
        work[TERM + pixel] = walk.after_single(lattice.shape, work[TERM + pixel])
    for lit in range(n_lit):
        group, start = at[LISTED + lit], lit * LANES
        for lane in range(LANES):
            term = work[TERM + start + lane]
            if term != 0.0:
                h, k, l = work[LIT_H + start + lane], work[LIT_K + start + lane], work[LIT_L + start + lane]  # noqa: E741
                square = bright_square(lookup, dispersion, source, np.float64(h), np.float64(k), np.float64(l))
                work[SUM + lane * GROUPS + group] += term * np.float32(square)
