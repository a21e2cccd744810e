"""``bragg-numba bench``: how fast this machine renders, in half a minute."""

from __future__ import annotations

import argparse
import statistics
import time

from bragg_numba.cli.console import compilation_announced, whole

HELP = "Measure this machine: a few experiments, warm, in float32 phases and in float64."

_CUBIC = "-cell 100 100 100 90 90 90 -default_F 100"
_ONE_K = "-N 20 -lambda 1 -detpixels 1024 -pixel 0.1 -distance 100"

#: name: (title, nanoBragg command line). The long form, with a yardstick and gates, is ``bench/`` of the sources.
CASES = {
    "benchmark_4096": (
        "one step, 4096^2, N 5",
        f"-lambda 6.2 {_CUBIC} -N 5 -distance 100 -detpixels 4096 -pixel 0.1 -oversample 1",
    ),
    "mosaic": ("50 mosaic domains, 1024^2, N 20", f"{_CUBIC} {_ONE_K} -oversample 1 -mosaic 1 -mosaic_dom 50"),
    "sources": (
        "20 wavelengths x 9 directions, 1024^2, N 20",
        f"{_CUBIC} {_ONE_K} -oversample 1 -dispersion 1 -dispsteps 20 -divergence 2 -divsteps 3 -square_div",
    ),
    "oversample": ("oversample 4, 1024^2, N 20", f"{_CUBIC} {_ONE_K} -oversample 4"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the sub-command's arguments."""
    add = parser.add_argument
    add("cases", nargs="*", metavar="CASE", help=f"which of {', '.join(CASES)}; default: all")
    add("--threads", metavar="N", help="CPU threads; default: all")
    add("--repeats", metavar="N", default="5", help="renders whose median counts; default 5")
    add("--json", action="store_true", help="print the figures as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Render each case a few times; print a table."""
    from bragg_numba import checks as check

    names = [check.choice("the case", name, tuple(CASES)) for name in arguments.cases] or list(CASES)
    threads = None if arguments.threads is None else _count("--threads", arguments.threads)
    repeats = _count("--repeats", arguments.repeats)
    with compilation_announced():
        rows = [measure(name, threads, repeats) for name in names]
    report = {**surroundings(threads), "cases": rows}
    if arguments.json:
        import json

        print(json.dumps(report))
        return 0
    _print_table(report)
    return 0


def measure(name: str, threads: int | None = None, repeats: int = 5) -> dict:
    """Time one case.

    Returns
    -------
    dict
        ``seconds`` (median of ``repeats`` warm renders), ``pixel_steps_per_s``, the ``precision`` that was
        chosen, and ``float64_over_chosen``: how much longer float64 takes, the median of interleaved pairs.
    """
    import contextlib
    import tempfile

    import numpy as np

    from bragg_numba.experiment import Experiment
    from bragg_numba.render.simulator import Simulator

    title, line = CASES[name]
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):  # where no Fdump.bin lies
        experiment = Experiment.from_nanobragg(line)
    chosen = Simulator(experiment, backend="cpu", threads=threads)
    exact = Simulator(experiment, backend="cpu", precision="float64", threads=threads, plan=chosen.plan)
    out = np.zeros(chosen.shape, np.float32)
    for simulator in (chosen, exact):
        simulator.render(out)
    pairs = [(_seconds(chosen, out), _seconds(exact, out)) for _ in range(repeats)]
    seconds = statistics.median(quick for quick, _ in pairs)
    return {
        "name": name,
        "title": title,
        "seconds": seconds,
        "pixel_steps_per_s": chosen.plan.pixel_steps / seconds,
        "precision": chosen.precision,
        "float64_over_chosen": statistics.median(slow / quick for quick, slow in pairs),
    }


def surroundings(threads: int | None = None) -> dict:
    """Processor, threads, bits of a vector in the kernels (None: no x86) and versions: what the figures belong to."""
    import numba

    from bragg_numba.kernels._vectors import vector_bits
    from bragg_numba.versions import versions

    return {
        "processor": processor(),
        "threads": threads or numba.config.NUMBA_NUM_THREADS,
        "vector_bits": vector_bits(),
        "versions": versions(),
    }


def conditions(report: dict) -> str:
    """Threads and vectors of a report's ``surroundings``, in words."""
    bits = report["vector_bits"]
    vectors = f"vectors of {bits} bits" if bits else "vectors as long as the compiler makes them"
    return f"{report['threads']} threads, {vectors}"


def processor() -> str:
    """The processor's name, as the system gives it."""
    import platform
    from pathlib import Path

    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _seconds(simulator, out) -> float:
    start = time.perf_counter()
    simulator.render(out)
    return time.perf_counter() - start


def _count(name: str, text: str) -> int:
    from bragg_numba import checks as check

    return check.count(name, whole(name, text), low=1, high=4096)


def _print_table(report: dict) -> None:
    versions = " ".join(f"{name} {version}" for name, version in report["versions"].items())
    print(f"{report['processor']}, {conditions(report)}; {versions}")
    print(f"{'warm render':<44} {'ms':>8} {'pixel-steps/s':>14} {'precision':>10} {'float64 takes':>14}")
    for row in report["cases"]:
        print(
            f"{row['title']:<44} {row['seconds'] * 1e3:8.1f} {row['pixel_steps_per_s']:14.3g} "
            f"{row['precision']:>10} {row['float64_over_chosen']:12.1f} x"
        )
