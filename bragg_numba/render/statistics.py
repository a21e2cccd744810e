"""What a frame amounts to, by nanoBragg's definitions, gathered row by row."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bragg_numba.experiment import faces
from bragg_numba.plan.plan import Plan

if TYPE_CHECKING:  # kernels that a frame of pixels does not need
    from bragg_numba.render.found import FoundOfLattices, FoundOfSizes, FoundSpots


@dataclass(frozen=True, slots=True, repr=False)
class Statistics:
    """Sum, brightest pixel and spread of the rendered pixels, photons.

    ``mean`` and ``rms`` are over rendered pixels; ``rmsd`` is over the region of interest, masked pixels
    included, as in nanoBragg. ``rms`` and ``rmsd`` divide by n - 1.
    """

    pixels: int
    sum: float
    max: float
    max_slow: int
    max_fast: int
    max_fast_m: float  #: centre of the brightest pixel's last sub-pixel, along fast from the corner of its panel
    max_slow_m: float
    mean: float
    rms: float
    rmsd: float

    def as_dict(self) -> dict:
        """Plain numbers by name."""
        return {name: getattr(self, name) for name in self.__slots__}

    def __repr__(self) -> str:
        return (
            f"<Statistics of {self.pixels} pixels: sum {self.sum:g}, max {self.max:g} at slow {self.max_slow}, "
            f"fast {self.max_fast}, mean {self.mean:g}, rms {self.rms:g}, rmsd {self.rmsd:g} photons>"
        )

    def _repr_html_(self) -> str:
        return faces.html_table("Statistics", [("", list(self.as_dict().items()))])


@dataclass(slots=True)
class Tally:
    """What one rendering counts besides photons."""

    missed: int = 0  #: interpolations that left the structure factor table
    found: FoundSpots | FoundOfSizes | FoundOfLattices | None = (
        None  #: photons of each spot, where the engine sums them
    )


class StatisticsCollector:
    """Gathers the sums of a frame's rows, tile by tile, in any order."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        n_slow = plan.shape[0]
        self._sums = np.zeros((n_slow, 4))
        self._sums[:, 2] = -1.0
        self._counts = np.zeros(n_slow, dtype=np.int64)
        self._rendered = plan.rendered

    def add(self, rows: np.ndarray, row_start: int = 0) -> None:
        """Add rows (n, n_fast) float32 that begin at ``row_start`` of the frame."""
        from bragg_numba.kernels.sums import sum_rows

        stop = row_start + len(rows)
        sums, counts = self._sums[row_start:stop], self._counts[row_start:stop]
        sum_rows(rows, self._plan.roi, self._rendered, row_start, sums, counts)

    def result(self) -> Statistics:
        """Statistics of what was added."""
        plan = self._plan
        total, squares = float(self._sums[:, 0].sum()), float(self._sums[:, 1].sum())
        n = int(self._counts.sum())
        mean = total / max(n, 1)
        roi = plan.roi
        in_region = (roi[1] - roi[0] + 1) * (roi[3] - roi[2] + 1)
        # sum (v - mean)^2 over the region without a second pass over the frame
        spread = max(0.0, squares - 2.0 * mean * total + in_region * mean * mean)
        slow = int(np.argmax(self._sums[:, 2]))
        fast = int(self._sums[slow, 3])
        brightest = float(self._sums[slow, 2])
        if brightest <= 0.0:  # an empty frame has no brightest pixel
            slow = fast = 0
            brightest = 0.0
        g = plan.panels[plan.panel_of(slow, fast) or 0]
        return Statistics(
            pixels=n,
            sum=total,
            max=brightest,
            max_slow=slow,
            max_fast=fast,
            max_fast_m=g.pitch_fast * (fast - g.first_column) + (g.pitch_fast - g.half_fast),
            max_slow_m=g.pitch_slow * (slow - g.first_row) + (g.pitch_slow - g.half_slow),
            mean=mean,
            rms=math.sqrt(squares / max(n - 1, 1)),
            rmsd=math.sqrt(spread / max(in_region - 1, 1)),
        )
