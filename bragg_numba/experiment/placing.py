"""Where the detector stands: conventions, beam centres, pivots, tilts (docs/physics.md, section 2)."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from bragg_numba.conventions import DEGREES, FRAMES
from bragg_numba.errors import InputError
from bragg_numba.experiment.beam import Beam
from bragg_numba.experiment.detector import Detector
from bragg_numba.experiment.panel import Panel
from bragg_numba.experiment.rotation import Rotation
from bragg_numba.experiment.vectors import (
    Vector,
    as_vector,
    combine,
    cross,
    dot,
    length,
    rotate_about,
    rotate_by,
    rotate_xyz,
    scale,
    unit,
)

#: Conventions whose detector turns about the crystal unless told otherwise.
_SAMPLE_PIVOT = ("xds", "dials")

#: A plane closer to the crystal than this, metres, passes through it.
NEAREST = 1e-13


class Parts(Protocol):
    """What of an experiment places its detector."""

    @property
    def beam(self) -> Beam: ...
    @property
    def detector(self) -> Detector: ...
    @property
    def rotation(self) -> Rotation: ...
    @property
    def fidelity(self) -> str: ...


@dataclass(frozen=True, slots=True)
class PlacedPanel:
    """A panel as it finally stands; metres, lab frame. ``origin`` is the corner of its pixel (0, 0)."""

    name: str
    n_fast: int
    n_slow: int
    first_row: int  #: of the image
    first_column: int
    origin: Vector
    fast: Vector  #: unit vectors
    slow: Vector
    normal: Vector  #: away from the crystal
    pitch_fast: float  #: from a pixel to the next along ``fast``
    pitch_slow: float
    height: float  #: area of a pixel over ``pitch_fast``: ``pitch_slow`` where the axes are at right angles
    close_distance: float

    @property
    def rows(self) -> slice:
        """Its rows of the image."""
        return slice(self.first_row, self.first_row + self.n_slow)

    @property
    def columns(self) -> slice:
        """Its columns of the image."""
        return slice(self.first_column, self.first_column + self.n_fast)


@dataclass(frozen=True, slots=True)
class PlacedDetector:
    """The detector as it finally stands; metres, lab frame. ``origin`` is the corner of pixel (0, 0).

    ``n_fast`` and ``n_slow`` are those of the image. From ``pixel_size`` to ``true_distance`` all is about the one
    panel, or of several about the one whose middle is nearest to the direct beam. What comes after, a beam centre, a
    near point and a size in the frame of one plane, only a detector that ``is_single`` has: else it is NaN.
    """

    n_fast: int
    n_slow: int
    pixel_size: float
    origin: Vector
    fast: Vector
    slow: Vector
    normal: Vector
    beam: Vector
    polarization: Vector
    vertical: Vector
    spindle: Vector
    twotheta_axis: Vector
    pivot: str
    close_distance: float
    distance: float  #: along the beam, as the reference reports it under fidelity nanobragg
    true_distance: float  #: from the crystal to where the beam meets the detector's plane
    beam_x: float  #: the beam centre as given or by default, in the convention's sense
    beam_y: float
    beam_fast: float  #: where the reference says that the direct beam falls
    beam_slow: float
    close_x: float
    close_y: float
    close_fast: float  #: the point nearest to the crystal
    close_slow: float
    size_fast: float
    size_slow: float
    panels: tuple[PlacedPanel, ...]

    @property
    def is_single(self) -> bool:
        """Whether one panel of square pixels is the whole image, so that there is a beam centre."""
        return not math.isnan(self.size_fast)

    def require_single(self, what: str) -> None:
        """Raise InputError under the name ``what`` unless one panel of square pixels is the whole image."""
        if not self.is_single:
            n = len(self.panels)
            shown = f"{n} panels" if n > 1 else "a panel of oblong pixels, or of a part of the image"
            raise InputError(
                what, "needs a detector of one panel with square pixels", shown, "HDF5 files, -o, hold any"
            )

    @property
    def org_px(self) -> tuple[float, float]:
        """XDS's ORGX, ORGY."""
        return self.close_fast / self.pixel_size + 0.5, self.close_slow / self.pixel_size + 0.5

    @property
    def dials_origin_mm(self) -> Vector:
        """The origin in the frame that the reference calls DIALS's."""
        x, y, z = self.origin
        return (1000.0 * z, 1000.0 * y, 1000.0 * -x)


