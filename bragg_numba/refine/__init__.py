"""Refinement: the parameters of stills fitted to their data (docs/refine.md).

The package is a function, too: ``bragg_numba.refine(experiment, data, free="orientation,cell,scale")``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import ModuleType
from typing import Any

from bragg_numba.refine.factors import FittedFactors, refine_factors, with_factors
from bragg_numba.refine.fit import check_experiments, fit, restrain_cell
from bragg_numba.refine.result import Fitted, Refinement, read_experiments
from bragg_numba.refine.still import Still

__all__ = [
    "Fitted",
    "FittedFactors",
    "Refinement",
    "Still",
    "read_experiments",
    "refine",
    "refine_factors",
    "restrain_cell",
    "with_factors",
]


def refine(
    experiment: Any,
    data: Any = None,
    free: str | Iterable[str] = "orientation,cell,scale",
    *,
    shared: str | Iterable[str] = (),
    likelihood: str = "poisson",
    variance: Any = 0.0,
    background: Any = None,
    mask: Any = None,
    bounds: Mapping[str, Sequence[float | None]] | None = None,
    priors: Mapping[str, Any] | None = None,
    restraints: Iterable[tuple[Mapping[str, float], float, float]] = (),
    robust: str | None = None,
    coarse: bool = True,
    boxes: str | int | None = "auto",
    most_steps: int = 50,
    tolerance: float = 1e-5,
    threads: int | None = None,
    workers: int = 1,
    progress: Callable[[str, int, float], None] | None = None,
) -> Refinement:
    """Fit parameters of experiments to what was seen: Levenberg and Marquardt on the normal equations.

    Parameters
    ----------
    experiment
        Where to start: an Experiment, a list of them (a still each), or a list of ``Still``, which then hold the data.
    data
        (slow, fast) photons, or counts of a gain of 1; of several stills a list, or (stills, slow, fast).
    free
        Parameters that each still has for itself: dotted fields or words, which docs/refine.md lists.
    shared
        Parameters that all stills have in common: those of the detector, say, and ``"F2"``: those of all reflections.
    likelihood
        ``"poisson"``; ``"model"``: Gaussian with the variance that the model expects, read-out added; ``"gaussian"``:
        with ``variance``.
    variance
        Of the read-out, photons^2; with ``"gaussian"`` that of the data. A number or (slow, fast).
    background
        Photons besides the crystal's: a number, (slow, fast), ``"local"``, or None: the experiment's own.
    mask
        bool (slow, fast): True where a pixel counts.
    bounds
        (low, high) by name, None for no bound.
    priors
        By name a standard deviation about the start, or (centre, standard deviation).
    restraints
        ({name: factor, ...}, target, standard deviation) each: a linear sum that is known. ``restrain_cell`` makes
        those of a crystal system.
    robust
        ``"huber"`` or ``"cauchy"``: pixels far from the model count less.
    coarse
        Refine orientation and scale alone first, with larger spots, which reach further.
    boxes
        ``"auto"``: boxes around the predicted spots, unless they hold more than half of the frame; a half width in
        pixels; or None: every pixel.
    most_steps, tolerance
        Steps at most, and the decrease of minus log likelihood that a whole step must promise to be taken.
    threads, workers
        CPU threads of the kernels (None: all), and stills that are evaluated at a time.
    progress
        Called with the stage, the step and the value after each step.

    Returns
    -------
    Refinement
        Values, uncertainties, correlations, chi-square, refined experiments.

    Raises
    ------
    InputError
        By name of what cannot be refined or makes no sense.

    Examples
    --------
    >>> from bragg_numba import Beam, Crystal, Detector, Experiment, StructureFactors, refine, simulate
    >>> crystal = Crystal(cell=(50, 60, 70, 90, 90, 90), cell_counts=(9, 9, 9), misset_deg=(5, 9, 2), shape="gauss")
    >>> truth = Experiment(
    ...     crystal=crystal,
    ...     detector=Detector(n_fast=96, n_slow=96, pixel_mm=0.3, distance_mm=60),
    ...     structure_factors=StructureFactors(default_F=1e3),
    ... )
    >>> start = truth.replace(crystal=crystal.replace(misset_deg=(5.05, 9, 2)))
    >>> found = refine(start, simulate(truth), free="misset,scale")
    >>> print(f"{found.values['crystal.misset_deg[0]']:.3f}")
    5.000
    """
    if isinstance(experiment, Still) or (
        isinstance(experiment, (list, tuple)) and experiment and all(isinstance(one, Still) for one in experiment)
    ):
        stills = [experiment] if isinstance(experiment, Still) else list(experiment)
    else:
        experiments, frames = check_experiments(experiment, data)
        stills = [
            Still(experiment=one, data=frame, variance=variance, background=background, mask=mask)
            for one, frame in zip(experiments, frames, strict=True)
        ]
    return fit(
        stills,
        free=free,
        shared=shared,
        likelihood=likelihood,
        bounds=bounds or {},
        priors=priors or {},
        restraints=restraints,
        robust=robust,
        coarse=coarse,
        boxes=boxes,
        most_steps=most_steps,
        tolerance=tolerance,
        threads=threads,
        workers=workers,
        progress=progress,
    )


class _Callable(ModuleType):
    """This package, which can be called."""

    def __call__(self, *given: Any, **options: Any) -> Refinement:
        return refine(*given, **options)


sys.modules[__name__].__class__ = _Callable
