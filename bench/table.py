"""The table of ``scripts/bench``: every watched case against the yardstick and, where given, the C program."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import conftest  # noqa: F401  (the kernel cache, before numba)
import numpy as np
from around import AROUND, AROUND_C, whole_process_over_c
from cases import CASES, ROWS, TWO_THREADS
from instructions import instructions_per_step
from pairs import against_yardstick, paired_ratio, seconds
from record import processor_kind, record

from bragg_numba import Experiment, Simulator
from bragg_numba.cli.bench import conditions, surroundings

HERE = Path(__file__).parent


def main(argv=None) -> int:
    """Print the table; write JSON and the gates' record on request."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join([*CASES, *AROUND])}; default: all")
    parser.add_argument("--json", metavar="FILE", help="write figures, machine, versions and commit")
    parser.add_argument("--record", action="store_true", help="record the ratios as the gates' figures")
    parser.add_argument("--readme", metavar="FILE", help="put the figures of a JSON file into README.md, no more")
    parser.add_argument("--pairs", type=int, default=5, help="interleaved pairs a ratio")
    options = parser.parse_args(argv)
    if options.readme:
        fill_readme(json.loads(Path(options.readme).read_text()))
        return 0
    unknown = set(options.names) - {*CASES, *AROUND}
    if unknown:
        parser.error(f"no such case: {', '.join(sorted(unknown))}")
    wanted = options.names or [*CASES, *AROUND]
    rows = [measure(name, options.pairs) for name in CASES if name in wanted]
    around = [measure_around(name) for name in AROUND if name in wanted]
    if os.environ.get("NB_C_BIN") and not options.names:
        around += [measure_process(name, os.environ["NB_C_BIN"]) for name in AROUND_C]
    report = {"when": datetime.now(UTC).isoformat(timespec="seconds"), **machine(), "cases": rows, "around": around}
    print_table(report)
    if options.json:
        Path(options.json).write_text(json.dumps(report, indent=1) + "\n")
    if options.record:
        gains = [row["value"] for row in around if row["name"] == "gain_of_skipping"]
        record({row["name"]: row["over_yardstick"] for row in rows}, gains[0] if gains else None)
    return 0


def measure(name: str, pairs: int) -> dict:
    """Ratios and rates of one case."""
    title, line, over_yardstick, over_c = CASES[name]
    simulator = Simulator(Experiment.from_nanobragg(line))
    plan = simulator.plan
    out = np.zeros(simulator.shape, np.float32)
    simulator.render(out)
    warm = sorted(seconds(lambda: simulator.render(out)) for _ in range(7))[3]
    one = Simulator(simulator.experiment, threads=1)
    found = {
        "name": name,
        "title": title,
        "seconds": warm,
        "pixel_steps": plan.pixel_steps,
        "pixel_steps_per_s": plan.pixel_steps / warm,
        "precision": simulator.precision,
        # What a render reads and writes: the image, the steps, the table and its squares.
        "bytes": int(out.nbytes + plan.cells.nbytes + plan.table.nbytes + plan.table.nbytes // 2),
        "asked_over_yardstick": over_yardstick,
        "asked_over_c": over_c,
        "asked_two_threads_over_one": TWO_THREADS if plan.steps > 1 else None,
    }
    found["two_threads_over_one"] = paired_ratio(
        lambda: one.render(out), lambda: simulator.render(out), pairs, repeats=1
    )
    found["over_yardstick"], found["difference_from_yardstick"] = against_yardstick(line, pairs, ROWS[name])
    found["instructions_per_step"], found["instructions_note"] = instructions_per_step(line, plan.pixel_steps)
    found["over_c"] = None
    if os.environ.get("NB_C_BIN"):
        found["over_c"] = against_c(os.environ["NB_C_BIN"], line, simulator, out)
    return found


def against_c(binary: str, line: str, simulator, out, pairs: int = 3) -> float:
    """The C program's whole process over our warm render; files that it can leave out are left out."""
    environment = {**os.environ, "OMP_NUM_THREADS": os.environ["NUMBA_NUM_THREADS"]}
    with tempfile.TemporaryDirectory() as folder:
        command = [os.path.realpath(binary), *line.split(), "-nonoise", "-nopgm", "-noprogress"]

        def run() -> None:
            subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, check=True)

        return paired_ratio(run, lambda: simulator.render(out), pairs)


def measure_around(name: str) -> dict:
    """One figure of what surrounds a warm render."""
    figure = AROUND[name]
    value = None if figure.lacking else figure.measure()
    return {
        "name": name,
        "title": figure.title,
        "unit": figure.unit,
        "value": value,
        "asked": figure.asked,
        "holds": None if value is None else figure.holds(value),
        "skipped": figure.lacking,
    }


