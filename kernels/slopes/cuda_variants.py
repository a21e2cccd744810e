"""The kernels of slopes to be compiled without a device, with the types of their arguments."""

from bragg_numba.kernels.parameters import SHAPE_NAMES, SQUARE, Lattice, Rules, Table
from bragg_numba.kernels.pixels.cuda_variants import CELLS, PANELS, SOURCES, Variant, array_type, tuple_type
from bragg_numba.kernels.slopes import cuda as kernels
from bragg_numba.kernels.slopes.cuda_terms import Beams, Margins, SlopeKind, Steps
from bragg_numba.kernels.slopes.nouns import Wanted
from bragg_numba.kernels.slopes.steps import INTERPOLATED, LISTED, UNIFORM
from numba import types

_FLOATS, _FIELDS = array_type(types.float64, 1), array_type(types.float64, 2)
_PLACES, _NUMBERS, _BLOCKS = array_type(types.int64, 1), array_type(types.int32, 1), array_type(types.int32, 2)


def variants():
    """Every shape with a table, phases in float64 and terms in float32 (``mixed``); other choices once.

    Those are: float64, one F for all, a curved detector, tricubic interpolation; and what is made of the sums.
    """
    found = [_sum(f"{name}-slopes", SlopeKind(shape, True, LISTED, False)) for shape, name in enumerate(SHAPE_NAMES)]
    square = SHAPE_NAMES[SQUARE]
    found.append(_sum(f"{square}-slopes", SlopeKind(SQUARE, False, LISTED, False)))
    found.append(_sum(f"{square}-slopes-default-F", SlopeKind(SQUARE, True, UNIFORM, False)))
    found.append(_sum(f"{square}-slopes-curved", SlopeKind(SQUARE, True, LISTED, True)))
    found.append(_sum(f"{square}-slopes-tricubic", SlopeKind(SQUARE, False, INTERPOLATED, False)))
    for name, kernel, signature in (
        ("slopes-contract", kernels.contract_slopes, contract_types(types.float32)),
        ("slopes-weigh-rows", kernels.weigh_rows, rows_types()),
        ("slopes-judge", kernels.judge_pixels, judge_types()),
        ("slopes-weigh", kernels.weigh_slopes, weigh_types()),
    ):
        found.append(Variant(name, "float64", kernel.py_func, signature, False, kernels.THREADS, 1))
    return found


def _sum(name, kind):
    function = kernels.sum_kernel(kind).py_func
    precision = "mixed" if kind.single else "float64"
    return Variant(name, precision, function, sum_types(kind), kind.single, kernels.THREADS, 1)


def sum_types(kind):
    """Types of the arguments of sum_slopes."""
    real = types.float32 if kind.single else types.float64
    reals, tables = array_type(real, 1), array_type(real, 2)
    steps = types.NamedTuple([_FLOATS, reals, reals, CELLS, tables, reals, tables], Steps)
    beams = types.NamedTuple([_PLACES, _FIELDS, _FIELDS], Beams)
    nouns = (PANELS, *(tuple_type(noun) for noun in (Lattice, Table, Rules)), SOURCES, steps)
    amplitudes = (array_type(types.float64, 3), reals)
    choices = (tuple_type(Margins), tuple_type(Wanted), beams, types.int64)
    return *nouns, *amplitudes, *choices, _BLOCKS, _NUMBERS, _NUMBERS, _FLOATS


def contract_types(real):
    """Types of the arguments of contract_slopes, whose images are of a type of their own."""
    return _PLACES, _PLACES, _FIELDS, _BLOCKS, types.int64, _FLOATS, _FLOATS, array_type(real, 2)


def rows_types():
    """Types of the arguments of weigh_rows."""
    return _BLOCKS, _FLOATS, _FLOATS, _FIELDS


def judge_types():
    """Types of the arguments of judge_pixels."""
    return types.int64, _BLOCKS, _FLOATS, _FLOATS, _FLOATS, _FLOATS, _FIELDS


def weigh_types():
    """Types of the arguments of weigh_slopes."""
    return types.int64, _BLOCKS, _FIELDS, _FIELDS, _FIELDS
