"""The float64 renderer of a list of pixels: every option, in the reference's order of operations.

Working arrays are flat over the pixels, so that the loops over them are long and vectorise. What is done for a pixel
is in walk; the order is written out here.
"""

from functools import cache

from bragg_numba.kernels import physics, walk
from bragg_numba.kernels._jit import addressed_serial_kernel, device_function, serial_kernel
from bragg_numba.kernels.parameters import SHARE_OF_CELL, SQUARE
from bragg_numba.kernels.work import BOTTOM, LEFT, PANEL, RIGHT, TOP, panel_at
from numba import types

#: Rows of working values, float64, one value a pixel each: sixteen of render_float64, and the list of pixels.
SCRATCH = 20


@serial_kernel
def aim_at_pixels(panel, slows, fasts, n, sub_slow, sub_fast, depth, toward, airpath):
    """Fill toward[3, pixel] with unit vectors to one sub-pixel of each pixel, airpath with its distance."""
    for pixel in range(n):
        fast, slow = walk.subpixel_place(panel, slows[pixel], fasts[pixel], sub_slow, sub_fast)
        x, y, z = physics.pixel_position(panel.curved, panel, fast, slow, depth)
        toward[0, pixel], toward[1, pixel], toward[2, pixel], airpath[pixel] = walk.direction(x, y, z)


@serial_kernel
def fractional_indices(cell, scatter, n, indices):
    """Fill indices[3, pixel] with h, k, l (eq. 22)."""
    a_x, a_y, a_z, b_x, b_y, b_z, c_x, c_y, c_z = cell
    for pixel in range(n):
        q_x, q_y, q_z = scatter[0, pixel], scatter[1, pixel], scatter[2, pixel]
        h, k, l = walk.indices(a_x, a_y, a_z, b_x, b_y, b_z, c_x, c_y, c_z, q_x, q_y, q_z)  # noqa: E741
        indices[0, pixel], indices[1, pixel], indices[2, pixel] = h, k, l


@serial_kernel
def lattice_factors(lattice, indices, n, squares):
    """Fill squares[pixel] with the lattice factor, 1 at a peak (eq. 13 to 17)."""
    if lattice.shape == SQUARE:
        for pixel in range(n):
            h, k, l = indices[0, pixel], indices[1, pixel], indices[2, pixel]  # noqa: E741
            squares[pixel] = walk.lattice_factor(SQUARE, lattice, h, k, l)
        return
    for pixel in range(n):
        squares[pixel] = walk.squared_radius(lattice, indices[0, pixel], indices[1, pixel], indices[2, pixel])
    for pixel in range(n):
        squares[pixel] = walk.radial_factor(lattice.shape, squares[pixel])


@serial_kernel
def multiply_structure_factors(lookup, table, indices, n, scale, squares):
    """Turn squares[pixel] into F^2 * scale * squares; return how often interpolation missed the table."""
    missed = 0
    for pixel in range(n):
        h, k, l = indices[0, pixel], indices[1, pixel], indices[2, pixel]  # noqa: E741
        f_cell, outside = walk.structure_factor(lookup.has_table, lookup.interpolate, lookup, table, h, k, l)
        missed += outside
        squares[pixel] = f_cell * f_cell * (scale * squares[pixel])
    return missed


@serial_kernel
def add_running_terms(lookup, table, rules, indices, squares, scale, factors, n, totals):
    """Add a step's terms as nanoBragg's running products do (eq. 21); return how often interpolation missed."""
    keeps, captures, polars, omegas = factors
    missed = 0
    for pixel in range(n):
        h, k, l = indices[0, pixel], indices[1, pixel], indices[2, pixel]  # noqa: E741
        f_cell, outside = walk.structure_factor(lookup.has_table, lookup.interpolate, lookup, table, h, k, l)
        missed += outside
        square = squares[pixel]
        term = f_cell * f_cell * (scale * square)
        totals[pixel] = walk.add_running(
            rules, totals[pixel], term, square, keeps[pixel], captures[pixel], polars[pixel], omegas[pixel]
        )
    return missed


