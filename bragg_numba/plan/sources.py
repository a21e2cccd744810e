"""Where the photons come from: directions and wavelengths (section 2.7; docs/physics.md, section 4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from bragg_numba.errors import InputError
from bragg_numba.experiment import Beam
from bragg_numba.experiment.vectors import Vector, as_vector, rotate_about, scale, unit
from bragg_numba.kernels import parameters
from bragg_numba.plan.steps import Steps, require_listable, scan_steps

#: Distance at which the reference places generated sources; only the direction matters.
SOURCE_DISTANCE = 10.0


@dataclass(frozen=True, slots=True)
class Sources:
    """``incident`` float64 (n, 3) unit vectors downstream, ``wavelength`` (n,) metres, ``weight`` (n,).

    The weights have the mean 1, so that dividing the sum by the number of sources gives the weighted mean. Where
    materials let some wavelengths pass better than others (plan.efficiency), they are what is left of that.
    """

    incident: np.ndarray
    wavelength: np.ndarray
    weight: np.ndarray
    horizontal: Steps  #: radians
    vertical: Steps
    dispersion: Steps  #: fraction of the central wavelength
    divergence_points: int
    efficiency: np.ndarray | None = None  #: (n,), a part of ``weight``: over that of the mean wavelength; None: 1
    whole_efficiency: np.ndarray | None = None  #: the same of a sensor all of whose layers count, as for backgrounds

    @property
    def incident_weight(self) -> np.ndarray:
        """The weights of the beam itself, (n,), of mean 1."""
        if self.efficiency is None:
            return self.weight
        return mean_one(
            np.divide(self.weight, self.efficiency, out=np.zeros_like(self.weight), where=self.efficiency > 0)
        )

    @property
    def mean_wavelength_A(self) -> float:
        """Mean of the beam's wavelengths, angstrom."""
        return float(np.average(self.wavelength, weights=self.incident_weight)) * 1e10

    @property
    def arrays(self) -> parameters.Sources:
        """The arrays as kernels take them."""
        return parameters.Sources(self.incident, self.wavelength, self.weight)


def _kept_directions(beam: Beam, horizontal: Steps, vertical: Steps) -> list[tuple[float, float]]:
    """Grid of (horizontal, vertical) deviations in radians, trimmed to an ellipse if round."""
    kept = []
    for i in range(horizontal.n):
        across = horizontal.step * i - horizontal.range / 2.0
        for j in range(vertical.n):
            up = vertical.step * j - vertical.range / 2.0
            if beam.round_divergence and horizontal.range > 0.0 and vertical.range > 0.0:
                # With one of the ranges 0 the reference's test is NaN and keeps every point.
                test = (
                    (across * across - horizontal.step * horizontal.step / 4.0 * (1 - horizontal.n % 2))
                    / horizontal.range
                    / horizontal.range
                )
                test += (
                    (up * up - vertical.step * vertical.step / 4.0 * (1 - vertical.n % 2))
                    / vertical.range
                    / vertical.range
                )
                if test * 4.0 > 1.1:
                    continue
            kept.append((across, up))
    if not kept:
        raise InputError(
            "the beam's divergence",
            "must leave a direction within its ellipse",
            f"a grid of {horizontal.n} x {vertical.n} directions over "
            f"{1000.0 * horizontal.range:g} x {1000.0 * vertical.range:g} mrad",
            "-square_div keeps the whole grid; a single direction needs neither ranges nor steps",
        )
    return kept


def _milliradians(value: float | None) -> float | None:
    return None if value is None else value / 1000.0


def mean_one(found: np.ndarray) -> np.ndarray:
    """Weights, not all of them 0, scaled to a mean of 1."""
    found = found / found.max()  # the sum of any finite weights is then finite
    return found * (len(found) / found.sum())


class Axes(Protocol):
    """What of a placed detector the list of sources needs; unit vectors."""

    @property
    def beam(self) -> Vector: ...
    @property
    def polarization(self) -> Vector: ...
    @property
    def vertical(self) -> Vector: ...


def list_sources(beam: Beam, detector: Axes, *, physical: bool) -> Sources:
    """List every source of the beam (eq. 30).

    Under fidelity nanobragg ``Beam.sources`` weigh the same, as in C; the channels of a spectrum, which C does not
    know, have their weights in both.
    """
    central = beam.wavelength_A / 1.0e10
    horizontal = scan_steps(
        _milliradians(beam.horizontal_divergence_mrad),
        _milliradians(beam.horizontal_divergence_step_mrad),
        beam.horizontal_divergence_steps,
        lone_range=1.0,
    )
    vertical = scan_steps(
        _milliradians(beam.vertical_divergence_mrad),
        _milliradians(beam.vertical_divergence_step_mrad),
        beam.vertical_divergence_steps,
        lone_range=1.0,
    )
    dispersion = scan_steps(beam.dispersion_percent / 100.0, None, beam.dispersion_steps, lone_range=1.0)
    pulse = beam.pulse
    channels = dispersion.n if pulse is None else len(pulse.weight)
    grid = horizontal.n * vertical.n * channels
    shown = f"{horizontal.n} x {vertical.n} directions x {channels} wavelengths"
    require_listable("the number of sources", 0 if beam.sources is not None else grid, shown)
    upstream = scale(detector.beam, -SOURCE_DISTANCE)
    rows: list[tuple] = []
    directions: list[Vector] = []
    points = 0
    if beam.sources is not None:
        for x, y, z, weight, wavelength in beam.sources:
            place = unit(as_vector(u if v is None else v for u, v in zip(upstream, (x, y, z), strict=True)))
            rows.append((place, central if wavelength is None else wavelength, weight))
    else:
        for across, up in _kept_directions(beam, horizontal, vertical):
            points += 1
            place = rotate_about(detector.polarization, upstream, up)
            place = unit(rotate_about(detector.vertical, place, across))
            if pulse is not None:
                directions.append(place)
                continue
            for i in range(dispersion.n):
                wavelength = central * (1.0 + dispersion.step * i - dispersion.range / 2.0)
                rows.append((place, wavelength, 1.0))
    if pulse is not None:
        n, waves = len(directions), pulse.wavelength_m
        span = float(np.ptp(waves)) / central
        return Sources(
            incident=-np.repeat(np.array(directions), channels, axis=0),
            wavelength=np.tile(waves, n),
            weight=np.tile(mean_one(pulse.weight), n),
            horizontal=horizontal,
            vertical=vertical,
            dispersion=Steps(n=channels, range=span, step=span / max(channels - 1, 1)),
            divergence_points=points,
        )
    return Sources(
        incident=-np.array([row[0] for row in rows]),
        wavelength=np.array([row[1] for row in rows]),
        weight=mean_one(np.array([1.0 if row[2] is None else row[2] for row in rows]))
        if physical
        else np.ones(len(rows)),
        horizontal=horizontal,
        vertical=vertical,
        dispersion=dispersion,
        divergence_points=points,
    )
