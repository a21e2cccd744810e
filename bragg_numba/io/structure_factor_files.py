"""Structure factors: text lists of h k l F, and nanoBragg's binary dump of the whole table."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator

import numpy as np

from bragg_numba.errors import InputError
from bragg_numba.io.atomic import atomic_path, file_error
from bragg_numba.io.text_files import read_text

__all__ = ["dump_bytes", "read_dump", "read_hkl", "write_dump"]

_INDEX_LIMIT = 2**31 - 1
_DUMP_HEADER = re.compile(rb"\s*" + rb"\s+".join([rb"([+-]?\d{1,10})"] * 6))
_DUMP_HEADER_MOST = 80
_HEADER_ENDS = b"\n\f"  # as nanoBragg writes it
_WHITE = b" \t\n\v\f\r"


def read_hkl(path: str | os.PathLike[str]) -> tuple[np.ndarray, np.ndarray]:
    """Read a text list of structure factors: h, k, l and F in the first four columns of each line.

    Columns are separated by white space; further ones (sigma, phase) are left. Empty lines, and what follows
    a ``#``, are skipped. An index may be written as a real number ("1.0").

    Returns
    -------
    indices : (n, 3) int32
    F : (n,) float64
        In the order of the file; an index may occur more than once.

    Raises
    ------
    InputError
        If the file cannot be read or is empty; with its line number, if a line is short, is not numeric, has
        an index that is not whole or a number that is not finite.
    """
    name = os.fspath(path)
    text = read_text(path)
    table = _fast_columns(text)
    if table is None or not _is_valid(table):
        raise _first_complaint(name, text.split("\n"))
    if not len(table):
        raise InputError(name, "must hold at least one line of h k l F")
    return table[:, :3].astype(np.int32), np.ascontiguousarray(table[:, 3])


def read_dump(path: str | os.PathLike[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read a table of structure factors that nanoBragg dumped.

    The header is what the table leaves of the file's length, so that numbers that begin with white-space bytes stay
    whole; it may end in other white space than nanoBragg's, or in none.

    Returns
    -------
    minima, maxima : (3,) int64
        First and last h, k, l.
    table : (nh, nk, nl) float64
        F of each index, without the plane of zeros that the file adds at the end of each axis.

    Raises
    ------
    InputError
        If the file cannot be read, is no dump, is not as long as its header says, or holds a NaN or infinity.
    """
    name = os.fspath(path)
    try:
        with open(path, "rb") as file:
            file_bytes = os.fstat(file.fileno()).st_size
            minima, maxima, start = _dump_limits(name, file.read(_DUMP_HEADER_MOST), file_bytes)
            planes = _planes(minima, maxima)
            file.seek(start)
            table = np.fromfile(file, dtype="<f8")
    except OSError as error:
        raise file_error(path, error, "read") from error
    if table.size != math.prod(planes):
        raise InputError(name, "changed while it was read: numbers are missing")
    table = np.ascontiguousarray(table.reshape(planes)[:-1, :-1, :-1], dtype=np.float64)
    if not np.isfinite(table).all():
        h, k, l = (int(value) for value in np.argwhere(~np.isfinite(table))[0] + minima)  # noqa: E741
        raise InputError(name, f"must hold finite structure factors, but that of {h} {k} {l} is not")
    return minima, maxima, table


def dump_bytes(minima: np.ndarray, table: np.ndarray) -> bytes:
    """Return nanoBragg's dump of a table whose first index is ``minima``.

    Parameters
    ----------
    minima
        (3,) whole numbers: first h, k, l.
    table
        (nh, nk, nl) float64.
    """
    return b"".join(_dump_parts(minima, table))


def write_dump(path: str | os.PathLike[str], minima: np.ndarray, table: np.ndarray) -> None:
    """Write ``dump_bytes(minima, table)`` to ``path``, plane by plane, whole or not at all."""
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        for part in _dump_parts(minima, table):
            file.write(part)


