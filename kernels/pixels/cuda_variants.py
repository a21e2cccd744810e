"""Kernels to be compiled without a device, with the types of their arguments; those of spots: spots/cuda_variants."""

from typing import NamedTuple

import numpy as np
from bragg_numba.kernels.parameters import (
    PANEL_RECORD,
    SHAPE_NAMES,
    SINGLE_PANEL_RECORD,
    SQUARE,
    Frame,
    Lattice,
    Panel,
    Rules,
    Single,
    SinglePanel,
    Sources,
    Table,
)
from bragg_numba.kernels.pixels.cuda import float64_kernel, settle_kernel, tile_kernel
from bragg_numba.kernels.pixels.cuda_float64 import ExactKind
from bragg_numba.kernels.pixels.cuda_frame import THREADS, Doubts
from bragg_numba.kernels.pixels.cuda_patches import Kind
from bragg_numba.kernels.pixels.cuda_steps import PATCH_SIDES
from bragg_numba.kernels.random.cuda import poisson_counts
from numba import from_dtype, types


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

    Those are: smaller patches, weights, a curved detector, tricubic interpolation, several panels, what settles
    doubts, counts.
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
    found.append(_tile("square-table-panels", Kind(SQUARE, True, False, False, largest, several=True)))
    found.append(_float64("square-table-panels", ExactKind(SQUARE, True, False, False, several=True)))
    for several, panels_name in ((False, ""), (True, "-panels")):
        settle, kinds = settle_kernel(ExactKind(SQUARE, True, False, False, several)), settle_types(several)
        name = f"square-table-settle{panels_name}"
        found.append(Variant(name, "float64", settle.py_func, kinds, False, THREADS, 1))
    found.append(Variant("poisson-counts", "float64", poisson_counts.py_func, counts_types(), False, THREADS, 1))
    return found


def _tile(name, kind):
    return Variant(name, "tile", tile_kernel(kind).py_func, tile_types(kind.several), True, THREADS, 2)


def _float64(name, kind):
    return Variant(name, "float64", float64_kernel(kind).py_func, float64_types(kind.several), False, THREADS, 1)


# --- types of the kernels' arguments --------------------------------------------------------------

_KINDS = {float: types.float64, int: types.int64, bool: types.boolean, np.float32: types.float32}


def array_type(kind, n):
    """Type of an array of n dimensions as it lies in memory."""
    return types.Array(kind, n, "C")


def tuple_type(kind):
    """Type of one of the flat tuples of kernels.parameters."""
    return types.NamedTuple([_KINDS[kind.__annotations__[name]] for name in kind._fields], kind)


PANELS = array_type(from_dtype(PANEL_RECORD), 1)
_FLATS = array_type(from_dtype(SINGLE_PANEL_RECORD), 1)
CELLS = array_type(types.float64, 2)
_TABLE = array_type(types.float64, 3)
TILES = array_type(types.int32, 2)
SOURCES = types.NamedTuple(
    [array_type(types.float64, 2), array_type(types.float64, 1), array_type(types.float64, 1)], Sources
)
FRAME = types.NamedTuple([array_type(types.float32, 2), array_type(types.boolean, 2), types.int64], Frame)
_DOUBTS = types.NamedTuple(
    [
        array_type(types.int64, 1),
        array_type(types.int32, 1),
        array_type(types.uint32, 1),
        array_type(types.int32, 1),
    ],
    Doubts,
)


def tile_types(several=False):
    """Types of the arguments of add_bragg_tile."""
    panels = (PANELS, _FLATS) if several else (tuple_type(Panel), tuple_type(SinglePanel))
    nouns = (*panels, tuple_type(Rules), tuple_type(Single))
    return *nouns, SOURCES, CELLS, array_type(types.float32, 1), TILES, FRAME, _DOUBTS


def _exact_types(several=False):
    return (
        PANELS if several else tuple_type(Panel),
        *(tuple_type(noun) for noun in (Lattice, Table, Rules)),
        SOURCES,
        CELLS,
        _TABLE,
    )


def float64_types(several=False):
    """Types of the arguments of add_bragg_float64."""
    return *_exact_types(several), TILES, FRAME, array_type(types.int64, 1)


def settle_types(several=False):
    """Types of the arguments of settle_doubts."""
    return *_exact_types(several), types.int64, FRAME, _DOUBTS


def counts_types():
    """Types of the arguments of poisson_counts."""
    return array_type(types.float32, 2), types.uint64, types.uint32, types.uint64, array_type(types.uint32, 2)