def lab_axes(experiment: Parts) -> dict[str, Vector]:
    detector = experiment.detector
    frame = FRAMES[detector.convention]
    given = {
        "beam": experiment.beam.direction,
        "fast": detector.fast_axis,
        "slow": detector.slow_axis,
        "normal": detector.normal_axis,
        "twotheta": detector.twotheta_axis,
        "polarization": experiment.beam.polarization_axis,
        "spindle": experiment.rotation.axis,
    }
    axes = {name: as_vector(value or frame[name]) for name, value in given.items()}
    normal = axes["normal"]
    # The reference replaces a normal that is not exactly of length 1 by fast x slow.
    turned = (detector.fast_axis or detector.slow_axis) and detector.normal_axis is None
    exact = math.sqrt(dot(normal, normal)) == 1.0
    axes = {name: unit(v) for name, v in axes.items()}
    if turned or not exact:
        axes["normal"] = unit(cross(axes["fast"], axes["slow"]))
    if abs(dot(axes["fast"], axes["slow"])) > 0.999999:
        raise InputError("Detector.fast_axis", "must not be parallel to slow_axis", detector.fast_axis)
    if not any(cross(axes["beam"], axes["polarization"])):
        raise InputError(
            "Beam.polarization_axis", "must not be parallel to the beam", experiment.beam.polarization_axis
        )
    return axes


@dataclass(frozen=True, slots=True)
class Centres:
    """Beam centre and near point before the detector is turned, metres."""

    beam_x: float
    beam_y: float
    close_x: float
    close_y: float
    beam: tuple[float, float]  # (fast, slow)
    close: tuple[float, float]


def _metres(value: float | None) -> float | None:
    return None if value is None else value / 1000.0


def _first(*values):
    return next((value for value in values if value is not None), None)


def find_centres(d: Detector, pixel: float, size_slow: float, size_fast: float) -> Centres:
    """Beam centre by the convention's rules (section 2.2), near point, and one from the other."""
    x, y = _metres(d.beam_x_mm), _metres(d.beam_y_mm)
    near_fast = _first(None if d.org_x_px is None else (d.org_x_px - 0.5) * pixel, _metres(d.close_x_mm))
    near_slow = _first(None if d.org_y_px is None else (d.org_y_px - 0.5) * pixel, _metres(d.close_y_mm))
    close_fast, close_slow = _first(near_fast, size_fast / 2.0), _first(near_slow, size_slow / 2.0)
    close_x, close_y = _first(_metres(d.close_x_mm), close_fast), _first(_metres(d.close_y_mm), close_slow)
    beam_given = x is not None or y is not None
    near_given = near_fast is not None or near_slow is not None
    if d.convention in ("mosflm", "denzo"):
        half = 0.5 * pixel if d.convention == "mosflm" else 0.0
        x, y = _first(x, (size_slow + pixel) / 2.0), _first(y, (size_fast + pixel) / 2.0)
        beam = (y + half, x + half)
    elif d.convention == "adxv":
        x, y = _first(x, (size_fast + pixel) / 2.0), _first(y, (size_slow - pixel) / 2.0)
        beam = (x, size_slow - y)
    else:
        x, y = _first(x, close_x), _first(y, close_y)
        beam = (x, y)
    close = (close_fast, close_slow)
    if d.convention == "custom":
        close = beam
    elif beam_given and not near_given:
        close = beam  # an untilted detector does not change with the pivot
    elif near_given and not beam_given:
        beam = close
    elif d.convention in ("mosflm", "denzo", "adxv") and not near_given:
        close = beam
    return Centres(beam_x=x, beam_y=y, close_x=close_x, close_y=close_y, beam=beam, close=close)


