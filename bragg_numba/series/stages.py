"""Where the time of a series goes, and how far it is."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field

#: In the order in which a frame passes them; "wait" is what the writing thread waited for frames.
STAGES = ("plan", "render", "noise", "compress", "truth", "labels", "wait", "write", "sync", "master", "layout")


class StageClock:
    """Adds up the seconds of each stage; stages overlap, so their sum may exceed the time that passed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str):
        started = time.perf_counter()
        try:
            yield
        finally:
            self.add({stage: time.perf_counter() - started})

    def add(self, seconds: dict[str, float]) -> None:
        """Add seconds by stage."""
        with self._lock:
            for stage, value in seconds.items():
                self.seconds[stage] = self.seconds.get(stage, 0.0) + value


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a series is."""

    frames: int  #: done, kept ones included
    total: int
    rendered: int  #: done in this run
    seconds: float

    @property
    def frames_per_second(self) -> float:
        """Frames that this run rendered in a second."""
        return self.rendered / self.seconds if self.seconds > 0.0 else 0.0

    @property
    def seconds_left(self) -> float:
        """Time left at this rate."""
        if self.frames == self.total:
            return 0.0
        return (self.total - self.frames) / self.frames_per_second if self.rendered else float("inf")

    def __str__(self) -> str:
        left = self.seconds_left
        shown = "?" if left == float("inf") else f"{int(left) // 3600}:{int(left) // 60 % 60:02d}:{int(left) % 60:02d}"
        return f"{self.frames}/{self.total} frames, {self.frames_per_second:.2f} frames/s, {shown} left"


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesResult:
    """What a series wrote."""

    masters: tuple[str, ...]  #: of each product what names all frames: its master, or the index of those of its runs
    data_files: tuple[str, ...]
    frames: int
    rendered: int  #: frames of this run; the others were there already
    bytes: int
    seconds: float
    stages: dict[str, float] = field(default_factory=dict)  #: seconds by stage, over all workers
    notes: tuple[str, ...] = ()
    exports: tuple[str, ...] = ()  #: text files for other programs
    log: str = ""  #: the file that keeps the table
    runs: tuple[str, ...] = ()  #: the masters of a series that is split among several

    @property
    def frames_per_second(self) -> float:
        """Frames that this run rendered, over all the time that it took."""
        return self.rendered / self.seconds if self.seconds > 0.0 else 0.0

    def table(self) -> str:
        """The time of each stage, as lines of text."""
        n = max(self.rendered, 1)
        lines = ["stage        seconds   ms/frame"]
        known = [stage for stage in STAGES if stage in self.stages]
        for stage in [*known, *sorted(set(self.stages) - set(known))]:
            seconds = self.stages[stage]
            lines.append(f"{stage:<10} {seconds:9.2f} {1000 * seconds / n:10.1f}")
        lines.append(f"{'elapsed':<10} {self.seconds:9.2f} {1000 * self.seconds / n:10.1f}")
        rate = f"{self.frames_per_second:.2f} frames/s"
        lines.append(f"{self.rendered} frames rendered, {rate}, {self.bytes / 1e6:.1f} MB written")
        return "\n".join(lines)
