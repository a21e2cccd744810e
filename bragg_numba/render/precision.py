"""Which arithmetic renders a plan: the error bound of the tile kernels (docs/physics.md, section 9)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bragg_numba.experiment.crystal import SHAPES
from bragg_numba.plan.plan import Plan

#: Largest error of N h, in turns, at which an image stays within 1e-5 of each pixel + 2e-7 of the brightest.
PHASE_BUDGET = 4.3e-7

#: Pixels in a group: wide groups share more work, narrow ones carry smaller errors. Each choice is compiled.
LANE_CHOICES = (8, 4, 2)

_EPS = 2.0**-24

#: A near_half that no phase reaches.
NEVER = 2.0


@dataclass(frozen=True, slots=True)
class Choice:
    """``lanes`` pixels in a group, or 0 for float64; ``error_turns`` is the bound; ``reason`` says why."""

    lanes: int
    error_turns: float
    reason: str
    near_half: float = 0.5  #: float64 decides which index is nearest to phases further than this from one


def phase_error(plan: Plan, lanes: int) -> float:
    """Bound of the error of N h (turns) in float32 phases that span a group of ``lanes`` pixels (eq. 24).

    The phase between a group's centre and its last pixel is at most (a / wavelength) |d - d_centre|, and
    float32 carries it with a relative error of 2^-24.
    """
    counts = _effective_counts(plan)
    error = float((counts * (_spans(plan, lanes) + 2.0**-13)).max() * _EPS)
    if plan.experiment.crystal.shape == "round":
        # Its fringes run on the radius itself, which float32 holds to half a unit of its last place.
        error += float(counts.max()) * 0.25 * _EPS
    return error


def _spans(plan: Plan, lanes: int) -> np.ndarray:
    """Largest change of h, k, l between the centre of a group and its last pixel."""
    half = 0.5 * (lanes - 1) * plan.geometry.pixel_size
    edges = np.sqrt((plan.cells.reshape(-1, 3, 3) ** 2).sum(axis=2)).max(axis=0)
    return edges / plan.sources.wavelength.min() * half / _nearest_distance(plan)


def _near_half(plan: Plan, lanes: int) -> float:
    """Where float32 still knows the nearest index: 1/2 less twice the error of h.

    Where the index selects no structure factor and the axes are orthogonal, both sides of a half are equal.
    """
    lattice = plan.lattice
    slanted = max(abs(lattice.metric_hk), abs(lattice.metric_hl), abs(lattice.metric_kl))
    if not plan.lookup.has_table and slanted <= 1e-9 * min(lattice.metric_hh, lattice.metric_kk, lattice.metric_ll):
        return NEVER
    error = 0.5 * _EPS + 4.0 * _EPS * (float(_spans(plan, lanes).max()) + 2.0**-13)
    return 0.5 - 2.0 * error


def _effective_counts(plan: Plan) -> np.ndarray:
    """How many fringes a unit of h, k, l holds: the cell counts, or the metric's square roots."""
    lattice = plan.lattice
    if plan.experiment.crystal.shape == SHAPES[0]:
        return np.array([lattice.n_a, lattice.n_b, lattice.n_c])
    metric = np.array([lattice.metric_hh, lattice.metric_kk, lattice.metric_ll])
    # Per unit of radius round changes no faster than the square crystal does per fringe; the flanks of a
    # gauss fall by exp(-3.2 r^2), and a frame may show nothing but flanks.
    return (1.0 if plan.experiment.crystal.shape == "round" else 1.7) * np.sqrt(metric)


def _nearest_distance(plan: Plan) -> float:
    """Distance from the crystal to the nearest point of the detector's plane (a bound: it may lie outside)."""
    return plan.geometry.close_distance


def choose(plan: Plan, precision: str) -> Choice:
    """Choose the arithmetic for a plan; ``precision`` is auto, tile or float64."""
    if precision == "float64":
        return Choice(0, 0.0, "asked for")
    reason = _needs_float64(plan)
    if reason:
        return Choice(0, 0.0, reason)
    for lanes in LANE_CHOICES:
        error = phase_error(plan, lanes)
        if error <= PHASE_BUDGET:
            return Choice(lanes, error, f"phase error at most {error:.1e} turns", _near_half(plan, lanes))
    if precision == "tile":
        reason = f"asked for, with a phase error of up to {error:.1e} turns"
        return Choice(lanes, error, reason, _near_half(plan, lanes))
    return Choice(0, 0.0, f"float32 phases could be wrong by {error:.1e} turns")


def _needs_float64(plan: Plan) -> str:
    """Why only the float64 kernel can render this plan; empty if that is not so."""
    rules = plan.rules
    if plan.geometry.curved:
        return "a curved detector"
    if plan.lookup.interpolate:
        return "tricubic interpolation"
    if rules.running_thick or rules.running_polar or rules.running_omega:
        return "running products of -oversample_*"
    if plan.table.size >= 2**24:
        return "a structure factor table of 2^24 cells or more"
    # float32 sums of a chunk of terms must not overflow, nor the squares underflow
    strongest = float(np.abs(plan.table).max()) ** 2
    volume_squared = float(np.prod([float(n) ** 2 for n in plan.cell_counts]))
    if max(strongest, 1.0) * volume_squared > 1e34 or 0.0 < strongest < 1e-25:
        return "amplitudes beyond the range of float32"
    return ""
