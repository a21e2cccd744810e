"""The frames of a series in the layout of the .geom that its detector was read from."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from bragg_numba.errors import InputError
from bragg_numba.experiment import Detector
from bragg_numba.io.compression import Codec
from bragg_numba.io.data_file import PartFile, create_hdf5, refusal
from bragg_numba.io.geom_file import lines_of_groups, parse_geom, write_geom
from bragg_numba.io.geom_layout import GeomLayout, completed, own_masks
from bragg_numba.io.geometry import Geometry
from bragg_numba.series.describe import describe

#: Metres that a panel may lie from where its .geom has it: what rounding does.
_SAME_M = 1e-9


def layout_of(detector: Detector) -> tuple[Geometry, dict[str, float], float]:
    """Return the .geom of a detector, camera length and shifts by their paths in it, and the camera length, metres.

    Raises
    ------
    InputError
        For a detector that was not read from a .geom, or was changed since; for a layout that cannot be.
    """
    if detector.geometry_text is None or detector.panels is None:
        hint = "-geom, Detector.from_geom"
        raise InputError("layout", "geom is for detectors that were read from a .geom", hint=hint)
    geometry = parse_geom(detector.geometry_text, detector.geometry_file or "")
    if [panel.name for panel in geometry.panels] != [panel.name for panel in detector.panels]:
        raise InputError("layout", "geom needs the panels of the .geom", file=geometry.file)
    lengths: dict[str, float] = {}
    panel, placed = geometry.panels[0], detector.panels[0]
    for axis, shift in enumerate((geometry.shift_x, geometry.shift_y)):
        if shift is not None and shift.path is not None:
            lengths[shift.path] = (placed.origin_mm[axis] / 1000.0 - panel.corner[axis] / panel.res) / shift.factor
    for panel, placed in zip(geometry.panels, detector.panels, strict=True):
        clen = panel.clen or geometry.clen
        if clen is not None and clen.path is not None and clen.path not in lengths:
            lengths[clen.path] = (placed.origin_mm[2] / 1000.0 - panel.coffset_m) / clen.factor
    clen_m = detector.panels[0].origin_mm[2] / 1000.0 - geometry.panels[0].coffset_m
    (clen, *others) = {panel.clen or geometry.clen for panel in geometry.panels}
    is_number = not others and (clen is None or clen.path is None)  # which another one may have replaced
    there = geometry.place(lengths, clen_m=clen_m if is_number else None)
    for own, noun in zip(there.panels, detector.panels, strict=True):
        off = np.abs(np.array(own.origin_m) - np.array(noun.origin_mm) / 1000.0).max()
        place = (own.first_slow, own.first_fast, own.n_slow, own.n_fast)
        if not off < _SAME_M or place != (noun.first_row, noun.first_column, noun.n_slow, noun.n_fast):
            rule = "must lie where the .geom has it, for files in its layout"
            raise InputError(f"panel {own.name}", rule, file=geometry.file)
    # What cannot be written is refused before anything is rendered.
    GeomLayout(geometry)
    lines_of_groups([panel.name for panel in geometry.panels], geometry)
    return geometry, lengths, clen_m


def layout_of_series(series) -> tuple[Geometry, dict[str, np.ndarray], float]:
    """Return what ``layout_of`` does of a series: camera length and shifts by their paths are one a frame, (n,).

    Raises
    ------
    InputError
        As ``layout_of``; for detectors that are moved from frame to frame where the .geom has one place alone.
    """
    geometry, lengths, clen_m = layout_of(series.experiment_of(0).detector)
    n, table = len(series), series.frames
    moves = table["detector_shift_mm"] if "detector_shift_mm" in table else np.zeros((n, 3))
    moved = (moves - moves[0]) / 1000.0
    given = [
        (0, geometry.shift_x),
        (1, geometry.shift_y),
        *((2, panel.clen or geometry.clen) for panel in geometry.panels),
    ]
    axes = {one.path: (axis, one.factor) for axis, one in given if one is not None and one.path is not None}
    if moved[:, 2].any() and 2 not in {axis for axis, _ in axes.values()}:
        rule = "geom has one camera length, where that of these frames differs"
        raise InputError("layout", rule, hint="a clen that is a path", file=geometry.file)
    found = {path: lengths[path] + moved[:, axis] / factor for path, (axis, factor) in axes.items() if path in lengths}
    # What moves in between is where those are that are moved farthest.
    for index in {int(place) for axis in range(3) for place in (moved[:, axis].argmin(), moved[:, axis].argmax())}:
        layout_of(series.experiment_of(index).detector)
    return geometry, found, clen_m


def write_layout(source, prefix, *, progress: Callable[[float], None] | None = None) -> list[Path]:
    """Write the frames of a master in the layout of the .geom that the detector is from.

    ``PREFIX_layout.h5`` holds the data where the .geom has it, masks, and what it looks for at paths; and a CXI list
    of peaks where the source has a table of spots. Where nothing in the .geom tells frames apart there is a file for
    each, ``PREFIX_layout_000001.h5`` and so on. ``PREFIX_layout.geom`` is the .geom with all that CrystFEL asks
    for; masks in a file of their own get one beside it.

    Parameters
    ----------
    source
        The opened ``Source``.
    progress
        Called with the fraction done.

    Returns
    -------
    list of Path
        The files that were written.

    Raises
    ------
    InputError
        For a detector that was not read from a .geom, or a layout that cannot be.
    """
    prefix = Path(prefix)
    series, n = source.series, len(source.series)
    rows = source.table()
    wavelengths = rows["wavelength_A"]
    geometry, lengths, clen_m = layout_of_series(series)
    names = _mask_names(geometry, prefix)
    layout = GeomLayout(own_masks(completed(geometry, clen_m=clen_m, wavelengths_A=wavelengths), names))
    good = describe(series, source.dtype, n, source.output)[0].whole_mask == 0
    codec = Codec(source.output.get("compression", "bslz4"))
    stem = prefix.with_name(f"{prefix.name}_layout")
    groups = [range(n)] if layout.way != "file" else [range(i, i + 1) for i in range(n)]
    parts = {}
    with ExitStack() as stack:

        def new(path: Path) -> PartFile:
            source.require_other(path)
            parts[path] = PartFile(path)
            stack.callback(parts[path].discard)
            return parts[path]

        for frames in groups:
            end = ".h5" if layout.way != "file" else f"_{frames.start + 1:06d}.h5"
            part = new(stem.with_name(stem.name + end))
            with create_hdf5(part.part, part.path) as file:
                layout.create(file, len(frames), source.dtype, codec.dataset_options())
                own = {path: values[frames.start : frames.stop] for path, values in lengths.items()}
                layout.write_headers(file, wavelengths[frames.start : frames.stop], own)
                layout.write_masks(file, good, None, len(frames))
                for index in frames:
                    layout.write(file, index - frames.start, source.frame(index), float(wavelengths[index]))
                    if progress is not None:
                        progress((index + 1) / n)
                if source.has_spots:
                    layout.write_peaks(file, [source.truth(index)[1] for index in frames])
        for name in names.values():
            part = new(prefix.with_name(name))
            with create_hdf5(part.part, part.path) as file:
                layout.write_masks(file, good, name, 1)
        part = new(stem.with_name(f"{stem.name}.geom"))
        written = layout.with_peaks if source.has_spots else layout.geometry
        comment = "CrystFEL geometry, written by bragg_numba for files in the layout of this geometry."
        try:
            part.part.write_text(write_geom(written, comment), encoding="utf-8", errors="surrogateescape")
            for part in parts.values():
                part.publish()
        except OSError as error:
            raise refusal(prefix, error) from error
    return list(parts)


def _mask_names(geometry: Geometry, prefix: Path) -> dict[str, str]:
    """Our own names for the mask files of a geometry, beside its data."""
    files = dict.fromkeys(mask.file for panel in geometry.panels for mask in panel.masks if mask.file is not None)
    ends = [""] if len(files) == 1 else [str(number) for number in range(len(files))]
    return {file: f"{prefix.name}_layout_mask{end}.h5" for file, end in zip(files, ends, strict=True)}
