"""``bragg-numba series``: a plan becomes many frames."""

from __future__ import annotations

import argparse
import os
import sys
import time
from contextlib import contextmanager

from bragg_numba.cli.console import if_given, number, whole

HELP = "Render a series of frames into NXmx files: masters and data files for DIALS, XDS and CrystFEL."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the sub-command's arguments."""
    add = parser.add_argument
    add("plan", help="series plan (JSON, docs/series.md), or a master to make again")
    add("-o", "--output", metavar="PREFIX", help="run7/s makes run7/s_master.h5; default: the plan's, or its name")
    add("--workers", metavar="local:N", help="N Dask processes on this machine; default: threads of this one")
    add("--scheduler", metavar="ADDRESS", help="a Dask scheduler, tcp://..., whose workers see the same files")
    add("--resume", action="store_true", help="complete what an interrupted run left")
    add("--overwrite", action="store_true", help="remove a series of the same name first")
    add("--counts", metavar="TYPE", help="uint16 or uint32: write Poisson counts too; none: do not")
    add("--no-photons", action="store_true", help="write counts alone")
    add("--seed", metavar="N", help="of the noise")
    add("--scale", metavar="S", help="photons are multiplied by this before noise")
    add("--compression", metavar="C", help="bslz4, none, gzip or zstd; default bslz4")
    add("--frames-per-file", metavar="N", help="default 100")
    add("--spot-threshold", metavar="P", help="photons below which a spot is left out of the truth; default 1")
    add("--no-spots", action="store_true", help="write no table of spots")
    add("--labels", action="store_true", help="write label images: each pixel's spot, mean wavelength, mean h, k, l")
    add("--no-exports", action="store_true", help="write no .geom, .phil, .poni and XDS.INP beside the masters")
    add("--threads", metavar="N", help="CPU threads of a process; default: all")
    add("--precision", metavar="P", help="auto, tile or float64")
    add("--backend", metavar="B", help="auto, cpu or cuda")
    add("--quiet", action="store_true", help="no progress")


def run(arguments: argparse.Namespace) -> int:
    """Run the plan; print what was written and where the time went."""
    # Before numba starts its threads: waiting ones should leave the cores to those that pack and write.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    from bragg_numba.cli.console import compilation_announced, say_notes
    from bragg_numba.series import load_plan
    from bragg_numba.series.write import write_series

    series, output = load_plan(arguments.plan)
    prefix = output.pop("prefix", None)
    if prefix is not None:
        prefix = os.path.join(os.path.dirname(arguments.plan), prefix)
    prefix = arguments.output or prefix or _stem(arguments.plan)
    options = _options(arguments.plan, output, _changes(arguments))
    with compilation_announced(), _progress(quiet=arguments.quiet) as progress:
        result = write_series(
            series,
            prefix,
            options,
            workers=arguments.workers,
            scheduler=arguments.scheduler,
            resume=arguments.resume,
            overwrite=arguments.overwrite,
            threads=if_given(whole, "--threads", arguments.threads),
            progress=progress,
        )
    say_notes(result.notes)
    print(result.table())
    for path in (*result.masters, *result.exports):
        print(f"wrote {path}")
    print(f"wrote {len(result.data_files)} data files")
    return 0


def _options(plan: str, output: dict, changes: dict):
    """The plan's output options and the command line's; what the plan alone is to blame for names its file."""
    from bragg_numba.errors import InputError
    from bragg_numba.series import OutputOptions

    try:
        return OutputOptions.from_dict({**output, **changes})
    except InputError as error:
        if error.name.removeprefix("output.") in changes or (error.name == "output" and changes):
            raise
        raise error.in_file(plan) from None


def _stem(plan: str) -> str:
    return plan.removesuffix(".json").removesuffix("_master.h5")


def _changes(arguments: argparse.Namespace) -> dict:
    """Output options that the command line gives."""
    given = {
        "seed": if_given(whole, "--seed", arguments.seed),
        "scale": if_given(number, "--scale", arguments.scale),
        "compression": arguments.compression,
        "frames_per_file": if_given(whole, "--frames-per-file", arguments.frames_per_file),
        "spot_threshold": if_given(number, "--spot-threshold", arguments.spot_threshold),
        "precision": arguments.precision,
        "backend": arguments.backend,
    }
    found = {name: value for name, value in given.items() if value is not None}
    if arguments.counts is not None:
        found["counts"] = None if arguments.counts == "none" else arguments.counts
    if arguments.no_photons:
        found["photons"] = False
    if arguments.no_spots:
        found["spots"] = False
    if arguments.labels:
        found["labels"] = True
    if arguments.no_exports:
        found["exports"] = False
    return found


@contextmanager
def _progress(*, quiet: bool):
    """Frames done, frames/s and time left: a line that is written over on a terminal, else one in ten seconds."""
    if quiet:
        yield None
        return
    terminal = sys.stderr.isatty()
    pause, last = (0.2 if terminal else 10.0), [0.0]

    def show(progress) -> None:
        moment = time.monotonic()
        if moment - last[0] < pause and progress.frames < progress.total:
            return
        last[0] = moment
        print(f"\r{progress}\x1b[K" if terminal else str(progress), end="" if terminal else "\n", file=sys.stderr)
        sys.stderr.flush()

    try:
        yield show
    finally:
        if terminal:
            print(file=sys.stderr)
