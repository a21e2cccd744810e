"""Radiation damage: what a dose does to reflections and to the cell (docs/damage.md)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from bragg_numba import checks as check
from bragg_numba.errors import InputError
from bragg_numba.experiment.noun import Noun

#: Laws of decay, and the exponent of the spacing in each: Howells et al. 2009, Holton 2009; Atakisi et al. 2019.
EXPONENTS = {"linear": 1.0, "power": 1.7}

#: The spacing at which all laws have the same half dose, angstrom.
COMMON_A = 2.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Damage(Noun):
    """A dose, and how intensities fade with it: by half at a half dose that grows with the spacing d (eq. 54)."""

    dose_MGy: float = 0.0  #: by the middle of the frame; of a sweep, before its first frame
    dose_per_frame_MGy: float = 0.0  #: that each frame of a sweep adds
    photons_per_um2_per_Gy: float | None = None  #: instead: from the fluence; some 2000 at 12.4 keV
    law: str = "linear"  #: the half dose goes with d, "linear", or with d^1.7, "power"
    half_dose_MGy_per_A: float = 10.0  #: H: half dose over spacing; with other exponents at 2 angstrom
    exponent: float | None = None  #: of d; None: the law's
    cell_drift_per_MGy: tuple = (0.0, 0.0, 0.0)  #: by which part of itself each edge of the cell grows

    def __post_init__(self) -> None:
        put, pre = self._set, "Damage."
        for field in ("dose_MGy", "dose_per_frame_MGy"):
            put(field, check.number(pre + field, getattr(self, field), low=0.0, high=1e6))
        given = check.optional(
            check.number, pre + "photons_per_um2_per_Gy", self.photons_per_um2_per_Gy, above=0.0, high=1e12
        )
        put("photons_per_um2_per_Gy", given)
        if given is not None and self.dose_per_frame_MGy > 0.0:
            raise InputError(
                pre + "photons_per_um2_per_Gy", "must not come together with dose_per_frame_MGy", given, "one says it"
            )
        put("law", check.choice(pre + "law", self.law, tuple(EXPONENTS)))
        put("half_dose_MGy_per_A", check.number(pre + "half_dose_MGy_per_A", self.half_dose_MGy_per_A, above=0.0))
        put("exponent", check.optional(check.number, pre + "exponent", self.exponent, low=0.0, high=10.0))
        put("cell_drift_per_MGy", check.vector(pre + "cell_drift_per_MGy", self.cell_drift_per_MGy, low=-1.0, high=1.0))
        if min(self.cell_growth) < 0.1 or max(self.cell_growth) > 10.0:
            rule = "must leave the cell between a tenth and ten times of itself at the dose"
            raise InputError(pre + "cell_drift_per_MGy", rule, self.cell_drift_per_MGy, f"{self.dose_MGy:g} MGy")

    @property
    def cell_growth(self) -> tuple[float, ...]:
        """What the cell's edges are multiplied by."""
        return tuple(1.0 + drift * self.dose_MGy for drift in self.cell_drift_per_MGy)

    @property
    def power(self) -> float:
        """The exponent of the spacing."""
        return EXPONENTS[self.law] if self.exponent is None else self.exponent

    def half_dose_MGy(self, spacing_A: np.ndarray) -> np.ndarray:
        """The dose at which reflections of a spacing, angstrom, have half of their intensity (eq. 54)."""
        spacing = np.asarray(spacing_A, dtype=np.float64)
        return self.half_dose_MGy_per_A * COMMON_A * (spacing / COMMON_A) ** self.power

    def intensity_left(self, spacing_A: np.ndarray) -> np.ndarray:
        """The part of their intensity that reflections of a spacing, angstrom, have left (eq. 54)."""
        return np.exp(-math.log(2.0) * self.dose_MGy / self.half_dose_MGy(spacing_A))

    @property
    def adds(self) -> bool:
        """Whether each frame of a sweep adds to the dose."""
        return self.dose_per_frame_MGy > 0.0 or self.photons_per_um2_per_Gy is not None

    def frame_doses_MGy(self, fluences_per_m2: np.ndarray) -> np.ndarray:
        """What each frame of a fluence (n,) adds to the dose, MGy."""
        if self.photons_per_um2_per_Gy is None:
            return np.full(len(fluences_per_m2), self.dose_per_frame_MGy)
        return fluences_per_m2 * 1e-12 / self.photons_per_um2_per_Gy * 1e-6

    def doses_of_sweep(self, fluences_per_m2: np.ndarray) -> np.ndarray:
        """The dose by the middle of each frame of a sweep, (n,), MGy."""
        added = self.frame_doses_MGy(fluences_per_m2)
        return self.dose_MGy + np.cumsum(added) - added / 2.0
