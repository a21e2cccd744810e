"""Integer images against nanoBragg's own files."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from bragg_numba.io.integers import pgm_bytes, scaled_integers

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "golden.h5"
with h5py.File(GOLDEN) as _file:
    CASES = sorted(name for name in _file if "smv_int" in _file[name])


class Golden:
    """One case: its image, its settings and the files that nanoBragg wrote."""

    def __init__(self, case: str) -> None:
        with h5py.File(GOLDEN) as file:
            group = file[case]
            self.argv = json.loads(group.attrs["argv"])
            self.photons = group["image"][()]
            self.smv = bytes(group["smv_int"][()])
            self.pgm = bytes(group["pgm"][()])
        roi = [int(value) for value in self.option("-roi", 4)]
        self.roi = tuple(roi) if roi else None
        self.scale = (self.option("-scale", 1) or [0.0])[0]
        self.adc = (self.option("-adc", 1) or [40.0])[0]

    def option(self, flag: str, count: int) -> list[float]:
        if flag not in self.argv:
            return []
        place = self.argv.index(flag)
        return [float(value) for value in self.argv[place + 1 : place + 1 + count]]

    def rmsd(self) -> float:
        """Return the scatter about the mean, added up in nanoBragg's order."""
        n_slow, n_fast = self.photons.shape
        xmin, xmax, ymin, ymax = self.roi or (0, n_fast - 1, 0, n_slow - 1)
        values = self.photons[ymin : ymax + 1, xmin : xmax + 1].astype(np.float64).ravel()
        mean = np.cumsum(values)[-1] / values.size
        return float(np.sqrt(np.cumsum((values - mean) ** 2)[-1] / (values.size - 1)))


@pytest.mark.parametrize("case", CASES)
def test_integer_image_has_the_bytes_that_nanobragg_wrote(case):
    golden = Golden(case)
    image, _ = scaled_integers(golden.photons, golden.scale, golden.adc, golden.roi, float(golden.photons.max()))

    assert image.astype("<u2").tobytes() == golden.smv[512:]


@pytest.mark.parametrize("case", CASES)
def test_pgm_has_the_bytes_that_nanobragg_wrote(case):
    golden = Golden(case)
    data, _ = pgm_bytes(golden.photons, 0.0, 1.0, golden.rmsd(), golden.roi)

    assert data == golden.pgm


def test_frame_of_many_chunks_equals_its_rows_one_by_one():
    photons = np.random.default_rng(1).gamma(0.3, 50, (700, 900)).astype(np.float32)
    roi = (5, 880, 3, 690)
    whole, _ = scaled_integers(photons, 3.0, 40.0, roi, 1.0)
    rows = [scaled_integers(row[np.newaxis], 3.0, 40.0, (5, 880, 0, 0), 1.0)[0] for row in photons[3:691]]

    assert np.array_equal(whole[3:691], np.concatenate(rows))
    assert not whole[:3].any() and not whole[691:].any()


def test_automatic_scale_puts_the_maximum_at_55000():
    photons = np.array([[0.0, 10.0]], dtype=np.float32)
    image, scale = scaled_integers(photons, 0.0, 40.0, None, 10.0)

    assert scale == 5500.0
    assert image.tolist() == [[40, 55040]]


def test_dark_frame_has_scale_one():
    assert scaled_integers(np.zeros((2, 2), np.float32), -1.0, 40.0, None, 0.0)[1] == 1.0
    assert pgm_bytes(np.zeros((2, 2), np.float32), 0.0, 7.0, 0.0, None)[1] == 7.0


def test_values_are_clipped_and_rounded_half_up():
    photons = np.array([[-100.0, 0.5, 1.5, 1e9, np.nan]], dtype=np.float32)
    image, _ = scaled_integers(photons, 1.0, 0.0, None, 1.0)

    assert image.tolist() == [[0, 1, 2, 65535, 0]]


def test_grey_levels_are_clipped_and_cut_off():
    photons = np.array([[-1.0, 0.99, 300.0]], dtype=np.float32)
    data, scale = pgm_bytes(photons, 1.0, 1.0, 1.0, None)

    assert scale == 1.0
    assert data == b"P5\n3 1\n# pixels scaled by 1\n255\n\x00\x00\xff"


@pytest.mark.parametrize("roi", [(0, 4, 0, 3), (-5, 99, -5, 99), (2, 1, 0, 3), (9, 12, 9, 12)])
def test_region_beyond_the_frame_is_cut_to_it(roi):
    photons = np.ones((3, 4), dtype=np.float32)
    image, _ = scaled_integers(photons, 1.0, 0.0, roi, 1.0)
    xmin, xmax, ymin, ymax = roi

    slow, fast = np.mgrid[:3, :4]
    assert np.array_equal(image == 1, (fast >= xmin) & (fast <= xmax) & (slow >= ymin) & (slow <= ymax))
