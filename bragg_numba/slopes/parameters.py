"""The parameters of an experiment: found by their names, and the experiment with some of them moved.

A parameter is a dotted field of the Experiment in that field's unit, ``crystal.cell[3]``; besides there are a few that
no field holds (docs/slopes.md lists all). What each is stands in families.py, its Tangent comes from differences.py.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from bragg_numba import checks as check
from bragg_numba.errors import InputError
from bragg_numba.experiment import Experiment
from bragg_numba.experiment.noun import Noun
from bragg_numba.plan.plan import Plan, make_plan
from bragg_numba.slopes.cell_counts import with_counts
from bragg_numba.slopes.families import FAMILIES, ORDER, Extras, Family, Moved, free_constants, single
from bragg_numba.slopes.rotations import rotation_of
from bragg_numba.slopes.tangents import F2


@dataclass(frozen=True, slots=True)
class Parameter:
    """One number of an experiment that slopes are taken in.

    Attributes
    ----------
    name
        Canonical: ``crystal.cell[0]``, ``detector.panels[2].shift_mm[1]``, ``scale``.
    unit
        Of the value; "" for none.
    value
        Of the experiment that it was found in.
    """

    name: str
    unit: str
    value: float
    family: Family = dataclasses.field(repr=False, compare=False)
    panel: int = -1  #: which panel; -1 for what belongs to none
    component: int = 0


#: Words that stand for several parameters.
WORDS: dict[str, tuple[str, ...]] = {
    "orientation": ("crystal.orientation_deg",),
    "misset": ("crystal.misset_deg",),
    "cell": ("crystal.free_cell",),
    "counts": ("crystal.cell_counts",),
    "mosaic": ("crystal.mosaic_spread_deg",),
    "wavelength": ("beam.wavelength_A",),
    "fluence": ("beam.fluence_per_m2",),
    "polarization": ("beam.polarization",),
    "distance": ("detector.distance_mm",),
    "centre": ("detector.beam_x_mm", "detector.beam_y_mm"),
    "tilt": ("detector.rotation_deg",),
    "panels": ("detector.panels.shift_mm", "detector.panels.turn_deg"),
    "F2": (F2,),
}


def find_parameters(experiment: Experiment, names: str | Iterable[str]) -> tuple[Parameter, ...]:
    """Find parameters by their names, in the order that they are given.

    Parameters
    ----------
    experiment
        Whose values they have.
    names
        Names, or words of ``WORDS``; one text may hold several, with commas. A name without a number stands for all
        components: ``crystal.cell`` for six, ``detector.panels.shift_mm`` for those of all panels.

    Raises
    ------
    InputError
        By the name of what is no parameter, has no derivative, or is named twice.
    """
    listed = [word.strip() for text in ([names] if isinstance(names, str) else names) for word in _split(text)]
    found: list[Parameter] = []
    for word in listed:
        for name in WORDS.get(word, (word,)):
            found += _expanded(experiment, name)
    if not found:
        raise InputError("parameters", "must be at least one", names, "crystal.cell, scale")
    seen: set[str] = set()
    for one in found:
        if one.name in seen:
            raise InputError(one.name, "must be named only once")
        seen.add(one.name)
    keys = {one.family.key for one in found}
    if {"crystal.cell", "crystal.free_cell"} <= keys:
        raise InputError("crystal.free_cell", "must not stand beside crystal.cell, which it moves")
    return tuple(found)


def moved(experiment: Experiment, values: Mapping[str, float]) -> Moved:
    """The experiment with parameters at these values, and what of them no experiment can hold.

    Values of relative parameters (``turn_deg``, ``orientation_deg``, ``shift_mm``, ``scale``) count from it.

    Raises
    ------
    InputError
        If a name is no parameter, or the values make no experiment.
    """
    groups: dict[tuple[int, int], dict[int, float]] = {}
    for name, value in values.items():
        order, panel, component = _located(experiment, name)
        groups.setdefault((order, panel), {})[component] = check.number(name, value)
    at: Moved = (experiment, Extras())
    for (order, panel), components in sorted(groups.items()):
        at = FAMILIES[order].put(at, panel, components)
    return at


def plan_at(experiment: Experiment, values: Mapping[str, float], like: Plan | None = None) -> Plan:
    """The plan of an experiment with parameters at these values, real numbers of cells included.

    Parameters
    ----------
    experiment, values
        As ``moved`` takes them.
    like
        A plan whose tables may serve again, as ``make_plan`` takes it.
    """
    return plan_of(moved(experiment, values), like)


def plan_of(at: Moved, like: Plan | None = None) -> Plan:
    """The plan of what ``moved`` returned; ``like`` as ``plan_at`` takes it."""
    there, extras = at
    plan = make_plan(there, like=like)
    if extras.cell_counts is not None:
        plan = with_counts(plan, extras.cell_counts)
    if any(extras.turn_rad):
        turn = rotation_of(np.array(extras.turn_rad))
        plan = dataclasses.replace(plan, cells=(plan.cells.reshape(-1, 3) @ turn.T).reshape(-1, 9))
    if extras.weights is not None:
        sources = dataclasses.replace(plan.sources, weight=np.array(extras.weights))
        plan = dataclasses.replace(plan, sources=sources, rules=plan.rules._replace(weighted=True))
    return plan


def frozen(plan: Plan) -> Experiment:
    """The plan's experiment with what the plan chose written down, so that small changes do not choose anew.

    Sub-pixels, interpolation, the number of cells along each axis and of mosaic domains.
    """
    e = plan.experiment
    crystal = e.crystal.replace(cell_counts=plan.cell_counts, size_mm=(None, None, None))
    if e.crystal.mosaic_spread_deg:
        crystal = crystal.replace(mosaic_domains=plan.domains)
    sampling = e.sampling.replace(oversample=plan.oversample)
    if e.structure_factors.indices is not None:
        sampling = sampling.replace(interpolate=plan.lookup.interpolate)
    return e.replace(crystal=crystal, sampling=sampling)


# --- names ---------------------------------------------------------------------------------------

_SEGMENT = re.compile(r"([A-Za-z]\w*)((?:\[[^\[\]]*\])*)")


def _split(text: Any) -> list[str]:
    if not isinstance(text, str):
        raise InputError("parameters", "must be names such as crystal.cell[0]", text)
    return [word for word in text.split(",") if word.strip()]


@lru_cache(maxsize=1024)
def _parse(name: str) -> tuple[str, str | None, str | None]:
    """A name's key, its panel and its component, each None where it is left out."""
    words, panel, component = [], None, None
    segments = re.split(r"\.(?![^\[]*\])", name)
    for place, segment in enumerate(segments):
        match = _SEGMENT.fullmatch(segment)
        if match is None:
            raise InputError(name, "is no name of a parameter", hint="such as crystal.cell[0]")
        word, indices = match[1], re.findall(r"\[([^\[\]]*)\]", match[2])
        is_last = place == len(segments) - 1
        if word == "panels" and not is_last:
            panel, word = (indices[0] if indices else None), "panels[]"
            indices = indices[1:]
        if len(indices) > is_last:
            raise InputError(name, "has one number too many in brackets")
        if indices:
            component = indices[0]
        words.append(word)
    return ".".join(words), panel, component


