"""Make bragg_numba/experiment/material_tables.py: F(sin(theta)/lambda) of the built-in materials.

    pip install xraylib numpy    # in an environment of its own: the package itself needs no xraylib
    python scripts/make_materials.py

Nothing is copied from other programs' tables. What goes in is public:

* form factors and incoherent scattering functions of atoms: xraylib (BSD licence), which has those of Hubbell et al.,
  J. Phys. Chem. Ref. Data 4 (1975) 471;
* molecules: bond lengths and angles (N2 1.0977, O2 1.2075 angstrom; water 0.9572 angstrom, 104.52 deg);
* dry air by volume: 78.08 % N2, 20.95 % O2, 0.93 % Ar;
* liquid water: S(0) = 0.064 from the compressibility, and the maxima of S(Q) of its oxygens (Skinner et al., J. Chem.
  Phys. 138 (2013) 074506, and others), fitted to how strong measured water is at its ring and shoulder;
* ice: oxygen sites of hexagonal (P 63/m m c, 4.4975 x 7.3224 angstrom, Roettger et al., Acta Cryst. B 50 (1994) 644,
  at 100 K) and cubic (F d -3 m, 6.358 angstrom) ice; hydrogens as half atoms on their sites; B 0.9 square angstrom;
* hydrocarbons and polyimide: their formulas, and a halo of neighbouring chains (4.6 and 4.9 angstrom).

F^2 is what a molecule (a formula unit) scatters, coherently and not, in units of a free electron: the incoherent part
is in it, without the change of wavelength.
"""

from __future__ import annotations

import textwrap
from pathlib import Path

import numpy as np
import xraylib

OUT = Path(__file__).resolve().parent.parent / "bragg_numba" / "experiment" / "material_tables.py"

SMOOTH = np.concatenate([np.arange(0.0, 0.3, 0.005), np.arange(0.3, 0.6, 0.01), np.arange(0.6, 1.51, 0.05)])
#: Rings of ice are as wide as this (one standard deviation, 1/angstrom): crystallites of some 100 angstrom.
RING_WIDTH = 0.0015
FINE = np.concatenate([np.arange(0.0, 0.11, 0.005), np.arange(0.11, 0.5, 0.0005), np.arange(0.5, 1.51, 0.01)])

H, HE, C, N, O, AR = 1, 2, 6, 7, 8, 18  # noqa: E741


def coherent(z: int, s: np.ndarray) -> np.ndarray:
    """Form factor of an atom, electrons."""
    return np.array([xraylib.FF_Rayl(z, float(x)) if x > 0.0 else float(z) for x in s])


def incoherent(z: int, s: np.ndarray) -> np.ndarray:
    """Incoherent scattering function of an atom, electrons."""
    return np.array([xraylib.SF_Compt(z, float(x)) if x > 0.0 else 0.0 for x in s])


def sinc(s: np.ndarray, r: float) -> np.ndarray:
    """sin(Q r) / (Q r) for Q = 4 pi s."""
    return np.sinc(4.0 * s * r)


def compton(atoms: dict[int, float], s: np.ndarray) -> np.ndarray:
    return sum(n * incoherent(z, s) for z, n in atoms.items())


def diatomic(z: int, r: float, s: np.ndarray) -> np.ndarray:
    return 2.0 * coherent(z, s) ** 2 * (1.0 + sinc(s, r)) + 2.0 * incoherent(z, s)


def liquid(s: np.ndarray, at_zero: float, hole: tuple, bumps: tuple) -> np.ndarray:
    """S(Q) of a liquid: S(0) from its compressibility, a hole (where it ends, 1/angstrom, and how steeply), and bumps.

    Each bump is a Gaussian: height, place and standard deviation, 1/angstrom.
    """
    q = 4.0 * np.pi * s
    found = 1.0 - (1.0 - at_zero) * np.exp(-((q / hole[0]) ** hole[1]))
    for height, place, sigma in bumps:
        found += height * np.exp(-0.5 * ((q - place) / sigma) ** 2)
    return found


def water_molecule(s):
    """<F^2> and <F> of a water molecule, averaged over orientations and about its oxygen."""
    f_o, f_h = coherent(O, s), coherent(H, s)
    r_oh, r_hh = 0.9572, 2.0 * 0.9572 * np.sin(np.radians(104.52 / 2.0))
    square = f_o**2 + 2.0 * f_h**2 + 4.0 * f_o * f_h * sinc(s, r_oh) + 2.0 * f_h**2 * sinc(s, r_hh)
    return square, f_o + 2.0 * f_h * sinc(s, r_oh)


