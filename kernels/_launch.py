"""How parallel kernels are started: from several Python threads, and in forked processes.

Not every one of numba's threading layers can be entered by two threads (workqueue ends the process), and none of GNU's
OpenMP works in the fork of a process that has used it (numba ends the fork, and whoever waits for it waits for ever):
there kernels run in the thread that calls them.
"""

import os
import sys
import threading
from contextlib import suppress
from functools import update_wrapper

from numba import threading_layer
from numba.core.compiler_lock import global_compiler_lock

#: Threading layers into which several threads may start kernels at the same time.
OVERLAPPING = ("omp", "tbb")


class _State:
    """What all kernels of this process share."""

    def __init__(self):
        self.alone = threading.RLock()
        self.overlaps = False
        self.is_lost_fork = False


_STATE = _State()


def launches_overlap():
    """Whether several threads may start kernels at the same time; not known, and False, before the first ran."""
    if not _STATE.overlaps:
        try:
            _STATE.overlaps = threading_layer() in OVERLAPPING
        except ValueError:  # none has been chosen yet
            return False
    return _STATE.overlaps


class ParallelKernel:
    """A parallel kernel as Python calls it: one at a time where numba's threads allow no more.

    In a forked process whose threads are lost it is the same kernel without threads, which ``make_alone`` returns: the
    order of a thread's own operations is the same, and so is what comes out, to the bit.
    """

    def __init__(self, kernel, make_alone):
        update_wrapper(self, kernel)
        self._kernel, self._make_alone, self._alone = kernel, make_alone, None

    def __call__(self, *arguments):
        if _STATE.is_lost_fork:
            if self._alone is None:
                self._alone = self._make_alone()
            return self._alone(*arguments)
        if launches_overlap():
            return self._kernel(*arguments)
        with _STATE.alone:
            return self._kernel(*arguments)


def _begin_fork():
    # A fork must not inherit a lock that another thread holds: it would wait for a thread that it does not have.
    _STATE.alone.acquire()
    global_compiler_lock.acquire()


def _end_fork():
    global_compiler_lock.release()
    _STATE.alone.release()


def _end_fork_in_child():
    _end_fork()
    library = sys.modules.get("numba.np.ufunc.omppool")
    if library is None or getattr(library, "openmp_vendor", "GNU") != "GNU":
        return
    with suppress(ValueError):
        _STATE.is_lost_fork = _STATE.is_lost_fork or threading_layer() == "omp"


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_begin_fork, after_in_parent=_end_fork, after_in_child=_end_fork_in_child)
