"""Rendering on the CPU: what both engines share, and the one that walks pixels: which kernel, with which arguments."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from bragg_numba import checks as check
from bragg_numba.kernels.parameters import Frame
from bragg_numba.kernels.pixels.rows import COLUMNS, ROWS
from bragg_numba.kernels.work import N_COLUMNS
from bragg_numba.plan.arithmetic.cpu import CpuArithmetic, choose, code, padded_table, phases
from bragg_numba.plan.plan import Plan
from bragg_numba.plan.work import list_fitting_tiles, list_gaps
from bragg_numba.render.statistics import Tally
from bragg_numba.threads import threads

#: Terms in one call of a kernel: a fraction of a second, so that progress shows and Ctrl-C is heard.
PIXEL_STEPS_IN_CALL = 4e8

#: Fewer tiles than this for each thread would leave some without work.
LEAST_TILES_OF_THREAD = 2

#: Pixels that one thread clears sooner than another one is started.
LEAST_CLEARED = 2**18


def clear(image: np.ndarray) -> None:
    """Fill an image with zeros in as many threads as kernels use: one core does not move what memory can."""
    import numba

    parts = min(numba.get_num_threads(), max(1, image.size // LEAST_CLEARED))
    if parts == 1:
        image[:] = 0.0
        return
    cuts = [len(image) * part // parts for part in range(parts + 1)]
    helpers = [threading.Thread(target=image[a:b].fill, args=(0.0,)) for a, b in zip(cuts[1:], cuts[2:], strict=False)]
    for helper in helpers:
        helper.start()
    image[: cuts[1]] = 0.0
    for helper in helpers:
        helper.join()


class TileRenderer:
    """Renders rows of a plan with CPU kernels, tile by tile; several threads may use one at the same time.

    What the engines share: the ways to render, and the float64 kernel that settles what float32 left open. An engine
    adds ``_render``.
    """

    name = "cpu"
    engine = ""

    #: Predicted time of each engine on one thread, seconds, where they were compared.
    engine_seconds: dict[str, float]

    def __init__(self, plan: Plan, thread_count: int | None, reason: str) -> None:
        check.environment()
        self.plan, self.reason = plan, reason
        self.engine_reason, self.engine_seconds = "asked for", {}
        self._threads = thread_count
        self._arguments = plan.arguments
        self._kernels: dict[str, Any] = {}

    def __getstate__(self) -> dict:
        """What a copy or another process gets: all but compiled code, which it finds when it renders."""
        return self.__dict__ | {"_kernels": {}}

    @property
    def precision(self) -> str:
        """``"tile"`` or ``"float64"``."""
        raise NotImplementedError

    @property
    def cut_photons(self) -> float:
        """What no pixel's expectation is off by more than because something was cut, photons."""
        raise NotImplementedError

    @property
    def notes(self) -> tuple[str, ...]:
        """What this engine does otherwise than a user may expect."""
        return ()

    def render_into(self, out: np.ndarray, tally: Tally, *, cleared: bool = False) -> Iterator[float]:
        """Render the frame into ``out`` (slow, fast) float32; yield the share of it that is there.

        ``cleared``: it holds zeros already.
        """
        if not cleared:
            with threads(self._threads):
                self._clear(out)
        yield from self._render(0, self.plan.shape[0], out, tally)

    def stream(self, ranges: Iterable[tuple[int, int]], tally: Tally) -> Iterator[tuple[int, np.ndarray]]:
        """Render rows of the frame: yield each range's first row and (n, n_fast) float32 photons, in one array."""
        cuts = list(ranges)
        buffer = np.zeros((max(stop - start for start, stop in cuts), self.plan.shape[1]), dtype=np.float32)
        for number, (start, stop) in enumerate(cuts):
            rows = buffer[: stop - start]
            if number:
                with threads(self._threads):
                    clear(rows)
            self.render_rows(start, stop, rows, tally)
            yield start, rows

    def render_rows(self, row_start: int, row_stop: int, out: np.ndarray, tally: Tally | None = None) -> None:
        """Render rows into ``out``, C-contiguous float32 (row_stop - row_start, n_fast), in photons.

        Pixels outside the region of interest, masked ones and, where spots are rendered, those that no spot touches
        are left as they are.
        """
        for _ in self._render(row_start, row_stop, out, Tally() if tally is None else tally):
            pass

    def _render(self, row_start: int, row_stop: int, out: np.ndarray, tally: Tally) -> Iterator[float]:
        """Render rows into ``out``; yield the share of the work that is done, after a fraction of a second each."""
        raise NotImplementedError

    def _clear(self, out: np.ndarray) -> None:
        """Clear of a frame what is not written."""
        raise NotImplementedError

    def _render_float64(self, work: np.ndarray, frame: Frame, tally: Tally, *, only_nans: bool = False) -> None:
        from bragg_numba.kernels.pixels import cpu

        kernel = self._kernels.get("float64")
        if kernel is None:
            kernel = self._kernels["float64"] = cpu.float64_kernel(self._arguments, frame)
        missed = cpu.add_bragg_float64(kernel, *self._arguments, work, only_nans, frame, cpu.float64_scratch())
        tally.missed += int(missed.sum())

    def _settle(self, doubtful: np.ndarray, frame: Frame, tally: Tally) -> None:
        """Render in float64 the pixels of doubtful tiles that are NaN."""
        if len(doubtful):
            self._render_float64(np.ascontiguousarray(doubtful), frame, tally, only_nans=True)


