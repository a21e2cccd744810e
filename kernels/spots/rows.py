"""Where the spots' kernels keep their working values, and what a spot of a list is.

A tile is that of pixels/rows. It is cut into patches of SIDE x SIDE pixels, counted row by row; a patch's pixels lie
side by side, row by row, so that the loop over them is one vector or two:

    patch = patch_row * ACROSS + patch_column        pixel = patch * AREA + row_in_patch * SIDE + column_in_patch
"""

from typing import NamedTuple

import numpy as np
from bragg_numba.kernels.pixels.rows import AMPLITUDE, COLUMNS, PIXELS, ROWS

SIDE = 4
AREA = SIDE * SIDE
DOWN, ACROSS = ROWS // SIDE, COLUMNS // SIDE
PATCHES = DOWN * ACROSS

#: From a patch's centre to the centre of its outermost pixels, in pixels along an axis.
TO_EDGE = 0.5 * (SIDE - 1)

# --- float32 or float64: direction of a pixel less that of its patch's centre; sums; the terms of one patch ---------

_ROW = PIXELS + 16
OFF_X, OFF_Y, OFF_Z, PATCH_SUM = (n * _ROW for n in range(4))
PATCH_TERM = 4 * _ROW

#: Values in that array.
SIZE_VALUES = PATCH_TERM + AREA

# --- float64: direction of a patch's centre less that of the tile's; h, k, l or y of a row of patches; how near it is

FROM_X, FROM_Y, FROM_Z = (n * PATCHES for n in range(3))
AT_X, AT_Y, AT_Z, NEARNESS = (3 * PATCHES + n * ACROSS for n in range(4))

#: Values in that array.
SIZE_PLACES = 3 * PATCHES + 4 * ACROSS


#: The row of the pixels' float32 array that holds what turns a total into photons: here no amplitudes are looked up.
LIGHT = AMPLITUDE


class SpotScratch(NamedTuple):
    """The working values of one thread, or a row for each."""

    values: np.ndarray  #: float32 or float64: as above for patches, the sums of boxes.py
    places: np.ndarray  #: float64: as above, or the directions of boxes.py
    dirty: np.ndarray  #: int32: whether a patch holds a sum; the rows and columns that boxes have touched


#: Columns of a list of spots, float64: the index; the same in the form's coordinates (eq. 38); what a displacement in
#: these is multiplied by so that nothing that matters lies beyond 1; F^2 with the crystal's volume; and the
#: squared radius (round, gauss, tophat) or the product of the gratings' denominators (square) up to which it counts.
H, K, L, FORM_H, FORM_K, FORM_L, SCALE_H, SCALE_K, SCALE_L, GAIN, LIMIT = range(11)
N_SPOT = 11


#: What a tile finds of a reflection, float64: photons, and times where they lie.
FOUND_PHOTONS, FOUND_SLOW, FOUND_FAST = range(3)
N_FOUND = 3


class Lists(NamedTuple):
    """Which spots each tile of a work list is to look for: spot[first[i]] to before spot[first[i + 1]]."""

    first: np.ndarray  #: int64 (tiles + 1,)
    spot: np.ndarray  #: int64 (n,), growing within a tile


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
    cells: np.ndarray  #: float64 (orientations, 9): a, b, c in metres
