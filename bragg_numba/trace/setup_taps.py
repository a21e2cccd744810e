"""What the reference prints once, while it places the detector: axes, rotations, the terms of the origin."""

from __future__ import annotations

import math

from bragg_numba.conventions import DEGREES
from bragg_numba.experiment.placing import find_centres, lab_axes
from bragg_numba.experiment.vectors import Vector, rotate_about, rotate_xyz, scale
from bragg_numba.plan.plan import Plan
from bragg_numba.trace.taps import number

__all__ = ["setup_lines", "setup_taps"]

_DIRECTIONS: tuple[Vector, ...] = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
_AXES = (("fdet", "fast"), ("sdet", "slow"), ("odet", "normal"))


def setup_taps(plan: Plan, panel: int | None = 0) -> dict[str, float | str | tuple]:
    """Return the set-up taps by name, in the order of computation.

    Of a detector made of panels they are those of one: its name, where it lies in the image, place and axes. None is
    a pixel of no panel.

    ``term_*``, ``Fbeam_m`` and ``Sbeam_m`` exist where the detector turns about the beam's spot
    (``-pivot beam``) and has no origin given. Rotations are flat tuples of nine, row by row.
    """
    experiment, detector = plan.experiment, plan.experiment.detector
    if detector.panels is not None:
        return {"detector_convention": detector.convention.upper(), **_panel_taps(plan, panel)}
    tilt = tuple(angle / DEGREES for angle in detector.rotation_deg)
    swing = detector.twotheta_deg / DEGREES
    axes = lab_axes(experiment)
    turned = {name: rotate_xyz(axes[role], tilt) for name, role in _AXES}
    taps: dict = {
        "detector_convention": detector.convention.upper(),
        "angles_rad": (*tilt, swing),
        "beam_center_m": (
            plan.detector.beam_x / 1000.0,
            plan.detector.beam_y / 1000.0,
            plan.detector.pixel_size * 1000.0,
        ),
    }
    taps |= {f"initial_{name}": axes[role] for name, role in _AXES}
    taps |= {
        "Rx": _matrix((tilt[0], 0.0, 0.0)),
        "Ry": _matrix((0.0, tilt[1], 0.0)),
        "Rz": _matrix((0.0, 0.0, tilt[2])),
        "R_total": _matrix(tilt),
    }
    taps |= {f"{name}_after_rotz": turned[name] for name, _ in _AXES}
    taps["twotheta_axis"] = axes["twotheta"]
    taps |= {f"{name}_after_twotheta": rotate_about(axes["twotheta"], turned[name], swing) for name, _ in _AXES}
    if plan.detector.pivot == "beam" and detector.origin_mm is None:
        taps |= _origin_terms(plan, axes["beam"], rotate_xyz(axes["normal"], tilt))
    taps["pix0_vector"] = plan.detector.origin
    return taps


def _panel_taps(plan: Plan, panel: int | None) -> dict[str, str | tuple]:
    if panel is None:
        return {}
    g = plan.detector.panels[panel]
    return {
        "panel": g.name,
        "panel_corner_px": (g.first_row, g.first_column),
        "panel_fast": g.fast,
        "panel_slow": g.slow,
        "panel_normal": g.normal,
        "panel_pitch_m": (g.pitch_fast, g.pitch_slow),
        "pix0_vector": g.origin,
    }


def _matrix(angles: Vector) -> tuple[float, ...]:
    """Rotation about x, then y, then z, row by row."""
    columns = [rotate_xyz(direction, angles) for direction in _DIRECTIONS]
    return tuple(column[row] for row in range(3) for column in columns)


def _origin_terms(plan: Plan, beam: Vector, normal: Vector) -> dict[str, float | Vector]:
    """Terms of the origin: origin = term_fast + term_slow + term_beam."""
    d = plan.experiment.detector
    size_slow, size_fast = d.detector_size_m
    centres = find_centres(d, plan.detector.pixel_size, size_slow, size_fast)
    ratio = math.fsum(b * n for b, n in zip(beam, normal, strict=True)) or 1.0
    # The distance along the beam before two-theta; the plan keeps the one after it.
    distance = d.close_distance_mm / 1000.0 / ratio if d.close_distance_mm is not None else d.distance_mm / 1000.0
    if d.close_distance_mm is None:
        distance = math.copysign(distance, ratio)
    beam_fast, beam_slow = centres.beam
    return {
        "Fbeam_m": beam_fast,
        "Sbeam_m": beam_slow,
        "distance_m": distance,
        "term_fast": scale(plan.detector.fast, -beam_fast),
        "term_slow": scale(plan.detector.slow, -beam_slow),
        "term_beam": scale(beam, distance),
    }


def setup_lines(taps: dict) -> list[str]:
    """Print set-up taps as the reference does: ``TRACE_C:name=value``, its repetitions included."""
    if "R_total" not in taps:  # panels stand where they are given
        return [_line(name, value) for name, value in taps.items()]
    turned = [f"{name}_after_rotz" for name, _ in _AXES]
    swung = [f"{name}_after_twotheta" for name, _ in _AXES]
    # The reference prints the axes again when it has them all, the final ones under both names.
    final = {**taps, **{before: taps[after] for before, after in zip(turned, swung, strict=True)}}
    axes = (*turned, "twotheta_axis", *swung)
    rest = [name for name in taps if name not in axes]
    first = rest.index("R_total") + 1
    lines = [_line(name, taps[name]) for name in (*axes, *rest[:first])]
    lines += [_line(name, final[name]) for name in axes]
    if taps["detector_convention"] == "MOSFLM" and "Fbeam_m" in taps:
        beam = " ".join(number(part / taps["distance_m"]) for part in taps["term_beam"])
        text = f"Fbeam←Ybeam_mm(+0.5px),Sbeam←Xbeam_mm(+0.5px),beam_vec=[{beam}]"
        lines.append(f"TRACE_C:convention_mapping={text}")
    return lines + [_line(name, taps[name]) for name in rest[first:]]


def _line(name: str, value) -> str:
    if isinstance(value, str):
        text = value
    elif name == "angles_rad":
        text = " ".join(f"{k}:{number(v)}" for k, v in zip(("rotx", "roty", "rotz", "twotheta"), value, strict=True))
    elif name == "beam_center_m":
        text = " ".join(f"{k}:{number(v)}" for k, v in zip(("X", "Y", "pixel_mm"), value, strict=True))
    elif isinstance(value, tuple) and len(value) == 9:
        text = "[" + "; ".join(" ".join(number(v) for v in value[i : i + 3]) for i in (0, 3, 6)) + "]"
    elif isinstance(value, tuple):
        text = " ".join(number(v) for v in value)
    else:
        text = number(value)
    return f"TRACE_C:{name}={text}"
