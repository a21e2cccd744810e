"""scripts/roundtrip: simulated data through DIALS and back, against the truth; and its own arithmetic."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def roundtrip():
    spec = importlib.util.spec_from_file_location("roundtrip", ROOT / "scripts" / "proof" / "roundtrip.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _crystal(reciprocal: np.ndarray) -> dict:
    return dict(zip(("real_space_a", "real_space_b", "real_space_c"), np.linalg.inv(reciprocal).tolist(), strict=True))


def _lists(folder: Path, true: np.ndarray, found: np.ndarray) -> None:
    experiment = {"imageset": 0, "crystal": 0}
    for name, reciprocal in (("s.expt", true), ("refined.expt", found)):
        listed = {"experiment": [experiment], "imageset": [{}], "crystal": [_crystal(reciprocal)]}
        (folder / name).write_text(json.dumps(listed))


def test_a_crystal_that_was_turned_stretched_and_indexed_otherwise_is_recognised(roundtrip, tmp_path):
    true = np.diag([1 / 50, 1 / 60, 1 / 70]) + 0.001
    angle = np.radians(0.02)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    other = np.diag([-1.0, 1.0, -1.0])
    _lists(tmp_path, true, turn @ (1.0001 * true) @ other)
    (compared,) = roundtrip.crystals(tmp_path)
    assert (compared["to_truth"] == other).all()
    assert compared["turned_deg"] == pytest.approx(0.02, rel=1e-6)
    assert compared["stretched"] == pytest.approx(1e-4, rel=1e-6)


def test_a_lattice_that_is_another_one_has_no_angle(roundtrip, tmp_path):
    true = np.diag([1 / 50, 1 / 60, 1 / 70])
    _lists(tmp_path, true, true @ np.diag([0.5, 1.0, 1.0]))
    (compared,) = roundtrip.crystals(tmp_path)
    assert np.isnan(compared["turned_deg"])


def test_shells_are_sums_and_correlations_by_resolution(roundtrip):
    d = np.array([5.0, 4.0, 3.5, 2.0, 2.05, 1.95])
    true = np.array([10.0, 20.0, 30.0, 1.0, 2.0, 3.0])
    found = true * np.where(d > 3, 1.0, 1.1)
    low, high, whole = (roundtrip.shells(found, true, d)[i] for i in (0, 1, -1))
    assert (low["n"], low["ratio"], low["R"]) == (3, 1.0, 0.0)
    assert high["ratio"] == pytest.approx(1.1)
    assert high["CC"] == pytest.approx(1.0)
    assert whole["n"] == 6


def test_the_page_has_the_figures_of_a_run():
    page = (ROOT / "docs" / "roundtrip.md").read_text(encoding="utf-8")
    table = page.split("<!-- begin: figures of scripts/roundtrip -->")[1].split("<!-- end")[0]
    assert table.count("| ∞ – 3.0 |") == 3
    assert (ROOT / "docs" / "images" / "roundtrip.png").stat().st_size > 10_000


@pytest.mark.slow
def test_dials_gives_back_what_was_simulated(roundtrip, tmp_path):
    reason = roundtrip.missing()
    if reason:
        pytest.skip(reason)
    figures = roundtrip.run(tmp_path, 40, 4)
    sweep, stills = figures["sweep"], figures["stills"]
    assert sweep["indexed"] > 0.95
    assert sweep["stretched"] < 2e-4
    # Half of a step of the spindle, 0.0125 degrees, lies between the two: steps stand at their beginning.
    assert sweep["turned_deg"] < 0.02
    assert sweep["found"]["median"] < 0.02
    assert sweep["intensities"][-1]["CC"] > 0.999
    assert stills["crystals"] == 4
    assert stills["turned_deg"] < 0.1
    for one in (sweep, stills):
        for row in one["intensities"]:
            assert row["ratio"] == pytest.approx(1.0, abs=0.01 + 2 * row["error"]), row
    assert all(row["ratio"] == pytest.approx(1.0, abs=0.02) for row in figures["merged"])
