"""Frames that were written before: masters, single files and frames of the command line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bragg_numba import checks as check
from bragg_numba.errors import InputError, read_from
from bragg_numba.experiment import Experiment
from bragg_numba.io import nxmx
from bragg_numba.io.compression import Codec
from bragg_numba.io.data_file import DATA, FrameWriter, PartFile, create_hdf5, refusal
from bragg_numba.io.frame_file import PROCESS, open_frame
from bragg_numba.series.series import Series, read_plan


@dataclass(frozen=True, slots=True)
class Source:
    """An open file of frames."""

    path: Path
    file: Any  #: h5py.File
    series: Series
    output: dict  #: the options it was written with, where known

    @property
    def frames(self):
        """The dataset (n, slow, fast)."""
        return self.file[DATA]

    @property
    def dtype(self) -> str:
        """Name of the pixels' type."""
        return self.frames.dtype.name

    def truth(self, index: int) -> tuple[np.void | None, np.ndarray | None]:
        """One frame's row and its spots, where the file has them."""
        group = self.file.get(nxmx.TRUTH)
        if group is None or "frames" not in group:
            return None, None
        row = group["frames"][index]
        if "spots" in group:
            table = group["spots"]
        else:
            per_file = int(group["frames"].attrs.get("frames_per_file", 1))
            table = group.get(f"spots_{index // per_file + 1:06d}")
        if table is None:
            return row, None
        first = int(row["first_spot"])
        return row, table[first : first + int(row["spots"])]


@contextmanager
def open_source(path) -> Iterator[Source]:
    """Open a master or frame that this package wrote; check that its data files are there.

    Raises
    ------
    InputError
        If it is not one, or a data file is missing: HDF5 alone would read zeros.
    """
    path = Path(path)
    with open_frame(path) as file:
        if f"{PROCESS}/experiment" not in file:
            part = "bragg_numba_digest" in file.attrs
            hint = "it is part of a series: name the master" if part else "it was not written by bragg_numba"
            raise InputError(os.fspath(path), "holds no experiment", hint=hint)
        data = file[DATA]
        if data.ndim != 3:
            raise InputError(os.fspath(path), "must hold frames (frame, slow, fast)", data.shape)
        if data.is_virtual:
            for source in data.virtual_sources():
                if not (path.parent / source.file_name).exists():
                    raise InputError(os.fspath(path), f"lacks its data file {source.file_name}")
        output: dict = {}
        with read_from(path):
            if f"{PROCESS}/series" in file:
                series, output = read_plan(file[f"{PROCESS}/series"][()].decode("utf-8"))
            else:
                experiment = Experiment.from_json(file[f"{PROCESS}/experiment"][()].decode("utf-8"))
                series = Series(experiment, {"phi_deg": np.full(len(data), experiment.rotation.phi_deg)})
        if len(series) != len(data):
            raise InputError(os.fspath(path), f"holds {len(data)} frames of a series of {len(series)}")
        yield Source(path, file, series, output)


