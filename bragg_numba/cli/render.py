"""``bragg-numba render``: a saved experiment becomes a frame."""

from __future__ import annotations

import argparse

from bragg_numba.cli.console import UsageError, number

HELP = "Render a saved experiment: a JSON file, or a frame that keeps its own."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the sub-command's arguments."""
    add = parser.add_argument
    add("experiment", help="experiment.json, or a frame.h5 to render again")
    add("-o", "--output", metavar="FILE", help="HDF5 frame to write")
    add("--float", metavar="FILE", dest="float_file", help="raw float32 photons to write")
    add("--png", metavar="FILE", help="log-scaled picture to write")
    add("--threads", metavar="N", help="CPU threads; default: all")
    add("--engine", metavar="NAME", help="auto, pixels or spots; default: the experiment's")
    add(
        "--cutoff",
        metavar="PHOTONS",
        help="what no pixel may be off by for speed; default: the experiment's",
    )
    add("--precision", default="auto", metavar="P", help="auto, tile or float64; default auto")
    add("--backend", default="auto", metavar="B", help="auto, cpu or cuda; default auto")
    add("--max-memory", metavar="BYTES", help="refuse what needs more (500M, 2G); default 80 %% of what is free")
    add("--json", action="store_true", help="print the report as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Render and write; print the report."""
    import shlex

    from bragg_numba import checks as check
    from bragg_numba.cli.nanobragg import render_request
    from bragg_numba.dialect import Request
    from bragg_numba.experiment import Experiment
    from bragg_numba.experiment.sampling import ENGINES
    from bragg_numba.memory import parse_bytes

    files = {"h5_file": arguments.output, "float_file": arguments.float_file, "png_file": arguments.png}
    if not any(files.values()):
        raise UsageError("bragg-numba render: name at least one file to write: -o, --float or --png")
    limit, threads = arguments.max_memory, arguments.threads
    experiment = Experiment.load(arguments.experiment)
    changes: dict[str, object] = {}
    if arguments.engine is not None:
        changes["engine"] = check.choice("--engine", arguments.engine, ENGINES)
    if arguments.cutoff is not None:
        changes["cutoff_photons"] = check.number("--cutoff", number("--cutoff", arguments.cutoff), low=0.0)
    if changes:
        experiment = experiment.replace(sampling=experiment.sampling.replace(**changes))
    request = Request(
        **files,
        threads=0 if threads is None else check.count("--threads", number("--threads", threads), high=4096),
        precision=check.choice("--precision", arguments.precision, ("auto", "tile", "float64")),
        backend=arguments.backend,
        max_memory=None if limit is None else parse_bytes("--max-memory", limit),
        json=arguments.json,
    )
    return render_request(experiment, request, shlex.join(["bragg-numba", "render", arguments.experiment]))
