"""Kernels to be compiled without a device, with the types of their arguments."""

from typing import NamedTuple

import numpy as np
from bragg_numba.kernels.parameters import (
    SHAPE_NAMES,
    SQUARE,
    Frame,
    Lattice,
    Panel,
    Rules,
    Single,
    Sources,
    Table,
)
from bragg_numba.kernels.pixels.cuda import float64_kernel, settle_kernel, tile_kernel
from bragg_numba.kernels.pixels.cuda_float64 import ExactKind
from bragg_numba.kernels.pixels.cuda_frame import THREADS, Doubts
from bragg_numba.kernels.pixels.cuda_patches import Kind
from bragg_numba.kernels.pixels.cuda_steps import PATCH_SIDES
from bragg_numba.kernels.random.cuda import poisson_counts
from bragg_numba.kernels.spots.cuda import spots_kernel
from bragg_numba.kernels.spots.cuda_terms import SpotKind
from bragg_numba.kernels.spots.cuda_tile import THREADS as SPOT_THREADS
from bragg_numba.kernels.spots.rows import Beams, Forms, Lists
from numba import types


class Variant(NamedTuple):
    """A kernel to be compiled without a device."""

    kernel: str
    precision: str
    function: object
    signature: tuple
    fastmath: bool
    threads: int
    pixels: int  #: pixels that a thread renders in one pass of its innermost loop


def variants():
    """Every shape with and without a table in both precisions; every other choice once, for the square with a table.

    Those are: smaller patches, weights, a curved detector, tricubic interpolation, what settles doubts, counts. And
    the kernels that go spot by spot: every shape with places in float64 and the shape in float32, and one in float64.
    """
    largest, *smaller = PATCH_SIDES
    found = []
    for shape, shape_name in enumerate(SHAPE_NAMES):
        for has_table, table_name in ((False, "default-F"), (True, "table")):
            name = f"{shape_name}-{table_name}"
            found.append(_tile(name, Kind(shape, has_table, False, False, largest)))
            found.append(_float64(name, ExactKind(shape, has_table, False, False)))
    for side in smaller:
        found.append(_tile(f"square-table-{side}x{side}", Kind(SQUARE, True, False, False, side)))
    found.append(_tile("square-table-weighted", Kind(SQUARE, True, False, True, largest)))
    found.append(_tile("square-table-curved", Kind(SQUARE, True, True, False, largest)))
    found.append(_float64("square-table-curved", ExactKind(SQUARE, True, False, True)))
    found.append(_float64("square-tricubic", ExactKind(SQUARE, True, True, False)))
    settle = settle_kernel(ExactKind(SQUARE, True, False, False))
    found.append(Variant("square-table-settle", "float64", settle.py_func, settle_types(), False, THREADS, 1))
    for shape, shape_name in enumerate(SHAPE_NAMES):
        found.append(_spots(f"{shape_name}-spots", "mixed", SpotKind(shape, False)))
    found.append(_spots("square-spots", "float64", SpotKind(SQUARE, True)))
    found.append(Variant("poisson-counts", "float64", poisson_counts.py_func, counts_types(), False, THREADS, 1))
    return found


def _tile(name, kind):
    return Variant(name, "tile", tile_kernel(kind).py_func, tile_types(), True, THREADS, 2)


def _float64(name, kind):
    return Variant(name, "float64", float64_kernel(kind).py_func, float64_types(), False, THREADS, 1)


def _spots(name, precision, kind):
    return Variant(name, precision, spots_kernel(kind).py_func, spots_types(), True, SPOT_THREADS, 1)


# --- types of the kernels' arguments --------------------------------------------------------------

_KINDS = {float: types.float64, int: types.int64, bool: types.boolean, np.float32: types.float32}


def _array(kind, n):
    return types.Array(kind, n, "C")


def _tuple(kind):
    return types.NamedTuple([_KINDS[kind.__annotations__[name]] for name in kind._fields], kind)


_CELLS = _array(types.float64, 2)
_TABLE = _array(types.float64, 3)
_TILES = _array(types.int32, 2)
_SOURCES = types.NamedTuple([_array(types.float64, 2), _array(types.float64, 1), _array(types.float64, 1)], Sources)
_FRAME = types.NamedTuple([_array(types.float32, 2), _array(types.boolean, 2), types.int64], Frame)
_DOUBTS = types.NamedTuple([_array(types.int64, 1), _array(types.uint32, 1), _array(types.int32, 1)], Doubts)


def tile_types():
    """Types of the arguments of add_bragg_tile."""
    nouns = (_tuple(Panel), _tuple(Rules), _tuple(Single))
    return *nouns, _SOURCES, _CELLS, _array(types.float32, 1), _TILES, _FRAME, _DOUBTS


def _exact_types():
    return *(_tuple(noun) for noun in (Panel, Lattice, Table, Rules)), _SOURCES, _CELLS, _TABLE


def float64_types():
    """Types of the arguments of add_bragg_float64."""
    return *_exact_types(), _TILES, _FRAME, _array(types.int64, 1)


def spots_types():
    """Types of the arguments of add_spots."""
    floats, places = _array(types.float64, 1), _array(types.int64, 1)
    beams = types.NamedTuple([_array(types.float64, 2), places, floats, floats, floats, floats], Beams)
    forms = types.NamedTuple([_CELLS, _CELLS], Forms)
    nouns = (_tuple(Panel), _tuple(Lattice), _tuple(Rules), beams, forms, _array(types.float64, 2))
    return *nouns, _TILES, types.NamedTuple([places, places], Lists), _FRAME


def settle_types():
    """Types of the arguments of settle_doubts."""
    return *_exact_types(), types.int64, _FRAME, _DOUBTS


def counts_types():
    """Types of the arguments of poisson_counts."""
    return _array(types.float32, 2), types.uint64, types.uint32, types.uint64, _array(types.uint32, 2)
