"""Rendering on the CPU reflection by reflection: only tiles that a spot touches are computed."""

from __future__ import annotations

import numpy as np

from bragg_numba.kernels.parameters import YES, Frame, Phases
from bragg_numba.kernels.spots.rows import BLOCK_COLUMNS, BLOCK_ROWS, Lists
from bragg_numba.plan.plan import Plan
from bragg_numba.plan.work import list_tiles
from bragg_numba.predict.lit import Lit, deal, find_lit


class SpotsRenderer:
    """First version."""

    def __init__(self, plan: Plan, cutoff: float = 0.0, single: bool = True) -> None:
        self.plan, self.single = plan, single
        self.lit: Lit = find_lit(plan, cutoff, single=single)

    def render_rows(self, start: int, stop: int, out: np.ndarray):
        import numba

        from bragg_numba.kernels.spots import cpu

        plan, lit = self.plan, self.lit
        tiles = list_tiles(plan.panels, plan.roi, plan.mask, (BLOCK_ROWS, BLOCK_COLUMNS), (start, stop))
        lists = deal(plan, lit, tiles, (BLOCK_ROWS, BLOCK_COLUMNS))
        rules = plan.rules._replace(scale=1.0, background=plan.rules.background * plan.rules.scale)
        if rules.background == 0.0 and rules.flat_background == 0.0:
            counts = np.diff(lists.first)
            kept = np.flatnonzero(counts)
            tiles = np.ascontiguousarray(tiles[kept])
            lists = Lists(np.append(0, np.cumsum(counts[kept])).astype(np.int64), lists.spot)
        frame = Frame(out, plan.mask, start)
        f = np.float32
        counts = [f(n) for n in plan.cell_counts]
        phases = Phases(*counts, *counts, *[f(0.0)] * 6, near_half=f(0), reach=0.0, lit_h=0.0, lit_k=0.0, lit_l=0.0)
        factors = rules.weighted or any(panel.has_sensor for panel in plan.panels)
        code = (
            plan.lattice.shape,
            YES if self.single else None,
            YES if lit.halved else None,
            YES if factors else None,
        )
        panels = plan.arguments[0]
        nouns = (panels, plan.lattice, rules, phases, lit.beams, lit.forms, lit.spots)
        kernel = cpu.spots_kernel(code, nouns, tiles, lists, frame, self.single)
        threads = numba.get_num_threads()
        runs = np.linspace(0, len(tiles), 8 * threads + 1).astype(np.int64)
        return cpu.add_spots(
            kernel, *nouns, tiles, lists, runs, frame, cpu.tile_scratch(), cpu.spot_scratch(self.single)
        )
