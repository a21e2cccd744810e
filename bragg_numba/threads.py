"""How many threads kernels may use."""

from __future__ import annotations

from contextlib import contextmanager

from bragg_numba.errors import InputError


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
