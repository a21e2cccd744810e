"""Who renders the data files: this process, processes on this machine, or a Dask cluster."""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import os
import queue
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

from bragg_numba.errors import BraggError, InputError
from bragg_numba.experiment import Experiment
from bragg_numba.io.data_file import PartFile, leftovers, sync
from bragg_numba.series.options import OutputOptions
from bragg_numba.series.series_plan import SeriesPlan
from bragg_numba.series.stages import StageClock

#: Seconds without a single worker after which a series gives up.
PATIENCE = 120.0

#: Seconds without a finished job after which the scheduler is asked whether it is there and has workers.
QUIET = 2.0

#: Jobs that go to the scheduler in one message.
BATCH = 1000


def choose(workers: int | str | None, scheduler: str | None, threads: int | None) -> Callable:
    """Return what runs jobs: a function of (series, options, prefix, jobs, clock, tell).

    Raises
    ------
    InputError
        For workers that are no number or ``local:N``, or if Dask is needed and not installed.
    """
    if scheduler is not None:
        if workers is not None:
            raise InputError("workers", "must be left out with a scheduler: it has its own", workers)
        _need_dask()
        return functools.partial(_run_on_scheduler, scheduler, threads)
    if workers is None:
        return functools.partial(_run_here, threads)
    text = str(workers)
    number = text.removeprefix("local:")
    if not number.isdigit() or not 1 <= int(number) <= 4096:
        raise InputError("workers", "must be a number from 1 to 4096, or local:N", workers)
    _need_dask()
    return functools.partial(_run_locally, int(number), threads)


def describe(workers: int | str | None, scheduler: str | None, threads: int | None) -> str:
    """Say in a few words who will render."""
    share = "all threads" if threads is None else f"{threads} threads"
    if scheduler is not None:
        return f"of {scheduler}, {share} each"
    return f"{share} of this process" if workers is None else f"local:{str(workers).removeprefix('local:')}"


def _need_dask() -> None:
    try:
        import distributed  # noqa: F401
    except ImportError:
        raise InputError(
            "workers", "need dask.distributed", hint="pip install 'bragg-numba[cluster]', or leave the option out"
        ) from None


def _run_here(threads, series, options: OutputOptions, prefix: Path, jobs, clock: StageClock, tell) -> None:
    from bragg_numba.series.pipeline import write_data_files

    write_data_files(series, options, prefix, jobs, threads=threads, on_frame=lambda: tell(1), clock=clock)


