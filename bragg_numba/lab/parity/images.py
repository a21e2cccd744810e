"""Read an image of any kind that the two programs write, and bring one to another's pixel grid."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from bragg_numba.errors import InputError
from bragg_numba.io.smv import read_smv
from bragg_numba.io.smv_entries import read_smv_header

if TYPE_CHECKING:
    import numpy as np

__all__ = ["load_image", "resample", "smv_shape"]

#: Where a frame file keeps its photons.
DEFAULT_DATASET = "/entry/data/data"


def load_image(path: str | Path, shape: tuple[int, int] | None = None) -> np.ndarray:
    """Read one image; the kind of file is recognised by its first bytes.

    Parameters
    ----------
    path
        A raw float32 file, an HDF5 file (``/entry/data/data``, or ``file.h5::dataset``; the first frame of a
        stack), an SMV image or a ``.npy`` file.
    shape
        (slow, fast) pixels of a raw file, which does not know them; a raw file is square without it.

    Returns
    -------
    numpy.ndarray
        (n_slow, n_fast), in the type of the file.
    """
    name, _, dataset = str(path).partition("::")
    try:
        with open(name, "rb") as file:
            start = file.read(512)
        if start.startswith(b"\x89HDF\r\n\x1a\n"):
            image = _read_hdf5(name, dataset or DEFAULT_DATASET)
        elif start.startswith(b"\x93NUMPY"):
            image = _read_npy(name)
        elif start.startswith(b"{") and b"HEADER_BYTES" in start:
            image = read_smv(name).pixels
        else:
            image = _read_raw(name, shape)
    except OSError as error:
        raise InputError(name, "could not be read", hint=error.strerror or str(error)) from error
    if image.ndim != 2 or image.size == 0:
        raise InputError(name, "must hold an image of two dimensions", image.shape)
    if image.dtype.kind not in "fiu":
        raise InputError(name, "must hold real numbers", str(image.dtype))
    return image


def _read_raw(name: str, shape) -> np.ndarray:
    import numpy as np

    size = Path(name).stat().st_size
    if size == 0 or size % 4:
        raise InputError(name, "must hold float32 numbers, 4 bytes each", f"{size} bytes")
    count = size // 4
    if shape is None:
        side = math.isqrt(count)
        if side * side != count:
            rule = "holds a number of pixels that is not a square"
            raise InputError(name, rule, count, "give the shape: --shape SLOW FAST")
        shape = (side, side)
    if shape[0] * shape[1] != count:
        raise InputError(name, f"must hold {shape[0]} x {shape[1]} pixels", count)
    return np.fromfile(name, dtype="<f4").reshape(shape)


def _read_npy(name: str) -> np.ndarray:
    import numpy as np

    try:
        return np.load(name, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        raise InputError(name, "is not a readable .npy file", hint=str(error)) from error


def _read_hdf5(name: str, dataset: str) -> np.ndarray:
    from contextlib import closing

    from bragg_numba.io.frame_index import frames_of
    from bragg_numba.io.hdf5 import open_hdf5, reading

    with open_hdf5(name) as file:
        with reading(name):
            known = dataset in file
        if not known:
            raise InputError(name, f"has no dataset {dataset}", hint="name it: file.h5::/path/to/dataset")
        with closing(frames_of(name, file, dataset)) as frames:
            return frames.read(0)


def smv_shape(path: str | Path) -> tuple[int, int]:
    """Return (slow, fast) pixels of an SMV file, from its header."""
    return read_smv_header(path).shape


def resample(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Bring an image to another number of pixels over the same area; no photon is lost.

    Each new pixel receives the photons of the old ones in proportion to the area that they share.

    Returns
    -------
    numpy.ndarray
        ``shape`` float64.
    """
    import numpy as np

    if len(shape) != 2 or min(shape) < 1:
        raise InputError("the shape to resample to", "must be two positive pixel counts", shape)
    result = np.asarray(image, dtype=np.float64)
    for axis, length in enumerate(shape):
        if result.shape[axis] != length:
            result = _share_along(result, axis, length)
    return result


def _share_along(image, axis: int, length: int) -> np.ndarray:
    """Share photons along one axis: the running total at the old edges, read off at the new ones."""
    import numpy as np

    old = image.shape[axis]
    total = np.concatenate([np.zeros_like(image.take([0], axis)), np.cumsum(image, axis=axis)], axis=axis)
    edges = np.arange(length + 1) * (old / length)
    below = np.minimum(edges.astype(int), old - 1)
    part = (edges - below).reshape((-1, 1) if axis == 0 else (1, -1))
    at_edges = total.take(below, axis) * (1.0 - part) + total.take(below + 1, axis) * part
    return np.diff(at_edges, axis=axis)