def _expanded(experiment: Experiment, name: str) -> list[Parameter]:
    """The parameters that a name stands for."""
    if not isinstance(experiment, Experiment):
        raise InputError("experiment", "must be an Experiment", experiment)
    key, panel, component = _parse(name)
    if key not in ORDER:
        raise _unknown(experiment, name, key)
    family = FAMILIES[ORDER[key]]
    n = family.count(experiment)
    if component is None:
        components = list(range(n))
    elif component.isdecimal() and int(component) < n:
        components = [int(component)]
    else:
        raise InputError(name, f"must have a number from 0 to {n - 1} in its brackets", component)
    found = []
    for where in _panels(experiment, name, key, panel):
        for i in components:
            label = key.replace("[]", f"[{where}]") + ("" if family.count is single else f"[{i}]")
            refused = family.refusal(experiment, where, i) or _of_steps(experiment, family)
            if refused is not None:
                raise InputError(label, refused[0], hint=refused[1])
            found.append(
                Parameter(label, _unit(experiment, family, i), family.get(experiment, where, i), family, where, i)
            )
    return found


def _located(experiment: Experiment, name: str) -> tuple[int, int, int]:
    """Family, panel and component of a single parameter; whether it has a derivative does not matter."""
    key, panel, component = _parse(name)
    order = ORDER.get(key)
    if order is not None:
        family = FAMILIES[order]
        where = _panels(experiment, name, key, panel)
        component = "0" if component is None and family.count is single else component
        number = int(component) if component is not None and component.isdecimal() else -1
        if len(where) == 1 and 0 <= number < family.count(experiment):
            return order, where[0], number
    listed = _expanded(experiment, name)
    raise InputError(name, f"must be one parameter, but stands for {len(listed)}", hint=listed[0].name)


