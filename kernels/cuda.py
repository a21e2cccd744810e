"""The CUDA kernels: twins of the kernels in cpu; what a pixel and step computes is in cuda_steps and physics.

A block of THREADS threads covers AREA x AREA pixels, one thread a pixel. The area counts from the frame's
first pixel, so that what a pixel gets does not depend on how a frame is cut into rows. Kernels are made for
one lattice shape, one way to look up structure factors and one tile size each, by factories over plain
numbers: small kernels keep their registers.
"""

import math
from functools import cache

import numpy as np
from bragg_numba.kernels import cuda_steps as steps
from bragg_numba.kernels import philox, physics
from bragg_numba.kernels._jit_cuda import SIMULATED, gpu_fast_kernel, gpu_function, gpu_kernel
from bragg_numba.kernels.parameters import GAUSS, ROUND, SQUARE
from numba import cuda, float32, float64, int32, uint32

#: Threads in a block, and the side of the square of pixels that they render.
THREADS = 256
AREA = 16

#: Sides of a tile, pixels, that tile_kernel takes: small tiles carry smaller errors, large ones share more work.
SIDES = (16, 8, 4)

#: Steps that are summed in float32 before they are added to the float64 total.
ROUND_STEPS = 64

#: Parts of a pixel's rounds that a float64 pass can settle one by one: bits of ``doubts``.
PARTS = 32

#: How structure factors are looked up.
NO_TABLE, NEAREST, TRICUBIC = 0, 1, 2

# Steps whose phases lie in shared memory at a time, by side.
_CHUNK = {16: 64, 8: 32, 4: 16}

# float64 values that describe a tile: direction of its centre, tangents along fast and slow, distance.
_TILE = 10


def lookup_mode(lookup):
    """NO_TABLE, NEAREST or TRICUBIC for a plan's ``lookup``."""
    if not lookup.has_table:
        return NO_TABLE
    return TRICUBIC if lookup.interpolate else NEAREST


