"""The index of a series that is split among masters: its frames one after another, read through the masters.

A master has a source for each of its data files, and programs pay for all of them when they open it and, before
HDF5 2, whenever they read a frame. So a long series has a master for each run of frames, and an index, whose sources
are these masters. It holds no frames and no table of its own.
"""

from __future__ import annotations

import bisect
import os
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bragg_numba.errors import InputError
from bragg_numba.io.attributes import set_attributes
from bragg_numba.io.data_file import DATA, filler, pixel_meaning
from bragg_numba.io.frame_stack import DIGESTS, FrameStack, digests_of, escaped, folders_of
from bragg_numba.io.hdf5 import FOREIGN, BadFile, open_hdf5, reading
from bragg_numba.io.nxmx import TRUTH, group, now

#: Where an index lists its masters, and where a master says which run of a series it is, from 1.
RUNS, RUN = "/entry/process/runs", "/entry/process/run"


@dataclass(frozen=True, slots=True)
class IndexedRun:
    """A master of a run: its name beside the index, its frames and its number of data files, tables by their rows."""

    name: str
    frames: int
    files: int
    rows: dict[str, int]


def frames_of(path, file, dataset: str) -> FrameStack:
    """Return the frames of an open file, whether it is a file of frames, a master or an index of masters.

    Raises
    ------
    InputError
        As ``FrameStack``; for an index that does not fit its masters.
    """
    with reading(path):
        is_index = dataset.strip("/") == DATA.strip("/") and RUNS in file
    return FrameIndex(path, file, dataset) if is_index else FrameStack(path, file, dataset)


def is_run(path) -> bool:
    """Whether a file is the master of a run of a split series."""
    try:
        with open_hdf5(path) as file, reading(path):
            return RUN in file
    except BadFile:
        return False


#: Masters that are open at the same time, those used last; each has a data file open besides.
OPEN_MASTERS = 16


class FrameIndex(FrameStack):
    """The frames of an index, read through the masters that it lists, a few of which are open at a time.

    ``check`` verifies the masters, a read the data file that it needs, ``problems`` all of them.
    """

    def _find(self, file) -> None:
        with reading(self.path):
            table = file[RUNS][()]
            self.digests = digests_of(file)
        if table.dtype.names != ("name", "frames", "files") or not len(table):
            raise self._strange()
        frames, files = table["frames"].astype(np.int64), table["files"].astype(np.int64)
        if (frames < 1).any() or (files < 1).any() or frames.sum() != len(self) or files.sum() != len(self.digests):
            raise self._strange()
        self.masters = [os.fsdecode(name) for name in table["name"]]
        self._starts = [0, *np.cumsum(frames).tolist()]
        self._files = [0, *np.cumsum(files).tolist()]
        self._folders = folders_of(self.path)
        self._runs: dict[int, tuple[Any, FrameStack]] = {}  # that are open, the one that was used last at the end

    @property
    def names(self) -> list[str]:
        """Names of the data files, as far as the masters are there to say them."""
        found = []
        for number in range(len(self.masters)):
            with suppress(BadFile):
                found += self._stack(number).names
        return found

    @property
    def paths(self) -> list[Path]:
        """Every place where a master may lie; the index itself comes first."""
        return [self.path, *(folder / name for name in self.masters for folder in self._folders)]

    def read(self, index: int, out: np.ndarray | None = None) -> np.ndarray:
        """Read one frame, as ``FrameStack.read`` does."""
        number = self._number_of(index)
        return self._stack(number).read(index - self._starts[number], out)

    def beside(self, index: int, name: str) -> tuple[Path, Any]:
        """Return the data file that holds frame ``index``, and a dataset of it, as ``FrameStack.beside`` does."""
        number = self._number_of(index)
        return self._stack(number).beside(index - self._starts[number], name)

    def problems(self) -> list[BadFile]:
        """Return what is wrong with masters and data files, one problem a file that has one."""
        found = []
        for number in range(len(self.masters)):
            try:
                found += self._stack(number).problems()
            except BadFile as problem:
                found.append(problem)
        return found

    def check(self) -> None:
        """Raise the first problem of a master."""
        for number in range(len(self.masters)):
            try:
                self._stack(number)
            except BadFile as problem:
                raise BadFile(problem.name, problem.rule, problem.kind, hint=f"a master of {self.path}") from None

    def close(self) -> None:
        """Close the masters that are open."""
        self._close_but(0)

    def _close_but(self, kept: int) -> None:
        while len(self._runs) > kept:
            file, stack = self._runs.pop(next(iter(self._runs)))
            stack.close()
            file.close()

    def _number_of(self, index: int) -> int:
        """Which of the masters holds a frame, from 0."""
        return min(max(bisect.bisect_right(self._starts, index) - 1, 0), len(self.masters) - 1)

    def _stack(self, number: int) -> FrameStack:
        """Return the frames of a verified master."""
        if number in self._runs:
            self._runs[number] = self._runs.pop(number)
            return self._runs[number][1]
        self._close_but(OPEN_MASTERS - 1)
        places = [folder / self.masters[number] for folder in self._folders]
        path = next((place for place in places if os.path.lexists(place)), places[0])
        file = open_hdf5(path)
        try:
            with reading(path):
                own = digests_of(file)
            stack = FrameStack(path, file, self._data.name)
            shape = (self._starts[number + 1] - self._starts[number], *self.shape[1:])
            if own != self.digests[self._files[number] : self._files[number + 1]]:
                raise BadFile(path, "belongs to another series, or to other frames of it", FOREIGN)
            if (stack.shape, stack.dtype) != (shape, self.dtype):
                raise BadFile(path, f"holds {stack.dtype} {stack.shape}, not {self.dtype} {shape}", FOREIGN)
        except BaseException:
            file.close()
            raise
        self._runs[number] = file, stack
        return stack


