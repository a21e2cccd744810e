"""The CPU kernels of slopes: a parallel loop over blocks of pixels, and what is made of a block's sums.

Two functions come as arguments and are called by their address: one sums a block (sum_of_blocks), the other makes of
its sums what a task asks for: keep_images, keep_pulls or keep_normals. A parameter's slope is linear in the sums.
"""

import math

import numpy as np
from bragg_numba.kernels._jit import (
    addressed_fused_kernel,
    cpu_kernel,
    device_function,
    fused_kernel,
    summing_kernel,
)
from bragg_numba.kernels.slopes.nouns import Nouns, Scratch
from bragg_numba.kernels.slopes.rows import BLOCK, N_ROWS, PIECE, SIZE_EXACT, SIZE_PLACES, SIZE_STEP, STRIDE, VALUE
from numba import get_num_threads, get_thread_id, prange, types

#: Likelihoods of data given photons.
GAUSSIAN, MODEL_VARIANCE, POISSON = range(3)

#: Photons, or a variance, below which a likelihood takes this many.
LEAST_PHOTONS = 1e-9


def scratch_of(single, moves, parameters):
    """Scratch for as many threads as there are, a row each."""
    threads = get_num_threads()
    kind = np.float32 if single else np.float64

    def rows_of(size, dtype):
        # Rows begin cache lines: a vector across two lines loads slower.
        line = 64 // np.dtype(dtype).itemsize
        width = -(-size // line) * line + 4 * line
        room = np.zeros(threads * width + line, dtype)
        first = -(room.ctypes.data // room.itemsize) % line
        return room[first : first + threads * width].reshape(threads, width)

    return Scratch(
        rows_of(SIZE_STEP, kind),
        rows_of(SIZE_EXACT, np.float64),
        rows_of((N_ROWS + moves) * STRIDE, np.float64),
        rows_of(SIZE_PLACES, np.int32),
        np.zeros((threads, 3, 8)),
        np.zeros((threads, parameters, BLOCK)),
        np.zeros((threads, 3, BLOCK)),
    )


@device_function
def scratch_of_thread(scratch, thread):
    """The Scratch of one thread."""
    s = scratch
    return Scratch(
        s.step[thread],
        s.exact[thread],
        s.sums[thread],
        s.places[thread],
        s.weights[thread],
        s.slopes[thread],
        s.judged[thread],
    )


@cpu_kernel
def walk_blocks(
    sum_block,
    keep_block,
    panels,
    lattice,
    lookup,
    rules,
    sources,
    cells,
    table,
    squares,
    wanted,
    beams,
    pixels,
    task,
    scratch,
):
    """Sum every block of Pixels, and keep of it what a task asks for; the Nouns come part by part."""
    for index in prange(len(pixels.blocks)):
        nouns = Nouns(panels, lattice, lookup, rules, sources, cells, table, squares, wanted, beams)
        which, first, n = pixels.blocks[index, 0], pixels.blocks[index, 1], pixels.blocks[index, 2]
        mine = scratch_of_thread(scratch, get_thread_id())
        sum_block(nouns, which, pixels.rows[first : first + n], pixels.columns[first : first + n], mine)
        keep_block(task, np.int64(index), which, first, n, mine)


@fused_kernel
def contract(starts, rows, factors, sums, slopes):
    """Fill slopes (parameters, BLOCK) float64 of the pixels of a block; entries are taken four at a time.

    ``factors`` are those of the block's panel.
    """
    for parameter in range(len(starts) - 1):
        mine = slopes[parameter]
        for pixel in range(BLOCK):
            mine[pixel] = 0.0
        for entry in range(starts[parameter], starts[parameter + 1], 4):
            f_0, f_1, f_2, f_3 = (
                factors[entry],
                factors[entry + 1],
                factors[entry + 2],
                factors[entry + 3],
            )
            r_0, r_1 = np.uint64(rows[entry] * STRIDE), np.uint64(rows[entry + 1] * STRIDE)
            r_2, r_3 = np.uint64(rows[entry + 2] * STRIDE), np.uint64(rows[entry + 3] * STRIDE)
            for pixel in range(BLOCK):
                at = np.uint64(pixel)
                mine[at] += (f_0 * sums[r_0 + at] + f_1 * sums[r_1 + at]) + (
                    f_2 * sums[r_2 + at] + f_3 * sums[r_3 + at]
                )


@fused_kernel
def is_piece(rows, columns):
    """Whether pixels fill a square of PIECE x PIECE, row by row."""
    if len(rows) != PIECE * PIECE:
        return False
    off = 0
    for pixel in range(PIECE * PIECE):
        off |= (rows[pixel] - rows[0] - pixel // PIECE) | (columns[pixel] - columns[0] - pixel % PIECE)
    return off == 0


@device_function
def copy_eight(source, first, image, to):
    """Copy eight values; all are loaded before one is stored, for nobody says that the arrays do not overlap."""
    at = np.uint64(first)
    one, two, three, four = source[at], source[at + 1], source[at + 2], source[at + 3]
    five, six, seven, eight = source[at + 4], source[at + 5], source[at + 6], source[at + 7]
    image[to], image[to + 1], image[to + 2], image[to + 3] = one, two, three, four
    image[to + 4], image[to + 5], image[to + 6], image[to + 7] = five, six, seven, eight


@fused_kernel
def store_row(row, piece, rows, columns, n_fast, image):
    """Store one value a pixel of a block in an image, flat; ``piece`` says whether is_piece."""
    if piece:
        to = np.uint64(np.int64(rows[0]) * n_fast + columns[0])
        for down in range(PIECE):
            copy_eight(row, down * PIECE, image, to + np.uint64(down * n_fast))
    else:
        for pixel in range(len(rows)):
            image[np.int64(rows[pixel]) * n_fast + columns[pixel]] = row[pixel]


@addressed_fused_kernel(types.void)
def keep_images(task, index, which, first, n, scratch):
    """Store photons and slopes of a block's pixels in Images."""
    contract(task.starts, task.places, task.factors[which], scratch.sums, scratch.slopes)
    rows, columns = task.rows[first : first + n], task.columns[first : first + n]
    piece = is_piece(rows, columns)
    store_row(scratch.sums[VALUE * STRIDE : VALUE * STRIDE + BLOCK], piece, rows, columns, task.n_fast, task.value)
    for parameter in range(len(task.slopes)):
        store_row(scratch.slopes[parameter], piece, rows, columns, task.n_fast, task.slopes[parameter])


@summing_kernel
def weigh_rows(n, weights, sums, weighed):
    """Fill weighed (rows,) with the sums over n pixels of a block's rows times weights (n,)."""
    for row in range(len(weighed)):
        mine = sums[row * STRIDE : row * STRIDE + n]
        total = 0.0
        for pixel in range(n):
            total += weights[pixel] * mine[pixel]
        weighed[row] = total


@addressed_fused_kernel(types.void)
def keep_pulls(task, index, which, first, n, scratch):
    """Keep the sums of a block, times Pulls' weights of its pixels."""
    weigh_rows(n, task.weights[first : first + n], scratch.sums, task.weighed[index])


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


@addressed_fused_kernel(types.void)
def keep_normals(task, index, which, first, n, scratch):
    """Keep what weigh_slopes finds of a block."""
    contract(task.starts, task.places, task.factors[which], scratch.sums, scratch.slopes)
    weigh_slopes(
        task.likelihood,
        n,
        task.data[first : first + n],
        task.variance[first : first + n],
        task.background[first : first + n],
        scratch.sums,
        scratch.slopes,
        scratch.judged,
        task.found[index],
    )
