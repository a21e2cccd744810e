"""The renderer of a block that goes reflection by reflection: only where a spot lies is anything computed.

For each spot, orientation and wavelength ellipse says where to look; what is added there is in boxes, for spots that
end at a radius, and in patches, for those that never end and are cut. What one layer of the sensor, sub-pixel and
direction of the beam leaves is multiplied with the pixels' factors by the functions of the pixels' renderer, tile by
tile (pixels/rays.py, pixels/tile.py; docs/physics.md, section 10).

run_of_spots makes a kernel for each choice of code, over plain constants, as pixels/tile.py does.
"""

import math
from functools import cache

import numpy as np
from bragg_numba.kernels import physics, walk
from bragg_numba.kernels._jit import addressed_fused_kernel, fused_kernel, shared_function
from bragg_numba.kernels.parameters import ROUND, SHARE_OF_CELL, SQUARE
from bragg_numba.kernels.pixels.rows import COLUMNS, FACTOR, GROUPS, POLAR, ROWS, SHARE, SUM, TOTAL, WEIGHT
from bragg_numba.kernels.pixels.rows import LANES as GROUP_LANES
from bragg_numba.kernels.pixels.tile import fill, finish_tile, store_tile
from bragg_numba.kernels.spots.averages import add_average
from bragg_numba.kernels.spots.boxes import add_box, add_box_exactly
from bragg_numba.kernels.spots.ellipse import (
    ellipse_at,
    length,
    less,
    middle_of_block,
    nine,
    place_on_block,
    times_nine,
    turn_exactly,
)
from bragg_numba.kernels.spots.light import (
    copy_row,
    fill_cached_factors,
    fill_light,
    forget_light,
    meets_tile,
    place_of_tile,
    weigh_tile,
)
from bragg_numba.kernels.spots.patches import (
    add_patches,
    clear_patches,
    gather_patches,
    misses_block,
    offset_pixels_of_patches,
)
from bragg_numba.kernels.spots.rows import (
    BLOCK_COLUMNS,
    BLOCK_ROWS,
    BLOCK_SUM,
    BOTTOM,
    DOWN_COLUMN,
    FORM_H,
    FORM_K,
    FORM_L,
    FOUND_FAST,
    FOUND_PHOTONS,
    FOUND_SLOW,
    GAIN,
    HELD,
    KEPT_POLAR,
    KEPT_SHARE,
    KEPT_TOTAL,
    LEFT,
    LIGHT,
    LIGHTED,
    OF_COLUMN,
    RIGHT,
    SIZE_KEPT,
    SPOT_SUM,
    TILES,
    TILES_ACROSS,
    TO_NODE_EDGE,
    TO_X,
    TO_Y,
    TO_Z,
    TOP,
    WAVES,
    WIDTH,
)
from bragg_numba.kernels.work import BOTTOM as LAST_ROW
from bragg_numba.kernels.work import COLUMN, PANEL, ROW, panel_at
from bragg_numba.kernels.work import LEFT as FIRST_COLUMN
from bragg_numba.kernels.work import RIGHT as LAST_COLUMN
from bragg_numba.kernels.work import TOP as FIRST_ROW
from numba import types

#: Steps whose terms are summed in float32 before they are added to a float64 sum.
CHUNK = 64

# --- the spots of a block -------------------------------------------------------------------------


@fused_kernel
def aim_at_block(panel, place, middle, places):
    """Fill TO with the directions of a block's pixels, and of those in the room behind, less ``middle``."""
    g = panel
    first_row, first_column, _, sub_slow, sub_fast, depth = place
    first = g.pitch_fast * first_column + (g.subpixel_fast * sub_fast + 0.5 * g.subpixel_fast)
    top = g.pitch_slow * first_row + (g.subpixel_slow * sub_slow + 0.5 * g.subpixel_slow)
    for row in range(BLOCK_ROWS):
        slow = top + g.pitch_slow * row
        for column in range(WIDTH):
            fast = first + g.pitch_fast * np.float64(np.int32(column))
            x, y, z = physics.flat_position(panel, fast, slow, depth)
            nearness = 1.0 / math.sqrt(x * x + y * y + z * z)
            at = row * WIDTH + column
            places[TO_X + at] = x * nearness - middle[0]
            places[TO_Y + at] = y * nearness - middle[1]
            places[TO_Z + at] = z * nearness - middle[2]


