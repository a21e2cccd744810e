"""What the parameters of an experiment are: values, units and steps, how each is moved, and where it cannot be."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from bragg_numba import checks as check
from bragg_numba.errors import InputError
from bragg_numba.experiment import Experiment
from bragg_numba.experiment.detector import Sensor
from bragg_numba.experiment.faces import unit_of
from bragg_numba.experiment.placing import place_detector
from bragg_numba.experiment.vectors import Vector, as_vector
from bragg_numba.plan.sources import list_sources
from bragg_numba.slopes.rotations import rotation_of
from bragg_numba.slopes.tangents import F2

#: What a parameter changes of a plan, and so what must be flattened anew to differentiate it.
CELL, SOURCES, PANELS, PHOTONS, ALONE = "cell", "sources", "panels", "photons", "alone"


@dataclass(frozen=True, slots=True)
class Extras:
    """What of moved parameters an Experiment cannot hold; a plan of it takes it up with ``bragg_numba.slopes``."""

    cell_counts: tuple[float, float, float] | None = None  #: real numbers of cells; None: those of the crystal
    turn_rad: Vector = (0.0, 0.0, 0.0)  #: rotation vector about lab axes, after spindle and mosaic domains
    weights: tuple[float, ...] | None = None  #: of the sources, their mean is 1; None: those of the beam


#: Components of a parameter by number: ``{0: 55.1, 2: 75.0}``.
Components = Mapping[int, float]
Moved = tuple[Experiment, Extras]


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Parameters that are components of one thing: ``crystal.cell`` has six."""

    key: str  #: "crystal.cell"; of every panel "detector.panels[].shift_mm"
    unit: str  #: "A, deg" of six cell constants
    changes: str  #: one of CELL, SOURCES, PANELS, PHOTONS, ALONE
    step: float  #: of differences, absolute or, where ``relative``, times the value
    relative: bool = False
    moves_spots: bool = True  #: whether h, k, l of a pixel change with it
    count: Callable[[Experiment], int]  #: number of components
    get: Callable[[Experiment, int, int], float]  #: (experiment, panel, component)
    put: Callable[[Moved, int, Components], Moved]
    refusal: Callable[[Experiment, int, int], tuple[str, str] | None]  #: rule and hint where it has no derivative
    dead: str = ""  #: hint where it has no effect


def single(experiment: Experiment) -> int:
    return 1


def _three(experiment: Experiment) -> int:
    return 3


def _six(experiment: Experiment) -> int:
    return 6


def _allowed(experiment: Experiment, panel: int, component: int) -> None:
    return None


def _with(at: Moved, noun: str, **changes) -> Moved:
    """The experiment with fields of a noun replaced."""
    experiment, extras = at
    return experiment.replace(**{noun: getattr(experiment, noun).replace(**changes)}), extras


def _merged(values: Iterable[float], components: Components) -> tuple[float, ...]:
    """A tuple with some components replaced."""
    return tuple(components.get(i, value) for i, value in enumerate(values))


def _field(
    key: str,
    changes: str,
    step: float,
    *,
    count: Callable[[Experiment], int] = single,
    relative: bool = False,
    moves_spots: bool = True,
    refusal: Callable[[Experiment, int, int], tuple[str, str] | None] = _allowed,
    default: Callable[[Experiment, int], float] | None = None,
    dead: str = "",
) -> Family:
    """A family that is a field of a noun; ``default`` says what its value is where it is None."""
    noun, field = key.split(".")

    def values(experiment: Experiment) -> tuple:
        held = getattr(getattr(experiment, noun), field)
        if held is None and default is not None:
            return tuple(default(experiment, i) for i in range(count(experiment)))
        return (held,) if count is single else held

    def get(experiment: Experiment, panel: int, component: int) -> float:
        return float(values(experiment)[component])

    def put(at: Moved, panel: int, components: Components) -> Moved:
        new = _merged(values(at[0]), components)
        return _with(at, noun, **{field: new[0] if count is single else new})

    def refuse(experiment: Experiment, panel: int, component: int) -> tuple[str, str] | None:
        reason = refusal(experiment, panel, component)
        if reason is None and getattr(getattr(experiment, noun), field) is None and default is None:
            return "has no value in this experiment", "give the field, or take the one that drives"
        return reason

    return Family(
        key=key,
        unit=unit_of(field),
        changes=changes,
        step=step,
        relative=relative,
        moves_spots=moves_spots,
        count=count,
        get=get,
        put=put,
        refusal=refuse,
        dead=dead,
    )


