"""A verdict on a ratio: it holds, it does not, or the machine is too busy to say.

A ratio of interleaved pairs survives a machine that is slow throughout; it does not survive other work that comes and
goes, nor a neighbour that takes a core from the side that could use two. So a figure that fails is measured again
until two medians agree, and counts against the code only where the machine was quiet meanwhile: where the yardstick
takes as long as itself, and gets the processors that it asks for.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import yardstick
from pairs import seconds

from bragg_numba import Experiment, Simulator

#: Two medians agree when they differ by less, relative to the larger.
AGREE = 0.04
#: The yardstick differs from itself by less than this on a quiet machine (median over pairs) ...
STEADY = 0.05
#: ... and gets at least this share of the threads that it runs on.
SHARE = 0.9
#: Seconds after which no further median is taken.
PATIENCE_S = 60.0

_LINE = (
    "-cell 100 100 100 90 90 90 -default_F 100 -N 20 -lambda 1 -detpixels 256 -distance 100 "
    "-oversample 1 -mosaic 1 -mosaic_dom 10"
)


@dataclass(frozen=True)
class Unrest:
    """How quiet the machine is: ``spread``, the yardstick's median difference from itself; ``share`` of its threads."""

    spread: float
    share: float

    @property
    def quiet(self) -> bool:
        """Whether a ratio taken now can count against the code."""
        return self.spread <= STEADY and self.share >= SHARE

    def __str__(self) -> str:
        return f"the yardstick differs by {self.spread:.1%} from itself and gets {self.share:.0%} of its threads"


def measure_unrest(pairs: int = 9) -> Unrest:
    """Hold the yardstick against itself: ``pairs`` neighbouring runs, and the processor time they were given."""
    from numba import get_num_threads

    simulator = Simulator(Experiment.from_nanobragg(_LINE))
    image = np.zeros(simulator.shape, np.float32)

    def run() -> None:
        yardstick.render_plan(simulator.plan, image)

    run()
    start, given = time.perf_counter(), time.process_time()
    spreads = [abs(1.0 - seconds(run) / seconds(run)) for _ in range(pairs)]
    share = (time.process_time() - given) / (time.perf_counter() - start) / get_num_threads()
    return Unrest(statistics.median(spreads), share)


def judge(
    title: str,
    measure: Callable[[], float],
    holds: Callable[[float], bool],
    unrest: Callable[[], Unrest] = measure_unrest,
    patience_s: float = PATIENCE_S,
) -> float:
    """The figure that ``measure`` gives, once it holds; fails or skips the test that asks where it does not.

    One figure that holds settles it: what else runs can hide a lead, hardly make one. Fails where two medians agree on
    less and the machine was quiet; skips, with the figures, where it was not, or where no two agree in ``patience_s``
    seconds.
    """
    begun = time.perf_counter()
    figures: list[float] = []
    while True:
        figures.append(measure())
        if holds(figures[-1]):
            return figures[-1]
        seen = f"{title}: {', '.join(f'{figure:.3g}' for figure in figures)}"
        if _agree(figures):
            calm = unrest()
            if calm.quiet:
                pytest.fail(f"{seen}; {calm}")
            pytest.skip(f"too busy to judge: {seen}; {calm}")
        if time.perf_counter() - begun > patience_s:
            pytest.skip(f"too busy to judge: {seen}, no two alike; {unrest()}")


def _agree(figures: list[float]) -> bool:
    """Whether the last figure is confirmed by one before it."""
    return any(abs(one - figures[-1]) <= AGREE * max(one, figures[-1]) for one in figures[:-1])
