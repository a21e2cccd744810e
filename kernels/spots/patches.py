"""Spots of square and round crystals, whose fringes never end: patches of a few pixels that may exceed the cutoff.

A patch's centre is placed in float64, and its pixels by what their directions differ from it: a small number with
24 bits of its own (docs/physics.md, eq. 40). No index is rounded and no table asked: the reflection is known.
"""

import math

import numpy as np
from bragg_numba.kernels import physics
from bragg_numba.kernels._jit import fused_kernel, shared_function
from bragg_numba.kernels.parameters import SQUARE
from bragg_numba.kernels.spots import terms
from bragg_numba.kernels.spots.boxes import note_touched
from bragg_numba.kernels.spots.ellipse import PER_PIXEL, TO_BOTTOM, TO_RIGHT, length, less, times_nine, turn_exactly
from bragg_numba.kernels.spots.rows import (
    ACROSS,
    AREA,
    BOTTOM,
    DIRTY,
    FROM_X,
    FROM_Y,
    FROM_Z,
    LEFT,
    LIMIT,
    NEARNESS,
    NODE,
    NODE_X,
    NODE_Y,
    NODE_Z,
    NODES,
    NODES_ACROSS,
    NODES_DOWN,
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
    TO_NODE_EDGE,
    TO_X,
    TO_Y,
    TO_Z,
    TOP,
    WIDTH,
    H,
    K,
    L,
)


