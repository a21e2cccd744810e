"""Ctrl-C that is heard even where Python drops it.

A ``KeyboardInterrupt`` that is raised inside a destructor or a callback of HDF5 is printed and forgotten. A series
notes the signal as well, and looks at the note between frames.
"""

from __future__ import annotations

import signal
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

    _heard.clear()
    signal.signal(signal.SIGINT, hear)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def check() -> None:
    """Raise ``KeyboardInterrupt`` if one was heard and lost."""
    if _heard.is_set():
        _heard.clear()
        raise KeyboardInterrupt
