"""Tangents of parameters: what one unit of each changes of a flattened plan (docs/slopes.md)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from bragg_numba.conventions import DEGREES
from bragg_numba.errors import InputError
from bragg_numba.experiment import Beam, Experiment
from bragg_numba.experiment.placing import place_detector
from bragg_numba.experiment.vectors import as_vector, rotate_xyz
from bragg_numba.plan.cell import Cell, orient_cell
from bragg_numba.plan.classic_stream import ClassicStream
from bragg_numba.plan.damage import drifted
from bragg_numba.plan.orientations import draw_misset
from bragg_numba.plan.panels import list_panels, list_sensors
from bragg_numba.plan.sources import list_sources
from bragg_numba.slopes.families import ALONE, CELL, PANELS, SOURCES, Moved, free_constants, source_weights
from bragg_numba.slopes.parameters import Parameter, moved
from bragg_numba.slopes.rotations import turn_of_change
from bragg_numba.slopes.tangents import OF_PANELS, Tangent

#: Numbers of a plan, or their slopes, by the names of a Tangent's fields: arrays and floats.
Numbers = dict[str, Any]


def tangents_of(
    experiment: Experiment,
    parameters: Iterable[Parameter],
    at: Mapping[str, float] | None = None,
    *,
    here: Moved | None = None,
    oversample: int = 1,
) -> tuple[Tangent, ...]:
    """The Tangent of each parameter.

    Parameters of which the set-up is more than a product or a sum are differentiated by central differences of the
    set-up itself, of three steps that halve each time, extrapolated to a step of 0 (Richardson): in float64 that is
    right to some 1e-11, and all conventions and fidelities of the set-up are the differentiated ones.

    Parameters
    ----------
    experiment
        What values of relative parameters count from.
    parameters
        As ``find_parameters`` found them in ``experiment``; ``structure_factors.F2`` is not among them.
    at
        Where the derivatives are taken: values by name, as ``moved`` takes them; others are the experiment's.
    here
        What ``moved`` makes of ``experiment`` and ``at``; None: made here.
    oversample
        Sub-pixels along an edge that the plan has.

    Raises
    ------
    InputError
        By the name of a parameter that has no effect here, or whose number of steps jumps.
    """
    values = dict(at or {})
    there = moved(experiment, values) if here is None else here
    return tuple(_tangent(experiment, one, values, there, oversample) for one in parameters)


def _tangent(experiment: Experiment, one: Parameter, values: dict[str, float], here: Moved, oversample: int) -> Tangent:
    if one.family.changes == ALONE:
        return _alone(experiment, one, values, here)
    if one.family.key in ("crystal.orientation_deg", "crystal.misset_deg"):
        return Tangent(cell_vectors_m=_turned(one, values, here[0]))
    value = values.get(one.name, one.value)
    step = one.family.step * (abs(value) if one.family.relative else 1.0)
    if step == 0.0:
        raise InputError(one.name, "has no derivative where it is 0", hint=one.family.dead)

    places = _places_in_cell(one, experiment)
    acting = {name: held for name, held in values.items() if _acts(name, one, experiment)}

    def numbers(offset: float) -> Numbers:
        if one.family.changes == CELL:
            return _with_constant(places, value + offset, here[0])
        there, _ = moved(experiment, {**acting, one.name: value + offset})
        return _numbers(there, one.family.changes, oversample)

    found = _extrapolated(one.name, numbers, step)
    kept = {name: slope for name, slope in found.items() if np.any(slope)}
    if not kept:
        raise InputError(one.name, "has no effect in this experiment", hint=one.family.dead)
    return Tangent(**kept)


def _acts(name: str, one: Parameter, experiment: Experiment) -> bool:
    """Whether the value of a parameter may change what another one's numbers are."""
    if one.family.changes == SOURCES and experiment.crystal.mosflm_matrix is not None:
        return True
    return name.startswith(("detector.", "beam."))


def _extrapolated(name: str, numbers: Callable[[float], Numbers], step: float) -> Numbers:
    """Derivatives at 0 of numbers that are smooth in an offset: central differences, their errors' first terms gone."""
    rows: list[Numbers] = []
    for level in range(3):
        h = step / 2.0**level
        above, below = numbers(h), numbers(-h)
        for field, upper in above.items():
            if np.shape(upper) != np.shape(below[field]):
                rule = "has no derivative here: the number of steps that it makes jumps"
                raise InputError(name, rule, hint="say how many steps there are")
        rows.append({field: (np.asarray(above[field]) - below[field]) / (2.0 * h) for field in above})
    first, second, third = rows
    found: Numbers = {}
    for field in first:
        once, again = (4.0 * second[field] - first[field]) / 3.0, (4.0 * third[field] - second[field]) / 3.0
        best = (16.0 * again - once) / 15.0
        found[field] = best if np.ndim(best) else float(best)
    return found


def _numbers(experiment: Experiment, changes: str, oversample: int) -> Numbers:
    """Those numbers of a plan that a kind of parameters changes."""
    if changes == SOURCES:
        placed = place_detector(experiment)
        sources = list_sources(experiment.beam, placed, physical=experiment.fidelity == "physical")
        found: Numbers = {"wavelengths_m": sources.wavelength, "weights": sources.weight}
        if experiment.crystal.mosflm_matrix is not None:  # counts in wavelengths
            found["cell_vectors_m"] = _cell_vectors(experiment)
        return found
    if changes == PANELS:
        return _panels(experiment, oversample)
    photons = math.log(experiment.beam.photons_per_m2)
    if experiment.fidelity == "nanobragg" and experiment.crystal.water_um:
        return {"log_scale": photons, "log_water": photons}  # nanoBragg multiplies its water by the fluence twice
    return {"log_scale": photons}


