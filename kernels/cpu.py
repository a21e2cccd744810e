"""Loops over pixels for the CPU: blocks of pixel groups in cache, then steps, then pixels innermost.

A group is LANES neighbouring pixels of one row, counted from the row's first pixel, so that what a
pixel gets does not depend on how the frame is cut into tiles, blocks or threads.
"""

import math

import numpy as np
from bragg_numba.kernels import physics
from bragg_numba.kernels._jit import cpu_kernel, serial_kernel
from bragg_numba.kernels.parameters import GAUSS, ROUND, SQUARE
from numba import prange

#: Pixels in a group: two AVX2 registers of float32.
LANES = 16

#: Groups in a block: 1024 pixels, whose working arrays fit the first-level cache.
BLOCK_GROUPS = 64


# --- which pixels -------------------------------------------------------------------------------


@serial_kernel
def list_groups(first, last, row_start, fast_first, groups_wide, roi, mask, rows, columns):
    """Fill rows[] and columns[] with the groups of a block that hold a pixel to render; return how many.

    ``first`` and ``last`` count groups row by row over the region of interest; ``columns`` is in pixels.
    """
    found = 0
    masked = mask.size > 0
    for index in range(first, last):
        row = row_start + index // groups_wide
        column = (fast_first // LANES + index % groups_wide) * LANES
        wanted = not masked
        if masked:
            for fast in range(max(column, roi[0]), min(column + LANES - 1, roi[1]) + 1):
                wanted = wanted or mask[row, fast]
        if wanted:
            rows[found] = row
            columns[found] = column
            found += 1
    return found


@serial_kernel
def store_groups(values, rows, columns, n_groups, row_start, roi, mask, image):
    """Copy the values of the groups' pixels inside the region and the mask into the image."""
    masked = mask.size > 0
    for group in range(n_groups):
        row, column = rows[group], columns[group]
        for lane in range(LANES):
            fast = column + lane
            if roi[0] <= fast <= roi[1] and (not masked or mask[row, fast]):
                image[row - row_start, fast] = values[group, lane]


# --- float64 ------------------------------------------------------------------------------------


@serial_kernel
def aim_at_pixels(geometry, rows, columns, n_groups, sub_slow, sub_fast, depth, toward, airpath):
    """Fill toward[3, group, lane] with unit vectors to one sub-pixel of each pixel, and its distance."""
    for group in range(n_groups):
        slow = geometry.subpixel_size * (rows[group] * geometry.oversample + sub_slow)
        slow += geometry.subpixel_size / 2.0
        for lane in range(LANES):
            fast = geometry.subpixel_size * ((columns[group] + lane) * geometry.oversample + sub_fast)
            fast += geometry.subpixel_size / 2.0
            x, y, z = physics.pixel_position(geometry, fast, slow, depth)
            r = math.sqrt(x * x + y * y + z * z)
            airpath[group, lane] = r
            toward[0, group, lane] = x / r
            toward[1, group, lane] = y / r
            toward[2, group, lane] = z / r


@serial_kernel
def lattice_squares(lattice, cell, scatter, n_groups, indices, squares):
    """Fill indices[3, group, lane] with h, k, l and squares with the lattice factor (1 at a peak)."""
    a_x, a_y, a_z, b_x, b_y, b_z, c_x, c_y, c_z = cell
    for group in range(n_groups):
        for lane in range(LANES):
            q_x, q_y, q_z = scatter[0, group, lane], scatter[1, group, lane], scatter[2, group, lane]
            indices[0, group, lane] = a_x * q_x + a_y * q_y + a_z * q_z
            indices[1, group, lane] = b_x * q_x + b_y * q_y + b_z * q_z
            indices[2, group, lane] = c_x * q_x + c_y * q_y + c_z * q_z
    if lattice.shape == SQUARE:
        for group in range(n_groups):
            for lane in range(LANES):
                square = physics.grating_squared(indices[0, group, lane], lattice.n_a)
                square *= physics.grating_squared(indices[1, group, lane], lattice.n_b)
                square *= physics.grating_squared(indices[2, group, lane], lattice.n_c)
                squares[group, lane] = square
        return
    for group in range(n_groups):
        for lane in range(LANES):
            h, k, l = indices[0, group, lane], indices[1, group, lane], indices[2, group, lane]  # noqa: E741
            d_h = h - physics.nearest_index(h)
            d_k = k - physics.nearest_index(k)
            d_l = l - physics.nearest_index(l)
            radius_squared = physics.quadratic_form(lattice, d_h, d_k, d_l)
            if lattice.shape == ROUND:
                squares[group, lane] = physics.sphere_squared(radius_squared)
            elif lattice.shape == GAUSS:
                squares[group, lane] = physics.gauss_squared(radius_squared)
            else:
                squares[group, lane] = physics.tophat_squared(radius_squared)


@serial_kernel
def table_index(index, first, count):
    """Position of the nearest whole index in the bordered table; what lies outside falls on the border."""
    return int(min(max(physics.nearest_index(index) - first, 0.0), count - 1.0))


@serial_kernel
def structure_factor(lookup, table, h, k, l):  # noqa: E741
    """F at fractional h, k, l, and whether interpolation was wanted but left the table (0 or 1)."""
    missed = 0
    if lookup.interpolate:
        # The border is not data: the first index that counts is first + 1 (section 2.10).
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
def sensor_captures(geometry, layer, toward, n_groups, captures):
    """Fill captures[group, lane] with the fraction that this layer absorbs; 1 without a sensor."""
    for group in range(n_groups):
        for lane in range(LANES):
            parallax = (
                toward[0, group, lane] * geometry.normal_x
                + toward[1, group, lane] * geometry.normal_y
                + toward[2, group, lane] * geometry.normal_z
            )
            captures[group, lane] = 1.0
            if geometry.has_sensor:
                captures[group, lane] = physics.capture_fraction(
                    layer, geometry.layer_step, geometry.attenuation, parallax
                )


@serial_kernel
def scatter_from_source(geometry, incident, wavelength, toward, n_groups, scatter, keeps):
    """Fill scatter[3, group, lane] with q, and keeps[group, lane] with 0 beyond dmin, else 1."""
    i_x, i_y, i_z = incident
    for group in range(n_groups):
        for lane in range(LANES):
            q_x, q_y, q_z = physics.scattering_vector(
                toward[0, group, lane],
                toward[1, group, lane],
                toward[2, group, lane],
                i_x,
                i_y,
                i_z,
                wavelength,
            )
            scatter[0, group, lane], scatter[1, group, lane], scatter[2, group, lane] = q_x, q_y, q_z
            keeps[group, lane] = 1.0
            if geometry.dmin > 0.0 and physics.is_beyond_dmin(q_x, q_y, q_z, geometry.dmin):
                keeps[group, lane] = 0.0


@serial_kernel
def fill_polarization(geometry, rules, incident, toward, n_groups, keeps, polars):
    """Fill polars[group, lane] by the rules: per term always, cached once, or nanoBragg's running one."""
    i_x, i_y, i_z = incident
    for group in range(n_groups):
        for lane in range(LANES):
            if rules.per_term:
                wanted = geometry.polarized
            else:
                wanted = keeps[group, lane] != 0.0 and (polars[group, lane] == 0.0 or rules.running_polar)
            if wanted:
                polars[group, lane] = physics.polarization_factor(
                    geometry.kahn,
                    i_x,
                    i_y,
                    i_z,
                    toward[0, group, lane],
                    toward[1, group, lane],
                    toward[2, group, lane],
                    geometry.polar_x,
                    geometry.polar_y,
                    geometry.polar_z,
                )


@serial_kernel
def render_float64(
    geometry,
    lattice,
    lookup,
    rules,
    incident,
    wavelength,
    weight,
    cells,
    table,
    rows,
    columns,
    n_groups,
    work,
    values,
):
    """Render groups of pixels in float64, every option; return how often interpolation missed the table.

    Parameters
    ----------
    incident, wavelength, weight
        Sources: float64 (n, 3) unit vectors downstream, (n,) metres, (n,).
    cells
        float64 (n_orientations, 9): a, b, c in metres.
    table
        float64 structure factors with their border.
    rows, columns
        int64: each group's row and first pixel.
    work
        float64 (16, BLOCK_GROUPS, LANES) scratch.
    values
        float64 (BLOCK_GROUPS, LANES), filled with photons.
    """
    toward, scatter, indices = work[0:3], work[3:6], work[6:9]
    airpath, squares, keeps = work[9], work[10], work[11]
    polars, omegas, captures, totals = work[12], work[13], work[14], work[15]
    running = rules.running_thick or rules.running_polar or rules.running_omega
    volume_squared = (lattice.n_a * lattice.n_b * lattice.n_c) ** 2
    n_sub = geometry.oversample * geometry.oversample
    missed = 0
    totals[:n_groups] = rules.background
    polars[:n_groups] = 0.0 if geometry.polarized else 1.0
    values[:n_groups] = 0.0  # holds the flat background's share until the end
    for layer in range(geometry.layers):
        depth = layer * geometry.layer_step
        for sub in range(n_sub):
            sub_slow, sub_fast = sub // geometry.oversample, sub % geometry.oversample
            aim_at_pixels(geometry, rows, columns, n_groups, sub_slow, sub_fast, depth, toward, airpath)
            if sub == 0 or rules.running_thick or rules.per_term:
                sensor_captures(geometry, layer, toward, n_groups, captures)
            if (layer == 0 and sub == 0) or rules.running_omega or rules.per_term:
                for group in range(n_groups):
                    for lane in range(LANES):
                        omegas[group, lane] = physics.solid_angle(
                            airpath[group, lane],
                            geometry.pixel_size,
                            geometry.close_distance,
                            geometry.point_pixel,
                        )
            for source in range(len(wavelength)):
                beam = (incident[source, 0], incident[source, 1], incident[source, 2])
                scatter_from_source(geometry, beam, wavelength[source], toward, n_groups, scatter, keeps)
                fill_polarization(geometry, rules, beam, toward, n_groups, keeps, polars)
                if rules.per_term:
                    for group in range(n_groups):
                        for lane in range(LANES):
                            share = omegas[group, lane] * polars[group, lane] * captures[group, lane]
                            values[group, lane] += share * weight[source]
                            keeps[group, lane] *= share * weight[source]
                for step in range(len(cells)):
                    c = cells[step]
                    cell = (c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7], c[8])
                    lattice_squares(lattice, cell, scatter, n_groups, indices, squares)
                    for group in range(n_groups):
                        for lane in range(LANES):
                            f_cell, outside = structure_factor(
                                lookup,
                                table,
                                indices[0, group, lane],
                                indices[1, group, lane],
                                indices[2, group, lane],
                            )
                            missed += outside
                            term = f_cell * f_cell * (volume_squared * squares[group, lane])
                            if not running:
                                totals[group, lane] += keeps[group, lane] * term
                            elif keeps[group, lane] != 0.0 and not (rules.skip_zero and squares[group, lane] == 0.0):
                                total = totals[group, lane] + term
                                if rules.running_thick:
                                    total *= captures[group, lane]
                                if rules.running_polar:
                                    total *= polars[group, lane]
                                if rules.running_omega:
                                    total *= omegas[group, lane]
                                totals[group, lane] = total
    for group in range(n_groups):
        for lane in range(LANES):
            value = rules.scale * totals[group, lane]
            if rules.per_term:
                value += rules.flat_background * values[group, lane] / (n_sub * len(wavelength))
            else:
                if not rules.running_thick:
                    value *= captures[group, lane]
                if not rules.running_polar:
                    value *= polars[group, lane]
                if not rules.running_omega:
                    value *= omegas[group, lane]
            values[group, lane] = value
    return missed


