"""Slopes reflection by reflection: what the kernels of that engine are told, and which pixels they sum."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from bragg_numba.errors import InputError
from bragg_numba.kernels.parameters import YES, Panel
from bragg_numba.kernels.slopes import spots_rows
from bragg_numba.kernels.slopes.rows import BLOCK, N_ROWS
from bragg_numba.kernels.slopes.spots_rows import COLUMN, COUNT, FIRST, N_FIELD, PANEL, ROW, Listed
from bragg_numba.kernels.spots.rows import BLOCK_COLUMNS, BLOCK_ROWS, Lists
from bragg_numba.kernels.work import COLUMN as WORK_COLUMN
from bragg_numba.kernels.work import N_COLUMNS
from bragg_numba.kernels.work import PANEL as WORK_PANEL
from bragg_numba.kernels.work import ROW as WORK_ROW
from bragg_numba.plan.arithmetic.spots import cannot_serve
from bragg_numba.plan.plan import Plan
from bragg_numba.predict.lit import SHARE_OF_CUT, Lit, deal, find_lit, group_sources
from bragg_numba.slopes.contraction import Contraction
from bragg_numba.slopes.pixels import Batch, join_batch, pieces_of, pixels_in_boxes
from bragg_numba.threads import threads

#: Part of the photons that may lie beyond the cut of a gauss spot which may where slopes are summed: beyond it they
#: are a larger part of what they are at most (eq. 71). In float64 so little that differences of images do not show it.
PART_OF_CUT, PART_IN_FLOAT64 = 1e-2, 1e-8

#: Pixels that are listed at a time, and at least that many fields a thread.
PIXELS_IN_BATCH, FIELDS_OF_THREAD = 2**18, 4


@dataclass(frozen=True, slots=True)
class FieldBatch(Batch):
    """A Batch whose blocks lie in fields, int32 (n, N_FIELD) of kernels.slopes.spots_rows."""

    fields: np.ndarray


def require_servable(plan: Plan) -> None:
    """Raise InputError if slopes of a plan cannot be summed reflection by reflection."""
    if why := cannot_serve(plan):
        raise InputError("Sampling.engine", f"cannot be spots: {why}", hint="auto takes pixels there")


def list_fields(plan: Plan, wanted: np.ndarray, boxes: np.ndarray | None) -> Iterator[FieldBatch]:
    """List the wanted pixels of every panel field by field; with boxes only theirs."""
    import numba

    whole = pieces_of(np.ones((BLOCK_ROWS, BLOCK_COLUMNS), dtype=np.bool_))
    most = max(PIXELS_IN_BATCH, BLOCK_ROWS * BLOCK_COLUMNS * FIELDS_OF_THREAD * numba.get_num_threads())
    for index, panel in enumerate(plan.panels):
        rows = slice(panel.first_row, panel.first_row + panel.n_slow)
        of_panel = wanted[rows, panel.first_column : panel.first_column + panel.n_fast]
        if boxes is not None:
            of_panel = of_panel & pixels_in_boxes(panel, boxes)
        waiting: list[tuple[int, int, np.ndarray, np.ndarray]] = []
        listed = 0
        for top in range(0, panel.n_slow, BLOCK_ROWS):
            for left in range(0, panel.n_fast, BLOCK_COLUMNS):
                part = of_panel[top : top + BLOCK_ROWS, left : left + BLOCK_COLUMNS]
                full = part.shape == (BLOCK_ROWS, BLOCK_COLUMNS) and part.all()
                down, across = whole if full else pieces_of(part)
                if len(down):
                    waiting.append((top, left, down, across))
                    listed += len(down)
            if listed >= most:
                yield _fields(index, panel, waiting)
                waiting, listed = [], 0
        if waiting:
            yield _fields(index, panel, waiting)


def _fields(index: int, panel: Panel, waiting: list[tuple[int, int, np.ndarray, np.ndarray]]) -> FieldBatch:
    fields = np.zeros((len(waiting), N_FIELD), dtype=np.int32)
    cuts = [0]
    for field, (top, left, down, _) in zip(fields, waiting, strict=True):
        parts, start = -(-len(down) // BLOCK), cuts[-1]
        field[PANEL], field[ROW], field[COLUMN], field[FIRST], field[COUNT] = index, top, left, len(cuts) - 1, parts
        cuts += [start + min(BLOCK * (part + 1), len(down)) for part in range(parts)]
    rows = np.concatenate([down + np.int32(top) for top, _, down, _ in waiting])
    columns = np.concatenate([across + np.int32(left) for _, left, _, across in waiting])
    return FieldBatch(*join_batch(index, panel, rows, columns, np.array(cuts)), fields)


class SpotsWalker:
    """Sums slopes of a plan's pixels reflection by reflection.

    Which reflections these are is found when it is first needed, and kept: they are frozen.

    Parameters
    ----------
    plan
        Of the experiment, at the values where slopes are taken.
    spins
        float64 (orientations, 9): kernels.slopes.spots_rows.Spots.
    single
        Whether terms are float32.
    alone
        Whether each source counts for itself.
    thread_count
        None: all.
    """

    def __init__(self, plan: Plan, spins: np.ndarray, *, single: bool, alone: bool, thread_count: int | None) -> None:
        self._plan, self._spins, self._single = plan, spins, single
        self._alone, self._threads = alone, thread_count
        self._lists: dict[tuple[int, bool], Lists] = {}
        self._kernels: dict[Any, Any] = {}

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_kernels": {}, "_lists": {}}

    def images(
        self, number: int, batch: FieldBatch, contraction: Contraction, squares: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Photons (pixels,) and slopes (parameters, pixels), float64; ``squares``: a table of |F|^2 instead."""
        from bragg_numba.kernels.slopes import cpu, spots_cpu

        values = np.zeros(len(batch.rows))
        images = np.zeros((len(contraction.starts) - 1, len(batch.rows)))
        with threads(self._threads):
            nouns = self._nouns(number, batch, contraction, squares)
            sparse = cpu.Contraction(contraction.starts, contraction.places, contraction.factors)
            spots_cpu.add_images(*nouns, sparse, self._slopes(len(images)), values, images)
        return values, images

    def pulls(self, number: int, batch: FieldBatch, contraction: Contraction, weights: np.ndarray) -> np.ndarray:
        """(blocks, rows): sums over a block's pixels of what slopes are linear in, times their weights."""
        from bragg_numba.kernels.slopes import spots_cpu

        found = np.zeros((len(batch.blocks), N_ROWS + contraction.weights.shape[1]))
        with threads(self._threads):
            spots_cpu.add_pulls(*self._nouns(number, batch, contraction, None), weights, found)
        return found

    def normals(
        self, number: int, batch: FieldBatch, contraction: Contraction, kind: int, *fields: np.ndarray
    ) -> np.ndarray:
        """(blocks, numbers): value, gradient and the triangle of the matrix."""
        from bragg_numba.kernels.slopes import cpu, spots_cpu

        n = len(contraction.starts) - 1
        found = np.zeros((len(batch.blocks), 1 + n + n * (n + 1) // 2))
        with threads(self._threads):
            nouns = self._nouns(number, batch, contraction, None)
            sparse = cpu.Contraction(contraction.starts, contraction.places, contraction.factors)
            slopes = self._slopes(n)
            judged = np.zeros((len(slopes), 3, BLOCK))
            spots_cpu.add_normals(*nouns, sparse, slopes, kind, *fields, judged, found)
        return found

    def pull_squares(self, number: int, batch: FieldBatch, weights: np.ndarray) -> np.ndarray:
        """The gradient in |F|^2 of every place of the table, (h, k, l) float64."""
        from bragg_numba.kernels.slopes import spots, spots_cpu

        plan, lit = self._plan, self._lit_of_all
        gradient = np.zeros(plan.table.shape)
        with threads(self._threads):
            listed = self._listed(number, batch, of_all=True)
            found = np.zeros(len(listed.spot))
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
        np.add.at(gradient, self._places(lit.indices[listed.spot]), found)
        return gradient

    # --- what the kernels are told ------------------------------------------------------------------

    def _nouns(self, number: int, batch: FieldBatch, contraction: Contraction, squares: np.ndarray | None) -> tuple:
        from bragg_numba.kernels.slopes import spots, spots_cpu

        plan = self._plan
        panels, lattice, _, rules, sources, _, _ = plan.arguments
        lit = self._lit if squares is None else self._lit_of_all
        moves = spots_rows.Moves(contraction.weights, contraction.waves)
        room = spots_cpu.room_of(moves.weights.shape[1])
        nouns = (
            *(panels, lattice, rules, sources, self._beams),
            self._spots(lit, self._squares(lit, squares)),
            contraction.wanted,
            moves,
            self._listed(number, batch, of_all=squares is not None),
        )
        sloped = any(contraction.wanted)
        kernel = self._kernels.get(sloped)
        if kernel is None:
            wanted = (YES if one else None for one in (self._single, sloped))
            function = spots.sum_of_fields(plan.lattice.shape, *wanted)
            kernel = self._kernels[sloped] = function.given(*nouns, np.int64(0), _of_thread(room))
        return kernel, *nouns, room

    @cached_property
    def _beams(self):
        return group_sources(self._plan, alone=self._alone)

    @cached_property
    def _lit(self) -> Lit:
        return self._find(self._plan)

    @cached_property
    def _lit_of_all(self) -> Lit:
        """As if all reflections were as strong as the strongest: what a change of |F|^2 shows does not depend on it."""
        largest = max(float(np.abs(self._plan.table).max(initial=0.0)), 1e-3)
        return self._find(dataclasses.replace(self._plan, table=np.full_like(self._plan.table, largest)))

    def _find(self, plan: Plan) -> Lit:
        part = PART_OF_CUT if self._single else PART_IN_FLOAT64
        cutoff = plan.experiment.sampling.cutoff_photons
        with threads(self._threads):
            return find_lit(plan, cutoff, single=self._single, share_of_cut=part * SHARE_OF_CUT)

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

    def _listed(self, number: int, batch: FieldBatch, *, of_all: bool) -> Listed:
        lists = self._lists.get((number, of_all))
        if lists is None:
            lit = self._lit_of_all if of_all else self._lit
            tiles = np.zeros((len(batch.fields), N_COLUMNS), dtype=np.int32)
            tiles[:, WORK_PANEL], tiles[:, WORK_ROW] = batch.fields[:, PANEL], batch.fields[:, ROW]
            tiles[:, WORK_COLUMN] = batch.fields[:, COLUMN]
            lists = self._lists[number, of_all] = deal(self._plan, lit, tiles, (BLOCK_ROWS, BLOCK_COLUMNS))
        return Listed(batch.fields, lists.first, lists.spot, batch.blocks, batch.rows, batch.columns)

    def _slopes(self, parameters: int) -> np.ndarray:
        """Where threads make the slopes of a block."""
        from numba import get_num_threads

        return np.zeros((get_num_threads(), parameters, BLOCK))


def _of_thread(room: spots_rows.Room) -> spots_rows.Room:
    return spots_rows.Room(*(part[0] for part in room))
