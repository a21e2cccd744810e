"""How a block of threads renders a tile of the work list on a GPU, spot by spot (docs/physics.md, section 12).

A thread owns a pixel: nothing is added by two threads, and each adds in the order of the list. The block goes through
the tile's items, a spot and an orientation each, ITEMS at a time: every thread asks for one of them which wavelengths
come near; what is found is numbered, item by item; then the found steps are written to shared memory, RECORDS at a
time, and each thread adds those whose outline holds its pixel.
"""

from typing import NamedTuple

import numpy as np
from bragg_numba.kernels._jit_cuda import gpu_function
from bragg_numba.kernels.pixels.cuda_float64 import aim_at_pixel
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

#: Places in a record: the reflection less the tile's middle, nine numbers that turn a direction, photons of a term 1.
ORIGIN, VECTORS, SCALE = 0, 3, 12

#: Places in a name.
SPOT, ORIENTATION, SOURCE = range(3)


class Nouns(NamedTuple):
    """What all tiles of a panel have in common."""

    panel: tuple
    lattice: tuple
    beams: tuple
    forms: tuple
    spots: np.ndarray


class Shared(NamedTuple):
    """Shared memory of a block."""

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


class Here(NamedTuple):
    """Which part of a pixel, and which layer of the sensor."""

    corner_row: int  #: of the tile, on the panel
    corner_column: int
    sub: int
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
    panel, beams = nouns.panel, nouns.beams
    at = uint32(item)
    corner_row, corner_column = int32(tiles[at, uint32(ROW)]), int32(tiles[at, uint32(COLUMN)])
    total, shares = rules.background, 0.0
    captured, polar, omega = 1.0, walk.first_polarization(panel), 1.0
    for layer in range(panel.layers):
        depth = layer * panel.layer_step
        for sub in range(panel.oversample * panel.oversample):
            here = Here(corner_row, corner_column, sub, depth)
            cuda.syncthreads()
            if mine.thread == 0:
                aim_at_middle(panel, here, shared.middle)
            d_x, d_y, d_z, airpath = aim_at_pixel(False, panel, mine.row, mine.column, sub, depth)
            if walk.needs_capture(rules, sub):
                captured = walk.capture(False, panel, rules, layer, d_x, d_y, d_z)
            if walk.needs_solid_angle(rules, layer, sub):
                near = walk.near_plane(panel, rules, depth)
                omega = physics.solid_angle(airpath, panel.pixel_size, near, panel.point_pixel)
            cuda.syncthreads()
            way = (d_x - shared.middle[0], d_y - shared.middle[1], d_z - shared.middle[2])
            for beam in range(beams.weight.shape[0]):
                i_x, i_y, i_z = beams.incident[beam, 0], beams.incident[beam, 1], beams.incident[beam, 2]
                # With a resolution limit every source is a direction of its own.
                wavelength = beams.wavelength[beams.first[beam]]
                q_x, q_y, q_z = physics.scattering_vector(d_x, d_y, d_z, i_x, i_y, i_z, wavelength)
                keep = walk.keep_within_dmin(panel, q_x, q_y, q_z)
                if walk.needs_polarization(panel, rules, keep, polar):
                    polar = walk.polarization(panel, i_x, i_y, i_z, d_x, d_y, d_z)
                if rules.per_term:
                    share = walk.share_of_term(omega, polar, captured, beams.weight[beam])
                    shares += share
                    keep *= share
                total += keep * add_beam(kind, nouns, lists, item, beam, here, way, mine, shared)
    if mine.wanted:
        to_row, to_column = place_in_image(panel, frame, mine.row, mine.column)
        n_sources = beams.waves.shape[0]
        frame.image[to_row, to_column] = walk.finish(panel, rules, n_sources, total, captured, polar, omega, shares)


# --- once a layer and sub-pixel -------------------------------------------------------------------


