"""pytest-benchmark suites: a warm Simulator.render of every watched case, and what surrounds it.

Not part of the gates; run with ``scripts/bench --pytest``.
"""

from __future__ import annotations

import sys

import numpy as np
import pytest
from around import AROUND, GROWTH, RESPONSES, cut_protein
from cases import CASES, FIDELITIES

from bragg_numba import Experiment, Simulator


def _bench_render(benchmark, simulator: Simulator) -> None:
    out = np.zeros(simulator.shape, np.float32)
    simulator.render(out)

    benchmark(simulator.render, out)

    benchmark.extra_info["pixel_steps"] = simulator.plan.pixel_steps
    benchmark.extra_info["precision"] = simulator.precision


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", [*CASES, *(f"layers_{fidelity}" for fidelity in FIDELITIES)])
def test_warm_render(benchmark, name, threads):
    benchmark.group = name
    line = CASES[name][1] if name in CASES else FIDELITIES[name.removeprefix("layers_")]
    _bench_render(benchmark, Simulator(Experiment.from_nanobragg(line), threads=threads))


@pytest.mark.parametrize("pixels", [512, 1024, 2048, 4096])
def test_time_against_pixels(benchmark, pixels):
    benchmark.group = "pixels"
    line = f"{GROWTH} -mosaic_dom 5 -detpixels {pixels}"
    _bench_render(benchmark, Simulator(Experiment.from_nanobragg(line)))


@pytest.mark.parametrize("domains", [10, 20, 40, 80, 160])
def test_time_against_steps(benchmark, domains):
    benchmark.group = "steps"
    line = f"{GROWTH} -mosaic_dom {domains} -detpixels 512"
    _bench_render(benchmark, Simulator(Experiment.from_nanobragg(line)))


@pytest.mark.parametrize("name", ["growth_with_pixels", "growth_with_steps"])
def test_time_grows_linearly(name):
    exponent = AROUND[name].measure()

    print(f"{AROUND[name].title}{exponent:.2f}")
    assert AROUND[name].holds(exponent)


@pytest.mark.parametrize("skipping", [True, False])
def test_protein_cut_at_3_angstrom(benchmark, skipping):
    benchmark.group = "cut protein"
    _bench_render(benchmark, cut_protein()[0 if skipping else 1])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("name", ["peak_4096", "peak_16384"])
def test_peak_of_memory(benchmark, name):
    benchmark.group = "whole process"
    peak = benchmark.pedantic(AROUND[name].measure, rounds=1)

    benchmark.extra_info["peak_bytes"] = peak
    assert AROUND[name].holds(peak)


@pytest.mark.parametrize("name", ["import", "first_pixel", "series", "amorphous_4096", "refine_gauss", "refine_square"])
def test_other_processes_and_series(name):
    value = AROUND[name].measure()

    print(f"{AROUND[name].title}: {value:.3g} {AROUND[name].unit}")
    assert AROUND[name].holds(value) is not False


def test_poisson_noise_of_a_4096_frame_at_mean_1(benchmark):
    from bragg_numba.response.counter import poisson

    photons = np.ones((4096, 4096), np.float32)
    out = np.empty(photons.shape, np.uint32)

    benchmark(poisson, photons, 1, out=out)


@pytest.mark.parametrize("name", ["bright_pixels", *(f"response_{name}" for name in RESPONSES)])
def test_counts_and_responses_against_plain_counts(name):
    value = AROUND[name].measure()

    print(f"{AROUND[name].title}: {value:.3g}")
    assert AROUND[name].holds(value)
