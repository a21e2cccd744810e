"""Slopes of one reflection in one step: the pixels of its ellipse, and what each adds to the sums of a field.

Which pixels these are is found as for its photons (spots/ellipse.py, spots/patches.py). Indices are float64 throughout,
and so are sums; the lattice factor and its slopes are float32 where that is wanted. A pixel adds to a reflection only
if that is the nearest: each pixel and step counts once.

Some arguments only say which code is wanted: ``shape`` is the crystal's; ``single`` and ``sloped``, None or YES, are
float32, and slopes beside photons.
"""

import math

import numpy as np
from bragg_numba.kernels import physics
from bragg_numba.kernels._jit import fused_kernel, shared_function
from bragg_numba.kernels.parameters import GAUSS, ROUND, SHARE_OF_CELL, SQUARE
from bragg_numba.kernels.slopes.spots_rows import (
    CELL,
    CELLS_ACROSS,
    DIRTY,
    OF_AIM,
    OF_SHAPE,
    OF_SPREAD,
    OF_STRAIN,
    OF_TERM,
    PLANE,
)
from bragg_numba.kernels.spots.boxes import SLANTED, whole_pixels
from bragg_numba.kernels.spots.ellipse import (
    PER_PIXEL,
    ellipse_at,
    length,
    less,
    nine,
    place_on_block,
    times_nine,
    turn_exactly,
)
from bragg_numba.kernels.spots.patches import (
    centre_of_node,
    centre_of_patch,
    limits_of_row,
    measure_nodes,
    misses_block,
    nodes_between,
    product_of_gratings,
    reaches_over,
)
from bragg_numba.kernels.spots.rows import (
    ACROSS,
    BLOCK_COLUMNS,
    BLOCK_ROWS,
    FROM_X,
    FROM_Y,
    FROM_Z,
    LANES,
    LIMIT,
    NEARNESS,
    NODE,
    NODE_X,
    NODE_Y,
    NODE_Z,
    NODES,
    NODES_ACROSS,
    NODES_DOWN,
    PATCHES,
    SCALE_H,
    SCALE_K,
    SCALE_L,
    SIDE,
    TO_NODE_EDGE,
    TO_X,
    TO_Y,
    TO_Z,
    WIDTH,
    H,
    K,
    L,
)


@fused_kernel
def centre_patches(planes):
    """Fill FROM and NODE with the directions of a field's patches and nodes, from those of its pixels."""
    for patch in range(PATCHES):
        planes[FROM_X + patch] = centre_of_patch(patch, TO_X, planes)
        planes[FROM_Y + patch] = centre_of_patch(patch, TO_Y, planes)
        planes[FROM_Z + patch] = centre_of_patch(patch, TO_Z, planes)
    for node in range(NODES):
        patch = node // NODES_ACROSS * (2 * ACROSS) + node % NODES_ACROSS * 2
        planes[NODE_X + node] = centre_of_node(patch, FROM_X, planes)
        planes[NODE_Y + node] = centre_of_node(patch, FROM_Y, planes)
        planes[NODE_Z + node] = centre_of_node(patch, FROM_Z, planes)


