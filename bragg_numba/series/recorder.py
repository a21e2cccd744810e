"""The detector that the frames of a series are recorded with, where it is more than a Poisson draw."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bragg_numba.conventions import ENERGY_WAVELENGTH_EV_A
from bragg_numba.errors import InputError
from bragg_numba.plan.plan import Plan, make_plan
from bragg_numba.response.choice import resolve
from bragg_numba.response.counter import Drawn
from bragg_numba.response.recording import record
from bragg_numba.response.response import Response


@dataclass(frozen=True, slots=True)
class Recorder:
    """A response, and what of an experiment it wants to know."""

    response: Response
    exposure_s: float
    pixel_um: float
    mask: np.ndarray | None  #: (slow, fast) bool; False where there is no pixel

    def draw(self, photons: np.ndarray, seed: int, frame: int, counts: np.ndarray, *, top: int, scale: float) -> Drawn:
        """Fill ``counts`` (slow, fast), uint16 or uint32, with what the detector says; values end at ``top``."""
        found = record(
            self.response,
            photons,
            seed,
            frame,
            exposure_s=self.exposure_s,
            pixel_um=self.pixel_um,
            mask=self.mask,
            scale=scale,
            top=top,
            out=counts if counts.dtype == np.uint32 else None,
        )
        if found.counts is not counts:
            counts[:] = found.counts
        return Drawn(found.photons, found.most, found.overloads)


def recorder_of(series, value: str | dict | None) -> Recorder | None:
    """Return the recorder of a series for the output option ``response``; None where that is None."""
    if value is None:
        return None
    plan = make_plan(series.reference_experiment())
    mask = rendered_pixels(plan)
    experiment, response = plan.experiment, response_of(plan, value)
    if response.virtual_pixels is not None and len(plan.panels) > 1:
        hint = "leave them out: panels that are chips have their edges where the geometry says"
        raise InputError("Response.virtual_pixels", "must be left out with several panels", None, hint)
    return Recorder(
        response,
        experiment.beam.exposure_s,
        experiment.detector.pixel_mm * 1000.0,
        None if mask.all() else mask,
    )


def response_of(plan: Plan, value: str | dict) -> Response:
    """Return a response for the photons of a plan: their mean energy, and whether its sensor absorbed them."""
    weights = plan.sources.incident_weight if plan.rules.per_term else np.ones(len(plan.sources.wavelength))
    weights = weights if weights.sum() > 0.0 else np.ones(len(weights))
    wavelength_A = float(np.average(plan.sources.wavelength, weights=weights)) * 1e10
    keV = min(max(ENERGY_WAVELENGTH_EV_A / wavelength_A / 1000.0, 1.0), 100.0)
    return resolve(value, photon_keV=keV, absorbed=bool(plan.panels[0].has_sensor))


def rendered_pixels(plan: Plan) -> np.ndarray:
    """Return which pixels of a plan's frames are rendered, (slow, fast) bool."""
    there = np.zeros(plan.shape, dtype=bool)
    fast_min, fast_max, slow_min, slow_max = plan.roi
    there[slow_min : slow_max + 1, fast_min : fast_max + 1] = True
    if plan.rendered.size:
        there &= plan.rendered
    return there
