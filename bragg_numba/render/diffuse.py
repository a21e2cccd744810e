"""Diffuse scattering of a frame."""

from __future__ import annotations

import numpy as np

from bragg_numba.plan.plan import Plan


def render_diffuse(plan: Plan, row_start: int = 0, rows: int | None = None) -> np.ndarray:
    """Render the diffuse scattering of a plan alone: (rows, fast) float32, photons (eq. 45); None: all rows."""
    from bragg_numba.kernels import diffuse

    n_slow, n_fast = plan.shape
    image = np.zeros((n_slow if rows is None else rows, n_fast), dtype=np.float32)
    d = plan.diffuse
    if d is not None:
        for panel in d.panels:
            crystal = (d.rays, d.cells, d.stars, plan.lookup, plan.table, d.motion, d.scale)
            diffuse.add_diffuse(panel, *crystal, plan.roi, plan.mask, row_start, image)
    return image
