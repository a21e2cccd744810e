"""Writing a series: jobs, workers, checks, and the masters last of all."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from bragg_numba.errors import InputError
from bragg_numba.io import nxmx
from bragg_numba.io.atomic import require_replaceable
from bragg_numba.io.attributes import set_attributes
from bragg_numba.io.data_file import (
    DATA,
    PartFile,
    create_hdf5,
    files_of,
    filler,
    leftovers,
    photons_folder,
    pixel_meaning,
    refusal,
)
from bragg_numba.io.frame_stack import DIGESTS, Wanted, problem_of, verified
from bragg_numba.io.hdf5 import BROKEN, FOREIGN, MISSING, BadFile, reading
from bragg_numba.plan.plan import make_plan
from bragg_numba.render.engine import choose_engine
from bragg_numba.series import interrupts
from bragg_numba.series import workers as crews
from bragg_numba.series.background import write_background
from bragg_numba.series.describe import describe, export_texts
from bragg_numba.series.experiment_list import experiment_list
from bragg_numba.series.exposure import dark_frames, exposure_notes
from bragg_numba.series.layout import layout_of_series, write_layout
from bragg_numba.series.log import SeriesLog
from bragg_numba.series.opened import opened
from bragg_numba.series.options import OutputOptions, data_path, master_path
from bragg_numba.series.pipeline import Job
from bragg_numba.series.stages import Progress, SeriesResult, StageClock
from bragg_numba.series.transmission import write_transmission
from bragg_numba.versions import __version__


def write_series(
    series,
    prefix,
    options: OutputOptions,
    *,
    workers: int | str | None = None,
    scheduler: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    threads: int | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> SeriesResult:
    """Write a series; see ``Series.write``."""
    started = time.perf_counter()
    crew = crews.choose(workers, scheduler, threads)
    prefix = Path(os.path.abspath(prefix))
    if not prefix.name or prefix.is_dir():
        raise InputError("prefix", "must end in the first part of the files' names", os.fspath(prefix))
    if options.layout == "geom":
        layout_of_series(series)
    options = _settled(series, options)
    _require_labels(series, options)
    for product in options.products:
        _make_folder(master_path(prefix, product, options))
    with _only_writer(prefix), interrupts.listening():
        jobs = list_jobs(series, options)
        log = SeriesLog(prefix)
        if overwrite:
            _remove(prefix, log)
        missing, remade = _missing(prefix, options, jobs, series, resume=resume)
        _sweep_up(prefix)
        clock = StageClock()
        kept = len(series) - sum(len(job.frames) for job in missing)
        tell = _teller(progress, kept, len(series), started)
        tell(0)
        rendering = _first_rendering(series, options)
        log.begin(options, jobs, kept, crews.describe(workers, scheduler, threads), rendering)
        try:
            if missing:
                crew(series, options, prefix, missing, clock, tell)
            interrupts.check()
            with clock("master"):
                masters, exports, notes = publish_masters(series, options, prefix, jobs, rendering, overwrite=overwrite)
            if options.layout == "geom":
                with clock("layout"), opened(masters[-1], series, options.to_dict()) as source:
                    exports += write_layout(source, prefix)
            # All is whole: what is left belongs to workers that died.
            _sweep_up(prefix)
        except BaseException as error:
            log.failed(error)
            if isinstance(error, OSError):
                raise refusal(prefix, error) from error
            raise
        finally:
            # Made before any work; nothing is in it after a failure, or after photons that were written alone.
            with suppress(OSError):
                photons_folder(prefix).rmdir()
        files = [data_path(prefix, product, options, job.number) for product in options.products for job in jobs]
        result = SeriesResult(
            masters=tuple(str(path) for path in masters),
            data_files=tuple(str(path) for path in files),
            frames=len(series),
            rendered=len(series) - kept,
            bytes=sum(path.stat().st_size for path in [*files, *exports, *masters]),
            seconds=time.perf_counter() - started,
            stages=dict(clock.seconds),
            notes=(*remade, *notes),
            exports=tuple(str(path) for path in exports),
            log=str(log.path),
        )
        log.end(result)
    return replace(result, notes=(*result.notes, log.problem)) if log.problem else result


def _sweep_up(prefix: Path) -> None:
    for path in leftovers(prefix):
        with suppress(OSError):
            path.unlink()


def list_jobs(series, options: OutputOptions) -> list[Job]:
    """Cut a series into data files of equal length; the last may be shorter."""
    n, size = len(series), options.frames_per_file
    common = hashlib.sha256(series.experiment.to_json().encode())
    common.update(json.dumps({**options.pixel_options(), "version": __version__}, sort_keys=True).encode())
    jobs = []
    for number, start in enumerate(range(0, n, size), start=1):
        frames = range(start, min(start + size, n))
        digest = common.copy()
        digest.update(f"{start} {frames.stop} {series.frames.digest(start, frames.stop)}".encode())
        jobs.append(Job(number, frames, digest.hexdigest()))
    return jobs


def _settled(series, options: OutputOptions) -> OutputOptions:
    """Choose the backend once, so that every worker and every resumed run takes the same."""
    if options.backend != "auto":
        return options
    from bragg_numba.render.simulator import Simulator

    return replace(options, backend=Simulator(series.experiment_of(0), precision=options.precision).backend)


def _require_labels(series, options: OutputOptions) -> None:
    """Refuse label images of what the engine of spots cannot render, before any work."""
    if options.labels:
        from bragg_numba.render.labels import require_labels

        require_labels("output.labels", make_plan(series.experiment_of(0)))


def _first_rendering(series, options: OutputOptions) -> dict:
    """How the first frame is rendered, for log and master; the truth's table has the engine of every frame."""
    plan = make_plan(series.experiment_of(0))
    if plan.parts is not None:
        from bragg_numba.render.simulator import Simulator

        backend = options.backend if options.backend == "cpu" else "auto"  # another may be there for the workers alone
        found = Simulator(plan.experiment, backend=backend, precision=options.precision, plan=plan)
        return {**found.describe_rendering(), "backend": options.backend}
    said = {"backend": options.backend, "cutoff_photons": plan.experiment.sampling.cutoff_photons}
    if options.backend != "cpu":  # it may be there for the workers alone
        return {**said, "engine": "pixels", "truth": "predicted"}
    renderer = choose_engine(plan, options.precision)
    return {
        **said,
        "precision": renderer.precision,
        "engine": renderer.engine,
        "engine_reason": renderer.engine_reason,
        "engine_seconds": renderer.engine_seconds,
        "cut_photons": renderer.cut_photons,
        "truth": "summed" if renderer.engine == "spots" else "predicted",
    }