@shared_function
def index_of_middle(patch):
    """Place among a block's pixels of the first of the four in the middle of a patch."""
    return (patch // ACROSS * SIDE + 1) * WIDTH + patch % ACROSS * SIDE + 1


@shared_function
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
    for node in range(NODES):
        patch = node // NODES_ACROSS * (2 * ACROSS) + node % NODES_ACROSS * 2
        places[NODE_X + node] = centre_of_node(patch, FROM_X, places)
        places[NODE_Y + node] = centre_of_node(patch, FROM_Y, places)
        places[NODE_Z + node] = centre_of_node(patch, FROM_Z, places)


@shared_function
def centre_of_node(patch, row, places):
    """Mean of a component of the directions of four patches, of which the first is ``patch``."""
    at = row + patch
    return 0.25 * ((places[at] + places[at + 1]) + (places[at + ACROSS] + places[at + ACROSS + 1]))


@shared_function
def denominator(n, h, reach):
    """What (n sin(pi h))^2 is nowhere below within ``reach`` of h, or 1 (eq. 37)."""
    # sin(pi e) >= e (3 - 4 e^2) for 0 <= e <= 1/2.
    e = min(max(abs(h) - reach, 0.0), 0.5)
    bound = n * e * (3.0 - 4.0 * e * e)
    return max(bound * bound, 1.0)


@shared_function
def product_of_gratings(counts, at, reaches):
    """What the product of the gratings' squared denominators is nowhere below within ``reaches`` of indices ``at``."""
    product = denominator(counts[0], at[0], reaches[0]) * denominator(counts[1], at[1], reaches[1])
    return product * denominator(counts[2], at[2], reaches[2])


@fused_kernel
def measure_nodes(vectors, origin, counts, reaches, node_row, left, right, places):
    """Fill NEARNESS with product_of_gratings of the nodes of a row; ``origin``: indices at the block's middle."""
    xx, xy, xz, yx, yy, yz, zx, zy, zz = vectors
    for column in range(left, right):
        to = np.uint64(column)
        node = np.uint64(node_row * NODES_ACROSS) + to
        x, y, z = places[np.uint64(NODE_X) + node], places[np.uint64(NODE_Y) + node], places[np.uint64(NODE_Z) + node]
        h = origin[0] + (xx * x + xy * y + xz * z)
        k = origin[1] + (yx * x + yy * y + yz * z)
        l = origin[2] + (zx * x + zy * y + zz * z)  # noqa: E741
        places[np.uint64(NEARNESS) + to] = product_of_gratings(counts, (h, k, l), reaches)


@shared_function
def narrow_row(limits, at, per_node, most):
    """Where, between two limits in pixels, an index (``at`` at 0, growing by ``per_node``) is at most ``most``."""
    low, high = limits
    per = NODE / per_node if per_node != 0.0 else math.inf
    one, other = (-most - at) * per, (most - at) * per
    return max(low, min(one, other)), min(high, max(one, other))


@shared_function
def reaches_over(to_edge, waves, far, along_fast, along_slow):
    """How far the indices at pixels may lie from those at the centre of their patch or node."""
    per = (1.0 + 2.5 * far) * to_edge * waves
    return (
        per * (abs(along_fast[0]) + abs(along_slow[0])),
        per * (abs(along_fast[1]) + abs(along_slow[1])),
        per * (abs(along_fast[2]) + abs(along_slow[2])),
    )


@shared_function
def nodes_between(low, high, count):
    """First node whose centre lies between two places in pixels, and the one after the last; of ``count``."""
    first = math.ceil((low - TO_NODE_EDGE) * (1.0 / NODE))
    last = math.floor((high - TO_NODE_EDGE) * (1.0 / NODE))
    return int(min(max(first, 0.0), float(count))), int(max(min(last + 1.0, float(count)), 0.0))


@shared_function
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


@shared_function
def as_values(values, v):
    """A tuple of nine numbers in the type of the patches' values."""
    real = type(values[PATCH_SUM])
    return real(v[0]), real(v[1]), real(v[2]), real(v[3]), real(v[4]), real(v[5]), real(v[6]), real(v[7]), real(v[8])


@shared_function
def add_patch(shape, single, patch, at, share, vectors, step, panel, lattice, phases, spot, place, values):
    """Add the terms of one patch (eq. 40) whose centre has the indices ``at``, less the reflection's.

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


@shared_function
def add_node(shape, single, node_row, node_column, step_of_patches, spot, place, panel, lattice, phases, scratch):
    """Add a step's terms to those patches of a node that count; return whether any does.

    ``step_of_patches``: the vectors over the wavelength, in float64 and in the type of the values; the indices at the
    block's middle less the reflection's; how far those of a patch's pixels lie from its centre's; share; step.
    """
    over, vectors, origin, reaches, share, step = step_of_patches
    values, places, flags = scratch.values, scratch.places, scratch.flags
    counts, touched = (lattice.n_a, lattice.n_b, lattice.n_c), False
    for quarter in range(4):
        patch = (2 * node_row + quarter // 2) * ACROSS + 2 * node_column + quarter % 2
        at = turn_exactly(over, (places[FROM_X + patch], places[FROM_Y + patch], places[FROM_Z + patch]))
        at = (origin[0] + at[0], origin[1] + at[1], origin[2] + at[2])
        if shape == SQUARE and product_of_gratings(counts, at, reaches) > spot[LIMIT]:
            continue
        touched = True
        flags[DIRTY + patch] = 1
        add_patch(shape, single, patch, at, share, vectors, step, panel, lattice, phases, spot, place, values)
    return touched


@shared_function
def limits_of_row(low, high, node_row, fast, over, origin, most, edges, waves, pitch, places):
    """Narrow a row of nodes to where every index is within its own limit, ``most``.

    ``low``, ``high``: limits in pixels, around ``fast``; ``edges``: lengths of the cell's; ``pitch``: of a pixel.
    """
    near = min(max(int(fast * (1.0 / NODE)), 0), NODES_ACROSS - 2)
    node = node_row * NODES_ACROSS + near
    way = (places[NODE_X + node], places[NODE_Y + node], places[NODE_Z + node])
    next_way = (places[NODE_X + node + 1], places[NODE_Y + node + 1], places[NODE_Z + node + 1])
    at, slope = turn_exactly(over, way), turn_exactly(over, less(next_way, way))
    start = NODE * near + TO_NODE_EDGE
    # What bends away from a line along the row, as a part of the edges over the wavelength.
    angle = pitch * max(abs(low - start), abs(high - start))
    bend = waves * angle * angle
    wide = (low - start, high - start)
    wide = narrow_row(wide, origin[0] + at[0], slope[0], most[0] + bend * edges[0])
    wide = narrow_row(wide, origin[1] + at[1], slope[1], most[1] + bend * edges[1])
    wide = narrow_row(wide, origin[2] + at[2], slope[2], most[2] + bend * edges[2])
    return start + wide[0], start + wide[1]


@shared_function
def index_misses(at, per_fast, per_slow, bend, most):
    """Whether an index, ``at`` a block's middle, is beyond its own limit on all of it; ``bend``: what is not linear."""
    reach = TO_RIGHT * abs(per_fast) + TO_BOTTOM * abs(per_slow) + bend
    return abs(at) - reach > most


@shared_function
def misses_block(shape, spot, slopes, cell, waves):
    """Whether one of the indices is beyond its own limit everywhere on a block; ``slopes``: add_patches."""
    at, along_fast, along_slow, far = slopes
    bend = waves * 2.0 * far * far
    # What counts is a box, which the ellipsoid of the scales goes around; or that ellipsoid.
    most = 1.0 / math.sqrt(3.0) if shape == SQUARE else 1.0
    h = index_misses(
        waves * at[0] - spot[H],
        waves * along_fast[0],
        waves * along_slow[0],
        bend * length(cell[0:3]),
        most / spot[SCALE_H],
    )
    k = index_misses(
        waves * at[1] - spot[K],
        waves * along_fast[1],
        waves * along_slow[1],
        bend * length(cell[3:6]),
        most / spot[SCALE_K],
    )
    l = index_misses(  # noqa: E741
        waves * at[2] - spot[L],
        waves * along_fast[2],
        waves * along_slow[2],
        bend * length(cell[6:9]),
        most / spot[SCALE_L],
    )
    return h or k or l


@shared_function
def add_patches(shape, single, ellipse, waves, slopes, share, step, spot, place, panel, lattice, phases, scratch):
    """Add a step's terms to the patches of an ellipse; return whether any counts.

    ``slopes``: indices at the block's middle, and their change per pixel along fast and slow, over the wave number,
    and the angle to its corner.
    """
    values, places, flags = scratch.values, scratch.places, scratch.flags
    to_middle, along_fast, along_slow, far = slopes
    edges, pitch = (length(step[0][0:3]), length(step[0][3:6]), length(step[0][6:9])), far * PER_PIXEL
    _, fast, slow, half_fast, half_slow, half_row, lean, narrowing = ellipse
    top, bottom = nodes_between(slow - half_slow, slow + half_slow, NODES_DOWN)
    nudge = physics.NUDGE if single is not None and shape == SQUARE else 0.0
    origin = (
        waves * to_middle[0] - spot[H] + nudge,
        waves * to_middle[1] - spot[K] + nudge,
        waves * to_middle[2] - spot[L] + nudge,
    )
    over, counts = times_nine(waves, step[0]), (lattice.n_a, lattice.n_b, lattice.n_c)
    of_patch = reaches_over(TO_EDGE, waves, far, along_fast, along_slow)
    of_node = reaches_over(TO_NODE_EDGE, waves, far, along_fast, along_slow)
    step_of_patches = (over, as_values(values, over), origin, of_patch, share, step)
    most = (
        of_node[0] + 1.0 / (math.sqrt(3.0) * spot[SCALE_H]),
        of_node[1] + 1.0 / (math.sqrt(3.0) * spot[SCALE_K]),
        of_node[2] + 1.0 / (math.sqrt(3.0) * spot[SCALE_L]),
    )
    touched = False
    for node_row in range(top, bottom):
        down = NODE * node_row + TO_NODE_EDGE - slow
        half = math.sqrt(max(half_row * half_row - narrowing * down * down, 0.0))
        middle = fast - lean * down
        low, high = middle - half, middle + half
        if shape == SQUARE:
            low, high = limits_of_row(low, high, node_row, middle, over, origin, most, edges, waves, pitch, places)
        left, right = nodes_between(low, high, NODES_ACROSS)
        if left >= right:
            continue
        if shape == SQUARE:
            measure_nodes(over, origin, counts, of_node, node_row, left, right, places)
        for column in range(left, right):
            if shape == SQUARE and places[NEARNESS + column] > spot[LIMIT]:
                continue
            if add_node(shape, single, node_row, column, step_of_patches, spot, place, panel, lattice, phases, scratch):
                touched = True
                note_touched(NODE * node_row, NODE * node_row + NODE, NODE * column, NODE * column + NODE, flags)
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
