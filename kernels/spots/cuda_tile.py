"""How a block of threads renders a tile of the work list on a GPU, spot by spot (docs/physics.md, section 10).

A thread owns a pixel: nothing is added by two threads, and each adds in the order of the list. The block goes through
the tile's items, a spot and an orientation each, ITEMS at a time: every thread asks for one of them which wavelengths
come near; what is found is numbered, item by item; then the found steps are written to shared memory, RECORDS at a
time, and each thread adds those whose outline holds its pixel.
"""

from typing import NamedTuple

import numpy as np
from bragg_numba.kernels._jit_cuda import gpu_function
from bragg_numba.kernels.pixels.cuda_frame import TILE_SIDE, is_wanted, place_in_image
from bragg_numba.kernels.pixels.cuda_functions import physics, walk
from bragg_numba.kernels.spots import cuda_search as search
from bragg_numba.kernels.spots import cuda_terms as terms
from bragg_numba.kernels.spots.cuda_search import Ray, ellipse
from bragg_numba.kernels.spots.rows import FORM_H, FORM_K, FORM_L, GAIN
from bragg_numba.kernels.work import COLUMN, ROW
from numba import cuda, float32, float64, int32, uint32

#: Threads in a block: one a pixel of the tile.
THREADS = TILE_SIDE * TILE_SIDE

#: Pixels of a warp, 8 columns by 4 rows: compact, so that few warps meet a spot.
WARP_COLUMNS, WARP_ROWS = 8, 4
WARP = WARP_COLUMNS * WARP_ROWS
WARPS_ACROSS = TILE_SIDE // WARP_COLUMNS

#: Items that are looked at together, in groups whose counts are added up by a thread.
ITEMS, GROUP = 128, 16

#: Steps that lie in shared memory at a time: of each an Outline, float64 values, and which step it is.
RECORDS = 128
OUTLINE_SIZE = 5
RECORD_SIZE = 13
NAME_SIZE = 3

#: In a record: coordinates of the tile's middle, nine numbers that turn a direction into them, photons of a term 1.
VECTORS, SCALE = 3, 12

#: Which step a record is.
SPOT, ORIENTATION, SOURCE = range(3)

#: Rows of the pixels' values: direction; sum of terms and of walk.share_of_term; the factors of a pixel.
TO_X, TO_Y, TO_Z, TOTAL, SHARES, CAPTURED, POLAR, OMEGA = (n * THREADS for n in range(8))


class Nouns(NamedTuple):
    """What a tile is told of its panel and of what all tiles have in common."""

    panel: tuple
    lattice: tuple
    beams: tuple
    forms: tuple
    spots: np.ndarray


class Shared(NamedTuple):
    """Shared memory of a block."""

    pixels: np.ndarray  #: float64: eight values a pixel, row by row
    middle: np.ndarray  #: float64: the Ray to the tile's middle
    lines: np.ndarray  #: float64, 4 an item, side by side: where its spot's middle lies (cuda_search.place_on_tile)
    sources: np.ndarray  #: int32, an item: its first source in reach
    names: np.ndarray  #: int32, an item: its spot; then its orientation
    starts: np.ndarray  #: int32, an item: steps found before it; one more: all
    groups: np.ndarray  #: int32: steps found in a group of items
    outlines: np.ndarray  #: float32: OUTLINE_SIZE a record
    records: np.ndarray  #: float64: RECORD_SIZE a record
    steps: np.ndarray  #: int32: NAME_SIZE a record


class Mine(NamedTuple):
    """A thread, and its pixel's place on the panel."""

    thread: int
    row: int
    column: int
    wanted: bool


class Spots(NamedTuple):
    """The spots that a tile looks for: the first in the list, and how many."""

    first: int
    count: int


class Here(NamedTuple):
    """The tile's first pixel on the panel, which part of the pixels, and which layer of the sensor."""

    row: int
    column: int
    sub_slow: int
    sub_fast: int
    depth: float


# --- once a tile ----------------------------------------------------------------------------------


