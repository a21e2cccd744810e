"""``bragg-numba view``: look at a frame."""

from __future__ import annotations

import argparse

from bragg_numba.cli.console import UsageError, progress_bar, whole

HELP = "Draw a frame as PNG, write frames as one HTML page to move in, or serve such a page for a whole series."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the sub-command's arguments."""
    add = parser.add_argument
    add("source", help="s_master.h5, or a frame.h5")
    add("--frame", metavar="N", help="from 0; of the PNG, default 0; the page shows it first")
    add("-o", "--output", metavar="FILE", help="PNG to write; default: beside the source")
    add("--html", metavar="FILE", help="write a page that needs no other file and no network instead")
    add("--frames", metavar="LIST", help="frames of the page, such as 0,3,7-9; default: a few, or --frame alone")
    add("--layers", metavar="LIST", help="layers of the page, such as frame,bragg; default: all")
    add("--serve", action="store_true", help="serve the page for all frames on 127.0.0.1 until Ctrl-C instead")
    add("--port", metavar="N", help="for --serve; default: any that is free")
    add("--spots", action="store_true", help="mark the predicted spots; on a page they can be switched")
    add("--no-rings", action="store_true", help="no beam centre and rings in the PNG")
    add("--size", metavar="N", help="longest side of the PNG in picture elements; default 1024")


#: What each of the three ways to look takes besides the source, --frame and --spots.
_OWN = {
    "--html": ("frames", "layers"),
    "--serve": ("port",),
    "a PNG": ("output", "no_rings", "size"),
}


def run(arguments: argparse.Namespace) -> int:
    """Write the picture or the page, or serve it."""
    from bragg_numba.view.scene import open_scene

    if arguments.html and arguments.serve:
        raise UsageError("bragg-numba view: give either --html or --serve")
    way = "--html" if arguments.html else "--serve" if arguments.serve else "a PNG"
    for other, names in _OWN.items():
        given = [name for name in names if getattr(arguments, name) not in (None, False)]
        if other != way and given:
            raise UsageError(f"bragg-numba view: --{given[0].replace('_', '-')} is for {other} alone")
    frame = None if arguments.frame is None else whole("--frame", arguments.frame)
    with open_scene(arguments.source) as scene:
        if frame is not None:
            _check_frame(scene, frame)
        if arguments.serve:
            return _serve(scene, arguments, frame)
        return _write_page(scene, arguments, frame) if arguments.html else _write_png(scene, arguments, frame or 0)


def _check_frame(scene, frame: int) -> None:
    from bragg_numba.errors import InputError

    if not 0 <= frame < len(scene):
        raise InputError("--frame", f"must lie between 0 and {len(scene) - 1}", frame)


def _write_png(scene, arguments: argparse.Namespace, frame: int) -> int:
    from bragg_numba import checks as check
    from bragg_numba.io.atomic import atomic_path
    from bragg_numba.view.picture import picture

    side = 1024 if arguments.size is None else whole("--size", arguments.size)
    check.count("--size", side, low=16, high=20_000)
    path = arguments.output or f"{arguments.source.removesuffix('.h5')}_{frame:06d}.png"
    scene.source.require_other(path)
    sight = None if arguments.no_rings else scene.sight(frame)
    spots = scene.spots(frame)[0] if arguments.spots else None
    image = picture(scene.source.frame(frame), side=side, sight=sight, spots=spots)
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        image.save(file, "PNG")
    print(f"wrote {path}")
    return 0


def _write_page(scene, arguments: argparse.Namespace, frame: int | None) -> int:
    from bragg_numba.io.atomic import atomic_path
    from bragg_numba.view.gallery import Gallery
    from bragg_numba.view.page import few_frames, listed_frames, whole_page

    layers = [one.name for one in scene.layers]
    if arguments.layers is not None:
        wanted = {scene.layer(name.strip(), "--layers").name for name in arguments.layers.split(",")}
        layers = [name for name in layers if name in wanted]
    if arguments.frames is not None:
        frames = listed_frames("--frames", arguments.frames, len(scene))
        frames = frames if frame is None else sorted({*frames, frame})
    else:
        frames = few_frames(len(scene), scene.shape, len(layers)) if frame is None else [frame]
    scene.source.require_other(arguments.html)
    gallery = Gallery(scene, frames=frames, start=frame, spots=arguments.spots)
    with (
        atomic_path(arguments.html) as temporary,
        open(temporary, "wb") as file,
        progress_bar("writing") as progress,
    ):
        for part in whole_page(gallery, layers, progress):
            file.write(part)
    shown = f"frames {', '.join(map(str, frames))}" if len(frames) > 1 else f"frame {frames[0]}"
    print(f"wrote {arguments.html}: {shown} of {len(scene)}, layers {', '.join(layers)}")
    return 0


def _serve(scene, arguments: argparse.Namespace, frame: int | None) -> int:
    from bragg_numba import checks as check
    from bragg_numba.view.gallery import Gallery
    from bragg_numba.view.server import Server

    port = 0 if arguments.port is None else whole("--port", arguments.port)
    check.count("--port", port, low=0, high=65535)
    with Server(Gallery(scene, start=frame, spots=arguments.spots), port) as server:
        try:
            print(f"{scene.title} is shown at {server.url} until Ctrl-C", flush=True)
            server.serve_forever(poll_interval=0.2)
        except KeyboardInterrupt:
            print("stopped")
    return 0
