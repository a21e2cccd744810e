"""The terms of one patch, one reflection and one step.

Pixels that float32 cannot decide are left NaN and settled one by one in float64: on a peak of a square crystal, on a
top hat's rim, where another reflection is as near (eq. 40).
"""

import numpy as np
from bragg_numba.kernels import physics, walk
from bragg_numba.kernels._jit import fused_kernel, serial_kernel, shared_function
from bragg_numba.kernels.parameters import SQUARE
from bragg_numba.kernels.spots.exact import exact_factor
from bragg_numba.kernels.spots.rows import ACROSS, AREA, OFF_X, OFF_Y, OFF_Z, PATCH_SUM, PATCH_TERM, SIDE

_ZERO, _ONE, _HALF, _NAN = (np.float32(c) for c in (0.0, 1.0, 0.5, np.nan))

#: How near to a half an index must come for float32 not to know the side, and for float64.
DOUBT_SINGLE, DOUBT_DOUBLE = np.float32(4e-6), 1e-9


@shared_function
def offset_of(at, values):
    """How a pixel's direction differs from its patch's."""
    return values[np.uint64(OFF_X) + at], values[np.uint64(OFF_Y) + at], values[np.uint64(OFF_Z) + at]


@shared_function
def turn(vectors, x, y, z):
    """Coordinates of a direction's change."""
    xx, xy, xz, yx, yy, yz, zx, zy, zz = vectors
    return xx * x + (xy * y + xz * z), yx * x + (yy * y + yz * z), zx * x + (zy * y + zz * z)


@shared_function
def own_single(h, k, l):  # noqa: E741
    """1 where a displacement leaves its reflection the nearest one, 0 where not, NaN where float32 cannot tell."""
    farthest = max(abs(h), max(abs(k), abs(l)))
    inside = _ONE if farthest < _HALF else _ZERO
    return _NAN if abs(farthest - _HALF) < DOUBT_SINGLE else inside


@fused_kernel
def square_terms(patch, vectors, phases, counts, same_counts, values):
    """Fill PATCH_TERM with the square crystal's lattice factor, not normalised (eq. 13); float32."""
    start = np.uint64(patch * AREA)
    h_whole, k_whole, l_whole, h_coarse, k_coarse, l_coarse, h_fine, k_fine, l_fine, h_turns, k_turns, l_turns = phases
    for pixel in range(AREA):
        x, y, z = offset_of(start + np.uint64(pixel), values)
        x, y, z = turn(vectors, x, y, z)
        x, y, z = h_fine + x, k_fine + y, l_fine + z
        own = own_single(h_whole + (h_coarse + x), k_whole + (k_coarse + y), l_whole + (l_coarse + z))
        _, d_h = physics.reduced_single(h_coarse, x)
        _, d_k = physics.reduced_single(k_coarse, y)
        _, d_l = physics.reduced_single(l_coarse, z)
        t_h = physics.turns_single(h_turns, counts[0], same_counts[0], x)
        t_k = physics.turns_single(k_turns, counts[1], same_counts[1], y)
        t_l = physics.turns_single(l_turns, counts[2], same_counts[2], z)
        values[PATCH_TERM + pixel] = own * physics.square_ratio_single(t_h, t_k, t_l, d_h, d_k, d_l)


@fused_kernel
def round_terms(patch, vectors, phases, counts, values):
    """Fill PATCH_TERM with the round crystal's lattice factor (eq. 15); float32."""
    start = np.uint64(patch * AREA)
    h_whole, k_whole, l_whole, h_coarse, k_coarse, l_coarse, h_fine, k_fine, l_fine, _, _, _ = phases
    for pixel in range(AREA):
        x, y, z = offset_of(start + np.uint64(pixel), values)
        x, y, z = turn(vectors, x, y, z)
        x, y, z = h_fine + x, k_fine + y, l_fine + z
        own = own_single(h_whole + (h_coarse + x), k_whole + (k_coarse + y), l_whole + (l_coarse + z))
        w_h, d_h = physics.reduced_single(h_coarse, x)
        w_k, d_k = physics.reduced_single(k_coarse, y)
        w_l, d_l = physics.reduced_single(l_coarse, z)
        x_h, y_h = physics.eighths_of_fringes(h_coarse, w_h, x, d_h, counts[0])
        x_k, y_k = physics.eighths_of_fringes(k_coarse, w_k, y, d_k, counts[1])
        x_l, y_l = physics.eighths_of_fringes(l_coarse, w_l, z, d_l, counts[2])
        r, phase = physics.radius_single(x_h, x_k, x_l, y_h, y_k, y_l)
        values[PATCH_TERM + pixel] = own * physics.sphere_single(r, phase)


@fused_kernel
def exact_terms(shape, patch, vectors, origin, lattice, values):
    """Fill PATCH_TERM with the lattice factor in float64, normalised; NaN where another reflection is as near."""
    start = np.uint64(patch * AREA)
    o_x, o_y, o_z = origin
    for pixel in range(AREA):
        x, y, z = offset_of(start + np.uint64(pixel), values)
        x, y, z = turn(vectors, x, y, z)
        x, y, z = o_x + x, o_y + y, o_z + z
        if shape == SQUARE:
            square = physics.grating_squared(x, lattice.n_a)
            square *= physics.grating_squared(y, lattice.n_b)
            square *= physics.grating_squared(z, lattice.n_c)
        else:
            square = walk.radial_factor(shape, physics.quadratic_form(lattice, x, y, z))
        farthest = max(abs(x), max(abs(y), abs(z)))
        square = square if farthest < 0.5 else 0.0
        values[PATCH_TERM + pixel] = np.nan if abs(farthest - 0.5) < DOUBT_DOUBLE else square


@serial_kernel
def settle_terms(scale, step, panel, lattice, place, patch, spot, values):
    """Give the pixels of a patch whose term is NaN what the float64 renderer finds, times ``scale``."""
    for pixel in range(AREA):
        term = values[PATCH_TERM + pixel]
        if term != term:
            row, column = patch // ACROSS * SIDE + pixel // SIDE, patch % ACROSS * SIDE + pixel % SIDE
            values[PATCH_TERM + pixel] = scale * exact_factor(step, panel, lattice, place, row, column, spot)


@fused_kernel
def add_terms(patch, share, values):
    """Add PATCH_TERM times a source's share to PATCH_SUM."""
    start = np.uint64(patch * AREA)
    for pixel in range(AREA):
        values[np.uint64(PATCH_SUM) + (start + np.uint64(pixel))] += share * values[PATCH_TERM + pixel]


@fused_kernel
def has_doubts(values):
    """Whether any of PATCH_TERM is NaN."""
    doubts = np.int32(0)
    for pixel in range(AREA):
        doubts = np.int32(doubts | np.int32(values[PATCH_TERM + pixel] != values[PATCH_TERM + pixel]))
    return doubts != 0
