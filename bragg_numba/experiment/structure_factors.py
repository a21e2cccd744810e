"""Structure factor amplitudes of the P1 cell."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from bragg_numba import checks as check
from bragg_numba.errors import InputError
from bragg_numba.experiment.anomalous import Anomalous, as_anomalous
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
    cell: tuple | None = None  #: a, b, c (angstrom), alpha, beta, gamma (degrees) that the source states
    space_group: str | None = None  #: that the source states, and that the list was expanded by
    origin: str | None = None  #: where they come from, for a person
    anomalous: Anomalous | None = None  #: what of F depends on the energy; ``amplitudes`` are those without it
    counts: tuple = ()  #: pairs of a name and a number: what the source held that deserves a word

    def __post_init__(self) -> None:
        put, pre = self._set, "StructureFactors."
        put("default_F", check.number(pre + "default_F", self.default_F, low=-1e15, high=1e15))
        if self.anomalous is not None:
            self._fit_anomalous()
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
        put("cell", check.optional(check.vector, pre + "cell", self.cell, length=6, above=0.0))
        for field in ("space_group", "origin"):
            if not isinstance(getattr(self, field), str | None):
                raise InputError(pre + field, "must be a text", getattr(self, field))
        put("counts", _clean_counts(pre + "counts", self.counts))
        indices = _numbers(pre + "indices", self.indices)
        if indices.ndim != 2 or indices.shape[1] != 3 or len(indices) == 0:
            raise InputError(pre + "indices", "must have shape (n, 3) with n >= 1", indices.shape)
        if not np.array_equal(indices, np.rint(indices)) or np.abs(indices).max() > 1_000_000:
            raise InputError(pre + "indices", "must be whole numbers between -1000000 and 1000000")
        if self.anomalous is not None and len(self.anomalous.normal) != len(indices):
            raise InputError("Anomalous.normal", f"must have shape ({len(indices)},)", self.anomalous.normal.shape)
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

    def _fit_anomalous(self) -> None:
        """Make the amplitudes those of F without what depends on the energy; refuse others."""
        anomalous = as_anomalous("StructureFactors.anomalous", self.anomalous)
        self._set("anomalous", anomalous)
        if self.indices is None:
            raise InputError("StructureFactors.anomalous", "must come together with indices")
        amplitudes = np.abs(anomalous.normal)
        if self.amplitudes is not None and not np.array_equal(self.amplitudes, amplitudes):
            rule = "must be left out beside anomalous, whose F they are the amplitudes of"
            raise InputError("StructureFactors.amplitudes", rule)
        self._set("amplitudes", amplitudes)

    @classmethod
    def from_partial_sums(
        cls,
        indices,
        normal,
        *,
        partial: Mapping[str, np.ndarray],
        anomalous: str | Mapping[str, Any],
        default_F: float = 0.0,
        cell: tuple | None = None,
        space_group: str | None = None,
    ) -> Self:
        """Take structure factors that depend on the energy from arrays: F = normal + sum of (f' + i f'') partial.

        Parameters
        ----------
        indices
            Whole numbers (n, 3), the whole sphere of P1: Friedel mates are not filled in. F(-h) is the conjugate of
            both sums, and with f'' not that of F(h).
        normal
            Complex (n,), electrons: F with the form factors of no wavelength.
        partial
            Complex (n,) by element: F of the element's atoms if their form factor were 1.
        anomalous
            Where f' and f'' come from, by element, as of ``from_model``; ``"auto"``: Cromer and Liberman for all.
        default_F, cell, space_group
            As in the constructor.

        Raises
        ------
        InputError
            For shapes that do not fit, an element without partial sums or without f' and f'', and a table that cannot
            be read.
        """
        from bragg_numba.io.factor_sources import partial_source

        source = partial_source(normal, partial, anomalous)
        return cls(default_F=default_F, indices=indices, cell=cell, space_group=space_group, **source)

    def at(self, wavelength_A: float) -> Self:
        """Return the structure factors of one wavelength, which depend on it no more."""
        if self.anomalous is None:
            return self
        return self.replace(anomalous=None, amplitudes=np.abs(self.anomalous.at(wavelength_A)))

    @classmethod
    def from_mtz(
        cls,
        path: str | os.PathLike[str],
        labels: str | Iterable[str] | None = None,
        *,
        default_F: float = 0.0,
        max_memory: int | None = None,
    ) -> Self:
        """Read amplitudes or intensities of a merged MTZ file, expanded to the whole sphere of P1.

        Parameters
        ----------
        path
            The file; it may be gzipped.
        labels
            The column, or the two of Friedel mates: ``"FP"``, ``"F(+),F(-)"``, ``["I(+)", "I(-)"]``. None: Friedel
            mates that are kept apart before means, amplitudes before intensities.
        default_F
            Electrons, of reflections that the file has no value of. Extinct ones are 0 whatever it is.
        max_memory
            Bytes that the table may take; default 80 % of what is free.

        Raises
        ------
        InputError
            If the file cannot be read or is not merged, or the labels name no such column; those that would do are
            listed.
        """
        from bragg_numba.io.factor_sources import mtz_source

        return cls(default_F=default_F, **mtz_source(path, labels, max_memory))

    @classmethod
    def from_cif(
        cls,
        path: str | os.PathLike[str],
        labels: str | Iterable[str] | None = None,
        *,
        default_F: float = 0.0,
        max_memory: int | None = None,
    ) -> Self:
        """Read amplitudes or intensities of a CIF file of structure factors, as the PDB has them; see ``from_mtz``.

        Labels are names without ``_refln.``, such as ``"F_meas_au"`` or ``"pdbx_F_plus,pdbx_F_minus"``. The same
        numbers give the same table as in an MTZ file.
        """
        from bragg_numba.io.factor_sources import cif_source

        return cls(default_F=default_F, **cif_source(path, labels, max_memory))

    @classmethod
    def from_model(
        cls,
        path: str | os.PathLike[str],
        *,
        dmin_A: float,
        method: str = "auto",
        anomalous: str | Mapping[str, Any] | None = None,
        k_sol: float = 0.0,
        B_sol: float = 46.0,
        default_F: float = 0.0,
        max_memory: int | None = None,
    ) -> Self:
        """Compute the structure factors of a PDB or mmCIF file of coordinates, all but F(0 0 0).

        Parameters
        ----------
        path
            The file; it may be gzipped. Atoms of all alternate conformations count with their occupancies.
        dmin_A
            Smallest spacing, angstrom.
        method
            ``"direct"`` sums the waves of all atoms, ``"density"`` puts them on a grid (within 1e-3 of the mean
            amplitude); ``"auto"`` is the first up to a thousand million waves, atoms times reflections of half the
            sphere, and the second from there on.
        anomalous
            f' and f'' of elements, electrons, by element: the same at any energy, ``{"Fe": (-3.5, 2.1)}``; or those of
            each photon's energy, from the path of a table of energy (eV), f' and f'', from its rows, or with ``"auto"``
            by Cromer and Liberman. ``"auto"`` alone: so for all elements from sodium on. An element that is not there
            changes nothing.
        k_sol, B_sol
            Of a flat solvent between the molecules: electrons per cubic angstrom (0.35 is usual; 0: none) and square
            angstrom.
        default_F, max_memory
            As of ``from_mtz``.

        Raises
        ------
        InputError
            If the file cannot be read, or holds no crystal, an unknown element, or more than one model.
        """
        from bragg_numba.io.factor_sources import model_source

        source = model_source(
            path, dmin_A, method=method, anomalous=anomalous, k_sol=k_sol, B_sol=B_sol, max_memory=max_memory
        )
        return cls(default_F=default_F, **source)

    @classmethod
    def from_crystfel(cls, path, symmetry: str | None = None, *, scale: float = 1.0, default_F: float = 0.0) -> Self:
        """Read a list of merged intensities of CrystFEL (.hkl) and expand it by its point group.

        Such lists are on an arbitrary scale. Amplitudes are the roots of the intensities, 0 for negative ones, times
        ``scale``. Friedel mates that a list lacks get the intensity of their partners; reflections that it holds
        several times, in lists that are expanded already, count once; ``counts`` says how many there were of each. A
        Python warning says if ``symmetry`` leaves out what the list's own point group makes.

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
        return cls(default_F=default_F, **found.fields)

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


def _clean_counts(name: str, value) -> tuple[tuple[str, int], ...]:
    """Return pairs of a name and a whole number."""
    try:
        pairs = [(key, number) for key, number in value]
    except (TypeError, ValueError):
        raise InputError(name, "must be pairs of a name and a number", value) from None
    if not all(isinstance(key, str) for key, _ in pairs):
        raise InputError(name, "must be pairs of a name and a number", value)
    return tuple((key, check.count(f"{name} {key}", number, high=2**63 - 1)) for key, number in pairs)
