"""The renderer of a tile that goes reflection by reflection: only where a spot lies is anything computed.

Directions' factors, weights and the last step are those of the pixels' tile (pixels/rays.py, pixels/tile.py); what
differs is which terms are made. For each reflection of the tile and each orientation, the wavelengths at which the
Ewald sphere passes near enough are an interval; for each of them the spot's middle and size on the tile say which
patches to look at (docs/physics.md, section 12).

run_of_spots makes a kernel for each choice of code, over plain constants, as pixels/tile.py does.
"""

import math
from functools import cache

import numpy as np
from bragg_numba.kernels import physics
from bragg_numba.kernels._jit import addressed_fused_kernel, device_function, fused_kernel
from bragg_numba.kernels.parameters import GAUSS, ROUND, SQUARE
from bragg_numba.kernels.pixels.rays import aim_at_groups, multiply_captures, offset_pixels, polarizations
from bragg_numba.kernels.pixels.rows import COLUMNS, FACTOR, GROUPS, LANES, PIXELS, ROWS, TOTAL, WEIGHT
from bragg_numba.kernels.pixels.terms import dot
from bragg_numba.kernels.pixels.tile import fill, fill_factors, finish_tile, start_sums, store_tile, weigh_source
from bragg_numba.kernels.spots import terms
from bragg_numba.kernels.spots.patches import (
    aim_at_patches,
    measure_gratings,
    measure_radii,
    place_patches,
)
from bragg_numba.kernels.spots.rows import (
    ACROSS,
    AREA,
    AT_X,
    AT_Y,
    AT_Z,
    DOWN,
    FORM_H,
    FORM_K,
    FORM_L,
    FOUND_FAST,
    FOUND_PHOTONS,
    FOUND_SLOW,
    GAIN,
    H,
    K,
    L,
    LIGHT,
    LIMIT,
    NEARNESS,
    PATCH_SUM,
    PATCHES,
    SCALE_H,
    SCALE_K,
    SCALE_L,
    SIDE,
    TO_EDGE,
)
from bragg_numba.kernels.work import COLUMN, PANEL, ROW, panel_at
from numba import types

#: Steps that are summed in float32 before they are added to the float64 total.
CHUNK = 64

#: What a tile's own slope over its patches may differ by from that at its middle, relative.
SLACK = 1.06

#: From a tile's middle to its corner, in pixels; and to its edges.
TO_RIGHT, TO_BOTTOM = 0.5 * (COLUMNS - 1), 0.5 * (ROWS - 1)


@device_function
def middle_of_tile(panel, place):
    """Direction of a tile's middle, and its change per pixel along fast and slow (first order)."""
    g = panel
    row, column, sub_slow, sub_fast, depth = place
    half = 0.5 * g.subpixel_size
    fast = g.pixel_size * (column + TO_RIGHT) + (g.subpixel_size * sub_fast + half)
    slow = g.pixel_size * (row + TO_BOTTOM) + (g.subpixel_size * sub_slow + half)
    x, y, z = physics.flat_position(g, fast, slow, depth)
    nearness = 1.0 / math.sqrt(x * x + y * y + z * z)
    x, y, z = x * nearness, y * nearness, z * nearness
    pitch = g.pixel_size * nearness
    along = x * g.fast_x + y * g.fast_y + z * g.fast_z
    per_fast = (pitch * (g.fast_x - along * x), pitch * (g.fast_y - along * y), pitch * (g.fast_z - along * z))
    along = x * g.slow_x + y * g.slow_y + z * g.slow_z
    per_slow = (pitch * (g.slow_x - along * x), pitch * (g.slow_y - along * y), pitch * (g.slow_z - along * z))
    # Second order of a direction at the tile's corner.
    far = pitch * math.sqrt(TO_RIGHT * TO_RIGHT + TO_BOTTOM * TO_BOTTOM)
    return (x, y, z), per_fast, per_slow, 1.5 * far * far


