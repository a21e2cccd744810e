"""The CUDA kernels that render a work list: twins of those in cpu.

Each is made for one Kind, by a small factory: a kernel that holds one lattice shape only keeps its registers. What a
tile kernel does is in cuda_patches, what a float64 kernel does in cuda_float64.
"""

from functools import cache

from bragg_numba.kernels._jit_cuda import SIMULATED, gpu_fast_kernel, gpu_inlined, gpu_kernel
from bragg_numba.kernels.pixels import cuda_float64 as exact
from bragg_numba.kernels.pixels import cuda_patches as patches
from bragg_numba.kernels.pixels.cuda_frame import (
    BLOCKS_OF_TILE,  # noqa: F401 - for who launches
    THREADS,
    TILE_PIXELS,
    TILE_SIDE,
    finders,
    is_wanted,
    place_in_image,
)
from bragg_numba.kernels.pixels.cuda_steps import STEP_SIZE
from bragg_numba.kernels.work import COLUMN, PANEL, ROW
from numba import cuda, float32, float64, int32, int64, uint32


def tile_kind(panels, lattice, lookup, rules, side):
    """The Kind of the tile kernel that renders a plan in patches of ``side`` pixels."""
    curved, several = bool(panels[0].curved), len(panels) > 1
    return patches.Kind(lattice.shape, bool(lookup.has_table), curved, bool(rules.weighted), side, several)


def exact_kind(panels, lattice, lookup):
    """The ExactKind of the float64 kernels that render a plan."""
    curved, several = bool(panels[0].curved), len(panels) > 1
    return exact.ExactKind(lattice.shape, bool(lookup.has_table), bool(lookup.interpolate), curved, several)


