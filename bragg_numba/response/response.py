"""What a detector makes of expected photons, as a noun."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from bragg_numba.response.presets import preset_fields
from bragg_numba.response.recording import Recorded, record
from bragg_numba.response.stages import Stages


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Response(Stages):
    """A detector's response: point spread, efficiency, noise, counting or charge, digits (docs/response.md).

    A ``counter`` counts photons: they are spread and lost before the one Poisson draw, which is exact. An
    ``integrator`` digitises the charge of those that were drawn; a phosphor spreads them after the draw.
    """

    @classmethod
    def preset(cls, name: str, *, photon_keV: float = 12.4, **changes) -> Self:
        """Return the response of a kind of detector, for photons of an energy; ``changes`` replace its fields.

        Raises
        ------
        InputError
            For an unknown name, which lists those that exist.
        """
        return cls(**{**preset_fields(name, photon_keV), **changes})

    def apply(self, photons, seed: int, frame: int = 0, **where) -> np.ndarray:
        """Return what the detector says of expected photons (slow, fast) float32, as uint32.

        ``where``: exposure_s, pixel_um, mask, first_row, scale, top, out, as ``recording.record`` explains them.

        Raises
        ------
        InputError
            If a pixel is NaN, infinite or negative, or an argument lies outside its range.
        """
        return record(self, photons, seed, frame, **where).counts

    def record(self, photons, seed: int, frame: int = 0, **where) -> Recorded:
        """Return the same with what is known of it: overloads, and photons that were spread out of the frame."""
        return record(self, photons, seed, frame, **where)