@serial_kernel
def multiply_dispersed_factors(lookup, dispersion, source, indices, n, scale, squares):
    """multiply_structure_factors at the wavelength of a source; neighbours mostly share their reflection."""
    missed, before, square = 0, -1, 0.0
    cells = lookup.h_count * lookup.k_count * lookup.l_count
    for pixel in range(n):
        h, k, l = indices[0, pixel], indices[1, pixel], indices[2, pixel]  # noqa: E741
        if lookup.interpolate:
            f_cell, outside = walk.dispersed_factor(lookup, dispersion, source, h, k, l)
            missed += outside
            square = f_cell * f_cell
        else:
            cell = walk.cell_of_table(lookup, h, k, l)
            if cell != before:
                before, square = cell, walk.square_of_parts(dispersion.parts, dispersion.factors, source, cell, cells)
        squares[pixel] = square * (scale * squares[pixel])
    return missed


@serial_kernel
def add_running_dispersed(lookup, dispersion, source, rules, indices, squares, scale, factors, n, totals):
    """add_running_terms at the wavelength of a source."""
    keeps, captures, polars, omegas = factors
    missed = 0
    for pixel in range(n):
        h, k, l = indices[0, pixel], indices[1, pixel], indices[2, pixel]  # noqa: E741
        f_cell, outside = walk.dispersed_factor(lookup, dispersion, source, h, k, l)
        missed += outside
        square = squares[pixel]
        term = f_cell * f_cell * (scale * square)
        totals[pixel] = walk.add_running(
            rules, totals[pixel], term, square, keeps[pixel], captures[pixel], polars[pixel], omegas[pixel]
        )
    return missed


@serial_kernel
def sensor_captures(panel, rules, layer, toward, n, captures):
    """Fill captures[pixel] with the fraction that this layer absorbs (eq. 6)."""
    for pixel in range(n):
        d_x, d_y, d_z = toward[0, pixel], toward[1, pixel], toward[2, pixel]
        captures[pixel] = walk.capture(panel.curved, panel, rules, layer, d_x, d_y, d_z)


@serial_kernel
def scatter_from_source(panel, incident, wavelength, toward, n, scatter, keeps):
    """Fill scatter[3, pixel] with q, and keeps[pixel] with 0 beyond dmin, else 1 (eq. 4, 7)."""
    i_x, i_y, i_z = incident
    for pixel in range(n):
        d_x, d_y, d_z = toward[0, pixel], toward[1, pixel], toward[2, pixel]
        q_x, q_y, q_z = physics.scattering_vector(d_x, d_y, d_z, i_x, i_y, i_z, wavelength)
        scatter[0, pixel], scatter[1, pixel], scatter[2, pixel] = q_x, q_y, q_z
        keeps[pixel] = walk.keep_within_dmin(panel, q_x, q_y, q_z)


@serial_kernel
def fill_polarizations(panel, rules, incident, toward, n, keeps, polars):
    """Fill polars[pixel] where the rules ask for a polarization factor (eq. 8)."""
    i_x, i_y, i_z = incident
    for pixel in range(n):
        if walk.needs_polarization(panel, rules, keeps[pixel], polars[pixel]):
            d_x, d_y, d_z = toward[0, pixel], toward[1, pixel], toward[2, pixel]
            polars[pixel] = walk.polarization(panel, i_x, i_y, i_z, d_x, d_y, d_z)


