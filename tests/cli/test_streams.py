"""Commands whose stdout or stderr is closed, full, or speaks another encoding do their work all the same."""

from __future__ import annotations

import fcntl
import os
import shlex
import subprocess
import sys
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401 - the filters of a series
import pytest

pytestmark = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")

LINE = shlex.split("-cell 100 100 100 90 90 90 -default_F 100 -N 5 -detpixels 32 -oversample 2")


def command(program: str, *words: str) -> list[str]:
    return [sys.executable, "-m", f"bragg_numba.cli.{program}", *words]


def run(words: list[str], streams: str = "", **variables: str) -> subprocess.CompletedProcess:
    """Run words with a shell's redirections."""
    line = f"{shlex.join(words)} {streams}"
    return subprocess.run(["sh", "-c", line], capture_output=True, env={**os.environ, **variables}, timeout=300)


def holds_photons(path: Path) -> bool:
    with h5py.File(path) as file:
        return bool(file["/entry/data/data"][()].any())


@pytest.fixture(scope="module")
def frame(tmp_path_factory):
    path = tmp_path_factory.mktemp("frame") / "frame.h5"
    assert run(command("nanobragg", *LINE, "-o", str(path))).returncode == 0
    return path


CLOSED = [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-", "2>/dev/full"]


@pytest.mark.parametrize("streams", CLOSED)
def test_a_frame_is_written_without_anywhere_to_print(tmp_path, streams):
    files = ("-o", str(tmp_path / "f.h5"), "-floatfile", str(tmp_path / "f.bin"))
    done = run(command("nanobragg", *LINE, *files), streams)

    assert done.returncode == 0, done.stderr
    assert holds_photons(tmp_path / "f.h5")  # and nothing that was printed, in the file that is opened first
    assert (tmp_path / "f.bin").stat().st_size == 4 * 32 * 32


def test_the_other_commands_too(tmp_path, frame):
    streams = ">&- 2>&-"
    series = f"""
from bragg_numba import Experiment
from bragg_numba.series import still_series
still_series(Experiment.load({str(frame)!r}), n=2, seed=1).save({str(tmp_path / "plan.json")!r})
"""
    assert run([sys.executable, "-c", series]).returncode == 0
    done = {
        "render": run(command("bragg", "render", str(frame), "-o", str(tmp_path / "again.h5")), streams),
        "series": run(
            command("bragg", "series", str(tmp_path / "plan.json"), "-o", str(tmp_path / "s"), "--no-spots"), streams
        ),
        "info": run(command("bragg", "info", str(frame)), streams),
        "compare": run(command("compare", "--images", str(frame), str(tmp_path / "again.h5")), streams),
    }

    assert {name: one.returncode for name, one in done.items()} == dict.fromkeys(done, 0), done
    assert holds_photons(tmp_path / "again.h5") and holds_photons(tmp_path / "s_data_000001.h5")


def test_a_refusal_keeps_its_status_without_stderr():
    done = run(command("nanobragg", "-nosuchflag"), "2>&-")

    assert (done.returncode, done.stdout) == (2, b"")  # and is not printed elsewhere


def test_a_reader_that_leaves_does_not_stop_the_work(tmp_path):
    words = shlex.join(command("nanobragg", *LINE, "-printout", "-o", str(tmp_path / "f.h5")))
    done = run(["sh", "-c", f"({words}; echo $? >{tmp_path}/status) 2>&1 | true"])

    assert done.returncode == 0
    assert (tmp_path / "status").read_text() == "0\n"
    assert holds_photons(tmp_path / "f.h5")


@pytest.mark.parametrize(("program", "status"), [("bragg", 2), ("nanobragg", 2), ("compare", 5)])
def test_what_could_not_be_printed_is_said(program, status):
    done = run(command(program, "--help"), ">/dev/full")

    assert done.returncode == status
    assert done.stderr == b"error: stdout cannot be written: No space left on device\n"


def test_a_pipe_that_is_full_is_waited_for_even_if_it_was_opened_not_to_be(tmp_path):
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    fcntl.fcntl(writer, 1031, 4096)  # F_SETPIPE_SZ: a page
    words = command("nanobragg", *LINE, "-printout", "-o", str(tmp_path / "f.h5"))
    process = subprocess.Popen(words, stdout=writer, stderr=subprocess.DEVNULL)
    os.close(writer)
    with open(reader, "rb") as file:
        lines = file.read().splitlines()

    assert process.wait(timeout=300) == 0
    assert sum(b" : pixel " in line for line in lines) == 32 * 32


ASCII = {"PYTHONIOENCODING": "ascii"}
#: No UTF-8 at all: names of files, too, come as bytes that mean nothing.
PLAIN_C = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}


@pytest.mark.parametrize("variables", [ASCII, PLAIN_C], ids=["ascii streams", "C locale"])
def test_names_that_stdout_cannot_print_are_written_all_the_same(tmp_path, variables):
    path = tmp_path / "müß.h5"

    done = run(command("nanobragg", *LINE, "-o", str(path)), **variables)

    assert done.returncode == 0, done.stderr
    assert b"wrote " in done.stdout and done.stdout.isascii()
    assert holds_photons(path)
    assert run(command("bragg", "info", str(path)), **variables).returncode == 0


def test_names_that_are_no_text_are_written_all_the_same(tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.h5")

    done = run(command("nanobragg", *LINE, "-o", path))

    assert done.returncode == 0, done.stderr
    with h5py.File(path) as file:
        assert file["/entry/process/command"][()].decode().endswith("\\udcff.h5'")


def test_kernels_that_cannot_be_kept_are_noted_as_everything_is(tmp_path):
    """In a command's words; what the note says is held by tests/kernels/test_cache.py."""
    code = "import sys, warnings\nfrom bragg_numba.cli.console import open_streams\nopen_streams()\n"
    code += "warnings.warn('kernels cannot be kept')"

    assert run([sys.executable, "-c", code]).stderr == b"WARNING: kernels cannot be kept\n"