@device_function
def turn_exactly(vectors, direction):
    """The three coordinates of a change of direction, over the wave number, metres."""
    v, d = vectors, direction
    return (
        dot(v[0], v[1], v[2], d[0], d[1], d[2]),
        dot(v[3], v[4], v[5], d[0], d[1], d[2]),
        dot(v[6], v[7], v[8], d[0], d[1], d[2]),
    )


@device_function
def scaled(scales, vector):
    return scales[0] * vector[0], scales[1] * vector[1], scales[2] * vector[2]


@device_function
def inner(u, v):
    """Scalar product of two tuples."""
    return u[0] * v[0] + u[1] * v[1] + u[2] * v[2]


@device_function
def first_not_below(values, start, stop, limit):
    """First place from ``start`` to before ``stop`` of growing values that is not below a limit; else ``stop``."""
    low, high = start, stop
    while low < high:
        between = (low + high) // 2
        if values[between] < limit:
            low = between + 1
        else:
            high = between
    return low


@device_function
def waves_in_reach(a, b, margin, waves, start, stop):
    """Which of the sources have abs(waves a - b) <= 1 + margin."""
    low, high = b - (1.0 + margin), b + (1.0 + margin)
    if a == 0.0:
        return (start, stop) if low <= 0.0 <= high else (start, start)
    low, high = low / a, high / a
    if low > high:
        low, high = high, low
    first = first_not_below(waves, start, stop, low)
    # One further: a wave number that equals the limit is in reach.
    last = first_not_below(waves, first, stop, high)
    return first, min(last + 1, stop) if last < stop and waves[last] <= high else last


@device_function
def span(middle, half, side, count):
    """First patch, and the one after the last, along an axis that a range of pixels touches."""
    low, high = math.ceil(middle - half), math.floor(middle + half)
    if high < low or high < 0.0 or low > side * count - 1.0:
        return 0, 0
    return int(max(low, 0.0)) // side, int(min(high, side * count - 1.0)) // side + 1


@fused_kernel
def clear(exact, values, dirty):
    """Empty the totals and the patches' sums."""
    for pixel in range(PIXELS):
        exact[TOTAL + pixel] = 0.0
        values[PATCH_SUM + pixel] = 0.0
    for patch in range(PATCHES):
        dirty[patch] = 0


@fused_kernel
def gather_sums(gain, weighted, size, place, patches, scratch, found):
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


# --- one step of one reflection -------------------------------------------------------------------


@device_function
def single_of(values, v):
    """A tuple of nine numbers in the type of the patches' values."""
    real = type(values[PATCH_SUM])
    return real(v[0]), real(v[1]), real(v[2]), real(v[3]), real(v[4]), real(v[5]), real(v[6]), real(v[7]), real(v[8])


@device_function
def phases_of_patch(column, counts, places):
    """Parts of the indices at a patch's centre (eq. 32): whole, coarse, fine, and turns of the coarse part."""
    h_whole, h_coarse, h_fine = physics.split_phase(places[AT_X + column])
    k_whole, k_coarse, k_fine = physics.split_phase(places[AT_Y + column])
    l_whole, l_coarse, l_fine = physics.split_phase(places[AT_Z + column])
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
def is_edge(patch_from, cell, origin, waves, reaches):
    """Whether another reflection may be as near as this one somewhere in a patch.

    ``origin`` are the indices at the tile's middle less the reflection's, ``patch_from`` the way from there.
    """
    x, y, z = turn_exactly(cell, patch_from)
    h, k, l = origin[0] + waves * x, origin[1] + waves * y, origin[2] + waves * z  # noqa: E741
    near = max(abs(h) + reaches[0], max(abs(k) + reaches[1], abs(l) + reaches[2]))
    return near > 0.4999


