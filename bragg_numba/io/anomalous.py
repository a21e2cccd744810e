"""f' and f'' of elements: as they are given, from tables of measured edges, by Cromer and Liberman (eq. 47)."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from bragg_numba import checks as check
from bragg_numba.conventions import ENERGY_WAVELENGTH_EV_A
from bragg_numba.errors import InputError, read_from
from bragg_numba.io.text_files import read_lines

__all__ = ["Given", "check_anomalous", "check_table", "element_of", "factors_of", "read_anomalous_table"]

#: Elements that Cromer and Liberman's tables hold, and energies at which they are asked, eV: gemmi gives numbers for
#: others, too, which mean nothing.
LIGHTEST, HEAVIEST = 3, 92
LOWEST_EV, HIGHEST_EV = 1e3, 2e5

#: Atomic number from which on ``"auto"`` takes an element: up to neon f' and f'' stay below a tenth of an electron
#: where crystals diffract.
AUTO_FROM = 11

#: What the energies of a table may be, eV, and f' and f'', electrons. Measured f'' may be a little below 0.
TABLE_LOWEST_EV, TABLE_HIGHEST_EV = 100.0, 1e6
MOST_ELECTRONS, LEAST_F_DOUBLE_PRIME = 1e4, -1.0

#: What is given of an element: f' and f'' at any energy; a table float64 (n, 3); None: Cromer and Liberman.
Given = tuple[float, float] | np.ndarray | None


def element_of(name: str, symbol: object) -> str:
    """Return the symbol of an element as it is usually written; ``name`` is what an error calls it."""
    import gemmi

    element = gemmi.Element(symbol) if isinstance(symbol, str) else gemmi.Element("X")
    if element.name == "X" or not isinstance(symbol, str) or element.name.lower() != symbol.strip().lower():
        raise InputError(name, "must name elements", symbol)
    return str(element.name)


def check_anomalous(name: str, anomalous: object, present: Iterable[str] = ()) -> dict[str, Given]:
    """Return what is given of each element.

    Parameters
    ----------
    anomalous
        None; ``"auto"``: the elements of ``present`` from sodium on, by Cromer and Liberman; or by element a pair of
        f' and f'', ``"auto"``, the path of a table, or its rows of energy (eV), f' and f''.

    Raises
    ------
    InputError
        For what is no element, and for values that are none of these; a table that cannot be read or breaks a rule.
    """
    if anomalous is None:
        return {}
    if isinstance(anomalous, str) and anomalous == "auto":
        import gemmi

        heavy = {symbol for symbol in present if gemmi.Element(symbol).atomic_number >= AUTO_FROM}
        anomalous = dict.fromkeys(sorted(heavy), "auto")
    if not isinstance(anomalous, Mapping):
        raise InputError(name, 'must be like {"Fe": (-3.5, 2.1), "Se": "auto", "Zn": "zn.txt"}, or "auto"', anomalous)
    clean: dict[str, Given] = {}
    for symbol, value in anomalous.items():
        element = element_of(name, symbol)
        clean[element] = _clean_value(f"{name}[{element!r}]", element, value)
    return clean


def _clean_value(name: str, element: str, value: Any) -> Given:
    """What is given of one element."""
    if isinstance(value, str) and value == "auto":
        _require_tabulated(name, element)
        return None
    if isinstance(value, (str, os.PathLike)):
        return read_anomalous_table(value)
    if np.ndim(value) < 2 if _has_shape(value) else True:
        f_prime, f_double_prime = check.vector(name, value, length=2, low=-MOST_ELECTRONS, high=MOST_ELECTRONS)
        return f_prime, f_double_prime
    return check_table(name, value)


def _has_shape(value: Any) -> bool:
    try:
        np.shape(value)
    except ValueError:  # rows of different lengths
        return False
    return True


def check_table(name: str, rows: Any) -> np.ndarray:
    """Return a table of energy (eV), f' and f'' by growing energy, float64 (n, 3).

    Raises
    ------
    InputError
        If it has not three columns and two rows, numbers that are not finite or out of range, or an energy twice.
    """
    try:
        table = np.array(rows, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(name, "must be rows of three numbers: energy (eV), f', f''", rows) from None
    if table.ndim != 2 or table.shape[1] != 3 or len(table) < 2:
        rule = "must be two or more rows of three numbers: energy (eV), f', f''"
        raise InputError(name, rule, table.shape, "a pair of f' and f'' holds at any energy")
    if not np.isfinite(table).all():
        raise InputError(name, "must hold finite numbers", table[~np.isfinite(table).all(axis=1)][0].tolist())
    table = table[np.argsort(table[:, 0], kind="stable")]
    energies = table[:, 0]
    if energies[0] < TABLE_LOWEST_EV or energies[-1] > TABLE_HIGHEST_EV:
        wrong = float(energies[0] if energies[0] < TABLE_LOWEST_EV else energies[-1])
        rule = f"must have energies between {TABLE_LOWEST_EV:g} and {TABLE_HIGHEST_EV:g} eV in its first column"
        raise InputError(name, rule, wrong, "are they keV?" if wrong < TABLE_LOWEST_EV else "")
    same = np.flatnonzero(np.diff(energies) == 0.0)
    if len(same):
        raise InputError(name, "must have each energy once", float(energies[same[0]]))
    if np.abs(table[:, 1:]).max() > MOST_ELECTRONS:
        raise InputError(name, f"must have f' and f'' below {MOST_ELECTRONS:g} electrons", np.abs(table[:, 1:]).max())
    if table[:, 2].min() < LEAST_F_DOUBLE_PRIME:
        hint = "the columns are energy, f', f''; some programs write f'' before f'"
        raise InputError(name, "must have no f'' below 0 in its third column", float(table[:, 2].min()), hint)
    return table


def read_anomalous_table(path: str | os.PathLike[str]) -> np.ndarray:
    """Read a table of energy (eV), f' and f'' from the first three columns of a text, float64 (n, 3).

    Columns are parted by blanks, tabs, commas or semicolons. Empty lines, what follows a ``#``, and lines of words
    before the first numbers are skipped.

    Raises
    ------
    InputError
        If the file cannot be read, or breaks a rule of ``check_table``; with its number, if a line is not understood.
    """
    name = os.fspath(path)
    rows: list[list[float]] = []
    for number, line in enumerate(read_lines(path), start=1):
        words = line.partition("#")[0].replace(",", " ").replace(";", " ").split()
        if not words:
            continue
        try:
            row = [float(word) for word in words[:3]]
        except ValueError:
            if not rows:
                continue  # headings
            raise InputError(name, f"line {number} must hold energy (eV), f' and f''", line.strip()) from None
        if len(row) < 3 or not all(map(math.isfinite, row)):
            raise InputError(name, f"line {number} must hold energy (eV), f' and f''", line.strip())
        rows.append(row)
    if not rows:
        raise InputError(name, "must hold lines of energy (eV), f' and f''")
    with read_from(path):
        return check_table("the table", rows)


def factors_of(element: str, given: Given, wavelengths_A: np.ndarray) -> np.ndarray:
    """Return f' + i f'' of an element at wavelengths, complex128 (n,), electrons (eq. 47).

    Parameters
    ----------
    given
        f' and f''; a table, linear between its rows and beyond them by Cromer and Liberman, shifted by what these
        differ from it at its end; None: Cromer and Liberman alone.

    Raises
    ------
    InputError
        For an element or an energy that Cromer and Liberman's tables do not hold, where they are asked.
    """
    if isinstance(given, tuple):
        return np.full(len(wavelengths_A), complex(*given))
    energies = ENERGY_WAVELENGTH_EV_A / np.asarray(wavelengths_A, dtype=np.float64)
    if given is None:
        return _cromer_liberman(element, energies)
    table, first, last = given, given[0], given[-1]
    found = np.interp(energies, table[:, 0], table[:, 1]) + 1j * np.interp(energies, table[:, 0], table[:, 2])
    for end, beyond in ((first, energies < first[0]), (last, energies > last[0])):
        if beyond.any():
            at_end = _cromer_liberman(element, end[:1])[0]
            shifted = _cromer_liberman(element, energies[beyond]) + (complex(end[1], end[2]) - at_end)
            found[beyond] = shifted.real + 1j * np.maximum(shifted.imag, 0.0)
    return found


def _require_tabulated(name: str, element: str) -> int:
    """The atomic number of an element that Cromer and Liberman's tables hold."""
    import gemmi

    number = int(gemmi.Element(element).atomic_number)
    if not LIGHTEST <= number <= HEAVIEST:
        raise InputError(name, "must be an element from lithium to uranium", element, "give its f' and f''")
    return number


def _cromer_liberman(element: str, energies: np.ndarray) -> np.ndarray:
    import gemmi

    number = _require_tabulated(f"anomalous scattering of {element}", element)
    outside = ~((energies >= LOWEST_EV) & (energies <= HIGHEST_EV))
    if outside.any():
        rule = f"is known between {LOWEST_EV:g} and {HIGHEST_EV:g} eV"
        hint = "a table of f' and f'' may go beyond"
        raise InputError(f"anomalous scattering of {element}", rule, float(energies[outside][0]), hint)
    found = np.array([complex(*gemmi.cromer_liberman(number, float(energy))) for energy in energies])
    if not np.isfinite(found).all():
        wrong = float(energies[~np.isfinite(found)][0])
        raise InputError(f"anomalous scattering of {element}", "is not finite on an absorption edge", wrong)
    return found
