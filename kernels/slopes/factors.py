"""Once a beam: what solid angle, polarization and sensor make of a block's sums, and their own slopes (eq. 61 to 63).

``exact`` holds directions, factors and the sums of a beam, ``sums`` what slopes are linear in (slopes/rows.py).
"""

from bragg_numba.kernels import physics, walk
from bragg_numba.kernels._jit import fused_kernel, serial_kernel
from bragg_numba.kernels.slopes.rows import (
    AIM_X,
    AIM_Y,
    AIM_Z,
    AT_COLUMN,
    AT_ROW,
    BLOCK,
    BRAGG,
    CAPTURE,
    DECAY,
    DEPTH,
    FAR,
    FAST,
    HEAD,
    KAHN,
    KEEP,
    NEAR,
    NORMAL,
    OF_SHAPE,
    OMEGA,
    PLACE,
    PLACE_FAST,
    PLACE_SLOW,
    POLAR,
    PUSH_X,
    PUSH_Y,
    PUSH_Z,
    SLOW,
    SPREAD,
    STRAIN,
    STRIDE,
    TOTAL_AIM,
    TOTAL_SHAPE,
    TOTAL_SPREAD,
    TOTAL_STRAIN,
    TOTAL_TERM,
    TURN,
)

# --- geometry and factors --------------------------------------------------------------------------


@serial_kernel
def aim_at_block(panel, sub_slow, sub_fast, depth, exact):
    """Fill AIM, FAR, FAST and SLOW for one sub-pixel of each pixel at a depth of the sensor (eq. 2, 3)."""
    for pixel in range(BLOCK):
        row, column = exact[AT_ROW + pixel], exact[AT_COLUMN + pixel]
        fast, slow = walk.subpixel_place(panel, row, column, sub_slow, sub_fast)
        x, y, z = physics.pixel_position(panel.curved, panel, fast, slow, depth)
        exact[FAST + pixel], exact[SLOW + pixel] = fast, slow
        exact[AIM_X + pixel], exact[AIM_Y + pixel], exact[AIM_Z + pixel], exact[FAR + pixel] = walk.direction(x, y, z)


@serial_kernel
def fill_solid_angles(panel, near, exact):
    """Fill OMEGA (eq. 5)."""
    for pixel in range(BLOCK):
        exact[OMEGA + pixel] = physics.solid_angle(
            exact[FAR + pixel], panel.pitch_fast, panel.height, near, panel.point_pixel
        )


@serial_kernel
def fill_captures(panel, rules, layer, exact):
    """Fill CAPTURE (eq. 6)."""
    for pixel in range(BLOCK):
        exact[CAPTURE + pixel] = walk.capture(
            panel.curved, panel, rules, layer, exact[AIM_X + pixel], exact[AIM_Y + pixel], exact[AIM_Z + pixel]
        )


@serial_kernel
def fill_polarizations(panel, incident, exact):
    """Fill POLAR (eq. 8)."""
    for pixel in range(BLOCK):
        exact[POLAR + pixel] = 1.0
        if panel.polarized:
            exact[POLAR + pixel] = walk.polarization(
                panel,
                incident[0],
                incident[1],
                incident[2],
                exact[AIM_X + pixel],
                exact[AIM_Y + pixel],
                exact[AIM_Z + pixel],
            )


@serial_kernel
def fill_kept(panel, incident, wavelength, exact):
    """Fill KEEP with 0 beyond dmin, else 1 (eq. 7)."""
    for pixel in range(BLOCK):
        q_x, q_y, q_z = physics.scattering_vector(
            exact[AIM_X + pixel],
            exact[AIM_Y + pixel],
            exact[AIM_Z + pixel],
            incident[0],
            incident[1],
            incident[2],
            wavelength,
        )
        exact[KEEP + pixel] = walk.keep_within_dmin(panel, q_x, q_y, q_z)


@fused_kernel
def fill(value, row, exact):
    """Set a row to one value."""
    for pixel in range(BLOCK):
        exact[row + pixel] = value


# --- sums of terms ---------------------------------------------------------------------------------


@fused_kernel
def add_row(source, exact, to, sums):
    """Add a row of a beam's sums times HEAD to one of a block's."""
    for pixel in range(BLOCK):
        sums[to * STRIDE + pixel] += exact[HEAD + pixel] * exact[source + pixel]


