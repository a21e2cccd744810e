"""``bragg-numba export``: what CrystFEL, DIALS, pyFAI and XDS want beside the frames."""

from __future__ import annotations

import argparse

from bragg_numba import checks as check
from bragg_numba.cli.console import UsageError

HELP = "Write what CrystFEL, DIALS, pyFAI and XDS want in text files, or a single NXmx file that DIALS imports."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the sub-command's arguments."""
    add = parser.add_argument
    add("source", help="s_master.h5, or a frame.h5")
    add(
        "-o",
        "--output",
        metavar="PREFIX",
        help="PREFIX.geom, .expt, .phil, .poni, _XDS.INP; default: the source's name",
    )
    add("--stream", metavar="FILE", help="write the truth as a stream of CrystFEL instead: bragg-numba series takes it")
    add("--layout", metavar="L", help="geom: the frames in the layout of the .geom that the detector is from, instead")
    add("--nxmx", metavar="FILE", help="copy the frames into one NXmx file instead; DIALS reads masters as they are")


def run(arguments: argparse.Namespace) -> int:
    """Write the files; print their names."""
    from bragg_numba.cli.console import progress_bar
    from bragg_numba.io.atomic import write_text
    from bragg_numba.series.layout import write_layout
    from bragg_numba.series.source import export_files, open_source, write_nxmx

    if sum(bool(one) for one in (arguments.stream, arguments.layout, arguments.nxmx)) > 1:
        raise UsageError("bragg-numba export: give one of --stream, --layout and --nxmx")
    if arguments.stream:
        from bragg_numba.series.stream_file import write_stream

        with open_source(arguments.source) as source, progress_bar("writing") as progress:
            crystals = write_stream(source, arguments.stream, progress=progress)
            print(f"wrote {arguments.stream}: {len(source.series)} chunks, {crystals} crystals")
        return 0
    if arguments.layout is not None:
        check.choice("--layout", arguments.layout, ("geom",))
        prefix = arguments.output or arguments.source.removesuffix(".h5").removesuffix("_master")
        with open_source(arguments.source) as source, progress_bar("copying") as progress:
            written = write_layout(source, prefix, progress=progress)
        print("\n".join(f"wrote {path}" for path in written))
        return 0
    if arguments.nxmx:
        with progress_bar("copying") as progress:
            write_nxmx(arguments.source, arguments.nxmx, progress=progress)
        print(f"wrote {arguments.nxmx}")
        return 0
    prefix = arguments.output or arguments.source.removesuffix(".h5").removesuffix("_master")
    with open_source(arguments.source) as source:
        files = export_files(source, prefix)
        for path in files:
            source.require_other(path)
    for path, text in files.items():
        write_text(path, text)
        print(f"wrote {path}")
    if f"{prefix}_XDS.INP" not in files:
        print("no XDS.INP: it is for even sweeps, and for detectors of one panel with axes at right angles")
    return 0
