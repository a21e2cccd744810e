"""Frames on their way: the same in every layout, in bounded memory, with a log of where the time went."""

from __future__ import annotations

import os
import subprocess
import sys

import h5py
import numba
import numpy as np
import pytest

from bragg_numba import Experiment, memory
from bragg_numba.errors import InputError
from bragg_numba.plan.arithmetic.squares import padded_squares
from bragg_numba.series import OutputOptions, pipeline, rotation_series, still_series, truth

WORDS = "-lambda 1 -cell 70 80 90 90 95 90 -default_F 200 -N 8 -distance 100 -detpixels 200 -pixel 0.2 -fluence 1e24"


@pytest.fixture(scope="module")
def series():
    return still_series(Experiment.from_nanobragg(WORDS), 7, seed=2)


@pytest.fixture(scope="module")
def whole(series, tmp_path_factory):
    """Data files by name, as the usual layout writes them."""
    folder = tmp_path_factory.mktemp("whole")
    series.write(folder / "s", counts="uint16", frames_per_file=4)
    return data_files(folder)


def data_files(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("s_*data_*.h5")}


@pytest.mark.parametrize("threads", [1, 2])
def test_frames_do_not_depend_on_the_number_of_lanes(series, whole, tmp_path, threads):
    series.write(tmp_path / "s", counts="uint16", frames_per_file=4, threads=threads)

    assert len(whole) == 4
    assert data_files(tmp_path) == whole


def test_lanes_that_must_take_turns_make_the_same_frames(series, whole, tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "_kernels_run_side_by_side", lambda: False)
    series.write(tmp_path / "s", counts="uint16", frames_per_file=4)

    assert data_files(tmp_path) == whole


#: Bytes in flight for a frame of 100 x 100 pixels: photons and uint16 counts, both with room for their packed bytes.
IN_FLIGHT = 2 * 100 * 100 * (4 + 2)


@pytest.mark.parametrize(
    ("frames", "threads", "lanes", "threads_a_lane"),
    [
        (100, 1, 1, 1),
        (100, 2, 2, 1),
        (100, 3, 3, 1),
        (100, 9, pipeline.MOST_LANES, 2),
        (3.5, 8, 2, 4),  # one frame more than lanes is in flight
        (2.5, 8, 1, 8),
        (0.1, 8, 1, 8),  # one lane works with less
    ],
)
def test_every_core_gets_a_lane_where_memory_allows(monkeypatch, frames, threads, lanes, threads_a_lane):
    monkeypatch.setattr(pipeline, "_kernels_run_side_by_side", lambda: True)
    monkeypatch.setattr(memory, "free_memory", lambda: int(frames * IN_FLIGHT / pipeline.MEMORY_SHARE))
    layout = pipeline.choose_layout(OutputOptions(counts="uint16"), (100, 100), threads)

    assert layout == pipeline.Layout(lanes, threads_a_lane, alone=False)


def test_lanes_take_turns_where_threads_of_kernels_cannot_be_entered_twice(monkeypatch):
    monkeypatch.setattr(pipeline, "_kernels_run_side_by_side", lambda: False)

    assert pipeline.choose_layout(OutputOptions(), (100, 100), 3) == pipeline.Layout(2, 3, alone=True)


@pytest.mark.parametrize(("layer", "expected"), [("omp", True), ("tbb", True), ("workqueue", False)])
def test_threads_of_kernels_can_be_entered_twice_with_openmp_and_tbb(monkeypatch, layer, expected):
    monkeypatch.setattr(numba, "threading_layer", lambda: layer)

    assert pipeline._kernels_run_side_by_side() is expected


def test_a_gpu_is_not_shared_between_lanes():
    assert pipeline.choose_layout(OutputOptions(backend="cuda"), (100, 100), 2).alone


def test_sums_and_maxima_do_not_depend_on_what_is_written(series, tmp_path):
    series.write(tmp_path / "photons")
    series.write(tmp_path / "counts", photons=False, counts="uint32", spots=False)
    with h5py.File(tmp_path / "photons_master.h5") as one, h5py.File(tmp_path / "counts_master.h5") as other:
        frames, again = one["/entry/truth/frames"][()], other["/entry/truth/frames"][()]
        images = one["/entry/data/data"][()]

    assert np.array_equal(frames["sum_photons"], again["sum_photons"])
    assert np.array_equal(frames["max_photons"], again["max_photons"])
    assert np.array_equal(frames["max_photons"], images.max(axis=(1, 2)))
    assert not list(tmp_path.glob("counts*photons*"))


