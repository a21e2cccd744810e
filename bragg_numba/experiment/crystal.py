"""The crystal: unit cell, orientation, size, shape, mosaicity."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from bragg_numba import checks as check
from bragg_numba.errors import InputError
from bragg_numba.experiment.domains import (
    MODELS,
    MOST_CELLS,
    MOST_DOMAINS,
    MOST_SIZES,
    clean_count_matrix,
    clean_rotations,
    clean_sizes,
    clean_spread,
    clean_weights,
    log_normal_sizes,
    root_mean_square_deg,
    whole_counts,
)
from bragg_numba.experiment.noun import Noun
from bragg_numba.kernels.parameters import SHAPE_NAMES

#: nanoBragg's default seed of the mosaic domains.
MOSAIC_SEED = 12345678


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Crystal(Noun):
    """A perfect-lattice nanocrystal and its mosaic domains.

    The orientation is built as nanoBragg does: standard setting from ``cell``, or MOSFLM matrix;
    then ``misset_deg`` about the lab x, y, z axes; then ``orientation``, a rotation matrix in the lab
    frame (all on the reciprocal vectors). docs/mosaicity.md tells what domains and blocks may be.
    """

    cell: tuple | None = None  #: a, b, c (angstrom), alpha, beta, gamma (degrees)
    mosflm_matrix: tuple | None = None  #: 3 x 3, rows x, y, z, columns a*, b*, c* in wavelength / angstrom
    misset_deg: tuple | str | None = None  #: rotations about lab x, y, z; or "random"
    misset_seed: int = 1  #: for misset_deg="random"
    orientation: tuple | None = None  #: 3 x 3 rotation in the lab frame
    cell_counts: tuple = (1, 1, 1)  #: unit cells along a, b, c
    cell_count_matrix: tuple | None = None  #: 3 x 3, cells along and across a, b, c; replaces cell_counts (eq. 49)
    block_sizes: tuple | None = None  #: rows of Na, Nb, Nc, weight: blocks of several sizes; replaces cell_counts
    block_spread: float = 0.0  #: standard deviation of ln(edge) of blocks of log-normal sizes about cell_counts
    block_spread_sizes: int = 7  #: how many sizes stand for that distribution
    size_mm: tuple = (None, None, None)  #: along a, b, c; overrides cell_counts where given
    shape: str = "square"
    fudge: float = 1.0  #: multiplies the squared radius of round, gauss and tophat
    mosaic_spread_deg: float | tuple | None = None  #: one, or three about lab x, y, z at phi = 0
    mosaic_model: str = "cap"  #: how angles are drawn: nanoBragg's cap, or "gauss" (eq. 48)
    mosaic_domains: int | None = None
    mosaic_seed: int = MOSAIC_SEED
    mosaic_rotations: np.ndarray | None = None  #: (n, 3, 3): the domains as they are, instead of a spread
    mosaic_weights: np.ndarray | None = None  #: (n,), of these domains; None: all alike
    scale: float = 1.0  #: blocks that the beam lights: multiplies all that the crystal scatters (eq. 50)
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
        put("shape", check.choice(pre + "shape", self.shape, SHAPE_NAMES))
        self._clean_counts()
        if not np.iterable(self.size_mm) or len(tuple(self.size_mm)) != 3:
            raise InputError(pre + "size_mm", "must be 3 numbers (None: from cell_counts)", self.size_mm)
        put(
            "size_mm",
            tuple(check.optional(check.number, pre + "size_mm", n, above=0.0, high=1000.0) for n in self.size_mm),
        )
        self._refuse_two_sizes()
        put("fudge", check.number(pre + "fudge", self.fudge, low=0.0, high=1e30))
        put("mosaic_spread_deg", check.optional(clean_spread, pre + "mosaic_spread_deg", self.mosaic_spread_deg))
        put("mosaic_model", check.choice(pre + "mosaic_model", self.mosaic_model, MODELS))
        domains = check.optional(check.count, pre + "mosaic_domains", self.mosaic_domains, low=1, high=MOST_DOMAINS)
        put("mosaic_domains", domains)
        self._clean_given_domains()
        put("scale", check.number(pre + "scale", self.scale, above=0.0, high=1e30))
        for seed in ("misset_seed", "mosaic_seed"):
            put(seed, check.count(pre + seed, getattr(self, seed), low=-(2**31) + 1, high=2**31 - 1))
        put("water_um", check.number(pre + "water_um", self.water_um, low=0.0, high=1e9))

    @property
    def sizes(self) -> tuple[tuple[int, int, int, float], ...] | None:
        """Rows of Na, Nb, Nc, weight of blocks of several sizes, none of which weighs 0; None where all are alike."""
        if self.block_spread > 0.0:
            return log_normal_sizes(self.cell_counts, self.block_spread, self.block_spread_sizes)
        return None if self.block_sizes is None else tuple(row for row in self.block_sizes if row[3] > 0.0)

    @property
    def typical_spread_deg(self) -> float:
        """The mosaic spread as one number: of three their root mean square, of given domains that of their angles.

        0 for a crystal of one domain.
        """
        if self.mosaic_rotations is not None:
            return root_mean_square_deg(self.mosaic_rotations, self.mosaic_weights)
        if self.mosaic_domains == 1 or self.mosaic_spread_deg is None:
            return 0.0
        spreads = self.mosaic_spread_deg
        return math.sqrt(sum(x * x for x in spreads) / 3.0) if isinstance(spreads, tuple) else spreads

    def _clean_counts(self) -> None:
        """Clean the three ways to say how many cells a block has; a matrix that is no more than counts becomes them."""
        put, pre = self._set, "Crystal."
        counts = tuple(self.cell_counts) if np.iterable(self.cell_counts) else (self.cell_counts,) * 3
        if len(counts) != 3:
            raise InputError(pre + "cell_counts", "must be 3 whole numbers", self.cell_counts)
        put("cell_counts", tuple(check.count(pre + "cell_counts", n, low=1, high=MOST_CELLS) for n in counts))
        put("block_sizes", check.optional(clean_sizes, pre + "block_sizes", self.block_sizes))
        put("block_spread", check.number(pre + "block_spread", self.block_spread, low=0.0, high=3.0))
        sizes = check.count(pre + "block_spread_sizes", self.block_spread_sizes, low=1, high=MOST_SIZES)
        put("block_spread_sizes", sizes)
        name = pre + "cell_count_matrix"
        matrix = check.optional(clean_count_matrix, name, self.cell_count_matrix)
        whole = None if matrix is None else whole_counts(matrix)
        if whole is not None:
            put("cell_counts", whole)
            matrix = None
        put("cell_count_matrix", matrix)
        if matrix is not None and self.shape == "square":
            raise InputError(
                name,
                "must be diagonal, with whole numbers, for a square crystal",
                matrix,
                "the fringes of whole cells lie along a, b, c; shapes gauss, round and tophat take all nine numbers",
            )

    def _refuse_two_sizes(self) -> None:
        given = [name for name in ("cell_count_matrix", "block_sizes") if getattr(self, name) is not None]
        if self.block_spread > 0.0:
            given.append("block_spread")
        if any(size is not None for size in self.size_mm):
            given.append("size_mm")
        if len(given) > 1:
            raise InputError(f"Crystal.{given[0]}", f"must not come together with {given[1]}")

    def _clean_given_domains(self) -> None:
        put, pre = self._set, "Crystal."
        if self.mosaic_rotations is None:
            if self.mosaic_weights is not None:
                raise InputError(pre + "mosaic_weights", "needs mosaic_rotations: domains that are drawn weigh alike")
            return
        put("mosaic_rotations", clean_rotations(pre + "mosaic_rotations", self.mosaic_rotations))
        n = len(self.mosaic_rotations)
        if self.mosaic_weights is not None:
            put("mosaic_weights", clean_weights(pre + "mosaic_weights", self.mosaic_weights, n))
        if self.mosaic_spread_deg:
            rule = "must not come together with mosaic_rotations, which say how the domains lie"
            raise InputError(pre + "mosaic_spread_deg", rule, self.mosaic_spread_deg)
        if self.mosaic_model != "cap":
            raise InputError(pre + "mosaic_model", "has no meaning beside mosaic_rotations", self.mosaic_model)
        if self.mosaic_domains not in (None, n):
            raise InputError(pre + "mosaic_domains", f"must be {n}, as there are rotations", self.mosaic_domains)


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
