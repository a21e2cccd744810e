"""The point groups of CrystFEL by their symbols, and lists of reflections expanded to all their images."""

from __future__ import annotations

import functools
import itertools
import re
from dataclasses import dataclass

import numpy as np

from bragg_numba.errors import InputError

__all__ = ["SYMBOLS", "Expanded", "centring_allows", "expand", "operations"]

#: Operations on coordinates as the International Tables write them; c is the unique axis.
_2C, _2A, _2B, _2AB = "-x,-y,z", "x,-y,-z", "-x,y,-z", "y,x,-z"
_MC, _MA, _MAB = "x,y,-z", "-x,y,z", "y,x,z"
_I = "-x,-y,-z"
_4, _4I = "-y,x,z", "y,-x,-z"
_3, _6, _6I = "-y,x-y,z", "x-y,x,z", "-x+y,-x,-z"  # hexagonal axes
_2P, _MP = "-y,-x,-z", "-y,-x,z"  # about [1 -1 0] of hexagonal axes, and the mirror across [1 1 0]
_3D = "z,x,y"  # about the body diagonal

#: What makes each group.
_GENERATORS: dict[str, tuple[str, ...]] = {
    **{"1": (), "-1": (_I,), "2": (_2C,), "m": (_MC,), "2/m": (_2C, _I)},
    **{"222": (_2C, _2A), "mm2": (_2C, _MA), "mmm": (_2C, _2A, _I)},
    **{"4": (_4,), "-4": (_4I,), "4/m": (_4, _I), "422": (_4, _2A), "4mm": (_4, _MA)},
    **{"-42m": (_4I, _2A), "-4m2": (_4I, _MA), "4/mmm": (_4, _2A, _I)},
    **{"3_R": (_3D,), "-3_R": (_3D, _I), "32_R": (_3D, _2P), "3m_R": (_3D, _MAB), "-3m_R": (_3D, _MAB, _I)},
    **{"3_H": (_3,), "-3_H": (_3, _I), "321_H": (_3, _2AB), "312_H": (_3, _2P)},
    **{"3m1_H": (_3, _MP), "31m_H": (_3, _MAB), "-3m1_H": (_3, _2AB, _I), "-31m_H": (_3, _2P, _I)},
    **{"6": (_6,), "-6": (_6I,), "6/m": (_6, _I), "622": (_6, _2AB), "6mm": (_6, _MAB)},
    **{"-62m": (_6I, _2AB), "-6m2": (_6I, _2P), "6/mmm": (_6, _2AB, _I)},
    **{"23": (_3D, _2C), "m-3": (_3D, _2C, _I), "432": (_3D, _4), "-43m": (_3D, _4I), "m-3m": (_3D, _4, _I)},
}

#: The 42 symbols that CrystFEL knows; each may be followed by _uaa, _uab or _uac, the unique axis.
SYMBOLS = tuple(_GENERATORS)

#: Where h, k and l stand for a unique axis: the one of that axis comes last.
_CYCLES = {"a": (1, 2, 0), "b": (2, 0, 1), "c": (0, 1, 2)}

_LARGEST_INDEX = 2**18


@dataclass(frozen=True, slots=True, kw_only=True)
class Expanded:
    """Every reflection of a sphere that a list of unique ones tells of, each once."""

    indices: np.ndarray  #: (n, 3) int32
    values: np.ndarray  #: (n,) float64
    source: np.ndarray  #: (n,) int64: which row of the list each comes from
    repeated: int  #: rows of the list that are images of others, with the same value
    filled: int  #: reflections that got their Friedel mate's value, for want of their own