def count_blocks(region):
    """Blocks of AREA x AREA pixels that cover a region."""
    top, bottom = max(region.row_start, region.slow_first), min(region.row_stop, region.slow_last + 1)
    if bottom <= top or region.fast_last < region.fast_first:
        return 0
    down = (bottom - 1) // AREA - top // AREA + 1
    return down * (region.fast_last // AREA - region.fast_first // AREA + 1)


@gpu_function
def place_of_block(block, region):
    """First row and column of a block's pixels."""
    first = region.fast_first // AREA
    across = region.fast_last // AREA - first + 1
    top = max(region.row_start, region.slow_first) // AREA
    return (top + block // across) * AREA, (first + block % across) * AREA


@gpu_function
def blocks_of(region):
    """count_blocks for a kernel."""
    top = max(region.row_start, region.slow_first)
    bottom = min(region.row_stop, region.slow_last + 1)
    down = (bottom - 1) // AREA - top // AREA + 1
    across = region.fast_last // AREA - region.fast_first // AREA + 1
    return down * across if bottom > top and across > 0 else 0


@gpu_function
def is_wanted(region, mask, row, column):
    """Tell whether a pixel lies in the rows, in the region of interest and in the mask."""
    wanted = region.row_start <= row < region.row_stop and region.slow_first <= row <= region.slow_last
    wanted = wanted and region.fast_first <= column <= region.fast_last
    if wanted and region.masked:
        wanted = mask[row, column] != 0
    return wanted


@cache
def tile_kernel(shape, mode, side, curved):
    """The kernel that renders in float32 phases for a lattice shape, NO_TABLE or NEAREST, tile side and detector."""
    chunk = _CHUNK[side]
    per_row = AREA // side
    tiles = per_row * per_row
    in_tile = side * side
    shared_steps = tiles * chunk * steps.STEP_SIZE
    shared_tiles = tiles * _TILE
    half = 0.5 * (side - 1)
    needs_index = mode != NO_TABLE or shape != SQUARE
    has_table = mode != NO_TABLE

    @gpu_function
    def shared_rows():
        """Shared float32 memory, aligned so that four values are one load (which the simulator refuses)."""
        if SIMULATED:
            return cuda.shared.array(shared_steps, float32)
        return cuda.shared.array(shared_steps, float32, alignment=16)

    @gpu_function
    def aim_at_tile(geometry, row, column, sub_slow, sub_fast, depth, at, tile):
        """Fill tile[at:] with what describes the tile whose first pixel is (row, column)."""
        middle = half * geometry.pixel_size
        x, y, z = steps.tile_position(curved, geometry, row, column, middle, sub_slow, sub_fast, depth)
        r = math.sqrt(x * x + y * y + z * z)
        c_x, c_y, c_z = x / r, y / r, z / r
        tile[at], tile[at + 1], tile[at + 2] = c_x, c_y, c_z
        step = geometry.pixel_size / r
        g = geometry
        t_x, t_y, t_z = steps.tangent(c_x, c_y, c_z, g.fast_x, g.fast_y, g.fast_z, step)
        tile[at + 3], tile[at + 4], tile[at + 5] = t_x, t_y, t_z
        t_x, t_y, t_z = steps.tangent(c_x, c_y, c_z, g.slow_x, g.slow_y, g.slow_z, step)
        tile[at + 6], tile[at + 7], tile[at + 8] = t_x, t_y, t_z
        tile[at + 9] = r

    @gpu_function
    def fill_step(cells, step, per, i_x, i_y, i_z, lookup, reach, tile, at, rows, to):
        """Fill rows[to:] with one step's phases at a tile's centre."""
        q_x, q_y, q_z = tile[at] - i_x, tile[at + 1] - i_y, tile[at + 2] - i_z
        f_x, f_y, f_z = tile[at + 3], tile[at + 4], tile[at + 5]
        s_x, s_y, s_z = tile[at + 6], tile[at + 7], tile[at + 8]
        a_x, a_y, a_z = cells[step, 0] * per, cells[step, 1] * per, cells[step, 2] * per
        h_near, v0, v1, v2, v3, v4, v5, v6, v7, v8 = steps.step_axis(
            a_x, a_y, a_z, q_x, q_y, q_z, f_x, f_y, f_z, s_x, s_y, s_z
        )
        rows[to], rows[to + 1], rows[to + 2], rows[to + 3], rows[to + 4] = v0, v1, v2, v3, v4
        rows[to + 5], rows[to + 6], rows[to + 7], rows[to + 8] = v5, v6, v7, v8
        a_x, a_y, a_z = cells[step, 3] * per, cells[step, 4] * per, cells[step, 5] * per
        k_near, v0, v1, v2, v3, v4, v5, v6, v7, v8 = steps.step_axis(
            a_x, a_y, a_z, q_x, q_y, q_z, f_x, f_y, f_z, s_x, s_y, s_z
        )
        rows[to + 9], rows[to + 10], rows[to + 11], rows[to + 12], rows[to + 13] = v0, v1, v2, v3, v4
        rows[to + 14], rows[to + 15], rows[to + 16], rows[to + 17] = v5, v6, v7, v8
        a_x, a_y, a_z = cells[step, 6] * per, cells[step, 7] * per, cells[step, 8] * per
        l_near, v0, v1, v2, v3, v4, v5, v6, v7, v8 = steps.step_axis(
            a_x, a_y, a_z, q_x, q_y, q_z, f_x, f_y, f_z, s_x, s_y, s_z
        )
        rows[to + 18], rows[to + 19], rows[to + 20], rows[to + 21], rows[to + 22] = v0, v1, v2, v3, v4
        rows[to + 23], rows[to + 24], rows[to + 25], rows[to + 26] = v5, v6, v7, v8
        if has_table:
            rows[to + 27] = steps.place_at_centre(lookup, h_near, k_near, l_near, reach)

    @gpu_function
    def rest_of_pixel(geometry, row, column, u, w, sub_slow, sub_fast, depth, at, tile):
        """(x, y, z) of a pixel and its centre's distance over its own."""
        g = geometry
        if curved:
            p_x, p_y, p_z = steps.tile_position(curved, g, row, column, 0.0, sub_slow, sub_fast, depth)
            r = math.sqrt(p_x * p_x + p_y * p_y + p_z * p_z)
            x = float32(p_x / r - tile[at] - u * tile[at + 3] - w * tile[at + 6])
            y = float32(p_y / r - tile[at + 1] - u * tile[at + 4] - w * tile[at + 7])
            z = float32(p_z / r - tile[at + 2] - u * tile[at + 5] - w * tile[at + 8])
            return x, y, z, float32(tile[at + 9] / r)
        return steps.rest_on_flat(
            u,
            w,
            float32(tile[at]),
            float32(tile[at + 1]),
            float32(tile[at + 2]),
            float32(1.0 / tile[at + 9]),
            float32(g.fast_x),
            float32(g.fast_y),
            float32(g.fast_z),
            float32(g.slow_x),
            float32(g.slow_y),
            float32(g.slow_z),
            float32(g.pixel_size),
        )

    @gpu_fast_kernel
    def add_bragg_tile(
        geometry,
        lattice,
        lookup,
        rules,
        region,
        single,
        incident,
        wavelength,
        weight,
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
        rows = shared_rows()
        tile = cuda.shared.array(shared_tiles, float64)
        thread = cuda.threadIdx.x
        my_tile = thread // in_tile
        in_row = thread % in_tile
        my_row = my_tile // per_row * side + in_row // side
        my_column = my_tile % per_row * side + in_row % side
        u, w = float32(in_row % side - half), float32(in_row // side - half)
        at = my_tile * _TILE
        n_sources, n_steps = wavelength.shape[0], cells.shape[0]
        weighted = rules.per_term or geometry.dmin > 0.0
        # Without weights all sources are one run of steps.
        runs = n_sources if weighted else 1
        run_steps = n_steps if weighted else n_sources * n_steps
        run_rounds = (run_steps + ROUND_STEPS - 1) // ROUND_STEPS
        subs = geometry.oversample * geometry.oversample
        all_rounds = geometry.layers * subs * runs * run_rounds
        n_a, n_b, n_c = single.n_a, single.n_b, single.n_c
        same_a, same_b, same_c = single.same_a, single.same_b, single.same_c
        h_size, k_size, near_half = single.h_size, single.k_size, single.near_half
        m_hh, m_kk, m_ll = float32(lattice.metric_hh), float32(lattice.metric_kk), float32(lattice.metric_ll)
        m_hk, m_hl, m_kl = float32(lattice.metric_hk), float32(lattice.metric_hl), float32(lattice.metric_kl)
        lattice_scale = 1.0
        if shape != SQUARE:
            lattice_scale = (lattice.n_a * lattice.n_b * lattice.n_c) ** 2
        for block in range(cuda.blockIdx.x, blocks_of(region), cuda.gridDim.x):
            first_row, first_column = place_of_block(block, region)
            row, column = first_row + my_row, first_column + my_column
            wanted = is_wanted(region, mask, row, column)
            if not cuda.syncthreads_or(int32(wanted)):
                continue
            total, part_total, share_total = 0.0, 0.0, 0.0
            part, part_doubt, bits = 0, False, 0
            polar = float32(0.0) if geometry.polarized else float32(1.0)
            omega, capture = float32(1.0), float32(1.0)
            rounds = 0
            for layer_sub in range(geometry.layers * subs):
                layer, sub = layer_sub // subs, layer_sub % subs
                depth = layer * geometry.layer_step
                sub_slow, sub_fast = sub // geometry.oversample, sub % geometry.oversample
                cuda.syncthreads()
                if thread < tiles:
                    aim_at_tile(
                        geometry,
                        first_row + thread // per_row * side,
                        first_column + thread % per_row * side,
                        sub_slow,
                        sub_fast,
                        depth,
                        thread * _TILE,
                        tile,
                    )
                cuda.syncthreads()
                x, y, z, stretch = rest_of_pixel(geometry, row, column, u, w, sub_slow, sub_fast, depth, at, tile)
                d_x = float32(tile[at] + u * tile[at + 3] + w * tile[at + 6]) + x
                d_y = float32(tile[at + 1] + u * tile[at + 4] + w * tile[at + 7]) + y
                d_z = float32(tile[at + 2] + u * tile[at + 5] + w * tile[at + 8]) + z
                if geometry.has_sensor and (rules.per_term or (sub == 0 and layer == geometry.layers - 1)):
                    capture = float32(steps.capture_of_pixel(geometry, layer, rules.per_term, d_x, d_y, d_z))
                if rules.per_term or layer_sub == 0:
                    near = geometry.close_distance + (depth if rules.per_term else 0.0)
                    omega = float32(steps.solid_angle_of_pixel(geometry, near, stretch * float32(1.0 / tile[at + 9])))
                for run in range(runs):
                    keep = float32(1.0)
                    if geometry.dmin > 0.0:
                        q_x, q_y, q_z = steps.scatter_at_pixel(
                            curved,
                            geometry,
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
                        if physics.is_beyond_dmin(q_x, q_y, q_z, geometry.dmin):
                            keep = float32(0.0)
                    if geometry.polarized and (rules.per_term or (polar == float32(0.0) and keep != float32(0.0))):
                        polar = float32(
                            steps.polarization_of_pixel(
                                geometry, incident[run, 0], incident[run, 1], incident[run, 2], d_x, d_y, d_z
                            )
                        )
                    if rules.per_term:
                        share = float32(weight[run]) * omega * polar * capture
                        share_total += share
                        keep *= share
                    chunk_sum, farthest = float32(0.0), float32(0.0)
                    for start in range(0, run_steps, chunk):
                        here = min(chunk, run_steps - start)
                        cuda.syncthreads()
                        for item in range(thread, tiles * here, THREADS):
                            to_tile, to_step = item // here, item % here
                            source = run + (start + to_step) // n_steps
                            fill_step(
                                cells,
                                (start + to_step) % n_steps,
                                1.0 / wavelength[source],
                                incident[source, 0],
                                incident[source, 1],
                                incident[source, 2],
                                lookup,
                                single.reach,
                                tile,
                                to_tile * _TILE,
                                rows,
                                (to_tile * chunk + to_step) * steps.STEP_SIZE,
                            )
                        cuda.syncthreads()
                        first = my_tile * chunk * steps.STEP_SIZE
                        for step in range(int32(here)):
                            # An unsigned index spares the check for negative ones.
                            s = uint32(first + step * steps.STEP_SIZE)
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
                            if shape == SQUARE:
                                h_near, d_h, t_h = steps.reduced_pair(float32(h_coarse), float32(h_fine), n_a, same_a)
                                k_near, d_k, t_k = steps.reduced_pair(float32(k_coarse), float32(k_fine), n_b, same_b)
                                l_near, d_l, t_l = steps.reduced_pair(float32(l_coarse), float32(l_fine), n_c, same_c)
                                term = float32(
                                    steps.ratio_squared(
                                        float32(t_h),
                                        float32(t_k),
                                        float32(t_l),
                                        float32(d_h),
                                        float32(d_k),
                                        float32(d_l),
                                    )
                                )
                            else:
                                h_near, d_h = physics.reduced_single(float32(h_coarse), float32(h_fine))
                                k_near, d_k = physics.reduced_single(float32(k_coarse), float32(k_fine))
                                l_near, d_l = physics.reduced_single(float32(l_coarse), float32(l_fine))
                                radius = physics.quadratic_form_single(
                                    (m_hh, m_kk, m_ll, m_hk, m_hl, m_kl),
                                    float32(d_h),
                                    float32(d_k),
                                    float32(d_l),
                                )
                                term = float32(steps.radial_factor(shape, float32(radius)))
                            if needs_index:
                                farthest = steps.farthest_of(farthest, float32(d_h), float32(d_k), float32(d_l))
                                farthest = float32(farthest)
                            if has_table:
                                place = steps.place_of_pixel(
                                    rows[s + uint32(27)],
                                    float32(h_near),
                                    float32(k_near),
                                    float32(l_near),
                                    h_size,
                                    k_size,
                                )
                                chunk_sum += table_squared[place] * term
                            else:
                                chunk_sum += term
                        if (start + chunk) % ROUND_STEPS == 0 or start + chunk >= run_steps:
                            now = rounds * PARTS // all_rounds
                            if now != part:
                                if part_doubt:
                                    bits |= 1 << part
                                else:
                                    total += part_total
                                part, part_doubt, part_total = now, False, 0.0
                            rounds += 1
                            part_total += float64(keep) * float64(chunk_sum)
                            # Not below infinity: a peak that float32 hits exactly, or a radius on the top hat's rim.
                            sound = chunk_sum < float32(math.inf)
                            part_doubt = part_doubt or farthest > near_half or not sound
                            chunk_sum, farthest = float32(0.0), float32(0.0)
            if part_doubt:
                bits |= 1 << part
            else:
                total += part_total
            if wanted:
                scale = rules.scale * lattice_scale
                if not has_table:
                    scale *= lookup.default_F * lookup.default_F
                if rules.per_term:
                    value = scale * total + rules.flat_background / (subs * n_sources) * share_total
                else:
                    value = (rules.scale * rules.background + scale * total) * float64(polar * omega * capture)
                image[row - region.row_start, column] = value
                if bits != 0:
                    slot = cuda.atomic.add(n_marked, 0, 1)
                    marked[slot] = (row - region.row_start) * image.shape[1] + column
                    doubts[slot] = bits

    return add_bragg_tile