def _of_cell(experiment: Experiment, panel: int, component: int) -> tuple[str, str] | None:
    crystal = experiment.crystal
    if crystal.cell is None:
        return "has no value: the cell comes from mosflm_matrix", "give a cell and an orientation instead"
    if crystal.mosflm_matrix is not None and component >= 3:
        return "does not act beside mosflm_matrix, whose axes have angles of their own", "leave the matrix out"
    return None


def _of_misset(experiment: Experiment, panel: int, component: int) -> tuple[str, str] | None:
    if experiment.crystal.misset_deg == "random":
        return "has no derivative: it is drawn from misset_seed", "crystal.orientation_deg turns what was drawn"
    return None


def _of_mosaic(experiment: Experiment, panel: int, component: int) -> tuple[str, str] | None:
    crystal = experiment.crystal
    if not crystal.mosaic_spread_deg or crystal.mosaic_domains == 1:
        return "does not act on a crystal of one domain", "give it a spread and some mosaic_domains"
    return None


def _of_counts(experiment: Experiment, panel: int, component: int) -> tuple[str, str] | None:
    if experiment.crystal.size_mm[component] is not None:
        return "does not act beside size_mm, which is rounded up to whole cells", "leave size_mm out"
    return None


def _of_polarization(experiment: Experiment, panel: int, component: int) -> tuple[str, str] | None:
    return None if experiment.beam.polarized else ("does not act on a beam with polarized=False", "")


def _of_fluence(experiment: Experiment, panel: int, component: int) -> tuple[str, str] | None:
    if experiment.beam.flux_per_s != 0.0:
        return "does not act beside flux_per_s", "beam.flux_per_s drives"
    return None


def _of_flux(experiment: Experiment, panel: int, component: int) -> tuple[str, str] | None:
    return (
        None if experiment.beam.flux_per_s != 0.0 else ("does not act without flux_per_s", "beam.fluence_per_m2 drives")
    )


def _of_geometry(experiment: Experiment, panel: int, component: int) -> tuple[str, str] | None:
    detector = experiment.detector
    if detector.curved:
        return "has no derivative for a curved detector", "its radius is the distance"
    if detector.panels is not None:
        return "has no meaning beside panels", "detector.shift_mm and detector.turn_deg move all panels"
    return None


def _of_all_panels(experiment: Experiment, panel: int, component: int) -> tuple[str, str] | None:
    if experiment.detector.panels is None:
        hint = "distance_mm, beam_x_mm, beam_y_mm and rotation_deg move a detector of one piece"
        return "needs a detector of panels", hint
    return None


def _of_sensor(experiment: Experiment, panel: int, component: int) -> tuple[str, str] | None:
    absorbs = any(sensor.absorbs for sensor in experiment.detector.sensors)
    return None if absorbs else ("does not act on a detector without a sensor", "give thickness_um and a depth")


def _of_panel_sensor(experiment: Experiment, panel: int, component: int) -> tuple[str, str] | None:
    return None if experiment.detector.sensors[panel].absorbs else ("does not act on a panel without a sensor", "")


def _of_dispersion(experiment: Experiment, panel: int, component: int) -> tuple[str, str] | None:
    if experiment.beam.dispersion_percent == 0.0:
        return "does not act on a beam of one wavelength", "give it a dispersion"
    return None


def _of_default(experiment: Experiment, panel: int, component: int) -> tuple[str, str] | None:
    if experiment.structure_factors.default_F == 0.0:
        return "has no slope where it is 0: photons grow with its square", "give it a value"
    return None


def _depth_um(experiment: Experiment, sensor: Sensor) -> float:
    """Attenuation depth of a sensor, um, where none is given for it alone: its material's, or its thickness."""
    if sensor.depth_um is not None:
        return sensor.depth_um
    return 1e6 / float(sensor.attenuation_per_m(experiment.beam.wavelength_A))


