"""The float32 renderer of a tile: phases in float64 once a group of pixels, the rest in float32.

For each step the phase at a group's centre is made in float64 and split into a part that float32 holds exactly and a
small one, to which a pixel adds its own (docs/physics.md, section 9, states the error). rows says how pixels and
groups lie in the working arrays, rays makes directions and the factors that belong to them, terms and lit the terms.

Some arguments say only which code is wanted (parameters.Code). run_of_tiles makes a kernel for each such choice, over
plain constants: numba leaves out what they forbid before it compiles, so that a plan compiles what it needs.
"""

import math
from functools import cache

import numpy as np
from bragg_numba.kernels import walk
from bragg_numba.kernels._jit import addressed_fused_kernel, device_function, fused_kernel
from bragg_numba.kernels.parameters import FRINGES, GRATINGS, LIT_RADII, RADII, SHARE_OF_CELL, SQUARE
from bragg_numba.kernels.pixels.dispersed import (
    DARK,
    WIDE,
    add_amplitudes,
    add_dispersed_groups,
    all_of_table,
    corner_of_tile,
    corners_of_tile,
    look_up_pixels,
    look_up_tile,
    middle_of_tile,
    small_table,
)
from bragg_numba.kernels.pixels.lit import add_lit_groups, list_lit_groups, mark_lit_groups, place_lit_groups
from bragg_numba.kernels.pixels.rays import (
    aim_at_groups,
    keep_first_polarizations,
    keep_within_dmin,
    multiply_captures,
    multiply_factors,
    offset_pixels,
    polarizations,
    polarized_solid_angles,
    solid_angles,
)
from bragg_numba.kernels.pixels.rows import (
    FACTOR,
    GROUPS,
    LANES,
    PIXELS,
    POLAR,
    SHARE,
    SIZE_32,
    SUM,
    TOTAL,
    WEIGHT,
    columns_of_tile,
)
from bragg_numba.kernels.pixels.terms import (
    add_reflections,
    add_square,
    add_terms,
    dot,
    place_groups,
    place_radial,
    place_round,
    place_square,
    settle_halves,
    shape_radial_terms,
    shape_round_terms,
    split_phases,
)
from bragg_numba.kernels.work import BOTTOM, COLUMN, LEFT, PANEL, RIGHT, ROW, TOP, panel_at
from numba import types

#: Terms that are summed in float32 before they are added to the float64 total.
CHUNK = 64

#: A tile that reaches more reflections than this is not searched for one that has an amplitude.
MOST_SEARCHED = 64


# --- what a tile reaches -------------------------------------------------------------------------


@fused_kernel
def spread_of_tile(panel, wide, work, exact):
    """Largest distance between the tile's middle direction and any of its pixels' (unit vectors).

    Directions within an angle of another meet a plane in a convex region: of a rectangle a corner is farthest.
    """
    middle = middle_of_tile(exact)
    largest = 0.0
    for corner in range(4):
        x, y, z = corner_of_tile(panel, corner, wide, middle, work, exact)
        largest = max(largest, x * x + y * y + z * z)
    return math.sqrt(largest) * 1.0001 + 1e-7


@fused_kernel
def is_dark(cell, incident, lookup, squared, spread, exact):
    """Tell whether every reflection that a tile can reach in one step has no amplitude.

    The indices within ``spread`` of the tile's middle direction are looked up; skipping is exact, for what is
    skipped is zero.
    """
    if lookup.default_F != 0.0:
        return False
    d_x, d_y, d_z = middle_of_tile(exact)
    q_x, q_y, q_z = d_x - incident[0], d_y - incident[1], d_z - incident[2]
    h_0, h_1 = _reach(cell[0], cell[1], cell[2], q_x, q_y, q_z, spread, lookup.h_first, lookup.h_count)
    k_0, k_1 = _reach(cell[3], cell[4], cell[5], q_x, q_y, q_z, spread, lookup.k_first, lookup.k_count)
    l_0, l_1 = _reach(cell[6], cell[7], cell[8], q_x, q_y, q_z, spread, lookup.l_first, lookup.l_count)
    if (h_1 - h_0 + 1) * (k_1 - k_0 + 1) * (l_1 - l_0 + 1) > MOST_SEARCHED:
        return False
    for h in range(h_0, h_1 + 1):
        for k in range(k_0, k_1 + 1):
            for l in range(l_0, l_1 + 1):  # noqa: E741
                if squared[(h * lookup.k_count + k) * lookup.l_count + l] != 0.0:
                    return False
    return True


