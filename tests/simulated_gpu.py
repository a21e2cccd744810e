"""Runs the cases of the files that FILES names, simulated_kernels.py and its like, where they can run.

Whether numba simulates a GPU is decided when it is imported: these cases need a process of their own, one for a file
and a kind of GPU. The first case that is asked for starts it with all that were selected; it writes down how each of
them ended, and here each passes, fails or is skipped as it did there. A case of which nothing was heard has failed.

A file names its kinds in ``GPUS`` and says ``pytest.mark.usefixtures("gpu")``; the conftest.py beside it takes the
hooks from here. To work on one case, with a debugger if need be:

    NUMBA_ENABLE_CUDASIM=1 BRAGG_TEST_GPU=simulator scripts/test tests/kernels/simulated_kernels.py -k curved
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

FILES = tuple(f"simulated_{name}.py" for name in ("kernels", "render", "response", "slopes", "spots"))

#: Set in the processes that run the cases: the kind, and the file in which a line is written for every report.
GPU, OUTCOMES = "BRAGG_TEST_GPU", "BRAGG_TEST_OUTCOMES"

#: Outcomes from good to bad; of a case's reports (set-up, call, teardown) the worst counts.
ORDER = ("passed", "skipped", "failed")

#: Outcome and text of a case that has not ended.
UNKNOWN = ("failed", "")

#: What ``run_there`` returned, by file and kind of GPU.
KEPT = pytest.StashKey[dict]()


def pytest_collect_file(file_path: Path, parent):
    """Collect these files as if they were called test_*.py; one that is named on the command line is already."""
    if file_path.name in FILES and not parent.session.isinitpath(file_path):
        return pytest.Module.from_parent(parent, path=file_path)
    return None


def pytest_generate_tests(metafunc):
    """Make a case for each kind of GPU; in a process that runs them, for its own."""
    if "gpu" in metafunc.fixturenames:
        metafunc.parametrize("gpu", [os.environ[GPU]] if GPU in os.environ else metafunc.module.GPUS)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    """Do not call the function of such a case here: end as it ended in its own process."""
    gpu = gpu_of(pyfuncitem)
    if gpu is None:
        return None
    if GPU in os.environ:
        from bragg_numba.render import devices

        assert devices.simulated() == (gpu == "simulator"), f"this process has another GPU than the {gpu}"
        return None
    if gpu == "device" and not has_device():
        pytest.skip("no CUDA device")
    kept = pyfuncitem.session.stash.setdefault(KEPT, {})
    if (pyfuncitem.path, gpu) not in kept:
        kept[pyfuncitem.path, gpu] = run_there(pyfuncitem, gpu)
    outcomes, printed = kept[pyfuncitem.path, gpu]
    outcome, text = outcomes.get(pyfuncitem.nodeid, UNKNOWN)
    if outcome == "failed":
        pytest.fail(text or f"the process ended before this case did: {printed}", pytrace=False)
    if outcome == "skipped":
        pytest.skip(text)
    return True


def gpu_of(item) -> str | None:
    """The kind of GPU that a case runs on; None: it runs here, like any other."""
    return item.callspec.params.get("gpu") if hasattr(item, "callspec") else None


@functools.cache
def has_device() -> bool:
    """Tell whether a GPU can be used."""
    from numba import cuda

    return cuda.is_available()


def environment(gpu: str, written: Path) -> dict[str, str]:
    """What a process that runs cases on a kind of GPU, and writes their outcomes, has in its environment."""
    return {
        "NUMBA_ENABLE_CUDASIM": str(int(gpu == "simulator")),
        # On a device numba would warn that grids as small as a test's leave most of it idle.
        "NUMBA_CUDA_LOW_OCCUPANCY_WARNINGS": "0",
        GPU: gpu,
        OUTCOMES: str(written),
    }


def run_there(first, gpu: str) -> tuple[dict[str, tuple[str, str]], str]:
    """Run the selected cases of a file on a kind of GPU: outcome and text by name, and the end of what was printed."""
    cases = [one.nodeid for one in first.session.items if one.path == first.path and gpu_of(one) == gpu]
    words = ["--long"] if first.config.getoption("--long") else []
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "outcomes"
        written.touch()
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *words, *cases],
            env={**os.environ, **environment(gpu, written)},
            cwd=first.config.rootpath,
            capture_output=True,
            text=True,
            check=False,
        )
        outcomes = read_outcomes(written)
    return outcomes, f"exit status {done.returncode}\n{done.stdout[-3000:]}{done.stderr[-2000:]}"


def read_outcomes(written: Path) -> dict[str, tuple[str, str]]:
    """What processes wrote of their cases: outcome and text by name, ``UNKNOWN`` of those that did not end."""
    outcomes: dict[str, tuple[str, str]] = {}
    for line in written.read_text(encoding="utf-8").splitlines():
        name, when, outcome, text = json.loads(line)
        if when == "setup":
            outcomes[name] = UNKNOWN if outcome == "passed" else (outcome, text)
        elif when == "call" or name not in outcomes or ORDER.index(outcome) > ORDER.index(outcomes[name][0]):
            outcomes[name] = (outcome, text)
    return outcomes


def pytest_runtest_logreport(report):
    """In a process that runs cases: write a line for each report, at once, lest the process dies."""
    if OUTCOMES in os.environ:
        skipped = isinstance(report.longrepr, tuple)  # file, line, reason
        text = report.longrepr[2].removeprefix("Skipped: ") if skipped else report.longreprtext
        with open(os.environ[OUTCOMES], "a", encoding="utf-8") as file:
            file.write(json.dumps([report.nodeid, report.when, report.outcome, text]) + "\n")