def _depth(experiment: Experiment, component: int) -> float:
    """Attenuation depth of the detector's own sensor, um, where it is not given."""
    return _depth_um(experiment, next(sensor for sensor in experiment.detector.sensors if sensor.absorbs))


def _of_wavelength(experiment: Experiment, panel: int, component: int) -> tuple[str, str] | None:
    if any(sensor.depends_on_wavelength for sensor in experiment.detector.sensors):
        return "has no derivative beside a sensor whose material absorbs by it", "give attenuation_depth_um"
    return None


# Beam centres: a default that is written down must leave the pivot as it is.


def _centre(field: str, close: str) -> Family:
    def get(experiment: Experiment, panel: int, component: int) -> float:
        held = getattr(experiment.detector, field)
        return float(1000.0 * getattr(place_detector(experiment), field[:-3]) if held is None else held)

    def put(at: Moved, panel: int, components: Components) -> Moved:
        return _with(at, "detector", **{field: components[0]}, pivot=place_detector(at[0]).pivot)

    return Family(
        key=f"detector.{field}",
        unit="mm",
        changes=PANELS,
        step=0.5,
        count=single,
        get=get,
        put=put,
        refusal=_of_geometry,
        dead=f"the detector turns about the crystal, or origin_mm places it; {close} may be what acts",
    )


# Relative parameters: 0, or 1 of the scale, is where the experiment is.


def _relative(
    key: str,
    unit: str,
    changes: str,
    step: float,
    put: Callable[[Moved, int, Components], Moved],
    refusal: Callable[[Experiment, int, int], tuple[str, str] | None] = _allowed,
) -> Family:
    def get(experiment: Experiment, panel: int, component: int) -> float:
        return 0.0

    return Family(key=key, unit=unit, changes=changes, step=step, count=_three, get=get, put=put, refusal=refusal)


def _vector(components: Components) -> np.ndarray:
    return np.array([components.get(i, 0.0) for i in range(3)])


def _put_orientation(at: Moved, panel: int, components: Components) -> Moved:
    turn = rotation_of(np.radians(_vector(components)))
    held = at[0].crystal.orientation
    new = turn if held is None else turn @ np.array(held)
    return _with(at, "crystal", orientation=tuple(map(tuple, new.tolist())))


def _put_turn(at: Moved, panel: int, components: Components) -> Moved:
    experiment, extras = at
    return experiment, replace(extras, turn_rad=as_vector(np.radians(_vector(components))))


def _put_counts(at: Moved, panel: int, components: Components) -> Moved:
    experiment, extras = at
    new = _merged(experiment.crystal.cell_counts, components)
    for value in new:
        check.number("crystal.cell_counts", value, low=0.5, high=1e6)
    whole = tuple(max(1, round(value)) for value in new)
    moved_on = _with(at, "crystal", cell_counts=whole)[0]
    return moved_on, replace(extras, cell_counts=as_vector(new))


def _put_scale(at: Moved, panel: int, components: Components) -> Moved:
    factor = check.number("scale", components[0], above=0.0)
    return _with(at, "beam", fluence_per_m2=factor * at[0].beam.mean_photons_per_m2, flux_per_s=0.0)


def _put_weights(at: Moved, panel: int, components: Components) -> Moved:
    experiment, extras = at
    new = np.array(_merged(source_weights(experiment), components))
    if not (new >= 0.0).all() or not new.any():
        raise InputError("beam.weights", "must lie at or above 0, and one above it", tuple(new))
    return experiment, replace(extras, weights=tuple((new * (len(new) / new.sum())).tolist()))


def source_weights(experiment: Experiment) -> tuple[float, ...]:
    """Weights of the sources as a plan has them, their mean is 1."""
    placed = place_detector(experiment)
    return tuple(list_sources(experiment.beam, placed, physical=experiment.fidelity == "physical").weight.tolist())


def _of_weights(experiment: Experiment, panel: int, component: int) -> tuple[str, str] | None:
    if experiment.beam.sources is not None and experiment.fidelity != "physical":
        return "does not act under fidelity nanobragg: sources weigh the same there, as in C", "fidelity physical"
    if len(source_weights(experiment)) == 1:
        return "does not act on a beam of one source", "their mean is 1"
    return None


