"""The CUDA kernels of slopes: twins of those in cpu, one thread a pixel of a block of the lists.

The sums that slopes are linear in (slopes/rows.py) are made by one kernel and left in global memory (cuda_factors),
those of some blocks at a time; what is made of them is a kernel each, none of which knows the crystal. Sums over
pixels are made block by block in the order of the lists, so that they are the same in every run.
"""

from functools import cache

from bragg_numba.kernels._jit_cuda import gpu_fast_kernel, gpu_function, gpu_kernel
from bragg_numba.kernels.parameters import GAUSS, TOPHAT
from bragg_numba.kernels.pixels.cuda_frame import finders
from bragg_numba.kernels.pixels.cuda_functions import physics, walk
from bragg_numba.kernels.slopes import cpu
from bragg_numba.kernels.slopes import cuda_factors as factors
from bragg_numba.kernels.slopes import cuda_terms as terms
from bragg_numba.kernels.slopes.rows import BLOCK, CHUNK, N_ROWS, VALUE
from bragg_numba.kernels.slopes.steps import INTERPOLATED, LISTED, UNIFORM
from numba import cuda, float32, float64, int32, uint32, uint64

#: Threads in a block: one a pixel of a block of the lists.
THREADS = BLOCK

judge_pixel = gpu_function(cpu.judge_pixel.py_func)


