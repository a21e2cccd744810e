"""Rendering on the CPU: which kernel, with which arguments."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np

from bragg_numba.errors import InputError
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


class CpuRenderer:
    """Renders rows of a plan with the CPU kernels.

    ``missed`` counts the interpolations that left the structure factor table, over all rows so far.
    """

    name = "cpu"

    def __init__(self, plan: Plan, precision: str = "auto", thread_count: int | None = None) -> None:
        self.plan = plan
        self.missed = 0
        self._threads = thread_count
        self.precision = precision

    def render_rows(self, row_start: int, row_stop: int, out: np.ndarray) -> None:
        """Render rows into ``out``, C-contiguous float32 (row_stop - row_start, n_fast), in photons.

        Pixels outside the region of interest and masked ones are left as they are.
        """
        from bragg_numba.kernels import cpu

        plan = self.plan
        groups = plan.roi[1] // cpu.LANES - plan.roi[0] // cpu.LANES + 1
        blocks = (row_stop - row_start) * groups // cpu.BLOCK_GROUPS + 1
        missed = np.zeros(blocks, dtype=np.int64)
        with threads(self._threads):
            cpu.add_bragg_float64(
                plan.geometry,
                plan.lattice,
                plan.lookup,
                plan.rules,
                plan.sources.incident,
                plan.sources.wavelength,
                plan.sources.weight,
                plan.cells,
                plan.table,
                plan.roi,
                plan.mask,
                row_start,
                row_stop,
                out,
                missed,
            )
        self.missed += int(missed.sum())
