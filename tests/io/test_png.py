"""Pictures for the eye."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from bragg_numba.errors import InputError
from bragg_numba.io.png import write_png


def picture(path) -> np.ndarray:
    """Return the colours of a PNG file, (slow, fast, 3)."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"), dtype=int)


def spots(shape: tuple[int, int]) -> np.ndarray:
    image = np.zeros(shape, dtype=np.float32)
    image[2, 5] = 1e4
    image[4, 1] = 30.0
    return image


@pytest.mark.parametrize("log", [True, False])
def test_spots_are_bright_on_black_with_slow_downwards(tmp_path, log):
    write_png(tmp_path / "image.png", spots((6, 8)), log=log, percentile=100)
    seen = picture(tmp_path / "image.png").sum(axis=2)

    assert seen.shape == (6, 8)
    assert seen[0, 0] == 0
    assert np.unravel_index(seen.argmax(), seen.shape) == (2, 5)
    assert seen[4, 1] > 0
    assert (seen[4, 1] > 10) == log  # 30 of 10,000


def test_brighter_pixels_never_look_darker(tmp_path):
    write_png(tmp_path / "image.png", np.geomspace(1e-3, 1e5, 256, dtype=np.float32).reshape(1, -1))
    red, green, blue = picture(tmp_path / "image.png")[0].T
    lightness = 0.2126 * red + 0.7152 * green + 0.0722 * blue

    assert (np.diff(lightness) >= 0).all()


def test_large_frame_is_reduced_without_losing_a_spot(tmp_path):
    photons = np.zeros((100, 70), dtype=np.float32)
    photons[99, 69] = 5.0
    write_png(tmp_path / "image.png", photons, max_side=32)
    seen = picture(tmp_path / "image.png").sum(axis=2)

    assert seen.shape == (25, 18)
    assert seen[24, 17] > 0
    assert np.count_nonzero(seen) == 1


@pytest.mark.parametrize("fill", [0.0, np.nan, -3.0])
@pytest.mark.parametrize("max_side", [4, 64])
def test_frame_without_photons_is_black(tmp_path, fill, max_side):
    write_png(tmp_path / "image.png", np.full((8, 8), fill, dtype=np.float32), max_side=max_side)

    assert not picture(tmp_path / "image.png").any()


def test_missing_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        write_png(tmp_path / "nowhere" / "image.png", spots((6, 8)))
