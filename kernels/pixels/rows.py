"""Where the tile kernels keep their working values: rows of one float32, one float64 and one int32 array.

A tile is PIXELS pixels of a panel, ``wide`` columns of bands of LANES rows: ROWS x COLUMNS, and at a panel's edges
narrower and taller or the other way round. A group is a column of LANES pixels, a band's part of a column of the tile.
Loops run over the groups, and

    group = band * wide + column        pixel = lane * GROUPS + group        row = band * LANES + lane

so that a group's values are loaded as they lie, and neighbours in a row of values are neighbours in the frame.

Each array is flat, with rows at fixed offsets: that the rows cannot overlap is then visible to the compiler, and the
loops vectorise without checks. Sizes are constants for the same reason.
"""

from typing import NamedTuple

import numpy as np
from bragg_numba.kernels._jit import device_function
from bragg_numba.kernels.work import BOTTOM, COLUMN, RIGHT, ROW

ROWS, COLUMNS = 16, 64
PIXELS = ROWS * COLUMNS
LANES = 8
GROUPS = PIXELS // LANES

# Each row of pixels begins one cache line further than a whole number of 4096 bytes: rows that lay 4096 bytes
# apart would all compete for the same few lines of the first-level cache.
_LINE = 16
_ROW = PIXELS + _LINE
_GROUP_ROW = GROUPS + _LINE

# --- float32, one value a pixel -----------------------------------------------------------------

SHORT, BEND, TWIST = (n * _ROW for n in range(3))  # from the group's centre to the pixel (physics.offset_single)
SUM, TERM, AMPLITUDE = (n * _ROW for n in range(3, 6))  # AMPLITUDE: squared structure factors
FACTOR, POLAR, WEIGHT = (n * _ROW for n in range(6, 9))
LIT_H, LIT_K, LIT_L = (n * _ROW for n in range(9, 12))  # nearest indices of the listed groups' pixels (lit.py)
_PIXEL_END = 12 * _ROW

# --- float32, one value a group; h, k, l ---------------------------------------------------------

FINE_H, FINE_K, FINE_L = (_PIXEL_END + n * _GROUP_ROW for n in range(3))  # of the phases (eq. 32)
COARSE_H, COARSE_K, COARSE_L = (_PIXEL_END + n * _GROUP_ROW for n in range(3, 6))
TURNS_H, TURNS_K, TURNS_L = (_PIXEL_END + n * _GROUP_ROW for n in range(6, 9))
TILT_H, TILT_K, TILT_L = (_PIXEL_END + n * _GROUP_ROW for n in range(9, 12))  # phases of the direction alone
NEAR_H, NEAR_K, NEAR_L = (_PIXEL_END + n * _GROUP_ROW for n in range(12, 15))  # whole parts, from the table's start
CHANGE_H, CHANGE_K, CHANGE_L = (_PIXEL_END + n * _GROUP_ROW for n in range(15, 18))  # a pixel further, or its coarse
LEFT_H, LEFT_K, LEFT_L = (_PIXEL_END + n * _GROUP_ROW for n in range(18, 21))  # part, and what is left (eq. 33)
NEARNESS, PITCH, SLANT = (_PIXEL_END + n * _GROUP_ROW for n in range(21, 24))  # 1 / distance; pitch / distance; cosine
PART_I, PART_E, PART_B = (_PIXEL_END + n * _GROUP_ROW for n in range(24, 27))  # parts of the direction along vectors
PACE_I, PACE_E, PACE_B = (_PIXEL_END + n * _GROUP_ROW for n in range(27, 30))  # and of a pixel's step along slow

#: Values in the float32 array.
SIZE_32 = _PIXEL_END + 30 * _GROUP_ROW

#: And behind them, where F depends on the wavelength, squared structure factors of what a tile reaches (dispersed.py).
SIZE_LOCAL = 2**16

# --- float64: sums of a pixel, then a group's direction, pixel / distance, cosine to the slow axis --

_ROW_64 = PIXELS + _LINE // 2
_GROUP_ROW_64 = GROUPS + _LINE // 2
TOTAL, SHARE = 0, _ROW_64
AIM_X, AIM_Y, AIM_Z, PITCH_64, SLANT_64 = (2 * _ROW_64 + n * _GROUP_ROW_64 for n in range(5))

#: Values in the float64 array.
SIZE_64 = 2 * _ROW_64 + 5 * _GROUP_ROW_64

# --- int32: a pixel's place in the flat table, then a group's; lit groups, and their list ----------

PLACE = 0
PLACE_OF_GROUP, LIT, LISTED = (_ROW + n * _GROUP_ROW for n in range(3))

#: Values in the int32 array.
SIZE_INT = _ROW + 3 * _GROUP_ROW


class Scratch(NamedTuple):
    """The three arrays, of one thread or a row for each."""

    work: np.ndarray  #: float32 (SIZE_32,)
    exact: np.ndarray  #: float64 (SIZE_64,)
    at: np.ndarray  #: int32 (SIZE_INT,)


@device_function
def columns_of_tile(tiles, index):
    """How many columns a tile has: COLUMNS, unless its window asks for a taller or a wider one."""
    if tiles[index, RIGHT] - tiles[index, COLUMN] > COLUMNS:
        return GROUPS
    wide = COLUMNS
    while tiles[index, BOTTOM] - tiles[index, ROW] > PIXELS // wide:
        wide //= 2
    return wide
