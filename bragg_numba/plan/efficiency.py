"""How much better some wavelengths of a beam pass than others: the sensor's and the materials' share of weights."""

from __future__ import annotations

import dataclasses

import numpy as np

from bragg_numba.experiment import Experiment
from bragg_numba.experiment.placing import PlacedDetector, PlacedPanel
from bragg_numba.plan.sources import Sources
from bragg_numba.plan.steps import layer_steps
from bragg_numba.plan.transmission import Barrier, TransmissionPlan, attenuation_of, corners_of, passed

#: Attenuations for which a transmission is worked out; those of a beam's wavelengths are interpolated between them.
NODES = 9

#: Part by which a place of the detector may differ from all of it before that is worth a word.
WORTH_A_WORD = 0.01


def with_efficiency(
    experiment: Experiment,
    detector: PlacedDetector,
    sources: Sources,
    transmission: TransmissionPlan | None,
    notes: list[str],
) -> Sources:
    """Sources whose weights count what sensor and materials make of each wavelength, over what they do of the mean one.

    A kernel knows one attenuation a panel, that of the mean wavelength: with these weights each wavelength has its own
    on the detector as a whole. What places differ by is noted where it matters (docs/transmission.md).
    """
    waves, place = np.unique(sources.wavelength * 1e10, return_inverse=True)
    sensors = experiment.detector.sensors
    barriers = () if transmission is None else tuple(b for b in transmission.barriers if b.noun.matter is not None)
    if len(waves) < 2 or not (barriers or any(sensor.depends_on_wavelength for sensor in sensors)):
        return sources
    waves = np.append(waves, sources.mean_wavelength_A)
    steps = experiment.detector.thickness_steps
    physical = experiment.fidelity == "physical"
    passing, captured, captured_last = [], [], []
    for panel, sensor in zip(detector.panels, sensors, strict=True):
        points = _points(panel)
        found = np.ones((len(waves), len(points)))
        for barrier in barriers:
            assert transmission is not None
            found *= _passed(transmission, barrier, waves, points)
        passing.append(found)
        cosines = np.abs(points @ np.array(panel.normal)) / np.linalg.norm(points, axis=1)
        across = np.ones(len(points)) if experiment.detector.curved else np.maximum(cosines, 1e-9)
        layers = layer_steps(sensor.thickness_um * 1e-6 if sensor.absorbs else 0.0, steps, physical=physical)
        depth = sensor.attenuation_per_m(waves)[:, None] * layers.step / across
        captured.append(-np.expm1(-layers.n * depth) if sensor.absorbs else np.ones_like(found))
        # nanoBragg counts the last layer in place of each.
        last = np.exp(-(layers.n - 1) * depth) * -np.expm1(-depth)
        captured_last.append(last if sensor.absorbs and not physical else captured[-1])
    pixels = np.array([panel.n_fast * panel.n_slow for panel in detector.panels])
    efficiency = _over_mean(np.array(passing) * np.array(captured_last), pixels, notes)
    whole = efficiency if physical else _over_mean(np.array(passing) * np.array(captured), pixels, [])
    if efficiency is None or whole is None:
        return sources
    place = place.reshape(-1)
    return dataclasses.replace(
        sources,
        weight=sources.weight * efficiency[place],
        efficiency=efficiency[place],
        whole_efficiency=whole[place],
    )


def _over_mean(every: np.ndarray, pixels: np.ndarray, notes: list[str]) -> np.ndarray | None:
    """What arrives of each wavelength on the detector as a whole, over what does of the last one; None if nothing does.

    ``every``: (panels, wavelengths, points); ``pixels``: of each panel. Where places see wavelengths otherwise than all
    of it does, that is noted.
    """
    overall = np.average(every.mean(axis=2), axis=0, weights=pixels)
    if overall[-1] <= 0.0:
        return None
    ratio: np.ndarray = overall / overall[-1]
    there = every[:, -1:, :]
    own = np.divide(every, there, out=np.ones_like(every), where=there > 0.0)
    off = float(np.abs(own / np.maximum(ratio, 1e-300)[None, :, None] - 1.0).max())
    if off > WORTH_A_WORD:
        notes.append(
            "sensor and materials take each wavelength as they do on the detector as a whole: in places one is off by "
            f"up to {100.0 * off:.2g} % against the mean wavelength"
        )
    return ratio[:-1]


def _points(panel: PlacedPanel) -> np.ndarray:
    """The corners of a panel, and its middle, (5, 3)."""
    corners = corners_of(panel)
    return np.vstack([corners, corners.mean(axis=0)])


def _passed(plan: TransmissionPlan, barrier: Barrier, waves: np.ndarray, points: np.ndarray) -> np.ndarray:
    """What passes a material at every wavelength, (wavelengths, points)."""
    found = attenuation_of(barrier.noun, waves)
    nodes = np.linspace(found.min(), found.max(), NODES)
    at_nodes = np.array([passed(plan, Barrier(barrier.noun, float(node)), points) for node in nodes])
    logs = np.log(np.maximum(at_nodes, 1e-300))
    return np.exp(np.stack([np.interp(found, nodes, column) for column in logs.T], axis=1))
