"""The float32 renderer of a block of pixels: phases in float64 once a group, the rest in float32.

A block is PIXELS pixels: groups of ``lanes`` neighbours in a row. For each step the phase at a group's
centre is made in float64 and reduced to its fraction; a pixel adds the small phase between centre and
pixel in float32 (docs/physics.md, section 9, states the error). The group is the vectorised index:
pixel = lane * groups + group, so that fractions are loaded as they lie.

Working memory is two flat arrays with rows at fixed offsets: that the rows cannot overlap is then
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
_ALONG, _SHORT = 0, _ROW  # direction = (1 - _SHORT) * centre's direction + _ALONG * fast axis (eq. 23)
_SUM, _TERM = 2 * _ROW, 3 * _ROW
_OMEGA, _POLAR, _CAPTURE, _WEIGHT = 4 * _ROW, 5 * _ROW, 6 * _ROW, 7 * _ROW
# ... or one a group; where there are three in a row, they belong to h, k, l.
_GROUPS = 8 * _ROW
_FINE = (_GROUPS, _GROUPS + _GROUP_ROW, _GROUPS + 2 * _GROUP_ROW)  # of the phases (eq. 32)
_COARSE = (_GROUPS + 3 * _GROUP_ROW, _GROUPS + 4 * _GROUP_ROW, _GROUPS + 5 * _GROUP_ROW)
_TURNS = (_GROUPS + 6 * _GROUP_ROW, _GROUPS + 7 * _GROUP_ROW, _GROUPS + 8 * _GROUP_ROW)
_NEAR = (_GROUPS + 9 * _GROUP_ROW, _GROUPS + 10 * _GROUP_ROW, _GROUPS + 11 * _GROUP_ROW)
_TILT = (_GROUPS + 12 * _GROUP_ROW, _GROUPS + 13 * _GROUP_ROW, _GROUPS + 14 * _GROUP_ROW)  # phases of the direction
_PART = (_GROUPS + 15 * _GROUP_ROW, _GROUPS + 16 * _GROUP_ROW, _GROUPS + 17 * _GROUP_ROW)  # parts along some axes
_NEARNESS, _SLANT = _GROUPS + 18 * _GROUP_ROW, _GROUPS + 19 * _GROUP_ROW  # 1 / distance; cosine to the fast axis

#: Values in the float32 working array.
SIZE_32 = _GROUPS + 20 * _GROUP_ROW

#: Where render_tile leaves the photons: work[VALUES + group * lanes + lane], as they lie in the frame.
VALUES = _TERM

# Rows of the float64 working array: per pixel, then per group.
_ROW_64 = PIXELS + 8
_GROUP_ROW_64 = PIXELS // 2 + 8
_TOTAL, _SHARE = 0, _ROW_64
_AIM_X, _AIM_Y, _AIM_Z = (2 * _ROW_64 + n * _GROUP_ROW_64 for n in range(3))
_Q_X, _Q_Y, _Q_Z = (2 * _ROW_64 + n * _GROUP_ROW_64 for n in range(3, 6))

#: Values in the float64 working array.
SIZE_64 = 2 * _ROW_64 + 6 * _GROUP_ROW_64

#: Answers of reach_of_block.
DARK, INSIDE, ANYWHERE = 0, 1, 2

#: Thinnest sensor layer, in attenuation depths, whose captured fraction is made in float32 (2^-24 / 0.05 = 1.2e-6).
THIN_LAYER = 0.05

# --- directions, and what belongs to them -------------------------------------------------------


@fused_kernel
def aim_at_groups(geometry, rows, columns, lane_shape, sub_slow, sub_fast, depth, centres, work):
    """Fill the rows _AIM (float64) with the direction of each group's centre, and _NEARNESS and _SLANT."""
    g = geometry
    half = 0.5 * g.subpixel_size
    first = g.subpixel_size * sub_fast + half + 0.5 * (len(lane_shape) - 1) * g.pixel_size
    top = g.subpixel_size * sub_slow + half
    for group in range(PIXELS // len(lane_shape)):
        slow = g.pixel_size * rows[group] + top
        fast = g.pixel_size * columns[group] + first
        x, y, z = physics.flat_position(g, fast, slow, depth)
        nearness = 1.0 / math.sqrt(x * x + y * y + z * z)
        d_x, d_y, d_z = x * nearness, y * nearness, z * nearness
        centres[_AIM_X + group], centres[_AIM_Y + group], centres[_AIM_Z + group] = d_x, d_y, d_z
        work[_NEARNESS + group] = np.float32(nearness)
        work[_SLANT + group] = np.float32(d_x * g.fast_x + d_y * g.fast_y + d_z * g.fast_z)


@fused_kernel
def offset_pixels(geometry, lane_shape, work):
    """Fill _ALONG and _SHORT, in float32 without cancellation (eq. 23)."""
    groups = PIXELS // len(lane_shape)
    one, two = np.float32(1.0), np.float32(2.0)
    for lane in range(len(lane_shape)):
        from_centre = np.float32((lane - 0.5 * (len(lane_shape) - 1)) * geometry.pixel_size)
        for group in range(PIXELS // len(lane_shape)):
            pixel = lane * groups + group
            t = from_centre * work[_NEARNESS + group]
            growth = t * (two * work[_SLANT + group] + t)
            stretch = np.sqrt(one + growth)
            shared = one / (stretch + stretch * stretch)
            work[_ALONG + pixel] = t * ((one + stretch) * shared)
            work[_SHORT + pixel] = growth * shared


@fused_kernel
def parts_along(x, y, z, row, lane_shape, centres, work):
    """Fill a row of groups with the centres' parts along a vector; return the fast axis' one."""
    for group in range(PIXELS // len(lane_shape)):
        part = centres[_AIM_X + group] * x + centres[_AIM_Y + group] * y + centres[_AIM_Z + group] * z
        work[row + group] = np.float32(part)


@device_function
def part_of_pixel(work, row, group, pixel, fast_part):
    """A pixel's part along the vector whose parts of the centres are in ``row`` (eq. 23)."""
    return (work[row + group] - work[_SHORT + pixel] * work[row + group]) + work[_ALONG + pixel] * fast_part


@fused_kernel
def solid_angles(geometry, near, lane_shape, work):
    """Fill the row _OMEGA (eq. 5); ``near`` is the distance of the layer's plane."""
    groups = PIXELS // len(lane_shape)
    area = np.float32(geometry.pixel_size * geometry.pixel_size * near)
    one = np.float32(1.0)
    if geometry.point_pixel:
        for lane in range(len(lane_shape)):
            for group in range(PIXELS // len(lane_shape)):
                nearness = (one - work[_SHORT + lane * groups + group]) * work[_NEARNESS + group]
                work[_OMEGA + lane * groups + group] = nearness * nearness
    else:
        for lane in range(len(lane_shape)):
            for group in range(PIXELS // len(lane_shape)):
                nearness = (one - work[_SHORT + lane * groups + group]) * work[_NEARNESS + group]
                work[_OMEGA + lane * groups + group] = area * (nearness * nearness * nearness)


@fused_kernel
def sensor_captures(geometry, layer, lane_shape, centres, work):
    """Fill the row _CAPTURE (eq. 6)."""
    g = geometry
    groups = PIXELS // len(lane_shape)
    parts_along(g.normal_x, g.normal_y, g.normal_z, _PART[0], lane_shape, centres, work)
    fast_part = np.float32(g.normal_x * g.fast_x + g.normal_y * g.fast_y + g.normal_z * g.fast_z)
    layer_depth = g.layer_step * g.attenuation
    for lane in range(len(lane_shape)):
        for group in range(PIXELS // len(lane_shape)):
            pixel = lane * groups + group
            work[_CAPTURE + pixel] = part_of_pixel(work, _PART[0], group, pixel, fast_part)
        if layer_depth >= THIN_LAYER:
            for pixel in range(lane * groups, lane * groups + groups):
                work[_CAPTURE + pixel] = physics.capture_single(
                    np.float32(layer), np.float32(layer_depth), work[_CAPTURE + pixel]
                )
        else:
            for pixel in range(lane * groups, lane * groups + groups):
                work[_CAPTURE + pixel] = physics.capture_fraction(
                    layer, g.layer_step, g.attenuation, np.float64(work[_CAPTURE + pixel])
                )


@fused_kernel
def polarizations(geometry, incident, fill_all, lane_shape, centres, work):
    """Fill the row _POLAR (eq. 8): every pixel, or those where it is still 0 and the weight is not."""
    g = geometry
    groups = PIXELS // len(lane_shape)
    i_x, i_y, i_z = incident
    b_x, b_y, b_z = physics.unit_cross(g.polar_x, g.polar_y, g.polar_z, i_x, i_y, i_z)
    e_x, e_y, e_z = physics.unit_cross(i_x, i_y, i_z, b_x, b_y, b_z)
    parts_along(i_x, i_y, i_z, _PART[0], lane_shape, centres, work)
    parts_along(e_x, e_y, e_z, _PART[1], lane_shape, centres, work)
    parts_along(b_x, b_y, b_z, _PART[2], lane_shape, centres, work)
    fast_i = np.float32(i_x * g.fast_x + i_y * g.fast_y + i_z * g.fast_z)
    fast_e = np.float32(e_x * g.fast_x + e_y * g.fast_y + e_z * g.fast_z)
    fast_b = np.float32(b_x * g.fast_x + b_y * g.fast_y + b_z * g.fast_z)
    kahn, zero = np.float32(g.kahn), np.float32(0.0)
    for lane in range(len(lane_shape)):
        for group in range(PIXELS // len(lane_shape)):
            pixel = lane * groups + group
            work[_TERM + pixel] = physics.polarization_of_parts(
                kahn,
                part_of_pixel(work, _PART[0], group, pixel, fast_i),
                part_of_pixel(work, _PART[1], group, pixel, fast_e),
                part_of_pixel(work, _PART[2], group, pixel, fast_b),
            )
        if fill_all:
            for pixel in range(lane * groups, lane * groups + groups):
                work[_POLAR + pixel] = work[_TERM + pixel]
        else:
            for pixel in range(lane * groups, lane * groups + groups):
                known = work[_POLAR + pixel]
                wanted = known == zero and work[_WEIGHT + pixel] != zero
                work[_POLAR + pixel] = work[_TERM + pixel] if wanted else known


@fused_kernel
def scatter_at_groups(incident, wavelength, lane_shape, centres):
    """Fill the float64 rows _Q with the scattering vectors at the groups' centres (eq. 4)."""
    i_x, i_y, i_z = incident
    per = 1.0 / wavelength
    for group in range(PIXELS // len(lane_shape)):
        centres[_Q_X + group] = (centres[_AIM_X + group] - i_x) * per
        centres[_Q_Y + group] = (centres[_AIM_Y + group] - i_y) * per
        centres[_Q_Z + group] = (centres[_AIM_Z + group] - i_z) * per


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
def keep_within_dmin(geometry, incident, wavelength, rows, columns, lane_shape, sub, depth, work):
    """Fill the row _WEIGHT with 1, or 0 beyond dmin (eq. 7)."""
    groups = PIXELS // len(lane_shape)
    for group in range(PIXELS // len(lane_shape)):
        for lane in range(len(lane_shape)):
            q_x, q_y, q_z = scatter_at_pixel(
                geometry, incident, wavelength, rows[group], columns[group] + lane, sub, depth
            )
            beyond = physics.is_beyond_dmin(q_x, q_y, q_z, geometry.dmin)
            work[_WEIGHT + lane * groups + group] = np.float32(0.0) if beyond else np.float32(1.0)


# --- one step: phases, lattice factor, structure factor -----------------------------------------


@device_function
def phase_of_group(a_x, a_y, a_z, group, centres):
    """One index at a group's centre, float64."""
    return a_x * centres[_Q_X + group] + a_y * centres[_Q_Y + group] + a_z * centres[_Q_Z + group]


@device_function
def split_phases(cell, incident, wavelength, n, first, rows, lane_shape, centres, work):
    """Fill the rows of one index at the groups' centres: its parts (eq. 32), whole number, and direction's phase."""
    a_x, a_y, a_z = cell
    fine, coarse, turns, near, tilt = rows
    towards = (a_x * incident[0] + a_y * incident[1] + a_z * incident[2]) / wavelength
    for group in range(PIXELS // len(lane_shape)):
        h = phase_of_group(a_x, a_y, a_z, group, centres)
        whole, coarse_part, fine_part, turns_of_n = physics.split_phase(h, n)
        work[fine + group] = np.float32(fine_part)
        work[coarse + group] = np.float32(coarse_part)
        work[turns + group] = np.float32(turns_of_n)
        work[near + group] = np.float32(whole - first)
        work[tilt + group] = np.float32(h + towards)


@fused_kernel
def split_three_phases(cell, incident, wavelength, lattice, lookup, lane_shape, centres, work):
    """Fill the rows _FINE, _COARSE, _TURNS, _NEAR and _TILT of h, k, l."""
    a, b, c = (cell[0], cell[1], cell[2]), (cell[3], cell[4], cell[5]), (cell[6], cell[7], cell[8])
    h_first, k_first, l_first = float(lookup.h_first), float(lookup.k_first), float(lookup.l_first)
    rows = (_FINE[0], _COARSE[0], _TURNS[0], _NEAR[0], _TILT[0])
    split_phases(a, incident, wavelength, lattice.n_a, h_first, rows, lane_shape, centres, work)
    rows = (_FINE[1], _COARSE[1], _TURNS[1], _NEAR[1], _TILT[1])
    split_phases(b, incident, wavelength, lattice.n_b, k_first, rows, lane_shape, centres, work)
    rows = (_FINE[2], _COARSE[2], _TURNS[2], _NEAR[2], _TILT[2])
    split_phases(c, incident, wavelength, lattice.n_c, l_first, rows, lane_shape, centres, work)


@device_function
def fine_phase(work, fine, tilt, pixel, slope):
    """Fine part of one index at a pixel: the centre's, and what the offset adds (eq. 23, 32)."""
    return (work[fine] + slope * work[_ALONG + pixel]) - work[tilt] * work[_SHORT + pixel]


@fused_kernel
def add_square(slopes, counts, lane_shape, work):
    """Add the square crystal's lattice factor of one step to _SUM (eq. 13)."""
    a, b, c = slopes
    n_a, n_b, n_c, same_a, same_b, same_c = counts
    groups = PIXELS // len(lane_shape)
    for lane in range(len(lane_shape)):
        for group in range(PIXELS // len(lane_shape)):
            pixel = lane * groups + group
            h = fine_phase(work, _FINE[0] + group, _TILT[0] + group, pixel, a)
            k = fine_phase(work, _FINE[1] + group, _TILT[1] + group, pixel, b)
            l = fine_phase(work, _FINE[2] + group, _TILT[2] + group, pixel, c)  # noqa: E741
            _, d_h = physics.reduced_single(work[_COARSE[0] + group], h)
            _, d_k = physics.reduced_single(work[_COARSE[1] + group], k)
            _, d_l = physics.reduced_single(work[_COARSE[2] + group], l)
            work[_SUM + pixel] += physics.square_ratio_single(
                physics.turns_single(work[_TURNS[0] + group], n_a, same_a, h),
                physics.turns_single(work[_TURNS[1] + group], n_b, same_b, k),
                physics.turns_single(work[_TURNS[2] + group], n_c, same_c, l),
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
    groups = PIXELS // len(lane_shape)
    lowest = np.int32(0)
    for lane in range(len(lane_shape)):
        for group in range(PIXELS // len(lane_shape)):
            lowest = min(lowest, at[lane * groups + group])
    if lowest == 0:
        return
    for pixel in range(PIXELS):
        lane, group = pixel // groups, pixel % groups
        if group >= n_groups or at[pixel] >= 0:
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
    a, b, c = slopes
    n_a, n_b, n_c, same_a, same_b, same_c = counts
    groups = PIXELS // len(lane_shape)
    for lane in range(len(lane_shape)):
        for group in range(PIXELS // len(lane_shape)):
            pixel = lane * groups + group
            h = fine_phase(work, _FINE[0] + group, _TILT[0] + group, pixel, a)
            k = fine_phase(work, _FINE[1] + group, _TILT[1] + group, pixel, b)
            l = fine_phase(work, _FINE[2] + group, _TILT[2] + group, pixel, c)  # noqa: E741
            t_h = physics.turns_single(work[_TURNS[0] + group], n_a, same_a, h)
            t_k = physics.turns_single(work[_TURNS[1] + group], n_b, same_b, k)
            t_l = physics.turns_single(work[_TURNS[2] + group], n_c, same_c, l)
            h_near, d_h = physics.reduced_single(work[_COARSE[0] + group], h)
            k_near, d_k = physics.reduced_single(work[_COARSE[1] + group], k)
            l_near, d_l = physics.reduced_single(work[_COARSE[2] + group], l)
            work[_TERM + pixel] = physics.square_ratio_single(t_h, t_k, t_l, d_h, d_k, d_l)
            place = table_place(
                lookup,
                h_near + work[_NEAR[0] + group],
                k_near + work[_NEAR[1] + group],
                l_near + work[_NEAR[2] + group],
            )
            at[pixel] = np.int32(-1) if is_half(d_h, d_k, d_l, near_half) else place


@fused_kernel
def places_of_groups(lookup, lane_shape, work):
    """Turn the whole parts of each group into its place in the flat table, in the row _NEAR[0].

    Whole numbers below 2^24 are exact in float32; larger tables are rendered in float64.
    """
    k_size, l_size = np.float32(lookup.k_count), np.float32(lookup.l_count)
    for group in range(PIXELS // len(lane_shape)):
        place = (work[_NEAR[0] + group] * k_size + work[_NEAR[1] + group]) * l_size + work[_NEAR[2] + group]
        work[_NEAR[0] + group] = place


@fused_kernel
def square_terms_inside(slopes, counts, lookup, near_half, lane_shape, work, at):
    """square_terms for a block whose every index lies in the table; _NEAR[0] holds places_of_groups."""
    a, b, c = slopes
    n_a, n_b, n_c, same_a, same_b, same_c = counts
    groups = PIXELS // len(lane_shape)
    k_size, l_size = np.float32(lookup.k_count), np.float32(lookup.l_count)
    h_size = k_size * l_size
    for lane in range(len(lane_shape)):
        for group in range(PIXELS // len(lane_shape)):
            pixel = lane * groups + group
            h = fine_phase(work, _FINE[0] + group, _TILT[0] + group, pixel, a)
            k = fine_phase(work, _FINE[1] + group, _TILT[1] + group, pixel, b)
            l = fine_phase(work, _FINE[2] + group, _TILT[2] + group, pixel, c)  # noqa: E741
            t_h = physics.turns_single(work[_TURNS[0] + group], n_a, same_a, h)
            t_k = physics.turns_single(work[_TURNS[1] + group], n_b, same_b, k)
            t_l = physics.turns_single(work[_TURNS[2] + group], n_c, same_c, l)
            h_near, d_h = physics.reduced_single(work[_COARSE[0] + group], h)
            k_near, d_k = physics.reduced_single(work[_COARSE[1] + group], k)
            l_near, d_l = physics.reduced_single(work[_COARSE[2] + group], l)
            work[_TERM + pixel] = physics.square_ratio_single(t_h, t_k, t_l, d_h, d_k, d_l)
            place = np.int32(work[_NEAR[0] + group] + h_near * h_size + k_near * l_size + l_near)
            at[pixel] = np.int32(-1) if is_half(d_h, d_k, d_l, near_half) else place


@fused_kernel
def radial_terms(slopes, metric, near_half, lane_shape, work):
    """Fill _TERM with the squared radius (eq. 14); _SUM becomes NaN where float32 cannot tell the nearest index."""
    a, b, c = slopes
    groups = PIXELS // len(lane_shape)
    zero, nan = np.float32(0.0), np.float32(np.nan)
    for lane in range(len(lane_shape)):
        for group in range(groups):
            pixel = lane * groups + group
            h = fine_phase(work, _FINE[0] + group, _TILT[0] + group, pixel, a)
            k = fine_phase(work, _FINE[1] + group, _TILT[1] + group, pixel, b)
            l = fine_phase(work, _FINE[2] + group, _TILT[2] + group, pixel, c)  # noqa: E741
            _, d_h = physics.reduced_single(work[_COARSE[0] + group], h)
            _, d_k = physics.reduced_single(work[_COARSE[1] + group], k)
            _, d_l = physics.reduced_single(work[_COARSE[2] + group], l)
            work[_TERM + pixel] = physics.quadratic_form_single(metric, d_h, d_k, d_l)
            work[_SUM + pixel] += nan if is_half(d_h, d_k, d_l, near_half) else zero


@fused_kernel
def radial_places(slopes, metric, lookup, near_half, lane_shape, work, at):
    """Fill _TERM with the squared radius (eq. 14) and at[pixel] with the place in the table."""
    a, b, c = slopes
    groups = PIXELS // len(lane_shape)
    for lane in range(len(lane_shape)):
        for group in range(PIXELS // len(lane_shape)):
            pixel = lane * groups + group
            h_near, d_h = physics.reduced_single(
                work[_COARSE[0] + group], fine_phase(work, _FINE[0] + group, _TILT[0] + group, pixel, a)
            )
            k_near, d_k = physics.reduced_single(
                work[_COARSE[1] + group], fine_phase(work, _FINE[1] + group, _TILT[1] + group, pixel, b)
            )
            l_near, d_l = physics.reduced_single(
                work[_COARSE[2] + group], fine_phase(work, _FINE[2] + group, _TILT[2] + group, pixel, c)
            )
            work[_TERM + pixel] = physics.quadratic_form_single(metric, d_h, d_k, d_l)
            place = table_place(
                lookup,
                h_near + work[_NEAR[0] + group],
                k_near + work[_NEAR[1] + group],
                l_near + work[_NEAR[2] + group],
            )
            at[pixel] = np.int32(-1) if is_half(d_h, d_k, d_l, near_half) else place


@fused_kernel
def shape_terms(shape, lane_shape, work):
    """Turn the squared radii in _TERM into lattice factors (eq. 15 to 17)."""
    groups = PIXELS // len(lane_shape)
    for lane in range(len(lane_shape)):
        start = _TERM + lane * groups
        if shape == ROUND:
            for place in range(start, start + groups):
                work[place] = physics.sphere_single(work[place])
        elif shape == GAUSS:
            for place in range(start, start + groups):
                work[place] = physics.gauss_single(work[place])
        else:
            for place in range(start, start + groups):
                work[place] = physics.tophat_single(work[place])


@fused_kernel
def add_terms(has_table, table, lane_shape, at, work):
    """Add _TERM to _SUM, times F^2 where there is a table; without one every F is the same (finish_values)."""
    groups = PIXELS // len(lane_shape)
    for lane in range(len(lane_shape)):
        start = lane * groups
        if has_table:
            for pixel in range(start, start + groups):
                work[_SUM + pixel] += table[at[pixel]] * work[_TERM + pixel]
        else:
            for pixel in range(start, start + groups):
                work[_SUM + pixel] += work[_TERM + pixel]


@fused_kernel
def reach_of_block(cell, wavelength, incident, lookup, table, lane_shape, spread, centres):
    """What reflections a block can reach in one step: DARK (none has an amplitude), INSIDE the table, or any.

    The indices within ``spread`` of the block's middle direction are looked up; skipping is exact, for
    what is skipped is zero. Blocks that reach many reflections are not searched.
    """
    d_x, d_y, d_z = middle_of_block(lane_shape, centres)
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


@device_function
def middle_of_block(lane_shape, centres):
    """Direction of the group that reach_of_block and spread_of_block measure from."""
    middle = PIXELS // len(lane_shape) // 2
    return centres[_AIM_X + middle], centres[_AIM_Y + middle], centres[_AIM_Z + middle]


@fused_kernel
def spread_of_block(geometry, lane_shape, centres, work):
    """Largest distance between the block's middle direction and any of its pixels' (unit vectors)."""
    groups = PIXELS // len(lane_shape)
    m_x, m_y, m_z = middle_of_block(lane_shape, centres)
    largest = 0.0
    for group in range(PIXELS // len(lane_shape)):
        for end in range(2):
            pixel = end * (len(lane_shape) - 1) * groups + group
            left, along = 1.0 - work[_SHORT + pixel], work[_ALONG + pixel]
            x = centres[_AIM_X + group] * left + geometry.fast_x * along - m_x
            y = centres[_AIM_Y + group] * left + geometry.fast_y * along - m_y
            z = centres[_AIM_Z + group] * left + geometry.fast_z * along - m_z
            largest = max(largest, x * x + y * y + z * z)
    return math.sqrt(largest) * 1.0001 + 1e-7


# --- sums ---------------------------------------------------------------------------------------


@fused_kernel
def clear_block(rules, geometry, lane_shape, work, totals):
    """Clear the sums; polarization and weight begin as 1, or 0 where polarization is still to be found."""
    groups = PIXELS // len(lane_shape)
    zero, one = np.float32(0.0), np.float32(1.0)
    for lane in range(len(lane_shape)):
        for pixel in range(lane * groups, lane * groups + groups):
            work[_SUM + pixel] = zero
            work[_POLAR + pixel] = zero if geometry.polarized else one
            work[_WEIGHT + pixel] = one
            totals[_TOTAL + pixel] = 0.0
        if rules.per_term:
            for pixel in range(lane * groups, lane * groups + groups):
                totals[_SHARE + pixel] = 0.0


@fused_kernel
def flush(weighted, lane_shape, work, totals):
    """Add _SUM to the float64 total, times _WEIGHT where weights differ, and clear it."""
    groups = PIXELS // len(lane_shape)
    zero = np.float32(0.0)
    for lane in range(len(lane_shape)):
        if weighted:
            for pixel in range(lane * groups, lane * groups + groups):
                totals[_TOTAL + pixel] += np.float64(work[_WEIGHT + pixel]) * work[_SUM + pixel]
                work[_SUM + pixel] = zero
        else:
            for pixel in range(lane * groups, lane * groups + groups):
                totals[_TOTAL + pixel] += work[_SUM + pixel]
                work[_SUM + pixel] = zero


@fused_kernel
def begin_weights(geometry, lane_shape, work):
    """Set _WEIGHT to 1; dmin may set it to 0 afterwards."""
    groups = PIXELS // len(lane_shape)
    for lane in range(len(lane_shape)):
        for pixel in range(lane * groups, lane * groups + groups):
            work[_WEIGHT + pixel] = np.float32(1.0)


@fused_kernel
def weigh_terms(weight, has_sensor, lane_shape, work, totals):
    """Multiply solid angle, polarization, capture and the source's weight into _WEIGHT; keep the sum."""
    groups = PIXELS // len(lane_shape)
    for lane in range(len(lane_shape)):
        for pixel in range(lane * groups, lane * groups + groups):
            share = weight * work[_OMEGA + pixel] * work[_POLAR + pixel]
            if has_sensor:
                share *= work[_CAPTURE + pixel]
            work[_WEIGHT + pixel] *= share
            totals[_SHARE + pixel] += share


@fused_kernel
def finish_values(geometry, rules, strength, n_sources, lane_shape, work, totals):
    """Turn the totals into photons in the row _SUM (eq. 21); the total includes what _SUM still holds.

    ``strength`` multiplies every term: the scale, the lattice's volume, and F^2 if there is no table.
    """
    groups = PIXELS // len(lane_shape)
    background = rules.scale * rules.background
    flat = rules.flat_background / (geometry.oversample * geometry.oversample * n_sources)
    for lane in range(len(lane_shape)):
        start, stop = lane * groups, lane * groups + groups
        if rules.per_term:
            for pixel in range(start, stop):
                value = strength * totals[_TOTAL + pixel]
                work[_SUM + pixel] = np.float32(value + flat * totals[_SHARE + pixel])
            continue
        for pixel in range(start, stop):
            total = totals[_TOTAL + pixel] + work[_SUM + pixel]
            factor = np.float64(work[_POLAR + pixel] * work[_OMEGA + pixel])
            work[_SUM + pixel] = np.float32((background + strength * total) * factor)
        if geometry.has_sensor:
            for pixel in range(start, stop):
                work[_SUM + pixel] *= work[_CAPTURE + pixel]


@fused_kernel
def lay_out_values(lane_shape, work):
    """Put the photons in the row _SUM side by side, group after group, into VALUES."""
    groups, lanes = PIXELS // len(lane_shape), len(lane_shape)
    for group in range(groups):
        for lane in range(len(lane_shape)):
            work[VALUES + group * lanes + lane] = work[_SUM + lane * groups + group]


@fused_kernel
def add_step(
    cell,
    slopes,
    metric,
    lattice,
    lookup,
    incident,
    wavelength,
    table,
    reached,
    counts,
    near_half,
    geometry,
    rows,
    columns,
    n_groups,
    lane_shape,
    sub,
    depth,
    work,
    centres,
    at,
):
    """Add the terms of one step to _SUM."""
    split_three_phases(cell, incident, wavelength, lattice, lookup, lane_shape, centres, work)
    if not lookup.has_table:
        if lattice.shape == SQUARE:
            add_square(slopes, counts, lane_shape, work)
            return
        radial_terms(slopes, metric, near_half, lane_shape, work)
        shape_terms(lattice.shape, lane_shape, work)
        add_terms(False, table, lane_shape, at, work)
        return
    if lattice.shape != SQUARE:
        radial_places(slopes, metric, lookup, near_half, lane_shape, work, at)
    elif reached == INSIDE:
        places_of_groups(lookup, lane_shape, work)
        square_terms_inside(slopes, counts, lookup, near_half, lane_shape, work, at)
    else:
        square_terms(slopes, counts, lookup, near_half, lane_shape, work, at)
    settle_halves(
        geometry,
        lattice,
        lookup,
        cell,
        incident,
        wavelength,
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
        shape_terms(lattice.shape, lane_shape, work)
    add_terms(True, table, lane_shape, at, work)


@device_function
def phase_slopes(cell, geometry, wavelength):
    """What a unit of _ALONG adds to h, k, l: the fast axis' phases, float32."""
    g = geometry
    return (
        np.float32((cell[0] * g.fast_x + cell[1] * g.fast_y + cell[2] * g.fast_z) / wavelength),
        np.float32((cell[3] * g.fast_x + cell[4] * g.fast_y + cell[5] * g.fast_z) / wavelength),
        np.float32((cell[6] * g.fast_x + cell[7] * g.fast_y + cell[8] * g.fast_z) / wavelength),
    )


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
    totals,
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
    totals
        float64 (SIZE_64,).
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
    strength = rules.scale
    if lattice.shape != SQUARE:
        strength *= (lattice.n_a * lattice.n_b * lattice.n_c) ** 2
    if not lookup.has_table:
        strength *= lookup.default_F * lookup.default_F
    weighted = rules.per_term or geometry.dmin > 0.0
    clear_block(rules, geometry, lane_shape, work, totals)
    waiting = 0
    for layer in range(geometry.layers):
        depth = layer * geometry.layer_step
        for sub in range(geometry.oversample * geometry.oversample):
            sub_slow, sub_fast = sub // geometry.oversample, sub % geometry.oversample
            aim_at_groups(geometry, rows, columns, lane_shape, sub_slow, sub_fast, depth, totals, work)
            offset_pixels(geometry, lane_shape, work)
            if geometry.has_sensor and (rules.per_term or (sub == 0 and layer == geometry.layers - 1)):
                sensor_captures(geometry, layer, lane_shape, totals, work)
            if rules.per_term or (sub == 0 and layer == 0):
                near = geometry.close_distance + (depth if rules.per_term else 0.0)
                solid_angles(geometry, near, lane_shape, work)
            spread = 0.0
            if lookup.has_table:
                spread = spread_of_block(geometry, lane_shape, totals, work)
            for source in range(len(wavelength)):
                beam = (incident[source, 0], incident[source, 1], incident[source, 2])
                scatter_at_groups(beam, wavelength[source], lane_shape, totals)
                if geometry.dmin > 0.0:
                    keep_within_dmin(geometry, beam, wavelength[source], rows, columns, lane_shape, sub, depth, work)
                elif weighted:
                    begin_weights(geometry, lane_shape, work)
                first = layer == 0 and sub == 0 and source == 0
                if geometry.polarized and (weighted or first):
                    fill_all = rules.per_term or not weighted
                    polarizations(geometry, beam, fill_all, lane_shape, totals, work)
                if rules.per_term:
                    weigh_terms(np.float32(weight[source]), geometry.has_sensor, lane_shape, work, totals)
                for step in range(len(cells)):
                    c = cells[step]
                    cell = (c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7], c[8])
                    reached = ANYWHERE
                    if lookup.has_table:
                        reached = reach_of_block(
                            cell, wavelength[source], beam, lookup, table, lane_shape, spread, totals
                        )
                        if reached == DARK:
                            continue
                    add_step(
                        cell,
                        phase_slopes(cell, geometry, wavelength[source]),
                        metric,
                        lattice,
                        lookup,
                        beam,
                        wavelength[source],
                        table,
                        reached,
                        twice,
                        near_half,
                        geometry,
                        rows,
                        columns,
                        n_groups,
                        lane_shape,
                        sub,
                        depth,
                        work,
                        totals,
                        at,
                    )
                    waiting += 1
                    if waiting == CHUNK:
                        flush(weighted, lane_shape, work, totals)
                        waiting = 0
                if weighted and waiting > 0:
                    flush(weighted, lane_shape, work, totals)
                    waiting = 0
    finish_values(geometry, rules, strength, len(wavelength), lane_shape, work, totals)
    lay_out_values(lane_shape, work)
