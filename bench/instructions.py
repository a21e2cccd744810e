"""Instructions a pixel-step, counted by ``perf stat`` where the machine lets it."""

from __future__ import annotations

import shutil
import subprocess
import sys

_RENDER = (
    "import sys, numpy as np; from bragg_numba import Experiment, Simulator\n"
    "sim = Simulator(Experiment.from_nanobragg(sys.argv[1])); out = np.zeros(sim.shape, np.float32)\n"
    "for _ in range(int(sys.argv[2])): sim.render(out)"
)

#: Renders of the two runs whose difference counts: what a process does besides cancels.
_FEW, _MORE = 1, 4


def instructions_per_step(line: str, pixel_steps: int) -> tuple[float | None, str]:
    """Instructions a pixel-step of a command line's warm render, or None and why there is no figure."""
    counts = []
    for renders in (_FEW, _MORE):
        count, why = _count([sys.executable, "-c", _RENDER, line, str(renders)])
        if count is None:
            return None, why
        counts.append(count)
    return (counts[1] - counts[0]) / (_MORE - _FEW) / pixel_steps, ""


def _count(command: list[str]) -> tuple[int | None, str]:
    perf = shutil.which("perf")
    if perf is None:
        return None, "perf is not installed"
    words = [perf, "stat", "-x", ",", "-e", "instructions:u"]
    # First a program that does nothing: a machine that cannot count says so without a render.
    for job in (["true"], command):
        done = subprocess.run([*words, *job], capture_output=True, text=True)
        lines = [row for row in done.stderr.splitlines() if ",instructions" in row]
        first = lines[-1].split(",")[0] if lines else ""
        if done.returncode != 0 or not first.isdigit():
            return None, f"perf stat does not count here ({first or (done.stderr.strip() or 'no output')[:80]})"
    return int(first), ""
