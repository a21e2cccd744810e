"""Data files that are missing, unreadable, cut short or another's: named in an error, never read as zeros."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import pytest

from bragg_numba import Experiment, InputError
from bragg_numba.cli.bragg import main
from bragg_numba.io.frame_stack import FrameStack
from bragg_numba.lab.parity.images import load_image
from bragg_numba.series import rotation_series, still_series
from bragg_numba.series.source import open_source

WORDS = (
    "-cell 50 60 70 80 95 105 -default_F 100 -N 5 -oversample 1 -fluence 1e28 -lambda 1.1 "
    "-detpixels_x 40 -detpixels_y 30 -pixel 0.2 -distance 120"
)
FRAMES, PER_FILE = 6, 2
BAD = "s_data_000002.h5"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A series of 6 frames in files of 2, photons and counts; and another of the same shape beside it."""
    folder = tmp_path_factory.mktemp("written")
    experiment = Experiment.from_nanobragg(WORDS)
    options = {"counts": "uint16", "seed": 7, "frames_per_file": PER_FILE}
    rotation_series(experiment, 0.0, 1.0, FRAMES).write(folder / "s", **options)
    rotation_series(experiment, 50.0, 1.0, FRAMES).write(folder / "other", **options)
    return folder


@pytest.fixture
def folder(written, tmp_path):
    """A copy of it, to be spoiled."""
    shutil.copytree(written, tmp_path / "run")
    return tmp_path / "run"


def _missing(path):
    path.unlink()


def _a_folder(path):
    path.unlink()
    path.mkdir()


def _a_pipe(path):
    path.unlink()
    os.mkfifo(path)


def _a_broken_link(path):
    path.unlink()
    path.symlink_to("nowhere.h5")


def _empty(path):
    path.write_bytes(b"")


def _garbage(path):
    path.write_bytes(b"no HDF5 " * 1000)


