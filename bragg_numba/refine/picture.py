"""A picture of a refinement: data, model and residuals around the strongest spots."""

from __future__ import annotations

import math
import os

import numpy as np

from bragg_numba.io.atomic import atomic_path
from bragg_numba.io.png import brightness, palette
from bragg_numba.refine.boxes import boxes_around, likely_spots, width_of_spots
from bragg_numba.refine.result import Refinement

#: Boxes in a picture, how many stand side by side, and how large their pixels are.
MOST, _ACROSS, _ZOOM = 24, 4, 6

#: Residual in standard deviations that has the strongest colour.
_STRONGEST = 5.0


def write_boxes(path: str | os.PathLike[str], found: Refinement, data: np.ndarray, still: int = 0) -> None:
    """Write a PNG: for each of the strongest spots data, model, and (data - model) in standard deviations side by side.

    Data and model have the colours of photons, both the same; residuals are red where more was seen than expected,
    and blue where less, strongest at five standard deviations. The file appears whole or not at all.
    """
    from PIL import Image

    with atomic_path(path) as temporary:
        Image.fromarray(boxes_picture(found, data, still)).save(temporary, format="PNG")


def boxes_picture(found: Refinement, data: np.ndarray, still: int = 0) -> np.ndarray:
    """The picture as uint8 (rows, columns, 3)."""
    prepared = found._stills[still]
    model = found.model(still)
    plan = prepared.plan
    half = min(10, math.ceil(width_of_spots(plan)) + 3)
    boxes = boxes_around(plan, likely_spots(plan)[:MOST], half)
    side = 2 * half + 1
    seen = np.where(prepared.good, prepared.data, 0.0)
    residual = np.where(prepared.good, (seen - model) / np.sqrt(model + prepared.variance), 0.0)
    tiles = [[_cut(field, box, side) for field in (seen, model, residual)] for box in boxes.edges.tolist()]
    rows = []
    for start in range(0, len(tiles), _ACROSS):
        row = [_triple(*tile) for tile in tiles[start : start + _ACROSS]]
        row += [np.zeros_like(row[0])] * (_ACROSS - len(row))
        rows.append(np.concatenate(row, axis=1))
    small = np.concatenate(rows, axis=0)
    return np.repeat(np.repeat(small, _ZOOM, axis=0), _ZOOM, axis=1)


def _cut(field: np.ndarray, box: list[int], side: int) -> np.ndarray:
    left, right, top, bottom = box
    out = np.zeros((side, side))
    part = field[top : bottom + 1, left : right + 1]
    out[: part.shape[0], : part.shape[1]] = part
    return out


def _triple(seen: np.ndarray, model: np.ndarray, residual: np.ndarray) -> np.ndarray:
    """Three tiles side by side with a dark rim: uint8 (rows, columns, 3)."""
    both = np.concatenate([seen, model], axis=1).astype(np.float32)
    colours = palette().reshape(-1, 3)[brightness(both, True, 99.9)]
    share = np.clip(residual / _STRONGEST, -1.0, 1.0)[..., None]
    red, blue, white = (
        np.array(colour, dtype=np.float64) for colour in ((200, 30, 30), (30, 60, 200), (245, 245, 245))
    )
    tinted = np.where(share > 0, white + share * (red - white), white - share * (blue - white))
    whole = np.concatenate([colours, np.rint(tinted).astype(np.uint8)], axis=1)
    return np.pad(whole.astype(np.uint8), ((0, 1), (0, 1), (0, 0)))
