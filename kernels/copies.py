"""Copies of rows, on all threads: one of them does not fill a memory channel."""

from bragg_numba.kernels._jit import cpu_kernel
from numba import prange


@cpu_kernel
def copy_rows(rows, out):
    """Copy float32 ``rows`` (slow, fast) into ``out``."""
    for row in prange(rows.shape[0]):
        out[row] = rows[row]