@device_function
def add_patch(shape, single, edge, patch, column, share, vectors, step, panel, lattice, phases, spot, place, scratch):
    """Add the terms of one patch; ``step`` is (cell in metres, incident, wavelength), ``edge``: see is_edge."""
    values, places = scratch.values, scratch.places
    cell, incident, wavelength = step
    real = type(values[PATCH_SUM])
    origin = (real(places[AT_X + column]), real(places[AT_Y + column]), real(places[AT_Z + column]))
    counts = (phases.n_a, phases.n_b, phases.n_c)
    if single is not None and shape == GAUSS and not edge:
        terms.add_radial_terms(shape, patch, real(share), vectors, origin, values)
        return
    if single is None:
        terms.exact_terms(shape, patch, vectors, origin, lattice, values)
    elif shape == SQUARE:
        parts, same_counts = phases_of_patch(column, counts, places), (phases.same_a, phases.same_b, phases.same_c)
        terms.square_terms(patch, vectors, parts, counts, same_counts, values)
    elif shape == ROUND:
        terms.round_terms(patch, vectors, phases_of_patch(column, counts, places), counts, values)
    else:
        terms.radial_terms(shape, patch, vectors, origin, values)
    if edge or terms.has_doubts(values):
        scale = 1.0
        if single is not None and shape == SQUARE:  # not normalised
            scale = (lattice.n_a * lattice.n_b * lattice.n_c) ** 2
        terms.settle_terms(edge, scale, panel, lattice, cell, incident, wavelength, place, patch, spot, values)
    terms.add_terms(patch, real(share), values)


@device_function
def reaches_over_patch(shape, waves, along_fast, along_slow):
    """How far the coordinates of a patch's pixels may lie from its centre's."""
    per = SLACK * TO_EDGE * waves
    return (
        per * (abs(along_fast[0]) + abs(along_slow[0])),
        per * (abs(along_fast[1]) + abs(along_slow[1])),
        per * (abs(along_fast[2]) + abs(along_slow[2])),
    )


@device_function
def measure_patches(shape, lattice, reaches, places):
    """Fill NEARNESS for a row of patches: what is compared with a spot's LIMIT."""
    counts = (lattice.n_a, lattice.n_b, lattice.n_c)
    if shape == SQUARE:
        measure_gratings(counts, reaches, places)
        return
    if shape != ROUND:  # the coordinates are those of the metric
        counts = (1.0, 1.0, 1.0)
    r = scaled(counts, reaches)
    measure_radii(counts, math.sqrt(inner(r, r)), places)


@device_function
def length(v):
    """Length of a tuple of three."""
    return math.sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2])


