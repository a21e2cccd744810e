"""How finely the image is sampled, which part of it, and which engine renders it."""

from __future__ import annotations

from dataclasses import dataclass

from bragg_numba import checks as check
from bragg_numba.errors import InputError
from bragg_numba.experiment.noun import Noun

#: Ways to render: pixel by pixel, reflection by reflection, or whichever serves and is quicker.
ENGINES = ("auto", "pixels", "spots")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Sampling(Noun):
    """Sub-pixels, region of interest, resolution limit, interpolation; engine and cutoff."""

    oversample: int | None = None  #: sub-pixels along each pixel edge; None: from the crystal's size
    oversample_thick: bool = False  #: nanoBragg's running products; no effect where fidelity is physical
    oversample_polar: bool = False
    oversample_omega: bool = False
    roi: tuple | None = None  #: (fast_min, fast_max, slow_min, slow_max), both ends inclusive
    dmin_A: float = 0.0  #: skip what scatters to higher resolution than this
    interpolate: bool | None = None  #: tricubic structure factors; None: when any cell count is 2 or less
    engine: str = "auto"  #: "pixels", "spots", or which of them serves and is quicker
    cutoff_photons: float = 0.0  #: what no pixel's expectation may be off by for the sake of speed; 0: nothing is cut
    pixel_average: bool = False  #: integrate each step's spots over the pixels, however narrow they are

    def __post_init__(self) -> None:
        put, pre = self._set, "Sampling."
        put("oversample", check.optional(check.count, pre + "oversample", self.oversample, low=1, high=10_000))
        for field in ("oversample_thick", "oversample_polar", "oversample_omega"):
            put(field, check.flag(pre + field, getattr(self, field)))
        if self.roi is not None:
            roi = check.vector(pre + "roi", self.roi, length=4)
            fast_min, fast_max, slow_min, slow_max = (check.count(pre + "roi", n, low=0, high=2**31 - 1) for n in roi)
            if fast_min > fast_max or slow_min > slow_max:
                raise InputError(pre + "roi", "must have min <= max", self.roi, "fast_min fast_max slow_min slow_max")
            put("roi", (fast_min, fast_max, slow_min, slow_max))
        put("dmin_A", check.number(pre + "dmin_A", self.dmin_A, low=0.0, high=1e9))
        put("interpolate", check.optional(check.flag, pre + "interpolate", self.interpolate))
        put("engine", check.choice(pre + "engine", self.engine, ENGINES))
        put("pixel_average", check.flag(pre + "pixel_average", self.pixel_average))
        if self.pixel_average and self.oversample not in (None, 1):
            raise InputError(
                pre + "oversample",
                "must be 1 or left out where pixels are averaged over (pixel_average)",
                self.oversample,
                "an integral needs no sub-pixels",
            )
        put("cutoff_photons", check.number(pre + "cutoff_photons", self.cutoff_photons, low=0.0))
