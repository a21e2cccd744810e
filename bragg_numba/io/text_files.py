"""Small text files: orientation matrices and lists of sources."""

from __future__ import annotations

import codecs
import math
import os
import re

import numpy as np

from bragg_numba.errors import InputError
from bragg_numba.io.atomic import file_error
from bragg_numba.io.hdf5 import SIGNATURE

__all__ = [
    "Source",
    "json_text",
    "read_lines",
    "read_matrix",
    "read_polygons",
    "read_rows",
    "read_sources",
    "read_text",
]

Source = tuple[float, float, float, float | None, float | None]

_SOURCE_DELIMITERS = re.compile(r"[ \t,;:!]+")
_SOURCE_COLUMNS = 5


#: Byte order marks, the longer first where one begins like another.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_text(path: str | os.PathLike[str]) -> str:
    """Return a text file's contents, with "\\n" at the end of every line.

    A byte order mark says how the text is encoded; without one it is UTF-8, or else Latin-1, which older programs
    wrote into comments.
    """
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise file_error(path, error, "read") from error
    encoding = _marked_encoding(data)
    if encoding is not None:
        text = data.decode(encoding, errors="replace")
    else:
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError:
            text = data.decode("latin-1")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _marked_encoding(data: bytes) -> str | None:
    return next((encoding for mark, encoding in _MARKS if data.startswith(mark)), None)


def read_lines(path: str | os.PathLike[str]) -> list[str]:
    """Return the lines of ``read_text`` without their ends."""
    return read_text(path).split("\n")


def json_text(path: str | os.PathLike[str]) -> str | None:
    """Return the text of a JSON file, which may begin with a byte order mark; None for an HDF5 file.

    Raises
    ------
    InputError
        If the file cannot be read, or is no text.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(len(SIGNATURE))
            if data == SIGNATURE:
                return None
            data += file.read()
        return data.decode(_marked_encoding(data) or "utf-8")
    except OSError as error:
        raise file_error(path, error, "read") from None
    except UnicodeDecodeError:
        raise InputError(os.fspath(path), "is neither JSON text nor an HDF5 file") from None


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


def read_rows(path: str | os.PathLike[str], columns: tuple[int, ...], meaning: str) -> np.ndarray:
    """Read rows of numbers, one a line, separated as in lists of sources; every row as long as the first.

    Parameters
    ----------
    columns
        How many numbers a row may have.
    meaning
        What they are, for errors.

    Returns
    -------
    numpy.ndarray
        float64 (n, columns).

    Raises
    ------
    InputError
        If the file cannot be read or holds no row, or a line is not understood.
    """
    name = os.fspath(path)
    rows: list[list[float]] = []
    for number, line in enumerate(read_lines(path), start=1):
        words = [word for word in _SOURCE_DELIMITERS.split(line.partition("#")[0].strip()) if word]
        if not words:
            continue
        values = [_finite(name, number, word) for word in words]
        if len(values) not in columns:
            allowed = " or ".join(map(str, columns))
            raise InputError(name, f"line {number} must have {allowed} numbers: {meaning}", len(values))
        if rows and len(values) != len(rows[0]):
            raise InputError(name, f"line {number} must have {len(rows[0])} numbers, as the first", len(values))
        rows.append(values)
    if not rows:
        raise InputError(name, f"must hold at least one line: {meaning}")
    return np.array(rows)


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


def read_polygons(path: str | os.PathLike[str]) -> list[np.ndarray]:
    """Read polygons, a corner a line: x, y, z, or fast and slow. Empty lines part one polygon from the next.

    Columns are separated by blanks, tabs or any of ``, ; : !``; what follows a ``#`` is skipped.

    Returns
    -------
    list
        float64 (n, 3) or (n, 2), one for each polygon.

    Raises
    ------
    InputError
        If the file cannot be read or holds no polygon, or a line is not understood.
    """
    name = os.fspath(path)
    polygons: list[list[list[float]]] = [[]]
    for number, line in enumerate(read_lines(path), start=1):
        words = [word for word in _SOURCE_DELIMITERS.split(line.partition("#")[0].strip()) if word]
        if not words:
            if not line.strip():  # a comment alone parts nothing
                polygons.append([])
            continue
        corner = [_finite(name, number, word) for word in words]
        if len(corner) not in (2, 3) or (polygons[-1] and len(corner) != len(polygons[-1][0])):
            raise InputError(name, f"line {number} must give x, y and z, or fast and slow, as the others", line.strip())
        polygons[-1].append(corner)
    found = [np.array(polygon) for polygon in polygons if polygon]
    if not found:
        raise InputError(name, "must hold at least one polygon")
    return found


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
