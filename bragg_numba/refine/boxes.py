"""Which pixels a refinement looks at: boxes around the spots that a crystal near the start would show."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from bragg_numba import checks as check
from bragg_numba.errors import InputError
from bragg_numba.plan.plan import Plan, make_plan
from bragg_numba.predict.spots import SPOT, spot_table
from bragg_numba.slopes.pixels import inside_boxes

#: Boxes that hold more than this part of a frame's pixels are no use, unless asked for.
_MOST_PART = 0.5

#: Spots weaker than this part of the strongest one get no box, and at most so many do.
_WEAKEST, _MOST_BOXES = 1e-4, 5000

#: A still may start this far off: crystals of a part of the cells, whose spots reach as much further.
_PART = 0.5

#: Pixels around the spot of a crystal, and the largest half width.
_RIM, _WIDEST = 3, 20


@dataclass(frozen=True, slots=True)
class Boxes:
    """Boxes around predicted spots, strongest first.

    Attributes
    ----------
    edges
        int64 (n, 4): fast_min, fast_max, slow_min, slow_max, inclusive, inside the frame.
    spots
        (n,) of predict.spots.SPOT, the spot in the middle of each.
    """

    edges: np.ndarray
    spots: np.ndarray

    def __len__(self) -> int:
        return len(self.edges)

    def strongest(self, number: int) -> Boxes:
        """The boxes of so many spots."""
        return Boxes(self.edges[:number], self.spots[:number])

    def mask(self, shape: tuple[int, int]) -> np.ndarray:
        """bool (slow, fast): True in a box."""
        return inside_boxes(shape, self.edges)


def choose_boxes(plan: Plan, boxes: str | int | None) -> Boxes | None:
    """Boxes for a refinement of a plan; None for the whole frame.

    ``boxes`` is their half width in pixels; ``"auto"`` takes one from the size of the spots, and the whole frame where
    boxes hold more than half of it, or no spot can be predicted; None is the whole frame.
    """
    if boxes is None:
        return None
    if not isinstance(boxes, str):
        return boxes_around(plan, likely_spots(plan), check.count("boxes", boxes, low=1, high=1000))
    if boxes != "auto":
        raise InputError("boxes", 'must be a half width in pixels, "auto" or None', boxes)
    try:
        found = boxes_around(plan, likely_spots(plan), min(_WIDEST, math.ceil(width_of_spots(plan)) + _RIM))
    except InputError:
        return None
    return found if found.mask(plan.shape).sum() <= _MOST_PART * plan.shape[0] * plan.shape[1] else None


def likely_spots(plan: Plan) -> np.ndarray:
    """Spots that the crystal shows, or would show turned a little: (n,) of SPOT, strongest first."""
    crystal = plan.experiment.crystal
    counts = tuple(max(1, round(_PART * n)) for n in plan.cell_counts)
    shape = "gauss" if crystal.shape == "tophat" else crystal.shape
    wider = plan.experiment.replace(crystal=crystal.replace(cell_counts=counts, size_mm=(None,) * 3, shape=shape))
    found = spot_table(make_plan(wider, like=plan), 1e-30)
    found = found[found["photons"] > _WEAKEST * found["photons"].max(initial=0.0)]
    found = found[np.argsort(-found["photons"], kind="stable")][:_MOST_BOXES]
    if not len(found):
        raise InputError("experiment", "must show a spot on the detector where the refinement starts")
    return found


def width_of_spots(plan: Plan) -> float:
    """Pixels that a spot of the crystal is wide, about: to its first zero, with the mosaic spread."""
    smallest = min(n * edge for n, edge in zip(plan.cell_counts, plan.cell.edges_m, strict=True))
    # Half of the angle that spots at moderate angles are spread over by mosaic domains.
    angle = float(plan.sources.wavelength.max()) / smallest + 0.5 * plan.mosaic_spread
    g = max(plan.detector.panels, key=lambda panel: panel.close_distance / max(panel.pitch_fast, panel.pitch_slow))
    return angle * g.close_distance / min(g.pitch_fast, g.pitch_slow)


def boxes_around(plan: Plan, spots: np.ndarray, half: int) -> Boxes:
    """Boxes of a half width around spots, cut at the edges of the spots' panels."""
    edges, kept = [], []
    for number, (slow, fast, panel) in enumerate(zip(spots["slow"], spots["fast"], spots["panel"], strict=True)):
        g = plan.panels[panel]
        row, column = math.floor(slow), math.floor(fast)
        left, right = max(column - half, g.first_column), min(column + half, g.first_column + g.n_fast - 1)
        top, bottom = max(row - half, g.first_row), min(row + half, g.first_row + g.n_slow - 1)
        if left <= right and top <= bottom:
            edges.append((left, right, top, bottom))
            kept.append(number)
    if not edges:
        raise InputError("experiment", "must show a spot on the detector where the refinement starts")
    return Boxes(np.array(edges, dtype=np.int64), spots[kept].astype(SPOT))


#: Pixels of the square over which a background is averaged, and standard deviations beyond which a pixel is a spot's.
_WINDOW, _CLIP = 41, 3.0


def local_background(plan: Plan, data: np.ndarray, good: np.ndarray) -> np.ndarray:
    """The mean of the data around each pixel, without the pixels that predicted spots or strong ones light."""
    from scipy.ndimage import uniform_filter

    spots = likely_spots(plan)
    half = min(_WIDEST, math.ceil(width_of_spots(plan)))
    dark = good & ~boxes_around(plan, spots, half).mask(plan.shape)
    if not dark.any():
        dark = good.copy()
    field = np.zeros(plan.shape)
    for _ in range(4):
        weight = uniform_filter(dark.astype(np.float64), _WINDOW, mode="constant")
        total = uniform_filter(np.where(dark, data, 0.0), _WINDOW, mode="constant")
        everywhere = float(data[dark].mean()) if dark.any() else 0.0
        # Where a window holds less than a few pixels, the mean of all.
        field = np.where(weight > 4.0 / _WINDOW**2, total / np.maximum(weight, 1e-12), everywhere)
        dark &= data <= field + _CLIP * np.sqrt(np.maximum(field, 1.0))
    return np.maximum(field, 0.0)
