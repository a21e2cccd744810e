"""Spots that end at a radius: the rows of pixels around each, and the terms there.

A pixel's radius is made in float64, from its direction less that of the block's middle; the shape is float32. Sums are
float64 and lie in the same array as the directions: that they cannot overlap is then visible to the compiler.
"""

import math

import numpy as np
from bragg_numba.kernels import walk
from bragg_numba.kernels._jit import shared_function
from bragg_numba.kernels.spots.exact import exact_factor
from bragg_numba.kernels.spots.rows import (
    BLOCK_COLUMNS,
    BLOCK_ROWS,
    BOTTOM,
    LANES,
    LEFT,
    RIGHT,
    SPOT_SUM,
    TO_X,
    TO_Y,
    TO_Z,
    TOP,
    WIDTH,
)

#: Half width of an ellipse over that of its middle row from which on each row has limits of its own.
SLANTED = 1.5


@shared_function
def add_run(shape, single, at, share, vectors, origin, places):
    """Add a step's terms to a run of LANES pixels from ``at`` on."""
    xx, xy, xz, yx, yy, yz, zx, zy, zz = vectors
    start = np.uint64(at)
    for lane in range(LANES):
        pixel = start + np.uint64(lane)
        x = places[np.uint64(TO_X) + pixel]
        y = places[np.uint64(TO_Y) + pixel]
        z = places[np.uint64(TO_Z) + pixel]
        h = origin[0] + (xx * x + (xy * y + xz * z))
        k = origin[1] + (yx * x + (yy * y + yz * z))
        l = origin[2] + (zx * x + (zy * y + zz * z))  # noqa: E741
        squared = h * h + (k * k + l * l)
        if single is not None:
            term = walk.after_single(shape, np.float32(walk.before_single(shape, squared)))
        else:
            term = walk.radial_factor(shape, squared)
        places[np.uint64(SPOT_SUM) + pixel] += share * np.float64(term)


@shared_function
def whole_pixels(low, high, count):
    """First pixel between two places along an axis, and the one after the last; of ``count``."""
    first, last = math.ceil(low), math.floor(high)
    return int(min(max(first, 0.0), float(count))), int(max(min(last + 1.0, float(count)), 0.0))


@shared_function
def note_touched(top, bottom, left, right, flags):
    """Widen the rows and columns that one spot has touched (those after the last)."""
    flags[TOP], flags[BOTTOM] = min(flags[TOP], np.int32(top)), max(flags[BOTTOM], np.int32(bottom))
    flags[LEFT], flags[RIGHT] = min(flags[LEFT], np.int32(left)), max(flags[RIGHT], np.int32(right))


@shared_function
def add_box(shape, single, ellipse, share, vectors, origin, scratch):
    """Add a step's terms to the pixels of an ellipse."""
    _, fast, slow, half_fast, half_slow, half_row, lean, narrowing = ellipse
    top, bottom = whole_pixels(slow - half_slow, slow + half_slow, BLOCK_ROWS)
    left, right = whole_pixels(fast - half_fast, fast + half_fast, BLOCK_COLUMNS)
    if top >= bottom or left >= right:
        return
    # A run may go on beyond the last column, into room that belongs to no pixel or to pixels of the block.
    note_touched(top, bottom, left, right + LANES - 1, scratch.flags)
    slanted = half_fast > SLANTED * half_row
    for row in range(top, bottom):
        if slanted:
            down = row - slow
            half, middle = math.sqrt(max(half_row * half_row - narrowing * down * down, 0.0)), fast - lean * down
            left, right = whole_pixels(middle - half, middle + half, BLOCK_COLUMNS)
        for column in range(left, right, LANES):
            add_run(shape, single, row * WIDTH + column, share, vectors, origin, scratch.places)


@shared_function
def add_box_exactly(ellipse, share, step, panel, lattice, place, spot, scratch):
    """The same pixel by pixel, where another reflection may be as near; ``step``: exact.exact_factor."""
    _, fast, slow, half_fast, half_slow, _, _, _ = ellipse
    top, bottom = whole_pixels(slow - half_slow, slow + half_slow, BLOCK_ROWS)
    left, right = whole_pixels(fast - half_fast, fast + half_fast, BLOCK_COLUMNS)
    if top >= bottom or left >= right:
        return
    note_touched(top, bottom, left, right, scratch.flags)
    for row in range(top, bottom):
        for column in range(left, right):
            term = exact_factor(step, panel, lattice, place, row, column, spot)
            scratch.places[SPOT_SUM + row * WIDTH + column] += share * term