@fused_kernel
def _reach(a_x, a_y, a_z, q_x, q_y, q_z, spread, first, count):
    """First and last place along an axis of the table within ``spread`` of a direction."""
    at = dot(a_x, a_y, a_z, q_x, q_y, q_z)
    # The margin covers the rounding of float32 phases next to a half.
    reach = math.sqrt(dot(a_x, a_y, a_z, a_x, a_y, a_z)) * spread + 1e-4
    return walk.table_place(np.rint(at - reach), first, count), walk.table_place(np.rint(at + reach), first, count)


# --- sums ----------------------------------------------------------------------------------------


@fused_kernel
def fill(value, row, work):
    """Set a row of pixels to one value."""
    for pixel in range(PIXELS):
        work[row + pixel] = np.float32(value)


@fused_kernel
def flush(weighted, begun, work, exact):
    """Move SUM to the float64 total, times WEIGHT where weights differ; ``begun``: the total is not empty."""
    zero = np.float32(0.0)
    if not begun:
        for pixel in range(PIXELS):
            exact[TOTAL + pixel] = 0.0
    if weighted:
        for pixel in range(PIXELS):
            exact[TOTAL + pixel] += np.float64(work[WEIGHT + pixel]) * work[SUM + pixel]
            work[SUM + pixel] = zero
    else:
        for pixel in range(PIXELS):
            exact[TOTAL + pixel] += work[SUM + pixel]
            work[SUM + pixel] = zero


@fused_kernel
def flush_share(share, weighted, begun, work, exact):
    """flush for terms of mosaic domains that have one ``share`` of the photons."""
    zero = np.float32(0.0)
    if not begun:
        for pixel in range(PIXELS):
            exact[TOTAL + pixel] = 0.0
    if weighted:
        for pixel in range(PIXELS):
            exact[TOTAL + pixel] += share * np.float64(work[WEIGHT + pixel]) * work[SUM + pixel]
            work[SUM + pixel] = zero
    else:
        for pixel in range(PIXELS):
            exact[TOTAL + pixel] += share * work[SUM + pixel]
            work[SUM + pixel] = zero


@fused_kernel
def weigh_cached(weight, work):
    """Multiply the source's weight into WEIGHT, where all other factors are the pixel's own."""
    factor = np.float32(weight)
    for pixel in range(PIXELS):
        work[WEIGHT + pixel] *= factor


@fused_kernel
def weigh_terms(weight, polarized, work, exact):
    """Multiply solid angle with capture, polarization and the source's weight into WEIGHT; keep the sum."""
    factor = np.float32(weight)
    for pixel in range(PIXELS):
        share = factor * work[FACTOR + pixel]
        if polarized:
            share *= work[POLAR + pixel]
        work[WEIGHT + pixel] *= share
        exact[SHARE + pixel] += share


@fused_kernel
def sum_totals(work, exact):
    """Add the float64 total to what SUM still holds."""
    for pixel in range(PIXELS):
        work[SUM + pixel] = np.float32(exact[TOTAL + pixel] + work[SUM + pixel])


@fused_kernel
def sum_weighted_totals(factor, flat, work, exact):
    """Fill SUM with the photons of terms that had their own weights, and of the flat background (eq. 21)."""
    for pixel in range(PIXELS):
        work[SUM + pixel] = np.float32(factor * exact[TOTAL + pixel] + flat * exact[SHARE + pixel])


