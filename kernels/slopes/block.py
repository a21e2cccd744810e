"""A block of pixels: the order of layers, sub-pixels, beams and steps, and what follows them (eq. 21, 60 to 63).

As pixels/float64 it walks them, with the sums of slopes beside that of photons. sum_of_blocks makes a kernel for each
shape, precision and kind of amplitudes over plain constants: numba leaves out what they forbid before it compiles.
"""

from functools import cache

from bragg_numba.kernels._jit import addressed_fused_kernel, device_function, fused_kernel
from bragg_numba.kernels.parameters import GAUSS, SHARE_OF_CELL, SQUARE
from bragg_numba.kernels.slopes.chunk import lay_out_block, sum_chunks
from bragg_numba.kernels.slopes.factors import (
    add_capture,
    add_polarization,
    add_solid_angle,
    add_terms,
    aim_at_block,
    fill,
    fill_captures,
    fill_kept,
    fill_polarizations,
    fill_solid_angles,
    multiply_rows,
)
from bragg_numba.kernels.slopes.rows import (
    AT_COLUMN,
    AT_ROW,
    BLOCK,
    BRAGG,
    CAPTURE,
    CHUNK,
    FIRST,
    HEAD,
    KEEP,
    N_ROWS,
    OMEGA,
    PHOTONS,
    POLAR,
    STRIDE,
    SUMS,
    TOTAL_STRAIN,
    TOTAL_TERM,
    VALUE,
)
from bragg_numba.kernels.slopes.steps import (
    INTERPOLATED,
    LISTED,
    UNIFORM,
    add_step,
    flush,
    multiply_amplitudes,
    multiply_interpolated,
    multiply_weight,
    sees_spot,
    shape_radial,
    shape_square,
    split_phases,
    spread_of_block,
    start_sums,
)
from bragg_numba.kernels.work import panel_at
from numba import types


@fused_kernel
def start_block(rows, columns, dmin, sums, moves, exact):
    """Place the pixels of a block, the last one again and again where there are fewer than BLOCK; empty its sums."""
    n = len(rows)
    for pixel in range(BLOCK):
        exact[AT_ROW + pixel] = rows[min(pixel, n - 1)]
        exact[AT_COLUMN + pixel] = columns[min(pixel, n - 1)]
        exact[FIRST + pixel] = 0.0 if dmin <= 0.0 else -1.0
    for place in range((N_ROWS + moves) * STRIDE):
        sums[place] = 0.0


@fused_kernel
def keep_beam(exact):
    """Multiply the sums of a beam by KEEP."""
    for row in range(SUMS):
        for pixel in range(BLOCK):
            exact[TOTAL_TERM + row * STRIDE + pixel] *= exact[KEEP + pixel]


@fused_kernel
def keep_first(number, exact):
    """Note the number of nanoBragg's first term within dmin."""
    for pixel in range(BLOCK):
        if exact[FIRST + pixel] < 0.0 and exact[KEEP + pixel] != 0.0:
            exact[FIRST + pixel] = number


@fused_kernel
def is_first(number, exact):
    """Fill KEEP with 1 where the first term within dmin has this number; return whether there is any."""
    some = False
    for pixel in range(BLOCK):
        mine = exact[FIRST + pixel] == number
        exact[KEEP + pixel] = 1.0 if mine else 0.0
        some = some or mine
    return some


@fused_kernel
def move_source(strength, flat, weights, waves, exact, sums, weight):
    """Add the slopes in moves of one source: of its weight, and of its wavelength (eq. 64).

    ``strength`` is what a term of the weight 1 is multiplied by, ``flat`` is the flat background of such a source;
    ``weight`` is its own. HEAD is the product of the pixel's factors.
    """
    for move in range(len(weights)):
        row = (N_ROWS + move) * STRIDE
        for pixel in range(BLOCK):
            trace = (
                exact[TOTAL_STRAIN + pixel]
                + exact[TOTAL_STRAIN + 4 * STRIDE + pixel]
                + exact[TOTAL_STRAIN + 8 * STRIDE + pixel]
            )
            moved = strength * (weights[move] * exact[TOTAL_TERM + pixel] - weight * waves[move] * trace)
            sums[row + pixel] += exact[HEAD + pixel] * (moved + flat * weights[move])


