"""The simulator: a plan made once, rendered as often as wanted."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np

from bragg_numba.errors import InputError
from bragg_numba.experiment import Experiment
from bragg_numba.experiment import _checks as check
from bragg_numba.plan.memory import require
from bragg_numba.plan.plan import Plan, make_plan
from bragg_numba.render.cpu import CpuRenderer
from bragg_numba.render.statistics import Statistics, StatisticsCollector

PRECISIONS = ("auto", "tile", "float64")

#: Terms in one tile: a fraction of a second, so that progress shows and Ctrl-C is heard.
TILE_PIXEL_STEPS = 4e8


class Simulator:
    """Renders one experiment; making it makes the plan.

    Parameters
    ----------
    experiment
        What to render.
    backend
        ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
    precision
        ``"auto"``: float32 where its error bound allows it, else float64; ``"tile"`` or ``"float64"``
        force one of them.
    threads
        CPU threads; None: all.
    max_memory
        Bytes that the plan and the frame may take; None: 80 % of what is free.
    plan
        The experiment's plan where it was made before; None: made here.

    Examples
    --------
    >>> from bragg_numba import Experiment, Simulator
    >>> sim = Simulator(Experiment.from_nanobragg("-cell 100 -default_F 100 -N 5 -detpixels 64"))
    >>> sim.render().shape
    (64, 64)
    """

    def __init__(
        self,
        experiment: Experiment,
        *,
        backend: str = "auto",
        precision: str = "auto",
        threads: int | None = None,
        max_memory: int | None = None,
        plan: Plan | None = None,
    ) -> None:
        if not isinstance(experiment, Experiment):
            raise InputError("experiment", "must be an Experiment", experiment)
        check.choice("precision", precision, PRECISIONS)
        self.plan: Plan = make_plan(experiment, max_memory) if plan is None else plan
        self._renderer = _choose_renderer(backend, self.plan, precision, threads)
        self._max_memory = max_memory
        self._statistics: Statistics | None = None
        self._last: np.ndarray | None = None

    @property
    def experiment(self) -> Experiment:
        """What is rendered."""
        return self.plan.experiment

    @property
    def backend(self) -> str:
        """The backend that was chosen."""
        return self._renderer.name

    @property
    def precision(self) -> str:
        """The precision that was chosen."""
        return self._renderer.precision

    @property
    def shape(self) -> tuple[int, int]:
        """(slow, fast) pixels."""
        return self.plan.shape

    @property
    def notes(self) -> tuple[str, ...]:
        """What was done otherwise than a user may expect, one sentence each."""
        missed = self._renderer.missed
        if not missed:
            return self.plan.notes
        return (
            *self.plan.notes,
            f"{missed} interpolations reached beyond the structure factor table and took the nearest entry",
        )

    def render(self, out: np.ndarray | None = None, progress: Callable[[float], None] | None = None) -> np.ndarray:
        """Render the frame.

        Parameters
        ----------
        out
            (slow, fast) float32, C-contiguous: gets the photons and is returned. Without it a new array.
        progress
            Called with the fraction done, from time to time.

        Returns
        -------
        numpy.ndarray
            (slow, fast) float32, photons. Pixels outside the region of interest or masked are 0.
        """
        if out is None:
            self.require_image_memory()
            out = np.zeros(self.shape, dtype=np.float32)
        else:
            self._check_out(out)
            if self.plan.mask.size or self.plan.roi != (0, self.shape[1] - 1, 0, self.shape[0] - 1):
                out[:] = 0.0
        self._statistics, self._last = None, out
        self._renderer.missed = 0
        for start, stop in self._tiles():
            self._renderer.render_rows(start, stop, out[start:stop])
            if progress is not None:
                progress(stop / self.shape[0])
        return out

    def tiles(self, rows: int | None = None) -> Iterator[tuple[int, np.ndarray]]:
        """Render the frame in tiles of whole rows, for frames larger than memory.

        Yields
        ------
        (int, numpy.ndarray)
            First row and (n, n_fast) float32 photons. The array is used again for the next tile.
        """
        n_slow, n_fast = self.shape
        rows = rows or max(1, min(n_slow, 2**25 // n_fast))
        buffer = np.zeros((min(rows, n_slow), n_fast), dtype=np.float32)
        collector = StatisticsCollector(self.plan)
        self._renderer.missed = 0
        for start in range(0, n_slow, rows):
            stop = min(start + rows, n_slow)
            tile = buffer[: stop - start]
            tile[:] = 0.0
            self._renderer.render_rows(start, stop, tile)
            collector.add(tile, start)
            yield start, tile
        self._last, self._statistics = None, collector.result()

    @property
    def statistics(self) -> Statistics:
        """Statistics of the last frame, by nanoBragg's definitions."""
        if self._statistics is None:
            if self._last is None:
                raise InputError("Simulator.statistics", "needs a rendered frame", hint="call render() first")
            collector = StatisticsCollector(self.plan)
            collector.add(self._last)
            self._statistics = collector.result()
        return self._statistics

    def require_image_memory(self) -> None:
        """Raise InputError if a whole frame takes more memory than is allowed."""
        n_slow, n_fast = self.shape
        require("the image", 4 * n_slow * n_fast, self._max_memory, f"{n_fast} x {n_slow} pixels")

    def require_finite(self) -> None:
        """Raise InputError if the last frame holds more photons in a pixel than float32 can."""
        if not math.isfinite(self.statistics.sum):
            raise InputError(
                "the image",
                "has pixels beyond the largest float32, 3.4e38 photons",
                hint="lower the fluence, the structure factors or the size of the crystal",
            )

    def solid_angle(self) -> float:
        """Solid angle of the rendered pixels, steradian."""
        from bragg_numba.kernels import frame

        rows = np.zeros(self.shape[0])
        frame.sum_solid_angles(self.plan.geometry, self.plan.roi, self.plan.mask, rows)
        return float(rows.sum())

    def trace(self, slow: int, fast: int, max_steps: int | None = None):
        """Trace one pixel: a mapping of every intermediate quantity, see ``parity.trace.Trace``.

        Computed in float64, whatever precision renders. ``max_steps`` bounds the sub-steps that are listed.
        """
        from bragg_numba.parity.trace import MAX_STEPS, trace_pixel

        return trace_pixel(self.plan, slow, fast, MAX_STEPS if max_steps is None else max_steps)

    def _check_out(self, out) -> None:
        if not isinstance(out, np.ndarray) or out.shape != self.shape or out.dtype != np.float32:
            shown = f"{getattr(out, 'dtype', type(out).__name__)} {getattr(out, 'shape', '')}"
            raise InputError("out", f"must be a float32 array of shape {self.shape}", shown)
        if not out.flags.c_contiguous or not out.flags.writeable:
            raise InputError("out", "must be C-contiguous and writeable")

    def _tiles(self) -> Iterator[tuple[int, int]]:
        n_slow = self.shape[0]
        per_row = max(1.0, self.plan.pixel_steps / n_slow)
        rows = int(max(1, min(n_slow, TILE_PIXEL_STEPS // per_row)))
        for start in range(0, n_slow, rows):
            yield start, min(start + rows, n_slow)


def _choose_renderer(backend: str, plan: Plan, precision: str, threads: int | None):
    if backend in ("auto", "cpu"):
        return CpuRenderer(plan, precision, threads)
    raise InputError("backend", "must be one of auto, cpu", backend)


def simulate(experiment: Experiment, backend: str = "auto", **options) -> np.ndarray:
    """Render one frame: ``Simulator(experiment, backend=backend, **options).render()``.

    Returns
    -------
    numpy.ndarray
        (slow, fast) float32, photons.
    """
    return Simulator(experiment, backend=backend, **options).render()
