"""``bragg-numba export``: what CrystFEL, DIALS, pyFAI and XDS want beside the frames, and frames in other formats."""

from __future__ import annotations

import argparse

from bragg_numba import checks as check
from bragg_numba.cli.console import UsageError, number, progress_bar, whole

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
    add("--cxi", metavar="FILE", help="the same with the spots of the truth as CXI's list of peaks")
    add("--coco", metavar="FOLDER", help="frames as pictures with the spots of the truth as COCO's detections instead")
    add("--least-photons", metavar="N", help="for --coco: spots with fewer expected photons are left out; default 0")
    add("--cbf", metavar="FILE", help="one frame of counts as miniCBF instead; pip install 'bragg-numba[cbf]'")
    add("--frame", metavar="N", help="for --cbf: which, from 0; default 0")


def run(arguments: argparse.Namespace) -> int:
    """Write the files; print their names."""
    from bragg_numba.io.atomic import write_text
    from bragg_numba.series.layout import write_layout
    from bragg_numba.series.source import export_files, open_source, write_nxmx

    ways = ("stream", "layout", "nxmx", "cxi", "coco", "cbf")
    if sum(bool(getattr(arguments, way)) for way in ways) > 1:
        raise UsageError(f"bragg-numba export: give one of {', '.join(f'--{way}' for way in ways)}")
    for name, way in (("least_photons", "coco"), ("frame", "cbf")):
        if getattr(arguments, name) is not None and not getattr(arguments, way):
            raise UsageError(f"bragg-numba export: --{name.replace('_', '-')} is for --{way} alone")
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
    copied = arguments.nxmx or arguments.cxi
    if copied:
        with progress_bar("copying") as progress:
            write_nxmx(arguments.source, copied, peaks=bool(arguments.cxi), progress=progress)
        print(f"wrote {copied}")
        return 0
    if arguments.coco:
        return _write_coco(arguments)
    if arguments.cbf:
        return _write_cbf(arguments)
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


def _write_coco(arguments: argparse.Namespace) -> int:
    from bragg_numba.series.peaks import write_coco
    from bragg_numba.series.source import open_source

    least = 0.0 if arguments.least_photons is None else number("--least-photons", arguments.least_photons)
    least = check.number("--least-photons", least, low=0.0, high=1e30)
    with open_source(arguments.source) as source, progress_bar("writing") as progress:
        images, spots = write_coco(source, arguments.coco, least_photons=least, progress=progress)
    print(f"wrote {arguments.coco}: {images} images, {spots} spots")
    return 0


def _write_cbf(arguments: argparse.Namespace) -> int:
    from bragg_numba.errors import InputError
    from bragg_numba.io.mini_cbf import write_mini_cbf
    from bragg_numba.series.describe import describe
    from bragg_numba.series.source import open_source

    index = 0 if arguments.frame is None else whole("--frame", arguments.frame)
    with open_source(arguments.source) as source:
        n = len(source.series)
        if not 0 <= index < n:
            raise InputError("--frame", f"must lie between 0 and {n - 1}", index)
        source.require_other(arguments.cbf)
        description, _ = describe(source.series, source.dtype, n, source.output)
        write_mini_cbf(arguments.cbf, source.frame(index), description, index)
    print(f"wrote {arguments.cbf}")
    return 0