class CpuRenderer(TileRenderer):
    """The engine of pixels: every pixel adds up its steps."""

    engine = "pixels"

    def __init__(
        self, plan: Plan, precision: str = "auto", thread_count: int | None = None, reason: str = "asked for"
    ) -> None:
        super().__init__(plan, thread_count, reason)
        self._listed: tuple[tuple[int, int], np.ndarray] = ((0, 0), np.empty((0, N_COLUMNS), np.int32))
        self.use(choose(plan, precision))

    def use(self, choice: CpuArithmetic) -> None:
        """Render with this arithmetic from now on."""
        self.choice = choice
        self._kernels = {}
        if choice.precision == "tile":
            self._code = code(self.plan, choice)
            self._phases = phases(self.plan, choice)
            self._use_table()

    def _use_table(self) -> None:
        """Make what float32 terms take of the structure factors, faint ones left out."""
        faintest = 0.0
        if self.cut_photons > 0.0:
            from bragg_numba.predict.lit import brightest_term

            ceiling = brightest_term(self.plan)
            faintest = float(np.float64(self.cut_photons / ceiling if ceiling > 0.0 else np.inf))
        if self.plan.dispersion is not None:
            self._padded = self.plan.lookup
            self._squared = self.plan.dispersion.kernels._replace(faintest=faintest)
            return
        self._padded, self._squared = padded_table(self.plan)
        if self.cut_photons > 0.0:
            self._squared = _without_faint(self._squared, faintest)

    @property
    def precision(self) -> str:
        """``"tile"`` or ``"float64"``."""
        return self.choice.precision

    @property
    def cut_photons(self) -> float:
        """The cutoff, where structure factors come from a table: float64 has none."""
        cuts = self.choice.precision == "tile" and self.plan.lookup.has_table
        return self.plan.experiment.sampling.cutoff_photons if cuts else 0.0

    @property
    def notes(self) -> tuple[str, ...]:
        """That a cutoff has no effect, where it has none."""
        cutoff = self.plan.experiment.sampling.cutoff_photons
        if cutoff == 0.0 or self.cut_photons > 0.0:
            return ()
        rule = "pixels pass over faint reflections of a table, in float32"
        return (f"the cutoff of {cutoff:g} photons has no effect: {rule}",)

    def _render(self, row_start: int, row_stop: int, out: np.ndarray, tally: Tally) -> Iterator[float]:
        plan = self.plan
        frame = Frame(out, plan.mask, row_start)
        work = self._list_tiles(row_start, row_stop)
        render = self._render_tile if self.precision == "tile" else self._render_float64
        for start, stop in self._calls(len(work)):
            with threads(self._threads):
                render(work[start:stop], frame, tally)
            yield stop / len(work)

    def _clear(self, out: np.ndarray) -> None:
        plan = self.plan
        if plan.mask.size or plan.roi != (0, plan.shape[1] - 1, 0, plan.shape[0] - 1):
            clear(out)
        else:  # a frame of a single step renders about as fast as it is cleared
            for gap in list_gaps(plan.panels, plan.shape):
                out[gap] = 0.0

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

    def _render_tile(self, work: np.ndarray, frame: Frame, tally: Tally) -> None:
        """Render tiles in float32, and in float64 what float32 could not decide."""
        from bragg_numba.kernels.pixels import cpu

        panels, lattice, _, rules, sources, cells, _ = self._arguments
        extra = (self._phases, self._padded, self._squared)
        kernel = self._kernels.get("tile")
        if kernel is None:
            kernel = self._kernels["tile"] = cpu.tile_kernel(self._code, self._arguments, *extra, frame)
        nouns = (panels, lattice, self._padded, rules, self._phases, sources, cells, self._squared)
        doubts = cpu.add_bragg_tile(kernel, *nouns, work, frame, cpu.tile_scratch(self._code.dispersed))
        self._settle(work[doubts != 0], frame, tally)


def _without_faint(squared: np.ndarray, faintest: float) -> np.ndarray:
    """A table of F^2 without the reflections that bring at most the cutoff to any pixel, whatever it does.

    ``faintest``: the cutoff over lit.brightest_term. Tiles that reach no other reflection are passed over
    (pixels/tile.is_dark), and a pixel lacks at most the cutoff: in each of its steps it sees one reflection.
    """
    return np.where(squared <= np.float64(faintest), np.float32(0.0), squared)
