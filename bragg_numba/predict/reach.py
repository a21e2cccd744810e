"""How far around the Ewald sphere reflections matter, and which of them may meet the detector."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from bragg_numba.kernels import physics
from bragg_numba.kernels._jit import uncompiled
from bragg_numba.kernels.parameters import Panel
from bragg_numba.plan.plan import Plan

#: Sources of which it is remembered how far a panel's rays lie from them.
FEW_SOURCES = 64


@dataclass(frozen=True, slots=True)
class Search:
    """Where to look for reflections, for kernels.spots."""

    stars: np.ndarray  #: float64 (orientations, 3, 3), columns a*, b*, c*, 1/m
    slack: float  #: distance from the first step's Ewald sphere, 1/m
    q_max: float  #: longest scattering vector, 1/m
    limits: np.ndarray  #: int64 (2,): largest abs(h) and abs(k)


def search(plan: Plan, reach: float) -> Search:
    """Where to look for reflections that matter up to ``reach`` (1/m) from the Ewald sphere of any step."""
    stars = reciprocal_cells(plan)
    spread, source_spread = spreads(plan, stars)
    q_max = min(longest_scattering(plan) + reach + source_spread, 2.2 / plan.sources.wavelength.min())
    edges = np.linalg.norm(plan.cells.reshape(-1, 3, 3)[0], axis=1)
    limits = np.array([math.ceil(q_max * edges[0]), math.ceil(q_max * edges[1])], dtype=np.int64)
    return Search(stars, reach + spread * q_max + source_spread, q_max, limits)


def reciprocal_cells(plan: Plan) -> np.ndarray:
    """float64 (orientations, 3, 3): columns a*, b*, c* of every orientation, 1/m."""
    return np.ascontiguousarray(np.linalg.inv(plan.cells.reshape(-1, 3, 3)))


def spreads(plan: Plan, stars: np.ndarray) -> tuple[float, float]:
    """How much farther than the first step's any other step's point may be: part of abs(q), and 1/m."""
    turn = (stars - stars[0]) @ np.linalg.inv(stars[0])
    spread = float(np.linalg.norm(turn, axis=(1, 2)).max())  # Frobenius: never less than the true bound
    per_wavelength = 1.0 / plan.sources.wavelength
    centres = plan.sources.incident * per_wavelength[:, None]
    moved = np.linalg.norm(centres - centres[0], axis=1) + np.abs(per_wavelength - per_wavelength[0])
    return spread, float(moved.max())


def longest_scattering(plan: Plan) -> float:
    """Length of the longest scattering vector that meets the region of interest, 1/m; or the sphere's diameter."""
    incident = np.ascontiguousarray(plan.sources.incident)
    look = _farthest_ray if len(incident) <= FEW_SOURCES else _farthest_ray.__wrapped__
    longest = max(look(panel, plan.roi, incident.tobytes()) for panel in plan.panels)
    if longest > 1.2:  # beyond about 70 degrees: edges no longer bound the inside
        longest = 2.0
    return longest / plan.sources.wavelength.min() * 1.01


@lru_cache(maxsize=1024)
def _farthest_ray(panel: Panel, roi: tuple[int, int, int, int], incident: bytes) -> float:
    """Largest distance between an incident direction and one to a panel's part of the region of interest.

    ``incident``: float64 (n, 3). The frames of a series ask the same again and again.
    """
    left, right = max(roi[0] - panel.first_column, 0), min(roi[1] + 1 - panel.first_column, panel.n_fast)
    top, bottom = max(roi[2] - panel.first_row, 0), min(roi[3] + 1 - panel.first_row, panel.n_slow)
    if right <= left or bottom <= top:
        return 0.0
    place = uncompiled(physics.curved_position if panel.curved else physics.flat_position)
    directions = np.frombuffer(incident).reshape(-1, 3)
    longest = 0.0
    # Along the edges: on a flat detector the corners would do, on a curved one they need not.
    for part in np.linspace(0.0, 1.0, 17):
        fast, slow = left + part * (right - left), top + part * (bottom - top)
        for f, s in ((fast, top), (fast, bottom), (left, slow), (right, slow)):
            at = np.array(place(panel, f * panel.pitch_fast, s * panel.pitch_slow, 0.0))
            ray = at / np.linalg.norm(at)
            longest = max(longest, float(np.linalg.norm(ray - directions, axis=1).max()))
    return longest
