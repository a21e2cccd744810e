"""Rendering on the CPU: which kernel, with which arguments."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np

from bragg_numba import checks as check
from bragg_numba.errors import InputError
from bragg_numba.kernels.parameters import Frame
from bragg_numba.kernels.pixels.rows import COLUMNS, ROWS
from bragg_numba.kernels.work import N_COLUMNS
from bragg_numba.plan.arithmetic.cpu import CpuArithmetic, choose, code, padded_table, phases
from bragg_numba.plan.plan import Plan
from bragg_numba.plan.work import list_fitting_tiles, list_gaps
from bragg_numba.render.statistics import Tally


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


#: Terms in one call of a kernel: a fraction of a second, so that progress shows and Ctrl-C is heard.
PIXEL_STEPS_IN_CALL = 4e8

#: Fewer tiles than this for each thread would leave some without work.
LEAST_TILES_OF_THREAD = 2


class CpuRenderer:
    """Renders rows of a plan with the CPU kernels; several threads may use one at the same time."""

    name = "cpu"

    def __init__(
        self, plan: Plan, precision: str = "auto", thread_count: int | None = None, reason: str = "asked for"
    ) -> None:
        check.environment()
        self.plan, self.reason = plan, reason
        self._threads = thread_count
        self._listed: tuple[tuple[int, int], np.ndarray] = ((0, 0), np.empty((0, N_COLUMNS), np.int32))
        self.use(choose(plan, precision))

    def __getstate__(self) -> dict:
        """What a copy or another process gets: all but compiled code, which it finds when it renders."""
        return self.__dict__ | {"_kernels": {}}

    def use(self, choice: CpuArithmetic) -> None:
        """Render with this arithmetic from now on."""
        self.choice = choice
        self._arguments = self.plan.arguments
        self._kernels: dict[str, object] = {}
        if choice.precision == "tile":
            self._code = code(self.plan, choice)
            self._phases = phases(self.plan, choice)
            self._padded, self._squared = padded_table(self.plan)

    @property
    def precision(self) -> str:
        """``"tile"`` or ``"float64"``."""
        return self.choice.precision

    def render_into(self, out: np.ndarray, tally: Tally) -> Iterator[float]:
        """Render the frame into ``out`` (slow, fast) float32; yield the share of it that is there."""
        plan = self.plan
        if not plan.covers_frame:
            # A frame of a single step renders about as fast as it is cleared.
            wholly = plan.mask.size or plan.roi != (0, plan.shape[1] - 1, 0, plan.shape[0] - 1)
            for gap in [np.s_[:, :]] if wholly else list_gaps(plan.panels, plan.shape):
                out[gap] = 0.0
        yield from self._render(0, self.plan.shape[0], out, tally)

    def stream(self, ranges: Iterable[tuple[int, int]], tally: Tally) -> Iterator[tuple[int, np.ndarray]]:
        """Render rows of the frame: yield each range's first row and (n, n_fast) float32 photons, in one array."""
        cuts = list(ranges)
        buffer = np.zeros((max(stop - start for start, stop in cuts), self.plan.shape[1]), dtype=np.float32)
        for start, stop in cuts:
            rows = buffer[: stop - start]
            rows[:] = 0.0
            self.render_rows(start, stop, rows, tally)
            yield start, rows

    def render_rows(self, row_start: int, row_stop: int, out: np.ndarray, tally: Tally | None = None) -> None:
        """Render rows into ``out``, C-contiguous float32 (row_stop - row_start, n_fast), in photons.

        Pixels outside the region of interest and masked ones are left as they are.
        """
        for _ in self._render(row_start, row_stop, out, Tally() if tally is None else tally):
            pass

    def _render(self, row_start: int, row_stop: int, out: np.ndarray, tally: Tally) -> Iterator[float]:
        plan = self.plan
        frame = Frame(out, plan.mask, row_start)
        work = self._list_tiles(row_start, row_stop)
        render = self._render_tile if self.precision == "tile" else self._render_float64
        for start, stop in self._calls(len(work)):
            with threads(self._threads):
                render(work[start:stop], frame, tally)
            yield stop / len(work)

    def _list_tiles(self, row_start: int, row_stop: int) -> np.ndarray:
        """The work list of some rows; the last one is kept, for who renders the same rows again and again."""
        rows, plan = (row_start, row_stop), self.plan
        listed = self._listed  # once: another thread may render other rows
        if listed[0] != rows:
            listed = (rows, list_fitting_tiles(plan.panels, plan.roi, plan.mask, rows))
            self._listed = listed
        return listed[1]

    def _calls(self, n_tiles: int) -> Iterator[tuple[int, int]]:
        """Cut a work list into calls that take a fraction of a second each."""
        import numba

        of_tile = ROWS * COLUMNS * self.plan.steps * self.plan.layers.n
        tiles = max(int(PIXEL_STEPS_IN_CALL // of_tile), LEAST_TILES_OF_THREAD * numba.get_num_threads())
        for start in range(0, n_tiles, tiles):
            yield start, min(start + tiles, n_tiles)

    def _render_float64(self, work: np.ndarray, frame: Frame, tally: Tally, *, only_nans: bool = False) -> None:
        from bragg_numba.kernels.pixels import cpu

        kernel = self._kernels.get("float64")
        if kernel is None:
            kernel = self._kernels["float64"] = cpu.float64_kernel(self._arguments, frame)
        missed = cpu.add_bragg_float64(kernel, *self._arguments, work, only_nans, frame, cpu.float64_scratch())
        tally.missed += int(missed.sum())

    def _render_tile(self, work: np.ndarray, frame: Frame, tally: Tally) -> None:
        """Render tiles in float32, and in float64 what float32 could not decide."""
        from bragg_numba.kernels.pixels import cpu

        panels, lattice, _, rules, sources, cells, _ = self._arguments
        extra = (self._phases, self._padded, self._squared)
        kernel = self._kernels.get("tile")
        if kernel is None:
            kernel = self._kernels["tile"] = cpu.tile_kernel(self._code, self._arguments, *extra, frame)
        nouns = (panels, lattice, self._padded, rules, self._phases, sources, cells, self._squared)
        doubts = cpu.add_bragg_tile(kernel, *nouns, work, frame, cpu.tile_scratch())
        if doubts.any():
            self._render_float64(np.ascontiguousarray(work[doubts != 0]), frame, tally, only_nans=True)
