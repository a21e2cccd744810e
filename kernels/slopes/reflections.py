"""The gradient in |F|^2 of every reflection: each term's weight goes to the place of its reflection (eq. 64)."""

from bragg_numba.kernels import physics, walk
from bragg_numba.kernels._jit import cpu_kernel, device_function, serial_kernel
from bragg_numba.kernels.parameters import SHARE_OF_CELL
from bragg_numba.kernels.work import panel_at
from numba import prange


@device_function
def ray_of_pixel(panel, row, column, sub, depth):
    """Direction of one sub-pixel, and its distance."""
    fast, slow = walk.subpixel_place(panel, row, column, sub // panel.oversample, sub % panel.oversample)
    x, y, z = physics.pixel_position(panel.curved, panel, fast, slow, depth)
    return walk.direction(x, y, z)


@device_function
def polarization_of(panel, incident, source, d_x, d_y, d_z):
    """The polarization factor of a ray, 1 where there is none (eq. 8)."""
    if not panel.polarized:
        return 1.0
    return walk.polarization(panel, incident[source, 0], incident[source, 1], incident[source, 2], d_x, d_y, d_z)


@device_function
def kept_factor(panel, rules, sources, row, column):
    """The factors that nanoBragg keeps for all terms of a pixel (eq. 21)."""
    incident, wavelength = sources.incident, sources.wavelength
    last = panel.layers - 1
    d_x, d_y, d_z, _ = ray_of_pixel(panel, row, column, 0, last * panel.layer_step)
    factor = walk.capture(panel.curved, panel, rules, last, d_x, d_y, d_z)
    _, _, _, airpath = ray_of_pixel(panel, row, column, 0, 0.0)
    factor *= physics.solid_angle(airpath, panel.pitch_fast, panel.height, panel.close_distance, panel.point_pixel)
    if not panel.polarized:
        return factor
    for layer in range(panel.layers):
        for sub in range(panel.oversample * panel.oversample):
            d_x, d_y, d_z, _ = ray_of_pixel(panel, row, column, sub, layer * panel.layer_step)
            for source in range(len(wavelength)):
                i_x, i_y, i_z = incident[source, 0], incident[source, 1], incident[source, 2]
                q_x, q_y, q_z = physics.scattering_vector(d_x, d_y, d_z, i_x, i_y, i_z, wavelength[source])
                if walk.keep_within_dmin(panel, q_x, q_y, q_z) != 0.0:
                    return factor * polarization_of(panel, incident, source, d_x, d_y, d_z)
    return 0.0


@serial_kernel
def scatter_pixel(panel, lattice, lookup, rules, sources, cells, row, column, weight, gradient):
    """Add a pixel's weight times the factor of each of its terms to the gradient, flat, at the term's reflection."""
    incident, wavelength = sources.incident, sources.wavelength
    volume = lattice.n_a * lattice.n_b * lattice.n_c
    weight *= rules.scale * volume * volume
    if not rules.per_term:
        weight *= kept_factor(panel, rules, sources, row, column)
    for layer in range(panel.layers):
        depth = layer * panel.layer_step
        for sub in range(panel.oversample * panel.oversample):
            d_x, d_y, d_z, airpath = ray_of_pixel(panel, row, column, sub, depth)
            share = weight
            if rules.per_term:
                near = panel.close_distance + depth
                share *= physics.solid_angle(airpath, panel.pitch_fast, panel.height, near, panel.point_pixel)
                share *= walk.capture(panel.curved, panel, rules, layer, d_x, d_y, d_z)
            for source in range(len(wavelength)):
                i_x, i_y, i_z = incident[source, 0], incident[source, 1], incident[source, 2]
                q_x, q_y, q_z = physics.scattering_vector(d_x, d_y, d_z, i_x, i_y, i_z, wavelength[source])
                kept = share * sources.weight[source] * walk.keep_within_dmin(panel, q_x, q_y, q_z)
                if rules.per_term:
                    kept *= polarization_of(panel, incident, source, d_x, d_y, d_z)
                for step in range(len(cells)):
                    c = cells[step]
                    h, k, l = walk.indices(  # noqa: E741
                        c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7], c[8], q_x, q_y, q_z
                    )
                    square = lattice_factor_of(lattice, h, k, l)
                    i = walk.table_place(physics.nearest_index(h), lookup.h_first, lookup.h_count)
                    j = walk.table_place(physics.nearest_index(k), lookup.k_first, lookup.k_count)
                    m = walk.table_place(physics.nearest_index(l), lookup.l_first, lookup.l_count)
                    gradient[(i * lookup.k_count + j) * lookup.l_count + m] += kept * c[SHARE_OF_CELL] * square


@device_function
def lattice_factor_of(lattice, h, k, l):  # noqa: E741
    """The lattice factor about the nearest peak, for real numbers of cells, too (eq. 13 to 17)."""
    d_h, d_k, d_l = h - physics.nearest_index(h), k - physics.nearest_index(k), l - physics.nearest_index(l)
    return walk.lattice_factor(lattice.shape, lattice, d_h, d_k, d_l)


@cpu_kernel
def scatter_weights(panels, lattice, lookup, rules, sources, cells, pixels, weights, gradients):
    """Add Pixels, times their weights, to gradients (parts, places), part by part of the blocks.

    Which part a block belongs to does not depend on the threads.
    """
    blocks, rows, columns = pixels
    parts = len(gradients)
    for part in prange(parts):
        first, stop = len(blocks) * part // parts, len(blocks) * (part + 1) // parts
        for index in range(first, stop):
            panel = panel_at(panels, blocks[index, 0])
            for pixel in range(blocks[index, 1], blocks[index, 1] + blocks[index, 2]):
                weight = weights[pixel]
                if weight != 0.0:
                    row, column = float(rows[pixel]), float(columns[pixel])
                    scatter_pixel(panel, lattice, lookup, rules, sources, cells, row, column, weight, gradients[part])
