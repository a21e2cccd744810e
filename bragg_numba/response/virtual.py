"""Wide pixels at the edges of chips, whose counts are divided among the virtual pixels of an even grid.

Between two chips of a hybrid detector no sensor is lost: the pixels at their edges are wider. In an even grid each has
several places. It counts the photons of all of them (in the third of three places that two pixels share, half of what
comes), and its count is divided among them, with a random remainder: 7 becomes 3 and 4, or 4 and 3.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

#: What is done with places of wide pixels: their counts are divided, or they are masked.
WAYS = ("split", "mask")


class Wide(NamedTuple):
    """A wide pixel along one axis."""

    own: int  #: its outermost place, where it is counted
    places: tuple[int, ...]
    weights: tuple[float, ...]  #: which part of a place lies in it
    shares: tuple[float, ...]  #: which part of it lies in a place


def wide_pixels(n: int, chip: int, module: int, gap: int, width: float) -> list[Wide]:
    """Return the wide pixels along an axis of ``n`` pixels; modules begin at 0, their chips lie around their middle.

    ``chip`` pixels of a chip, ``module`` places of a module, ``gap`` between modules; ``width`` 1.5 or 2 places.
    """
    virtual = round(2 * (width - 1.0))
    borders = max(0, round((module + virtual) / (chip + virtual)) - 1)
    found = []
    for start in range(0, n, module + gap):
        for border in range(borders):
            middle = start + module / 2 + (border - (borders - 1) / 2) * (chip + virtual)
            first, last = round(middle - width), round(middle + width) - 1
            if first < 0 or last >= n:
                continue
            for own, step in ((first, 1), (last, -1)):
                if virtual == 1:
                    found.append(Wide(own, (own, own + step), (1.0, 0.5), (2 / 3, 1 / 3)))
                else:
                    found.append(Wide(own, (own, own + step), (1.0, 1.0), (0.5, 0.5)))
    return found


def wide_of(response, shape: tuple[int, int]) -> tuple[list[Wide], list[Wide]]:
    """Return the wide pixels along slow and fast of a frame."""
    fast, slow = (
        wide_pixels(n, *numbers, response.chip_edge)
        for n, numbers in zip(
            shape[::-1],
            zip(response.chip_pixels, response.module_pixels, response.module_gap, strict=True),
            strict=True,
        )
    )
    return slow, fast


class Lines(NamedTuple):
    """The wide pixels along one axis as the kernels of a GPU take them."""

    places: np.ndarray  #: (borders, 4) int32: the own and the other place of one side, then of the other
    weight: float  #: which part of the other place lies in a wide pixel
    share: float  #: which part of it lies in its own place


def lines_of(response, shape: tuple[int, int]) -> list[Lines]:
    """Return the wide pixels along slow and fast of a frame, border by border."""
    found = []
    for wides in wide_of(response, shape):
        places = np.array([place for wide in wides for place in wide.places], dtype=np.int32).reshape(-1, 4)
        weight, share = (wides[0].weights[1], wides[0].shares[0]) if wides else (0.0, 1.0)
        found.append(Lines(places, weight, share))
    return found


def places_of(response, shape: tuple[int, int]) -> list[np.ndarray]:
    """Return which rows and which columns of a frame are places of wide pixels, (slow,) and (fast,) bool."""
    found = []
    for n, wides in zip(shape, wide_of(response, shape), strict=True):
        along = np.zeros(n, dtype=bool)
        along[[place for wide in wides for place in wide.places]] = True
        found.append(along)
    return found


def virtual_mask(response, shape: tuple[int, int]) -> np.ndarray:
    """Return which pixels of a frame are places of wide ones, (slow, fast) bool."""
    slow, fast = places_of(response, shape)
    return slow[:, None] | fast[None, :]


def gather(response, expected: np.ndarray) -> np.ndarray:
    """Return expected photons (slow, fast) float32 with those of wide pixels in their own places, 0 in the others."""
    gathered = expected.copy()
    for axis, wides in enumerate(wide_of(response, expected.shape)):
        along = np.moveaxis(gathered, axis, 0)
        before = {place: along[place].copy() for wide in wides for place in wide.places}
        for place in before:
            along[place] = 0.0
        for wide in wides:
            parts = zip(wide.places, wide.weights, strict=True)
            along[wide.own] = sum(before[place] * np.float32(weight) for place, weight in parts)
    return gathered


def divide(response, counts: np.ndarray, seed: int, frame: int, top: int) -> int:
    """Divide the counts (slow, fast) uint32 of wide pixels among their places; return how many more are ``top``.

    Values above the offset are divided. A pixel that is overloaded is so in all its places.
    """
    more, offset = 0, int(round(response.offset))
    n_fast = counts.shape[1]
    for axis, wides in enumerate(wide_of(response, counts.shape)):
        along = np.moveaxis(counts, axis, 0)
        own = {wide.own: along[wide.own].astype(np.int64) for wide in wides}
        places = sorted({place for wide in wides for place in wide.places})
        sums = {place: np.full(along.shape[1], offset, dtype=np.int64) for place in places}
        over = {place: np.zeros(along.shape[1], dtype=bool) for place in places}
        for wide in wides:
            across = np.arange(along.shape[1])
            pixels = wide.own * n_fast + across if axis == 0 else across * n_fast + wide.own
            u = _deviates(seed, frame, axis, pixels)
            value, done, end = own[wide.own] - offset, np.zeros(along.shape[1], dtype=np.int64), 0.0
            for place, share in zip(wide.places, wide.shares, strict=True):
                # One deviate rounds all borders between parts: their sum is the count, their means are the shares.
                end += share
                upto = value if place == wide.places[-1] else np.floor(value * end + u).astype(np.int64)
                sums[place] += upto - done
                over[place] |= own[wide.own] >= top
                done = upto
        was = sum(int((own[wide.own] >= top).sum()) for wide in wides)
        for place in places:
            along[place] = np.where(over[place], top, np.clip(sums[place], 0, top - 1))
            more += int(over[place].sum())
        more -= was
    return more


def _deviates(seed: int, frame: int, axis: int, pixels: np.ndarray) -> np.ndarray:
    from bragg_numba.kernels.random.effects import VIRTUAL_FAST, VIRTUAL_SLOW, fill_uniforms_at

    u = np.empty(len(pixels))
    effect = (VIRTUAL_SLOW, VIRTUAL_FAST)[axis]
    fill_uniforms_at(np.uint64(seed), np.uint32(frame), np.uint64(effect), pixels.astype(np.uint64), u)
    return u
