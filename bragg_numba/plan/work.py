"""The work list of a frame: which tiles of which panels have pixels that are wanted (kernels/work.py)."""

from __future__ import annotations

import numpy as np

from bragg_numba.kernels import parameters
from bragg_numba.kernels.work import BOTTOM, COLUMN, LEFT, N_COLUMNS, PANEL, RIGHT, ROW, TOP

Roi = tuple[int, int, int, int]


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