class _Parts(NamedTuple):
    """What of an experiment its cell is made of; nothing is checked anew."""

    crystal: _Lattice
    beam: Beam
    fidelity: str


class _Lattice(NamedTuple):
    cell: tuple | None
    mosflm_matrix: tuple | None
    orientation: tuple | None


def _cell_vectors(experiment: Experiment) -> np.ndarray:
    """Cell vectors as rows, metres, before spindle and mosaic domains."""
    found = _cell(experiment, experiment.crystal.cell)
    return 1e-10 * np.array([found.a, found.b, found.c])


def _cell(experiment: Experiment, cell: tuple | None) -> Cell:
    """The oriented cell of an experiment whose constants are these."""
    crystal = experiment.crystal
    misset = draw_misset(crystal, ClassicStream(), physical=experiment.fidelity == "physical")
    parts = _Lattice(cell, crystal.mosflm_matrix, crystal.orientation)
    return drifted(orient_cell(_Parts(parts, experiment.beam, experiment.fidelity), misset), experiment.damage)


def _places_in_cell(one: Parameter, experiment: Experiment) -> tuple[int, ...]:
    """The constants of the cell that a parameter fills; of others than the cell's none."""
    if one.family.changes != CELL:
        return ()
    if one.family.key == "crystal.free_cell":
        return free_constants(experiment.crystal.cell or ())[one.component]
    return (one.component,)


def _with_constant(places: tuple[int, ...], value: float, here: Experiment) -> Numbers:
    """Cell vectors, and stars, where some constants of the cell have another value."""
    cell = tuple(value if place in places else held for place, held in enumerate(here.crystal.cell or ()))
    found = _cell(here, cell)
    vectors = {"cell_vectors_m": 1e-10 * np.array([found.a, found.b, found.c])}
    if here.fidelity == "physical":
        return vectors
    # nanoBragg's stars are not quite the reciprocal vectors of a triclinic cell (eq. 26).
    return vectors | {"stars_per_A": np.array([found.a_star, found.b_star, found.c_star])}


def _turned(one: Parameter, values: dict[str, float], here: Experiment) -> np.ndarray:
    """Change of the cell vectors with an angle of the orientation: their cross products with the axis."""
    if one.family.key == "crystal.orientation_deg":
        key = one.family.key
        vector = np.array([values.get(f"{key}[{i}]", 0.0) for i in range(3)]) / DEGREES
        axis = turn_of_change(vector, np.eye(3)[one.component])
    else:
        held = here.crystal.misset_deg
        angles = [float(angle) / DEGREES for angle in held] if isinstance(held, tuple) else [0.0, 0.0, 0.0]
        # About x, then y, then z: each axis is turned by what comes after it, the orientation last.
        later = (0.0,) * (one.component + 1) + tuple(angles[one.component + 1 :])
        axis = np.array(rotate_xyz(as_vector(np.eye(3)[one.component]), as_vector(later)))
        if here.crystal.orientation is not None:
            axis = np.array(here.crystal.orientation) @ axis
    return np.cross(axis / DEGREES, _cell_vectors(here))


def _panels(experiment: Experiment, oversample: int) -> Numbers:
    physical = experiment.fidelity == "physical"
    placed = place_detector(experiment)
    wavelength = experiment.beam.wavelength_A
    if any(sensor.depends_on_wavelength for sensor in experiment.detector.sensors):
        wavelength = list_sources(experiment.beam, placed, physical=physical).mean_wavelength_A
    sensors = list_sensors(experiment.detector, wavelength, physical=physical, notes=[])
    panels = list_panels(experiment, placed, sensors, oversample, physical=physical)

    def column(*names: str) -> np.ndarray:
        rows = np.array([[getattr(panel, name) for name in names] for panel in panels])
        return rows if len(names) > 1 else rows[:, 0]

    found: Numbers = {}
    for field in OF_PANELS:
        if field in ("origin_m", "fast", "slow", "normal"):
            found[field] = column(*(f"{field.removesuffix('_m')}_{axis}" for axis in "xyz"))
        else:
            found[field] = column(field.removesuffix("_per_m").removesuffix("_m"))
    return found


def _alone(experiment: Experiment, one: Parameter, values: dict[str, float], here: Moved) -> Tangent:
    """Tangents of what a plan holds as it is."""
    key = one.family.key
    unit = np.eye(3)[one.component] if one.component < 3 else np.zeros(3)
    if key == "beam.polarization":
        return Tangent(polarization=1.0)
    if key == "crystal.cell_counts":
        return Tangent(cell_counts=unit)
    if key == "crystal.mosaic_spread_deg":
        return Tangent(mosaic_spread_rad=1.0 / DEGREES)
    if key == "crystal.turn_deg":
        return Tangent(turn_rad=turn_of_change(np.array(here[1].turn_rad), unit / DEGREES))
    if key == "structure_factors.default_F":
        return Tangent(default_F=1.0)
    if key == "beam.weights":
        return Tangent(weights=_of_weights(experiment, one.component, values))
    return Tangent(log_scale=1.0 / values.get(one.name, one.value))  # scale


def _of_weights(experiment: Experiment, component: int, values: dict[str, float]) -> np.ndarray:
    """Change of all weights, whose mean stays 1, with one of those that are given."""
    raw = np.array([values.get(f"beam.weights[{i}]", weight) for i, weight in enumerate(source_weights(experiment))])
    total = raw.sum()
    change = -raw / total
    change[component] += 1.0
    return change * (len(raw) / total)
