"""Spots that end at a radius: the rows of pixels around each, and the terms there.

The sums and the pixels' directions lie row by row, so that a spot's box is a few runs of LANES pixels wherever it
begins. A pixel's radius is made in float64, from its direction less that of the tile's middle; the shape is float32.
"""

import math

import numpy as np
from bragg_numba.kernels import physics, walk
from bragg_numba.kernels._jit import device_function, fused_kernel
from bragg_numba.kernels.pixels.rows import COLUMNS, GROUPS, ROWS, TOTAL, WEIGHT
from bragg_numba.kernels.pixels.rows import LANES as GROUP_LANES
from bragg_numba.kernels.spots.rows import FOUND_FAST, FOUND_PHOTONS, FOUND_SLOW, LIGHT
from bragg_numba.kernels.spots.exact import exact_factor

#: Pixels that are computed together.
LANES = 8

#: From a row of values to the next: runs may begin anywhere in a row.
WIDTH = COLUMNS + LANES
_SIZE = ROWS * WIDTH + LANES

# --- float64: directions less that of the tile's middle, and sums; in one array, so that they cannot overlap ---
TO_X, TO_Y, TO_Z, BOX_SUM = (n * _SIZE for n in range(4))
SIZE_PLACES = 4 * _SIZE

#: Half width of an ellipse over that of its middle row from which on each row has limits of its own.
SLANTED = 1.5

# --- int32: which rows and columns hold sums ---
TOP, BOTTOM, LEFT, RIGHT = range(4)


@fused_kernel
def aim_at_pixels(panel, place, middle, places):
    """Fill TO with the pixels' directions less ``middle``."""
    g = panel
    first_row, first_column, sub_slow, sub_fast, depth = place
    half = 0.5 * g.subpixel_size
    first = g.pixel_size * first_column + (g.subpixel_size * sub_fast + half)
    top = g.pixel_size * first_row + (g.subpixel_size * sub_slow + half)
    for row in range(ROWS):
        slow = top + g.pixel_size * row
        for column in range(WIDTH):
            fast = first + g.pixel_size * np.float64(np.int32(column))
            x, y, z = physics.flat_position(panel, fast, slow, depth)
            nearness = 1.0 / math.sqrt(x * x + y * y + z * z)
            at = row * WIDTH + column
            places[TO_X + at] = x * nearness - middle[0]
            places[TO_Y + at] = y * nearness - middle[1]
            places[TO_Z + at] = z * nearness - middle[2]


@device_function
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
        places[np.uint64(BOX_SUM) + pixel] += share * np.float64(term)


@device_function
def whole_pixels(low, high, count):
    """First pixel between two places along an axis, and the one after the last; of ``count``."""
    first, last = math.ceil(low), math.floor(high)
    return int(min(max(first, 0.0), float(count))), int(max(min(last + 1.0, float(count)), 0.0))


@device_function
def open_box(ellipse, dirty):
    """First and last row and column (those after the last) of an ellipse's pixels, noted as dirty; none: all 0."""
    _, fast, slow, half_fast, half_slow, _, _, _ = ellipse
    top, bottom = whole_pixels(slow - half_slow, slow + half_slow, ROWS)
    left, right = whole_pixels(fast - half_fast, fast + half_fast, COLUMNS)
    if top >= bottom or left >= right:
        return 0, 0, 0, 0
    dirty[TOP], dirty[BOTTOM] = min(dirty[TOP], np.int32(top)), max(dirty[BOTTOM], np.int32(bottom))
    dirty[LEFT], dirty[RIGHT] = min(dirty[LEFT], np.int32(left)), max(dirty[RIGHT], np.int32(right))
    return top, bottom, left, right


@device_function
def add_box(shape, single, ellipse, share, vectors, origin, scratch):
    """Add a step's terms to the pixels of an ellipse; return whether it holds any."""
    places = scratch.places
    _, fast, slow, half_fast, _, half_row, lean, narrowing = ellipse
    top, bottom, left, right = open_box(ellipse, scratch.dirty)
    slanted = half_fast > SLANTED * half_row
    for row in range(top, bottom):
        if slanted:
            down = row - slow
            half, middle = math.sqrt(max(half_row * half_row - narrowing * down * down, 0.0)), fast - lean * down
            left, right = whole_pixels(middle - half, middle + half, COLUMNS)
        for column in range(left, right, LANES):
            add_run(shape, single, row * WIDTH + column, share, vectors, origin, places)
    return top < bottom


@device_function
def add_box_exactly(ellipse, share, step, panel, lattice, place, spot, scratch):
    """The same pixel by pixel, where another reflection may be as near; ``step``: exact.exact_factor."""
    top, bottom, left, right = open_box(ellipse, scratch.dirty)
    for row in range(top, bottom):
        for column in range(left, right):
            term = exact_factor(step, panel, lattice, place, row, column, spot)
            scratch.places[BOX_SUM + row * WIDTH + column] += share * term
    return top < bottom


@fused_kernel
def gather_boxes(gain, weighted, size, place, boxes, scratch, found):
    """Move the sums of one reflection, times ``gain`` and WEIGHT, to the float64 total.

    ``found`` gets the photons on the panel, ``size`` rows and columns from the tile's first, and their moments along
    slow and fast in pixels of the panel.
    """
    places, dirty, work, exact = boxes.places, boxes.dirty, scratch.work, scratch.exact
    photons, along_slow, along_fast = 0.0, 0.0, 0.0
    left, right = np.int64(dirty[LEFT]), np.int64(dirty[RIGHT])
    # Runs may have gone beyond the box, into what belongs to no pixel; there, too, sums are to be empty.
    beyond = min(right + LANES, WIDTH)
    for row in range(dirty[TOP], dirty[BOTTOM]):
        start = np.uint64(BOX_SUM + row * WIDTH)
        at = np.uint64((row % GROUP_LANES) * GROUPS + (row // GROUP_LANES) * COLUMNS)
        for column in range(left, min(beyond, COLUMNS)):
            value = gain * places[start + np.uint64(column)]
            if weighted:
                value *= np.float64(work[np.uint64(WEIGHT) + (at + np.uint64(column))])
            exact[np.uint64(TOTAL) + (at + np.uint64(column))] += value
        if row < size[0]:
            of_row, moment = 0.0, 0.0
            for column in range(left, min(min(beyond, COLUMNS), size[1])):
                value = places[start + np.uint64(column)]
                if weighted:
                    value *= np.float64(work[np.uint64(WEIGHT) + (at + np.uint64(column))])
                value *= np.float64(work[np.uint64(LIGHT) + (at + np.uint64(column))])
                of_row += value
                moment += value * (column + 0.5)
            photons += of_row
            along_fast += moment
            along_slow += of_row * (row + 0.5)
        for column in range(left, beyond):
            places[start + np.uint64(column)] = 0.0
    dirty[TOP], dirty[BOTTOM], dirty[LEFT], dirty[RIGHT] = ROWS, 0, COLUMNS, 0
    found[FOUND_PHOTONS] += gain * photons
    found[FOUND_SLOW] += gain * (along_slow + photons * place[0])
    found[FOUND_FAST] += gain * (along_fast + photons * place[1])


@fused_kernel
def clear_boxes(places, dirty):
    """Empty the sums."""
    for pixel in range(_SIZE):
        places[BOX_SUM + pixel] = 0.0
    dirty[TOP], dirty[BOTTOM], dirty[LEFT], dirty[RIGHT] = ROWS, 0, COLUMNS, 0
