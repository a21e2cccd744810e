"""The parallel loops over fields of the slopes' engine of spots; what a field does is in spots.

As cpu.keep_images, keep_pulls and keep_normals have it, with fields of blocks in the place of blocks.
"""

import numpy as np
from bragg_numba.kernels._jit import cpu_kernel, device_function, fused_kernel
from bragg_numba.kernels.pixels.cpu import APART
from bragg_numba.kernels.slopes import rows, spots_rows
from bragg_numba.kernels.slopes.cpu import contract, weigh_rows, weigh_slopes
from bragg_numba.kernels.slopes.rows import BLOCK, N_ROWS, STRIDE, VALUE
from bragg_numba.kernels.slopes.spots import pixel_of_block
from bragg_numba.kernels.slopes.spots_rows import COLUMN, COUNT, FIRST, PANEL, ROW, SUMMED, Room
from numba import get_num_threads, get_thread_id, prange


def room_of(moves):
    """Room for as many threads as there are, a row each."""
    threads = get_num_threads()
    return Room(
        np.zeros((threads, spots_rows.SIZE_PLANES + APART // 8)),
        np.zeros((threads, spots_rows.SIZE_FLAGS + APART // 4), np.int32),
        np.zeros((threads, rows.SIZE_EXACT + APART // 8)),
        np.zeros((threads, BLOCK + APART // 8), np.int64),
        np.zeros((threads, 3, BLOCK)),
        np.zeros((threads, spots_rows.MOST_BLOCKS, (N_ROWS + moves) * STRIDE)),
    )


@device_function
def room_of_thread(room, thread):
    """The Room of one thread."""
    r = room
    return Room(r.planes[thread], r.flags[thread], r.exact[thread], r.at[thread], r.given[thread], r.sums[thread])


@device_function
def frame_pixel(panels, listed, index, block, number):
    """Row and column of the frame of one of a block's pixels."""
    row, column = pixel_of_block(block, number, listed)
    panel = panels[listed.fields[index, PANEL]]
    row += panel["first_row"] + listed.fields[index, ROW]
    return row, column + panel["first_column"] + listed.fields[index, COLUMN]


@fused_kernel
def contract_block(matrix, panel, sums, slopes):
    """Fill slopes (parameters, BLOCK) of the pixels of a block."""
    contract(matrix.starts, matrix.places, matrix.factors[panel], sums, slopes)


@fused_kernel
def take_pixels(panels, listed, index, block, frame, given):
    """Fill ``given`` with the values of a block's pixels in a frame (slow, fast)."""
    for pixel in range(listed.blocks[block, 1]):
        row, column = frame_pixel(panels, listed, index, block, pixel)
        given[pixel] = frame[row, column]


@fused_kernel
def lay_block(panels, listed, index, block, sums, slopes, at, n_fast, value, images):
    """Write photons and slopes of a block's pixels into the frame, flat; ``at`` gets their places there."""
    n = listed.blocks[block, 1]
    for pixel in range(n):
        row, column = frame_pixel(panels, listed, index, block, pixel)
        at[pixel] = row * n_fast + column
        value[at[pixel]] = sums[VALUE * STRIDE + pixel]
    for parameter in range(len(images)):
        for pixel in range(n):
            images[parameter, at[pixel]] = slopes[parameter, pixel]


@cpu_kernel
def add_images(
    sum_field,
    panels,
    lattice,
    rules,
    sources,
    beams,
    spots,
    wanted,
    moves,
    listed,
    room,
    matrix,
    slopes,
    n_fast,
    value,
    images,
):
    """Fill value (pixels,) and images (parameters, pixels) of a frame, which hold zeros, with photons and slopes.

    ``slopes`` is float64 (threads, parameters, BLOCK), to write in; ``n_fast``: pixels of a row of the frame.
    """
    for index in prange(len(listed.fields)):
        thread = get_thread_id()
        mine = room_of_thread(room, thread)
        sum_field(panels, lattice, rules, sources, beams, spots, wanted, moves, listed, np.int64(index), mine)
        for number in range(listed.fields[index, COUNT]):
            if mine.flags[SUMMED + number] == 0:
                continue
            block = np.int64(listed.fields[index, FIRST] + number)
            sums = mine.sums[number]
            contract_block(matrix, np.int64(listed.fields[index, PANEL]), sums, slopes[thread])
            lay_block(panels, listed, np.int64(index), block, sums, slopes[thread], mine.at, n_fast, value, images)


@cpu_kernel
def add_pulls(
    sum_field,
    panels,
    lattice,
    rules,
    sources,
    beams,
    spots,
    wanted,
    moves,
    listed,
    room,
    weights,
    weighed,
):
    """Fill weighed (blocks, rows), float64 zeros, with the sums over pixels of what slopes are linear in.

    ``weights``, float64 (slow, fast), multiply them.
    """
    for index in prange(len(listed.fields)):
        mine = room_of_thread(room, get_thread_id())
        sum_field(panels, lattice, rules, sources, beams, spots, wanted, moves, listed, np.int64(index), mine)
        for number in range(listed.fields[index, COUNT]):
            if mine.flags[SUMMED + number] == 0:
                continue
            block = np.int64(listed.fields[index, FIRST] + number)
            n = np.int64(listed.blocks[block, 1])
            take_pixels(panels, listed, np.int64(index), block, weights, mine.given[0])
            weigh_rows(n, mine.given[0], mine.sums[number], weighed[block])


@cpu_kernel
def add_normals(
    sum_field,
    panels,
    lattice,
    rules,
    sources,
    beams,
    spots,
    wanted,
    moves,
    listed,
    room,
    matrix,
    slopes,
    likelihood,
    data,
    variance,
    background,
    judged,
    found,
):
    """Fill found (blocks, 1 + n + n (n + 1) / 2), float64 zeros, with what cpu.weigh_slopes finds of each block.

    ``data``, ``variance`` and ``background`` are float64 (slow, fast).
    """
    for index in prange(len(listed.fields)):
        thread = get_thread_id()
        mine = room_of_thread(room, thread)
        sum_field(panels, lattice, rules, sources, beams, spots, wanted, moves, listed, np.int64(index), mine)
        for number in range(listed.fields[index, COUNT]):
            block = np.int64(listed.fields[index, FIRST] + number)
            n = np.int64(listed.blocks[block, 1])
            take_pixels(panels, listed, np.int64(index), block, data, mine.given[0])
            take_pixels(panels, listed, np.int64(index), block, variance, mine.given[1])
            take_pixels(panels, listed, np.int64(index), block, background, mine.given[2])
            sums, of_block = mine.sums[number], slopes[thread]
            if mine.flags[SUMMED + number] != 0:
                contract_block(matrix, np.int64(listed.fields[index, PANEL]), sums, of_block)
            else:  # what lies behind is judged there, too
                sums[VALUE * STRIDE : VALUE * STRIDE + BLOCK] = 0.0
                of_block = of_block[:0]
            weigh_slopes(
                likelihood,
                n,
                mine.given[0],
                mine.given[1],
                mine.given[2],
                sums,
                of_block,
                judged[thread],
                found[block],
            )


@cpu_kernel
def pull_squares(pull_field, panels, lattice, rules, sources, beams, spots, weights, listed, room, found):
    """Add to found (spots of all fields,) float64 each reflection's share of the gradient in |F|^2."""
    for index in prange(len(listed.fields)):
        mine = room_of_thread(room, get_thread_id())
        pull_field(panels, lattice, rules, sources, beams, spots, weights, listed, np.int64(index), mine, found)
