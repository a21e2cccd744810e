"""What one thread of a GPU computes, as scalar functions that the CPU can run too (docs/physics.md, section 9).

A patch is ``side`` x ``side`` pixels. A pixel lies u and w pixels from the patch's centre along fast and slow,
and its direction differs from the centre's by

    u E_fast + w E_slow + (x, y, z)

with E the change per pixel at the centre and (x, y, z) a rest of second order. A phase then is

    h = whole + [coarse + u fast + w slow] + [fine + u fast_rest + w slow_rest + (a / wavelength) (x, y, z)]

where the first bracket is exact in float32, being a multiple of 2^-13, and the second is small, so that its
24 bits reach far below what N h needs. All that depends on the step alone is made in float64, once a patch.
"""

from typing import NamedTuple

import numpy as np
from bragg_numba.kernels import physics, walk
from bragg_numba.kernels._jit import device_function

#: Sides of a patch, pixels: large ones share more float64 work, small ones carry smaller errors.
PATCH_SIDES = (16, 8, 4)

#: Steps that are summed in float32 before they are added to the float64 total: a round.
ROUND_STEPS = 64

#: Parts of a pixel's rounds that the float64 pass can settle one by one: bits of ``doubts``.
PARTS = 32

#: float32 values of one step in shared memory: nine an axis (Axis), and the place in the table.
STEP_SIZE = 28

#: Adding 1.5 * 2^23 leaves a whole number in the low bits of a float32; these are the bits of 1.5 * 2^23.
_WHOLE_BITS = np.int32(0x4B400000)
_TO_WHOLE = np.float32(12582912.0)
_ONE, _TWO = np.float32(1.0), np.float32(2.0)
_THIN_LAYER = np.float32(physics.THIN_LAYER)


class Sub(NamedTuple):
    """Which layer and sub-pixel."""

    layer: int
    slow: int
    fast: int
    depth: float  #: of the layer, metres
    first: bool  #: of all
    last: bool  #: the first one of the last layer


class Patch(NamedTuple):
    """A patch's centre in float64."""

    c_x: float  #: direction, a unit vector
    c_y: float
    c_z: float
    fast_x: float  #: its change from a pixel to the next along fast
    fast_y: float
    fast_z: float
    slow_x: float
    slow_y: float
    slow_z: float
    distance: float  #: metres


class Axis(NamedTuple):
    """The phase of one axis and step at a patch's centre, float32; see above."""

    a_x: np.float32  #: cell vector over the wavelength
    a_y: np.float32
    a_z: np.float32
    fine: np.float32
    coarse: np.float32
    fast: np.float32
    slow: np.float32
    fast_rest: np.float32
    slow_rest: np.float32


class Pixel(NamedTuple):
    """Where a pixel lies in its patch, float32; see above."""

    u: np.float32
    w: np.float32
    x: np.float32
    y: np.float32
    z: np.float32


# --- once a patch, float64 ------------------------------------------------------------------------


@device_function
def subpixel_position(curved, panel, row, column, further, sub):
    """Place a sub-pixel in the lab, metres, or what lies ``further`` pixels from it along both axes."""
    fast, slow = walk.subpixel_place(panel, row, column, sub.slow, sub.fast)
    fast, slow = fast + further * panel.pitch_fast, slow + further * panel.pitch_slow
    return physics.pixel_position(curved, panel, fast, slow, sub.depth)


@device_function
def aim_at_patch(curved, panel, side, row, column, sub):
    """The patch of ``side`` x ``side`` pixels whose first is (row, column)."""
    g = panel
    x, y, z = subpixel_position(curved, panel, row, column, 0.5 * (side - 1), sub)
    c_x, c_y, c_z, distance = walk.direction(x, y, z)
    fast_x, fast_y, fast_z = tangent(c_x, c_y, c_z, g.fast_x, g.fast_y, g.fast_z, g.pitch_fast / distance)
    slow_x, slow_y, slow_z = tangent(c_x, c_y, c_z, g.slow_x, g.slow_y, g.slow_z, g.pitch_slow / distance)
    return Patch(c_x, c_y, c_z, fast_x, fast_y, fast_z, slow_x, slow_y, slow_z, distance)


@device_function
def tangent(c_x, c_y, c_z, e_x, e_y, e_z, step):
    """Change of the unit vector c when its end moves by ``step`` along e (first order; eq. 36)."""
    along = c_x * e_x + c_y * e_y + c_z * e_z
    return step * (e_x - along * c_x), step * (e_y - along * c_y), step * (e_z - along * c_z)


