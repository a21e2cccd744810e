"""Writing a series: jobs, workers, checks, and the masters last of all."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from bragg_numba.errors import InputError
from bragg_numba.io.atomic import require_replaceable
from bragg_numba.io.data_file import (
    PartFile,
    files_of,
    leftovers,
    photons_folder,
    refusal,
)
from bragg_numba.io.frame_index import is_run
from bragg_numba.io.frame_stack import problem_of
from bragg_numba.io.hdf5 import BROKEN, FOREIGN, MISSING, BadFile
from bragg_numba.plan.plan import make_plan
from bragg_numba.render.engine import choose_engine
from bragg_numba.series import interrupts
from bragg_numba.series import workers as crews
from bragg_numba.series.layout import layout_of_series, write_layout
from bragg_numba.series.log import SeriesLog
from bragg_numba.series.masters import list_runs, publish_masters, require_names, wanted_file
from bragg_numba.series.opened import opened
from bragg_numba.series.options import OutputOptions, data_path, master_path
from bragg_numba.series.pipeline import Job
from bragg_numba.series.stages import Progress, SeriesResult, StageClock
from bragg_numba.versions import NOISE, __version__


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
        runs = list_runs(options, jobs)
        require_names(prefix, options, runs)
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
                published = publish_masters(series, options, prefix, runs, rendering, overwrite=overwrite)
                masters, exports = published.masters, published.exports
                # Of a series that was split in another way before.
                _unlink([path for path in _masters(prefix) if path not in (*masters, *published.runs)])
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
            bytes=sum(path.stat().st_size for path in [*files, *exports, *masters, *published.runs]),
            seconds=time.perf_counter() - started,
            stages=dict(clock.seconds),
            notes=(*remade, *published.notes),
            runs=tuple(str(path) for path in published.runs),
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
    made_with = {"version": __version__, **({} if options.counts is None else {"noise": NOISE})}
    common.update(json.dumps({**options.pixel_options(), **made_with}, sort_keys=True).encode())
    jobs = []
    for number, start in enumerate(range(0, n, size), start=1):
        frames = range(start, min(start + size, n))
        digest = common.copy()
        # The numbers by which noise and shots are drawn.
        first, end = series.number_of(start), series.number_of(frames.stop)
        digest.update(f"{first} {end} {series.frames.digest(start, frames.stop)}".encode())
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
    if options.backend != "cpu":  # it may be there for the workers alone, who choose the engine that auto is
        wanted = plan.experiment.sampling.engine
        return {**said, **({} if wanted == "auto" else {"engine": wanted}), "truth": "predicted"}
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


#: Names of masters after the prefix; that of a run counts where the file says that it is one.
_MASTER, _OF_RUN = re.compile(r"(_counts)?_(master|index)\.h5"), re.compile(r"(_counts)?_run\d{4,}_master\.h5")


def _masters(prefix: Path) -> list[Path]:
    """Masters, of runs too, and indexes of any earlier series of this name; indexes come first."""
    rests = {path: path.name[len(prefix.name) :] for path in files_of(prefix)}
    found = [path for path, rest in rests.items() if _MASTER.fullmatch(rest)]
    found += [path for path, rest in rests.items() if _OF_RUN.fullmatch(rest) and is_run(path)]
    return sorted(found, key=lambda path: (not path.name.endswith("_index.h5"), path))


def _existing(prefix: Path) -> list[Path]:
    """Masters first, then data files, of any earlier series of this name."""
    names = [path for path in files_of(prefix) if path.suffix == ".h5"]
    rests = {path: path.name[len(prefix.name) :] for path in names}
    data = [path for path, rest in rests.items() if rest.startswith(("_data_", "_counts_data_"))]
    return _masters(prefix) + sorted(data)


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
            problem = problem_of(path, wanted_file(series, options, product, job))
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
        _unlink(_masters(prefix))
    return missing, notes


def _unlink(masters: list[Path]) -> None:
    for path in masters:
        require_replaceable(path)
        path.unlink()


def _teller(progress, kept: int, total: int, started: float) -> Callable[[int], None]:
    done = 0

    def tell(frames: int) -> None:
        nonlocal done
        done += frames
        if progress is not None:
            progress(Progress(kept + done, total, done, time.perf_counter() - started))

    return tell
