"""One frame and what was seen on it: its model, its boxes, and the normal equations at any values of its parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bragg_numba.errors import InputError
from bragg_numba.experiment import Experiment, StructureFactors
from bragg_numba.plan.plan import Plan, make_plan
from bragg_numba.refine.boxes import Boxes, choose_boxes, local_background
from bragg_numba.render.surroundings import surroundings
from bragg_numba.slopes.differences import tangents_of
from bragg_numba.slopes.parameters import Parameter, frozen, moved, plan_of
from bragg_numba.slopes.pixels import Observed, Pixels
from bragg_numba.slopes.slopes import Normal, Slopes, Surroundings
from bragg_numba.slopes.tangents import F2, Tangent

#: Photons that are expected in every pixel at least, so that a stray one makes no fit impossible.
LEAST_BACKGROUND = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Still:
    """A frame to refine against.

    Parameters
    ----------
    experiment
        Where the refinement starts.
    data
        (slow, fast), photons or counts of a gain of 1; what is not finite does not count, nor, where integers are
        their type's largest or negative, what detectors mark so.
    variance
        Of the read-out, photons^2: a number or (slow, fast).
    background
        Photons expected besides the crystal's: a number, (slow, fast), or ``"local"``, the mean around each pixel
        without spots. None: what the experiment's own backgrounds and diffuse scattering bring.
    mask
        bool (slow, fast): True where a pixel counts; None: what the detector's own mask leaves.
    """

    experiment: Experiment
    data: np.ndarray
    variance: np.ndarray | float = 0.0
    background: np.ndarray | float | str | None = None
    mask: np.ndarray | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A still that is ready for its normal equations; pixels that do not count are masked."""

    experiment: Experiment  #: where it starts, what its plan chose written down, without backgrounds
    plan: Plan  #: of it
    data: np.ndarray  #: float64 (slow, fast)
    variance: np.ndarray  #: float64 (slow, fast), of the read-out
    background: np.ndarray  #: float64 (slow, fast), photons
    good: np.ndarray  #: bool (slow, fast)
    boxes: Boxes | None  #: of spots; None: every pixel counts
    pixels: Pixels  #: that are looked at
    surroundings: Surroundings  #: what the crystal's photons go through
    threads: int | None

    @classmethod
    def of(
        cls, still: Still, *, boxes: str | int | None, threads: int | None, like: Prepared | None = None
    ) -> Prepared:
        """Check a still and make it ready; one of the same structure factors or detector shares those of ``like``."""
        experiment = still.experiment
        if not isinstance(experiment, Experiment):
            raise InputError("experiment", "must be an Experiment", experiment)
        if experiment.lattices is not None:
            raise InputError(
                "Experiment.lattices", "cannot be refined together", hint="refine the frame of each lattice"
            )
        shape = experiment.detector.shape
        data, good = _clean_data(still.data, shape)
        if still.mask is not None:
            mask = np.asarray(still.mask)
            if mask.shape != shape or mask.dtype != np.bool_:
                raise InputError("mask", f"must be bool of the frame's shape {shape}", (mask.dtype.name, mask.shape))
            good = good & mask
        bare = experiment.replace(backgrounds=(), diffuse=None)
        if like is not None:  # equal ones become one, of which much is made once
            nouns = {name: getattr(like.experiment, name) for name in ("detector", "beam", "structure_factors")}
            bare = bare.replace(**{name: noun for name, noun in nouns.items() if noun == getattr(bare, name)})
        plan = make_plan(bare, like=None if like is None else like.plan)
        bare = frozen(plan)
        plan = make_plan(bare, like=plan)
        found = choose_boxes(plan, boxes)
        variance = _field("variance", still.variance, shape)
        if not (np.isfinite(variance) & (variance >= 0.0)).all():
            raise InputError("variance", "must be finite numbers at or above 0")
        return cls(
            experiment=bare,
            plan=plan,
            data=data,
            variance=variance,
            background=_background(still, experiment, plan, data, good, threads),
            good=good,
            boxes=found,
            pixels=Pixels(plan, mask=good, boxes=None if found is None else found.edges),
            surroundings=surroundings(plan, threads),
            threads=threads,
        )

    def with_shape(self, shape: str, part: float, spots: int) -> Prepared:
        """The same still of a crystal of another shape, and of a part of the cells along each axis.

        Where there are boxes, those of so many spots are looked at.
        """
        counts = tuple(max(2, round(part * n)) for n in self.plan.cell_counts)
        crystal = self.experiment.crystal.replace(shape=shape, cell_counts=counts)
        experiment = self.experiment.replace(crystal=crystal)
        plan = make_plan(experiment, like=self.plan)
        changed = replace(self, experiment=experiment, plan=plan)
        if self.boxes is None:
            return changed
        boxes = self.boxes.strongest(spots)
        return replace(changed, boxes=boxes, pixels=Pixels(plan, mask=self.good, boxes=boxes.edges))

    def with_factors(self, factors: StructureFactors, table: np.ndarray) -> Prepared:
        """The same still with other amplitudes of the same reflections, and the plan's table of them."""
        experiment = self.experiment.replace(structure_factors=factors)
        of_plan = self.plan.experiment.replace(structure_factors=factors)
        return replace(self, experiment=experiment, plan=replace(self.plan, experiment=of_plan, table=table))

    def slopes(
        self,
        parameters: tuple[Parameter, ...],
        values: Mapping[str, float],
        known: Mapping[str, Tangent] | None = None,
        *,
        reflections: bool = False,
    ) -> Slopes:
        """Slopes in parameters where these have the given values, and in |F|^2 of ``reflections``.

        ``known`` are Tangents that are made already.
        """
        found = dict(known or {})
        here = moved(self.experiment, values)
        plan = plan_of(here, self.plan)
        unknown = tuple(one for one in parameters if one.name not in found)
        tangents = tangents_of(self.experiment, unknown, values, here=here, oversample=plan.oversample)
        found.update((one.name, tangent) for one, tangent in zip(unknown, tangents, strict=True))
        by_name: dict[str, Tangent | None] = {one.name: found[one.name] for one in parameters}
        if reflections:
            by_name[F2] = None
        around = self.surroundings
        return Slopes(plan, by_name, pixels=self.pixels, surroundings=around, threads=self.threads)

    def observe(self, likelihood: str, variance: np.ndarray | None = None) -> Observed:
        """The data in the order of the pixels, for ``normal``; ``variance`` if not that of the read-out."""
        spread = self.variance if variance is None else variance
        return self.pixels.observe(self.data, spread, likelihood=likelihood, background=self.background)

    def normal(
        self,
        parameters: tuple[Parameter, ...],
        values: Mapping[str, float],
        observed: Observed,
        known: Mapping[str, Tangent] | None = None,
        *,
        reflections: bool = False,
    ) -> Normal:
        """Normal equations of what was observed where parameters have these values; the rest as in ``slopes``."""
        return self.slopes(parameters, values, known, reflections=reflections).normal_of(observed)

    def stands_as(self, other: Prepared) -> bool:
        """Whether detector, beam and sub-pixels are those of another still."""
        mine, theirs = self.experiment, other.experiment
        same = mine.detector is theirs.detector and mine.beam is theirs.beam and mine.fidelity == theirs.fidelity
        return same and mine.rotation.axis == theirs.rotation.axis and self.plan.oversample == other.plan.oversample

    def model(self, values: Mapping[str, float], *, whole: bool = False) -> np.ndarray:
        """Photons expected where parameters have these values, background included: float64 (slow, fast).

        With boxes, of their pixels unless ``whole``; others have the background alone.
        """
        one = replace(self, pixels=Pixels(self.plan, mask=self.good)) if whole else self
        return one.slopes((), values).image() + self.background

    @property
    def counted(self) -> np.ndarray:
        """bool (slow, fast): pixels that the refinement looks at."""
        counted = self.pixels.wanted
        return counted if self.boxes is None else counted & self.boxes.mask(counted.shape)