def _pivot(d: Detector) -> str:
    if d.pivot is not None:
        return d.pivot
    if d.beam_x_mm is not None or d.beam_y_mm is not None:
        return "beam"
    if any(v is not None for v in (d.org_x_px, d.org_y_px, d.close_x_mm, d.close_y_mm)):
        return "sample"
    return "sample" if d.convention in _SAMPLE_PIVOT else "beam"


def place_detector(experiment: Parts) -> PlacedDetector:
    """Place the detector of an experiment (eq. 25; behaviour of the reference, section 2.3).

    Raises
    ------
    InputError
        If the axes are degenerate or the detector lies behind or edge-on to the crystal.
    """
    if experiment.detector.panels is not None:
        return _place_panels(experiment, experiment.detector.panels)
    d = experiment.detector
    pixel = d.pixel_mm / 1000.0
    size_slow, size_fast = d.detector_size_m
    n_slow, n_fast = d.shape
    axes = lab_axes(experiment)
    beam, fast, slow, normal = axes["beam"], axes["fast"], axes["slow"], axes["normal"]
    twotheta_axis = axes["twotheta"]
    tilt = tuple(angle / DEGREES for angle in d.rotation_deg)
    swing = d.twotheta_deg / DEGREES

    ratio = dot(beam, rotate_xyz(normal, tilt))
    if ratio == 0.0:
        ratio = sys.float_info.min
    if d.close_distance_mm is not None:
        close_distance = d.close_distance_mm / 1000.0
    else:
        close_distance = abs(ratio * (d.distance_mm / 1000.0))
    distance = close_distance / ratio

    centres = find_centres(d, pixel, size_slow, size_fast)
    pivot = _pivot(d)
    origin = (0.0, 0.0, 0.0)
    if pivot == "sample":
        origin = combine((-centres.close[0], fast), (-centres.close[1], slow), (close_distance, normal))
        origin = rotate_about(twotheta_axis, rotate_xyz(origin, tilt), swing)
    fast, slow, normal = (rotate_about(twotheta_axis, rotate_xyz(v, tilt), swing) for v in (fast, slow, normal))
    if pivot == "beam":
        origin = combine((-centres.beam[0], fast), (-centres.beam[1], slow), (distance, beam))
    if d.origin_mm is not None:
        origin = tuple(x / 1000.0 for x in d.origin_mm)

    close_fast, close_slow = -dot(origin, fast), -dot(origin, slow)
    close_distance = dot(origin, normal)
    # Less is a rounded 0: edge-on, or in the crystal.
    if not close_distance > max(NEAREST, 8.0 * sys.float_info.epsilon * length(origin)):
        raise InputError(
            "Detector",
            "must have its plane in front of the crystal, on the side its normal points to",
            f"a distance of {close_distance * 1000:g} mm along the normal",
            "check -twotheta, -detector_rot* and the axes",
        )
    obliquity = dot(beam, normal)
    true_distance = close_distance / obliquity if abs(obliquity) > 1e-12 else math.inf
    if experiment.fidelity == "physical":
        ratio = obliquity if abs(obliquity) > 1e-12 else 1e-12
    distance = close_distance / ratio
    hit = combine((distance, beam), (-1.0, origin))
    return PlacedDetector(
        n_fast=n_fast,
        n_slow=n_slow,
        pixel_size=pixel,
        origin=origin,
        fast=fast,
        slow=slow,
        normal=normal,
        beam=beam,
        polarization=axes["polarization"],
        vertical=unit(cross(beam, axes["polarization"])),
        spindle=axes["spindle"],
        twotheta_axis=twotheta_axis,
        pivot=pivot,
        close_distance=close_distance,
        distance=distance,
        true_distance=true_distance,
        beam_x=centres.beam_x,
        beam_y=centres.beam_y,
        beam_fast=dot(fast, hit),
        beam_slow=dot(slow, hit),
        close_x=centres.close_x,
        close_y=centres.close_y,
        close_fast=close_fast,
        close_slow=close_slow,
        size_fast=size_fast,
        size_slow=size_slow,
        panels=(
            PlacedPanel("p0", n_fast, n_slow, 0, 0, origin, fast, slow, normal, pixel, pixel, pixel, close_distance),
        ),
    )


# --- several panels ------------------------------------------------------------------------------


