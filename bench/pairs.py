"""Ratios of two timings taken in interleaved pairs: the machine's speed may drift, the ratio holds."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
import yardstick

from bragg_numba import Experiment, Simulator


def seconds(job: Callable[[], object]) -> float:
    """Wall seconds of one call."""
    start = time.perf_counter()
    job()
    return time.perf_counter() - start


def paired_ratio(slow: Callable[[], object], fast: Callable[[], object], pairs: int, repeats: int = 3) -> float:
    """Median over interleaved pairs of time(slow) / time(fast); ``fast`` is the mean of ``repeats`` calls."""
    slow()
    fast()
    ratios = []
    for _ in range(pairs):
        quick = sum(seconds(fast) for _ in range(repeats)) / repeats
        ratios.append(seconds(slow) / quick)
    return statistics.median(ratios)


def against_yardstick(command: str, pairs: int = 5, rows: int | None = None) -> tuple[float, float]:
    """Speed of a warm Simulator.render over the yardstick, and the largest relative difference of the images.

    ``rows`` limits the frame to its middle rows, for both: the yardstick is slow.
    """
    experiment = Experiment.from_nanobragg(command)
    if rows is not None:
        n_slow, n_fast = experiment.detector.shape
        first = (n_slow - rows) // 2
        size = experiment.detector.replace(n_slow=rows, n_fast=n_fast, beam_x_mm=None)
        centre = (n_slow / 2 - first + 1) * experiment.detector.pixel_mm - experiment.detector.pixel_mm / 2
        experiment = experiment.replace(detector=size.replace(beam_x_mm=centre))
    simulator = Simulator(experiment)
    ours = np.zeros(simulator.shape, np.float32)
    theirs = np.zeros(simulator.shape, np.float32)
    ratio = paired_ratio(lambda: yardstick.render_plan(simulator.plan, theirs), lambda: simulator.render(ours), pairs)
    error = float(np.abs(ours - theirs).max() / theirs.max())
    return ratio, error
