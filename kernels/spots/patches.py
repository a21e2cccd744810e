"""Spots of square and round crystals, whose fringes never end: patches of a few pixels that may exceed the cutoff.

A patch's centre is placed in float64, and its pixels by what their directions differ from it: a small number with
24 bits of its own (docs/physics.md, eq. 40). No index is rounded and no table asked: the reflection is known.
"""

import math

import numpy as np
from bragg_numba.kernels import physics
from bragg_numba.kernels._jit import device_function, fused_kernel
from bragg_numba.kernels.parameters import SQUARE
from bragg_numba.kernels.spots import terms
from bragg_numba.kernels.spots.boxes import note_touched
from bragg_numba.kernels.spots.ellipse import PER_PIXEL, length, less, times_nine, turn_exactly
from bragg_numba.kernels.spots.rows import (
    ACROSS,
    AREA,
    AT_X,
    AT_Y,
    AT_Z,
    BOTTOM,
    DIRTY,
    DOWN,
    FROM_X,
    FROM_Y,
    FROM_Z,
    LEFT,
    LIMIT,
    NEARNESS,
    OFF_X,
    OFF_Y,
    OFF_Z,
    PATCH_SUM,
    PATCHES,
    RIGHT,
    SCALE_H,
    SCALE_K,
    SCALE_L,
    SIDE,
    SPOT_SUM,
    TO_EDGE,
    TO_X,
    TO_Y,
    TO_Z,
    TOP,
    WIDTH,
    H,
    K,
    L,
)