@cpu_kernel
def add_bragg_float64(
    geometry,
    lattice,
    lookup,
    rules,
    incident,
    wavelength,
    weight,
    cells,
    table,
    roi,
    mask,
    row_start,
    row_stop,
    image,
    missed,
):
    """Render rows row_start..row_stop of the frame into image (float32, photons), in parallel blocks.

    ``image`` is (row_stop - row_start, n_fast); pixels outside the region or the mask are left alone.
    ``missed`` (int64, one per block) counts interpolations that left the table.
    """
    fast_first = roi[0]
    groups_wide = roi[1] // LANES - roi[0] // LANES + 1
    top = max(row_start, roi[2])
    bottom = min(row_stop, roi[3] + 1)
    n_all = max(0, bottom - top) * groups_wide
    n_blocks = (n_all + BLOCK_GROUPS - 1) // BLOCK_GROUPS
    for block in prange(n_blocks):
        rows = np.empty(BLOCK_GROUPS, np.int64)
        columns = np.empty(BLOCK_GROUPS, np.int64)
        work = np.empty((16, BLOCK_GROUPS, LANES), np.float64)
        values = np.empty((BLOCK_GROUPS, LANES), np.float64)
        first = block * BLOCK_GROUPS
        n_groups = list_groups(
            first, min(first + BLOCK_GROUPS, n_all), top, fast_first, groups_wide, roi, mask, rows, columns
        )
        if n_groups > 0:
            missed[block] = render_float64(
                geometry,
                lattice,
                lookup,
                rules,
                incident,
                wavelength,
                weight,
                cells,
                table,
                rows,
                columns,
                n_groups,
                work,
                values,
            )
            store_groups(values, rows, columns, n_groups, row_start, roi, mask, image)
