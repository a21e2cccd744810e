"""The float32 renderer of a block of pixels: phases in float64 once a group, the rest in float32.

A block is PIXELS pixels: groups of ``lanes`` neighbours in a row. For each step the phase at a group's
centre is made in float64 and reduced to its fraction; a pixel adds the small phase between centre and
pixel in float32 (docs/physics.md, section 9, states the error). The group is the vectorised index:
pixel = lane * groups + group, so that fractions are loaded as they lie.

Working memory is one flat float32 array with rows at fixed offsets: that the rows cannot overlap is then
visible to the compiler, and the loops vectorise without checks. ``lane_shape`` is a tuple whose length is
the number of lanes: a length is known when a function is compiled, a number is not, and with a number the
loops over groups stay scalar (ten times slower).
"""

import math

import numpy as np
from bragg_numba.kernels import physics
from bragg_numba.kernels._jit import device_function, fused_kernel
from bragg_numba.kernels.parameters import GAUSS, ROUND, SQUARE

#: Pixels in a block: its working rows stay in the first-level cache.
PIXELS = 1024

#: Terms that are summed in float32 before they are added to the float64 total.
CHUNK = 64

# Rows of the float32 working array. Each begins one cache line further than a whole number of 4096 bytes:
# rows that lay 4096 bytes apart would all compete for the same eight lines of the first-level cache.
_ROW = PIXELS + 16
_GROUP_ROW = PIXELS // 2 + 16  # groups have two pixels or more

# One value a pixel ...
_X, _Y, _Z = 0, _ROW, 2 * _ROW  # from the group's centre direction to the pixel's
_SUM, _TERM, _STRETCH = 3 * _ROW, 4 * _ROW, 5 * _ROW  # _STRETCH: centre's distance over the pixel's
_OMEGA, _POLAR, _CAPTURE, _WEIGHT = 6 * _ROW, 7 * _ROW, 8 * _ROW, 9 * _ROW
# ... or one a group.
_GROUPS = 10 * _ROW
_H, _K, _L = _GROUPS, _GROUPS + _GROUP_ROW, _GROUPS + 2 * _GROUP_ROW  # fine parts of the phases (eq. 32)
_H_COARSE, _K_COARSE, _L_COARSE = _GROUPS + 3 * _GROUP_ROW, _GROUPS + 4 * _GROUP_ROW, _GROUPS + 5 * _GROUP_ROW
_H_TURNS, _K_TURNS, _L_TURNS = _GROUPS + 6 * _GROUP_ROW, _GROUPS + 7 * _GROUP_ROW, _GROUPS + 8 * _GROUP_ROW
_H_NEAR, _K_NEAR, _L_NEAR = _GROUPS + 9 * _GROUP_ROW, _GROUPS + 10 * _GROUP_ROW, _GROUPS + 11 * _GROUP_ROW
_AIM_X, _AIM_Y, _AIM_Z = _GROUPS + 12 * _GROUP_ROW, _GROUPS + 13 * _GROUP_ROW, _GROUPS + 14 * _GROUP_ROW
_NEARNESS = _GROUPS + 15 * _GROUP_ROW  # 1 / distance of the centres

#: Values in the float32 working array.
SIZE_32 = _GROUPS + 16 * _GROUP_ROW

#: Where render_tile leaves the photons: work[VALUES + lane * groups + group].
VALUES = _SUM

# Rows of the float64 working array: per pixel, then per group.
_TOTAL, _SHARE = 0, 1
_AIM, _DISTANCE, _Q = 2, 5, 6  # three rows, one row, three rows
ROWS_64 = 9

#: Answers of reach_of_block.
DARK, INSIDE, ANYWHERE = 0, 1, 2

#: Thinnest sensor layer, in attenuation depths, whose captured fraction is made in float32 (2^-24 / 0.05 = 1.2e-6).
THIN_LAYER = 0.05


