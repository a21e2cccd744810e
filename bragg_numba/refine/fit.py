"""The refinement itself: what is free, what is known beforehand, the stages, and the errors."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from bragg_numba import checks as check
from bragg_numba.errors import InputError
from bragg_numba.experiment import Experiment
from bragg_numba.refine.blocks import Blocks
from bragg_numba.refine.marquardt import Minimum, Restraint, Rules, minimise
from bragg_numba.refine.result import Fitted, Refinement, correlation_of
from bragg_numba.refine.still import Prepared, Still, prepare
from bragg_numba.slopes.differences import tangents_of
from bragg_numba.slopes.families import PANELS, SOURCES, free_constants
from bragg_numba.slopes.parameters import WORDS, Parameter, find_parameters, moved
from bragg_numba.slopes.slopes import Normal
from bragg_numba.slopes.tangents import F2, Tangent

LIKELIHOODS = ("poisson", "model", "gaussian")
ROBUST = ("huber", "cauchy")

#: Residuals in standard deviations at which a robust fit begins to count less.
_TURN = {"huber": 2.0, "cauchy": 3.0}

#: How often a robust fit weighs anew, and by which part of a standard deviation it may still move.
_MOST_WEIGHINGS, _STILL = 10, 0.01

#: Lower bounds without which steps would leave what makes sense.
_LEAST = {"crystal.cell_counts": 1.0, "crystal.mosaic_spread_deg": 1e-4, "beam.weights": 0.0}

#: What photons are a power of, about: steps are factors.
_POSITIVE = {"scale", "beam.fluence_per_m2", "beam.flux_per_s", "beam.exposure_s", "crystal.cell_counts"}
_POSITIVE |= {"crystal.mosaic_spread_deg", "structure_factors.default_F"}

#: What makes spots broad, and is found once they lie where they should.
_OF_WIDTH = {"crystal.cell_counts", "crystal.mosaic_spread_deg"}

#: What all photons are proportional to.
_OF_PHOTONS = {"scale", "beam.fluence_per_m2", "beam.flux_per_s", "beam.exposure_s"}


@dataclass(frozen=True, slots=True)
class Unknowns:
    """The parameters of all stills, and where each lies in the vector of all."""

    shared: tuple[Parameter, ...]
    own: tuple[tuple[Parameter, ...], ...]  #: of each still

    @property
    def start(self) -> np.ndarray:
        """Their values at the start, float64 (n,)."""
        return np.array([one.value for one in (*self.shared, *(one for part in self.own for one in part))])

    def listed(self) -> list[tuple[Parameter, int | None]]:
        """Each parameter with the number of its still, None for shared ones, in the order of the vector."""
        rows: list[tuple[Parameter, int | None]] = [(one, None) for one in self.shared]
        for still, part in enumerate(self.own):
            rows += [(one, still) for one in part]
        return rows

    def without(self, keys: set[str]) -> tuple[Unknowns, np.ndarray]:
        """All but parameters of some families, and bool (n,): which are left."""

        def rest(part: tuple[Parameter, ...]) -> tuple[Parameter, ...]:
            return tuple(one for one in part if one.family.key not in keys)

        kept = np.array([one.family.key not in keys for one, _ in self.listed()], dtype=bool)
        return Unknowns(rest(self.shared), tuple(map(rest, self.own))), kept

    def of(self, still: int, at: np.ndarray) -> dict[str, float]:
        """Values of a still's parameters by name."""
        n = len(self.shared)
        first = n + sum(len(part) for part in self.own[:still])
        where = [*range(n), *range(first, first + len(self.own[still]))]
        names = [one.name for one in (*self.shared, *self.own[still])]
        return dict(zip(names, at[where].tolist(), strict=True))


