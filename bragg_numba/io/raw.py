"""Raw photon images: float32, little-endian, row after row, without a header."""

from __future__ import annotations

import math
import os

import numpy as np

from bragg_numba.errors import InputError
from bragg_numba.io.atomic import file_error, write_bytes

__all__ = ["read_raw", "write_raw"]


def write_raw(path: str | os.PathLike[str], photons: np.ndarray) -> None:
    """Write ``photons`` (slow, fast) as float32, whole or not at all."""
    write_bytes(path, np.ascontiguousarray(photons, dtype="<f4").data)


def read_raw(path: str | os.PathLike[str], shape: tuple[int, int] | None = None) -> np.ndarray:
    """Read a raw image.

    Parameters
    ----------
    path
        The file.
    shape
        (slow, fast). Default: square.

    Returns
    -------
    numpy.ndarray
        (slow, fast) float32.

    Raises
    ------
    InputError
        If the file cannot be read or its length does not fit the shape.
    """
    name = os.fspath(path)
    try:
        with open(path, "rb") as file:
            file_bytes = os.fstat(file.fileno()).st_size
            n_slow, n_fast = _square(name, file_bytes) if shape is None else shape
            if n_slow < 1 or n_fast < 1 or 4 * n_slow * n_fast != file_bytes:
                rule = f"must be {4 * n_slow * n_fast} bytes long to hold {n_fast} x {n_slow} float32 pixels"
                raise InputError(name, rule, file_bytes)
            photons = np.fromfile(file, dtype="<f4")
    except OSError as error:
        raise file_error(path, error, "read") from error
    if photons.size != n_slow * n_fast:
        raise InputError(name, "changed while it was read: pixels are missing")
    return photons.astype(np.float32, copy=False).reshape(n_slow, n_fast)


def _square(name: str, file_bytes: int) -> tuple[int, int]:
    """Return the shape of a square image of so many bytes."""
    side = math.isqrt(file_bytes // 4)
    if side < 1 or 4 * side * side != file_bytes:
        rule = "is not a square float32 image: its shape must be given"
        raise InputError(name, rule, file_bytes)
    return side, side
