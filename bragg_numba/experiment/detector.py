"""The detector: pixels, place, tilt, sensor."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from bragg_numba import checks as check
from bragg_numba.conventions import FRAMES
from bragg_numba.errors import InputError
from bragg_numba.experiment.noun import Noun

CONVENTIONS = tuple(FRAMES)
PIVOTS = ("beam", "sample")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Detector(Noun):
    """A flat (or cylindrically curved) array of square pixels.

    The convention fixes the laboratory frame (beam, fast, slow, normal, two-theta and spindle axes),
    the meaning of the beam centre and the default pivot. Every ``None`` follows from the convention.
    """

    pixel_mm: float = 0.1
    n_fast: int | None = None  #: pixels along the fast axis; None: from size_fast_mm
    n_slow: int | None = None
    size_fast_mm: float = 102.4  #: used where n_fast is not given
    size_slow_mm: float = 102.4
    distance_mm: float = 100.0  #: along the beam
    close_distance_mm: float | None = None  #: along the detector's normal; wins over distance_mm
    convention: str = "mosflm"
    beam_x_mm: float | None = None  #: direct beam, in the convention's own sense of x and y
    beam_y_mm: float | None = None
    close_x_mm: float | None = None  #: point nearest to the crystal, along fast
    close_y_mm: float | None = None  #: the same along slow
    org_x_px: float | None = None  #: the same in XDS's pixels (first pixel's centre is 1)
    org_y_px: float | None = None
    origin_mm: tuple | None = None  #: outer corner of pixel (0, 0), lab frame, as it finally stands
    pivot: str | None = None  #: "beam" or "sample": what a rotation keeps in place
    rotation_deg: tuple = (0.0, 0.0, 0.0)  #: about lab x, y, z in this order
    twotheta_deg: float = 0.0
    fast_axis: tuple | None = None
    slow_axis: tuple | None = None
    normal_axis: tuple | None = None  #: away from the crystal
    twotheta_axis: tuple | None = None
    curved: bool = False  #: every pixel at ``distance`` from the crystal
    point_pixel: bool = False  #: solid angle 1/R^2, without pixel area and obliquity
    attenuation_depth_um: float | None = None  #: of the sensor; None: its thickness; 0 or inf: no sensor
    thickness_um: float = 0.0
    thickness_steps: int | None = None
    mask: np.ndarray | None = None  #: bool (n_slow, n_fast); False pixels are skipped and stay 0

    def __post_init__(self) -> None:
        put, pre = self._set, "Detector."
        put("pixel_mm", check.number(pre + "pixel_mm", self.pixel_mm, low=1e-6, high=1e4))
        for field in ("n_fast", "n_slow"):
            put(field, check.optional(check.count, pre + field, getattr(self, field), low=1, high=1_000_000))
        for field in ("size_fast_mm", "size_slow_mm", "distance_mm"):
            put(field, check.number(pre + field, getattr(self, field), low=1e-9, high=1e7))
        close = check.optional(check.number, pre + "close_distance_mm", self.close_distance_mm, low=1e-9, high=1e7)
        put("close_distance_mm", close)
        put("convention", check.choice(pre + "convention", self.convention, CONVENTIONS))
        put("pivot", check.optional(check.choice, pre + "pivot", self.pivot, allowed=PIVOTS))
        for field in ("beam_x_mm", "beam_y_mm", "close_x_mm", "close_y_mm", "org_x_px", "org_y_px"):
            put(field, check.optional(check.number, pre + field, getattr(self, field), low=-1e9, high=1e9))
        put("origin_mm", check.optional(check.vector, pre + "origin_mm", self.origin_mm, low=-1e9, high=1e9))
        put("rotation_deg", check.vector(pre + "rotation_deg", self.rotation_deg))
        put("twotheta_deg", check.number(pre + "twotheta_deg", self.twotheta_deg))
        for field in ("fast_axis", "slow_axis", "normal_axis", "twotheta_axis"):
            put(field, check.optional(check.vector, pre + field, getattr(self, field), nonzero=True))
        for field in ("curved", "point_pixel"):
            put(field, check.flag(pre + field, getattr(self, field)))
        put("attenuation_depth_um", self._clean_depth())
        put("thickness_um", _none_or_length(pre + "thickness_um", self.thickness_um, high=1e9))
        steps = check.optional(check.count, pre + "thickness_steps", self.thickness_steps, low=1, high=1_000_000)
        put("thickness_steps", steps)
        for n, name in ((self.shape[0], "slow"), (self.shape[1], "fast")):
            if not 1 <= n <= 1_000_000:
                raise InputError(f"Detector.size_{name}_mm", "must hold 1 to 1000000 pixels", n)
        if self.mask is not None:
            mask = np.asarray(self.mask)
            if mask.shape != self.shape:
                raise InputError("Detector.mask", f"must have the detector's shape {self.shape}", mask.shape)
            mask = np.ascontiguousarray(mask != 0)
            mask.flags.writeable = False
            put("mask", mask)

    def _clean_depth(self) -> float | None:
        depth = self.attenuation_depth_um
        if depth is None:
            return None
        if isinstance(depth, float) and math.isinf(depth):
            return 0.0  # an infinite depth absorbs nothing: no sensor, like 0
        return _none_or_length("Detector.attenuation_depth_um", depth, high=1e12)

    @property
    def detector_size_m(self) -> tuple[float, float]:
        """(slow, fast) size in metres: pixels times pitch where pixels are given."""
        pixel = self.pixel_mm / 1000.0
        slow = pixel * self.n_slow if self.n_slow else self.size_slow_mm / 1000.0
        fast = pixel * self.n_fast if self.n_fast else self.size_fast_mm / 1000.0
        return slow, fast

    @property
    def shape(self) -> tuple[int, int]:
        """(slow, fast) number of pixels."""
        pixel = self.pixel_mm / 1000.0
        slow, fast = self.detector_size_m
        return math.ceil(slow / pixel - 0.5), math.ceil(fast / pixel - 0.5)


#: Micrometres below which a length of the sensor is a slip: a thousandth of an atom.
_THINNEST_UM = 1e-7


def _none_or_length(name: str, value, high: float) -> float:
    """Return a length of the sensor, micrometres; 0 stands for no sensor."""
    clean = check.number(name, value, low=0.0, high=high)
    if 0.0 < clean < _THINNEST_UM:
        raise InputError(name, f"must be 0 or at least {_THINNEST_UM:g}", value, "micrometres")
    return clean
