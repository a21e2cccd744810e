"""The work list of a frame: which tiles of which panels have pixels that are wanted (kernels/work.py)."""

from __future__ import annotations

from functools import cache

import numpy as np

from bragg_numba.kernels import parameters
from bragg_numba.kernels.pixels.rows import COLUMNS, GROUPS, LANES, PIXELS, ROWS
from bragg_numba.kernels.work import BOTTOM, COLUMN, LEFT, N_COLUMNS, PANEL, RIGHT, ROW, TOP

Roi = tuple[int, int, int, int]

#: Columns of the narrowest tile: a pixel's row of the image is then still half a cache line.
LEAST_COLUMNS = 8


def list_tiles(
    panels: tuple[parameters.Panel, ...],
    roi: Roi,
    mask: np.ndarray,
    tile: tuple[int, int],
    rows: tuple[int, int],
) -> np.ndarray:
    """List the tiles that hold a wanted pixel, row by row of each panel.

    Parameters
    ----------
    panels
        As the plan has them.
    roi
        fast_min, fast_max, slow_min, slow_max of the frame, inclusive.
    mask
        bool (n_slow, n_fast) of the frame, True where a pixel is wanted; without elements: everywhere.
    tile
        Rows and columns of a tile.
    rows
        First row of the frame that is wanted, and the one after the last.

    Returns
    -------
    numpy.ndarray
        int32 (n, N_COLUMNS), C-contiguous.
    """
    lists = [_tiles_of_panel(index, panel, roi, mask, tile, rows) for index, panel in enumerate(panels)]
    return lists[0] if len(lists) == 1 else np.concatenate(lists)


def list_fitting_tiles(
    panels: tuple[parameters.Panel, ...], roi: Roi, mask: np.ndarray, rows: tuple[int, int]
) -> np.ndarray:
    """List tiles for the CPU's kernels as ``list_tiles`` does, shaped so that the edges of panels fill them, too.

    A tile costs the same whatever part of it lies on its panel: a module of 1030 columns would pay for 1088. What a
    pixel gets does not depend on the shape of its tile (kernels/pixels/rows.py).
    """
    lists = []
    for index, panel in enumerate(panels):
        parts = list(_parts_of_panel(panel.n_slow, panel.n_fast))
        for (top, bottom, left, right), shape in parts:
            row, column = panel.first_row, panel.first_column
            within = (max(roi[0], column + left), min(roi[1], column + right - 1), max(roi[2], row + top))
            part = (*within, min(roi[3], row + bottom - 1))
            lists.append(_tiles_of_panel(index, panel, part, mask, shape, rows))
    return lists[0] if len(lists) == 1 else np.concatenate(lists)


def split_tiles(tiles: np.ndarray, into: tuple[int, int]) -> np.ndarray:
    """Cut the tiles of a work list into smaller ones of ``into`` rows and columns; those without a wanted pixel go."""
    tall, wide = into
    found = []
    for tile in tiles:
        for row in range(int(tile[ROW]), int(tile[BOTTOM]), tall):
            for column in range(int(tile[COLUMN]), int(tile[RIGHT]), wide):
                part = tile.copy()
                part[ROW], part[COLUMN] = row, column
                part[TOP], part[BOTTOM] = max(row, tile[TOP]), min(row + tall, tile[BOTTOM])
                part[LEFT], part[RIGHT] = max(column, tile[LEFT]), min(column + wide, tile[RIGHT])
                if part[TOP] < part[BOTTOM] and part[LEFT] < part[RIGHT]:
                    found.append(part)
    return np.array(found, np.int32).reshape(-1, N_COLUMNS)


