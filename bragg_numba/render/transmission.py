"""How much of what is scattered towards each pixel arrives there: images that frames are multiplied by."""

from __future__ import annotations

import threading

import numpy as np

from bragg_numba.experiment.placing import PlacedPanel
from bragg_numba.experiment.transmission import Shadow
from bragg_numba.plan.transmission import Barrier, TransmissionPlan, fill_polygon, passed, points_of, polygons_of

#: Pixels that are worked on at a time: points in float64 are 24 bytes each, and there are some copies.
PIXELS_AT_A_TIME = 2**18


def transmission_image(
    plan: TransmissionPlan,
    *,
    backgrounds: bool = False,
    moving: bool = True,
    row_start: int = 0,
    rows: int | None = None,
) -> np.ndarray:
    """Make the transmission of every pixel (eq. 52, 53): (rows, fast) float32; 1 where no panel lies.

    Parameters
    ----------
    backgrounds
        Of amorphous backgrounds instead of the crystal's photons.
    moving
        With what turns with the spindle.
    row_start, rows
        Rows of the image; None: all that follow.
    """
    n_slow, n_fast = plan.shape
    rows = n_slow - row_start if rows is None else rows
    image = np.ones((rows, n_fast), dtype=np.float32)
    barriers = plan.of(backgrounds=backgrounds, moving=moving)
    for panel in plan.detector.panels:
        first = max(panel.first_row, row_start)
        stop = min(panel.first_row + panel.n_slow, row_start + rows)
        step = max(1, PIXELS_AT_A_TIME // panel.n_fast)
        for row in range(first, stop, step):
            n = min(step, stop - row)
            part = _part(plan, barriers, panel, row - panel.first_row, n)
            image[row - row_start : row - row_start + n, panel.columns] = part
    return image


def _part(plan: TransmissionPlan, barriers: tuple[Barrier, ...], panel: PlacedPanel, row: int, rows: int) -> np.ndarray:
    """The transmission of rows of a panel, float64 (rows, n_fast)."""
    part = np.ones((rows, panel.n_fast))
    points = points_of(plan, panel, row, rows)
    for barrier in barriers:
        if isinstance(barrier.noun, Shadow):
            part *= _shaded(plan, barrier.noun, panel, row, rows)
        else:
            part *= passed(plan, barrier, points)
    return part


def _shaded(plan: TransmissionPlan, noun: Shadow, panel: PlacedPanel, row: int, rows: int) -> np.ndarray:
    """What a shadow leaves of rows of a panel: the mean over the spindle's steps (eq. 53)."""
    angles = plan.angles if noun.turns else (0.0,)
    hidden = np.zeros((rows, panel.n_fast))
    for angle in angles:
        found = np.zeros((rows, panel.n_fast), dtype=np.bool_)
        for polygon in polygons_of(plan, noun, panel, angle):
            found |= fill_polygon(polygon, row, rows, panel.n_fast)
        hidden += found
    return 1.0 - (1.0 - noun.transmission) * hidden / len(angles)


class KeptTransmission:
    """The images of an experiment's transmission, made when they are first wanted; frames of a series share them.

    A copy, or what another process gets, begins without any.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._plan: TransmissionPlan | None = None
        self._images: dict[bool, np.ndarray] = {}

    def __reduce__(self):
        return KeptTransmission, ()

    def image(self, plan: TransmissionPlan, *, backgrounds: bool = False) -> np.ndarray:
        """The transmission of the crystal's photons, or of amorphous backgrounds: (slow, fast) float32."""
        backgrounds = backgrounds and plan.splits
        with self._lock:
            if self._plan is None or not self._plan.shares_image(plan):
                self._plan, self._images = plan, {}
            if backgrounds not in self._images:
                self._images[backgrounds] = transmission_image(plan, backgrounds=backgrounds)
            return self._images[backgrounds]
