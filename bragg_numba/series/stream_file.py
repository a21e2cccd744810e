"""The truth of a series as a stream of CrystFEL: every frame a chunk, every lattice a crystal."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bragg_numba.conventions import DEGREES
from bragg_numba.errors import InputError
from bragg_numba.experiment.placing import place_detector
from bragg_numba.experiment.vectors import rotate_about
from bragg_numba.io.atomic import atomic_path, file_error
from bragg_numba.io.crystfel_stream import WrittenChunk, WrittenCrystal, chunk_text, head_text
from bragg_numba.io.exports import crystfel_geom, panel_names
from bragg_numba.io.nxmx import Description
from bragg_numba.series.describe import describe
from bragg_numba.series.mcstas import mcstas_rotation
from bragg_numba.series.opened import Source


def write_stream(source: Source, path, *, progress=None) -> int:
    """Write the truth of frames as a stream; return how many crystals are in it.

    Orientations are those at the middle of a frame's sweep, in CrystFEL's frame. The peaks are all of the reflections,
    and their intensities the photons of the truth, weights included.

    Raises
    ------
    InputError
        If the file holds no truth, or ``path`` cannot be written or is a file of the series.
    """
    source.require_other(path)
    n = len(source.series)
    if source.truth(0)[0] is None:
        raise InputError(os.fspath(source.path), "holds no truth, which a stream is made of")
    description, _ = describe(source.series, source.dtype, n, source.output)
    names = panel_names(description)
    crystals = 0
    try:
        with atomic_path(path) as part, open(part, "w", encoding="utf-8", errors="surrogateescape") as file:
            command = f"bragg-numba export {source.path.name} --stream {Path(path).name}"
            convention = source.series.experiment.detector.convention
            file.write(head_text(crystfel_geom(description), command, convention))
            for index, chunk in enumerate(_chunks(source, description)):
                crystals += len(chunk.crystals)
                file.write(chunk_text(chunk, names))
                if progress is not None:
                    progress((index + 1) / n)
    except OSError as error:
        raise file_error(path, error, "written") from error
    return crystals


def _chunks(source: Source, description: Description) -> Iterator[WrittenChunk]:
    experiment = source.series.experiment_of(0)
    placed = place_detector(experiment)
    turn = mcstas_rotation(experiment, placed)
    lengths = [float(panel.origin[2]) for panel in description.geometry.panels]
    for index in range(len(source.series)):
        row, spots = source.truth(index)
        assert row is not None
        lattices = source.lattices(index)
        middle = (float(row["phi_deg"]) + float(row["osc_deg"]) / 2.0) / DEGREES
        crystals = []
        # A frame of a series without lattices is its own only one.
        for number, one in enumerate([row] if lattices is None else lattices):
            stars = one["reciprocal_per_A"].T
            if middle != 0.0:
                stars = np.array([rotate_about(placed.spindle, tuple(star), middle) for star in stars])
            crystals.append(
                WrittenCrystal(
                    reciprocal_per_A=stars @ turn.T,
                    cell=tuple(one["cell"].tolist()),
                    weight=1.0 if lattices is None else float(one["weight"]),
                    reflections=_of_lattice(spots, number),
                )
            )
        shift = np.zeros(3) if description.shift_m is None else description.shift_m[index]
        headers = {} if description.shift_m is None else dict(zip(_SHIFT_PATHS, shift.tolist(), strict=True))
        yield WrittenChunk(
            filename=source.path.name,
            event=f"//{index}",
            serial=index + 1,
            wavelength_A=float(row["wavelength_A"]),
            bandwidth=_bandwidth(description, index),
            camera_length_m=float(np.mean(lengths)) + float(shift[2]),
            headers=headers,
            crystals=tuple(crystals),
        )


#: Where the .geom says that a frame's shift is.
_SHIFT_PATHS = tuple(f"/entry/instrument/detector/shift/{axis}" for axis in "xyz")


def _of_lattice(spots: np.ndarray | None, number: int) -> np.ndarray:
    if spots is None:
        from bragg_numba.predict.spots import SPOT

        return np.zeros(0, dtype=SPOT)
    found: np.ndarray = spots[spots["lattice"] == number] if "lattice" in (spots.dtype.names or ()) else spots
    return found


def _bandwidth(description: Description, index: int) -> float:
    """Standard deviation of one frame's spectrum, as a fraction of its mean."""
    if description.spectra is None:
        return 0.0
    lines = description.spectra[min(index, len(description.spectra) - 1)]
    lengths, weights = lines[np.isfinite(lines).all(axis=1)].T
    mean = np.average(lengths, weights=weights)
    return float(np.sqrt(np.average((lengths / mean - 1.0) ** 2, weights=weights)))