def prepare(stills: Sequence[Still], *, boxes: str | int | None, threads: int | None) -> list[Prepared]:
    """Stills that are ready, one after another: tables of the same structure factors are made once."""
    prepared: list[Prepared] = []
    for still in stills:
        prepared.append(Prepared.of(still, boxes=boxes, threads=threads, like=prepared[-1] if prepared else None))
    return prepared


def _clean_data(data: Any, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Data in float64, 0 where they say nothing, and where they say something."""
    given = np.asarray(data)
    if given.shape != shape:
        raise InputError("data", f"must have the detector's shape {shape} (slow, fast)", given.shape)
    if given.dtype.kind not in "iuf":
        raise InputError("data", "must be numbers", given.dtype.name)
    if given.dtype.kind == "f":
        good = np.isfinite(given)
    else:
        good = given != np.iinfo(given.dtype).max
        if given.dtype.kind == "i":
            good &= given >= 0
    if not good.any():
        raise InputError("data", "must hold a pixel that counts")
    return np.where(good, given, 0).astype(np.float64), good


def _field(name: str, value: Any, shape: tuple[int, int]) -> np.ndarray:
    """A number or a frame of numbers as a frame."""
    try:
        field = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(name, "must be a number, or (slow, fast) of numbers", value) from None
    if field.ndim and field.shape != shape:
        raise InputError(name, f"must have the frame's shape {shape}", field.shape)
    return np.array(np.broadcast_to(field, shape))


def _background(
    still: Still, experiment: Experiment, plan: Plan, data: np.ndarray, good: np.ndarray, threads: int | None
) -> np.ndarray:
    """Photons besides the crystal's, in every pixel at least ``LEAST_BACKGROUND``."""
    given = still.background
    if isinstance(given, str):
        if given != "local":
            raise InputError("background", 'must be a number, a frame, None or "local"', given)
        field = local_background(plan, data, good)
    elif given is None:
        field = _own_background(experiment, threads)
    else:
        field = _field("background", given, data.shape)
        if not (np.isfinite(field) & (field >= 0.0)).all():
            raise InputError("background", "must be finite numbers at or above 0")
    return np.maximum(field, LEAST_BACKGROUND)


def _own_background(experiment: Experiment, threads: int | None) -> np.ndarray:
    """What the experiment's amorphous backgrounds and its diffuse scattering bring."""
    field = None
    if experiment.backgrounds or experiment.diffuse is not None:
        field = surroundings(make_plan(experiment), threads).beside
    return np.zeros(experiment.detector.shape) if field is None else field
