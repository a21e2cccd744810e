"""What light that is scattered far brings, between squares of pixels."""

from __future__ import annotations

import numpy as np
from bragg_numba.kernels._jit import cpu_kernel, serial_kernel
from numba import prange

__all__ = ["add_coarse", "multiply_pairs", "pad", "sum_coarse"]

#: Pixels of a square's side; even.
SIDE = 8

_0, _1_2 = np.float32(0.0), np.float32(0.5)


@serial_kernel
def add_weighted(row, weight, total):
    """Add ``weight`` times a row to ``total``, both (n,) float32."""
    for i in range(len(row)):
        total[i] += weight * row[i]


@cpu_kernel
def sum_coarse(image, coarse):
    """Share each pixel of ``image`` (slow, fast) float32 out among the four nearest middles of squares.

    The transpose of ``add_coarse``, whose layout ``coarse`` float64 (written) has: a spot keeps its centre of mass.
    """
    for i in prange(coarse.shape[0]):
        total = np.zeros(image.shape[1], dtype=np.float32)
        first = (2 * i - 3) * SIDE // 2  # the row in the middle of the square before
        for row in range(max(first, 0), min(first + 2 * SIDE, image.shape[0])):
            weight = 1.0 - abs((row + 0.5) / SIDE + 0.5 - i)
            add_weighted(image[row], np.float32(weight), total)
        for j in range(coarse.shape[1]):
            begin, found = (2 * j - 3) * SIDE // 2, 0.0
            for column in range(max(begin, 0), min(begin + 2 * SIDE, len(total))):
                found += (1.0 - abs((column + 0.5) / SIDE + 0.5 - j)) * total[column]
            coarse[i, j] = found


@cpu_kernel
def pad(image, padded):
    """Copy ``image`` (slow, fast) float32 to the corner of ``padded``, which becomes 0 elsewhere."""
    n_slow, n_fast = image.shape
    for row in prange(padded.shape[0]):
        if row < n_slow:
            padded[row, :n_fast] = image[row]
            padded[row, n_fast:] = _0
        else:
            padded[row] = _0


@cpu_kernel
def multiply_pairs(transform, pairs):
    """Multiply complex numbers by real ones, in place: ``pairs`` (n, 2 m) float32, ``transform`` (n, m) float32."""
    for row in prange(transform.shape[0]):
        multiply_row(transform[row], pairs[row])


@serial_kernel
def multiply_row(transform, pairs):
    """``multiply_pairs`` for a row."""
    for i in range(len(transform)):
        pairs[2 * i] *= transform[i]
        pairs[2 * i + 1] *= transform[i]


@serial_kernel
def add_line(line, out):
    """Add to a row ``out`` what lies between the values of ``line`` in the middles of ``SIDE`` pixels."""
    half, per_pixel = SIDE // 2, np.float32(1.0 / SIDE)
    for j in range(len(line) - 1):
        # From the middle of one square to that of the next; the first begins half a square before the row.
        first = j * SIDE - half
        value, rise = line[j], (line[j + 1] - line[j]) * per_pixel
        if first >= 0 and first + SIDE <= len(out):
            for k in range(SIDE):
                out[np.uint64(first) + np.uint64(k)] += value + rise * (np.float32(k) + _1_2)
        else:
            for i in range(max(first, 0), min(first + SIDE, len(out))):
                out[i] += value + rise * (np.float32(i - first) + _1_2)


@cpu_kernel
def add_coarse(coarse, near, out):
    """Fill ``out`` (slow, fast) float32 with ``near`` and a smooth image known at the middles of squares.

    ``near`` float32 may have longer rows. ``coarse`` float32 begins with the squares before the first row and column,
    and ends with those after the last.
    """
    for row in prange(out.shape[0]):
        at = (row + 0.5) / SIDE + 0.5
        i = int(at)
        down = np.float32(at - i)
        line = np.empty(coarse.shape[1], dtype=np.float32)
        for j in range(coarse.shape[1]):
            line[j] = coarse[i, j] + down * (coarse[i + 1, j] - coarse[i, j])
        out[row] = near[row, : out.shape[1]]
        add_line(line, out[row])
