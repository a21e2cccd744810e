"""Which arithmetic renders a plan on a GPU, and what its kernels are told (docs/physics.md, section 9)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bragg_numba.kernels.parameters import SQUARE, Panel, Single, SinglePanel, panel_array, single_panel_array
from bragg_numba.kernels.pixels.cuda_steps import PARTS, PATCH_SIDES, ROUND_STEPS
from bragg_numba.plan.arithmetic.cpu import (
    amplitudes_fit_single,
    crystal_needs_float64,
    edges_in_waves,
    fringes,
    table_is_too_large,
)
from bragg_numba.plan.arithmetic.squares import padded_squares
from bragg_numba.plan.plan import Plan

#: Largest error of N h, in turns, that a patch may carry.
PHASE_BUDGET = 1e-7

#: Most border cells that let a patch's pixels lie in other cells of the table than its centre.
MOST_REACH = 4

_EPS = 2.0**-24


@dataclass(frozen=True, slots=True)
class CudaArithmetic:
    """``side`` pixels of a patch, or 0 for float64; ``error_turns`` is the bound; ``reason`` says why."""

    side: int
    error_turns: float
    reason: str
    near_half: float = 0.5  #: float64 decides which index is nearest to phases further than this from one


def choose(plan: Plan, precision: str) -> CudaArithmetic:
    """Choose the arithmetic for a plan; ``precision`` is auto, tile or float64."""
    if precision == "float64":
        return CudaArithmetic(0, 0.0, "asked for")
    reason = _needs_float64(plan)
    if reason:
        return CudaArithmetic(0, 0.0, reason)
    for side in PATCH_SIDES:
        error = phase_error(plan, side)
        if error <= PHASE_BUDGET and reach(plan, side) <= MOST_REACH:
            return CudaArithmetic(side, error, f"phase error at most {error:.1e} turns", _near_half(plan, side))
    if precision == "tile" and reach(plan, side) <= MOST_REACH:
        reason = f"asked for, with a phase error of up to {error:.1e} turns"
        return CudaArithmetic(side, error, reason, _near_half(plan, side))
    return CudaArithmetic(0, 0.0, f"float32 phases could be wrong by {error:.1e} turns")


def phase_error(plan: Plan, side: int) -> float:
    """Bound of the error of N h (turns) in the float32 phases of a patch of ``side`` x ``side`` pixels (eq. 36)."""
    return 2.0 * float((fringes(plan) * fine_phases(plan, side)).max()) * _EPS


def fine_phases(plan: Plan, side: int) -> np.ndarray:
    """Largest float32 part of h, k, l in a patch, turns: what the exact parts leave, and the second order."""
    far = _half_angle(plan, side)
    rounding = 2.0**-13 * (1.0 + (side - 1))
    return edges_in_waves(plan) * 1.5 * far * far + rounding


def reach(plan: Plan, side: int) -> int:
    """How many cells of the table a patch's pixels may lie from its centre's."""
    return int(1.0 + 1e-3 + 1.05 * _half_angle(plan, side) * float(edges_in_waves(plan).max()))


def single(plan: Plan, choice: CudaArithmetic) -> Single:
    """What a tile kernel is told beyond the plan and the panels."""
    f, lattice, rules = np.float32, plan.lattice, plan.rules
    g = plan.panels[0]  # for what all panels have in common
    n_reach = reach(plan, choice.side)
    counts = [f(n) for n in plan.cell_counts]
    table = plan.lookup
    k_stride = table.l_count + 4 * n_reach
    h_stride = k_stride * (table.k_count + 4 * n_reach)
    scale = rules.scale
    if lattice.shape != SQUARE:
        scale *= float(lattice.n_a * lattice.n_b * lattice.n_c) ** 2
    if not plan.lookup.has_table:
        scale *= plan.lookup.default_F**2
    metric = (getattr(lattice, f"metric_{axes}") for axes in ("hh", "kk", "ll", "hk", "hl", "kl"))
    return Single(
        *counts,
        f(h_stride),
        f(k_stride),
        f(choice.near_half),
        *(f(m) for m in metric),
        f(g.polar_x),
        f(g.polar_y),
        f(g.polar_z),
        f(g.kahn),
        reach=float(n_reach),
        h_shift=float(2 * n_reach - table.h_first),
        k_shift=float(2 * n_reach - table.k_first),
        l_shift=float(2 * n_reach - table.l_first),
        h_last=float(table.h_count - 1 + 3 * n_reach),
        k_last=float(table.k_count - 1 + 3 * n_reach),
        l_last=float(table.l_count - 1 + 3 * n_reach),
        h_stride=h_stride,
        k_stride=k_stride,
        run_steps=_runs(plan)[1],
        part_rounds=max(_rounds_in_part(plan, panel) for panel in plan.panels),
        scale=float(scale),
        background=float(rules.scale * rules.background),
        flat=float(rules.flat_background / (g.oversample**2 * len(plan.sources.wavelength))),
    )


def panel_arguments(plan: Plan) -> tuple:
    """What kernels take first: panels, and what tile kernels need of them in float32; of one panel plain numbers.

    Several come as arrays of PANEL_RECORD and SINGLE_PANEL_RECORD, which are to be sent to the device.
    """
    flats = single_panel_array(plan.panels)
    if len(plan.panels) == 1:
        return plan.panels[0], SinglePanel(*flats[0])
    return panel_array(plan.panels), flats


def padded_table(plan: Plan, choice: CudaArithmetic | None = None) -> np.ndarray:
    """Squared structure factors, flat float32, with as much more border as a patch's pixels may reach over."""
    choice = choose(plan, "tile") if choice is None else choice
    pad = 2 * reach(plan, choice.side) if plan.lookup.has_table else 0
    return padded_squares(plan.table, pad).reshape(-1)


