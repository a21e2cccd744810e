"""Windows is not supported; it is said, and what is known to be wrong there is mended."""

from __future__ import annotations

import os
import subprocess
import sys

from bragg_numba.dialect.parse import split_words
from bragg_numba.io import data_file
from bragg_numba.io.atomic import write_bytes


def test_it_is_said_at_import():
    code = "import sys\nsys.platform = 'win32'\nimport bragg_numba"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert "not supported on Windows" in done.stderr


def test_backslashes_part_folders_there_and_escape_here(monkeypatch):
    line = r'-hkl C:\data\a.hkl -mat "C:\my data\b.mat"'
    assert split_words(line) == ["-hkl", "C:dataa.hkl", "-mat", r"C:\my data\b.mat"]

    monkeypatch.setattr(sys, "platform", "win32")

    assert split_words(line) == ["-hkl", r"C:\data\a.hkl", "-mat", r"C:\my data\b.mat"]


def test_files_are_flushed_by_a_handle_that_may_write(tmp_path, monkeypatch):
    flags, opened = {}, os.open
    monkeypatch.setattr(os, "open", lambda path, flag, *mode: _note(flags, opened(path, flag, *mode), flag))
    flushed = []
    monkeypatch.setattr(os, "fsync", lambda handle: flushed.append(flags[handle]))

    write_bytes(tmp_path / "a", b"x")
    part = data_file.PartFile(tmp_path / "b")
    part.part.write_bytes(b"x")
    monkeypatch.setattr(sys, "platform", "win32")
    part.publish()

    assert len(flushed) == 2 and all(flag & (os.O_RDWR | os.O_WRONLY) for flag in flushed)  # no folder among them


def _note(flags: dict, handle: int, flag: int) -> int:
    flags[handle] = flag
    return handle
