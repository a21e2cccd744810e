"""What DIALS says of the errors of its intensities, against repeated frames."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "repeated_frames.py"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("dials.integrate") is None, reason="DIALS is not on the PATH")
@pytest.mark.parametrize("name", ["eiger2", "jungfrau"])
def test_sigma_of_dials_is_the_scatter_between_repeated_frames(tmp_path, name):
    """A hundred frames of a detector, about a minute: its gain and pedestal are read right, and its noise is known."""
    spec = importlib.util.spec_from_file_location("repeated_frames", EXAMPLE)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    example.record(tmp_path, name)
    n, ratio, error = example.scatter_over_sigma(example.integrate(tmp_path))

    assert n > 500
    assert error < 0.01
    assert abs(ratio - 1.0) < 0.05