@gpu_function
def row_in_tile(thread):
    """Row of a thread's pixel in the tile."""
    return int32(thread // WARP // WARPS_ACROSS * WARP_ROWS + thread % WARP // WARP_COLUMNS)


@gpu_function
def column_in_tile(thread):
    """Column of a thread's pixel in the tile."""
    return int32(thread // WARP % WARPS_ACROSS * WARP_COLUMNS + thread % WARP_COLUMNS)


@gpu_function
def find_pixel(panel, tiles, item, frame, thread):
    """What a thread of a block renders."""
    at = uint32(item)
    row = int32(tiles[at, uint32(ROW)] + row_in_tile(thread))
    column = int32(tiles[at, uint32(COLUMN)] + column_in_tile(thread))
    return Mine(thread, row, column, is_wanted(panel, tiles, item, frame, row, column))


@gpu_function
def render_tile(kind, nouns, rules, tiles, lists, item, mine, frame, shared):
    """Render a tile of the work list, all threads together, and store its wanted pixels."""
    panel, at = nouns.panel, uint32(item)
    corner_row, corner_column = tiles[at, uint32(ROW)], tiles[at, uint32(COLUMN)]
    first_spot = lists.first[at]
    spots = Spots(first_spot, int32(lists.first[at + uint32(1)] - first_spot))
    begin_pixel(panel, rules, mine.thread, shared.pixels)
    for layer in range(int32(panel.layers)):
        for sub_slow in range(int32(panel.oversample)):
            for sub_fast in range(int32(panel.oversample)):
                here = Here(corner_row, corner_column, int32(sub_slow), int32(sub_fast), layer * panel.layer_step)
                cuda.syncthreads()
                if mine.thread == 0:
                    aim_at_middle(panel, here, shared.middle)
                aim_at_pixel(panel, rules, int32(layer), here, mine, shared.pixels)
                cuda.syncthreads()
                for beam in range(int32(nouns.beams.weight.shape[0])):
                    found = add_beam(kind, nouns, lists, spots, uint32(beam), here, mine, shared)
                    weigh_beam(nouns, rules, uint32(beam), found, mine.thread, shared.pixels)
    if mine.wanted:
        to_row, to_column = place_in_image(panel, frame, mine.row, mine.column)
        frame.image[to_row, to_column] = photons_of_pixel(nouns, rules, mine.thread, shared.pixels)


@gpu_function
def begin_pixel(panel, rules, thread, pixels):
    """Empty the sums of a thread's pixel."""
    at = uint32(thread)
    pixels[at + uint32(TOTAL)], pixels[at + uint32(SHARES)] = rules.background, 0.0
    pixels[at + uint32(CAPTURED)], pixels[at + uint32(OMEGA)] = 1.0, 1.0
    pixels[at + uint32(POLAR)] = walk.first_polarization(panel)


@gpu_function
def photons_of_pixel(nouns, rules, thread, pixels):
    """Photons of a thread's pixel (eq. 21)."""
    at = uint32(thread)
    return walk.finish(
        nouns.panel,
        rules,
        nouns.beams.waves.shape[0],
        pixels[at + uint32(TOTAL)],
        pixels[at + uint32(CAPTURED)],
        pixels[at + uint32(POLAR)],
        pixels[at + uint32(OMEGA)],
        pixels[at + uint32(SHARES)],
    )


# --- once a layer and sub-pixel -------------------------------------------------------------------


@gpu_function
def aim_at_pixel(panel, rules, layer, here, mine, pixels):
    """Bring direction, capture and solid angle of a thread's pixel up to date."""
    d_x, d_y, d_z, airpath = terms.direction_of(panel, mine.row, mine.column, here)
    at = uint32(mine.thread)
    pixels[at + uint32(TO_X)], pixels[at + uint32(TO_Y)], pixels[at + uint32(TO_Z)] = d_x, d_y, d_z
    sub = here.sub_slow + here.sub_fast
    if walk.needs_capture(rules, sub):
        pixels[at + uint32(CAPTURED)] = walk.capture(False, panel, rules, layer, d_x, d_y, d_z)
    if walk.needs_solid_angle(rules, layer, sub):
        near = walk.near_plane(panel, rules, here.depth)
        pixels[at + uint32(OMEGA)] = physics.solid_angle(
            airpath, panel.pitch_fast, panel.height, near, panel.point_pixel
        )


@gpu_function
def aim_at_middle(panel, here, middle):
    """Fill ``middle`` with the Ray to the tile's middle."""
    row, column = here.row + search.TO_MIDDLE, here.column + search.TO_MIDDLE
    r = search.ray_to(panel, row, column, here)
    middle[0], middle[1], middle[2] = r.x, r.y, r.z
    middle[3], middle[4], middle[5] = r.fast_x, r.fast_y, r.fast_z
    middle[6], middle[7], middle[8] = r.slow_x, r.slow_y, r.slow_z
    middle[9] = r.pitch


@gpu_function
def read_middle(m):
    """The Ray that aim_at_middle has left."""
    return Ray(m[0], m[1], m[2], m[3], m[4], m[5], m[6], m[7], m[8], m[9])


# --- once a direction of the beam -----------------------------------------------------------------


@gpu_function
def add_beam(kind, nouns, lists, spots, beam, here, mine, shared):
    """Photons that all spots of a tile bring to a thread's pixel in one direction of the beam, but for its factors."""
    found, n_orientations = 0.0, int32(nouns.forms.cells.shape[0])
    # Spot and orientation of the next item: counted apart, they stay 32-bit numbers.
    spot, orientation = int32(0), int32(0)
    while spot < spots.count:
        cuda.syncthreads()
        look_at_items(nouns, lists, spots, spot, orientation, beam, mine.thread, shared)
        left, step = number_steps(mine.thread, shared), int32(0)
        while step < left:
            count = int32(min(left - step, RECORDS))
            cuda.syncthreads()
            if mine.thread < count:
                write_record(kind, nouns, beam, here, int32(step + mine.thread), mine.thread, shared)
            cuda.syncthreads()
            if mine.wanted:
                found = add_records(kind, nouns, beam, here, count, found, mine, shared)
            step = int32(step + RECORDS)
        orientation = int32(orientation + ITEMS)
        spot = int32(spot + orientation // n_orientations)
        orientation = int32(orientation % n_orientations)
    return found


@gpu_function
def weigh_beam(nouns, rules, beam, found, thread, pixels):
    """Add what a thread has found in one direction of the beam to its pixel, with the factors that terms carry."""
    panel, beams, at = nouns.panel, nouns.beams, uint32(thread)
    d_x, d_y, d_z = pixels[at + uint32(TO_X)], pixels[at + uint32(TO_Y)], pixels[at + uint32(TO_Z)]
    i_x, i_y, i_z = incident_of(beams, beam)
    # With a resolution limit every source is a direction of its own.
    wavelength = beams.wavelength[beams.first[beam]]
    q_x, q_y, q_z = physics.scattering_vector(d_x, d_y, d_z, i_x, i_y, i_z, wavelength)
    keep, polar = walk.keep_within_dmin(panel, q_x, q_y, q_z), pixels[at + uint32(POLAR)]
    if walk.needs_polarization(panel, rules, keep, polar):
        polar = walk.polarization(panel, i_x, i_y, i_z, d_x, d_y, d_z)
        pixels[at + uint32(POLAR)] = polar
    if rules.per_term:
        omega, captured = pixels[at + uint32(OMEGA)], pixels[at + uint32(CAPTURED)]
        share = walk.share_of_term(omega, polar, captured, beams.weight[beam])
        pixels[at + uint32(SHARES)] += share
        keep *= share
    else:
        keep *= beams.weight[beam]
    pixels[at + uint32(TOTAL)] += keep * found


@gpu_function
def incident_of(beams, beam):
    """Direction of the beam, downstream."""
    return beams.incident[beam, uint32(0)], beams.incident[beam, uint32(1)], beams.incident[beam, uint32(2)]


@gpu_function
def look_at_items(nouns, lists, spots, spot, orientation, beam, thread, shared):
    """Write down, one thread an item from a spot and orientation on, which sources bring its spot near the tile.

    And in ``starts`` how many they are.
    """
    if thread >= ITEMS:
        return
    beams, at, count = nouns.beams, uint32(thread), int32(0)
    n_orientations = int32(nouns.forms.cells.shape[0])
    orientation = int32(orientation + thread)
    spot = int32(spot + orientation // n_orientations)
    if spot < spots.count:
        number, turned = uint32(lists.spot[spots.first + spot]), uint32(orientation % n_orientations)
        first, last, line = search.place_on_tile(
            nouns.spots[number],
            ellipse.nine(nouns.forms.vectors[turned]),
            read_middle(shared.middle),
            incident_of(beams, beam),
            beams.waves,
            int32(beams.first[beam]),
            int32(beams.first[beam + uint32(1)]),
        )
        count = int32(max(last - first, 0))
        shared.sources[at] = first
        shared.names[at], shared.names[at + uint32(ITEMS)] = number, turned
        shared.lines[at], shared.lines[at + uint32(ITEMS)] = line[0], line[1]
        shared.lines[at + uint32(2 * ITEMS)], shared.lines[at + uint32(3 * ITEMS)] = line[2], line[3]
    shared.starts[at] = count


@gpu_function
def number_steps(thread, shared):
    """Turn the counts in ``starts`` into how many steps were found before each item; return how many in all."""
    cuda.syncthreads()
    group, before, mine = int32(thread // GROUP), int32(0), int32(0)
    if thread < ITEMS:
        mine = shared.starts[uint32(thread)]
        other = int32(group * GROUP)
        while other < thread:
            before = int32(before + shared.starts[uint32(other)])
            other = int32(other + 1)
        if thread % GROUP == GROUP - 1:
            shared.groups[uint32(group)] = before + mine
    cuda.syncthreads()
    if thread < ITEMS:
        other = int32(0)
        while other < group:
            before = int32(before + shared.groups[uint32(other)])
            other = int32(other + 1)
        shared.starts[uint32(thread)] = before
        if thread == ITEMS - 1:
            shared.starts[uint32(ITEMS)] = before + mine
    cuda.syncthreads()
    return shared.starts[uint32(ITEMS)]


# --- once a spot and step -------------------------------------------------------------------------


@gpu_function
def item_of(step, starts):
    """The item that a step belongs to: the last before which no more steps were found."""
    low, high = int32(0), int32(ITEMS)
    while high - low > 1:
        between = int32((low + high) // 2)
        if starts[uint32(between)] <= step:
            low = between
        else:
            high = between
    return low


@gpu_function
def write_record(kind, nouns, beam, here, step, slot, shared):
    """Write what the threads need of a step to one of the slots for records."""
    beams, item = nouns.beams, uint32(item_of(step, shared.starts))
    number, turned = uint32(shared.names[item]), uint32(shared.names[item + uint32(ITEMS)])
    source = uint32(shared.sources[item] + (step - shared.starts[item]))
    name = uint32(NAME_SIZE * slot)
    shared.steps[name + uint32(SPOT)], shared.steps[name + uint32(ORIENTATION)] = number, turned
    shared.steps[name + uint32(SOURCE)] = source
    spot, vectors = nouns.spots[number], nouns.forms.vectors[turned]
    waves, incident = beams.waves[source], incident_of(beams, beam)
    shared.records[uint32(RECORD_SIZE * slot + SCALE)] = spot[GAIN] * beams.share[source]
    if not kind.exact:
        write_coordinates(spot, vectors, incident, waves, uint32(RECORD_SIZE * slot), shared)
    write_outline(nouns.panel, here, spot, vectors, incident, waves, beams.wavelength[source], item, slot, shared)


@gpu_function
def write_coordinates(spot, vectors, incident, waves, at, shared):
    """Write what turns a direction, less that of the tile's middle, into coordinates from a reflection."""
    r, m = shared.records, shared.middle
    to_middle = ellipse.less((m[uint32(0)], m[uint32(1)], m[uint32(2)]), incident)
    v = ellipse.nine(vectors)
    to_middle, v = ellipse.turn_exactly(v, to_middle), ellipse.times_nine(waves, v)
    r[at] = waves * to_middle[0] - spot[FORM_H]
    r[at + uint32(1)] = waves * to_middle[1] - spot[FORM_K]
    r[at + uint32(2)] = waves * to_middle[2] - spot[FORM_L]
    r[at + uint32(3)], r[at + uint32(4)], r[at + uint32(5)] = v[0], v[1], v[2]
    r[at + uint32(6)], r[at + uint32(7)], r[at + uint32(8)] = v[3], v[4], v[5]
    r[at + uint32(9)], r[at + uint32(10)], r[at + uint32(11)] = v[6], v[7], v[8]


@gpu_function
def write_outline(panel, here, spot, vectors, incident, waves, wavelength, item, slot, shared):
    """Write the Outline of a step."""
    lines = shared.lines
    line = (
        lines[item],
        lines[item + uint32(ITEMS)],
        lines[item + uint32(2 * ITEMS)],
        lines[item + uint32(3 * ITEMS)],
    )
    o = search.outline_of(panel, here, spot, vectors, incident, waves, wavelength, line)
    at, outlines = uint32(OUTLINE_SIZE * slot), shared.outlines
    outlines[at], outlines[at + uint32(1)], outlines[at + uint32(2)] = o.fast, o.slow, o.lean
    outlines[at + uint32(3)], outlines[at + uint32(4)] = o.narrowing, o.radius_squared


# --- once a pixel, spot and step ------------------------------------------------------------------


@gpu_function
def add_records(kind, nouns, beam, here, count, found, mine, shared):
    """Add the terms of the records whose outlines hold a thread's pixel to what it has found."""
    row, column = float32(row_in_tile(mine.thread)), float32(column_in_tile(mine.thread))
    pixel, slot = uint32(mine.thread), int32(0)
    way = ellipse.less(
        (
            shared.pixels[pixel + uint32(TO_X)],
            shared.pixels[pixel + uint32(TO_Y)],
            shared.pixels[pixel + uint32(TO_Z)],
        ),
        (shared.middle[uint32(0)], shared.middle[uint32(1)], shared.middle[uint32(2)]),
    )
    while slot < count:
        at = uint32(OUTLINE_SIZE * slot)
        down = float32(row - shared.outlines[at + uint32(1)])
        across = float32(column - shared.outlines[at] + shared.outlines[at + uint32(2)] * down)
        away = float32(across * across + shared.outlines[at + uint32(3)] * down * down)
        if away <= shared.outlines[at + uint32(4)]:
            found += term_of_record(kind, nouns, beam, here, slot, way, mine, shared)
        slot = int32(slot + 1)
    return found


@gpu_function
def term_of_record(kind, nouns, beam, here, slot, way, mine, shared):
    """Photons that the step of a record brings to a pixel, but for the pixel's factors."""
    at, r = uint32(RECORD_SIZE * slot), shared.records
    scale = r[at + uint32(SCALE)]
    if kind.exact:
        return scale * exact_term(kind, nouns, beam, here, slot, mine, shared)
    x = coordinate(r, at, uint32(0), way)
    y = coordinate(r, at, uint32(1), way)
    z = coordinate(r, at, uint32(2), way)
    if terms.is_near_half(kind, x, y, z):
        return scale * exact_term(kind, nouns, beam, here, slot, mine, shared)
    return scale * float64(terms.term_of(kind, nouns.lattice, x, y, z))


@gpu_function
def coordinate(records, at, axis, way):
    """One coordinate of a pixel's displacement from the reflection of the record that begins ``at``."""
    row = uint32(at + uint32(VECTORS) + uint32(3) * axis)
    # Three fused multiply-adds: float64 is what some cards have little of.
    turned = records[row + uint32(2)] * way[2] + records[at + axis]
    return records[row] * way[0] + (records[row + uint32(1)] * way[1] + turned)


@gpu_function
def exact_term(kind, nouns, beam, here, slot, mine, shared):
    """The lattice factor of a record's step at a pixel, from the pixel's own h, k, l."""
    name = uint32(NAME_SIZE * slot)
    pixel = uint32(mine.thread)
    direction = (
        shared.pixels[pixel + uint32(TO_X)],
        shared.pixels[pixel + uint32(TO_Y)],
        shared.pixels[pixel + uint32(TO_Z)],
    )
    return terms.exact_factor(
        kind,
        nouns.lattice,
        direction,
        nouns.forms.cells[uint32(shared.steps[name + uint32(ORIENTATION)])],
        incident_of(nouns.beams, beam),
        nouns.beams.wavelength[uint32(shared.steps[name + uint32(SOURCE)])],
        nouns.spots[uint32(shared.steps[name + uint32(SPOT)])],
    )
