"""The CPU kernels of slopes: parallel loops over blocks of pixels, and what is made of a block's sums.

The function that sums a block comes as an argument and is called by its address (sum_of_blocks). ``blocks`` is int32
(n, 3): the panel, the first pixel in the lists ``rows`` and ``columns``, and how many. A parameter's slope is linear in
the sums: ``starts`` says which of ``columns_of`` and of each panel's ``factors`` belong to it.
"""

import math
from typing import NamedTuple

import numpy as np
from bragg_numba.kernels._jit import cpu_kernel, device_function, fused_kernel, summing_kernel
from bragg_numba.kernels.slopes.rows import (
    BLOCK,
    N_ROWS,
    SIZE_EXACT,
    SIZE_STEP,
    STRIDE,
    VALUE,
    Scratch,
)
from numba import get_num_threads, get_thread_id, prange

#: Bytes between what two threads write: neighbours of a cache line are fetched with it.
APART = 256

#: Likelihoods of data given photons.
GAUSSIAN, MODEL_VARIANCE, POISSON = range(3)

#: Photons, or a variance, below which a likelihood takes this many.
LEAST_PHOTONS = 1e-9


class Contraction(NamedTuple):
    """What each parameter's slope is made of: sparse rows of a matrix for each panel, padded to four entries."""

    starts: np.ndarray  #: int64 (parameters + 1,)
    rows: np.ndarray  #: int64 (entries,): rows of a block's sums
    factors: np.ndarray  #: float64 (panels, entries)


