"""How a block of threads renders a tile of the work list in float32 phases, patch by patch (docs/physics.md, eq. 36).

A thread renders two pixels of a column of a patch: they share what is loaded for a step. The steps' phases at the
patches' centres are made in float64 by all threads together, a chunk of steps at a time, and left in shared memory.
What a pixel needs between rounds of steps only lies in shared memory too, out of the way of the registers. numba
widens sums of 32-bit numbers; cut back, they take half the registers. Unsigned indices spare the check for negative
ones.
"""

import math
from typing import NamedTuple

import numpy as np
from bragg_numba.kernels._jit_cuda import gpu_function
from bragg_numba.kernels.parameters import ROUND, SQUARE
from bragg_numba.kernels.pixels.cuda_frame import THREADS, TILE_PIXELS, TILE_SIDE, is_wanted, place_in_image
from bragg_numba.kernels.pixels.cuda_functions import physics, steps, walk
from bragg_numba.kernels.pixels.cuda_steps import PATCH_SIDES, ROUND_STEPS, STEP_SIZE, Axis, Patch, Pixel, Sub
from bragg_numba.kernels.work import COLUMN, PANEL, ROW
from numba import cuda, float32, float64, int32, uint32

#: float64 values of a patch in shared memory.
PATCH_SIZE = len(Patch._fields)

#: Steps whose phases lie in shared memory at a time, over a patch's side: 64 for the largest.
CHUNK_OF_SIDE = ROUND_STEPS // PATCH_SIDES[0]


class Kind(NamedTuple):
    """What a tile kernel is compiled for: the compiler knows it, so that branches on it vanish."""

    shape: int
    has_table: bool
    curved: bool
    weighted: bool  #: as in Rules
    side: int  #: of a patch, pixels
    several: bool = False  #: panels come as arrays, not as the numbers of one


class Shared(NamedTuple):
    """Shared memory of a block; what a pixel has is found by its place among the block's pixels."""

    phases: np.ndarray  #: float32: STEP_SIZE values a step, the chunk's steps patch by patch
    nears: np.ndarray  #: int32: whole h, k, l of those steps, as places in the padded table
    patches: np.ndarray  #: float64: PATCH_SIZE values a patch
    totals: np.ndarray  #: float64, a pixel: sum of the parts before
    parts: np.ndarray  #: float64, a pixel: sum of the part that is under way
    doubts: np.ndarray  #: uint32, a pixel: a bit for each part that float32 cannot decide
    factors: np.ndarray  #: float32, a pixel: solid angle, capture and the polarization that all terms share
    shares: np.ndarray  #: float64, a pixel, weighted: sum of the terms' own factors
    polars: np.ndarray  #: float32, a pixel, weighted: polarization factor
    keeps: np.ndarray  #: float32, a pixel, weighted: what a source's terms are multiplied by
    rows: np.ndarray  #: int32, a thread: row of its first pixel in the panel
    columns: np.ndarray  #: int32, a thread
    part: np.ndarray  #: int32, a thread: number of the part that is under way
    rounds: np.ndarray  #: int32, a thread: its rounds so far


class Mine(NamedTuple):
    """A thread, and where its pixels lie in their patch; the second is half a patch below the first."""

    thread: int
    patch: int
    u: np.float32
    w: np.float32


class Sum(NamedTuple):
    """Sum of a pixel's terms in a round, float32, and the largest distance of a phase from a whole index."""

    total: np.float32
    farthest: np.float32


# --- places ---------------------------------------------------------------------------------------