@fused_kernel
def add_terms(wanted, panel, layer, incident, exact, sums):
    """Add the sums of a beam, times HEAD, to those of the block (eq. 60, 61)."""
    add_row(TOTAL_TERM, exact, BRAGG, sums)
    if wanted.strain:
        for row in range(9):
            add_row(TOTAL_STRAIN + row * STRIDE, exact, STRAIN + row, sums)
    if wanted.shape:
        for row in range(6):
            add_row(TOTAL_SHAPE + row * STRIDE, exact, OF_SHAPE + row, sums)
    if wanted.spread:
        add_row(TOTAL_SPREAD, exact, SPREAD, sums)
    if wanted.turn:
        i_x, i_y, i_z = incident
        for pixel in range(BLOCK):
            head = exact[HEAD + pixel]
            g_x, g_y, g_z = (
                exact[TOTAL_AIM + pixel],
                exact[TOTAL_AIM + STRIDE + pixel],
                exact[TOTAL_AIM + 2 * STRIDE + pixel],
            )
            x, y, z = exact[AIM_X + pixel] - i_x, exact[AIM_Y + pixel] - i_y, exact[AIM_Z + pixel] - i_z
            sums[TURN * STRIDE + pixel] += head * (g_y * z - g_z * y)
            sums[(TURN + 1) * STRIDE + pixel] += head * (g_z * x - g_x * z)
            sums[(TURN + 2) * STRIDE + pixel] += head * (g_x * y - g_y * x)
    if wanted.detector:
        for pixel in range(BLOCK):
            g_x, g_y, g_z = (
                exact[TOTAL_AIM + pixel],
                exact[TOTAL_AIM + STRIDE + pixel],
                exact[TOTAL_AIM + 2 * STRIDE + pixel],
            )
            x, y, z = exact[AIM_X + pixel], exact[AIM_Y + pixel], exact[AIM_Z + pixel]
            along = g_x * x + g_y * y + g_z * z
            per = exact[HEAD + pixel] / exact[FAR + pixel]
            exact[PUSH_X + pixel] = per * (g_x - along * x)
            exact[PUSH_Y + pixel] = per * (g_y - along * y)
            exact[PUSH_Z + pixel] = per * (g_z - along * z)
        push(panel, layer, exact, sums)


@fused_kernel
def push(panel, layer, exact, sums):
    """Add PUSH, slopes in a pixel's place, to all rows that move it: origin, axes, normal, thickness (eq. 61)."""
    depth = layer * panel.layer_step
    for pixel in range(BLOCK):
        x, y, z = exact[PUSH_X + pixel], exact[PUSH_Y + pixel], exact[PUSH_Z + pixel]
        fast, slow = exact[FAST + pixel], exact[SLOW + pixel]
        sums[PLACE * STRIDE + pixel] += x
        sums[(PLACE + 1) * STRIDE + pixel] += y
        sums[(PLACE + 2) * STRIDE + pixel] += z
        sums[PLACE_FAST * STRIDE + pixel] += fast * x
        sums[(PLACE_FAST + 1) * STRIDE + pixel] += fast * y
        sums[(PLACE_FAST + 2) * STRIDE + pixel] += fast * z
        sums[PLACE_SLOW * STRIDE + pixel] += slow * x
        sums[(PLACE_SLOW + 1) * STRIDE + pixel] += slow * y
        sums[(PLACE_SLOW + 2) * STRIDE + pixel] += slow * z
    if layer > 0:
        for pixel in range(BLOCK):
            x, y, z = exact[PUSH_X + pixel], exact[PUSH_Y + pixel], exact[PUSH_Z + pixel]
            sums[NORMAL * STRIDE + pixel] += depth * x
            sums[(NORMAL + 1) * STRIDE + pixel] += depth * y
            sums[(NORMAL + 2) * STRIDE + pixel] += depth * z
            sums[DEPTH * STRIDE + pixel] += layer * (x * panel.normal_x + y * panel.normal_y + z * panel.normal_z)


# --- slopes of the factors -------------------------------------------------------------------------


