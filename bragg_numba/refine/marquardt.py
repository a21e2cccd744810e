"""Levenberg and Marquardt's minimiser on normal equations: bounds, priors and linear restraints."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from bragg_numba.errors import InputError
from bragg_numba.refine.blocks import Blocks, WithReflections

#: What a minimiser needs of a value: its slope and curvature.
Curved = Blocks | WithReflections

#: Damping of the first step, and beyond which no step is found any more; the diagonal's unit is 1.
_FIRST_DAMPING, _MOST_DAMPING = 1e-3, 1e12

#: Least part of the predicted decrease that a step must bring.
_LEAST_GAIN = 1e-4

#: Most factor of a step of a positive parameter.
_MOST_FACTOR = 4.5

#: Relative rounding of values: decreases below are noise.
_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class Restraint:
    """A soft linear rule: ``sum(factors * parameters[where])`` is ``target`` within ``sigma``."""

    where: tuple[int, ...]
    factors: tuple[float, ...]
    target: float
    sigma: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What is known of the parameters beforehand; arrays float64 (n,)."""

    low: np.ndarray  #: bounds, -inf for none
    high: np.ndarray
    centre: np.ndarray  #: of priors
    sigma: np.ndarray  #: of priors, inf for none
    positive: np.ndarray  #: bool, those whose steps are factors: photons, numbers of cells
    restraints: tuple[Restraint, ...] = ()
    many: int = 0  #: the last ones, of which none holds up a step: reflections

    @classmethod
    def none(cls, n: int) -> Rules:
        """No rules for ``n`` parameters."""
        inf = np.full(n, math.inf)
        return cls(low=-inf, high=inf, centre=np.zeros(n), sigma=inf.copy(), positive=np.zeros(n, dtype=bool))

    def beside(self, low: np.ndarray, high: np.ndarray) -> Rules:
        """With as many positive parameters more as these bounds (r,), of which none holds up a step."""
        r = len(low)
        return replace(
            self,
            low=np.concatenate([self.low, low]),
            high=np.concatenate([self.high, high]),
            centre=np.concatenate([self.centre, np.zeros(r)]),
            sigma=np.concatenate([self.sigma, np.full(r, math.inf)]),
            positive=np.concatenate([self.positive, np.ones(r, dtype=bool)]),
            many=r,
        )

    def only(self, which: np.ndarray) -> Rules:
        """Those of some of the parameters, bool (n,); restraints of others with them are left out."""
        place = np.cumsum(which) - 1
        return Rules(
            low=self.low[which],
            high=self.high[which],
            centre=self.centre[which],
            sigma=self.sigma[which],
            positive=self.positive[which],
            restraints=tuple(
                replace(one, where=tuple(int(place[i]) for i in one.where))
                for one in self.restraints
                if all(which[i] for i in one.where)
            ),
        )

    def add_to(self, blocks: Curved, at: np.ndarray) -> Curved:
        """Blocks with priors and restraints at the parameters ``at`` added (eq. 68)."""
        if isinstance(blocks, WithReflections):
            return replace(blocks, blocks=self._added(blocks.blocks, at))
        return self._added(blocks, at)

    def _added(self, blocks: Blocks, at: np.ndarray) -> Blocks:
        value = blocks.value
        own = {i: (k, i - part.start) for k, part in enumerate(blocks.parts) for i in range(part.start, part.stop)}
        listed = [Restraint((i,), (1.0,), self.centre[i], s) for i, s in enumerate(self.sigma) if s < math.inf]
        gradient, shared = blocks.gradient.copy(), blocks.shared.copy()
        owned, crossed = [m.copy() for m in blocks.own], [m.copy() for m in blocks.cross]
        for rule in (*listed, *self.restraints):
            off = (sum(f * at[i] for i, f in zip(rule.where, rule.factors, strict=True)) - rule.target) / rule.sigma
            value += 0.5 * off * off
            for i, f in zip(rule.where, rule.factors, strict=True):
                gradient[i] += off * f / rule.sigma
                for j, g in zip(rule.where, rule.factors, strict=True):
                    weight = f * g / rule.sigma**2
                    if i in own and j in own:
                        if own[i][0] != own[j][0]:
                            raise InputError("restraints", "must not tie own parameters of two stills", (i, j))
                        owned[own[i][0]][own[i][1], own[j][1]] += weight
                    elif j in own:
                        crossed[own[j][0]][i, own[j][1]] += weight
                    elif i not in own:
                        shared[i, j] += weight
        return Blocks(value, gradient, shared, tuple(owned), tuple(crossed))


@dataclass(frozen=True, slots=True, kw_only=True)
class Minimum:
    """Where a minimisation ended."""

    at: np.ndarray  #: float64 (n,)
    blocks: Curved  #: there, priors and restraints included
    history: tuple[float, ...]  #: the value after each accepted step, the start's first
    evaluations: int
    converged: bool
    reason: str  #: a clause: why it stopped
    bound: np.ndarray  #: bool (n,), parameters that ended at a bound


