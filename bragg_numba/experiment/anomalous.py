"""What of structure factors depends on the energy of the photons."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bragg_numba import checks as check
from bragg_numba.errors import InputError
from bragg_numba.experiment.noun import Noun

#: Most elements that have partial sums of their own: each costs two more tables.
MOST_ELEMENTS = 16


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Anomalous(Noun):
    """F at any energy: F(h, E) = normal(h) + sum over elements of (f'(E) + i f''(E)) partial(h) (eq. 46).

    ``tables`` says of each element where f' and f'' come from: rows of energy (eV), f' and f'' (electrons), between
    which they are linear and beyond which Cromer and Liberman's go on from the last row; or None: Cromer and
    Liberman's alone (eq. 47).
    """

    normal: np.ndarray  #: complex128 (n,), electrons, of the reflections of ``StructureFactors.indices``
    elements: tuple  #: their symbols
    partial: np.ndarray  #: complex128 (elements, n): F of the element's atoms if their form factor were 1
    tables: tuple  #: of each element float64 (rows, 3), or None

    def __post_init__(self) -> None:
        from bragg_numba.io.anomalous import check_table, element_of

        put, pre = self._set, "Anomalous."
        normal = _complex_numbers(pre + "normal", self.normal)
        if normal.ndim != 1 or not len(normal):
            raise InputError(pre + "normal", "must have shape (n,) with n >= 1", normal.shape)
        names = self.elements
        if not isinstance(names, (tuple, list)) or not 1 <= len(names) <= MOST_ELEMENTS:
            raise InputError(pre + "elements", f"must be 1 to {MOST_ELEMENTS} symbols", self.elements)
        elements = tuple(element_of(pre + "elements", name) for name in names)
        if len(set(elements)) < len(elements):
            raise InputError(pre + "elements", "must be named once each", elements)
        partial = _complex_numbers(pre + "partial", self.partial)
        if partial.shape != (len(elements), len(normal)):
            raise InputError(pre + "partial", f"must have shape {(len(elements), len(normal))}", partial.shape)
        tables = self.tables
        if not isinstance(tables, (tuple, list)) or len(tables) != len(elements):
            raise InputError(pre + "tables", f"must be {len(elements)}, each rows of energy, f', f'' or None")
        tables = tuple(
            check.optional(check_table, f"{pre}tables[{place}]", table) for place, table in enumerate(tables)
        )
        for array in (normal, partial, *(table for table in tables if table is not None)):
            array.flags.writeable = False
        for field, value in (("normal", normal), ("elements", elements), ("partial", partial), ("tables", tables)):
            put(field, value)

    def factors(self, wavelengths_A) -> np.ndarray:
        """Return f' + i f'' at wavelengths: complex128 (wavelengths, elements), electrons (eq. 47).

        Raises
        ------
        InputError
            For an energy beyond an element's table that Cromer and Liberman do not know either.
        """
        from bragg_numba.io.anomalous import factors_of

        waves = np.atleast_1d(np.asarray(wavelengths_A, dtype=np.float64))
        pairs = zip(self.elements, self.tables, strict=True)
        return np.stack([factors_of(element, table, waves) for element, table in pairs], axis=1)

    def at(self, wavelength_A: float) -> np.ndarray:
        """Return F at a wavelength: complex128 (n,), electrons (eq. 46)."""
        wavelength = check.number("wavelength_A", wavelength_A, above=0.0, high=1e4, hint="angstrom")
        total = self.normal.copy()
        for factor, wave in zip(self.factors(wavelength)[0], self.partial, strict=True):
            total += factor * wave
        return total


def as_anomalous(name: str, value) -> Anomalous:
    """Return what is given as such or as its dictionary."""
    if isinstance(value, Anomalous):
        return value
    if isinstance(value, dict):
        return Anomalous.from_dict(value)
    raise InputError(name, "must be an Anomalous", value, "StructureFactors.from_partial_sums makes one")


def _complex_numbers(name: str, value) -> np.ndarray:
    """A complex128 array of its own, of finite numbers below 1e15."""
    try:
        array = np.array(value)
        clean = array.astype(np.complex128) if array.dtype.kind in "iufc" else None
    except (TypeError, ValueError):  # rows of different lengths
        clean = None
    if clean is None:
        raise InputError(name, "must be an array of complex numbers", value)
    if not np.isfinite(clean).all() or (clean.size and np.abs(clean).max() > 1e15):
        raise InputError(name, "must be finite numbers below 1e15")
    return clean