@functools.cache
def operations(symbol: str) -> np.ndarray:
    """Return the operations of a point group, (order, 3, 3) int64: the images of h are ``h @ operation``.

    Raises
    ------
    InputError
        For a symbol that is none of ``SYMBOLS``, with or without the name of its unique axis.
    """
    found = re.fullmatch(r"(.*?)(?:_ua([abc]))?", symbol.strip())
    if found is None or found[1] not in _GENERATORS:
        import difflib

        near = difflib.get_close_matches(symbol, SYMBOLS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"CrystFEL knows {', '.join(SYMBOLS)}"
        if any(f"{symbol.strip()}_{axes}" in _GENERATORS for axes in "HR"):
            hint = f"say for which axes: {symbol.strip()}_H or {symbol.strip()}_R"
        raise InputError("the point group", "must be one of CrystFEL's symbols", symbol, hint)
    # A unique axis stands in the place of c: indices are cycled, turned and cycled back.
    cycle = np.eye(3, dtype=np.int64)[:, list(_CYCLES[found[2] or "c"])]
    generators = [cycle @ _matrix(text) @ cycle.T for text in _GENERATORS[found[1]]]
    group = {np.eye(3, dtype=np.int64).tobytes(): np.eye(3, dtype=np.int64)}
    new = list(group.values())
    while new:
        products = [one @ other for one, other in itertools.product(new, generators)]
        new = []
        for product in products:
            if product.tobytes() not in group:
                group[product.tobytes()] = product
                new.append(product)
    result = np.stack(list(group.values()))
    result.setflags(write=False)
    return result


def expand(indices, values, symbol: str, *, tolerance: float = 1e-6) -> Expanded:
    """Return all images of the reflections of a list, and the Friedel mates that it lacks.

    In groups without a centre of inversion Friedel mates are reflections of their own; where a list has only one of
    two, the other gets its value. A list that is expanded already, in whole or in part, stays as it is there.

    Parameters
    ----------
    indices
        (n, 3) whole numbers.
    values
        (n,) real numbers, such as intensities.
    symbol
        Of the point group, as CrystFEL writes it.
    tolerance
        How far values of equivalent reflections may differ, relative to the larger; the first one counts.

    Raises
    ------
    InputError
        For a symbol that is not known, or equivalent reflections whose values differ.
    """
    listed = np.asarray(indices, dtype=np.int64).reshape(-1, 3)
    numbers = np.asarray(values, dtype=np.float64).reshape(-1)
    if len(listed) != len(numbers):
        raise InputError("values", f"must be one for each of {len(listed)} reflections", len(numbers))
    if len(listed) and np.abs(listed).max() > _LARGEST_INDEX:
        raise InputError("indices", f"must not be beyond {_LARGEST_INDEX}", int(np.abs(listed).max()))
    group = operations(symbol)
    images = (listed @ group).transpose(1, 0, 2).reshape(-1, 3)
    rows = np.repeat(np.arange(len(listed)), len(group))
    keys = _keys(images)
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    chosen, own = rows[first][inverse.reshape(-1)], numbers[rows]
    other = numbers[chosen]
    differ = np.abs(own - other) > tolerance * np.maximum(np.abs(own), np.abs(other))
    if differ.any():
        worst = int(np.flatnonzero(differ)[0])
        one, two = (" ".join(map(str, listed[row])) for row in (chosen[worst], rows[worst]))
        raise InputError(
            f"{one} and {two}",
            f"must have one value, as they are equivalent in {symbol}",
            (float(other[worst]), float(own[worst])),
            hint="the list has lower symmetry: name the point group that it was merged in",
        )
    repeated = len(listed) - len(np.unique(chosen))
    found, source = images[np.sort(first)], rows[np.sort(first)]
    mates = ~np.isin(_keys(-found), _keys(found))
    return Expanded(
        indices=np.concatenate([found, -found[mates]]).astype(np.int32),
        values=numbers[np.concatenate([source, source[mates]])],
        source=np.concatenate([source, source[mates]]),
        repeated=repeated,
        filled=int(mates.sum()),
    )


def centring_allows(indices, centring: str) -> np.ndarray:
    """Return which reflections (..., 3) a lattice's centring lets be: P, A, B, C, I, F, R (rhombohedral axes) or H.

    H is the obverse setting of a rhombohedral lattice on hexagonal axes.
    """
    h, k, l = np.moveaxis(np.asarray(indices, dtype=np.int64), -1, 0)  # noqa: E741
    sums = {"A": k + l, "B": h + l, "C": h + k, "I": h + k + l}
    if centring in sums:
        return sums[centring] % 2 == 0
    if centring == "F":
        return ((h + k) % 2 == 0) & ((k + l) % 2 == 0)
    if centring == "H":
        return (-h + k + l) % 3 == 0
    if centring in ("P", "R"):
        return np.ones(h.shape, dtype=bool)
    raise InputError("the centring", "must be one of P, A, B, C, I, F, R, H", centring)


def _matrix(text: str) -> np.ndarray:
    """The matrix of x-y,x,z and the like: rows are the new coordinates."""
    rows = []
    for part in text.split(","):
        row = dict.fromkeys("xyz", 0)
        for sign, axis in re.findall(r"([+-]?)([xyz])", part):
            row[axis] += -1 if sign == "-" else 1
        rows.append([row[axis] for axis in "xyz"])
    return np.array(rows, dtype=np.int64)


def _keys(indices: np.ndarray) -> np.ndarray:
    """One number for each reflection; on hexagonal axes images have indices up to twice those of the list."""
    size = 4 * _LARGEST_INDEX + 1
    shifted = indices + 2 * _LARGEST_INDEX
    return (shifted[:, 0] * size + shifted[:, 1]) * size + shifted[:, 2]