@fused_kernel
def aim_at_groups(geometry, rows, columns, n_groups, lane_shape, sub_slow, sub_fast, depth, work):
    """Fill the float64 rows _AIM and _DISTANCE with the direction and distance of each group's centre."""
    middle = 0.5 * (len(lane_shape) - 1) * geometry.pixel_size
    for group in range(PIXELS // len(lane_shape)):
        at = group if group < n_groups else 0  # unused groups repeat the first: finite, never stored
        slow = geometry.subpixel_size * (rows[at] * geometry.oversample + sub_slow)
        slow += geometry.subpixel_size / 2.0
        fast = geometry.subpixel_size * (columns[at] * geometry.oversample + sub_fast)
        fast += geometry.subpixel_size / 2.0 + middle
        x, y, z = physics.pixel_position(geometry, fast, slow, depth)
        r = math.sqrt(x * x + y * y + z * z)
        work[_DISTANCE, group] = r
        work[_AIM, group] = x / r
        work[_AIM + 1, group] = y / r
        work[_AIM + 2, group] = z / r


@fused_kernel
def narrow_aims(lane_shape, centres, work):
    """Fill the float32 rows _AIM_X.. and _NEARNESS from the float64 centres."""
    for group in range(PIXELS // len(lane_shape)):
        work[_AIM_X + group] = np.float32(centres[_AIM, group])
        work[_AIM_Y + group] = np.float32(centres[_AIM + 1, group])
        work[_AIM_Z + group] = np.float32(centres[_AIM + 2, group])
        work[_NEARNESS + group] = np.float32(1.0 / centres[_DISTANCE, group])


@fused_kernel
def offsets_on_flat(geometry, lane_shape, work):
    """Fill _X, _Y, _Z and _STRETCH for a flat detector, all in float32 without cancellation (eq. 23)."""
    groups = PIXELS // len(lane_shape)
    one, two = np.float32(1.0), np.float32(2.0)
    f_x, f_y, f_z = np.float32(geometry.fast_x), np.float32(geometry.fast_y), np.float32(geometry.fast_z)
    pitch = np.float32(geometry.pixel_size)
    for lane in range(len(lane_shape)):
        from_centre = np.float32(lane - 0.5 * (len(lane_shape) - 1)) * pitch
        for group in range(groups):
            pixel = lane * groups + group
            c_x, c_y, c_z = work[_AIM_X + group], work[_AIM_Y + group], work[_AIM_Z + group]
            t = from_centre * work[_NEARNESS + group]
            growth = t * (two * (c_x * f_x + c_y * f_y + c_z * f_z) + t)
            stretch = np.sqrt(one + growth)
            shared = one / (stretch + stretch * stretch)
            along_aim = growth * shared
            inverse = (one + stretch) * shared
            along_fast = t * inverse
            work[_X + pixel] = along_fast * f_x - along_aim * c_x
            work[_Y + pixel] = along_fast * f_y - along_aim * c_y
            work[_Z + pixel] = along_fast * f_z - along_aim * c_z
            work[_STRETCH + pixel] = inverse


@fused_kernel
def offsets_anywhere(geometry, rows, columns, n_groups, lane_shape, sub_slow, sub_fast, depth, centres, work):
    """Fill _X, _Y, _Z and _STRETCH for any detector: differences made in float64, rounded once."""
    groups = PIXELS // len(lane_shape)
    for group in range(groups):
        at = group if group < n_groups else 0
        slow = geometry.subpixel_size * (rows[at] * geometry.oversample + sub_slow)
        slow += geometry.subpixel_size / 2.0
        for lane in range(len(lane_shape)):
            fast = geometry.subpixel_size * ((columns[at] + lane) * geometry.oversample + sub_fast)
            fast += geometry.subpixel_size / 2.0
            x, y, z = physics.pixel_position(geometry, fast, slow, depth)
            r = math.sqrt(x * x + y * y + z * z)
            pixel = lane * groups + group
            work[_X + pixel] = np.float32(x / r - centres[_AIM, group])
            work[_Y + pixel] = np.float32(y / r - centres[_AIM + 1, group])
            work[_Z + pixel] = np.float32(z / r - centres[_AIM + 2, group])
            work[_STRETCH + pixel] = np.float32(centres[_DISTANCE, group] / r)


@fused_kernel
def solid_angles(geometry, near, lane_shape, work):
    """Fill the row _OMEGA (eq. 5); ``near`` is the distance of the layer's plane."""
    groups = PIXELS // len(lane_shape)
    area = np.float32(geometry.pixel_size * geometry.pixel_size * near)
    for lane in range(len(lane_shape)):
        for group in range(groups):
            pixel = lane * groups + group
            nearness = work[_STRETCH + pixel] * work[_NEARNESS + group]
            angle = nearness * nearness
            work[_OMEGA + pixel] = angle if geometry.point_pixel else area * (angle * nearness)


@fused_kernel
def sensor_captures(geometry, layer, upright, lane_shape, work):
    """Fill the row _CAPTURE (eq. 6); ``upright``: rays meet a curved sensor head-on."""
    groups = PIXELS // len(lane_shape)
    n_x, n_y, n_z = (
        np.float32(geometry.normal_x),
        np.float32(geometry.normal_y),
        np.float32(geometry.normal_z),
    )
    for lane in range(len(lane_shape)):
        for group in range(groups):
            pixel = lane * groups + group
            work[_CAPTURE + pixel] = (
                (work[_AIM_X + group] + work[_X + pixel]) * n_x
                + (work[_AIM_Y + group] + work[_Y + pixel]) * n_y
                + (work[_AIM_Z + group] + work[_Z + pixel]) * n_z
            )
    if geometry.curved and upright:
        for pixel in range(PIXELS):
            work[_CAPTURE + pixel] = np.float32(1.0)
    layer_depth = geometry.layer_step * geometry.attenuation
    if layer_depth >= THIN_LAYER:
        for pixel in range(PIXELS):
            work[_CAPTURE + pixel] = physics.capture_single(
                np.float32(layer), np.float32(layer_depth), work[_CAPTURE + pixel]
            )
    else:
        for pixel in range(PIXELS):
            work[_CAPTURE + pixel] = physics.capture_fraction(
                layer, geometry.layer_step, geometry.attenuation, np.float64(work[_CAPTURE + pixel])
            )


@fused_kernel
def polarizations(geometry, incident, fill_all, lane_shape, work):
    """Fill the row _POLAR (eq. 8): every pixel, or those where it is still 0 and the weight is not."""
    groups = PIXELS // len(lane_shape)
    i_x, i_y, i_z = np.float32(incident[0]), np.float32(incident[1]), np.float32(incident[2])
    p_x, p_y, p_z = np.float32(geometry.polar_x), np.float32(geometry.polar_y), np.float32(geometry.polar_z)
    kahn, zero = np.float32(geometry.kahn), np.float32(0.0)
    for lane in range(len(lane_shape)):
        for group in range(groups):
            pixel = lane * groups + group
            found = physics.polarization_factor(
                kahn,
                i_x,
                i_y,
                i_z,
                work[_AIM_X + group] + work[_X + pixel],
                work[_AIM_Y + group] + work[_Y + pixel],
                work[_AIM_Z + group] + work[_Z + pixel],
                p_x,
                p_y,
                p_z,
            )
            known = work[_POLAR + pixel]
            wanted = fill_all or (known == zero and work[_WEIGHT + pixel] != zero)
            work[_POLAR + pixel] = found if wanted else known


@fused_kernel
def scatter_at_groups(incident, wavelength, lane_shape, work):
    """Fill the float64 rows _Q with the scattering vectors at the groups' centres (eq. 4)."""
    i_x, i_y, i_z = incident
    for group in range(PIXELS // len(lane_shape)):
        work[_Q, group] = (work[_AIM, group] - i_x) / wavelength
        work[_Q + 1, group] = (work[_AIM + 1, group] - i_y) / wavelength
        work[_Q + 2, group] = (work[_AIM + 2, group] - i_z) / wavelength


@device_function
def scatter_at_pixel(geometry, incident, wavelength, row, column, sub, depth):
    """Scattering vector of one sub-pixel in float64, rounded as the float64 renderer rounds it (eq. 4)."""
    slow = geometry.subpixel_size * (row * geometry.oversample + sub // geometry.oversample)
    fast = geometry.subpixel_size * (column * geometry.oversample + sub % geometry.oversample)
    half = geometry.subpixel_size / 2.0
    x, y, z = physics.pixel_position(geometry, fast + half, slow + half, depth)
    r = math.sqrt(x * x + y * y + z * z)
    return physics.scattering_vector(x / r, y / r, z / r, incident[0], incident[1], incident[2], wavelength)


@fused_kernel
def keep_within_dmin(geometry, incident, wavelength, rows, columns, n_groups, lane_shape, sub, depth, work):
    """Fill the row _WEIGHT with 1, or 0 beyond dmin (eq. 7)."""
    for pixel in range(PIXELS):
        work[_WEIGHT + pixel] = np.float32(0.0)
    groups = PIXELS // len(lane_shape)
    for group in range(n_groups):
        for lane in range(len(lane_shape)):
            q_x, q_y, q_z = scatter_at_pixel(
                geometry, incident, wavelength, rows[group], columns[group] + lane, sub, depth
            )
            if not physics.is_beyond_dmin(q_x, q_y, q_z, geometry.dmin):
                work[_WEIGHT + lane * groups + group] = np.float32(1.0)


@device_function
def reduce_axis(a_x, a_y, a_z, n, first, groups, fine_row, coarse_row, turns_row, near_row, centres, work):
    """Fill the float32 rows of one index at the groups' centres: fine, coarse, turns and whole parts (eq. 32)."""
    for group in range(groups):
        h = a_x * centres[_Q, group] + a_y * centres[_Q + 1, group] + a_z * centres[_Q + 2, group]
        whole, coarse, fine, turns = physics.split_phase(h, n)
        work[fine_row + group] = np.float32(fine)
        work[coarse_row + group] = np.float32(coarse)
        work[turns_row + group] = np.float32(turns)
        work[near_row + group] = np.float32(whole - first)


@fused_kernel
def reduce_phases(cell, lattice, lookup, lane_shape, centres, work):
    """Fill the float32 rows of h, k, l at the groups' centres."""
    a_x, a_y, a_z, b_x, b_y, b_z, c_x, c_y, c_z = cell
    groups = PIXELS // len(lane_shape)
    h_first, k_first, l_first = float(lookup.h_first), float(lookup.k_first), float(lookup.l_first)
    reduce_axis(a_x, a_y, a_z, lattice.n_a, h_first, groups, _H, _H_COARSE, _H_TURNS, _H_NEAR, centres, work)
    reduce_axis(b_x, b_y, b_z, lattice.n_b, k_first, groups, _K, _K_COARSE, _K_TURNS, _K_NEAR, centres, work)
    reduce_axis(c_x, c_y, c_z, lattice.n_c, l_first, groups, _L, _L_COARSE, _L_TURNS, _L_NEAR, centres, work)


@fused_kernel
def add_square(slopes, counts, f_squared, lane_shape, work):
    """Add f_squared times the square crystal's lattice factor of one step to _SUM (eq. 13)."""
    a_x, a_y, a_z, b_x, b_y, b_z, c_x, c_y, c_z = slopes
    n_a, n_b, n_c, same_a, same_b, same_c = counts
    groups = PIXELS // len(lane_shape)
    for lane in range(len(lane_shape)):
        for group in range(groups):
            pixel = lane * groups + group
            x, y, z = work[_X + pixel], work[_Y + pixel], work[_Z + pixel]
            h = work[_H + group] + a_x * x + a_y * y + a_z * z
            k = work[_K + group] + b_x * x + b_y * y + b_z * z
            l = work[_L + group] + c_x * x + c_y * y + c_z * z  # noqa: E741
            _, d_h = physics.reduced_single(work[_H_COARSE + group], h)
            _, d_k = physics.reduced_single(work[_K_COARSE + group], k)
            _, d_l = physics.reduced_single(work[_L_COARSE + group], l)
            work[_SUM + pixel] += f_squared * physics.square_ratio_single(
                physics.turns_single(work[_H_TURNS + group], n_a, same_a, h),
                physics.turns_single(work[_K_TURNS + group], n_b, same_b, k),
                physics.turns_single(work[_L_TURNS + group], n_c, same_c, l),
                d_h,
                d_k,
                d_l,
            )


@device_function
def table_place(lookup, h, k, l):  # noqa: E741
    """Place of whole indices, counted from the table's start, in the flat table; outside: on its border."""
    zero = np.float32(0.0)
    i = min(max(h, zero), np.float32(lookup.h_count - 1))
    j = min(max(k, zero), np.float32(lookup.k_count - 1))
    m = min(max(l, zero), np.float32(lookup.l_count - 1))
    # Whole numbers below 2^24 are exact in float32; larger tables are rendered in float64.
    return np.int32((i * np.float32(lookup.k_count) + j) * np.float32(lookup.l_count) + m)


@device_function
def is_half(d_h, d_k, d_l, near_half):
    """Tell whether a phase lies so near to a half that float32 cannot say which index is the nearest."""
    return max(abs(d_h), max(abs(d_k), abs(d_l))) > near_half


@fused_kernel
def settle_halves(
    geometry, lattice, lookup, cell, incident, wavelength, rows, columns, n_groups, lane_shape, sub, depth, work, at
):
    """Give the pixels that is_half marked (at < 0) the index, and the radius, that float64 finds."""
    lowest = np.int32(0)
    for pixel in range(PIXELS):
        lowest = min(lowest, at[pixel])
    if lowest == 0:
        return
    groups = PIXELS // len(lane_shape)
    for pixel in range(PIXELS):
        if at[pixel] >= 0:
            continue
        at[pixel] = 0
        lane, group = pixel // groups, pixel % groups
        if group >= n_groups:
            continue
        q_x, q_y, q_z = scatter_at_pixel(geometry, incident, wavelength, rows[group], columns[group] + lane, sub, depth)
        h = cell[0] * q_x + cell[1] * q_y + cell[2] * q_z
        k = cell[3] * q_x + cell[4] * q_y + cell[5] * q_z
        l = cell[6] * q_x + cell[7] * q_y + cell[8] * q_z  # noqa: E741
        h_near, k_near, l_near = physics.nearest_index(h), physics.nearest_index(k), physics.nearest_index(l)
        i = _clamp(h_near - lookup.h_first, lookup.h_count)
        j = _clamp(k_near - lookup.k_first, lookup.k_count)
        m = _clamp(l_near - lookup.l_first, lookup.l_count)
        at[pixel] = np.int32((i * lookup.k_count + j) * lookup.l_count + m)
        if lattice.shape != SQUARE:
            radius_squared = physics.quadratic_form(lattice, h - h_near, k - k_near, l - l_near)
            work[_TERM + pixel] = np.float32(radius_squared)


@fused_kernel
def square_terms(slopes, counts, lookup, near_half, lane_shape, work, at):
    """Fill _TERM with the square crystal's lattice factor and at[pixel] with the place in the table."""
    a_x, a_y, a_z, b_x, b_y, b_z, c_x, c_y, c_z = slopes
    n_a, n_b, n_c, same_a, same_b, same_c = counts
    groups = PIXELS // len(lane_shape)
    for lane in range(len(lane_shape)):
        for group in range(groups):
            pixel = lane * groups + group
            x, y, z = work[_X + pixel], work[_Y + pixel], work[_Z + pixel]
            h = work[_H + group] + a_x * x + a_y * y + a_z * z
            k = work[_K + group] + b_x * x + b_y * y + b_z * z
            l = work[_L + group] + c_x * x + c_y * y + c_z * z  # noqa: E741
            t_h = physics.turns_single(work[_H_TURNS + group], n_a, same_a, h)
            t_k = physics.turns_single(work[_K_TURNS + group], n_b, same_b, k)
            t_l = physics.turns_single(work[_L_TURNS + group], n_c, same_c, l)
            h_near, d_h = physics.reduced_single(work[_H_COARSE + group], h)
            k_near, d_k = physics.reduced_single(work[_K_COARSE + group], k)
            l_near, d_l = physics.reduced_single(work[_L_COARSE + group], l)
            work[_TERM + pixel] = physics.square_ratio_single(t_h, t_k, t_l, d_h, d_k, d_l)
            place = table_place(
                lookup,
                h_near + work[_H_NEAR + group],
                k_near + work[_K_NEAR + group],
                l_near + work[_L_NEAR + group],
            )
            at[pixel] = np.int32(-1) if is_half(d_h, d_k, d_l, near_half) else place


@fused_kernel
def places_of_groups(lookup, lane_shape, work):
    """Turn the whole parts of each group into its place in the flat table, in the row _H_NEAR.

    Whole numbers below 2^24 are exact in float32; larger tables are rendered in float64.
    """
    k_size, l_size = np.float32(lookup.k_count), np.float32(lookup.l_count)
    for group in range(PIXELS // len(lane_shape)):
        place = (work[_H_NEAR + group] * k_size + work[_K_NEAR + group]) * l_size + work[_L_NEAR + group]
        work[_H_NEAR + group] = place


@fused_kernel
def square_terms_inside(slopes, counts, lookup, near_half, lane_shape, work, at):
    """square_terms for a block whose every index lies in the table; _H_NEAR holds places_of_groups."""
    a_x, a_y, a_z, b_x, b_y, b_z, c_x, c_y, c_z = slopes
    n_a, n_b, n_c, same_a, same_b, same_c = counts
    groups = PIXELS // len(lane_shape)
    k_size, l_size = np.float32(lookup.k_count), np.float32(lookup.l_count)
    h_size = k_size * l_size
    half_squared = near_half * near_half
    for lane in range(len(lane_shape)):
        for group in range(groups):
            pixel = lane * groups + group
            x, y, z = work[_X + pixel], work[_Y + pixel], work[_Z + pixel]
            h = work[_H + group] + a_x * x + a_y * y + a_z * z
            k = work[_K + group] + b_x * x + b_y * y + b_z * z
            l = work[_L + group] + c_x * x + c_y * y + c_z * z  # noqa: E741
            t_h = physics.turns_single(work[_H_TURNS + group], n_a, same_a, h)
            t_k = physics.turns_single(work[_K_TURNS + group], n_b, same_b, k)
            t_l = physics.turns_single(work[_L_TURNS + group], n_c, same_c, l)
            h_near, d_h = physics.reduced_single(work[_H_COARSE + group], h)
            k_near, d_k = physics.reduced_single(work[_K_COARSE + group], k)
            l_near, d_l = physics.reduced_single(work[_L_COARSE + group], l)
            work[_TERM + pixel] = physics.square_ratio_single(t_h, t_k, t_l, d_h, d_k, d_l)
            place = np.int32(work[_H_NEAR + group] + h_near * h_size + k_near * l_size + l_near)
            doubtful = max(max(d_h * d_h, d_k * d_k), d_l * d_l) > half_squared
            at[pixel] = np.int32(-1) if doubtful else place


@fused_kernel
def radial_terms(slopes, metric, lookup, near_half, lane_shape, work, at):
    """Fill _TERM with the squared radius (eq. 14) and at[pixel] with the place in the table."""
    a_x, a_y, a_z, b_x, b_y, b_z, c_x, c_y, c_z = slopes
    groups = PIXELS // len(lane_shape)
    for lane in range(len(lane_shape)):
        for group in range(groups):
            pixel = lane * groups + group
            x, y, z = work[_X + pixel], work[_Y + pixel], work[_Z + pixel]
            h = work[_H + group] + a_x * x + a_y * y + a_z * z
            k = work[_K + group] + b_x * x + b_y * y + b_z * z
            l = work[_L + group] + c_x * x + c_y * y + c_z * z  # noqa: E741
            h_near, d_h = physics.reduced_single(work[_H_COARSE + group], h)
            k_near, d_k = physics.reduced_single(work[_K_COARSE + group], k)
            l_near, d_l = physics.reduced_single(work[_L_COARSE + group], l)
            work[_TERM + pixel] = physics.quadratic_form_single(metric, d_h, d_k, d_l)
            place = table_place(
                lookup,
                h_near + work[_H_NEAR + group],
                k_near + work[_K_NEAR + group],
                l_near + work[_L_NEAR + group],
            )
            at[pixel] = np.int32(-1) if is_half(d_h, d_k, d_l, near_half) else place


@fused_kernel
def shape_terms(shape, work):
    """Turn the squared radii in _TERM into lattice factors (eq. 15 to 17)."""
    if shape == ROUND:
        for pixel in range(PIXELS):
            work[_TERM + pixel] = physics.sphere_single(work[_TERM + pixel])
    elif shape == GAUSS:
        for pixel in range(PIXELS):
            work[_TERM + pixel] = physics.gauss_single(work[_TERM + pixel])
    else:
        for pixel in range(PIXELS):
            work[_TERM + pixel] = physics.tophat_single(work[_TERM + pixel])


@fused_kernel
def add_terms(has_table, table, at, work):
    """Add _TERM times F^2 to _SUM; without a table every F is the same."""
    if not has_table:
        f_squared = table[0]
        for pixel in range(PIXELS):
            work[_SUM + pixel] += f_squared * work[_TERM + pixel]
        return
    for pixel in range(PIXELS):
        work[_SUM + pixel] += table[at[pixel]] * work[_TERM + pixel]


@fused_kernel
def reach_of_block(cell, wavelength, incident, lookup, table, lane_shape, spread, centres):
    """What reflections a block can reach in one step: DARK (none has an amplitude), INSIDE the table, or any.

    The indices within ``spread`` of the block's middle direction are looked up; skipping is exact, for
    what is skipped is zero. Blocks that reach many reflections are not searched.
    """
    middle = PIXELS // len(lane_shape) // 2
    d_x, d_y, d_z = centres[_AIM, middle], centres[_AIM + 1, middle], centres[_AIM + 2, middle]
    q_x, q_y, q_z = physics.scattering_vector(d_x, d_y, d_z, incident[0], incident[1], incident[2], wavelength)
    h_low, h_high = _reach(cell[0], cell[1], cell[2], q_x, q_y, q_z, spread / wavelength)
    k_low, k_high = _reach(cell[3], cell[4], cell[5], q_x, q_y, q_z, spread / wavelength)
    l_low, l_high = _reach(cell[6], cell[7], cell[8], q_x, q_y, q_z, spread / wavelength)
    h_low, h_high = h_low - lookup.h_first, h_high - lookup.h_first
    k_low, k_high = k_low - lookup.k_first, k_high - lookup.k_first
    l_low, l_high = l_low - lookup.l_first, l_high - lookup.l_first
    inside = h_low >= 0.0 and h_high < lookup.h_count and k_low >= 0.0 and k_high < lookup.k_count
    inside = inside and l_low >= 0.0 and l_high < lookup.l_count
    reached = INSIDE if inside else ANYWHERE
    if lookup.default_F != 0.0:
        return reached
    h_0, h_1 = _clamp(h_low, lookup.h_count), _clamp(h_high, lookup.h_count)
    k_0, k_1 = _clamp(k_low, lookup.k_count), _clamp(k_high, lookup.k_count)
    l_0, l_1 = _clamp(l_low, lookup.l_count), _clamp(l_high, lookup.l_count)
    if (h_1 - h_0 + 1) * (k_1 - k_0 + 1) * (l_1 - l_0 + 1) > 64:
        return reached
    for h in range(h_0, h_1 + 1):
        for k in range(k_0, k_1 + 1):
            for l in range(l_0, l_1 + 1):  # noqa: E741
                if table[(h * lookup.k_count + k) * lookup.l_count + l] != 0.0:
                    return reached
    return DARK


@fused_kernel
def _reach(a_x, a_y, a_z, q_x, q_y, q_z, spread):
    """Lowest and highest nearest index within ``spread`` (1/m) of a scattering vector."""
    at = a_x * q_x + a_y * q_y + a_z * q_z
    # The margin covers the rounding of float32 phases next to a half.
    reach = math.sqrt(a_x * a_x + a_y * a_y + a_z * a_z) * spread + 1e-4
    return np.rint(at - reach), np.rint(at + reach)


@fused_kernel
def _clamp(index, count):
    return int(min(max(index, 0.0), count - 1.0))


@fused_kernel
def spread_of_block(n_groups, lane_shape, centres, work):
    """Largest distance between the block's middle direction and any of its pixels' (unit vectors)."""
    groups = PIXELS // len(lane_shape)
    middle = groups // 2
    m_x, m_y, m_z = centres[_AIM, middle], centres[_AIM + 1, middle], centres[_AIM + 2, middle]
    largest = 0.0
    for group in range(groups):
        for end in range(2):
            pixel = end * (len(lane_shape) - 1) * groups + group
            x = centres[_AIM, group] + work[_X + pixel] - m_x
            y = centres[_AIM + 1, group] + work[_Y + pixel] - m_y
            z = centres[_AIM + 2, group] + work[_Z + pixel] - m_z
            largest = max(largest, x * x + y * y + z * z)
    return math.sqrt(largest) * 1.0001 + 1e-7


@fused_kernel
def flush(weighted, work, totals):
    """Add _SUM to the float64 total, times _WEIGHT where weights differ, and clear it."""
    if weighted:
        for pixel in range(PIXELS):
            totals[_TOTAL, pixel] += np.float64(work[_WEIGHT + pixel]) * work[_SUM + pixel]
            work[_SUM + pixel] = np.float32(0.0)
    else:
        for pixel in range(PIXELS):
            totals[_TOTAL, pixel] += work[_SUM + pixel]
            work[_SUM + pixel] = np.float32(0.0)


@fused_kernel
def weigh_terms(weight, has_sensor, work, totals):
    """Multiply solid angle, polarization, capture and the source's weight into _WEIGHT; keep the sum."""
    for pixel in range(PIXELS):
        share = weight * work[_OMEGA + pixel] * work[_POLAR + pixel]
        if has_sensor:
            share *= work[_CAPTURE + pixel]
        work[_WEIGHT + pixel] *= share
        totals[_SHARE, pixel] += share


@fused_kernel
def finish_values(geometry, rules, lattice_scale, n_sources, work, totals):
    """Turn the totals into photons in the row _SUM (eq. 21); the total includes what _SUM still holds."""
    if rules.per_term:
        flat = rules.flat_background / (geometry.oversample * geometry.oversample * n_sources)
        for pixel in range(PIXELS):
            value = rules.scale * lattice_scale * totals[_TOTAL, pixel]
            work[_SUM + pixel] = np.float32(value + flat * totals[_SHARE, pixel])
        return
    scale, background = rules.scale * lattice_scale, rules.scale * rules.background
    for pixel in range(PIXELS):
        total = totals[_TOTAL, pixel] + work[_SUM + pixel]
        factor = np.float64(work[_POLAR + pixel] * work[_OMEGA + pixel])
        work[_SUM + pixel] = np.float32((background + scale * total) * factor)
    if geometry.has_sensor:
        for pixel in range(PIXELS):
            work[_SUM + pixel] *= work[_CAPTURE + pixel]


@fused_kernel
def render_tile(
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
    counts,
    near_half,
    lane_shape,
    work,
    factors,
    at,
):
    """Render a block in float32; photons go to the row work[VALUES:], NaN where float64 must decide.

    Parameters
    ----------
    table
        float32, flat: squared structure factors with their border.
    rows, columns
        int64: each group's row and first pixel.
    counts
        float32 (6,): cells along a, b, c, twice over (physics.turns_single says why).
    near_half
        Distance from a whole index, just below 1/2, beyond which float64 decides which index is nearest.
    lane_shape
        Tuple of as many items as a group has pixels.
    work
        float32 (SIZE_32,).
    factors
        float64 (ROWS_64, PIXELS).
    at
        int32 (PIXELS,).
    """
    twice = (counts[0], counts[1], counts[2], counts[3], counts[4], counts[5])
    metric = (
        np.float32(lattice.metric_hh),
        np.float32(lattice.metric_kk),
        np.float32(lattice.metric_ll),
        np.float32(lattice.metric_hk),
        np.float32(lattice.metric_hl),
        np.float32(lattice.metric_kl),
    )
    lattice_scale = 1.0
    if lattice.shape != SQUARE:
        lattice_scale = (lattice.n_a * lattice.n_b * lattice.n_c) ** 2
    weighted = rules.per_term or geometry.dmin > 0.0
    zero, one = np.float32(0.0), np.float32(1.0)
    for pixel in range(PIXELS):
        factors[_TOTAL, pixel] = 0.0
        work[_POLAR + pixel] = zero if geometry.polarized else one
        work[_WEIGHT + pixel] = one
        work[_SUM + pixel] = zero
    if rules.per_term:
        for pixel in range(PIXELS):
            factors[_SHARE, pixel] = 0.0
    waiting = 0
    for layer in range(geometry.layers):
        depth = layer * geometry.layer_step
        for sub in range(geometry.oversample * geometry.oversample):
            sub_slow, sub_fast = sub // geometry.oversample, sub % geometry.oversample
            aim_at_groups(geometry, rows, columns, n_groups, lane_shape, sub_slow, sub_fast, depth, factors)
            narrow_aims(lane_shape, factors, work)
            if geometry.curved:
                offsets_anywhere(
                    geometry, rows, columns, n_groups, lane_shape, sub_slow, sub_fast, depth, factors, work
                )
            else:
                offsets_on_flat(geometry, lane_shape, work)
            if geometry.has_sensor and (rules.per_term or (sub == 0 and layer == geometry.layers - 1)):
                sensor_captures(geometry, layer, rules.per_term, lane_shape, work)
            if rules.per_term or (sub == 0 and layer == 0):
                near = geometry.close_distance + (depth if rules.per_term else 0.0)
                solid_angles(geometry, near, lane_shape, work)
            spread = 0.0
            if lookup.has_table:
                spread = spread_of_block(n_groups, lane_shape, factors, work)
            for source in range(len(wavelength)):
                beam = (incident[source, 0], incident[source, 1], incident[source, 2])
                scatter_at_groups(beam, wavelength[source], lane_shape, factors)
                if geometry.dmin > 0.0:
                    keep_within_dmin(
                        geometry, beam, wavelength[source], rows, columns, n_groups, lane_shape, sub, depth, work
                    )
                elif weighted:
                    for pixel in range(PIXELS):
                        work[_WEIGHT + pixel] = one
                first = layer == 0 and sub == 0 and source == 0
                if geometry.polarized and (weighted or first):
                    polarizations(geometry, beam, rules.per_term, lane_shape, work)
                if rules.per_term:
                    weigh_terms(np.float32(weight[source]), geometry.has_sensor, work, factors)
                for step in range(len(cells)):
                    c = cells[step]
                    cell = (c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7], c[8])
                    reached = ANYWHERE
                    if lookup.has_table:
                        reached = reach_of_block(
                            cell, wavelength[source], beam, lookup, table, lane_shape, spread, factors
                        )
                        if reached == DARK:
                            continue
                    per = 1.0 / wavelength[source]
                    slopes = (
                        np.float32(c[0] * per),
                        np.float32(c[1] * per),
                        np.float32(c[2] * per),
                        np.float32(c[3] * per),
                        np.float32(c[4] * per),
                        np.float32(c[5] * per),
                        np.float32(c[6] * per),
                        np.float32(c[7] * per),
                        np.float32(c[8] * per),
                    )
                    reduce_phases(cell, lattice, lookup, lane_shape, factors, work)
                    if lattice.shape == SQUARE and not lookup.has_table:
                        add_square(slopes, twice, table[0], lane_shape, work)
                    else:
                        if lattice.shape == SQUARE and reached == INSIDE:
                            places_of_groups(lookup, lane_shape, work)
                            square_terms_inside(slopes, twice, lookup, near_half, lane_shape, work, at)
                        elif lattice.shape == SQUARE:
                            square_terms(slopes, twice, lookup, near_half, lane_shape, work, at)
                        else:
                            radial_terms(slopes, metric, lookup, near_half, lane_shape, work, at)
                        settle_halves(
                            geometry,
                            lattice,
                            lookup,
                            cell,
                            beam,
                            wavelength[source],
                            rows,
                            columns,
                            n_groups,
                            lane_shape,
                            sub,
                            depth,
                            work,
                            at,
                        )
                        if lattice.shape != SQUARE:
                            shape_terms(lattice.shape, work)
                        add_terms(lookup.has_table, table, at, work)
                    waiting += 1
                    if waiting == CHUNK:
                        flush(weighted, work, factors)
                        waiting = 0
                if weighted and waiting > 0:
                    flush(weighted, work, factors)
                    waiting = 0
    finish_values(geometry, rules, lattice_scale, len(wavelength), work, factors)
