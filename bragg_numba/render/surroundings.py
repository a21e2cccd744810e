"""What is added to a crystal's photons, and what these go through, as slopes take it."""

from __future__ import annotations

import numpy as np

from bragg_numba.plan.plan import Plan
from bragg_numba.render.amorphous import render_layers
from bragg_numba.render.diffuse import render_diffuse
from bragg_numba.render.transmission import transmission_image
from bragg_numba.slopes.slopes import Surroundings
from bragg_numba.threads import threads as with_threads


def surroundings(plan: Plan, threads: int | None = None) -> Surroundings:
    """The Surroundings of a plan's crystal; nothing is rendered where there is nothing."""
    passed = beside = None
    with with_threads(threads):
        if plan.transmission is not None:
            passed = transmission_image(plan.transmission).astype(np.float64)
        if plan.diffuse is not None:
            beside = render_diffuse(plan).astype(np.float64)
            beside = beside if passed is None else beside * passed
        if plan.amorphous is not None:
            layers = render_layers(plan.amorphous).astype(np.float64)
            if plan.transmission is not None:
                layers *= transmission_image(plan.transmission, backgrounds=True)
            beside = layers if beside is None else beside + layers
    return Surroundings(passed=passed, beside=beside)