@gpu_function
def patches_in_tile(side):
    """How many patches a tile has."""
    return (TILE_SIDE // side) * (TILE_SIDE // side)


@gpu_function
def threads_of_patch(side):
    """How many threads render a patch, two pixels each; the first of them has the patch's first pixel."""
    return side * side // 2


@gpu_function
def find_pixels(side, thread):
    """What a thread of a block renders."""
    inside = int32(thread % threads_of_patch(side))
    half = 0.5 * (side - 1)
    patch = int32(thread // threads_of_patch(side))
    return Mine(thread, patch, float32(inside % side - half), float32(inside // side - half))


@gpu_function
def find_sub(panel, layer_sub):
    """Layer and sub-pixel number ``layer_sub``."""
    oversample = int32(panel.oversample)
    layer = int32(layer_sub // oversample // oversample)
    return Sub(
        layer,
        int32(layer_sub // oversample % oversample),
        int32(layer_sub % oversample),
        layer * panel.layer_step,
        layer_sub == 0,
        layer_sub == int32((panel.layers - 1) * panel.oversample * panel.oversample),
    )


@gpu_function
def place_in_panel(kind, number, thread, shared):
    """Row and column in the panel of a thread's first pixel (number 0) or second."""
    at = uint32(thread)
    return int32(shared.rows[at] + number * (kind.side // 2)), shared.columns[at]


# --- once a tile ----------------------------------------------------------------------------------


@gpu_function
def begin_tile(kind, panel, tiles, item, mine, shared):
    """Note where a thread's pixels lie, and empty their sums."""
    side, per_row, at = kind.side, TILE_SIDE // kind.side, uint32(mine.thread)
    inside = int32(mine.thread % threads_of_patch(side))
    row = tiles[uint32(item), uint32(ROW)] + mine.patch // per_row * side + inside // side
    column = tiles[uint32(item), uint32(COLUMN)] + mine.patch % per_row * side + inside % side
    shared.rows[at], shared.columns[at] = int32(row), int32(column)
    shared.part[at], shared.rounds[at] = int32(0), int32(0)
    empty_pixel(kind, panel, at, shared)
    empty_pixel(kind, panel, uint32(mine.thread + THREADS), shared)


@gpu_function
def empty_pixel(kind, panel, at, shared):
    """Forget what a pixel of the tile before had."""
    shared.totals[at], shared.parts[at] = 0.0, 0.0
    shared.doubts[at], shared.factors[at] = uint32(0), float32(1.0)
    if kind.weighted:
        shared.shares[at], shared.polars[at] = 0.0, float32(walk.first_polarization(panel))


@gpu_function
def finish_tile(kind, panel, rules, single, tiles, item, mine, shared, frame, doubts):
    """Store a thread's pixels, and list those with parts in doubt."""
    for number in range(2):
        at = uint32(mine.thread + number * THREADS)
        row, column = place_in_panel(kind, number, mine.thread, shared)
        if is_wanted(panel, tiles, item, frame, row, column):
            to_row, to_column = place_in_image(panel, frame, row, column)
            frame.image[to_row, to_column] = photons_of_pixel(kind, rules, single, at, shared)
            if shared.doubts[at] != 0:
                slot = cuda.atomic.add(doubts.count, 0, 1)
                doubts.pixels[slot] = to_row * frame.image.shape[1] + to_column
                doubts.panels[slot] = tiles[uint32(item), uint32(PANEL)]
                doubts.parts[slot] = shared.doubts[at]


@gpu_function
def photons_of_pixel(kind, rules, single, at, shared):
    """Photons of a pixel (eq. 21): walk.finish with what ``single`` holds ready."""
    total, factor = shared.totals[at] + shared.parts[at], shared.factors[at]
    if kind.weighted:
        if rules.per_term:
            return single.scale * total + single.flat * shared.shares[at]
        factor *= shared.polars[at]
    return (single.background + single.scale * total) * float64(factor)


# --- once a layer and sub-pixel -------------------------------------------------------------------


@gpu_function
def aim_at_patches(kind, panel, sub, thread, shared):
    """Fill the shared patches, one thread a patch."""
    if thread < patches_in_tile(kind.side):
        first = uint32(thread * threads_of_patch(kind.side))
        p = steps.aim_at_patch(kind.curved, panel, kind.side, shared.rows[first], shared.columns[first], sub)
        at, patches = uint32(thread * PATCH_SIZE), shared.patches
        patches[at], patches[at + uint32(1)], patches[at + uint32(2)] = p.c_x, p.c_y, p.c_z
        patches[at + uint32(3)], patches[at + uint32(4)], patches[at + uint32(5)] = p.fast_x, p.fast_y, p.fast_z
        patches[at + uint32(6)], patches[at + uint32(7)], patches[at + uint32(8)] = p.slow_x, p.slow_y, p.slow_z
        patches[at + uint32(9)] = p.distance


@gpu_function
def read_patch(patches, patch):
    """One of the patches that aim_at_patches has made."""
    at = uint32(patch * PATCH_SIZE)
    return Patch(
        patches[at],
        patches[at + uint32(1)],
        patches[at + uint32(2)],
        patches[at + uint32(3)],
        patches[at + uint32(4)],
        patches[at + uint32(5)],
        patches[at + uint32(6)],
        patches[at + uint32(7)],
        patches[at + uint32(8)],
        patches[at + uint32(9)],
    )


@gpu_function
def aim_at_pixels(kind, panel, flat, rules, single, incident, sub, mine, shared):
    """Leave the rests of a thread's pixels where phases will lie, and bring their factors up to date."""
    me = mine.thread
    # A loop over the thread's two pixels, not the two side by side, in half the registers.
    while me < TILE_PIXELS:
        at, number = uint32(me), 1 if me >= THREADS else 0
        w = float32(mine.w + float32(number * (kind.side // 2)))
        row, column = place_in_panel(kind, number, mine.thread, shared)
        pixel, nearness = rest_of_pixel(kind, panel, flat, row, column, sub, mine.u, w, mine.patch, shared.patches)
        shared.phases[at] = pixel.x
        shared.phases[at + uint32(TILE_PIXELS)] = pixel.y
        shared.phases[at + uint32(2 * TILE_PIXELS)] = pixel.z
        if sub.first or sub.last or rules.per_term:
            shared.factors[at] = factor_of_pixel(
                kind,
                panel,
                flat,
                rules,
                single,
                incident,
                sub,
                shared.factors[at],
                pixel,
                nearness,
                mine.patch,
                shared.patches,
            )
        me = int32(me + THREADS)


@gpu_function
def read_pixel(u, w, at, phases):
    """A pixel as aim_at_pixels has left it."""
    return Pixel(u, w, phases[at], phases[at + uint32(TILE_PIXELS)], phases[at + uint32(2 * TILE_PIXELS)])


@gpu_function
def rest_of_pixel(kind, panel, flat, row, column, sub, u, w, patch, patches):
    """A pixel's place in its patch, and 1 / its distance."""
    p = read_patch(patches, patch)
    if kind.curved:
        x, y, z, nearness = steps.rest_on_curve(panel, u, w, row, column, sub, p)
    else:
        c_x, c_y, c_z = float32(p.c_x), float32(p.c_y), float32(p.c_z)
        x, y, z, nearness = steps.rest_on_flat(flat, u, w, c_x, c_y, c_z, float32(1.0 / p.distance))
    return Pixel(u, w, float32(x), float32(y), float32(z)), float32(nearness)


@gpu_function
def factor_of_pixel(kind, panel, flat, rules, single, incident, sub, factor, pixel, nearness, patch, patches):
    """Solid angle and capture of a sub-pixel; or those of the first and of the last layer (eq. 21).

    Without weights the polarization of the first source is in it.
    """
    x, y, z = steps.direction_of_pixel(pixel, read_patch(patches, patch))
    d_x, d_y, d_z = float32(x), float32(y), float32(z)
    if sub.first or rules.per_term:
        near = walk.near_plane(panel, rules, sub.depth)
        factor = float32(steps.solid_angle_of_pixel(panel, flat, near, nearness))
        if panel.polarized and not kind.weighted:
            i_x, i_y, i_z = incident[0, 0], incident[0, 1], incident[0, 2]
            factor *= float32(steps.polarization_of_pixel(single, i_x, i_y, i_z, d_x, d_y, d_z))
    if panel.has_sensor and (sub.last or rules.per_term):
        factor *= float32(steps.capture_of_pixel(panel, flat, sub.layer, rules.per_term, d_x, d_y, d_z))
    return float32(factor)


# --- once a source, where terms carry factors of their own ----------------------------------------


@gpu_function
def weigh_source(kind, panel, rules, single, sources, source, sub, first, second, mine, shared):
    """Bring polarization, share and keep of a thread's pixels up to date."""
    for number in range(2):
        at, pixel = uint32(mine.thread + number * THREADS), second if number == 1 else first
        row, column = place_in_panel(kind, number, mine.thread, shared)
        keep = keep_of_source(kind, panel, sources, source, row, column, sub)
        if walk.needs_polarization(panel, rules, keep, shared.polars[at]):
            patch = read_patch(shared.patches, mine.patch)
            shared.polars[at] = polarization_of_source(single, sources.incident, source, pixel, patch)
        if rules.per_term:
            share = float32(float32(sources.weight[source]) * shared.factors[at] * shared.polars[at])
            shared.shares[at] += share
            keep = float32(keep * share)
        else:
            keep = float32(keep * float32(sources.weight[source]))
        shared.keeps[at] = keep


@gpu_function
def keep_of_source(kind, panel, sources, source, row, column, sub):
    """1, or 0 beyond dmin (eq. 7)."""
    i, wavelength = sources.incident, sources.wavelength[source]
    return float32(
        steps.keep_of_pixel(kind.curved, panel, i[source, 0], i[source, 1], i[source, 2], wavelength, row, column, sub)
    )


@gpu_function
def polarization_of_source(single, incident, source, pixel, patch):
    """Polarization factor of a pixel and source (eq. 8)."""
    x, y, z = steps.direction_of_pixel(pixel, patch)
    i_x, i_y, i_z = incident[source, 0], incident[source, 1], incident[source, 2]
    return float32(steps.polarization_of_pixel(single, i_x, i_y, i_z, float32(x), float32(y), float32(z)))


# --- once a chunk of steps ------------------------------------------------------------------------


@gpu_function
def fill_phases(kind, single, sources, cells, source, step, here, thread, shared):
    """Fill the shared phases with ``here`` steps from ``step`` of ``source`` on, all threads together."""
    chunk, n_steps = CHUNK_OF_SIDE * kind.side, int32(cells.shape[0])
    item = thread
    while item < 3 * patches_in_tile(kind.side) * chunk:
        axis, place = int32(item % 3), int32(item // 3)
        to_step, patch = int32(place % chunk), int32(place // chunk)
        if to_step < here:
            at_source, at_step = source, int32(step + to_step)
            while at_step >= n_steps:
                at_step = int32(at_step - n_steps)
                at_source = int32(at_source + 1)
            whole, a = phase_of_step(sources, cells, uint32(at_source), uint32(at_step), axis, patch, shared.patches)
            write_axis(a, uint32(place * STEP_SIZE + 9 * axis), shared.phases)
            if kind.has_table:
                shared.nears[uint32(item)] = steps.near_of_axis(single, axis, whole)
        item = int32(item + THREADS)
    if kind.has_table:
        cuda.syncthreads()
        # Of a chunk that is not full, the rest is placed too, wherever: no step reads it.
        place = thread
        while place < patches_in_tile(kind.side) * chunk:
            near = uint32(3 * place)
            h, k, l = shared.nears[near], shared.nears[near + uint32(1)], shared.nears[near + uint32(2)]  # noqa: E741
            shared.phases[uint32(place * STEP_SIZE + 27)] = steps.place_bits(single, h, k, l)
            place = int32(place + THREADS)


@gpu_function
def phase_of_step(sources, cells, source, step, axis, patch, patches):
    """Phase of one axis and step at a patch's centre: its whole part, and an Axis."""
    per = 1.0 / sources.wavelength[source]
    first = uint32(3 * axis)
    return steps.step_axis(
        cells[step, first] * per,
        cells[step, first + uint32(1)] * per,
        cells[step, first + uint32(2)] * per,
        sources.incident[source, uint32(0)],
        sources.incident[source, uint32(1)],
        sources.incident[source, uint32(2)],
        read_patch(patches, patch),
    )


@gpu_function
def write_axis(a, to, phases):
    """Put an Axis into shared memory."""
    phases[to], phases[to + uint32(1)], phases[to + uint32(2)] = a.a_x, a.a_y, a.a_z
    phases[to + uint32(3)], phases[to + uint32(4)] = a.fine, a.coarse
    phases[to + uint32(5)], phases[to + uint32(6)] = a.fast, a.slow
    phases[to + uint32(7)], phases[to + uint32(8)] = a.fast_rest, a.slow_rest


@gpu_function
def read_axis(at, phases):
    """An Axis that write_axis has put there."""
    return Axis(
        phases[at],
        phases[at + uint32(1)],
        phases[at + uint32(2)],
        phases[at + uint32(3)],
        phases[at + uint32(4)],
        phases[at + uint32(5)],
        phases[at + uint32(6)],
        phases[at + uint32(7)],
        phases[at + uint32(8)],
    )


# --- once a pixel and step ------------------------------------------------------------------------


@gpu_function
def phase_of_pixel(at, phases, pixel):
    """Coarse and fine part of a pixel's phase of one axis."""
    coarse, fine = steps.pixel_phase(read_axis(at, phases), pixel)
    return float32(coarse), float32(fine)


@gpu_function
def square_term(single, h, k, l):  # noqa: E741
    """Lattice factor of a square crystal from coarse and fine phases, nearest indices, and distances from them."""
    h_near, d_h, t_h = physics.reduced_pair(h[0], h[1], single.n_a)
    k_near, d_k, t_k = physics.reduced_pair(k[0], k[1], single.n_b)
    l_near, d_l, t_l = physics.reduced_pair(l[0], l[1], single.n_c)
    d_h, d_k, d_l = float32(d_h), float32(d_k), float32(d_l)
    term = steps.ratio_squared(float32(t_h), float32(t_k), float32(t_l), d_h, d_k, d_l)
    return float32(term), (float32(h_near), float32(k_near), float32(l_near)), (d_h, d_k, d_l)


@gpu_function
def radial_term(shape, single, h, k, l):  # noqa: E741
    """square_term for a shape that depends on the squared radius, or on the radius itself."""
    h_near, d_h = physics.reduced_single(h[0], h[1])
    k_near, d_k = physics.reduced_single(k[0], k[1])
    l_near, d_l = physics.reduced_single(l[0], l[1])
    near = (float32(h_near), float32(k_near), float32(l_near))
    d_h, d_k, d_l = float32(d_h), float32(d_k), float32(d_l)
    if shape == ROUND:
        x_h, y_h = physics.eighths_of_fringes(h[0], near[0], h[1], d_h, single.n_a)
        x_k, y_k = physics.eighths_of_fringes(k[0], near[1], k[1], d_k, single.n_b)
        x_l, y_l = physics.eighths_of_fringes(l[0], near[2], l[1], d_l, single.n_c)
        r, phase = physics.radius_single(
            float32(x_h), float32(x_k), float32(x_l), float32(y_h), float32(y_k), float32(y_l)
        )
        term = physics.sphere_single(float32(r), float32(phase))
    else:
        term = walk.radial_single(shape, float32(steps.squared_radius(single, d_h, d_k, d_l)))
    return float32(term), near, (d_h, d_k, d_l)


@gpu_function
def add_step(kind, single, squared, at, phases, pixel, so_far):
    """Add the term of the step whose phases lie from ``at`` on to a pixel's Sum."""
    h = phase_of_pixel(at, phases, pixel)
    k = phase_of_pixel(at + uint32(9), phases, pixel)
    l = phase_of_pixel(at + uint32(18), phases, pixel)  # noqa: E741
    if kind.shape == SQUARE:
        term, near, away = square_term(single, h, k, l)
    else:
        term, near, away = radial_term(kind.shape, single, h, k, l)
    farthest = so_far.farthest
    if kind.has_table or kind.shape != SQUARE:  # what asks for the nearest index
        farthest = float32(steps.farthest_of(farthest, away[0], away[1], away[2]))
    if kind.has_table:
        place = steps.place_of_pixel(phases[at + uint32(27)], near[0], near[1], near[2], single.h_size, single.k_size)
        term *= squared[place]
    return Sum(float32(so_far.total + term), farthest)


# --- once a run of steps --------------------------------------------------------------------------


@gpu_function
def add_run(kind, single, sources, cells, squared, source, first, second, mine, shared):
    """Add a run of steps, from the first of ``source`` on, to a thread's two pixels."""
    chunk, n_steps = int32(CHUNK_OF_SIDE * kind.side), int32(cells.shape[0])
    step, pending, left = int32(0), int32(0), int32(single.run_steps)
    sum_0, sum_1 = nothing(), nothing()
    while left > 0:
        here = int32(min(chunk, left))
        cuda.syncthreads()
        fill_phases(kind, single, sources, cells, source, step, here, mine.thread, shared)
        cuda.syncthreads()
        at, n = uint32(mine.patch * chunk * STEP_SIZE), here
        while n > 0:
            sum_0 = add_step(kind, single, squared, at, shared.phases, first, sum_0)
            sum_1 = add_step(kind, single, squared, at, shared.phases, second, sum_1)
            at, n = uint32(at + uint32(STEP_SIZE)), int32(n - 1)
        left, pending, step = int32(left - here), int32(pending + here), int32(step + here)
        while step >= n_steps:
            step = int32(step - n_steps)
            source = int32(source + 1)
        if pending == ROUND_STEPS or left == 0:
            end_round(kind, single, sum_0, sum_1, mine.thread, shared)
            pending = int32(0)
            sum_0, sum_1 = nothing(), nothing()


@gpu_function
def nothing():
    """A Sum of no terms."""
    return Sum(float32(0.0), float32(0.0))


@gpu_function
def end_round(kind, single, sum_0, sum_1, thread, shared):
    """Add a round to a thread's two pixels; where the part under way is full, begin the next."""
    at = uint32(thread)
    first, second = at, uint32(thread + THREADS)
    part, rounds = shared.part[at], shared.rounds[at]
    if rounds == int32(single.part_rounds):
        part, rounds = int32(part + 1), int32(0)
        shared.part[at] = part
        shared.totals[first] += shared.parts[first]
        shared.totals[second] += shared.parts[second]
        shared.parts[first], shared.parts[second] = 0.0, 0.0
    shared.rounds[at] = int32(rounds + 1)
    add_round(kind, single, first, part, sum_0, shared)
    add_round(kind, single, second, part, sum_1, shared)


@gpu_function
def add_round(kind, single, at, part, found, shared):
    """Add a round's sum to the part's; or mark the part where float32 cannot decide, and drop it.

    It cannot where a phase is too near a half, exactly at a peak (the sum is infinite or NaN), and on the
    rim of a top hat (NaN).
    """
    if found.farthest > single.near_half or not found.total < float32(math.inf):
        shared.doubts[at] |= uint32(1 << part)
    if shared.doubts[at] >> uint32(part) & uint32(1):
        shared.parts[at] = 0.0
    else:
        keep = shared.keeps[at] if kind.weighted else float32(1.0)
        shared.parts[at] += float64(keep) * float64(found.total)
