"""A long series has a master for each run of frames, and an index that is read as if it were one master."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401
import numpy as np
import pytest

from bragg_numba import Experiment, InputError, Series, still_series
from bragg_numba.cli import compare
from bragg_numba.cli.bragg import main
from bragg_numba.cli.info import describe
from bragg_numba.io import frame_index
from bragg_numba.series.options import OutputOptions
from bragg_numba.series.source import open_source, write_counts
from bragg_numba.view.scene import open_scene

WORDS = "-cell 78 78 37 90 90 90 -default_F 100 -N 5 -lambda 1 -distance 100 -detpixels 64 -pixel 1 -fluence 1e24"
OUTPUT = {"counts": "uint16", "frames_per_file": 2, "seed": 7, "spot_threshold": 1e-3, "response": "jungfrau"}
FRAMES = 11
RUNS = [range(0, 4), range(4, 8), range(8, 11)]  # of 2, 2 and 2 data files, the last of them shorter


@dataclass(frozen=True)
class Written:
    """The same series with one master and with three."""

    series: Series
    whole: object
    split: object


def make_series() -> Series:
    return still_series(
        Experiment.from_nanobragg(WORDS),
        FRAMES,
        seed=3,
        distributions={"wavelength_A": {"normal": [1.0, 0.05]}},
        lattices={"hit_rate": 0.8, "count": {"1": 0.5, "2": 0.5}},
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    series, folder = make_series(), tmp_path_factory.mktemp("split")
    whole = series.write(folder / "whole" / "s", **OUTPUT)
    return Written(series, whole, series.write(folder / "split" / "s", frames_per_master=4, **OUTPUT))


@pytest.fixture
def copied(written, tmp_path):
    """The split series where it may be damaged: its folder, and the index of its counts."""
    folder = tmp_path / "copy"
    shutil.copytree(Path(written.split.masters[1]).parent, folder)
    return folder / "s_counts_index.h5"


def digest(path) -> bytes:
    return Path(path).read_bytes()


def frames_in(path) -> np.ndarray:
    with h5py.File(path) as file:
        return file["/entry/data/data"][()]


def test_data_files_do_not_depend_on_how_masters_share_them(written):
    assert len(written.whole.data_files) == len(written.split.data_files) == 12
    for one, other in zip(written.whole.data_files, written.split.data_files, strict=True):
        assert digest(one) == digest(other)


def test_the_names_say_what_is_an_index_and_what_the_master_of_a_run(written):
    assert [Path(path).name for path in written.split.masters] == ["s_index.h5", "s_counts_index.h5"]
    assert {Path(path).name for path in written.split.runs} == {
        f"s{product}_run{number:04d}_master.h5" for product in ("", "_counts") for number in (1, 2, 3)
    }
    assert written.whole.runs == ()
    assert not list(Path(written.whole.masters[0]).parent.glob("*run0*"))


@pytest.mark.parametrize("product", [0, 1], ids=["photons", "counts"])
def test_an_index_is_read_as_the_master_is(written, product):
    with open_source(written.whole.masters[product]) as whole, open_source(written.split.masters[product]) as split:
        assert len(split.series) == FRAMES and split.has_spots
        assert split.series.frames.digest(0, FRAMES) == whole.series.frames.digest(0, FRAMES)
        assert split.table().tobytes() == whole.table().tobytes()
        assert split.lattice_table().tobytes() == whole.lattice_table().tobytes()
        for index in (10, *range(FRAMES)):
            assert np.array_equal(split.frame(index), whole.frame(index), equal_nan=True)
            for one, other in zip(split.truth(index), whole.truth(index), strict=True):
                assert one.tobytes() == other.tobytes()
            assert split.lattices(index).tobytes() == whole.lattices(index).tobytes()


def test_few_masters_are_open_at_a_time(written, monkeypatch):
    monkeypatch.setattr(frame_index, "OPEN_MASTERS", 2)
    with open_source(written.whole.masters[1]) as whole, open_source(written.split.masters[1]) as split:
        for index in (0, 10, 5, 1, 9, 6, 2):
            assert np.array_equal(split.frame(index), whole.frame(index))
            assert len(split.frames._runs) <= 2


def test_any_program_that_follows_virtual_datasets_reads_the_index(written):
    assert np.array_equal(frames_in(written.split.masters[1]), frames_in(written.whole.masters[1]))
    with h5py.File(written.split.masters[1]) as split, h5py.File(written.whole.masters[1]) as whole:
        for name in ("frames", "lattices"):
            assert split[f"/entry/truth/{name}"][()].tobytes() == whole[f"/entry/truth/{name}"][()].tobytes()
        assert [source.file_name for source in split["/entry/data/data"].virtual_sources()] == [
            f"s_counts_run{number:04d}_master.h5" for number in (1, 2, 3)
        ]
        said, of_master = split["/entry/process"], whole["/entry/process"]
        assert set(said) == {*of_master, "runs"} and "response" in said
        assert all(said[name][()] == of_master[name][()] for name in ("experiment", "noise", "response"))


def test_the_master_of_a_run_is_a_whole_one_with_its_frames(written):
    whole = frames_in(written.whole.masters[1])
    counts = [path for path in written.split.runs if "_counts_" in path]
    for path, frames in zip(counts, RUNS, strict=True):
        with h5py.File(path) as file:
            assert np.array_equal(file["/entry/data/data"][()], whole[frames.start : frames.stop])
            # XDS counts the data files from 1.
            assert sorted(file["/entry/data"]) == ["data", "data_000001", "data_000002"]
            assert file["/entry/truth/frames"]["frame"].tolist() == list(frames)
            wavelengths = written.series.frames["wavelength_A"][frames.start : frames.stop]
            assert np.array_equal(file["/entry/instrument/beam/incident_wavelength"][()], wavelengths)
        with open_source(path) as source:
            assert source.series.first_frame == frames.start
            assert len(source.lattices(0)) == written.series.frames.lattices[frames.start]
        prefix = Path(path).parent / Path(path).name.replace("_counts", "").removesuffix("_master.h5")
        assert Path(path).name in prefix.with_suffix(".expt").read_text()


@pytest.mark.parametrize("response", [None, "jungfrau"])
def test_counts_drawn_from_a_run_or_the_index_are_those_of_the_series(written, tmp_path, response):
    whole, split, run = tmp_path / "whole.h5", tmp_path / "split.h5", tmp_path / "run.h5"
    options = {"response": response, "counts": "uint16"}
    write_counts(written.whole.masters[0], whole, **options)
    write_counts(written.split.masters[0], split, **options)
    write_counts(next(path for path in written.split.runs if path.endswith("s_run0002_master.h5")), run, **options)
    assert np.array_equal(frames_in(split), frames_in(whole))
    # Noise counts from the frame's number in the series, a detector's gain from the wavelength of its frame 0.
    assert np.array_equal(frames_in(run), frames_in(whole)[4:8])
    if response:
        assert np.array_equal(frames_in(whole), frames_in(written.whole.masters[1]))


def test_a_run_is_rendered_again_from_its_master(written, tmp_path):
    path = next(path for path in written.split.runs if path.endswith("s_counts_run0003_master.h5"))
    assert main(["series", path, "-o", str(tmp_path / "again"), "--quiet"]) == 0
    assert np.array_equal(frames_in(tmp_path / "again_counts_master.h5"), frames_in(written.whole.masters[1])[8:])


def test_info_view_compare_and_export_take_an_index(written, tmp_path, capsys):
    index, whole = written.split.masters[1], written.whole.masters[1]
    report = describe(index)
    assert report["kind"] == "series" and report["frames"] == FRAMES
    assert report["masters"] == [f"s_counts_run{number:04d}_master.h5" for number in (1, 2, 3)]
    assert report["data_files"] == [f"s_counts_data_{number:06d}.h5" for number in range(1, 7)]
    assert report["crystals"] == describe(whole)["crystals"] and report["noise"] == describe(whole)["noise"]
    with open_scene(index) as scene, open_scene(whole) as other:
        layers, wanted = scene.layers, other.layers
        assert [layer.name for layer in layers] == [layer.name for layer in wanted]
        for one, its in zip(layers, wanted, strict=True):
            assert np.array_equal(one.read(9), its.read(9), equal_nan=True)
    assert main(["view", index, "--frame", "9", "--spots", "-o", str(tmp_path / "9.png")]) == 0
    assert compare.main(["--images", index, whole, "--outdir", str(tmp_path / "compared")]) == 0
    assert main(["export", index, "--stream", str(tmp_path / "s.stream")]) == 0
    assert (tmp_path / "s.stream").read_text().count("Begin chunk") == FRAMES


def test_a_master_of_a_run_that_is_missing_or_anothers_is_named(copied, capsys):
    second, third = (copied.with_name(f"s_counts_run000{number}_master.h5") for number in (2, 3))
    second.unlink()
    with pytest.raises(InputError, match=r"s_counts_run0002_master.h5.* does not exist"), open_source(copied):
        pass
    assert main(["info", str(copied)]) == 1
    assert "s_counts_run0002_master.h5  does not exist" in capsys.readouterr().out
    shutil.copy(third, second)
    with pytest.raises(InputError, match=r"run0002_master.h5.* belongs to another series"), open_source(copied):
        pass


def test_a_data_file_of_a_run_that_is_missing_is_named_when_a_frame_of_it_is_read(copied):
    copied.with_name("s_counts_data_000003.h5").unlink()
    with open_source(copied) as source:
        source.frame(3)
        source.frame(6)
        with pytest.raises(InputError, match=r"s_counts_data_000003.h5.* does not exist"):
            source.frame(4)
    assert list(describe(str(copied))["bad_data_files"]) == [str(copied.with_name("s_counts_data_000003.h5"))]


@pytest.mark.parametrize(
    ("what", "rows"),
    [("fewer frames", [("a", 4, 2)]), ("no masters", []), ("no frames", [("a", 0, 0), ("b", 11, 6)])],
)
def test_an_index_that_does_not_fit_itself_is_refused(copied, what, rows):
    with h5py.File(copied, "r+") as file:
        kind = file["/entry/process/runs"].dtype
        del file["/entry/process/runs"]
        file["/entry/process/runs"] = np.array(rows, dtype=kind)
    with pytest.raises(InputError, match="in a way that is not understood"), open_source(copied):
        pass


def test_nothing_is_written_over_a_file_that_an_index_reads(written, copied):
    with open_source(copied) as source:
        for name in ("s_counts_index.h5", "s_counts_run0002_master.h5", "s_counts_data_000005.h5"):
            with pytest.raises(InputError, match="must not be a file"):
                source.require_other(copied.with_name(name))
        source.require_other(copied.with_name("other.h5"))


def test_resume_makes_what_is_missing_and_the_index_last(written, copied):
    before = {path.name: digest(path) for path in copied.parent.glob("*_data_*")}
    copied.with_name("s_counts_data_000004.h5").unlink()
    result = make_series().write(copied.parent / "s", resume=True, frames_per_master=4, **OUTPUT)
    assert result.rendered == 2
    assert {path.name: digest(path) for path in copied.parent.glob("*_data_*")} == before
    assert np.array_equal(frames_in(copied), frames_in(written.whole.masters[1]))


def test_a_series_that_is_split_anew_leaves_no_master_of_before(written, copied):
    result = make_series().write(copied.parent / "s", resume=True, **OUTPUT)
    assert result.rendered == 0 and result.runs == ()
    assert {path.name for path in copied.parent.glob("*.h5") if "_data_" not in path.name} == {"s_counts_master.h5"}
    assert np.array_equal(frames_in(result.masters[1]), frames_in(written.whole.masters[1]))
    assert main(["series", result.masters[1], "-o", str(copied.parent / "s"), "--resume", "--quiet",
                 "--frames-per-master", "8"]) == 0  # fmt: skip
    assert {path.name for path in copied.parent.glob("*.h5") if "_data_" not in path.name} == {
        "s_counts_index.h5", "s_counts_run0001_master.h5", "s_counts_run0002_master.h5"
    }  # fmt: skip


def test_a_master_of_a_run_is_taken_for_no_series_of_its_own(copied):
    """The run's name is a prefix that somebody might choose, or resume by."""
    run = copied.with_name("s_counts_run0002_master.h5")
    before = digest(run)
    for how in ({"resume": True}, {"overwrite": True}):
        with pytest.raises(InputError, match="is the master of one run of a longer series"):
            make_series().write(copied.parent / "s_counts_run0002", **{**OUTPUT, "photons": False, **how})
    assert digest(run) == before


