"""What PTX's instructions compute, one array element a thread (PTX ISA 8.x, "Instruction Set").

Products and sums of a fused instruction round once. The three ``approx`` instructions round correctly here and are
then moved by ``edge`` times the largest error that the manual allows them: -1 and 1 are the edges.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numba import njit, vectorize
from numba.extending import intrinsic
from ptx_text import DTYPES, Instruction, UnknownPtx

_SMALLEST = np.float32(2.0**-126)


@intrinsic
def _fused(typing, a, b, c):
    def build(context, builder, signature, values):
        return builder.fma(*values)

    return a(a, a, a), build


@njit(inline="always")
def _flushed(x):
    """A float32, or its zero where it is subnormal."""
    return np.float32(math.copysign(np.float32(0.0), x)) if abs(x) < _SMALLEST else x


@vectorize(["float32(float32)"])
def flush(a):
    """``ftz``: subnormal numbers are zeros of their sign."""
    return _flushed(a)


@vectorize(["float32(float32, float32, float32)"])
def _fma_flushed(a, b, c):
    return _flushed(_fused(_flushed(a), _flushed(b), _flushed(c)))


@vectorize(["float32(float32, float32, float32)", "float64(float64, float64, float64)"])
def fma(a, b, c):
    """a b + c, rounded once."""
    return _fused(a, b, c)


class Operation(NamedTuple):
    """``function`` of sources with these types gives the result with that type."""

    sources: tuple[str, ...]
    result: str
    function: Callable


# --- approximations -------------------------------------------------------------------------------

#: Largest errors: units in the last place of float32; for the reciprocal in float64, of its upper 32 bits.
_DIVISION_ULPS, _ROOT_ULPS, _RECIPROCAL_ULPS = 2, 1, 1

_UPPER = np.uint64(0xFFFFFFFF00000000)


def _moved(value: np.ndarray, ulps: int) -> np.ndarray:
    """float32 numbers moved by so many units in the last place, away from zero; not 0, infinity, NaN."""
    bits = value.view(np.int32)
    exponent = (bits >> 23) & 255
    return np.where((exponent > 1) & (exponent < 254), bits + np.int32(ulps), bits).view(np.float32)


def _divide_approximately(edge: int) -> Callable:
    def divide(a, b):
        a, b = np.broadcast_arrays(flush(a), flush(b))
        quotient = (a.astype(np.float64) / b).astype(np.float32)
        # The manual: 0 for a divisor above 2^126, NaN where the dividend is infinite, too.
        huge = (np.abs(b) > 2.0**126) & np.isfinite(b)
        quotient = np.where(huge, np.where(np.isinf(a), np.float32(np.nan), np.float32(0.0)), quotient)
        return flush(_moved(quotient, edge * _DIVISION_ULPS))

    return divide


def _root_approximately(edge: int) -> Callable:
    return lambda a: flush(_moved(np.sqrt(flush(a)), edge * _ROOT_ULPS))


def _invert_approximately(edge: int) -> Callable:
    def invert(a):
        upper = (np.asarray(a).view(np.uint64) & _UPPER).view(np.float64)
        bits = (1.0 / upper).view(np.uint64) & _UPPER
        exponent = (bits >> np.uint64(52)) & np.uint64(2047)
        step = np.int64(edge * _RECIPROCAL_ULPS << 32).view(np.uint64)
        return np.where((exponent > 1) & (exponent < 2046), bits + step, bits).view(np.float64)

    return invert


# --- integers -------------------------------------------------------------------------------------


def _divide_integers(a, b):
    a, b = np.asarray(a), np.asarray(b)
    b = np.where(b == 0, b.dtype.type(1), b)  # its result is nobody's business
    return (a - np.fmod(a, b)) // b


def _remainder(a, b):
    b = np.asarray(b)
    return np.fmod(a, np.where(b == 0, b.dtype.type(1), b))


def _upper_product(a, b):
    return np.array([(int(x) * int(y)) >> 64 for x, y in zip(*np.broadcast_arrays(a, b), strict=True)], np.int64)


def _shift_left(a, n):
    a, n = np.asarray(a), np.asarray(n)
    bits = 8 * a.dtype.itemsize
    return np.where(n < bits, a << np.minimum(n, bits - 1).astype(a.dtype), a.dtype.type(0))


def _shift_right(a, n):
    a, n = np.asarray(a), np.asarray(n)
    bits = 8 * a.dtype.itemsize
    shifted = a >> np.minimum(n, bits - 1).astype(a.dtype)
    return shifted if a.dtype.kind == "i" else np.where(n < bits, shifted, a.dtype.type(0))


def _saturated(dtype: str) -> Callable:
    """Whole numbers in floating point as integers: the nearest that the type holds, 0 for NaN."""
    limits = np.iinfo(dtype)
    low, high = float(limits.min), float(limits.max)

    def convert(x):
        x = np.asarray(x, np.float64)
        x = np.where(np.isnan(x), 0.0, x)
        inside = np.where((x > low) & (x < high), x, 0.0).astype(dtype)
        return np.where(x >= high, limits.max, np.where(x <= low, limits.min, inside)).astype(dtype)

    return convert


# --- comparisons ----------------------------------------------------------------------------------

#: By name; those with ``u`` hold for NaN, too, as their opposites do not.
_ORDERED = {"lt": "lt", "le": "le", "gt": "gt", "ge": "ge", "eq": "eq"}
_OPPOSITES = {"ltu": "ge", "leu": "gt", "gtu": "le", "geu": "lt"}


def _comparison(name: str, is_float: bool) -> Callable:
    if name in _ORDERED:
        return getattr(operator, name)
    if name in _OPPOSITES:
        opposite = getattr(operator, _OPPOSITES[name])
        return lambda a, b: ~opposite(a, b)
    if name == "neu" or (name == "ne" and not is_float):
        return operator.ne
    if name == "ne":
        return lambda a, b: (a < b) | (a > b)
    if name in ("num", "nan"):  # whether both are numbers, or one is none
        return lambda a, b: ((a == a) & (b == b)) == (name == "num")
    if name == "equ":
        return lambda a, b: (a == b) | (a != a) | (b != b)
    raise UnknownPtx(f"comparison {name}")


# --- instructions ---------------------------------------------------------------------------------

_ROUNDINGS = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}
_BITWISE = {"and": operator.and_, "or": operator.or_, "xor": operator.xor}
_SUMS = {"add": operator.add, "sub": operator.sub, "mul": operator.mul}
#: Roundings and widths that name what is done here anyway.
_PLAIN = {"rn", "lo", "ftz", "to", "global"}


def find_operation(instruction: Instruction, edge: int) -> Operation:
    """What an instruction that only computes does, with approximations at an ``edge`` of their error.

    Raises
    ------
    UnknownPtx
        If there is no rule for it.
    """
    root, *marks, kind = instruction.opcode
    finder = _FINDERS.get(root)
    found = finder and finder(root, marks, kind, edge)
    if not found:
        raise UnknownPtx(str(instruction))
    operation, known = found
    unknown = set(marks) - _PLAIN - known
    if unknown:
        raise UnknownPtx(f"{instruction}: {', '.join(sorted(unknown))}")
    return _with_flushes(operation) if "ftz" in marks and "approx" not in marks else operation


def _with_flushes(operation: Operation) -> Operation:
    """The same with subnormal float32 sources and results taken for 0."""
    if operation.function is fma:
        return operation._replace(function=_fma_flushed)
    single = [kind == "f32" for kind in operation.sources]
    function, flushes = operation.function, operation.result == "f32"

    def flushed(*sources):
        result = function(*(flush(one) if is_single else one for one, is_single in zip(sources, single, strict=True)))
        return flush(result) if flushes else result

    return operation._replace(function=flushed)


def _find_sum(root, marks, kind, edge):
    if "wide" in marks:
        wide = f"{kind[0]}{2 * int(kind[1:])}"
        dtype = DTYPES[wide]
        product = lambda a, b: np.asarray(a).astype(dtype) * np.asarray(b).astype(dtype)  # noqa: E731
        return (Operation((kind, kind), wide, product), {"wide"}) if root == "mul" else None
    if "hi" in marks:
        return (Operation((kind, kind), kind, _upper_product), {"hi"}) if (root, kind) == ("mul", "s64") else None
    return Operation((kind, kind), kind, _SUMS[root]), set()


def _find_fused(root, marks, kind, edge):
    if root == "fma":
        return Operation((kind,) * 3, kind, fma), set()
    return Operation((kind,) * 3, kind, lambda a, b, c: a * b + c), set()


def _find_division(root, marks, kind, edge):
    if kind[0] != "f":
        return Operation((kind, kind), kind, _divide_integers if root == "div" else _remainder), set()
    if root == "rem":
        return None
    if "approx" in marks:
        return (Operation((kind, kind), kind, _divide_approximately(edge)), {"approx"}) if kind == "f32" else None
    return Operation((kind, kind), kind, operator.truediv), set()


def _find_inverse(root, marks, kind, edge):
    if "approx" in marks:
        return (Operation((kind,), kind, _invert_approximately(edge)), {"approx"}) if kind == "f64" else None
    return Operation((kind,), kind, lambda a: 1.0 / a), set()


def _find_root(root, marks, kind, edge):
    if "approx" in marks:
        return (Operation((kind,), kind, _root_approximately(edge)), {"approx"}) if kind == "f32" else None
    return Operation((kind,), kind, np.sqrt), set()


def _find_extreme(root, marks, kind, edge):
    # Of a number and NaN it is the number.
    functions = {"min": np.fmin, "max": np.fmax} if kind[0] == "f" else {"min": np.minimum, "max": np.maximum}
    return Operation((kind, kind), kind, functions[root]), set()


def _find_unary(root, marks, kind, edge):
    functions = {"neg": operator.neg, "abs": np.abs, "not": operator.invert, "cvta": lambda a: a}
    return Operation((kind,), kind, functions[root]), set()


def _find_bitwise(root, marks, kind, edge):
    return Operation((kind, kind), kind, _BITWISE[root]), set()


def _find_shift(root, marks, kind, edge):
    return Operation((kind, "u32"), kind, _shift_left if root == "shl" else _shift_right), set()


def _find_comparison(root, marks, kind, edge):
    return Operation((kind, kind), "pred", _comparison(marks[0], kind[0] == "f")), {marks[0]}


def _find_selection(root, marks, kind, edge):
    return Operation((kind, kind, "pred"), kind, lambda a, b, chosen: np.where(chosen, a, b)), set()


def _find_conversion(root, marks, kind, edge):
    target, *roundings = [*reversed(marks)]
    rounding = next((mark for mark in roundings if mark in _ROUNDINGS), None)
    round_to_whole = _ROUNDINGS[rounding] if rounding else lambda a: a
    if target[0] != "f" and kind[0] == "f":
        if rounding is None:
            return None
        saturated = _saturated(DTYPES[target])
        convert = lambda a: saturated(round_to_whole(a))  # noqa: E731
    else:
        convert = lambda a: np.asarray(round_to_whole(a)).astype(DTYPES[target])  # noqa: E731
    return Operation((kind,), target, convert), {target, rounding} - {None}


_FINDERS = {
    **dict.fromkeys(_SUMS, _find_sum),
    **dict.fromkeys(("fma", "mad"), _find_fused),
    **dict.fromkeys(("div", "rem"), _find_division),
    "rcp": _find_inverse,
    "sqrt": _find_root,
    **dict.fromkeys(("min", "max"), _find_extreme),
    **dict.fromkeys(("neg", "abs", "not", "cvta"), _find_unary),
    **dict.fromkeys(_BITWISE, _find_bitwise),
    **dict.fromkeys(("shl", "shr"), _find_shift),
    "setp": _find_comparison,
    "selp": _find_selection,
    "cvt": _find_conversion,
}
