"""What the viewer computes about an image: levels, histogram, radial profile, angles."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from frames_to_look_at import flat, made_up, of_panels

from bragg_numba.experiment.placing import curve_of, place_detector
from bragg_numba.series.mcstas import mcstas_geometry
from bragg_numba.view.numbers import PERCENTILES, Radial, histogram, measure, whole_edges
from bragg_numba.view.pyramid import TILE, Pyramid, list_tiles, mask_pyramid, n_levels, pack
from bragg_numba.view.sight import Sight, angle_of_ring, ring_points


def sight_of(experiment) -> Sight:
    placed = place_detector(experiment)
    curve = curve_of(placed) if experiment.detector.curved else None
    return Sight(mcstas_geometry(experiment, placed), experiment.beam.wavelength_A, curve)


# --- levels


@pytest.mark.parametrize("dtype", ["float32", "uint16", "uint32"])
def test_an_element_of_a_level_is_the_brightest_of_its_pixels(dtype):
    image = (made_up((701, 519)) * 100).astype(dtype)
    levels = Pyramid(image)
    for level in (0, 1, 2, 3):
        step = 2**level
        expected = [[image[r : r + step, c : c + step].max() for c in range(0, 519, step)] for r in range(0, 701, step)]
        tiles = [[levels.tile(level, row, column) for column in range(3)] for row in range(3)]
        whole = np.block([[tile for tile in row if tile.size] for row in tiles if row[0].size])
        assert whole.dtype == dtype
        assert np.array_equal(whole, expected), level


def test_what_is_masked_or_no_number_is_never_the_brightest_but_stays_in_the_image():
    image, mask = np.full((600, 600), 2.0, dtype=np.float32), np.zeros((600, 600), dtype=np.uint8)
    image[3, 5], mask[3, 5] = 1e9, 3
    image[8, 9] = np.nan
    levels = Pyramid(image, mask)
    assert levels.tile(0, 0, 0)[3, 5] == np.float32(1e9) and np.isnan(levels.tile(0, 0, 0)[8, 9])
    assert (levels.tile(1, 0, 0) == 2.0).all() and (levels.tile(2, 0, 0) == 2.0).all()


def test_an_element_of_a_mask_is_masked_where_all_of_it_is():
    mask = np.zeros((512, 512), dtype=np.uint8)
    mask[:3, :2], mask[2, 2] = 1, 2
    level = 255 - mask_pyramid(mask).tile(1, 0, 0)
    assert level[0, 0] == 1 and level[1, 0] == 0 and level[1, 1] == 0


def test_the_smallest_level_is_one_tile_and_comes_first():
    assert [n_levels(shape) for shape in ((1, 1), (256, 256), (257, 3), (512, 512), (4096, 4096))] == [1, 1, 2, 2, 5]
    tiles = list_tiles((700, 300))
    assert tiles[:2] == [(2, 0, 0), (1, 0, 0)]
    assert len(tiles) == 1 + 2 + 3 * 2 and len(set(tiles)) == len(tiles)
    pyramid = Pyramid(np.zeros((700, 300)))
    assert all(pyramid.tile(*place).size for place in tiles)
    assert pyramid.tile(0, 2, 1).shape == (700 - 2 * TILE, 300 - TILE)


def test_numbers_are_packed_byte_by_byte():
    values = np.array([[1, 258], [3, 65535]], dtype=np.uint16)
    assert zlib.decompress(pack(values[:, ::-1])) == bytes([2, 1, 255, 3, 1, 0, 255, 0])


# --- histograms


def test_whole_numbers_have_bins_of_whole_numbers():
    for top in (0, 1, 39, 40, 41, 1000, 65535):
        edges = whole_edges(top)
        assert edges[0] == 0 and edges[-1] > top
        assert (np.diff(edges) >= 1).all() and (edges == np.round(edges)).all()
    assert whole_edges(5).tolist() == [0, 1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("mean", [0.3, 5.0, 300.0])
def test_a_histogram_of_counts_is_no_comb(mean):
    counts = np.random.default_rng(3).poisson(mean, (300, 300)).astype(np.uint16)
    found = histogram(counts)
    assert histogram(counts.astype(np.float32)) == found
    edges, a_value = np.array(found["edges"]), np.array(found["pixels"])
    assert found["per"] == "value" and found["dark"] == 0
    assert np.sum(a_value * np.diff(edges)) == pytest.approx(counts.size, rel=1e-12)
    for first, stop, n in zip(edges[:-1], edges[1:], a_value, strict=True):
        assert n * (stop - first) == np.count_nonzero((counts >= first) & (counts < stop))
    # A Poisson distribution rises to its mean and falls: no bin where there ought to be many is empty.
    inside = (edges[:-1] > mean - 2 * mean**0.5) & (edges[1:] < mean + 2 * mean**0.5)
    assert (a_value[inside] > 0).all()


def test_a_histogram_of_photons_has_even_bins_of_the_logarithm():
    photons = made_up((200, 200))
    found = histogram(photons)
    edges = np.array(found["edges"])
    assert np.allclose(np.diff(np.log10(edges)), np.diff(np.log10(edges))[0], rtol=1e-9)
    assert sum(found["pixels"]) + found["dark"] == photons.size
    assert found["dark"] >= np.count_nonzero(photons == 0)
    assert edges[0] <= max(photons[photons > 0].min(), photons.max() * 1e-8) and edges[-1] > photons.max()


@pytest.mark.parametrize("image", [np.zeros((3, 3), np.float32), np.zeros((3, 3), np.uint16), np.full((3, 3), np.nan)])
def test_dark_images_have_numbers_too(image):
    found = measure(image, np.zeros(image.shape, dtype=np.uint8))
    assert found["max"] == found["sum"] == 0.0 and found["levels"] == [0.0] * len(PERCENTILES)
    assert len(found["histogram"]["edges"]) == len(found["histogram"]["pixels"]) + 1
    assert measure(image, np.ones(image.shape, dtype=np.uint8))["pixels"] == 0


def test_masked_pixels_are_not_measured():
    image, mask = np.ones((20, 20), dtype=np.uint32), np.zeros((20, 20), dtype=np.uint8)
    image[0, 0], mask[0, 0] = 4_000_000_000, 3
    found = measure(image, mask)
    assert (found["max"], found["sum"], found["pixels"], found["lit"]) == (1.0, 399.0, 399, 399)


# --- angles


CASES = {
    "flat": lambda: flat(40, 30, "-xds -Xbeam 2.1 -Ybeam 3.3"),
    "tilted": lambda: flat(40, 30, "-twotheta 15 -detector_rotx 7 -detector_rotz 20"),
    "curved": lambda: flat(40, 30, "-curved_det -Xbeam 3 -Ybeam 2"),
    "curved and tilted": lambda: flat(40, 30, "-curved_det -detector_roty 12 -pivot sample"),
    "panels": of_panels,
}


@pytest.mark.parametrize("case", CASES)
def test_pixels_are_seen_where_the_experiment_has_them(case):
    experiment = CASES[case]()
    sight, at = sight_of(experiment), experiment.pixel_positions_m()
    beam = np.array(place_detector(experiment).beam)
    along = at @ beam
    expected = np.arctan2(np.linalg.norm(at - along[..., None] * beam, axis=-1), along)
    for panel in sight.geometry.panels:
        rows = slice(panel.first_row, panel.first_row + panel.n_slow)
        columns = slice(panel.first_column, panel.first_column + panel.n_fast)
        slow, fast = np.mgrid[: panel.n_slow, : panel.n_fast] + 0.5
        assert np.abs(sight.two_theta(panel, fast, slow) - expected[rows, columns]).max() < 1e-9


def test_rings_lie_at_their_angle_on_every_panel():
    sight = sight_of(of_panels())
    for panel in sight.geometry.panels:
        points = ring_points(panel, 0.15, 90)
        points = points[np.isfinite(points).all(axis=1)]
        assert len(points) > 10
        fast, slow = points[:, 0] - panel.first_column, points[:, 1] - panel.first_row
        assert np.abs(sight.two_theta(panel, fast, slow) - 0.15).max() < 1e-9
    assert angle_of_ring(1.1, 1.1) == pytest.approx(np.pi / 3)
    assert angle_of_ring(0.55, 1.1) is None


@pytest.mark.parametrize("case", CASES)
def test_the_profile_of_a_function_of_resolution_is_that_function(case):
    experiment = CASES[case]()
    sight = sight_of(experiment)
    at = experiment.pixel_positions_m()
    beam = np.array(place_detector(experiment).beam)
    angle = np.arccos(np.clip((at @ beam) / np.linalg.norm(at, axis=-1), -1, 1))
    inverse_d = 2.0 / sight.wavelength_A * np.sin(angle / 2.0)
    image = np.nan_to_num(inverse_d).astype(np.float32)
    mask = np.isnan(inverse_d).astype(np.uint8)
    mask[0, 0], image[0, 0] = 1, 1e9
    radial = Radial(sight, mask)
    found = radial.profile(image)
    assert sum(found["pixels"]) == np.count_nonzero(mask == 0)
    assert np.abs(np.array(found["mean"]) - found["inverse_d"]).max() <= radial.width * 0.501