def _half(path):
    os.truncate(path, path.stat().st_size // 2)


def _one_byte_short(path):
    os.truncate(path, path.stat().st_size - 1)


def _the_head_alone(path):
    path.write_bytes(path.read_bytes()[:8])


def _of_another_series(path):
    shutil.copy(path.with_name(path.name.replace("s_", "other_")), path)


def _other_frames_of_the_series(path):
    shutil.copy(path.with_name(path.name.replace("000002", "000003")), path)


def _counts(path):
    shutil.copy(path.with_name(path.name.replace("data", "counts_data")), path)


def _rewritten(path, shape=(PER_FILE, 30, 40), dtype=np.float32, frames=PER_FILE, **options):
    """A data file with the right digest whose dataset is not what it was."""
    with h5py.File(path, "r+") as file:
        del file["/entry/data/data"]
        data = file.create_dataset("/entry/data/data", shape, dtype, **options)
        for index in range(frames):
            data[index] = 1


def _of_another_shape(path):
    _rewritten(path, shape=(PER_FILE, 30, 50))


def _of_fewer_frames(path):
    _rewritten(path, shape=(1, 30, 40), frames=1)


def _of_another_type(path):
    _rewritten(path, dtype=np.float64)


def _without_its_last_frame(path):
    _rewritten(path, chunks=(1, 30, 40), frames=1)


def _never_written(path):
    _rewritten(path, frames=0)


def _without_its_dataset(path):
    with h5py.File(path, "r+") as file:
        del file["/entry/data/data"]


def _in_a_file_beside(path):
    _rewritten(path, external="pixels.raw", frames=0)


def _virtual_in_turn(path):
    with h5py.File(path, "r+") as file:
        del file["/entry/data/data"]
        layout = h5py.VirtualLayout((PER_FILE, 30, 40), np.float32)
        layout[:] = h5py.VirtualSource("gone.h5", "data", (PER_FILE, 30, 40))
        file["/entry/data"].create_virtual_dataset("data", layout)


SPOILERS = [
    _missing,
    _a_folder,
    _a_pipe,
    _a_broken_link,
    _empty,
    _garbage,
    _half,
    _one_byte_short,
    _the_head_alone,
    _of_another_series,
    _other_frames_of_the_series,
    _counts,
    _of_another_shape,
    _of_fewer_frames,
    _of_another_type,
    _without_its_last_frame,
    _never_written,
    _without_its_dataset,
    _in_a_file_beside,
    _virtual_in_turn,
]
READERS = {
    "noise": ["noise", "s_master.h5", "-o", "out.h5"],
    "nxmx": ["export", "s_master.h5", "--nxmx", "out.h5"],
    "export": ["export", "s_master.h5", "-o", "out"],
    "view": ["view", "s_master.h5", "--frame", "3", "-o", "out.png"],
    "page": ["view", "s_master.h5", "--html", "out.html"],
}


@pytest.mark.parametrize("spoil", SPOILERS, ids=lambda spoil: spoil.__name__.strip("_"))
def test_every_reader_names_the_file_that_is_bad_and_writes_nothing(folder, spoil, monkeypatch, capfd):
    spoil(folder / BAD)
    monkeypatch.chdir(folder)
    before = set(os.listdir())
    for name, words in READERS.items():
        assert main(words) == 2, name
        said = capfd.readouterr().err
        assert said.startswith("error: ") and BAD in said.split(" ", 2)[1], (name, said)
        assert set(os.listdir()) == before, name


@pytest.mark.parametrize("spoil", SPOILERS, ids=lambda spoil: spoil.__name__.strip("_"))
def test_info_says_which_data_files_are_bad(folder, spoil, capsys):
    spoil(folder / BAD)
    (folder / "s_data_000003.h5").unlink()
    assert main(["info", str(folder / "s_master.h5"), "--json"]) == 1
    said = capsys.readouterr()
    bad = json.loads(said.out)["bad_data_files"]
    assert [Path(name).name for name in bad] == [BAD, "s_data_000003.h5"]
    assert "2 of 3 data files are missing or bad" in said.err


def test_a_file_that_may_not_be_read_is_refused_and_not_made_again(written):
    with tempfile.TemporaryDirectory() as folder:  # one that everybody may enter
        os.chmod(folder, 0o777)
        for path in written.glob("s_*.h5"):
            shutil.copy(path, folder)
        path = Path(folder, BAD)
        path.chmod(0)
        administrator = os.geteuid() == 0
        if administrator:
            os.seteuid(65534)  # somebody whom modes stop
        try:
            refused = pytest.raises(InputError, match=f"{BAD} cannot be read: Permission denied")
            with refused, open_source(Path(folder, "s_master.h5")):
                pass
            assert main(["info", str(Path(folder, "s_master.h5"))]) == 1
            series = rotation_series(Experiment.from_nanobragg(WORDS), 0.0, 1.0, FRAMES)
            with pytest.raises(InputError, match=f"{BAD} cannot be read: Permission denied"):
                series.write(Path(folder, "s"), resume=True, counts="uint16", frames_per_file=PER_FILE, seed=7)
        finally:
            if administrator:
                os.seteuid(0)
        assert path.stat().st_mode & 0o777 == 0


def test_info_of_a_whole_series_complains_of_nothing(folder, capsys):
    assert main(["info", str(folder / "s_master.h5")]) == 0
    said = capsys.readouterr()
    assert "bad" not in said.out + said.err
    assert "bitshuffle" in said.out


def test_an_image_for_comparison_is_not_made_of_zeros_either(folder):
    frame = load_image(folder / "s_master.h5")
    with h5py.File(folder / "s_data_000001.h5") as file:
        assert np.array_equal(frame, file["/entry/data/data"][0])
    for spoil in (_half, _of_another_series, _missing):
        spoil(folder / "s_data_000001.h5")
        with pytest.raises(InputError, match="s_data_000001"):
            load_image(folder / "s_master.h5")


def test_a_file_with_the_right_digest_and_other_pixels_is_found_by_its_truth(folder, capsys):
    _rewritten(folder / BAD, chunks=(1, 30, 40))
    assert main(["noise", str(folder / "s_master.h5"), "-o", str(folder / "out.h5")]) == 2
    assert "frame 2 that is not the one its truth was written for" in capsys.readouterr().err
    # Counts, of which a thousand and more are expected: a hole in a file that was copied with holes.
    bright = rotation_series(Experiment.from_nanobragg(WORDS.replace("1e28", "1e30")), 0.0, 1.0, 1)
    bright.write(folder / "b", photons=False, counts="uint32", compression="none")
    with h5py.File(folder / "b_data_000001.h5", "r+") as file:
        file["/entry/data/data"][0] = 0
    assert main(["export", str(folder / "b_master.h5"), "--nxmx", str(folder / "out.h5")]) == 2
    assert "frame 0 that is not" in capsys.readouterr().err


def test_spots_that_are_missing_are_not_left_out(folder, capsys):
    with h5py.File(folder / BAD, "r+") as file:
        assert len(file["/entry/truth/spots"])
        del file["/entry/truth/spots"]
    assert main(["noise", str(folder / "s_master.h5"), "-o", str(folder / "out.h5")]) == 2
    assert f"{BAD} lacks spots of frame 2" in capsys.readouterr().err


@pytest.mark.parametrize("spoil", [_half, _garbage, _without_its_last_frame, _missing])
def test_resuming_makes_again_what_is_not_whole_and_says_so(written, folder, spoil):
    spoil(folder / BAD)
    series, options = rotation_series(Experiment.from_nanobragg(WORDS), 0.0, 1.0, FRAMES), {"seed": 7}
    result = series.write(folder / "s", resume=True, counts="uint16", frames_per_file=PER_FILE, **options)
    assert result.rendered == PER_FILE
    assert (folder / BAD).read_bytes() == (written / BAD).read_bytes()
    assert any(BAD in note for note in result.notes) == (spoil is not _missing)


@pytest.mark.parametrize("spoil", [_a_folder, _a_pipe, _of_another_series, _of_another_shape, _without_its_dataset])
def test_resuming_refuses_what_is_not_its_own_before_it_renders(folder, spoil):
    spoil(folder / BAD)
    (folder / "s_data_000001.h5").unlink()
    series = rotation_series(Experiment.from_nanobragg(WORDS), 0.0, 1.0, FRAMES)
    with pytest.raises(InputError, match=BAD):
        series.write(folder / "s", resume=True, counts="uint16", frames_per_file=PER_FILE, seed=7)
    assert not (folder / "s_data_000001.h5").exists()


#: What makes noise.h5 and nxmx.h5 of a series whose counts were drawn with seed 7.
READING = ["noise s_master.h5 -o noise.h5 --seed 7", "export s_counts_master.h5 --nxmx nxmx.h5"]

RUN_ALL = """
import sys
from bragg_numba.cli.bragg import main
sys.exit(max(main(line.split()) for line in sys.argv[1:]))
"""


def _run_commands(lines, **options):
    """Run command lines one after another in a process of their own; all must succeed."""
    command = [sys.executable, "-c", RUN_ALL, *lines]
    done = subprocess.run(command, capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stderr


def _few_files():
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))


