"""``bragg-numba cuda-report``: what the CUDA kernels compile to, and what a frame must cost on a GPU at least."""

from __future__ import annotations

import argparse
import json

from bragg_numba.errors import InputError

HELP = (
    "Compile the CUDA kernels, without a GPU, and say what they take: registers, stack, spills, occupancy and the "
    "machine instructions of the innermost step by class. With --frame and --steps: the least time and memory that "
    "a frame takes on an H100, an A100 and an RTX 4090, from their published figures."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the sub-command's arguments."""
    add = parser.add_argument
    add("--arch", action="append", metavar="A", help="compute capability, sm_90 or 9.0; may be repeated; default sm_90")
    add("--kernel", metavar="WORD", help="only the kernel of that name, or all whose names hold WORD")
    add("--precision", metavar="P", help="only tile, float64 or mixed (spots, slopes)")
    add("--frame", metavar="N", help="model a frame of N x N pixels")
    add("--steps", metavar="M", help="steps that each pixel of the frame sums; default 1000")
    add("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """Print the report."""
    from bragg_numba import checks as check

    precision = arguments.precision
    if precision is not None:
        check.choice("--precision", precision, ("tile", "float64", "mixed"))
    if arguments.frame is not None:
        check.choice("--precision", precision or "tile", ("tile", "float64"))
        pixels = _count("--frame", arguments.frame, 65536)
        steps = _count("--steps", arguments.steps or "1000", 10**9)
        return _model(pixels, steps, precision or "tile", arguments)
    if arguments.steps is not None:
        raise InputError("--steps", "needs --frame")
    return _kernels(arguments)


def _count(name: str, text: str, high: int) -> int:
    from bragg_numba import checks as check

    try:
        return int(check.count(name, float(text), low=1, high=high))
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(name, "must be a whole number", text) from None


def _kernels(arguments: argparse.Namespace) -> int:
    from bragg_numba.cli.console import say_notes
    from bragg_numba.lab.machine_code import kernel_report

    archs = [_arch(one) for one in arguments.arch or ["sm_90"]]
    word = arguments.kernel or ""
    wanted = [one for one in kernel_report.variants() if arguments.precision in (None, one.precision)]
    chosen = [one for one in wanted if one.kernel == word] or [one for one in wanted if word in one.kernel]
    if not chosen:
        names = sorted({one.kernel for one in kernel_report.variants()})
        raise InputError("--kernel", f"must be part of a kernel's name: {', '.join(names)}", word)
    say_notes(kernel_report.missing_tools())
    rows = [one.as_dict() for one in kernel_report.examine_many(chosen, archs)]
    if arguments.json:
        print(json.dumps(rows, indent=1))
        return 0
    for line in kernel_lines(rows):
        print(line)
    return 0


def _arch(text: str) -> str:
    from bragg_numba.lab.machine_code.toolchain import capability

    major, minor = capability(text)
    return f"sm_{major}{minor}"


def kernel_lines(rows: list[dict]) -> list[str]:
    """The rows of --json as a table."""
    from bragg_numba.lab.machine_code.sass import CLASSES

    heads = ["kernel", "precision", "arch", "regs", "stack", "spills", "shared", "occup.", "step", *CLASSES]
    table = [heads]
    for row in rows:
        step = row["sass_innermost"]
        cells = [row[name] for name in ("kernel", "precision", "arch", "registers", "stack", "spill_bytes")]
        cells += [row["shared_bytes"], row["occupancy"]]
        cells += [step[name] for name in ("total", *CLASSES)] if step else [None] * (1 + len(CLASSES))
        table.append(["-" if cell is None else str(cell) for cell in cells])
    return _aligned(table, left=3)


def _aligned(table: list[list[str]], left: int) -> list[str]:
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    return [
        "  ".join(
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]


def _model(pixels: int, steps: int, precision: str, arguments: argparse.Namespace) -> int:
    from bragg_numba.lab.machine_code import cuda_model

    works = {
        card.arch: cuda_model.square_work(pixels * pixels, steps, card.arch, precision) for card in cuda_model.CARDS
    }
    rows = [row for card in cuda_model.CARDS for row in cuda_model.model(works[card.arch], (card,))]
    first = works[cuda_model.CARDS[0].arch]
    report = {
        "frame": [pixels, pixels],
        "steps": steps,
        "pixel_steps": pixels * pixels * steps,
        "precision": precision,
        "bytes_moved": cuda_model.bytes_moved(first),
        "device_bytes": cuda_model.device_bytes(first),
        "cards": [{**row, "instructions": cuda_model.instructions_issued(works[row["arch"]])} for row in rows],
    }
    if arguments.json:
        print(json.dumps(report, indent=1))
        return 0
    for line in model_lines(report):
        print(line)
    return 0


def model_lines(report: dict) -> list[str]:
    """The model for people."""
    n, m = report["frame"][0], report["steps"]
    lines = [
        f"{n} x {n} pixels, {m} steps, square crystal with a table, {report['precision']}: "
        f"{report['pixel_steps']:.3g} pixel-steps",
        "A floor from published figures: what the card needs if nothing ever waits. Nothing here was measured.",
        "",
        "bytes on the device: " + ", ".join(f"{name} {value:.3g}" for name, value in report["device_bytes"].items()),
        "bytes moved: " + ", ".join(f"{name} {value:.3g}" for name, value in report["bytes_moved"].items()),
        "",
    ]
    table = [["card", "arch", "limit", "floor ms", "pixel-steps/s", "instructions", "fp32", "fp64", "copy ms", "fits"]]
    for row in report["cards"]:
        by, issued = row["by_resource"], row["instructions"]
        table.append(
            [
                row["card"],
                row["arch"],
                row["limit"],
                f"{row['seconds'] * 1e3:.2f}",
                f"{row['pixel_steps_per_s']:.2e}",
                f"{sum(issued.values()):.2e}",
                f"{issued.get('fp32', 0.0):.2e}",
                f"{issued.get('fp64', 0.0):.2e}",
                f"{by['copy'] * 1e3:.2f}",
                "yes" if row["fits"] else "by tiles",
            ]
        )
    return lines + _aligned(table, left=3)
