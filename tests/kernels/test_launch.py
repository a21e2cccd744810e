"""Parallel kernels started by several threads and in forks, under each of numba's threading layers."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

BEGIN = """
import multiprocessing, sys, numba
import numpy as np
from concurrent.futures import ThreadPoolExecutor
from bragg_numba.response.counter import sum_photons

photons = np.ones((64, 64), np.float32)


def work(number):
    return int(sum_photons(photons * np.float32(number)).photons)

"""

THREADS = """
with ThreadPoolExecutor(8) as pool:
    assert list(pool.map(work, range(200))) == [4096 * number for number in range(200)]
"""

#: A pool that waits for a worker that has died waits for ever.
FORKS = """
if len(sys.argv) > 1:
    work(1)
with multiprocessing.get_context("fork").Pool(2) as pool:
    print(pool.map_async(work, range(3)).get(timeout=200))
"""


def _run(code: str, layer: str, *words: str) -> subprocess.CompletedProcess:
    code += "print(numba.threading_layer())" if code is THREADS else ""
    env = {**os.environ, "NUMBA_THREADING_LAYER": layer}
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", BEGIN + code, *words]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
    if "No threading layer could be loaded" in done.stderr:
        pytest.skip(f"numba has no threading layer {layer} here")
    return done


@pytest.mark.parametrize("layer", ["workqueue", "omp", "tbb"])
def test_threads_that_start_kernels_at_the_same_time_get_what_each_asked_for(layer):
    done = _run(THREADS, layer)

    assert (done.returncode, done.stdout, done.stderr) == (0, f"{layer}\n", "")


@pytest.mark.parametrize("layer", ["workqueue", "tbb", "omp"])
def test_a_fork_runs_kernels_whether_or_not_its_threads_live_on(layer):
    done = _run(FORKS, layer, "after a kernel")

    assert (done.returncode, done.stdout, done.stderr) == (0, "[0, 4096, 8192]\n", "")


def test_a_fork_before_the_first_kernel_runs_them_under_any_layer():
    done = _run(FORKS, "default")

    assert (done.returncode, done.stdout, done.stderr) == (0, "[0, 4096, 8192]\n", "")
