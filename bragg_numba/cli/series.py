"""``bragg-numba series``: a plan becomes many frames."""

from __future__ import annotations

import argparse
import os
import sys
import time
from contextlib import contextmanager

from bragg_numba.cli.console import UsageError, if_given, number, response, whole

HELP = "Render a series of frames into NXmx files: masters and data files for DIALS, XDS and CrystFEL."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the sub-command's arguments."""
    add = parser.add_argument
    add("plan", nargs="?", help="series plan (JSON, docs/series.md), or a master to make again; left out: see below")
    add("-o", "--output", metavar="PREFIX", help="run7/s makes run7/s_master.h5; default: the plan's, or its name")
    add("--workers", metavar="local:N", help="N Dask processes on this machine; default: threads of this one")
    add("--scheduler", metavar="ADDRESS", help="a Dask scheduler, tcp://..., whose workers see the same files")
    add("--resume", action="store_true", help="complete what an interrupted run left")
    add("--overwrite", action="store_true", help="remove a series of the same name first")
    add("--counts", metavar="TYPE", help="uint16 or uint32: write Poisson counts too; none: do not")
    add("--no-photons", action="store_true", help="write counts alone")
    add("--seed", metavar="N", help="of the noise")
    add(
        "--response",
        metavar="R",
        help="the detector of the counts: jungfrau ..., or a JSON file (docs/response.md)",
    )
    add("--scale", metavar="S", help="photons are multiplied by this before noise")
    add("--compression", metavar="C", help="bslz4, none, gzip or zstd; default bslz4")
    add("--frames-per-file", metavar="N", help="default 100")
    add("--frames-per-master", metavar="N", help="longer series get several masters and an index; default 100000")
    add("--spot-threshold", metavar="P", help="photons below which a spot is left out of the truth; default 1")
    add("--no-spots", action="store_true", help="write no table of spots")
    add("--labels", action="store_true", help="write label images: each pixel's spot, mean wavelength, mean h, k, l")
    add("--no-exports", action="store_true", help="write no .geom, .phil, .expt, .poni and XDS.INP beside the masters")
    add("--layout", metavar="L", help="geom: the frames in the layout of the detector's .geom, too; default nxmx")
    add("--threads", metavar="N", help="CPU threads of a process; default: all")
    add("--precision", metavar="P", help="auto, tile or float64")
    add("--backend", metavar="B", help="auto, cpu or cuda")
    add("--quiet", action="store_true", help="no progress")
    crystfel = parser.add_argument_group(
        "from CrystFEL's files", "in place of a plan, or of those of its parts (docs/crystfel.md)"
    )
    add = crystfel.add_argument
    add("-g", "--geom", metavar="FILE", help="geometry (.geom)")
    add("-p", "--cell", metavar="FILE", help="unit cell: of CrystFEL (.cell), or the CRYST1 line of a PDB file")
    add("-i", "--hkl", metavar="FILE", help="merged intensities (.hkl); without them all reflections are alike")
    add("-y", "--symmetry", metavar="SYM", help="their point group as CrystFEL writes it; default: what the list says")
    add("-n", "--frames", metavar="N", help="stills with random orientations; of a template: its first N chunks")
    add("--template", metavar="STREAM", help="a frame for every chunk, with all of its crystals")
    add("--nanobragg", metavar="WORDS", help="nanoBragg's flags for all the rest, as one word: crystal, beam, sampling")
    add("--hit-rate", metavar="P", help="part of the stills that hit a crystal; default 1")
    add("--lattices", metavar="N", help="crystals on a still: 2, or numbers and their probabilities: 1:0.8,2:0.2")
    add(
        "--weights",
        metavar="W",
        help="what the photons of the first crystal, the second ... are multiplied by: 0.7,0.3",
    )
    add("--split-deg", metavar="DEG", help="crystals of a still are parts of one, turned by angles of this sigma")
    add("--stream", action="store_true", help="write the truth as PREFIX.stream, too")


def run(arguments: argparse.Namespace) -> int:
    """Run the plan; print what was written and where the time went."""
    # Before numba starts its threads: waiting ones should leave the cores to those that pack and write.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    from bragg_numba.cli.console import compilation_announced, say_notes
    from bragg_numba.series.write import write_series

    series, output = _read(arguments)
    say_notes(series.notes)
    prefix = output.pop("prefix", None)
    if prefix is not None:
        prefix = os.path.join(os.path.dirname(arguments.plan), prefix)
    prefix = arguments.output or prefix or _stem(arguments.plan)
    options = _options(arguments.plan or "", output, _changes(arguments))
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
    for path in (*result.masters, *result.runs, *result.exports):
        print(f"wrote {path}")
    print(f"wrote {len(result.data_files)} data files")
    if arguments.stream:
        from bragg_numba.series.source import open_source
        from bragg_numba.series.stream_file import write_stream

        with open_source(result.masters[-1]) as source:
            crystals = write_stream(source, f"{prefix}.stream")
        print(f"wrote {prefix}.stream: {len(series)} chunks, {crystals} crystals")
    return 0