@shared_function
def mark_cells(top, bottom, left, right, flags):
    """Note that cells hold a sum: of the rows ``top`` to before ``bottom``, and of such columns."""
    for row in range(top // CELL, (bottom - 1) // CELL + 1):
        for column in range(left // CELL, min((right - 1) // CELL, CELLS_ACROSS - 1) + 1):
            flags[DIRTY + row * CELLS_ACROSS + column] = 1


# --- what a pixel adds ------------------------------------------------------------------------------------------------


@shared_function
def indices_at(pixel, cell, base, planes):
    """Indices of a pixel, from those at the middle of the field (``base``)."""
    x = planes[np.uint64(TO_X) + pixel]
    y = planes[np.uint64(TO_Y) + pixel]
    z = planes[np.uint64(TO_Z) + pixel]
    h = base[0] + (cell[0] * x + (cell[1] * y + cell[2] * z))
    k = base[1] + (cell[3] * x + (cell[4] * y + cell[5] * z))
    l = base[2] + (cell[6] * x + (cell[7] * y + cell[8] * z))  # noqa: E741
    return h, k, l


@shared_function
def nearest(h, k, l):  # noqa: E741
    """The nearest whole numbers, a half going down (eq. 10)."""
    return np.ceil(h - 0.5), np.ceil(k - 0.5), np.ceil(l - 0.5)


@shared_function
def add_slopes(pixel, indices, y, cell, spin, planes):
    """Add what a pixel's slopes ``y`` in h, k, l make of the sums that all shapes have (eq. 60)."""
    h, k, l = indices  # noqa: E741
    y_h, y_k, y_l = y
    planes[np.uint64(OF_STRAIN) + pixel] += y_h * h
    planes[np.uint64(OF_STRAIN + PLANE) + pixel] += y_h * k
    planes[np.uint64(OF_STRAIN + 2 * PLANE) + pixel] += y_h * l
    planes[np.uint64(OF_STRAIN + 3 * PLANE) + pixel] += y_k * h
    planes[np.uint64(OF_STRAIN + 4 * PLANE) + pixel] += y_k * k
    planes[np.uint64(OF_STRAIN + 5 * PLANE) + pixel] += y_k * l
    planes[np.uint64(OF_STRAIN + 6 * PLANE) + pixel] += y_l * h
    planes[np.uint64(OF_STRAIN + 7 * PLANE) + pixel] += y_l * k
    planes[np.uint64(OF_STRAIN + 8 * PLANE) + pixel] += y_l * l
    planes[np.uint64(OF_AIM) + pixel] += cell[0] * y_h + cell[3] * y_k + cell[6] * y_l
    planes[np.uint64(OF_AIM + PLANE) + pixel] += cell[1] * y_h + cell[4] * y_k + cell[7] * y_l
    planes[np.uint64(OF_AIM + 2 * PLANE) + pixel] += cell[2] * y_h + cell[5] * y_k + cell[8] * y_l
    planes[np.uint64(OF_SPREAD) + pixel] += (
        y_h * (spin[0] * h + spin[1] * k + spin[2] * l)
        + y_k * (spin[3] * h + spin[4] * k + spin[5] * l)
        + y_l * (spin[6] * h + spin[7] * k + spin[8] * l)
    )


@shared_function
def of_radius(shape, single, square):
    """The lattice factor of a squared radius over its largest value, and its slope in that, float64 (eq. 58, 59)."""
    if single is not None:
        if shape == GAUSS:
            term, slope = physics.gauss_slope_single(np.float32(square))
        elif shape == ROUND:
            r = math.sqrt(square)
            term, slope = physics.sphere_slope_single(np.float32(r), np.float32(physics.fraction(r)))
        else:
            term, slope = np.float32(physics.tophat_squared(square)), np.float32(0.0)
        return np.float64(term), np.float64(slope)
    if shape == GAUSS:
        return physics.gauss_slope(square)
    if shape == ROUND:
        return physics.sphere_slope(square)
    return physics.tophat_squared(square), 0.0


@shared_function
def add_run_of_radius(shape, single, sloped, at, step, planes):
    """Add a step's terms to a run of LANES pixels from ``at`` on; of a shape that depends on the radius."""
    share, cell, base, hkl, metric, spin = step
    hh, kk, ll, hk, hl, kl = metric
    start = np.uint64(at)
    for lane in range(LANES):
        pixel = start + np.uint64(lane)
        h, k, l = indices_at(pixel, cell, base, planes)  # noqa: E741
        near_h, near_k, near_l = nearest(h, k, l)
        apart = abs(near_h - hkl[0]) + abs(near_k - hkl[1]) + abs(near_l - hkl[2])
        own = share if apart == 0.0 else 0.0
        d_h, d_k, d_l = h - near_h, k - near_k, l - near_l
        half_h = hh * d_h + 0.5 * (hk * d_k + hl * d_l)
        half_k = kk * d_k + 0.5 * (hk * d_h + kl * d_l)
        half_l = ll * d_l + 0.5 * (hl * d_h + kl * d_k)
        term, slope = of_radius(shape, single, d_h * half_h + d_k * half_k + d_l * half_l)
        planes[np.uint64(OF_TERM) + pixel] += own * term
        if sloped is not None:
            slope *= own
            twice = slope + slope
            add_slopes(pixel, (h, k, l), (twice * half_h, twice * half_k, twice * half_l), cell, spin, planes)
            s_h, s_k = slope * d_h, slope * d_k
            planes[np.uint64(OF_SHAPE) + pixel] += s_h * d_h
            planes[np.uint64(OF_SHAPE + PLANE) + pixel] += s_k * d_k
            planes[np.uint64(OF_SHAPE + 2 * PLANE) + pixel] += slope * d_l * d_l
            planes[np.uint64(OF_SHAPE + 3 * PLANE) + pixel] += s_h * d_k
            planes[np.uint64(OF_SHAPE + 4 * PLANE) + pixel] += s_h * d_l
            planes[np.uint64(OF_SHAPE + 5 * PLANE) + pixel] += s_k * d_l


@shared_function
def axis_of_grating(single, d, count):
    """grating_slope of an axis, from an index less its nearest whole number."""
    turns = count * d
    t = turns - np.rint(turns)
    if single is not None:
        near, turn = np.float32(d), np.float32(t)
        p_d, q_d = physics.sine_parts_single(near)
        p_t, q_t = physics.sine_parts_single(turn)
        return physics.grating_slope(near, turn, np.float32(count), p_d, q_d, p_t, q_t)
    p_d, q_d = physics.sine_parts(d)
    p_t, q_t = physics.sine_parts(t)
    return physics.grating_slope(d, t, count, p_d, q_d, p_t, q_t)


@shared_function
def add_run_of_gratings(single, sloped, at, left, right, step, planes):
    """The same of a square crystal; ``left`` and ``right``, 1 or 0: which half of the run counts (eq. 56, 57)."""
    share, cell, base, hkl, counts, spin = step
    start = np.uint64(at)
    for lane in range(LANES):
        pixel = start + np.uint64(lane)
        h, k, l = indices_at(pixel, cell, base, planes)  # noqa: E741
        near_h, near_k, near_l = nearest(h, k, l)
        apart = abs(near_h - hkl[0]) + abs(near_k - hkl[1]) + abs(near_l - hkl[2])
        own = (left if lane < SIDE else right) * (share if apart == 0.0 else 0.0)
        of_h = axis_of_grating(single, h - near_h, counts[0])
        of_k = axis_of_grating(single, k - near_k, counts[1])
        of_l = axis_of_grating(single, l - near_l, counts[2])
        term, y_h, y_k, y_l, m_h, m_k, m_l = physics.square_slopes(of_h, of_k, of_l)
        planes[np.uint64(OF_TERM) + pixel] += own * np.float64(term)
        if sloped is not None:
            y = (own * np.float64(y_h), own * np.float64(y_k), own * np.float64(y_l))
            add_slopes(pixel, (h, k, l), y, cell, spin, planes)
            planes[np.uint64(OF_SHAPE) + pixel] += own * np.float64(m_h)
            planes[np.uint64(OF_SHAPE + PLANE) + pixel] += own * np.float64(m_k)
            planes[np.uint64(OF_SHAPE + 2 * PLANE) + pixel] += own * np.float64(m_l)


# --- which pixels -----------------------------------------------------------------------------------------------------


@shared_function
def add_ellipse(shape, single, sloped, ellipse, step, planes, flags):
    """Add a step's terms to the pixels of an ellipse, as boxes.add_box does."""
    _, fast, slow, half_fast, half_slow, half_row, lean, narrowing = ellipse
    top, bottom = whole_pixels(slow - half_slow, slow + half_slow, BLOCK_ROWS)
    left, right = whole_pixels(fast - half_fast, fast + half_fast, BLOCK_COLUMNS)
    if top >= bottom or left >= right:
        return
    # A run may go on beyond the last column, into room that belongs to no pixel or to pixels of the field.
    mark_cells(top, bottom, left, right + LANES - 1, flags)
    slanted = half_fast > SLANTED * half_row
    for row in range(top, bottom):
        if slanted:
            down = row - slow
            half, middle = math.sqrt(max(half_row * half_row - narrowing * down * down, 0.0)), fast - lean * down
            left, right = whole_pixels(middle - half, middle + half, BLOCK_COLUMNS)
        for column in range(left, right, LANES):
            add_run_of_radius(shape, single, sloped, row * WIDTH + column, step, planes)


@shared_function
def patch_counts(patch, over, origin, counts, reaches, spot, planes):
    """1 if anything of a patch may exceed the cut, as patches.add_node has it, else 0."""
    at = turn_exactly(over, (planes[FROM_X + patch], planes[FROM_Y + patch], planes[FROM_Z + patch]))
    at = (origin[0] + at[0], origin[1] + at[1], origin[2] + at[2])
    return 0.0 if product_of_gratings(counts, at, reaches) > spot[LIMIT] else 1.0


@shared_function
def add_nodes(single, sloped, ellipse, waves, slopes, edges, step, spot, planes, flags):
    """Add a step's terms to the patches of an ellipse that count, as patches.add_patches finds them.

    ``slopes``: of the indices, as there; ``edges``: lengths of the cell's.
    """
    to_middle, along_fast, along_slow, far = slopes
    over, counts = step[1], step[4]
    _, fast, slow, _, half_slow, half_row, lean, narrowing = ellipse
    top, bottom = nodes_between(slow - half_slow, slow + half_slow, NODES_DOWN)
    origin = (waves * to_middle[0] - spot[H], waves * to_middle[1] - spot[K], waves * to_middle[2] - spot[L])
    of_patch = reaches_over(0.5 * (SIDE - 1), waves, far, along_fast, along_slow)
    of_node = reaches_over(TO_NODE_EDGE, waves, far, along_fast, along_slow)
    most = (
        of_node[0] + 1.0 / (math.sqrt(3.0) * spot[SCALE_H]),
        of_node[1] + 1.0 / (math.sqrt(3.0) * spot[SCALE_K]),
        of_node[2] + 1.0 / (math.sqrt(3.0) * spot[SCALE_L]),
    )
    for node_row in range(top, bottom):
        down = NODE * node_row + TO_NODE_EDGE - slow
        half = math.sqrt(max(half_row * half_row - narrowing * down * down, 0.0))
        middle = fast - lean * down
        low, high = limits_of_row(
            middle - half,
            middle + half,
            node_row,
            middle,
            over,
            origin,
            most,
            edges,
            waves,
            far * PER_PIXEL,
            planes,
        )
        left, right = nodes_between(low, high, NODES_ACROSS)
        if left >= right:
            continue
        measure_nodes(over, origin, counts, of_node, node_row, left, right, planes)
        for column in range(left, right):
            if planes[NEARNESS + column] > spot[LIMIT]:
                continue
            for half_node in range(2):
                patch = (2 * node_row + half_node) * ACROSS + 2 * column
                one = patch_counts(patch, over, origin, counts, of_patch, spot, planes)
                other = patch_counts(patch + 1, over, origin, counts, of_patch, spot, planes)
                if one + other == 0.0:
                    continue
                flags[DIRTY + node_row * CELLS_ACROSS + column] = 1
                first = (NODE * node_row + SIDE * half_node) * WIDTH + NODE * column
                for line in range(SIDE):
                    add_run_of_gratings(single, sloped, first + line * WIDTH, one, other, step, planes)


@shared_function
def add_orientation(shape, gratings, single, sloped, orientation, beam, at, aim, lattice, beams, spots, planes, flags):
    """Add the terms of a reflection in one orientation, all wavelengths of a direction; ``gratings``: of SQUARE."""
    spot = spots.of_hkl[at]
    vectors, cell = nine(spots.vectors[orientation]), nine(spots.cells[orientation])
    strength = spots.squares[at] * spots.cells[orientation, SHARE_OF_CELL]
    incident = (beams.incident[beam, 0], beams.incident[beam, 1], beams.incident[beam, 2])
    to_edge = TO_NODE_EDGE if gratings is not None else 0.0
    first, last, line, form, room = place_on_block(
        vectors, spot, aim, incident, beams.waves, beams.first[beam], beams.first[beam + 1], to_edge
    )
    if first >= last:
        return
    away, spin = less(aim[0], incident), nine(spots.spins[orientation])
    to_middle, to_indices = turn_exactly(vectors, away), turn_exactly(cell, away)
    slopes = (to_middle, turn_exactly(vectors, aim[1]), turn_exactly(vectors, aim[2]), aim[3])
    hkl = (spot[H], spot[K], spot[L])
    edges = (length(cell[0:3]), length(cell[3:6]), length(cell[6:9]))
    q = lattice
    for source in range(first, last):
        waves, wavelength = beams.waves[source], beams.wavelength[source]
        if gratings is not None and misses_block(shape, spot, slopes, cell, waves):
            continue
        ellipse = ellipse_at(line, form, room, vectors, spot, to_middle, waves, wavelength, planes)
        if not ellipse[0]:
            continue
        share, over = strength * beams.share[source], times_nine(waves, cell)
        base = (waves * to_indices[0], waves * to_indices[1], waves * to_indices[2])
        if gratings is not None:
            step = (share, over, base, hkl, (q.n_a, q.n_b, q.n_c), spin)
            add_nodes(single, sloped, ellipse, waves, slopes, edges, step, spot, planes, flags)
        else:
            metric = (q.metric_hh, q.metric_kk, q.metric_ll, q.metric_hk, q.metric_hl, q.metric_kl)
            radial = (share, over, base, hkl, metric, spin)
            add_ellipse(shape, single, sloped, ellipse, radial, planes, flags)


@shared_function
def add_spot(shape, gratings, single, sloped, at, beam, aim, lattice, beams, spots, planes, flags):
    """Add the terms of a reflection for one direction of the beam: all orientations and wavelengths."""
    for orientation in range(len(spots.cells)):
        add_orientation(
            shape, gratings, single, sloped, orientation, beam, at, aim, lattice, beams, spots, planes, flags
        )


def gratings_of(shape):
    """What add_spot takes as ``gratings``."""
    return () if shape == SQUARE else None
