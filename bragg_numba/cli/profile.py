"""``bragg-numba profile``: the background of a frame as a table of F."""

from __future__ import annotations

import argparse

from bragg_numba.cli.console import compilation_announced, number, say_notes, whole

HELP = "Make a table of sin(theta)/lambda and F from a frame: its radial profile, without the spots."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the sub-command's arguments."""
    add = parser.add_argument
    add("frame", help="a frame or series of this package, or raw float32 photons (with --experiment)")
    add("-o", "--output", metavar="FILE", required=True, help="table to write, as -stol takes it")
    add("--experiment", metavar="FILE", help="experiment.json that says how a raw image was made")
    add("--index", metavar="N", default="0", help="which frame of a series, from 0; default 0")
    add("--bins", metavar="N", default="200", help="bins of sin(theta)/lambda; default 200")
    add("--offset", metavar="A", default="0", help="photons are (values - offset) / gain; default 0")
    add("--gain", metavar="G", default="1", help="default 1")
    add("--thickness", metavar="MM", default="0.1", help="of the material along the beam; default 0.1")
    add("--density", metavar="RHO", default="1", help="g/cm^3; default 1")
    add("--mw", metavar="M", default="18", help="molar mass, g/mol; default 18")


def run(arguments: argparse.Namespace) -> int:
    """Read the frame, write the table."""
    from bragg_numba.experiment import Experiment
    from bragg_numba.io.atomic import require_writable, write_text
    from bragg_numba.io.raw import read_raw
    from bragg_numba.io.scattering_files import table_text
    from bragg_numba.render.profile import background_of_frame
    from bragg_numba.series.source import open_source

    require_writable(arguments.output)
    index = whole("--index", arguments.index)
    if arguments.experiment is not None:
        experiment = Experiment.load(arguments.experiment)
        image = read_raw(arguments.frame, experiment.detector.shape)
    else:
        with open_source(arguments.frame) as source:
            experiment = source.series.experiment_of(index)
            image = source.frame(index)
    with compilation_announced():
        found = background_of_frame(
            image,
            experiment,
            bins=whole("--bins", arguments.bins),
            offset=number("--offset", arguments.offset),
            gain=number("--gain", arguments.gain),
            thickness_mm=number("--thickness", arguments.thickness),
            density_g_per_cm3=number("--density", arguments.density),
            molar_mass_g_per_mol=number("--mw", arguments.mw),
        )
    stol, F = found.table
    write_text(arguments.output, table_text(stol, F))
    say_notes(() if len(stol) > 3 else (f"the table has only {len(stol)} points: take more --bins",))
    print(f"{len(stol)} points of sin(theta)/lambda from {stol[0]:.4f} to {stol[-1]:.4f} 1/angstrom")
    print(f"F from {F.min():g} to {F.max():g} electrons")
    print(f"wrote {arguments.output}")
    return 0
