"""What may be said of a crystal's mosaic domains and of the blocks that scatter: checks, and sizes to choose."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

from bragg_numba import checks as check
from bragg_numba.errors import InputError

#: How the rotations of mosaic domains are drawn: nanoBragg's cap, or with normally distributed angles.
MODELS = ("cap", "gauss")

#: Most cells along an axis of a block.
MOST_CELLS = 1_000_000

#: More sizes than this are a slip of the pen: each of them is a frame's work.
MOST_SIZES = 1000

#: Most domains, drawn or given.
MOST_DOMAINS = 10_000_000

#: What a matrix may differ from a rotation by, as in Crystal.orientation.
_OFF, _OFF_DIAGONAL = 1.1e-5, 1e-6


def clean_spread(name: str, value) -> float | tuple[float, ...]:
    """Return a mosaic spread in degrees: one, or three about lab x, y, z; three alike are one."""
    if isinstance(value, (str, bytes)) or not np.iterable(value):
        return check.number(name, value, low=0.0, high=360.0)
    parts = tuple(value)
    if len(parts) != 3:
        raise InputError(name, "must be one number or three, about lab x, y, z", value, "degrees")
    clean = tuple(check.number(f"{name}[{i}]", part, low=0.0, high=360.0) for i, part in enumerate(parts))
    return clean[0] if clean[0] == clean[1] == clean[2] else clean


def clean_rotations(name: str, value) -> np.ndarray:
    """Return rotations of mosaic domains as float64 (n, 3, 3), not writeable; rows of nine numbers will do."""
    found = _floats(name, value)
    if found.shape in ((3, 3), (9,)):
        found = found.reshape(1, 3, 3)
    if found.ndim == 2 and found.shape[1] == 9:
        found = found.reshape(-1, 3, 3)
    if found.ndim != 3 or found.shape[1:] != (3, 3) or not len(found):
        raise InputError(name, "must have the shape (n, 3, 3), or (n, 9)", found.shape)
    if len(found) > MOST_DOMAINS:
        raise InputError(name, f"must be at most {MOST_DOMAINS:,} domains", len(found))
    off = np.abs(found @ found.transpose(0, 2, 1) - np.eye(3))
    bad = (off > np.where(np.eye(3) > 0.0, _OFF, _OFF_DIAGONAL)).any(axis=(1, 2)) | (np.linalg.det(found) < 0.0)
    if bad.any():
        place = int(np.flatnonzero(bad)[0])
        rule = "must be a rotation matrix (orthonormal, determinant +1)"
        raise InputError(f"{name}[{place}]", rule, tuple(map(tuple, found[place].tolist())))
    found.setflags(write=False)
    return found


def clean_weights(name: str, value, n: int) -> np.ndarray:
    """Return weights of ``n`` domains as float64 (n,), not writeable."""
    found = _floats(name, value)
    if found.shape != (n,):
        raise InputError(name, f"must be {n} numbers, one a domain", found.shape)
    _check_weights(name, found)
    found.setflags(write=False)
    return found


def _check_weights(name: str, weights: np.ndarray) -> None:
    if weights.min() < 0.0:
        raise InputError(name, "must be at least 0", float(weights.min()))
    with np.errstate(over="ignore"):
        total = float(weights.sum())
    if not 0.0 < total < math.inf:
        raise InputError(name, "must have a finite sum above 0", total)


def _floats(name: str, value) -> np.ndarray:
    """Finite numbers as a new float64 array; matrices of other programs are sequences of nine."""
    try:
        if not isinstance(value, np.ndarray):
            value = [tuple(part) if hasattr(part, "__iter__") and not isinstance(part, str) else part for part in value]
        found = np.array(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(name, "must be an array of numbers", type(value).__name__) from None
    if not np.isfinite(found).all():
        raise InputError(name, "must be finite", tuple(int(i) for i in np.argwhere(~np.isfinite(found))[0]))
    return found


def clean_count_matrix(name: str, value) -> tuple[tuple[float, ...], ...]:
    """Return a 3 x 3 matrix of cell counts: with a positive determinant, no number beyond MOST_CELLS."""
    rows = tuple(value) if np.iterable(value) and not isinstance(value, str) else ()
    if len(rows) != 3:
        raise InputError(name, "must be 3 rows of 3 numbers", value)
    clean = tuple(check.vector(f"{name}[{i}]", row, low=-MOST_CELLS, high=MOST_CELLS) for i, row in enumerate(rows))
    volume = float(np.linalg.det(np.array(clean)))
    if not volume >= 1e-3:
        hint = "its determinant is the number of cells in a block"
        raise InputError(name, "must have a positive determinant", clean, hint)
    return clean


def whole_counts(matrix: tuple[tuple[float, ...], ...]) -> tuple[int, ...] | None:
    """The counts of a matrix that is diagonal with whole numbers from 1 on; None for any other."""
    square = np.array(matrix)
    along = np.diag(square)
    if (square != np.diag(along)).any() or (along != np.rint(along)).any() or along.min() < 1.0:
        return None
    return tuple(int(n) for n in along)


def clean_sizes(name: str, value) -> tuple[tuple[int, int, int, float], ...]:
    """Return block sizes as rows of Na, Nb, Nc and a weight; rows of three numbers weigh 1."""
    if not np.iterable(value) or isinstance(value, (str, bytes)):
        raise InputError(name, "must be a list of rows Na Nb Nc weight", value)
    rows = []
    for i, row in enumerate(value):
        parts = tuple(row) if np.iterable(row) and not isinstance(row, str) else ()
        if len(parts) not in (3, 4):
            raise InputError(f"{name}[{i}]", "must be Na Nb Nc and a weight", row)
        n_a, n_b, n_c = (check.count(f"{name}[{i}]", n, low=1, high=MOST_CELLS) for n in parts[:3])
        rows.append((n_a, n_b, n_c, check.number(f"{name}[{i}]", (*parts, 1.0)[3], low=0.0, high=1e30)))
    if not 1 <= len(rows) <= MOST_SIZES:
        raise InputError(name, f"must be 1 to {MOST_SIZES} sizes", len(rows))
    _check_weights(name, np.array([row[3] for row in rows]))
    return tuple(rows)


def log_normal_sizes(counts: tuple, spread: float, sizes: int) -> tuple[tuple[int, int, int, float], ...]:
    """Rows of Na, Nb, Nc, weight of blocks whose edges follow a log-normal distribution (eq. 50).

    Each size stands for an equal part of the blocks and has the median edge of its part; counts are rounded, and sizes
    that become alike are one with their weights together. Nothing is drawn.

    Parameters
    ----------
    counts
        Cells along a, b, c of the median block.
    spread
        Standard deviation of the natural logarithm of an edge: 0.3 is about 30 %.
    sizes
        How many sizes stand for the distribution.
    """
    found: dict[tuple[int, ...], float] = {}
    for i in range(sizes):
        factor = math.exp(spread * NormalDist().inv_cdf((i + 0.5) / sizes))
        key = tuple(min(max(1, round(n * factor)), MOST_CELLS) for n in counts)
        found[key] = found.get(key, 0.0) + 1.0 / sizes
    return tuple((n_a, n_b, n_c, weight) for (n_a, n_b, n_c), weight in found.items())


def root_mean_square_deg(rotations: np.ndarray, weights: np.ndarray | None) -> float:
    """Root mean square of the angles of rotations (n, 3, 3), degrees."""
    cosines = np.clip((np.trace(rotations, axis1=1, axis2=2) - 1.0) / 2.0, -1.0, 1.0)
    return math.degrees(math.sqrt(float(np.average(np.arccos(cosines) ** 2, weights=weights))))
