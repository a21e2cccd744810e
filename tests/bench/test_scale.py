"""The bench of what a series costs beyond its frames: its stubs are a series, and its model counts what it should."""

from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401
import pytest

from bragg_numba.series.source import open_source


@pytest.fixture(scope="module")
def scale(bench):
    return bench("scale")


def test_stub_frames_are_a_series_with_masters_and_an_index(scale, tmp_path):
    result = scale.write_stubs(scale.stub_series(11), tmp_path / "s", frames_per_file=2, frames_per_master=4)
    assert [Path(path).name for path in result.masters] == ["s_index.h5"] and len(result.runs) == 3
    with open_source(result.masters[0]) as source:
        assert source.table()["frame"].tolist() == list(range(11))
        assert (source.frame(10) == 1).all() and len(source.truth(10)[1]) == 2
    again = scale.write_stubs(scale.stub_series(11), tmp_path / "s", frames_per_file=2, resume=True)
    assert again.rendered == 0
    with h5py.File(again.masters[0]) as file:
        assert len(file["/entry/data/data"].virtual_sources()) == 6


def test_packed_frames_are_measured_in_bytes_a_pixel(scale):
    rows = {(row["frame"], row["level"]): row for row in scale.measure_bytes(32)}
    assert rows["photons", 1.0]["none"] == 4.0 and rows["uint16", 1.0]["none"] == 2.0
    assert rows["uint16", 0.01]["bslz4"] < rows["uint16", 100.0]["bslz4"] < 2.0


def test_the_model_scales_what_was_measured_to_what_is_asked(scale):
    found = {
        "sources": [{"sources": 100, "master_memory_mb": 2.0}],
        "frames": [
            {
                "frames": 1000,
                "plan_mb": 1.0,
                "table_s": 1.0,
                "plan_s": 0.5,
                "resume_s": 0.5,
                "base_mb": 100.0,
                "peak_mb": 110.0,
            }
        ],
        "messages": [{"jobs": 10, "heard": 40, "cpu_s": 0.05}],
        "bytes": scale.measure_bytes(8),
        "rows": {"frame": 300, "lattice": 200, "spot": 50},
    }
    target = scale.Target(
        frames=1_000_000, nodes=10, processes=2, frames_per_file=50, frame_s=2.0, pixels=10**6, spots=10
    )
    said = {
        name: value for name, value, _ in (line.strip("| ").split(" | ") for line in scale.model(found, target)[2:])
    }
    assert said["data files"] == "20,000, of each product"
    assert said["masters, and sources of each"] == "20 and an index; 1,000"
    assert said["memory of a program that opens a master, MB"] == "20"
    assert said["the same with one master of all, MB"] == "400"
    assert said["truth: frames, GB"] == "0.30"
    assert said["coordinator: computing, s"] == "2000"
    assert said["coordinator: memory, MB"] == "600 + 104 of its table"  # 50,000 frames a run
    assert said["hours of rendering"] == "27.78 at 2 s a frame, 20 processes"
    assert said["messages of jobs"] == "80,000; 0.8 a second"
    assert said["scheduler busy with jobs"] == "0.1 %"
    assert said["counts, none: MB a second of a node, GB/s of all"] == "2, 0.0"
    assert said["frames made again for one"].startswith("50 in the mean, 100 at most")


@pytest.mark.slow
def test_the_quick_mode_prints_the_tables_of_the_page(scale, capsys):
    pytest.importorskip("distributed")
    assert scale.main(["--quick"]) == 0
    out = capsys.readouterr().out
    page = scale.PAGE.read_text(encoding="utf-8")
    heads = [line for line in out.splitlines() if line.startswith("| ") and not line[2].isdigit()]
    for head in heads[:1]:
        assert head in page
    messages = next(line for line in out.splitlines() if line.startswith("| 1 | 12 | "))
    assert 1.0 <= float(messages.split(" | ")[3]) < 10.0  # of a job, with those of the beginning and the end
    assert "One of two workers killed among 12 jobs: 12 ended" in out
