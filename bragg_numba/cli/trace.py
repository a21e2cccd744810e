"""``bragg-numba trace``: every intermediate quantity of one pixel."""

from __future__ import annotations

import io

HELP = "Show every number on the way to one pixel."

DESCRIPTION = """\
Trace one pixel of a nanoBragg command line: every intermediate quantity of every sub-step, under the names
that the instrumented nanoBragg.c prints. As tables for people, as TRACE_C lines that can be laid beside the
reference's (bragg-numba diverge OURS THEIRS), or as JSON.

  bragg-numba trace 40 24 -- -lambda 1 -cell 100 100 100 90 90 90 -default_F 100 -N 5 -detpixels 64
"""


def add_arguments(parser) -> None:
    """Add the options and arguments of this command to an argparse parser."""
    import argparse

    parser.description = DESCRIPTION
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("slow", metavar="SLOW", type=int, help="the pixel's row")
    parser.add_argument("fast", metavar="FAST", type=int, help="the pixel's column")
    form = parser.add_mutually_exclusive_group()
    form.add_argument(
        "--table", action="store_const", const="table", dest="form", default="table", help="tables (the default)"
    )
    form.add_argument("--text", action="store_const", const="text", dest="form", help="the reference's TRACE_C lines")
    form.add_argument("--json", action="store_const", const="json", dest="form", help="JSON with the unit of each tap")
    parser.add_argument(
        "--every-step",
        action="store_true",
        help="with --text: all sub-steps and our own taps; else, as the reference, the first spindle step and "
        "domain of each source",
    )
    parser.add_argument("--max-steps", type=int, metavar="N", help="list at most N sub-steps (default: 10000)")
    parser.add_argument("-o", "--output", metavar="FILE", help="write to FILE instead of standard output")
    # One or more: argparse would give "zero or more" its empty share before it has seen the options.
    parser.add_argument("flags", nargs="+", metavar="-- FLAGS", help="nanoBragg's flags, after --")


def run(args) -> int:
    """Trace, print or write; return the exit status (0; what cannot be honoured raises InputError)."""
    from bragg_numba.experiment import Experiment
    from bragg_numba.plan.plan import make_plan
    from bragg_numba.trace.pixel import MAX_STEPS, trace_pixel

    plan = make_plan(Experiment.from_nanobragg(list(args.flags)))
    limit = MAX_STEPS if args.max_steps is None else args.max_steps
    trace = trace_pixel(plan, args.slow, args.fast, limit)
    if args.output is None and args.form == "table":
        from bragg_numba.trace.table import print_trace

        print_trace(trace)
        return 0
    text = _text(trace, args)
    if args.output is None:
        print(text, end="")
    else:
        from bragg_numba.io.atomic import write_bytes

        write_bytes(args.output, text.encode())
    return 0


def _text(trace, args) -> str:
    if args.form == "json":
        return trace.json() + "\n"
    if args.form == "text":
        return trace.text(every_step=args.every_step)
    from bragg_numba.trace.table import print_trace

    buffer = io.StringIO()
    print_trace(trace, buffer)
    return buffer.getvalue()
