"""The parallel loops over fields of the slopes' engine of spots; what a field does is in spots.

As cpu.add_images, add_pulls and add_normals, with fields of blocks in the place of blocks.
"""

import numpy as np
from bragg_numba.kernels._jit import cpu_kernel, device_function
from bragg_numba.kernels.slopes import rows, spots_rows
from bragg_numba.kernels.slopes.cpu import APART, contract, weigh_rows, weigh_slopes
from bragg_numba.kernels.slopes.rows import BLOCK, N_ROWS, STRIDE, VALUE
from bragg_numba.kernels.slopes.spots_rows import COUNT, FIRST, SUMMED, Room
from numba import get_num_threads, get_thread_id, prange


def room_of(moves):
    """Room for as many threads as there are, a row each."""
    threads = get_num_threads()
    return Room(
        np.zeros((threads, spots_rows.SIZE_PLANES + APART // 8)),
        np.zeros((threads, spots_rows.SIZE_FLAGS + APART // 4), np.int32),
        np.zeros((threads, rows.SIZE_EXACT + APART // 8)),
        np.zeros((threads, BLOCK + APART // 8), np.int64),
        np.zeros((threads, spots_rows.MOST_BLOCKS, (N_ROWS + moves) * STRIDE)),
    )


@device_function
def room_of_thread(room, thread):
    """The Room of one thread."""
    return Room(room.planes[thread], room.flags[thread], room.exact[thread], room.at[thread], room.sums[thread])


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
    contraction,
    slopes,
    values,
    images,
):
    """Fill values (pixels,) and images (parameters, pixels), float64 zeros, with photons and slopes of the pixels.

    ``slopes`` is float64 (threads, parameters, BLOCK), to write in.
    """
    for index in prange(len(listed.fields)):
        thread = get_thread_id()
        mine = room_of_thread(room, thread)
        sum_field(panels, lattice, rules, sources, beams, spots, wanted, moves, listed, np.int64(index), mine)
        for number in range(listed.fields[index, COUNT]):
            if mine.flags[SUMMED + number] == 0:
                continue
            block = listed.fields[index, FIRST] + number
            which, first, n = listed.blocks[block, 0], listed.blocks[block, 1], listed.blocks[block, 2]
            sums = mine.sums[number]
            contract(contraction, which, sums, slopes[thread])
            for pixel in range(n):
                values[first + pixel] = sums[VALUE * STRIDE + pixel]
            for parameter in range(len(images)):
                for pixel in range(n):
                    images[parameter, first + pixel] = slopes[thread, parameter, pixel]


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
    pixel_weights,
    weighed,
):
    """Fill weighed (blocks, rows), float64 zeros, with the sums over pixels of what slopes are linear in, weighed."""
    for index in prange(len(listed.fields)):
        mine = room_of_thread(room, get_thread_id())
        sum_field(panels, lattice, rules, sources, beams, spots, wanted, moves, listed, np.int64(index), mine)
        for number in range(listed.fields[index, COUNT]):
            if mine.flags[SUMMED + number] == 0:
                continue
            block = listed.fields[index, FIRST] + number
            first, n = listed.blocks[block, 1], listed.blocks[block, 2]
            weigh_rows(n, pixel_weights[first : first + n], mine.sums[number], weighed[block])


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
    contraction,
    slopes,
    likelihood,
    data,
    variance,
    background,
    judged,
    found,
):
    """Fill found (blocks, 1 + n + n (n + 1) / 2), float64, with what cpu.weigh_slopes finds of each block."""
    for index in prange(len(listed.fields)):
        thread = get_thread_id()
        mine = room_of_thread(room, thread)
        sum_field(panels, lattice, rules, sources, beams, spots, wanted, moves, listed, np.int64(index), mine)
        for number in range(listed.fields[index, COUNT]):
            block = listed.fields[index, FIRST] + number
            which, first, n = listed.blocks[block, 0], listed.blocks[block, 1], listed.blocks[block, 2]
            sums = mine.sums[number]
            if mine.flags[SUMMED + number] == 0:  # what lies behind is judged there, too
                sums[:] = 0.0
            contract(contraction, which, sums, slopes[thread])
            weigh_slopes(
                likelihood,
                n,
                data[first : first + n],
                variance[first : first + n],
                background[first : first + n],
                sums,
                slopes[thread],
                judged[thread],
                found[block],
            )


@cpu_kernel
def pull_squares(pull_field, panels, lattice, rules, sources, beams, spots, weights, listed, room, found):
    """Add to found (spots of all fields,) float64 each reflection's share of the gradient in |F|^2."""
    for index in prange(len(listed.fields)):
        mine = room_of_thread(room, get_thread_id())
        pull_field(panels, lattice, rules, sources, beams, spots, weights, listed, np.int64(index), mine, found)
