"""A sketch of a detector for notebooks: outlines of its panels as the crystal sees them, and rings."""

from __future__ import annotations

import math

import numpy as np

from bragg_numba.errors import BraggError
from bragg_numba.experiment.placing import Parts, PlacedDetector, place_detector

#: Sides of the sketch in pixels of the screen.
_SIDE = 240

#: Resolutions that rings may have, angstrom, and how many there are.
_RINGS_A = (50, 20, 10, 7, 5, 4, 3, 2.5, 2, 1.7, 1.5, 1.3, 1.2, 1.1, 1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)
_MOST_RINGS = 4

#: Panels that are still drawn one by one.
_MOST_PANELS = 1024


def sketch(experiment: Parts) -> str:
    """Return an SVG of the detector, an empty text where it cannot be placed.

    Directions are drawn stereographically: the beam is in the middle, what scatters by 2 theta lies at tan(theta), and
    rings are circles for any detector. Fast runs to the right, slow downwards on the panel nearest to the beam.
    """
    try:
        placed = place_detector(experiment)
    except BraggError:
        return ""
    panels = [_outline(placed, corners) for corners in _corners(placed)]
    far = max((float(np.hypot(*outline.T).max()) for outline in panels), default=0.0)
    if not panels or not 0.0 < far < 1e3:
        return ""
    scale = (_SIDE / 2.0 - 6.0) / far
    middle = _SIDE / 2.0
    parts = []
    for outline in panels if len(panels) <= _MOST_PANELS else ():
        points = " ".join(f"{middle + scale * x:.1f},{middle + scale * y:.1f}" for x, y in outline)
        parts.append(f'<polygon points="{points}" fill="#d9dee5" stroke="#5b626d" stroke-width="0.7"/>')
    for resolution, radius in _rings(experiment.beam.wavelength_A, far):
        r = scale * radius
        parts.append(f'<circle cx="{middle}" cy="{middle}" r="{r:.1f}" fill="none" stroke="#2f78bd"/>')
        parts.append(f'<text x="{middle + 2}" y="{middle - r + 11:.1f}" fill="#1b5c99">{resolution:g} Å</text>')
    cross = f"M{middle - 5} {middle}h10M{middle} {middle - 5}v10"
    parts.append(f'<path d="{cross}" stroke="#128a3a" fill="none"/>')
    head = f'<svg width="{_SIDE}" height="{_SIDE}" viewBox="0 0 {_SIDE} {_SIDE}" font-size="10" role="img"'
    return f'{head} aria-label="the detector as the crystal sees it">{"".join(parts)}</svg>'


def _corners(placed: PlacedDetector) -> list[np.ndarray]:
    """The corners of each panel, (4, 3), metres."""
    found = []
    for g in placed.panels:
        fast = g.n_fast * g.pitch_fast * np.array(g.fast)
        slow = g.n_slow * g.pitch_slow * np.array(g.slow)
        found.append(np.array(g.origin) + np.array([0 * fast, fast, fast + slow, slow]))
    return found


def _outline(placed: PlacedDetector, corners: np.ndarray) -> np.ndarray:
    """Points (n, 2) around a panel, right and down, in tangents of half the scattering angle."""
    beam = np.array(placed.beam)
    right = _across(np.array(placed.fast), beam)
    down = np.cross(beam, right)
    if down @ np.array(placed.slow) < 0.0:
        down = -down
    steps = np.linspace(0.0, 1.0, 8, endpoint=False)[:, None]
    around = np.concatenate([a + steps * (b - a) for a, b in zip(corners, np.roll(corners, -1, axis=0), strict=True)])
    rays = around / np.linalg.norm(around, axis=1)[:, None]
    along = np.maximum(1.0 + rays @ beam, 1e-6)
    return np.stack([rays @ right, rays @ down], axis=1) / along[:, None]


def _across(vector: np.ndarray, beam: np.ndarray) -> np.ndarray:
    """The unit vector across the beam that is nearest to another; any where that is along the beam."""
    for one in (vector, np.eye(3)[np.argmin(np.abs(beam))]):
        part = one - (one @ beam) * beam
        if np.linalg.norm(part) > 1e-6:
            break
    return part / np.linalg.norm(part)


def _rings(wavelength_A: float, far: float) -> list[tuple[float, float]]:
    """Resolutions, and tangents of half their angles, of a few rings that are told apart."""
    found: list[tuple[float, float]] = []
    for resolution in _RINGS_A:
        sine = wavelength_A / (2.0 * resolution)
        if sine >= 1.0 or len(found) == _MOST_RINGS:
            break
        radius = math.tan(math.asin(sine))
        last = found[-1][1] if found else 0.0
        if last + far / 6.0 < radius < far:
            found.append((resolution, radius))
    return found
