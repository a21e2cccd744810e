"""Raw photon images."""

from __future__ import annotations

import os

import numpy as np
import pytest

from bragg_numba.errors import InputError
from bragg_numba.io.raw import read_raw, write_raw


def photons(shape: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("shape", [(5, 5), (3, 7)])
def test_image_survives_writing_and_reading(tmp_path, shape):
    write_raw(tmp_path / "image.bin", photons(shape))

    assert (tmp_path / "image.bin").read_bytes() == photons(shape).astype("<f4").tobytes()
    assert np.array_equal(read_raw(tmp_path / "image.bin", shape), photons(shape))


def test_other_layouts_and_types_are_written_as_float32_rows(tmp_path):
    write_raw(tmp_path / "image.bin", np.asfortranarray(photons((3, 3)).astype(">f8")))

    assert np.array_equal(read_raw(tmp_path / "image.bin"), photons((3, 3)))


@pytest.mark.parametrize(
    ("size", "shape", "reason"),
    [
        (0, None, "is not a square"),
        (12, None, "is not a square"),
        (17, None, "is not a square"),
        (16, (2, 3), "must be 24 bytes long"),
        (16, (-2, -2), "must be 16 bytes long"),
    ],
)
def test_length_that_does_not_fit_is_refused(tmp_path, size, shape, reason):
    (tmp_path / "image.bin").write_bytes(bytes(size))
    with pytest.raises(InputError, match=reason):
        read_raw(tmp_path / "image.bin", shape)


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        read_raw(tmp_path / "none.bin")


@pytest.mark.skipif(not os.path.exists("/dev/null"), reason="needs /dev/null")
def test_image_can_be_thrown_away():
    write_raw("/dev/null", photons((3, 3)))

    assert not os.path.isfile("/dev/null")