@cache
def sum_kernel(kind):
    """The kernel that sums what the slopes of pixels are linear in, for a cuda_terms.SlopeKind."""
    shape, single, amplitudes, curved = kind
    term_of = terms.TERMS[shape, single]
    real = float32 if single else float64
    find_panel, _ = finders(several=True)
    ends = shape in (GAUSS, TOPHAT)

    @(gpu_fast_kernel if single else gpu_kernel)
    def sum_slopes(
        panels,
        lattice,
        lookup,
        rules,
        sources,
        steps,
        table,
        squares,
        margins,
        wanted,
        beams,
        n_moves,
        blocks,
        rows,
        columns,
        sums,
    ):
        """Fill sums, float64 (blocks, rows, BLOCK) flat, with what the slopes of the listed pixels are linear in."""
        block, thread = uint32(cuda.blockIdx.x), int32(cuda.threadIdx.x)
        if thread >= blocks[block, uint32(2)]:
            return
        panel = find_panel(panels, uint32(blocks[block, uint32(0)]))
        pixel, slot = uint32(blocks[block, uint32(1)] + thread), factors.slot_of(block, N_ROWS + n_moves, thread)
        row, column = rows[pixel], columns[pixel]
        for place in range(N_ROWS + n_moves):
            sums[factors.place_of(place, slot)] = 0.0
        volume = lattice.n_a * lattice.n_b * lattice.n_c
        strength = rules.scale * volume * volume
        if amplitudes == UNIFORM:
            strength *= lookup.default_F * lookup.default_F
        n_sources, n_cells = sources.wavelength.shape[0], int32(steps.cells.shape[0])
        subs = panel.oversample * panel.oversample
        flat = rules.flat_background / (subs * n_sources)
        first_kept = 0 if panel.dmin <= 0.0 else -1
        for layer_sub in range(panel.layers * subs):
            ray = factors.aim_at_subpixel(curved, panel, row, column, layer_sub % subs, layer_sub // subs)
            omega, captured = 1.0, 1.0
            if rules.per_term:
                near = panel.close_distance + ray.layer * panel.layer_step
                omega = physics.solid_angle(ray.far, panel.pitch_fast, panel.height, near, panel.point_pixel)
                captured = walk.capture(curved, panel, rules, ray.layer, ray.x, ray.y, ray.z)
            for number in range(beams.first.shape[0] - 1):
                first, after = beams.first[uint32(number)], beams.first[uint32(number + 1)]
                incident = factors.incident_of(sources, first)
                off = (ray.x - incident[0], ray.y - incident[1], ray.z - incident[2])
                keep = terms.keep_of_beam(panel, off, steps.wave_numbers[uint32(first)])
                if first_kept < 0 and keep != 0.0:
                    first_kept = layer_sub * n_sources + first
                polar = factors.polarization_of(panel, ray, incident) if rules.per_term else 1.0
                together = 0.0
                for source in range(first, after):
                    together += sources.weight[uint32(source)]
                whole = together if after - first == 1 else 1.0
                once = flat
                left, source, cell = int32((after - first) * n_cells), uint32(first), uint32(0)
                while left > 0:
                    here = min(left, int32(CHUNK))
                    left = int32(left - here)
                    chunk = terms.nothing(real(0.0))
                    while here > 0:
                        h, k, l = terms.indices_of_step(steps, source, cell, off)  # noqa: E741
                        h_near, k_near = physics.nearest_index(h), physics.nearest_index(k)
                        l_near = physics.nearest_index(l)
                        d_h, d_k, d_l = h - h_near, k - k_near, l - l_near
                        seen = abs(real(d_h)) <= real(margins.h) and abs(real(d_k)) <= real(margins.k)
                        seen = seen and abs(real(d_l)) <= real(margins.l)
                        if seen or not ends:
                            if amplitudes == INTERPOLATED:
                                amplitude = terms.interpolated_slope(lookup, table, h, k, l)
                                term = terms.with_amplitude(term_of(lattice, d_h, d_k, d_l), amplitude)
                            else:
                                term = term_of(lattice, d_h, d_k, d_l)
                            square = steps.weights[source] * steps.shares[cell]
                            if amplitudes == LISTED:
                                square *= squares[terms.place_in_table(lookup, h_near, k_near, l_near)]
                            chunk = terms.add_term(
                                shape,
                                wanted,
                                steps,
                                cell,
                                steps.stretches[source],
                                square,
                                term,
                                real(h),
                                real(k),
                                real(l),
                                chunk,
                            )
                        here = int32(here - 1)
                        cell = uint32(cell + uint32(1))
                        if cell == uint32(n_cells):
                            cell, source = uint32(0), uint32(source + uint32(1))
                    beam = factors.Beam(strength * keep, whole, once, together, first)
                    of_ray = factors.Factors(omega, polar, captured)
                    factors.add_chunk(
                        curved, wanted, panel, rules, sources, ray, beam, of_ray, chunk, n_moves, beams, sums, slot
                    )
                    once = 0.0
        if not rules.per_term:
            factors.finish_nanobragg(
                curved, wanted, panel, rules, sources, row, column, first_kept, n_moves, sums, slot
            )

    return sum_slopes


@gpu_kernel
def contract_slopes(starts, places, entries, blocks, n_rows, sums, values, slopes):
    """Fill values (pixels,) and slopes (parameters, pixels), float32 or float64; the rest is of nouns.Images."""
    block, thread = uint32(cuda.blockIdx.x), int32(cuda.threadIdx.x)
    if thread >= blocks[block, uint32(2)]:
        return
    panel, pixel = uint32(blocks[block, uint32(0)]), uint32(blocks[block, uint32(1)] + thread)
    slot = factors.slot_of(block, n_rows, thread)
    values[pixel] = sums[factors.place_of(VALUE, slot)]
    for parameter in range(starts.shape[0] - 1):
        total = 0.0
        for entry in range(starts[uint32(parameter)], starts[uint32(parameter + 1)]):
            at = uint32(entry)
            total += entries[panel, at] * sums[factors.place_of(places[at], slot)]
        slopes[uint32(parameter), pixel] = total


@gpu_kernel
def weigh_rows(blocks, weights, sums, weighed):
    """Fill weighed (blocks, rows) float64 with sums over a block's pixels of its rows times weights (pixels,)."""
    block, row = uint32(cuda.blockIdx.x), int32(cuda.threadIdx.x)
    first, n = blocks[block, uint32(1)], blocks[block, uint32(2)]
    while row < weighed.shape[1]:
        slot, total = factors.place_of(row, factors.slot_of(block, weighed.shape[1], 0)), 0.0
        for pixel in range(n):
            total += weights[uint32(first + pixel)] * sums[uint64(slot + uint64(pixel))]
        weighed[block, uint32(row)] = total
        row = int32(row + THREADS)


@gpu_kernel
def judge_pixels(likelihood, blocks, data, variance, background, values, judged):
    """Fill judged (3, pixels) float64: minus log likelihood of each pixel, its slope, the expected second one."""
    block, thread = uint32(cuda.blockIdx.x), int32(cuda.threadIdx.x)
    if thread >= blocks[block, uint32(2)]:
        return
    at = uint32(blocks[block, uint32(1)] + thread)
    value, slope, curve = judge_pixel(likelihood, values[at] + background[at], data[at], variance[at])
    judged[uint32(0), at], judged[uint32(1), at], judged[uint32(2), at] = value, slope, curve


@gpu_kernel
def weigh_slopes(n_parameters, blocks, judged, slopes, found):
    """Fill found (blocks, numbers) float64 with a block's value, gradient, and lower triangle of J^T W J by rows."""
    block, number = uint32(cuda.blockIdx.x), int32(cuda.threadIdx.x)
    first, n = blocks[block, uint32(1)], blocks[block, uint32(2)]
    while number < found.shape[1]:
        total, one, other = 0.0, 0, number - 1 - n_parameters
        while other > one:
            other, one = other - one - 1, one + 1
        for pixel in range(first, first + n):
            at = uint32(pixel)
            if number == 0:
                total += judged[uint32(0), at]
            elif number <= n_parameters:
                total += judged[uint32(1), at] * slopes[uint32(number - 1), at]
            else:
                total += judged[uint32(2), at] * slopes[uint32(one), at] * slopes[uint32(other), at]
        found[block, uint32(number)] = total
        number = int32(number + THREADS)
