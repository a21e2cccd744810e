"""An image as a function of parameters, with its slopes: what the adapters of other frameworks wrap."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from bragg_numba import checks as check
from bragg_numba.errors import InputError
from bragg_numba.experiment import Experiment
from bragg_numba.plan.plan import make_plan
from bragg_numba.slopes.differences import tangents_of
from bragg_numba.slopes.parameters import find_parameters, frozen, plan_at
from bragg_numba.slopes.pixels import Pixels
from bragg_numba.slopes.slopes import PRECISIONS, Slopes
from bragg_numba.slopes.tangents import F2


class ImageFunction:
    """Photons of an experiment's pixels as a function of some of its parameters; sub-pixels and steps are frozen.

    Parameters
    ----------
    experiment
        Whose image it is; values of relative parameters count from it.
    parameters
        Names and words, as ``Simulator.slopes`` takes them, of numbers: not ``structure_factors.F2``.
    precision
        ``"float64"``, or ``"tile"``: terms in float32.
    threads
        CPU threads; None: all.
    """

    def __init__(
        self,
        experiment: Experiment,
        parameters: str | Iterable[str],
        *,
        precision: str = "float64",
        threads: int | None = None,
    ) -> None:
        self._plan = make_plan(experiment)
        self.experiment = frozen(self._plan)
        self._parameters = find_parameters(self.experiment, parameters)
        if any(one.name == F2 for one in self._parameters):
            raise InputError(F2, "is not a number", hint="Simulator.slopes has its gradient: pull")
        self._pixels = Pixels(self._plan)
        self._precision, self._threads = check.choice("precision", precision, PRECISIONS), threads

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parameters, in their order."""
        return tuple(one.name for one in self._parameters)

    @property
    def start(self) -> np.ndarray:
        """The experiment's own values, float64 (n,)."""
        return np.array([one.value for one in self._parameters])

    @property
    def shape(self) -> tuple[int, int]:
        """(slow, fast) pixels."""
        return self._plan.shape

    def slopes(self, values: np.ndarray) -> Slopes:
        """Slopes where the parameters have these values."""
        given = np.asarray(values, dtype=np.float64)
        if given.shape != (len(self._parameters),):
            raise InputError("values", f"must be {len(self._parameters)} numbers, one a parameter", given.shape)
        at = dict(zip(self.names, given.tolist(), strict=True))
        plan = plan_at(self.experiment, at, self._plan)
        tangents = tangents_of(self.experiment, self._parameters, at, oversample=plan.oversample)
        by_name = dict(zip(self.names, tangents, strict=True))
        return Slopes(plan, by_name, pixels=self._pixels, precision=self._precision, threads=self._threads)

    def image(self, values: np.ndarray) -> np.ndarray:
        """Photons, float64 (slow, fast)."""
        return np.asarray(self.slopes(values).image(), dtype=np.float64)

    def push(self, values: np.ndarray, direction: np.ndarray) -> np.ndarray:
        """The image's slope along a direction of the parameters, float64 (slow, fast)."""
        return np.asarray(self.slopes(values).push(np.asarray(direction, dtype=np.float64).tolist()), dtype=np.float64)

    def pull(self, values: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """The gradient of sum(weights * image), float64 (n,)."""
        found = self.slopes(values).pull(np.asarray(weights, dtype=np.float64))
        return np.array([found[name] for name in self.names])