@fused_kernel
def clear_block(places, flags, kept):
    """Empty the sums of a block."""
    for pixel in range(BLOCK_ROWS * WIDTH):
        places[SPOT_SUM + pixel] = 0.0
        places[BLOCK_SUM + pixel] = 0.0
    for value in range(TILES * SIZE_KEPT):
        kept[value] = 0.0
    for row in range(BLOCK_ROWS):
        for column in range(BLOCK_COLUMNS, WIDTH):
            places[LIGHT + row * WIDTH + column] = 0.0
    for tile in range(TILES):
        flags[HELD + tile] = 0
        flags[LIGHTED + tile] = 0
    flags[TOP], flags[BOTTOM], flags[LEFT], flags[RIGHT] = BLOCK_ROWS, 0, BLOCK_COLUMNS, 0


@fused_kernel
def gather_spot(gain, places, flags, found):
    """Move one spot's sums, times ``gain``, to the block's; add its photons and their moments to ``found`` (eq. 41)."""
    top, bottom = np.int64(flags[TOP]), np.int64(flags[BOTTOM])
    left, right = np.int64(flags[LEFT]), min(np.int64(flags[RIGHT]), WIDTH)
    for column in range(left, right):
        places[OF_COLUMN + column] = 0.0
        places[DOWN_COLUMN + column] = 0.0
    for row in range(top, bottom):
        start, down = np.uint64(row * WIDTH), row + 0.5
        for column in range(left, right):
            at = start + np.uint64(column)
            value = places[np.uint64(SPOT_SUM) + at]
            photons = places[np.uint64(LIGHT) + at] * value
            places[np.uint64(OF_COLUMN) + np.uint64(column)] += photons
            places[np.uint64(DOWN_COLUMN) + np.uint64(column)] += down * photons
            places[np.uint64(BLOCK_SUM) + at] += gain * value
            places[np.uint64(SPOT_SUM) + at] = 0.0
    photons, along_slow, along_fast = 0.0, 0.0, 0.0
    for column in range(left, right):
        of_column = places[OF_COLUMN + column]
        photons += of_column
        along_fast += of_column * (column + 0.5)
        along_slow += places[DOWN_COLUMN + column]
    for tile in range(TILES):
        if meets_tile(tile, flags):
            flags[HELD + tile] = 1
    flags[TOP], flags[BOTTOM], flags[LEFT], flags[RIGHT] = BLOCK_ROWS, 0, BLOCK_COLUMNS, 0
    found[FOUND_PHOTONS] += gain * photons
    found[FOUND_SLOW] += gain * along_slow
    found[FOUND_FAST] += gain * along_fast


@shared_function
def bend_of(vector, aim):
    """By how much a coordinate bends over a square of half a side of 1 pixel, over the wave number."""
    across = length(aim[1]) + length(aim[2])
    return 0.5 * across * across * length(vector)


