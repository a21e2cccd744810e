"""The table of ``scripts/bench``: every watched case against the yardstick and, where given, the C program."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import conftest  # noqa: F401  (the kernel cache, before numba)
import numpy as np
from cases import CASES, FIDELITIES
from pairs import against_yardstick, paired_ratio, seconds

from bragg_numba import Experiment, Simulator
from bragg_numba.io.frame import versions

HERE = Path(__file__).parent

#: Rows of the frame that are compared with the yardstick; None: all. The yardstick is slow.
ROWS = {"benchmark_4096": 2048, "mosaic": 256, "round": 256, "gauss": 256, "tophat": 256, "protein": 256}


def main(argv=None) -> int:
    """Print the table; write JSON on request."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"cases: {', '.join(CASES)}")
    parser.add_argument("--json", metavar="FILE", help="write figures, machine, versions and commit")
    parser.add_argument("--record", action="store_true", help="record the ratios as the gates' figures")
    parser.add_argument("--pairs", type=int, default=5, help="interleaved pairs a ratio")
    options = parser.parse_args(argv)
    rows = [measure(name, options.pairs) for name in (options.names or CASES)]
    surroundings = {} if options.names else measure_surroundings(options.pairs)
    print_table(rows, surroundings)
    if options.json:
        report = {"when": datetime.now(UTC).isoformat(timespec="seconds"), **machine()}
        Path(options.json).write_text(json.dumps({**report, "cases": rows, **surroundings}, indent=1) + "\n")
    if options.record:
        record(rows)
    return 0


def measure(name: str, pairs: int) -> dict:
    """Ratios and rates of one case."""
    title, line, over_yardstick, over_c = CASES[name]
    simulator = Simulator(Experiment.from_nanobragg(line))
    out = np.zeros(simulator.shape, np.float32)
    simulator.render(out)
    warm = sorted(seconds(lambda: simulator.render(out)) for _ in range(7))[3]
    one = Simulator(simulator.experiment, threads=1)
    found = {
        "name": name,
        "title": title,
        "seconds": warm,
        "pixel_steps_per_s": simulator.plan.pixel_steps / warm,
        "precision": simulator.precision,
        "bytes": int(out.nbytes + simulator.plan.cells.nbytes + 1.5 * simulator.plan.table.nbytes),
        "asked_over_yardstick": over_yardstick,
        "asked_over_c": over_c,
    }
    found["two_threads_over_one"] = paired_ratio(
        lambda: one.render(out), lambda: simulator.render(out), pairs, repeats=1
    )
    found["over_yardstick"], _ = against_yardstick(line, pairs, ROWS.get(name))
    binary = os.environ.get("NB_C_BIN")
    if binary:
        found["over_c"] = against_c(binary, line, simulator, out)
    return found


def against_c(binary: str, line: str, simulator, out, pairs: int = 3) -> float:
    """The C program's whole process over our warm render; files that nobody asked for are left out."""
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    with tempfile.TemporaryDirectory() as folder:
        command = [os.path.realpath(binary), *line.split(), "-nonoise", "-nopgm", "-noprogress"]

        def run() -> None:
            subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, check=True)

        return paired_ratio(run, lambda: simulator.render(out), pairs)


def measure_surroundings(pairs: int) -> dict:
    """What the render is embedded in: import, first pixel, fidelity, slopes."""
    python = sys.executable
    line = CASES["benchmark_4096"][1]
    first = "from bragg_numba import *; import sys; simulate(Experiment.from_nanobragg(sys.argv[1]))"
    small = line.replace("-detpixels 4096", "-detpixels 64")

    def process(*words) -> float:
        return seconds(lambda: subprocess.run([python, *words], check=True))

    process("-c", first, small)
    found = {
        "import_s": sorted(process("-c", "import bragg_numba") for _ in range(5))[2],
        "bare_python_s": sorted(process("-c", "pass") for _ in range(5))[2],
        "first_pixel_s": sorted(process("-c", first, small) for _ in range(5))[2],
    }
    sims = {name: Simulator(Experiment.from_nanobragg(line)) for name, line in FIDELITIES.items()}
    outs = {name: np.zeros(sim.shape, np.float32) for name, sim in sims.items()}
    found["physical_over_nanobragg"] = paired_ratio(
        lambda: sims["physical"].render(outs["physical"]),
        lambda: sims["nanobragg"].render(outs["nanobragg"]),
        pairs,
        repeats=1,
    )
    found["slopes"] = slopes()
    if os.environ.get("NB_C_BIN"):
        found["process_over_c"] = whole_process(line)
    return found


