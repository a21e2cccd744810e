"""Where the detector stands: conventions, beam centres, pivots, tilts (docs/physics.md, section 2)."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass

from bragg_numba.conventions import DEGREES, FRAMES
from bragg_numba.errors import InputError
from bragg_numba.experiment import Detector, Experiment
from bragg_numba.plan.vectors import Vector, as_vector, combine, cross, dot, length, rotate_about, rotate_xyz, unit

#: Conventions whose detector turns about the crystal unless told otherwise.
_SAMPLE_PIVOT = ("xds", "dials")

#: A plane closer to the crystal than this, metres, passes through it.
NEAREST = 1e-13


@dataclass(frozen=True, slots=True)
class PlacedDetector:
    """The detector as it finally stands; metres, lab frame. ``origin`` is the corner of pixel (0, 0)."""

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

    @property
    def org_px(self) -> tuple[float, float]:
        """XDS's ORGX, ORGY."""
        return self.close_fast / self.pixel_size + 0.5, self.close_slow / self.pixel_size + 0.5

    @property
    def dials_origin_mm(self) -> Vector:
        """The origin in the frame that the reference calls DIALS's."""
        x, y, z = self.origin
        return (1000.0 * z, 1000.0 * y, 1000.0 * -x)


def lab_axes(experiment: Experiment) -> dict[str, Vector]:
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


def place_detector(experiment: Experiment) -> PlacedDetector:
    """Place the detector of an experiment (eq. 25; behaviour of the reference, section 2.3).

    Raises
    ------
    InputError
        If the axes are degenerate or the detector lies behind or edge-on to the crystal.
    """
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
    )
