"""The masters of a series: one, or one for each run of a long series and an index of them."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bragg_numba.errors import InputError
from bragg_numba.io import nxmx
from bragg_numba.io.attributes import set_attributes
from bragg_numba.io.data_file import DATA, PartFile, create_hdf5, filler, pixel_meaning
from bragg_numba.io.frame_index import RUN, IndexedRun, index_tables, is_run, require_no_run, write_index
from bragg_numba.io.frame_stack import DIGESTS, Wanted, escaped, verified
from bragg_numba.io.hdf5 import reading
from bragg_numba.io.nxmx import Description
from bragg_numba.series.background import write_background
from bragg_numba.series.describe import describe, export_texts
from bragg_numba.series.experiment_list import experiment_list
from bragg_numba.series.exposure import notes_of_series
from bragg_numba.series.options import OutputOptions, data_path, index_path, master_path, run_name, run_path
from bragg_numba.series.pipeline import Job
from bragg_numba.series.transmission import write_transmission


@dataclass(frozen=True, slots=True)
class Run:
    """The data files that have a master in common; ``number`` is from 1, or None for those of a whole series."""

    number: int | None
    jobs: tuple[Job, ...]

    @property
    def frames(self) -> range:
        """Its frames in the series."""
        return range(self.jobs[0].frames.start, self.jobs[-1].frames.stop)

    def master(self, prefix: Path, product: str, options: OutputOptions) -> Path:
        """Name of its master."""
        if self.number is None:
            return master_path(prefix, product, options)
        return run_path(prefix, product, options, self.number)

    def texts(self, prefix: Path) -> Path:
        """What the names of its text files begin with."""
        return prefix if self.number is None else prefix.with_name(f"{prefix.name}_{run_name(self.number)}")


@dataclass(frozen=True, slots=True)
class Published:
    """What stands beside the data files at the end."""

    masters: list[Path]  #: one of each product: what names the whole series
    runs: list[Path]  #: the masters that an index reads
    exports: list[Path]
    notes: list[str]


@dataclass(frozen=True, slots=True)
class _Truth:
    """The tables of the data files of one product of a run."""

    frames: np.ndarray
    lattices: np.ndarray | None
    units: str


def list_runs(options: OutputOptions, jobs: list[Job]) -> list[Run]:
    """Share the data files among masters, each as many as it may have and the last one what is left."""
    size = options.files_per_master
    if len(jobs) <= size:
        return [Run(None, tuple(jobs))]
    starts = range(0, len(jobs), size)
    return [Run(number, tuple(jobs[start : start + size])) for number, start in enumerate(starts, start=1)]


def wanted_file(series, options: OutputOptions, product: str, job: Job) -> Wanted:
    """What a data file has to be."""
    dtype = np.dtype(options.products[product])
    return Wanted(DATA, (len(job.frames), *series.experiment.detector.shape), dtype, job.digest)


def require_names(prefix: Path, options: OutputOptions, runs: list[Run]) -> None:
    """Refuse to write where the name of a master is that of a run of another series, or the other way round.

    Raises
    ------
    InputError
        If a master would take the place of such a file.
    """
    for product in options.products:
        for run in runs:
            path = run.master(prefix, product, options)
            if not os.path.lexists(path):
                continue
            if run.number is None:
                require_no_run(path)
            elif not is_run(path):
                rule = f"exists already and is no master of a run of {prefix.name}, which takes this name"
                raise InputError(os.fspath(path), rule)


def publish_masters(
    series, options: OutputOptions, prefix: Path, runs: list[Run], rendering: dict, *, overwrite: bool = False
) -> Published:
    """Check every data file, then write text files and masters, run by run, and last the index of each product."""
    done = Published([], [], [], [])
    overloads, expected = [], []
    indexed: dict[str, list[IndexedRun]] = {product: [] for product in options.products}
    for run in runs:
        part = series if run.number is None else series.part(run.frames.start, run.frames.stop)
        description, truth = _publish_run(part, options, prefix, run, rendering, done, overwrite=overwrite)
        rows = next(reversed(truth.values())).frames  # of the last product, which has the overloads
        overloads.append(rows["overloads"])
        expected.append(rows["sum_photons"] * (options.scale if options.counts else 1.0))
        for product, tables in truth.items():
            lengths = {"frames": len(tables.frames)}
            if tables.lattices is not None:
                lengths["lattices"] = len(tables.lattices)
            name = run.master(prefix, product, options).name
            indexed[product].append(IndexedRun(name, len(run.frames), len(run.jobs), lengths))
    if runs[0].number is not None:
        whole = series.to_json(options.to_dict())
        for product, dtype in options.products.items():
            path = index_path(prefix, product, options)
            _write_index(path, description.with_pixels(dtype), indexed[product], whole)
            done.masters.append(path)
    exposed = notes_of_series(series, description, options.counts, np.concatenate(overloads), np.concatenate(expected))
    return replace(done, notes=[*dict.fromkeys(done.notes), *exposed])


def _publish_run(
    series, options: OutputOptions, prefix: Path, run: Run, rendering: dict, done: Published, *, overwrite: bool
) -> tuple[Description, dict[str, _Truth]]:
    """Write text files and masters of the frames that are ``series``, and say in ``done`` which; return the truth."""
    truth = {product: _read_truth(series, options, prefix, product, run) for product in options.products}
    # XDS reads counts alone: they come last, and the text files are theirs.
    last = list(options.products)[-1]
    description, notes = describe(series, options.products[last], len(series), options.to_dict())
    description.process["rendering"] = json.dumps(rendering)
    done.notes.extend(notes)
    if options.exports:
        texts_prefix, master = run.texts(prefix), run.master(prefix, last, options).name
        texts = export_texts(description, texts_prefix, master)
        rows, crystals = truth[last].frames, truth[last].lattices
        texts[f"{texts_prefix}.expt"] = experiment_list(description, series, rows, master, crystals)
        exports, kept = _write_exports(texts, overwrite=overwrite)
        done.exports.extend(exports)
        done.notes.extend(kept)
    for place, (product, dtype) in enumerate(options.products.items()):
        part = PartFile(run.master(prefix, product, options))
        try:
            described = description.with_pixels(dtype)
            note = _write_master(part, described, options, prefix, product, run, series, place, truth[product])
            part.publish()
        finally:
            part.discard()
        (done.masters if run.number is None else done.runs).append(part.path)
        done.notes.extend([note] if note else [])
    return description, truth


def _read_truth(series, options: OutputOptions, prefix: Path, product: str, run: Run) -> _Truth:
    """Verify the data files of a run, each once, and read their tables of frames and lattices."""
    rows, lattices, units = [], [], ""
    for job in run.jobs:
        source = data_path(prefix, product, options, job.number)
        with verified(source, wanted_file(series, options, product, job)) as whole, reading(source):
            rows.append(whole["/entry/truth/frames"][()])
            if series.has_lattices:
                lattices.append(whole["/entry/truth/lattices"][()])
            units = whole["/entry/truth"].attrs["units"]
    return _Truth(np.concatenate(rows), np.concatenate(lattices) if lattices else None, units)


def _write_exports(texts: dict[str, str], *, overwrite: bool) -> tuple[list[Path], list[str]]:
    """Write text files; what somebody has changed since is left, unless all is to be written anew."""
    found, notes = [], []
    for name, text in texts.items():
        part, data = PartFile(name), text.encode("utf-8", "surrogateescape")  # names of files keep their bytes
        found.append(part.path)
        if part.path.exists() and not overwrite:
            if part.path.read_bytes() != data:
                notes.append(f"{part.path.name} was there already and was left as it is; it may not fit this series")
            continue
        try:
            part.part.write_bytes(data)
            part.publish()
        finally:
            part.discard()
    return found, notes


def _write_master(
    part: PartFile,
    description: Description,
    options: OutputOptions,
    prefix: Path,
    product: str,
    run: Run,
    series,
    place: int,
    tables: _Truth,
) -> str | None:
    """Write one master; return a note on what the file does not hold.

    The first one (``place`` 0) holds background and transmission, and links to label images.
    """
    import h5py

    started = nxmx.now()
    shape, first = description.pixel_mask.shape, run.frames.start
    note = None
    with create_hdf5(part.part, part.path) as file:
        nxmx.write_head(file, description, started)
        data = file["/entry/data"]
        layout = h5py.VirtualLayout((description.frames, *shape), np.dtype(description.dtype))
        truth = nxmx.group(file["/entry"], "truth", "NXcollection")
        for number, job in enumerate(run.jobs, start=1):
            source = data_path(prefix, product, options, job.number)
            # Names alone: the series can be moved as a whole.
            virtual = h5py.VirtualSource(escaped(source.name), DATA, (len(job.frames), *shape), layout.dtype)
            layout[job.frames.start - first : job.frames.stop - first] = virtual
            data[f"data_{number:06d}"] = h5py.ExternalLink(source.name, DATA)
            if options.spots:
                truth[f"spots_{number:06d}"] = h5py.ExternalLink(source.name, "/entry/truth/spots")
            if options.labels and place == 0:
                truth[f"labels_{number:06d}"] = h5py.ExternalLink(source.name, "/entry/truth/labels")
        set_attributes(truth, units=tables.units)
        # What another program reads where a data file is missing, in place of HDF5's zeros.
        frames = data.create_virtual_dataset("data", layout, fillvalue=filler(description.dtype))
        set_attributes(frames, **pixel_meaning(description.dtype, description.recorded is not None))
        file[DIGESTS] = np.array([job.digest for job in run.jobs], dtype="S")
        truth["frames"] = tables.frames
        truth["frames"].attrs["frames_per_file"] = options.frames_per_file
        if tables.lattices is not None:
            truth["lattices"] = tables.lattices
        if place == 0:
            note = write_background(file, series, options)
            write_transmission(file, series, options)
        if run.number is not None:
            file[RUN] = run.number
        # The mark of a whole file.
        file["/entry"]["end_time"] = nxmx.now()
    return note


def _write_index(path: Path, description: Description, runs: list[IndexedRun], whole: str) -> None:
    """Write the index of one product's masters; ``whole`` is the plan of the whole series."""
    part, recorded = PartFile(path), description.recorded is not None
    try:
        with create_hdf5(part.part, path) as file:
            shape = description.geometry.n_slow, description.geometry.n_fast
            texts = {**description.process_texts, "series": whole}
            write_index(file, shape, description.dtype, runs, texts, recorded=recorded)
            index_tables(file, path.parent, runs)
            file["/entry"]["end_time"] = nxmx.now()
        part.publish()
    finally:
        part.discard()
