"""What every command shares: errors as one sentence, progress, exit status."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bragg_numba.errors import BraggError

#: Exit status of a command that refused its input, and of one that was interrupted.
REFUSED, INTERRUPTED = 2, 130


def guarded(run: Callable[[], int]) -> int:
    """Run a command; what a person can mend becomes one sentence on stderr and status 2."""
    try:
        return run()
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
        sys.stderr.close()  # the reader has gone: nobody to tell
        return REFUSED


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
