"""The log beside a series: what ran, when, and where the time went."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from bragg_numba.series.options import OutputOptions
from bragg_numba.series.stages import SeriesResult


def log_path(prefix) -> Path:
    """Name of a series' log: PREFIX_series.log."""
    return Path(f"{os.fspath(prefix)}_series.log")


class SeriesLog:
    """Appends a few lines when a run begins and when it ends.

    A log that cannot be written stops nobody: ``problem`` says why, then.
    """

    def __init__(self, prefix) -> None:
        self.path = log_path(prefix)
        self.problem = ""

    def begin(self, options: OutputOptions, jobs, kept: int, crew: str, rendering: dict) -> None:
        """Say what is to be done: versions, digest of the plan, frames, output, how frames are rendered, who works."""
        from bragg_numba.versions import versions

        digest = hashlib.sha256(" ".join(job.digest for job in jobs).encode()).hexdigest()
        total = jobs[-1].frames.stop
        self._append(
            f"begin {_now()}",
            "versions " + " ".join(f"{name} {number}" for name, number in versions().items()),
            f"plan {digest}",
            f"frames {total}, of which {kept} were there already; {len(jobs)} data files",
            "output " + " ".join(f"{name}={value}" for name, value in options.to_dict().items()),
            "first frame " + " ".join(f"{name}={value}" for name, value in rendering.items()),
            f"workers {crew}",
        )

    def end(self, result: SeriesResult) -> None:
        """Write the table of stages, and notes."""
        notes = [f"note: {note}" for note in result.notes]
        self._append(f"end {_now()}", *result.table().splitlines(), *notes, "")

    def failed(self, error: BaseException) -> None:
        """Say how a run ended that did not complete."""
        self._append(f"stopped {_now()}: {type(error).__name__}: {error}".rstrip(": "), "")

    def remove(self) -> None:
        """Remove the log of an earlier series."""
        self.path.unlink(missing_ok=True)

    def _append(self, *lines: str) -> None:
        try:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write("\n".join(lines) + "\n")
        except OSError as error:
            self.problem = f"{self.path.name} could not be written: {error.strerror or error}"


def _now() -> str:
    from datetime import UTC, datetime

    return datetime.now(UTC).isoformat(timespec="seconds")
