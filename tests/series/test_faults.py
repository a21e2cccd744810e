"""What happens when something dies: real processes, real signals, real limits."""

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401
import numpy as np
import pytest

from bragg_numba import Experiment, InputError
from bragg_numba.series import rotation_series

WORDS = (
    "-cell 50 60 70 80 95 105 -default_F 100 -N 5 -oversample 1 -fluence 1e27 -lambda 1.1 "
    "-detpixels_x 320 -detpixels_y 300 -pixel 0.1 -distance 120 -mosaic_spread 0.3 -mosaic_domains 20"
)
OUTPUT = {"counts": "uint16", "seed": 7, "frames_per_file": 3}
FRAMES = 60  # more than a second of work after the first file: a signal finds the process busy


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    """A series plan, and the bytes of the data files of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("plan")
    series = rotation_series(Experiment.from_nanobragg(WORDS), 0.0, 0.5, FRAMES)
    series.save(folder / "plan.json", OUTPUT)
    series.write(folder / "whole", **OUTPUT)
    files = {path.name.removeprefix("whole"): path.read_bytes() for path in folder.glob("whole_*data_*.h5")}
    assert len(files) == 2 * FRAMES // 3
    return folder / "plan.json", files, folder / "whole"


def _command(plan, prefix, *words):
    return [sys.executable, "-m", "bragg_numba.cli.bragg", "series", str(plan), "-o", str(prefix), *words]


def _start(plan, prefix, *words, **options):
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(_command(plan, prefix, *words), env=environment, **pipes, **options)


def _wait_for(condition, process, seconds=120.0):
    """Wait until a condition holds; fail if the process ends before."""
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, f"ended too early: {process.communicate()}"
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.005)


def _files(folder):
    return {path.name for path in Path(folder).iterdir()}


def _masters(folder):
    return [name for name in _files(folder) if name.endswith("_master.h5")]


def _check_equal(prefix, plan):
    """The data files are those of the uninterrupted run byte for byte, and so is what the masters show."""
    _, files, whole = plan
    for ending, content in files.items():
        assert Path(f"{prefix}{ending}").read_bytes() == content, ending
    for name in ("_master.h5", "_counts_master.h5"):
        with h5py.File(f"{prefix}{name}") as a, h5py.File(f"{whole}{name}") as b:
            assert np.array_equal(a["/entry/data/data"], b["/entry/data/data"])
            assert np.array_equal(a["/entry/truth/frames"], b["/entry/truth/frames"])
            assert a["/entry/data/data"][()].any()
            assert "end_time" in a["/entry"]
    left = [name for name in _files(Path(prefix).parent) if name.endswith((".part", ".lock"))]
    assert left == []


@pytest.mark.parametrize("moment", ["in the first file", "after two files"])
def test_a_process_killed_at_any_moment_leaves_whole_files_and_resume_completes_them(plan, tmp_path, moment):
    prefix = tmp_path / "s"
    process = _start(plan[0], prefix)
    if moment == "in the first file":
        _wait_for(lambda: any(name.endswith(".part") for name in _files(tmp_path)), process)
    else:
        _wait_for(lambda: "s_counts_data_000002.h5" in _files(tmp_path), process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert _masters(tmp_path) == []
    for name in _files(tmp_path):
        assert name.endswith((".part", ".lock")) or Path(tmp_path / name).read_bytes() == plan[1][name[1:]], name
    done = subprocess.run(_command(plan[0], prefix, "--resume"), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    _check_equal(prefix, plan)


def test_resuming_a_whole_series_renders_nothing(plan, tmp_path):
    from bragg_numba.series import load_plan

    series, output = load_plan(plan[0])
    series.write(tmp_path / "s", **output)
    before = {name: os.stat(tmp_path / name).st_mtime_ns for name in _files(tmp_path) if "_data_" in name}
    result = series.write(tmp_path / "s", resume=True, **output)
    assert result.rendered == 0
    assert {name: os.stat(tmp_path / name).st_mtime_ns for name in before} == before


def test_resume_refuses_the_files_of_another_series(plan, tmp_path):
    from bragg_numba.series import load_plan

    series, output = load_plan(plan[0])
    series.write(tmp_path / "s", **output)
    with pytest.raises(InputError, match="another series"):
        series.write(tmp_path / "s", resume=True, **{**output, "seed": 8})
    with pytest.raises(InputError, match="exists already"):
        series.write(tmp_path / "s", **output)
    _check_equal(tmp_path / "s", plan)


def test_ctrl_c_ends_with_a_sentence_and_no_half_file(plan, tmp_path):
    process = _start(plan[0], tmp_path / "s")
    _wait_for(lambda: any(name.endswith(".part") for name in _files(tmp_path)), process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in errors
    assert "Traceback" not in errors
    assert _masters(tmp_path) == []
    assert not [name for name in _files(tmp_path) if name.endswith((".part", ".lock"))]
    done = subprocess.run(_command(plan[0], tmp_path / "s", "--resume"), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    _check_equal(tmp_path / "s", plan)


def _limit_files():
    # Any file that grows beyond 300 kB: the system refuses, as a quota does.
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))


@pytest.mark.parametrize("compression", ["none", "bslz4", "zstd"])
def test_a_file_that_may_not_grow_ends_with_a_sentence(plan, tmp_path, compression):
    # The cache of compiled kernels must be warm: it is written under the same limit.
    process = _start(plan[0], tmp_path / "s", "--compression", compression, preexec_fn=_limit_files)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 2
    assert "cannot be written" in errors
    assert "File too large" in errors
    assert "Traceback" not in errors
    assert _masters(tmp_path) == []
    assert not [name for name in _files(tmp_path) if name.endswith((".part", ".lock"))]


def test_a_full_disk_ends_with_a_sentence_and_resume_completes_the_rest(plan, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("no right to mount a tmpfs here")
    try:
        done = subprocess.run(_command(plan[0], disk / "s"), capture_output=True, text=True)
        assert done.returncode == 2
        assert "No space left on device" in done.stderr
        assert "Traceback" not in done.stderr
        assert _masters(disk) == []
        assert not [name for name in _files(disk) if name.endswith((".part", ".lock"))]
        assert any("_data_" in name for name in _files(disk))
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        done = subprocess.run(_command(plan[0], disk / "s", "--resume"), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        _check_equal(disk / "s", plan)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_an_unwritable_folder_is_found_before_any_work(plan, tmp_path):
    (tmp_path / "file").write_text("in the way")
    done = subprocess.run(_command(plan[0], tmp_path / "file" / "s"), capture_output=True, text=True)
    assert done.returncode == 2
    assert "cannot be written" in done.stderr
    # /proc is a folder in which nobody can make a file, whoever one is.
    done = subprocess.run(_command(plan[0], "/proc/s"), capture_output=True, text=True)
    assert done.returncode == 2
    assert "cannot be written" in done.stderr
    assert "frames/s" not in done.stdout


def test_two_processes_do_not_write_one_series(plan, tmp_path):
    process = _start(plan[0], tmp_path / "s")
    try:
        _wait_for(lambda: any(name.endswith(".part") for name in _files(tmp_path)), process)
        process.send_signal(signal.SIGSTOP)  # it may be quicker than the second one starts
        second = subprocess.run(_command(plan[0], tmp_path / "s", "--resume"), capture_output=True, text=True)
        process.send_signal(signal.SIGCONT)
        assert second.returncode == 2
        assert "another process writes" in second.stderr
        process.communicate(timeout=120)
        assert process.returncode == 0
    finally:
        process.kill()
    _check_equal(tmp_path / "s", plan)


@pytest.fixture
def cluster():
    """Two Dask workers on this machine."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, env={"NUMBA_NUM_THREADS": "1"}, silence_logs=50
    ) as made:
        yield made


