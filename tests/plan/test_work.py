"""The work list against a look at every pixel."""

from __future__ import annotations

import numpy as np
import pytest
from bragg_numba.kernels.pixels.rows import LANES, PIXELS, columns_of_tile
from bragg_numba.kernels.work import BOTTOM, COLUMN, LEFT, PANEL, RIGHT, ROW, TOP

from bragg_numba import Experiment
from bragg_numba.plan.plan import make_plan
from bragg_numba.plan.work import list_fitting_tiles, list_gaps, list_tiles

LINE = "-cell 50 -default_F 1 -N 3 -detpixels 8"
NO_MASK = np.zeros((0, 0), np.bool_)


def panels(*places: tuple[int, int, int, int]):
    """Panels of (first_row, first_column, n_slow, n_fast)."""
    panel = make_plan(Experiment.from_nanobragg(LINE)).panels[0]
    return tuple(panel._replace(first_row=r, first_column=c, n_slow=s, n_fast=f) for r, c, s, f in places)


def random_case(rng):
    """Panels in a frame that they do not fill, with a region of interest, rows and perhaps a mask."""
    n_slow, n_fast = (int(n) for n in rng.integers(20, 90, 2))
    cut, gap = int(rng.integers(5, n_fast - 8)), int(rng.integers(0, 3))
    found = panels((0, 0, n_slow, cut), (int(rng.integers(0, 5)), cut + gap, n_slow - 5, n_fast - cut - gap))
    left, right = sorted(int(n) for n in rng.integers(0, n_fast, 2))
    top, bottom = sorted(int(n) for n in rng.integers(0, n_slow, 2))
    first, stop = sorted(int(n) for n in rng.integers(0, n_slow + 1, 2))
    mask = rng.random((n_slow, n_fast)) < rng.choice([0.001, 0.02, 0.9]) if rng.random() < 0.6 else NO_MASK
    return (n_slow, n_fast), found, (left, right, top, bottom), mask, (first, stop)


@pytest.mark.parametrize("seed", range(40))
def test_every_wanted_pixel_lies_in_the_window_of_its_own_tile_and_no_other(seed):
    rng = np.random.default_rng(seed)
    shape, found, roi, mask, rows = random_case(rng)
    tall, wide = (int(n) for n in rng.choice([4, 8, 16], 2))

    tiles = list_tiles(found, roi, mask, (tall, wide), rows)

    for tile in tiles:
        assert tile[ROW] % tall == 0 and tile[COLUMN] % wide == 0
        assert tile[BOTTOM] <= tile[ROW] + tall and tile[RIGHT] <= tile[COLUMN] + wide
    assert_covers(tiles, shape, found, roi, mask, rows)


@pytest.mark.parametrize("seed", range(60))
def test_tiles_that_fit_a_panel_hold_every_wanted_pixel_once(seed):
    rng = np.random.default_rng(seed)
    shape, found, roi, mask, rows = random_case(rng)
    if seed % 2:  # edges of every width and height
        n_slow, n_fast = (int(n) for n in rng.integers(1, 300, 2))
        shape, found = (n_slow, n_fast), panels((0, 0, n_slow, n_fast))
        roi, mask, rows = (0, n_fast - 1, 0, n_slow - 1), NO_MASK, (0, n_slow)

    tiles = list_fitting_tiles(found, roi, mask, rows)

    assert tiles.dtype == np.int32 and tiles.flags.c_contiguous
    for index, tile in enumerate(tiles):
        wide = columns_of_tile.py_func(tiles, index)
        # Bands of rows are counted from the panel's first: what a pixel gets depends on its band alone.
        assert tile[ROW] % LANES == 0
        assert tile[RIGHT] - tile[COLUMN] <= wide and tile[BOTTOM] - tile[ROW] <= PIXELS // wide
    assert len(tiles) <= len(list_tiles(found, roi, mask, (16, 64), rows)) or mask.size or roi != whole(shape)
    assert_covers(tiles, shape, found, roi, mask, rows)


def whole(shape):
    return (0, shape[1] - 1, 0, shape[0] - 1)


@pytest.mark.parametrize("seed", range(20))
def test_gaps_are_the_pixels_of_no_panel(seed):
    shape, found, *_ = random_case(np.random.default_rng(seed))
    covered = np.zeros(shape, int)
    for panel in found:
        covered[panel.first_row : panel.first_row + panel.n_slow, panel.first_column :][:, : panel.n_fast] += 1

    for gap in list_gaps(found, shape):
        covered[gap] += 1

    assert (covered == 1).all()


@pytest.mark.parametrize(("n_slow", "n_fast", "most"), [(514, 1030, 1.02), (256, 256, 1.0), (185, 194, 1.1)])
def test_the_edges_of_panels_cost_little(n_slow, n_fast, most):
    tiles = list_fitting_tiles(panels((0, 0, n_slow, n_fast)), whole((n_slow, n_fast)), NO_MASK, (0, n_slow))

    assert len(tiles) * PIXELS <= most * n_slow * n_fast


def assert_covers(tiles, shape, found, roi, mask, rows):
    """Every wanted pixel lies in the window of one tile, no other does but masked ones, and no tile is idle."""
    covered = np.zeros(shape, int)
    wanted_tiles = set()
    for tile in tiles:
        panel = found[tile[PANEL]]
        assert tile[ROW] <= tile[TOP] < tile[BOTTOM]
        assert tile[COLUMN] <= tile[LEFT] < tile[RIGHT]
        window = np.s_[
            panel.first_row + tile[TOP] : panel.first_row + tile[BOTTOM],
            panel.first_column + tile[LEFT] : panel.first_column + tile[RIGHT],
        ]
        covered[window] += 1
        assert not mask.size or mask[window].any()
        wanted_tiles.add((int(tile[PANEL]), int(tile[ROW]), int(tile[COLUMN])))
    assert len(wanted_tiles) == len(tiles)
    wanted = np.zeros(shape, bool)
    for panel in found:
        wanted[panel.first_row : panel.first_row + panel.n_slow, panel.first_column :][:, : panel.n_fast] = True
    slow, fast = np.indices(shape)
    wanted &= (fast >= roi[0]) & (fast <= roi[1]) & (slow >= roi[2]) & (slow <= roi[3])
    wanted &= (slow >= rows[0]) & (slow < rows[1])
    assert covered.max(initial=0) <= 1
    # Masked pixels of a tile with others may lie in its window: the kernel asks the mask.
    assert (covered[wanted & mask] == 1).all() if mask.size else np.array_equal(covered == 1, wanted)


def test_a_frame_without_a_mask_is_cut_row_by_row():
    tiles = list_tiles(panels((0, 0, 20, 70)), (0, 69, 0, 19), NO_MASK, (16, 64), (0, 20))

    assert tiles.tolist() == [
        [0, 0, 0, 0, 16, 0, 64],
        [0, 0, 64, 0, 16, 64, 70],
        [0, 16, 0, 16, 20, 0, 64],
        [0, 16, 64, 16, 20, 64, 70],
    ]