def write_counts(
    source_path,
    path,
    *,
    seed: int | None = None,
    scale: float = 1.0,
    counts: str = "uint16",
    background: float = 1.0,
    compression: str = "bslz4",
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
        "uint16" or "uint32"; larger counts become the largest valid one.
    background
        The part of the photons that is not Bragg scattering is multiplied by it; 0 leaves Bragg photons alone.
    progress
        Called with the fraction done.

    Returns
    -------
    dict
        ``frames``, ``photons`` (their sum) and ``overloads``.
    """
    from bragg_numba.series.options import OutputOptions

    options = OutputOptions(photons=False, counts=counts, scale=scale, compression=compression)
    background = check.number("--background", background, low=0.0, high=1e30)
    with open_source(source_path) as source:
        if source.dtype != "float32":
            raise InputError(os.fspath(source_path), f"holds {source.dtype}, not float32 photons")
        return _rewrite(source, path, options, seed, progress, background)


def write_nxmx(source_path, path, *, compression: str = "bslz4", progress=None) -> dict:
    """Copy frames into one NXmx file; a frame of the command line becomes one that DIALS imports."""
    from bragg_numba.series.options import OutputOptions

    options = OutputOptions(compression=compression)
    with open_source(source_path) as source:
        return _rewrite(source, path, options, None, progress)


def _rewrite(source: Source, path, options, seed: int | None, progress, background: float = 1.0) -> dict:
    from bragg_numba.series.background import PATH, BackgroundReader
    from bragg_numba.series.describe import describe
    from bragg_numba.series.pipeline import Slot, draw_counts
    from bragg_numba.series.truth import TruthWriter

    if Path(path).exists() and os.path.samefile(source.path, path):
        raise InputError(os.fspath(path), "must not be the file that is read")
    drawn = not options.photons
    n, shape = len(source.series), tuple(source.frames.shape[1:])
    dtype = options.counts if drawn else source.dtype
    own_seeds = "seed" in source.series.frames and seed is None
    default_seed = int(source.output.get("seed", 1)) if seed is None else seed
    output = {**source.output, "photons": not drawn, "counts": options.counts, "scale": options.scale}
    output["seed"] = default_seed
    description, _ = describe(source.series, dtype, n, output)
    codec = Codec(options.compression)
    part = PartFile(path)
    reader = None if background == 1.0 else BackgroundReader(source.file, source.series)
    slots = [Slot(shape, {"counts": dtype} if drawn else {}) for _ in range(2)]
    total, overloads = 0.0, 0
    try:
        with create_hdf5(part.part, path) as file, ThreadPoolExecutor(max_workers=1) as pool:
            nxmx.write_head(file, description, nxmx.now())
            writer = FrameWriter(file, n, shape, dtype, codec)
            has_truth = source.truth(0)[0] is not None
            tables = TruthWriter(file, n, spots=source.truth(0)[1] is not None) if has_truth else None
            pending = None

            def finish(item) -> None:
                index, frame, future, row, spots = item
                writer.write(index, frame, future.result())
                if tables is not None:
                    tables.append(index, row, spots)
                if progress is not None:
                    progress((index + 1) / n)

            for index in range(n):
                slot = slots[index % 2]
                row, spots = source.truth(index)
                frame = slot.photons if drawn else np.empty(shape, source.frames.dtype)
                source.frames.read_direct(frame, np.s_[index])
                if drawn:
                    if reader is not None:
                        # Photons are Bragg + background; rounding may leave less than nothing of the Bragg part.
                        frame += np.float32(background - 1.0) * reader.of(index)
                        np.maximum(frame, 0.0, out=frame)
                    its_seed = int(source.series.frames["seed"][index]) if own_seeds else default_seed
                    over = draw_counts(slot, its_seed, index, options.scale).overloads
                    frame = slot.counts
                    total, overloads = total + float(frame.sum(dtype=np.uint64)), overloads + over
                    if row is not None:
                        row["overloads"], row["noise_seed"] = over, its_seed
                # Packed while the next frame is read and drawn into the other slot.
                future = pool.submit(codec.pack, frame)
                if pending is not None:
                    finish(pending)
                pending = (index, frame, future, row, spots)
            finish(pending)
            if PATH in source.file and not drawn:
                source.file.copy(PATH, file["/entry"])
            if background != 1.0:
                file[DATA].attrs["background_scale"] = background
            file["/entry"]["end_time"] = nxmx.now()
        part.publish()
    except OSError as error:
        raise refusal(path, error) from error
    finally:
        part.discard()
    return {"frames": n, "photons": total, "overloads": overloads}


def export_files(source: Source, prefix) -> dict[str, str]:
    """Text files for other programs: name to contents; lines of XDS.INP for even sweeps alone."""
    from bragg_numba.series.describe import describe, export_texts

    description, _ = describe(source.series, source.dtype, len(source.series), source.output)
    return export_texts(description, prefix, source.path.name)