@cache
def tile_kernel(kind):
    """The kernel that renders in float32 phases, for a cuda_patches.Kind."""
    shape, has_table, curved, weighted, side, several = kind
    find_panel, find_flat = finders(several)
    n_patches = (TILE_SIDE // side) ** 2
    n_steps = n_patches * patches.CHUNK_OF_SIDE * side
    n_phases, n_patch_values = n_steps * STEP_SIZE, n_patches * patches.PATCH_SIZE
    n_nears = 3 * n_steps
    n_weighted = TILE_PIXELS if weighted else 1

    @gpu_inlined
    def shared_phases():
        """Aligned so that four values are one load (which the simulator refuses)."""
        if SIMULATED:
            return cuda.shared.array(n_phases, float32)
        return cuda.shared.array(n_phases, float32, alignment=16)

    @gpu_fast_kernel
    def add_bragg_tile(panels, flats, rules, single, sources, cells, squared, tiles, frame, doubts):
        """Render tiles in float32 phases, one block a tile; list the pixels that float32 cannot decide.

        A listed pixel has a bit for every part of its rounds that is not in the image yet: settle_doubts adds it.
        """
        kind = patches.Kind(shape, has_table, curved, weighted, side)
        shared = patches.Shared(
            phases=shared_phases(),
            nears=cuda.shared.array(n_nears, int32),
            patches=cuda.shared.array(n_patch_values, float64),
            totals=cuda.shared.array(TILE_PIXELS, float64),
            parts=cuda.shared.array(TILE_PIXELS, float64),
            doubts=cuda.shared.array(TILE_PIXELS, uint32),
            factors=cuda.shared.array(TILE_PIXELS, float32),
            shares=cuda.shared.array(n_weighted, float64),
            polars=cuda.shared.array(n_weighted, float32),
            keeps=cuda.shared.array(n_weighted, float32),
            rows=cuda.shared.array(THREADS, int32),
            columns=cuda.shared.array(THREADS, int32),
            part=cuda.shared.array(THREADS, int32),
            rounds=cuda.shared.array(THREADS, int32),
        )
        mine = patches.find_pixels(side, int32(cuda.threadIdx.x))
        # Without weights all sources are one run of steps.
        runs = int32(sources.wavelength.shape[0]) if weighted else int32(1)
        item = int32(cuda.blockIdx.x)
        while item < int32(tiles.shape[0]):
            number = uint32(tiles[uint32(item), uint32(PANEL)])
            panel, flat = find_panel(panels, number), find_flat(flats, number)
            layer_subs = int32(panel.layers * panel.oversample * panel.oversample)
            patches.begin_tile(kind, panel, tiles, item, mine, shared)
            cuda.syncthreads()  # whoever aims at a patch asks where its first pixel lies
            layer_sub = int32(0)
            # One loop, so that nothing that belongs to a layer or a sub-pixel waits in registers.
            while layer_sub < layer_subs:
                sub = patches.find_sub(panel, layer_sub)
                patches.aim_at_patches(kind, panel, sub, mine.thread, shared)
                cuda.syncthreads()
                patches.aim_at_pixels(kind, panel, flat, rules, single, sources.incident, sub, mine, shared)
                first = patches.read_pixel(mine.u, mine.w, uint32(mine.thread), shared.phases)
                below = float32(mine.w + float32(side // 2))
                second = patches.read_pixel(mine.u, below, uint32(mine.thread + THREADS), shared.phases)
                source = int32(0)
                while source < runs:
                    if weighted:
                        patches.weigh_source(
                            kind, panel, rules, single, sources, source, sub, first, second, mine, shared
                        )
                    patches.add_run(kind, single, sources, cells, squared, source, first, second, mine, shared)
                    source = int32(source + 1)
                layer_sub = int32(layer_sub + 1)
            patches.finish_tile(kind, panel, rules, single, tiles, item, mine, shared, frame, doubts)
            item = int32(item + cuda.gridDim.x)

    return add_bragg_tile


@cache
def float64_kernel(kind):
    """The kernel that renders in float64, for a cuda_float64.ExactKind."""
    shape, has_table, interpolate, curved, several = kind
    find_panel, _ = finders(several)

    @gpu_kernel
    def add_bragg_float64(panels, lattice, lookup, rules, sources, cells, table, tiles, frame, missed):
        """Render tiles in float64, one thread a pixel."""
        kind = exact.ExactKind(shape, has_table, interpolate, curved)
        for place in range(cuda.grid(1), tiles.shape[0] * TILE_PIXELS, cuda.gridsize(1)):
            item, pixel = place // TILE_PIXELS, place % TILE_PIXELS
            panel = find_panel(panels, tiles[item, PANEL])
            row = int32(tiles[item, ROW] + pixel // TILE_SIDE)
            column = int32(tiles[item, COLUMN] + pixel % TILE_SIDE)
            if is_wanted(panel, tiles, item, frame, row, column):
                sums = exact.sum_pixel(
                    kind,
                    panel,
                    lattice,
                    lookup,
                    rules,
                    sources,
                    cells,
                    table,
                    row,
                    column,
                    rules.background,
                    exact.Parts(1, exact.ALL_ROUNDS),
                )
                to_row, to_column = place_in_image(panel, frame, row, column)
                photons = exact.photons_of_sums(panel, rules, sources.wavelength.shape[0], sums, sums.share)
                frame.image[to_row, to_column] = photons
                if sums.missed > 0:
                    cuda.atomic.add(missed, 0, sums.missed)

    return add_bragg_float64


@cache
def settle_kernel(kind):
    """The kernel that adds in float64 what a tile kernel left open, for a cuda_float64.ExactKind."""
    shape, has_table, interpolate, curved, several = kind
    find_panel, _ = finders(several)

    @gpu_kernel
    def settle_doubts(panels, lattice, lookup, rules, sources, cells, table, part_rounds, frame, doubts):
        """Add to each listed pixel its parts in doubt, one thread a pixel; ``part_rounds`` as in Single."""
        kind = exact.ExactKind(shape, has_table, interpolate, curved)
        n_fast = frame.image.shape[1]
        for slot in range(cuda.grid(1), doubts.count[0], cuda.gridsize(1)):
            pixel, panel = doubts.pixels[slot], find_panel(panels, doubts.panels[slot])
            row, column = pixel // n_fast, pixel % n_fast
            sums = exact.sum_pixel(
                kind,
                panel,
                lattice,
                lookup,
                rules,
                sources,
                cells,
                table,
                row + frame.row_start - panel.first_row,
                column - panel.first_column,
                0.0,
                exact.Parts(int64(doubts.parts[slot]), part_rounds),
            )
            frame.image[row, column] += exact.photons_of_sums(panel, rules, sources.wavelength.shape[0], sums, 0.0)

    return settle_doubts
