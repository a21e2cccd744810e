"""An open file of frames, with the series that they are of."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bragg_numba.errors import InputError
from bragg_numba.io import nxmx
from bragg_numba.io.data_file import DATA
from bragg_numba.io.frame_file import open_frame
from bragg_numba.io.frame_index import frames_of
from bragg_numba.io.frame_stack import DIGEST, FrameStack, digests_of
from bragg_numba.io.hdf5 import BadFile, open_hdf5, reading
from bragg_numba.series.series_plan import SeriesPlan


@dataclass(frozen=True, slots=True)
class Source:
    """An open file of frames."""

    path: Path
    file: Any  #: h5py.File
    frames: FrameStack
    series: SeriesPlan
    output: dict  #: the options it was written with, where known
    tables: dict[str, np.ndarray] = field(default_factory=dict)  #: that were read whole, by name

    @property
    def dtype(self) -> str:
        """Name of the pixels' type."""
        return self.frames.dtype.name

    def frame(self, index: int, out: np.ndarray | None = None) -> np.ndarray:
        """Read one frame, (slow, fast), into ``out`` or a new array.

        Raises
        ------
        InputError
            If it cannot be read, or is not the frame that the truth was written for: zeros, say, where a part of
            the file was never copied.
        """
        frame = self.frames.read(index, out)
        row = self._row(index)
        if row is not None:
            self._compare(index, frame, row)
        return frame

    def _compare(self, index: int, frame: np.ndarray, row) -> None:
        if self.dtype == "float32":
            good = float(frame.max()) == row["max_photons"]
        else:
            # Where a thousand counts are expected, a frame without any does not happen.
            altered = "background_scale" in self.file[DATA].attrs
            good = altered or row["sum_photons"] * self.output.get("scale", 1.0) < 1e3 or bool(frame.any())
        if not good:
            rule = f"holds a frame {index} that is not the one its truth was written for"
            raise InputError(os.fspath(self.path), rule, hint="a data file was damaged or not copied whole")

    def _row(self, index: int) -> np.void | None:
        with reading(self.path):
            group = self.file.get(nxmx.TRUTH)
            return None if group is None or "frames" not in group else group["frames"][index]

    @property
    def has_spots(self) -> bool:
        """Whether there is a table of spots."""
        with reading(self.path):
            group = self.file.get(nxmx.TRUTH, {})
            # Names alone: the tables of a series lie in its data files; an index has the word of its masters.
            return any(name.startswith("spots") for name in group) or bool(getattr(group, "attrs", {}).get("has_spots"))

    def truth(self, index: int) -> tuple[np.void | None, np.ndarray | None]:
        """One frame's row and its spots, where the file has them."""
        row = self._row(index)
        if row is None or not self.has_spots:
            return row, None
        path, table = self.frames.beside(index, f"{nxmx.TRUTH}/spots")
        first, count = int(row["first_spot"]), int(row["spots"])
        if table is None or len(table) < first + count:
            raise InputError(os.fspath(path), f"lacks spots of frame {index}")
        with reading(path):
            return row, table[first : first + count]

    def labels(self, index: int, names: Iterable[str]) -> dict[str, np.ndarray] | None:
        """One frame's label images of these names (``truth.LABELS``), (slow, fast); None where the file has none."""
        path, frames = self.frames.beside(index, f"{nxmx.TRUTH}/frames")
        _, group = self.frames.beside(index, f"{nxmx.TRUTH}/labels")
        if group is None or frames is None:
            return None
        with reading(path):
            place = np.flatnonzero(frames["frame"] == self.series.number_of(index))
            return {name: group[name][int(place[0])] for name in names} if len(place) else None

    def lattices(self, index: int) -> np.ndarray | None:
        """One frame's rows of the table of lattices; None where its frames have no lists of them."""
        rows = self.lattice_table()
        if rows is None:
            return None
        number = self.series.number_of(index)
        first, last = np.searchsorted(rows["frame"], [number, number + 1])
        return rows[first:last]

    def lattice_table(self) -> np.ndarray | None:
        """Return the truth's table of lattices; None where the series has no lattices."""
        from bragg_numba.plan.plan import make_plan
        from bragg_numba.series.truth import LATTICE, lattice_records

        if not self.series.has_lattices:
            return None
        if "lattices" not in self.tables:
            with reading(self.path):
                table = self.file.get(f"{nxmx.TRUTH}/lattices")
                if table is not None:
                    self.tables["lattices"] = table[()]
        if "lattices" not in self.tables:
            plans = (make_plan(self.series.experiment_of(i)) for i in range(len(self.series)))
            rows = [lattice_records(plan, self.series.number_of(i)) for i, plan in enumerate(plans)]
            self.tables["lattices"] = np.concatenate([np.zeros(0, LATTICE), *(one for one in rows if one is not None)])
        return self.tables["lattices"]

    def table(self) -> np.ndarray:
        """Return the truth's table of frames; one without photons and counts where the file has none."""
        from bragg_numba.plan.plan import make_plan
        from bragg_numba.series.truth import frame_record

        with reading(self.path):
            group = self.file.get(nxmx.TRUTH)
            if group is not None and "frames" in group:
                return group["frames"][()]
        plans = (make_plan(self.series.experiment_of(i)) for i in range(len(self.series)))
        return np.array([frame_record(plan, self.series.number_of(i)) for i, plan in enumerate(plans)])

    def require_other(self, path) -> None:
        """Refuse to write a file of the series that is read, under whatever name.

        Raises
        ------
        InputError
            If ``path`` is the file that is read, one of its data files, or a file that belongs to the same series.
        """
        try:
            found = os.stat(path)
        except OSError:
            return  # not there yet
        for own in self.frames.paths:
            with suppress(OSError):
                if os.path.samestat(os.stat(own), found):
                    raise InputError(os.fspath(path), f"must not be a file that is read: it is {own}")
        if not self.frames.digests:
            return
        try:
            with open_hdf5(path) as file, reading(path):
                held = {file.attrs.get(DIGEST), *digests_of(file)}
        except BadFile:
            return  # no file of a series, whatever it is
        if held & set(self.frames.digests):
            raise InputError(os.fspath(path), f"must not be a file of the series that is read, {self.path.name}")


@contextmanager
def opened(path, series: SeriesPlan, output: dict) -> Iterator[Source]:
    """Open a master that was just written for a series; ``output`` are its options."""
    with open_frame(path) as file, closing(frames_of(path, file, DATA)) as frames:
        yield Source(Path(path), file, frames, series, output)
