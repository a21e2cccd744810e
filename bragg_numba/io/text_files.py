"""Small text files: orientation matrices and lists of sources."""

from __future__ import annotations

import math
import os
import re

import numpy as np

from bragg_numba.errors import InputError
from bragg_numba.io.atomic import file_error

__all__ = ["Source", "read_lines", "read_matrix", "read_sources"]

Source = tuple[float, float, float, float | None, float | None]

_SOURCE_DELIMITERS = re.compile(r"[ \t,;:!]+")
_SOURCE_COLUMNS = 5


def read_lines(path: str | os.PathLike[str]) -> list[str]:
    """Return the lines of a text file without their ends; bytes that are no text become U+FFFD."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().split("\n")
    except OSError as error:
        raise file_error(path, error, "read") from error


def read_matrix(path: str | os.PathLike[str]) -> np.ndarray:
    """Read an orientation matrix as MOSFLM writes it.

    The first nine numbers count, whatever the lines; MOSFLM adds more (missetting angles, cell), which
    are left.

    Returns
    -------
    numpy.ndarray
        (3, 3) float64: rows are lab x, y, z; columns a*, b*, c*, each in units of wavelength / angstrom.

    Raises
    ------
    InputError
        If the file cannot be read, or does not begin with nine finite numbers.
    """
    name = os.fspath(path)
    values: list[float] = []
    for number, line in enumerate(read_lines(path), start=1):
        for word in line.split():
            values.append(_finite(name, number, word))
            if len(values) == 9:
                return np.array(values, dtype=np.float64).reshape(3, 3)
    raise InputError(name, f"must begin with the nine numbers of a 3 x 3 matrix, but holds {len(values)}")


def read_sources(path: str | os.PathLike[str]) -> list[Source]:
    """Read X-ray sources, one a line: x, y, z, then weight and wavelength if given; further columns are left.

    Columns are separated by blanks, tabs or any of ``, ; : !``. Empty lines, and what follows a ``#``, are
    skipped.

    Returns
    -------
    list
        (x, y, z, weight, wavelength in metres) for each source, None for a weight or wavelength left out.

    Raises
    ------
    InputError
        If the file cannot be read or holds no source, or a line is not understood.
    """
    name = os.fspath(path)
    sources = []
    for number, line in enumerate(read_lines(path), start=1):
        words = [word for word in _SOURCE_DELIMITERS.split(line.partition("#")[0].strip()) if word]
        if words:
            sources.append(_source(name, number, words))
    if not sources:
        raise InputError(name, "must hold at least one source")
    return sources


def _source(name: str, number: int, words: list[str]) -> Source:
    """Return the source of one line's words."""
    values = [_finite(name, number, word) for word in words[:_SOURCE_COLUMNS]]
    if len(values) < 3:
        raise InputError(name, f"line {number} must give at least x, y and z", " ".join(words))
    x, y, z, *rest = values
    if (x, y, z) == (0.0, 0.0, 0.0):
        raise InputError(name, f"line {number} must not place a source at the origin, where the sample is")
    weight = rest[0] if rest else None
    wavelength = rest[1] if len(rest) > 1 else None
    if wavelength is not None and wavelength <= 0:
        raise InputError(name, f"line {number} must give a wavelength above 0, in metres", wavelength)
    return x, y, z, weight, wavelength


def _finite(name: str, number: int, word: str) -> float:
    """Return the finite number that ``word`` spells."""
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(name, f"line {number} must hold finite numbers", word)
    return value