@fused_kernel
def product_of_factors(exact):
    """Fill HEAD with the product of the factors of a pixel."""
    for pixel in range(BLOCK):
        exact[HEAD + pixel] = exact[OMEGA + pixel] * exact[POLAR + pixel] * exact[CAPTURE + pixel]


@fused_kernel
def photons_of_beam(strength, flat, exact, sums):
    """Fill PHOTONS with those of a beam over its factors, HEAD, and add them to VALUE."""
    for pixel in range(BLOCK):
        photons = strength * exact[TOTAL_TERM + pixel] + flat
        exact[PHOTONS + pixel] = photons
        sums[VALUE * STRIDE + pixel] += photons * exact[HEAD + pixel]


@fused_kernel
def photons_of_pixel(background, exact, sums):
    """Fill PHOTONS with those of a pixel over its factors, and VALUE, too."""
    for pixel in range(BLOCK):
        photons = background + sums[BRAGG * STRIDE + pixel]
        exact[PHOTONS + pixel] = photons
        sums[VALUE * STRIDE + pixel] = photons


@fused_kernel
def head_of(one, other, exact):
    """Fill HEAD with PHOTONS times two factors."""
    for pixel in range(BLOCK):
        exact[HEAD + pixel] = exact[PHOTONS + pixel] * exact[one + pixel] * exact[other + pixel]


@fused_kernel
def head_of_all(exact):
    """Fill HEAD with PHOTONS times its three factors."""
    for pixel in range(BLOCK):
        exact[HEAD + pixel] = (
            exact[PHOTONS + pixel] * exact[OMEGA + pixel] * exact[POLAR + pixel] * exact[CAPTURE + pixel]
        )


@fused_kernel
def scale_row(factor, row, exact):
    """Multiply a row by a number."""
    for pixel in range(BLOCK):
        exact[row + pixel] *= factor


@fused_kernel
def factors_of_beam(panel, rules, layer, incident, exact, sums):
    """Add the slopes of the factors of a beam's photons under fidelity physical."""
    head_of_all(exact)
    add_solid_angle(panel, rules, layer, exact, sums)
    if panel.polarized:
        head_of(OMEGA, CAPTURE, exact)
        add_polarization(panel, layer, incident, exact, sums)
    if panel.has_sensor:
        head_of(OMEGA, POLAR, exact)
        add_capture(panel, rules, layer, exact, sums)


@fused_kernel
def add_beam(wanted, panel, rules, layer, incident, strength, flat, whole, together, weights, waves, exact, sums):
    """Add a beam's sums of terms, times its factors, to what slopes are linear in (eq. 60 to 64).

    ``strength`` is what a term of the weight 1 is multiplied by, ``flat`` is the flat background of a source of that
    weight; ``whole`` is what the sums of terms still lack, ``together`` is the weight of all sources of the beam.
    ``weights`` and ``waves`` are the moves of its first one.
    """
    if rules.per_term:
        fill_polarizations(panel, incident, exact)
        product_of_factors(exact)
    else:
        fill(1.0, HEAD, exact)
    move_source(strength, flat, weights, waves, exact, sums, together)
    if rules.per_term:
        photons_of_beam(strength * whole, flat * together, exact, sums)
    scale_row(strength * whole, HEAD, exact)
    add_terms(wanted, panel, layer, incident, exact, sums)
    if rules.per_term and wanted.detector:
        factors_of_beam(panel, rules, layer, incident, exact, sums)


@fused_kernel
def hold_first(exact):
    """Multiply HEAD by KEEP."""
    for pixel in range(BLOCK):
        exact[HEAD + pixel] *= exact[KEEP + pixel]


@fused_kernel
def take_first(exact):
    """Move POLAR to HEAD where KEEP is 1."""
    for pixel in range(BLOCK):
        kept = exact[KEEP + pixel]
        exact[HEAD + pixel] = kept * exact[POLAR + pixel] + (1.0 - kept) * exact[HEAD + pixel]


