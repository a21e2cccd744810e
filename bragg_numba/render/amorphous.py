"""Amorphous backgrounds of a frame: rendered once for all frames that share them, and added to what a frame holds."""

from __future__ import annotations

import threading

import numpy as np

from bragg_numba.plan.amorphous import Amorphous, Layer


def render_layer(plan: Amorphous, layer: Layer, out: np.ndarray | None = None, row_start: int = 0) -> np.ndarray:
    """Render one background: (slow, fast) float32, photons (eq. 44); or add its rows from row_start on to ``out``."""
    from bragg_numba.kernels import amorphous

    image = np.zeros(plan.shape, dtype=np.float32) if out is None else out
    for panel in plan.panels:
        arguments = (panel, plan.arcs_of_lab, plan.rays, layer.table, plan.scale(layer), plan.roi, plan.mask)
        amorphous.add_amorphous(*arguments, row_start, image)
    return image


def render_layers(plan: Amorphous, row_start: int = 0, rows: int | None = None) -> np.ndarray:
    """Render all backgrounds together: (rows, fast) float32, photons; None: all rows."""
    n_slow, n_fast = plan.shape
    image = np.zeros((n_slow if rows is None else rows, n_fast), dtype=np.float32)
    for layer in plan.layers:
        render_layer(plan, layer, image, row_start)
    return image


class KeptBackground:
    """The sum of an experiment's backgrounds, rendered when it is first wanted; frames of a series share it.

    They may differ in fluence. A copy, or what another process gets, begins without an image.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._plan: Amorphous | None = None
        self._image: np.ndarray | None = None

    def __reduce__(self):
        return KeptBackground, ()

    def add(self, plan: Amorphous, out: np.ndarray, passed: np.ndarray | None = None) -> None:
        """Add the backgrounds to a frame, (slow, fast) float32; of each pixel the part that ``passed`` says."""
        image, scale = self._of(plan)
        image = image if scale == 1.0 else image * np.float32(scale)
        np.add(out, image if passed is None else image * passed, out=out)

    def _of(self, plan: Amorphous) -> tuple[np.ndarray, float]:
        with self._lock:
            kept = self._plan
            if self._image is None or kept is None or kept.fluence == 0.0 or not kept.shares_image(plan):
                self._image, self._plan = render_layers(plan), plan
                return self._image, 1.0
            return self._image, 1.0 if kept.fluence == plan.fluence else plan.fluence / kept.fluence