@device_function
def render_float64(dispersed, panel, lattice, lookup, rules, sources, cells, table, slows, fasts, n, work, values):
    """Render pixels in float64; return how often interpolation missed the table.

    Parameters
    ----------
    dispersed
        None, or ``table`` is a parameters.Dispersion.
    sources
        kernels.parameters.Sources.
    cells
        float64 (n_orientations, N_CELL): a, b, c in metres, and the share of the photons.
    table
        float64 structure factors with their border.
    slows, fasts
        float64: row and column of n pixels in the panel.
    work
        float64 (SCRATCH, n or more): rows 0 to 16 are used.
    values
        float64, filled with the photons of the pixels.
    """
    incident, wavelength, weight = sources.incident, sources.wavelength, sources.weight
    toward, scatter, indices = work[0:3], work[3:6], work[6:9]
    airpath, squares, keeps, polars = work[9], work[10], work[11], work[12]
    omegas, captures, totals = work[13], work[14], work[15]
    shares = work[16]
    shares[:n] = 0.0
    volume_squared = (lattice.n_a * lattice.n_b * lattice.n_c) ** 2
    missed = 0
    totals[:n] = rules.background
    polars[:n] = walk.first_polarization(panel)
    for layer in range(panel.layers):
        depth = layer * panel.layer_step
        for sub in range(panel.oversample * panel.oversample):
            sub_slow, sub_fast = sub // panel.oversample, sub % panel.oversample
            aim_at_pixels(panel, slows, fasts, n, sub_slow, sub_fast, depth, toward, airpath)
            if walk.needs_capture(rules, sub):
                sensor_captures(panel, rules, layer, toward, n, captures)
            if walk.needs_solid_angle(rules, layer, sub):
                near = walk.near_plane(panel, rules, depth)
                for pixel in range(n):
                    omegas[pixel] = physics.solid_angle(
                        airpath[pixel], panel.pitch_fast, panel.height, near, panel.point_pixel
                    )
            for source in range(len(wavelength)):
                beam = (incident[source, 0], incident[source, 1], incident[source, 2])
                scatter_from_source(panel, beam, wavelength[source], toward, n, scatter, keeps)
                fill_polarizations(panel, rules, beam, toward, n, keeps, polars)
                if rules.per_term:
                    for pixel in range(n):
                        share = walk.share_of_term(omegas[pixel], polars[pixel], captures[pixel], weight[source])
                        shares[pixel] += share
                        keeps[pixel] *= share
                else:
                    for pixel in range(n):
                        keeps[pixel] *= weight[source]
                for step in range(len(cells)):
                    c = cells[step]
                    cell = (c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7], c[8])
                    strength = volume_squared * c[SHARE_OF_CELL]
                    fractional_indices(cell, scatter, n, indices)
                    lattice_factors(lattice, indices, n, squares)
                    if rules.running:
                        factors = keeps, captures, polars, omegas
                        if dispersed is not None:
                            missed += add_running_dispersed(
                                lookup, table, source, rules, indices, squares, strength, factors, n, totals
                            )
                        else:
                            missed += add_running_terms(
                                lookup, table, rules, indices, squares, strength, factors, n, totals
                            )
                    else:
                        if dispersed is not None:
                            missed += multiply_dispersed_factors(lookup, table, source, indices, n, strength, squares)
                        else:
                            missed += multiply_structure_factors(lookup, table, indices, n, strength, squares)
                        for pixel in range(n):
                            totals[pixel] += keeps[pixel] * squares[pixel]
    for pixel in range(n):
        values[pixel] = walk.finish(
            panel, rules, len(wavelength), totals[pixel], captures[pixel], polars[pixel], omegas[pixel], shares[pixel]
        )
    return missed


@serial_kernel
def list_pixels(tiles, index, panel, mask, slows, fasts):
    """Fill slows and fasts (float64) with the wanted pixels of a tile, row by row, in the panel; return how many."""
    left, right = tiles[index, LEFT], tiles[index, RIGHT]
    found = 0
    for row in range(tiles[index, TOP], tiles[index, BOTTOM]):
        for column in range(left, right):
            if mask.size == 0 or mask[panel.first_row + row, panel.first_column + column]:
                slows[found], fasts[found] = row, column
                found += 1
    return found


@serial_kernel
def keep_nans(n, slows, fasts, panel, frame):
    """Move the listed pixels whose photons are NaN to the front of the list; return how many there are."""
    found = 0
    for pixel in range(n):
        row, column = panel.first_row + int(slows[pixel]), panel.first_column + int(fasts[pixel])
        value = frame.image[row - frame.row_start, column]
        if value != value:
            slows[found], fasts[found] = slows[pixel], fasts[pixel]
            found += 1
    return found


@cache
def run_of_pixels(dispersed):
    """The kernel that renders the tiles of a work list in float64; ``dispersed`` as in parameters.Code."""

    @addressed_serial_kernel(types.void)
    def render_pixels(panels, lattice, lookup, rules, sources, cells, table, tiles, only_nans, frame, missed, work):
        """Render the tiles of a work list in float64; the arguments are those of cpu.add_bragg_float64."""
        slows, fasts, values = work[SCRATCH - 3], work[SCRATCH - 2], work[SCRATCH - 1]
        for index in range(len(tiles)):
            panel = panel_at(panels, tiles[index, PANEL])
            n = list_pixels(tiles, index, panel, frame.mask, slows, fasts)
            if only_nans:
                n = keep_nans(n, slows, fasts, panel, frame)
            missed[index] = render_float64(
                dispersed, panel, lattice, lookup, rules, sources, cells, table, slows, fasts, n, work, values
            )
            for pixel in range(n):
                row, column = panel.first_row + int(slows[pixel]), panel.first_column + int(fasts[pixel])
                frame.image[row - frame.row_start, column] = values[pixel]

    return render_pixels
