"""Slopes reflection by reflection: what the kernels of that engine are told, and which pixels they sum."""

from __future__ import annotations

import dataclasses
from functools import cached_property
from typing import Any

import numpy as np

from bragg_numba.kernels import work
from bragg_numba.kernels.parameters import YES, Panel
from bragg_numba.kernels.slopes import spots_rows
from bragg_numba.kernels.slopes.rows import BLOCK, N_ROWS
from bragg_numba.kernels.slopes.spots_rows import (
    CELL,
    CELLS_ACROSS,
    COLUMN,
    COUNT,
    FIRST,
    N_FIELD,
    PANEL,
    ROW,
    Listed,
)
from bragg_numba.kernels.spots.rows import BLOCK_COLUMNS, BLOCK_ROWS, Beams
from bragg_numba.plan.plan import Plan
from bragg_numba.predict.lit import SHARE_OF_CUT, Lit, deal, find_lit, group_sources
from bragg_numba.slopes.contraction import Contraction
from bragg_numba.slopes.pixels import pieces_of
from bragg_numba.threads import threads

#: Part of the photons that may lie beyond the cut of a gauss spot which may where slopes are summed: beyond it they
#: are a larger part of what they are at most (eq. 71). In float64 so little that differences of images do not show it.
PART_OF_CUT, PART_IN_FLOAT64 = 1e-2, 1e-8

#: What reflections are taken to have where none has anything, electrons.
LEAST_F = 1e-3