def slopes() -> dict:
    """Time against pixels and against steps: the exponent of the growth over a factor of 4 (1: linear)."""
    cubic = "-cell 100 100 100 90 90 90 -default_F 100 -N 20 -lambda 1 -pixel 0.1 -distance 100 -oversample 1"

    def warm(line: str) -> float:
        simulator = Simulator(Experiment.from_nanobragg(line))
        out = np.zeros(simulator.shape, np.float32)
        simulator.render(out)
        return sorted(seconds(lambda: simulator.render(out)) for _ in range(5))[2]

    pixels = warm(f"{cubic} -detpixels 2048 -mosaic 1 -mosaic_dom 10") / warm(
        f"{cubic} -detpixels 1024 -mosaic 1 -mosaic_dom 10"
    )
    steps = warm(f"{cubic} -detpixels 1024 -mosaic 1 -mosaic_dom 80") / warm(
        f"{cubic} -detpixels 1024 -mosaic 1 -mosaic_dom 20"
    )
    return {"pixels": float(np.log(pixels) / np.log(4)), "steps": float(np.log(steps) / np.log(4))}


def whole_process(line: str, pairs: int = 3) -> float:
    """Our whole command over the C program's, both writing the raw floats."""
    binary = os.path.realpath(os.environ["NB_C_BIN"])
    with tempfile.TemporaryDirectory() as folder:
        words = [*line.split(), "-floatfile", "f.bin", "-noprogress"]
        ours = [sys.executable, "-m", "bragg_numba.cli.nanobragg", *words]
        theirs = [binary, *words, "-nonoise", "-nopgm"]

        def run(command) -> None:
            environment = {**os.environ, "OMP_NUM_THREADS": "2"}
            subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, check=True)

        return paired_ratio(lambda: run(ours), lambda: run(theirs), pairs, repeats=1)


def machine() -> dict:
    """Processor, versions, commit."""
    model = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = [x for x in cpuinfo.read_text().splitlines() if x.startswith("model name")]
        model = lines[0].split(":", 1)[1].strip() if lines else model
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=HERE, capture_output=True, text=True).stdout.strip()
    return {"processor": model, "cores": os.cpu_count(), "versions": versions(), "commit": commit}


def print_table(rows: list[dict], surroundings: dict) -> None:
    """Print the figures for people."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title="warm Simulator.render")
    for head in ("case", "ms", "pixel-steps/s", "x yardstick", "asked", "x C", "asked", "2 threads / 1", "MB"):
        table.add_column(head, justify="left" if head == "case" else "right")
    for row in rows:
        table.add_row(
            row["title"],
            f"{row['seconds'] * 1e3:.1f}",
            f"{row['pixel_steps_per_s']:.2e}",
            f"{row['over_yardstick']:.1f}",
            _number(row["asked_over_yardstick"]),
            _number(row.get("over_c")),
            _number(row["asked_over_c"]),
            f"{row['two_threads_over_one']:.2f}",
            f"{row['bytes'] / 1e6:.0f}",
        )
    console = Console(width=140)
    console.print(table)
    for name, value in surroundings.items():
        console.print(f"{name}: {value if isinstance(value, dict) else round(value, 3)}")


def _number(value) -> str:
    return "-" if value is None else f"{value:.1f}"


def record(rows: list[dict]) -> None:
    """Write the ratios that the gates hold."""
    path = HERE / "recorded.json"
    old = json.loads(path.read_text()) if path.exists() else {"over_yardstick": {}, "rows": {}}
    for row in rows:
        if row["name"] in ROWS:
            old["over_yardstick"][row["name"]] = round(row["over_yardstick"], 1)
            old["rows"][row["name"]] = ROWS[row["name"]]
    path.write_text(json.dumps({**old, "recorded": time.strftime("%Y-%m-%d")}, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    sys.exit(main())