def test_many_data_files_are_read_under_a_low_limit_of_open_files(tmp_path):
    n = 80
    tiny = WORDS.replace("40", "12").replace("30", "10")
    series = still_series(Experiment.from_nanobragg(tiny), n, seed=1)
    series.save(tmp_path / "plan.json", {"frames_per_file": 1, "counts": "uint16", "seed": 7, "prefix": "s"})
    _run_commands(
        ["series plan.json --quiet", "series plan.json --quiet --resume", *READING, "info s_master.h5"],
        cwd=tmp_path,
        preexec_fn=_few_files,
    )
    with open_source(tmp_path / "s_counts_master.h5") as source:
        expected = np.array([source.frame(index) for index in range(n)])
        assert all(source.truth(index)[1] is not None for index in range(n))
    for name in ("noise.h5", "nxmx.h5"):
        with h5py.File(tmp_path / name) as file:
            assert np.array_equal(file["/entry/data/data"], expected)
    assert expected.any(axis=(1, 2)).all()


@pytest.mark.parametrize("counts", ["uint16", "uint32"])
def test_other_programs_read_no_count_where_a_data_file_is_missing(tmp_path, counts):
    series = rotation_series(Experiment.from_nanobragg(WORDS), 0.0, 1.0, 2)
    series.write(tmp_path / "s", counts=counts, frames_per_file=1)
    (tmp_path / "s_data_000002.h5").unlink()
    (tmp_path / "s_counts_data_000002.h5").unlink()
    with h5py.File(tmp_path / "s_master.h5") as photons, h5py.File(tmp_path / "s_counts_master.h5") as file:
        assert np.isfinite(photons["/entry/data/data"][0]).all()
        assert np.isnan(photons["/entry/data/data"][1]).all()
        assert (file["/entry/data/data"][1] == np.iinfo(counts).max).all()
        assert file["/entry/data/data"][0].max() < file["/entry/instrument/detector/saturation_value"][()]


