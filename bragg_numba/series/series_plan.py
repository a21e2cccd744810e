"""What a series is made of, in memory and as JSON: all that a worker has to be told."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import chain

import numpy as np

from bragg_numba.errors import InputError
from bragg_numba.experiment import Experiment, faces
from bragg_numba.experiment.sketch import sketch
from bragg_numba.series.frames import FrameTable, apply_frame, check_against, spectra_of, with_doses

FORMAT = "bragg_numba series"
VERSION = 1


class SeriesPlan:
    """One experiment, and what changes from frame to frame; see ``Series``, which can be written, too."""

    #: Sentences about the files that it was made of.
    notes: tuple[str, ...] = ()

    def __init__(self, experiment: Experiment, frames) -> None:
        if not isinstance(experiment, Experiment):
            raise InputError("experiment", "must be an Experiment", type(experiment).__name__)
        self.experiment = experiment
        table = FrameTable.from_any(frames)
        check_against(experiment, table)
        self.frames = with_doses(experiment, table)
        self._spectra = spectra_of(self.frames)
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

    def experiment_of(self, index: int) -> Experiment:
        """Return the experiment of one frame; what does not change is shared with ``experiment``."""
        if not 0 <= index < len(self):
            raise InputError("frame", f"must lie between 0 and {len(self) - 1}", index)
        try:
            return apply_frame(self.experiment, self.frames.row(index), index, self._spectra)
        except InputError as error:
            raise InputError(f"frames[{index}]", str(error)) from None

    def to_json(self, output: Mapping | None = None) -> str:
        """Return experiment, table and output options as the JSON of a series plan."""
        values = {
            "format": FORMAT,
            "version": VERSION,
            "experiment": json.loads(self.experiment.to_json()),
            "frames": self.frames.to_dict(),
        }
        if output is not None:
            values["output"] = dict(output)
        return json.dumps(values)


def read_back(text: str) -> tuple[SeriesPlan, dict]:
    """Build what ``SeriesPlan.to_json`` wrote: the plan and its output options.

    The plans of people, which know more ways to say the same, are read by ``series.read_plan``.
    """
    values = json.loads(text)
    experiment = Experiment.from_json(json.dumps(values["experiment"]))
    return SeriesPlan(experiment, values["frames"]), values["output"]


def _column(name: str, values: np.ndarray) -> str:
    """A column in few words: the range of what is one number a frame."""
    if values.ndim > 1:
        return name
    return f"{name} {faces.span(values)} {faces.unit_of(name)}".rstrip()


def _first_middle_last(n: int) -> list[int]:
    return sorted({0, n // 2, n - 1})