@fused_kernel
def store_tile(background, strength, panel, window, frame, work):
    """Put (background + strength SUM) FACTOR into the wanted pixels of a tile (eq. 21).

    ``window``: the tile's first row, first column and columns, and the first and last (those after) row and column of
    its wanted pixels.
    Returns whether any of them, or of those that the mask leaves out, is NaN, which float64 must settle.
    """
    background, strength = np.float32(background), np.float32(strength)
    row_of_tile, first_column, wide, top, bottom, first, last = window
    image, mask = frame.image, frame.mask
    pixels, n_fast = image.reshape(-1), image.shape[1]
    doubts = np.int32(0)
    for lane in range(LANES):
        for band in range(GROUPS // wide):
            row = row_of_tile + band * LANES + lane
            if row < top or row >= bottom:
                continue
            in_frame, across = panel.first_row + row, panel.first_column + first
            # Unsigned: a signed index could count from the end, and the loops would not vectorise.
            start = np.uint64(lane * GROUPS + band * wide + first - first_column)
            to = np.uint64((in_frame - frame.row_start) * n_fast + across)
            for column in range(last - first):
                at = start + np.uint64(column)
                value = (background + strength * work[np.uint64(SUM) + at]) * work[np.uint64(FACTOR) + at]
                doubts = np.int32(doubts | np.int32(value != value))
                if mask.size == 0 or mask[in_frame, across + column]:
                    pixels[to + np.uint64(column)] = value
    return doubts != 0


# --- the tile ------------------------------------------------------------------------------------


@device_function
def add_step(kind, placed, split, dispersed, panel, lattice, lookup, phases, squared, step, place, scratch):
    """Add the terms of one step to SUM; ``step`` is (incident, wavelength, cell in metres, cell over the wavelength).

    The functions that it calls get few numbers: what is called for every step should not first be told all. Where F
    depends on the wavelength ``lookup`` is that of look_up_tile's small table, and ``squared`` (the small table, the
    plan's Dispersion, its lookup, the source, whether the small table is WIDE).
    """
    work, exact, at = scratch.work, scratch.exact, scratch.at
    incident, wavelength, cell_in_metres, cell = step
    g, c, p, look = panel, cell, phases, lookup
    slows = (
        dot(c[0], c[1], c[2], g.slow_x, g.slow_y, g.slow_z),
        dot(c[3], c[4], c[5], g.slow_x, g.slow_y, g.slow_z),
        dot(c[6], c[7], c[8], g.slow_x, g.slow_y, g.slow_z),
    )
    if kind == LIT_RADII:
        mark_lit_groups(cell, slows, incident, (p.lit_h, p.lit_k, p.lit_l), exact, at)
        n_lit = list_lit_groups(at)
        if n_lit > 0:
            place_lit_groups(n_lit, panel, lattice, cell, incident, place, work, at)
            if dispersed is not None:
                add_dispersed_groups(n_lit, lattice, lookup, squared[1], squared[3], work, at)
            else:
                add_lit_groups(n_lit, lattice, lookup, squared, work, at)
    else:
        counts, same_counts = (p.n_a, p.n_b, p.n_c), (p.same_a, p.same_b, p.same_c)
        firsts, strides = (look.h_first, look.k_first, look.l_first), (look.k_count * look.l_count, look.l_count)
        split_phases(cell, slows, incident, counts, firsts, split, placed, work, exact)
        if placed is not None:
            place_groups((look.h_count, look.k_count, look.l_count), p.reach, work, at)
        doubts = False
        if kind == FRINGES:
            doubts = place_round(placed, counts, p.near_half, strides, split, work, at)
        elif kind == RADII:
            metric = (p.metric_hh, p.metric_kk, p.metric_ll, p.metric_hk, p.metric_hl, p.metric_kl)
            doubts = place_radial(placed, metric, p.near_half, strides, split, work, at)
        elif placed is not None:
            doubts = place_square(counts, same_counts, p.near_half, strides, split, work, at)
        else:
            add_square(counts, same_counts, split, work)
        if doubts:
            settle_halves(panel, lattice, lookup, cell_in_metres, wavelength, incident, place, work, at)
        if kind == FRINGES:
            shape_round_terms(work)
        elif kind == RADII:
            shape_radial_terms(lattice.shape, work)
        if dispersed is not None:
            if squared[4]:
                look_up_pixels(lookup, squared[2], squared[1], squared[3], work, at)
                add_amplitudes(work)
            else:
                add_reflections(squared[0], work, at)
        elif placed is not None:
            add_reflections(squared, work, at)
        elif kind != GRATINGS:
            add_terms(work)


@device_function
def strength_of(lattice, lookup):
    """What every term of a plan has in common: the lattice's volume squared, and F^2 if there is no table."""
    strength = 1.0
    if lattice.shape != SQUARE:  # its factor in float32 is not normalised
        strength *= (lattice.n_a * lattice.n_b * lattice.n_c) ** 2
    if not lookup.has_table:
        strength *= lookup.default_F * lookup.default_F
    return strength


@device_function
def seeks_polarization(panel, rules):
    """Whether nanoBragg's one polarization factor waits for the first term within dmin (eq. 8)."""
    return rules.weighted and panel.dmin > 0.0


@device_function
def fill_factors(factors, panel, rules, first, layer, depth, incident, work, exact):
    """Fill FACTOR with the factors of a sub-pixel that do not depend on the source (eq. 5, 6).

    Under nanobragg those of the ``first`` sub-pixel of the first layer serve for all, and the capture of the last.
    """
    if not rules.per_term and first and layer == 0:
        if panel.polarized and not seeks_polarization(panel, rules):
            polarized_solid_angles(panel, panel.close_distance, rules.scale, incident, work, exact)
            if rules.weighted:  # FACTOR has it: no term has one of its own
                fill(1.0, POLAR, work)
        else:
            solid_angles(panel, panel.close_distance, rules.scale, work)
    if factors is not None:
        if rules.per_term:
            solid_angles(panel, panel.close_distance + depth, 1.0, work)
        if panel.has_sensor and (rules.per_term or (layer == panel.layers - 1 and first)):
            multiply_captures(panel, layer, work, exact)


@device_function
def weigh_source(panel, rules, incident, wavelength, weight, place, work, exact):
    """Fill WEIGHT with what a source's terms carry themselves; return whether any pixel is within dmin."""
    kept = True
    if panel.dmin > 0.0:
        kept = keep_within_dmin(panel, incident, wavelength, place, work)
    elif rules.weighted:
        fill(1.0, WEIGHT, work)
    if rules.per_term:
        if panel.polarized:
            polarizations(panel, incident, POLAR, work, exact)
        weigh_terms(weight, panel.polarized, work, exact)
    elif rules.weighted:
        if panel.polarized and seeks_polarization(panel, rules):
            keep_first_polarizations(panel, incident, work, exact)
        weigh_cached(weight, work)
    return kept


@device_function
def finish_tile(factors, panel, strength, rules, n_sources, begun, work, exact):
    """Leave in SUM and FACTOR what store_tile stores; return background and strength for it (eq. 21)."""
    background = rules.background
    if begun and not rules.per_term:
        sum_totals(work, exact)
    if factors is not None:
        if rules.per_term:
            if not begun:
                flush(rules.weighted, begun, work, exact)
            flat = rules.flat_background / (panel.oversample * panel.oversample * n_sources)
            sum_weighted_totals(rules.scale * strength, flat, work, exact)
            fill(1.0, FACTOR, work)
            background, strength = 0.0, 1.0
        elif panel.polarized and seeks_polarization(panel, rules):
            multiply_factors(POLAR, work)
    return background, strength


@device_function
def over_wavelength(cells, step, wavelength):
    """Nine numbers a, b, c of a step, in metres and over the wavelength."""
    c, per = cells[step], 1.0 / wavelength
    in_metres = (c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7], c[8])
    over = (
        c[0] * per,
        c[1] * per,
        c[2] * per,
        c[3] * per,
        c[4] * per,
        c[5] * per,
        c[6] * per,
        c[7] * per,
        c[8] * per,
    )
    return in_metres, over