def test_a_killed_worker_is_replaced_and_nothing_is_lost(plan, tmp_path, cluster):
    process = _start(plan[0], tmp_path / "s", "--scheduler", cluster.scheduler_address)
    _wait_for(lambda: any(name.endswith(".part") for name in _files(tmp_path)), process)
    # The temporary file is named after the process that writes it.
    part = next(name for name in _files(tmp_path) if name.endswith(".part"))
    victim = int(part.split(".h5.")[1].split("-")[0])
    assert victim != process.pid
    os.kill(victim, signal.SIGKILL)
    _, errors = process.communicate(timeout=180)
    assert process.returncode == 0, errors
    _check_equal(tmp_path / "s", plan)


def test_a_lost_scheduler_ends_with_a_sentence_and_resume_completes(plan, tmp_path):
    distributed = pytest.importorskip("distributed")
    cluster = distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, dashboard_address=None, env={"NUMBA_NUM_THREADS": "1"}, silence_logs=50
    )
    try:
        process = _start(plan[0], tmp_path / "s", "--scheduler", cluster.scheduler_address)
        _wait_for(lambda: "s_counts_data_000001.h5" in _files(tmp_path), process)
    finally:
        cluster.close()
    _, errors = process.communicate(timeout=180)
    assert process.returncode == 2, errors
    assert "error: scheduler" in errors
    assert _masters(tmp_path) == []
    done = subprocess.run(_command(plan[0], tmp_path / "s", "--resume"), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    _check_equal(tmp_path / "s", plan)


def test_frames_are_the_same_for_any_number_of_workers(plan, tmp_path):
    pytest.importorskip("distributed")
    done = subprocess.run(_command(plan[0], tmp_path / "s", "--workers", "local:2"), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    _check_equal(tmp_path / "s", plan)


def test_a_scheduler_that_is_not_there_is_refused(plan, tmp_path):
    pytest.importorskip("distributed")
    from bragg_numba.series import load_plan

    series, output = load_plan(plan[0])
    with pytest.raises(InputError, match="scheduler"):
        series.write(tmp_path / "s", scheduler="no such address", **output)
    with pytest.raises(InputError, match="workers must be"):
        series.write(tmp_path / "s", workers="remote:2", **output)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_ctrl_c_that_a_destructor_swallowed_is_heard_between_frames():
    from bragg_numba.series import interrupts

    class Swallows:
        def __del__(self):
            signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with interrupts.listening():
        Swallows()
        with pytest.raises(KeyboardInterrupt):
            interrupts.check()
        interrupts.check()
    assert signal.getsignal(signal.SIGINT) is before
