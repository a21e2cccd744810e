"""``bragg-numba bench``, on an experiment small enough for a test."""

from __future__ import annotations

import json

import pytest
from bragg_numba.kernels._vectors import vector_bits

from bragg_numba.cli import bench
from bragg_numba.cli.bragg import main

TINY = {
    "one": ("one step", "-cell 100 100 100 90 90 90 -default_F 100 -N 5 -detpixels 32 -oversample 1"),
    "two": ("two steps", "-cell 100 100 100 90 90 90 -default_F 100 -N 5 -detpixels 32 -mosaic 1 -mosaic_dom 2"),
}


@pytest.fixture(autouse=True)
def tiny_cases(monkeypatch):
    monkeypatch.setattr(bench, "CASES", TINY)


def test_the_figures_of_a_case_belong_together(capsys):
    assert main(["bench", "two", "--json", "--repeats", "3", "--threads", "1"]) == 0

    report = json.loads(capsys.readouterr().out)
    assert report["threads"] == 1
    assert report["vector_bits"] == vector_bits()
    assert {"python", "numba", "numpy"} <= set(report["versions"])
    (row,) = report["cases"]
    assert (row["name"], row["precision"]) == ("two", "tile")
    sub_pixels = (row["pixel_steps_per_s"] * row["seconds"]) / (32 * 32 * 2)
    assert sub_pixels == pytest.approx(round(sub_pixels), rel=1e-12)  # a whole number of terms a pixel
    assert row["float64_over_chosen"] > 0.0


def test_every_case_has_its_line_in_the_table(capsys):
    assert main(["bench", "--repeats", "1"]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert ("vectors as long as" if vector_bits() is None else f"vectors of {vector_bits()} bits") in lines[0]
    assert [line[:44].strip() for line in lines[2:]] == [title for title, _ in TINY.values()]


@pytest.mark.parametrize(
    ("words", "named"),
    [(["three"], "three"), (["--repeats", "0"], "--repeats"), (["--threads", "x"], "--threads")],
)
def test_what_cannot_be_measured_is_refused_by_name(words, named, capsys):
    assert main(["bench", *words]) == 2

    assert named in capsys.readouterr().err


def test_a_cache_of_structure_factors_that_lies_around_is_not_measured(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Fdump.bin").write_bytes(b"not a cache")

    assert main(["bench", "one", "--repeats", "1"]) == 0
