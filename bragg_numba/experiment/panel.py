"""One flat panel of a detector that is made of several: pixels, place, sensor, what of it is bad."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from bragg_numba import checks as check
from bragg_numba.errors import InputError
from bragg_numba.experiment.noun import Noun
from bragg_numba.materials import find_material

#: Rows and columns of the slab, and pixels along an edge.
MOST_PIXELS = 1_000_000

#: Sine of the angle between a panel's axes below which it has next to no area.
NARROWEST = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Panel(Noun):
    """A flat array of pixels with a place of its own; ``Detector(panels=...)`` is made of them.

    Its axes may be skewed and its pixels oblong. What is None follows from the detector.
    """

    name: str | None = None  #: None: p0, p1, ... by its place in the detector
    n_fast: int
    n_slow: int
    origin_mm: tuple  #: outer corner of pixel (0, 0), lab frame
    fast: tuple  #: direction from a pixel to the next along a row, lab frame; its length does not matter
    slow: tuple  #: the same from a row to the next; need not be at right angles to ``fast``
    pixel_mm: tuple | None = None  #: (along fast, along slow), or one number for both; None: the detector's pixel_mm
    first_row: int | None = None  #: row of the image that its first row is; None: panels are stacked along the rows
    first_column: int | None = None
    thickness_um: float | None = None  #: of its sensor; None: the detector's
    attenuation_depth_um: float | None = None  #: None: of its material, else the detector's
    sensor: str | None = None  #: material of its sensor; None: the detector's
    sensor_density_g_per_cm3: float | None = None  #: of its material; None: that of the built-in one
    bad: tuple = ()  #: rectangles (fast_min, fast_max, slow_min, slow_max) of its own pixels, both ends inclusive
    mask: np.ndarray | None = None  #: bool (n_slow, n_fast); False pixels are skipped and stay 0

    def __post_init__(self) -> None:
        put = self._set
        if self.name is not None and (not isinstance(self.name, str) or not self.name.strip()):
            raise InputError("Panel.name", "must be a word", self.name)
        pre = "Panel." if self.name is None else f"Panel {self.name!r}: "
        for field in ("n_fast", "n_slow"):
            put(field, check.count(pre + field, getattr(self, field), low=1, high=MOST_PIXELS))
        put("origin_mm", check.vector(pre + "origin_mm", self.origin_mm, low=-1e9, high=1e9))
        for field in ("fast", "slow"):
            vector = check.vector(pre + field, getattr(self, field), nonzero=True, low=-1e9, high=1e9)
            if math.hypot(*vector) < 1e-9:
                raise InputError(pre + field, "must have a length of at least 1e-9", getattr(self, field))
            put(field, vector)
        fast, slow = (np.array(v) / math.hypot(*v) for v in (self.fast, self.slow))
        if float(np.linalg.norm(np.cross(fast, slow))) < NARROWEST:
            raise InputError(pre + "fast", "must not be parallel to slow", self.fast, f"slow is {self.slow}")
        if self.pixel_mm is not None:
            pair = (self.pixel_mm, self.pixel_mm) if np.ndim(self.pixel_mm) == 0 else self.pixel_mm
            put("pixel_mm", check.vector(pre + "pixel_mm", pair, length=2, low=1e-6, high=1e4))
        for field in ("first_row", "first_column"):
            clean = check.optional(check.count, pre + field, getattr(self, field), low=0, high=MOST_PIXELS - 1)
            put(field, clean)
        put("thickness_um", check.optional(sensor_length, pre + "thickness_um", self.thickness_um, high=1e9))
        depth = check.optional(attenuation_depth, pre + "attenuation_depth_um", self.attenuation_depth_um)
        put("attenuation_depth_um", depth)
        check_sensor(self, pre)
        put(
            "bad", tuple(self._clean_rectangle(f"{pre}bad[{i}]", r) for i, r in enumerate(_rows(pre + "bad", self.bad)))
        )
        put("mask", check_mask(pre + "mask", self.mask, (self.n_slow, self.n_fast)))

    def _clean_rectangle(self, name: str, rectangle) -> tuple[int, ...]:
        corners = check.vector(name, rectangle, length=4)
        left, right, top, bottom = (check.count(name, n, low=0, high=MOST_PIXELS) for n in corners)
        if left > right or top > bottom:
            raise InputError(name, "must have min <= max", rectangle, "fast_min fast_max slow_min slow_max")
        if right >= self.n_fast or bottom >= self.n_slow:
            size = f"{self.n_fast} x {self.n_slow}"
            raise InputError(name, f"must lie on the panel of {size} (fast x slow) pixels", rectangle)
        return left, right, top, bottom

    @property
    def good(self) -> np.ndarray | None:
        """bool (n_slow, n_fast), False on bad pixels; None where all are good."""
        if self.mask is None and not self.bad:
            return None
        good = np.ones((self.n_slow, self.n_fast), dtype=np.bool_) if self.mask is None else self.mask.copy()
        for left, right, top, bottom in self.bad:
            good[top : bottom + 1, left : right + 1] = False
        return good


def _rows(name: str, value) -> tuple:
    """A list of rectangles; one alone is a slip."""
    if isinstance(value, (str, bytes)) or not hasattr(value, "__iter__"):
        raise InputError(name, "must be a list of (fast_min, fast_max, slow_min, slow_max)", value)
    return tuple(value)


#: Micrometres below which a length of the sensor is a slip: a thousandth of an atom.
_THINNEST_UM = 1e-7


def sensor_length(name: str, value, high: float) -> float:
    """Return a length of the sensor, micrometres; 0 stands for no sensor."""
    clean = check.number(name, value, low=0.0, high=high)
    if 0.0 < clean < _THINNEST_UM:
        raise InputError(name, f"must be 0 or at least {_THINNEST_UM:g}", value, "micrometres")
    return clean


def attenuation_depth(name: str, value) -> float:
    """Return an attenuation depth, micrometres; an infinite one absorbs nothing: no sensor, like 0."""
    if isinstance(value, float) and math.isinf(value):
        return 0.0
    return sensor_length(name, value, high=1e12)


def check_sensor(noun, prefix: str) -> None:
    """Clean the material of a sensor that a Panel or Detector names; raise InputError if there is none such."""
    density = check.optional(
        check.number, prefix + "sensor_density_g_per_cm3", noun.sensor_density_g_per_cm3, above=0.0, high=100.0
    )
    noun._set("sensor_density_g_per_cm3", density)
    if noun.sensor is not None:
        find_material(prefix + "sensor", noun.sensor, density)
    elif density is not None:
        raise InputError(prefix + "sensor_density_g_per_cm3", "has no meaning without a sensor", density)


def check_mask(name: str, mask, shape: tuple[int, int]) -> np.ndarray | None:
    """Return a mask as a read-only bool array (slow, fast), None as it is."""
    if mask is None:
        return None
    mask = np.asarray(mask)
    if mask.shape != shape:
        raise InputError(name, f"must have the detector's shape {shape}", mask.shape)
    mask = np.ascontiguousarray(mask != 0)
    mask.flags.writeable = False
    return mask
