"""The CPU's engine of spots: reflection by reflection, only tiles that a spot touches are computed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from bragg_numba.kernels.parameters import YES, Frame, Phases
from bragg_numba.kernels.pixels.rows import COLUMNS, ROWS
from bragg_numba.kernels.spots.rows import BLOCK_COLUMNS, BLOCK_ROWS, N_FOUND, DispersedSpots, Lists
from bragg_numba.memory import require
from bragg_numba.plan.arithmetic.spots import SpotsArithmetic, choose
from bragg_numba.plan.plan import Plan
from bragg_numba.plan.work import list_tiles, split_tiles
from bragg_numba.predict.lit import Lit, deal, find_lit, has_normalised_gains
from bragg_numba.render import costs
from bragg_numba.render.cpu import LEAST_TILES_OF_THREAD, TileRenderer, clear
from bragg_numba.render.found import FoundSpots
from bragg_numba.render.statistics import Tally
from bragg_numba.threads import threads

#: Rows and columns of a tile of this engine.
TILE = (BLOCK_ROWS, BLOCK_COLUMNS)

#: Bytes that each spot of each tile takes: its place in three lists, what it is found to bring in two.
_BYTES_OF_SPOT = 3 * 8 + 2 * 8 * N_FOUND

#: Predicted seconds of each thread in one call of a kernel, so that progress shows and Ctrl-C is heard.
SECONDS_IN_CALL = 0.2


class _Work(NamedTuple):
    """The tiles of some rows, the spots of each, and what they are predicted to cost, seconds."""

    rows: tuple[int, int]
    tiles: np.ndarray
    lists: Lists
    seconds: np.ndarray


class SpotsRenderer(TileRenderer):
    """The engine of spots: every reflection adds its steps to the pixels that they light.

    Which reflections these are is found when it is first needed, and kept.
    """

    engine = "spots"

    def __init__(
        self, plan: Plan, precision: str = "auto", thread_count: int | None = None, reason: str = "asked for"
    ) -> None:
        super().__init__(plan, thread_count, reason)
        self._lit: Lit | None = None
        self._work: _Work | None = None
        self.use(choose(plan, precision))

    def use(self, choice: SpotsArithmetic) -> None:
        """Render with this arithmetic from now on."""
        self.choice = choice
        self._kernels = {}
        self._lit = self._work = None

    @property
    def precision(self) -> str:
        """``"tile"``: terms in float32; or ``"float64"``."""
        return self.choice.precision

    @property
    def lit(self) -> Lit:
        """The reflections of the frame."""
        lit = self._lit
        if lit is None:  # two threads may both find them, and find the same
            with threads(self._threads):
                lit = find_lit(self.plan, self.plan.experiment.sampling.cutoff_photons, single=self._single)
            self._lit = lit
        return lit

    @property
    def cut_photons(self) -> float:
        """What no pixel's expectation is off by more than because spots are cut, photons."""
        return self.lit.cut_photons

    def predict_seconds(self) -> float:
        """Predicted time of a frame on one thread, seconds."""
        found = costs.predict_search(self.plan, self.lit)
        return found + float(self._list_work(0, self.plan.shape[0]).seconds.sum())

    @property
    def _single(self) -> bool:
        return self.choice.precision == "tile"

    def _clear(self, out: np.ndarray) -> None:
        if not (self._has_background and self.plan.covers_frame):
            clear(out)

    @property
    def _has_background(self) -> bool:
        return self.plan.rules.background != 0.0 or self.plan.rules.flat_background != 0.0

    def _render(self, row_start: int, row_stop: int, out: np.ndarray, tally: Tally) -> Iterator[float]:
        import numba

        work = self._list_work(row_start, row_stop)
        with threads(self._threads):
            count = numba.get_num_threads()
        cuts = costs.cut_evenly(work.seconds, SECONDS_IN_CALL * count, LEAST_TILES_OF_THREAD * count)
        found = np.empty((len(work.lists.spot), N_FOUND))
        for start, stop in zip(cuts, cuts[1:], strict=False):
            with threads(self._threads):
                self._render_tiles(work, np.arange(start, stop), Frame(out, self.plan.mask, row_start), tally, found)
            yield stop / len(work.tiles)
        if not isinstance(tally.found, FoundSpots):
            tally.found = FoundSpots(self.lit, normalised=has_normalised_gains(self.plan, single=self._single))
        tally.found.add(work.tiles, work.lists, found)

    def _list_work(self, row_start: int, row_stop: int) -> _Work:
        """The tiles of some rows with work in them; the last ones are kept, for who renders them again and again."""
        work, rows = self._work, (row_start, row_stop)  # once: another thread may render other rows
        if work is None or work.rows != rows:
            plan, lit = self.plan, self.lit
            with threads(self._threads):
                tiles = list_tiles(plan.panels, plan.roi, plan.mask, TILE, rows)
                lists = deal(plan, lit, tiles, TILE)
            require("the spots of all tiles", _BYTES_OF_SPOT * len(lists.spot), None, f"{len(lit.spots)} reflections")
            if not self._has_background:
                touched = np.flatnonzero(np.diff(lists.first))
                tiles, lists = np.ascontiguousarray(tiles[touched]), costs.reorder(lists, touched)
            work = _Work(rows, tiles, lists, costs.predict_tiles(plan, lit, lists, single=self._single))
            self._work = work
        return work

    def _render_tiles(
        self, work: _Work, part: np.ndarray, frame: Frame, tally: Tally, found_of_all: np.ndarray
    ) -> None:
        """Render the tiles whose places ``part`` lists; what float32 could not decide in float64.

        ``found_of_all``: what is found of each spot, in the order of the work's lists.
        """
        import numba

        from bragg_numba.kernels.spots import cpu

        # Who renders a tile makes no difference to it: a tile adds up its own spots in their order.
        order, runs = costs.share_out(work.seconds[part], numba.get_num_threads())
        mine = part[order]
        tiles, lists = np.ascontiguousarray(work.tiles[mine]), costs.reorder(work.lists, mine)
        nouns = self._nouns()
        kernel = self._kernels.get("spots")
        if kernel is None:
            kernel = cpu.spots_kernel(self._code(), nouns, tiles, lists, self.plan.roi, frame, self._single)
            self._kernels["spots"] = kernel
        doubts, found = cpu.add_spots(kernel, *nouns, tiles, lists, runs, self.plan.roi, frame, *self.scratch())
        found_of_all[costs.places_of(work.lists, mine)] = found
        if doubts.any():
            self._settle(split_tiles(tiles[doubts != 0], (ROWS, COLUMNS)), frame, tally)

    def scratch(self) -> tuple:
        """Working values for as many threads as there are."""
        from bragg_numba.kernels.spots import cpu

        return cpu.tile_scratch(), cpu.spot_scratch(self._single)

    def render_alone(self, tiles: np.ndarray, lists: Lists, frame: Frame, scratch, *, by_wavelength: bool) -> None:
        """Render blocks with some spots of theirs and no background into ``frame``, as many threads as there are.

        ``scratch``: of this renderer, for nobody else meanwhile. ``by_wavelength``: every photon counts as its
        wavelength over that of the first source. Tiles without photons stay as they are, and pixels that float32
        cannot decide are NaN.
        """
        import numba

        from bragg_numba.kernels.spots import cpu

        panels, lattice, rules, phases, beams, *rest = self._nouns()
        if by_wavelength:
            beams = beams._replace(share=beams.share * (beams.wavelength / self.plan.sources.wavelength[0]))
        nouns = (panels, lattice, rules._replace(background=0.0, flat_background=0.0), phases, beams, *rest)
        kernel = self._kernels.get("alone")
        if kernel is None:
            kernel = cpu.spots_kernel(self._code(), nouns, tiles, lists, self.plan.roi, frame, self._single)
            self._kernels["alone"] = kernel
        order, runs = costs.share_out(np.ones(len(tiles)), numba.get_num_threads())
        tiles, lists = np.ascontiguousarray(tiles[order]), costs.reorder(lists, order)
        cpu.add_spots(kernel, *nouns, tiles, lists, runs, self.plan.roi, frame, *scratch)

    def _nouns(self) -> tuple:
        """What the kernel takes first: panels, lattice, rules, phases, beams, forms, spots."""
        plan, lit = self.plan, self.lit
        panels, lattice = self._arguments[:2]
        # A spot's gain holds the scale already.
        rules = plan.rules._replace(scale=1.0, background=plan.rules.background * plan.rules.scale)
        f = np.float32
        cells = [f(n) for n in plan.cell_counts]
        phases = Phases(*cells, *cells, *[f(0.0)] * 6, near_half=f(0.0), reach=0.0, lit_h=0.0, lit_k=0.0, lit_l=0.0)
        spots = lit.spots if plan.dispersion is None else DispersedSpots(lit.spots, lit.factors)
        return panels, lattice, rules, phases, lit.beams, lit.forms, spots

    def _code(self) -> tuple:
        """Which code the kernel needs: what it does not need is not compiled."""
        plan = self.plan
        factors = plan.rules.weighted or any(panel.has_sensor for panel in plan.panels)
        averaged = plan.experiment.sampling.pixel_average
        wanted = (self._single, self.lit.halved, factors, averaged, plan.dispersion is not None)
        return (plan.lattice.shape, *(YES if one else None for one in wanted))
