"""Spots of square and round crystals, whose fringes never end: patches of a few pixels that may exceed the cutoff.

A patch's centre is placed in float64, and its pixels by what their directions differ from it: a small number with
24 bits of its own (docs/physics.md, eq. 40). No index is rounded and no table asked: the reflection is known.
"""

import math

import numpy as np
from bragg_numba.kernels import physics
from bragg_numba.kernels._jit import device_function, fused_kernel
from bragg_numba.kernels.parameters import SQUARE
from bragg_numba.kernels.pixels.rows import COLUMNS, GROUPS, LANES, TOTAL, WEIGHT
from bragg_numba.kernels.spots import terms
from bragg_numba.kernels.spots.ellipse import SLACK, times_nine
from bragg_numba.kernels.spots.rows import (
    ACROSS,
    AREA,
    AT_X,
    AT_Y,
    AT_Z,
    DOWN,
    FOUND_FAST,
    FOUND_PHOTONS,
    FOUND_SLOW,
    FROM_X,
    FROM_Y,
    FROM_Z,
    LIGHT,
    LIMIT,
    NEARNESS,
    OFF_X,
    OFF_Y,
    OFF_Z,
    PATCH_SUM,
    PATCHES,
    SIDE,
    TO_EDGE,
    H,
    K,
    L,
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


@device_function
def reaches_over_patch(waves, along_fast, along_slow):
    """How far the indices at a patch's pixels may lie from those at its centre."""
    per = SLACK * TO_EDGE * waves
    return (
        per * (abs(along_fast[0]) + abs(along_slow[0])),
        per * (abs(along_fast[1]) + abs(along_slow[1])),
        per * (abs(along_fast[2]) + abs(along_slow[2])),
    )


@device_function
def patches_between(low, high, count):
    """First patch whose centre lies between two places in pixels, and the one after the last; of ``count``."""
    first = math.ceil((low - TO_EDGE) * (1.0 / SIDE))
    last = math.floor((high - TO_EDGE) * (1.0 / SIDE))
    return int(min(max(first, 0.0), float(count))), int(max(min(last + 1.0, float(count)), 0.0))


@device_function
def phases_of_patch(at, counts):
    """Parts of the indices at a patch's centre (eq. 32): whole, coarse, fine, and turns of the coarse part."""
    h_whole, h_coarse, h_fine = physics.split_phase(at[0])
    k_whole, k_coarse, k_fine = physics.split_phase(at[1])
    l_whole, l_coarse, l_fine = physics.split_phase(at[2])
    single = np.float32
    return (
        single(h_whole),
        single(k_whole),
        single(l_whole),
        single(h_coarse),
        single(k_coarse),
        single(l_coarse),
        single(h_fine),
        single(k_fine),
        single(l_fine),
        physics.fraction_single(counts[0] * single(h_coarse)),
        physics.fraction_single(counts[1] * single(k_coarse)),
        physics.fraction_single(counts[2] * single(l_coarse)),
    )


@device_function
def as_values(values, v):
    """A tuple of nine numbers in the type of the patches' values."""
    real = type(values[PATCH_SUM])
    return real(v[0]), real(v[1]), real(v[2]), real(v[3]), real(v[4]), real(v[5]), real(v[6]), real(v[7]), real(v[8])


@device_function
def add_patch(shape, single, patch, at, share, vectors, step, panel, lattice, phases, spot, place, values):
    """Add the terms of one patch whose centre has the indices ``at``, less the reflection's.

    ``vectors``: what turns a change of direction into one of the indices; ``step``: exact.exact_factor.
    """
    real = type(values[PATCH_SUM])
    scale = 1.0
    if single is None:
        terms.exact_terms(shape, patch, vectors, at, lattice, values)
    elif shape == SQUARE:
        scale = (lattice.n_a * lattice.n_b * lattice.n_c) ** 2  # float32 terms are not normalised
        counts, same_counts = (phases.n_a, phases.n_b, phases.n_c), (phases.same_a, phases.same_b, phases.same_c)
        terms.square_terms(patch, vectors, phases_of_patch(at, counts), counts, same_counts, values)
    else:
        counts = (phases.n_a, phases.n_b, phases.n_c)
        terms.round_terms(patch, vectors, phases_of_patch(at, counts), counts, values)
    if terms.has_doubts(values):
        terms.settle_terms(scale, step, panel, lattice, place, patch, spot, values)
    terms.add_terms(patch, real(share), values)


@device_function
def add_patches(shape, single, ellipse, waves, slopes, share, step, spot, place, panel, lattice, phases, scratch):
    """Add a step's terms to the patches of an ellipse; return whether it holds any.

    ``slopes``: indices at the tile's middle, and their change per pixel along fast and slow, over the wave number.
    """
    values, places, dirty = scratch.values, scratch.places, scratch.dirty
    to_middle, along_fast, along_slow = slopes
    _, fast, slow, half_fast, half_slow, half_row, lean, narrowing = ellipse
    top, bottom = patches_between(slow - half_slow, slow + half_slow, DOWN)
    nudge = physics.NUDGE if single is not None and shape == SQUARE else 0.0
    origin = (
        waves * to_middle[0] - spot[H] + nudge,
        waves * to_middle[1] - spot[K] + nudge,
        waves * to_middle[2] - spot[L] + nudge,
    )
    over = times_nine(waves, step[0])
    vectors = as_values(values, over)
    touched = False
    for patch_row in range(top, bottom):
        down = SIDE * patch_row + TO_EDGE - slow
        half = math.sqrt(max(half_row * half_row - narrowing * down * down, 0.0))
        middle = fast - lean * down
        left, right = patches_between(middle - half, middle + half, ACROSS)
        if left >= right:
            continue
        touched = True
        place_patches(over, origin, patch_row, places)
        if shape == SQUARE:
            reaches = reaches_over_patch(waves, along_fast, along_slow)
            measure_gratings((lattice.n_a, lattice.n_b, lattice.n_c), reaches, places)
        for column in range(left, right):
            if shape == SQUARE and places[NEARNESS + column] > spot[LIMIT]:
                continue
            patch = patch_row * ACROSS + column
            dirty[patch] = 1
            at = (places[AT_X + column], places[AT_Y + column], places[AT_Z + column])
            add_patch(shape, single, patch, at, share, vectors, step, panel, lattice, phases, spot, place, values)
    return touched


@fused_kernel
def gather_patches(gain, weighted, size, place, patches, scratch, found):
    """Move the patches' sums of one reflection, times ``gain`` and WEIGHT, to the float64 total.

    ``found`` gets the photons on the panel, ``size`` rows and columns from the tile's first, but for the scale of
    the rules, and their moments along slow and fast in pixels of the panel.
    """
    values, dirty, work, exact = patches.values, patches.dirty, scratch.work, scratch.exact
    photons, along_slow, along_fast = 0.0, 0.0, 0.0
    for patch in range(PATCHES):
        if dirty[patch] == 0:
            continue
        dirty[patch] = 0
        top, left = patch // ACROSS * SIDE, patch % ACROSS * SIDE
        for pixel in range(AREA):
            row, column = top + pixel // SIDE, left + pixel % SIDE
            at = (row % LANES) * GROUPS + (row // LANES) * COLUMNS + column
            value = gain * np.float64(values[PATCH_SUM + patch * AREA + pixel])
            values[PATCH_SUM + patch * AREA + pixel] = 0.0
            if weighted:
                value *= np.float64(work[WEIGHT + at])
            exact[TOTAL + at] += value
            if row < size[0] and column < size[1]:
                value *= np.float64(work[LIGHT + at])
                photons += value
                along_slow += value * (row + 0.5)
                along_fast += value * (column + 0.5)
    found[FOUND_PHOTONS] += photons
    found[FOUND_SLOW] += along_slow + photons * place[0]
    found[FOUND_FAST] += along_fast + photons * place[1]


@fused_kernel
def clear_patches(values, dirty):
    """Empty the patches' sums."""
    for pixel in range(PATCHES * AREA):
        values[PATCH_SUM + pixel] = 0.0
    for patch in range(PATCHES):
        dirty[patch] = 0
