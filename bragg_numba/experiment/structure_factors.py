"""Structure factor amplitudes of the P1 cell."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Self

import numpy as np

from bragg_numba import checks as check
from bragg_numba.errors import InputError
from bragg_numba.experiment.noun import Noun


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class StructureFactors(Noun):
    """Amplitudes F(h, k, l) for every reflection of the P1 cell, and a default for the others.

    Within the box spanned by the indices, cells that are not listed hold ``default_F``; outside of it
    every reflection has ``default_F``. A reflection listed twice takes its last value.
    """

    default_F: float = 0.0  #: electrons
    indices: np.ndarray | None = None  #: int32 (n, 3), Miller indices h, k, l
    amplitudes: np.ndarray | None = None  #: float64 (n,), electrons

    def __post_init__(self) -> None:
        put, pre = self._set, "StructureFactors."
        put("default_F", check.number(pre + "default_F", self.default_F, low=-1e15, high=1e15))
        if (self.indices is None) != (self.amplitudes is None):
            raise InputError(pre + "indices", "must come together with amplitudes")
        if self.indices is None:
            if self.default_F == 0.0:
                raise InputError(
                    "StructureFactors",
                    "must hold at least one amplitude",
                    hint="give indices and amplitudes (-hkl), or a default_F that is not 0 (-default_F)",
                )
            return
        indices = _numbers(pre + "indices", self.indices)
        if indices.ndim != 2 or indices.shape[1] != 3 or len(indices) == 0:
            raise InputError(pre + "indices", "must have shape (n, 3) with n >= 1", indices.shape)
        if not np.array_equal(indices, np.rint(indices)) or np.abs(indices).max() > 1_000_000:
            raise InputError(pre + "indices", "must be whole numbers between -1000000 and 1000000")
        amplitudes = _numbers(pre + "amplitudes", self.amplitudes).astype(np.float64)
        if amplitudes.shape != (len(indices),):
            raise InputError(pre + "amplitudes", f"must have shape ({len(indices)},)", amplitudes.shape)
        if not np.isfinite(amplitudes).all() or np.abs(amplitudes).max() > 1e15:
            raise InputError(pre + "amplitudes", "must be finite numbers below 1e15")
        indices = np.ascontiguousarray(indices, dtype=np.int32)
        for array, field in ((indices, "indices"), (amplitudes.copy(), "amplitudes")):
            array = array.copy() if array.base is not None else array
            array.flags.writeable = False
            put(field, array)

    @classmethod
    def from_crystfel(cls, path, symmetry: str | None = None, *, scale: float = 1.0, default_F: float = 0.0) -> Self:
        """Read a list of merged intensities of CrystFEL (.hkl) and expand it by its point group.

        Such lists are on an arbitrary scale. Amplitudes are the roots of the intensities, 0 for negative ones, times
        ``scale``. Friedel mates that a list lacks get the intensity of their partners; reflections that it holds
        several times, in lists that are expanded already, count once. A Python warning says if ``symmetry`` leaves out
        what the list's own point group makes.

        Parameters
        ----------
        path
            A list of version 2.0 or 1.0, such as partialator, process_hkl and get_hkl write.
        symmetry
            The point group as CrystFEL writes it ("4/mmm", "2_uab", "321_H"), instead of the list's own; needed where
            the list does not say it.
        scale
            What the amplitudes are multiplied by, above 0.
        default_F
            As in the constructor: reflections that are not listed, electrons.

        Raises
        ------
        InputError
            If the file cannot be read, breaks a rule (which line, which rule, which value) or holds equivalent
            reflections with different intensities; for a symbol that is none of CrystFEL's.
        """
        from bragg_numba.io.crystfel_factors import read_factors

        scale = check.number("scale", scale, above=0.0, high=1e15)
        symmetry = check.optional(check.text, "symmetry", symmetry)
        found = read_factors(path, symmetry, scale=scale)
        for doubt in found.doubts:
            warnings.warn(doubt, stacklevel=2)
        return cls(indices=found.indices, amplitudes=found.amplitudes, default_F=default_F)

    @property
    def table_shape(self) -> tuple[int, int, int]:
        """Cells of the box that the indices span: (h, k, l)."""
        if self.indices is None:
            return (0, 0, 0)
        span = self.indices.max(axis=0).astype(np.int64) - self.indices.min(axis=0) + 1
        h, k, l = (int(n) for n in span)  # noqa: E741 - Miller's names
        return h, k, l


def _numbers(name: str, value) -> np.ndarray:
    """Return ``value`` as an array of real numbers."""
    try:
        array = np.asarray(value)
    except ValueError:  # rows of different lengths
        array = None
    if array is None or array.dtype.kind not in "iuf":
        raise InputError(name, "must be an array of numbers", value)
    return array
