"""Which arithmetic renders a plan on the CPU: the error bound of the tile kernels (docs/physics.md, section 9)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from bragg_numba import tolerances
from bragg_numba.kernels import walk
from bragg_numba.kernels.parameters import (
    FRINGES,
    GAUSS,
    GRATINGS,
    LIT_RADII,
    RADII,
    ROUND,
    SQUARE,
    TOPHAT,
    YES,
    Code,
    Phases,
    Table,
)
from bragg_numba.kernels.pixels.rows import LANES
from bragg_numba.plan.arithmetic.squares import padded_squares, strongest_square
from bragg_numba.plan.plan import Plan

#: Largest error of N h, in turns, at which sin^2(pi N h) keeps the tolerances, whatever it is.
PHASE_BUDGET = math.sqrt(tolerances.RELATIVE * tolerances.OF_BRIGHTEST) / math.pi

#: Farthest that a pixel may lie from its group's centre, over the distance (physics.offset_single).
FARTHEST = 1.0 / 32.0

#: Most cells of the table that a group's pixels may lie from its own.
MOST_REACH = 8

#: Cells along an axis up to which n times a coarse phase is exact in float32 (physics.split_phase), and the sum of
#: squared eighths of fringes (physics.radius_single).
MOST_CELLS, MOST_CELLS_IN_ROUND = 4096, 500

#: Places in the table are 32-bit numbers, and a step along h a whole float32.
MOST_CELLS_IN_TABLE = 2**30
MOST_STRIDE = 2**19

#: Squared radius beyond which physics.gauss_single is 0, and top-hat spots are, with a margin for rounding.
LIT_RADIUS_SQUARED = {GAUSS: 27.8, TOPHAT: 0.397}

#: Share of groups that may be lit where looking for them is quicker than to sum all.
MOST_LIT = 0.25

#: A near_half that no phase reaches.
NEVER = 2.0

_EPS = 2.0**-24


@dataclass(frozen=True, slots=True)
class CpuArithmetic:
    """The kernel, ``"tile"`` or ``"float64"``, and why; ``error_turns`` is phase_error."""

    precision: str
    error_turns: float
    reason: str
    split: bool = False  #: split the changes per pixel as well (kernels/pixels/terms.py): slower, smaller errors
    seeks_lit: bool = False  #: sum only the groups that a spot may touch (kernels/pixels/lit.py)


def choose(plan: Plan, precision: str) -> CpuArithmetic:
    """Choose the arithmetic for a plan; ``precision`` is auto, tile or float64."""
    if precision == "float64":
        return CpuArithmetic("float64", 0.0, "asked for")
    reason = _needs_float64(plan)
    if reason:
        return CpuArithmetic("float64", 0.0, reason)
    if plan.lattice.shape in LIT_RADIUS_SQUARED and share_of_lit_groups(plan) < MOST_LIT:
        return CpuArithmetic("tile", 0.0, "spots that few pixels see, which are summed in float64", seeks_lit=True)
    for split in (False, True):
        error = phase_error(plan, split=split)
        if error <= PHASE_BUDGET:
            return CpuArithmetic("tile", error, f"phases are right to {error:.1e} turns", split=split)
    if precision == "tile":
        return CpuArithmetic("tile", error, f"asked for, with phases right to {error:.1e} turns", split=True)
    return CpuArithmetic("float64", 0.0, f"float32 phases could be wrong by {error:.1e} turns")


def phase_error(plan: Plan, *, split: bool) -> float:
    """Error of N h (turns) in float32 phases that 99 of 100 stay below, and none exceeds three times (eq. 24)."""
    return float((fringes(plan) * _single_phases(plan, split=split)).max() * _EPS)


def _single_phases(plan: Plan, *, split: bool) -> np.ndarray:
    """Largest float32 parts of h, k, l, turns, times the units of 2^-24 by which they err (eq. 24)."""
    if split:
        return 2.0 * (_bend(plan) + 2.0**-13 * LANES)
    return edges_in_waves(plan) * farthest_in_group(plan) + 2.0**-13


def _bend(plan: Plan) -> np.ndarray:
    """How much a phase in a group departs from a linear one, turns: the second order of a direction (eq. 24)."""
    far = farthest_in_group(plan)
    return 0.6 * edges_in_waves(plan) * far * far


def farthest_in_group(plan: Plan) -> float:
    """Distance from a group's centre to its last pixel over that to the detector's plane (a bound)."""
    # The plane's nearest point may lie outside the detector.
    return max(0.5 * (LANES - 1) * panel.pitch_slow / panel.close_distance for panel in plan.panels)


def edges_in_waves(plan: Plan) -> np.ndarray:
    """Longest a, b, c of any orientation over the shortest wavelength."""
    edges = np.sqrt((plan.cells.reshape(-1, 3, 3) ** 2).sum(axis=2)).max(axis=0)
    return edges / plan.sources.wavelength.min()


def fringes(plan: Plan) -> np.ndarray:
    """How many fringes a unit of h, k, l holds: the cell counts, or the metric's square roots."""
    lattice = plan.lattice
    if lattice.shape == SQUARE:
        return np.array([lattice.n_a, lattice.n_b, lattice.n_c])
    metric = np.array([lattice.metric_hh, lattice.metric_kk, lattice.metric_ll])
    # Per unit of radius round changes no faster than the square crystal does per fringe; the flanks of a
    # gauss fall by exp(-3.2 r^2), and a frame may show nothing but flanks.
    return (1.0 if lattice.shape == ROUND else 1.7) * np.sqrt(metric)


