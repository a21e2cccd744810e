"""``bragg-numba diverge``: the first number in which two traces differ."""

from __future__ import annotations

import argparse

HELP = "Find the first number in which two traces of one pixel differ, and say what may explain it."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the sub-command's arguments."""
    parser.add_argument("ours", help="our trace: TRACE lines or JSON")
    parser.add_argument("theirs", help="the reference's trace")
    parser.add_argument("--rtol", type=_tolerance, default=1e-9, metavar="R", help="agreement to ask; default 1e-9")
    parser.epilog = "Exit status: 0 no difference, 1 a difference, 5 a trace cannot be read."


def run(arguments: argparse.Namespace) -> int:
    """Compare; print what was found."""
    import sys

    from bragg_numba.lab.parity.divergence import diverge

    status, text = diverge(arguments.ours, arguments.theirs, rtol=arguments.rtol)
    if status == 5:
        print(f"error: {text}", file=sys.stderr)
    else:
        print(text)
    return status


def _tolerance(text: str) -> float:
    value = float(text)
    if not 0.0 <= value < 1.0:
        raise argparse.ArgumentTypeError(f"must lie from 0 to below 1, got {text!r}")
    return value
