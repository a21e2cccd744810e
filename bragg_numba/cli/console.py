"""What every command shares: streams that do not stop the work, errors as one sentence, progress, exit status."""

from __future__ import annotations

import argparse
import atexit
import io
import os
import select
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn, TypeVar

from bragg_numba import checks as check
from bragg_numba.errors import BraggError, InputError

Given = TypeVar("Given")

#: Exit status of a command that refused its input, and of one that was interrupted.
REFUSED, INTERRUPTED = 2, 130


class UsageError(BraggError):
    """A command line that a command does not understand."""


class Parser(argparse.ArgumentParser):
    """An ``argparse`` parser whose errors are raised, not printed, and that takes no abbreviations."""

    def __init__(self, *args, **options) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **options})

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{self.prog}: {message} ({self.prog} --help lists what it takes)")


def whole(name: str, text: str) -> int:
    """Return the whole number that an argument's text says."""
    try:
        return int(text)
    except ValueError:
        raise InputError(name, "must be a whole number", text) from None


def number(name: str, text: str) -> float:
    """Return the number that an argument's text says."""
    try:
        return float(text)
    except ValueError:
        raise InputError(name, "must be a number", text) from None


def response(name: str, text: str) -> str | dict:
    """Return the detector response that an argument names: a preset, the fields in a JSON file, or "none"."""
    if text.lower() == "none":
        return "none"
    if not text.lower().endswith(".json"):
        from bragg_numba.response.presets import check_preset

        return check_preset(name, text)
    from bragg_numba.errors import read_from
    from bragg_numba.response.choice import plain_response

    with read_from(text):
        return plain_response(name, _json_object(text))


def _json_object(path: str) -> dict:
    import json

    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
    except OSError as error:
        raise InputError("it", f"cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise InputError("it", f"is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise InputError("it", "must hold a JSON object of fields")
    return found


def if_given(read: Callable[[str, str], Given], name: str, text: str | None) -> Given | None:
    """Read an argument's text with ``whole`` or ``number``; None where the argument was left out."""
    return None if text is None else read(name, text)


class _Unstoppable(io.RawIOBase):
    """A descriptor to print on that does not stop the work: it waits where a pipe is full, and remembers what failed.

    Parameters
    ----------
    number
        The descriptor; it stays open.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self.error: OSError | None = None

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._number

    def isatty(self) -> bool:
        return os.isatty(self._number)

    def write(self, data) -> int:
        while self.error is None:
            try:
                return os.write(self._number, data)
            except BlockingIOError:  # a pipe that was opened not to be waited for
                select.select([], [self._number], [])
            except OSError as error:  # the reader has gone, the disk is full
                self.error = error
        return len(data)


def open_streams() -> None:
    """Make the streams of this process fit to be printed on, whatever it was started with.

    Without it a closed stream, a reader that leaves, or a name that the terminal's encoding lacks ends a command in
    the middle; and the first file that it opens where stdout or stderr is closed gets what libraries print there.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)  # the streams of programs that are started from here
    os.close(number)
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if not isinstance(stream, io.TextIOWrapper):
            continue
        stream.reconfigure(errors="backslashreplace")
        if sys.platform == "win32" or stream is not getattr(sys, f"__{name}__") or stream.fileno() != number:
            continue
        stream.flush()
        ours = io.TextIOWrapper(
            io.BufferedWriter(_Unstoppable(number)),
            encoding=stream.encoding,
            errors="backslashreplace",
            line_buffering=stream.line_buffering,
            write_through=stream.write_through,
        )
        setattr(sys, name, ours)
    replace_missing_streams()
    usual = warnings.showwarning

    def show(message, category, *place, **options) -> None:
        if issubclass(category, UserWarning):
            say_notes([message])
        else:
            usual(message, category, *place, **options)

    warnings.showwarning = show


def replace_missing_streams() -> None:
    """Print nowhere where there is no stdout or no stderr: ``print`` takes None for the other one."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - as long as the process lives


def printed(status: int, refused: int) -> int:
    """Exit status of a command after its last line: ``refused``, and why, if what it printed was lost.

    A reader that has gone has read what it wanted.
    """
    with suppress(OSError, ValueError):
        sys.stdout.flush()
    buffer = getattr(sys.stdout, "buffer", None)
    error = getattr(getattr(buffer, "raw", None), "error", None)
    if error is None or isinstance(error, BrokenPipeError):
        return status
    say_error(f"stdout cannot be written: {error.strerror or error}")
    return status or refused


def guarded(run: Callable[[], int]) -> int:
    """Run a command; what a person can mend becomes one sentence on stderr and status 2."""
    replace_missing_streams()
    try:
        check.environment()
        status = run()
        sys.stdout.flush()
        return status
    except BraggError as error:
        say_error(str(error))
        return REFUSED
    except KeyboardInterrupt:
        say_error("interrupted; nothing half-written was left behind")
        return INTERRUPTED
    except MemoryError:
        say_error("the system has not enough memory for this job")
        return REFUSED
    except OSError as error:
        where = f" {error.filename}" if error.filename else ""
        say_error(f"the system refused to read or write{where}: {error.strerror or error}")
        return REFUSED


def leave(status: int) -> NoReturn:
    """End the process without taking the interpreter apart: the system frees what it holds, and at once.

    What was registered to run at exit runs, and both streams are flushed. Only for a command that has no
    threads of its own left to wait for. Under a profiler or a debugger the process ends as any other.
    """
    if sys.getprofile() or sys.gettrace():
        sys.exit(status)
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


def say_error(sentence: str) -> None:
    """Print one sentence to stderr."""
    print(f"error: {' '.join(sentence.split())}", file=sys.stderr)


def say_notes(notes: Iterable[object]) -> None:
    """Print what was done otherwise than one may expect."""
    for note in notes:
        print(f"WARNING: {note}", file=sys.stderr)


@contextmanager
def progress_bar(title: str, wanted: bool | None = None) -> Iterator[Callable[[float], None] | None]:
    """Show a bar on stderr's terminal; yields a function that takes the fraction done, or None."""
    if not (sys.stderr.isatty() if wanted is None else wanted):
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=1.0)
        yield lambda fraction: bar.update(task, completed=fraction)


@contextmanager
def compilation_announced() -> Iterator[None]:
    """Say once, on stderr, when kernels have to be compiled inside the block: silence looks like a hang.

    Numba tells when a kernel is not in its cache; where all are, this does nothing. It sees the kernels of this
    process, in all its threads, not those of worker processes.
    """
    from numba.core import event

    class Announcer(event.Listener):
        said = False

        def on_start(self, event) -> None:
            if not self.said:
                self.said = True
                print("compiling kernels for this machine, once: half a minute or more", file=sys.stderr, flush=True)

        def on_end(self, event) -> None:
            pass

    with event.install_listener("numba:compile", Announcer()):
        yield
