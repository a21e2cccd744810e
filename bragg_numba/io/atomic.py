"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bragg_numba.errors import InputError
from bragg_numba.io.locks import lock_hint

__all__ = ["atomic_path", "file_error", "require_writable", "write_bytes", "write_text"]


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary name in the folder of ``path``; rename it to ``path`` if all goes well.

    The temporary file exists, empty, as soon as the block begins, so that a folder that cannot be written is
    found before any work is done. After an exception of any kind it is gone and ``path`` is as it was.

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
    temporary = _temporary_beside(target)
    with _system_refusals(name, temporary):
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        try:
            yield temporary
            _flush_to_disk(temporary)
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
    temporary = _temporary_beside(target)
    with _system_refusals(path, temporary):
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        os.unlink(temporary)


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
