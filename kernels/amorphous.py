"""Scattering of what is not crystalline, pixel by pixel: water, air, plastic (eq. 44 of docs/physics.md).

It depends on no orientation, so that nothing is walked but pixels, sensor layers and sources. Everything is float64 but
the frame. Loops over the pixels of a block are split in two, so that all but the search in the table is done in
vectors.
"""

import math

import numpy as np
from bragg_numba.kernels import physics, walk
from bragg_numba.kernels._jit import cpu_kernel, shared_function
from numba import prange

#: Pixels of a row that are worked on together: their values stay in the first cache.
LANES = 256

#: Rows of a thread's scratch: direction x, y, z; solid angle times captured fraction; sin(theta)/lambda; factors; sum.
X, Y, Z, SHARE, STOL, FACTOR, TOTAL = range(7)


@cpu_kernel
def add_amorphous(panel, arcs_of_lab, rays, table, scale, roi, mask, row_start, image):
    """Add the scattering of one material to a panel's wanted pixels of image (rows, fast) float32, photons.

    Parameters
    ----------
    panel
        parameters.Panel: how many sub-pixels and sensor layers there are stands in it, too.
    arcs_of_lab
        Whether a curved detector is bent by nonBragg's rule (physics.position_on_lab_arcs), not by eq. 3.
    rays
        float64 (n, 11), a row a source: the unit vectors of beam, E and B; 1 / (2 wavelength), 1/m; weight.
    table
        parameters.Scattering: F of sin(theta)/lambda as cubics.
    scale
        Photons of a term 1: r_e^2 fluence molecules / (sources and sub-pixels).
    roi
        fast_min, fast_max, slow_min, slow_max of the frame; inclusive.
    mask
        bool (n_slow, n_fast), True where a pixel is wanted; (0, 0): everywhere.
    row_start
        The image holds rows ``row_start`` and on of the frame.
    """
    top, bottom = max(roi[2], row_start), min(roi[3], row_start + len(image) - 1)
    left, right = max(roi[0] - panel.first_column, 0), min(roi[1] + 1 - panel.first_column, panel.n_fast)
    last = np.int32(len(table.starts) - 1)
    for row in prange(panel.n_slow):
        slow = panel.first_row + row
        work = np.empty((7, LANES))
        for first in range(left, right if top <= slow <= bottom else left, LANES):
            n = min(LANES, right - first)
            for lane in range(n):
                work[TOTAL, lane] = 0.0
            for sub in range(panel.oversample * panel.oversample):
                sub_slow, sub_fast = sub // panel.oversample, sub % panel.oversample
                for layer in range(panel.layers):
                    look(panel, arcs_of_lab, row, first, n, sub_slow, sub_fast, layer, work)
                    for source in range(len(rays)):
                        scatter(panel, rays[source], n, work)
                        add_table(table, last, n, work)
            for lane in range(n):
                if mask.size == 0 or mask[slow, panel.first_column + first + lane]:
                    image[slow - row_start, panel.first_column + first + lane] += np.float32(scale * work[TOTAL, lane])


@shared_function
def look(panel, arcs_of_lab, row, first, n, sub_slow, sub_fast, layer, work):
    """Put direction, and solid angle times captured fraction, of a sub-pixel of n pixels into work (eq. 2 to 6)."""
    depth = layer * panel.layer_step
    for lane in range(n):
        column = np.float64(first) + np.float64(np.int32(lane))
        at_fast, at_slow = walk.subpixel_place(panel, row, column, sub_slow, sub_fast)
        work[X, lane], work[Y, lane], work[Z, lane] = physics.flat_position(panel, at_fast, at_slow, depth)
    if panel.curved:
        for lane in range(n):
            column = np.float64(first) + np.float64(np.int32(lane))
            at_fast, at_slow = walk.subpixel_place(panel, row, column, sub_slow, sub_fast)
            if arcs_of_lab:
                x, y, z = physics.position_on_lab_arcs(panel, at_fast, at_slow, depth)
            else:
                x, y, z = physics.curved_position(panel, at_fast, at_slow, depth)
            work[X, lane], work[Y, lane], work[Z, lane] = x, y, z
    # One division instead of the six of physics.solid_angle and walk.direction.
    area = 1.0 if panel.point_pixel else panel.pitch_fast * panel.height * panel.close_distance
    for lane in range(n):
        x, y, z = work[X, lane], work[Y, lane], work[Z, lane]
        inverse = 1.0 / math.sqrt(x * x + y * y + z * z)
        work[X, lane], work[Y, lane], work[Z, lane] = x * inverse, y * inverse, z * inverse
        work[SHARE, lane] = area * inverse * inverse * (1.0 if panel.point_pixel else inverse)
    if panel.has_sensor:
        for lane in range(n):
            parallax = work[X, lane] * panel.normal_x + work[Y, lane] * panel.normal_y + work[Z, lane] * panel.normal_z
            work[SHARE, lane] *= physics.capture_fraction(layer, panel.layer_step, panel.attenuation, parallax)


@shared_function
def scatter(panel, ray, n, work):
    """Put sin(theta)/lambda, and all factors but F^2, of n pixels and a source into work (eq. 4, 8)."""
    even, tilt = (0.5, 0.5) if panel.polarized else (1.0, 0.0)
    kahn = 0.5 * panel.kahn if panel.polarized else 0.0
    i_x, i_y, i_z, e_x, e_y, e_z, b_x, b_y, b_z = ray[0], ray[1], ray[2], ray[3], ray[4], ray[5], ray[6], ray[7], ray[8]
    half_wave, weight = ray[9], ray[10]
    for lane in range(n):
        d_x, d_y, d_z = work[X, lane], work[Y, lane], work[Z, lane]
        q_x, q_y, q_z = d_x - i_x, d_y - i_y, d_z - i_z
        along_beam = i_x * d_x + i_y * d_y + i_z * d_z
        along_e = e_x * d_x + e_y * d_y + e_z * d_z
        along_b = b_x * d_x + b_y * d_y + b_z * d_z
        polar = even + tilt * along_beam * along_beam - kahn * (along_e * along_e - along_b * along_b)
        work[STOL, lane] = half_wave * math.sqrt(q_x * q_x + q_y * q_y + q_z * q_z)
        work[FACTOR, lane] = weight * polar * work[SHARE, lane]


@shared_function
def add_table(table, last, n, work):
    """Add F^2, with the sign of F, times the factors of n pixels to their sums (eq. 44)."""
    starts, ends, cubics, cells = table.starts, table.ends, table.cubics, table.cells_per_stol
    if table.single:
        # At most one piece ends in a cell: no search, and the compiler makes vectors of this.
        for lane in range(n):
            stol = work[STOL, lane]
            place = starts[max(min(np.int32(min(stol * cells, 1e9)), last), np.int32(0))]
            place += np.int32(stol >= ends[place])
            F = physics.cubic(cubics, place, stol)
            work[TOTAL, lane] += work[FACTOR, lane] * F * abs(F)
        return
    for lane in range(n):
        stol = work[STOL, lane]
        place = starts[max(min(np.int32(min(stol * cells, 1e9)), last), np.int32(0))]
        while stol >= ends[place]:
            place += 1
        F = physics.cubic(cubics, place, stol)
        work[TOTAL, lane] += work[FACTOR, lane] * F * abs(F)