def _make_folder(master: Path) -> None:
    """Make a master's folder and try to write in it, before any work is done."""
    probe = PartFile(master.with_name(master.name.replace("_master.h5", "_data_probe")))
    try:
        master.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(probe.part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except OSError as error:
        raise InputError(os.fspath(master.parent), f"cannot be written: {error.strerror or error}") from None
    finally:
        probe.discard()


class _only_writer:
    """Keeps a second process from writing the same series; the system drops the lock of a process that dies."""

    def __init__(self, prefix: Path) -> None:
        self._path = prefix.with_name(f".{prefix.name}.lock")
        self._handle = -1

    def __enter__(self) -> None:
        try:
            import fcntl
        except ImportError:
            return
        self._handle = os.open(self._path, os.O_CREAT | os.O_RDWR, 0o666)
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._handle)
            self._handle = -1
            raise InputError(os.fspath(self._path.parent), "holds this series, which another process writes") from None
        except OSError:
            pass  # a file system without locks

    def __exit__(self, *_) -> None:
        if self._handle >= 0:
            with suppress(OSError):
                os.unlink(self._path)
            os.close(self._handle)


def _existing(prefix: Path) -> list[Path]:
    """Masters first, then data files, of any earlier series of this name."""
    names = [path for path in files_of(prefix) if path.suffix == ".h5"]
    rests = {path: path.name[len(prefix.name) :] for path in names}
    masters = [path for path, rest in rests.items() if rest in ("_master.h5", "_counts_master.h5")]
    data = [path for path, rest in rests.items() if rest.startswith(("_data_", "_counts_data_"))]
    return sorted(masters) + sorted(data)


