"""Terms of shapes that end: a gauss or top-hat spot is 0 beyond a radius, and most groups see none.

A group whose every pixel lies further from every reflection is passed over; the few others are summed in
float64, pixel by pixel. What is passed over is exactly 0 (eq. 35).
"""

import math

import numpy as np
from bragg_numba.kernels import physics, walk
from bragg_numba.kernels._jit import device_function, fused_kernel
from bragg_numba.kernels.pixels.rows import (
    AIM_X,
    AIM_Y,
    AIM_Z,
    GROUPS,
    LANES,
    LISTED,
    LIT,
    LIT_H,
    LIT_K,
    LIT_L,
    SUM,
    TERM,
)
from bragg_numba.kernels.pixels.terms import change_per_pixel, dot, place_of

#: Groups that are looked through at once.
_TOGETHER = 16


@device_function
def is_near(a_x, a_y, a_z, slow, incident, margin, group, exact):
    """Tell whether one index comes within ``margin`` of a whole number anywhere in a group (first order)."""
    tilt = dot(a_x, a_y, a_z, exact[AIM_X + group], exact[AIM_Y + group], exact[AIM_Z + group])
    change = change_per_pixel(tilt, slow, group, exact)
    h = tilt - dot(a_x, a_y, a_z, incident[0], incident[1], incident[2])
    return abs(physics.fraction(h)) <= margin + 0.5 * (LANES - 1) * abs(change)


@fused_kernel
def mark_lit_groups(cell, slows, incident, margins, exact, at):
    """Fill LIT with 1 for groups that come within ``margins`` of whole h, k, l, where a spot may be; else 0."""
    c = cell
    for group in range(GROUPS):
        near_h = is_near(c[0], c[1], c[2], slows[0], incident, margins[0], group, exact)
        near_k = is_near(c[3], c[4], c[5], slows[1], incident, margins[1], group, exact)
        near_l = is_near(c[6], c[7], c[8], slows[2], incident, margins[2], group, exact)
        at[LIT + group] = np.int32(near_h & near_k & near_l)


@fused_kernel
def list_lit_groups(at):
    """List the groups that mark_lit_groups marked, from LISTED on; return how many there are."""
    found = 0
    for first in range(0, GROUPS, _TOGETHER):
        any_lit = np.int32(0)
        for group in range(first, first + _TOGETHER):
            any_lit = np.int32(any_lit | at[LIT + group])
        if any_lit != 0:
            for group in range(first, first + _TOGETHER):
                at[LISTED + found] = group
                found += at[LIT + group]
    return found


@fused_kernel
def place_lit_groups(n_lit, panel, lattice, cell, incident, place, work, at):
    """Fill rows of the listed groups' pixels: squared radius or top-hat, and nearest indices (eq. 14, 17)."""
    g = panel
    row, column, wide, sub_slow, sub_fast, depth = place
    half_fast, half_slow = g.subpixel_fast / 2.0, g.subpixel_slow / 2.0
    for lit in range(n_lit):
        group, start = at[LISTED + lit], lit * LANES
        fast = g.pitch_fast * (column + group % wide) + (g.subpixel_fast * sub_fast + half_fast)
        top = g.pitch_slow * (row + group // wide * LANES) + (g.subpixel_slow * sub_slow + half_slow)
        for lane in range(LANES):
            slow = top + g.pitch_slow * np.float64(np.int32(lane))
            x, y, z = physics.flat_position(g, fast, slow, depth)
            nearness = 1.0 / math.sqrt(x * x + y * y + z * z)
            q_x, q_y, q_z = x * nearness - incident[0], y * nearness - incident[1], z * nearness - incident[2]
            c = cell
            h, k, l = walk.indices(c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7], c[8], q_x, q_y, q_z)  # noqa: E741
            h_near, k_near, l_near = np.rint(h), np.rint(k), np.rint(l)
            radius_squared = physics.quadratic_form(lattice, h - h_near, k - k_near, l - l_near)
            work[TERM + start + lane] = np.float32(walk.before_single(lattice.shape, radius_squared))
            work[LIT_H + start + lane] = np.float32(h_near)
            work[LIT_K + start + lane] = np.float32(k_near)
            work[LIT_L + start + lane] = np.float32(l_near)


@fused_kernel
def add_lit_groups(n_lit, lattice, lookup, squared, work, at):
    """Add the terms of the listed groups' pixels to SUM (eq. 16)."""
    for pixel in range(n_lit * LANES):
        work[TERM + pixel] = walk.after_single(lattice.shape, work[TERM + pixel])
    for lit in range(n_lit):
        group, start = at[LISTED + lit], lit * LANES
        for lane in range(LANES):
            term = work[TERM + start + lane]
            if lookup.has_table and term != 0.0:
                h, k, l = work[LIT_H + start + lane], work[LIT_K + start + lane], work[LIT_L + start + lane]  # noqa: E741
                term *= squared[place_of(lookup, np.float64(h), np.float64(k), np.float64(l))]
            work[SUM + lane * GROUPS + group] += term
