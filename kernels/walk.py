"""The decisions of a pixel's walk through its steps, each once: where, whether, which, and what then (docs/physics.md).

The float64 kernels of CPU and GPU call these functions, and so does the trace, in this order:

    for each layer and sub-pixel:   subpixel_place, physics.pixel_position, direction
                                    needs_capture, capture; needs_solid_angle, near_plane
        for each source:            physics.scattering_vector, keep_within_dmin
                                    needs_polarization, polarization; share_of_term
            for each cell:          indices, lattice_factor, structure_factor, add_term
    finish

Scalars in, scalars out, float64. What a kernel knows when it is compiled (a shape, whether there is a table) is an
argument of its own, so that the branches on it vanish. Kernels in float32 have arithmetic of their own, but ask here
which shape is which (radial_single).
"""

import math

import numpy as np
from bragg_numba.kernels import physics
from bragg_numba.kernels._jit import device_function, shared_function
from bragg_numba.kernels.parameters import GAUSS, ROUND, SQUARE, TOPHAT

_NAN = np.float32(np.nan)

# --- once a sub-pixel -----------------------------------------------------------------------------


@device_function
def subpixel_place(panel, row, column, sub_slow, sub_fast):
    """Centre of a sub-pixel on its panel: metres along fast and slow (eq. 2)."""
    slow = panel.subpixel_slow * (row * panel.oversample + sub_slow) + panel.half_slow
    fast = panel.subpixel_fast * (column * panel.oversample + sub_fast) + panel.half_fast
    return fast, slow


@device_function
def direction(x, y, z):
    """Unit vector to a point, and its distance."""
    airpath = math.sqrt(x * x + y * y + z * z)
    return x / airpath, y / airpath, z / airpath, airpath


@device_function
def needs_capture(rules, sub):
    """Whether the captured fraction is made at this sub-pixel of a layer: nanoBragg keeps that of the first."""
    return sub == 0 or rules.running_thick or rules.per_term


@device_function
def capture(curved, panel, rules, layer, d_x, d_y, d_z):
    """Fraction of the photons that a layer absorbs; 1 without a sensor (eq. 6)."""
    if not panel.has_sensor:
        return 1.0
    parallax = d_x * panel.normal_x + d_y * panel.normal_y + d_z * panel.normal_z
    if curved and rules.per_term:
        parallax = 1.0  # rays meet a curved sensor head-on
    return physics.capture_fraction(layer, panel.layer_step, panel.attenuation, parallax)


@device_function
def needs_solid_angle(rules, layer, sub):
    """Whether the solid angle is made at this sub-pixel: nanoBragg keeps that of the very first."""
    return (layer == 0 and sub == 0) or rules.running_omega or rules.per_term


@device_function
def near_plane(panel, rules, depth):
    """Distance of the plane whose obliquity counts: the layer's own, or the front's in nanoBragg (eq. 5)."""
    return panel.close_distance + (depth if rules.per_term else 0.0)


# --- once a source --------------------------------------------------------------------------------


@device_function
def keep_within_dmin(panel, q_x, q_y, q_z):
    """1, or 0 beyond dmin (eq. 7)."""
    if panel.dmin <= 0.0:
        return 1.0
    return 0.0 if physics.is_beyond_dmin(q_x, q_y, q_z, panel.dmin) else 1.0


@device_function
def first_polarization(panel):
    """The factor before any is made: 0 says that one is still to be made."""
    return 0.0 if panel.polarized else 1.0


@device_function
def needs_polarization(panel, rules, keep, polar):
    """Whether the polarization factor is made: for each term, or once for the first that counts (eq. 8)."""
    if rules.per_term:
        return panel.polarized
    return keep != 0.0 and (polar == 0.0 or rules.running_polar)


@device_function
def polarization(panel, i_x, i_y, i_z, d_x, d_y, d_z):
    """Polarization factor of a ray (eq. 8)."""
    p = panel
    return physics.polarization_factor(p.kahn, i_x, i_y, i_z, d_x, d_y, d_z, p.polar_x, p.polar_y, p.polar_z)


@device_function
def share_of_term(omega, polar, captured, weight):
    """What a term of its own weight is multiplied by (eq. 21)."""
    return omega * polar * captured * weight


# --- once a cell ----------------------------------------------------------------------------------


@device_function
def indices(a_x, a_y, a_z, b_x, b_y, b_z, c_x, c_y, c_z, q_x, q_y, q_z):
    """Fractional h, k, l = a.q, b.q, c.q (eq. 22)."""
    h = a_x * q_x + a_y * q_y + a_z * q_z
    k = b_x * q_x + b_y * q_y + b_z * q_z
    l = c_x * q_x + c_y * q_y + c_z * q_z  # noqa: E741
    return h, k, l