@shared_function
def add_orientation(
    shape, averaged, patched, single, edges, dispersed, orientation, beam, spot, aim, nouns, place, scratch
):
    """Add the terms of one reflection and orientation, all wavelengths of a direction; return how many were near."""
    panel, lattice, rules, phases, beams, forms, _, factors = nouns
    vectors, cell = nine(forms.vectors[orientation]), nine(forms.cells[orientation])
    share_of_cell = forms.cells[orientation, SHARE_OF_CELL]
    incident = (beams.incident[beam, 0], beams.incident[beam, 1], beams.incident[beam, 2])
    to_edge = TO_NODE_EDGE if patched is not None else 0.0
    first, last, line, form, room = place_on_block(
        vectors, spot, aim, incident, beams.waves, beams.first[beam], beams.first[beam + 1], to_edge
    )
    if first >= last:
        return 0
    to_middle = turn_exactly(vectors, less(aim[0], incident))
    slopes = (to_middle, turn_exactly(vectors, aim[1]), turn_exactly(vectors, aim[2]), aim[3])
    if averaged is not None:
        bends = (bend_of(vectors[0:3], aim), bend_of(vectors[3:6], aim), bend_of(vectors[6:9], aim))
        around = (slopes[1], slopes[2], bends, 1.0 + 2.5 * aim[3])
        for source in range(first, last):
            wavelength = beams.wavelength[source]
            step = (vectors, cell, incident, beams.waves[source])
            guess = (line[0] + wavelength * line[1], line[2] + wavelength * line[3])
            share = beams.share[source] * share_of_cell
            if dispersed is not None:
                share *= walk.square_of_parts(spot[WAVES:], factors, source, 0, 1)
            add_average(shape, edges, share, step, around, guess, spot, place, panel, lattice, scratch)
        return last - first
    for source in range(first, last):
        waves, wavelength, share = beams.waves[source], beams.wavelength[source], beams.share[source] * share_of_cell
        if patched is not None and misses_block(shape, spot, slopes, cell, waves):
            continue
        ellipse = ellipse_at(line, form, room, vectors, spot, to_middle, waves, wavelength, scratch.places)
        if not ellipse[0]:
            continue
        if dispersed is not None:
            share *= walk.square_of_parts(spot[WAVES:], factors, source, 0, 1)
        step = (cell, incident, wavelength)
        if patched is not None:
            add_patches(
                shape, single, ellipse, waves, slopes, share, step, spot, place, panel, lattice, phases, scratch
            )
        elif edges is not None:
            add_box_exactly(ellipse, share, step, panel, lattice, place, spot, scratch)
        else:
            origin = (
                waves * to_middle[0] - spot[FORM_H],
                waves * to_middle[1] - spot[FORM_K],
                waves * to_middle[2] - spot[FORM_L],
            )
            add_box(shape, single, ellipse, share, times_nine(waves, vectors), origin, scratch)
    return last - first


@shared_function
def add_spots_of_block(code, layer, beam, index, aim, place, wanted, nouns, lists, found, scratch, work):
    """Add all reflections of a block for one direction of the beam, each for itself.

    ``code``: shape, averaged, patched, single, edges, factors, dispersed of run_of_spots; ``wanted``: light.fill_light.
    """
    shape, averaged, patched, single, edges, factors, dispersed = code
    panel, lattice, rules, phases, beams, forms, spots, _ = nouns
    places, flags = scratch.places, scratch.flags
    for at in range(lists.first[index], lists.first[index + 1]):
        spot = spots[lists.spot[at]]
        waiting = 0
        for orientation in range(len(forms.cells)):
            waiting += add_orientation(
                shape, averaged, patched, single, edges, dispersed, orientation, beam, spot, aim, nouns, place, scratch
            )
            if patched is not None and waiting >= CHUNK:
                gather_patches(scratch.values, places, flags)
                waiting = 0
        if flags[TOP] < flags[BOTTOM]:
            if patched is not None:
                gather_patches(scratch.values, places, flags)
            for tile in range(TILES):
                if flags[LIGHTED + tile] == 0 and meets_tile(tile, flags):
                    fill_light(factors, tile, panel, rules, beams, beam, layer, place, wanted, scratch, work)
            gather_spot(spot[GAIN], places, flags, found[at])


# --- the tiles of a block -------------------------------------------------------------------------


