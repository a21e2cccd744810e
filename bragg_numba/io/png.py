"""Pictures of photon images, for the eye."""

from __future__ import annotations

import os

import numpy as np

from bragg_numba.io.atomic import atomic_path

__all__ = ["Preview", "write_png"]

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
# Photons this much below the brightest shown are near black: least and most, as the background asks.
_DYNAMIC_RANGE = (20.0, 1000.0)


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
    preview = Preview(photons.shape, max_side)
    preview.add(0, np.asarray(photons))
    preview.write(path, log, percentile)


class Preview:
    """A picture that is gathered from tiles of rows.

    Parameters
    ----------
    shape
        (slow, fast) of the image.
    max_side
        A longer image is reduced by a whole factor; each element shows the brightest of its pixels.
    """

    def __init__(self, shape: tuple[int, int], max_side: int = 2048) -> None:
        self._factor = max(1, -(-max(shape) // max_side))
        self._pooled = np.zeros(tuple(-(-size // self._factor) for size in shape), dtype=np.float32)

    def add(self, row_start: int, rows: np.ndarray) -> None:
        """Add rows (n, n_fast) of photons that begin at ``row_start``."""
        factor = self._factor
        for phase in range(factor):
            part = rows[(phase - row_start) % factor :: factor]
            first = (row_start + factor - 1 - phase) // factor  # element of the first row with this phase
            target = self._pooled[first : first + len(part)]
            for column in range(factor):
                narrow = part[:, column::factor]
                np.fmax(target[:, : narrow.shape[1]], narrow, out=target[:, : narrow.shape[1]], casting="same_kind")

    def write(self, path: str | os.PathLike[str], log: bool = True, percentile: float = 99.9) -> None:
        """Write the picture, whole or not at all; for the parameters see ``write_png``."""
        from PIL import Image

        picture = Image.fromarray(brightness(self._pooled, log, percentile))
        picture.putpalette(palette().tobytes())  # one byte a pixel: a third of the size of full colour
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            picture.save(file, format="PNG")


def brightness(photons: np.ndarray, log: bool, percentile: float) -> np.ndarray:
    """Return colour numbers, uint8 0 (black) to 255."""
    lit = photons[photons > 0]
    if not lit.size:
        return np.zeros(photons.shape, dtype=np.uint8)
    # Two million pixels fix the scale as well as all of them.
    low, high = np.percentile(lit[:: 1 + lit.size // 2_000_000], [50, percentile])
    top = max(float(high), float(np.finfo(np.float32).tiny))
    share = np.clip(photons / np.float32(top), 0, 1)
    if log:
        # A background that covers the frame stays dark, and spots stand out of it.
        rise = np.clip(top / max(2.0 * float(low), top * 1e-9), *_DYNAMIC_RANGE)
        share = np.log1p(share * np.float32(rise)) / np.float32(np.log1p(rise))
    return np.rint(share * 255).astype(np.uint8)


def palette() -> np.ndarray:
    """Return the colours of 0 to 255, (256, 3) uint8."""
    places = np.linspace(0, 255, len(_ANCHORS))
    levels = np.arange(256)
    return np.stack([np.interp(levels, places, anchor) for anchor in _ANCHORS.T], axis=1).round().astype(np.uint8)
