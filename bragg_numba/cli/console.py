"""What every command shares: errors as one sentence, progress, exit status."""

from __future__ import annotations

import argparse
import atexit
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn, TypeVar

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


def if_given(read: Callable[[str, str], Given], name: str, text: str | None) -> Given | None:
    """Read an argument's text with ``whole`` or ``number``; None where the argument was left out."""
    return None if text is None else read(name, text)


def guarded(run: Callable[[], int]) -> int:
    """Run a command; what a person can mend becomes one sentence on stderr and status 2."""
    try:
        status = run()
        sys.stdout.flush()  # here, where a reader that has gone can still be met
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
    except BrokenPipeError:
        _forget_stdout()
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


def _forget_stdout() -> None:
    """Send what is still buffered nowhere: its reader has gone, and Python would complain at the end."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def say_error(sentence: str) -> None:
    """Print one sentence to stderr."""
    print(f"error: {' '.join(sentence.split())}", file=sys.stderr)


def say_notes(notes) -> None:
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