def minimise(
    evaluate: Callable[[np.ndarray], Curved],
    start: np.ndarray,
    rules: Rules | None = None,
    *,
    most_steps: int = 50,
    tolerance: float = 1e-5,
    part: float = _ROUNDING,
    progress: Callable[[int, float], None] | None = None,
) -> Minimum:
    """Find the minimum of a function whose slope and expected curvature are known (eq. 69).

    A step solves ``(H + damping * diag H) step = -gradient``. It is taken where the value falls by a part of what the
    quadratic promises; the damping follows how well that was kept (Nielsen, 1999). Parameters at a bound that the
    slope pushes outwards stay there for the step. Positive parameters go by their logarithms: what is a power of one,
    as a spot's height is of the number of cells, is straight there.

    Parameters
    ----------
    evaluate
        Value, slope and curvature at parameters float64 (n,). It may raise InputError where parameters make no sense:
        such a step is not taken.
    start
        Where to begin; moved into the bounds.
    rules
        Bounds, priors and restraints.
    most_steps
        Steps at most, taken or not.
    tolerance
        It has converged where a whole step promises to lower the value by less than this: of minus a log-likelihood,
        1e-5 is a step of some thousandths of the standard deviations.
    part
        It has converged, too, where a whole step promises to lower the value by less than this part of it.
    progress
        Called with the number of steps and the value after each that was taken.

    Raises
    ------
    InputError
        If the start itself cannot be evaluated, or its value is not finite.
    """
    rules = Rules.none(len(start)) if rules is None else rules
    at = np.clip(np.asarray(start, dtype=np.float64), rules.low, rules.high)
    blocks = rules.add_to(evaluate(at), at)
    if not math.isfinite(blocks.value) or not np.isfinite(blocks.gradient).all():
        raise InputError("the start", "must have a finite likelihood", blocks.value)
    history, evaluations = [blocks.value], 1
    damping, growth = _FIRST_DAMPING, 2.0
    reason, converged = f"took {most_steps} steps", False
    largest = np.zeros(len(at))
    for count in range(1, most_steps + 1):
        logarithmic = rules.positive & (at > 0.0)
        unit = np.where(logarithmic, at, 1.0)
        largest = np.maximum(largest, blocks.diagonal * unit**2)
        fixed = ((at <= rules.low) & (blocks.gradient > 0.0)) | ((at >= rules.high) & (blocks.gradient < 0.0))
        scale = np.where(largest > 0.0, unit / np.sqrt(np.where(largest > 0.0, largest, 1.0)), 0.0)
        step = _step(blocks, scale, damping, fixed)
        # What a step without damping would bring: a small damped step is no sign of a minimum.
        enough = max(tolerance, part * abs(blocks.value))
        if damping <= 1.0 and _promise(blocks, step) <= enough:
            reason, converged = "the next step would change nothing", True
            break
        trial, step = _moved(at, step, logarithmic, rules)
        promised = _promise(blocks, step)
        found, gain = None, -1.0
        if promised > 0.0:  # a step that a bound cuts short may lead upwards
            found, evaluations = _try(evaluate, rules, trial), evaluations + 1
        if found is not None:
            gain = (blocks.value - found.value) / promised
        if found is None or not gain > _LEAST_GAIN:
            damping, growth = damping * growth, growth * 2.0
            if 0.0 < promised <= enough:
                reason, converged = "no step within rounding lowers the value", True
                break
            if damping > _MOST_DAMPING:
                reason = "no step lowers the value"
                break
            continue
        damping, growth = max(damping * max(1.0 / 3.0, 1.0 - (2.0 * gain - 1.0) ** 3), 1e-12), 2.0
        at, blocks = trial, found
        history.append(blocks.value)
        if progress is not None:
            progress(count, blocks.value)
    bound = (at <= rules.low) | (at >= rules.high)
    return Minimum(
        at=at,
        blocks=blocks,
        history=tuple(history),
        evaluations=evaluations,
        converged=converged,
        reason=reason,
        bound=bound,
    )


def _step(blocks: Curved, scale: np.ndarray, damping: float, fixed: np.ndarray) -> np.ndarray:
    """The damped step; where rounding makes a block singular, one with more damping."""
    while True:
        try:
            step = blocks.scaled(scale, damping, fixed).solve() * scale
            if np.isfinite(step).all():
                return np.where(fixed, 0.0, step)
        except np.linalg.LinAlgError:
            pass
        damping = max(10.0 * damping, 1e-10)


def _promise(blocks: Curved, step: np.ndarray) -> float:
    """By how much the quadratic falls along a step."""
    return -float(blocks.gradient @ step + 0.5 * blocks.curvature(step))


def _moved(at: np.ndarray, step: np.ndarray, logarithmic: np.ndarray, rules: Rules) -> tuple[np.ndarray, np.ndarray]:
    """Where a step ends, inside the bounds, and the step that leads there on straight lines and logarithms."""
    turns, most = np.where(logarithmic, step / np.where(logarithmic, at, 1.0), 0.0), math.log(_MOST_FACTOR)
    few = len(at) - rules.many
    turns[few:] = np.clip(turns[few:], -most, most)
    # A step of more than a factor of _MOST_FACTOR is one too far: all are shorter.
    shorter = min(1.0, most / max(float(np.abs(turns[:few]).max(initial=0.0)), 1e-300))
    trial = np.where(logarithmic, at * np.exp(shorter * turns), at + shorter * step)
    trial = np.clip(trial, rules.low, rules.high)
    factor = np.where(logarithmic, trial / np.where(logarithmic, at, 1.0), 1.0)
    return trial, np.where(logarithmic, at * np.log(np.maximum(factor, 1e-300)), trial - at)


def _try(evaluate: Callable[[np.ndarray], Curved], rules: Rules, at: np.ndarray) -> Curved | None:
    """The blocks at a trial; None where it makes no sense."""
    try:
        blocks = rules.add_to(evaluate(at), at)
    except InputError:
        return None
    finite = math.isfinite(blocks.value) and np.isfinite(blocks.gradient).all()
    return blocks if finite else None
