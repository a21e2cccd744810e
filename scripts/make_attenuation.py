"""Make bragg_numba/materials/tables.py: how elements attenuate X-rays.

    pip install xraydb numpy    # in an environment of its own: the package itself needs no xraydb
    python scripts/make_attenuation.py

The cross-sections are those of Elam, Ravel & Sieber, Radiat. Phys. Chem. 63 (2002) 121, as xraydb (MIT licence) has
them, in cm^2/g: photoelectric, and scattered (coherent and incoherent together). Points are chosen so that straight
lines through them in both logarithms are off by less than ``TOLERANCE``; at an edge there are two.
"""

from __future__ import annotations

import textwrap
from pathlib import Path

import numpy as np
import xraydb

OUT = Path(__file__).resolve().parent.parent / "bragg_numba" / "materials" / "tables.py"

LOWEST_KEV, HIGHEST_KEV = 1.0, 200.0
TOLERANCE = 0.004

#: What air, water, plastics, sensors, phosphors, windows, buffers, holders and masks are made of.
ELEMENTS = (
    *("H", "He", "Li", "Be", "B", "C", "N", "O", "F", "Ne", "Na", "Mg", "Al", "Si", "P", "S", "Cl", "Ar", "K", "Ca"),
    *("Ti", "V", "Cr", "Mn", "Fe", "Co", "Ni", "Cu", "Zn", "Ga", "Ge", "As", "Se", "Br", "Kr", "Rb", "Sr", "Y", "Zr"),
    *("Nb", "Mo", "Rh", "Pd", "Ag", "Cd", "In", "Sn", "Sb", "Te", "I", "Xe", "Cs", "Ba", "La", "Ce", "Eu", "Gd", "Tb"),
    *("Lu", "Hf", "Ta", "W", "Re", "Ir", "Pt", "Au", "Hg", "Tl", "Pb", "Bi", "U"),
)


#: Part of an edge's energy within which the cross-section's step lies, and which the step is wide at most.
NEAR, STEEP = 2e-3, 2e-5


def edges_of(element: str) -> list[float]:
    """Absorption edges within the range, keV, rising: where the cross-section's own steps are."""
    found = set()
    for edge in xraydb.xray_edges(element).values():
        low, high = edge.energy * (1.0 - NEAR), edge.energy * (1.0 + NEAR)
        if not LOWEST_KEV < low / 1000.0 < high / 1000.0 < HIGHEST_KEV:
            continue
        below, above = (np.log(xraydb.mu_elam(element, energy, kind="photo")) for energy in (low, high))
        if above - below < 4.0 * TOLERANCE:
            continue
        while high - low > 1e-3:
            middle = 0.5 * (low + high)
            if np.log(xraydb.mu_elam(element, middle, kind="photo")) < 0.5 * (below + above):
                low = middle
            else:
                high = middle
        found.add(high / 1000.0)
    return sorted(found)


def points(x: np.ndarray, y: np.ndarray) -> list[int]:
    """Which points of a finely drawn curve lines should lead through: each as far as it stays within tolerance."""
    chosen, at = [0], 0
    while at < len(x) - 1:
        low, high = at + 1, len(x) - 1
        while low < high:
            middle = (low + high + 1) // 2
            inside = slice(at, middle + 1)
            line = np.interp(x[inside], x[[at, middle]], y[[at, middle]])
            if np.abs(line - y[inside]).max() < TOLERANCE:
                low = middle
            else:
                high = middle - 1
        at = low
        chosen.append(at)
    return chosen


def curve(element: str, kinds: tuple[str, ...], breaks: list[float]) -> list[tuple[float, float]]:
    """Points (keV, cm^2/g) of a cross-section, two at each break."""
    ends = [LOWEST_KEV, *breaks, HIGHEST_KEV]
    found: list[tuple[float, float]] = []
    for first, last in zip(ends, ends[1:], strict=False):
        # Not on the edges: which side they are on is a matter of rounding.
        energy = np.exp(np.linspace(np.log(first * (1 + STEEP)), np.log(last * (1 - STEEP)), 1201))
        total = sum(xraydb.mu_elam(element, energy * 1000.0, kind=kind) for kind in kinds)
        chosen = points(np.log(energy), np.log(total))
        rows = [(float(energy[i]), float(total[i])) for i in chosen]
        rows[0], rows[-1] = (first, rows[0][1]), (last, rows[-1][1])
        found += rows
    return found


def wrapped(values: list[tuple[float, float]]) -> list[str]:
    text = ", ".join(f"{keV:.6g}, {mu:.4g}" for keV, mu in values)
    return textwrap.wrap(text + ",", 112, initial_indent="            ", subsequent_indent="            ")


def main() -> None:
    lines = [
        "# fmt: off",
        '"""Mass attenuation of elements, made by scripts/make_attenuation.py: not to be edited."""',
        "",
        "#: Energies that the table knows, keV.",
        f"LOWEST_KEV, HIGHEST_KEV = {LOWEST_KEV:g}, {HIGHEST_KEV:g}",
        "",
        "#: By element: molar mass, g/mol; pairs of keV and cm^2/g of photoelectric absorption, and of scattering.",
        "#: Lines in both logarithms lead from pair to pair; at an edge there are two.",
        "ELEMENTS = {",
    ]
    for element in ELEMENTS:
        lines.append(f'    "{element}": (')
        lines.append(f"        {xraydb.atomic_mass(element):.6g},")
        for kinds, breaks in ((("photo",), edges_of(element)), (("coh", "incoh"), [])):
            lines += ["        (", *wrapped(curve(element, kinds, breaks)), "        ),"]
        lines.append("    ),")
    lines.append("}")
    OUT.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