@device_function
def lattice_factor(shape, lattice, h, k, l):  # noqa: E741
    """Square of the lattice factor over its largest value, (Na Nb Nc)^2, by shape (eq. 13 to 17)."""
    if shape == SQUARE:
        square = physics.grating_squared(h, lattice.n_a)
        square *= physics.grating_squared(k, lattice.n_b)
        return square * physics.grating_squared(l, lattice.n_c)
    return radial_factor(shape, squared_radius(lattice, h, k, l))


@device_function
def squared_radius(lattice, h, k, l):  # noqa: E741
    """Squared distance from the nearest reciprocal lattice point in the lattice's metric (eq. 14)."""
    d_h = h - physics.nearest_index(h)
    d_k = k - physics.nearest_index(k)
    d_l = l - physics.nearest_index(l)
    return physics.quadratic_form(lattice, d_h, d_k, d_l)


@device_function
def radial_factor(shape, radius_squared):
    """The lattice factor of a shape that depends on the squared radius alone; NaN for one that is not known here."""
    if shape == ROUND:
        return physics.sphere_squared(radius_squared)
    if shape == GAUSS:
        return physics.gauss_squared(radius_squared)
    if shape == TOPHAT:
        return physics.tophat_squared(radius_squared)
    return math.nan


@device_function
def radial_single(shape, radius_squared):
    """radial_factor in float32; round crystals need more than the squared radius (physics.sphere_single)."""
    if shape == GAUSS:
        return physics.gauss_single(radius_squared)
    if shape == TOPHAT:
        return physics.tophat_single(radius_squared)
    return _NAN


@device_function
def before_single(shape, radius_squared):
    """What is made in float64 of the squared radius of a lit pixel (pixels/lit.py): a top hat's side, nothing else."""
    return physics.tophat_squared(radius_squared) if shape == TOPHAT else radius_squared


@device_function
def after_single(shape, value):
    """The lattice factor of a lit pixel from what before_single made, float32."""
    return value if shape == TOPHAT else radial_single(shape, value)


#: Shapes that the float64 functions above know, and the float32 ones.
SHAPES_IN_FLOAT64 = (SQUARE, ROUND, GAUSS, TOPHAT)
SHAPES_IN_FLOAT32 = (SQUARE, ROUND, GAUSS, TOPHAT)


@device_function
def as_place(x):
    """A number that is whole as a place in an array; 32 bits without a sign on a GPU."""
    return int(x)


@device_function
def table_place(index, first, count):
    """Place of a whole index along one axis of the bordered table; what lies outside falls on the border."""
    return as_place(min(max(index - first, 0.0), count - 1.0))


@device_function
def is_inside(index, first, count):
    """Tell whether the four nodes around an index are data; the border is not (eq. 18)."""
    return index - 2.0 >= first + 1 and index - (first + 1) + 3.0 <= count - 2


@shared_function
def row_of_four(table, i, j, m, z):
    """Cubic through four neighbours along l (eq. 18)."""
    return physics.lagrange4(
        z, table[i, j, m], table[i, j, m + as_place(1)], table[i, j, m + as_place(2)], table[i, j, m + as_place(3)]
    )


@shared_function
def plane_of_four(table, i, j, m, y, z):
    """Cubic through four rows along k (eq. 18)."""
    return physics.lagrange4(
        y,
        row_of_four(table, i, j, m, z),
        row_of_four(table, i, j + as_place(1), m, z),
        row_of_four(table, i, j + as_place(2), m, z),
        row_of_four(table, i, j + as_place(3), m, z),
    )


@shared_function
def tricubic_factor(lookup, table, h, k, l):  # noqa: E741
    """Tricubic interpolation between the 64 nodes around h, k, l (eq. 18)."""
    h_floor, k_floor, l_floor = math.floor(h), math.floor(k), math.floor(l)
    i = as_place(h_floor - 1.0 - lookup.h_first)
    j = as_place(k_floor - 1.0 - lookup.k_first)
    m = as_place(l_floor - 1.0 - lookup.l_first)
    y, z = k - k_floor, l - l_floor
    return physics.lagrange4(
        h - h_floor,
        plane_of_four(table, i, j, m, y, z),
        plane_of_four(table, i + as_place(1), j, m, y, z),
        plane_of_four(table, i + as_place(2), j, m, y, z),
        plane_of_four(table, i + as_place(3), j, m, y, z),
    )


@shared_function
def nearest_factor(lookup, table, h, k, l):  # noqa: E741
    """F of the nearest whole index (eq. 10)."""
    i = table_place(physics.nearest_index(h), lookup.h_first, lookup.h_count)
    j = table_place(physics.nearest_index(k), lookup.k_first, lookup.k_count)
    m = table_place(physics.nearest_index(l), lookup.l_first, lookup.l_count)
    return table[i, j, m]