def fit(
    stills: Sequence[Still],
    *,
    free: str | Iterable[str],
    shared: str | Iterable[str],
    likelihood: str,
    bounds: Mapping[str, Sequence[float | None]],
    priors: Mapping[str, Any],
    restraints: Iterable[tuple[Mapping[str, float], float, float]],
    robust: str | None,
    coarse: bool,
    boxes: str | int | None,
    most_steps: int,
    tolerance: float,
    threads: int | None,
    workers: int,
    progress: Callable[[str, int, float], None] | None,
) -> Refinement:
    """Refine stills; ``bragg_numba.refine`` says what the arguments are."""
    check.choice("likelihood", likelihood, LIKELIHOODS)
    if robust is not None:
        check.choice("robust", robust, ROBUST)
    workers = check.count("workers", workers, low=1, high=1024)
    prepared = prepare(stills, boxes=boxes, threads=threads)
    unknowns = find_unknowns(prepared, free, shared)
    rules = make_rules(unknowns, bounds, priors, restraints)
    if likelihood == "gaussian" and any((one.variance[one.good] <= 0.0).any() for one in prepared):
        raise InputError("variance", "must be greater than 0 for a gaussian likelihood", hint="poisson needs none")
    if likelihood == "poisson" and any((one.data[one.good] < 0.0).any() for one in prepared):
        hint = "likelihood model takes read-out noise into account"
        raise InputError("data", "must not be negative where they are Poisson's", hint=hint)

    def tell(stage: str) -> Callable[[int, float], None] | None:
        return None if progress is None else lambda step, value: progress(stage, step, value)

    options = _Options(check.count("most_steps", most_steps, low=1), check.number("tolerance", tolerance, above=0.0))
    at, evaluations = np.clip(unknowns.start, rules.low, rules.high), 0
    with ThreadPoolExecutor(workers) as pool:
        job = _Job(prepared, unknowns, likelihood, pool if workers > 1 else None)
        if coarse:
            at, count = _coarsely(job, rules, at, tell("coarse"))
            evaluations += count
        if robust is None:
            found = minimise(job.evaluate, at, rules, progress=tell("fine"), **options._asdict())
            evaluations += found.evaluations
        else:
            found, count = _robustly(job, rules, at, robust, tell("robust"), options)
            evaluations += count
        return _result(job, found, evaluations, rules)


# --- what is free --------------------------------------------------------------------------------


def find_unknowns(prepared: Sequence[Prepared], free: str | Iterable[str], shared: str | Iterable[str]) -> Unknowns:
    """The parameters that are free in each still, and those that all stills share."""
    own_names, shared_names = _listed(free), _listed(shared)
    if not own_names and not shared_names:
        raise InputError("free", "must name at least one parameter", free, "orientation,cell,scale")
    first = prepared[0].experiment
    common = find_parameters(first, shared_names) if shared_names else ()
    own = tuple(find_parameters(one.experiment, own_names) if own_names else () for one in prepared)
    both = {one.name for one in common} & {one.name for part in own for one in part}
    if both:
        raise InputError(sorted(both)[0], "must be either shared or free, not both")
    for one in (*common, *(one for part in own for one in part)):
        if one.name == F2:
            raise InputError(F2, "is not a number", hint="bragg_numba.refine.refine_factors fits all reflections")
    for number, still in enumerate(prepared[1:], start=1):
        for mine, theirs in zip(common, find_parameters(still.experiment, shared_names) if common else (), strict=True):
            if mine.name != theirs.name or not math.isclose(mine.value, theirs.value, rel_tol=1e-9, abs_tol=1e-12):
                rule = f"must start alike in all stills to be shared; still {number} has {theirs.value:g}"
                raise InputError(mine.name, rule, mine.value)
    return Unknowns(common, own)


def _listed(names: str | Iterable[str]) -> list[str]:
    texts = [names] if isinstance(names, str) else list(names)
    if not all(isinstance(text, str) for text in texts):
        raise InputError("free", "must be names such as orientation or crystal.cell[0]", names)
    return [word.strip() for text in texts for word in text.split(",") if word.strip()]


