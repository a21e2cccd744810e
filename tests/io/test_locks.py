"""File systems that give HDF5 no locks."""

from __future__ import annotations

import errno

import h5py
import numpy as np
import pytest

from bragg_numba import InputError
from bragg_numba.io.frame_file import read_frame, write_frame
from bragg_numba.io.locks import lock_hint

HINT = "HDF5_USE_FILE_LOCKING=FALSE"


def _hdf5(number: int, words: str) -> OSError:
    """As h5py raises it."""
    text = f"Unable to synchronously open file (unable to lock file, errno = {number}, error message = '{words}')"
    return OSError(text)


def _refuse(monkeypatch, error: OSError) -> None:
    def refused(*_, **__):
        raise error

    monkeypatch.setattr(h5py, "File", refused)


NO_LOCKS = [_hdf5(errno.ENOLCK, "No locks available"), OSError(errno.ENOLCK, "No locks available")]


@pytest.mark.parametrize("error", NO_LOCKS)
def test_reading_and_writing_say_what_helps(tmp_path, monkeypatch, error):
    path = tmp_path / "f.h5"
    write_frame(path, np.ones((2, 2), np.float32), "{}")
    _refuse(monkeypatch, error)

    with pytest.raises(InputError, match=HINT) as reading:
        read_frame(path)
    with pytest.raises(InputError, match=HINT) as writing:
        write_frame(tmp_path / "g.h5", np.ones((2, 2), np.float32), "{}")

    assert str(path) in str(reading.value) and str(tmp_path / "g.h5") in str(writing.value)
    assert "No locks available" in str(reading.value) and "No locks available" in str(writing.value)


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EOPNOTSUPP])
def test_file_systems_that_know_no_locks_get_the_same_hint(number):
    assert HINT in lock_hint(_hdf5(number, "Function not implemented"))


def test_a_file_that_another_program_holds_is_not_for_the_switch():
    busy = lock_hint(_hdf5(errno.EAGAIN, "Resource temporarily unavailable"))

    assert "another program" in busy and HINT not in busy


@pytest.mark.parametrize("text", ["file signature not found", "errno = 28, error message = 'No space left on device'"])
def test_other_errors_get_no_hint(text):
    assert lock_hint(OSError(f"Unable to open file ({text})")) == ""
