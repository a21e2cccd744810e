"""scripts/gpu: what it calls a failure, and what it writes down; its parts need a GPU."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "proof" / "device.py"
WELL = {
    "machine": {"device": "a card", "cupy-cuda12x": None},
    "comparison": [{"kernel": "square", "error": 0.4, "different": 3}],
    "responses": {"eiger2": {"different": 0, "sums_agree": True, "notes": ()}},
    "tests": {"ended": 0, "counted": {"passed": 9, "skipped": 1, "failed": 0}, "failures": {}},
}


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
