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


MATERIALS: dict[str, Material] = {}