def test_a_percent_sign_in_a_name_is_no_pattern(tmp_path):
    series = rotation_series(Experiment.from_nanobragg(WORDS), 0.0, 1.0, 2)
    series.write(tmp_path / "50%b_10%x", frames_per_file=1)
    with open_source(tmp_path / "50%b_10%x_master.h5") as source:
        frames = np.array([source.frame(index) for index in range(2)])
    with h5py.File(tmp_path / "50%b_10%x_master.h5") as file:
        assert np.array_equal(file["/entry/data/data"], frames)


@pytest.mark.parametrize("where", ["elsewhere/link.h5", "elsewhere/second/link.h5"])
def test_a_master_may_be_a_symbolic_link(folder, tmp_path, where, capsys):
    link = tmp_path / where
    link.parent.mkdir(parents=True)
    if link.parent.name == "second":  # a link to a link, by relative names
        (tmp_path / "elsewhere/first.h5").symlink_to("../run/s_master.h5")
        link.symlink_to("../first.h5")
    else:
        link.symlink_to(folder / "s_master.h5")
    assert main(["noise", str(link), "-o", str(tmp_path / "a.h5"), "--seed", "7"]) == 0
    assert main(["info", str(link)]) == 0
    with h5py.File(tmp_path / "a.h5") as a, h5py.File(folder / "s_counts_master.h5") as b:
        assert np.array_equal(a["/entry/data/data"], b["/entry/data/data"])
    (folder / BAD).unlink()
    assert main(["noise", str(link), "-o", str(tmp_path / "b.h5")]) == 2
    assert BAD in capsys.readouterr().err


def test_data_files_beside_the_link_serve_too(folder, tmp_path):
    (tmp_path / "s_master.h5").symlink_to(folder / "s_master.h5")
    for path in folder.glob("s_data_*"):
        shutil.move(path, tmp_path / path.name)
    with open_source(tmp_path / "s_master.h5") as source:
        assert source.frame(5).any()


def test_a_file_of_the_series_is_never_written_over(folder, capsys):
    (folder / "link.h5").symlink_to(BAD)
    os.link(folder / BAD, folder / "hard.h5")
    os.link(folder / "s_counts_data_000001.h5", folder / "renamed.h5")
    contents = {path: path.read_bytes() for path in folder.iterdir()}
    for name in (
        "s_master.h5",
        "s_data_000001.h5",
        BAD,
        "link.h5",
        "hard.h5",
        "renamed.h5",
        "s_counts_master.h5",
        "s_counts_data_000003.h5",
    ):
        for words in (["noise", "-o"], ["export", "--nxmx"], ["view", "-o"], ["view", "--html"]):
            assert main([words[0], str(folder / "s_master.h5"), words[1], str(folder / name)]) == 2, (words, name)
            assert "must not be a file" in capsys.readouterr().err
    (folder / "x.geom").symlink_to("s_data_000001.h5")
    assert main(["export", str(folder / "s_master.h5"), "-o", str(folder / "x")]) == 2
    assert {path: path.read_bytes() for path in contents} == contents
    # A file of another series is a file like any other.
    assert main(["noise", str(folder / "s_master.h5"), "-o", str(folder / "other_master.h5")]) == 0


