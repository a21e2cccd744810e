"""Patches of a few pixels: where they lie, and how near to a reflection.

A patch's centre is placed in float64, and its pixels by what their directions differ from it: a small number with
24 bits of its own (docs/physics.md, eq. 38). No index is rounded and no table asked: the reflection is known.
"""

import math

import numpy as np
from bragg_numba.kernels import physics
from bragg_numba.kernels._jit import device_function, fused_kernel
from bragg_numba.kernels.spots.rows import (
    ACROSS,
    AREA,
    AT_X,
    AT_Y,
    AT_Z,
    FROM_X,
    FROM_Y,
    FROM_Z,
    NEARNESS,
    OFF_X,
    OFF_Y,
    OFF_Z,
    PATCHES,
    SIDE,
    TO_EDGE,
)


@device_function
def direction_of(panel, fast, slow, depth):
    """Unit vector to a point of a flat panel."""
    x, y, z = physics.flat_position(panel, fast, slow, depth)
    nearness = 1.0 / math.sqrt(x * x + y * y + z * z)
    return x * nearness, y * nearness, z * nearness


@fused_kernel
def aim_at_patches(panel, place, middle, values, places):
    """Fill FROM with the patches' directions less the tile's, ``middle``, and OFF with the pixels' less the patches'."""
    g = panel
    row, column, sub_slow, sub_fast, depth = place
    half = 0.5 * g.subpixel_size
    first = g.pixel_size * column + (g.subpixel_size * sub_fast + half)
    top = g.pixel_size * row + (g.subpixel_size * sub_slow + half)
    to_centre = g.pixel_size * TO_EDGE
    for patch in range(PATCHES):
        fast = first + g.pixel_size * (patch % ACROSS * SIDE)
        slow = top + g.pixel_size * (patch // ACROSS * SIDE)
        c_x, c_y, c_z = direction_of(panel, fast + to_centre, slow + to_centre, depth)
        places[FROM_X + patch] = c_x - middle[0]
        places[FROM_Y + patch] = c_y - middle[1]
        places[FROM_Z + patch] = c_z - middle[2]
        start = np.uint64(patch * AREA)
        for pixel in range(AREA):
            across = fast + g.pixel_size * np.float64(np.int32(pixel % SIDE))
            down = slow + g.pixel_size * np.float64(np.int32(pixel // SIDE))
            d_x, d_y, d_z = direction_of(panel, across, down, depth)
            at = start + np.uint64(pixel)
            values[np.uint64(OFF_X) + at] = d_x - c_x
            values[np.uint64(OFF_Y) + at] = d_y - c_y
            values[np.uint64(OFF_Z) + at] = d_z - c_z


@fused_kernel
def place_patches(vectors, origin, patch_row, places):
    """Fill AT with the coordinates of a row of patches: those of the tile's middle, and what lies between."""
    xx, xy, xz, yx, yy, yz, zx, zy, zz = vectors
    first = np.uint64(patch_row * ACROSS)
    for column in range(ACROSS):
        at = first + np.uint64(column)
        x = places[np.uint64(FROM_X) + at]
        y = places[np.uint64(FROM_Y) + at]
        z = places[np.uint64(FROM_Z) + at]
        places[AT_X + column] = origin[0] + (xx * x + xy * y + xz * z)
        places[AT_Y + column] = origin[1] + (yx * x + yy * y + yz * z)
        places[AT_Z + column] = origin[2] + (zx * x + zy * y + zz * z)


@fused_kernel
def measure_radii(counts, reach, places):
    """Fill NEARNESS with a squared radius that no pixel of a patch is nearer than; coordinates times ``counts``."""
    for column in range(ACROSS):
        x = counts[0] * places[AT_X + column]
        y = counts[1] * places[AT_Y + column]
        z = counts[2] * places[AT_Z + column]
        near = max(math.sqrt(x * x + y * y + z * z) - reach, 0.0)
        places[NEARNESS + column] = near * near


@device_function
def denominator(n, h, reach):
    """What (n sin(pi h))^2 is nowhere below within ``reach`` of h, or 1 (eq. 37)."""
    # sin(pi e) >= e (3 - 4 e^2) for 0 <= e <= 1/2.
    e = min(max(abs(h) - reach, 0.0), 0.5)
    bound = n * e * (3.0 - 4.0 * e * e)
    return max(bound * bound, 1.0)


@fused_kernel
def measure_gratings(counts, reaches, places):
    """Fill NEARNESS with what the product of the gratings' squared denominators is nowhere below in a patch."""
    for column in range(ACROSS):
        product = denominator(counts[0], places[AT_X + column], reaches[0])
        product *= denominator(counts[1], places[AT_Y + column], reaches[1])
        places[NEARNESS + column] = product * denominator(counts[2], places[AT_Z + column], reaches[2])
