"""Frames larger than memory: rendered in tiles of rows, each written before the next is made."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

#: A frame of more bytes than this goes to its files by tiles.
WHOLE_BYTES = 256 * 10**6

#: Rows of a tile take about this much.
TILE_BYTES = 64 * 10**6


def streams(request, plan) -> bool:
    """Say whether a request's frame is to be written by tiles: it is large, and its files can take rows."""
    n_slow, n_fast = plan.shape
    needs_whole = request.int_file or request.noise_file or request.pgm_file or request.printout
    return 4 * n_slow * n_fast > WHOLE_BYTES and not needs_whole


def stream_outputs(
    request, sim, command: str, structure_factors: dict, progress: Callable[[float], None] | None = None
) -> dict:
    """Render by tiles into the request's HDF5, raw and PNG files; return what ``write_outputs`` returns.

    The files appear together when the last tile is in them, or not at all.
    """
    import numpy as np

    from bragg_numba.cli.outputs import used_seeds, write_dump_of
    from bragg_numba.io.atomic import atomic_path
    from bragg_numba.io.frame_file import create_frame
    from bragg_numba.io.png import Preview

    n_slow, n_fast = sim.shape
    for path in (request.float_file, request.h5_file):
        _require_disk(path, 4 * n_slow * n_fast)
    written: dict = {"files": []}
    if request.dump_file:
        write_dump_of(request, sim.plan, written)
    with ExitStack() as stack:
        raw = frame = preview = None
        if request.float_file:
            raw = stack.enter_context(open(stack.enter_context(atomic_path(request.float_file)), "wb"))
        if request.h5_file:
            seeds = used_seeds(request, sim.plan)
            described = {"rendering": sim.describe_rendering(), "structure_factors": structure_factors}
            text = sim.experiment.to_json()
            made = create_frame(request.h5_file, sim.shape, text, command=command, seeds=seeds, **described)
            frame = stack.enter_context(made)
        if request.png_file:
            preview = Preview(sim.shape)
        for start, tile in sim.tiles(max(1, TILE_BYTES // (4 * n_fast))):
            if raw is not None:
                raw.write(np.ascontiguousarray(tile, dtype="<f4").data)
            if frame is not None:
                frame.write_rows(start, tile)
            if preview is not None:
                preview.add(start, tile)
            if progress is not None:
                progress((start + len(tile)) / n_slow)
        sim.require_finite()
        if frame is not None:
            frame.write_statistics(sim.statistics.as_dict())
        if preview is not None:
            preview.write(request.png_file)
    written["files"] += [name for name in (request.float_file, request.h5_file, request.png_file) if name]
    return written


def _require_disk(path: str | None, n_bytes: int) -> None:
    """Refuse to begin a file that its disk cannot hold."""
    import os
    import shutil

    from bragg_numba.errors import InputError

    if not path:
        return
    folder = os.path.dirname(os.path.realpath(path))
    if os.path.isdir(folder) and (free := shutil.disk_usage(folder).free) < n_bytes:
        raise InputError(path, f"would take {n_bytes:,} bytes where its disk has {free:,}")