def make_rules(
    unknowns: Unknowns,
    bounds: Mapping[str, Sequence[float | None]],
    priors: Mapping[str, Any],
    restraints: Iterable[tuple[Mapping[str, float], float, float]],
) -> Rules:
    """Bounds, priors and restraints by name as arrays over the vector of all parameters."""
    rows = unknowns.listed()
    rules = Rules.none(len(rows))
    for i, (one, _) in enumerate(rows):
        rules.low[i] = _LEAST.get(one.family.key, -math.inf)
        rules.positive[i] = one.family.key in _POSITIVE
    for name, pair in bounds.items():
        limits = tuple(pair) if isinstance(pair, (tuple, list)) else ()
        if len(limits) != 2:
            raise InputError(f"bounds of {name}", "must be a pair (low, high), None for no bound", pair)
        low, high = (
            side if limit is None else check.number(f"bounds of {name}", limit)
            for limit, side in zip(limits, (-math.inf, math.inf), strict=True)
        )
        if not low < high:
            raise InputError(f"bounds of {name}", "must have low < high", pair)
        for i in _places(rows, name, "bounds"):
            rules.low[i], rules.high[i] = max(low, rules.low[i]), high
    for name, given in priors.items():
        several = isinstance(given, (tuple, list))
        if several and len(given) != 2:
            raise InputError(f"prior of {name}", "must be a standard deviation, or a pair (centre, deviation)", given)
        centre = check.number(f"prior of {name}", given[0]) if several else None
        sigma = check.number(f"prior of {name}", given[1] if several else given, above=0.0)
        for i in _places(rows, name, "priors"):
            rules.centre[i], rules.sigma[i] = (rows[i][0].value if centre is None else centre), sigma
    listed: list[Restraint] = []
    for number, entry in enumerate(restraints):
        listed += _restraints(rows, f"restraints[{number}]", entry, len(unknowns.own))
    return replace(rules, restraints=tuple(listed))


def _places(rows: list[tuple[Parameter, int | None]], name: str, what: str) -> list[int]:
    """Where parameters of a name, a family or a word lie in the vector of all."""
    keys = WORDS.get(name, (name,))
    found = [
        i
        for i, (one, _) in enumerate(rows)
        if one.name in keys or one.family.key in keys or one.family.key.replace("[]", "") in keys
    ]
    if not found:
        known = ", ".join(dict.fromkeys(one.name for one, _ in rows))
        raise InputError(what, "must name parameters that are free", name, known)
    return found


def _restraints(rows: list[tuple[Parameter, int | None]], name: str, entry: Any, stills: int) -> Iterable[Restraint]:
    """A restraint by names as one for each still that has these parameters."""
    try:
        factors, target, sigma = entry
        items = [(str(key), check.number(name, value)) for key, value in dict(factors).items()]
    except (TypeError, ValueError):
        raise InputError(name, "must be ({name: factor, ...}, target, standard deviation)", entry) from None
    target, sigma = check.number(name, target), check.number(name, sigma, above=0.0)
    for still in range(stills):
        where: list[int] = []
        for key, _ in items:
            places = [i for i in _places(rows, key, name) if rows[i][1] in (None, still)]
            if len(places) != 1:
                raise InputError(name, "must name single parameters", key)
            where.append(places[0])
        yield Restraint(tuple(where), tuple(value for _, value in items), target, sigma)
        if all(rows[i][1] is None for i in where):
            return


