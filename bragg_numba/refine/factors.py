"""Structure factors from many stills: |F|^2 of each reflection from the photons of its spots."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bragg_numba import checks as check
from bragg_numba.errors import InputError
from bragg_numba.experiment import StructureFactors
from bragg_numba.plan.plan import make_plan
from bragg_numba.refine.still import Prepared, Still, prepare
from bragg_numba.slopes.slopes import Slopes
from bragg_numba.slopes.tangents import F2

#: Photons of a reflection, on all stills together, below which its amplitude is left as it is.
LEAST_PHOTONS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedFactors:
    """Structure factors after ``refine_factors``.

    Attributes
    ----------
    structure_factors
        With new amplitudes; reflections of which less than a photon is expected have their old ones, and those that are
        expected but do not show have 0.
    sigma
        float64 (n,), standard deviations of the amplitudes by the photons of their spots, in the order of the
        reflections; inf where nothing was seen.
    photons
        float64 (n,), photons that each reflection explains.
    steps
        How often all were made anew.
    change
        Largest relative change of an amplitude in the last step, of those that 100 photons explain.
    """

    structure_factors: StructureFactors
    sigma: np.ndarray
    photons: np.ndarray
    steps: int
    change: float


def refine_factors(
    stills: Sequence[Still],
    *,
    friedel: bool = False,
    steps: int = 20,
    tolerance: float = 1e-3,
    boxes: str | int | None = "auto",
    threads: int | None = None,
    progress: Callable[[int, float], None] | None = None,
) -> FittedFactors:
    """Fit |F|^2 of every reflection to stills whose geometry and scale are known: Poisson's likelihood.

    Each step multiplies |F|^2 by what was seen over what is expected, shared out among the reflections of a pixel as
    they bring its photons (expectation and maximisation: the likelihood never falls). Spots that do not overlap are
    done after one step where there is no background. Alternate with ``refine`` where stills are not known yet.

    Parameters
    ----------
    stills
        All with the same structure factors: a table.
    friedel
        (h, k, l) and (-h, -k, -l) have the same amplitude.
    steps, tolerance
        At most so many, and the relative change of amplitudes at which they end.
    boxes, threads, progress
        As ``refine`` takes them; ``progress`` gets the step and the change.

    Raises
    ------
    InputError
        If stills have different structure factors, or these are interpolated.
    """
    stills = [stills] if isinstance(stills, Still) else list(stills)
    if not stills or not all(isinstance(one, Still) for one in stills):
        raise InputError("stills", "must be a list of Still, one at least", stills)
    factors = stills[0].experiment.structure_factors
    if factors.indices is None or factors.amplitudes is None:
        raise InputError(F2, "needs a table of structure factors", hint="structure_factors.default_F is one number")
    if not all(one.experiment.structure_factors == factors for one in stills[1:]):
        raise InputError("stills", "must have the same structure factors")
    steps = check.count("steps", steps, low=1)
    check.number("tolerance", tolerance, above=0.0)
    prepared = prepare(stills, boxes=boxes, threads=threads)
    if any((one.data[one.good] < 0.0).any() for one in prepared):
        raise InputError("data", "must not be negative where they are Poisson's")
    mates = _mates(factors.indices) if friedel else None
    squares = np.square(factors.amplitudes.astype(np.float64))
    known = np.zeros(len(squares), dtype=np.bool_)
    done, change = 0, np.inf
    while done < steps and change > tolerance:
        seen, expected = np.zeros(len(squares)), np.zeros(len(squares))
        for one in prepared:
            more, awaited = _sums(one, _with(factors, squares))
            seen += more
            expected += awaited
        if mates is not None:
            both = mates != np.arange(len(mates))
            seen, expected = seen + both * seen[mates], expected + both * expected[mates]
        photons = squares * seen
        if done == 0:
            known = squares * expected >= LEAST_PHOTONS
        shown = known & (expected > 0.0)
        ratio = np.where(shown, seen / np.where(shown, expected, 1.0), 1.0)
        squares = squares * ratio
        sure = known & (photons > 100.0)
        change = float(np.abs(np.sqrt(ratio[sure]) - 1.0).max(initial=0.0))
        done += 1
        if progress is not None:
            progress(done, change)
    amplitudes = np.sqrt(squares)
    sigma = np.where(known & (photons > 0.0), 0.5 * amplitudes / np.sqrt(np.maximum(photons, 1e-300)), np.inf)
    return FittedFactors(
        structure_factors=_with(factors, squares), sigma=sigma, photons=photons, steps=done, change=change
    )


def _with(factors: StructureFactors, squares: np.ndarray) -> StructureFactors:
    return factors.replace(amplitudes=np.sqrt(squares))


def _sums(one: Prepared, factors: StructureFactors) -> tuple[np.ndarray, np.ndarray]:
    """Over the pixels of a still, sums of each reflection's photons per |F|^2: times data over model, and alone."""
    plan = make_plan(one.experiment.replace(structure_factors=factors), like=one.plan)
    slopes = Slopes(plan, {F2: None}, pixels=one.pixels, surroundings=one.surroundings, threads=one.threads)
    model = slopes.image() + one.background
    return slopes.pull(one.data / model)[F2], slopes.pull(np.ones(plan.shape))[F2]


def _mates(indices: np.ndarray) -> np.ndarray:
    """Where each reflection's Friedel mate stands; its own place where it has none."""
    places = {tuple(hkl): i for i, hkl in enumerate(indices.tolist())}
    return np.array([places.get((-h, -k, -m), i) for i, (h, k, m) in enumerate(indices.tolist())])


def with_factors(stills: Sequence[Still], factors: StructureFactors) -> list[Still]:
    """The same stills with other structure factors."""
    return [replace(one, experiment=one.experiment.replace(structure_factors=factors)) for one in stills]
