"""Pictures of images and of their differences, as PNG files and as text inside a page.

Spots are dark on white, logarithmic over five decades. Differences are blue (ours is darker) through white
(equal) to red (ours is brighter) on a scale tied to the reference's brightness, not to the largest
difference: the difference picture of two images that agree is white.
"""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

__all__ = ["bright_level", "data_uri", "difference_picture", "log_picture", "shrink"]

#: Decades between white and black.
DECADES = 5.0
#: Full colour is a difference as large as the bright level; a difference of this part of it is faint.
FAINT = 1e-6
#: Pixels looked at for a percentile: enough for a frame of any size.
SAMPLE = 1 << 22
_BLUE, _RED = (33, 80, 180), (190, 30, 45)


def bright_level(image: np.ndarray, percentile: float) -> float:
    """Return the percentile of the positive pixels, the brightness that is drawn black."""
    import numpy as np

    flat = image.reshape(-1)
    flat = flat[:: max(1, flat.size // SAMPLE)]
    positive = flat[np.isfinite(flat) & (flat > 0)]
    return float(np.percentile(positive, percentile)) if positive.size else 1.0


def log_picture(image: np.ndarray, bright: float) -> Image:
    """Draw an image dark on white, logarithmic; pixels that are not finite are drawn black."""
    import numpy as np

    shades = np.empty(image.shape, dtype=np.uint8)
    for rows in _blocks(image.shape):
        level = np.nan_to_num(image[rows] / bright, nan=np.inf, posinf=np.inf, neginf=np.inf)
        depth = 1.0 + np.log10(np.clip(level, 10.0**-DECADES, 1.0)) / DECADES
        shades[rows] = np.round(255.0 * (1.0 - depth))
    return _picture(shades)


def difference_picture(difference: np.ndarray, bright: float) -> Image:
    """Draw ours - reference in blue, white and red; pixels that are not finite are drawn black."""
    import numpy as np

    colours = np.empty((*difference.shape, 3), dtype=np.uint8)
    full = np.arcsinh(1.0 / FAINT)
    for rows in _blocks(difference.shape):
        block = difference[rows]
        level = np.clip(np.arcsinh(block / (FAINT * bright)) / full, -1.0, 1.0)[..., None]
        strongest = np.where(level > 0, _RED, _BLUE)
        shade = 255.0 + (strongest - 255.0) * np.abs(level)
        colours[rows] = np.where(np.isfinite(block)[..., None], np.nan_to_num(shade), 0.0)
    return _picture(colours)


def shrink(image: np.ndarray, longest: int) -> tuple[np.ndarray, int]:
    """Shrink by a whole factor, keeping of each block the pixel farthest from 0, so that no spot is lost.

    Returns
    -------
    tuple
        The smaller image, and the factor (1 where it was small enough).
    """
    import numpy as np

    factor = -(-max(image.shape) // longest)
    if factor <= 1:
        return image, 1
    slow, fast = (-(-length // factor) for length in image.shape)
    result = np.empty((slow, fast), dtype=np.float64)
    for row in range(slow):
        strip = image[row * factor : (row + 1) * factor]
        short = fast * factor - strip.shape[1]
        blocks = np.pad(strip, ((0, 0), (0, short))).reshape(strip.shape[0], fast, factor)
        high, low = blocks.max(axis=(0, 2)), blocks.min(axis=(0, 2))
        result[row] = np.where(np.abs(high) >= np.abs(low), high, low)
    return result, factor


def data_uri(picture: Image) -> str:
    """Return the picture as text that stands inside a page."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _blocks(shape) -> list[slice]:
    """Slice the rows so that a block's float64 intermediates stay at a few megabytes."""
    step = max(1, (1 << 18) // shape[1])
    return [slice(first, first + step) for first in range(0, shape[0], step)]


def _picture(pixels) -> Image:
    from PIL import Image

    return Image.fromarray(pixels)
