"""Runs simulated_kernels.py in processes of their own: in the simulator, and on a device where there is one."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

FILE = Path(__file__).parent / "simulated_kernels.py"

pytestmark = pytest.mark.skipif(importlib.util.find_spec("numba_cuda") is None, reason="needs numba-cuda")


def run_there(simulated: bool) -> None:
    # On a device numba warns that grids as small as a test's leave most of it idle.
    expected = () if simulated else ("-W", "ignore::numba.core.errors.NumbaPerformanceWarning")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *expected, str(FILE)],
        env={**os.environ, "NUMBA_ENABLE_CUDASIM": str(int(simulated))},
        cwd=FILE.parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    written = len(re.findall(r"^def test_", FILE.read_text(), flags=re.MULTILINE))
    assert int(passed.group(1)) >= written, done.stdout[-2000:]


def test_the_kernels_agree_with_the_cpu_in_the_simulator():
    run_there(simulated=True)


def test_the_kernels_agree_with_the_cpu_on_a_device():
    from numba import cuda

    if not cuda.is_available():
        pytest.skip("no CUDA device")
    run_there(simulated=False)
