"""Frames that no one can want are spoken of, with their number: once a series, on stderr and in the log."""

from __future__ import annotations

import numpy as np
import pytest

from bragg_numba import Experiment, InputError, StructureFactors
from bragg_numba.cli.bragg import main
from bragg_numba.series import Series, rotation_series
from bragg_numba.series.exposure import exposure_notes

WORDS = (
    "-cell 50 60 70 80 95 105 -default_F 100 -N 5 -oversample 1 -lambda 1.1 -detpixels_x 40 -detpixels_y 30 "
    "-pixel 0.2 -distance 120 "
)


def _series(fluence, n=3, words=""):
    return rotation_series(Experiment.from_nanobragg(f"{WORDS} -fluence {fluence} {words}"), 0.0, 1.0, n)


def test_a_saturated_series_is_spoken_of_once_on_stderr_and_in_the_log(tmp_path, capsys):
    _series(1e44).save(tmp_path / "plan.json", {"counts": "uint16", "prefix": "s", "frames_per_file": 2})
    assert main(["series", str(tmp_path / "plan.json"), "--quiet"]) == 0
    said = capsys.readouterr().err
    log = (tmp_path / "s_series.log").read_text()
    for text in (said, log):
        assert text.count("3 of 3 frames are saturated in more than half of their pixels") == 1
        assert "the first is frame 0, where 1200 of 1200 pixels have more counts than 65533" in text
    assert main(["series", str(tmp_path / "plan.json"), "--quiet", "--resume"]) == 0
    assert "3 of 3 frames are saturated" in capsys.readouterr().err
    # The photons are sound, and so are counts of a small enough part of them.
    assert main(["noise", str(tmp_path / "s_master.h5"), "-o", str(tmp_path / "c.h5"), "--scale", "1e-16"]) == 0
    assert "saturated" not in capsys.readouterr().err
    assert main(["noise", str(tmp_path / "s_master.h5"), "-o", str(tmp_path / "c.h5")]) == 0
    assert "3 of 3 frames are saturated" in capsys.readouterr().err


def test_the_first_frame_that_is_saturated_is_named(tmp_path):
    table = [{"phi_deg": 1.0, "fluence_per_m2": fluence} for fluence in (1e28, 1e44, 1e28, 1e44)]
    result = Series(_series(1e28).experiment, table).write(tmp_path / "s", counts="uint32")
    (note,) = [note for note in result.notes if "saturated" in note]
    assert note.startswith("2 of 4 frames")
    assert "frame 1, where 1189 of 1200 pixels have more counts than 2147483645" in note


def test_pixels_outside_the_region_of_interest_do_not_count(tmp_path):
    result = _series(1e44, words="-roi 0 9 0 9").write(tmp_path / "s", counts="uint16")
    assert any("100 of 100 pixels" in note for note in result.notes)


@pytest.mark.parametrize(("options", "what"), [({"counts": "uint16"}, "counts"), ({}, "photons")])
def test_a_series_without_a_photon_is_spoken_of(tmp_path, options, what):
    nothing = StructureFactors(indices=np.array([[1, 0, 0]]), amplitudes=np.zeros(1))
    experiment = _series(1e28).experiment.replace(structure_factors=nothing)
    result = rotation_series(experiment, 0.0, 1.0, 3).write(tmp_path / "s", **options)
    (note,) = [note for note in result.notes if "empty" in note]
    start = f"3 of 3 frames are empty: the first is frame 0, where 0 {what} are expected in all 1200 pixels"
    assert note.startswith(start)


def test_photons_too_few_for_a_single_count_are_spoken_of_where_counts_are_wanted(tmp_path, capsys):
    assert not _series(1e10).write(tmp_path / "s").notes
    assert main(["noise", str(tmp_path / "s_master.h5"), "-o", str(tmp_path / "c.h5")]) == 0
    assert "3 of 3 frames are empty" in capsys.readouterr().err


def test_a_frame_that_is_meant_to_be_dark_is_none_to_speak_of(tmp_path):
    table = [{"phi_deg": 1.0, "fluence_per_m2": fluence} for fluence in (0.0, 1e30)]
    result = Series(_series(1e30).experiment, table).write(tmp_path / "s", counts="uint16")
    assert not any("empty" in note for note in result.notes)


def test_an_ordinary_series_is_left_in_peace(tmp_path, capsys):
    _series(1e29).save(tmp_path / "plan.json", {"counts": "uint16", "prefix": "s"})
    assert main(["series", str(tmp_path / "plan.json"), "--quiet"]) == 0
    assert "WARNING" not in capsys.readouterr().err


def test_half_of_the_pixels_is_not_yet_most_of_them():
    ways = {"expected": np.ones(2) * 1e9, "pixels": 100, "counts": "uint16", "dark": np.zeros(2, dtype=bool)}
    assert exposure_notes(overloads=np.array([0, 50]), **ways) == []
    assert len(exposure_notes(overloads=np.array([0, 51]), **ways)) == 1


@pytest.mark.parametrize("options", [{}, {"counts": "uint16"}])
def test_a_frame_that_overflows_is_refused_by_its_number(tmp_path, options):
    table = [{"phi_deg": 1.0, "fluence_per_m2": fluence} for fluence in (1e10, 1e60)]
    with pytest.raises(InputError, match="frame 1"):
        Series(_series(1e28, words="-default_F 1e9").experiment, table).write(tmp_path / "s", **options)
    assert not list(tmp_path.glob("*.h5"))
