"""The float64 renderer of a list of pixels: every option, in the reference's order of operations.

Working arrays are flat over the pixels, so that the loops over them are long and vectorise.
"""

import math

import numpy as np
from bragg_numba.kernels import physics
from bragg_numba.kernels._jit import addressed_serial_kernel, serial_kernel
from bragg_numba.kernels.parameters import GAUSS, ROUND, SQUARE
from numba import types

#: Scratch arrays that render_float64 needs, float64, one value a pixel each.
SCRATCH = 16


@serial_kernel
def aim_at_pixels(panel, slows, fasts, n, sub_slow, sub_fast, depth, toward, airpath):
    """Fill toward[3, pixel] with unit vectors to one sub-pixel of each pixel, airpath with its distance."""
    half = panel.subpixel_size / 2.0
    for pixel in range(n):
        slow = panel.subpixel_size * (slows[pixel] * panel.oversample + sub_slow) + half
        fast = panel.subpixel_size * (fasts[pixel] * panel.oversample + sub_fast) + half
        x, y, z = physics.pixel_position(panel, fast, slow, depth)
        r = math.sqrt(x * x + y * y + z * z)
        airpath[pixel] = r
        toward[0, pixel] = x / r
        toward[1, pixel] = y / r
        toward[2, pixel] = z / r


@serial_kernel
def fractional_indices(cell, scatter, n, indices):
    """Fill indices[3, pixel] with h, k, l = a.q, b.q, c.q (eq. 10)."""
    a_x, a_y, a_z, b_x, b_y, b_z, c_x, c_y, c_z = cell
    for pixel in range(n):
        q_x, q_y, q_z = scatter[0, pixel], scatter[1, pixel], scatter[2, pixel]
        indices[0, pixel] = a_x * q_x + a_y * q_y + a_z * q_z
        indices[1, pixel] = b_x * q_x + b_y * q_y + b_z * q_z
        indices[2, pixel] = c_x * q_x + c_y * q_y + c_z * q_z


@serial_kernel
def square_factors(lattice, indices, n, squares):
    """Fill squares[pixel] with the square crystal's lattice factor, 1 at a peak (eq. 13)."""
    for pixel in range(n):
        square = physics.grating_squared(indices[0, pixel], lattice.n_a)
        square *= physics.grating_squared(indices[1, pixel], lattice.n_b)
        square *= physics.grating_squared(indices[2, pixel], lattice.n_c)
        squares[pixel] = square


@serial_kernel
def radial_factors(lattice, indices, n, squares):
    """Fill squares[pixel] with the lattice factor of a round, gauss or tophat crystal (eq. 14 to 17)."""
    for pixel in range(n):
        h, k, l = indices[0, pixel], indices[1, pixel], indices[2, pixel]  # noqa: E741
        d_h = h - physics.nearest_index(h)
        d_k = k - physics.nearest_index(k)
        d_l = l - physics.nearest_index(l)
        squares[pixel] = physics.quadratic_form(lattice, d_h, d_k, d_l)
    if lattice.shape == ROUND:
        for pixel in range(n):
            squares[pixel] = physics.sphere_squared(squares[pixel])
    elif lattice.shape == GAUSS:
        for pixel in range(n):
            squares[pixel] = physics.gauss_squared(squares[pixel])
    else:
        for pixel in range(n):
            squares[pixel] = physics.tophat_squared(squares[pixel])


@serial_kernel
def table_index(index, first, count):
    """Position of the nearest whole index in the bordered table; what lies outside falls on the border."""
    return int(min(max(physics.nearest_index(index) - first, 0.0), count - 1.0))


@serial_kernel
def structure_factor(lookup, table, h, k, l):  # noqa: E741
    """F at fractional h, k, l, and whether interpolation was wanted but left the table (0 or 1)."""
    missed = 0
    if lookup.interpolate:
        # The border is not data: the first index that counts is first + 1 (eq. 18).
        inside_h = h - 2.0 >= lookup.h_first + 1 and h - (lookup.h_first + 1) + 3.0 <= lookup.h_count - 2
        inside_k = k - 2.0 >= lookup.k_first + 1 and k - (lookup.k_first + 1) + 3.0 <= lookup.k_count - 2
        inside_l = l - 2.0 >= lookup.l_first + 1 and l - (lookup.l_first + 1) + 3.0 <= lookup.l_count - 2
        if inside_h and inside_k and inside_l:
            return tricubic(lookup, table, h, k, l), missed
        missed = 1
    i = table_index(h, lookup.h_first, lookup.h_count)
    j = table_index(k, lookup.k_first, lookup.k_count)
    m = table_index(l, lookup.l_first, lookup.l_count)
    return table[i, j, m], missed


