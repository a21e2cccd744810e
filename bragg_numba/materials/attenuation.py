"""How materials attenuate X-rays (eq. 51): by name, or by any formula and a density."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from bragg_numba.conventions import ENERGY_WAVELENGTH_EV_A
from bragg_numba.errors import InputError

#: Formula and density, g/cm^3, of the built-in materials; gases at 15 degrees Celsius and 101.325 kPa.
BUILT_IN: dict[str, tuple[str, float]] = {
    # sensors
    "si": ("Si", 2.329),
    "ge": ("Ge", 5.323),
    "gaas": ("GaAs", 5.316),
    "cdte": ("CdTe", 5.85),
    "czt": ("Cd0.9Zn0.1Te", 5.78),
    "se": ("Se", 4.3),
    # phosphors and scintillators
    "gd2o2s": ("Gd2O2S", 7.3),
    "csi": ("CsI", 4.51),
    "nai": ("NaI", 3.67),
    "bgo": ("Bi4Ge3O12", 7.13),
    "yag": ("Y3Al5O12", 4.56),
    "luag": ("Lu3Al5O12", 6.73),
    "lso": ("Lu2SiO5", 7.4),
    "bafbr": ("BaFBr", 4.96),
    # gases
    "air": ("N1.562O0.42Ar0.0094", 0.001225),
    "n2": ("N2", 0.001185),
    "he": ("He", 0.0001692),
    "ar": ("Ar", 0.001690),
    # windows
    "be": ("Be", 1.848),
    "diamond": ("C", 3.51),
    "graphite": ("C", 2.2),
    "al": ("Al", 2.699),
    "kapton": ("C22H10N2O5", 1.42),
    "mylar": ("C10H8O4", 1.38),
    "polypropylene": ("C3H6", 0.905),
    "polyethylene": ("C2H4", 0.94),
    "polystyrene": ("C8H8", 1.05),
    "pmma": ("C5H8O2", 1.18),
    "si3n4": ("Si3N4", 3.17),
    "sio2": ("SiO2", 2.2),
    "sapphire": ("Al2O3", 3.98),
    # samples
    "water": ("H2O", 0.998),
    "ice": ("H2O", 0.92),
    "protein": ("CH1.58N0.27O0.31S0.006", 1.35),
    "paratone": ("CH2", 0.8),
    # stops
    "ti": ("Ti", 4.506),
    "fe": ("Fe", 7.874),
    "cu": ("Cu", 8.96),
    "mo": ("Mo", 10.22),
    "ta": ("Ta", 16.65),
    "w": ("W", 19.25),
    "au": ("Au", 19.3),
    "pb": ("Pb", 11.34),
}

#: What materials are also called.
OTHER_NAMES = {
    "silicon": "si",
    "germanium": "ge",
    "gallium_arsenide": "gaas",
    "cadmium_telluride": "cdte",
    "cdznte": "czt",
    "gadox": "gd2o2s",
    "gos": "gd2o2s",
    "p43": "gd2o2s",
    "nitrogen": "n2",
    "helium": "he",
    "argon": "ar",
    "beryllium": "be",
    "aluminium": "al",
    "aluminum": "al",
    "polyimide": "kapton",
    "glass": "sio2",
    "quartz": "sio2",
    "al2o3": "sapphire",
    "h2o": "water",
    "steel": "fe",
    "copper": "cu",
    "tungsten": "w",
    "gold": "au",
    "lead": "pb",
}

_PART = re.compile(r"([A-Z][a-z]?)(\d+\.?\d*|\.\d+)?")


@dataclass(frozen=True, slots=True)
class Material:
    """Parts of elements by mass, which sum to 1, and the density in g/cm^3."""

    formula: str
    parts: tuple[tuple[str, float], ...]
    density_g_per_cm3: float


def plain_name(name: str) -> str:
    """A material's name as the list has it: nobody should have to know whether it is "CdTe" or "cdte"."""
    plain = name.strip().lower().replace(" ", "_").replace("-", "_")
    return OTHER_NAMES.get(plain, plain)


def is_known(name: str) -> bool:
    """Whether a name is that of a built-in material."""
    return plain_name(name) in BUILT_IN