def measure_process(name: str, binary: str) -> dict:
    """A whole command over the C program's."""
    title, integers, asked = AROUND_C[name]
    value = whole_process_over_c(binary, integers=integers)
    holds = None if asked is None else value <= asked
    return {"name": name, "title": title, "unit": "x", "value": value, "asked": asked, "holds": holds}


def machine() -> dict:
    """Processor, cores, threads, versions, commit, and whether the tree had changes that no commit holds."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=HERE, capture_output=True, text=True).stdout.strip()

    changed = bool(git("status", "--porcelain", "--untracked-files=no"))
    return {
        **surroundings(),
        "kind": processor_kind(),
        "cores": os.cpu_count(),
        "commit": git("rev-parse", "HEAD"),
        "changed": changed,
    }


def print_table(report: dict) -> None:
    """Print the figures for people."""
    from rich.console import Console
    from rich.table import Table

    console = Console(width=150)
    rows, around = report["cases"], report["around"]
    if rows:
        table = Table(title="warm Simulator.render")
        heads = ("ms", "pixel-steps/s", "x yard", "asked", "x C", "asked", "2 threads", "asked", "MB", "instr/step")
        table.add_column("case")
        for head in heads:
            table.add_column(head, justify="right")
        for row in rows:
            table.add_row(
                row["title"],
                f"{row['seconds'] * 1e3:.1f}",
                f"{row['pixel_steps_per_s']:.2e}",
                _number(row["over_yardstick"]),
                _number(row["asked_over_yardstick"]),
                _number(row["over_c"]),
                _number(row["asked_over_c"]),
                _number(row["two_threads_over_one"], 2),
                _number(row["asked_two_threads_over_one"], 2),
                f"{row['bytes'] / 1e6:.0f}",
                _number(row["instructions_per_step"]),
            )
        console.print(table)
        for note in sorted({row["instructions_note"] for row in rows if row["instructions_note"]}):
            console.print(f"instructions: {note}")
        if rows[0]["over_c"] is None:
            console.print("x C: NB_C_BIN names no binary of nanoBragg.c")
    if around:
        table = Table(title="around it")
        for head in ("what", "figure", "asked", "holds"):
            table.add_column(head, justify="left" if head == "what" else "right")
        for row in around:
            holds = {None: "-", True: "yes", False: "NO"}[row["holds"]]
            figures = [_with_unit(row[key], row["unit"]) for key in ("value", "asked")]
            table.add_row(row["title"], *figures, holds)
        console.print(table)
        for row in around:
            if row.get("skipped"):
                console.print(f"{row['title']}: skipped, {row['skipped']}")
    versions = " ".join(f"{name} {version}" for name, version in report["versions"].items())
    processor = f"{report['processor']} ({report['kind']}), {conditions(report)}"
    console.print(f"{processor}; {versions}; commit {report['commit'][:12]}")


def _number(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _with_unit(value: float | None, unit: str) -> str:
    if value is None:
        return "-"
    return f"{value / 1e6:.0f} MB" if unit == "bytes" else f"{value:.2f} {unit}".rstrip()


#: What stands between these lines of README.md is written by ``scripts/bench --readme``.
BEGIN, END = "<!-- begin: figures of scripts/bench -->\n", "<!-- end: figures of scripts/bench -->\n"


def fill_readme(report: dict) -> None:
    """Put the figures of a report between the marks of README.md."""
    path = HERE.parent / "README.md"
    before, rest = path.read_text().split(BEGIN)
    after = rest.split(END)[1]
    path.write_text(before + BEGIN + readme_table(report) + END + after)


def readme_table(report: dict) -> str:
    """The figures of a report as Markdown."""
    lines = ["| warm render | ms | pixel-steps/s | x yardstick | x nanoBragg.c |", "|---|---|---|---|---|"]
    for row in report["cases"]:
        figures = (f"{row['seconds'] * 1e3:.3g}", f"{row['pixel_steps_per_s']:.1e}")
        ratios = (_number(row["over_yardstick"]), _number(row["over_c"]))
        lines.append(f"| {' | '.join((row['title'], *figures, *ratios))} |")
    lines += ["", "| around it | figure |", "|---|---|"]
    lines += [f"| {row['title']} | {_with_unit(row['value'], row['unit'])} |" for row in report["around"]]
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    lines += ["", f"{report['threads']} threads of a {report['kind']}; {versions}; {report['when'][:10]}."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
