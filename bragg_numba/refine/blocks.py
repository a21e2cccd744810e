"""Normal equations of many stills: parameters that all share, and each still's own (a block-arrow matrix)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

#: Eigenvalues below this, of a matrix whose diagonal is 1, belong to directions that the data do not fix.
_FLAT = 1e-12

#: Reflections whose variances are worked out together.
_REFLECTIONS_AT_A_TIME = 4096


@dataclass(frozen=True, slots=True)
class Blocks:
    """A value with its slope and its curvature in the shared parameters and in each still's own (eq. 66).

    The vector of all parameters holds the shared ones first, then those of still 0, still 1 and so on. Between two
    stills' own parameters there is no curvature: what is stored grows with the number of stills, not with its square.

    Attributes
    ----------
    value
        What is minimised: minus the logarithm of the likelihood, priors included.
    gradient
        Its slope, float64 (n,), n all parameters.
    shared
        Curvature of the shared parameters, float64 (s, s).
    own
        Of each still's own parameters, float64 (m, m).
    cross
        Between the shared ones and those, float64 (s, m).
    """

    value: float
    gradient: np.ndarray
    shared: np.ndarray
    own: tuple[np.ndarray, ...]
    cross: tuple[np.ndarray, ...]

    @classmethod
    def empty(cls, shared: int, own: list[int]) -> Blocks:
        """Zeros for ``shared`` shared parameters and stills of so many own ones."""
        return cls(
            0.0,
            np.zeros(shared + sum(own)),
            np.zeros((shared, shared)),
            tuple(np.zeros((m, m)) for m in own),
            tuple(np.zeros((shared, m)) for m in own),
        )

    @property
    def parts(self) -> list[slice]:
        """Where the own parameters of each still lie in the vector of all."""
        ends = np.cumsum([len(self.shared), *(len(matrix) for matrix in self.own)])
        return [slice(int(a), int(b)) for a, b in zip(ends[:-1], ends[1:], strict=True)]

    @property
    def diagonal(self) -> np.ndarray:
        """The curvature along each parameter, float64 (n,)."""
        return np.concatenate([np.diag(matrix) for matrix in (self.shared, *self.own)])

    def curvature(self, step: np.ndarray) -> float:
        """The curvature along a step: ``step @ H @ step``."""
        first = step[: len(self.shared)]
        total = first @ self.shared @ first
        for part, matrix, cross in zip(self.parts, self.own, self.cross, strict=True):
            total += step[part] @ matrix @ step[part] + 2.0 * (first @ cross @ step[part])
        return float(total)

    def dense(self) -> np.ndarray:
        """The whole matrix, float64 (n, n)."""
        n, whole = len(self.shared), np.zeros((len(self.gradient),) * 2)
        whole[:n, :n] = self.shared
        for part, matrix, cross in zip(self.parts, self.own, self.cross, strict=True):
            whole[part, part], whole[:n, part], whole[part, :n] = matrix, cross, cross.T
        return whole

    def scaled(self, scale: np.ndarray, damping: float = 0.0, fixed: np.ndarray | None = None) -> Blocks:
        """The same in units of ``scale`` (n,), with ``damping`` on the diagonal; of the fixed ones nothing is left.

        A fixed parameter, like one that the data say nothing about, gets a diagonal of 1 and no slope.
        """
        keep = np.ones(len(scale), dtype=bool) if fixed is None else ~fixed
        keep &= self.diagonal > 0.0
        unit = scale * keep
        n = len(self.shared)

        def square(matrix: np.ndarray, part: slice) -> np.ndarray:
            outer = matrix * unit[part, None] * unit[part]
            outer[np.diag_indices(len(outer))] += np.where(keep[part], damping, 1.0)
            return outer

        first = slice(0, n)
        return Blocks(
            self.value,
            self.gradient * unit,
            square(self.shared, first),
            tuple(square(matrix, part) for matrix, part in zip(self.own, self.parts, strict=True)),
            tuple(c * unit[first, None] * unit[part] for c, part in zip(self.cross, self.parts, strict=True)),
        )

    def solve(self) -> np.ndarray:
        """The step to the minimum, ``-H^-1 gradient``, float64 (n,), by the Schur complement (eq. 67).

        Raises
        ------
        numpy.linalg.LinAlgError
            If a block is singular.
        """
        n = len(self.shared)
        step = np.empty_like(self.gradient)
        left = self.shared.copy()
        right = -self.gradient[:n]
        found = []
        for part, matrix, cross in zip(self.parts, self.own, self.cross, strict=True):
            solved = np.linalg.solve(matrix, np.column_stack([cross.T, self.gradient[part]]))
            found.append(solved)
            left -= cross @ solved[:, :n]
            right += cross @ solved[:, n]
        first = np.linalg.solve(left, right) if n else right
        step[:n] = first
        for part, solved in zip(self.parts, found, strict=True):
            step[part] = -solved[:, n] - solved[:, :n] @ first
        return step

    def covariances(self) -> list[np.ndarray]:
        """Covariances of shared parameters with each still's own (eq. 67), float64 (s + m, s + m); of no still: (s, s).

        Variances of parameters that the data do not fix are infinite, what is beside them is 0.
        """
        n = len(self.shared)
        diagonal = self.diagonal
        known = diagonal > 0.0
        scale = np.where(known, 1.0 / np.sqrt(np.where(known, diagonal, 1.0)), 1.0)
        unit = self.scaled(scale)
        left = unit.shared.copy()
        inner = []
        for matrix, cross in zip(unit.own, unit.cross, strict=True):
            inverse, flat = _inverse(matrix)
            inner.append((inverse, flat, inverse @ cross.T))
            left -= cross @ inner[-1][2]
        outer, loose = _inverse(left)
        if not self.own:
            return [_unscaled(outer, loose | ~known, scale)]
        found = []
        for part, (inverse, flat, gain) in zip(self.parts, inner, strict=True):
            both = np.block([[outer, -outer @ gain.T], [-gain @ outer, inverse + gain @ outer @ gain.T]])
            where = np.r_[0:n, part.start : part.stop]
            found.append(_unscaled(both, np.r_[loose, flat | _leans(gain, loose)] | ~known[where], scale[where]))
        return found


@dataclass(frozen=True, slots=True)
class WithReflections:
    """Blocks of stills with structure factors that all share, whose own curvature is a diagonal (eq. 67).

    The vector of all parameters holds those of the blocks first, then |F|^2 of the reflections.

    Attributes
    ----------
    blocks
        Of all other parameters, n of them.
    slope, weight
        Of the reflections, float64 (r,): gradient and curvature.
    cross
        Curvature between the others and the reflections, sparse (n, r).
    """

    blocks: Blocks
    slope: np.ndarray
    weight: np.ndarray
    cross: csr_array

    @property
    def value(self) -> float:
        """What is minimised."""
        return self.blocks.value

    @property
    def gradient(self) -> np.ndarray:
        """Its slope, float64 (n + r,)."""
        return np.concatenate([self.blocks.gradient, self.slope])

    @property
    def diagonal(self) -> np.ndarray:
        """The curvature along each parameter, float64 (n + r,)."""
        return np.concatenate([self.blocks.diagonal, self.weight])

    def curvature(self, step: np.ndarray) -> float:
        """The curvature along a step."""
        n = len(self.blocks.gradient)
        first, last = step[:n], step[n:]
        return self.blocks.curvature(first) + float(self.weight @ last**2 + 2.0 * (first @ (self.cross @ last)))

    def scaled(self, scale: np.ndarray, damping: float = 0.0, fixed: np.ndarray | None = None) -> WithReflections:
        """As ``Blocks.scaled``."""
        n = len(self.blocks.gradient)
        fixed = np.zeros(len(scale), dtype=bool) if fixed is None else fixed
        keep = ~fixed & (self.diagonal > 0.0)
        unit = scale * keep
        return WithReflections(
            self.blocks.scaled(scale[:n], damping, fixed[:n]),
            self.slope * unit[n:],
            self.weight * unit[n:] ** 2 + np.where(keep[n:], damping, 1.0),
            csr_array(self.cross.multiply(unit[:n, None]).multiply(unit[n:])),
        )

    def solve(self) -> np.ndarray:
        """The step to the minimum: the reflections are eliminated, what is left is solved whole."""
        per = 1.0 / self.weight
        right = -self.blocks.gradient + self.cross @ (per * self.slope)
        first = np.linalg.solve(self._complement(per), right) if len(right) else right
        return np.concatenate([first, -per * (self.slope + self.cross.T @ first)])

    def covariances(self) -> tuple[list[np.ndarray], np.ndarray]:
        """As ``Blocks.covariances``; and the variances of the reflections, float64 (r,), inf where nothing is known."""
        n, blocks, diagonal = len(self.blocks.gradient), self.blocks, self.diagonal
        known = diagonal > 0.0
        scale = np.where(known, 1.0 / np.sqrt(np.where(known, diagonal, 1.0)), 1.0)
        unit = self.scaled(scale)
        per = 1.0 / unit.weight
        inverse, loose = _inverse(unit._complement(per))
        loose |= ~known[:n]
        n_shared = len(blocks.shared)
        places = [np.r_[0:n_shared, part.start : part.stop] for part in blocks.parts] or [np.arange(n_shared)]
        found = [_unscaled(inverse[np.ix_(at, at)], loose[at], scale[at]) for at in places]
        variances = per.copy()
        for start in range(0, len(per), _REFLECTIONS_AT_A_TIME):
            at = slice(start, start + _REFLECTIONS_AT_A_TIME)
            part = unit.cross[:, at].toarray()
            variances[at] += per[at] ** 2 * np.einsum("ij,ij->j", part, inverse @ part)
        return found, np.where(known[n:], variances * scale[n:] ** 2, np.inf)

    def _complement(self, per: np.ndarray) -> np.ndarray:
        """The curvature of the others where reflections follow them, float64 (n, n)."""
        return self.blocks.dense() - (self.cross.multiply(per) @ self.cross.T).toarray()


def _leans(gain: np.ndarray, loose: np.ndarray) -> np.ndarray:
    """Which own parameters follow a shared one that nothing fixes, bool (m,)."""
    return (np.abs(gain[:, loose]) > 1e-6).any(axis=1) if loose.any() else np.zeros(len(gain), dtype=bool)


def _inverse(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The inverse of a symmetric matrix on what it determines, and bool (n,), the parameters that it does not."""
    if not len(matrix):
        return matrix, np.zeros(0, dtype=bool)
    diagonal = np.sqrt(np.maximum(np.diag(matrix), 0.0))
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2.0)
    flat = values < _FLAT * max(float(values[-1]), 1e-300)
    inverse = np.where(flat, 0.0, 1.0 / np.where(flat, 1.0, values))
    loose = (np.abs(vectors[:, flat]) > 1e-4).any(axis=1) | (diagonal < np.sqrt(_FLAT))
    return (vectors * inverse) @ vectors.T, loose


def _unscaled(covariance: np.ndarray, loose: np.ndarray, scale: np.ndarray) -> np.ndarray:
    found = covariance * scale[:, None] * scale
    found[loose, :] = found[:, loose] = 0.0
    found[loose, loose] = np.inf
    return found
