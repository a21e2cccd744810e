"""The CUDA kernels: twins of the kernels in cpu; what a pixel and step computes is in cuda_steps and physics.

A block of THREADS threads renders AREA x AREA pixels, two pixels of a column a thread: they share what is
loaded for a step. Areas count from the frame's first pixel, so that what a pixel gets does not depend on how
a frame is cut into rows. Kernels are made for one lattice shape, one way to look up structure factors and one
tile size each, by factories over plain numbers: small kernels keep their registers.
"""

import math
from functools import cache
from typing import NamedTuple

import numpy as np
from bragg_numba.kernels import physics
from bragg_numba.kernels._jit_cuda import SIMULATED, gpu_fast_kernel, gpu_function, gpu_inlined, gpu_kernel, on_gpu
from bragg_numba.kernels.parameters import (
    GAUSS,
    ROUND,
    SHAPE_NAMES,
    SQUARE,
    Lattice,
    Panel,
    Region,
    Rules,
    Single,
    Sources,
    Table,
)
from bragg_numba.kernels.pixels import cuda_steps as steps
from bragg_numba.kernels.pixels.cuda_steps import PARTS, ROUND_STEPS, SIDES
from bragg_numba.kernels.random import philox
from numba import cuda, float32, float64, int32, int64, types, uint32, uint64

physics = on_gpu(physics)
philox = on_gpu(philox)
steps = on_gpu(steps, physics=physics)

#: Threads in a block, and the side of the square of pixels that they render, two pixels a thread.
THREADS = 128
AREA = 16
PIXELS = AREA * AREA

#: More rounds than any pixel has: all of them are one part.
ALL_ROUNDS = 1 << 62

#: How structure factors are looked up.
NO_TABLE, NEAREST, TRICUBIC = 0, 1, 2

# Steps whose phases lie in shared memory at a time, by side.
_CHUNK = dict(zip(SIDES, (64, 32, 16), strict=True))

# float64 values that describe a tile: direction of its centre, tangents along fast and slow, distance.
_TILE = 10


def lookup_mode(lookup):
    """NO_TABLE, NEAREST or TRICUBIC for a plan's ``lookup``."""
    if not lookup.has_table:
        return NO_TABLE
    return TRICUBIC if lookup.interpolate else NEAREST


def grid(region):
    """Blocks (across, down) of AREA x AREA pixels that cover a region."""
    top, bottom = max(region.row_start, region.slow_first), min(region.row_stop, region.slow_last + 1)
    if bottom <= top or region.fast_last < region.fast_first:
        return 0, 0
    return region.fast_last // AREA - region.fast_first // AREA + 1, (bottom - 1) // AREA - top // AREA + 1


