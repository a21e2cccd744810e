"""What scatters beside the crystal: a layer of something amorphous, by its table of F(sin(theta)/lambda)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Self

import numpy as np

from bragg_numba import checks as check
from bragg_numba.errors import InputError, read_from
from bragg_numba.experiment.noun import Noun

#: More points than this are no table of a smooth curve.
MOST_POINTS = 1_000_000


#: What materials are also called.
OTHER_NAMES = {"helium": "he", "ice": "ice_ih", "nitrogen": "n2", "paratone_n": "paratone", "polyimide": "kapton"}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Background(Noun):
    """Amorphous material in the beam: water, air, plastic.

    ``F`` is a molecule's structure factor in electrons (a formula unit's, of ``molar_mass_g_per_mol``), as nonBragg
    takes it: cubics through four points of the table lead from one to the next, lines go on beyond both ends, and a
    negative F stands for a negative intensity. Where the sample is wider or higher than the beam, the beam's size
    counts.

    A built-in material needs no table: ``Background(material="water", thickness_mm=0.1)``.
    """

    material: str | None = None  #: a built-in one (docs/backgrounds.md); None: the table
    stol_per_A: np.ndarray | None = None  #: float64 (n,), sin(theta)/lambda, 1/angstrom, rising
    F: np.ndarray | None = None  #: float64 (n,), electrons a molecule
    thickness_mm: float = 0.1  #: along the beam
    width_mm: float | None = None  #: lab y; None: all that the beam lights
    height_mm: float | None = None  #: lab z; None: all that the beam lights
    density_g_per_cm3: float | None = None  #: None: the material's, 1 of a table
    molar_mass_g_per_mol: float | None = None  #: None: the material's, 18 of a table
    molecules: float | None = None  #: in the beam; wins over sizes and density
    name: str | None = None  #: what files and reports call the layer; None: the material, or "table"
    origin: str | None = None  #: where the table comes from, for a person

    def __post_init__(self) -> None:
        put, pre = self._set, "Background."
        if self.material is not None:
            from bragg_numba.experiment.materials import MATERIALS

            if self.stol_per_A is not None or self.F is not None:
                raise InputError(pre + "material", "must not come together with a table", self.material)
            put("material", check.choice(pre + "material", _spelled(self.material), tuple(MATERIALS)))
        else:
            if self.stol_per_A is None or self.F is None:
                hint = "a built-in material, or stol_per_A and F"
                raise InputError("Background", "must have a material or a table", hint=hint)
            stol, F = clean_table(pre + "stol_per_A", pre + "F", self.stol_per_A, self.F)
            put("stol_per_A", stol)
            put("F", F)
        for field in ("thickness_mm", "width_mm", "height_mm"):
            given = check.optional(check.number, pre + field, getattr(self, field), above=0.0, high=1e9)
            put(field, given)
        if self.thickness_mm is None:
            raise InputError(pre + "thickness_mm", "must be a number", None)
        for field in ("density_g_per_cm3", "molar_mass_g_per_mol"):
            put(field, check.optional(check.number, pre + field, getattr(self, field), above=0.0, high=1e9))
        put("molecules", check.optional(check.number, pre + "molecules", self.molecules, above=0.0, high=1e60))
        for field in ("name", "origin"):
            put(field, check.optional(check.text, pre + field, getattr(self, field)))

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], *, abscissa: str = "stol", **fields) -> Self:
        """Read a table of two columns: sin(theta)/lambda (1/angstrom) and F (electrons), as nonBragg's -stol.

        Parameters
        ----------
        path
            The file; docs/backgrounds.md tells what is read of it.
        abscissa
            What the first column holds: ``"stol"``, ``"4stol"`` (four times that) or ``"q"`` (4 pi times that).
        fields
            Further fields: thickness_mm, density_g_per_cm3 ...

        Raises
        ------
        InputError
            If the file cannot be read or breaks a rule.
        """
        from bragg_numba.io.scattering_files import read_table

        stol, F = read_table(path, abscissa)
        with read_from(path):
            return cls(**{"stol_per_A": stol, "F": F, "origin": os.fspath(path), **fields})

    @property
    def label(self) -> str:
        """What files and reports call the layer."""
        return self.name or self.material or "table"

    @property
    def table(self) -> tuple[np.ndarray, np.ndarray]:
        """sin(theta)/lambda, 1/angstrom, and F, electrons: two float64 (n,)."""
        if self.material is None:
            assert self.stol_per_A is not None and self.F is not None
            return self.stol_per_A, self.F
        from bragg_numba.experiment.materials import MATERIALS

        found = MATERIALS[self.material]
        return found.stol_per_A, found.F

    @property
    def density(self) -> float:
        """Its density, g/cm^3."""
        return self._constant("density_g_per_cm3", 1.0)

    @property
    def molar_mass(self) -> float:
        """Its molar mass, g/mol."""
        return self._constant("molar_mass_g_per_mol", 18.0)

    def _constant(self, field: str, of_table: float) -> float:
        value = getattr(self, field)
        if value is not None:
            return value
        if self.material is None:
            return of_table
        from bragg_numba.experiment.materials import MATERIALS

        return getattr(MATERIALS[self.material], field)


def _spelled(name):
    """A material's name as the list has it: nobody should have to know whether it is "N2" or "n2"."""
    if not isinstance(name, str):
        return name
    plain = name.lower().replace(" ", "_").replace("-", "_")
    return OTHER_NAMES.get(plain, plain)


def clean_table(name_of_stol: str, name_of_F: str, stol, F) -> tuple[np.ndarray, np.ndarray]:
    """Return a table as two float64 (n,), read-only; raise InputError under these names if it is none."""
    x, y = _row(name_of_stol, stol), _row(name_of_F, F)
    if not 1 <= len(x) <= MOST_POINTS:
        raise InputError(name_of_stol, f"must have 1 to {MOST_POINTS} points", len(x))
    if len(y) != len(x):
        raise InputError(name_of_F, f"must have {len(x)} values, one a point", len(y))
    if not (np.isfinite(x).all() and np.isfinite(y).all() and np.abs(x).max() < 1e9 and np.abs(y).max() <= 1e15):
        raise InputError(name_of_F, "must be finite numbers below 1e15, and its abscissa below 1e9")
    steps = np.diff(x)
    if not (steps > 0.0).all():
        at = int(np.argmin(steps > 0.0))
        raise InputError(name_of_stol, "must rise from point to point", (float(x[at]), float(x[at + 1])), "sort it")
    if len(x) > 1 and steps.min() < 1e-12 * max(1.0, np.abs(x).max()):
        raise InputError(name_of_stol, "must not have points that coincide but for rounding", float(steps.min()))
    return x, y


def _row(name: str, values) -> np.ndarray:
    try:
        found = np.array(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(name, "must be an array of numbers") from None
    if found.ndim != 1:
        raise InputError(name, "must have one axis", found.shape)
    found.flags.writeable = False
    return found
