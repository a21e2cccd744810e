"""The renderer of a tile that goes reflection by reflection: only where a spot lies is anything computed.

Directions' factors, weights and the last step are those of the pixels' tile (pixels/rays.py, pixels/tile.py); what
differs is which terms are made, and where: in boxes around spots that end at a radius (boxes), in the patches that may
exceed the cutoff for those that never end (patches). ellipse says where to look (docs/physics.md, section 12).

run_of_spots makes a kernel for each choice of code, over plain constants, as pixels/tile.py does.
"""

from functools import cache

import numpy as np
from bragg_numba.kernels._jit import addressed_fused_kernel, device_function, fused_kernel
from bragg_numba.kernels.parameters import ROUND, SQUARE
from bragg_numba.kernels.pixels.rays import aim_at_groups, multiply_captures, offset_pixels, polarizations
from bragg_numba.kernels.pixels.rows import FACTOR, PIXELS, TOTAL
from bragg_numba.kernels.pixels.tile import fill, fill_factors, finish_tile, start_sums, store_tile, weigh_source
from bragg_numba.kernels.spots.boxes import add_box, add_box_exactly, aim_at_pixels, clear_boxes, gather_boxes
from bragg_numba.kernels.spots.ellipse import (
    ellipse_at,
    less,
    middle_of_tile,
    nine,
    place_on_tile,
    times_nine,
    turn_exactly,
)
from bragg_numba.kernels.spots.patches import add_patches, aim_at_patches, clear_patches, gather_patches
from bragg_numba.kernels.spots.rows import FORM_H, FORM_K, FORM_L, GAIN, LIGHT, TO_EDGE
from bragg_numba.kernels.work import COLUMN, PANEL, ROW, panel_at
from numba import types

#: Steps that are summed in float32 before they are added to the float64 total.
CHUNK = 64


@device_function
def aim_at_spots(shape, panel, place, middle, spots):
    """Place the pixels of a tile as the shape's terms need them."""
    if shape == SQUARE or shape == ROUND:
        aim_at_patches(panel, place, middle, spots.values, spots.places)
    else:
        aim_at_pixels(panel, place, middle, spots.places)


@device_function
def clear_spots(shape, spots):
    """Empty the sums of a tile's spots."""
    if shape == SQUARE or shape == ROUND:
        clear_patches(spots.values, spots.dirty)
    else:
        clear_boxes(spots.places, spots.dirty)


@device_function
def gather_spots(shape, gain, weighted, size, place, spots, scratch, found):
    """Move the sums of one reflection to the tile's total, and its photons to ``found``."""
    if shape == SQUARE or shape == ROUND:
        gather_patches(gain, weighted, size, place, spots, scratch, found)
    else:
        gather_boxes(gain, weighted, size, place, spots, scratch, found)


@device_function
def add_orientation(shape, single, edges, orientation, beam, spot, aim, nouns, place, scratch):
    """Add the terms of one reflection and orientation, all wavelengths of a direction; return how many were lit."""
    panel, lattice, rules, phases, beams, forms, _ = nouns
    vectors, cell = nine(forms.vectors[orientation]), nine(forms.cells[orientation])
    incident = (beams.incident[beam, 0], beams.incident[beam, 1], beams.incident[beam, 2])
    to_edge = TO_EDGE if shape == SQUARE or shape == ROUND else 0.0
    first, last, line, form = place_on_tile(
        vectors, spot, aim, incident, beams.waves, beams.first[beam], beams.first[beam + 1], to_edge
    )
    to_middle = turn_exactly(vectors, less(aim[0], incident))
    slopes = (to_middle, turn_exactly(vectors, aim[1]), turn_exactly(vectors, aim[2]))
    target = (spot[FORM_H], spot[FORM_K], spot[FORM_L])
    lit = 0
    for source in range(first, last):
        waves, wavelength, share = beams.waves[source], beams.wavelength[source], beams.share[source]
        ellipse = ellipse_at(line, form, waves, wavelength)
        if not ellipse[0]:
            continue
        step = (cell, incident, wavelength)
        if shape == SQUARE or shape == ROUND:
            lit += add_patches(
                shape, single, ellipse, waves, slopes, share, step, spot, place, panel, lattice, phases, scratch
            )
        elif edges is not None:
            lit += add_box_exactly(ellipse, share, step, panel, lattice, place, spot, scratch)
        else:
            origin = less((waves * to_middle[0], waves * to_middle[1], waves * to_middle[2]), target)
            lit += add_box(shape, single, ellipse, share, times_nine(waves, vectors), origin, scratch)
    return lit


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


@fused_kernel
def clear_totals(exact):
    """Empty the totals of a tile."""
    for pixel in range(PIXELS):
        exact[TOTAL + pixel] = 0.0


@device_function
def add_spots_of_tile(shape, single, edges, beam, index, aim, place, size, nouns, lists, found, scratch, patches):
    """Add all reflections of a tile for one direction of the beam, each for itself; ``size``: rows, columns in it."""
    rules, forms, spots = nouns[2], nouns[5], nouns[6]
    for at in range(lists.first[index], lists.first[index + 1]):
        spot = spots[lists.spot[at]]
        waiting = 0
        for orientation in range(len(forms.cells)):
            waiting += add_orientation(shape, single, edges, orientation, beam, spot, aim, nouns, place, patches)
            if waiting >= CHUNK:
                gather_spots(shape, spot[GAIN], rules.weighted, size, place, patches, scratch, found[at])
                waiting = 0
        if waiting > 0:
            gather_spots(shape, spot[GAIN], rules.weighted, size, place, patches, scratch, found[at])


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
            clear_totals(exact)
            clear_spots(shape, patches)
            fill_cached_factors(factors, panel, rules, (row, column), incident, work, exact)
            for layer in range(panel.layers):
                depth = layer * panel.layer_step
                for sub in range(panel.oversample * panel.oversample):
                    place = (row, column, sub // panel.oversample, sub % panel.oversample, depth)
                    aim = middle_of_tile(panel, place)
                    aim_at_spots(shape, panel, place, aim[0], patches)
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