def find_material(name: str, word: str, density_g_per_cm3: float | None = None) -> Material:
    """Return a material.

    Parameters
    ----------
    name
        What errors call it: ``Window.material``.
    word
        A built-in material's name, or a formula ("ZnS", "Cd0.9Zn0.1Te"), which needs a density.
    density_g_per_cm3
        None: that of the built-in material.

    Raises
    ------
    InputError
        If it is neither, or a formula without a density.
    """
    if not isinstance(word, str):
        raise InputError(name, "must be a material's name or a formula", word)
    known = BUILT_IN.get(plain_name(word))
    formula, density = known if known is not None else (word.strip(), None)
    density = density_g_per_cm3 if density_g_per_cm3 is not None else density
    parts = _parts(formula)
    if parts is None:
        near = difflib.get_close_matches(plain_name(word), [*BUILT_IN, *OTHER_NAMES], n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"built in: {', '.join(BUILT_IN)}; or a formula and a density"
        raise InputError(name, "must be a built-in material or a chemical formula", word, hint)
    if density is None:
        raise InputError(name, "needs a density", word, f"of formulas; built in: {', '.join(BUILT_IN)}")
    return Material(formula, parts, density)


@lru_cache(maxsize=256)
def _parts(formula: str) -> tuple[tuple[str, float], ...] | None:
    """Elements of a formula by mass, None if it is none."""
    from bragg_numba.materials.tables import ELEMENTS  # which most runs never ask

    found: dict[str, float] = {}
    at = 0
    while at < len(formula):
        match = _PART.match(formula, at)
        if match is None or match[1] not in ELEMENTS:
            return None
        found[match[1]] = found.get(match[1], 0.0) + float(match[2] or 1.0) * ELEMENTS[match[1]][0]
        at = match.end()
    total = sum(found.values())
    return tuple((element, mass / total) for element, mass in found.items()) if total > 0.0 else None


def attenuation_per_m(name: str, material: Material, wavelength_A, *, absorbed: bool) -> np.ndarray:
    """Attenuation of a material (eq. 51).

    Parameters
    ----------
    name
        What errors call the material.
    wavelength_A
        Number or array, angstrom.
    absorbed
        True: photoelectric absorption, what a sensor sees. False: scattering, too, what a beam loses.

    Returns
    -------
    numpy.ndarray
        float64 of the shape of ``wavelength_A``, 1/m.

    Raises
    ------
    InputError
        For energies outside of the table.
    """
    from bragg_numba.materials.tables import HIGHEST_KEV, LOWEST_KEV

    keV = ENERGY_WAVELENGTH_EV_A / 1000.0 / np.asarray(wavelength_A, dtype=np.float64)
    if not ((keV >= LOWEST_KEV) & (keV <= HIGHEST_KEV)).all():
        outside = float(keV.min() if keV.min() < LOWEST_KEV else keV.max())
        rule = f"is known from {LOWEST_KEV:g} to {HIGHEST_KEV:g} keV alone"
        raise InputError(name, rule, f"{outside:.4g} keV", "give the attenuation itself, or leave it out")
    per_mass = np.zeros_like(keV)
    for element, part in material.parts:
        _, photo, scattered = _table(element)
        per_mass += part * _line(keV, photo)
        if not absorbed:
            per_mass += part * _line(keV, scattered)
    return per_mass * material.density_g_per_cm3 * 100.0


@lru_cache(maxsize=128)
def _table(element: str) -> tuple[float, np.ndarray, np.ndarray]:
    """Molar mass, and rows log keV, log cm^2/g of absorption and scattering."""
    from bragg_numba.materials.tables import ELEMENTS

    mass, photo, scattered = ELEMENTS[element]
    return mass, np.log(np.reshape(photo, (-1, 2))).T, np.log(np.reshape(scattered, (-1, 2))).T


def _line(keV: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Lines in both logarithms; an edge itself belongs to what is above it."""
    x, y = table
    at = np.clip(np.searchsorted(x, np.log(keV), side="right"), 1, len(x) - 1)
    share = (np.log(keV) - x[at - 1]) / (x[at] - x[at - 1])
    return np.exp(y[at - 1] + share * (y[at] - y[at - 1]))
