"""pytest-benchmark suites: a warm Simulator.render of every watched case, and what surrounds it.

Not part of the gates; run with ``scripts/bench --pytest``.
"""

from __future__ import annotations

import numpy as np
import pytest
from cases import CASES, FIDELITIES

from bragg_numba import Experiment, Simulator


@pytest.mark.parametrize("name", [*CASES, *(f"layers_{fidelity}" for fidelity in FIDELITIES)])
def test_warm_render(benchmark, name):
    line = CASES[name][1] if name in CASES else FIDELITIES[name.removeprefix("layers_")]
    simulator = Simulator(Experiment.from_nanobragg(line))
    out = np.zeros(simulator.shape, np.float32)
    simulator.render(out)

    benchmark(simulator.render, out)

    benchmark.extra_info["pixel_steps"] = simulator.plan.pixel_steps
    benchmark.extra_info["precision"] = simulator.precision


def test_poisson_noise_of_a_4096_frame_at_mean_1(benchmark):
    from bragg_numba.noise.counter import poisson

    photons = np.ones((4096, 4096), np.float32)
    out = np.empty(photons.shape, np.uint32)

    benchmark(poisson, photons, 1, out=out)
