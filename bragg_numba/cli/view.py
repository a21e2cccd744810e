"""``bragg-numba view``: look at a frame."""

from __future__ import annotations

import argparse

from bragg_numba.cli.console import whole

HELP = "Draw a frame as PNG, with beam centre and resolution rings, or a series as one HTML page."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the sub-command's arguments."""
    add = parser.add_argument
    add("source", help="s_master.h5, or a frame.h5")
    add("--frame", metavar="N", default="0", help="from 0; default 0")
    add("-o", "--output", metavar="FILE", help="PNG to write; default: beside the source")
    add("--html", metavar="FILE", help="write a page that needs no other file instead")
    add("--spots", action="store_true", help="mark the predicted spots")
    add("--no-rings", action="store_true", help="no beam centre and rings")
    add("--size", metavar="N", default="1024", help="longest side in picture elements; default 1024")


def run(arguments: argparse.Namespace) -> int:
    """Write the picture or the page."""
    from bragg_numba import checks as check
    from bragg_numba.errors import InputError
    from bragg_numba.io.atomic import atomic_path, write_text
    from bragg_numba.series.source import open_source
    from bragg_numba.series.view import page, picture

    frame, side = whole("--frame", arguments.frame), whole("--size", arguments.size)
    check.count("--size", side, low=16, high=20_000)
    with open_source(arguments.source) as source:
        if not 0 <= frame < len(source.series):
            raise InputError("--frame", f"must lie between 0 and {len(source.series) - 1}", frame)
        path = arguments.html or arguments.output or f"{arguments.source.removesuffix('.h5')}_{frame:06d}.png"
        source.require_other(path)
        if arguments.html:
            write_text(arguments.html, page(source, spots=arguments.spots))
            print(f"wrote {arguments.html}")
            return 0
        image = picture(source, frame, side=side, rings=not arguments.no_rings, spots=arguments.spots)
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            image.save(file, "PNG")
    print(f"wrote {path}")
    return 0
