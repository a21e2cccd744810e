"""Scattering of what is not crystalline, pixel by pixel: water, air, plastic (eq. 42 of docs/physics.md).

It depends on no orientation, so that nothing is walked but pixels, sensor layers and sources. Everything is float64 but
the frame. Loops over the pixels of a block are split in two, so that all but the search in the table is done in
vectors.
"""

import math

import numpy as np
from bragg_numba.kernels import physics, walk
from bragg_numba.kernels._jit import cpu_kernel
from numba import prange

#: Pixels of a row that are worked on together: their values stay in the first cache.
LANES = 256

#: Rows of a thread's scratch: direction x, y, z; solid angle times captured fraction; sin(theta)/lambda; factors; sum.
X, Y, Z, SHARE, STOL, FACTOR, TOTAL = range(7)


@cpu_kernel
def add_amorphous(panel, arcs_of_lab, rays, table, scale, roi, mask, image):
    """Add the scattering of one material to a panel's wanted pixels of image (slow, fast) float32, photons.

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
    """
    left, right = max(roi[0] - panel.first_column, 0), min(roi[1] + 1 - panel.first_column, panel.n_fast)
    even, tilt = (0.5, 0.5) if panel.polarized else (1.0, 0.0)
    kahn = 0.5 * panel.kahn if panel.polarized else 0.0
    last = len(table.starts) - 1
    for row in prange(panel.n_slow):
        slow = panel.first_row + row
        work = np.empty((7, LANES))
        for first in range(left, right if roi[2] <= slow <= roi[3] else left, LANES):
            n = min(LANES, right - first)
            for lane in range(n):
                work[TOTAL, lane] = 0.0
            for sub in range(panel.oversample * panel.oversample):
                sub_slow, sub_fast = sub // panel.oversample, sub % panel.oversample
                for layer in range(panel.layers):
                    depth = layer * panel.layer_step
                    for lane in range(n):
                        column = np.float64(first) + np.float64(np.int32(lane))
                        at_fast, at_slow = walk.subpixel_place(panel, row, column, sub_slow, sub_fast)
                        if arcs_of_lab:
                            x, y, z = physics.position_on_lab_arcs(panel, at_fast, at_slow, depth)
                        else:
                            x, y, z = physics.pixel_position(panel.curved, panel, at_fast, at_slow, depth)
                        d_x, d_y, d_z, airpath = walk.direction(x, y, z)
                        work[X, lane], work[Y, lane], work[Z, lane] = d_x, d_y, d_z
                        work[SHARE, lane] = physics.solid_angle(
                            airpath, panel.pitch_fast, panel.height, panel.close_distance, panel.point_pixel
                        )
                    if panel.has_sensor:
                        for lane in range(n):
                            parallax = work[X, lane] * panel.normal_x + work[Y, lane] * panel.normal_y
                            parallax += work[Z, lane] * panel.normal_z
                            work[SHARE, lane] *= physics.capture_fraction(
                                layer, panel.layer_step, panel.attenuation, parallax
                            )
                    for source in range(len(rays)):
                        ray = rays[source]
                        for lane in range(n):
                            d_x, d_y, d_z = work[X, lane], work[Y, lane], work[Z, lane]
                            q_x, q_y, q_z = d_x - ray[0], d_y - ray[1], d_z - ray[2]
                            along_beam = ray[0] * d_x + ray[1] * d_y + ray[2] * d_z
                            along_e = ray[3] * d_x + ray[4] * d_y + ray[5] * d_z
                            along_b = ray[6] * d_x + ray[7] * d_y + ray[8] * d_z
                            polar = even + tilt * along_beam * along_beam
                            polar -= kahn * (along_e * along_e - along_b * along_b)
                            work[STOL, lane] = ray[9] * math.sqrt(q_x * q_x + q_y * q_y + q_z * q_z)
                            work[FACTOR, lane] = ray[10] * polar * work[SHARE, lane]
                        for lane in range(n):
                            stol = work[STOL, lane]
                            # The cell tells the first interval that it touches; a step or two lead to the right one.
                            place = table.starts[max(min(np.int64(stol * table.cells_per_stol), last), 0)]
                            while stol >= table.ends[place]:
                                place += 1
                            F = physics.cubic(table.cubics[place], stol)
                            work[TOTAL, lane] += work[FACTOR, lane] * F * abs(F)
            for lane in range(n):
                if mask.size == 0 or mask[slow, panel.first_column + first + lane]:
                    image[slow, panel.first_column + first + lane] += np.float32(scale * work[TOTAL, lane])