def _place_panels(experiment: Parts, nouns: tuple[Panel, ...]) -> PlacedDetector:
    """Place a detector that is made of panels (eq. 2)."""
    axes = lab_axes(experiment)
    n_slow, n_fast = experiment.detector.shape
    panels = tuple(_place_panel(noun, experiment.detector.pixel_mm) for noun in nouns)
    beam, g = axes["beam"], _nearest_to_beam(panels, axes["beam"])
    obliquity = dot(beam, g.normal)
    true_distance = g.close_distance / obliquity if abs(obliquity) > 1e-12 else math.inf
    distance = true_distance if 0.0 < true_distance < math.inf else g.close_distance
    is_single = len(panels) == 1 and g.pitch_fast == g.pitch_slow and (g.n_fast, g.n_slow) == (n_fast, n_slow)
    convention = experiment.detector.convention
    plane = _on_plane(g, beam, distance, convention) if is_single else dict.fromkeys(_OF_ONE_PLANE, math.nan)
    return PlacedDetector(
        n_fast=n_fast,
        n_slow=n_slow,
        pixel_size=max(g.pitch_fast, g.pitch_slow),
        origin=g.origin,
        fast=g.fast,
        slow=g.slow,
        normal=g.normal,
        beam=beam,
        polarization=axes["polarization"],
        vertical=unit(cross(beam, axes["polarization"])),
        spindle=axes["spindle"],
        twotheta_axis=axes["twotheta"],
        pivot="sample",
        close_distance=g.close_distance,
        distance=distance,
        true_distance=true_distance,
        **plane,
        panels=panels,
    )


#: Fields of PlacedDetector that a single panel alone has.
_OF_ONE_PLANE = (
    *("beam_x", "beam_y", "beam_fast", "beam_slow", "close_x", "close_y", "close_fast", "close_slow"),
    *("size_fast", "size_slow"),
)


def _on_plane(g: PlacedPanel, beam: Vector, distance: float, convention: str) -> dict[str, float]:
    """Where beam and nearest point fall on a single panel, along its axes and in the convention's sense, m."""
    pixel, skew = g.pitch_fast, dot(g.fast, g.slow)
    size_fast, size_slow = g.n_fast * pixel, g.n_slow * pixel

    def along_axes(point: Vector) -> tuple[float, float]:
        from_corner = combine((1.0, point), (-1.0, g.origin))
        f, s = dot(from_corner, g.fast), dot(from_corner, g.slow)
        return (f - skew * s) / (1.0 - skew * skew), (s - skew * f) / (1.0 - skew * skew)

    beam_fast, beam_slow = along_axes(scale(beam, distance))
    close_fast, close_slow = along_axes(scale(g.normal, g.close_distance))
    # The inverse of find_centres.
    half = 0.5 * pixel if convention == "mosflm" else 0.0
    beam_x, beam_y = beam_fast, beam_slow
    if convention in ("mosflm", "denzo"):
        beam_x, beam_y = beam_slow - half, beam_fast - half
    elif convention == "adxv":
        beam_y = size_slow - beam_slow
    centres = (beam_x, beam_y, beam_fast, beam_slow, close_fast, close_slow, close_fast, close_slow)
    return dict(zip(_OF_ONE_PLANE, (*centres, size_fast, size_slow), strict=True))


def _place_panel(noun: Panel, pixel_mm: float) -> PlacedPanel:
    name = str(noun.name)
    pitch_fast, pitch_slow = (p / 1000.0 for p in (noun.pixel_mm or (pixel_mm, pixel_mm)))
    fast, slow = unit(as_vector(noun.fast)), unit(as_vector(noun.slow))
    origin = as_vector(x / 1000.0 for x in noun.origin_mm)
    across = cross(fast, slow)
    normal = unit(across)
    close_distance = dot(origin, normal)
    if close_distance < 0.0:
        # Not times -1, which would make -0.
        normal, close_distance = as_vector(0.0 - x for x in normal), -close_distance
    reach = length(origin) + pitch_fast * noun.n_fast + pitch_slow * noun.n_slow
    if not close_distance > max(NEAREST, 8.0 * sys.float_info.epsilon * reach):
        raise InputError(
            f"Panel {name!r}",
            "must not have its plane through the crystal",
            f"a distance of {close_distance * 1000:g} mm along the normal",
            "origin_mm counts from the crystal",
        )
    right_angle = abs(dot(fast, slow)) < 4.0 * sys.float_info.epsilon
    return PlacedPanel(
        name=name,
        n_fast=noun.n_fast,
        n_slow=noun.n_slow,
        first_row=noun.first_row or 0,
        first_column=noun.first_column or 0,
        origin=origin,
        fast=fast,
        slow=slow,
        normal=normal,
        pitch_fast=pitch_fast,
        pitch_slow=pitch_slow,
        height=pitch_slow if right_angle else pitch_slow * length(across),
        close_distance=close_distance,
    )