#: Liquid water: S(Q) of its oxygens has maxima of 1.3 and 1.4 at 2.0 and 2.9 / angstrom, a minimum at 3.7, one more
#: maximum at 4.7; with these numbers the ring at 3.1 angstrom and its shoulder at 2.3 are as strong as measured.
WATER = (
    0.064,
    (1.819, 5.551),
    ((0.414, 2.027, 0.194), (1.514, 3.143, 0.363), (-1.358, 3.289, 0.374), (0.121, 4.738, 0.248)),
)
#: Hydrocarbon chains: a halo at 4.6 angstrom. Polyimide: one at 4.9, and broader.
OIL = (0.05, (1.15, 5.0), ((0.8, 1.37, 0.18), (0.1, 2.9, 0.3)))
POLYIMIDE = (0.10, (1.1, 4.0), ((0.45, 1.28, 0.26), (0.1, 2.9, 0.4)))


def water(s):
    square, mean = water_molecule(s)
    return square + mean**2 * (liquid(s, *WATER) - 1.0) + compton({H: 2, O: 1}, s)


def ice_sites(cubic: bool):
    """Cell edges, angstrom, and (element, occupancy, fractional place) of ice."""
    if cubic:
        edge = 6.358
        first = [(0, 0, 0), (0, 0.5, 0.5), (0.5, 0, 0.5), (0.5, 0.5, 0)]
        oxygens = np.array([*first, *(tuple(x + 0.25 for x in p) for p in first)])
        cell = np.diag([edge] * 3)
    else:
        a, c, z = 4.4975, 7.3224, 0.0622
        cell = np.array([[a, 0, 0], [-a / 2, a * np.sqrt(3) / 2, 0], [0, 0, c]])
        third = 1.0 / 3.0
        oxygens = np.array(
            [(third, 2 * third, z), (2 * third, third, -z), (2 * third, third, 0.5 + z), (third, 2 * third, 0.5 - z)]
        )
    places = oxygens @ cell
    sites = [(O, 1.0, p) for p in oxygens]
    shifts = np.array([(i, j, k) for i in (-1, 0, 1) for j in (-1, 0, 1) for k in (-1, 0, 1)]) @ cell
    inverse = np.linalg.inv(cell)
    for p in places:
        for q in places:
            for shift in shifts:
                bond = q + shift - p
                length = np.linalg.norm(bond)
                if 0.1 < length < 3.0:  # half a hydrogen 1 angstrom along each bond
                    sites.append((H, 0.5, (p + bond / length * 1.0) @ inverse))
    return cell, len(oxygens), sites


def ice(s, cubic: bool, widen: float = 1.0):
    """A molecule's share of a powder of ice (see the top); rings that faults of stacking touch are ``widen`` wider."""
    cell, molecules, sites = ice_sites(cubic)
    volume, reciprocal, b = abs(np.linalg.det(cell)), np.linalg.inv(cell), 0.9
    found = np.zeros_like(s)
    top = 1.0  # 2 s: no ring beyond 1 angstrom
    sizes = [int(np.ceil(np.linalg.norm(row) * top)) for row in cell]
    grid = np.stack(np.meshgrid(*(np.arange(-n, n + 1) for n in sizes), indexing="ij"), -1).reshape(-1, 3)
    q = np.linalg.norm(grid @ reciprocal.T, axis=1)
    keep = (q > 1e-6) & (q <= top)
    grid, q = grid[keep], q[keep]
    factors = np.zeros(len(grid), dtype=complex)
    values = {z: coherent(z, q / 2.0) for z in (H, O)}
    for z, occupancy, place in sites:
        factors += occupancy * values[z] * np.exp(2j * np.pi * (grid @ place))
    intensity = np.abs(factors) ** 2 * np.exp(-2.0 * b * (q / 2.0) ** 2) / (molecules * volume * 4.0 * np.pi * q**2)
    for ring in np.unique(np.round(q, 5)):
        at = np.abs(q - ring) < 2e-5
        strength = intensity[at].sum()
        if strength < 1e-6:
            continue
        h, k, l = np.abs(grid[at][0]) if cubic else grid[at][0]  # noqa: E741
        # Along the direction of stacking, 111 of cubic ice, they stay sharp.
        sharp = h == k == l if cubic else (h - k) % 3 == 0
        width = RING_WIDTH * (1.0 if sharp else widen)
        # A delta of q = 2 s, as a Gaussian of s.
        found += strength * 0.5 * np.exp(-0.5 * ((s - ring / 2.0) / width) ** 2) / (width * np.sqrt(2.0 * np.pi))
    square, _ = water_molecule(s)
    beyond = np.clip((s - 0.45) / 0.05, 0.0, 1.0)  # rings end there: what is scattered goes on, smooth
    thermal = square * (1.0 - np.exp(-2.0 * b * s * s))
    return found * (1.0 - beyond) + thermal + beyond * (square - thermal) + compton({H: 2, O: 1}, s)


