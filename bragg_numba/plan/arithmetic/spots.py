"""What the engine that goes reflection by reflection can render, and in which arithmetic."""

from __future__ import annotations

import math
from dataclasses import dataclass

from bragg_numba.errors import InputError
from bragg_numba.kernels.parameters import GAUSS, ROUND, SHAPE_NAMES, SQUARE, TOPHAT
from bragg_numba.plan.arithmetic.cpu import (
    FARTHEST,
    PHASE_BUDGET,
    crystal_needs_float64,
    edges_in_waves,
    farthest_in_group,
    fringes,
)
from bragg_numba.plan.arithmetic.squares import strongest_square
from bragg_numba.plan.plan import Plan

#: From the centre of a patch of 4 x 4 pixels to that of its farthest, 1.5 sqrt(2) pixels, with a margin.
TO_CORNER = 2.2

#: How much larger than eq. 24 says an error may be, where 99 of 100 are not.
WORST_OVER_USUAL = 3.0

#: Photons over the solid angle that float32 sums of a pixel hold with all their digits.
LEAST_SUM, MOST_SUM = 1e-22, 1e34

_EPS = 2.0**-24


@dataclass(frozen=True, slots=True)
class SpotsArithmetic:
    """``"tile"`` (terms in float32) or ``"float64"``, and why."""

    precision: str
    reason: str


def choose(plan: Plan, precision: str) -> SpotsArithmetic:
    """Choose the arithmetic of a plan's terms; ``precision`` is auto, tile or float64."""
    if plan.experiment.sampling.pixel_average:
        return SpotsArithmetic("float64", "integrals over pixels are made in float64")
    if precision == "float64":
        return SpotsArithmetic("float64", "asked for")
    if plan.lattice.shape in (GAUSS, TOPHAT):
        return SpotsArithmetic("tile", "radii are made in float64")
    if reason := crystal_needs_float64(plan):
        return SpotsArithmetic("float64", reason)
    error = phase_error(plan)
    if error <= PHASE_BUDGET:
        return SpotsArithmetic("tile", f"phases are right to {error:.1e} turns")
    if precision == "tile":
        return SpotsArithmetic("tile", f"asked for, with phases right to {error:.1e} turns")
    return SpotsArithmetic("float64", f"float32 phases could be wrong by {error:.1e} turns")


def phase_error(plan: Plan) -> float:
    """Error of N h (turns) that no float32 phase of a pixel exceeds, which counts from its patch's centre (eq. 24)."""
    corner = max(TO_CORNER * max(panel.pitch_fast, panel.pitch_slow) / panel.close_distance for panel in plan.panels)
    return float(WORST_OVER_USUAL * (fringes(plan) * (edges_in_waves(plan) * corner + 2.0**-13)).max() * _EPS)


def cannot_serve(plan: Plan) -> str:
    """Why only the engine of pixels can render a plan, a clause; empty if that is not so."""
    if any(panel.curved for panel in plan.panels):
        return "a detector is curved"
    if plan.lookup.interpolate:
        return "structure factors are interpolated between reflections"
    if plan.rules.running:
        return "-oversample_thick, _polar and _omega multiply factors up from step to step"
    if plan.lattice.shape not in (SQUARE, ROUND, GAUSS, TOPHAT):
        return "it knows no end of such a crystal's spots"
    if not plan.experiment.sampling.pixel_average and farthest_in_group(plan) > FARTHEST:
        return "pixels are large for their distance"
    if not _sums_fit(plan):
        return "amplitudes or photons lie beyond the range of float32"
    return ""


def require_servable(plan: Plan) -> None:
    """Raise InputError if the engine of spots cannot render a plan."""
    if why := cannot_serve(plan):
        raise InputError("Sampling.engine", f"cannot be spots: {why}", hint="auto takes pixels there")


def cannot_average(plan: Plan) -> str:
    """Why spots cannot be integrated over pixels, a clause; empty if they can."""
    sampling = plan.experiment.sampling
    if sampling.engine == "pixels":
        return "the engine of pixels looks at points"
    if why := cannot_serve(plan):
        return f"the engine of spots cannot serve: {why}"
    if plan.lattice.shape == ROUND and plan.is_slanted:
        return "fringes of a round crystal lie across its axes (cell_count_matrix)"
    if plan.lattice.shape in (SQUARE, ROUND) and sampling.cutoff_photons == 0.0:
        return f"fringes of a {SHAPE_NAMES[plan.lattice.shape]} crystal never end, and there is no cutoff"
    return ""


def _sums_fit(plan: Plan) -> bool:
    """Tell whether a pixel's sum of photons, the solid angle apart, is a number of float32 with all its digits."""
    rules = plan.rules
    strongest = max(strongest_square(plan.table), plan.lookup.default_F**2)
    volume = plan.lattice.n_a * plan.lattice.n_b * plan.lattice.n_c
    most = strongest * volume * volume * rules.scale * plan.steps
    background = rules.background * rules.scale * plan.steps
    # On average over a pixel there is but a small part of that.
    limit = math.inf if plan.experiment.sampling.pixel_average else MOST_SUM
    return (most == 0.0 or LEAST_SUM < most < limit) and background < MOST_SUM
