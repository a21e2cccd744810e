"""The CPU kernels: parallel loops over tiles; what a tile does is in cpu_tile and cpu_float64.

Tiles are counted from the frame's first pixel, so that what a pixel gets does not depend on how the frame is
cut into rows, regions or threads.
"""

import numpy as np
from bragg_numba.kernels import cpu_float64, cpu_rows, cpu_tile
from bragg_numba.kernels._jit import cpu_kernel, serial_kernel
from bragg_numba.kernels.pixels.rows import COLUMNS, PIXELS, ROWS
from numba import prange, types

#: Tiles that share one allocation of working memory: one per tile costs page faults.
TILES_IN_RUN = 16


@serial_kernel
def count_tiles(top, bottom, roi):
    """How many tiles cover the region's rows top..bottom."""
    across = roi[1] // COLUMNS - roi[0] // COLUMNS + 1
    down = (bottom - 1) // ROWS - top // ROWS + 1
    return across * down if bottom > top else 0


@serial_kernel
def corner_of_tile(tile, top, roi):
    """First row and column of a tile in the frame."""
    across = roi[1] // COLUMNS - roi[0] // COLUMNS + 1
    return (top // ROWS + tile // across) * ROWS, (roi[0] // COLUMNS + tile % across) * COLUMNS


@serial_kernel
def list_pixels(corner, top, bottom, roi, mask, slows, fasts):
    """Fill slows and fasts (float64) with a tile's pixels inside region and mask, row by row; return how many."""
    first, last = max(roi[0], corner[1]), min(roi[1] + 1, corner[1] + COLUMNS)
    found = 0
    for row in range(max(top, corner[0]), min(bottom, corner[0] + ROWS)):
        if mask.size == 0:
            in_row, slow, fast = slows[found:], np.float64(row), np.float64(first)
            across = fasts[found:]
            for column in range(last - first):
                in_row[column], across[column] = slow, fast + np.float64(np.int32(column))
            found += last - first
        else:
            for column in range(first, last):
                if mask[row, column]:
                    slows[found], fasts[found] = row, column
                    found += 1
    return found


@serial_kernel
def keep_nans(n, slows, fasts, row_start, image):
    """Move the listed pixels whose photons are NaN to the front of the list; return how many there are."""
    found = 0
    for pixel in range(n):
        value = image[int(slows[pixel]) - row_start, int(fasts[pixel])]
        if value != value:
            slows[found], fasts[found] = slows[pixel], fasts[pixel]
            found += 1
    return found


@serial_kernel
def store_pixels(values, n, slows, fasts, row_start, image):
    """Put the listed pixels' photons into the image."""
    for pixel in range(n):
        image[int(slows[pixel]) - row_start, int(fasts[pixel])] = values[pixel]


@serial_kernel
def store_rows(values, n, slows, fasts, row_start, image):
    """store_pixels for whole pieces of rows, as list_pixels lists them without a mask."""
    width = int(fasts[n - 1] - fasts[0]) + 1
    for piece in range(n // width):
        line = image[int(slows[piece * width]) - row_start, int(fasts[0]) : int(fasts[0]) + width]
        new = values[piece * width : (piece + 1) * width]
        for column in range(width):
            line[column] = new[column]


@serial_kernel
def aligned_single(size):
    """Float32 values, not set, from the beginning of a cache line: a vector across two of them loads slower."""
    room = np.empty(size + 16, np.float32)
    first = -(room.ctypes.data // 4) % 16
    return room[first : first + size]


# What a tile's kernel gets beside the plan: a corner, working memory.
_CORNER = types.UniTuple(types.int64, 2)
_SINGLES = types.Array(types.float32, 1, "C")
_DOUBLES, _ROWS_OF_DOUBLES = types.Array(types.float64, 1, "C"), types.Array(types.float64, 2, "C")
_INTEGERS = types.Array(types.int32, 1, "C")


def float64_kernel(plan):
    """render_float64, compiled for a plan's arguments (Plan.arguments), to hand to the parallel kernels."""
    return cpu_float64.render_float64.given(*plan, _DOUBLES, _DOUBLES, types.int64, _ROWS_OF_DOUBLES, _DOUBLES)


def tile_kernel(plan, phases, padded, squared, split):
    """render_tile, compiled for a plan's arguments and those of add_bragg_tile."""
    panel, lattice, _, rules, sources, cells, _ = plan
    tile = (panel, lattice, padded, rules, phases, sources, cells, squared, _CORNER, split)
    return cpu_tile.render_tile.given(*tile, _SINGLES, _DOUBLES, _INTEGERS)


@cpu_kernel
def add_bragg_float64(
    render_float64,
    panel,
    lattice,
    lookup,
    rules,
    sources,
    cells,
    table,
    roi,
    mask,
    row_start,
    row_stop,
    image,
    missed,
):
    """Render rows row_start..row_stop of the frame into image (float32, photons), in parallel tiles.

    ``render_float64`` is the float64_kernel of the plan, whose arguments follow.
    ``image`` is (row_stop - row_start, n_fast); pixels outside the region or the mask are left alone.
    ``missed`` (int64, one per tile or more) counts interpolations that left the table.
    """
    top, bottom = max(row_start, roi[2]), min(row_stop, roi[3] + 1)
    n_tiles = count_tiles(top, bottom, roi)
    for run in prange((n_tiles + TILES_IN_RUN - 1) // TILES_IN_RUN):
        slows, fasts = np.empty(PIXELS), np.empty(PIXELS)
        # Rows that lie a whole number of 4096 bytes apart compete for the same lines of the first-level cache.
        work, values = np.empty((cpu_float64.SCRATCH, PIXELS + 8)), np.empty(PIXELS)
        for tile in range(run * TILES_IN_RUN, min((run + 1) * TILES_IN_RUN, n_tiles)):
            corner = corner_of_tile(tile, top, roi)
            n = list_pixels(corner, top, bottom, roi, mask, slows, fasts)
            missed[tile] = render_float64(
                panel, lattice, lookup, rules, sources, cells, table, slows, fasts, n, work, values
            )
            if mask.size == 0:
                store_rows(values, n, slows, fasts, row_start, image)
            else:
                store_pixels(values, n, slows, fasts, row_start, image)


@cpu_kernel
def add_bragg_tile(
    render_tile,
    render_float64,
    panel,
    lattice,
    lookup,
    rules,
    sources,
    cells,
    table,
    phases,
    padded,
    squared,
    split,
    roi,
    mask,
    row_start,
    row_stop,
    image,
):
    """Render rows row_start..row_stop into image with the float32 phases of cpu_tile.

    Pixels in which float32 cannot decide (exactly on a peak) are rendered again in float64. ``render_tile`` is the
    tile_kernel; ``padded`` is the lookup of ``squared``; ``split`` is that of cpu_tile.render_tile; otherwise as
    add_bragg_float64.
    """
    top, bottom = max(row_start, roi[2]), min(row_stop, roi[3] + 1)
    n_tiles = count_tiles(top, bottom, roi)
    for run in prange((n_tiles + TILES_IN_RUN - 1) // TILES_IN_RUN):
        work, exact = aligned_single(cpu_rows.SIZE_32), np.empty(cpu_rows.SIZE_64)
        at = np.empty(cpu_rows.SIZE_INT, np.int32)
        for tile in range(run * TILES_IN_RUN, min((run + 1) * TILES_IN_RUN, n_tiles)):
            corner = corner_of_tile(tile, top, roi)
            if not any_wanted(corner, top, bottom, roi, mask):
                continue
            background, strength = render_tile(
                panel,
                lattice,
                padded,
                rules,
                phases,
                sources,
                cells,
                squared,
                corner,
                split,
                work,
                exact,
                at,
            )
            if cpu_tile.store_tile(background, strength, corner, row_start, top, bottom, roi, mask, work, image):
                slows, fasts = np.empty(PIXELS), np.empty(PIXELS)
                n = list_pixels(corner, top, bottom, roi, mask, slows, fasts)
                n = keep_nans(n, slows, fasts, row_start, image)
                settled, values = np.empty((cpu_float64.SCRATCH, n)), np.empty(n)
                render_float64(
                    panel, lattice, lookup, rules, sources, cells, table, slows, fasts, n, settled, values
                )
                store_pixels(values, n, slows, fasts, row_start, image)


@serial_kernel
def any_wanted(corner, top, bottom, roi, mask):
    """Tell whether a tile holds a pixel to render."""
    if mask.size == 0:
        return True
    for row in range(max(top, corner[0]), min(bottom, corner[0] + ROWS)):
        for column in range(max(roi[0], corner[1]), min(roi[1] + 1, corner[1] + COLUMNS)):
            if mask[row, column]:
                return True
    return False
