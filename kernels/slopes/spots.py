"""A field of pixels, reflection by reflection: only where a spot lies are slopes summed (docs/physics.md, section 13).

What one layer of the sensor, sub-pixel and direction of the beam leaves in the planes is moved, block by block of the
field's pixels, to the rows that slopes are made of, with the functions of the engine that walks pixels (block.py and
factors.py). Blocks that no spot touches are passed over. sum_of_fields and pull_of_fields make a kernel for each choice
of code, as block.py does.
"""

from functools import cache

import numpy as np
from bragg_numba.kernels._jit import (
    addressed_fused_kernel,
    device_function,
    fused_kernel,
    shared_function,
    summing_kernel,
)
from bragg_numba.kernels.slopes.block import (
    add_beam,
    factors_of_nanobragg,
    finish_nanobragg,
    keep_beam,
    keep_first,
    product_of_factors,
)
from bragg_numba.kernels.slopes.factors import (
    aim_at_block,
    fill,
    fill_captures,
    fill_kept,
    fill_polarizations,
    fill_solid_angles,
)
from bragg_numba.kernels.slopes.rows import (
    AT_COLUMN,
    AT_ROW,
    BLOCK,
    CAPTURE,
    HEAD,
    KEEP,
    POLAR,
    STRIDE,
    SUMS,
    TOTAL_TERM,
)
from bragg_numba.kernels.slopes.rows import FIRST as FIRST_TERM
from bragg_numba.kernels.slopes.spots_rows import (
    CELL,
    CELLS,
    CELLS_ACROSS,
    COLUMN,
    COUNT,
    DIRTY,
    FIRST,
    OF_TERM,
    PANEL,
    PLANE,
    ROW,
    SUMMED,
    WEIGHTS,
)
from bragg_numba.kernels.slopes.spots_terms import add_spot, centre_patches, gratings_of
from bragg_numba.kernels.spots.ellipse import middle_of_block
from bragg_numba.kernels.spots.rows import BLOCK_COLUMNS, LANES, WIDTH
from bragg_numba.kernels.spots.tile import aim_at_block as aim_at_field
from bragg_numba.kernels.work import panel_at
from numba import types

# --- planes -----------------------------------------------------------------------------------------------------------


