"""An image in levels, each half as large as the one before, and cut into tiles: what a screen needs of it."""

from __future__ import annotations

import zlib

import numpy as np

#: Side of a tile, pixels of its level.
TILE = 256


class Pyramid:
    """The levels of one image; each is made when it is first wanted.

    An element of a level is the brightest of the pixels under it, so that no spot is lost. NaN and what is masked are
    never the brightest, but the lowest level is the image as it is.

    Parameters
    ----------
    image
        (slow, fast), of any type.
    mask
        (slow, fast), other than 0 where a pixel is none.
    """

    def __init__(self, image: np.ndarray, mask: np.ndarray | None = None) -> None:
        self._levels = [image]
        self._mask = mask

    @property
    def image(self) -> np.ndarray:
        """The image itself."""
        return self._levels[0]

    @property
    def bytes(self) -> int:
        """Memory that it takes, at most."""
        return self._levels[0].nbytes * 4 // 3

    def tile(self, level: int, row: int, column: int) -> np.ndarray:
        """Return a tile, (slow, fast); those at the edges are smaller."""
        while len(self._levels) <= level:
            below = self._levels[-1]
            if len(self._levels) == 1 and self._mask is not None:
                below = np.where(self._mask == 0, below, below.dtype.type(0))
            self._levels.append(_halved(below))
        rows = slice(row * TILE, (row + 1) * TILE)
        return self._levels[level][rows, column * TILE : (column + 1) * TILE]


def mask_pyramid(mask: np.ndarray) -> Pyramid:
    """The levels of a mask: an element is masked where all of the pixels under it are."""
    # The brightest of what is counted from the other end is the least.
    return Pyramid(np.uint8(255) - mask)


def _halved(image: np.ndarray) -> np.ndarray:
    """The brightest of every four pixels; the last row or column may stand alone."""
    for axis in (0, 1):
        even = image[::2] if axis == 0 else image[:, ::2]
        odd = image[1::2] if axis == 0 else image[:, 1::2]
        image = even.copy()
        part = image[: odd.shape[0], : odd.shape[1]]
        np.fmax(part, odd, out=part)
    return image


def list_tiles(shape: tuple[int, int]) -> list[tuple[int, int, int]]:
    """List level, row and column of all tiles of an image (slow, fast), those of the smallest level first."""
    found = []
    for level in range(n_levels(shape) - 1, -1, -1):
        n_slow, n_fast = (-(-side // 2**level) for side in shape)
        found += [(level, row, column) for row in range(-(-n_slow // TILE)) for column in range(-(-n_fast // TILE))]
    return found


def n_levels(shape: tuple[int, int]) -> int:
    """Levels of an image, down to the one that is a single tile."""
    side, levels = max(shape), 1
    while side > TILE:
        side, levels = -(-side // 2), levels + 1
    return levels


def pack(values: np.ndarray) -> bytes:
    """Return numbers as the page takes them: first bytes of all, then second bytes and so on, and that deflated."""
    values = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
    planes = values.reshape(-1).view(np.uint8).reshape(-1, values.dtype.itemsize).T
    return zlib.compress(planes.tobytes(), 4)
