"""``bragg-numba background``: what scatters without being a crystal, for command lines of nonBragg."""

from __future__ import annotations

import argparse
import math

from bragg_numba.cli.console import compilation_announced, say_notes

HELP = "Render the scattering of an amorphous material: takes nonBragg's flags after --."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the sub-command's arguments."""
    parser.add_argument("flags", nargs="*", metavar="FLAG", help="nonBragg's flags, after --: -stol FILE ...")


def run(arguments: argparse.Namespace) -> int:
    """Render, write what is asked for, print what it holds."""
    from bragg_numba.dialect.nonbragg import parse
    from bragg_numba.errors import InputError
    from bragg_numba.io.atomic import require_writable
    from bragg_numba.io.raw import write_raw
    from bragg_numba.memory import require
    from bragg_numba.plan.nonbragg import plan_nonbragg
    from bragg_numba.render.amorphous import render_layers

    command = parse(arguments.flags)
    for key in ("intfile", "pgmfile", "noisefile"):
        if key in command.given:
            hint = "write -floatfile; bragg-numba export and noise make pictures and counts"
            raise InputError(f"-{key}", "is not written", command.given[key], hint)
    out = command.given.get("floatfile")
    if out is None:
        raise InputError("-floatfile", "must name the file to write: float32 photons, row after row")
    require_writable(out)
    plan = plan_nonbragg(command)
    n_slow, n_fast = plan.shape
    require("the image", 4 * n_slow * n_fast, None, f"{n_fast} x {n_slow} pixels")
    say_notes([*command.notes, *plan.notes])
    with compilation_announced():
        image = render_layers(plan)
    total = float(image.sum(dtype="float64"))
    if not math.isfinite(total):
        raise InputError("the image", "has pixels beyond the largest float32, 3.4e38 photons", hint="lower the fluence")
    write_raw(out, image)
    print(f"{plan.layers[0].molecules:g} molecules in {plan.fluence:g} photons/m^2, {len(plan.rays)} sources")
    print(f"{n_fast} x {n_slow} pixels: mean {total / image.size:g}, max {image.max():g} photons")
    print(f"wrote {out}")
    return 0