@gpu_function
def parts_of_sub(panel, sub):
    """Rows and columns of sub-pixels before one."""
    return sub // panel.oversample, sub % panel.oversample


@gpu_function
def aim_at_middle(panel, here, middle):
    """Fill ``middle`` with the Ray to the tile's middle."""
    row, column = here.corner_row + search.TO_MIDDLE, here.corner_column + search.TO_MIDDLE
    r = search.ray_to(panel, row, column, parts_of_sub(panel, here.sub), here.depth)
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
def add_beam(kind, nouns, lists, item, beam, here, way, mine, shared):
    """Photons that all spots of a tile bring to a thread's pixel in one direction of the beam, but for its factors.

    ``way``: the pixel's direction less that of the tile's middle.
    """
    first_spot = lists.first[item]
    n_items = (lists.first[item + 1] - first_spot) * nouns.forms.cells.shape[0]
    found, base = 0.0, 0
    while base < n_items:
        cuda.syncthreads()
        look_at_items(nouns, lists, first_spot, n_items, base, beam, mine.thread, shared)
        left = number_steps(mine.thread, shared)
        step = int32(0)
        while step < left:
            here_now = int32(min(left - step, RECORDS))
            cuda.syncthreads()
            if mine.thread < here_now:
                write_record(kind, nouns, beam, here, int32(step + mine.thread), mine.thread, shared)
            cuda.syncthreads()
            if mine.wanted:
                found = add_records(kind, nouns, beam, here, here_now, way, found, mine, shared)
            step = int32(step + RECORDS)
        base += ITEMS
    return found


@gpu_function
def incident_of(beams, beam):
    """Direction of the beam, downstream."""
    return beams.incident[beam, 0], beams.incident[beam, 1], beams.incident[beam, 2]


