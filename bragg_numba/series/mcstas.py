"""From the laboratory, which each convention lays out in its own way, to the frame of McStas that NXmx asks for."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from bragg_numba.conventions import FRAMES
from bragg_numba.experiment import Experiment
from bragg_numba.experiment.placing import PlacedDetector
from bragg_numba.io.nxmx import McStasGeometry, McStasPanel


def mcstas_rotation(experiment: Experiment, detector: PlacedDetector) -> np.ndarray:
    """Return the proper rotation (3, 3) from the laboratory to McStas.

    The beam goes to +z. "Up" is against the slow axis that the convention's untilted detector has: this gives
    (-z, y, x) for the frame of MOSFLM, (-x, -y, z) for those of XDS and DIALS, and nothing to do for ADXV's.
    """
    beam = np.array(detector.beam)
    frame = FRAMES[experiment.detector.convention]
    for down in (frame["slow"], frame["fast"]):
        up = -np.array(down)
        up = up - (up @ beam) * beam
        if np.linalg.norm(up) > 1e-3:
            break
    up = up / np.linalg.norm(up)
    # + 0.0 turns -0.0 into 0.0
    return np.array([np.cross(up, beam), up, beam]) + 0.0


@lru_cache(maxsize=16)  # the frames of a series ask for the same one's
def beam_center_px(detector: PlacedDetector) -> tuple[float, float]:
    """Where the beam meets a detector's plane, pixels along fast and slow; NaN where it has several panels."""
    if not detector.is_single:
        return float("nan"), float("nan")
    hits = np.isfinite(detector.true_distance)
    hit = detector.true_distance * np.array(detector.beam) - np.array(detector.origin) if hits else np.zeros(3)
    # The axes of a custom detector need not be at right angles.
    axes = np.array([detector.fast, detector.slow]).T
    fast, slow = np.linalg.lstsq(axes, hit, rcond=None)[0] / detector.pixel_size
    return float(fast), float(slow)


def mcstas_geometry(experiment: Experiment, detector: PlacedDetector) -> McStasGeometry:
    """Turn a placed detector into the McStas frame."""
    turn = mcstas_rotation(experiment, detector)
    hits = np.isfinite(detector.true_distance)
    distance = detector.true_distance if hits else detector.close_distance
    panels = tuple(
        McStasPanel(
            name=g.name,
            origin=turn @ np.array(g.origin) + 0.0,
            fast=turn @ np.array(g.fast) + 0.0,
            slow=turn @ np.array(g.slow) + 0.0,
            pitch_fast=g.pitch_fast,
            pitch_slow=g.pitch_slow,
            n_fast=g.n_fast,
            n_slow=g.n_slow,
            first_row=g.first_row,
            first_column=g.first_column,
        )
        for g in detector.panels
    )
    return McStasGeometry(
        rotation=turn,
        origin=turn @ np.array(detector.origin) + 0.0,
        fast=turn @ np.array(detector.fast) + 0.0,
        slow=turn @ np.array(detector.slow) + 0.0,
        spindle=turn @ np.array(detector.spindle) + 0.0,
        pixel_size=detector.pixel_size,
        n_fast=detector.n_fast,
        n_slow=detector.n_slow,
        distance=float(distance),
        beam_center_px=beam_center_px(detector),
        panels=panels,
        is_single=detector.is_single,
    )