def _nearest_to_beam(panels: tuple[PlacedPanel, ...], beam: Vector) -> PlacedPanel:
    """The panel whose middle lies in the direction that is nearest to the beam's."""

    def along_beam(g: PlacedPanel) -> float:
        half_fast, half_slow = 0.5 * g.n_fast * g.pitch_fast, 0.5 * g.n_slow * g.pitch_slow
        return dot(unit(combine((1.0, g.origin), (half_fast, g.fast), (half_slow, g.slow))), beam)

    return max(panels, key=along_beam)


# --- pixels --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Curve:
    """How a curved detector is bent; the fields of kernels.parameters.Panel that say so (eq. 3)."""

    curve_radius: float
    curve_fast_sign: float
    curve_slow_sign: float
    beam_fast: float  #: where the direct beam meets the plane, m
    beam_slow: float


def curve_of(detector: PlacedDetector) -> Curve:
    """The curve that touches a single panel's plane where the direct beam meets it."""
    # Which way a rotation about one axis carries the beam along the other (eq. 3).
    turn_fast = dot(cross(detector.slow, detector.beam), detector.fast)
    turn_slow = dot(cross(detector.fast, detector.beam), detector.slow)
    hits = 0.0 < detector.true_distance < math.inf
    hit = detector.true_distance if hits else detector.distance
    to_hit = tuple(hit * b - o for b, o in zip(detector.beam, detector.origin, strict=True))
    return Curve(
        curve_radius=hit,
        curve_fast_sign=math.copysign(1.0, turn_fast),
        curve_slow_sign=math.copysign(1.0, turn_slow),
        beam_fast=sum(f * x for f, x in zip(detector.fast, to_hit, strict=True)),
        beam_slow=sum(s * x for s, x in zip(detector.slow, to_hit, strict=True)),
    )


def pixel_positions(detector: PlacedDetector, *, curved: bool) -> np.ndarray:
    """Centres of all pixels, float64 (n_slow, n_fast, 3), metres, lab frame; NaN where no panel lies (eq. 2, 3)."""
    positions = np.full((detector.n_slow, detector.n_fast, 3), np.nan)
    for g in detector.panels:
        fast = ((np.arange(g.n_fast) + 0.5) * g.pitch_fast)[None, :]
        slow = ((np.arange(g.n_slow) + 0.5) * g.pitch_slow)[:, None]
        part = positions[g.rows, g.columns]
        if curved:
            part[...] = curve_points(detector, fast, slow)
            continue
        for axis in range(3):
            part[..., axis] = fast * g.fast[axis] + slow * g.slow[axis] + g.origin[axis]
    return positions


def curve_points(detector: PlacedDetector, fast: np.ndarray, slow: np.ndarray) -> np.ndarray:
    """Points of the curved detector, (n_slow, n_fast, 3), from their places along its axes, m (eq. 3)."""
    c = curve_of(detector)
    by_fast = c.curve_fast_sign * (fast - c.beam_fast) / c.curve_radius
    by_slow = c.curve_slow_sign * (slow - c.beam_slow) / c.curve_radius
    beam = scale(detector.beam, c.curve_radius)
    bent = rotate_by(*detector.slow, *beam, np.sin(by_fast), np.cos(by_fast))
    return np.stack(rotate_by(*detector.fast, *bent, np.sin(by_slow), np.cos(by_slow)), axis=-1)
