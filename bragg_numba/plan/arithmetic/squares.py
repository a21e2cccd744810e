"""What the float32 kernels make of a structure factor table, once for all plans that share it."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import TypeVar

import numpy as np

Made = TypeVar("Made")

#: A table's id: a reference to it, and what was made of it by name.
_MADE: dict[int, tuple[weakref.ref, dict]] = {}
_LOCK = threading.Lock()


def _once(table: np.ndarray, name: object, make: Callable[[], Made]) -> Made:
    """Return what ``make`` made of a table when it was first asked for; forget it when the table goes."""
    key = id(table)
    with _LOCK:
        if key not in _MADE or _MADE[key][0]() is not table:
            _MADE[key] = (weakref.ref(table, lambda _: _MADE.pop(key, None)), {})
        made = _MADE[key][1]
        if name not in made:
            made[name] = make()
        return made[name]


def strongest_square(table: np.ndarray) -> float:
    """Largest squared structure factor of a table."""
    return _once(table, "strongest", lambda: float(np.abs(table).max()) ** 2)


def padded_squares(table: np.ndarray, pad: int) -> np.ndarray:
    """Squared structure factors, float32 (h, k, l), whose border is ``pad`` cells wider on every side."""

    def make() -> np.ndarray:
        return np.pad(np.square(table).astype(np.float32), pad, mode="edge")

    return _once(table, pad, make)