def _remove(prefix: Path, log: SeriesLog) -> None:
    existing = _existing(prefix)
    # Nothing is removed of a series of which a part is protected.
    for path in (*existing, log.path):
        if not path.is_dir():
            require_replaceable(path)
    # Masters first: at no moment does one stand beside files that are not its own.
    for path in existing:
        try:
            path.unlink()
        except OSError as error:
            raise refusal(path, error) from None
    log.remove()


def _wanted(series, options: OutputOptions, product: str, job: Job) -> Wanted:
    """What a data file has to be."""
    dtype = np.dtype(options.products[product])
    return Wanted(DATA, (len(job.frames), *series.experiment.detector.shape), dtype, job.digest)


def _missing(
    prefix: Path, options: OutputOptions, jobs: list[Job], series, *, resume: bool
) -> tuple[list[Job], list[str]]:
    """Jobs that are still to be done, and notes on files that are there and of no use."""
    existing = _existing(prefix)
    if existing and not resume:
        raise InputError(
            os.fspath(existing[0]), "exists already", hint="resume completes the series, overwrite starts it anew"
        )
    missing, notes = [], []
    for job in jobs:
        problems = []
        for product in options.products:
            path = data_path(prefix, product, options, job.number)
            problem = problem_of(path, _wanted(series, options, product, job))
            if problem is None:
                continue
            if problem.kind not in (MISSING, BROKEN):
                # What the system does not let us read may be whole; what is another series' is somebody's.
                hint = "overwrite starts the series anew" if problem.kind == FOREIGN else ""
                raise BadFile(path, problem.rule, problem.kind, hint=hint)
            if problem.kind == BROKEN:
                notes.append(f"{path.name} {problem.rule}: it was made again")
            problems.append(problem)
        if problems:
            for product in options.products:
                require_replaceable(data_path(prefix, product, options, job.number))
            missing.append(job)
    # A master beside missing data would be a lie until the end of this run.
    if missing:
        for path in existing:
            if path.name.endswith("master.h5"):
                require_replaceable(path)
                path.unlink()
    return missing, notes


def _teller(progress, kept: int, total: int, started: float) -> Callable[[int], None]:
    done = 0

    def tell(frames: int) -> None:
        nonlocal done
        done += frames
        if progress is not None:
            progress(Progress(kept + done, total, done, time.perf_counter() - started))

    return tell


