"""Rendering on the CPU: which kernel, with which arguments."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np

from bragg_numba.errors import InputError
from bragg_numba.kernels.cpu_rows import COLUMNS, ROWS
from bragg_numba.plan.arithmetic.cpu import CpuArithmetic, choose, padded_table, phases
from bragg_numba.plan.plan import Plan


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
        self.use(choose(plan, precision))

    def __getstate__(self) -> dict:
        """What a copy or another process gets: all but compiled code, which it finds when it renders."""
        return self.__dict__ | {"_kernels": None}

    def use(self, choice: CpuArithmetic) -> None:
        """Render with this arithmetic from now on."""
        self.choice = choice
        self._kernels: tuple | None = None
        if choice.precision == "tile":
            self._phases = phases(self.plan, choice)
            self._padded, self._squared = padded_table(self.plan)

    @property
    def precision(self) -> str:
        """``"tile"`` or ``"float64"``."""
        return self.choice.precision

    def ranges(self) -> Iterator[tuple[int, int]]:
        """Cut the frame into rows that take a fraction of a second."""
        n_slow = self.plan.shape[0]
        per_row = max(1.0, self.plan.pixel_steps / n_slow)
        rows = int(max(ROWS, TILE_PIXEL_STEPS // per_row // ROWS * ROWS))  # whole tiles
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

    def _column_cuts(self, rows: int) -> Iterator[tuple[int, int, int, int]]:
        """Cut the region of interest into columns of tiles where even the fewest rows take long."""
        fast_first, fast_last, slow_first, slow_last = self.plan.roi
        per_column = self.plan.pixel_steps / self.plan.shape[0] / (fast_last - fast_first + 1) * max(rows, ROWS)
        columns = max(1, int(TILE_PIXEL_STEPS // (per_column * COLUMNS))) * COLUMNS
        for start in range(fast_first // COLUMNS * COLUMNS, fast_last + 1, columns):
            yield max(start, fast_first), min(start + columns - 1, fast_last), slow_first, slow_last

    def render_rows(self, row_start: int, row_stop: int, out: np.ndarray) -> None:
        """Render rows into ``out``, C-contiguous float32 (row_stop - row_start, n_fast), in photons.

        Pixels outside the region of interest and masked ones are left as they are.
        """
        with threads(self._threads):
            for roi in self._column_cuts(row_stop - row_start):
                if self.precision == "tile":
                    self._render_tile(roi, row_start, row_stop, out)
                else:
                    self._render_float64(roi, row_start, row_stop, out)

    def _render_float64(self, roi: tuple[int, int, int, int], row_start: int, row_stop: int, out: np.ndarray) -> None:
        from bragg_numba.kernels import cpu

        plan = self.plan
        missed = np.zeros(cpu.count_tiles(row_start, row_stop, roi), dtype=np.int64)
        cpu.add_bragg_float64(*self._fetch_kernels(), *plan.arguments, roi, plan.mask, row_start, row_stop, out, missed)
        self.missed += int(missed.sum())

    def _render_tile(self, roi: tuple[int, int, int, int], row_start: int, row_stop: int, out: np.ndarray) -> None:
        from bragg_numba.kernels import cpu

        plan, tile = self.plan, self._tile_arguments()
        cpu.add_bragg_tile(*self._fetch_kernels(), *plan.arguments, *tile, roi, plan.mask, row_start, row_stop, out)

    def _tile_arguments(self) -> tuple:
        return self._phases, self._padded, self._squared, (0,) * self.choice.split

    def _fetch_kernels(self) -> tuple:
        """The kernels of a tile for arguments like these, found once: short renders come by thousands."""
        from bragg_numba.kernels import cpu

        if self._kernels is None:
            arguments = self.plan.arguments
            self._kernels = (cpu.float64_kernel(arguments),)
            if self.precision == "tile":
                self._kernels = (cpu.tile_kernel(arguments, *self._tile_arguments()), *self._kernels)
        return self._kernels