def _runs(plan: Plan) -> tuple[int, int]:
    """Runs of steps in a layer and sub-pixel, and steps in one: where terms have weights each source is a run."""
    n_sources, n_steps = len(plan.sources.wavelength), len(plan.cells)
    return (n_sources, n_steps) if plan.rules.weighted else (1, n_sources * n_steps)


def _rounds_in_part(plan: Plan, panel: Panel) -> int:
    """Rounds of steps that share a bit of Doubts.parts: all rounds of a pixel make at most PARTS parts."""
    runs, run_steps = _runs(plan)
    rounds = panel.layers * panel.oversample**2 * runs * -(-run_steps // ROUND_STEPS)
    return -(-rounds // PARTS)


def _near_half(plan: Plan, side: int) -> float:
    """Where float32 still knows the nearest index: 1/2 less twice the error of h."""
    error = 0.5 * _EPS + 4.0 * _EPS * float(fine_phases(plan, side).max())
    return 0.5 - 2.0 * error


def _half_angle(plan: Plan, side: int) -> float:
    """Largest angle between a patch's centre and one of its pixels, radians."""
    return max(_half_diagonal(panel, side) / panel.close_distance for panel in plan.panels)


def _half_diagonal(panel: Panel, side: int) -> float:
    """Distance from a patch's centre to its furthest pixel's, metres."""
    g = panel
    fast = g.pitch_fast * np.array([g.fast_x, g.fast_y, g.fast_z])
    slow = g.pitch_slow * np.array([g.slow_x, g.slow_y, g.slow_z])
    return 0.5 * (side - 1) * float(max(np.linalg.norm(fast + slow), np.linalg.norm(fast - slow)))


def _needs_float64(plan: Plan) -> str:
    """Why only the float64 kernel can render this plan; empty if that is not so."""
    rules = plan.rules
    if plan.lookup.interpolate:
        return "tricubic interpolation"
    if rules.running:
        return "running products of -oversample_*"
    if reason := crystal_needs_float64(plan):
        return reason
    if len(plan.sources.wavelength) * len(plan.cells) >= 2**31:
        return "2^31 steps or more"
    if table_is_too_large(plan, 4 * MOST_REACH):
        return "a structure factor table too large for 32-bit places"
    if not amplitudes_fit_single(plan):
        return "amplitudes beyond the range of float32"
    return ""
