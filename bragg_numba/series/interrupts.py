"""Ctrl-C that is heard even where Python drops it.

A ``KeyboardInterrupt`` that is raised inside a destructor or a callback of HDF5 is printed and forgotten. A series
notes the signal as well, looks at the note between frames, and prints nothing of what was not lost.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_heard = threading.Event()


@contextmanager
def listening() -> Iterator[None]:
    """Note SIGINT while the block runs, besides what its handler did before."""
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return

    def hear(number, frame) -> None:
        _heard.set()
        before(number, frame)

    report = sys.unraisablehook

    def report_others(unraisable) -> None:
        if not (_heard.is_set() and issubclass(unraisable.exc_type, KeyboardInterrupt)):
            report(unraisable)

    _heard.clear()
    signal.signal(signal.SIGINT, hear)
    sys.unraisablehook = report_others
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        sys.unraisablehook = report


def check() -> None:
    """Raise ``KeyboardInterrupt`` if one was heard and lost."""
    if _heard.is_set():
        _heard.clear()
        raise KeyboardInterrupt
