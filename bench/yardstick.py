"""The yardstick: nanoBragg's loops as one would write them in numba at first, to hold the kernels against.

One pixel after the other, rows in parallel, steps innermost, float64, libm's sine, a branch where the
formula has one. It renders what the reference renders with square pixels of a flat detector; no sensor,
no dmin, no interpolation.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange


@njit(parallel=True, cache=True, error_model="numpy")
def render(geometry, lattice, lookup, scale, incident, wavelength, cells, table, image):
    """Fill image (slow, fast) float32 with photons; arguments as in kernels/pixels/cpu.py."""
    g = geometry
    oversample = g.oversample
    n_slow, n_fast = image.shape
    volume = lattice.n_a * lattice.n_b * lattice.n_c
    for slow in prange(n_slow):
        for fast in range(n_fast):
            total, omega, polar = 0.0, 0.0, 0.0
            for sub_slow in range(oversample):
                for sub_fast in range(oversample):
                    f = g.subpixel_fast * (fast * oversample + sub_fast) + g.half_fast
                    s = g.subpixel_slow * (slow * oversample + sub_slow) + g.half_slow
                    x = f * g.fast_x + s * g.slow_x + g.origin_x
                    y = f * g.fast_y + s * g.slow_y + g.origin_y
                    z = f * g.fast_z + s * g.slow_z + g.origin_z
                    r = math.sqrt(x * x + y * y + z * z)
                    x, y, z = x / r, y / r, z / r
                    if omega == 0.0:
                        omega = g.pitch_fast * g.height / r / r * g.close_distance / r
                    for source in range(len(wavelength)):
                        i_x, i_y, i_z = incident[source, 0], incident[source, 1], incident[source, 2]
                        q_x = (x - i_x) / wavelength[source]
                        q_y = (y - i_y) / wavelength[source]
                        q_z = (z - i_z) / wavelength[source]
                        if polar == 0.0:
                            c = x * i_x + y * i_y + z * i_z
                            polar = 0.5 * (1.0 + c * c)
                        for step in range(len(cells)):
                            h = cells[step, 0] * q_x + cells[step, 1] * q_y + cells[step, 2] * q_z
                            k = cells[step, 3] * q_x + cells[step, 4] * q_y + cells[step, 5] * q_z
                            l = cells[step, 6] * q_x + cells[step, 7] * q_y + cells[step, 8] * q_z  # noqa: E741
                            h_near, k_near, l_near = math.ceil(h - 0.5), math.ceil(k - 0.5), math.ceil(l - 0.5)
                            if lattice.shape == 0:
                                f_latt = grating(h, lattice.n_a) * grating(k, lattice.n_b) * grating(l, lattice.n_c)
                            else:
                                d_h, d_k, d_l = h - h_near, k - k_near, l - l_near
                                radius = (
                                    lattice.metric_hh * d_h * d_h
                                    + lattice.metric_kk * d_k * d_k
                                    + lattice.metric_ll * d_l * d_l
                                    + lattice.metric_hk * d_h * d_k
                                    + lattice.metric_hl * d_h * d_l
                                    + lattice.metric_kl * d_k * d_l
                                )
                                f_latt = volume * radial(lattice.shape, radius)
                            i = min(max(int(h_near) - lookup.h_first, 0), lookup.h_count - 1)
                            j = min(max(int(k_near) - lookup.k_first, 0), lookup.k_count - 1)
                            m = min(max(int(l_near) - lookup.l_first, 0), lookup.l_count - 1)
                            f_cell = table[i, j, m]
                            total += f_cell * f_cell * f_latt * f_latt
            image[slow, fast] = scale * total * omega * polar


@njit(cache=True, error_model="numpy")
def grating(h, n):
    """sin(pi n h) / sin(pi h)."""
    x = math.pi * h
    if x == 0.0:
        return n
    return math.sin(x * n) / math.sin(x)


@njit(cache=True, error_model="numpy")
def radial(shape, radius_squared):
    """Lattice factor of round, gauss and tophat crystals over their volume."""
    if shape == 1:
        x = math.pi * math.sqrt(radius_squared)
        if x == 0.0:
            return 0.723601254558268
        return 0.723601254558268 * 3.0 * (math.sin(x) / x - math.cos(x)) / (x * x)
    if shape == 2:
        return math.exp(-radius_squared / 0.63)
    return 1.0 if radius_squared < 0.3969 else 0.0


def render_plan(plan, image: np.ndarray) -> None:
    """Render a plan with the yardstick."""
    render(
        plan.panels[0],
        plan.lattice,
        plan.lookup,
        plan.rules.scale,
        plan.sources.incident,
        plan.sources.wavelength,
        plan.cells,
        plan.table,
        image,
    )
