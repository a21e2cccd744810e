"""Rendering on the CPU: which kernel, with which arguments."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np

from bragg_numba.errors import InputError
from bragg_numba.plan.plan import Plan
from bragg_numba.render.precision import choose


@contextmanager
def threads(count: int | None):
    """Let kernels use ``count`` threads (None or 0: all) inside the block."""
    import numba

    if not count:
        yield
        return
    most = numba.config.NUMBA_NUM_THREADS
    if not 1 <= count <= most:
        raise InputError("threads", f"must lie between 1 and {most} on this machine", count)
    before = numba.get_num_threads()
    numba.set_num_threads(count)
    try:
        yield
    finally:
        numba.set_num_threads(before)


#: Terms in one tile: a fraction of a second, so that progress shows and Ctrl-C is heard.
TILE_PIXEL_STEPS = 4e8


class CpuRenderer:
    """Renders rows of a plan with the CPU kernels.

    ``missed`` counts the interpolations that left the structure factor table, over all rows so far.
    """

    name = "cpu"

    def __init__(
        self, plan: Plan, precision: str = "auto", thread_count: int | None = None, reason: str = "asked for"
    ) -> None:
        self.plan, self.reason = plan, reason
        self.missed = 0
        self._threads = thread_count
        self.choice = choose(plan, precision)
        self._table_squared = plan.table_squared.reshape(-1)

    @property
    def precision(self) -> str:
        """``tile`` or ``float64``."""
        return "tile" if self.choice.lanes else "float64"

    def ranges(self) -> Iterator[tuple[int, int]]:
        """Cut the frame into rows that take a fraction of a second."""
        n_slow = self.plan.shape[0]
        per_row = max(1.0, self.plan.pixel_steps / n_slow)
        rows = int(max(1, min(n_slow, TILE_PIXEL_STEPS // per_row)))
        for start in range(0, n_slow, rows):
            yield start, min(start + rows, n_slow)

    def render_into(self, out: np.ndarray) -> Iterator[int]:
        """Render the frame into ``out`` (slow, fast) float32; yield how many rows are there."""
        if self.plan.mask.size or self.plan.roi != (0, self.plan.shape[1] - 1, 0, self.plan.shape[0] - 1):
            out[:] = 0.0
        for start, stop in self.ranges():
            self.render_rows(start, stop, out[start:stop])
            yield stop

    def stream(self, ranges: Iterable[tuple[int, int]]) -> Iterator[tuple[int, np.ndarray]]:
        """Render tiles of rows: yield each one's first row and (n, n_fast) float32 photons, in one array."""
        cuts = list(ranges)
        buffer = np.zeros((max(stop - start for start, stop in cuts), self.plan.shape[1]), dtype=np.float32)
        for start, stop in cuts:
            tile = buffer[: stop - start]
            tile[:] = 0.0
            self.render_rows(start, stop, tile)
            yield start, tile

    def render_rows(self, row_start: int, row_stop: int, out: np.ndarray) -> None:
        """Render rows into ``out``, C-contiguous float32 (row_stop - row_start, n_fast), in photons.

        Pixels outside the region of interest and masked ones are left as they are.
        """
        with threads(self._threads):
            if self.choice.lanes:
                self._render_tile(row_start, row_stop, out)
            else:
                self._render_float64(row_start, row_stop, out)

    def _plan_arguments(self) -> tuple:
        plan, sources = self.plan, self.plan.sources
        nouns = (plan.geometry, plan.lattice, plan.lookup, plan.rules)
        return (*nouns, sources.incident, sources.wavelength, sources.weight, plan.cells, plan.table)

    def _render_float64(self, row_start: int, row_stop: int, out: np.ndarray) -> None:
        from bragg_numba.kernels import cpu

        roi = self.plan.roi
        groups = roi[1] // cpu.LANES_64 - roi[0] // cpu.LANES_64 + 1
        missed = np.zeros((row_stop - row_start) * (groups // cpu.GROUPS_64 + 1), dtype=np.int64)
        cpu.add_bragg_float64(*self._plan_arguments(), roi, self.plan.mask, row_start, row_stop, out, missed)
        self.missed += int(missed.sum())

    def _render_tile(self, row_start: int, row_stop: int, out: np.ndarray) -> None:
        from bragg_numba.kernels import cpu, cpu_tile

        lanes = self.choice.lanes
        groups = cpu_tile.PIXELS // lanes
        tile_rows = min(cpu.TILE_ROWS, groups, 1 << max(0, row_stop - row_start - 1).bit_length())
        cpu.add_bragg_tile(
            *self._plan_arguments(),
            self._table_squared,
            self.plan.roi,
            self.plan.mask,
            row_start,
            row_stop,
            np.array(self.plan.cell_counts * 2, dtype=np.float32),
            np.float32(self.choice.near_half),
            (0,) * lanes,
            tile_rows,
            out,
        )