def lit_margins(plan: Plan) -> np.ndarray:
    """Distance from a whole h, k, l up to which a spot is not 0, with what a group bends away from a line (eq. 35)."""
    radii = np.sqrt(LIT_RADIUS_SQUARED[plan.lattice.shape] * np.diag(np.linalg.inv(plan.metric)))
    return radii + 1.1 * _bend(plan) + 1e-6


def share_of_lit_groups(plan: Plan) -> float:
    """About how many of the groups may see a spot, if edges lie in any direction."""
    along = 0.5 * farthest_in_group(plan) * edges_in_waves(plan)
    return float(np.prod(np.minimum(1.0, 2.0 * (lit_margins(plan) + along))))


def reach(plan: Plan) -> int:
    """How many cells of the table a group's pixels may lie from the one that its phases count from."""
    if not plan.lookup.has_table:
        return 0
    # That of its centre, or of its first pixel.
    return int(1.0 + 1e-3 + 2.1 * farthest_in_group(plan) * float(edges_in_waves(plan).max()))


def _near_half(plan: Plan, *, split: bool) -> float:
    """Where float32 still knows the nearest index: 1/2 less twice the error of h.

    Where the index selects no structure factor and the axes are orthogonal, both sides of a half are equal.
    """
    lattice = plan.lattice
    slanted = max(abs(lattice.metric_hk), abs(lattice.metric_hl), abs(lattice.metric_kl))
    if not plan.lookup.has_table and slanted <= 1e-9 * min(lattice.metric_hh, lattice.metric_kk, lattice.metric_ll):
        return NEVER
    error = 0.5 * _EPS + 4.0 * _EPS * float(_single_phases(plan, split=split).max())
    return 0.5 - 2.0 * error


def phases(plan: Plan, choice: CpuArithmetic) -> Phases:
    """What a tile kernel is told beyond the plan."""
    f, lattice = np.float32, plan.lattice
    counts = [f(n) for n in plan.cell_counts]
    metric = (f(getattr(lattice, f"metric_{axes}")) for axes in ("hh", "kk", "ll", "hk", "hl", "kl"))
    margins = lit_margins(plan) if choice.seeks_lit else (0.0, 0.0, 0.0)
    return Phases(
        *counts,
        *counts,
        *metric,
        near_half=f(_near_half(plan, split=choice.split)),
        reach=float(reach(plan)),
        lit_h=float(margins[0]),
        lit_k=float(margins[1]),
        lit_l=float(margins[2]),
    )