def write_index(
    file, shape: tuple[int, int], dtype: str, runs: Sequence[IndexedRun], process: dict[str, str], *, recorded: bool
) -> None:
    """Write an index into an open, empty h5py.File beside its masters.

    Parameters
    ----------
    shape, dtype
        Of the frames (slow, fast).
    runs
        The masters, in the order of their frames.
    process
        Text by name, for /entry/process: that of the masters, but for the plan, which is that of the whole series.
    recorded
        Whether the counts are what a detector says.
    """
    import h5py

    frames = sum(run.frames for run in runs)
    started = now()
    set_attributes(file, NX_class="NXroot", default="entry", creator="bragg_numba", file_time=started)
    entry = group(file, "entry", "NXentry", default="data")
    what = "photons" if dtype == "float32" else "counts"
    entry["title"] = f"simulated diffraction {what}: index of {len(runs)} masters"
    entry["start_time"] = started
    data = group(entry, "data", "NXdata", signal="data")
    layout, start = h5py.VirtualLayout((frames, *shape), np.dtype(dtype)), 0
    for run in runs:
        source = h5py.VirtualSource(escaped(run.name), DATA, (run.frames, *shape), layout.dtype)
        layout[start : start + run.frames] = source
        start += run.frames
    made = data.create_virtual_dataset("data", layout, fillvalue=filler(dtype))
    set_attributes(made, **pixel_meaning(dtype, recorded))
    told = group(entry, "process", "NXprocess")
    for name, text in process.items():
        told[name] = text
    longest = max(len(os.fsencode(run.name)) for run in runs)
    table = np.zeros(len(runs), dtype=[("name", f"S{longest}"), ("frames", np.int64), ("files", np.int64)])
    for row, run in zip(table, runs, strict=True):
        row["name"], row["frames"], row["files"] = os.fsencode(run.name), run.frames, run.files
    file[RUNS] = table


def index_tables(file, folder: Path, runs: Sequence[IndexedRun]) -> None:
    """Add the tables of the truth to an index, each row led to its master, and the digests of all data files."""
    import h5py

    truth = group(file["/entry"], TRUTH.rsplit("/", 1)[1], "NXcollection")
    digests: list[np.ndarray] = []
    kinds: dict[str, np.dtype] = {}
    has_spots = False
    for run in runs:
        path = folder / run.name
        with closing(open_hdf5(path)) as master, reading(path):
            digests.append(master[DIGESTS][()])
            kinds = {name: master[TRUTH][name].dtype for name in run.rows}
            has_spots = any(name.startswith("spots") for name in master[TRUTH])
            set_attributes(truth, units=master[TRUTH].attrs["units"], has_spots=has_spots)
    for name, kind in kinds.items():
        layout, start = h5py.VirtualLayout((sum(run.rows[name] for run in runs),), kind), 0
        for run in runs:
            if run.rows[name]:
                source = h5py.VirtualSource(escaped(run.name), f"{TRUTH}/{name}", (run.rows[name],), kind)
                layout[start : start + run.rows[name]] = source
            start += run.rows[name]
        truth.create_virtual_dataset(name, layout)
    file[DIGESTS] = np.concatenate(digests)


def require_no_run(path) -> None:
    """Refuse a file that is the master of a run, which an index reads.

    Raises
    ------
    InputError
        If it is one.
    """
    if is_run(path):
        rule = "is the master of one run of a longer series, which an index reads"
        raise InputError(os.fspath(path), rule, hint="name the longer series")