@device_function
def step_axis(a_x, a_y, a_z, i_x, i_y, i_z, patch):
    """Phase of one axis at a patch's centre: its whole part, and an Axis (eq. 36).

    a is the cell vector over the wavelength, i the direction of the incident beam.
    """
    p = patch
    h = a_x * (p.c_x - i_x) + a_y * (p.c_y - i_y) + a_z * (p.c_z - i_z)
    whole, coarse, fine = physics.split_phase(h)
    fast, fast_rest = physics.split_change(a_x * p.fast_x + a_y * p.fast_y + a_z * p.fast_z)
    slow, slow_rest = physics.split_change(a_x * p.slow_x + a_y * p.slow_y + a_z * p.slow_z)
    return whole, Axis(
        np.float32(a_x),
        np.float32(a_y),
        np.float32(a_z),
        np.float32(fine),
        np.float32(coarse),
        np.float32(fast),
        np.float32(slow),
        np.float32(fast_rest),
        np.float32(slow_rest),
    )


@device_function
def near_of_axis(single, axis, whole):
    """Index of a patch's centre along an axis of the padded table, clamped so that ``reach`` steps on stay inside."""
    shift = single.h_shift if axis == 0 else (single.k_shift if axis == 1 else single.l_shift)
    last = single.h_last if axis == 0 else (single.k_last if axis == 1 else single.l_last)
    # Clamped as float64: a phase may lie beyond 32-bit numbers.
    return np.int32(min(max(whole + shift, single.reach), last))


@device_function
def place_bits(single, i, j, m):
    """Place of i, j, m in the padded table as a float32's bits, less those that change_of_place adds."""
    place = np.int32(i * single.h_stride + j * single.k_stride + m)
    return np.int32(place - _WHOLE_BITS).view(np.float32)


# --- once a pixel and sub-pixel, float32 ----------------------------------------------------------


@device_function
def rest_on_flat(flat, u, w, c_x, c_y, c_z, nearness):
    """(x, y, z) of a pixel of a flat detector, without cancellation, and 1 / its distance.

    ``flat`` is a SinglePanel, c the direction of the patch's centre, ``nearness`` 1 / its distance.
    """
    along_fast, along_slow = u * (flat.pitch_fast * nearness), w * (flat.pitch_slow * nearness)
    v_x = along_fast * flat.fast_x + along_slow * flat.slow_x
    v_y = along_fast * flat.fast_y + along_slow * flat.slow_y
    v_z = along_fast * flat.fast_z + along_slow * flat.slow_z
    along = c_x * v_x + c_y * v_y + c_z * v_z
    square = v_x * v_x + v_y * v_y + v_z * v_z
    growth = _TWO * along + square
    stretch = np.sqrt(_ONE + growth)
    shared = _ONE / (stretch + stretch * stretch)
    # 1/stretch - 1, and the same without its first order -along
    shrink = -growth * shared
    bend = (along * growth * (_TWO + stretch) / (_ONE + stretch) - square) * shared
    return (
        bend * c_x + shrink * v_x,
        bend * c_y + shrink * v_y,
        bend * c_z + shrink * v_z,
        (_ONE + stretch) * shared * nearness,
    )


@device_function
def rest_on_curve(panel, u, w, row, column, sub, patch):
    """rest_on_flat for a curved detector, by a difference in float64."""
    x, y, z = subpixel_position(True, panel, row, column, 0.0, sub)
    d_x, d_y, d_z, distance = walk.direction(x, y, z)
    return (
        d_x - (patch.c_x + u * patch.fast_x + w * patch.slow_x),
        d_y - (patch.c_y + u * patch.fast_y + w * patch.slow_y),
        d_z - (patch.c_z + u * patch.fast_z + w * patch.slow_z),
        1.0 / distance,
    )


@device_function
def direction_of_pixel(pixel, patch):
    """Unit vector to a pixel in float32."""
    p, u, w = patch, pixel.u, pixel.w
    d_x = u * np.float32(p.fast_x) + w * np.float32(p.slow_x) + pixel.x
    d_y = u * np.float32(p.fast_y) + w * np.float32(p.slow_y) + pixel.y
    d_z = u * np.float32(p.fast_z) + w * np.float32(p.slow_z) + pixel.z
    return np.float32(p.c_x) + d_x, np.float32(p.c_y) + d_y, np.float32(p.c_z) + d_z


