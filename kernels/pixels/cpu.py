"""The CPU kernels: parallel loops over a work list; what a tile does is in tile and float64.

A tile is ROWS x COLUMNS pixels of a panel. Each thread takes runs of tiles; the function that renders a run comes as
an argument and is called by its address.
"""

import numpy as np
from bragg_numba.kernels._jit import cpu_kernel, device_function
from bragg_numba.kernels.parameters import YES, Dispersion
from bragg_numba.kernels.pixels import float64, rows, tile
from bragg_numba.kernels.pixels.rows import COLUMNS, ROWS, Scratch
from numba import get_num_threads, get_thread_id, prange, types

#: Most tiles in a run; fewer where there would not be this many runs for each thread.
TILES_IN_RUN, RUNS_OF_THREAD = 16, 4


@device_function
def tiles_in_run(n_tiles, threads):
    """How many tiles of a list a thread takes at a time."""
    return max(1, min(TILES_IN_RUN, n_tiles // (RUNS_OF_THREAD * threads)))


#: Bytes between what two threads write: neighbours of a cache line are fetched with it.
APART = 256


def tile_scratch(dispersed=None):
    """Scratch for as many threads as there are, a row each; float32 rows begin cache lines.

    A vector across two lines loads slower. Where F depends on the wavelength a tile's part of the table has room, too.
    """
    threads = get_num_threads()
    width = -(-rows.SIZE_32 // 16) * 16 + APART // 4
    if dispersed is not None:
        width += rows.SIZE_LOCAL
    room = np.empty(threads * width + 16, np.float32)
    first = -(room.ctypes.data // 4) % 16
    singles = room[first : first + threads * width].reshape(threads, width)
    doubles = np.empty((threads, rows.SIZE_64 + APART // 8))
    return Scratch(singles, doubles, np.empty((threads, rows.SIZE_INT + APART // 4), np.int32))


def float64_scratch():
    """Working values of the float64 kernel, (threads, rows, pixels)."""
    # Rows that lie a whole number of 4096 bytes apart compete for the same lines of the first-level cache.
    return np.empty((get_num_threads(), float64.SCRATCH, ROWS * COLUMNS + 8))


_TILES = types.Array(types.int32, 2, "C")
_FLAGS = types.Array(types.uint8, 1, "C")
_COUNTS = types.Array(types.int64, 1, "C")
_SCRATCH_64 = types.Array(types.float64, 2, "C")
_SCRATCH = types.NamedTuple(
    [types.Array(kind, 1, "C") for kind in (types.float32, types.float64, types.int32)], Scratch
)


def float64_kernel(plan, frame):
    """The kernel for a plan's arguments (Plan.arguments) and a Frame, to hand to add_bragg_float64."""
    table = plan[-1]
    dispersed = YES if isinstance(table, Dispersion) else None
    return float64.run_of_pixels(dispersed).given(*plan, _TILES, types.boolean, frame, _COUNTS, _SCRATCH_64)


def tile_kernel(code, plan, phases, padded, squared, frame):
    """The kernel of a Code, compiled for the arguments of add_bragg_tile, to hand to it."""
    panels, lattice, _, rules, sources, cells, _ = plan
    nouns = (panels, lattice, padded, rules, phases, sources, cells, squared)
    return tile.run_of_tiles(*code).given(*nouns, _TILES, frame, _FLAGS, _SCRATCH)


@cpu_kernel
def add_bragg_float64(
    run_of_pixels, panels, lattice, lookup, rules, sources, cells, table, tiles, only_nans, frame, scratch
):
    """Render the tiles of a work list into ``frame``, in parallel runs.

    ``run_of_pixels`` is the float64_kernel of the plan, whose arguments follow. With ``only_nans`` only pixels that
    are NaN are rendered: those that add_bragg_tile left open. ``scratch`` is float64_scratch. Returns how many
    interpolations left the table, int64, one a tile.
    """
    missed = np.empty(len(tiles), np.int64)
    per_run = tiles_in_run(len(tiles), len(scratch))
    for run in prange((len(tiles) + per_run - 1) // per_run):
        first, stop = run * per_run, (run + 1) * per_run
        mine, counts, work = tiles[first:stop], missed[first:stop], scratch[get_thread_id()]
        run_of_pixels(panels, lattice, lookup, rules, sources, cells, table, mine, only_nans, frame, counts, work)
    return missed


@cpu_kernel
def add_bragg_tile(
    run_of_tiles, panels, lattice, lookup, rules, phases, sources, cells, squared, tiles, frame, scratch
):
    """Render the tiles of a work list into ``frame`` with float32 phases, in parallel runs.

    ``run_of_tiles`` is the tile_kernel; ``lookup`` is that of the padded, flat table ``squared``, or of the Dispersion
    that stands for it; ``scratch`` is tile_scratch. Returns uint8, one a tile: 1 where there are NaN, pixels in which
    float32 cannot decide, say exactly on a peak; add_bragg_float64 has to render them.
    """
    doubts = np.empty(len(tiles), np.uint8)
    per_run = tiles_in_run(len(tiles), len(scratch.work))
    for run in prange((len(tiles) + per_run - 1) // per_run):
        first, stop = run * per_run, (run + 1) * per_run
        mine, flags, thread = tiles[first:stop], doubts[first:stop], get_thread_id()
        values = Scratch(scratch.work[thread], scratch.exact[thread], scratch.at[thread])
        run_of_tiles(panels, lattice, lookup, rules, phases, sources, cells, squared, mine, frame, flags, values)
    return doubts
