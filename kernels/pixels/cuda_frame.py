"""A tile of the work list on a GPU: its threads, and where its pixels go."""

from typing import NamedTuple

import numpy as np
from bragg_numba.kernels._jit_cuda import SIMULATED, gpu_function
from bragg_numba.kernels.parameters import SinglePanel
from bragg_numba.kernels.work import BOTTOM, LEFT, RIGHT, TOP, panel_at
from numba import uint32

#: Threads in a block.
THREADS = 128

#: Pixels along a side of a tile of the work list, and in it.
TILE_SIDE = 16
TILE_PIXELS = TILE_SIDE * TILE_SIDE

#: Blocks that take a tile with one thread a pixel.
BLOCKS_OF_TILE = TILE_PIXELS // THREADS


class Doubts(NamedTuple):
    """Pixels that float32 could not decide, for the float64 pass: a list as long as the image has pixels at most."""

    pixels: np.ndarray  #: int64, place in the image, row by row
    panels: np.ndarray  #: int32, number of the panel
    parts: np.ndarray  #: uint32, a bit for each part of a pixel's rounds that is not in the image yet
    count: np.ndarray  #: int32 (1,), how many are listed


@gpu_function
def only_one(panel, number):
    """A panel that is all there is: its numbers are the kernel's own arguments, which take no registers."""
    return panel


@gpu_function
def record_at(records, number):
    """A record of an array, whose numbers are read where they are asked for."""
    return records[number]


def flat_at(flats, number):
    """record_at for an array of SINGLE_PANEL_RECORD in the simulator."""
    return SinglePanel(*(flats[number][name] for name in SinglePanel._fields))


def finders(several):
    """What finds a tile's panel, and its SinglePanel, among a kernel's arguments."""
    if not several:
        return only_one, only_one
    # The simulator's records are none that compiled functions take.
    return (panel_at.py_func, flat_at) if SIMULATED else (record_at, record_at)


@gpu_function
def is_wanted(panel, tiles, item, frame, row, column):
    """Tell whether a pixel of a tile (32-bit numbers, in the panel) is to be rendered.

    A GPU cannot be handed an array without elements: a mask of one says that there is none.
    """
    tile = uint32(item)
    wanted = tiles[tile, uint32(TOP)] <= row < tiles[tile, uint32(BOTTOM)]
    wanted = wanted and tiles[tile, uint32(LEFT)] <= column < tiles[tile, uint32(RIGHT)]
    if wanted and frame.mask.size > 1:
        wanted = frame.mask[uint32(panel.first_row + row), uint32(panel.first_column + column)]
    return wanted


@gpu_function
def place_in_image(panel, frame, row, column):
    """Row and column of the image for a pixel of a panel."""
    return uint32(panel.first_row + row - frame.row_start), uint32(panel.first_column + column)
