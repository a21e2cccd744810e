"""Diffuse scattering of molecules that move as in a liquid, pixel by pixel (eq. 45 of docs/physics.md)."""

import numpy as np
from bragg_numba.kernels import physics, walk
from bragg_numba.kernels._jit import cpu_kernel, shared_function
from numba import prange


@cpu_kernel
def add_diffuse(panel, rays, cells, stars, lookup, table, motion, scale, roi, mask, row_start, image):
    """Add the diffuse scattering of a crystal to a panel's wanted pixels of image (rows, fast) float32, photons.

    Parameters
    ----------
    panel, rays, roi, mask, row_start
        As in amorphous.add_amorphous.
    cells, stars
        float64 (n, 9): real and reciprocal cell vectors of each orientation, m and 1/m.
    lookup, table
        F as the engine of pixels looks it up (parameters.Table).
    motion
        parameters.Motion.
    scale
        Photons of a term 1: r_e^2 fluence N_cells / V_cell / (sources, sub-pixels and orientations), 1/m^3.
    """
    left, right = max(roi[0] - panel.first_column, 0), min(roi[1] + 1 - panel.first_column, panel.n_fast)
    top, bottom = max(roi[2], row_start), min(roi[3], row_start + len(image) - 1)
    for row in prange(panel.n_slow):
        slow = panel.first_row + row
        for column in range(left, right if top <= slow <= bottom else left):
            if mask.size != 0 and not mask[slow, panel.first_column + column]:
                continue
            total = 0.0
            for sub in range(panel.oversample * panel.oversample):
                sub_slow, sub_fast = sub // panel.oversample, sub % panel.oversample
                at_fast, at_slow = walk.subpixel_place(panel, row, column, sub_slow, sub_fast)
                for layer in range(panel.layers):
                    depth = layer * panel.layer_step
                    x, y, z = physics.pixel_position(panel.curved, panel, at_fast, at_slow, depth)
                    d_x, d_y, d_z, airpath = walk.direction(x, y, z)
                    share = physics.solid_angle(
                        airpath, panel.pitch_fast, panel.height, panel.close_distance, panel.point_pixel
                    )
                    if panel.has_sensor:
                        parallax = d_x * panel.normal_x + d_y * panel.normal_y + d_z * panel.normal_z
                        share *= physics.capture_fraction(layer, panel.layer_step, panel.attenuation, parallax)
                    for source in range(len(rays)):
                        ray = rays[source]
                        polar = 1.0
                        if panel.polarized:
                            polar = walk.polarization(panel, ray[0], ray[1], ray[2], d_x, d_y, d_z)
                        twice = 2.0 * ray[9]  # 1 / wavelength
                        q_x, q_y, q_z = twice * (d_x - ray[0]), twice * (d_y - ray[1]), twice * (d_z - ray[2])
                        for cell in range(len(cells)):
                            near = sum_around(q_x, q_y, q_z, cells[cell], stars[cell], lookup, table, motion)
                            total += ray[10] * polar * share * near
            image[slow - row_start, panel.first_column + column] += np.float32(scale * total)


@shared_function
def sum_around(q_x, q_y, q_z, cell, star, lookup, table, motion):
    """Sum over the reflections around a scattering vector: F^2 times what physics.liquid_motion makes of each."""
    h0 = physics.nearest_index(cell[0] * q_x + cell[1] * q_y + cell[2] * q_z)
    k0 = physics.nearest_index(cell[3] * q_x + cell[4] * q_y + cell[5] * q_z)
    l0 = physics.nearest_index(cell[6] * q_x + cell[7] * q_y + cell[8] * q_z)
    total = 0.0
    for step_h in range(-motion.reach, motion.reach + 1):
        for step_k in range(-motion.reach, motion.reach + 1):
            for step_l in range(-motion.reach, motion.reach + 1):
                h, k, l = h0 + step_h, k0 + step_k, l0 + step_l  # noqa: E741
                F, _ = walk.structure_factor(lookup.has_table, False, lookup, table, h, k, l)
                g_x = h * star[0] + k * star[3] + l * star[6]
                g_y = h * star[1] + k * star[4] + l * star[7]
                g_z = h * star[2] + k * star[5] + l * star[8]
                near = (q_x - g_x) * (q_x - g_x) + (q_y - g_y) * (q_y - g_y) + (q_z - g_z) * (q_z - g_z)
                square = g_x * g_x + g_y * g_y + g_z * g_z
                total += F * F * physics.liquid_motion(square, near, motion.correlation, motion.displacement)
    return total
