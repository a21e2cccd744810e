"""``bragg-numba parity``: the matrix of command lines, against the C program or its golden images."""

from __future__ import annotations

import argparse
import math
import os
from pathlib import Path

from bragg_numba.errors import InputError

HELP = "Compare with the C program over a matrix of command lines and keep the evidence."

#: The images of at least one command line disagree.
DISAGREE = 3

_EPILOG = """\
With NB_C_BIN (or --c-bin) every command line is run by both programs; without it those that have golden
data are compared with them and the others are skipped, with the reason. The evidence goes to
OUTDIR/YYYYMMDD-HHMMSS-HASH: report.html (worst first, with pictures), summary.json, commands.txt,
environment.json, and both programs' files of every command line that fails.

Exit status: 0 all that was compared agrees, 2 the command line is wrong, 3 something disagrees.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the sub-command's arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _EPILOG
    add = parser.add_argument
    add("names", nargs="*", metavar="NAME", help="cases to run; default: all but the full frames")
    add("--cases", metavar="FILE", help="the matrix; default: tests/parity_cases.yaml of the checkout")
    add("--golden", metavar="FILE", help="golden data; default: those that the matrix names")
    add("--c-bin", metavar="PATH", help="the C program; default: $NB_C_BIN")
    add("--outdir", metavar="DIR", default="comparisons", help="where the evidence goes; default: comparisons")
    add("--full-frame", action="store_true", help="run the 4096 x 4096 cases, with times")
    add("--precision", choices=("auto", "tile", "float64"), default="auto", help="ours; default: auto")
    add("--timeout", type=_seconds, metavar="S", help="seconds that one run of the C program may take")
    add("--list", action="store_true", help="list the cases and run nothing")


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be seconds above 0, got {text!r}")
    return value


def run(arguments: argparse.Namespace) -> int:
    """Run the matrix; return 0, or 3 where something disagrees."""
    from bragg_numba.lab.parity.cases import default_cases_file, load_cases

    cases, golden = load_cases(arguments.cases or default_cases_file())
    chosen = _chosen(cases, arguments)
    if arguments.list:
        for case in chosen if arguments.names or arguments.full_frame else cases:
            print(f"{case.name:<28} {len(case.points):>3}  {case.stands_for}")
        return 0
    return _run_and_keep(chosen, arguments, golden)


def _chosen(cases, arguments) -> list:
    known = {case.name: case for case in cases}
    for name in arguments.names:
        if name not in known:
            import difflib

            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else "see --list"
            raise InputError("NAME", "must be a case of the matrix", name, hint)
    if arguments.names:
        wanted = [known[name] for name in dict.fromkeys(arguments.names)]
        return wanted + [c for c in cases if arguments.full_frame and c.full_frame and c.name not in arguments.names]
    return [case for case in cases if case.full_frame == arguments.full_frame]


def _run_and_keep(cases, arguments, golden) -> int:
    from bragg_numba.cli import nanobragg
    from bragg_numba.lab.parity.bundle import counts, one_line, write_bundle
    from bragg_numba.lab.parity.evidence import new_folder
    from bragg_numba.lab.parity.matrix import FAILED, Command, run_cases

    program = arguments.c_bin or os.environ.get("NB_C_BIN") or None
    if arguments.golden:
        golden = Path(arguments.golden)
    elif program is None and golden is None:
        raise InputError("NB_C_BIN", "must name the C program where there are no golden data")
    title = f"bragg-numba against {'nanoBragg.c' if program else 'golden data of nanoBragg.c'}"
    folder = new_folder(arguments.outdir, [case.name for case in cases])
    outcomes = run_cases(
        cases,
        Command(nanobragg.main, nanobragg.__name__),
        program=program,
        golden=golden,
        precision=arguments.precision,
        timeout=arguments.timeout,
        keep=folder,
        tell=lambda outcome: _tell(outcome, one_line),
    )
    write_bundle(folder, title, outcomes, program)
    found = counts(outcomes)
    print(", ".join(f"{number} {status}" for status, number in found.items()))
    print(f"evidence: {folder}")
    return DISAGREE if found[FAILED] else 0


def _tell(outcome, one_line) -> None:
    from bragg_numba.lab.parity.matrix import WARM

    print(one_line(outcome), flush=True)
    if outcome.centre is not None and WARM in outcome.seconds:
        centre = outcome.centre
        print(f"        worst tile: {outcome.worst_tile}, {outcome.worst_correlation:.9f}")
        print(
            f"        centre ({centre['region']}): correlation {centre['correlation']:.9f}, "
            f"sum ratio - 1 {centre['sum_ratio'] - 1.0:+.1e}, worst tile {centre['worst_correlation']:.9f}"
        )
        times = ", ".join(f"{who} {seconds:.2f} s" for who, seconds in outcome.seconds.items())
        print(f"        {times}", flush=True)
