"""Runs simulated_render.py in a process of its own: the simulator must be chosen before numba is imported."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

FILE = Path(__file__).parent / "simulated_render.py"


@pytest.mark.skipif(importlib.util.find_spec("numba_cuda") is None, reason="needs numba-cuda")
def test_the_cuda_backend_renders_in_the_simulator():
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(FILE)],
        env={**os.environ, "NUMBA_ENABLE_CUDASIM": "1"},
        cwd=FILE.parents[2],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    written = len(re.findall(r"^def test_", FILE.read_text(), flags=re.MULTILINE))
    assert int(passed.group(1)) >= written, done.stdout[-2000:]