@fused_kernel
def add_solid_angle(panel, rules, layer, exact, sums):
    """Add the slopes of the solid angle, HEAD being the photons of a pixel (eq. 61)."""
    power = 2.0 if panel.point_pixel else 3.0
    for pixel in range(BLOCK):
        per = -power * exact[HEAD + pixel] / exact[FAR + pixel]
        exact[PUSH_X + pixel] = per * exact[AIM_X + pixel]
        exact[PUSH_Y + pixel] = per * exact[AIM_Y + pixel]
        exact[PUSH_Z + pixel] = per * exact[AIM_Z + pixel]
    push(panel, layer, exact, sums)
    if not panel.point_pixel:
        near = walk.near_plane(panel, rules, layer * panel.layer_step)
        of_layer = layer if rules.per_term else 0
        for pixel in range(BLOCK):
            slope = exact[HEAD + pixel] / near
            sums[NEAR * STRIDE + pixel] += slope
            sums[DEPTH * STRIDE + pixel] += of_layer * slope


@fused_kernel
def add_polarization(panel, layer, incident, exact, sums):
    """Add the slopes of the polarization factor, HEAD being photons over it (eq. 62)."""
    g = panel
    i_x, i_y, i_z = incident
    b_x, b_y, b_z = physics.unit_cross(g.polar_x, g.polar_y, g.polar_z, i_x, i_y, i_z)
    e_x, e_y, e_z = physics.unit_cross(i_x, i_y, i_z, b_x, b_y, b_z)
    for pixel in range(BLOCK):
        x, y, z = exact[AIM_X + pixel], exact[AIM_Y + pixel], exact[AIM_Z + pixel]
        along_i = x * i_x + y * i_y + z * i_z
        along_e = x * e_x + y * e_y + z * e_z
        along_b = x * b_x + y * b_y + z * b_z
        turned = along_e * along_e - along_b * along_b
        p_x = along_i * i_x - g.kahn * (along_e * e_x - along_b * b_x)
        p_y = along_i * i_y - g.kahn * (along_e * e_y - along_b * b_y)
        p_z = along_i * i_z - g.kahn * (along_e * e_z - along_b * b_z)
        along = along_i * along_i - g.kahn * turned
        per = exact[HEAD + pixel] / exact[FAR + pixel]
        exact[PUSH_X + pixel] = per * (p_x - along * x)
        exact[PUSH_Y + pixel] = per * (p_y - along * y)
        exact[PUSH_Z + pixel] = per * (p_z - along * z)
        sums[KAHN * STRIDE + pixel] -= 0.5 * exact[HEAD + pixel] * turned
    push(panel, layer, exact, sums)


@serial_kernel
def add_capture(panel, rules, layer, exact, sums):
    """Add the slopes of what a layer captures, HEAD being photons over that (eq. 63)."""
    g = panel
    tilted = not (g.curved and rules.per_term)
    for pixel in range(BLOCK):
        x, y, z = exact[AIM_X + pixel], exact[AIM_Y + pixel], exact[AIM_Z + pixel]
        parallax = x * g.normal_x + y * g.normal_y + z * g.normal_z if tilted else 1.0
        depth = g.layer_step * g.attenuation / parallax
        _, slope = physics.capture_slope(layer, depth)
        slope *= exact[HEAD + pixel] * depth
        sums[DECAY * STRIDE + pixel] += slope / g.attenuation
        sums[DEPTH * STRIDE + pixel] += slope / g.layer_step
        per = -slope / parallax if tilted else 0.0
        sums[NORMAL * STRIDE + pixel] += per * x
        sums[(NORMAL + 1) * STRIDE + pixel] += per * y
        sums[(NORMAL + 2) * STRIDE + pixel] += per * z
        per /= exact[FAR + pixel]
        exact[PUSH_X + pixel] = per * (g.normal_x - parallax * x)
        exact[PUSH_Y + pixel] = per * (g.normal_y - parallax * y)
        exact[PUSH_Z + pixel] = per * (g.normal_z - parallax * z)
    push(panel, layer, exact, sums)


@fused_kernel
def multiply_rows(row, exact, rows, sums):
    """Multiply the first rows of a block's sums by one of ``exact``."""
    for number in range(rows):
        for pixel in range(BLOCK):
            sums[number * STRIDE + pixel] *= exact[row + pixel]