def test_a_series_whose_name_is_that_of_a_run_is_left_alone(tmp_path):
    series = still_series(Experiment.from_nanobragg(WORDS), 3, seed=1)
    series.write(tmp_path / "s_run0001")
    before = {path.name: digest(path) for path in tmp_path.iterdir()}
    with pytest.raises(InputError, match="exists already and is no master of a run of s"):
        series.write(tmp_path / "s", frames_per_file=1, frames_per_master=1, overwrite=True)
    assert {path.name: digest(path) for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("given", "files"),
    [
        ({}, 1000),
        ({"frames_per_file": 1}, 1000),
        ({"frames_per_file": 5000}, 20),
        ({"frames_per_file": 1_000_000}, 1),
        ({"frames_per_file": 10, "frames_per_master": 30}, 3),
    ],
)
def test_a_master_has_a_thousand_data_files_or_as_many_as_were_said(given, files):
    assert OutputOptions(**given).files_per_master == files


def test_a_master_has_whole_data_files():
    with pytest.raises(InputError, match="frames_per_master must be a multiple of frames_per_file"):
        OutputOptions(frames_per_file=10, frames_per_master=25)


def test_what_was_not_said_is_not_written():
    """Masters that are not split, and digests, are as before there was a way to split them."""
    assert "frames_per_master" not in OutputOptions().to_dict()
    split = OutputOptions(frames_per_master=100)
    assert OutputOptions.from_dict(split.to_dict()) == split
    assert split.pixel_options() == OutputOptions().pixel_options()