def _put_panel(at: Moved, panel: int, shift: np.ndarray, turn: np.ndarray | None, centre: np.ndarray) -> Moved:
    """A panel turned by a matrix about a point and then shifted; mm, lab frame."""
    panels = list(at[0].detector.panels or ())
    held = panels[panel]
    origin, fast, slow = (np.array(v) for v in (held.origin_mm, held.fast, held.slow))
    if turn is not None:
        origin, fast, slow = centre + turn @ (origin - centre), turn @ fast, turn @ slow
    panels[panel] = held.replace(origin_mm=tuple(origin + shift), fast=tuple(fast), slow=tuple(slow))
    return _with(at, "detector", panels=tuple(panels))


def _own_axes(experiment: Experiment, panel: int) -> np.ndarray:
    """A panel's fast, slow and normal axes as rows: unit vectors, the slow one made square to the fast."""
    g = place_detector(experiment).panels[panel]
    slow = np.cross(g.normal, g.fast)
    return np.array([g.fast, slow if np.dot(slow, g.slow) > 0.0 else -slow, g.normal])


def _middle_mm(experiment: Experiment, panel: int) -> np.ndarray:
    g = place_detector(experiment).panels[panel]
    half = 0.5 * g.n_fast * g.pitch_fast * np.array(g.fast) + 0.5 * g.n_slow * g.pitch_slow * np.array(g.slow)
    return 1000.0 * (np.array(g.origin) + half)


def _put_panel_shift(at: Moved, panel: int, components: Components) -> Moved:
    return _put_panel(at, panel, _vector(components) @ _own_axes(at[0], panel), None, np.zeros(3))


def _put_panel_turn(at: Moved, panel: int, components: Components) -> Moved:
    axes, middle = _own_axes(at[0], panel), _middle_mm(at[0], panel)
    turn = rotation_of(np.radians(_vector(components)) @ axes)
    return _put_panel(at, panel, np.zeros(3), turn, middle)


def _put_shift(at: Moved, panel: int, components: Components) -> Moved:
    for index in range(len(at[0].detector.panels or ())):
        at = _put_panel(at, index, _vector(components), None, np.zeros(3))
    return at


def _put_swing(at: Moved, panel: int, components: Components) -> Moved:
    """All panels about the point where the direct beam meets the plane of the one nearest to it."""
    placed = place_detector(at[0])
    middle = 1000.0 * placed.distance * np.array(placed.beam)
    turn = rotation_of(np.radians(_vector(components)))
    for index in range(len(placed.panels)):
        at = _put_panel(at, index, np.zeros(3), turn, middle)
    return at


def _of_panel(field: str, step: float, count, refusal, *, moves_spots: bool = True) -> Family:
    """A family that is a field of each panel; None takes after the detector's."""

    def values(experiment: Experiment, panel: int) -> tuple:
        held = getattr((experiment.detector.panels or ())[panel], field)
        if held is None:
            sensor = experiment.detector.sensors[panel]
            held = sensor.thickness_um if field == "thickness_um" else _depth_um(experiment, sensor)
        return (held,) if count is single else held

    def get(experiment: Experiment, panel: int, component: int) -> float:
        return float(values(experiment, panel)[component])

    def put(at: Moved, panel: int, components: Components) -> Moved:
        new = _merged(values(at[0], panel), components)
        panels = list(at[0].detector.panels or ())
        panels[panel] = panels[panel].replace(**{field: new[0] if count is single else new})
        return _with(at, "detector", panels=tuple(panels))

    return Family(
        key=f"detector.panels[].{field}",
        unit=unit_of(field),
        changes=PANELS,
        step=step,
        relative=not moves_spots,
        moves_spots=moves_spots,
        count=count,
        get=get,
        put=put,
        refusal=refusal,
    )


# Free constants of the crystal system.

_ANGLE_SLIP, _EDGE_SLIP = 1e-6, 1e-6