def test_an_output_that_is_a_link_or_a_device_stays_one(folder, capsys):
    (folder / "link.h5").symlink_to("target.h5")
    assert main(["noise", str(folder / "s_master.h5"), "-o", str(folder / "link.h5")]) == 0
    assert (folder / "link.h5").is_symlink()
    assert (folder / "target.h5").is_file()
    os.mkfifo(folder / "pipe")
    assert main(["noise", str(folder / "s_master.h5"), "-o", str(folder / "pipe")]) == 2
    assert "not a regular file" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["empty", "own", "several"])
def test_the_folder_in_which_hdf5_looks_for_plugins_does_not_matter(folder, tmp_path, place):
    (tmp_path / "empty").mkdir()
    own = hdf5plugin.PLUGIN_PATH
    places = {"empty": tmp_path / "empty", "own": own, "several": f"{tmp_path}/no:{own}"}
    environment = {**os.environ, "HDF5_PLUGIN_PATH": str(places[place])}
    rotation_series(Experiment.from_nanobragg(WORDS), 0.0, 1.0, 2).save(folder / "plan.json", {"counts": "uint16"})
    series = ["series plan.json -o new --quiet", "series plan.json -o zstd --quiet --compression zstd"]
    _run_commands([*series, *READING], cwd=folder, env=environment)
    with h5py.File(folder / "s_counts_master.h5") as file:
        expected = file["/entry/data/data"][()]
    for name in ("noise.h5", "nxmx.h5"):
        with h5py.File(folder / name) as file:
            assert np.array_equal(file["/entry/data/data"], expected)


def test_frames_of_detectors_that_are_pieced_together_are_read_as_hdf5_reads_them(tmp_path):
    rng = np.random.default_rng(4)
    with h5py.File(tmp_path / "master.h5", "w") as file:
        layout = h5py.VirtualLayout((3, 10, 8), np.uint16)
        for module in range(2):  # above each other, with a gap
            with h5py.File(tmp_path / f"module_{module}.h5", "w") as part:
                part["frames"] = rng.integers(0, 99, (5, 4, 8), dtype=np.uint16)
            source = h5py.VirtualSource(f"module_{module}.h5", "frames", (5, 4, 8), np.uint16)
            layout[:, 6 * module : 6 * module + 4] = source[1:4]
        file.create_virtual_dataset("all", layout, fillvalue=7)
        flat = h5py.VirtualLayout((4, 8), np.uint16)
        flat[:] = h5py.VirtualSource("module_1.h5", "frames", (5, 4, 8), np.uint16)[2]
        file.create_virtual_dataset("flat", flat)
        every_second = h5py.VirtualLayout((3, 4, 8), np.uint16)
        every_second[:] = h5py.VirtualSource("module_1.h5", "frames", (5, 4, 8), np.uint16)[::2]
        file.create_virtual_dataset("strided", every_second)
    with h5py.File(tmp_path / "master.h5") as file:
        for name in ("all", "flat"):
            stack = FrameStack(tmp_path / "master.h5", file, name)
            expected = file[name][()].reshape(stack.shape)
            assert np.array_equal([stack.read(index) for index in range(len(stack))], expected)
            stack.close()
        with pytest.raises(InputError, match="not understood"):
            FrameStack(tmp_path / "master.h5", file, "strided")
    (tmp_path / "module_1.h5").unlink()
    with pytest.raises(InputError, match=r"module_1\.h5 does not exist"):
        load_image(f"{tmp_path / 'master.h5'}::all")


def test_a_frame_that_was_not_written_whole_is_refused(tmp_path, capsys):
    series = rotation_series(Experiment.from_nanobragg(WORDS), 0.0, 1.0, 2)
    series.write(tmp_path / "s")
    assert main(["export", str(tmp_path / "s_master.h5"), "--nxmx", str(tmp_path / "one.h5")]) == 0
    with h5py.File(tmp_path / "one.h5", "r+") as file:
        del file["/entry/data/data"]
        file.create_dataset("/entry/data/data", (2, 30, 40), np.float32, chunks=(1, 30, 40))[0] = 1.0
    for words in (["noise", "-o", "c.h5"], ["view"], ["info"]):
        assert main([words[0], str(tmp_path / "one.h5"), *words[1:]]) == 2
        assert "one.h5 lacks frames" in capsys.readouterr().err