def test_an_error_in_one_frame_stops_the_others_and_leaves_nothing(series, tmp_path, monkeypatch):
    real, seen = truth.frame_record, []

    def fail_at_third(plan, frame):
        seen.append(frame)
        if frame == 2:
            raise InputError("frame 2", "is broken")
        return real(plan, frame)

    monkeypatch.setattr(truth, "frame_record", fail_at_third)
    long = still_series(series.experiment, 60, seed=2)
    with pytest.raises(InputError, match="frame 2 is broken"):
        long.write(tmp_path / "s", counts="uint16")

    assert len(seen) < 10
    assert [path.name for path in tmp_path.iterdir()] == ["s_series.log"]
    assert "stopped" in (tmp_path / "s_series.log").read_text()


def test_the_log_tells_versions_plan_and_time_of_each_stage(series, tmp_path):
    result = series.write(tmp_path / "s", counts="uint16", frames_per_file=4)
    text = (tmp_path / "s_series.log").read_text()

    assert result.log == str(tmp_path / "s_series.log")
    for part in ("versions python", "numba", "plan ", "frames 7,", "counts=uint16", "frames/s", "elapsed"):
        assert part in text
    assert result.table() in text
    assert {"plan", "render", "noise", "compress", "truth", "wait", "write", "sync", "master"} == set(result.stages)


def test_the_log_goes_on_when_a_series_is_resumed_and_anew_when_it_is_overwritten(series, tmp_path):
    series.write(tmp_path / "s", frames_per_file=4)
    (tmp_path / "s_data_000002.h5").unlink()
    series.write(tmp_path / "s", frames_per_file=4, resume=True)
    text = (tmp_path / "s_series.log").read_text()
    plans = [line for line in text.splitlines() if line.startswith("plan ") and len(line.split()) == 2]

    assert text.count("begin ") == text.count("end 2") == 2
    assert "of which 4 were there already" in text
    assert len(plans) == 2
    assert len(set(plans)) == 1
    series.write(tmp_path / "s", frames_per_file=4, overwrite=True)
    assert (tmp_path / "s_series.log").read_text().count("begin ") == 1


def test_a_log_that_cannot_be_written_stops_nobody(series, tmp_path):
    (tmp_path / "s_series.log").mkdir()
    result = series.write(tmp_path / "s")

    assert result.rendered == 7
    assert any("s_series.log could not be written" in note for note in result.notes)


def test_plans_after_the_first_take_over_what_does_not_change():
    series = rotation_series(Experiment.from_nanobragg(f"{WORDS} -mosaic 0.1 -mosaic_dom 5"), 0.0, 1.0, 3)
    renderer = pipeline.Renderer(series, OutputOptions())
    first, second = renderer.plan(0), renderer.plan(1)

    assert second.table is first.table
    assert padded_squares(second.table, 2) is padded_squares(first.table, 2)


MEMORY = """
import resource, sys
from bragg_numba import Experiment
from bragg_numba.series import still_series

experiment = Experiment.from_nanobragg("-lambda 1 -cell 70 80 90 90 95 90 -default_F 200 -N 8 -distance 100 "
                                       "-detpixels 1024 -pixel 0.1 -fluence 1e24")
still_series(experiment, int(sys.argv[1]), seed=2).write(sys.argv[2], counts="uint16", compression="none")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_does_not_grow_with_the_number_of_frames(tmp_path):
    def peak(frames: int) -> int:
        words = [sys.executable, "-c", MEMORY, str(frames), str(tmp_path / f"s{frames}")]
        return int(subprocess.run(words, check=True, capture_output=True, env=os.environ).stdout) * 1024

    few, many = peak(8), peak(40)
    # 32 frames more of 4 MiB photons and 2 MiB counts: a fifth of them kept would show.
    assert many - few < 32 * 6 * 2**20 / 5
