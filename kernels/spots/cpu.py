"""The parallel loop over tiles that hold spots; what a tile does is in tile."""

import numpy as np
from bragg_numba.kernels._jit import cpu_kernel
from bragg_numba.kernels.pixels.cpu import APART, tile_scratch
from bragg_numba.kernels.pixels.rows import Scratch
from bragg_numba.kernels.spots import rows, tile
from bragg_numba.kernels.spots.rows import N_FOUND, SpotScratch
from numba import get_num_threads, get_thread_id, prange, types


def spot_scratch(single):
    """SpotScratch for as many threads as there are, a row each; of float32 or float64 values."""
    threads, kind = get_num_threads(), np.float32 if single else np.float64
    return SpotScratch(
        np.empty((threads, rows.SIZE_VALUES + APART // 4), kind),
        np.empty((threads, rows.SIZE_PLACES + APART // 8)),
        np.empty((threads, rows.SIZE_FLAGS + APART // 4), np.int32),
        np.empty((threads, rows.TILES * rows.SIZE_KEPT + APART // 8)),
    )


def _array(kind, dimensions):
    return types.Array(kind, dimensions, "C")


_RUN, _FLAGS, _FOUND = types.UniTuple(types.int64, 2), _array(types.uint8, 1), _array(types.float64, 2)
_OF_TILE = types.NamedTuple([_array(kind, 1) for kind in (types.float32, types.float64, types.int32)], Scratch)
_OF_SPOTS = {
    single: types.NamedTuple([_array(of, 1) for of in (kind, types.float64, types.int32, types.float64)], SpotScratch)
    for single, kind in ((True, types.float32), (False, types.float64))
}


def spots_kernel(code, nouns, tiles, lists, roi, frame, single):
    """The kernel of a choice of code, compiled for the arguments of add_spots, to hand to it."""
    scratch = _OF_TILE, _OF_SPOTS[single]
    return tile.run_of_spots(*code).given(*nouns, tiles, lists, _RUN, roi, frame, _FLAGS, _FOUND, *scratch)


@cpu_kernel
def add_spots(
    run_of_spots, panels, lattice, rules, phases, beams, forms, spots, tiles, lists, runs, roi, frame, scratch, room
):
    """Render the tiles of a work list into ``frame``, reflection by reflection, in parallel runs.

    Parameters
    ----------
    run_of_spots
        spots_kernel of the other arguments.
    phases, beams, forms
        kernels.parameters.Phases; spots.rows.Beams and Forms.
    spots
        float64 (n, N_SPOT), the columns of spots.rows; or DispersedSpots.
    tiles, lists
        The work list, and which of the spots each of its tiles is to look for.
    runs
        int64 (n + 1,): run i is tiles runs[i] to before runs[i + 1].
    roi
        fast_min, fast_max, slow_min, slow_max of the frame, inclusive: where photons of a spot count.
    scratch, room
        tile_scratch and spot_scratch.

    Returns
    -------
    (numpy.ndarray, numpy.ndarray)
        uint8, one a tile: 1 where there are NaN; float64 (len(lists.spot), N_FOUND): photons of each spot of each
        tile and their moments (spots.rows), of all its wanted pixels, whichever rows of them are rendered.
    """
    doubts = np.empty(len(tiles), np.uint8)
    found = np.zeros((len(lists.spot), N_FOUND))
    for run in prange(len(runs) - 1):
        thread = get_thread_id()
        mine = Scratch(scratch.work[thread], scratch.exact[thread], scratch.at[thread])
        values = SpotScratch(room.values[thread], room.places[thread], room.flags[thread], room.kept[thread])
        part = (runs[run], runs[run + 1])
        run_of_spots(
            panels,
            lattice,
            rules,
            phases,
            beams,
            forms,
            spots,
            tiles,
            lists,
            part,
            roi,
            frame,
            doubts,
            found,
            mine,
            values,
        )
    return doubts, found


__all__ = ["add_spots", "spot_scratch", "spots_kernel", "tile_scratch"]