def _read(arguments: argparse.Namespace):
    """The series of a plan, of the flags that stand for one, or of both; and its output options."""
    from bragg_numba.series.series import load_plan, plan_text, read_plan

    parts = _parts(arguments)
    if arguments.plan is not None:
        return load_plan(arguments.plan, parts)
    if not ("stills" in parts or "template" in parts):
        raise UsageError("bragg-numba series: name a plan, or say -n or --template")
    if arguments.output is None:
        raise UsageError("bragg-numba series: -o says how the names of the files begin, where there is no plan")
    return read_plan(plan_text(parts))


def _parts(arguments: argparse.Namespace) -> dict:
    """Parts of a plan that the command line gives; files lie where the command is run."""
    parts: dict = {}
    for name in ("geom", "cell", "hkl"):
        if getattr(arguments, name) is not None:
            parts[name] = os.path.abspath(getattr(arguments, name))
    for name in ("symmetry", "nanobragg"):
        if getattr(arguments, name) is not None:
            parts[name] = getattr(arguments, name)
    frames = if_given(whole, "--frames", arguments.frames)
    lattices = {
        "hit_rate": if_given(number, "--hit-rate", arguments.hit_rate),
        "count": if_given(_numbers_of_lattices, "--lattices", arguments.lattices),
        "weights": if_given(_weights, "--weights", arguments.weights),
        "split_deg": if_given(number, "--split-deg", arguments.split_deg),
    }
    lattices = {name: value for name, value in lattices.items() if value is not None}
    if arguments.template is not None:
        if lattices:
            raise UsageError("bragg-numba series: the crystals of a template's frames are those of its chunks")
        parts["template"] = {"stream": os.path.abspath(arguments.template)}
        if frames is not None:
            parts["template"]["n"] = frames
    elif frames is not None:
        parts["stills"] = {"n": frames, **({"lattices": lattices} if lattices else {})}
        if arguments.seed is not None:
            parts["stills"]["seed"] = whole("--seed", arguments.seed)
    elif lattices:
        raise UsageError("bragg-numba series: --hit-rate, --lattices, --weights and --split-deg are for stills: say -n")
    return parts


def _numbers_of_lattices(name: str, text: str) -> int | dict[str, float]:
    """A number of crystals, or numbers and their probabilities."""
    if ":" not in text:
        return whole(name, text)
    pairs = [part.partition(":") for part in text.split(",")]
    return {str(whole(name, key)): number(name, share) for key, _, share in pairs}


def _weights(name: str, text: str) -> list[float] | float:
    """A weight for every crystal, or for the first, the second and so on."""
    found = [number(name, part) for part in text.split(",")]
    return found[0] if len(found) == 1 else found


def _options(plan: str, output: dict, changes: dict):
    """The plan's output options and the command line's; what the plan alone is to blame for names its file."""
    from bragg_numba.errors import InputError
    from bragg_numba.series import OutputOptions

    try:
        return OutputOptions.from_dict({**output, **changes})
    except InputError as error:
        if not plan or error.name.removeprefix("output.") in changes or (error.name == "output" and changes):
            raise
        raise error.in_file(plan) from None


def _stem(plan: str) -> str:
    return plan.removesuffix(".json").removesuffix("_master.h5").removesuffix("_index.h5")


def _changes(arguments: argparse.Namespace) -> dict:
    """Output options that the command line gives."""
    given = {
        "seed": if_given(whole, "--seed", arguments.seed),
        "scale": if_given(number, "--scale", arguments.scale),
        "compression": arguments.compression,
        "frames_per_file": if_given(whole, "--frames-per-file", arguments.frames_per_file),
        "frames_per_master": if_given(whole, "--frames-per-master", arguments.frames_per_master),
        "spot_threshold": if_given(number, "--spot-threshold", arguments.spot_threshold),
        "precision": arguments.precision,
        "backend": arguments.backend,
        "layout": arguments.layout,
        "response": if_given(response, "--response", arguments.response),
    }
    found = {name: value for name, value in given.items() if value is not None}
    if arguments.counts is not None:
        found["counts"] = arguments.counts
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
