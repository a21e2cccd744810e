"""HDF5 files of others, and our own after they have been copied about: opened with care, refused with a reason."""

from __future__ import annotations

import functools
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from bragg_numba.errors import InputError
from bragg_numba.io.locks import lock_hint

SIGNATURE = b"\x89HDF\r\n\x1a\n"

#: Why a file is of no use. What is missing or broken may be made again; what the system does not let us read, or
#: what belongs to somebody else, may not.
MISSING, REFUSED, BROKEN, FOREIGN = "missing", "refused", "broken", "foreign"


class BadFile(InputError):
    """A file that cannot be read, or is not what it has to be; ``kind`` is one of the four words above."""

    def __init__(self, path, rule: str, kind: str, hint: str = "") -> None:
        super().__init__(os.fspath(path), rule, hint=hint)
        self.kind = kind


@functools.lru_cache(maxsize=1)
def bring_filters() -> None:
    """Let HDF5 pack and unpack with the filters of hdf5plugin, whatever lies where it looks for plugins.

    hdf5plugin leaves alone what HDF5 finds by itself, on HDF5_PLUGIN_PATH or in its folder for all programs. Those
    are built for the HDF5 of other programs: with the one of h5py they fail ("error during user callback").
    """
    import hdf5plugin

    registered = hdf5plugin.get_config().registered_filters
    elsewhere = tuple(name for name, path in registered.items() if path == "unknown")
    # HDF5 does not let go of a filter that an open dataset uses: then it works, and may stay.
    with suppress(RuntimeError):
        if elsewhere:
            hdf5plugin.register(elsewhere, force=True)


def open_hdf5(path):
    """Open an HDF5 file for reading; return an h5py.File.

    Raises
    ------
    BadFile
        If it is missing, may not be read, or is not a whole HDF5 file.
    """
    import h5py

    bring_filters()
    try:
        # A pipe would keep us waiting, and of a folder HDF5 says nothing that helps.
        if not stat.S_ISREG(os.stat(path).st_mode):
            what = "a folder" if os.path.isdir(path) else "not a regular file"
            raise BadFile(path, f"cannot be read: it is {what}", REFUSED)
        with open(path, "rb") as file:
            start = file.read(len(SIGNATURE))
    except (FileNotFoundError, NotADirectoryError):
        raise BadFile(path, "does not exist", MISSING) from None
    except OSError as error:
        raise BadFile(path, f"cannot be read: {error.strerror or error}", REFUSED) from None
    if start != SIGNATURE:
        raise BadFile(path, "is not a readable HDF5 file: it does not begin like one", BROKEN)
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise _refusal(path, error) from None


@contextmanager
def reading(path) -> Iterator[None]:
    """Turn what HDF5 says while ``path`` is read into a ``BadFile`` that names it."""
    try:
        yield
    except (OSError, RuntimeError, KeyError) as error:
        raise _refusal(path, error) from None


def _refusal(path, error: Exception) -> BadFile:
    number = getattr(error, "errno", None)
    if number is None and "errno = " in str(error):  # HDF5 hides it in its stack of messages
        number = int(str(error).split("errno = ")[1].split(",")[0])
    if number:  # the system's word on the matter says nothing of what the file holds
        return BadFile(path, f"cannot be read: {os.strerror(number)}", REFUSED, hint=lock_hint(error))
    if hint := lock_hint(error):
        return BadFile(path, f"cannot be read: {error}", REFUSED, hint=hint)
    return BadFile(path, f"is not a readable HDF5 file: {error}", BROKEN)
