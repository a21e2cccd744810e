"""What happens when something dies: real processes, real signals, real limits.

Whatever is interrupted here belongs to a series that is far too long to end by itself. Its first frames are those of
a short series, and a data file's digest covers its own frames alone: the short plan resumes what the long one left.
"""

import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401
import numpy as np
import pytest

from bragg_numba import Experiment, InputError
from bragg_numba.cli.bragg import main
from bragg_numba.series import load_plan, rotation_series

WORDS = (
    "-cell 50 60 70 80 95 105 -default_F 100 -N 5 -oversample 1 -fluence 1e27 -lambda 1.1 "
    "-detpixels_x 320 -detpixels_y 300 -pixel 0.1 -distance 120 -mosaic_spread 0.3 -mosaic_domains 20"
)
OUTPUT = {"counts": "uint16", "seed": 7, "frames_per_file": 3}
FRAMES = 12
LONG = 6000  # a minute of work or more, where the signals come within milliseconds


@dataclass(frozen=True)
class Plans:
    """The short plan, the long one that begins like it, and what an uninterrupted run of the short one wrote."""

    short: Path
    long: Path
    whole: Path  #: prefix
    files: dict  #: content of the data files by their names, as templates of the prefix

    def contents(self, prefix) -> dict[str, bytes]:
        """What the data files under a prefix should hold, by their names below its folder."""
        return {name.format(Path(prefix).name): content for name, content in self.files.items()}


