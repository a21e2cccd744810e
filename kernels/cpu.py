"""The CPU kernels: parallel loops over blocks of pixel groups; what a block does is in cpu_float64 and cpu_tile.

A group is a fixed number of neighbouring pixels of one row, counted from the row's first pixel, so that
what a pixel gets does not depend on how the frame is cut into tiles, blocks or threads.
"""

import numpy as np
from bragg_numba.kernels import cpu_float64, cpu_tile
from bragg_numba.kernels._jit import cpu_kernel, serial_kernel
from numba import prange

#: Pixels in a group, and groups in a block, of the float64 kernel.
LANES_64, GROUPS_64 = 16, 64

#: Rows in a block of the tile kernel, where the frame has them: a compact block reaches few reflections.
TILE_ROWS = 16

#: Tiles that share one allocation of working memory: one per tile costs page faults.
TILES_IN_RUN = 16


@serial_kernel
def list_groups(tile, tile_rows, tile_columns, lanes, top, bottom, roi, mask, rows, columns):
    """Fill rows[] and columns[] with the groups of a tile that hold a pixel to render; return how many.

    ``tile`` counts tiles of tile_rows rows and tile_columns groups over the region; ``columns`` is in pixels.
    """
    first_group = roi[0] // lanes
    last_group = roi[1] // lanes
    across = (last_group - first_group) // tile_columns + 1
    row_start = top + tile // across * tile_rows
    group_start = first_group + tile % across * tile_columns
    masked = mask.size > 0
    found = 0
    for row in range(row_start, min(row_start + tile_rows, bottom)):
        for group in range(group_start, min(group_start + tile_columns, last_group + 1)):
            wanted = not masked
            if masked:
                for fast in range(max(group * lanes, roi[0]), min(group * lanes + lanes - 1, roi[1]) + 1):
                    wanted = wanted or mask[row, fast]
            if wanted:
                rows[found] = row
                columns[found] = group * lanes
                found += 1
    for unused in range(found, len(rows)):
        # Kernels work through whole blocks: what is not needed repeats the first group, and is not stored.
        rows[unused], columns[unused] = rows[0], columns[0]
    return found