@fused_kernel
def take_tile(tile, places, row, work_or_exact):
    """Move a tile's part of the block's sums to a row of the tile's renderer."""
    first_row, first_column = tile // TILES_ACROSS * ROWS, tile % TILES_ACROSS * COLUMNS
    for line in range(ROWS):
        at = (line % GROUP_LANES) * GROUPS + (line // GROUP_LANES) * COLUMNS
        start = BLOCK_SUM + (first_row + line) * WIDTH + first_column
        for column in range(COLUMNS):
            work_or_exact[row + at + column] = places[start + column]
            places[start + column] = 0.0


@fused_kernel
def add_weighted(tile, places, work, kept):
    """Add a tile's part of the block's sums times WEIGHT to what is kept of the tile."""
    first_row, first_column = tile // TILES_ACROSS * ROWS, tile % TILES_ACROSS * COLUMNS
    total = tile * SIZE_KEPT + KEPT_TOTAL
    for line in range(ROWS):
        at = (line % GROUP_LANES) * GROUPS + (line // GROUP_LANES) * COLUMNS
        start = BLOCK_SUM + (first_row + line) * WIDTH + first_column
        for column in range(COLUMNS):
            kept[total + at + column] += np.float64(work[WEIGHT + at + column]) * places[start + column]
            places[start + column] = 0.0


@fused_kernel
def add_lit(tile, places, kept):
    """The same with the weights that LIGHT holds."""
    first_row, first_column = tile // TILES_ACROSS * ROWS, tile % TILES_ACROSS * COLUMNS
    total = tile * SIZE_KEPT + KEPT_TOTAL
    for line in range(ROWS):
        at = (line % GROUP_LANES) * GROUPS + (line // GROUP_LANES) * COLUMNS
        start = np.uint64((first_row + line) * WIDTH + first_column)
        for column in range(COLUMNS):
            of = start + np.uint64(column)
            kept[total + at + column] += places[np.uint64(LIGHT) + of] * places[np.uint64(BLOCK_SUM) + of]
            places[np.uint64(BLOCK_SUM) + of] = 0.0


@fused_kernel
def take_light(tile, places, work):
    """Move a tile's LIGHT to FACTOR."""
    first_row, first_column = tile // TILES_ACROSS * ROWS, tile % TILES_ACROSS * COLUMNS
    for line in range(ROWS):
        at = (line % GROUP_LANES) * GROUPS + (line // GROUP_LANES) * COLUMNS
        start = LIGHT + (first_row + line) * WIDTH + first_column
        for column in range(COLUMNS):
            work[FACTOR + at + column] = np.float32(places[start + column])


@shared_function
def weigh_tiles(factors, panel, rules, beams, beam, layer, place, lit, spots, scratch):
    """Add what one direction of the beam left in the tiles, times its weights, to what is kept of them.

    ``lit``: whether tiles without spots count, too: for the shares of a flat background.
    """
    for tile in range(TILES):
        if not lit and spots.flags[HELD + tile] == 0:
            continue
        if rules.per_term and spots.flags[LIGHTED + tile] != 0:
            add_lit(tile, spots.places, spots.kept)
        else:
            weigh_tile(factors, tile, panel, rules, beams, beam, layer, place, spots, scratch)
            add_weighted(tile, spots.places, scratch.work, spots.kept)


@shared_function
def store_tiles(factors, panel, rules, beams, place, tiles, index, lit, frame, spots, scratch):
    """Finish and store the tiles of a block; return whether any pixel is NaN."""
    work, exact, kept = scratch.work, scratch.exact, spots.kept
    doubts = False
    for tile in range(TILES):
        if not lit and spots.flags[HELD + tile] == 0:
            continue
        at = place_of_tile(tile, place)
        window = (
            at[0],
            at[1],
            COLUMNS,
            max(np.int64(tiles[index, FIRST_ROW]), at[0]),
            min(np.int64(tiles[index, LAST_ROW]), at[0] + ROWS),
            max(np.int64(tiles[index, FIRST_COLUMN]), at[1]),
            min(np.int64(tiles[index, LAST_COLUMN]), at[1] + COLUMNS),
        )
        if window[3] >= window[4] or window[5] >= window[6]:
            continue
        fill(0.0, SUM, work)
        if factors is not None and rules.weighted:
            copy_row(kept, tile * SIZE_KEPT + KEPT_TOTAL, exact, TOTAL)
            copy_row(kept, tile * SIZE_KEPT + KEPT_SHARE, exact, SHARE)
            copy_row(kept, tile * SIZE_KEPT + KEPT_POLAR, work, POLAR)
        else:
            take_tile(tile, spots.places, TOTAL, exact)
        if not rules.weighted and spots.flags[LIGHTED + tile] != 0:
            take_light(tile, spots.places, work)
        elif not rules.per_term:
            fill_cached_factors(factors, panel, rules, at, beams, work, exact)
        if factors is not None and rules.weighted and not rules.per_term and panel.polarized:
            copy_row(kept, tile * SIZE_KEPT + KEPT_POLAR, work, POLAR)
        background, strength = finish_tile(factors, panel, 1.0, rules, len(beams.waves), True, work, exact)
        doubts |= store_tile(background, strength, panel, window, frame, work)
    return doubts


@cache
def run_of_spots(shape, single, edges, factors, averaged, dispersed):
    """The kernel that renders the blocks of a work list with one choice of code.

    ``shape`` is that of the crystal; the others are None or YES: float32; spots that reach half-way to their
    neighbours; terms with factors of their own or a sensor that absorbs; spots integrated over each pixel; F that
    depends on the wavelength, whose spots are DispersedSpots.
    """

    patched = () if shape in (SQUARE, ROUND) and averaged is None else None

    @addressed_fused_kernel(types.void)
    def render_spots(
        panels,
        lattice,
        rules,
        phases,
        beams,
        forms,
        spots,
        tiles,
        lists,
        run,
        roi,
        frame,
        doubts,
        found,
        scratch,
        values,
    ):
        """Render blocks run[0] to before run[1] with the scratch of one thread; else as cpu.add_spots."""
        lit = rules.background != 0.0 or rules.flat_background != 0.0
        code, wanted = (shape, averaged, patched, single, edges, factors, dispersed), (roi, frame.mask)
        of_spots, of_sources = spots, None
        if dispersed is not None:
            of_spots, of_sources = spots.rows, spots.factors
        for index in range(run[0], run[1]):
            panel = panel_at(panels, tiles[index, PANEL])
            row, column = np.int64(tiles[index, ROW]), np.int64(tiles[index, COLUMN])
            nouns = (panel, lattice, rules, phases, beams, forms, of_spots, of_sources)
            clear_block(values.places, values.flags, values.kept)
            if patched is not None:
                clear_patches(values.values, values.flags)
            for layer in range(panel.layers):
                depth = layer * panel.layer_step
                for sub in range(panel.oversample * panel.oversample):
                    place = (row, column, COLUMNS, sub // panel.oversample, sub % panel.oversample, depth)
                    aim = middle_of_block(panel, place)
                    aim_at_block(panel, place, aim[0], values.places)
                    if patched is not None:
                        offset_pixels_of_patches(values.values, values.places)
                    for beam in range(len(beams.weight)):
                        if rules.weighted:
                            forget_light(values.flags)
                        add_spots_of_block(
                            code, layer, beam, index, aim, place, wanted, nouns, lists, found, values, scratch
                        )
                        if factors is not None and rules.weighted:
                            weigh_tiles(factors, panel, rules, beams, beam, layer, place, lit, values, scratch)
            place = (row, column, COLUMNS, 0, 0, 0.0)
            doubts[index] = store_tiles(factors, panel, rules, beams, place, tiles, index, lit, frame, values, scratch)

    return render_spots
