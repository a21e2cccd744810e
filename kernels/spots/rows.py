"""Where the spots' kernels keep their working values, and what a spot of a list is.

A block is BLOCK_ROWS x BLOCK_COLUMNS pixels of a panel, whole tiles of pixels/rows.py: large, so that a spot seldom
lies in more than one, and what is worked out for each spot and step is worked out once. Its pixels lie row by row,
with LANES of room behind each row, so that a run of LANES pixels may begin anywhere.
"""

from typing import NamedTuple

import numpy as np
from bragg_numba.kernels.pixels.rows import COLUMNS, PIXELS, ROWS

#: Tiles in a block.
TILES_DOWN, TILES_ACROSS = 4, 2
TILES = TILES_DOWN * TILES_ACROSS
BLOCK_ROWS, BLOCK_COLUMNS = TILES_DOWN * ROWS, TILES_ACROSS * COLUMNS

#: Pixels that are computed together, and from a row of a block's values to the next.
LANES = 8
WIDTH = BLOCK_COLUMNS + LANES
_SIZE = BLOCK_ROWS * WIDTH + LANES

# --- places, float64, a value a pixel: direction less that of the block's middle; the sum of one spot; of all; what ---
# --- turns a sum into photons, 0 where no pixel is wanted -------------------------------------------------------------

TO_X, TO_Y, TO_Z, SPOT_SUM, BLOCK_SUM, LIGHT = (n * _SIZE for n in range(6))
PIXEL_END = 6 * _SIZE

# --- patches of SIDE x SIDE pixels, counted row by row: patch = patch_row * ACROSS + patch_column ---------------------

SIDE = 4
AREA = SIDE * SIDE
DOWN, ACROSS = BLOCK_ROWS // SIDE, BLOCK_COLUMNS // SIDE
PATCHES = DOWN * ACROSS

#: From a patch's centre to the centre of its outermost pixels, in pixels along an axis.
TO_EDGE = 0.5 * (SIDE - 1)

#: Nodes of 2 x 2 patches, which are looked at first.
NODE = 2 * SIDE
NODES_DOWN, NODES_ACROSS = BLOCK_ROWS // NODE, BLOCK_COLUMNS // NODE
NODES = NODES_DOWN * NODES_ACROSS
TO_NODE_EDGE = 0.5 * (NODE - 1)

# float64, a value a patch, and a node: direction of its centre less that of the block's middle; of a row of nodes: how
# near they are
FROM_X, FROM_Y, FROM_Z = (PIXEL_END + n * PATCHES for n in range(3))
_PATCH_END = PIXEL_END + 3 * PATCHES
NODE_X, NODE_Y, NODE_Z = (_PATCH_END + n * NODES for n in range(3))
NEARNESS = _PATCH_END + 3 * NODES

# float64, a value a column of the block: photons of one spot, over the gain; the same times the row where they lie
OF_COLUMN, DOWN_COLUMN = (NEARNESS + NODES_ACROSS + n * (WIDTH + LANES) for n in range(2))

#: Values in ``places``.
SIZE_PLACES = DOWN_COLUMN + WIDTH + LANES

# float32 or float64, pixel = patch * AREA + row_in_patch * SIDE + column_in_patch: direction less that of the patch's
# centre; sums of one spot; the terms of one patch
_VALUES = BLOCK_ROWS * BLOCK_COLUMNS + 16
OFF_X, OFF_Y, OFF_Z, PATCH_SUM = (n * _VALUES for n in range(4))
PATCH_TERM = 4 * _VALUES

#: Values in ``values``.
SIZE_VALUES = PATCH_TERM + AREA

# --- int32: the rows and columns that one spot has touched; which tiles hold anything; of which LIGHT is known; which -
# --- patches hold a sum -----------------------------------------------------------------------------------------------

TOP, BOTTOM, LEFT, RIGHT = range(4)
HELD = 4
LIGHTED = HELD + TILES
DIRTY = LIGHTED + TILES

#: Values in ``flags``.
SIZE_FLAGS = DIRTY + PATCHES

# --- kept, float64, of each tile of the block: what the tile's renderer adds up over layers and directions -----------

KEPT_TOTAL, KEPT_SHARE, KEPT_POLAR = (n * PIXELS for n in range(3))
SIZE_KEPT = 3 * PIXELS


class SpotScratch(NamedTuple):
    """The working values of one thread, or a row for each."""

    values: np.ndarray  #: float32 or float64 (SIZE_VALUES,)
    places: np.ndarray  #: float64 (SIZE_PLACES,)
    flags: np.ndarray  #: int32 (SIZE_FLAGS,)
    kept: np.ndarray  #: float64 (TILES * SIZE_KEPT,)


#: Columns of a list of spots, float64: the index; the same in the form's coordinates (eq. 38); what a displacement in
#: these is multiplied by so that nothing that matters lies beyond 1; F^2 with the crystal's volume and the plan's
#: scale; and, of square crystals, the product of the gratings' denominators up to which a pixel counts.
H, K, L, FORM_H, FORM_K, FORM_L, SCALE_H, SCALE_K, SCALE_L, GAIN, LIMIT = range(11)
N_SPOT = 11

#: Where F depends on the wavelength, behind them: real and imaginary part of F without what does, then of each
#: element's partial sum, over the largest F (eq. 46); GAIN holds its square.
WAVES = N_SPOT


class DispersedSpots(NamedTuple):
    """A list of spots whose F depends on the wavelength: what kernels get in the place of one."""

    rows: np.ndarray  #: float64 (n, N_SPOT + 2 + 2 elements)
    factors: np.ndarray  #: float64 (sources in the order of Beams, 2 elements): f' and f'', electrons


#: What a block finds of a spot, float64: the photons in its wanted pixels, and these times the row and the column where
#: they lie, from the block's corner to the pixel's middle.
FOUND_PHOTONS, FOUND_SLOW, FOUND_FAST = range(3)
N_FOUND = 3


class Lists(NamedTuple):
    """Which spots each block of a work list is to look for: spot[first[i]] to before spot[first[i + 1]]."""

    first: np.ndarray  #: int64 (blocks + 1,)
    spot: np.ndarray  #: int64 (n,), growing within a block


class Beams(NamedTuple):
    """The sources by direction: within one, by growing 1 / wavelength."""

    incident: np.ndarray  #: float64 (n, 3), unit vectors downstream
    first: np.ndarray  #: int64 (n + 1,): the sources of direction i are first[i] to before first[i + 1]
    weight: np.ndarray  #: float64 (n,): sum of the weights of its sources
    waves: np.ndarray  #: float64 (sources,), 1 / wavelength, 1/m
    wavelength: np.ndarray  #: float64 (sources,), m
    share: np.ndarray  #: float64 (sources,): a source's weight over that of its direction


class Forms(NamedTuple):
    """What a spot's shape is measured in: of every orientation the vectors that turn q into coordinates (eq. 38)."""

    vectors: np.ndarray  #: float64 (orientations, 9), metres
    cells: np.ndarray  #: float64 (orientations, N_CELL), parameters.py: a, b, c in metres, and the share of photons
