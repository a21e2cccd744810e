"""What scripts/gpu does on the day of a GPU, rehearsed in numba's simulator, and what it calls a failure."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "scripts" / "proof" / "device.py"

needs_numba_cuda = pytest.mark.skipif(importlib.util.find_spec("numba_cuda") is None, reason="needs numba-cuda")

WELL = {
    "machine": {"device": "a card", "cupy-cuda12x": None},
    "comparison": [{"kernel": "square", "error": 0.4, "different": 3}],
    "responses": {"eiger2": {"different": 0, "sums_agree": True, "notes": ()}},
    "tests": {"ended": 0, "counted": {"passed": 9, "skipped": 1, "failed": 0}, "failures": {}},
}


def rehearse(folder: Path, *parts: str) -> tuple[int, dict, str]:
    """Exit status, what DEVICE.json holds, and DEVICE.md."""
    words = [word for part in parts for word in ("--only", part)]
    command = [sys.executable, str(SCRIPT), "--rehearse", "--out", str(folder), *words]
    status = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).returncode
    return status, json.loads((folder / "DEVICE.json").read_text()), (folder / "DEVICE.md").read_text()


@needs_numba_cuda
def test_a_part_is_written_down(tmp_path):
    status, seen, page = rehearse(tmp_path, "machine")
    assert status == 0
    assert "simulator" in seen["machine"]["device"]
    assert "a rehearsal" in page and seen["machine"]["device"] in page


@needs_numba_cuda
@pytest.mark.slow
def test_every_kernel_is_compared(tmp_path):
    status, seen, page = rehearse(tmp_path, "comparison", "slopes", "responses")
    assert status == 0
    assert len(seen["comparison"]) > 20
    assert all(row["error"] <= 1.0 for row in seen["comparison"])
    assert "spots" in page


@pytest.fixture(scope="module")
def device():
    spec = importlib.util.spec_from_file_location("device", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_day_on_which_all_held_is_no_failure(device):
    assert not device.failed({"rehearsal": False, "seconds": {"tests": 3.0}, **WELL})
    assert not device.failed({**WELL, "tests": {**WELL["tests"], "ended": device.STOPPED}})


@pytest.mark.parametrize(
    "part",
    [
        {"comparison": [{"kernel": "square", "error": 1.2}]},
        {"slopes": [{"kernel": "square", "error": float("nan")}]},
        {"slopes": [{"kernel": "square", "failed": "Traceback"}]},
        {"arrays": {"cupy": {"same": False}}},
        {"timings": {"cases": [{"title": "mosaic", "error": "Traceback"}]}},
        {"tests": {"ended": 0, "counted": {"failed": 1}, "failures": {"a case": "it ended"}}},
        {"tests": {"ended": 2, "counted": {"failed": 0}, "failures": {}}},
        {"responses": {"error": "no time was left"}},
    ],
)
def test_what_does_not_hold_is_a_failure(device, part):
    assert device.failed({**WELL, **part})


def test_parts_that_find_no_time_are_written_down(device, tmp_path):
    day = device.Day(tmp_path / "gpu", -1.0, True)
    day.part("machine", device.machine)
    assert json.loads((day.out / "DEVICE.json").read_text())["machine"] == {"error": "no time was left"}
    assert "machine: no time was left" in (day.out / "DEVICE.md").read_text() and device.failed(day.seen)