def _dump_parts(minima: np.ndarray, table: np.ndarray) -> Iterator[bytes]:
    """Yield the header, then one plane of constant h after another."""
    limits = [(int(first), int(first) + size - 1) for first, size in zip(minima, table.shape, strict=True)]
    yield (" ".join(f"{first} {last}" for first, last in limits)).encode("ascii") + _HEADER_ENDS
    plane = np.zeros((table.shape[1] + 1, table.shape[2] + 1), dtype="<f8")
    for values in table:
        plane[:-1, :-1] = values
        yield plane.tobytes()
    yield bytes(plane.nbytes)


def _planes(minima: np.ndarray, maxima: np.ndarray) -> list[int]:
    """Numbers along each axis of a dump's table, the plane of zeros at its end included."""
    return [int(size) + 2 for size in maxima - minima]


def _dump_limits(name: str, start: bytes, file_bytes: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Return minima, maxima and the length of a dump's header, from the file's first bytes and its length."""
    header = _DUMP_HEADER.match(start)
    if header is None:
        raise InputError(name, "is not a dump of structure factors: it must begin with six whole numbers")
    # Where no white space ends the header, digits of the last number may be bytes of the table.
    first_end = header.start(6) + 1
    for end in range(header.end(), first_end - 1, -1):
        words = (*header.groups()[:5], start[header.start(6) : end])
        if words[5] in (b"-", b"+"):
            break
        limits = np.array([int(word) for word in words], dtype=np.int64).reshape(3, 2)
        if (limits[:, 0] > limits[:, 1]).any() or (abs(limits) > _INDEX_LIMIT).any():
            continue
        begins = file_bytes - 8 * math.prod(_planes(limits[:, 0], limits[:, 1]))
        if start[end:].startswith(_HEADER_ENDS):  # any other length is a file cut short or spoilt
            whole = begins == end + len(_HEADER_ENDS)
        else:
            whole = end <= begins <= len(start) and not start[end:begins].strip(_WHITE)
        if whole:
            return limits[:, 0].copy(), limits[:, 1].copy(), begins
    limits = np.array([int(word) for word in header.groups()], dtype=np.int64).reshape(3, 2)
    if (limits[:, 0] > limits[:, 1]).any() or (abs(limits) > _INDEX_LIMIT).any():
        raise InputError(name, "states impossible index limits", tuple(limits.ravel().tolist()))
    rest = 8 * math.prod(_planes(limits[:, 0], limits[:, 1]))
    rule = f"must be {header.end() + len(_HEADER_ENDS) + rest} bytes long to hold what its header says"
    raise InputError(name, rule, file_bytes)


def _fast_columns(text: str) -> np.ndarray | None:
    """Return the first four columns, (n, 4) float64, or None where a line does not have them."""
    import io
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an empty file is a warning here and an error above
            lines = io.StringIO(text)
            return np.loadtxt(lines, dtype=np.float64, comments="#", usecols=(0, 1, 2, 3), ndmin=2).reshape(-1, 4)
    except (ValueError, IndexError):
        return None


def _is_valid(table: np.ndarray) -> bool:
    """Say whether all numbers are finite and all indices are whole and fit 32 bits."""
    indices = table[:, :3]
    return bool(
        np.isfinite(table).all() and (np.rint(indices) == indices).all() and (abs(indices) <= _INDEX_LIMIT).all()
    )


def _first_complaint(name: str, lines: list[str]) -> InputError:
    """Find the first line that is not h k l F; the error that says so."""
    for number, line in enumerate(lines, start=1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        try:
            values = [float(word) for word in words[:4]]
        except ValueError:
            return InputError(name, f"line {number} must hold the numbers h k l F", line.strip())
        if len(values) < 4:
            return InputError(name, f"line {number} must hold h k l F", line.strip())
        if not all(map(math.isfinite, values)):
            return InputError(name, f"line {number} must hold finite numbers", line.strip())
        if not all(index.is_integer() and abs(index) <= _INDEX_LIMIT for index in values[:3]):
            return InputError(name, f"line {number} must begin with whole h k l", line.strip())
    return InputError(name, "must hold lines of h k l F")