def restrain_cell(
    cell: Sequence[float], sigma_A: float, sigma_deg: float
) -> list[tuple[dict[str, float], float, float]]:
    """Restraints that hold ``crystal.cell`` near its crystal system: for ``restraints`` of ``refine``.

    Edges and angles that the system makes equal are so within ``sigma_A`` and ``sigma_deg``, angles of 90 and 120
    degrees are so within ``sigma_deg``. The system is the highest that the six numbers have.

    Examples
    --------
    >>> restrain_cell((50, 50, 80, 90, 90, 90), 0.1, 0.05)[0]
    ({'crystal.cell[0]': 1.0, 'crystal.cell[1]': -1.0}, 0.0, 0.1)
    """
    given = tuple(float(value) for value in cell)
    constants = free_constants(given)
    rules: list[tuple[dict[str, float], float, float]] = []
    for places in constants:
        sigma = sigma_A if places[0] < 3 else sigma_deg
        rules += [({f"crystal.cell[{places[0]}]": 1.0, f"crystal.cell[{i}]": -1.0}, 0.0, sigma) for i in places[1:]]
    free = {i for places in constants for i in places}
    rules += [({f"crystal.cell[{i}]": 1.0}, given[i], sigma_deg) for i in range(3, 6) if i not in free]
    return rules


# --- stages --------------------------------------------------------------------------------------


class _Options(NamedTuple):
    """When a minimisation ends."""

    most_steps: int
    tolerance: float


class _Job:
    """Stills with their parameters: evaluated together.

    ``variances`` are those of a gaussian likelihood, of each still; None: the read-out's, and any likelihood.
    """

    def __init__(
        self,
        prepared: Sequence[Prepared],
        unknowns: Unknowns,
        likelihood: str,
        pool: ThreadPoolExecutor | None,
        variances: Sequence[np.ndarray] | None = None,
    ) -> None:
        self.prepared, self.unknowns, self.likelihood = tuple(prepared), unknowns, likelihood
        self.pool = pool
        given = [None] * len(self.prepared) if variances is None else variances
        self._observed = [one.observe(likelihood, v) for one, v in zip(self.prepared, given, strict=True)]

    def of(self, unknowns: Unknowns) -> _Job:
        """The same stills with other parameters."""
        job = copy(self)
        job.unknowns = unknowns
        return job

    def evaluate(self, at: np.ndarray) -> Blocks:
        """Value, slope and curvature of all stills."""

        known = self._tangents_of_all(at)

        def one(number: int) -> Normal:
            parameters = (*self.unknowns.shared, *self.unknowns.own[number])
            values, observed = self.unknowns.of(number, at), self._observed[number]
            return self.prepared[number].normal(parameters, values, observed, known)

        numbers = range(len(self.prepared))
        found = list(map(one, numbers)) if self.pool is None else list(self.pool.map(one, numbers))
        n = len(self.unknowns.shared)
        gradient = np.zeros(n + sum(len(part) for part in self.unknowns.own))
        shared, first = np.zeros((n, n)), n
        for normal in found:
            m = len(normal.gradient) - n
            gradient[:n] += normal.gradient[:n]
            gradient[first : first + m] = normal.gradient[n:]
            shared += normal.matrix[:n, :n]
            first += m
        return Blocks(
            sum(normal.value for normal in found),
            gradient,
            shared,
            tuple(normal.matrix[n:, n:] for normal in found),
            tuple(normal.matrix[:n, n:] for normal in found),
        )

    def _tangents_of_all(self, at: np.ndarray) -> dict[str, Tangent]:
        """Tangents of shared parameters of the detector and the sources, where these are the same in all stills."""
        kinds = {PANELS, SOURCES}
        common = tuple(one for one in self.unknowns.shared if one.family.changes in kinds)
        first = self.prepared[0]
        if len(self.prepared) == 1 or not common or not all(first.stands_as(one) for one in self.prepared[1:]):
            return {}
        if any(one.family.changes in kinds for part in self.unknowns.own for one in part):
            return {}
        if any(one.experiment.crystal.mosflm_matrix is not None for one in self.prepared):  # counts in wavelengths
            return {}
        values = self.unknowns.of(0, at)
        tangents = tangents_of(first.experiment, common, values, oversample=first.plan.oversample)
        return {one.name: tangent for one, tangent in zip(common, tangents, strict=True)}

    def models(self, at: np.ndarray) -> list[np.ndarray]:
        """Photons expected of every still."""
        return [one.model(self.unknowns.of(i, at)) for i, one in enumerate(self.prepared)]