@gpu_function
def look_at_items(nouns, lists, first_spot, n_items, base, beam, thread, shared):
    """Write down, one thread an item, which sources bring its spot near the tile; in ``starts`` how many."""
    if thread >= ITEMS:
        return
    at, count = base + thread, int32(0)
    if at < n_items:
        n_orientations = nouns.forms.cells.shape[0]
        spot, orientation = lists.spot[first_spot + at // n_orientations], at % n_orientations
        vectors = ellipse.nine(nouns.forms.vectors[orientation])
        first, last, line = search.place_on_tile(
            nouns.spots[spot],
            vectors,
            read_middle(shared.middle),
            incident_of(nouns.beams, beam),
            nouns.beams.waves,
            nouns.beams.first[beam],
            nouns.beams.first[beam + 1],
        )
        count = int32(max(last - first, 0))
        shared.sources[thread] = first
        shared.names[thread], shared.names[thread + ITEMS] = spot, orientation
        shared.lines[thread], shared.lines[thread + ITEMS] = line[0], line[1]
        shared.lines[thread + 2 * ITEMS], shared.lines[thread + 3 * ITEMS] = line[2], line[3]
    shared.starts[thread] = count


@gpu_function
def number_steps(thread, shared):
    """Turn the counts in ``starts`` into how many steps were found before each item; return how many in all."""
    cuda.syncthreads()
    group, before, mine = int32(thread // GROUP), int32(0), int32(0)
    if thread < ITEMS:
        mine = shared.starts[thread]
        other = int32(group * GROUP)
        while other < thread:
            before = int32(before + shared.starts[other])
            other = int32(other + 1)
        if thread % GROUP == GROUP - 1:
            shared.groups[group] = before + mine
    cuda.syncthreads()
    if thread < ITEMS:
        other = int32(0)
        while other < group:
            before = int32(before + shared.groups[other])
            other = int32(other + 1)
        shared.starts[thread] = before
        if thread == ITEMS - 1:
            shared.starts[ITEMS] = before + mine
    cuda.syncthreads()
    return shared.starts[ITEMS]


# --- once a spot and step -------------------------------------------------------------------------


@gpu_function
def item_of(step, starts):
    """The item that a step belongs to: the last before which no more steps were found."""
    low, high = int32(0), int32(ITEMS)
    while high - low > 1:
        between = int32((low + high) // 2)
        if starts[between] <= step:
            low = between
        else:
            high = between
    return low


@gpu_function
def write_record(kind, nouns, beam, here, step, slot, shared):
    """Write what the threads need of a step to one of the slots for records."""
    panel, beams = nouns.panel, nouns.beams
    item = item_of(step, shared.starts)
    number, orientation = shared.names[item], shared.names[item + ITEMS]
    source = int32(shared.sources[item] + (step - shared.starts[item]))
    spot, vectors = nouns.spots[number], ellipse.nine(nouns.forms.vectors[orientation])
    incident, waves = incident_of(beams, beam), beams.waves[source]
    o = search.outline_of(
        panel,
        (here.corner_row, here.corner_column),
        parts_of_sub(panel, here.sub),
        here.depth,
        spot,
        vectors,
        incident,
        waves,
        beams.wavelength[source],
        (
            shared.lines[item],
            shared.lines[item + ITEMS],
            shared.lines[item + 2 * ITEMS],
            shared.lines[item + 3 * ITEMS],
        ),
    )
    at = OUTLINE_SIZE * slot
    shared.outlines[at], shared.outlines[at + 1] = o.fast, o.slow
    shared.outlines[at + 2], shared.outlines[at + 3], shared.outlines[at + 4] = o.lean, o.narrowing, o.radius_squared
    at = NAME_SIZE * slot
    shared.steps[at + SPOT], shared.steps[at + ORIENTATION], shared.steps[at + SOURCE] = number, orientation, source
    at = RECORD_SIZE * slot
    shared.records[at + SCALE] = spot[GAIN] * beams.share[source]
    if not kind.exact:
        middle = read_middle(shared.middle)
        to_middle = ellipse.turn_exactly(vectors, ellipse.less((middle.x, middle.y, middle.z), incident))
        shared.records[at + ORIGIN] = waves * to_middle[0] - spot[FORM_H]
        shared.records[at + ORIGIN + 1] = waves * to_middle[1] - spot[FORM_K]
        shared.records[at + ORIGIN + 2] = waves * to_middle[2] - spot[FORM_L]
        write_nine(ellipse.times_nine(waves, vectors), at + VECTORS, shared.records)


@gpu_function
def write_nine(v, at, records):
    """Write nine numbers from a place on."""
    records[at], records[at + 1], records[at + 2] = v[0], v[1], v[2]
    records[at + 3], records[at + 4], records[at + 5] = v[3], v[4], v[5]
    records[at + 6], records[at + 7], records[at + 8] = v[6], v[7], v[8]


# --- once a pixel, spot and step ------------------------------------------------------------------


@gpu_function
def add_records(kind, nouns, beam, here, count, way, found, mine, shared):
    """Add the terms of the records whose outlines hold a thread's pixel to what it has found."""
    row, column = float32(row_in_tile(mine.thread)), float32(column_in_tile(mine.thread))
    slot = int32(0)
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
    turned = records[row] * way[0] + (records[row + uint32(1)] * way[1] + records[row + uint32(2)] * way[2])
    return records[at + axis] + turned


@gpu_function
def exact_term(kind, nouns, beam, here, slot, mine, shared):
    """The lattice factor of a record's step at a pixel, from the pixel's own h, k, l."""
    name = uint32(NAME_SIZE * slot)
    number, orientation = shared.steps[name + uint32(SPOT)], shared.steps[name + uint32(ORIENTATION)]
    return terms.exact_factor(
        kind,
        nouns.panel,
        nouns.lattice,
        mine.row,
        mine.column,
        here.sub,
        here.depth,
        ellipse.nine(nouns.forms.cells[orientation]),
        incident_of(nouns.beams, beam),
        nouns.beams.wavelength[shared.steps[name + uint32(SOURCE)]],
        nouns.spots[number],
    )
