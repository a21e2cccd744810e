"""``bragg-numba background``: what scatters without being a crystal, for command lines of nonBragg."""

from __future__ import annotations

import argparse
import math

import numpy as np

from bragg_numba.cli.console import compilation_announced, say_notes

HELP = "Render the scattering of an amorphous material: takes nonBragg's flags after --."

#: The files that can be asked for, and of those the images of integers.
FILES, INTEGERS = ("floatfile", "intfile", "noisefile"), ("intfile", "noisefile")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the sub-command's arguments."""
    parser.add_argument("flags", nargs="*", metavar="FLAG", help="nonBragg's flags, after --: -stol FILE ...")


def run(arguments: argparse.Namespace) -> int:
    """Render, write what is asked for, print what it holds."""
    from bragg_numba.dialect.nonbragg import parse
    from bragg_numba.errors import InputError
    from bragg_numba.io.atomic import require_writable
    from bragg_numba.memory import require
    from bragg_numba.plan.nonbragg import plan_nonbragg
    from bragg_numba.render.amorphous import render_layers

    command = parse(arguments.flags)
    files = {key: command.given[key] for key in FILES if key in command.given}
    if not files:
        raise InputError("-floatfile", "must name the file to write: float32 photons, row after row")
    for path in files.values():
        require_writable(path)
    plan = plan_nonbragg(command)
    amorphous = plan.amorphous
    n_slow, n_fast = amorphous.shape
    require("the image", 4 * n_slow * n_fast, None, f"{n_fast} x {n_slow} pixels")
    say_notes([*command.notes, *amorphous.notes])
    with compilation_announced():
        image = render_layers(amorphous)
    total = float(image.sum(dtype="float64"))
    if not math.isfinite(total):
        raise InputError("the image", "has pixels beyond the largest float32, 3.4e38 photons", hint="lower the fluence")
    molecules = amorphous.layers[0].molecules
    print(f"{molecules:g} molecules in {amorphous.fluence:g} photons/m^2, {len(amorphous.rays)} sources")
    print(f"{n_fast} x {n_slow} pixels: mean {total / image.size:g}, max {image.max():g} photons")
    _write(files, plan, image, command.given)
    return 0


def _write(files: dict[str, str], plan, image: np.ndarray, given: dict) -> None:
    from bragg_numba.io.atomic import write_bytes
    from bragg_numba.io.integers import scaled_integers
    from bragg_numba.io.raw import write_raw
    from bragg_numba.io.smv import smv_bytes
    from bragg_numba.response.classic import noise_image

    adc, roi = given.get("adc", 40.0), plan.amorphous.roi
    # Made before any is written: noise may be refused.
    made: dict[str, np.ndarray] = {}
    if "intfile" in files:
        most = max(float(image.max()), 0.0)
        made["intfile"], scale = scaled_integers(image, given.get("scale", 0.0), adc, roi, most)
        print("intfile_scale = %g" % scale)
    if "noisefile" in files:
        made["noisefile"], photons, overloads = noise_image(image, given.get("seed", 1), adc, roi)
        print(f"{photons:.0f} photons on noise image ({overloads} overloads)")
    for key, path in files.items():
        if key in INTEGERS:
            write_bytes(path, smv_bytes(_header(plan), made[key]))
        else:
            write_raw(path, image)
        print(f"wrote {path}")


def _header(plan):
    """The header that nonBragg writes."""
    from bragg_numba.io.smv import NonbraggHeader

    d = plan.placed
    (beam_fast, beam_slow), (near_fast, near_slow) = d.beam_centre, d.near_point
    return NonbraggHeader(
        size1=d.n_fast,
        size2=d.n_slow,
        pixel_size_mm=d.pixel * 1000.0,
        distance_mm=d.distance * 1000.0,
        wavelength_A=plan.wavelength_A,
        beam_center_x_mm=beam_fast * 1000.0,
        beam_center_y_mm=(d.size_slow - beam_slow) * 1000.0,
        orgx=near_fast / d.pixel,
        orgy=near_slow / d.pixel,
        close_distance_mm=d.close_distance * 1000.0,
        phi_deg=plan.phi_deg,
        osc_range_deg=plan.osc_deg,
        twotheta_deg=plan.twotheta_deg,
    )