@serial_kernel
def tricubic(lookup, table, h, k, l):  # noqa: E741
    """Tricubic interpolation between the 64 nodes around h, k, l (eq. 18)."""
    h_floor, k_floor, l_floor = math.floor(h), math.floor(k), math.floor(l)
    i, j = int(h_floor) - 1 - lookup.h_first, int(k_floor) - 1 - lookup.k_first
    m = int(l_floor) - 1 - lookup.l_first
    x, y, z = h - h_floor, k - k_floor, l - l_floor
    planes = np.empty(4)
    rows = np.empty(4)
    for p in range(4):
        for q in range(4):
            f = table[i + p, j + q]
            rows[q] = physics.lagrange4(z, f[m], f[m + 1], f[m + 2], f[m + 3])
        planes[p] = physics.lagrange4(y, rows[0], rows[1], rows[2], rows[3])
    return physics.lagrange4(x, planes[0], planes[1], planes[2], planes[3])


@serial_kernel
def multiply_structure_factors(lookup, table, indices, n, scale, squares):
    """Turn squares[pixel] into F^2 * scale * squares; return how often interpolation missed the table."""
    missed = 0
    if not lookup.has_table:
        f_squared = lookup.default_F * lookup.default_F
        for pixel in range(n):
            squares[pixel] = f_squared * (scale * squares[pixel])
        return missed
    for pixel in range(n):
        f_cell, outside = structure_factor(lookup, table, indices[0, pixel], indices[1, pixel], indices[2, pixel])
        missed += outside
        squares[pixel] = f_cell * f_cell * (scale * squares[pixel])
    return missed


@serial_kernel
def sensor_captures(panel, layer, upright, toward, n, captures):
    """Fill captures[pixel] with the fraction that this layer absorbs; 1 without a sensor (eq. 6).

    ``upright``: rays meet a curved sensor head-on.
    """
    for pixel in range(n):
        captures[pixel] = 1.0
    if panel.has_sensor:
        for pixel in range(n):
            parallax = (
                toward[0, pixel] * panel.normal_x
                + toward[1, pixel] * panel.normal_y
                + toward[2, pixel] * panel.normal_z
            )
            if panel.curved and upright:
                parallax = 1.0
            captures[pixel] = physics.capture_fraction(layer, panel.layer_step, panel.attenuation, parallax)


@serial_kernel
def scatter_from_source(panel, incident, wavelength, toward, n, scatter, keeps):
    """Fill scatter[3, pixel] with q, and keeps[pixel] with 0 beyond dmin, else 1 (eq. 4, 7)."""
    i_x, i_y, i_z = incident
    for pixel in range(n):
        q_x, q_y, q_z = physics.scattering_vector(
            toward[0, pixel], toward[1, pixel], toward[2, pixel], i_x, i_y, i_z, wavelength
        )
        scatter[0, pixel], scatter[1, pixel], scatter[2, pixel] = q_x, q_y, q_z
        keeps[pixel] = 1.0
    if panel.dmin > 0.0:
        for pixel in range(n):
            if physics.is_beyond_dmin(scatter[0, pixel], scatter[1, pixel], scatter[2, pixel], panel.dmin):
                keeps[pixel] = 0.0


@serial_kernel
def fill_polarization(panel, rules, incident, toward, n, keeps, polars):
    """Fill polars[pixel] by the rules: per term always, cached once, or nanoBragg's running one."""
    i_x, i_y, i_z = incident
    for pixel in range(n):
        if rules.per_term:
            wanted = panel.polarized
        else:
            wanted = keeps[pixel] != 0.0 and (polars[pixel] == 0.0 or rules.running_polar)
        if wanted:
            polars[pixel] = physics.polarization_factor(
                panel.kahn,
                i_x,
                i_y,
                i_z,
                toward[0, pixel],
                toward[1, pixel],
                toward[2, pixel],
                panel.polar_x,
                panel.polar_y,
                panel.polar_z,
            )


