"""One frame in one HDF5 file: photons, where they come from, and the numbers about them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from bragg_numba.errors import InputError
from bragg_numba.io.atomic import atomic_path
from bragg_numba.io.attributes import as_utf8, set_attributes
from bragg_numba.io.frame_index import frames_of
from bragg_numba.io.hdf5 import open_hdf5, reading
from bragg_numba.io.text_files import json_text
from bragg_numba.versions import versions

DATA = "/entry/data/data"
PROCESS = "/entry/process"


class FrameFile:
    """A frame file that is being written; rows may come in any order."""

    def __init__(self, file, shape: tuple[int, int]) -> None:
        self._file = file
        self._data = file[DATA]
        self.shape = shape

    def write_rows(self, row_start: int, rows: np.ndarray) -> None:
        """Write rows (n, n_fast) float32 that begin at ``row_start``."""
        self._data[0, row_start : row_start + len(rows)] = rows

    def write_statistics(self, statistics: dict[str, float]) -> None:
        """Write the numbers about the frame."""
        group = self._file[PROCESS].create_group("statistics")
        set_attributes(group, NX_class="NXcollection")
        for name, value in statistics.items():
            group[name] = value


@contextmanager
def create_frame(
    path,
    shape: tuple[int, int],
    experiment: str,
    *,
    command: str = "",
    seeds: dict[str, int] | None = None,
    rendering: dict | None = None,
    structure_factors: dict | None = None,
) -> Iterator[FrameFile]:
    """Create a frame file under a temporary name; it takes its own name when the block ends well.

    Parameters
    ----------
    path
        Where the file goes.
    shape
        (slow, fast) pixels.
    experiment
        The JSON of the experiment that is rendered.
    command
        The command line, if there was one.
    seeds
        Seeds that were used, by name.
    rendering
        How the frame is rendered, numbers and text by name: backend, engine and the like.
    structure_factors
        What their list holds and lacks, likewise.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    from bragg_numba.io.data_file import create_hdf5

    with atomic_path(path) as temporary, create_hdf5(temporary, path, mode="w") as file:
        collections = {"rendering": rendering or {}, "structure_factors": structure_factors or {}}
        _write_head(file, shape, experiment, command, seeds or {}, collections)
        yield FrameFile(file, shape)


def _write_head(
    file, shape: tuple[int, int], experiment: str, command: str, seeds: dict[str, int], collections: dict[str, dict]
) -> None:
    now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    set_attributes(file, NX_class="NXroot", default="entry", creator="bragg_numba", file_time=now)
    entry = _group(file, "entry", "NXentry", default="data")
    entry["title"] = "simulated diffraction frame"
    entry["start_time"] = now
    data = _group(entry, "data", "NXdata", signal="data")
    # One chunkless dataset: a frame is read whole or by rows, and every reader takes it.
    frame = data.create_dataset("data", shape=(1, *shape), dtype=np.float32)
    set_attributes(frame, units="photons", long_name="photons (frame, slow, fast)")
    process = _group(entry, "process", "NXprocess")
    process["program"] = "bragg_numba"
    process["version"] = versions()["bragg-numba"]
    process["date"] = now
    process["command"] = as_utf8(command)
    process["experiment"] = experiment
    process["versions"] = json.dumps(versions())
    seed_group = _group(process, "seeds", "NXcollection")
    for name, seed in seeds.items():
        seed_group[name] = seed
    for name, collection in collections.items():
        if collection:
            _write_collection(_group(process, name, "NXcollection"), collection)


def _write_collection(group, values: dict) -> None:
    """Write numbers and text by name; what is a dictionary itself, as a group of its own."""
    for name, value in values.items():
        if isinstance(value, dict):
            _write_collection(_group(group, name, "NXcollection"), value)
        else:
            group[name] = value


def _group(parent, name: str, nx_class: str, **attributes):
    group = parent.create_group(name)
    set_attributes(group, NX_class=nx_class, **attributes)
    return group


def write_frame(path, image: np.ndarray, experiment: str, *, statistics=None, **described) -> None:
    """Write one rendered frame, (slow, fast) float32 photons, whole or not at all; see ``create_frame``."""
    with create_frame(path, image.shape, experiment, **described) as file:
        file.write_rows(0, image)
        if statistics is not None:
            file.write_statistics(statistics)


def read_frame(path) -> np.ndarray:
    """Read the photons of a frame file: (slow, fast) float32."""
    with open_frame(path) as file, closing(frames_of(path, file, DATA)) as frames:
        return frames.read(0)


@contextmanager
def open_frame(path):
    """Open a frame file for reading; anything that is not one is an InputError."""
    import h5py

    with open_hdf5(path) as file:
        with reading(path):
            found = file.get(DATA)
        if not isinstance(found, h5py.Dataset):
            raise InputError(os.fspath(path), f"holds no frame: it has no {DATA}")
        yield file


def experiment_text(path: Path) -> str:
    """The Experiment's JSON from a JSON file or from a frame file."""
    text = json_text(path)
    if text is not None:
        return text
    with open_frame(path) as file:
        name = f"{PROCESS}/experiment"
        if name not in file:
            raise InputError(os.fspath(path), "holds no experiment", hint="it was not written by bragg_numba")
        with reading(path):
            return file[name][()].decode("utf-8")