def list_gaps(panels: tuple[parameters.Panel, ...], shape: tuple[int, int]) -> list[tuple[slice, slice]]:
    """List rectangles (rows, columns) of a frame that hold all pixels of no panel, and no others."""
    tops, lefts = np.array([(g.first_row, g.first_column) for g in panels]).T
    bottoms, rights = tops + [g.n_slow for g in panels], lefts + [g.n_fast for g in panels]
    rows = sorted({0, shape[0], *tops.tolist(), *bottoms.tolist()})
    found = []
    for top, bottom in zip(rows[:-1], rows[1:], strict=True):
        here = (tops <= top) & (bottoms >= bottom)
        starts, ends = np.sort(lefts[here]), np.sort(rights[here])
        for left, right in zip((0, *ends), (*starts, shape[1]), strict=True):
            if left < right:
                found.append((slice(top, bottom), slice(int(left), int(right))))
    return found


Part = tuple[tuple[int, int, int, int], tuple[int, int]]


@cache
def _parts_of_panel(n_slow: int, n_fast: int) -> tuple[Part, ...]:
    """Cut a panel into parts (top, bottom, left, right) with tiles of a shape each: those with the fewest tiles."""
    whole = (0, n_slow, 0, n_fast)
    found: list[tuple[Part, ...]] = [((whole, (ROWS, COLUMNS)),)]
    # Tall tiles for the columns that are left over, then wide ones for the rows that are.
    for cut_columns in (False, True):
        for cut_rows in (False, True):
            bottom = n_slow // ROWS * ROWS if cut_rows and 0 < n_slow % ROWS <= LANES else n_slow
            edge = n_fast // COLUMNS * COLUMNS if cut_columns else n_fast
            parts: list[Part] = [((0, bottom, 0, edge), (ROWS, COLUMNS))]
            wide, left = COLUMNS // 2, edge
            while left < n_fast:
                if n_fast - left > wide // 2 or wide == LEAST_COLUMNS:
                    right = min(left + wide, n_fast)
                    parts.append(((0, bottom, left, right), (PIXELS // wide, wide)))
                    left = right
                wide = max(wide // 2, LEAST_COLUMNS)
            parts.append(((bottom, n_slow, 0, n_fast), (LANES, GROUPS)))
            found.append(tuple(part for part in parts if part[0][0] < part[0][1] and part[0][2] < part[0][3]))
    return min(found, key=_count_tiles)


def _count_tiles(parts: tuple[Part, ...]) -> int:
    """Tiles of a panel that is cut into parts."""
    return sum(-(-(part[1] - part[0]) // tall) * -(-(part[3] - part[2]) // wide) for part, (tall, wide) in parts)


def _tiles_of_panel(
    index: int,
    panel: parameters.Panel,
    roi: Roi,
    mask: np.ndarray,
    tile: tuple[int, int],
    rows: tuple[int, int],
) -> np.ndarray:
    tall, wide = tile
    # What is wanted of this panel, in its own pixels.
    top = max(0, max(roi[2], rows[0]) - panel.first_row)
    bottom = min(panel.n_slow, min(roi[3] + 1, rows[1]) - panel.first_row)
    left = max(0, roi[0] - panel.first_column)
    right = min(panel.n_fast, roi[1] + 1 - panel.first_column)
    if bottom <= top or right <= left:
        return np.empty((0, N_COLUMNS), np.int32)
    down = np.arange(top // tall * tall, bottom, tall, dtype=np.int32)
    across = np.arange(left // wide * wide, right, wide, dtype=np.int32)
    work = np.empty((len(down), len(across), N_COLUMNS), np.int32)
    work[..., PANEL] = index
    work[..., ROW], work[..., COLUMN] = down[:, None], across
    work[..., TOP], work[..., BOTTOM] = np.maximum(down, top)[:, None], np.minimum(down + tall, bottom)[:, None]
    work[..., LEFT], work[..., RIGHT] = np.maximum(across, left), np.minimum(across + wide, right)
    work = work.reshape(-1, N_COLUMNS)
    if mask.size:
        of_panel = mask[
            panel.first_row + top : panel.first_row + bottom, panel.first_column + left : panel.first_column + right
        ]
        cuts = np.maximum(down - top, 0), np.maximum(across - left, 0)
        wanted = np.logical_or.reduceat(np.logical_or.reduceat(of_panel, cuts[0], axis=0), cuts[1], axis=1)
        work = np.ascontiguousarray(work[wanted.reshape(-1)])
    return work
