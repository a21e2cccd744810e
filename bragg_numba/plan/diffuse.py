"""Diffuse scattering flattened for the kernel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bragg_numba.experiment import Experiment
from bragg_numba.experiment.placing import PlacedDetector
from bragg_numba.kernels import parameters, physics
from bragg_numba.plan.amorphous import list_rays
from bragg_numba.plan.panels import Sensor, list_panels
from bragg_numba.plan.sources import Sources


@dataclass(frozen=True, slots=True)
class DiffusePlan:
    """What the kernel needs beyond the plan's table."""

    motion: parameters.Motion
    panels: tuple[parameters.Panel, ...]
    rays: np.ndarray  #: as in Amorphous
    cells: np.ndarray  #: float64 (n, 9), m: an orientation of each spindle step, that of the first mosaic domain
    stars: np.ndarray  #: float64 (n, 9), 1/m
    scale: float  #: photons of a term 1, 1/m^3


def flatten_diffuse(
    experiment: Experiment,
    detector: PlacedDetector,
    sources: Sources,
    sensors: tuple[Sensor, ...],
    cells: np.ndarray,
    domains: int,
    block_cells: float,
) -> DiffusePlan | None:
    """Flatten an experiment's diffuse scattering; None without any. It is smooth: domains and fringes do not show.

    ``block_cells``: unit cells of a block.
    """
    noun = experiment.diffuse
    if noun is None:
        return None
    oversample = experiment.sampling.oversample or 1
    cells = np.ascontiguousarray(cells[::domains])
    rows = cells.reshape(-1, 3, 3)
    stars = np.ascontiguousarray(np.linalg.inv(rows).transpose(0, 2, 1)).reshape(-1, 9)
    volume = abs(float(np.linalg.det(rows[0])))
    rays = list_rays(experiment.beam, sources, detector)
    steps = len(rays) * len(cells) * oversample**2
    n_cells = block_cells * experiment.crystal.scale
    return DiffusePlan(
        motion=parameters.Motion(noun.correlation_A * 1e-10, noun.displacement_A * 1e-10, noun.reach),
        panels=list_panels(experiment, detector, sensors, oversample, physical=experiment.fidelity == "physical"),
        rays=rays,
        cells=cells,
        stars=stars,
        scale=physics.R_E_SQUARED * experiment.beam.photons_per_m2 * n_cells / volume / steps,
    )
