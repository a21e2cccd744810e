"""``bragg-numba refine``: parameters of an experiment fitted to a frame."""

from __future__ import annotations

import argparse
import sys
from contextlib import contextmanager
from typing import Any

from bragg_numba.cli.console import compilation_announced, number, say_notes, whole

HELP = "Fit parameters of an experiment to a frame: orientation, cell, scale, detector and others."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the sub-command's arguments."""
    add = parser.add_argument
    add("frame", help="a frame or series of this package; with --experiment or --expt any image (HDF5, SMV, npy, raw)")
    add("-o", "--output", metavar="FILE", help="JSON of values, uncertainties and refined experiments to write")
    add(
        "--free",
        metavar="NAMES",
        default="orientation,cell,scale",
        help="what each frame has for itself; default %(default)s",
    )
    add("--shared", metavar="NAMES", default="", help="what all frames have in common: distance,centre")
    add("--frames", metavar="LIST", default="0", help="frames of a series: 3, or 0,2,5, or 0:100; default 0")
    add(
        "--experiment",
        metavar="FILE",
        help="where to start: experiment.json, or a frame with its own; default: the frame's",
    )
    add("--expt", metavar="FILE", help="where to start: a DIALS experiment list; structure factors are the frame's")
    add("--hkl", metavar="FILE", help="structure factors, as -hkl takes them")
    add(
        "--set",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="a parameter's value at the start; may be repeated",
    )
    add("--likelihood", metavar="NAME", default="poisson", help="poisson, model or gaussian; default poisson")
    add("--readout", metavar="RMS", default="0", help="read-out noise, photons; default 0")
    add("--background", metavar="B", help="photons a pixel, or local; default: the experiment's own")
    add("--gain", metavar="G", default="1", help="photons are (values - offset) / gain; default 1")
    add("--offset", metavar="A", default="0", help="default 0")
    add("--boxes", metavar="N", default="auto", help="half width of boxes around spots, auto, or none; default auto")
    add("--robust", metavar="NAME", help="huber or cauchy: pixels far from the model count less")
    add("--bounds", metavar="NAME=LOW,HIGH", action="append", default=[], help="may be repeated; an empty side is open")
    add("--prior", metavar="NAME=SIGMA", action="append", default=[], help="or NAME=CENTRE,SIGMA; may be repeated")
    add("--restrain-cell", metavar="A,DEG", help="hold crystal.cell near its crystal system within these deviations")
    add("--no-coarse", action="store_true", help="no first stage with larger spots")
    add("--steps", metavar="N", default="50", help="most steps; default 50")
    add("--save-experiment", metavar="FILE", help="refined experiment of the first frame, JSON")
    add("--png", metavar="FILE", help="picture of data, model and residuals around the strongest spots")
    add("--threads", metavar="N", help="CPU threads; default: all")
    add("--json", action="store_true", help="print the outcome as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Read, refine, print, write."""
    from bragg_numba import checks as check
    from bragg_numba.errors import InputError
    from bragg_numba.io.atomic import require_writable
    from bragg_numba.refine import Still, refine, restrain_cell

    for path in (arguments.output, arguments.save_experiment, arguments.png):
        if path is not None:
            require_writable(path)
    options: dict[str, Any] = {
        "free": arguments.free,
        "shared": arguments.shared,
        "likelihood": arguments.likelihood,
        "boxes": _boxes(arguments.boxes),
        "robust": arguments.robust,
        "coarse": not arguments.no_coarse,
        "most_steps": whole("--steps", arguments.steps),
        "bounds": dict(_pair("--bounds", text, open_sides=True) for text in arguments.bounds),
        "priors": dict(_prior(text) for text in arguments.prior),
    }
    if arguments.threads is not None:
        options["threads"] = check.count("--threads", number("--threads", arguments.threads), low=1, high=4096)
    background = arguments.background
    if background is not None and background != "local":
        background = number("--background", background)
    readout = check.number("--readout", number("--readout", arguments.readout), low=0.0)
    gain = check.number("--gain", number("--gain", arguments.gain), above=0.0)
    offset = number("--offset", arguments.offset)
    stills = []
    for experiment, image in _frames(arguments):
        data = image if gain == 1.0 and offset == 0.0 else _in_photons(image, offset, gain)
        stills.append(Still(experiment=experiment, data=data, variance=readout**2, background=background))
    if arguments.restrain_cell is not None:
        _, (edges, angles) = _pair("--restrain-cell", f"cell={arguments.restrain_cell}")
        cell = stills[0].experiment.crystal.cell
        if cell is None:
            raise InputError("--restrain-cell", "needs a crystal with a cell")
        options["restraints"] = restrain_cell(cell, edges, angles)
    with compilation_announced(), _steps_shown() as progress:
        found = refine(stills, progress=progress, **options)
    say_notes(found.notes)
    print(found.to_json(indent=1) if arguments.json else found)
    written = []
    if arguments.output is not None:
        found.save(arguments.output)
        written.append(arguments.output)
    if arguments.save_experiment is not None:
        found.experiment.save(arguments.save_experiment)
        written.append(arguments.save_experiment)
    if arguments.png is not None:
        from bragg_numba.refine.picture import write_boxes

        write_boxes(arguments.png, found, stills[0].data)
        written.append(arguments.png)
    if not arguments.json:
        for path in written:
            print(f"wrote {path}")
    return 0


def _frames(arguments: argparse.Namespace):
    """The experiment at the start and the image of each frame."""
    from bragg_numba.errors import InputError
    from bragg_numba.experiment import Experiment
    from bragg_numba.slopes.parameters import moved

    given = None
    if arguments.experiment is not None and arguments.expt is not None:
        raise InputError("--expt", "cannot be combined with --experiment")
    if arguments.experiment is not None:
        given = Experiment.load(arguments.experiment)
    pairs = []
    try:
        pairs = list(_own_frames(arguments))
    except InputError:
        if given is None and arguments.expt is None:
            raise
    if not pairs:
        from bragg_numba.lab.parity.images import load_image

        start = given or Experiment.from_expt(arguments.expt)
        pairs = [(start, load_image(arguments.frame, start.detector.shape))]
    factors = _factors(arguments.hkl)
    values = dict(_value(text) for text in arguments.set)
    for own, image in pairs:
        experiment = own if given is None else given
        if arguments.expt is not None:
            parts = {"structure_factors": own.structure_factors, "sampling": own.sampling, "fidelity": own.fidelity}
            experiment = Experiment.from_expt(arguments.expt, **parts)
        if factors is not None:
            experiment = experiment.replace(structure_factors=factors)
        yield (moved(experiment, values)[0] if values else experiment), image


def _own_frames(arguments: argparse.Namespace):
    """Experiments and images of a file that this package wrote."""
    from bragg_numba.series.source import open_source

    with open_source(arguments.frame) as source:
        for index in _indices(arguments.frames, len(source.frames)):
            yield source.series.experiment_of(index), source.frame(index)


def _indices(text: str, n: int) -> list[int]:
    from bragg_numba import checks as check
    from bragg_numba.errors import InputError

    if ":" in text:
        first, _, last = text.partition(":")
        start, stop = (default if not part else whole("--frames", part) for part, default in ((first, 0), (last, n)))
        listed = list(range(start, stop))
    else:
        listed = [whole("--frames", part) for part in text.split(",")]
    for index in listed:
        check.count("--frames", index, low=0, high=n - 1)
    if not listed:
        raise InputError("--frames", "must name at least one frame", text)
    return listed


def _factors(path: str | None):
    """Structure factors of a file, as nanoBragg's -hkl takes them."""
    if path is None:
        return None
    from bragg_numba.experiment import Experiment

    words = ["-cell", "10", "10", "10", "90", "90", "90", "-hkl", path, "-detpixels", "8"]
    return Experiment.from_nanobragg(words).structure_factors


def _in_photons(image, offset: float, gain: float):
    """Photons from values; what says nothing becomes NaN."""
    import numpy as np

    field = image.astype(np.float64)
    if image.dtype.kind in "iu":
        field[image == np.iinfo(image.dtype).max] = np.nan
    return (field - offset) / gain


def _boxes(text: str) -> str | int | None:
    if text == "none":
        return None
    return text if text == "auto" else whole("--boxes", text)


def _split(flag: str, text: str) -> tuple[str, str]:
    from bragg_numba.errors import InputError

    name, equals, rest = text.partition("=")
    if not equals or not name or not rest:
        raise InputError(flag, "must be NAME=VALUE", text)
    return name, rest


def _value(text: str) -> tuple[str, float]:
    name, rest = _split("--set", text)
    return name, number(f"--set {name}", rest)


def _pair(flag: str, text: str, *, open_sides: bool = False) -> tuple[str, tuple[Any, Any]]:
    from bragg_numba.errors import InputError

    name, rest = _split(flag, text)
    parts = rest.split(",")
    if len(parts) != 2:
        raise InputError(flag, "must have two numbers with a comma", rest)
    low, high = (None if open_sides and not part.strip() else number(flag, part) for part in parts)
    return name, (low, high)


def _prior(text: str) -> tuple[str, Any]:
    name, rest = _split("--prior", text)
    return _pair("--prior", text) if "," in rest else (name, number("--prior", rest))


@contextmanager
def _steps_shown():
    """Show each step on a terminal."""
    if not sys.stderr.isatty():
        yield None
        return

    def show(stage: str, step: int, value: float) -> None:
        print(f"\r{stage} step {step}: {value:.6g}\033[K", end="", file=sys.stderr, flush=True)

    yield show
    print("\r\033[K", end="", file=sys.stderr, flush=True)