def free_constants(cell: tuple) -> tuple[tuple[int, ...], ...]:
    """The free constants of a cell's crystal system: each the places in the cell that it fills.

    The system is the highest that the six numbers have: equal edges, and angles of 90 and 120 degrees.

    Examples
    --------
    >>> free_constants((50, 50, 80, 90, 90, 120))
    ((0, 1), (2,))
    >>> free_constants((50, 60, 80, 90, 100, 90))
    ((0,), (1,), (2,), (4,))
    """
    a, b, c = cell[:3]
    angles = cell[3:]
    right = [abs(angle - 90.0) < _ANGLE_SLIP for angle in angles]

    def alike(x: float, y: float) -> bool:
        return abs(x - y) <= _EDGE_SLIP * max(x, y)

    if all(right):
        if alike(a, b) and alike(b, c):
            return ((0, 1, 2),)
        for first, second, third in ((0, 1, 2), (1, 2, 0), (0, 2, 1)):
            if alike(cell[first], cell[second]):
                return tuple(sorted(((first, second), (third,))))
        return (0,), (1,), (2,)
    if alike(a, b) and right[0] and right[1] and abs(angles[2] - 120.0) < _ANGLE_SLIP:
        return (0, 1), (2,)
    if alike(a, b) and alike(b, c) and max(angles) - min(angles) < _ANGLE_SLIP:
        return (0, 1, 2), (3, 4, 5)
    if sum(right) == 2:
        return (0,), (1,), (2,), (3 + right.index(False),)
    return tuple((i,) for i in range(6))


def _free(experiment: Experiment) -> int:
    return len(free_constants(experiment.crystal.cell)) if experiment.crystal.cell is not None else 1


def _get_free(experiment: Experiment, panel: int, component: int) -> float:
    cell = experiment.crystal.cell
    return float(cell[free_constants(cell)[component][0]]) if cell is not None else math.nan


def _put_free(at: Moved, panel: int, components: Components) -> Moved:
    cell = list(at[0].crystal.cell or ())
    constants = free_constants(tuple(cell))
    for component, value in components.items():
        for place in constants[component]:
            cell[place] = value
    return _with(at, "crystal", cell=tuple(cell))


def _of_free(experiment: Experiment, panel: int, component: int) -> tuple[str, str] | None:
    crystal = experiment.crystal
    if crystal.cell is not None and crystal.mosflm_matrix is not None:
        return "does not act beside mosflm_matrix, whose axes have angles of their own", "leave the matrix out"
    return _of_cell(experiment, panel, 0)


def _zero(experiment: Experiment, component: int) -> float:
    return 0.0


def _scale_of(experiment: Experiment, panel: int, component: int) -> float:
    return 1.0


def _weight_of(experiment: Experiment, panel: int, component: int) -> float:
    return source_weights(experiment)[component]


def _put_reflections(at: Moved, panel: int, components: Components) -> Moved:
    raise InputError(F2, "is not a number", hint="amplitudes are those of StructureFactors")


def _of_reflections(experiment: Experiment, panel: int, component: int) -> tuple[str, str] | None:
    if experiment.structure_factors.indices is None:
        return "needs a table of structure factors", "structure_factors.default_F is one number"
    return None