def publish_masters(
    series, options: OutputOptions, prefix: Path, jobs: list[Job], rendering: dict, *, overwrite: bool = False
) -> tuple[list[Path], list[Path], list[str]]:
    """Check every data file, then write the text files and last the master of each product.

    Returns
    -------
    (list, list, list)
        Names of the masters, names of the text files, and notes.
    """
    truth: list[np.ndarray] = []
    lattices: list[np.ndarray] = []
    for product in options.products:
        truth, lattices = [], []  # those of the last product, which has the overloads
        for job in jobs:
            source = data_path(prefix, product, options, job.number)
            with verified(source, _wanted(series, options, product, job)) as whole, reading(source):
                truth.append(whole["/entry/truth/frames"][()])
                if series.has_lattices:
                    lattices.append(whole["/entry/truth/lattices"][()])
    masters: list[Path] = []
    exports: list[Path] = []
    # XDS reads counts alone: they come last, and the text files are theirs.
    dtype = list(options.products.values())[-1]
    description, notes = describe(series, dtype, len(series), options.to_dict())
    description.process["rendering"] = json.dumps(rendering)
    if options.exports:
        master = master_path(prefix, list(options.products)[-1], options).name
        texts = export_texts(description, prefix, master)
        crystals = np.concatenate(lattices) if lattices else None
        texts[f"{prefix}.expt"] = experiment_list(description, series, np.concatenate(truth), master, crystals)
        exports, kept = _write_exports(texts, overwrite=overwrite)
        notes += kept
    for place, (product, dtype) in enumerate(options.products.items()):
        part = PartFile(master_path(prefix, product, options))
        try:
            rows, note = _write_master(
                part, description.with_pixels(dtype), options, prefix, product, jobs, series, place
            )
            part.publish()
        finally:
            part.discard()
        masters.append(part.path)
        notes += [note] if note else []
    expected = rows["sum_photons"] * (options.scale if options.counts else 1.0)
    notes += exposure_notes(
        overloads=rows["overloads"],
        expected=expected,
        pixels=int(np.count_nonzero(description.pixel_mask == 0)),
        counts=options.counts,
        dark=dark_frames(series),
        most=None if description.recorded is None else description.largest_valid,
    )
    return masters, exports, notes


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
    part: PartFile, description, options: OutputOptions, prefix: Path, product: str, jobs: list[Job], series, place: int
) -> tuple[np.ndarray, str | None]:
    """Write one master; return the truth's table of frames, and a note on what the file does not hold.

    The first one (``place`` 0) holds background and transmission, and links to label images.
    """
    import h5py

    started = nxmx.now()
    shape = description.pixel_mask.shape
    note = None
    with create_hdf5(part.part, part.path) as file:
        nxmx.write_head(file, description, started)
        data = file["/entry/data"]
        layout = h5py.VirtualLayout((description.frames, *shape), np.dtype(description.dtype))
        truth = nxmx.group(file["/entry"], "truth", "NXcollection")
        rows, lattices = [], []
        for job in jobs:
            source = data_path(prefix, product, options, job.number)
            # Names alone: the series can be moved as a whole.
            # HDF5 takes a single % in them for the beginning of a pattern.
            name = source.name.replace("%", "%%")
            virtual = h5py.VirtualSource(name, DATA, (len(job.frames), *shape), np.dtype(description.dtype))
            layout[job.frames.start : job.frames.stop] = virtual
            data[f"data_{job.number:06d}"] = h5py.ExternalLink(source.name, DATA)
            if options.spots:
                truth[f"spots_{job.number:06d}"] = h5py.ExternalLink(source.name, "/entry/truth/spots")
            if options.labels and place == 0:
                truth[f"labels_{job.number:06d}"] = h5py.ExternalLink(source.name, "/entry/truth/labels")
            with verified(source, _wanted(series, options, product, job)) as whole, reading(source):
                rows.append(whole["/entry/truth/frames"][()])
                if series.has_lattices:
                    lattices.append(whole["/entry/truth/lattices"][()])
                set_attributes(truth, units=whole["/entry/truth"].attrs["units"])
        # What another program reads where a data file is missing, in place of HDF5's zeros.
        frames = data.create_virtual_dataset("data", layout, fillvalue=filler(description.dtype))
        set_attributes(frames, **pixel_meaning(description.dtype, description.recorded is not None))
        file[DIGESTS] = np.array([job.digest for job in jobs], dtype="S")
        table = np.concatenate(rows)
        truth["frames"] = table
        truth["frames"].attrs["frames_per_file"] = options.frames_per_file
        if lattices:
            truth["lattices"] = np.concatenate(lattices)
        if place == 0:
            note = write_background(file, series, options)
            write_transmission(file, series, options)
        # The mark of a whole file.
        file["/entry"]["end_time"] = nxmx.now()
    return table, note
