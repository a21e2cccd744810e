"""Frames that were written before: masters, single files and frames of the command line."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

from bragg_numba import checks as check
from bragg_numba.errors import InputError, read_from
from bragg_numba.experiment import Experiment
from bragg_numba.io import nxmx
from bragg_numba.io.compression import Codec
from bragg_numba.io.data_file import DATA, FrameWriter, PartFile, create_hdf5, refusal
from bragg_numba.io.frame_file import PROCESS, open_frame
from bragg_numba.io.frame_index import frames_of
from bragg_numba.io.frame_stack import DIGEST
from bragg_numba.io.hdf5 import reading
from bragg_numba.response.counter import Drawn
from bragg_numba.series.opened import Source
from bragg_numba.series.series import Series, read_plan

_TEXTS = ("experiment", "series")


@contextmanager
def open_source(path) -> Iterator[Source]:
    """Open a master or frame that this package wrote; verify every data file.

    Raises
    ------
    InputError
        If it is not one, or a data file is missing, unreadable, not whole or of another series: HDF5 alone would
        read what it cannot find as if it were pixels.
    """
    with open_unchecked(path) as source:
        source.frames.check()
        yield source


@contextmanager
def open_unchecked(path) -> Iterator[Source]:
    """Open a master or frame that this package wrote, whatever its data files are."""
    path = Path(path)
    with open_frame(path) as file, ExitStack() as stack:
        with reading(path):
            if f"{PROCESS}/experiment" not in file:
                part = DIGEST in file.attrs
                hint = "it is part of a series: name the master" if part else "it was not written by bragg_numba"
                raise InputError(os.fspath(path), "holds no experiment", hint=hint)
            data = file[DATA]
            if data.ndim != 3:
                raise InputError(os.fspath(path), "must hold frames (frame, slow, fast)", data.shape)
            texts = {name: file[f"{PROCESS}/{name}"][()].decode("utf-8") for name in _TEXTS if name in file[PROCESS]}
        frames = frames_of(path, file, DATA)
        if data.is_virtual and not frames.digests:
            hint = "bragg-numba series MASTER --resume writes the master anew"
            raise InputError(os.fspath(path), "does not say which data files are its own", hint=hint)
        stack.callback(frames.close)
        output: dict = {}
        with read_from(path):
            if "series" in texts:
                series, output = read_plan(texts["series"])
            else:
                experiment = Experiment.from_json(texts["experiment"])
                series = Series(experiment, {"phi_deg": np.full(len(frames), experiment.rotation.phi_deg)})
        if len(series) != len(frames):
            raise InputError(os.fspath(path), f"holds {len(frames)} frames of a series of {len(series)}")
        yield Source(path, file, frames, series, output)


def write_counts(
    source_path,
    path,
    *,
    seed: int | None = None,
    scale: float = 1.0,
    counts: str | None = None,
    background: float = 1.0,
    compression: str = "bslz4",
    response=None,
    progress=None,
) -> dict:
    """Draw the Poisson counts of photons that were written before, into one NXmx file.

    The counts are those that the series itself would have written with this seed and scale, unless the
    background is changed.

    Parameters
    ----------
    source_path
        A master or frame of photons.
    path
        The file to write; it appears when it is whole.
    seed
        Of the noise; None: the seeds of the series.
    scale
        The photons are multiplied by it first.
    counts
        "uint16" or "uint32"; larger counts become the largest valid one. None: what the response needs, or uint16.
    background
        The part of the photons that is not Bragg scattering is multiplied by it; 0 leaves Bragg photons alone.
    response
        The detector that records them: a preset's name, fields or a ``Response`` (docs/response.md). None: none.
    progress
        Called with the fraction done.

    Returns
    -------
    dict
        ``frames``, ``photons`` (their sum), ``overloads`` and ``notes``: sentences about frames that no one can want.
    """
    from bragg_numba.series.options import OutputOptions, type_of_counts

    counts = type_of_counts(counts, response)
    options = OutputOptions(photons=False, counts=counts, scale=scale, compression=compression, response=response)
    background = check.number("--background", background, low=0.0, high=1e30)
    with open_source(source_path) as source:
        if source.dtype != "float32":
            raise InputError(os.fspath(source_path), f"holds {source.dtype}, not float32 photons")
        return _rewrite(source, path, options, seed, progress, background)


def write_nxmx(source_path, path, *, compression: str = "bslz4", peaks: bool = False, progress=None) -> dict:
    """Copy frames into one NXmx file; a frame of the command line becomes one that DIALS imports.

    With ``peaks`` it is a CXI file besides: the spots of the truth are its list of peaks (``series/peaks.py``).
    """
    from bragg_numba.series.options import OutputOptions

    options = OutputOptions(compression=compression)
    with open_source(source_path) as source:
        return _rewrite(source, path, options, None, progress, peaks=peaks)


def _rewrite(
    source: Source, path, options, seed: int | None, progress, background: float = 1.0, peaks: bool = False
) -> dict:
    from bragg_numba.series.background import PATH, BackgroundReader
    from bragg_numba.series.describe import describe
    from bragg_numba.series.exposure import notes_of_series
    from bragg_numba.series.noise import Noise, scale_background
    from bragg_numba.series.peaks import require_spots, write_peaks
    from bragg_numba.series.pipeline import Slot
    from bragg_numba.series.transmission import PATH as TRANSMISSION
    from bragg_numba.series.truth import TruthWriter

    source.require_other(path)
    if peaks:
        require_spots(source, "CXI")
    drawn = not options.photons
    n, shape = len(source.series), source.frames.shape[1:]
    dtype = options.counts if drawn else source.dtype
    options = dataclasses.replace(options, seed=int(source.output.get("seed", 1)) if seed is None else seed)
    output = {**source.output, "photons": not drawn, "counts": options.counts, "scale": options.scale}
    output["seed"] = options.seed
    if drawn:
        output["response"] = options.response
    description, _ = describe(source.series, dtype, n, output)
    codec = Codec(options.compression)
    part = PartFile(os.path.realpath(path))  # through a link to its file, as any program that opens it would go
    reader = None if background == 1.0 else BackgroundReader(source.file, source.series)
    noise = Noise(source.series, options, seed)
    slots = [Slot(shape, {"counts": dtype} if drawn else {}) for _ in range(2)]
    total = 0.0
    drawings: list[Drawn] = []
    try:
        with create_hdf5(part.part, path) as file, ThreadPoolExecutor(max_workers=1) as pool:
            nxmx.write_head(file, description, nxmx.now())
            writer = FrameWriter(file, n, shape, dtype, codec, description.recorded is not None)
            has_truth = source.truth(0)[0] is not None
            tables = None
            if has_truth:
                has_lattices = source.lattices(0) is not None
                tables = TruthWriter(file, n, spots=source.has_spots, lattices=has_lattices)
            pending = None

            def finish(item) -> None:
                index, frame, future, row, spots = item
                writer.write(index, frame, future.result())
                if tables is not None:
                    tables.append(index, row, spots, source.lattices(index))
                if progress is not None:
                    progress((index + 1) / n)

            for index in range(n):
                slot = slots[index % 2]
                row, spots = source.truth(index)
                frame = source.frame(index, slot.photons if drawn else None)
                if drawn:
                    if reader is not None:
                        scale_background(frame, reader.of(index), background)
                    drawings.append(noise.draw(slot.photons, slot.counts, index))
                    frame = slot.counts
                    total += float(frame.sum(dtype=np.uint64))
                    if row is not None:
                        row["overloads"], row["noise_seed"] = drawings[-1].overloads, noise.seed(index)
                # Packed while the next frame is read and drawn into the other slot.
                future = pool.submit(codec.pack, frame)
                if pending is not None:
                    finish(pending)
                pending = (index, frame, future, row, spots)
            finish(pending)
            if tables is not None:
                tables.finish()
            kept = [TRANSMISSION] if drawn else [TRANSMISSION, PATH]
            with reading(source.path):
                for path in kept:
                    if path in source.file:
                        source.file.copy(path, file["/entry"])
            if peaks:
                write_peaks(file, source)
            if background != 1.0:
                file[DATA].attrs["background_scale"] = background
            file["/entry"]["end_time"] = nxmx.now()
        part.publish()
    except OSError as error:
        raise refusal(path, error) from error
    finally:
        part.discard()
    notes = []
    if drawn:
        overloads = np.array([one.overloads for one in drawings])
        expected = np.array([one.photons for one in drawings]) * options.scale
        notes = notes_of_series(source.series, description, dtype, overloads, expected)
    return {"frames": n, "photons": total, "overloads": sum(one.overloads for one in drawings), "notes": notes}


def export_files(source: Source, prefix) -> dict[str, str]:
    """Text files for other programs: name to contents; lines of XDS.INP for even sweeps alone."""
    from bragg_numba.series.describe import describe, export_texts
    from bragg_numba.series.experiment_list import experiment_list

    description, _ = describe(source.series, source.dtype, len(source.series), source.output)
    texts = export_texts(description, prefix, source.path.name)
    rows, crystals = source.table(), source.lattice_table()
    texts[f"{os.fspath(prefix)}.expt"] = experiment_list(description, source.series, rows, source.path.name, crystals)
    return texts