def chains(s, atoms: dict[int, float], heavy: float, structure):
    """A polymer of ``heavy`` atoms other than hydrogen, whose arrangement S(Q) describes."""
    alone = sum(n * coherent(z, s) ** 2 for z, n in atoms.items())
    unit = sum(n * coherent(z, s) for z, n in atoms.items()) / heavy
    # Hydrogens, 1.09 angstrom from their atoms, scatter together with them at small angles.
    together = (heavy * unit**2 - alone) * sinc(s, 1.09)
    return alone + together + heavy * unit**2 * (liquid(s, *structure) - 1.0) + compton(atoms, s)


def materials():
    """name -> (s, F, density g/cm^3, molar mass g/mol, origin)."""
    n2, o2 = diatomic(N, 1.0977, SMOOTH), diatomic(O, 1.2075, SMOOTH)
    argon = coherent(AR, SMOOTH) ** 2 + incoherent(AR, SMOOTH)
    helium = coherent(HE, SMOOTH) ** 2 + incoherent(HE, SMOOTH)
    hexagonal, cubic = ice(FINE, False), ice(FINE, True)
    faulted = 0.5 * (ice(FINE, False, 6.0) + ice(FINE, True, 3.0))
    oil = chains(SMOOTH, {C: 1, H: 2}, 1.0, OIL)
    kapton = chains(SMOOTH, {C: 22, H: 10, N: 2, O: 5}, 29.0, POLYIMIDE)
    found = {
        "water": (SMOOTH, water(SMOOTH), 0.997, 18.015, "liquid water at 25 C"),
        "air": (SMOOTH, 0.7808 * n2 + 0.2095 * o2 + 0.0093 * argon, 0.0011839, 28.965, "dry air at 25 C, 1 atm"),
        "n2": (SMOOTH, n2, 0.0011452, 28.013, "nitrogen at 25 C, 1 atm"),
        "he": (SMOOTH, helium, 0.00016353, 4.0026, "helium at 25 C, 1 atm"),
        "ice_ih": (FINE, hexagonal, 0.933, 18.015, "powder of hexagonal ice at 100 K"),
        "ice_ic": (FINE, cubic, 0.933, 18.015, "powder of cubic ice"),
        "ice_isd": (FINE, faulted, 0.933, 18.015, "powder of ice with faults of stacking, half cubic"),
        "kapton": (SMOOTH, kapton, 1.42, 382.33, "polyimide C22 H10 N2 O5"),
        "paratone": (SMOOTH, oil, 0.83, 14.027, "hydrocarbon oil, a unit of C H2"),
    }
    return {name: (s, np.sqrt(np.maximum(i, 0.0)), rho, mass, o) for name, (s, i, rho, mass, o) in found.items()}


def main() -> None:
    """Write the module."""
    grids = {"SMOOTH": SMOOTH, "FINE": FINE}
    lines = [
        '"""F(sin(theta)/lambda) of the built-in materials, made by scripts/make_materials.py: not to be edited."""',
        "",
    ]
    for name, grid in grids.items():
        lines += [f"#: sin(theta)/lambda, 1/angstrom.\n{name} = (", *_wrapped(grid, "%.6g"), ")\n"]
    lines += ["#: Name -> grid, F in electrons, density in g/cm^3, molar mass in g/mol, what it is.", "TABLES = {"]
    for name, (s, F, density, mass, origin) in materials().items():
        grid = "SMOOTH" if s is SMOOTH else "FINE"
        lines += [f'    "{name}": (', f"        {grid},", "        (", *_wrapped(F, "%.5g", 12), "        ),"]
        lines += [f"        {density!r},", f"        {mass!r},", f'        "{origin}",', "    ),"]
    OUT.write_text("# fmt: off\n" + "\n".join([*lines, "}", ""]))


def _wrapped(values, form: str, indent: int = 4) -> list[str]:
    text = " ".join(f"{form % x}," for x in values)
    return textwrap.wrap(text, 118, initial_indent=" " * indent, subsequent_indent=" " * indent)


if __name__ == "__main__":
    main()
