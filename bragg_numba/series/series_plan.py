"""What a series is made of, in memory and as JSON: all that a worker has to be told."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import chain
from typing import Self

import numpy as np

from bragg_numba import checks as check
from bragg_numba.errors import InputError
from bragg_numba.experiment import Experiment, faces
from bragg_numba.experiment.sketch import sketch
from bragg_numba.series.frames import FrameTable, apply_frame, check_against, spectra_of, with_doses

FORMAT = "bragg_numba series"
VERSION = 1


class SeriesPlan:
    """One experiment, and what changes from frame to frame; see ``Series``, which can be written, too.

    A part of a longer series has the number that its first frame has there, ``first_frame``: noise and shots are
    drawn by it. ``reference`` is the row of the longer one's frame 0, a table of one frame: what a detector makes of
    a photon is fixed once for a series, by that frame.
    """

    #: Sentences about the files that it was made of.
    notes: tuple[str, ...] = ()

    def __init__(self, experiment: Experiment, frames, *, first_frame: int = 0, reference=None) -> None:
        if not isinstance(experiment, Experiment):
            raise InputError("experiment", "must be an Experiment", type(experiment).__name__)
        self.experiment = experiment
        table = FrameTable.from_any(frames)
        check_against(experiment, table)
        self.frames = with_doses(experiment, table)
        self._spectra = spectra_of(self.frames)
        self.first_frame = check.count("first_frame", first_frame, low=0, high=2**53)
        self.reference = None if reference is None else FrameTable.from_any(reference)
        if self.reference is not None:
            check_against(experiment, self.reference)
        for index in _first_middle_last(len(self)):
            self.experiment_of(index)

    def __len__(self) -> int:
        return len(self.frames)

    def __repr__(self) -> str:
        changes = "; ".join(_column(name, values) for name, values in self.frames.columns.items())
        return f"<{type(self).__name__} of {self._extent()}; {changes}>"

    def _repr_html_(self) -> str:
        frames = ("frames", list(self.frames.columns.items()))
        title = f"{type(self).__name__}: {self._extent()}"
        return faces.beside(
            sketch(self.experiment_of(0)), faces.html_table(title, chain([frames], faces.of_parts(self.experiment)))
        )

    def _extent(self) -> str:
        n_slow, n_fast = self.experiment.detector.shape
        return f"{len(self)} frames, {n_fast} x {n_slow} pixels (fast x slow)"

    @property
    def has_lattices(self) -> bool:
        """Whether frames have lists of lattices, which may be empty."""
        return self.frames.has_lattices or self.experiment.lattices is not None

    def number_of(self, index: int) -> int:
        """Return the number by which a frame's noise and shot are drawn: its index in the whole series."""
        return self.first_frame + index

    def experiment_of(self, index: int) -> Experiment:
        """Return the experiment of one frame; what does not change is shared with ``experiment``."""
        if not 0 <= index < len(self):
            raise InputError("frame", f"must lie between 0 and {len(self) - 1}", index)
        try:
            return apply_frame(self.experiment, self.frames.row(index), index, self._spectra, self.number_of(index))
        except InputError as error:
            raise InputError(f"frames[{self.number_of(index)}]", str(error)) from None

    def reference_experiment(self) -> Experiment:
        """Return the experiment of frame 0, for a part of a longer series that of the longer one."""
        if self.reference is None:
            return self.experiment_of(0)
        return apply_frame(self.experiment, self.reference.row(0), 0, spectra_of(self.reference))

    def part(self, start: int, stop: int) -> Self:
        """Return frames start..stop as a series that remembers which frames of this one they are."""
        frames, first = self.frames.part(start, stop), self.number_of(start)
        return type(self)(self.experiment, frames, first_frame=first, reference=self._first_row())

    def part_to_dict(self, start: int, stop: int) -> dict:
        """Return what ``part`` adds to the experiment as what ``json`` can write: arguments of ``SeriesPlan``."""
        rows = self.frames.part(start, stop)
        return {"frames": rows.to_dict(), **part_of(self.number_of(start), self._first_row())}

    def _first_row(self) -> FrameTable:
        """Return the row of frame 0 of the whole series, a table of one frame."""
        return self.frames.part(0, 1) if self.reference is None else self.reference

    def to_json(self, output: Mapping | None = None) -> str:
        """Return experiment, table and output options as the JSON of a series plan."""
        values = {
            "format": FORMAT,
            "version": VERSION,
            "experiment": json.loads(self.experiment.to_json()),
            "frames": self.frames.to_dict(),
            **part_of(self.first_frame, self.reference),
        }
        if output is not None:
            values["output"] = dict(output)
        return json.dumps(values)


#: What a plan says, as JSON, of the longer series whose part it is.
PARTS = ("first_frame", "reference")


def part_of(first_frame: int, reference: FrameTable | None) -> dict:
    """The parts of a plan's JSON that say which frames of a longer series they are; of a whole series none."""
    values = {"first_frame": first_frame} if first_frame else {}
    return values if reference is None else {**values, "reference": reference.to_dict()}


def _column(name: str, values: np.ndarray) -> str:
    """A column in few words: the range of what is one number a frame."""
    if values.ndim > 1:
        return name
    return f"{name} {faces.span(values)} {faces.unit_of(name)}".rstrip()


def _first_middle_last(n: int) -> list[int]:
    return sorted({0, n // 2, n - 1})
