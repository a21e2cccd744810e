"""Pictures of photon images, for the eye."""

from __future__ import annotations

import os

import numpy as np

from bragg_numba.io.atomic import atomic_path

__all__ = ["write_png"]

# Lightness rises evenly from black through violet and orange to a warm white: equal steps look equal, and the
# picture still reads when it is printed in grey.
_ANCHORS = np.array(
    [
        (0, 0, 0),
        (24, 14, 66),
        (82, 18, 124),
        (147, 35, 114),
        (206, 64, 78),
        (244, 117, 38),
        (253, 185, 56),
        (255, 249, 216),
    ],
    dtype=np.float64,
)
# Photons this much below the brightest shown are near black.
_DYNAMIC_RANGE = 1000.0


def write_png(
    path: str | os.PathLike[str],
    photons: np.ndarray,
    log: bool = True,
    percentile: float = 99.9,
    max_side: int = 2048,
) -> None:
    """Write a colour picture of ``photons``, bright spots on black, whole or not at all.

    Parameters
    ----------
    path
        The PNG file.
    photons
        (slow, fast) image; NaN and negative pixels are black. Fast runs to the right, slow downwards.
    log
        Logarithmic brightness, which shows weak spots beside strong ones; False: linear.
    percentile
        This percentile of the pixels that hold photons gets the brightest colour.
    max_side
        A longer image is reduced by a whole factor; each picture element shows the brightest of its pixels,
        so that no spot is lost.
    """
    from PIL import Image

    levels = _brightness(_reduced(np.asarray(photons), max_side), log, percentile)
    picture = Image.fromarray(levels)
    picture.putpalette(_palette().tobytes())  # one byte a pixel: a third of the size of full colour
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        picture.save(file, format="PNG")


def _reduced(photons: np.ndarray, max_side: int) -> np.ndarray:
    """Return the image, or the maxima of its square blocks if it is longer than ``max_side``."""
    factor = -(-max(photons.shape) // max_side)
    if factor <= 1:
        return np.nan_to_num(photons.astype(np.float32), nan=0.0)
    n_slow, n_fast = (-(-size // factor) for size in photons.shape)
    pooled = np.zeros((n_slow, n_fast), dtype=np.float32)
    for row in range(factor):
        for column in range(factor):
            part = photons[row::factor, column::factor]
            corner = pooled[: part.shape[0], : part.shape[1]]
            np.fmax(corner, part, out=corner)
    return pooled


def _brightness(photons: np.ndarray, log: bool, percentile: float) -> np.ndarray:
    """Return colour numbers, uint8 0 (black) to 255."""
    lit = photons[photons > 0]
    if not lit.size:
        return np.zeros(photons.shape, dtype=np.uint8)
    top = max(float(np.percentile(lit, percentile)), float(np.finfo(np.float32).tiny))
    share = np.clip(photons / np.float32(top), 0, 1)
    if log:
        share = np.log1p(share * np.float32(_DYNAMIC_RANGE)) / np.float32(np.log1p(_DYNAMIC_RANGE))
    return np.rint(share * 255).astype(np.uint8)


def _palette() -> np.ndarray:
    """Return the colours of 0 to 255, (256, 3) uint8."""
    places = np.linspace(0, 255, len(_ANCHORS))
    levels = np.arange(256)
    return np.stack([np.interp(levels, places, anchor) for anchor in _ANCHORS.T], axis=1).round().astype(np.uint8)
