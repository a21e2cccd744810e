"""What light that is scattered far brings, between squares of pixels."""

from __future__ import annotations

import numpy as np
from bragg_numba.kernels._jit import cpu_kernel, serial_kernel
from numba import prange

__all__ = ["add_coarse", "sum_coarse"]


@serial_kernel
def add_weighted(row, weight, total):
    """Add ``weight`` times a row to ``total``, both (n,) float32."""
    for i in range(len(row)):
        total[i] += weight * row[i]


@cpu_kernel
def sum_coarse(image, step, coarse):
    """Share each pixel of ``image`` (slow, fast) float32 out among the four nearest middles of squares of ``step``.

    The transpose of ``add_coarse``, whose layout ``coarse`` float64 (written) has: a spot keeps its centre of mass.
    """
    for i in prange(coarse.shape[0]):
        total = np.zeros(image.shape[1], dtype=np.float32)
        first = (2 * i - 3) * step // 2  # the row in the middle of the square before
        for row in range(max(first, 0), min(first + 2 * step, image.shape[0])):
            weight = 1.0 - abs((row + 0.5) / step + 0.5 - i)
            add_weighted(image[row], np.float32(weight), total)
        for j in range(coarse.shape[1]):
            begin, found = (2 * j - 3) * step // 2, 0.0
            for column in range(max(begin, 0), min(begin + 2 * step, len(total))):
                found += (1.0 - abs((column + 0.5) / step + 0.5 - j)) * total[column]
            coarse[i, j] = found


@serial_kernel
def add_line(line, step, out):
    """Add to a row ``out`` what lies between the values of ``line`` in the middles of ``step`` (even) pixels."""
    half, per_step = step // 2, np.float32(1.0 / step)
    for j in range(len(line) - 1):
        # From the middle of one square to that of the next; the first begins half a square before the row.
        first = j * step - half
        value, rise = line[j], (line[j + 1] - line[j]) * per_step
        for i in range(max(first, 0), min(first + step, len(out))):
            out[i] += value + rise * (np.float32(i - first) + np.float32(0.5))


@cpu_kernel
def add_coarse(coarse, step, out):
    """Add to ``out`` (slow, fast) float32 a smooth image known at the middles of squares of ``step`` (even) pixels.

    ``coarse`` float32 begins with the squares before the first row and column, and ends with those after the last.
    """
    for row in prange(out.shape[0]):
        at = (row + 0.5) / step + 0.5
        i = int(at)
        down = np.float32(at - i)
        line = np.empty(coarse.shape[1], dtype=np.float32)
        for j in range(coarse.shape[1]):
            line[j] = coarse[i, j] + down * (coarse[i + 1, j] - coarse[i, j])
        add_line(line, step, out[row])