def scratch_of(single, moves):
    """Scratch for as many threads as there are, a row each."""
    threads = get_num_threads()
    kind = np.float32 if single else np.float64

    def rows_of(size, dtype):
        return np.zeros((threads, size + APART // 4), dtype)

    return Scratch(
        rows_of(SIZE_STEP, kind),
        rows_of(SIZE_EXACT, np.float64),
        rows_of((N_ROWS + moves) * STRIDE, np.float64),
        rows_of(BLOCK, np.int32),
    )


@fused_kernel
def contract(contraction, panel, sums, slopes):
    """Fill slopes (parameters, BLOCK) float64 of the pixels of a block; entries are taken four at a time."""
    starts, rows, factors = contraction
    for parameter in range(len(starts) - 1):
        mine = slopes[parameter]
        for pixel in range(BLOCK):
            mine[pixel] = 0.0
        for entry in range(starts[parameter], starts[parameter + 1], 4):
            f_0, f_1, f_2, f_3 = (
                factors[panel, entry],
                factors[panel, entry + 1],
                factors[panel, entry + 2],
                factors[panel, entry + 3],
            )
            r_0, r_1 = np.uint64(rows[entry] * STRIDE), np.uint64(rows[entry + 1] * STRIDE)
            r_2, r_3 = np.uint64(rows[entry + 2] * STRIDE), np.uint64(rows[entry + 3] * STRIDE)
            for pixel in range(BLOCK):
                at = np.uint64(pixel)
                mine[at] += (f_0 * sums[r_0 + at] + f_1 * sums[r_1 + at]) + (
                    f_2 * sums[r_2 + at] + f_3 * sums[r_3 + at]
                )


@device_function
def scratch_of_thread(scratch, thread):
    """The Scratch of one thread."""
    return Scratch(scratch.step[thread], scratch.exact[thread], scratch.sums[thread], scratch.places[thread])


@cpu_kernel
def add_images(
    sum_block,
    panels,
    lattice,
    lookup,
    rules,
    sources,
    cells,
    table,
    squares,
    spins,
    margins,
    wanted,
    beams,
    blocks,
    rows,
    columns,
    contraction,
    scratch,
    weights,
    room,
    values,
    images,
):
    """Fill values (pixels,) and images (parameters, pixels), float64, with photons and slopes of the listed pixels."""
    for index in prange(len(blocks)):
        thread = get_thread_id()
        which, first, n = blocks[index, 0], blocks[index, 1], blocks[index, 2]
        mine = scratch_of_thread(scratch, thread)
        sum_block(
            panels,
            lattice,
            lookup,
            rules,
            sources,
            cells,
            table,
            squares,
            spins,
            margins,
            wanted,
            beams,
            which,
            rows[first : first + n],
            columns[first : first + n],
            n,
            mine,
            weights[thread],
        )
        contract(contraction, which, mine.sums, room[thread])
        for pixel in range(n):
            values[first + pixel] = mine.sums[VALUE * STRIDE + pixel]
        for parameter in range(len(images)):
            for pixel in range(n):
                images[parameter, first + pixel] = room[thread, parameter, pixel]


@summing_kernel
def weigh_rows(n, weights, sums, weighed):
    """Fill weighed (rows,) with the sums over n pixels of a block's rows times weights (n,)."""
    for row in range(len(weighed)):
        mine = sums[row * STRIDE : row * STRIDE + n]
        total = 0.0
        for pixel in range(n):
            total += weights[pixel] * mine[pixel]
        weighed[row] = total


@cpu_kernel
def add_pulls(
    sum_block,
    panels,
    lattice,
    lookup,
    rules,
    sources,
    cells,
    table,
    squares,
    spins,
    margins,
    wanted,
    beams,
    blocks,
    rows,
    columns,
    pixel_weights,
    scratch,
    weights,
    weighed,
):
    """Fill weighed (blocks, rows) float64 with the sums over pixels of what slopes are linear in, times their weights.

    ``pixel_weights`` is float64 (pixels,).
    """
    for index in prange(len(blocks)):
        thread = get_thread_id()
        which, first, n = blocks[index, 0], blocks[index, 1], blocks[index, 2]
        mine = scratch_of_thread(scratch, thread)
        sum_block(
            panels,
            lattice,
            lookup,
            rules,
            sources,
            cells,
            table,
            squares,
            spins,
            margins,
            wanted,
            beams,
            which,
            rows[first : first + n],
            columns[first : first + n],
            n,
            mine,
            weights[thread],
        )
        weigh_rows(n, pixel_weights[first : first + n], mine.sums, weighed[index])


@device_function
def judge_pixel(likelihood, photons, data, variance):
    """Minus the logarithm of a pixel's likelihood, its slope in the photons, and the expected second one (eq. 65).

    A pixel whose data are NaN does not count.
    """
    if data != data:
        return 0.0, 0.0, 0.0
    if likelihood == GAUSSIAN:
        off = data - photons
        return 0.5 * off * off / variance, -off / variance, 1.0 / variance
    if likelihood == MODEL_VARIANCE:
        spread = max(photons + variance, LEAST_PHOTONS)
        off = data - photons
        value = 0.5 * (math.log(2.0 * math.pi * spread) + off * off / spread)
        slope = 0.5 * (1.0 - 2.0 * off - off * off / spread) / spread
        return value, slope, 1.0 / spread + 0.5 / (spread * spread)
    expected = max(photons, LEAST_PHOTONS)
    value = expected - data
    if data > 0.0:
        value += data * math.log(data / expected)
    return value, 1.0 - data / expected, 1.0 / expected


@summing_kernel
def weigh_slopes(likelihood, n, data, variance, background, sums, slopes, room, found):
    """Fill found with a block's minus log likelihood, its slopes, and the lower triangle of J^T W J, row by row.

    ``slopes`` is float64 (parameters, BLOCK), ``room`` float64 (3, BLOCK).
    """
    value = 0.0
    for pixel in range(n):
        photons = sums[VALUE * STRIDE + pixel] + background[pixel]
        mine, room[0, pixel], room[1, pixel] = judge_pixel(likelihood, photons, data[pixel], variance[pixel])
        value += mine
    found[0] = value
    parameters = len(slopes)
    place = 1 + parameters
    for one in range(parameters):
        total = 0.0
        for pixel in range(n):
            total += slopes[one, pixel] * room[0, pixel]
            room[2, pixel] = slopes[one, pixel] * room[1, pixel]
        found[1 + one] = total
        for other in range(one + 1):
            total = 0.0
            for pixel in range(n):
                total += room[2, pixel] * slopes[other, pixel]
            found[place] = total
            place += 1


@cpu_kernel
def add_normals(
    sum_block,
    panels,
    lattice,
    lookup,
    rules,
    sources,
    cells,
    table,
    squares,
    spins,
    margins,
    wanted,
    beams,
    blocks,
    rows,
    columns,
    contraction,
    likelihood,
    data,
    variance,
    background,
    scratch,
    weights,
    room,
    judged,
    found,
):
    """Fill found (blocks, 1 + n + n (n + 1) / 2) float64 with what weigh_slopes finds of each block.

    ``data``, ``variance`` and ``background`` are float64 (pixels,).
    """
    for index in prange(len(blocks)):
        thread = get_thread_id()
        which, first, n = blocks[index, 0], blocks[index, 1], blocks[index, 2]
        mine = scratch_of_thread(scratch, thread)
        sum_block(
            panels,
            lattice,
            lookup,
            rules,
            sources,
            cells,
            table,
            squares,
            spins,
            margins,
            wanted,
            beams,
            which,
            rows[first : first + n],
            columns[first : first + n],
            n,
            mine,
            weights[thread],
        )
        contract(contraction, which, mine.sums, room[thread])
        weigh_slopes(
            likelihood,
            n,
            data[first : first + n],
            variance[first : first + n],
            background[first : first + n],
            mine.sums,
            room[thread],
            judged[thread],
            found[index],
        )