def test_a_part_of_a_series_draws_what_the_series_does(written, tmp_path):
    """Frames 4 and 5 by themselves, as a plan for another machine would have them."""
    series = written.series
    values = json.loads(series.to_json())
    part = series.part(4, 6)
    values["frames"], values["first_frame"] = part.frames.to_dict(), 4
    values["reference"] = series.frames.part(0, 1).to_dict()
    assert values == json.loads(part.to_json())
    loaded = Series.from_json(json.dumps(values))
    assert loaded.experiment_of(1) == series.experiment_of(5)
    result = loaded.write(tmp_path / "p", **OUTPUT)
    for path in result.data_files:
        name = Path(path).name.replace("p_", "s_").replace("000001", "000003")
        wanted = [digest(other) for other in written.whole.data_files if Path(other).name == name]
        assert digest(path) in wanted


@pytest.mark.parametrize("first", [-1, 1.5, "one"])
def test_the_number_of_the_first_frame_is_a_whole_one(first):
    with pytest.raises(InputError, match="first_frame"):
        Series(Experiment.from_nanobragg(WORDS), {"phi_deg": [0.0]}, first_frame=first)


def test_a_part_is_said_of_a_table_alone():
    plan = {"format": "bragg_numba series", "version": 1, "nanobragg": WORDS, "stills": {"n": 2}, "first_frame": 2}
    with pytest.raises(InputError, match="first_frame is said of a table of frames alone"):
        Series.from_json(json.dumps(plan))