@device_function
def sweep_orientation(
    shape, single, edges, orientation, beam, spot, aim, panel, lattice, phases, beams, forms, place, scratch
):
    """Add the terms of one reflection and orientation, all wavelengths of a direction; return how many were near."""
    values, places, dirty = scratch.values, scratch.places, scratch.dirty
    middle, per_fast, per_slow, bend = aim
    f, c = forms.vectors[orientation], forms.cells[orientation]
    vectors = (f[0], f[1], f[2], f[3], f[4], f[5], f[6], f[7], f[8])
    cell = (c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7], c[8])
    incident = (beams.incident[beam, 0], beams.incident[beam, 1], beams.incident[beam, 2])
    start, stop = beams.first[beam], beams.first[beam + 1]
    scales = (spot[SCALE_H], spot[SCALE_K], spot[SCALE_L])
    target = (spot[FORM_H], spot[FORM_K], spot[FORM_L])
    change = (middle[0] - incident[0], middle[1] - incident[1], middle[2] - incident[2])
    # In coordinates over the wave number; then such that all that matters lies within 1.
    to_middle = turn_exactly(vectors, change)
    along_fast, along_slow = turn_exactly(vectors, per_fast), turn_exactly(vectors, per_slow)
    p, w = scaled(scales, to_middle), scaled(scales, target)
    u, v = scaled(scales, along_fast), scaled(scales, along_slow)
    normal = (u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0])
    squared = inner(normal, normal)
    if squared == 0.0:
        return 0
    per_normal = 1.0 / math.sqrt(squared)
    largest = max(scales[0] * length(vectors[0:3]), max(scales[1] * length(vectors[3:6]), scales[2] * length(vectors[6:9])))
    margin = 1.75 * bend * largest * beams.waves[stop - 1]
    first, last = waves_in_reach(
        inner(normal, p) * per_normal, inner(normal, w) * per_normal, margin, beams.waves, start, stop
    )
    if first == last:
        return 0
    uu, uv, vv = inner(u, u), inner(u, v), inner(v, v)
    up, vp, uw, vw = inner(u, p), inner(v, p), inner(u, w), inner(v, w)
    # Where the spot's middle lies: a constant, and a part that grows with the wavelength.
    fast_0, fast_1 = (uv * vp - vv * up) / squared, (vv * uw - uv * vw) / squared
    slow_0, slow_1 = (uv * up - uu * vp) / squared, (uu * vw - uv * uw) / squared
    half_fast = math.sqrt(vv) * per_normal * (1.0 + margin)
    half_slow = math.sqrt(uu) * per_normal * (1.0 + margin)
    near = 0
    for source in range(first, last):
        waves, wavelength = beams.waves[source], beams.wavelength[source]
        left, right = span(
            fast_0 + wavelength * fast_1 + TO_RIGHT, wavelength * half_fast + 1e-3, SIDE, ACROSS
        )
        top, bottom = span(
            slow_0 + wavelength * slow_1 + TO_BOTTOM, wavelength * half_slow + 1e-3, SIDE, DOWN
        )
        if left == right or top == bottom:
            continue
        near += 1
        origin = (
            waves * to_middle[0] - target[0],
            waves * to_middle[1] - target[1],
            waves * to_middle[2] - target[2],
        )
        if single is not None and shape == SQUARE:
            origin = (origin[0] + physics.NUDGE, origin[1] + physics.NUDGE, origin[2] + physics.NUDGE)
        over = (
            waves * vectors[0],
            waves * vectors[1],
            waves * vectors[2],
            waves * vectors[3],
            waves * vectors[4],
            waves * vectors[5],
            waves * vectors[6],
            waves * vectors[7],
            waves * vectors[8],
        )
        over_real = single_of(values, over)
        reaches = reaches_over_patch(shape, waves, along_fast, along_slow)
        step = (cell, incident, wavelength)
        share, limit = beams.share[source], spot[LIMIT]
        for patch_row in range(top, bottom):
            place_patches(over, origin, patch_row, places)
            measure_patches(shape, lattice, reaches, places)
            for column in range(left, right):
                if places[NEARNESS + column] > limit:
                    continue
                patch = patch_row * ACROSS + column
                dirty[patch] = 1
                edge = False
                if edges is not None:
                    way = (places[patch], places[PATCHES + patch], places[2 * PATCHES + patch])
                    index = turn_exactly(cell, change)
                    index = (waves * index[0] - spot[H], waves * index[1] - spot[K], waves * index[2] - spot[L])
                    edge_reach = reaches_over_patch(
                        shape, waves, turn_exactly(cell, per_fast), turn_exactly(cell, per_slow)
                    )
                    edge = is_edge(way, cell, index, waves, edge_reach)
                add_patch(
                    shape, single, edge, patch, column, share, over_real, step, panel, lattice, phases, spot, place,
                    scratch,
                )
    return near


# --- the tile ------------------------------------------------------------------------------------


@device_function
def fill_cached_factors(factors, panel, rules, place, incident, work, exact):
    """Fill FACTOR as nanoBragg does, once for all terms, the last layer's capture too; LIGHT: with polarization.

    LIGHT is what turns a pixel's total into photons, where FACTOR is not yet complete (walk.finish). Where terms
    carry factors of their own it is 1.
    """
    if rules.per_term:
        fill(1.0, LIGHT, work)
        return
    first = (place[0], place[1], 0, 0, 0.0)
    aim_at_groups(panel, first, work, exact)
    offset_pixels(work)
    fill_factors(None, panel, rules, True, 0, 0.0, incident, work, exact)
    if rules.weighted and panel.polarized:
        polarizations(panel, incident, LIGHT, work, exact)
    else:
        fill(1.0, LIGHT, work)
    if factors is not None and panel.has_sensor:
        layer = panel.layers - 1
        last = (place[0], place[1], 0, 0, layer * panel.layer_step)
        aim_at_groups(panel, last, work, exact)
        offset_pixels(work)
        multiply_captures(panel, layer, work, exact)
    for pixel in range(PIXELS):
        work[LIGHT + pixel] *= work[FACTOR + pixel]