@shared_function
def aim_field(gratings, panel, row, column, layer, sub, planes):
    """Aim at a sub-pixel and layer of a field's pixels, the first in a row and column; returns middle_of_block."""
    place = (row, column, 0, sub // panel.oversample, sub % panel.oversample, layer * panel.layer_step)
    aim = middle_of_block(panel, place)
    aim_at_field(panel, place, aim[0], planes)
    if gratings is not None:
        centre_patches(planes)
    return aim


@device_function
def width_of_cell(cell):
    """Columns of a cell: the last one of a row has the room behind."""
    return CELL + (LANES if cell % CELLS_ACROSS == CELLS_ACROSS - 1 else 0)


@fused_kernel
def clear_cells(planes_used, planes, flags):
    """Empty the sums of the cells that hold any, in the first planes."""
    for cell in range(CELLS):
        if flags[DIRTY + cell] == 0:
            continue
        flags[DIRTY + cell] = 0
        corner, wide = cell // CELLS_ACROSS * CELL * WIDTH + cell % CELLS_ACROSS * CELL, width_of_cell(cell)
        for plane in range(planes_used):
            for row in range(CELL):
                start = OF_TERM + plane * PLANE + corner + row * WIDTH
                for column in range(wide):
                    planes[start + column] = 0.0


@device_function
def pixel_of_block(block, number, listed):
    """Row and column in its field of one of a block's pixels."""
    place, across = np.uint32(listed.pixels[listed.blocks[block, 0] + number]), np.uint32(BLOCK_COLUMNS)
    return np.int64(place // across), np.int64(place % across)


@fused_kernel
def place_block(field, block, listed, exact, at):
    """Fill AT_ROW and AT_COLUMN of a block, and ``at`` with the places of its pixels in a plane.

    Behind the last pixel it stands again and again.
    """
    n = np.int64(listed.blocks[block, 1])
    top, left = listed.fields[field, ROW], listed.fields[field, COLUMN]
    for pixel in range(BLOCK):
        row, column = pixel_of_block(block, min(pixel, n - 1), listed)
        exact[AT_ROW + pixel], exact[AT_COLUMN + pixel] = top + row, left + column
        at[pixel] = row * WIDTH + column


@fused_kernel
def is_touched(block, listed, flags):
    """Whether a pixel of a block lies in a cell that holds a sum."""
    if listed.blocks[block, 2] >= 0:
        return flags[DIRTY + listed.blocks[block, 2]] != 0
    for pixel in range(listed.blocks[block, 1]):
        row, column = pixel_of_block(block, pixel, listed)
        if flags[DIRTY + (row // CELL) * CELLS_ACROSS + column // CELL] != 0:
            return True
    return False


@fused_kernel
def gather_rows(first, after, at, planes, exact):
    """Fill rows of a beam's sums of a block from the planes."""
    for number in range(first, after):
        for pixel in range(BLOCK):
            exact[TOTAL_TERM + number * STRIDE + pixel] = planes[OF_TERM + number * PLANE + np.uint64(at[pixel])]


@fused_kernel
def gather_block(wanted, at, planes, exact):
    """Fill the wanted rows of a beam's sums (slopes/rows.py)."""
    gather_rows(0, 1, at, planes, exact)
    if wanted.strain:
        gather_rows(1, 10, at, planes, exact)
    if wanted.turn or wanted.detector:
        gather_rows(10, 13, at, planes, exact)
    if wanted.shape:
        gather_rows(13, 19, at, planes, exact)
    if wanted.spread:
        gather_rows(19, 20, at, planes, exact)


# --- blocks -----------------------------------------------------------------------------------------------------------


@fused_kernel
def first_terms(panel, sources, exact):
    """Fill FIRST of a block: the number of nanoBragg's first term within dmin, or -1.

    Its pixels are aimed at then: where they have only one place, at that.
    """
    if panel.dmin <= 0.0:
        fill(0.0, FIRST_TERM, exact)
        aim_at_block(panel, 0, 0, 0.0, exact)
        return
    fill(-1.0, FIRST_TERM, exact)
    n_sources, subs = len(sources.wavelength), panel.oversample * panel.oversample
    for layer in range(panel.layers):
        for sub in range(subs):
            aim_at_block(panel, sub // panel.oversample, sub % panel.oversample, layer * panel.layer_step, exact)
            for source in range(n_sources):
                incident = (
                    sources.incident[source, 0],
                    sources.incident[source, 1],
                    sources.incident[source, 2],
                )
                fill_kept(panel, incident, sources.wavelength[source], exact)
                keep_first(float((layer * subs + sub) * n_sources + source), exact)


@fused_kernel
def aim_and_weigh(panel, rules, layer, sub, exact):
    """Aim at one sub-pixel and layer of a block's pixels; under fidelity physical make what all beams share."""
    depth = layer * panel.layer_step
    aim_at_block(panel, sub // panel.oversample, sub % panel.oversample, depth, exact)
    if rules.per_term:
        fill_solid_angles(panel, panel.close_distance + depth, exact)
        fill_captures(panel, rules, layer, exact)


@fused_kernel
def finish_beam(wanted, panel, rules, beams, moves, layer, beam, strength, flat, exact, sums):
    """Add a direction's sums of a block, times its factors, to what slopes are linear in (eq. 60 to 64)."""
    incident = (beams.incident[beam, 0], beams.incident[beam, 1], beams.incident[beam, 2])
    weight, moved = beams.weight[beam], (moves.weights[beam], moves.waves[beam])
    if panel.dmin > 0.0:
        fill_kept(panel, incident, beams.wavelength[beams.first[beam]], exact)
        keep_beam(exact)
    add_beam(wanted, panel, rules, layer, incident, strength, flat, weight, weight, *moved, exact, sums)


@fused_kernel
def start_sums(block, room):
    """Empty what slopes of a block are linear in, if nothing was added to it yet."""
    if room.flags[SUMMED + block] == 0:
        room.flags[SUMMED + block] = 1
        mine = room.sums[block]
        for place in range(len(mine)):
            mine[place] = 0.0


@cache
def sum_of_fields(shape, single, sloped):
    """The kernel that sums what slopes of a field's pixels are linear in; ``single`` and ``sloped``: None or YES."""
    gratings = gratings_of(shape)

    @addressed_fused_kernel(types.void)
    def sum_field(panels, lattice, rules, sources, beams, spots, wanted, moves, listed, index, room):
        """Fill ``room.sums`` of the field's blocks, and say in SUMMED of which: the others have none but zeros."""
        planes, flags, exact, at = room.planes, room.flags, room.exact, room.at
        panel = panel_at(panels, listed.fields[index, PANEL])
        row, column = np.int64(listed.fields[index, ROW]), np.int64(listed.fields[index, COLUMN])
        first, count = np.int64(listed.fields[index, FIRST]), np.int64(listed.fields[index, COUNT])
        subs = panel.oversample * panel.oversample
        used = SUMS if sloped is not None else 1
        for block in range(count):
            flags[SUMMED + block] = 0
        volume = lattice.n_a * lattice.n_b * lattice.n_c
        strength = rules.scale * volume * volume
        flat = rules.flat_background / (subs * len(sources.wavelength))
        none = listed.first[index] == listed.first[index + 1]
        if none and rules.flat_background == 0.0 and rules.background == 0.0:
            return
        fill(1.0, POLAR, exact)
        fill(1.0, CAPTURE, exact)
        for layer in range(panel.layers):
            for sub in range(subs):
                aim = aim_field(gratings, panel, row, column, layer, sub, planes)
                for beam in range(len(beams.weight)):
                    for one in range(listed.first[index], listed.first[index + 1]):
                        spot = listed.spot[one]
                        add_spot(shape, gratings, single, sloped, spot, beam, aim, lattice, beams, spots, planes, flags)
                    for block in range(count):
                        if (flat == 0.0 or not rules.per_term) and not is_touched(first + block, listed, flags):
                            continue
                        place_block(index, first + block, listed, exact, at)
                        start_sums(block, room)
                        aim_and_weigh(panel, rules, layer, sub, exact)
                        gather_block(wanted, at, planes, exact)
                        finish_beam(
                            wanted, panel, rules, beams, moves, layer, beam, strength, flat, exact, room.sums[block]
                        )
                    clear_cells(used, planes, flags)
        if rules.per_term:
            return
        for block in range(count):
            if flags[SUMMED + block] == 0 and rules.background == 0.0:
                continue
            start_sums(block, room)
            place_block(index, first + block, listed, exact, at)
            first_terms(panel, sources, exact)
            finish_nanobragg(wanted, panel, rules, sources, moves.weights.shape[1], exact, room.sums[block])

    return sum_field


# --- gradients in |F|^2 -----------------------------------------------------------------------------------------------


@fused_kernel
def weigh_block(panel, rules, sources, beams, layer, sub, beam, strength, weights, room):
    """Lay the weights of a block's pixels times what a term of the weight 1 brings there into their plane (eq. 64).

    ``weights``: of the whole frame.
    """
    exact, planes, at = room.exact, room.planes, room.at
    incident = (beams.incident[beam, 0], beams.incident[beam, 1], beams.incident[beam, 2])
    if rules.per_term:
        aim_and_weigh(panel, rules, layer, sub, exact)
        fill_polarizations(panel, incident, exact)
        product_of_factors(exact)
    else:
        first_terms(panel, sources, exact)
        factors_of_nanobragg(panel, rules, sources, exact, room.sums[0])
        aim_and_weigh(panel, rules, layer, sub, exact)
    fill(1.0, KEEP, exact)
    if panel.dmin > 0.0:
        fill_kept(panel, incident, beams.wavelength[beams.first[beam]], exact)
    factor = strength * beams.weight[beam]
    for pixel in range(BLOCK):
        row, column = int(exact[AT_ROW + pixel]), int(exact[AT_COLUMN + pixel])
        weight = factor * weights[panel.first_row + row, panel.first_column + column]
        planes[WEIGHTS + at[pixel]] = weight * exact[HEAD + pixel] * exact[KEEP + pixel]


@summing_kernel
def weigh_cells(planes, flags):
    """The sum of one spot's terms times the weights of their pixels; empties them."""
    total = 0.0
    for cell in range(CELLS):
        if flags[DIRTY + cell] == 0:
            continue
        flags[DIRTY + cell] = 0
        corner, wide = cell // CELLS_ACROSS * CELL * WIDTH + cell % CELLS_ACROSS * CELL, width_of_cell(cell)
        for row in range(CELL):
            start = corner + row * WIDTH
            for column in range(wide):
                total += planes[WEIGHTS + start + column] * planes[OF_TERM + start + column]
                planes[OF_TERM + start + column] = 0.0
    return total


@fused_kernel
def clear_weights(planes):
    """Let no pixel of a field have a weight."""
    for pixel in range(PLANE):
        planes[WEIGHTS + pixel] = 0.0


@cache
def pull_of_fields(shape, single):
    """The kernel that makes the gradient in |F|^2 of a field's reflections (eq. 72)."""
    gratings = gratings_of(shape)

    @addressed_fused_kernel(types.void)
    def pull_field(panels, lattice, rules, sources, beams, spots, weights, listed, index, room, found):
        """Add to found (spots of all fields,) the weights of pixels, (slow, fast), times the terms of |F|^2 = 1."""
        planes, flags, exact, at = room.planes, room.flags, room.exact, room.at
        if listed.first[index] == listed.first[index + 1]:
            return
        panel = panel_at(panels, listed.fields[index, PANEL])
        row, column = np.int64(listed.fields[index, ROW]), np.int64(listed.fields[index, COLUMN])
        first, count = np.int64(listed.fields[index, FIRST]), np.int64(listed.fields[index, COUNT])
        clear_weights(planes)
        volume = lattice.n_a * lattice.n_b * lattice.n_c
        strength = rules.scale * volume * volume
        fill(1.0, POLAR, exact)
        fill(1.0, CAPTURE, exact)
        for layer in range(panel.layers):
            for sub in range(panel.oversample * panel.oversample):
                aim = aim_field(gratings, panel, row, column, layer, sub, planes)
                for beam in range(len(beams.weight)):
                    for block in range(count):
                        place_block(index, first + block, listed, exact, at)
                        weigh_block(panel, rules, sources, beams, layer, sub, beam, strength, weights, room)
                    for one in range(listed.first[index], listed.first[index + 1]):
                        spot = listed.spot[one]
                        add_spot(shape, gratings, single, None, spot, beam, aim, lattice, beams, spots, planes, flags)
                        found[one] += weigh_cells(planes, flags)

    return pull_field
