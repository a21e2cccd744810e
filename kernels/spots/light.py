"""What turns a spot's sums into photons, pixel by pixel: the factors of the renderer of pixels, a tile at a time.

A tile's are made when the first spot meets it, in the arrays of the pixels' renderer, and laid into the block: an image
and the photons that are summed of each spot are then made of the same numbers (docs/physics.md, eq. 41).
"""

import numpy as np
from bragg_numba.kernels._jit import fused_kernel, shared_function
from bragg_numba.kernels.pixels.rays import aim_at_groups, multiply_captures, offset_pixels
from bragg_numba.kernels.pixels.rows import COLUMNS, FACTOR, GROUPS, PIXELS, POLAR, ROWS, SHARE, WEIGHT
from bragg_numba.kernels.pixels.rows import LANES as GROUP_LANES
from bragg_numba.kernels.pixels.tile import fill_factors, weigh_source
from bragg_numba.kernels.spots.rows import (
    BOTTOM,
    KEPT_POLAR,
    KEPT_SHARE,
    LEFT,
    LIGHT,
    LIGHTED,
    RIGHT,
    SIZE_KEPT,
    TILES,
    TILES_ACROSS,
    TOP,
    WIDTH,
)


@shared_function
def meets_tile(tile, flags):
    """Whether the pixels that one spot has touched lie on a tile."""
    first_row, first_column = tile // TILES_ACROSS * ROWS, tile % TILES_ACROSS * COLUMNS
    along_slow = flags[TOP] < first_row + ROWS and flags[BOTTOM] > first_row
    return along_slow and flags[LEFT] < first_column + COLUMNS and flags[RIGHT] > first_column


@shared_function
def forget_light(flags):
    """Let no tile's LIGHT be known any more."""
    for tile in range(TILES):
        flags[LIGHTED + tile] = 0


@shared_function
def place_of_tile(tile, place):
    """``place`` of a tile of the block."""
    row, column = place[0] + tile // TILES_ACROSS * ROWS, place[1] + tile % TILES_ACROSS * COLUMNS
    return row, column, COLUMNS, place[3], place[4], place[5]


@fused_kernel
def copy_row(source, first, target, start):
    """Copy a value of each pixel."""
    for pixel in range(PIXELS):
        target[start + pixel] = source[first + pixel]


@fused_kernel
def weigh_tile(factors, tile, panel, rules, beams, beam, layer, place, spots, scratch):
    """Fill WEIGHT of a tile for one direction of the beam; keep shares and polarization."""
    work, exact, kept = scratch.work, scratch.exact, spots.kept
    incident = (beams.incident[beam, 0], beams.incident[beam, 1], beams.incident[beam, 2])
    first_incident = (beams.incident[0, 0], beams.incident[0, 1], beams.incident[0, 2])
    at, start = place_of_tile(tile, place), tile * SIZE_KEPT
    aim_at_groups(panel, at, work, exact)
    offset_pixels(work)
    if rules.per_term:
        fill_factors(factors, panel, rules, False, layer, at[5], first_incident, work, exact)
    copy_row(kept, start + KEPT_SHARE, exact, SHARE)
    copy_row(kept, start + KEPT_POLAR, work, POLAR)
    weigh_source(panel, rules, incident, beams.wavelength[beams.first[beam]], beams.weight[beam], at, work, exact)
    copy_row(exact, SHARE, kept, start + KEPT_SHARE)
    copy_row(work, POLAR, kept, start + KEPT_POLAR)


@fused_kernel
def fill_cached_factors(factors, panel, rules, place, beams, work, exact):
    """Fill FACTOR as nanoBragg does, once for all terms: of the first sub-pixel and layer, and the last's capture."""
    incident = (beams.incident[0, 0], beams.incident[0, 1], beams.incident[0, 2])
    aim_at_groups(panel, (place[0], place[1], COLUMNS, 0, 0, 0.0), work, exact)
    offset_pixels(work)
    fill_factors(None, panel, rules, True, 0, 0.0, incident, work, exact)
    if factors is not None and panel.has_sensor:
        layer = panel.layers - 1
        aim_at_groups(panel, (place[0], place[1], COLUMNS, 0, 0, layer * panel.layer_step), work, exact)
        offset_pixels(work)
        multiply_captures(panel, layer, work, exact)


@fused_kernel
def lay_light(tile, source, places, work):
    """Lay a row of a tile's values into its part of LIGHT."""
    first_row, first_column = tile // TILES_ACROSS * ROWS, tile % TILES_ACROSS * COLUMNS
    for line in range(ROWS):
        at = source + (line % GROUP_LANES) * GROUPS + (line // GROUP_LANES) * COLUMNS
        start = LIGHT + (first_row + line) * WIDTH + first_column
        for column in range(COLUMNS):
            places[start + column] = np.float64(work[at + column])


@fused_kernel
def dim_light(tile, source, places, work):
    """Multiply a tile's part of LIGHT by a row of its values."""
    first_row, first_column = tile // TILES_ACROSS * ROWS, tile % TILES_ACROSS * COLUMNS
    for line in range(ROWS):
        at = source + (line % GROUP_LANES) * GROUPS + (line // GROUP_LANES) * COLUMNS
        start = LIGHT + (first_row + line) * WIDTH + first_column
        for column in range(COLUMNS):
            places[start + column] *= np.float64(work[at + column])


@fused_kernel
def darken_unwanted(tile, panel, place, roi, mask, places):
    """Leave no LIGHT in pixels of a tile that are not on the panel, not in the region of interest or masked."""
    row_of_tile, first_column, _, _, _, _ = place_of_tile(tile, place)
    top, bottom = max(0, roi[2] - panel.first_row), min(panel.n_slow, roi[3] + 1 - panel.first_row)
    left, right = max(0, roi[0] - panel.first_column), min(panel.n_fast, roi[1] + 1 - panel.first_column)
    whole = top <= row_of_tile and row_of_tile + ROWS <= bottom
    whole = whole and left <= first_column and first_column + COLUMNS <= right
    if whole and mask.size == 0:
        return
    for line in range(ROWS):
        row = row_of_tile + line
        start = LIGHT + (row - place[0]) * WIDTH + first_column - place[1]
        for across in range(COLUMNS):
            column = first_column + across
            wanted = top <= row < bottom and left <= column < right
            if wanted and mask.size > 0:
                wanted = mask[panel.first_row + row, panel.first_column + column]
            if not wanted:
                places[start + across] = 0.0


@fused_kernel
def fill_light(factors, tile, panel, rules, beams, beam, layer, place, wanted, spots, scratch):
    """Fill LIGHT of a tile for one direction of the beam; ``wanted``: region of interest and mask of the frame."""
    work, exact, places = scratch.work, scratch.exact, spots.places
    if factors is not None and rules.weighted:
        weigh_tile(factors, tile, panel, rules, beams, beam, layer, place, spots, scratch)
        lay_light(tile, WEIGHT, places, work)
    if not rules.per_term:
        fill_cached_factors(factors, panel, rules, place_of_tile(tile, place), beams, work, exact)
        if not rules.weighted:
            lay_light(tile, FACTOR, places, work)
        else:
            dim_light(tile, FACTOR, places, work)
            if panel.polarized:
                dim_light(tile, POLAR, places, work)
    darken_unwanted(tile, panel, place, wanted[0], wanted[1], places)
    spots.flags[LIGHTED + tile] = 1
