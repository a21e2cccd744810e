"""The CUDA kernel that renders a work list reflection by reflection: twin of cpu.add_spots.

It is made for one SpotKind, as those of the pixels are (pixels/cuda.py). What a block does with a tile is in
cuda_tile, where a spot lies on it in cuda_search, what it brings to a pixel in cuda_terms.
"""

from functools import cache

from bragg_numba.kernels._jit_cuda import gpu_fast_kernel
from bragg_numba.kernels.pixels.cuda_frame import TILE_SIDE, finders  # noqa: F401 - TILE_SIDE for who launches
from bragg_numba.kernels.spots import cuda_tile as tile
from bragg_numba.kernels.spots.cuda_search import Ray
from bragg_numba.kernels.spots.cuda_terms import SpotKind
from bragg_numba.kernels.spots.cuda_tile import THREADS  # noqa: F401 - for who launches
from bragg_numba.kernels.work import PANEL
from numba import cuda, float32, float64, int32, uint32


@cache
def spots_kernel(kind):
    """The kernel that renders a plan's spots, for a cuda_terms.SpotKind."""
    shape, exact, several = kind
    find_panel, _ = finders(several)
    n_items, n_names, n_lines, n_starts = tile.ITEMS, 2 * tile.ITEMS, 4 * tile.ITEMS, tile.ITEMS + 1
    n_groups, n_middle, n_pixels = tile.ITEMS // tile.GROUP, len(Ray._fields), 8 * tile.THREADS
    n_outlines, n_records = tile.RECORDS * tile.OUTLINE_SIZE, tile.RECORDS * tile.RECORD_SIZE
    n_steps = tile.RECORDS * tile.NAME_SIZE

    @gpu_fast_kernel
    def add_spots(panels, lattice, rules, beams, forms, spots, tiles, lists, frame):
        """Render tiles spot by spot, one block a tile; the arguments are those of cpu.add_spots."""
        kind = SpotKind(shape, exact)
        shared = tile.Shared(
            pixels=cuda.shared.array(n_pixels, float64),
            middle=cuda.shared.array(n_middle, float64),
            lines=cuda.shared.array(n_lines, float64),
            sources=cuda.shared.array(n_items, int32),
            names=cuda.shared.array(n_names, int32),
            starts=cuda.shared.array(n_starts, int32),
            groups=cuda.shared.array(n_groups, int32),
            outlines=cuda.shared.array(n_outlines, float32),
            records=cuda.shared.array(n_records, float64),
            steps=cuda.shared.array(n_steps, int32),
        )
        thread = int32(cuda.threadIdx.x)
        item = int32(cuda.blockIdx.x)
        while item < int32(tiles.shape[0]):
            panel = find_panel(panels, uint32(tiles[uint32(item), uint32(PANEL)]))
            nouns = tile.Nouns(panel, lattice, beams, forms, spots)
            mine = tile.find_pixel(panel, tiles, item, frame, thread)
            tile.render_tile(kind, nouns, rules, tiles, lists, item, mine, frame, shared)
            item = int32(item + cuda.gridDim.x)

    return add_spots