def local_cluster(number: int, threads: int):
    """Start a Dask cluster of this many processes on this machine, each with so many threads for its kernels."""
    from distributed import LocalCluster

    return LocalCluster(
        n_workers=number,
        threads_per_worker=1,
        processes=True,
        dashboard_address=None,
        # Each process gets its share of the cores; numba reads this when it is imported.
        env={"NUMBA_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "passive"},
        silence_logs=50,
    )


def _run_locally(number: int, threads, series, options, prefix, jobs, clock, tell) -> None:
    share = threads or max(1, (os.cpu_count() or 1) // number)
    try:
        cluster = local_cluster(min(number, len(jobs)), share)
    except (OSError, RuntimeError, TimeoutError) as error:
        raise InputError("workers", f"could not be started: {error}") from None
    try:
        _run_with(cluster, None, series, options, prefix, jobs, clock, tell)
    finally:
        with suppress(Exception):
            cluster.close(timeout=10)
        # Nobody writes any more: what is left belongs to workers that died.
        for path in leftovers(prefix):
            with suppress(OSError):
                path.unlink()


def _run_on_scheduler(address: str, threads, series, options, prefix, jobs, clock, tell) -> None:
    _run_with(address, threads, series, options, prefix, jobs, clock, tell)


def _run_with(where, threads, series, options, prefix, jobs, clock: StageClock, tell) -> None:
    from distributed import Client

    try:
        client = Client(where, timeout=30, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise InputError("scheduler", f"cannot be reached: {error}", where) from None
    # A file, not a message: data that Dask keeps for a job dies with the worker that holds them.
    plan = PartFile(prefix.with_name(f"{prefix.name}_data_plan.json")).part
    with _one_voice(), _closed_at_last(client), client.as_current():
        futures = {}
        try:
            parts = write_parts(plan, series, options, jobs)
            keys = [f"bragg-{job.digest[:16]}-{job.number}" for job in jobs]
            render = functools.partial(render_job, os.fspath(plan), os.fspath(prefix), threads)
            found = client.map(render, parts, key=keys, pure=False, batch_size=BATCH)
            futures = dict(zip(found, jobs, strict=True))
            _gather(client, futures, clock, tell)
        except BaseException as error:
            if client.status == "running":
                with suppress(Exception):
                    client.cancel(list(futures))
                raise
            if isinstance(error, BraggError) or not isinstance(error, (Exception, asyncio.CancelledError)):
                raise
            raise InputError("scheduler", f"was lost: {error or type(error).__name__}", hint=_RESUME) from None
        finally:
            with suppress(OSError):
                plan.unlink()


@contextmanager
def _closed_at_last(client) -> Iterator[None]:
    """Close a client, even one that cannot close because its scheduler died while it was busy."""
    try:
        yield
    finally:
        try:
            client.close(timeout=10)
        except (Exception, asyncio.CancelledError):
            # Else it would try again, and wait again, when Python forgets it.
            client.status = "closed"


@contextmanager
def _one_voice() -> Iterator[None]:
    """What goes wrong is said once, in a sentence: Dask's client would print tracebacks besides."""
    loggers = [logging.getLogger(name) for name in ("distributed", "distributed.client")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def _gather(client, futures: dict, clock: StageClock, tell) -> None:
    """Wait for all jobs; a worker that dies hands its job to another.

    What is done comes by itself: to look at all of them whenever one ends, or to ask the scheduler for all of its
    workers then, takes longer than the jobs where there are tens of thousands.
    """
    ended: queue.SimpleQueue = queue.SimpleQueue()
    for future in futures:
        future.add_done_callback(ended.put)
    left = len(futures)
    seen_worker = time.monotonic()
    while left:
        done = _all_of(ended, QUIET)
        for future in done:
            _take(future, futures[future], clock, tell)
            future.release()
        left -= len(done)
        if done:
            seen_worker = time.monotonic()
            continue
        if client.status != "running":
            raise InputError("scheduler", "was lost", hint=_RESUME)
        try:
            there = client.scheduler_info().get("workers")
        except (Exception, asyncio.CancelledError) as error:
            raise InputError("scheduler", f"was lost: {error or type(error).__name__}", hint=_RESUME) from None
        if there:
            seen_worker = time.monotonic()
        elif time.monotonic() - seen_worker > PATIENCE:
            raise InputError("scheduler", f"has had no worker for {PATIENCE:.0f} seconds", hint=_RESUME)


def _all_of(ended: queue.SimpleQueue, seconds: float) -> list:
    """What is in a queue, after a first one was waited for."""
    found = []
    with suppress(queue.Empty):
        found.append(ended.get(timeout=seconds))
        while True:
            found.append(ended.get_nowait())
    return found


_RESUME = "what is whole stays; resume completes the series"


def _take(future, job, clock: StageClock, tell) -> None:
    # What counts is the file, which is checked before the master is written. The seconds are lost if their worker dies
    # before they are fetched: Dask would have the job done again to tell them, and calls it lost until then.
    if future.status in ("finished", "lost"):
        if future.status == "finished":
            with suppress(Exception, asyncio.CancelledError):
                clock.add(future.result(timeout=30))
        tell(len(job.frames))
        return
    if future.status == "cancelled":
        raise InputError("scheduler", "was lost, and the jobs with it", hint=_RESUME)
    try:
        error = future.exception(timeout=30)
    except (Exception, asyncio.CancelledError) as lost:
        raise InputError("scheduler", f"was lost: {lost or type(lost).__name__}", hint=_RESUME) from None
    frames = f"frames {job.frames.start} to {job.frames.stop - 1}"
    if isinstance(error, BraggError):
        raise error
    if type(error).__name__ == "KilledWorker":
        raise InputError(f"the workers of {frames}", "died again and again", hint=f"out of memory? {_RESUME}")
    raise InputError(f"the worker of {frames}", f"failed: {type(error).__name__}: {error}", hint=_RESUME)


class JobPart(NamedTuple):
    """What a worker is told of a job: number and digest of its data file, and where its frames stand in the plan."""

    number: int
    digest: str
    start: int  #: in bytes
    size: int


def write_parts(path: Path, series, options: OutputOptions, jobs) -> list[JobPart]:
    """Write the plan for workers: a line that all of them read, and one for each job, which only its worker reads."""
    found = []
    common = {"experiment": series.experiment.to_json(), "output": options.to_dict()}
    with open(path, "wb") as file:
        file.write(json.dumps(common).encode() + b"\n")
        for job in jobs:
            line = json.dumps(series.part_to_dict(job.frames.start, job.frames.stop)).encode() + b"\n"
            found.append(JobPart(job.number, job.digest, file.tell(), len(line)))
            file.write(line)
    sync(path)
    return found


@functools.lru_cache(maxsize=2)
def _common(plan: str) -> tuple[Experiment, OutputOptions]:
    """What all jobs of a plan share."""
    with _opened(plan) as file:
        values = json.loads(file.readline())
    return Experiment.from_json(values["experiment"]), OutputOptions.from_dict(values["output"])


@contextmanager
def _opened(plan: str) -> Iterator[BinaryIO]:
    """Open a file that another machine has just written: a network file system may show it a little later."""
    end = time.monotonic() + 30.0
    while True:
        try:
            file = open(plan, "rb")  # noqa: SIM115
            break
        except OSError as error:
            if time.monotonic() > end:
                text = f"cannot be read by a worker: {error.strerror}"
                raise InputError(plan, text, hint="all workers must see the folder of the series") from None
        time.sleep(0.5)
    with file:
        yield file


def read_part(plan: str, part: JobPart) -> tuple[SeriesPlan, OutputOptions]:
    """Read what ``write_parts`` wrote for one job: its frames as a part of their series, and the output options."""
    experiment, options = _common(plan)
    with _opened(plan) as file:
        file.seek(part.start)
        return SeriesPlan(experiment, **json.loads(file.read(part.size))), options


def render_job(plan: str, prefix: str, threads: int | None, part: JobPart) -> dict[str, float]:
    """Write one data file of every product; runs in a worker. Returns seconds by stage."""
    from bragg_numba.series.pipeline import Job, write_data_files

    clock = StageClock()
    series, options = read_part(plan, part)
    job = Job(part.number, range(len(series)), part.digest)
    write_data_files(series, options, prefix, [job], threads=threads or None, clock=clock)
    return clock.seconds
