"""A command line of nonBragg, flattened: where that program puts its detector, and what it scatters from."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass

import numpy as np

from bragg_numba.conventions import DEGREES
from bragg_numba.dialect.nonbragg import Command, background_values, beam_values
from bragg_numba.errors import InputError
from bragg_numba.experiment import Background, Beam
from bragg_numba.experiment.vectors import Vector, as_vector, combine, cross, dot, rotate_about, rotate_xyz, unit
from bragg_numba.kernels import parameters
from bragg_numba.plan.amorphous import Amorphous, amorphous_of
from bragg_numba.plan.sources import list_sources
from bragg_numba.plan.steps import phi_steps

#: Pixels along an edge, at most.
MOST_PIXELS = 1_000_000


@dataclass(frozen=True, slots=True)
class NonbraggPlan:
    """A command line of nonBragg: what to render, and what the headers of its images say."""

    amorphous: Amorphous
    placed: Placed
    wavelength_A: float
    phi_deg: float
    osc_deg: float
    twotheta_deg: float


@dataclass(frozen=True, slots=True)
class Placed:
    """nonBragg's detector as it stands; metres, lab frame."""

    n_fast: int
    n_slow: int
    pixel: float
    beam: Vector
    polarization: Vector
    vertical: Vector
    origin: Vector
    fast: Vector
    slow: Vector
    normal: Vector
    close_distance: float
    distance: float  #: the radius of a curved one
    size_slow: float

    @property
    def beam_centre(self) -> tuple[float, float]:
        """Where the direct beam falls by nonBragg's reckoning, along fast and slow."""
        hit = combine((self.distance, self.beam), (-1.0, self.origin))
        return dot(self.fast, hit), dot(self.slow, hit)

    @property
    def near_point(self) -> tuple[float, float]:
        """The point nearest to the sample, along fast and slow."""
        return -dot(self.origin, self.fast), -dot(self.origin, self.slow)


def plan_nonbragg(command: Command) -> NonbraggPlan:
    """Flatten a command line of nonBragg.

    Raises
    ------
    InputError
        If a table is missing or unreadable, or a value cannot be honoured.
    """
    given = command.given
    if not command.files:
        raise InputError("-stol", "must name a table of sin(theta)/lambda and F", hint="or -4stol, or -Q")
    beam = Beam(**beam_values(command))
    abscissa, file = command.files[-1]
    background = Background.from_file(file, abscissa=abscissa, **background_values(command))
    d = place_nonbragg(command)
    oversample = max(given.get("oversample", 1), 1)
    if oversample > 10_000:
        raise InputError("-oversample", "must lie between 1 and 10000", oversample)
    panel = _panel(d, beam, oversample, curved="curved" in given, point_pixel="point_pixel" in given)
    # It weighs sources as their file says, and divides by their number.
    rows = beam.sources
    weights = None if rows is None else np.array([1.0 if row[3] is None else row[3] for row in rows])
    phi = phi_steps(
        _unless_negative(given.get("osc")),
        _unless_zero(given.get("phistep")),
        None if given.get("phisteps", -1) < 0 else max(given["phisteps"], 1),
        one_degree=1.0,
    )
    amorphous = amorphous_of(
        (background,),
        beam,
        d,
        (panel,),
        list_sources(beam, d, physical=False),
        _region(given.get("roi", (-1, -1, -1, -1)), d),
        np.zeros((0, 0), dtype=np.bool_),
        weights=weights,
        arcs_of_lab="curved" in given,
    )
    angles = given.get("phi", 0.0), phi.range, given.get("twotheta", 0.0)
    return NonbraggPlan(amorphous, d, beam.wavelength_A, *angles)


def _unless_negative(value: float | None) -> float | None:
    return None if value is None or value < 0.0 else value


def _unless_zero(value: float | None) -> float | None:
    return None if value is None or value <= 0.0 else value


def _region(roi, d: Placed) -> tuple[int, int, int, int]:
    """fast_min, fast_max, slow_min, slow_max inside the frame; a negative one stands for the frame's end."""
    left, right, top, bottom = roi
    last_fast, last_slow = d.n_fast - 1, d.n_slow - 1
    right, bottom = (last_fast if right < 0 else right), (last_slow if bottom < 0 else bottom)
    return max(left, 0), min(right, last_fast), max(top, 0), min(bottom, last_slow)


def _pixels(command: Command, axis: str, pixel: float) -> tuple[float, int]:
    """Size of the detector along x or y, and its pixels."""
    n = command.given.get(f"detpixels_{axis}", 0)
    size = pixel * n if n > 0 else command.metres(f"detsize_{axis}", 102.4e-3)
    count = n if n > 0 else math.ceil(min(size / pixel, 1e12))
    if not 1 <= count <= MOST_PIXELS:
        raise InputError(f"-detsize_{axis}", f"must hold 1 to {MOST_PIXELS} pixels", count)
    return size, count