@device_function
def index_of_middle(patch):
    """Place among a block's pixels of the first of the four in the middle of a patch."""
    return (patch // ACROSS * SIDE + 1) * WIDTH + patch % ACROSS * SIDE + 1


@device_function
def centre_of_patch(patch, row, places):
    """Mean direction of the four pixels in the middle of a patch, one component, less that of the block's middle."""
    at = row + index_of_middle(patch)
    return 0.25 * ((places[at] + places[at + 1]) + (places[at + WIDTH] + places[at + WIDTH + 1]))


@fused_kernel
def offset_pixels_of_patches(values, places):
    """Fill FROM with the patches' directions and OFF with the pixels' less these, from those of the block's pixels."""
    for patch in range(PATCHES):
        x, y, z = (
            centre_of_patch(patch, TO_X, places),
            centre_of_patch(patch, TO_Y, places),
            centre_of_patch(patch, TO_Z, places),
        )
        places[FROM_X + patch], places[FROM_Y + patch], places[FROM_Z + patch] = x, y, z
        first = np.uint64(patch // ACROSS * SIDE * WIDTH + patch % ACROSS * SIDE)
        start = np.uint64(patch * AREA)
        for row in range(SIDE):
            for column in range(SIDE):
                of = first + np.uint64(row * WIDTH + column)
                at = start + np.uint64(row * SIDE + column)
                values[np.uint64(OFF_X) + at] = places[np.uint64(TO_X) + of] - x
                values[np.uint64(OFF_Y) + at] = places[np.uint64(TO_Y) + of] - y
                values[np.uint64(OFF_Z) + at] = places[np.uint64(TO_Z) + of] - z


@fused_kernel
def place_patches(vectors, origin, patch_row, left, right, places):
    """Fill AT with the indices at the patches of a row, less the reflection's: those at the block's middle and on."""
    xx, xy, xz, yx, yy, yz, zx, zy, zz = vectors
    for column in range(left, right):
        to = np.uint64(column)
        patch = np.uint64(patch_row * ACROSS) + to
        x, y, z = places[np.uint64(FROM_X) + patch], places[np.uint64(FROM_Y) + patch], places[np.uint64(FROM_Z) + patch]
        places[np.uint64(AT_X) + to] = origin[0] + (xx * x + xy * y + xz * z)
        places[np.uint64(AT_Y) + to] = origin[1] + (yx * x + yy * y + yz * z)
        places[np.uint64(AT_Z) + to] = origin[2] + (zx * x + zy * y + zz * z)


@device_function
def denominator(n, h, reach):
    """What (n sin(pi h))^2 is nowhere below within ``reach`` of h, or 1 (eq. 37)."""
    # sin(pi e) >= e (3 - 4 e^2) for 0 <= e <= 1/2.
    e = min(max(abs(h) - reach, 0.0), 0.5)
    bound = n * e * (3.0 - 4.0 * e * e)
    return max(bound * bound, 1.0)


@fused_kernel
def measure_gratings(counts, reaches, left, right, places):
    """Fill NEARNESS with what the product of the gratings' squared denominators is nowhere below in a patch."""
    for column in range(left, right):
        at = np.uint64(column)
        product = denominator(counts[0], places[np.uint64(AT_X) + at], reaches[0])
        product *= denominator(counts[1], places[np.uint64(AT_Y) + at], reaches[1])
        places[np.uint64(NEARNESS) + at] = product * denominator(counts[2], places[np.uint64(AT_Z) + at], reaches[2])


@device_function
def narrow_row(limits, at, per_patch, most):
    """Where, between two limits in pixels, an index is at most ``most`` in size; ``at`` at 0, growing by ``per_patch``."""
    low, high = limits
    per = SIDE / per_patch if per_patch != 0.0 else math.inf
    one, other = (-most - at) * per, (most - at) * per
    return max(low, min(one, other)), min(high, max(one, other))


@device_function
def reaches_over_patch(waves, far, along_fast, along_slow):
    """How far the indices at a patch's pixels may lie from those at its centre."""
    per = (1.0 + 2.5 * far) * TO_EDGE * waves
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

    ``slopes``: indices at the block's middle, and their change per pixel along fast and slow, over the wave number,
    and the angle to its corner.
    """
    values, places, flags = scratch.values, scratch.places, scratch.flags
    to_middle, along_fast, along_slow, far = slopes
    edges, pitch = (length(step[0][0:3]), length(step[0][3:6]), length(step[0][6:9])), far * PER_PIXEL
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
    counts, reaches = (lattice.n_a, lattice.n_b, lattice.n_c), reaches_over_patch(waves, far, along_fast, along_slow)
    touched = False
    # No pixel counts where an index is further off than its own limit.
    h_most, k_most, l_most = (
        reaches[0] + 1.0 / (math.sqrt(3.0) * spot[SCALE_H]),
        reaches[1] + 1.0 / (math.sqrt(3.0) * spot[SCALE_K]),
        reaches[2] + 1.0 / (math.sqrt(3.0) * spot[SCALE_L]),
    )
    for patch_row in range(top, bottom):
        down = SIDE * patch_row + TO_EDGE - slow
        half = math.sqrt(max(half_row * half_row - narrowing * down * down, 0.0))
        middle = fast - lean * down
        low, high = middle - half, middle + half
        if shape == SQUARE:
            near = min(max(int(middle * (1.0 / SIDE)), 0), ACROSS - 2)
            patch = patch_row * ACROSS + near
            way = (places[FROM_X + patch], places[FROM_Y + patch], places[FROM_Z + patch])
            next_way = (places[FROM_X + patch + 1], places[FROM_Y + patch + 1], places[FROM_Z + patch + 1])
            at, slope = turn_exactly(over, way), turn_exactly(over, less(next_way, way))
            start = SIDE * near + TO_EDGE
            # What bends away from a line along the row, as a part of the edges over the wavelength.
            angle = pitch * max(abs(low - start), abs(high - start))
            bend = waves * angle * angle
            wide = (low - start, high - start)
            wide = narrow_row(wide, origin[0] + at[0], slope[0], h_most + bend * edges[0])
            wide = narrow_row(wide, origin[1] + at[1], slope[1], k_most + bend * edges[1])
            wide = narrow_row(wide, origin[2] + at[2], slope[2], l_most + bend * edges[2])
            low, high = start + wide[0], start + wide[1]
        left, right = patches_between(low, high, ACROSS)
        if left >= right:
            continue
        place_patches(over, origin, patch_row, left, right, places)
        if shape == SQUARE:
            measure_gratings(counts, reaches, left, right, places)
        for column in range(left, right):
            if shape == SQUARE and places[NEARNESS + column] > spot[LIMIT]:
                continue
            touched = True
            patch = patch_row * ACROSS + column
            flags[DIRTY + patch] = 1
            at = (places[AT_X + column], places[AT_Y + column], places[AT_Z + column])
            add_patch(shape, single, patch, at, share, vectors, step, panel, lattice, phases, spot, place, values)
        note_touched(SIDE * patch_row, SIDE * patch_row + SIDE, SIDE * left, SIDE * right, flags)
    return touched


@fused_kernel
def gather_patches(values, places, flags):
    """Move the patches' sums of one spot to those of the block's pixels."""
    for patch_row in range(flags[TOP] // SIDE, -(-flags[BOTTOM] // SIDE)):
        for patch_column in range(flags[LEFT] // SIDE, -(-flags[RIGHT] // SIDE)):
            patch = patch_row * ACROSS + patch_column
            if flags[DIRTY + patch] == 0:
                continue
            flags[DIRTY + patch] = 0
            first, start = patch_row * SIDE * WIDTH + patch_column * SIDE, PATCH_SUM + patch * AREA
            for row in range(SIDE):
                for column in range(SIDE):
                    places[SPOT_SUM + first + row * WIDTH + column] += values[start + row * SIDE + column]
                    values[start + row * SIDE + column] = 0.0


@fused_kernel
def clear_patches(values, flags):
    """Empty the patches' sums."""
    for pixel in range(PATCHES * AREA):
        values[PATCH_SUM + pixel] = 0.0
    for patch in range(PATCHES):
        flags[DIRTY + patch] = 0
