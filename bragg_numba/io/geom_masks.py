"""Which pixels a CrystFEL geometry says are bad: by its regions, edges and panels, and by its masks in HDF5 files."""

from __future__ import annotations

import os

import numpy as np

from bragg_numba.errors import InputError
from bragg_numba.io.geometry import Geometry, GeomPanel, Mask, event_parts, fill_path, opened
from bragg_numba.io.hdf5 import reading

__all__ = ["mark_bad", "read_masks"]


def mark_bad(geometry: Geometry, *, shift_m: tuple[float, float] = (0.0, 0.0)) -> np.ndarray:
    """Return the pixels of the slab that are bad whatever the data: (n_slow, n_fast) bool, True where bad.

    Those of panels with ``no_index``, of edges and of bad regions. ``shift_m`` is the detector's shift along x and y,
    with which regions in x and y reckon. Where no panel lies nothing is bad.
    """
    slab = geometry.slab()
    bad = np.zeros((slab.n_slow, slab.n_fast), dtype=bool)
    for panel, first_row in zip(geometry.panels, slab.first_rows, strict=True):
        own = _view(bad, panel, first_row)
        if panel.no_index:
            own[:] = True
        edge = panel.mask_edge_pixels
        if edge:
            own[:edge] = own[max(panel.n_slow - edge, 0) :] = True
            own[:, :edge] = own[:, max(panel.n_fast - edge, 0) :] = True
        for region in geometry.bad_regions:
            if region.x is not None and region.y is not None:
                # The first corner of every pixel, in pixels, as CrystFEL asks.
                fast, slow = np.arange(panel.n_fast), np.arange(panel.n_slow)[:, None]
                inside = np.ones(own.shape, dtype=bool)
                for axis, (low, high) in enumerate((region.x, region.y)):
                    at = panel.corner[axis] + shift_m[axis] * panel.res + fast * panel.fs[axis] + slow * panel.ss[axis]
                    inside &= (at > low) & (at < high)
                own |= inside
            elif region.panel == panel.name and region.fs is not None and region.ss is not None:
                rows = slice(region.ss[0] - panel.min_ss, region.ss[1] - panel.min_ss + 1)
                own[rows, region.fs[0] - panel.min_fs : region.fs[1] - panel.min_fs + 1] = True
    return bad


def read_masks(
    geometry: Geometry,
    data_file=None,
    event: int | str | None = None,
    *,
    folder: str | os.PathLike[str] | None = None,
    required: bool = True,
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Read the masks that a geometry names.

    Parameters
    ----------
    geometry
        Whose masks.
    data_file
        The file of the data, which holds the masks that name no file of their own: its name, or an open ``h5py.File``.
    event
        Which frame of a mask that has one for each; as for ``Geometry.place``.
    folder
        Where to look for mask files with relative names; default: beside the .geom.
    required
        Whether a file that is not there is an error; else its masks are left out and named.

    Returns
    -------
    bad : (n_slow, n_fast) bool
        True where a mask says so.
    left_out : tuple of str
        Why masks were not read, one sentence for each file; empty when ``required``.

    Raises
    ------
    InputError
        For a mask that is not there, or has not the shape of the data.
    """
    slab = geometry.slab()
    bad = np.zeros((slab.n_slow, slab.n_fast), dtype=bool)
    beside = os.path.dirname(geometry.file) if folder is None else os.fspath(folder)
    files: dict[str, list] = {}
    for panel, first_row in zip(geometry.panels, slab.first_rows, strict=True):
        for mask in panel.masks:
            files.setdefault(mask.file or "", []).append((panel, first_row, mask))
    left_out = []
    for name, uses in files.items():
        file = os.path.join(beside, name) if name else data_file
        if file is None or (name and not os.path.exists(file)):
            where = file or "the file of the data"
            complaint = InputError(
                f"mask{uses[0][2].index}",
                f"lies in {where} at {uses[0][2].data}, which is not " + ("there" if name else "given"),
                hint="give that file",
                file=geometry.file,
            )
            if required:
                raise complaint
            left_out.append(str(complaint))
            continue
        with opened(file) as handle:
            for panel, first_row, mask in uses:
                _view(bad, panel, first_row)[:] |= _read_mask(handle, panel, mask, event)
    return bad, tuple(left_out)


def _view(slab: np.ndarray, panel: GeomPanel, first_row: int) -> np.ndarray:
    """The pixels of a panel in the slab."""
    first = first_row + panel.min_ss
    return slab[first : first + panel.n_slow, panel.min_fs : panel.max_fs + 1]


def _read_mask(handle, panel: GeomPanel, mask: Mask, event: int | str | None) -> np.ndarray:
    """Return which pixels of a panel its mask has as bad; the mask may lack the dimensions of the event."""
    import h5py

    name, file = f"mask{mask.index} of panel {panel.name}", str(handle.filename)
    words, numbers = event_parts(event)
    path = fill_path(mask.data, words, name)
    with reading(file):
        found = handle.get(path) if path.strip("/") else None
        if not isinstance(found, h5py.Dataset) or found.dtype.kind not in "iub" or found.shape is None:
            raise InputError(name, f"must be whole numbers at {path}", file=file)
        dims = panel.dims
        if found.ndim == len(dims) - dims.count("%"):
            dims = tuple(dim for dim in dims if dim != "%")
        index: list[int | slice] = []
        left = list(numbers)
        for size, dim in zip(found.shape, dims, strict=False):
            if dim == "fs":
                index.append(slice(panel.min_fs, panel.max_fs + 1))
            elif dim == "ss":
                index.append(slice(panel.min_ss, panel.max_ss + 1))
            elif dim == "%":
                # One mask for all frames is given so, too.
                index.append(left.pop(0) if left else 0)
                if size == 1 or (not numbers and size > 0):
                    index[-1] = 0
            else:
                index.append(int(dim))
        last = [part.stop - 1 if isinstance(part, slice) else part for part in index]
        if len(index) != found.ndim or any(place >= size for place, size in zip(last, found.shape, strict=True)):
            shown = ", ".join(f"{dim}" for dim in panel.dims)
            rule = f"must have the dimensions {shown} and hold fs to {panel.max_fs} and ss to {panel.max_ss}"
            raise InputError(name, rule, found.shape, file=file)
        bits = found[tuple(index)].astype(np.uint32)
    good, wrong = np.uint32(mask.good_bits), np.uint32(mask.bad_bits)
    return ((bits & good) != good) | ((bits & wrong) != 0)
