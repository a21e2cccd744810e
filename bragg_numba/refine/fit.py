"""The refinement itself: what is free, what is known beforehand, the stages, and the errors."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import csr_array, vstack

from bragg_numba import checks as check
from bragg_numba.errors import InputError
from bragg_numba.experiment import Experiment
from bragg_numba.plan.plan import make_plan
from bragg_numba.refine.blocks import Blocks, WithReflections
from bragg_numba.refine.marquardt import Curved, Minimum, Restraint, Rules, minimise
from bragg_numba.refine.result import Fitted, Refinement, correlation_of
from bragg_numba.refine.still import Prepared, Still, prepare
from bragg_numba.slopes.differences import tangents_of
from bragg_numba.slopes.families import PANELS, SOURCES, free_constants
from bragg_numba.slopes.parameters import WORDS, Parameter, find_parameters, moved
from bragg_numba.slopes.pixels import LIKELIHOODS
from bragg_numba.slopes.slopes import Normal
from bragg_numba.slopes.tangents import F2, Tangent

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
    reflections: bool = False  #: whether all share |F|^2 of a table, whose values stand last

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

    def with_reflections(self) -> tuple[Unknowns, np.ndarray]:
        """With |F|^2, and without the photons of the first still, which act as these; bool (n,): which are left."""
        first = tuple(one for one in self.own[0] if one.family.key not in _OF_PHOTONS)
        kept = [still != 0 or one.family.key not in _OF_PHOTONS for one, still in self.listed()]
        return Unknowns(self.shared, (first, *self.own[1:]), reflections=True), np.array(kept, dtype=bool)

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
    shared_names = _listed(shared)
    of_factors = [name for name in shared_names if name in ("F2", F2)]
    others = [name for name in shared_names if name not in of_factors]
    if of_factors and not others and not _listed(free):
        unknowns = Unknowns((), ((),) * len(prepared))
    else:
        unknowns = find_unknowns(prepared, free, others)
    if of_factors:
        _check_factors(prepared, unknowns, robust)
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
        if of_factors:
            job, rules, at = _with_factors(job, rules, at)
            found = minimise(job.evaluate, at, rules, progress=tell("fine"), **options._asdict())
            evaluations += found.evaluations + 1
        elif robust is None:
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
            hint = "name it in shared, or take bragg_numba.refine.refine_factors"
            raise InputError(F2, "must be shared by all stills", hint=hint)
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

    def evaluate(self, at: np.ndarray) -> Curved:
        """Value, slope and curvature of all stills."""
        prepared, known = self.at_factors(at), self._tangents_of_all(at)
        reflections = self.unknowns.reflections

        def one(number: int) -> Normal:
            parameters = (*self.unknowns.shared, *self.unknowns.own[number])
            values, observed = self.unknowns.of(number, at), self._observed[number]
            return prepared[number].normal(parameters, values, observed, known, reflections=reflections)

        numbers = range(len(prepared))
        found = list(map(one, numbers)) if self.pool is None else list(self.pool.map(one, numbers))
        blocks = _blocks_of(found, len(self.unknowns.shared))
        return _reflections_of(found, blocks) if reflections else blocks

    def at_factors(self, at: np.ndarray) -> tuple[Prepared, ...]:
        """The stills, with |F|^2 of a vector of all parameters where they share it."""
        if not self.unknowns.reflections:
            return self.prepared
        first = self.prepared[0]
        factors = first.experiment.structure_factors
        assert factors.amplitudes is not None
        changed = factors.replace(amplitudes=np.sqrt(at[len(at) - len(factors.amplitudes) :]))
        _, table = make_plan(first.experiment.replace(structure_factors=changed), like=first.plan).intact_table
        return tuple(one.with_factors(changed, table) for one in self.prepared)

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
        return [one.model(self.unknowns.of(i, at)) for i, one in enumerate(self.at_factors(at))]


def _blocks_of(found: Sequence[Normal], n: int) -> Blocks:
    """The blocks of stills whose first n parameters are shared."""
    gradient = np.zeros(n + sum(len(normal.gradient) - n for normal in found))
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


def _reflections_of(found: Sequence[Normal], blocks: Blocks) -> WithReflections:
    """Blocks with those of the reflections that all stills share."""
    n, parts = len(blocks.shared), [normal.reflections for normal in found if normal.reflections is not None]
    shared = np.sum([part.cross[:n] for part in parts], axis=0)
    return WithReflections(
        blocks,
        np.sum([part.gradient for part in parts], axis=0),
        np.sum([part.weight for part in parts], axis=0),
        csr_array(vstack([csr_array(shared), *(csr_array(part.cross[n:]) for part in parts)])),
    )


def _check_factors(prepared: Sequence[Prepared], unknowns: Unknowns, robust: str | None) -> None:
    """Refuse what cannot be refined beside structure factors."""
    find_parameters(prepared[0].experiment, F2)
    factors = prepared[0].experiment.structure_factors
    if not all(one.experiment.structure_factors == factors for one in prepared[1:]):
        raise InputError("stills", "must have the same structure factors to share |F|^2")
    for one in unknowns.shared:
        if one.family.key in _OF_PHOTONS:
            raise InputError(one.name, "must not be shared beside |F|^2, which acts as it does")
    if robust is not None:
        raise InputError("robust", "must be None where |F|^2 is refined", robust)


def _with_factors(job: _Job, rules: Rules, at: np.ndarray) -> tuple[_Job, Rules, np.ndarray]:
    """The job, rules and start with |F|^2, of which that stays of which the data do not know the order of magnitude."""
    unknowns, kept = job.unknowns.with_reflections()
    factors = job.prepared[0].experiment.structure_factors
    assert factors.amplitudes is not None
    squares = np.square(factors.amplitudes.astype(np.float64))
    photons = np.array([one.family.key in _OF_PHOTONS for one, _ in job.unknowns.listed()], dtype=bool)
    if (held := photons & ~kept).any():  # what the first still's photons have become is now part of |F|^2
        grown = float(at[held][0] / job.unknowns.start[held][0])
        at, squares = np.where(photons, at / grown, at), squares * grown
    start = np.concatenate([at[kept], squares])
    together = job.of(unknowns)
    found = together.evaluate(start)
    assert isinstance(found, WithReflections)
    told = found.weight * squares**2 >= _LEAST_KNOWN
    high = np.where(told, math.inf, squares)
    return together, rules.only(kept).beside(np.where(told, 0.0, squares), high), start


#: Information, one over a variance, that data must have of the logarithm of an |F|^2.
_LEAST_KNOWN = 1.0


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
    for i, (one, still) in enumerate(listed):  # a spot's photons go with the scale and the number of cells
        if one.family.key in _OF_PHOTONS and not counts.any():
            start[i] *= np.prod(
                np.divide(smaller[still or 0].plan.cell_counts, job.prepared[still or 0].plan.cell_counts)
            )
    start[asked] = np.clip(start[asked], rules.low, rules.high)
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
    n, prepared = len(job.unknowns.shared), job.at_factors(found.at)
    factor_sigmas, blocks = None, found.blocks
    if isinstance(blocks, WithReflections):
        covariances, variances = blocks.covariances()
        blocks = blocks.blocks
        squares, held = at[len(rows) :], (rules.low == rules.high)[len(rows) :]
        with np.errstate(divide="ignore", invalid="ignore"):
            factor_sigmas = np.where(held | (squares <= 0.0), np.inf, 0.5 * np.sqrt(variances / squares))
    else:
        covariances = blocks.covariances()
    sigmas = np.zeros(len(rows))
    for part, covariance in zip(blocks.parts, covariances, strict=True):
        deviations = np.sqrt(np.diag(covariance))
        sigmas[:n], sigmas[part] = deviations[:n], deviations[n:]
    values = tuple(job.unknowns.of(i, at) for i in range(len(prepared)))
    chi_square, pixels = 0.0, 0
    for still, mine in zip(prepared, values, strict=True):
        model, counted = still.model(mine), still.counted
        variance = still.variance + (model if job.likelihood != "gaussian" else 0.0)
        chi_square += float((np.square(still.data - model) / variance)[counted].sum())
        pixels += int(counted.sum())
    experiments = tuple(moved(one.experiment, v)[0] for one, v in zip(prepared, values, strict=True))
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
        factor_sigmas=factor_sigmas,
        _stills=prepared,
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
