"""Sums over finished frames."""

import math

import numpy as np
from bragg_numba.kernels import physics
from bragg_numba.kernels._jit import cpu_kernel
from numba import prange

#: Sums that are kept side by side: a few vectors' worth.
LANES = 64


@cpu_kernel
def sum_rows(image, roi, mask, row_start, sums, counts):
    """Sum each row of image inside the region: sums[row] = total, squares, brightest, where (fast).

    ``image`` float32 (rows, n_fast) starts at ``row_start`` of the frame; ``counts`` int64 gets the
    rendered pixels. The order of the additions is fixed, so that threads cannot change the result.
    """
    for row in prange(image.shape[0]):
        slow = row + row_start
        total, squares, brightest, where = 0.0, 0.0, -1.0, -1
        rendered = 0
        if roi[2] <= slow <= roi[3]:
            for fast in range(roi[0], roi[1] + 1):
                value = np.float64(image[row, fast])
                total += value
                squares += value * value
                if value > brightest:
                    brightest, where = value, fast
                if mask.size == 0 or mask[slow, fast]:
                    rendered += 1
        sums[row, 0] = total
        sums[row, 1] = squares
        sums[row, 2] = brightest
        sums[row, 3] = where
        counts[row] = rendered


@cpu_kernel
def sum_solid_angles(panel, roi, mask, rows):
    """Fill rows[slow] with the solid angle of the row's rendered pixels, steradian (eq. 5)."""
    for slow in prange(rows.shape[0]):
        # A sum for every LANES-th pixel: sums side by side leave the compiler free to make several at once.
        sums = np.zeros(LANES)
        if roi[2] <= slow <= roi[3]:
            half = panel.subpixel_size / 2.0
            at_slow = panel.subpixel_size * (slow * panel.oversample) + half
            for first in range(roi[0], roi[1] + 1, LANES):
                for lane in range(min(LANES, roi[1] + 1 - first)):
                    fast = np.float64(first) + np.float64(np.int32(lane))
                    at_fast = panel.subpixel_size * (fast * panel.oversample) + half
                    x, y, z = physics.pixel_position(panel, at_fast, at_slow, 0.0)
                    angle = physics.solid_angle(
                        math.sqrt(x * x + y * y + z * z),
                        panel.pixel_size,
                        panel.close_distance,
                        panel.point_pixel,
                    )
                    if mask.size == 0 or mask[slow, first + lane]:
                        sums[lane] += angle
        total = 0.0
        for lane in range(LANES):
            total += sums[lane]
        rows[slow] = total