def _coarsely(
    job: _Job, rules: Rules, at: np.ndarray, progress: Callable[[int, float], None] | None
) -> tuple[np.ndarray, int]:
    """A start for what follows: spots without fringes, of a smaller crystal, and every pixel counting alike.

    Such spots reach those that were seen where small ones do not yet, and have no minima between fringes. First they
    keep their width, and go where they were seen; then numbers of cells and mosaic spreads follow. Where photons are
    not free, a factor that is forgotten stands for what the spots' size changes.
    """
    rows = job.unknowns.listed()
    shapes = {one.experiment.crystal.shape for one in job.prepared}
    if "tophat" in shapes or not any(_places_spots(one) for one, _ in rows):
        return at, 0
    smaller = [one.with_shape("gauss", _PART_OF_COARSE, _SPOTS_OF_COARSE) for one in job.prepared]
    alike = [np.full(one.data.shape, _mean_of_photons(one)) for one in smaller]
    forgotten = not any(one.family.key in _OF_PHOTONS for one, _ in rows)
    own = job.unknowns.own
    if forgotten:
        own = tuple((*part, *find_parameters(one.experiment, "scale")) for one, part in zip(smaller, own, strict=True))
    everything = Unknowns(job.unknowns.shared, own)
    rough = _Job(smaller, everything, "gaussian", job.pool, alike)
    listed = everything.listed()
    asked = np.array([not forgotten or one.name != "scale" for one, _ in listed])
    bounds, start = Rules.none(len(listed)), everything.start
    bounds.low[asked], bounds.high[asked], start[asked] = rules.low, rules.high, at
    bounds.positive[:] = [one.family.key in _POSITIVE for one, _ in listed]
    counts = np.array([one.family.key == "crystal.cell_counts" for one, _ in listed])
    start[counts] = np.maximum(_PART_OF_COARSE * start[counts], bounds.low[counts])
    evaluations = 0
    for left_out in [_OF_WIDTH, set()] if any(one.family.key in _OF_WIDTH for one, _ in listed) else [set()]:
        unknowns, which = everything.without(left_out)
        stage = rough.of(unknowns)
        found = minimise(
            stage.evaluate,
            start[which],
            bounds.only(which),
            most_steps=40,
            tolerance=1e-2,
            part=1e-3,
            progress=progress,
        )
        start[which] = found.at
        evaluations += found.evaluations
    return start[asked], evaluations


def _places_spots(one: Parameter) -> bool:
    """Whether a parameter says where spots are, or which of them show."""
    return one.family.moves_spots and one.family.key not in _OF_WIDTH


#: Part of the cells that crystals of the coarse stage have along each axis.
_PART_OF_COARSE = 0.5

#: Spots whose boxes it looks at, where there are boxes.
_SPOTS_OF_COARSE = 300


def _mean_of_photons(still: Prepared) -> float:
    """Photons of the pixel that a photon above the background is in, on average: what strong spots have."""
    above = np.where(still.good, np.maximum(still.data - still.background, 0.0), 0.0)
    total = float(above.sum())
    return max(float(np.square(above).sum()) / total, 1e-6) if total > 0.0 else 1.0