def list_fields(panels: tuple[Panel, ...], wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """List the wanted pixels, bool (slow, fast), of every panel: fields, blocks and pixels as Listed has them.

    Fields that are wanted as a whole have one list in common.
    """
    lists = [_places(np.ones((BLOCK_ROWS, BLOCK_COLUMNS), dtype=np.bool_))]
    fields, blocks, listed = [], [], len(lists[0])
    for index, panel in enumerate(panels):
        rows = slice(panel.first_row, panel.first_row + panel.n_slow)
        of_panel = wanted[rows, panel.first_column : panel.first_column + panel.n_fast]
        for top in range(0, panel.n_slow, BLOCK_ROWS):
            for left in range(0, panel.n_fast, BLOCK_COLUMNS):
                part = of_panel[top : top + BLOCK_ROWS, left : left + BLOCK_COLUMNS]
                start, count = 0, BLOCK_ROWS * BLOCK_COLUMNS
                if part.size < count or not part.all():
                    places = _places(part)
                    start, count = listed, len(places)
                    lists.append(places)
                    listed += count
                if count:
                    firsts = np.arange(0, count, BLOCK)
                    fields.append((index, top, left, 0, len(firsts)))
                    cells = _cells_of_blocks(lists[0 if start == 0 else -1], firsts)
                    blocks.append(np.stack([start + firsts, np.minimum(count - firsts, BLOCK), cells], axis=1))
    found = np.array(fields, dtype=np.int32).reshape(-1, N_FIELD)
    found[:, FIRST] = np.cumsum(found[:, COUNT]) - found[:, COUNT]
    joined = np.concatenate(blocks) if blocks else np.zeros((0, 3))
    return found, joined.astype(np.int32), np.concatenate(lists)


def _places(wanted: np.ndarray) -> np.ndarray:
    """Places in a field of the wanted pixels of a part of it, in pieces that lie close together."""
    rows, columns = pieces_of(wanted, CELL, CELL)
    places: np.ndarray = (rows * BLOCK_COLUMNS + columns).astype(np.uint16)
    return places


def _cells_of_blocks(places: np.ndarray, firsts: np.ndarray) -> np.ndarray:
    """The cell in which all pixels of a block lie, -1 where they lie in several."""
    cells = places // BLOCK_COLUMNS // CELL * np.int64(CELLS_ACROSS) + places % BLOCK_COLUMNS // CELL
    least, most = np.minimum.reduceat(cells, firsts), np.maximum.reduceat(cells, firsts)
    return np.where(least == most, least, -1)


class SpotsWalker:
    """Sums slopes of a plan's pixels reflection by reflection.

    Which reflections these are is found when it is first needed, and kept: they are frozen.

    Parameters
    ----------
    plan
        Of the experiment, at the values where slopes are taken.
    wanted
        bool (slow, fast): pixels whose slopes are wanted.
    spins
        float64 (orientations, 9): kernels.slopes.spots_rows.Spots.
    single
        Whether terms are float32.
    alone
        Whether each source counts for itself.
    thread_count
        None: all.
    """

    def __init__(
        self,
        plan: Plan,
        wanted: np.ndarray,
        spins: np.ndarray,
        *,
        single: bool,
        alone: bool,
        thread_count: int | None,
    ) -> None:
        self._plan, self._wanted, self._spins = plan, wanted, spins
        self._single, self._alone, self._threads = single, alone, thread_count
        self._kernels: dict[Any, Any] = {}

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_kernels": {}}

    def images(
        self, contraction: Contraction, kind: type, squares: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Photons (slow, fast) and slopes (parameters, slow, fast) of type ``kind``.

        ``squares``: a table of |F|^2, negative ones included, in the place of the plan's.
        """
        from bragg_numba.kernels.slopes import spots_cpu

        n_slow, n_fast = self._plan.shape
        value: np.ndarray = np.zeros(n_slow * n_fast, dtype=kind)
        images: np.ndarray = np.zeros((len(contraction.starts) - 1, n_slow * n_fast), dtype=kind)
        with threads(self._threads):
            nouns = self._nouns(contraction, squares)
            matrix = spots_rows.Matrix(*contraction.matrix)
            spots_cpu.add_images(*nouns, matrix, _slopes_of_block(len(images)), n_fast, value, images)
        return value.reshape(n_slow, n_fast), images.reshape(len(images), n_slow, n_fast)

    def pulls(self, contraction: Contraction, weights: np.ndarray) -> np.ndarray:
        """(panels, rows): sums over pixels of what slopes are linear in, times weights (slow, fast)."""
        from bragg_numba.kernels.slopes import spots_cpu

        found = np.zeros((len(self._pixels[1]), N_ROWS + contraction.weights.shape[1]))
        with threads(self._threads):
            spots_cpu.add_pulls(*self._nouns(contraction, None), weights, found)
        total = np.zeros((len(self._plan.panels), found.shape[1]))
        for index, _, _, first, count in self._pixels[0]:
            total[index] += found[first : first + count].sum(axis=0)
        return total

    def normals(
        self, contraction: Contraction, kind: int, data: np.ndarray, variance: np.ndarray, background: np.ndarray
    ) -> np.ndarray:
        """Value, gradient and the triangle of the matrix."""
        from bragg_numba.kernels.slopes import spots_cpu

        n = len(contraction.starts) - 1
        found = np.zeros((len(self._pixels[1]), 1 + n + n * (n + 1) // 2))
        with threads(self._threads):
            nouns = self._nouns(contraction, None)
            matrix = spots_rows.Matrix(*contraction.matrix)
            slopes = _slopes_of_block(n)
            judged = np.zeros((len(slopes), 3, BLOCK))
            spots_cpu.add_normals(*nouns, matrix, slopes, kind, data, variance, background, judged, found)
        total: np.ndarray = found.sum(axis=0)
        return total

    def pull_squares(self, weights: np.ndarray) -> np.ndarray:
        """The gradient in |F|^2 of every place of the table, (h, k, l) float64."""
        from bragg_numba.kernels.slopes import spots, spots_cpu

        plan, lit, listed = self._plan, self._lit_of_all, self._listed_of_all
        found = np.zeros(len(listed.spot))
        with threads(self._threads):
            room = spots_cpu.room_of(0)
            panels, lattice, _, rules, sources, _, _ = plan.arguments
            known = self._spots(lit, np.ones(len(lit.spots)))
            nouns = (panels, lattice, rules, sources, self._beams, known, weights, listed)
            kernel = self._kernels.get("pull")
            if kernel is None:
                function = spots.pull_of_fields(plan.lattice.shape, YES if self._single else None)
                kernel = function.given(*nouns, np.int64(0), _of_thread(room), found)
                self._kernels["pull"] = kernel
            spots_cpu.pull_squares(kernel, *nouns, room, found)
        gradient = np.zeros(plan.table.shape)
        np.add.at(gradient, self._places(lit.indices[listed.spot]), found)
        return gradient

    # --- what the kernels are told ------------------------------------------------------------------

    def _nouns(self, contraction: Contraction, squares: np.ndarray | None) -> tuple:
        from bragg_numba.kernels.slopes import spots, spots_cpu

        plan = self._plan
        panels, lattice, _, rules, sources, _, _ = plan.arguments
        lit, listed = (self._lit, self._listed) if squares is None else (self._lit_of_all, self._listed_of_all)
        moves = spots_rows.Moves(contraction.weights, contraction.waves)
        room = spots_cpu.room_of(moves.weights.shape[1])
        known = self._spots(lit, self._squares(lit, squares))
        nouns = (panels, lattice, rules, sources, self._beams, known, contraction.wanted, moves, listed)
        sloped = any(contraction.wanted)
        kernel = self._kernels.get(sloped)
        if kernel is None:
            wanted = (YES if one else None for one in (self._single, sloped))
            function = spots.sum_of_fields(plan.lattice.shape, *wanted)
            kernel = self._kernels[sloped] = function.given(*nouns, np.int64(0), _of_thread(room))
        return kernel, *nouns, room

    @cached_property
    def _beams(self) -> Beams:
        return group_sources(self._plan, alone=self._alone)

    @cached_property
    def _pixels(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return list_fields(self._plan.panels, self._wanted)

    @cached_property
    def _lit(self) -> Lit:
        return self._find(self._plan)

    @cached_property
    def _lit_of_all(self) -> Lit:
        """As if all reflections were as strong as the strongest: what a change of |F|^2 shows does not depend on it."""
        largest = max(float(np.abs(self._plan.table).max(initial=0.0)), LEAST_F)
        return self._find(dataclasses.replace(self._plan, table=np.full_like(self._plan.table, largest)))

    @cached_property
    def _listed(self) -> Listed:
        return self._deal(self._lit)

    @cached_property
    def _listed_of_all(self) -> Listed:
        return self._deal(self._lit_of_all)

    def _find(self, plan: Plan) -> Lit:
        """The reflections of a plan, cut so far out that slopes do not show it (eq. 71)."""
        part = PART_OF_CUT if self._single else PART_IN_FLOAT64
        cutoff = plan.experiment.sampling.cutoff_photons
        with threads(self._threads):
            return find_lit(plan, cutoff, single=self._single, share_of_cut=part * SHARE_OF_CUT)

    def _deal(self, lit: Lit) -> Listed:
        """The fields with the spots that each is to look for."""
        fields, blocks, pixels = self._pixels
        tiles = np.zeros((len(fields), work.N_COLUMNS), dtype=np.int32)
        tiles[:, (work.PANEL, work.ROW, work.COLUMN)] = fields[:, (PANEL, ROW, COLUMN)]
        with threads(self._threads):
            lists = deal(self._plan, lit, tiles, (BLOCK_ROWS, BLOCK_COLUMNS))
        return Listed(fields, lists.first, lists.spot, blocks, pixels)

    def _spots(self, lit: Lit, squares: np.ndarray) -> spots_rows.Spots:
        return spots_rows.Spots(lit.spots, squares, lit.forms.vectors, lit.forms.cells, self._spins)

    def _squares(self, lit: Lit, table: np.ndarray | None) -> np.ndarray:
        look = self._plan.lookup
        if not look.has_table:
            return np.full(len(lit.indices), look.default_F**2)
        held = np.square(self._plan.table) if table is None else table
        return np.ascontiguousarray(held[self._places(lit.indices)])

    def _places(self, indices: np.ndarray) -> tuple[np.ndarray, ...]:
        """Where reflections lie in the table; those beyond it on its border."""
        look = self._plan.lookup
        first = np.array([look.h_first, look.k_first, look.l_first])
        last = np.array([look.h_count, look.k_count, look.l_count]) - 1
        return tuple(np.clip(indices - first, 0, last).T)


def _slopes_of_block(parameters: int) -> np.ndarray:
    """Where threads make the slopes of a block."""
    from numba import get_num_threads

    return np.zeros((get_num_threads(), parameters, BLOCK))


def _of_thread(room: spots_rows.Room) -> spots_rows.Room:
    return spots_rows.Room(*(part[0] for part in room))