# --- once a pixel and step, float32 ---------------------------------------------------------------


@device_function
def pixel_phase(axis, pixel):
    """Coarse (exact) and fine part of a pixel's phase."""
    a, p = axis, pixel
    coarse = a.coarse + p.u * a.fast + p.w * a.slow
    fine = a.fine + p.u * a.fast_rest + p.w * a.slow_rest + a.a_x * p.x + a.a_y * p.y + a.a_z * p.z
    return coarse, fine


@device_function
def ratio_squared(t_h, t_k, t_l, d_h, d_k, d_l):
    """Product of the three gratings' squares (eq. 13); infinite or NaN exactly at a peak.

    physics.square_ratio_single without its test for tiny denominators: where float32 drops subnormal numbers,
    a product that would be too inexact is 0.
    """
    top = physics.sin_pi_single(t_h) * physics.sin_pi_single(t_k) * physics.sin_pi_single(t_l)
    bottom = physics.sin_pi_single(d_h) * physics.sin_pi_single(d_k) * physics.sin_pi_single(d_l)
    ratio = top / bottom
    return ratio * ratio


@device_function
def change_of_place(h_near, k_near, l_near, h_size, k_size):
    """Bits of a float32 that hold the pixel's place in the table less the centre's."""
    return np.float32(h_near * h_size + (k_near * k_size + (l_near + _TO_WHOLE))).view(np.int32)


@device_function
def place_of_pixel(place, h_near, k_near, l_near, h_size, k_size):
    """Index of a pixel's structure factor in the padded, flat table; ``place`` is from place_bits."""
    return np.uint32(np.float32(place).view(np.int32) + change_of_place(h_near, k_near, l_near, h_size, k_size))


@device_function
def farthest_of(farthest, d_h, d_k, d_l):
    """Largest distance from a whole index so far."""
    return max(max(farthest, abs(d_h)), max(abs(d_k), abs(d_l)))


@device_function
def squared_radius(single, d_h, d_k, d_l):
    """physics.quadratic_form_single in the kernel's own metric (eq. 14)."""
    metric = (
        single.metric_hh,
        single.metric_kk,
        single.metric_ll,
        single.metric_hk,
        single.metric_hl,
        single.metric_kl,
    )
    return physics.quadratic_form_single(metric, d_h, d_k, d_l)


# --- factors of a pixel ---------------------------------------------------------------------------


@device_function
def capture_of_pixel(panel, flat, layer, upright, d_x, d_y, d_z):
    """Fraction of the photons that a sensor layer absorbs (eq. 6), from a float32 direction."""
    parallax = d_x * flat.normal_x + d_y * flat.normal_y + d_z * flat.normal_z
    if panel.curved and upright:
        parallax = _ONE
    if flat.layer_depth >= _THIN_LAYER:
        return physics.capture_single(np.float32(layer), flat.layer_depth, parallax)
    return np.float32(physics.capture_fraction(layer, panel.layer_step, panel.attenuation, np.float64(parallax)))


@device_function
def polarization_of_pixel(single, i_x, i_y, i_z, d_x, d_y, d_z):
    """Polarization factor in float32 (eq. 8)."""
    return physics.polarization_factor(
        single.kahn,
        np.float32(i_x),
        np.float32(i_y),
        np.float32(i_z),
        d_x,
        d_y,
        d_z,
        single.polar_x,
        single.polar_y,
        single.polar_z,
    )


@device_function
def solid_angle_of_pixel(panel, flat, near, nearness):
    """Solid angle of a pixel in float32 (eq. 5); ``near`` is the distance of the layer's plane."""
    if panel.point_pixel:
        return nearness * nearness
    return (flat.pitch_fast * nearness) * (flat.height * nearness) * np.float32(near) * nearness


@device_function
def keep_of_pixel(curved, panel, i_x, i_y, i_z, wavelength, row, column, sub):
    """1, or 0 beyond dmin (eq. 7), in float64, rounded as the float64 kernel rounds it."""
    if panel.dmin <= 0.0:
        return 1.0
    x, y, z = subpixel_position(curved, panel, row, column, 0.0, sub)
    d_x, d_y, d_z, _ = walk.direction(x, y, z)
    q_x, q_y, q_z = physics.scattering_vector(d_x, d_y, d_z, i_x, i_y, i_z, wavelength)
    return walk.keep_within_dmin(panel, q_x, q_y, q_z)