@serial_kernel
def add_running(rules, terms, zeros, keeps, captures, polars, omegas, n, totals):
    """Add terms to totals as nanoBragg's running products do: the whole sum times each factor, each step.

    ``zeros`` marks pixels whose lattice factor is 0: without water nanoBragg skips them altogether.
    """
    for pixel in range(n):
        if keeps[pixel] != 0.0 and not (rules.skip_zero and zeros[pixel]):
            total = totals[pixel] + terms[pixel]
            if rules.running_thick:
                total *= captures[pixel]
            if rules.running_polar:
                total *= polars[pixel]
            if rules.running_omega:
                total *= omegas[pixel]
            totals[pixel] = total


@serial_kernel
def finish_values(panel, rules, n_sources, captures, polars, omegas, shares, totals, n, values):
    """Turn sums into photons: scale, and the cached factors that were not applied per term (eq. 21)."""
    n_terms = panel.oversample * panel.oversample * n_sources
    for pixel in range(n):
        value = rules.scale * totals[pixel]
        if rules.per_term:
            value += rules.flat_background * shares[pixel] / n_terms
        else:
            if not rules.running_thick:
                value *= captures[pixel]
            if not rules.running_polar:
                value *= polars[pixel]
            if not rules.running_omega:
                value *= omegas[pixel]
        values[pixel] = value


@addressed_serial_kernel(types.int64)
def render_float64(panel, lattice, lookup, rules, sources, cells, table, slows, fasts, n, work, values):
    """Render pixels in float64; return how often interpolation missed the table.

    Parameters
    ----------
    sources
        kernels.parameters.Sources.
    cells
        float64 (n_orientations, 9): a, b, c in metres.
    table
        float64 structure factors with their border.
    slows, fasts
        float64: row and column of n pixels.
    work
        float64 (SCRATCH, n or more).
    values
        float64, filled with the photons of the pixels.
    """
    incident, wavelength, weight = sources.incident, sources.wavelength, sources.weight
    toward, scatter, indices = work[0:3], work[3:6], work[6:9]
    airpath, squares, keeps, polars = work[9], work[10], work[11], work[12]
    omegas, captures, totals = work[13], work[14], work[15]
    zeros = np.zeros(n, np.bool_)
    shares = np.zeros(n)
    running = rules.running_thick or rules.running_polar or rules.running_omega
    volume_squared = (lattice.n_a * lattice.n_b * lattice.n_c) ** 2
    missed = 0
    totals[:n] = rules.background
    polars[:n] = 0.0 if panel.polarized else 1.0
    for layer in range(panel.layers):
        depth = layer * panel.layer_step
        for sub in range(panel.oversample * panel.oversample):
            sub_slow, sub_fast = sub // panel.oversample, sub % panel.oversample
            aim_at_pixels(panel, slows, fasts, n, sub_slow, sub_fast, depth, toward, airpath)
            if sub == 0 or rules.running_thick or rules.per_term:
                sensor_captures(panel, layer, rules.per_term, toward, n, captures)
            if (layer == 0 and sub == 0) or rules.running_omega or rules.per_term:
                near = panel.close_distance + (depth if rules.per_term else 0.0)
                for pixel in range(n):
                    omegas[pixel] = physics.solid_angle(airpath[pixel], panel.pixel_size, near, panel.point_pixel)
            for source in range(len(wavelength)):
                beam = (incident[source, 0], incident[source, 1], incident[source, 2])
                scatter_from_source(panel, beam, wavelength[source], toward, n, scatter, keeps)
                fill_polarization(panel, rules, beam, toward, n, keeps, polars)
                if rules.per_term:
                    for pixel in range(n):
                        share = omegas[pixel] * polars[pixel] * captures[pixel] * weight[source]
                        shares[pixel] += share
                        keeps[pixel] *= share
                for step in range(len(cells)):
                    c = cells[step]
                    cell = (c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7], c[8])
                    fractional_indices(cell, scatter, n, indices)
                    if lattice.shape == SQUARE:
                        square_factors(lattice, indices, n, squares)
                    else:
                        radial_factors(lattice, indices, n, squares)
                    if running:
                        for pixel in range(n):
                            zeros[pixel] = squares[pixel] == 0.0
                    missed += multiply_structure_factors(lookup, table, indices, n, volume_squared, squares)
                    if running:
                        add_running(rules, squares, zeros, keeps, captures, polars, omegas, n, totals)
                    else:
                        for pixel in range(n):
                            totals[pixel] += keeps[pixel] * squares[pixel]
    finish_values(panel, rules, len(wavelength), captures, polars, omegas, shares, totals, n, values)
    return missed