@serial_kernel
def count_tiles(tile_rows, tile_columns, lanes, top, bottom, roi):
    """How many tiles cover the region's rows top..bottom."""
    across = (roi[1] // lanes - roi[0] // lanes) // tile_columns + 1
    down = (max(0, bottom - top) + tile_rows - 1) // tile_rows
    return across * down


@serial_kernel
def store_groups(values, rows, columns, n_groups, lanes, row_start, roi, mask, image):
    """Copy values[group * lanes + lane] into the image, inside the region and the mask."""
    masked = mask.size > 0
    group = 0
    while group < n_groups:
        row, column = rows[group], columns[group]
        run = 1  # groups that follow each other in the frame as well
        while group + run < n_groups and rows[group + run] == row and columns[group + run] == column + run * lanes:
            run += 1
        first, last = max(column, roi[0]), min(column + run * lanes, roi[1] + 1)
        skip = group * lanes - column
        if masked:
            for fast in range(first, last):
                if mask[row, fast]:
                    image[row - row_start, fast] = values[skip + fast]
        else:
            line, new = image[row - row_start, first:last], values[skip + first : skip + last]
            for pixel in range(last - first):
                line[pixel] = new[pixel]
        group += run


@cpu_kernel
def add_bragg_float64(
    geometry,
    lattice,
    lookup,
    rules,
    incident,
    wavelength,
    weight,
    cells,
    table,
    roi,
    mask,
    row_start,
    row_stop,
    image,
    missed,
):
    """Render rows row_start..row_stop of the frame into image (float32, photons), in parallel blocks.

    ``image`` is (row_stop - row_start, n_fast); pixels outside the region or the mask are left alone.
    ``missed`` (int64, one per block or more) counts interpolations that left the table.
    """
    top, bottom = max(row_start, roi[2]), min(row_stop, roi[3] + 1)
    for tile in prange(count_tiles(1, GROUPS_64, LANES_64, top, bottom, roi)):
        rows = np.empty(GROUPS_64, np.int64)
        columns = np.empty(GROUPS_64, np.int64)
        n_groups = list_groups(tile, 1, GROUPS_64, LANES_64, top, bottom, roi, mask, rows, columns)
        if n_groups > 0:
            work = np.empty((cpu_float64.SCRATCH, GROUPS_64 * LANES_64))
            values = np.empty(GROUPS_64 * LANES_64)
            missed[tile] = cpu_float64.render_float64(
                geometry,
                lattice,
                lookup,
                rules,
                incident,
                wavelength,
                weight,
                cells,
                table,
                rows,
                columns,
                n_groups,
                LANES_64,
                work,
                values,
            )
            store_groups(values, rows, columns, n_groups, LANES_64, row_start, roi, mask, image)


@serial_kernel
def doubtful_groups(values, lanes, n_groups, rows, columns):
    """Move the groups that hold a NaN to the front of rows and columns; return how many there are."""
    found = 0
    doubt = np.int32(0)
    for pixel in range(n_groups * lanes):
        doubt |= np.int32(values[pixel] != values[pixel])
    if doubt == 0:
        return found
    for group in range(n_groups):
        doubtful = False
        for pixel in range(group * lanes, group * lanes + lanes):
            doubtful = doubtful or values[pixel] != values[pixel]
        if doubtful:
            rows[found], columns[found] = rows[group], columns[group]
            found += 1
    return found


@cpu_kernel
def add_bragg_tile(
    geometry,
    lattice,
    lookup,
    rules,
    incident,
    wavelength,
    weight,
    cells,
    table,
    table_squared,
    roi,
    mask,
    row_start,
    row_stop,
    counts,
    near_half,
    lane_shape,
    tile_rows,
    image,
):
    """Render rows row_start..row_stop into image with float32 phases inside groups of len(lane_shape) pixels.

    Groups in which float32 cannot decide (a pixel exactly on a peak) are rendered again in float64.
    ``table_squared`` is flat; otherwise as add_bragg_float64.
    """
    lanes = len(lane_shape)
    groups = cpu_tile.PIXELS // lanes
    top, bottom = max(row_start, roi[2]), min(row_stop, roi[3] + 1)
    tile_columns = groups // tile_rows
    n_tiles = count_tiles(tile_rows, tile_columns, lanes, top, bottom, roi)
    for run in prange((n_tiles + TILES_IN_RUN - 1) // TILES_IN_RUN):
        rows = np.empty(groups, np.int64)
        columns = np.empty(groups, np.int64)
        work = np.empty(cpu_tile.SIZE_32, np.float32)
        totals = np.empty(cpu_tile.SIZE_64)
        at = np.empty(cpu_tile.PIXELS, np.int32)
        values = work[cpu_tile.VALUES : cpu_tile.VALUES + cpu_tile.PIXELS]
        for tile in range(run * TILES_IN_RUN, min((run + 1) * TILES_IN_RUN, n_tiles)):
            n_groups = list_groups(tile, tile_rows, tile_columns, lanes, top, bottom, roi, mask, rows, columns)
            if n_groups == 0:
                continue
            cpu_tile.render_tile(
                geometry,
                lattice,
                lookup,
                rules,
                incident,
                wavelength,
                weight,
                cells,
                table_squared,
                rows,
                columns,
                n_groups,
                counts,
                near_half,
                lane_shape,
                work,
                totals,
                at,
            )
            store_groups(values, rows, columns, n_groups, lanes, row_start, roi, mask, image)
            n_doubtful = doubtful_groups(values, lanes, n_groups, rows, columns)
            if n_doubtful > 0:
                exact = np.empty((cpu_float64.SCRATCH, n_doubtful * lanes))
                settled = np.empty(n_doubtful * lanes)
                cpu_float64.render_float64(
                    geometry,
                    lattice,
                    lookup,
                    rules,
                    incident,
                    wavelength,
                    weight,
                    cells,
                    table,
                    rows,
                    columns,
                    n_doubtful,
                    lanes,
                    exact,
                    settled,
                )
                store_groups(settled, rows, columns, n_doubtful, lanes, row_start, roi, mask, image)