#: Absolute fields first, what moves relative to them after: ``moved`` goes in this order.
FAMILIES: tuple[Family, ...] = (
    _field("beam.wavelength_A", SOURCES, 1e-3, relative=True, refusal=_of_wavelength),
    _field("beam.dispersion_percent", SOURCES, 1e-2, relative=True, refusal=_of_dispersion),
    _field("beam.fluence_per_m2", PHOTONS, 1e-2, relative=True, moves_spots=False, refusal=_of_fluence),
    _field("beam.flux_per_s", PHOTONS, 1e-2, relative=True, moves_spots=False, refusal=_of_flux),
    _field("beam.exposure_s", PHOTONS, 1e-2, relative=True, moves_spots=False, refusal=_of_flux),
    _field("beam.polarization", ALONE, 0.0, moves_spots=False, refusal=_of_polarization),
    _field("crystal.cell", CELL, 2e-3, relative=True, count=_six, refusal=_of_cell),
    Family(
        key="crystal.free_cell",
        unit=unit_of("cell"),
        changes=CELL,
        step=2e-3,
        relative=True,
        count=_free,
        get=_get_free,
        put=_put_free,
        refusal=_of_free,
    ),
    _field("crystal.misset_deg", CELL, 0.5, count=_three, refusal=_of_misset, default=_zero),
    Family(
        key="crystal.cell_counts",
        unit="",
        changes=ALONE,
        step=0.0,
        count=_three,
        get=lambda experiment, panel, component: float(experiment.crystal.cell_counts[component]),
        put=_put_counts,
        refusal=_of_counts,
    ),
    _field("crystal.mosaic_spread_deg", ALONE, 0.0, refusal=_of_mosaic),
    _field(
        "detector.distance_mm",
        PANELS,
        1e-3,
        relative=True,
        refusal=_of_geometry,
        dead="close_distance_mm or origin_mm places the detector",
    ),
    _field(
        "detector.close_distance_mm",
        PANELS,
        1e-3,
        relative=True,
        refusal=_of_geometry,
        dead="origin_mm places the detector",
    ),
    _centre("beam_x_mm", "close_x_mm or org_x_px"),
    _centre("beam_y_mm", "close_y_mm or org_y_px"),
    *(
        _field(
            f"detector.{field}",
            PANELS,
            0.5,
            refusal=_of_geometry,
            dead="the beam centre or origin_mm places the detector",
        )
        for field in ("close_x_mm", "close_y_mm", "org_x_px", "org_y_px")
    ),
    _field("detector.origin_mm", PANELS, 0.5, count=_three, refusal=_of_geometry),
    _field("detector.rotation_deg", PANELS, 0.5, count=_three, refusal=_of_geometry),
    _field("detector.twotheta_deg", PANELS, 0.5, refusal=_of_geometry),
    _field(
        "detector.thickness_um",
        PANELS,
        1e-2,
        relative=True,
        moves_spots=False,
        refusal=_of_sensor,
        dead="every panel has a sensor of its own",
    ),
    _field(
        "detector.attenuation_depth_um",
        PANELS,
        1e-2,
        relative=True,
        moves_spots=False,
        refusal=_of_sensor,
        default=_depth,
        dead="every panel has a sensor of its own",
    ),
    _of_panel("origin_mm", 0.5, _three, _of_all_panels),
    _of_panel("thickness_um", 1e-2, single, _of_panel_sensor, moves_spots=False),
    _of_panel("attenuation_depth_um", 1e-2, single, _of_panel_sensor, moves_spots=False),
    _field("structure_factors.default_F", ALONE, 0.0, moves_spots=False, refusal=_of_default),
    Family(
        key=F2,
        unit="electrons^2",
        changes=ALONE,
        step=0.0,
        moves_spots=False,
        count=single,
        get=lambda experiment, panel, component: math.nan,
        put=_put_reflections,
        refusal=_of_reflections,
    ),
    Family(
        key="beam.weights",
        unit="",
        changes=ALONE,
        step=0.0,
        moves_spots=False,
        count=lambda experiment: len(source_weights(experiment)),
        get=_weight_of,
        put=_put_weights,
        refusal=_of_weights,
    ),
    _relative("crystal.orientation_deg", "deg", CELL, 0.5, _put_orientation),
    _relative("crystal.turn_deg", "deg", ALONE, 0.0, _put_turn),
    _relative("detector.panels[].shift_mm", "mm", PANELS, 0.5, _put_panel_shift, _of_all_panels),
    _relative("detector.panels[].turn_deg", "deg", PANELS, 0.5, _put_panel_turn, _of_all_panels),
    _relative("detector.shift_mm", "mm", PANELS, 0.5, _put_shift, _of_all_panels),
    _relative("detector.turn_deg", "deg", PANELS, 0.5, _put_swing, _of_all_panels),
    Family(
        key="scale",
        unit="",
        changes=ALONE,
        step=0.0,
        moves_spots=False,
        count=single,
        get=_scale_of,
        put=_put_scale,
        refusal=_allowed,
    ),
)

#: Where a family stands among them, by its key.
ORDER = {family.key: place for place, family in enumerate(FAMILIES)}
