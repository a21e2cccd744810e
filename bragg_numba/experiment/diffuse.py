"""Diffuse scattering of a crystal whose molecules move."""

from __future__ import annotations

from dataclasses import dataclass

from bragg_numba import checks as check
from bragg_numba.experiment.noun import Noun


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Diffuse(Noun):
    """Motions as in a liquid: displacements of neighbours are alike over ``correlation_A``, by exp(-r / correlation).

    They scatter around every reflection, W exp(-W) of its intensity, W = (2 pi displacement / d)^2. The Bragg photons
    stay as structure factors say: these hold their Debye-Waller factor already.
    """

    correlation_A: float = 10.0  #: length over which displacements are alike
    displacement_A: float = 0.3  #: root mean square along an axis
    reach: int = 1  #: reflections to each side that a pixel sees: more where correlation is less than a cell's edge

    def __post_init__(self) -> None:
        put, pre = self._set, "Diffuse."
        put("correlation_A", check.number(pre + "correlation_A", self.correlation_A, above=0.0, high=1e5))
        put("displacement_A", check.number(pre + "displacement_A", self.displacement_A, low=0.0, high=100.0))
        put("reach", check.count(pre + "reach", self.reach, low=0, high=20))