@pytest.fixture(scope="module")
def plans(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plan")
    for name, frames in (("short", FRAMES), ("long", LONG)):
        series = rotation_series(Experiment.from_nanobragg(WORDS), 0.0, 0.5, frames)
        series.save(folder / f"{name}.json", OUTPUT)
        if name == "short":
            series.write(folder / "whole", **OUTPUT)
    names = [name for name in _files(folder) if "_data_" in name]
    files = {name.replace("whole", "{0}"): (folder / name).read_bytes() for name in names}
    assert len(files) == 2 * FRAMES // 3
    return Plans(folder / "short.json", folder / "long.json", folder / "whole", files)


def _command(plan, prefix, *words):
    return [sys.executable, "-m", "bragg_numba.cli.bragg", "series", str(plan), "-o", str(prefix), *words]


def _hear_ctrl_c():
    # A shell's background jobs ignore it, and so would their children.
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _start(plan, prefix, *words, preexec_fn=_hear_ctrl_c):
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(_command(plan, prefix, *words), env=environment, preexec_fn=preexec_fn, **pipes)


def _wait_for(condition, process, seconds=120.0):
    """Wait until a condition holds and return what it gave; fail if the process ends before."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert process.poll() is None, f"ended too early: {process.communicate()}"
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.005)
    return found


def _files(folder):
    """Names of all files below a folder, which may be on the move."""
    return {os.path.relpath(os.path.join(where, name), folder) for where, _, names in os.walk(folder) for name in names}


def _parts(folder):
    """Data files that are being written."""
    return sorted(name for name in _files(folder) if name.endswith(".part") and ".h5." in name)


def _masters(folder):
    return [name for name in _files(folder) if name.endswith(("_master.h5", ".geom", ".INP"))]


def _leftovers(folder):
    return [name for name in _files(folder) if name.endswith((".part", ".lock"))]


def _resume_short(plans, prefix):
    """Complete the short series, and check that nothing tells it from the uninterrupted one."""
    assert main(["series", str(plans.short), "-o", str(prefix), "--resume", "--quiet"]) == 0
    _check_equal(prefix, plans)


def _check_equal(prefix, plans):
    """The data files are those of the uninterrupted run byte for byte, and so is what the masters show."""
    prefix = Path(prefix)
    for name, content in plans.contents(prefix).items():
        assert (prefix.parent / name).read_bytes() == content, name
    for name in ("{0}_photons/{0}_master.h5", "{0}_counts_master.h5"):
        mine, whole = (path.parent / name.format(path.name) for path in (prefix, plans.whole))
        with h5py.File(mine) as a, h5py.File(whole) as b:
            assert np.array_equal(a["/entry/data/data"], b["/entry/data/data"])
            assert np.array_equal(a["/entry/truth/frames"], b["/entry/truth/frames"])
            assert a["/entry/data/data"][()].any()
            assert "end_time" in a["/entry"]
    assert Path(f"{prefix}.geom").read_bytes() == Path(f"{plans.whole}.geom").read_bytes()
    assert _leftovers(Path(prefix).parent) == []


def _check_whole(folder, plans):
    """Everything under a final name is whole."""
    assert _masters(folder) == []
    for name in _files(folder):
        if name.endswith(".h5"):
            with h5py.File(Path(folder) / name) as file:
                assert all(file["/entry/data/data"].id.get_chunk_info_by_coord((k, 0, 0)).size for k in range(3))
            if (content := plans.contents("s").get(name)) is not None:
                assert (Path(folder) / name).read_bytes() == content


@pytest.mark.parametrize("moment", ["in the first file", "after two files"])
def test_a_process_killed_at_any_moment_leaves_whole_files_and_resume_completes_them(plans, tmp_path, moment):
    process = _start(plans.long, tmp_path / "s")
    if moment == "in the first file":
        _wait_for(lambda: _parts(tmp_path), process)
    else:
        _wait_for(lambda: "s_counts_data_000002.h5" in _files(tmp_path), process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    _check_whole(tmp_path, plans)
    _resume_short(plans, tmp_path / "s")


def test_resuming_a_whole_series_renders_nothing(plans, tmp_path):
    series, output = load_plan(plans.short)
    series.write(tmp_path / "s", **output)
    before = {name: os.stat(tmp_path / name).st_mtime_ns for name in _files(tmp_path) if "_data_" in name}
    result = series.write(tmp_path / "s", resume=True, **output)
    assert result.rendered == 0
    assert {name: os.stat(tmp_path / name).st_mtime_ns for name in before} == before


def test_resume_refuses_the_files_of_another_series(plans, tmp_path):
    series, output = load_plan(plans.short)
    series.write(tmp_path / "s", **output)
    with pytest.raises(InputError, match="another series"):
        series.write(tmp_path / "s", resume=True, **{**output, "seed": 8})
    with pytest.raises(InputError, match="exists already"):
        series.write(tmp_path / "s", **output)
    _check_equal(tmp_path / "s", plans)


def test_ctrl_c_ends_with_a_sentence_and_no_half_file(plans, tmp_path):
    process = _start(plans.long, tmp_path / "s")
    _wait_for(lambda: _parts(tmp_path), process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "interrupted" in errors
    assert "Traceback" not in errors
    assert _leftovers(tmp_path) == []
    _check_whole(tmp_path, plans)
    _resume_short(plans, tmp_path / "s")


def _limit_files():
    # Any file that grows beyond 300 kB: the system refuses, as a quota does.
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))


@pytest.mark.parametrize("compression", ["none", "bslz4", "zstd"])
def test_a_file_that_may_not_grow_ends_with_a_sentence(plans, tmp_path, compression):
    # The cache of compiled kernels must be warm: it is written under the same limit.
    process = _start(plans.long, tmp_path / "s", "--compression", compression, preexec_fn=_limit_files)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 2
    assert "cannot be written" in errors
    assert "File too large" in errors
    assert "Traceback" not in errors
    assert _masters(tmp_path) == []
    assert _leftovers(tmp_path) == []


def test_a_full_disk_ends_with_a_sentence_and_resume_completes_the_rest(plans, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("no right to mount a tmpfs here")
    try:
        done = subprocess.run(_command(plans.long, disk / "s"), capture_output=True, text=True)
        assert done.returncode == 2
        assert "No space left on device" in done.stderr
        assert "Traceback" not in done.stderr
        assert _leftovers(disk) == []
        assert any("_data_" in name for name in _files(disk))
        _check_whole(disk, plans)
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        _resume_short(plans, disk / "s")
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_an_unwritable_folder_is_found_before_any_work(plans, tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    # /proc is a folder in which nobody can make a file, whoever one is.
    for prefix in (tmp_path / "file" / "s", Path("/proc/s")):
        assert main(["series", str(plans.short), "-o", str(prefix)]) == 2
        said = capsys.readouterr()
        assert "cannot be written" in said.err
        assert "frames/s" not in said.err + said.out


def test_two_processes_do_not_write_one_series(plans, tmp_path):
    process = _start(plans.long, tmp_path / "s")
    try:
        _wait_for(lambda: _parts(tmp_path), process)
        process.send_signal(signal.SIGSTOP)  # on a slow machine the second one takes long to start
        second = subprocess.run(_command(plans.short, tmp_path / "s", "--resume"), capture_output=True, text=True)
        assert second.returncode == 2
        assert "another process writes" in second.stderr
    finally:
        process.kill()
        process.communicate()
    # The system drops a dead process's lock.
    _resume_short(plans, tmp_path / "s")


CLUSTER = """
import sys, distributed
if __name__ == "__main__":
    workers = {"n_workers": int(sys.argv[1]), "threads_per_worker": 1, "env": {"NUMBA_NUM_THREADS": "1"}}
    with distributed.LocalCluster(**workers, dashboard_address=None, silence_logs=50) as cluster:
        print(cluster.scheduler_address, flush=True)
        sys.stdin.read()
"""


class Cluster:
    """A Dask cluster of processes of its own: it can be closed, or killed with all its workers."""

    def __init__(self, folder, workers):
        (folder / "cluster.py").write_text(CLUSTER)
        self.process = subprocess.Popen(
            [sys.executable, str(folder / "cluster.py"), str(workers)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.address = self.process.stdout.readline().strip()

    def close(self):
        self.process.stdin.close()
        self.process.wait(timeout=120)
        self.process.stdout.close()

    def kill(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


@pytest.fixture
def cluster(tmp_path_factory):
    """Two Dask workers on this machine, whose scheduler is a process of its own."""
    pytest.importorskip("distributed")
    made = Cluster(tmp_path_factory.mktemp("cluster"), 2)
    yield made
    if made.process.poll() is None:
        made.kill()


def _stop_a_worker_at_work(folder):
    """Stop a worker for good in the middle of a data file; return its process id, or None if there was none."""
    for name in _parts(folder):
        # A temporary file is named after the process that writes it.
        worker = int(name.split(".h5.")[1].split("-")[0])
        os.kill(worker, signal.SIGSTOP)
        if name in _files(folder):
            return worker
        os.kill(worker, signal.SIGCONT)  # it was quicker
    return None


def test_a_killed_worker_is_replaced_and_nothing_is_lost(plans, tmp_path, cluster):
    process = _start(plans.short, tmp_path / "s", "--scheduler", cluster.address)
    victim = _wait_for(lambda: _stop_a_worker_at_work(tmp_path), process)
    assert victim != process.pid
    os.kill(victim, signal.SIGKILL)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    _check_equal(tmp_path / "s", plans)


@pytest.mark.parametrize("end", ["killed", "closed"])
def test_a_lost_scheduler_ends_with_a_sentence_and_resume_completes(plans, tmp_path, cluster, end):
    process = _start(plans.long, tmp_path / "s", "--scheduler", cluster.address)
    _wait_for(lambda: "s_counts_data_000001.h5" in _files(tmp_path), process)
    cluster.kill() if end == "killed" else cluster.close()
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 2, errors
    assert "error: scheduler" in errors
    assert "Traceback" not in errors
    _check_whole(tmp_path, plans)
    _resume_short(plans, tmp_path / "s")


def test_frames_are_the_same_for_any_number_of_workers(plans, tmp_path):
    pytest.importorskip("distributed")
    assert main(["series", str(plans.short), "-o", str(tmp_path / "s"), "--workers", "local:2", "--quiet"]) == 0
    _check_equal(tmp_path / "s", plans)


def test_a_scheduler_that_is_not_there_is_refused(plans, tmp_path):
    pytest.importorskip("distributed")
    series, output = load_plan(plans.short)
    with pytest.raises(InputError, match="scheduler"):
        series.write(tmp_path / "s", scheduler="no such address", **output)
    with pytest.raises(InputError, match="workers must be"):
        series.write(tmp_path / "s", workers="remote:2", **output)


def test_a_result_whose_worker_is_gone_counts_as_done():
    """The data file is what counts; the seconds of its worker are lost with it."""
    from concurrent.futures import CancelledError

    from bragg_numba.series.stages import StageClock
    from bragg_numba.series.workers import _take
    from bragg_numba.series.write import Job

    class Gone:
        status = "finished"

        def result(self, timeout):
            raise CancelledError("forgotten")

    told = []
    _take(Gone(), Job(1, range(3), "digest"), StageClock(), told.append)
    assert told == [3]
    forgotten = Gone()
    forgotten.status = "lost"  # as Dask calls what a worker had that died
    _take(forgotten, Job(2, range(3, 5), "digest"), StageClock(), told.append)
    assert told == [3, 2]


@pytest.mark.parametrize("suffix", ["h5", "bin"])
def test_a_frame_that_may_not_grow_ends_with_a_sentence(tmp_path, suffix):
    flag = {"h5": "-h5file", "bin": "-floatfile"}[suffix]
    command = [sys.executable, "-m", "bragg_numba.cli.nanobragg", *WORDS.split(), flag, str(tmp_path / f"f.{suffix}")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, preexec_fn=_limit_files)
    assert done.returncode == 2, done.stderr
    assert "cannot be written: File too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert _files(tmp_path) == set()


def test_ctrl_c_that_a_destructor_swallowed_is_heard_between_frames(monkeypatch):
    from bragg_numba.series import interrupts

    class Swallows:
        def __del__(self):
            signal.raise_signal(signal.SIGINT)

    # Whoever runs the tests may have told them to ignore it.
    ignored = signal.signal(signal.SIGINT, signal.default_int_handler)
    before = signal.getsignal(signal.SIGINT)
    printed = []
    monkeypatch.setattr(sys, "unraisablehook", printed.append)
    with interrupts.listening():
        Swallows()
        with pytest.raises(KeyboardInterrupt):
            interrupts.check()
        interrupts.check()
    assert signal.getsignal(signal.SIGINT) is before
    assert printed == []
    signal.signal(signal.SIGINT, ignored)
