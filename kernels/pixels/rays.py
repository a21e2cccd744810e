"""Directions of a tile's pixels, and the factors that belong to them: solid angle, polarization, absorption.

The direction of a group's centre is float64; a pixel's differs from it by float32 values that carry no cancellation
(eq. 23). ``work`` and ``exact`` are the arrays of rows; ``place`` says which part of the panel: first row and
column and number of columns, sub-pixel along slow and fast, depth in the sensor.
"""

import math

import numpy as np
from bragg_numba.kernels import physics, walk
from bragg_numba.kernels._jit import device_function, fused_kernel, serial_kernel
from bragg_numba.kernels.pixels.rows import (
    AIM_X,
    AIM_Y,
    AIM_Z,
    BEND,
    FACTOR,
    GROUPS,
    LANES,
    NEARNESS,
    PACE_B,
    PACE_E,
    PACE_I,
    PART_B,
    PART_E,
    PART_I,
    PITCH,
    PITCH_64,
    PIXELS,
    POLAR,
    SHORT,
    SLANT,
    SLANT_64,
    TERM,
    TWIST,
    WEIGHT,
)

# --- directions ----------------------------------------------------------------------------------


@fused_kernel
def aim_at_groups(panel, place, work, exact):
    """Fill AIM with the direction of each group's centre, NEARNESS with 1 / its distance, SLANT with its cosine."""
    g = panel
    row, column, wide, sub_slow, sub_fast, depth = place
    first = g.subpixel_fast * sub_fast + 0.5 * g.subpixel_fast
    top = g.subpixel_slow * sub_slow + 0.5 * g.subpixel_slow + 0.5 * (LANES - 1) * g.pitch_slow
    for band in range(GROUPS // wide):
        slow = g.pitch_slow * (row + band * LANES) + top
        for across in range(wide):
            group = band * wide + across
            fast = g.pitch_fast * (np.float64(column) + np.float64(np.int32(across))) + first
            x, y, z = physics.flat_position(g, fast, slow, depth)
            nearness = 1.0 / math.sqrt(x * x + y * y + z * z)
            d_x, d_y, d_z = x * nearness, y * nearness, z * nearness
            slant = d_x * g.slow_x + d_y * g.slow_y + d_z * g.slow_z
            exact[AIM_X + group], exact[AIM_Y + group], exact[AIM_Z + group] = d_x, d_y, d_z
            pitch = g.pitch_slow * nearness
            exact[PITCH_64 + group], exact[SLANT_64 + group] = pitch, slant
            work[PITCH + group], work[SLANT + group] = np.float32(pitch), np.float32(slant)
            work[NEARNESS + group] = np.float32(nearness)


@device_function
def paces_of_lane(lane):
    """How many pixels a lane lies from its group's centre."""
    return np.float32(lane - 0.5 * (LANES - 1))


@fused_kernel
def offset_pixels(work):
    """Fill SHORT, BEND and TWIST with what lies between a pixel and its group's centre."""
    for lane in range(LANES):
        for group in range(GROUPS):
            pixel = lane * GROUPS + group
            short, bend, twist = physics.offset_single(paces_of_lane(lane), work[PITCH + group], work[SLANT + group])
            work[SHORT + pixel], work[BEND + pixel], work[TWIST + pixel] = short, bend, twist


@fused_kernel
def parts_along(panel, x, y, z, row, pace_row, work, exact):
    """Fill a row of groups with the centres' parts along a vector, another with those of a pixel's step along slow."""
    of_slow = np.float32(x * panel.slow_x + y * panel.slow_y + z * panel.slow_z)
    for group in range(GROUPS):
        part = exact[AIM_X + group] * x + exact[AIM_Y + group] * y + exact[AIM_Z + group] * z
        work[row + group] = np.float32(part)
        work[pace_row + group] = of_slow * work[PITCH + group]


@device_function
def part_of_pixel(work, row, pace_row, group, pixel, paces):
    """A pixel's part along the vector whose parts are in the rows (eq. 23)."""
    part = work[row + group]
    return (part - work[SHORT + pixel] * part) + work[pace_row + group] * (paces + work[TWIST + pixel])


@device_function
def nearness_of_pixel(work, group, pixel):
    """1 / distance of a pixel (eq. 23)."""
    return work[NEARNESS + group] - work[SHORT + pixel] * work[NEARNESS + group]


# --- factors -------------------------------------------------------------------------------------


@fused_kernel
def solid_angles(panel, near, scale, work):
    """Fill FACTOR with the solid angle times ``scale`` (eq. 5); ``near`` is the distance of the layer's plane."""
    area = np.float32(scale * panel.pitch_fast * panel.height * near)
    unit = np.float32(scale)
    for lane in range(LANES):
        if panel.point_pixel:
            for group in range(GROUPS):
                nearness = nearness_of_pixel(work, group, lane * GROUPS + group)
                work[FACTOR + lane * GROUPS + group] = unit * (nearness * nearness)
        else:
            for group in range(GROUPS):
                nearness = nearness_of_pixel(work, group, lane * GROUPS + group)
                work[FACTOR + lane * GROUPS + group] = area * (nearness * nearness * nearness)


@fused_kernel
def polarizations(panel, incident, row, work, exact):
    """Fill a row of pixels with the polarization factor (eq. 8)."""
    g = panel
    i_x, i_y, i_z = incident
    parts_along(panel, i_x, i_y, i_z, PART_I, PACE_I, work, exact)
    if g.kahn == 0.0:
        for lane in range(LANES):
            for group in range(GROUPS):
                pixel = lane * GROUPS + group
                cosine = part_of_pixel(work, PART_I, PACE_I, group, pixel, paces_of_lane(lane))
                work[row + pixel] = physics.unpolarized_factor(cosine)
        return
    b_x, b_y, b_z = physics.unit_cross(g.polar_x, g.polar_y, g.polar_z, i_x, i_y, i_z)
    e_x, e_y, e_z = physics.unit_cross(i_x, i_y, i_z, b_x, b_y, b_z)
    parts_along(panel, e_x, e_y, e_z, PART_E, PACE_E, work, exact)
    parts_along(panel, b_x, b_y, b_z, PART_B, PACE_B, work, exact)
    kahn = np.float32(g.kahn)
    for lane in range(LANES):
        for group in range(GROUPS):
            pixel, paces = lane * GROUPS + group, paces_of_lane(lane)
            work[row + pixel] = physics.polarization_of_parts(
                kahn,
                part_of_pixel(work, PART_I, PACE_I, group, pixel, paces),
                part_of_pixel(work, PART_E, PACE_E, group, pixel, paces),
                part_of_pixel(work, PART_B, PACE_B, group, pixel, paces),
            )


@fused_kernel
def polarized_solid_angles(panel, near, scale, incident, work, exact):
    """Fill FACTOR with solid angle, scale and polarization factor."""
    g = panel
    if g.kahn != 0.0 or g.point_pixel:
        solid_angles(panel, near, scale, work)
        polarizations(panel, incident, POLAR, work, exact)
        multiply_factors(POLAR, work)
        return
    # The common case in one pass.
    area = np.float32(scale * g.pitch_fast * g.height * near)
    parts_along(panel, incident[0], incident[1], incident[2], PART_I, PACE_I, work, exact)
    for lane in range(LANES):
        for group in range(GROUPS):
            pixel = lane * GROUPS + group
            nearness = nearness_of_pixel(work, group, pixel)
            cosine = part_of_pixel(work, PART_I, PACE_I, group, pixel, paces_of_lane(lane))
            polar = physics.unpolarized_factor(cosine)
            work[FACTOR + pixel] = area * (nearness * nearness * nearness) * polar


@fused_kernel
def multiply_factors(row, work):
    """Multiply FACTOR by another row of pixels."""
    for pixel in range(PIXELS):
        work[FACTOR + pixel] *= work[row + pixel]


@fused_kernel
def keep_first_polarizations(panel, incident, work, exact):
    """Fill POLAR where it is still 0 and the pixel's weight is not: nanoBragg's first term within dmin."""
    polarizations(panel, incident, TERM, work, exact)
    zero = np.float32(0.0)
    for pixel in range(PIXELS):
        known = work[POLAR + pixel]
        wanted = known == zero and work[WEIGHT + pixel] != zero
        work[POLAR + pixel] = work[TERM + pixel] if wanted else known


@fused_kernel
def multiply_captures(panel, layer, work, exact):
    """Multiply FACTOR by the fraction that a sensor layer absorbs (eq. 6)."""
    g = panel
    parts_along(panel, g.normal_x, g.normal_y, g.normal_z, PART_I, PACE_I, work, exact)
    for lane in range(LANES):
        for group in range(GROUPS):
            pixel = lane * GROUPS + group
            work[TERM + pixel] = part_of_pixel(work, PART_I, PACE_I, group, pixel, paces_of_lane(lane))
    layer_depth = g.layer_step * g.attenuation
    if layer_depth >= physics.THIN_LAYER:
        for pixel in range(PIXELS):
            capture = physics.capture_single(np.float32(layer), np.float32(layer_depth), work[TERM + pixel])
            work[FACTOR + pixel] *= capture
    else:
        for pixel in range(PIXELS):
            parallax = np.float64(work[TERM + pixel])
            capture = physics.capture_fraction(layer, g.layer_step, g.attenuation, parallax)
            work[FACTOR + pixel] *= np.float32(capture)


# --- single pixels, float64 ----------------------------------------------------------------------


@device_function
def scatter_at_pixel(panel, incident, wavelength, row, column, sub_slow, sub_fast, depth):
    """Scattering vector of one sub-pixel in float64, rounded as the float64 renderer rounds it (eq. 4).

    For serial kernels: next to a half, the last bit decides which index is the nearest.
    """
    fast, slow = walk.subpixel_place(panel, row, column, sub_slow, sub_fast)
    x, y, z = physics.flat_position(panel, fast, slow, depth)
    d_x, d_y, d_z, _ = walk.direction(x, y, z)
    return physics.scattering_vector(d_x, d_y, d_z, incident[0], incident[1], incident[2], wavelength)


@serial_kernel
def keep_within_dmin(panel, incident, wavelength, place, work):
    """Fill WEIGHT with 1, or 0 beyond dmin (eq. 7); return whether any pixel is left."""
    first_row, first_column, wide, sub_slow, sub_fast, depth = place
    kept = np.int32(0)
    for lane in range(LANES):
        for band in range(GROUPS // wide):
            row = np.float64(first_row + band * LANES + lane)
            for across in range(wide):
                column = np.float64(first_column) + np.float64(np.int32(across))
                q_x, q_y, q_z = scatter_at_pixel(panel, incident, wavelength, row, column, sub_slow, sub_fast, depth)
                beyond = physics.is_beyond_dmin(q_x, q_y, q_z, panel.dmin)
                weight = np.float32(0.0) if beyond else np.float32(1.0)
                work[WEIGHT + lane * GROUPS + band * wide + across] = weight
                kept = np.int32(kept | np.int32(not beyond))
    return kept != 0
