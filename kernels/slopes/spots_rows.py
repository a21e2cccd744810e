"""Where the kernels of slopes that go reflection by reflection keep their values.

A field is what spots/rows.py calls a block: BLOCK_ROWS x BLOCK_COLUMNS pixels of a panel. Its sums, a plane each, lie
behind the values of that module in one float64 array, so that the compiler sees that they do not overlap. Its wanted
pixels are listed in blocks of slopes/rows.py.
"""

from typing import NamedTuple

import numpy as np
from bragg_numba.kernels.slopes import rows
from bragg_numba.kernels.spots.rows import BLOCK_COLUMNS, BLOCK_ROWS, NODE, SIZE_PLACES, TO_X, TO_Y

#: From a plane of a field to the next.
PLANE = TO_Y - TO_X

# --- float64: sums of terms, in the order of the rows of a beam's sums (slopes/rows.py); the weights of pixels --------

OF_TERM, OF_STRAIN, OF_AIM, OF_SHAPE, OF_SPREAD = (SIZE_PLACES + n * PLANE for n in (0, 1, 10, 13, 19))
WEIGHTS = SIZE_PLACES + rows.SUMS * PLANE
SIZE_PLANES = WEIGHTS + PLANE

# --- int32: which cells of CELL x CELL pixels hold a sum, of which blocks something is summed -------------------------

CELL = NODE
CELLS_DOWN, CELLS_ACROSS = BLOCK_ROWS // CELL, BLOCK_COLUMNS // CELL
CELLS = CELLS_DOWN * CELLS_ACROSS
MOST_BLOCKS = -(-BLOCK_ROWS * BLOCK_COLUMNS // rows.BLOCK)
DIRTY, SUMMED = 0, CELLS
SIZE_FLAGS = SUMMED + MOST_BLOCKS

#: Columns of a list of fields, int32: panel, first row and column in it, first block, number of blocks.
PANEL, ROW, COLUMN, FIRST, COUNT = range(5)
N_FIELD = 5


class Listed(NamedTuple):
    """The fields of a call, the spots that each looks for, and its pixels."""

    fields: np.ndarray  #: int32 (n, N_FIELD)
    first: np.ndarray  #: int64 (n + 1,): the spots of field i are spot[first[i]] to before spot[first[i + 1]]
    spot: np.ndarray  #: int64
    blocks: np.ndarray  #: int32 (blocks, 3): where a block's pixels begin in ``pixels``, how many, their cell or -1
    pixels: np.ndarray  #: uint16: row in the field times BLOCK_COLUMNS, and the column


class Spots(NamedTuple):
    """The reflections and the steps that they may lie in."""

    of_hkl: np.ndarray  #: float64 (n, N_SPOT), spots/rows.py
    squares: np.ndarray  #: float64 (n,), |F|^2
    vectors: np.ndarray  #: float64 (orientations, 9), spots/rows.Forms
    cells: np.ndarray  #: float64 (orientations, N_CELL)
    spins: np.ndarray  #: float64 (orientations, 9): how h, k, l change with the mosaic spread, times h, k, l


class Moves(NamedTuple):
    """Changes of each source for itself (eq. 64)."""

    weights: np.ndarray  #: float64 (sources, moves)
    waves: np.ndarray  #: float64 (sources, moves), relative


class Matrix(NamedTuple):
    """What each parameter's slope is made of (nouns.Images)."""

    starts: np.ndarray  #: int64 (parameters + 1,)
    places: np.ndarray  #: int64 (entries,)
    factors: np.ndarray  #: float64 (panels, entries)


class Room(NamedTuple):
    """What one thread writes in, or a row for each."""

    planes: np.ndarray  #: float64 (SIZE_PLANES,)
    flags: np.ndarray  #: int32 (SIZE_FLAGS,)
    exact: np.ndarray  #: float64 (rows.SIZE_EXACT,)
    at: np.ndarray  #: int64 (BLOCK,): where a block's pixels lie in a plane
    given: np.ndarray  #: float64 (3, BLOCK): what is given of a block's pixels
    sums: np.ndarray  #: float64 (MOST_BLOCKS, (N_ROWS + moves) * STRIDE)
