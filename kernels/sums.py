"""Sums over finished frames."""

import math

import numpy as np
from bragg_numba.kernels import physics, walk
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
    """Add to rows[slow] the solid angle of a panel's rendered pixels in that row of the frame, steradian (eq. 5)."""
    left, right = max(roi[0] - panel.first_column, 0), min(roi[1] + 1 - panel.first_column, panel.n_fast)
    for row in prange(panel.n_slow):
        slow = panel.first_row + row
        # A sum for every LANES-th pixel: sums side by side leave the compiler free to make several at once.
        sums = np.zeros(LANES)
        if roi[2] <= slow <= roi[3]:
            for first in range(left, right, LANES):
                for lane in range(min(LANES, right - first)):
                    column = np.float64(first) + np.float64(np.int32(lane))
                    at_fast, at_slow = walk.subpixel_place(panel, row, column, 0, 0)
                    x, y, z = physics.pixel_position(panel.curved, panel, at_fast, at_slow, 0.0)
                    angle = physics.solid_angle(
                        math.sqrt(x * x + y * y + z * z),
                        panel.pitch_fast,
                        panel.height,
                        panel.close_distance,
                        panel.point_pixel,
                    )
                    if mask.size == 0 or mask[slow, panel.first_column + first + lane]:
                        sums[lane] += angle
        total = 0.0
        for lane in range(LANES):
            total += sums[lane]
        rows[slow] += total
