"""What a series costs beyond its frames, and what 10^6 frames on 100 nodes would: the tables of docs/scale.md.

Frames are stubs, a chunk of a few bytes and a row of the truth, so that only the bookkeeping is measured: files,
masters, virtual datasets, messages, memory. Seconds are those that a process computes; where a machine is shared they
hold still when those of a clock do not.
"""

from __future__ import annotations

import argparse
import functools
import inspect
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from unittest import mock

import conftest  # noqa: F401  (the kernel cache, before numba)
import h5py
import hdf5plugin  # noqa: F401
import numpy as np

from bragg_numba import Experiment
from bragg_numba.io.attributes import set_attributes
from bragg_numba.io.compression import COMPRESSIONS, Codec
from bragg_numba.io.data_file import DATA, FrameWriter, create_hdf5
from bragg_numba.io.frame_stack import DIGEST
from bragg_numba.predict.spots import SPOT
from bragg_numba.series import still_series, truth, workers
from bragg_numba.series.options import OutputOptions, data_path
from bragg_numba.series.source import open_unchecked
from bragg_numba.series.stages import StageClock
from bragg_numba.series.write import list_jobs, write_series

PAGE = Path(__file__).parents[1] / "docs" / "scale.md"
BEGIN, END = "<!-- begin: figures of bench/scale.py -->\n", "<!-- end: figures of bench/scale.py -->\n"

#: 64 pixels: a frame that costs nothing.
WORDS = "-cell 78 78 37 90 90 90 -default_F 100 -N 20 -lambda 1 -distance 200 -detpixels 8 -pixel 0.1"

MB = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much is measured."""

    sources: Sequence[int] = (100, 1000, 10_000)  #: of a master
    frames: Sequence[int] = (10_000, 100_000)  #: of a series whose coordinator is measured
    workers: Sequence[int] = (1, 2, 4)
    jobs: Sequence[int] = (250, 1000)  #: of a Dask run
    killed_jobs: int = 60  #: of a run in which a worker is killed
    pixels: int = 512  #: a side, of the frames that are packed


QUICK = Sizes(sources=(12,), frames=(60,), workers=(1,), jobs=(12,), killed_jobs=12, pixels=64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What the model is asked for."""

    frames: int = 1_000_000
    nodes: int = 100
    processes: int = 4  #: of a node
    frames_per_file: int = 100
    pixels: int = 4096 * 4096
    frame_s: float = 1.0  #: that a process takes for a frame
    spots: int = 1000  #: of a frame
    hours_between_failures: float = 1000.0  #: of one node


