"""The detector's panels as kernels take them: place, pixels, sensor, and which pixels are wanted."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from bragg_numba.errors import InputError
from bragg_numba.experiment import Detector, Experiment
from bragg_numba.experiment.placing import PlacedDetector, PlacedPanel, curve_of
from bragg_numba.experiment.vectors import combine
from bragg_numba.kernels import parameters
from bragg_numba.plan.steps import ONE, Steps, layer_steps


@dataclass(frozen=True, slots=True)
class Sensor:
    """Layers of a panel's sensor, metres, and its attenuation, 1/m."""

    layers: Steps
    attenuation: float


def list_sensors(detector: Detector, wavelength_A: float, *, physical: bool, notes: list[str]) -> tuple[Sensor, ...]:
    """The sensor of every panel at a wavelength; what is taken for granted is noted, once."""
    found: list[Sensor] = []
    said: list[str] = []
    for sensor in detector.sensors:
        if not sensor.absorbs:
            if sensor.thickness_um > 0.0:
                said.append("an infinite attenuation depth absorbs nothing: rendering without a sensor")
            elif sensor.material is not None:
                said.append(f"a sensor of {sensor.material} without a thickness absorbs nothing: rendering without one")
            found.append(Sensor(ONE, 0.0))
            continue
        thickness = sensor.thickness_um * 1e-6
        if sensor.depth_um is None and sensor.material is None:
            said.append(f"sensor without an attenuation depth: taking its thickness, {thickness * 1e6:g} um")
        layers = layer_steps(thickness, detector.thickness_steps, physical=physical)
        found.append(Sensor(layers, float(sensor.attenuation_per_m(wavelength_A))))
    notes += dict.fromkeys(said)
    return tuple(found)


def list_panels(
    experiment: Experiment,
    detector: PlacedDetector,
    sensors: tuple[Sensor, ...],
    oversample: int,
    *,
    physical: bool,
) -> tuple[parameters.Panel, ...]:
    """The panels of a placed detector, in the order of the noun's."""
    pairs = zip(detector.panels, sensors, strict=True)
    return tuple(_panel(experiment, detector, g, sensor, oversample, physical=physical) for g, sensor in pairs)


def _panel(
    experiment: Experiment, detector: PlacedDetector, g: PlacedPanel, sensor: Sensor, oversample: int, *, physical: bool
) -> parameters.Panel:
    d, beam, layers = experiment.detector, experiment.beam, sensor.layers
    if d.curved and not 0.0 < detector.true_distance < np.inf:
        raise InputError(
            "Detector.curved",
            "needs a detector that the beam hits: its distance is the radius",
            hint="check -twotheta, -detector_rot* and the axes",
        )
    curve = curve_of(detector)
    origin, close_distance = g.origin, g.close_distance
    if physical and d.curved:
        close_distance = curve.curve_radius  # every pixel faces the crystal
    elif physical:
        # A layer absorbs in its middle, not at its front: the error of few layers is then of second order.
        origin = combine((1.0, origin), (layers.step / 2.0, g.normal))
        close_distance += layers.step / 2.0
    return parameters.Panel(
        *origin,
        *g.fast,
        *g.slow,
        *g.normal,
        *detector.beam,
        *detector.polarization,
        pitch_fast=g.pitch_fast,
        pitch_slow=g.pitch_slow,
        height=g.height,
        subpixel_fast=g.pitch_fast / oversample,
        subpixel_slow=g.pitch_slow / oversample,
        half_fast=g.pitch_fast / oversample / 2.0,
        half_slow=g.pitch_slow / oversample / 2.0,
        close_distance=close_distance,
        attenuation=sensor.attenuation,
        layer_step=layers.step,
        **dataclasses.asdict(curve),
        kahn=beam.polarization,
        dmin=experiment.sampling.dmin_A * 1e-10,
        n_fast=g.n_fast,
        n_slow=g.n_slow,
        first_row=g.first_row,
        first_column=g.first_column,
        oversample=oversample,
        layers=layers.n,
        curved=d.curved,
        point_pixel=d.point_pixel,
        polarized=beam.polarized,
        has_sensor=layers.range > 0.0,
    )


def wanted_pixels(detector: Detector) -> np.ndarray:
    """The pixels of panels that nobody has masked: bool (n_slow, n_fast), (0, 0) where that is all of them.

    What lies between panels does not count: no tile of a work list touches it. A copy, for numba compiles anew for
    read-only arrays.
    """
    bad = [(panel, good) for panel in detector.panels or () if (good := panel.good) is not None]
    if detector.mask is None and not bad:
        return np.zeros((0, 0), dtype=np.bool_)
    mask = np.ones(detector.shape, dtype=np.bool_) if detector.mask is None else detector.mask.copy()
    for panel, good in bad:
        top, left = panel.first_row, panel.first_column
        mask[top : top + panel.n_slow, left : left + panel.n_fast] &= good
    return mask
