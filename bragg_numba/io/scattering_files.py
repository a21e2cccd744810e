"""Tables of F against sin(theta)/lambda, as nonBragg reads them (.stol)."""

from __future__ import annotations

import math
import os
import re

import numpy as np

from bragg_numba.errors import InputError
from bragg_numba.io.text_files import read_lines

__all__ = ["ABSCISSAE", "read_table", "table_text"]

_DELIMITERS = re.compile(r"[ \t,;:!]+")
#: A number at the beginning of a word, as C's atof finds it.
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(nan|inf(inity)?)", re.IGNORECASE)

#: What the first column may hold -> what it is divided by to become sin(theta)/lambda.
ABSCISSAE = {"stol": 1.0, "4stol": 4.0, "q": 4.0 * math.pi}


def read_table(path: str | os.PathLike[str], abscissa: str = "stol") -> tuple[np.ndarray, np.ndarray]:
    """Read a table of two columns; further ones are left.

    Columns are separated by blanks, tabs or any of ``, ; : !``. Empty lines, and what follows a ``#``, are skipped. A
    second column that is missing, or is ``nan``, is 0, as in nonBragg.

    Parameters
    ----------
    path
        The file.
    abscissa
        A name of ``ABSCISSAE``.

    Returns
    -------
    (numpy.ndarray, numpy.ndarray)
        sin(theta)/lambda, 1/angstrom, and F: float64 (n,).

    Raises
    ------
    InputError
        If the file cannot be read, holds no point, or a line is not understood.
    """
    if abscissa not in ABSCISSAE:
        raise InputError("abscissa", f"must be one of {', '.join(ABSCISSAE)}", abscissa)
    name = os.fspath(path)
    points = []
    for number, line in enumerate(read_lines(path), start=1):
        words = [word for word in _DELIMITERS.split(line.partition("#")[0].strip()) if word]
        if words:
            x, y = _value(name, number, words[0]), _value(name, number, words[1]) if len(words) > 1 else 0.0
            if not math.isfinite(x) or math.isinf(y):
                raise InputError(name, f"line {number} must hold finite numbers", line.strip())
            points.append((x / ABSCISSAE[abscissa], 0.0 if math.isnan(y) else y))
    if not points:
        raise InputError(name, "must hold at least one line of sin(theta)/lambda and F")
    table = np.array(points)
    return table[:, 0].copy(), table[:, 1].copy()


def _value(name: str, number: int, word: str) -> float:
    found = _NUMBER.match(word)
    if not found:
        raise InputError(name, f"line {number} must hold numbers", word)
    return float(found.group())


def table_text(stol: np.ndarray, F: np.ndarray) -> str:
    """The text of a table that ``read_table`` and nonBragg read: no comments, which nonBragg takes for points."""
    return "".join(f"{x:.9g} {y:.9g}\n" for x, y in zip(stol, F, strict=True))