def main(argv=None) -> int:
    """Measure, print the tables, and put them into the page on request."""
    parser = argparse.ArgumentParser(prog="bench/scale.py", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small numbers: does it run at all")
    parser.add_argument("--frames", type=int, nargs="+", help="lengths of the stub series, instead of 10^4 and 10^5")
    parser.add_argument("--nodes", type=int, default=Target().nodes)
    parser.add_argument("--folder", help="where stub files are written; default: the system's temporary folder")
    parser.add_argument("--docs", action="store_true", help="put the tables into docs/scale.md")
    given = parser.parse_args(argv)
    sizes = QUICK if given.quick else Sizes()
    if given.frames:
        sizes = replace(sizes, frames=given.frames)
    found = measure(sizes, given.folder)
    text = "\n".join(report(found, Target(nodes=given.nodes)))
    print(text)
    if given.docs:
        page = PAGE.read_text(encoding="utf-8")
        head, rest = page.split(BEGIN)
        PAGE.write_text(head + BEGIN + text + "\n" + END + rest.split(END)[1], encoding="utf-8")
    return 0


def measure(sizes: Sizes, folder: str | None = None) -> dict:
    """Measure every term; return figures by name."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        return {
            "sources": [_apart(measure_master, n, Path(place, f"sources{n}")) for n in sizes.sources],
            "frames": [_apart(measure_coordinator, n, Path(place, f"frames{n}")) for n in sizes.frames],
            "messages": [measure_messages(Path(place), n, jobs) for n in sizes.workers for jobs in sizes.jobs],
            "failure": measure_failure(Path(place), sizes.killed_jobs),
            "bytes": measure_bytes(sizes.pixels),
            "rows": {"frame": truth.FRAME.itemsize, "lattice": truth.LATTICE.itemsize, "spot": SPOT.itemsize},
        }


# --- stub frames


def stub_series(frames: int):
    """A series whose frames differ in three columns, as stills do."""
    spread = {"wavelength_A": {"normal": [1.0, 0.002]}, "fluence_per_m2": {"lognormal": [1e27, 0.5]}}
    return still_series(Experiment.from_nanobragg(WORDS), frames, seed=1, distributions=spread)


def stub_options(**output) -> OutputOptions:
    """Counts alone, as a long series has them."""
    return OutputOptions(photons=False, counts="uint16", backend="cpu", **output)


def stub_crew(spots: int, series, options: OutputOptions, prefix, jobs, clock: StageClock, tell) -> None:
    """Write data files of frames that nobody rendered; stands where ``workers.choose`` returns what renders them."""
    shape = series.experiment.detector.shape
    codec = Codec(options.compression)
    frame = np.ones(shape, dtype=np.uint16)
    packed, listed = bytes(codec.pack(frame)), np.zeros(spots, dtype=SPOT)
    row = np.zeros((), dtype=truth.FRAME)
    row["sum_photons"], row["cell_counts"], row["cell"] = 1e6, 20, (78, 78, 37, 90, 90, 90)
    row["wavelength_A"], row["reciprocal_per_A"] = 1.0, np.diag([1 / 78, 1 / 78, 1 / 37])
    for job in jobs:
        path = data_path(prefix, "counts", options, job.number)
        with create_hdf5(path, path) as file:
            set_attributes(file, NX_class="NXroot", default="entry", **{DIGEST: job.digest})
            writer = FrameWriter(file, len(job.frames), shape, "uint16", codec)
            tables = truth.TruthWriter(file, len(job.frames), spots=options.spots)
            for place, index in enumerate(job.frames):
                row["frame"] = index
                writer.write(place, frame, packed)
                tables.append(place, row, listed)
            tables.finish()
        tell(len(job.frames))


def write_stubs(series, prefix, **output):
    """Write a series of stub frames with all that ``Series.write`` does around them."""
    resume = output.pop("resume", False)
    crew = functools.partial(stub_crew, 2)
    with mock.patch.object(workers, "choose", lambda *_: crew):
        options = stub_options(**output)
        return write_series(series, prefix, options, resume=resume)


# --- what is measured


def _apart(what: Callable, *arguments):
    """Run a measurement in a process of its own, whose memory is its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(what, *arguments).result()


def _peak_mb() -> float:
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / MB


def _resident_mb() -> float:
    """Memory that this process has now; where the system does not say, the most that it had."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return _peak_mb()
    return pages * os.sysconf("SC_PAGE_SIZE") / MB


@contextmanager
def _cpu(figures: dict, name: str):
    """Put the seconds that this process computes meanwhile, all threads, into figures."""
    started = time.process_time()
    yield
    figures[name] = time.process_time() - started


def _opened(path, frame: int, apart: str) -> dict:
    """What it costs a process to open a master by h5py, and to read a frame in the middle and the next one."""
    figures: dict = {}
    before = _resident_mb()
    with _cpu(figures, f"{apart}_open_s"):
        file = h5py.File(path)
        data = file[DATA]
        data.shape  # noqa: B018
    with closing(file):
        with _cpu(figures, f"{apart}_first_frame_s"):
            data[frame]
        with _cpu(figures, f"{apart}_next_frame_s"):
            data[frame + 1]
        figures[f"{apart}_memory_mb"] = _resident_mb() - before
    return figures


def measure_master(sources: int, folder: Path) -> dict:
    """One master of so many data files, two stub frames each, and the index of the same frames in runs."""
    series, prefix = stub_series(2 * sources), folder / "s"
    common = {"frames_per_file": 2, "exports": False}
    figures: dict = {"sources": sources}
    write_stubs(series, prefix, frames_per_master=2 * sources, **common)
    with _cpu(figures, "master_s"):
        whole = write_stubs(series, prefix, frames_per_master=2 * sources, resume=True, **common)
    figures["master_mb"], middle = _size_mb(whole.masters), sources // 2 * 2
    figures |= _apart(_opened, whole.masters[0], middle, "master")
    most = 2 * max(1, sources // 10)
    split = write_stubs(series, prefix, frames_per_master=most, resume=True, **common)
    figures |= {"runs": len(split.runs), "index_mb": _size_mb(split.masters)}
    figures |= _apart(_opened, split.masters[0], middle, "index")
    with _cpu(figures, "ours_s"), open_unchecked(split.masters[0]) as source:
        source.frame(middle)
    return figures


def measure_coordinator(frames: int, folder: Path) -> dict:
    """The process that starts a series of so many stub frames and writes its masters: seconds, memory and bytes."""
    figures: dict = {"frames": frames}
    peaks = [_peak_mb()]
    with _cpu(figures, "table_s"):
        series = stub_series(frames)
    options = stub_options()
    with _cpu(figures, "jobs_s"):
        jobs = list_jobs(series, options)
    os.makedirs(folder)
    plan = folder / "plan"
    with _cpu(figures, "plan_s"):
        workers.write_parts(plan, series, options, jobs)
    figures["plan_mb"] = plan.stat().st_size / MB
    write_stubs(series, folder / "s")
    peaks.append(_peak_mb())
    with _cpu(figures, "resume_s"):  # nothing is missing: all data files are checked, and masters written
        result = write_stubs(series, folder / "s", resume=True)
    peaks.append(_peak_mb())
    figures |= {
        "files": len(result.data_files),
        "masters": len(result.runs) or 1,
        "masters_mb": _size_mb([*result.masters, *result.runs]),
        "exports_mb": _size_mb(result.exports),
        "base_mb": peaks[0],
        "peak_mb": peaks[-1],
    }
    return figures


def _size_mb(paths) -> float:
    return sum(os.path.getsize(path) for path in paths) / MB


def stub_job(log: str, pause_s: float, plan: str, prefix: str, threads, part) -> dict[str, float]:
    """Stand for ``workers.render_job``: read the job's frames, and say in a file that it began and ended."""
    series, _ = workers.read_part(plan, part)
    for word in ("begun", "done"):
        with open(log, "a") as file:
            file.write(f"{word} {part.number} {os.getpid()} {len(series)}\n")
        time.sleep(pause_s if word == "begun" else 0.0)
    return {"render": 0.0}


def _counting(handlers: dict, heard: Counter) -> dict:
    """Handlers that count the messages by their names."""

    def counted(name, handle):
        @functools.wraps(handle)
        def wrapper(*args, **kwargs):
            heard[name] += 1
            return handle(*args, **kwargs)

        @functools.wraps(handle)
        async def awaited(*args, **kwargs):
            return await wrapper(*args, **kwargs)

        return awaited if inspect.iscoroutinefunction(handle) else wrapper

    return {name: counted(name, handle) for name, handle in handlers.items()}


#: Messages that come by the clock, whatever is done.
BY_THE_CLOCK = ("heartbeat_worker", "heartbeat-client", "keep-alive", "identity", "heartbeat")


def measure_messages(folder: Path, number: int, jobs: int) -> dict:
    """Messages that a scheduler hears for so many jobs of stub frames on so many workers, and the seconds they cost."""
    series = stub_series(jobs)
    options = stub_options(frames_per_file=1)
    listed = list_jobs(series, options)
    log = folder / f"messages{number}-{jobs}"
    heard: Counter = Counter()
    with workers.local_cluster(number, 1) as cluster:
        scheduler = cluster.scheduler
        scheduler.handlers = _counting(scheduler.handlers, heard)
        scheduler.stream_handlers.update(_counting(scheduler.stream_handlers, heard))
        heard.clear()
        figures: dict = {"workers": number, "jobs": jobs}
        stub = functools.partial(stub_job, str(log), 0.0)
        with mock.patch.object(workers, "render_job", stub), _cpu(figures, "cpu_s"):
            workers._run_with(cluster, 1, series, options, folder / "s", listed, StageClock(), lambda _: None)
        figures["heard"] = sum(count for name, count in heard.items() if name not in BY_THE_CLOCK)
        figures["by_the_clock"] = sum(heard[name] for name in BY_THE_CLOCK)
        figures["names"] = dict(heard.most_common())
    return figures


def measure_failure(folder: Path, jobs: int) -> dict:
    """Kill one of two workers in the middle of a run: which jobs were begun more than once."""
    series = stub_series(jobs)
    options = stub_options(frames_per_file=1)
    log = folder / "failure"

    def kill() -> None:
        while not log.exists() or log.read_text().count("done") < jobs // 3:
            time.sleep(0.02)
        last = log.read_text().splitlines()[-1]
        os.kill(int(last.split()[2]), signal.SIGKILL)

    with workers.local_cluster(2, 1) as cluster:
        killer = threading.Thread(target=kill, daemon=True)
        killer.start()
        stub = functools.partial(stub_job, str(log), 0.05)
        with mock.patch.object(workers, "render_job", stub):
            listed = list_jobs(series, options)
            workers._run_with(cluster, 1, series, options, folder / "s", listed, StageClock(), lambda _: None)
        killer.join(timeout=30)
    begun = [line.split()[1] for line in log.read_text().splitlines() if line.startswith("begun")]
    ended = {line.split()[1] for line in log.read_text().splitlines() if line.startswith("done")}
    return {"jobs": jobs, "ended": len(ended), "begun_again": len(begun) - len(set(begun))}


def measure_bytes(pixels: int) -> list[dict]:
    """Bytes a pixel of photons and counts, packed in every way: a smooth background with spots on it."""
    rng = np.random.default_rng(1)
    slow, fast = np.mgrid[:pixels, :pixels] / pixels - 0.5
    shape = np.exp(-8.0 * (slow**2 + fast**2)) / (1.0 + 4.0 * (slow**2 + fast**2))
    bright = rng.random((pixels, pixels)) < 1e-3
    rows = []
    for level in (0.01, 1.0, 100.0):
        photons = (level * shape / shape.mean() + bright * rng.exponential(200.0, shape.shape)).astype(np.float32)
        counts = rng.poisson(photons)
        for name, frame in (("photons", photons), ("uint16", counts.astype(np.uint16))):
            sizes = {compression: _packed_bytes(frame, compression) / frame.size for compression in COMPRESSIONS}
            rows.append({"level": level, "frame": name, **sizes})
    return rows


def _packed_bytes(frame: np.ndarray, compression: str) -> int:
    options = Codec(compression).dataset_options()
    with h5py.File("packed", "w", driver="core", backing_store=False) as file:
        made = file.create_dataset("data", data=frame[None], chunks=(1, *frame.shape), **options)
        return made.id.get_storage_size()


# --- the model


def report(found: dict, target: Target) -> list[str]:
    """The tables of what was measured, and that of the model: lines of Markdown."""
    lines = [
        "| sources of a master | written, s | MB | opened, ms | first frame, ms | next, ms | memory, MB |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in found["sources"]:
        for kind, size in (("master", "master_mb"), ("index", "index_mb")):
            what = f"{row['sources']:,}" if kind == "master" else f"index of {row['runs']} masters with as many"
            times = " | ".join(f"{1e3 * row[f'{kind}_{name}_s']:.2f}" for name in ("open", "first_frame", "next_frame"))
            written = f"{row['master_s']:.2f}" if kind == "master" else ""
            lines.append(f"| {what} | {written} | {row[size]:.2f} | {times} | {row[f'{kind}_memory_mb']:.1f} |")
    lines += [
        "",
        "| frames | data files | masters | plan, MB | masters, MB | text files, MB | table, plan, jobs, s "
        "| check and masters, s | memory, MB |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in found["frames"]:
        begin = row["table_s"] + row["jobs_s"] + row["plan_s"]
        lines.append(
            f"| {row['frames']:,} | {row['files']:,} | {row['masters']} | {row['plan_mb']:.2f} | "
            f"{row['masters_mb']:.2f} | {row['exports_mb']:.2f} | {begin:.2f} | {row['resume_s']:.1f} | "
            f"{row['base_mb']:.0f} + {row['peak_mb'] - row['base_mb']:.0f} |"
        )
    lines += [
        "",
        "| workers | jobs | messages heard | a job | by the clock | client and scheduler, ms a job |",
        "|---|---|---|---|---|---|",
    ]
    for row in found["messages"]:
        lines.append(
            f"| {row['workers']} | {row['jobs']} | {row['heard']} | {row['heard'] / row['jobs']:.2f} | "
            f"{row['by_the_clock']} | {1e3 * row['cpu_s'] / row['jobs']:.1f} |"
        )
    lines += ["", f"| photons a pixel | frame | {' | '.join(COMPRESSIONS)} |", "|---|---|" + "---|" * len(COMPRESSIONS)]
    for row in found["bytes"]:
        sizes = " | ".join(f"{row[name]:.3f}" for name in COMPRESSIONS)
        lines.append(f"| {row['level']:g} | {row['frame']} | {sizes} |")
    lost = found["failure"]
    lines += [
        "",
        f"One of two workers killed among {lost['jobs']} jobs: {lost['ended']} ended, "
        f"{lost['begun_again']} begun a second time.",
        "",
        *model(found, target),
    ]
    return lines


def model(found: dict, target: Target) -> list[str]:
    """The table of the model: what is measured, scaled to the target."""
    files = -(-target.frames // target.frames_per_file)
    options = stub_options(frames_per_file=target.frames_per_file)
    per_master = options.files_per_master
    runs = -(-files // per_master)
    largest = found["frames"][-1]
    messages, source = found["messages"][-1], found["sources"][-1]
    processes = target.nodes * target.processes
    hours = target.frames * target.frame_s / processes / 3600.0
    job_s = target.frames_per_file * target.frame_s
    heard = messages["heard"] / messages["jobs"]
    counts = next(row for row in found["bytes"] if row["frame"] == "uint16" and row["level"] == 1.0)
    photons = next(row for row in found["bytes"] if row["frame"] == "photons" and row["level"] == 1.0)
    frames_a_second = target.processes / target.frame_s
    rows, bytes_of = found["rows"], {"counts": counts, "photons": photons}
    failures = target.nodes / target.hours_between_failures
    part = target.frames / largest["frames"]
    per_source = source["master_memory_mb"] / source["sources"]
    # The table, numbers of the notes and the digests grow with the series; the truth of a run and the texts do not.
    own = 8 * (9 + 2 + 2) * target.frames / MB
    in_run = min(target.frames, per_master * target.frames_per_file)
    of_run = (largest["peak_mb"] - largest["base_mb"]) * in_run / min(largest["frames"], in_run)
    said = [
        ("data files", f"{files:,}, of each product", "counted"),
        ("masters, and sources of each", f"{runs} and an index; {min(per_master, files):,}", "counted"),
        ("memory of a program that opens a master, MB", f"{per_source * min(per_master, files):.0f}", "measured"),
        ("the same with one master of all, MB", f"{per_source * files:.0f}", "measured"),
        ("truth: frames, GB", f"{rows['frame'] * target.frames / 1e9:.2f}", "counted"),
        (
            f"truth: {target.spots} spots a frame, GB",
            f"{rows['spot'] * target.spots * target.frames / 1e9:.0f}",
            "counted",
        ),
        ("plan that workers read, MB", f"{largest['plan_mb'] * part:.0f}, each its own rows once", "scaled"),
        (
            "coordinator: computing, s",
            f"{(largest['table_s'] + largest['plan_s'] + largest['resume_s']) * part:.0f}",
            "scaled",
        ),
        (
            "coordinator: memory, MB",
            f"{largest['base_mb'] + of_run:.0f} + {own:.0f} of its table",
            "scaled",
        ),
        ("hours of rendering", f"{hours:.2f} at {target.frame_s:g} s a frame, {processes} processes", "assumed"),
        ("messages of jobs", f"{heard * files:,.0f}; {heard * processes / job_s:.1f} a second", "scaled"),
        (
            "scheduler busy with jobs",
            f"{100 * messages['cpu_s'] / messages['jobs'] * processes / job_s:.1f} %",
            "scaled",
        ),
    ]
    for name, sizes in bytes_of.items():
        for compression in COMPRESSIONS:
            mb = sizes[compression] * target.pixels * frames_a_second / MB
            said.append(
                (
                    f"{name}, {compression}: MB a second of a node, GB/s of all",
                    f"{mb:.0f}, {mb * target.nodes / 1e3:.1f}",
                    "scaled",
                )
            )
    lost = target.processes * target.frames_per_file / 2
    share = 100.0 * failures * hours * lost / target.frames
    said += [
        ("failures of nodes", f"{failures:.2f} an hour", "assumed"),
        (
            "frames made again for one",
            f"{lost:.0f} in the mean, {2 * lost:.0f} at most: {share:.4f} % of all",
            "counted",
        ),
    ]
    table = ["| " + f"{target.frames:,} frames on {target.nodes} nodes | | |", "|---|---|---|"]
    return [*table, *(f"| {name} | {value} | {how} |" for name, value, how in said)]


if __name__ == "__main__":
    raise SystemExit(main())