@fused_kernel
def copy_row(row, to, exact):
    """Copy a row."""
    for pixel in range(BLOCK):
        exact[to + pixel] = exact[row + pixel]


@device_function
def aim_again(panel, sub, layer, exact):
    """aim_at_block, unless a pixel has only one place: then that is where it is aimed at already."""
    if panel.oversample > 1 or panel.layers > 1:
        aim_at_block(panel, sub // panel.oversample, sub % panel.oversample, layer * panel.layer_step, exact)


@fused_kernel
def first_polarizations(slopes, panel, sources, exact, sums):
    """Fill POLAR with the factors of nanoBragg's first terms within dmin; with ``slopes`` add theirs to the sums.

    PHOTONS, OMEGA and CAPTURE are those of the pixels then.
    """
    incident = sources.incident
    n_sources, subs = len(incident), panel.oversample * panel.oversample
    # All pixels have the very first term, unless some are left out.
    last = n_sources * subs * panel.layers if panel.dmin > 0.0 else 1
    fill(0.0, HEAD, exact)
    for number in range(last):
        if not is_first(number, exact):
            continue
        source, sub = number % n_sources, number // n_sources % subs
        layer = number // n_sources // subs
        beam = (incident[source, 0], incident[source, 1], incident[source, 2])
        aim_again(panel, sub, layer, exact)
        if slopes:
            head_of(OMEGA, CAPTURE, exact)
            hold_first(exact)
            add_polarization(panel, layer, beam, exact, sums)
        else:
            fill_polarizations(panel, beam, exact)
            take_first(exact)
    if not slopes:
        copy_row(HEAD, POLAR, exact)


@fused_kernel
def factors_of_nanobragg(panel, rules, sources, exact, sums):
    """Fill HEAD with the product of the factors that nanoBragg keeps for all terms of a pixel (eq. 21).

    The solid angle is that of the first sub-pixel, the captured fraction that of the last layer, the polarization
    factor that of the first term within dmin. Pixels that have only one place are aimed at already.
    """
    last = panel.layers - 1
    fill(1.0, POLAR, exact)
    if panel.polarized:
        first_polarizations(False, panel, sources, exact, sums)
    aim_again(panel, 0, last, exact)
    fill_captures(panel, rules, last, exact)
    aim_again(panel, 0, 0, exact)
    fill_solid_angles(panel, panel.close_distance, exact)
    product_of_factors(exact)


@fused_kernel
def finish_nanobragg(wanted, panel, rules, sources, moves, exact, sums):
    """Multiply a pixel's sums by the factors that nanoBragg keeps, and add the slopes of these (eq. 21, 61)."""
    photons_of_pixel(rules.scale * rules.background, exact, sums)
    factors_of_nanobragg(panel, rules, sources, exact, sums)
    multiply_rows(HEAD, exact, N_ROWS + moves, sums)
    if wanted.detector:
        head_of_all(exact)
        add_solid_angle(panel, rules, 0, exact, sums)
        if panel.polarized:
            first_polarizations(True, panel, sources, exact, sums)
        if panel.has_sensor:
            last = panel.layers - 1
            aim_again(panel, 0, last, exact)
            head_of(OMEGA, POLAR, exact)
            add_capture(panel, rules, last, exact, sums)


@device_function
def over_wavelength(cells, number, wavelength):
    """Nine numbers a, b, c of an orientation over the wavelength."""
    c, per = cells[number], 1.0 / wavelength
    return (
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


@device_function
def sum_steps(shape, single, amplitudes, nouns, first, after, incident, middle, scratch):
    """Sum the steps of a beam, ``first`` to before ``after`` being its sources, with phases in float64."""
    lattice, lookup, sources, cells, beams = nouns.lattice, nouns.lookup, nouns.sources, nouns.cells, nouns.beams
    step, exact, places = scratch.step, scratch.exact, scratch.places
    margins = (beams.margin_h, beams.margin_k, beams.margin_l)
    waiting = 0
    for source in range(first, after):
        weight = 1.0 if after - first == 1 else sources.weight[source]
        for number in range(len(cells)):
            share = weight * cells[number, SHARE_OF_CELL]
            cell = over_wavelength(cells, number, sources.wavelength[source])
            if margins[0] < 1.0 and not sees_spot(cell, incident, middle, margins):
                continue
            split_phases(shape, amplitudes, cell, incident, lattice, lookup, step, exact, places)
            if shape == SQUARE:
                shape_square(single, lattice, step)
            else:
                shape_radial(shape, single, lattice, step)
            if amplitudes == LISTED:
                multiply_amplitudes(shape, nouns.squares, share, step, places)
            elif amplitudes == INTERPOLATED:
                multiply_interpolated(shape, lookup, nouns.table, share, step, scratch.weights)
            elif share != 1.0:
                multiply_weight(shape, share, step)
            add_step(shape, nouns.wanted, cell, beams.spins[number], step)
            waiting += 1
            if waiting == CHUNK:
                flush(step, exact)
                waiting = 0
    if waiting > 0:
        flush(step, exact)


@cache
def sum_of_blocks(shape, single, amplitudes):
    """The kernel that sums blocks of pixels of one shape of crystal, precision and kind of amplitudes."""
    quick = single and shape in (SQUARE, GAUSS)

    @addressed_fused_kernel(types.void)
    def sum_block(nouns, which, rows, columns, scratch):
        """Fill ``scratch.sums`` with what the slopes of pixels of a panel are linear in (slopes/rows.py)."""
        lattice, lookup, rules, sources = nouns.lattice, nouns.lookup, nouns.rules, nouns.sources
        wanted, beams = nouns.wanted, nouns.beams
        step, exact, sums = scratch.step, scratch.exact, scratch.sums
        panel = panel_at(nouns.panels, which)
        moves = beams.weights.shape[1]
        start_block(rows, columns, panel.dmin, sums, moves, exact)
        strength = rules.scale
        if not (quick and shape == SQUARE):  # whose lattice factor is not normalised
            strength *= (lattice.n_a * lattice.n_b * lattice.n_c) ** 2
        if amplitudes == UNIFORM:
            strength *= lookup.default_F * lookup.default_F
        n_sources, subs = len(sources.wavelength), panel.oversample * panel.oversample
        flat = rules.flat_background / (subs * n_sources)
        fill(1.0, POLAR, exact)
        fill(1.0, CAPTURE, exact)
        for layer in range(panel.layers):
            depth = layer * panel.layer_step
            for sub in range(subs):
                aim_at_block(panel, sub // panel.oversample, sub % panel.oversample, depth, exact)
                if quick:
                    frame = lay_out_block(
                        panel, rows, columns, sub // panel.oversample, sub % panel.oversample, depth, step, exact
                    )
                else:
                    middle = spread_of_block(exact)
                if rules.per_term:
                    fill_solid_angles(panel, panel.close_distance + depth, exact)
                    fill_captures(panel, rules, layer, exact)
                for beam in range(len(beams.first) - 1):
                    first, after = beams.first[beam], beams.first[beam + 1]
                    incident = (
                        sources.incident[first, 0],
                        sources.incident[first, 1],
                        sources.incident[first, 2],
                    )
                    alone, together = after - first == 1, 0.0
                    for source in range(first, after):
                        together += sources.weight[source]
                    if quick:
                        sum_chunks(shape, amplitudes, nouns, first, after, incident, frame, scratch)
                    else:
                        start_sums(step, exact)
                        sum_steps(shape, single, amplitudes, nouns, first, after, incident, middle, scratch)
                    if panel.dmin > 0.0:
                        fill_kept(panel, incident, sources.wavelength[first], exact)
                        keep_beam(exact)
                        keep_first(float((layer * subs + sub) * n_sources + first), exact)
                    whole = together if alone else 1.0  # what the sums of terms still lack
                    moved = beams.weights[first], beams.waves[first]
                    add_beam(
                        wanted, panel, rules, layer, incident, strength, flat, whole, together, *moved, exact, sums
                    )
        if not rules.per_term:
            finish_nanobragg(wanted, panel, rules, sources, moves, exact, sums)

    return sum_block