@device_function
def render_tile(
    kind,
    placed,
    split,
    factors,
    shares,
    dispersed,
    panel,
    lattice,
    lookup,
    rules,
    phases,
    sources,
    cells,
    squared,
    corner,
    scratch,
):
    """Render a tile, ``corner`` being its first row, first column and columns, into SUM and FACTOR.

    What float32 cannot decide is NaN.

    Returns background and strength for store_tile; the other arguments are those of cpu.add_bragg_tile.
    """
    work, exact = scratch.work, scratch.exact
    incident, wavelength, weight = sources.incident, sources.wavelength, sources.weight
    start_sums(factors, rules, work, exact)
    waiting, begun, share = 0, False, 1.0
    for layer in range(panel.layers):
        depth = layer * panel.layer_step
        for sub in range(panel.oversample * panel.oversample):
            place = (*corner, sub // panel.oversample, sub % panel.oversample, depth)
            aim_at_groups(panel, place, work, exact)
            offset_pixels(work)
            beam = (incident[0, 0], incident[0, 1], incident[0, 2])
            fill_factors(factors, panel, rules, sub == 0, layer, depth, beam, work, exact)
            spread = 0.0
            if placed is not None:
                spread = spread_of_tile(panel, corner[2], work, exact)
            if dispersed is not None:
                corners, bend = corners_of_tile(panel, corner[2], spread, work, exact)
                local = work[SIZE_32:]
            for source in range(len(wavelength)):
                beam = (incident[source, 0], incident[source, 1], incident[source, 2])
                if factors is not None and not weigh_source(
                    panel, rules, beam, wavelength[source], weight[source], place, work, exact
                ):
                    continue
                for number in range(len(cells)):
                    if shares is not None:
                        if waiting > 0 and cells[number, SHARE_OF_CELL] != share:
                            flush_share(share, rules.weighted, begun, work, exact)
                            waiting, begun = 0, True
                        share = cells[number, SHARE_OF_CELL]
                    in_metres, cell = over_wavelength(cells, number, wavelength[source])
                    if dispersed is not None:
                        reach = np.int64(phases.reach)
                        if kind == LIT_RADII:  # which looks at few pixels, each for itself
                            box = all_of_table(lookup)
                        else:
                            around = (corners, spread, bend)
                            box = look_up_tile(
                                dispersed, cell, source, beam, around, lookup, reach, squared, local, exact
                            )
                        if box[0] == DARK:
                            continue
                        small, looked_up = small_table(lookup, box), (local, squared, lookup, source, box[0] == WIDE)
                    else:
                        if placed is not None and is_dark(cell, beam, lookup, squared, spread, exact):
                            continue
                        small, looked_up = lookup, squared
                    step = (beam, wavelength[source], in_metres, cell)
                    add_step(
                        kind, placed, split, dispersed, panel, lattice, small, phases, looked_up, step, place, scratch
                    )
                    waiting += 1
                    if waiting == CHUNK:
                        if shares is not None:
                            flush_share(share, rules.weighted, begun, work, exact)
                        else:
                            flush(rules.weighted, begun, work, exact)
                        waiting, begun = 0, True
                if shares is not None and waiting > 0:
                    flush_share(share, rules.weighted, begun, work, exact)
                    waiting, begun = 0, True
                if factors is not None and rules.weighted and waiting > 0:
                    flush(rules.weighted, begun, work, exact)
                    waiting, begun = 0, True
    return finish_tile(factors, panel, strength_of(lattice, lookup), rules, len(wavelength), begun, work, exact)


@device_function
def start_sums(factors, rules, work, exact):
    """Empty the sums of a tile."""
    fill(0.0, SUM, work)
    if factors is not None:
        if rules.per_term:
            for pixel in range(PIXELS):
                exact[SHARE + pixel] = 0.0
        elif rules.weighted:
            fill(0.0, POLAR, work)


@cache
def run_of_tiles(kind, placed, split, factors, shares, dispersed):
    """The kernel that renders the tiles of a work list with one Code."""

    @addressed_fused_kernel(types.void)
    def render_tiles(panels, lattice, lookup, rules, phases, sources, cells, squared, tiles, frame, doubts, scratch):
        """Render tiles in float32 with the Scratch of one thread; else as cpu.add_bragg_tile."""
        for index in range(len(tiles)):
            panel = panel_at(panels, tiles[index, PANEL])
            wide = np.int64(columns_of_tile(tiles, index))
            corner = (np.int64(tiles[index, ROW]), np.int64(tiles[index, COLUMN]), wide)
            top, bottom = np.int64(tiles[index, TOP]), np.int64(tiles[index, BOTTOM])
            window = (*corner, top, bottom, np.int64(tiles[index, LEFT]), np.int64(tiles[index, RIGHT]))
            background, strength = render_tile(
                kind,
                placed,
                split,
                factors,
                shares,
                dispersed,
                panel,
                lattice,
                lookup,
                rules,
                phases,
                sources,
                cells,
                squared,
                corner,
                scratch,
            )
            doubts[index] = store_tile(background, strength, panel, window, frame, scratch.work)

    return render_tiles