def code(plan: Plan, choice: CpuArithmetic) -> Code:
    """Which code the tile kernels need for a plan: nothing else is compiled."""
    kind = {SQUARE: GRATINGS, ROUND: FRINGES}.get(plan.lattice.shape, LIT_RADII if choice.seeks_lit else RADII)
    factors = plan.rules.weighted or any(panel.has_sensor for panel in plan.panels)
    dispersed = None if plan.dispersion is None else (YES,) * len(plan.dispersion.kernels.factors[0, ::2])
    wanted = (plan.lookup.has_table, choice.split, factors, plan.weighs_domains)
    return Code(kind, *(YES if one else None for one in wanted), dispersed)


def padded_table(plan: Plan) -> tuple[Table, np.ndarray]:
    """The lookup of a table with as much more border as a group's pixels may reach over, and F^2, flat float32."""
    look, pad = plan.lookup, 2 * reach(plan)
    wider = look._replace(
        h_first=look.h_first - pad,
        k_first=look.k_first - pad,
        l_first=look.l_first - pad,
        h_count=look.h_count + 2 * pad,
        k_count=look.k_count + 2 * pad,
        l_count=look.l_count + 2 * pad,
    )
    return wider, padded_squares(plan.table, pad).reshape(-1)


def _needs_float64(plan: Plan) -> str:
    """Why only the float64 kernel can render this plan; empty if that is not so."""
    rules = plan.rules
    if any(panel.curved for panel in plan.panels):
        return "a curved detector"
    if plan.lookup.interpolate:
        return "tricubic interpolation"
    if rules.running:
        return "running products of -oversample_*"
    if farthest_in_group(plan) > FARTHEST or reach(plan) > MOST_REACH:
        return "pixels that are large for their distance"
    if reason := crystal_needs_float64(plan):
        return reason
    if table_is_too_large(plan, 4 * MOST_REACH):
        return "a structure factor table too large for 32-bit places"
    if not amplitudes_fit_single(plan):
        return "amplitudes beyond the range of float32"
    # a pixel's factor: scale, solid angle, polarization and absorption; and what it multiplies
    if (rules.scale != 0.0 and not 1e-22 < rules.scale < 1e34) or rules.background > 1e34:
        return "photons beyond the range of float32"
    return ""


def crystal_needs_float64(plan: Plan) -> str:
    """Why a crystal is beyond the float32 kernels; empty if it is not."""
    if plan.lattice.shape not in walk.SHAPES_IN_FLOAT32:
        return "a shape of the crystal that has no float32 form"
    is_round = plan.lattice.shape == ROUND
    most = MOST_CELLS_IN_ROUND if is_round else MOST_CELLS
    if max(plan.cell_counts) > most:
        return f"more than {most} cells along an axis"
    if is_round and plan.experiment.crystal.fudge != 1.0:
        return "a fudge factor of a round crystal"
    if is_round and plan.experiment.crystal.cell_count_matrix is not None:
        return "a matrix of cell counts of a round crystal"
    return ""


def table_is_too_large(plan: Plan, pad: int) -> bool:
    """Tell whether places in a table that is ``pad`` cells longer along each axis are beyond the float32 kernels."""
    if not plan.lookup.has_table:
        return False
    h_size, k_size, l_size = (n + pad for n in plan.table.shape)
    return h_size * k_size * l_size > MOST_CELLS_IN_TABLE or k_size * l_size > MOST_STRIDE


def amplitudes_fit_single(plan: Plan) -> bool:
    """Tell whether float32 sums of a chunk of terms cannot overflow, nor the squares underflow."""
    strongest = strongest_square(plan.table)
    volume_squared = math.prod(float(n) ** 2 for n in plan.cell_counts)
    return max(strongest, 1.0) * volume_squared <= 1e34 and not 0.0 < strongest < 1e-25