def place_nonbragg(command: Command) -> Placed:
    """Place the detector as nonBragg does: what it turns about, and which centre counts, says the last flag.

    Raises
    ------
    InputError
        If it has no pixels, lies behind or edge-on to the sample, or its axes are degenerate.
    """
    given = command.given
    pixel = command.metres("pixel", 1e-4)
    if not 1e-9 <= pixel <= 1e4:
        raise InputError("-pixel", "must lie between 1e-6 and 1e7", given["pixel"])
    (size_x, n_fast), (size_y, n_slow) = (_pixels(command, axis, pixel) for axis in "xy")
    close_x = given["ORGX"] * pixel if "ORGX" in given else command.metres("Xclose", (size_x - pixel) / 2.0)
    close_y = given["ORGY"] * pixel if "ORGY" in given else command.metres("Yclose", (size_y + pixel) / 2.0)
    beam_x, beam_y = command.metres("Xbeam", close_x), command.metres("Ybeam", close_y)
    beam = _axis(given, "beam_vector", (1.0, 0.0, 0.0))
    polarization = _axis(given, "polar_vector", (0.0, 0.0, 1.0))
    fast, slow = _axis(given, "fdet_vector", (0.0, 0.0, 1.0)), _axis(given, "sdet_vector", (0.0, -1.0, 0.0))
    vertical, normal = unit(cross(beam, polarization)), unit(cross(fast, slow))
    if not any(vertical):
        raise InputError("-polar_vector", "must not be parallel to the beam", polarization)
    if not any(normal):
        raise InputError("-fdet_vector", "must not be parallel to -sdet_vector", fast)
    tilt = (given.get("rotx", 0.0) / DEGREES, given.get("roty", 0.0) / DEGREES, given.get("rotz", 0.0) / DEGREES)
    swing, axis = given.get("twotheta", 0.0) / DEGREES, as_vector(given.get("twotheta_axis", (0.0, 1.0, 0.0)))
    ratio = dot(beam, rotate_xyz(normal, tilt)) or sys.float_info.min
    close = command.metres("close_distance", ratio * command.metres("distance", 0.1))

    def swung(v: Vector) -> Vector:
        return rotate_about(axis, rotate_xyz(v, tilt), swing)

    origin = swung(combine((-close_x, fast), (-close_y, slow), (close, normal)))
    fast, slow, normal = swung(fast), swung(slow), swung(normal)
    if command.pivot == "beam":
        origin = combine((-beam_x, fast), (-beam_y, slow), (close / ratio, beam))
    close_distance = dot(origin, normal)
    if not close_distance > 1e-13:
        raise InputError(
            "the detector",
            "must have its plane in front of the sample, on the side its normal points to",
            f"a distance of {close_distance * 1000:g} mm along the normal",
            "check -twotheta, -detector_rot*, -fdet_vector and -sdet_vector",
        )
    return Placed(
        n_fast=n_fast,
        n_slow=n_slow,
        pixel=pixel,
        beam=beam,
        polarization=polarization,
        vertical=vertical,
        origin=origin,
        fast=fast,
        slow=slow,
        normal=normal,
        close_distance=close_distance,
        distance=close_distance / ratio,
        size_slow=size_y,
    )


def _axis(given: dict, key: str, default: Vector) -> Vector:
    axis = unit(as_vector(given.get(key, default)))
    if not any(axis):
        raise InputError(f"-{key}", "must not be the zero vector", given[key])
    return axis


def _panel(d: Placed, beam: Beam, oversample: int, *, curved: bool, point_pixel: bool) -> parameters.Panel:
    sub = d.pixel / oversample
    return parameters.Panel(
        *d.origin,
        *d.fast,
        *d.slow,
        *d.normal,
        *d.beam,
        *d.polarization,
        pitch_fast=d.pixel,
        pitch_slow=d.pixel,
        height=d.pixel,
        subpixel_fast=sub,
        subpixel_slow=sub,
        half_fast=sub / 2.0,
        half_slow=sub / 2.0,
        close_distance=d.close_distance,
        attenuation=0.0,
        layer_step=0.0,
        curve_radius=d.distance,
        curve_fast_sign=1.0,
        curve_slow_sign=1.0,
        beam_fast=0.0,
        beam_slow=0.0,
        kahn=beam.polarization,
        dmin=0.0,
        n_fast=d.n_fast,
        n_slow=d.n_slow,
        first_row=0,
        first_column=0,
        oversample=oversample,
        layers=1,
        curved=curved,
        point_pixel=point_pixel,
        polarized=beam.polarized,
        has_sensor=False,
    )
