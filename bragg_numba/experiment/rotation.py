"""The goniometer: a sweep about the spindle."""

from __future__ import annotations

from dataclasses import dataclass

from bragg_numba import checks as check
from bragg_numba.experiment.noun import Noun


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Rotation(Noun):
    """Crystal rotation during the exposure; the steps start at ``phi_deg`` (not at their middle)."""

    phi_deg: float = 0.0
    osc_deg: float | None = None
    phi_step_deg: float | None = None
    phi_steps: int | None = None
    axis: tuple | None = None  #: right-handed spindle axis; None: the detector convention's

    def __post_init__(self) -> None:
        put, pre = self._set, "Rotation."
        put("phi_deg", check.number(pre + "phi_deg", self.phi_deg))
        for field in ("osc_deg", "phi_step_deg"):
            put(field, check.optional(check.number, pre + field, getattr(self, field), low=0.0, high=1e6))
        steps = check.optional(check.count, pre + "phi_steps", self.phi_steps, low=1, high=10_000_000)
        put("phi_steps", steps)
        put("axis", check.optional(check.vector, pre + "axis", self.axis, nonzero=True))
