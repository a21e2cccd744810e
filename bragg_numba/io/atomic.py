"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bragg_numba.errors import InputError
from bragg_numba.io.locks import lock_hint

__all__ = [
    "atomic_path",
    "file_error",
    "keep_mode",
    "require_replaceable",
    "require_writable",
    "write_bytes",
    "write_text",
]


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary name in the folder of ``path``; rename it to ``path`` if all goes well.

    The temporary file exists, empty, as soon as the block begins, so that a folder that cannot be written is
    found before any work is done. After an exception of any kind it is gone and ``path`` is as it was. A file
    that is replaced hands its mode on; one that is write-protected is not replaced.

    A target that exists and is no regular file (``/dev/null``, a pipe) is given as it is, to be written
    directly.

    Yields
    ------
    pathlib.Path
        The name to write to.

    Raises
    ------
    InputError
        If the system refuses to make, write or rename the file.

    Examples
    --------
    >>> with atomic_path("/dev/null") as temporary:
    ...     _ = temporary.write_bytes(b"gone")
    """
    name = os.fspath(path)
    target = Path(os.path.realpath(name))  # through a link to its file, as any program that opens it would go
    if os.path.isdir(target):
        raise InputError(name, "cannot be written: it is a folder")
    if os.path.exists(target) and not os.path.isfile(target):
        with _system_refusals(name, target):
            yield target
        return
    require_replaceable(target, name)
    temporary = _temporary_beside(target)
    with _system_refusals(name, temporary):
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        try:
            yield temporary
            _flush_to_disk(temporary)
            keep_mode(temporary, target)
            os.replace(temporary, target)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(temporary)
            raise


def require_writable(path: str | os.PathLike[str]) -> None:
    """Raise InputError if ``path`` plainly cannot be written, so that no work is done for nothing."""
    target = Path(os.path.realpath(os.fspath(path)))
    if os.path.isdir(target):
        raise InputError(os.fspath(path), "cannot be written: it is a folder")
    if os.path.exists(target) and not os.path.isfile(target):
        return
    require_replaceable(target, path)
    temporary = _temporary_beside(target)
    with _system_refusals(path, temporary):
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        os.unlink(temporary)


def require_replaceable(target: Path, name: str | os.PathLike[str] | None = None) -> None:
    """Raise InputError where a file stands in the way that must not be replaced.

    A rename asks the folder alone; whoever took the right to write from a file meant the file, and the system's
    administrator, whom the system lets do anything, has meant it too.

    Parameters
    ----------
    target
        The file that would be replaced.
    name
        What it was called, for the error; default: ``target``.
    """
    shown = os.fspath(target if name is None else name)
    try:
        mode = os.stat(target).st_mode
    except OSError:
        return  # nothing there; or else writing it will tell
    if not stat.S_ISREG(mode):
        what = "it is a folder" if stat.S_ISDIR(mode) else "it is not a regular file"
        raise InputError(shown, f"cannot be written: {what}")
    if not mode & 0o222 or not os.access(target, os.W_OK):
        raise InputError(
            shown, "exists and is write-protected", hint="make it writable (chmod u+w) or name another file"
        )


def keep_mode(new: Path, target: Path) -> None:
    """Give a file the mode, and where the system allows it the owner, of the one that it is about to replace."""
    try:
        old = os.stat(target)
    except OSError:
        return  # none: the mode is that of a new file, 0666 without the bits of the umask
    if hasattr(os, "chown") and (old.st_uid, old.st_gid) != (os.stat(new).st_uid, os.stat(new).st_gid):
        with suppress(OSError):
            os.chown(new, old.st_uid, old.st_gid)
    os.chmod(new, stat.S_IMODE(old.st_mode) & 0o777)


def _temporary_beside(target: Path) -> Path:
    return target.with_name(f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}.part")


def write_bytes(path: str | os.PathLike[str], data: bytes | memoryview) -> None:
    """Write ``data`` to ``path``, whole or not at all; an ``InputError`` names what went wrong."""
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        file.write(data)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write text as UTF-8, as ``write_bytes`` does; the names of files in it keep their bytes."""
    write_bytes(path, text.encode("utf-8", "surrogateescape"))


def file_error(path: str | os.PathLike[str], error: OSError, done: str) -> InputError:
    """Return the refusal that says why ``path`` cannot be ``done`` ("read" or "written")."""
    reason = error.strerror or str(error) or type(error).__name__
    return InputError(os.fspath(path), f"cannot be {done}: {reason}", hint=lock_hint(error))


@contextmanager
def _system_refusals(name: str | os.PathLike[str], own: Path) -> Iterator[None]:
    """Turn an ``OSError`` about ``own``, or about no file at all, into an ``InputError`` about ``name``."""
    try:
        yield
    except OSError as error:
        if error.filename is not None and os.fspath(error.filename) not in (os.fspath(own), os.fspath(name)):
            raise
        raise file_error(name, error, "written") from error


def _flush_to_disk(path: Path) -> None:
    """Wait until the contents are on the disk: else a rename may survive a power cut that they do not."""
    handle = os.open(path, os.O_RDWR)  # by a writer: Windows asks for one
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