@device_function
def add_spots_of_tile(shape, single, edges, beam, index, aim, place, size, nouns, lists, found, scratch, patches):
    """Add all reflections of a tile for one direction of the beam, each for itself; ``size``: rows, columns in it."""
    panel, lattice, rules, phases, beams, forms, spots = nouns
    for at in range(lists.first[index], lists.first[index + 1]):
        spot = spots[lists.spot[at]]
        waiting = 0
        for orientation in range(len(forms.cells)):
            waiting += sweep_orientation(
                shape, single, edges, orientation, beam, spot, aim, panel, lattice, phases, beams, forms, place, patches
            )
            if waiting >= CHUNK:
                gather_sums(spot[GAIN], rules.weighted, size, place, patches, scratch, found[at])
                waiting = 0
        if waiting > 0:
            gather_sums(spot[GAIN], rules.weighted, size, place, patches, scratch, found[at])


@cache
def run_of_spots(shape, single, edges, factors):
    """The kernel that renders the tiles of a work list with one choice of code.

    ``shape`` is that of the crystal; the others are None or YES: float32; spots that reach half-way to their
    neighbours; terms with factors of their own or a sensor that absorbs.
    """

    @addressed_fused_kernel(types.void)
    def render_spots(
        panels, lattice, rules, phases, beams, forms, spots, tiles, lists, run, frame, doubts, found, scratch, patches
    ):
        """Render tiles run[0] to before run[1] with the scratch of one thread; else as cpu.add_spots."""
        work, exact = scratch.work, scratch.exact
        incident = (beams.incident[0, 0], beams.incident[0, 1], beams.incident[0, 2])
        for index in range(run[0], run[1]):
            panel = panel_at(panels, tiles[index, PANEL])
            row, column = np.int64(tiles[index, ROW]), np.int64(tiles[index, COLUMN])
            size = (panel.n_slow - row, panel.n_fast - column)
            nouns = (panel, lattice, rules, phases, beams, forms, spots)
            start_sums(factors, rules, work, exact)
            clear(exact, patches.values, patches.dirty)
            fill_cached_factors(factors, panel, rules, (row, column), incident, work, exact)
            for layer in range(panel.layers):
                depth = layer * panel.layer_step
                for sub in range(panel.oversample * panel.oversample):
                    place = (row, column, sub // panel.oversample, sub % panel.oversample, depth)
                    aim = middle_of_tile(panel, place)
                    aim_at_patches(panel, place, aim[0], patches.values, patches.places)
                    if factors is not None:
                        aim_at_groups(panel, place, work, exact)
                        offset_pixels(work)
                        if rules.per_term:
                            fill_factors(factors, panel, rules, sub == 0, layer, depth, incident, work, exact)
                    for beam in range(len(beams.weight)):
                        direction = (beams.incident[beam, 0], beams.incident[beam, 1], beams.incident[beam, 2])
                        wavelength = beams.wavelength[beams.first[beam]]
                        if factors is not None and not weigh_source(
                            panel, rules, direction, wavelength, beams.weight[beam], place, work, exact
                        ):
                            continue
                        add_spots_of_tile(
                            shape, single, edges, beam, index, aim, place, size, nouns, lists, found, scratch, patches
                        )
            background, strength = finish_tile(factors, panel, 1.0, rules, len(beams.waves), True, work, exact)
            doubts[index] = store_tile(background, strength, panel, tiles, index, frame, work)

    return render_spots
