"""What scripts/gpu does on the day of a GPU, rehearsed in numba's simulator."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

if importlib.util.find_spec("numba_cuda") is None:
    pytest.skip("needs numba-cuda", allow_module_level=True)

ROOT = Path(__file__).resolve().parents[1]


def rehearse(folder: Path, *parts: str) -> tuple[int, dict, str]:
    """Exit status, what DEVICE.json holds, and DEVICE.md."""
    words = [word for part in parts for word in ("--only", part)]
    command = [sys.executable, "scripts/proof/device.py", "--rehearse", "--out", str(folder), *words]
    status = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).returncode
    return status, json.loads((folder / "DEVICE.json").read_text()), (folder / "DEVICE.md").read_text()


def test_a_part_is_written_down(tmp_path):
    status, seen, page = rehearse(tmp_path, "machine")
    assert status == 0
    assert "simulator" in seen["machine"]["device"]
    assert "a rehearsal" in page and seen["machine"]["device"] in page


@pytest.mark.slow
def test_every_kernel_is_compared(tmp_path):
    status, seen, page = rehearse(tmp_path, "comparison", "slopes", "responses")
    assert status == 0
    assert len(seen["comparison"]) > 20
    assert all(row["error"] <= 1.0 for row in seen["comparison"])
    assert "spots" in page