@gpu_function
def first_rows(region):
    """First row of a region's first area, and the row after its last pixel."""
    top = max(int32(region.row_start), int32(region.slow_first))
    return int32(top // AREA * AREA), min(int32(region.row_stop), int32(region.slow_last + 1))


@gpu_function
def is_wanted(region, mask, row, column):
    """Tell whether a pixel (32-bit numbers) lies in the rows, in the region of interest and in the mask."""
    wanted = int32(region.row_start) <= row < int32(region.row_stop)
    wanted = wanted and int32(region.slow_first) <= row <= int32(region.slow_last)
    wanted = wanted and int32(region.fast_first) <= column <= int32(region.fast_last)
    if wanted and region.masked:
        wanted = mask[uint32(row), uint32(column)] != 0
    return wanted


@gpu_function
def rounds_in_part(panel, rules, n_sources, n_steps):
    """Rounds that share a bit of ``doubts``: all rounds of a pixel make at most PARTS parts."""
    weighted = rules.per_term or panel.dmin > 0.0
    runs = n_sources if weighted else 1
    run_steps = n_steps if weighted else n_sources * n_steps
    rounds = panel.layers * panel.oversample * panel.oversample * runs
    rounds *= (run_steps + ROUND_STEPS - 1) // ROUND_STEPS
    return (rounds + PARTS - 1) // PARTS


@cache
def tile_kernel(shape, mode, side, curved, weighted):
    """The kernel that renders in float32 phases.

    ``shape`` is a lattice shape, ``mode`` NO_TABLE or NEAREST, ``side`` one of SIDES; ``weighted`` tells that
    terms carry factors of their own (physical fidelity, dmin).
    """
    chunk = _CHUNK[side]
    per_row = AREA // side
    tiles = per_row * per_row
    threads_in_tile = side * side // 2
    shared_steps = tiles * chunk * steps.STEP_SIZE
    shared_tiles = tiles * _TILE
    shared_nears = 3 * tiles * chunk
    weighted_pixels = PIXELS if weighted else 1
    half = 0.5 * (side - 1)
    below = side // 2  # a thread's second pixel lies so many rows below its first
    needs_index = mode != NO_TABLE or shape != SQUARE
    has_table = mode != NO_TABLE

    @gpu_inlined
    def shared_rows():
        """Shared float32 memory, aligned so that four values are one load (which the simulator refuses)."""
        if SIMULATED:
            return cuda.shared.array(shared_steps, float32)
        return cuda.shared.array(shared_steps, float32, alignment=16)

    @gpu_function
    def aim_at_tile(panel, single, row, column, sub_slow, sub_fast, depth, at, tile):
        """Fill tile[at:] with what describes the tile whose first pixel is (row, column)."""
        x, y, z = steps.tile_position(curved, panel, single, row, column, single.middle, sub_slow, sub_fast, depth)
        r = math.sqrt(x * x + y * y + z * z)
        c_x, c_y, c_z = x / r, y / r, z / r
        tile[at], tile[at + uint32(1)], tile[at + uint32(2)] = c_x, c_y, c_z
        step = panel.pixel_size / r
        g = panel
        t_x, t_y, t_z = steps.tangent(c_x, c_y, c_z, g.fast_x, g.fast_y, g.fast_z, step)
        tile[at + uint32(3)], tile[at + uint32(4)], tile[at + uint32(5)] = t_x, t_y, t_z
        t_x, t_y, t_z = steps.tangent(c_x, c_y, c_z, g.slow_x, g.slow_y, g.slow_z, step)
        tile[at + uint32(6)], tile[at + uint32(7)], tile[at + uint32(8)] = t_x, t_y, t_z
        tile[at + uint32(9)] = r

    @gpu_function
    def fill_axis(cells, step, axis, per, i_x, i_y, i_z, tile, at, rows, to):
        """Fill rows[to:] with the phase of one axis and step at a tile's centre; return its whole part."""
        whole, v0, v1, v2, v3, v4, v5, v6, v7, v8 = steps.step_axis(
            cells[step, axis] * per,
            cells[step, axis + uint32(1)] * per,
            cells[step, axis + uint32(2)] * per,
            tile[at] - i_x,
            tile[at + uint32(1)] - i_y,
            tile[at + uint32(2)] - i_z,
            tile[at + uint32(3)],
            tile[at + uint32(4)],
            tile[at + uint32(5)],
            tile[at + uint32(6)],
            tile[at + uint32(7)],
            tile[at + uint32(8)],
        )
        rows[to], rows[to + uint32(1)], rows[to + uint32(2)] = v0, v1, v2
        rows[to + uint32(3)], rows[to + uint32(4)], rows[to + uint32(5)] = v3, v4, v5
        rows[to + uint32(6)], rows[to + uint32(7)], rows[to + uint32(8)] = v6, v7, v8
        return whole

    @gpu_function
    def fill_rows(thread, source, step, here, n_steps, incident, wavelength, cells, single, tile, nears, rows):
        """Fill the shared rows with ``here`` steps from ``step`` of ``source`` on, all threads together."""
        item = thread
        while item < 3 * tiles * chunk:
            axis, place = int32(item % 3), int32(item // 3)
            to_step, to_tile = int32(place % chunk), int32(place // chunk)
            if to_step < here:
                at_source, at_step = source, int32(step + to_step)
                while at_step >= n_steps:
                    at_step = int32(at_step - n_steps)
                    at_source = int32(at_source + 1)
                at_source = uint32(at_source)
                whole = fill_axis(
                    cells,
                    uint32(at_step),
                    uint32(3 * axis),
                    1.0 / wavelength[at_source],
                    incident[at_source, uint32(0)],
                    incident[at_source, uint32(1)],
                    incident[at_source, uint32(2)],
                    tile,
                    uint32(to_tile * _TILE),
                    rows,
                    uint32(place * steps.STEP_SIZE + 9 * axis),
                )
                if has_table:
                    nears[uint32(item)] = steps.near_of_axis(single, axis, whole)
            item = int32(item + THREADS)
        if has_table:
            cuda.syncthreads()
            place = thread
            while place < tiles * chunk:
                near = uint32(3 * place)
                rows[uint32(place * steps.STEP_SIZE + 27)] = steps.place_bits(
                    single, nears[near], nears[near + uint32(1)], nears[near + uint32(2)]
                )
                place = int32(place + THREADS)

    @gpu_function
    def rest_of_pixel(panel, single, row, column, u, w, sub_slow, sub_fast, depth, at, tile):
        """(x, y, z) of a pixel, and 1 / its distance."""
        if curved:
            p_x, p_y, p_z = steps.tile_position(curved, panel, single, row, column, 0.0, sub_slow, sub_fast, depth)
            r = math.sqrt(p_x * p_x + p_y * p_y + p_z * p_z)
            x = p_x / r - (tile[at] + u * tile[at + uint32(3)] + w * tile[at + uint32(6)])
            y = p_y / r - (tile[at + uint32(1)] + u * tile[at + uint32(4)] + w * tile[at + uint32(7)])
            z = p_z / r - (tile[at + uint32(2)] + u * tile[at + uint32(5)] + w * tile[at + uint32(8)])
            return float32(x), float32(y), float32(z), float32(1.0 / r)
        x, y, z, nearness = steps.rest_on_flat(
            single,
            u,
            w,
            float32(tile[at]),
            float32(tile[at + uint32(1)]),
            float32(tile[at + uint32(2)]),
            float32(1.0 / tile[at + uint32(9)]),
        )
        return float32(x), float32(y), float32(z), float32(nearness)

    @gpu_function
    def direction_of_pixel(u, w, x, y, z, at, tile):
        """Unit vector to a pixel in float32."""
        d_x = u * float32(tile[at + uint32(3)]) + w * float32(tile[at + uint32(6)]) + x
        d_y = u * float32(tile[at + uint32(4)]) + w * float32(tile[at + uint32(7)]) + y
        d_z = u * float32(tile[at + uint32(5)]) + w * float32(tile[at + uint32(8)]) + z
        return (
            float32(float32(tile[at]) + d_x),
            float32(float32(tile[at + uint32(1)]) + d_y),
            float32(float32(tile[at + uint32(2)]) + d_z),
        )

    @gpu_function
    def factor_of_pixel(
        panel, single, rules, first, last, factor, layer, depth, u, w, x, y, z, nearness, incident, at, tile
    ):
        """Solid angle and capture of a sub-pixel; or those of the first and of the last layer (eq. 21).

        Without weights the polarization of the first source is in it.
        """
        d_x, d_y, d_z = direction_of_pixel(u, w, x, y, z, at, tile)
        if first or rules.per_term:
            near = panel.close_distance + (depth if rules.per_term else 0.0)
            factor = float32(steps.solid_angle_of_pixel(panel, single, near, nearness))
            if panel.polarized and not weighted:
                factor *= float32(
                    steps.polarization_of_pixel(single, incident[0, 0], incident[0, 1], incident[0, 2], d_x, d_y, d_z)
                )
        if panel.has_sensor and (last or rules.per_term):
            factor *= float32(steps.capture_of_pixel(panel, single, layer, rules.per_term, d_x, d_y, d_z))
        return float32(factor)

    @gpu_function
    def polar_of_source(panel, single, rules, run, incident, u, w, x, y, z, at, tile, keep, polar):
        """Polarization factor of a source: each source's own, or the first that is not beyond dmin."""
        if panel.polarized and (rules.per_term or (polar == float32(0.0) and keep != float32(0.0))):
            d_x, d_y, d_z = direction_of_pixel(u, w, x, y, z, at, tile)
            polar = float32(
                steps.polarization_of_pixel(single, incident[run, 0], incident[run, 1], incident[run, 2], d_x, d_y, d_z)
            )
        return float32(polar)

    @gpu_function
    def end_round(me, part, keep, total, farthest, near_half, parts, bits):
        """Add a round's sum to the part's; or mark the part where float32 cannot decide, and drop it.

        It cannot where a phase is too near a half, exactly at a peak (the sum is infinite or NaN), and on the
        rim of a top hat (NaN).
        """
        if farthest > near_half or not total < float32(math.inf):
            bits[me] |= uint32(1 << part)
        if bits[me] >> uint32(part) & uint32(1):
            parts[me] = 0.0
        else:
            parts[me] += float64(keep) * float64(total)

    @gpu_function
    def finish_value(single, rules, total, share, factor, polar):
        """Photons of a pixel (eq. 21)."""
        if rules.per_term:
            return single.scale * total + single.flat * share
        if weighted:
            factor *= polar
        return (single.background + single.scale * total) * float64(factor)

    @gpu_function
    def store_pixel(region, row, column, value, bits, image, marked, doubts, n_marked):
        """Store a pixel, and list it where parts are in doubt."""
        at_row = row - region.row_start
        image[uint32(at_row), uint32(column)] = value
        if bits != 0:
            slot = cuda.atomic.add(n_marked, 0, 1)
            marked[slot] = at_row * image.shape[1] + column
            doubts[slot] = bits

    @gpu_function
    def keep_of_source(panel, single, run, incident, wavelength, row, column, sub_slow, sub_fast, depth):
        """1, or 0 beyond dmin (eq. 7)."""
        if panel.dmin <= 0.0:
            return float32(1.0)
        q_x, q_y, q_z = steps.scatter_at_pixel(
            curved,
            panel,
            single,
            incident[run, 0],
            incident[run, 1],
            incident[run, 2],
            wavelength[run],
            row,
            column,
            sub_slow,
            sub_fast,
            depth,
        )
        return float32(0.0) if physics.is_beyond_dmin(q_x, q_y, q_z, panel.dmin) else float32(1.0)

    @gpu_function
    def phases_of_pixel(rows, s, u, w, x, y, z):
        """Coarse and fine parts of h, k, l."""
        h_coarse, h_fine = steps.pixel_phase(
            rows[s],
            rows[s + uint32(1)],
            rows[s + uint32(2)],
            rows[s + uint32(3)],
            rows[s + uint32(4)],
            rows[s + uint32(5)],
            rows[s + uint32(6)],
            rows[s + uint32(7)],
            rows[s + uint32(8)],
            u,
            w,
            x,
            y,
            z,
        )
        k_coarse, k_fine = steps.pixel_phase(
            rows[s + uint32(9)],
            rows[s + uint32(10)],
            rows[s + uint32(11)],
            rows[s + uint32(12)],
            rows[s + uint32(13)],
            rows[s + uint32(14)],
            rows[s + uint32(15)],
            rows[s + uint32(16)],
            rows[s + uint32(17)],
            u,
            w,
            x,
            y,
            z,
        )
        l_coarse, l_fine = steps.pixel_phase(
            rows[s + uint32(18)],
            rows[s + uint32(19)],
            rows[s + uint32(20)],
            rows[s + uint32(21)],
            rows[s + uint32(22)],
            rows[s + uint32(23)],
            rows[s + uint32(24)],
            rows[s + uint32(25)],
            rows[s + uint32(26)],
            u,
            w,
            x,
            y,
            z,
        )
        return (
            float32(h_coarse),
            float32(h_fine),
            float32(k_coarse),
            float32(k_fine),
            float32(l_coarse),
            float32(l_fine),
        )

    @gpu_function
    def add_step(rows, s, u, w, x, y, z, single, table_squared, total, farthest):
        """Add one step's term of one pixel to ``total``; ``farthest`` follows the phases farthest from an index."""
        h_coarse, h_fine, k_coarse, k_fine, l_coarse, l_fine = phases_of_pixel(rows, s, u, w, x, y, z)
        if shape == SQUARE:
            h_near, d_h, t_h = physics.reduced_pair(h_coarse, h_fine, single.n_a)
            k_near, d_k, t_k = physics.reduced_pair(k_coarse, k_fine, single.n_b)
            l_near, d_l, t_l = physics.reduced_pair(l_coarse, l_fine, single.n_c)
            d_h, d_k, d_l = float32(d_h), float32(d_k), float32(d_l)
            term = steps.ratio_squared(float32(t_h), float32(t_k), float32(t_l), d_h, d_k, d_l)
        else:
            h_near, d_h = physics.reduced_single(h_coarse, h_fine)
            k_near, d_k = physics.reduced_single(k_coarse, k_fine)
            l_near, d_l = physics.reduced_single(l_coarse, l_fine)
            d_h, d_k, d_l = float32(d_h), float32(d_k), float32(d_l)
            if shape == ROUND:
                x_h, y_h = physics.eighths_of_fringes(h_coarse, float32(h_near), h_fine, d_h, single.n_a)
                x_k, y_k = physics.eighths_of_fringes(k_coarse, float32(k_near), k_fine, d_k, single.n_b)
                x_l, y_l = physics.eighths_of_fringes(l_coarse, float32(l_near), l_fine, d_l, single.n_c)
                r, phase = physics.radius_single(
                    float32(x_h), float32(x_k), float32(x_l), float32(y_h), float32(y_k), float32(y_l)
                )
                term = physics.sphere_single(float32(r), float32(phase))
            else:
                term = steps.radial_factor(shape, float32(steps.squared_radius(single, d_h, d_k, d_l)))
        if needs_index:
            farthest = float32(steps.farthest_of(farthest, d_h, d_k, d_l))
        term = float32(term)
        if has_table:
            place = steps.place_of_pixel(
                rows[s + uint32(27)], float32(h_near), float32(k_near), float32(l_near), single.h_size, single.k_size
            )
            term *= table_squared[place]
        return float32(total + term), farthest

    @gpu_fast_kernel
    def add_bragg_tile(
        panel,
        lattice,
        lookup,
        rules,
        region,
        single,
        sources,
        cells,
        table_squared,
        mask,
        image,
        marked,
        doubts,
        n_marked,
    ):
        """Render a region in float32 phases; list the pixels that float32 cannot decide (twin of add_bragg_tile).

        A listed pixel has a bit in ``doubts`` for every part of its rounds that is not in ``image`` yet:
        settle_doubts adds it.
        """
        incident, wavelength, weight = sources.incident, sources.wavelength, sources.weight
        rows = shared_rows()
        tile = cuda.shared.array(shared_tiles, float64)
        nears = cuda.shared.array(shared_nears, int32)
        # What a pixel needs between rounds only, out of the way of the registers.
        totals = cuda.shared.array(PIXELS, float64)
        parts = cuda.shared.array(PIXELS, float64)
        shares = cuda.shared.array(weighted_pixels, float64)
        bits = cuda.shared.array(PIXELS, uint32)
        factors = cuda.shared.array(PIXELS, float32)
        polars = cuda.shared.array(weighted_pixels, float32)
        keeps = cuda.shared.array(weighted_pixels, float32)
        my_rows = cuda.shared.array(THREADS, int32)
        my_columns = cuda.shared.array(THREADS, int32)
        clock = cuda.shared.array(PIXELS, int32)  # a thread's part, and its rounds in that part
        # numba widens sums of 32-bit numbers; cut back, they take half the registers.
        thread = int32(cuda.threadIdx.x)
        my_tile = int32(thread // threads_in_tile)
        in_tile = int32(thread % threads_in_tile)
        u = float32(in_tile % side - half)
        w_0 = float32(in_tile // side - half)
        w_1 = float32(w_0 + float32(below))
        at = uint32(my_tile * _TILE)
        me_0, me_1 = uint32(thread), uint32(thread + THREADS)
        n_sources, n_steps = int32(wavelength.shape[0]), int32(cells.shape[0])
        # Without weights all sources are one run of steps.
        runs = n_sources if weighted else int32(1)
        oversample = int32(panel.oversample)
        layer_subs = int32(panel.layers * panel.oversample * panel.oversample)
        first_row, bottom = first_rows(region)
        first_row = int32(first_row + AREA * cuda.blockIdx.y)
        while first_row < bottom:
            first_column = int32(region.fast_first // AREA * AREA + AREA * cuda.blockIdx.x)
            while first_column <= int32(region.fast_last):
                row = int32(first_row + my_tile // per_row * side + in_tile // side)
                column = int32(first_column + my_tile % per_row * side + in_tile % side)
                wanted = is_wanted(region, mask, row, column) or is_wanted(region, mask, int32(row + below), column)
                if not cuda.syncthreads_or(int32(wanted)):
                    first_column = int32(first_column + AREA * cuda.gridDim.x)
                    continue
                totals[me_0], parts[me_0], bits[me_0], factors[me_0] = 0.0, 0.0, uint32(0), float32(1.0)
                totals[me_1], parts[me_1], bits[me_1], factors[me_1] = 0.0, 0.0, uint32(0), float32(1.0)
                if weighted:
                    polar = float32(0.0) if panel.polarized else float32(1.0)
                    shares[me_0], polars[me_0] = 0.0, polar
                    shares[me_1], polars[me_1] = 0.0, polar
                my_rows[me_0], my_columns[me_0], clock[me_0], clock[me_1] = row, column, int32(0), int32(0)
                layer_sub = int32(0)
                # One loop, so that nothing that belongs to a layer or a sub-pixel waits in registers.
                while layer_sub < layer_subs:
                    sub_fast = int32(layer_sub % oversample)
                    sub_slow = int32(layer_sub // oversample % oversample)
                    layer = int32(layer_sub // oversample // oversample)
                    depth = layer * panel.layer_step
                    cuda.syncthreads()
                    if thread < tiles:
                        aim_at_tile(
                            panel,
                            single,
                            int32(first_row + thread // per_row * side),
                            int32(first_column + thread % per_row * side),
                            sub_slow,
                            sub_fast,
                            depth,
                            uint32(thread * _TILE),
                            tile,
                        )
                    cuda.syncthreads()
                    first = layer_sub == 0
                    last = layer_sub == layer_subs - oversample * oversample
                    # A loop over the thread's two pixels, not the two side by side, in half the registers.
                    me = thread
                    while me < PIXELS:
                        to, down = uint32(me), float32(below if me >= THREADS else 0)
                        row, column = int32(my_rows[me_0] + int32(down)), my_columns[me_0]
                        x, y, z, near = rest_of_pixel(
                            panel, single, row, column, u, float32(w_0 + down), sub_slow, sub_fast, depth, at, tile
                        )
                        # The rows are free until the steps are filled in.
                        rows[to], rows[to + uint32(PIXELS)], rows[to + uint32(2 * PIXELS)] = x, y, z
                        if first or last or rules.per_term:
                            factors[to] = factor_of_pixel(
                                panel,
                                single,
                                rules,
                                first,
                                last,
                                factors[to],
                                layer,
                                depth,
                                u,
                                float32(w_0 + down),
                                x,
                                y,
                                z,
                                near,
                                incident,
                                at,
                                tile,
                            )
                        me = int32(me + THREADS)
                    x_0, y_0, z_0 = rows[me_0], rows[me_0 + uint32(PIXELS)], rows[me_0 + uint32(2 * PIXELS)]
                    x_1, y_1, z_1 = rows[me_1], rows[me_1 + uint32(PIXELS)], rows[me_1 + uint32(2 * PIXELS)]
                    run = int32(0)
                    while run < runs:
                        if weighted:
                            me = thread
                            while me < PIXELS:
                                to, below_first = uint32(me), me >= THREADS
                                down = int32(below if below_first else 0)
                                row, column = int32(my_rows[me_0] + down), my_columns[me_0]
                                keep = keep_of_source(
                                    panel, single, run, incident, wavelength, row, column, sub_slow, sub_fast, depth
                                )
                                polar = polar_of_source(
                                    panel,
                                    single,
                                    rules,
                                    run,
                                    incident,
                                    u,
                                    float32(w_0 + float32(down)),
                                    x_1 if below_first else x_0,
                                    y_1 if below_first else y_0,
                                    z_1 if below_first else z_0,
                                    at,
                                    tile,
                                    keep,
                                    polars[to],
                                )
                                polars[to] = polar
                                if rules.per_term:
                                    share = float32(float32(weight[run]) * factors[to] * polar)
                                    shares[to] += share
                                    keep = float32(keep * share)
                                keeps[to] = keep
                                me = int32(me + THREADS)
                        source, step, pending = run, int32(0), int32(0)
                        left = int32(single.run_steps)
                        sum_0, sum_1, far_0, far_1 = float32(0.0), float32(0.0), float32(0.0), float32(0.0)
                        while left > 0:
                            here = int32(min(chunk, left))
                            cuda.syncthreads()
                            fill_rows(
                                thread,
                                source,
                                step,
                                here,
                                n_steps,
                                incident,
                                wavelength,
                                cells,
                                single,
                                tile,
                                nears,
                                rows,
                            )
                            cuda.syncthreads()
                            # Unsigned indices spare the check for negative ones.
                            s = uint32(my_tile * chunk * steps.STEP_SIZE)
                            end = uint32(s + uint32(here * steps.STEP_SIZE))
                            while s < end:
                                sum_0, far_0 = add_step(
                                    rows, s, u, w_0, x_0, y_0, z_0, single, table_squared, sum_0, far_0
                                )
                                sum_1, far_1 = add_step(
                                    rows, s, u, w_1, x_1, y_1, z_1, single, table_squared, sum_1, far_1
                                )
                                s = uint32(s + uint32(steps.STEP_SIZE))
                            left = int32(left - here)
                            pending = int32(pending + here)
                            step = int32(step + here)
                            while step >= n_steps:
                                step = int32(step - n_steps)
                                source = int32(source + 1)
                            if pending == ROUND_STEPS or left == 0:
                                part, rounds = clock[me_0], clock[me_1]
                                if rounds == int32(single.part_rounds):
                                    part, rounds = int32(part + 1), int32(0)
                                    clock[me_0] = part
                                    totals[me_0] += parts[me_0]
                                    totals[me_1] += parts[me_1]
                                    parts[me_0], parts[me_1] = 0.0, 0.0
                                clock[me_1] = int32(rounds + 1)
                                pending = int32(0)
                                keep_0 = keeps[me_0] if weighted else float32(1.0)
                                keep_1 = keeps[me_1] if weighted else float32(1.0)
                                end_round(me_0, part, keep_0, sum_0, far_0, single.near_half, parts, bits)
                                end_round(me_1, part, keep_1, sum_1, far_1, single.near_half, parts, bits)
                                sum_0, sum_1 = float32(0.0), float32(0.0)
                                far_0, far_1 = float32(0.0), float32(0.0)
                        run = int32(run + 1)
                    layer_sub = int32(layer_sub + 1)
                me = thread
                while me < PIXELS:
                    row, column = int32(my_rows[me_0] + (below if me >= THREADS else 0)), my_columns[me_0]
                    if is_wanted(region, mask, row, column):
                        to = uint32(me)
                        value = finish_value(
                            single,
                            rules,
                            totals[to] + parts[to],
                            shares[to] if weighted else 0.0,
                            factors[to],
                            polars[to] if weighted else float32(1.0),
                        )
                        store_pixel(region, row, column, value, bits[to], image, marked, doubts, n_marked)
                    me = int32(me + THREADS)
                first_column = int32(first_column + AREA * cuda.gridDim.x)
            first_row = int32(first_row + AREA * cuda.gridDim.y)

    return add_bragg_tile


@gpu_function
def table_index(index, first, count):
    """Position of the nearest whole index in the bordered table; what lies outside falls on the border."""
    return uint32(min(max(physics.nearest_index(index) - first, 0.0), count - 1.0))


@gpu_function
def nearest_factor(lookup, table, h, k, l):  # noqa: E741
    """F of the nearest whole index."""
    i = table_index(h, lookup.h_first, lookup.h_count)
    j = table_index(k, lookup.k_first, lookup.k_count)
    m = table_index(l, lookup.l_first, lookup.l_count)
    return table[i, j, m]


@gpu_function
def row_of_four(table, i, j, m, z):
    """Cubic through four neighbours along l."""
    return physics.lagrange4(
        z, table[i, j, m], table[i, j, m + uint32(1)], table[i, j, m + uint32(2)], table[i, j, m + uint32(3)]
    )


@gpu_function
def plane_of_four(table, i, j, m, y, z):
    """Cubic through four rows along k."""
    return physics.lagrange4(
        y,
        row_of_four(table, i, j, m, z),
        row_of_four(table, i, j + uint32(1), m, z),
        row_of_four(table, i, j + uint32(2), m, z),
        row_of_four(table, i, j + uint32(3), m, z),
    )


@gpu_function
def tricubic_factor(lookup, table, h, k, l):  # noqa: E741
    """Tricubic interpolation between the 64 nodes around h, k, l (eq. 18)."""
    h_floor, k_floor, l_floor = math.floor(h), math.floor(k), math.floor(l)
    i = uint32(int64(h_floor) - 1 - lookup.h_first)
    j = uint32(int64(k_floor) - 1 - lookup.k_first)
    m = uint32(int64(l_floor) - 1 - lookup.l_first)
    x, y, z = h - h_floor, k - k_floor, l - l_floor
    return physics.lagrange4(
        x,
        plane_of_four(table, i, j, m, y, z),
        plane_of_four(table, i + uint32(1), j, m, y, z),
        plane_of_four(table, i + uint32(2), j, m, y, z),
        plane_of_four(table, i + uint32(3), j, m, y, z),
    )


@gpu_function
def is_inside(index, first, count):
    """Tell whether the four nodes around an index are data; the border is not (eq. 18)."""
    return index - 2.0 >= first + 1 and index - (first + 1) + 3.0 <= count - 2


@cache
def _float64_pixel(shape, mode, curved):
    """The device function that sums a pixel's terms in float64; twin of cpu_float64.render_float64."""

    @gpu_function
    def lattice_factor(lattice, h, k, l):  # noqa: E741
        """Lattice factor, 1 at a peak (eq. 13 to 17)."""
        if shape == SQUARE:
            square = physics.grating_squared(h, lattice.n_a)
            square *= physics.grating_squared(k, lattice.n_b)
            return square * physics.grating_squared(l, lattice.n_c)
        d_h = h - physics.nearest_index(h)
        d_k = k - physics.nearest_index(k)
        d_l = l - physics.nearest_index(l)
        radius = physics.quadratic_form(lattice, d_h, d_k, d_l)
        if shape == ROUND:
            return physics.sphere_squared(radius)
        if shape == GAUSS:
            return physics.gauss_squared(radius)
        return physics.tophat_squared(radius)

    @gpu_function
    def structure_factor(lookup, table, h, k, l):  # noqa: E741
        """F at h, k, l, and 1 where interpolation was wanted but left the table."""
        if mode == NO_TABLE:
            return lookup.default_F, 0
        if mode == NEAREST:
            return nearest_factor(lookup, table, h, k, l), 0
        inside = is_inside(h, lookup.h_first, lookup.h_count) and is_inside(k, lookup.k_first, lookup.k_count)
        if inside and is_inside(l, lookup.l_first, lookup.l_count):
            return tricubic_factor(lookup, table, h, k, l), 0
        return nearest_factor(lookup, table, h, k, l), 1

    @gpu_function
    def sum_pixel(
        panel,
        lattice,
        lookup,
        rules,
        sources,
        cells,
        table,
        row,
        column,
        start,
        bits,
        part_rounds,
    ):
        """Sum of a pixel's terms from ``start`` on, its factors, its share, and how often interpolation missed.

        Only the parts of ``bits`` are summed.
        """
        incident, wavelength, weight = sources.incident, sources.wavelength, sources.weight
        total, share_total, missed = start, 0.0, 0
        polar = 0.0 if panel.polarized else 1.0
        capture, omega = 1.0, 1.0
        volume = lattice.n_a * lattice.n_b * lattice.n_c
        volume_squared = volume * volume
        running = rules.running_thick or rules.running_polar or rules.running_omega
        weighted = rules.per_term or panel.dmin > 0.0
        n_sources, n_steps = wavelength.shape[0], cells.shape[0]
        part, rounds, in_round = 0, 0, 0
        half = panel.subpixel_size / 2.0
        for layer in range(panel.layers):
            depth = layer * panel.layer_step
            for sub_slow in range(panel.oversample):
                for sub_fast in range(panel.oversample):
                    slow = panel.subpixel_size * (row * panel.oversample + sub_slow) + half
                    fast = panel.subpixel_size * (column * panel.oversample + sub_fast) + half
                    if curved:
                        x, y, z = steps.curved_position(panel, fast, slow, depth)
                    else:
                        x, y, z = physics.flat_position(panel, fast, slow, depth)
                    airpath = math.sqrt(x * x + y * y + z * z)
                    d_x, d_y, d_z = x / airpath, y / airpath, z / airpath
                    first = sub_slow == 0 and sub_fast == 0
                    if panel.has_sensor and (first or rules.running_thick or rules.per_term):
                        parallax = d_x * panel.normal_x + d_y * panel.normal_y + d_z * panel.normal_z
                        if curved and rules.per_term:
                            parallax = 1.0
                        capture = physics.capture_fraction(layer, panel.layer_step, panel.attenuation, parallax)
                    if (layer == 0 and first) or rules.running_omega or rules.per_term:
                        near = panel.close_distance + (depth if rules.per_term else 0.0)
                        omega = physics.solid_angle(airpath, panel.pixel_size, near, panel.point_pixel)
                    for source in range(n_sources):
                        at = uint32(source)
                        i_x, i_y, i_z = incident[at, uint32(0)], incident[at, uint32(1)], incident[at, uint32(2)]
                        q_x, q_y, q_z = physics.scattering_vector(d_x, d_y, d_z, i_x, i_y, i_z, wavelength[at])
                        keep = 1.0
                        if panel.dmin > 0.0 and physics.is_beyond_dmin(q_x, q_y, q_z, panel.dmin):
                            keep = 0.0
                        if rules.per_term:
                            wanted = panel.polarized
                        else:
                            wanted = keep != 0.0 and (polar == 0.0 or rules.running_polar)
                        if wanted:
                            polar = physics.polarization_factor(
                                panel.kahn,
                                i_x,
                                i_y,
                                i_z,
                                d_x,
                                d_y,
                                d_z,
                                panel.polar_x,
                                panel.polar_y,
                                panel.polar_z,
                            )
                        if rules.per_term:
                            share = omega * polar * capture * weight[at]
                            share_total += share
                            keep *= share
                        if weighted:
                            in_round = 0  # each source begins a round of its own
                        for step in range(n_steps):
                            if in_round == 0:
                                if rounds == part_rounds:
                                    part, rounds = part + 1, 0
                                rounds += 1
                            in_round += 1
                            if in_round == ROUND_STEPS or (source == n_sources - 1 and step == n_steps - 1):
                                in_round = 0
                            if bits >> part & 1 == 0:
                                continue
                            c = uint32(step)
                            h = cells[c, uint32(0)] * q_x + cells[c, uint32(1)] * q_y + cells[c, uint32(2)] * q_z
                            k = cells[c, uint32(3)] * q_x + cells[c, uint32(4)] * q_y + cells[c, uint32(5)] * q_z
                            l = cells[c, uint32(6)] * q_x + cells[c, uint32(7)] * q_y + cells[c, uint32(8)] * q_z  # noqa: E741
                            square = lattice_factor(lattice, h, k, l)
                            f_cell, outside = structure_factor(lookup, table, h, k, l)
                            missed += outside
                            term = f_cell * f_cell * (volume_squared * square)
                            if running:
                                if keep != 0.0 and not (rules.skip_zero and square == 0.0):
                                    total += term
                                    if rules.running_thick:
                                        total *= capture
                                    if rules.running_polar:
                                        total *= polar
                                    if rules.running_omega:
                                        total *= omega
                            else:
                                total += keep * term
        return total, capture, polar, omega, share_total, missed

    return sum_pixel


@gpu_function
def finish_pixel(panel, rules, n_sources, total, capture, polar, omega, share):
    """Turn a sum into photons: scale, and the cached factors that were not applied per term (eq. 21)."""
    value = rules.scale * total
    if rules.per_term:
        return value + rules.flat_background * share / (panel.oversample * panel.oversample * n_sources)
    if not rules.running_thick:
        value *= capture
    if not rules.running_polar:
        value *= polar
    if not rules.running_omega:
        value *= omega
    return value


@cache
def float64_kernel(shape, mode, curved):
    """The kernel that renders in float64 for a lattice shape, a lookup and a detector."""
    sum_pixel = _float64_pixel(shape, mode, curved)

    @gpu_kernel
    def add_bragg_float64(
        panel,
        lattice,
        lookup,
        rules,
        region,
        sources,
        cells,
        table,
        mask,
        image,
        missed,
    ):
        """Render a region in float64, one thread a pixel (twin of cpu.add_bragg_float64)."""
        n_fast = image.shape[1]
        n_pixels = image.shape[0] * n_fast
        for pixel in range(cuda.grid(1), n_pixels, cuda.gridsize(1)):
            row, column = int32(pixel // n_fast), int32(pixel % n_fast)
            frame_row = int32(row + region.row_start)
            if is_wanted(region, mask, frame_row, column):
                total, capture, polar, omega, share, outside = sum_pixel(
                    panel,
                    lattice,
                    lookup,
                    rules,
                    sources,
                    cells,
                    table,
                    frame_row,
                    column,
                    rules.background,
                    1,
                    ALL_ROUNDS,
                )
                image[row, column] = finish_pixel(
                    panel, rules, sources.wavelength.shape[0], total, capture, polar, omega, share
                )
                if outside > 0:
                    cuda.atomic.add(missed, 0, outside)

    return add_bragg_float64


@cache
def settle_kernel(shape, mode, curved):
    """The kernel that adds in float64 what a tile kernel left open."""
    sum_pixel = _float64_pixel(shape, mode, curved)

    @gpu_kernel
    def settle_doubts(
        panel,
        lattice,
        lookup,
        rules,
        region,
        sources,
        cells,
        table,
        marked,
        doubts,
        n_marked,
        image,
    ):
        """Add to each pixel of ``marked`` the parts of ``doubts``, one thread a pixel."""
        n_fast = image.shape[1]
        n_sources, n_steps = sources.wavelength.shape[0], cells.shape[0]
        part_rounds = rounds_in_part(panel, rules, n_sources, n_steps)
        for slot in range(cuda.grid(1), n_marked[0], cuda.gridsize(1)):
            pixel = marked[slot]
            row, column = pixel // n_fast, pixel % n_fast
            total, capture, polar, omega, _, _ = sum_pixel(
                panel,
                lattice,
                lookup,
                rules,
                sources,
                cells,
                table,
                row + region.row_start,
                column,
                0.0,
                int64(doubts[slot]),
                part_rounds,
            )
            image[row, column] += finish_pixel(panel, rules, n_sources, total, capture, polar, omega, 0.0)

    return settle_doubts


@gpu_kernel
def poisson_counts(photons, seed, frame, first_pixel, counts):
    """Draw a count for each pixel into ``counts``; twin of philox.poisson_counts."""
    n_fast = photons.shape[1]
    k0 = uint64(seed) & philox.LOW_WORD
    k1 = uint64(seed) >> philox.WORD_BITS
    frame_word = uint64(frame)
    for pixel in range(cuda.grid(1), photons.shape[0] * n_fast, cuda.gridsize(1)):
        row, column = pixel // n_fast, pixel % n_fast
        place = uint64(first_pixel) + uint64(pixel)
        counts[row, column] = uint32(philox.poisson_count(float64(photons[row, column]), place, frame_word, k0, k1))


def is_weighted(panel, rules):
    """Tell whether terms carry factors of their own: the last argument of tile_kernel."""
    return bool(rules.per_term or panel.dmin > 0.0)


def tile_blocks(region, side):
    """Blocks (across, down) for a tile kernel of any ``side``."""
    return tuple(max(1, n) for n in grid(region))


def pixel_blocks(region):
    """Blocks for the kernels that take one thread a pixel."""
    across, down = grid(region)
    return across * down * PIXELS // THREADS


class Variant(NamedTuple):
    """A kernel to be compiled without a device: see ``variants``."""

    kernel: str
    precision: str
    function: object
    signature: tuple
    fastmath: bool
    threads: int
    pixels: int  #: pixels that a thread renders in one pass of its innermost loop


def variants():
    """Kernels to be compiled without a device, with the types of their arguments.

    Every shape with and without a table in both precisions; and every other choice once, for the square
    crystal with a table: smaller tiles, weights, a curved detector, tricubic interpolation.
    """
    found = []
    for shape, shape_name in enumerate(SHAPE_NAMES):
        for mode, table_name in ((NO_TABLE, "default-F"), (NEAREST, "table")):
            found.append(_tile_variant(f"{shape_name}-{table_name}", shape, mode))
            found.append(_float64_variant(f"{shape_name}-{table_name}", shape, mode))
    for side in SIDES[1:]:
        found.append(_tile_variant(f"square-table-{side}x{side}", SQUARE, NEAREST, side))
    found.append(_tile_variant("square-table-weighted", SQUARE, NEAREST, weighted=True))
    found.append(_tile_variant("square-table-curved", SQUARE, NEAREST, curved=True))
    found.append(_float64_variant("square-table-curved", SQUARE, NEAREST, curved=True))
    found.append(_float64_variant("square-tricubic", SQUARE, TRICUBIC))
    settle = settle_kernel(SQUARE, NEAREST, False)
    found.append(Variant("square-table-settle", "float64", settle.py_func, _settle_types(), False, THREADS, 1))
    found.append(Variant("poisson-counts", "float64", poisson_counts.py_func, _noise_types(), False, THREADS, 1))
    return found


def _tile_variant(name, shape, mode, side=SIDES[0], curved=False, weighted=False):
    kernel = tile_kernel(shape, mode, side, curved, weighted)
    return Variant(name, "tile", kernel.py_func, _tile_types(), True, THREADS, 2)


def _float64_variant(name, shape, mode, curved=False):
    kernel = float64_kernel(shape, mode, curved)
    return Variant(name, "float64", kernel.py_func, _float64_types(), False, THREADS, 1)


_KINDS = {float: types.float64, int: types.int64, bool: types.boolean, np.float32: types.float32}


def _tuple_type(kind):
    return types.NamedTuple([_KINDS[kind.__annotations__[name]] for name in kind._fields], kind)


def _array(kind, n):
    return types.Array(kind, n, "C")


def _noun_types():
    return tuple(_tuple_type(kind) for kind in (Panel, Lattice, Table, Rules, Region))


def _step_types():
    real = types.float64
    sources = types.NamedTuple([_array(real, 2), _array(real, 1), _array(real, 1)], Sources)
    return sources, _array(real, 2)


def _doubt_types():
    return _array(types.int64, 1), _array(types.uint32, 1), _array(types.int32, 1)


def _tile_types():
    image = _array(types.float32, 2)
    tables = (_array(types.float32, 1), _array(types.uint8, 2))
    return (*_noun_types(), _tuple_type(Single), *_step_types(), *tables, image, *_doubt_types())


def _float64_types():
    tables = (_array(types.float64, 3), _array(types.uint8, 2))
    return (*_noun_types(), *_step_types(), *tables, _array(types.float32, 2), _array(types.int64, 1))


def _settle_types():
    table, image = _array(types.float64, 3), _array(types.float32, 2)
    return (*_noun_types(), *_step_types(), table, *_doubt_types(), image)


def _noise_types():
    photons, counts = _array(types.float32, 2), _array(types.uint32, 2)
    return photons, types.uint64, types.uint32, types.uint64, counts