def _unit(experiment: Experiment, family: Family, component: int) -> str:
    """The unit of one component: cells have edges and angles."""
    edges, _, angles = family.unit.partition(", ")
    if not angles:
        return edges
    cell = experiment.crystal.cell
    place = free_constants(cell)[component][0] if family.key == "crystal.free_cell" and cell else component
    return edges if place < 3 else angles


def _panels(experiment: Experiment, name: str, key: str, panel: str | None) -> list[int]:
    """Which panels a name is about; [-1] where it is about none."""
    if "[]" not in key:
        return [-1]
    panels = experiment.detector.panels
    if panels is None:
        hint = "distance_mm, beam_x_mm, beam_y_mm and rotation_deg move a detector of one piece"
        raise InputError(name, "needs a detector of panels", hint=hint)
    if panel is None:
        return list(range(len(panels)))
    names = [str(one.name) for one in panels]
    if panel in names:
        return [names.index(panel)]
    if panel.isdecimal() and int(panel) < len(panels):
        return [int(panel)]
    near = difflib.get_close_matches(panel, names, n=1)
    raise InputError(name, "must name a panel of the detector", panel, f"did you mean {near[0]}?" if near else "")


def _of_steps(experiment: Experiment, family: Family) -> tuple[str, str] | None:
    """Why nothing that moves spots has a derivative for a top-hat crystal."""
    if family.moves_spots and experiment.crystal.shape == "tophat":
        return (
            "has no derivative for a tophat crystal",
            "its spots end in a step; gauss, square and round crystals have slopes",
        )
    return None


#: Why fields that are no parameters are none, by how their name ends or what they hold.
_NO_SLOPES = (
    (re.compile(r"seed$|shot$"), "has no derivative: it chooses random numbers"),
    (re.compile(r"steps$|domains$|oversample$|n_fast$|n_slow$"), "has no derivative: it is a whole number of steps"),
    (re.compile(r"size_mm$"), "has no derivative: it is rounded to whole cells or pixels"),
    (re.compile(r"dmin_A$|cutoff_photons$|roi$"), "has no derivative: it says what is left out"),
)


def _unknown(experiment: Experiment, name: str, key: str) -> InputError:
    """What to say of a name that is no parameter: of a field why, else the nearest one."""
    noun, _, field = key.partition(".")
    part = getattr(experiment, noun, None) if field else None
    if isinstance(part, Noun) and field in part.__dataclass_fields__:
        for pattern, rule in _NO_SLOPES:
            if pattern.search(field):
                return InputError(name, rule)
        if isinstance(getattr(part, field), (str, bool, np.ndarray)):
            return InputError(name, "has no derivative: it is not a number")
        return InputError(name, "has no derivative in this version", hint=f"known: {', '.join(_of_noun(noun))}")
    near = difflib.get_close_matches(key, [*ORDER, *WORDS], n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else f"such as {', '.join(_of_noun(noun) or list(WORDS))}"
    return InputError(name, "is not a parameter", hint=hint)


def _of_noun(noun: str) -> list[str]:
    return [key for key in ORDER if key.startswith(f"{noun}.")]
