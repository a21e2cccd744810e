"""``bragg-numba noise``: photons become counts."""

from __future__ import annotations

import argparse

from bragg_numba.cli.console import compilation_announced, if_given, number, progress_bar, response, say_notes, whole

HELP = "Draw the counts of a file of photons, a series' master or a frame, as a detector would."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the sub-command's arguments."""
    add = parser.add_argument
    add("photons", help="photons.h5 or s_master.h5")
    add("-o", "--output", metavar="FILE", required=True, help="NXmx file of counts to write")
    add("--seed", metavar="N", help="of the noise; default: the series' own, else 1")
    add("--scale", metavar="S", default="1", help="photons are multiplied by this first; default 1")
    add(
        "--background",
        metavar="B",
        default="1",
        help="photons of water and other backgrounds are multiplied by this; default 1",
    )
    add("--response", metavar="R", help="the detector: ideal, eiger2, jungfrau ..., or a JSON file (docs/response.md)")
    add(
        "--counts",
        metavar="TYPE",
        help="uint16 or uint32; larger ones saturate; default: the response's, or uint16",
    )
    add("--compression", metavar="C", default="bslz4", help="bslz4, none, gzip or zstd; default bslz4")


def run(arguments: argparse.Namespace) -> int:
    """Write the counts; print how many there are."""
    from bragg_numba.series.source import write_counts

    with compilation_announced(), progress_bar("drawing") as progress:
        done = write_counts(
            arguments.photons,
            arguments.output,
            seed=if_given(whole, "--seed", arguments.seed),
            scale=number("--scale", arguments.scale),
            background=number("--background", arguments.background),
            counts=arguments.counts,
            compression=arguments.compression,
            response=if_given(response, "--response", arguments.response),
            progress=progress,
        )
    say_notes(done["notes"])
    what = "photons" if arguments.response in (None, "none") else "units"
    print(f"{done['photons']:.0f} {what} on {done['frames']} frames ({done['overloads']} overloads)")
    print(f"wrote {arguments.output}")
    return 0
