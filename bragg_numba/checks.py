"""Checks of single values: each returns the clean value or raises InputError under the name it is given."""

from __future__ import annotations

import difflib
import math
import os
from collections.abc import Iterable, Sequence

from bragg_numba.errors import InputError
from bragg_numba.kernels._settings import LENGTHS, VECTOR_BITS


def number(
    name: str,
    value,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    above: float | None = None,
    hint: str = "",
) -> float:
    """Return ``value`` as a finite float in [low, high] (and > above where that is given)."""
    if isinstance(value, (bool, str, bytes)):
        raise InputError(name, "must be a number", value, hint)
    try:
        clean = float(value)
    except (TypeError, ValueError):
        raise InputError(name, "must be a number", value, hint) from None
    if not math.isfinite(clean):
        raise InputError(name, "must be a finite number", value, hint)
    if above is not None and not clean > above:
        raise InputError(name, f"must be greater than {above:g}", value, hint)
    if not low <= clean <= high:
        raise InputError(name, f"must lie {_range(low, high)}", value, hint)
    return clean


def _range(low: float, high: float) -> str:
    if math.isinf(high):
        return f"at or above {low:g}"
    if math.isinf(low):
        return f"at or below {high:g}"
    return f"between {low:g} and {high:g}"


def count(name: str, value, *, low: int = 0, high: int = 2**31 - 1, hint: str = "") -> int:
    """Return ``value`` as an int in [low, high]; 3.0 is a count, 3.7 is not."""
    clean = number(name, value, hint=hint)
    if clean != int(clean):
        raise InputError(name, "must be a whole number", value, hint)
    if not low <= clean <= high:
        raise InputError(name, f"must lie {_range(low, high)}", value, hint)
    return int(clean)


def whole_number(name: str, value: int, lowest: int, highest: int) -> int:
    """Return ``value`` as an int if it is a whole number from ``lowest`` to ``highest``, of 64 bits and more too."""
    try:
        whole = int(value)
    except (TypeError, ValueError, OverflowError):
        raise InputError(name, "must be a whole number", value) from None
    if whole != value or not lowest <= whole <= highest:
        raise InputError(name, f"must be a whole number from {lowest} to {highest}", value)
    return whole


def flag(name: str, value) -> bool:
    """Return ``value`` as a bool; only True and False pass."""
    if value not in (True, False):
        raise InputError(name, "must be True or False", value)
    return bool(value)


def text(name: str, value) -> str:
    """Return ``value`` if it is text."""
    if not isinstance(value, str):
        raise InputError(name, "must be text", value)
    return value


def choice(name: str, value, allowed: Sequence[str]) -> str:
    """Return ``value`` if it is one of ``allowed`` (in any case), naming the nearest one if not."""
    clean = value.lower() if isinstance(value, str) else value
    if clean not in allowed:
        near = difflib.get_close_matches(str(value), allowed, n=1)
        hint = f"did you mean {near[0]!r}?" if near else ""
        raise InputError(name, f"must be one of {', '.join(allowed)}", value, hint)
    return clean


def environment() -> None:
    """Refuse what an environment variable of this package cannot mean; an empty one says nothing."""
    if text := os.environ.get(VECTOR_BITS, "").strip():
        choice(VECTOR_BITS, text, LENGTHS)


def vector(name: str, value, *, length: int = 3, nonzero: bool = False, **limits) -> tuple[float, ...]:
    """Return ``value`` as a tuple of ``length`` finite floats."""
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise InputError(name, f"must be {length} numbers", value)
    parts = tuple(value)
    if len(parts) != length:
        raise InputError(name, f"must be {length} numbers", value)
    clean = tuple(number(f"{name}[{i}]", part, **limits) for i, part in enumerate(parts))
    if nonzero and not any(clean):
        raise InputError(name, "must not be the zero vector", value)
    return clean


def optional(check, name: str, value, **limits):
    """Apply ``check`` unless the value is None, which everywhere means "not given"."""
    return None if value is None else check(name, value, **limits)