def _robustly(
    job: _Job,
    rules: Rules,
    at: np.ndarray,
    robust: str,
    progress: Callable[[int, float], None] | None,
    options: _Options,
) -> tuple[Minimum, int]:
    """Least squares that weigh pixels anew until nothing moves: what is far from the model counts less (eq. 70)."""
    evaluations, turn = 0, _TURN[robust]
    for _ in range(_MOST_WEIGHINGS):
        variances = []
        for still, model in zip(job.prepared, job.models(at), strict=True):
            variance = still.variance + (model if job.likelihood != "gaussian" else 0.0)
            off = np.abs(still.data - model) / np.sqrt(variance)
            if robust == "huber":
                weight = np.minimum(1.0, turn / np.maximum(off, turn))
            else:
                weight = 1.0 / (1.0 + (off / turn) ** 2)
            variances.append(variance / weight)

        weighed = _Job(job.prepared, job.unknowns, "gaussian", job.pool, variances)
        found = minimise(weighed.evaluate, at, rules, progress=progress, **options._asdict())
        evaluations += found.evaluations
        step = found.at - at
        at = found.at
        if found.blocks.curvature(step) < _STILL**2:
            break
    return found, evaluations


# --- what came out -------------------------------------------------------------------------------


def _result(job: _Job, found: Minimum, evaluations: int, rules: Rules) -> Refinement:
    rows, at = job.unknowns.listed(), found.at
    n = len(job.unknowns.shared)
    covariances = found.blocks.covariances()
    sigmas = np.zeros(len(rows))
    for part, covariance in zip(found.blocks.parts, covariances, strict=True):
        deviations = np.sqrt(np.diag(covariance))
        sigmas[:n], sigmas[part] = deviations[:n], deviations[n:]
    chi_square, pixels = 0.0, 0
    for still, model in zip(job.prepared, job.models(at), strict=True):
        counted = still.counted
        variance = still.variance + (model if job.likelihood != "gaussian" else 0.0)
        chi_square += float((np.square(still.data - model) / variance)[counted].sum())
        pixels += int(counted.sum())
    values = tuple(job.unknowns.of(i, at) for i in range(len(job.prepared)))
    experiments = tuple(moved(one.experiment, v)[0] for one, v in zip(job.prepared, values, strict=True))
    several = len(experiments) > 1
    fitted = tuple(
        Fitted(
            name=one.name,
            unit=one.unit,
            still=still if several else None,
            start=one.value,
            value=float(at[i]),
            sigma=float(sigmas[i]),
            at_bound=bool(found.bound[i]),
        )
        for i, (one, still) in enumerate(rows)
    )
    return Refinement(
        experiments=experiments,
        fitted=fitted,
        correlations=tuple(correlation_of(covariance) for covariance in covariances),
        value=found.blocks.value,
        chi_square=chi_square,
        pixels=pixels,
        history=found.history,
        evaluations=evaluations,
        converged=found.converged,
        reason=found.reason,
        likelihood=job.likelihood,
        notes=_notes(fitted, found),
        _stills=job.prepared,
        _values=values,
    )


def _notes(fitted: Sequence[Fitted], found: Minimum) -> tuple[str, ...]:
    notes = []
    loose = [one.label for one in fitted if math.isinf(one.sigma)]
    if loose:
        shown = ", ".join(loose[:5]) + (" and others" if len(loose) > 5 else "")
        notes.append(f"the data do not determine {shown}: fix one of those that act alike, or give a prior")
    bound = [one.label for one in fitted if one.at_bound]
    if bound:
        notes.append(f"{', '.join(bound[:5])} ended at a bound: its uncertainty is that of a free parameter")
    if not found.converged:
        notes.append(f"it has not converged: {found.reason}")
    return tuple(notes)


def check_experiments(experiment: Any, data: Any) -> tuple[list[Experiment], list[Any]]:
    """Experiments and data, one of each a still; one experiment may stand for all stills."""
    many = isinstance(experiment, (list, tuple))
    experiments = list(experiment) if many else [experiment]
    frames = list(data) if many or isinstance(data, (list, tuple)) or np.ndim(data) == 3 else [data]
    if len(experiments) == 1:
        experiments *= len(frames)
    if not frames or len(experiments) != len(frames):
        rule = f"must be as many as the experiments, {len(experiments)}"
        raise InputError("data", rule, len(frames), "one frame (slow, fast) each")
    return experiments, frames