@shared_function
def square_of_parts(parts, factors, source, cell, cells):
    """Squared F at the wavelength of a source (eq. 46) of a cell of the table, which has ``cells``."""
    real, imaginary = parts[cell], parts[cells + cell]
    for element in range(factors.shape[1] // 2):
        f_prime, f_double_prime = factors[source, 2 * element], factors[source, 2 * element + 1]
        x, y = parts[(2 * element + 2) * cells + cell], parts[(2 * element + 3) * cells + cell]
        real += f_prime * x - f_double_prime * y
        imaginary += f_prime * y + f_double_prime * x
    return real * real + imaginary * imaginary


@shared_function
def cell_of_table(lookup, h, k, l):  # noqa: E741
    """Cell of the table, counted through, of the nearest whole index (eq. 10)."""
    i = table_place(physics.nearest_index(h), lookup.h_first, lookup.h_count)
    j = table_place(physics.nearest_index(k), lookup.k_first, lookup.k_count)
    m = table_place(physics.nearest_index(l), lookup.l_first, lookup.l_count)
    return (i * lookup.k_count + j) * lookup.l_count + m


@shared_function
def dispersed_square(lookup, dispersion, source, h, k, l):  # noqa: E741
    """Squared F of the nearest whole index at the wavelength of a source (eq. 10, 46)."""
    cells = lookup.h_count * lookup.k_count * lookup.l_count
    cell = cell_of_table(lookup, h, k, l)
    return square_of_parts(dispersion.parts, dispersion.factors, source, cell, cells)


@shared_function
def weight_of_four(node, x):
    """What one of four nodes, at -1 to 2, brings to the cubic through them at x (eq. 18)."""
    return physics.lagrange4(
        x,
        1.0 if node == 0 else 0.0,
        1.0 if node == 1 else 0.0,
        1.0 if node == 2 else 0.0,
        1.0 if node == 3 else 0.0,
    )


@shared_function
def tricubic_dispersed(lookup, dispersion, source, h, k, l):  # noqa: E741
    """Tricubic interpolation between the amplitudes of 64 nodes at the wavelength of a source (eq. 18, 46)."""
    h_floor, k_floor, l_floor = math.floor(h), math.floor(k), math.floor(l)
    total = 0.0
    for node in range(64):
        i, j, m = node // 16, node // 4 % 4, node % 4
        weight = weight_of_four(i, h - h_floor) * weight_of_four(j, k - k_floor) * weight_of_four(m, l - l_floor)
        at = (h_floor + (i - 1.0), k_floor + (j - 1.0), l_floor + (m - 1.0))
        total += weight * math.sqrt(dispersed_square(lookup, dispersion, source, at[0], at[1], at[2]))
    return total


@shared_function
def dispersed_factor(lookup, dispersion, source, h, k, l):  # noqa: E741
    """As structure_factor, at the wavelength of a source (eq. 46)."""
    if lookup.interpolate:
        inside = is_inside(h, lookup.h_first, lookup.h_count) and is_inside(k, lookup.k_first, lookup.k_count)
        if inside and is_inside(l, lookup.l_first, lookup.l_count):
            return tricubic_dispersed(lookup, dispersion, source, h, k, l), 0
        return math.sqrt(dispersed_square(lookup, dispersion, source, h, k, l)), 1
    return math.sqrt(dispersed_square(lookup, dispersion, source, h, k, l)), 0


@device_function
def structure_factor(has_table, interpolate, lookup, table, h, k, l):  # noqa: E741
    """F at h, k, l, and 1 where interpolation was wanted but left the table, else 0 (eq. 10, 18)."""
    if not has_table:
        return lookup.default_F, 0
    if interpolate:
        inside = is_inside(h, lookup.h_first, lookup.h_count) and is_inside(k, lookup.k_first, lookup.k_count)
        if inside and is_inside(l, lookup.l_first, lookup.l_count):
            return tricubic_factor(lookup, table, h, k, l), 0
        return nearest_factor(lookup, table, h, k, l), 1
    return nearest_factor(lookup, table, h, k, l), 0


@device_function
def add_running(rules, total, term, square, keep, captured, polar, omega):
    """Add a term as nanoBragg's running products do: the whole sum times each factor, each step.

    ``keep`` is 0 beyond dmin, else the source's weight. Without water nanoBragg skips a term whose lattice factor
    ``square`` is 0 altogether.
    """
    if keep == 0.0 or (rules.skip_zero and square == 0.0):
        return total
    total += keep * term
    if rules.running_thick:
        total *= captured
    if rules.running_polar:
        total *= polar
    if rules.running_omega:
        total *= omega
    return total


# --- once a pixel ---------------------------------------------------------------------------------


@device_function
def finish(panel, rules, n_sources, total, captured, polar, omega, share):
    """Turn a sum into photons: scale, and the factors that terms did not carry themselves (eq. 21).

    ``share`` is the sum of share_of_term over layers, sub-pixels and sources: of the flat background's photons.
    """
    value = rules.scale * total
    if rules.per_term:
        return value + rules.flat_background * share / (panel.oversample * panel.oversample * n_sources)
    if not rules.running_thick:
        value *= captured
    if not rules.running_polar:
        value *= polar
    if not rules.running_omega:
        value *= omega
    return value
