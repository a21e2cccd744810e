"""Which spot a pixel belongs to, and means over its photons: one spot of each block after another."""

import numpy as np
from bragg_numba.kernels._jit import serial_kernel
from bragg_numba.kernels.work import BOTTOM, LEFT, PANEL, RIGHT, TOP


@serial_kernel
def weigh_spots(tiles, spot, indices, corners, row_start, wavelengths, image, weighted, best, label, sums):
    """Let a spot of each block weigh in on the pixels of the block, and empty the image it was rendered into.

    Parameters
    ----------
    tiles, spot
        The work list, and int64 (tiles,): which spot of the list each of its blocks was rendered with.
    indices
        int32 (n, 3) of the spots.
    corners
        int64 (panels, 2): first row and column of each panel in the frame.
    row_start
        The frame's row that is the first one of all images.
    wavelengths
        Whether ``weighted`` is the same image with every photon times its wavelength.
    image, weighted
        float32 (rows, n_fast).
    best, label
        float32 and int32 (rows, n_fast), in place: the most photons of one spot, and that spot.
    sums
        float64 (5, rows, n_fast), in place: photons, and these times h, k, l and wavelength.
    """
    for index in range(len(tiles)):
        of, panel = spot[index], tiles[index, PANEL]
        h, k, l = np.float64(indices[of, 0]), np.float64(indices[of, 1]), np.float64(indices[of, 2])  # noqa: E741
        for in_panel in range(tiles[index, TOP], tiles[index, BOTTOM]):
            row = corners[panel, 0] + in_panel - row_start
            for column in range(corners[panel, 1] + tiles[index, LEFT], corners[panel, 1] + tiles[index, RIGHT]):
                photons = np.float64(image[row, column])
                image[row, column] = 0.0
                if not photons > 0.0:
                    continue
                if photons > best[row, column]:
                    best[row, column], label[row, column] = photons, of
                sums[0, row, column] += photons
                sums[1, row, column] += photons * h
                sums[2, row, column] += photons * k
                sums[3, row, column] += photons * l
                if wavelengths:
                    sums[4, row, column] += np.float64(weighted[row, column])
                    weighted[row, column] = 0.0
