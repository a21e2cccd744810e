"""The crystal: unit cell, orientation, size, shape, mosaicity."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from bragg_numba import checks as check
from bragg_numba.errors import InputError
from bragg_numba.experiment.noun import Noun
from bragg_numba.kernels.parameters import SHAPE_NAMES

#: nanoBragg's default seed of the mosaic domains.
MOSAIC_SEED = 12345678


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Crystal(Noun):
    """A perfect-lattice nanocrystal and its mosaic domains.

    The orientation is built as nanoBragg does: standard setting from ``cell``, or MOSFLM matrix;
    then ``misset_deg`` about the lab x, y, z axes; then ``orientation``, a rotation matrix in the lab
    frame (all on the reciprocal vectors).
    """

    cell: tuple | None = None  #: a, b, c (angstrom), alpha, beta, gamma (degrees)
    mosflm_matrix: tuple | None = None  #: 3 x 3, rows x, y, z, columns a*, b*, c* in wavelength / angstrom
    misset_deg: tuple | str | None = None  #: rotations about lab x, y, z; or "random"
    misset_seed: int = 1  #: for misset_deg="random"
    orientation: tuple | None = None  #: 3 x 3 rotation in the lab frame
    cell_counts: tuple = (1, 1, 1)  #: unit cells along a, b, c
    size_mm: tuple = (None, None, None)  #: along a, b, c; overrides cell_counts where given
    shape: str = "square"
    fudge: float = 1.0  #: multiplies the squared radius of round, gauss and tophat
    mosaic_spread_deg: float | None = None
    mosaic_domains: int | None = None
    mosaic_seed: int = MOSAIC_SEED
    water_um: float = 0.0  #: edge of a cube of water that adds a flat background

    def __post_init__(self) -> None:
        put, pre = self._set, "Crystal."
        if self.cell is None and self.mosflm_matrix is None:
            raise InputError("Crystal.cell", "must be given", hint="or mosflm_matrix; -cell or -mat")
        put("cell", check.optional(_clean_cell, pre + "cell", self.cell))
        put("mosflm_matrix", check.optional(_clean_matrix, pre + "mosflm_matrix", self.mosflm_matrix))
        if isinstance(self.misset_deg, str):
            put("misset_deg", check.choice(pre + "misset_deg", self.misset_deg, ("random",)))
        else:
            put("misset_deg", check.optional(check.vector, pre + "misset_deg", self.misset_deg))
        put("orientation", check.optional(_clean_rotation, pre + "orientation", self.orientation))
        counts = tuple(self.cell_counts) if np.iterable(self.cell_counts) else (self.cell_counts,) * 3
        if len(counts) != 3:
            raise InputError(pre + "cell_counts", "must be 3 whole numbers", self.cell_counts)
        put(
            "cell_counts",
            tuple(check.count(pre + "cell_counts", n, low=1, high=1_000_000) for n in counts),
        )
        if not np.iterable(self.size_mm) or len(tuple(self.size_mm)) != 3:
            raise InputError(pre + "size_mm", "must be 3 numbers (None: from cell_counts)", self.size_mm)
        put(
            "size_mm",
            tuple(check.optional(check.number, pre + "size_mm", n, above=0.0, high=1000.0) for n in self.size_mm),
        )
        put("shape", check.choice(pre + "shape", self.shape, SHAPE_NAMES))
        put("fudge", check.number(pre + "fudge", self.fudge, low=0.0, high=1e30))
        spread = check.optional(check.number, pre + "mosaic_spread_deg", self.mosaic_spread_deg, low=0.0, high=360.0)
        put("mosaic_spread_deg", spread)
        domains = check.optional(check.count, pre + "mosaic_domains", self.mosaic_domains, low=1, high=10_000_000)
        put("mosaic_domains", domains)
        for seed in ("misset_seed", "mosaic_seed"):
            put(seed, check.count(pre + seed, getattr(self, seed), low=-(2**31) + 1, high=2**31 - 1))
        put("water_um", check.number(pre + "water_um", self.water_um, low=0.0, high=1e9))


def _clean_cell(name: str, value) -> tuple:
    if not np.iterable(value) or isinstance(value, str):
        raise InputError(name, "must be 1 to 6 numbers: a b c alpha beta gamma", value)
    parts = list(value)
    if not 1 <= len(parts) <= 6:
        raise InputError(name, "must be 1 to 6 numbers: a b c alpha beta gamma", value)
    parts += [parts[0]] * (3 - len(parts)) + [90.0] * (6 - max(len(parts), 3))
    lengths = [check.number(f"{name} length", n, low=1e-3, high=1e5, hint="angstrom") for n in parts[:3]]
    angles = [check.number(f"{name} angle", n, above=0.0, high=179.999, hint="degrees") for n in parts[3:]]
    al, be, ga = (math.radians(angle) for angle in angles)
    half = (al + be + ga) / 2
    skew = math.sin(half) * math.sin(half - al) * math.sin(half - be) * math.sin(half - ga)
    if skew < 1e-9:
        raise InputError(name, "must enclose a volume", tuple(parts), hint="these three angles do not close a cell")
    return (*lengths, *angles)


def _clean_matrix(name: str, value) -> tuple:
    matrix = _three_by_three(name, value)
    if abs(np.linalg.det(np.array(matrix))) < 1e-18:
        raise InputError(name, "must have three independent columns a*, b*, c*", value)
    return matrix


_UNITY = np.eye(3)


def _clean_rotation(name: str, value) -> tuple:
    matrix = _three_by_three(name, value)
    square = np.array(matrix)
    # As np.allclose, which takes longer than all else of a frame's experiment.
    off = np.abs(square @ square.T - _UNITY)
    if not (off <= 1e-6 + 1e-5 * _UNITY).all() or np.linalg.det(square) < 0:
        raise InputError(name, "must be a rotation matrix (orthonormal, determinant +1)", value)
    return matrix


def _three_by_three(name: str, value) -> tuple:
    rows = [check.vector(name, row) for row in value] if np.iterable(value) else []
    if len(rows) != 3:
        raise InputError(name, "must be 3 rows of 3 numbers", value)
    return tuple(rows)
