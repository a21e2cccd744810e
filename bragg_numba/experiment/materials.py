"""Built-in amorphous materials, by name."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Material:
    """A material's table and constants."""

    stol_per_A: np.ndarray
    F: np.ndarray
    density_g_per_cm3: float
    molar_mass_g_per_mol: float
    origin: str


def _read() -> dict[str, Material]:
    from bragg_numba.experiment.material_tables import TABLES

    found = {}
    for name, (stol, F, density, molar_mass, origin) in TABLES.items():
        columns = np.array(stol), np.array(F)
        for column in columns:
            column.flags.writeable = False
        found[name] = Material(*columns, density, molar_mass, origin)
    return found


#: By name; docs/backgrounds.md says where they come from.
MATERIALS: dict[str, Material] = _read()
