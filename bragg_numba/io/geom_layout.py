"""Frames in the layout that a CrystFEL geometry describes: data, masks, headers and peaks where it has them."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bragg_numba.errors import InputError
from bragg_numba.io.geometry import (
    ANGSTROM,
    ELECTRON_CHARGE,
    ELECTRON_MASS,
    LIGHT,
    PLANCK,
    Geometry,
    GeomPanel,
    Mask,
    Quantity,
)

__all__ = ["GeomLayout", "completed", "own_masks"]

#: Where peaks go if the geometry does not say: as Cheetah and OM have it.
PEAKS = "/entry_1/result_1"

#: Where what varies from frame to frame goes if the geometry has one number for all.
ENERGY = "/entry_1/instrument_1/source_1/energy"


@dataclass(frozen=True, slots=True)
class _Array:
    """One dataset of the data: its path, its dimensions as the geometry names them, and their sizes.

    The size of a dimension that is the event's is 0 here.
    """

    path: str
    dims: tuple[str | int, ...]
    shape: tuple[int, ...]
    panels: tuple[int, ...]  #: places in the geometry

    @property
    def event_axis(self) -> int | None:
        """The first dimension that is the event's."""
        return self.dims.index("%") if "%" in self.dims else None

    def index(self, panel: GeomPanel) -> tuple[int | slice, ...]:
        """Where a panel is in what is left when the dimensions of the event are taken away."""
        found: list[int | slice] = []
        for dim in panel.dims:
            if dim == "fs":
                found.append(slice(panel.min_fs, panel.max_fs + 1))
            elif dim == "ss":
                found.append(slice(panel.min_ss, panel.max_ss + 1))
            elif dim != "%":
                found.append(int(dim))
        return tuple(found)

    def at_event(self, event: int) -> tuple[int | slice, ...]:
        """Where an event is in the whole dataset."""
        first = self.event_axis
        places = enumerate(self.dims)
        return tuple((event if place == first else 0) if dim == "%" else slice(None) for place, dim in places)

    @property
    def one_event(self) -> tuple[int, ...]:
        """The shape that is left when the dimensions of the event are taken away."""
        return tuple(size for size, dim in zip(self.shape, self.dims, strict=True) if dim != "%")

    def of_events(self, n: int) -> tuple[int, ...]:
        """The whole shape, for n events: a second dimension of the event has one value."""
        first = self.event_axis
        sizes = enumerate(zip(self.shape, self.dims, strict=True))
        return tuple((n if place == first else 1) if dim == "%" else size for place, (size, dim) in sizes)


class GeomLayout:
    """What is to be written for a geometry, and where.

    Parameters
    ----------
    geometry
        Whose layout it is; ``completed`` and with masks in the file of the data or in ``own_masks``.

    Raises
    ------
    InputError
        For panels of one dataset whose dimensions do not fit together.
    """

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry
        by_path: dict[str, list[int]] = {}
        for place, panel in enumerate(geometry.panels):
            by_path.setdefault(panel.data, []).append(place)
        self.arrays = tuple(self._array(path, places) for path, places in by_path.items())
        self.first_rows = geometry.slab().first_rows
        if len({self._way(array) for array in self.arrays}) > 1:
            raise InputError(
                "the data of panels", "must all have a dimension, or all a path, of the event", file=geometry.file
            )

    @property
    def way(self) -> str:
        """How frames are told apart: by a "dimension" of the data, by the "path", or by the "file" alone."""
        return self._way(self.arrays[0])

    @staticmethod
    def _way(array: _Array) -> str:
        if array.event_axis is not None:
            return "dimension"
        return "path" if "%" in array.path else "file"

    def _array(self, path: str, places: list[int]) -> _Array:
        panels = [self.geometry.panels[place] for place in places]
        kinds = [tuple(dim if isinstance(dim, str) else "number" for dim in panel.dims) for panel in panels]
        for panel, own in zip(panels, kinds, strict=True):
            if own != kinds[0]:
                shown = ", ".join(map(str, panel.dims))
                rule = f"must have the dimensions of {panels[0].name}, whose data is the same"
                raise InputError(f"panel {panel.name}", rule, shown, file=self.geometry.file)
        sizes = {"ss": max(p.max_ss for p in panels) + 1, "fs": max(p.max_fs for p in panels) + 1, "%": 0}
        shape = []
        for axis, kind in enumerate(kinds[0]):
            numbers = [p.dims[axis] for p in panels]
            shape.append(sizes[kind] if kind in sizes else max(int(number) for number in numbers) + 1)
        return _Array(path, panels[0].dims, tuple(shape), tuple(places))

    def pixel_type(self, dtype: str) -> np.dtype:
        """The type of the data: that of the frames where a photon is one unit in all panels, else float32."""
        return np.dtype(dtype if all(map(_counts_photons, self.geometry.panels)) else np.float32)

    def create(self, file, n: int, dtype: str, options: dict) -> None:
        """Create the datasets of n frames in an open HDF5 file; ``options`` are those of h5py for their filters."""
        for array in self.arrays:
            chunks = tuple(
                size if dim in ("ss", "fs") else 1 for size, dim in zip(array.of_events(n), array.dims, strict=True)
            )
            for event in self._of_path(array.path, n):
                _make(
                    file,
                    self._filled(array.path, event),
                    self.geometry,
                    shape=array.of_events(n),
                    dtype=self.pixel_type(dtype),
                    chunks=chunks,
                    **options,
                )

    def write(self, file, event: int, frame: np.ndarray, wavelength_A: float) -> None:
        """Write one frame (n_slow, n_fast), in photons, in the units of the data."""
        for array in self.arrays:
            data = file[self._filled(array.path, event)]
            out = np.zeros(array.one_event, dtype=data.dtype)
            for place in array.panels:
                panel = self.geometry.panels[place]
                rows, columns = self._window(place)
                values = frame[rows, columns]
                if not _counts_photons(panel):
                    values = np.minimum(values * np.float64(_units(panel, wavelength_A)), panel.max_adu)
                out[array.index(panel)] = values
            data[array.at_event(event)] = out

    def write_headers(self, file, wavelengths_A: np.ndarray, lengths: Mapping[str, np.ndarray]) -> None:
        """Write what the geometry looks for at paths: one number where all frames share it, else one for each.

        ``lengths`` are camera length and shifts of every frame by their paths, as they are to stand there.
        """
        g = self.geometry
        found = dict(lengths)
        if g.wavelength is not None and g.wavelength.path is not None:
            found[g.wavelength.path] = _numbers(g.wavelength, wavelengths_A)
        for path, values in found.items():
            events = self._of_path(path, len(values))
            if len(events) > 1:
                for event in events:
                    _make(file, self._filled(path, event), g, data=values[event])
            else:
                same = (values == values[0]).all()
                _make(file, self._filled(path, 0), g, data=values[0] if same else values)

    def write_masks(self, file, good: np.ndarray, name: str | None, n: int) -> None:
        """Write the masks that lie in a file of this name; None: in that of the data. ``good`` is (n_slow, n_fast)."""
        found: dict[str, np.ndarray] = {}
        for array in self.arrays:
            for place in array.panels:
                panel = self.geometry.panels[place]
                own = good[self._window(place)]
                for mask in panel.masks:
                    if mask.file == name:
                        if mask.data not in found:
                            found[mask.data] = np.zeros(array.one_event, dtype=np.uint32)
                        found[mask.data][array.index(panel)] |= _bits(mask, own)
        for path, bits in found.items():
            most = int(bits.max(initial=0))
            values = bits.astype(np.uint8 if most < 2**8 else np.uint16 if most < 2**16 else np.uint32)
            for event in self._of_path(path, n):
                _make(
                    file, self._filled(path, event), self.geometry, data=values, compression="gzip", compression_opts=1
                )

    @property
    def with_peaks(self) -> Geometry:
        """The geometry with where ``write_peaks`` puts the peaks, as CrystFEL looks for them.

        CXI has a row for each event of the first dimension; where there is none it takes lists of three columns, one at
        each path of the event.
        """
        path = self.geometry.peak_list
        if self.way == "dimension":
            return dataclasses.replace(
                self.geometry, peak_list=(path or PEAKS).rstrip("/") or PEAKS, peak_list_type="cxi"
            )
        events = self.arrays[0].path.count("%")
        if path is None or path.count("%") != events:
            path = "/" + "%/" * events + "peaks"
        return dataclasses.replace(self.geometry, peak_list=path, peak_list_type="list3")

    def write_peaks(self, file, peaks: Sequence[np.ndarray]) -> None:
        """Write peaks where ``with_peaks`` says, an array a frame with the fields panel, fast, slow and photons.

        Pixels count from their centres, rows and columns are those of the arrays of the data.
        """
        geometry = self.with_peaks
        path, rows = geometry.peak_list or PEAKS, np.array(self.first_rows)
        lists = [
            np.stack([one["fast"] - 0.5, one["slow"] - rows[one["panel"]] - 0.5, one["photons"]], axis=1)
            for one in peaks
        ]
        if geometry.peak_list_type == "list3":
            for event, one in enumerate(lists):
                _make(file, self._filled(path, event), self.geometry, data=one.astype(np.float32))
            return
        table = np.zeros((3, len(lists), max([1, *(len(one) for one in lists)])), dtype=np.float32)
        for row, one in enumerate(lists):
            table[:, row, : len(one)] = one.T
        _make(file, f"{path}/nPeaks", self.geometry, data=np.array([len(one) for one in lists], dtype=np.int64))
        for name, values in zip(("XPosRaw", "YPosRaw", "TotalIntensity"), table, strict=True):
            _make(file, f"{path}/peak{name}", self.geometry, data=values)

    def _window(self, place: int) -> tuple[slice, slice]:
        """The rows and columns of a panel in the frame."""
        panel = self.geometry.panels[place]
        first = self.first_rows[place] + panel.min_ss
        return slice(first, first + panel.n_slow), slice(panel.min_fs, panel.max_fs + 1)

    def _filled(self, path: str, event: int) -> str:
        """A path with its event: where it is the path that tells frames apart its first % is their number, else 0."""
        return path.replace("%", str(event if self.way == "path" else 0), 1).replace("%", "0")

    def _of_path(self, path: str, n: int) -> range:
        """The events that have a dataset of their own."""
        return range(n) if self.way == "path" and "%" in path else range(1)


def completed(geometry: Geometry, *, clen_m: float, wavelengths_A: np.ndarray) -> Geometry:
    """Return a geometry with all that CrystFEL asks for: of a template what is missing, and numbers as they are.

    A camera length or a wavelength that the geometry has as a number becomes that of the frames; wavelengths that vary
    get a path. A photon is one unit where nothing is said.
    """
    panels = tuple(
        panel if panel.adu_per_photon or panel.adu_per_eV else dataclasses.replace(panel, adu_per_photon=1.0)
        for panel in geometry.panels
    )
    if any(panel.clen is not None for panel in panels):  # which CrystFEL since 0.11 refuses
        lengths = {panel.clen or geometry.clen for panel in panels}
        if len(lengths) == 1:
            geometry = dataclasses.replace(geometry, clen=lengths.pop())
            panels = tuple(dataclasses.replace(panel, clen=None) for panel in panels)
    clen, wavelength = geometry.clen, geometry.wavelength
    if clen is None or (clen.path is None and not math.isclose(clen.number or 0.0, clen_m, abs_tol=1e-12)):
        clen = Quantity(key="clen", unit="m", number=clen_m)
    even = bool((wavelengths_A == wavelengths_A[0]).all())
    if not even and (wavelength is None or wavelength.path is None):
        wavelength = Quantity(key="photon_energy", unit="eV", path=ENERGY)
    elif wavelength is None or wavelength.path is None:
        same = wavelength is not None and math.isclose(geometry.wavelength_A() or 0.0, wavelengths_A[0], rel_tol=1e-12)
        if not same:
            wavelength = Quantity(key="wavelength", unit="A", number=float(wavelengths_A[0]) * ANGSTROM)
    return dataclasses.replace(geometry, panels=panels, clen=clen, wavelength=wavelength)


def own_masks(geometry: Geometry, names: dict[str, str]) -> Geometry:
    """Return a geometry whose mask files have other names."""
    panels = tuple(
        dataclasses.replace(
            panel,
            masks=tuple(
                mask if mask.file is None else dataclasses.replace(mask, file=names[mask.file]) for mask in panel.masks
            ),
        )
        for panel in geometry.panels
    )
    return dataclasses.replace(geometry, panels=panels)


def _counts_photons(panel: GeomPanel) -> bool:
    """Whether the data of a panel are photons as they are."""
    return (panel.adu_per_photon, panel.adu_per_eV, panel.max_adu) == (1.0, None, math.inf)


def _units(panel: GeomPanel, wavelength_A: float) -> float:
    """What a photon is in the data of a panel."""
    if panel.adu_per_eV is not None:
        return panel.adu_per_eV * PLANCK * LIGHT / (wavelength_A * ANGSTROM) / ELECTRON_CHARGE
    return panel.adu_per_photon or 1.0


def _numbers(quantity: Quantity, wavelengths_A: np.ndarray) -> np.ndarray:
    """Wavelengths as a quantity's key and unit have them: the inverse of ``Geometry.wavelength_A``."""
    metres = wavelengths_A * ANGSTROM
    if quantity.key == "wavelength":
        return metres / quantity.factor
    if quantity.key == "photon_energy":
        return PLANCK * LIGHT / metres / ELECTRON_CHARGE / quantity.factor
    rest = ELECTRON_MASS * LIGHT**2
    joule: np.ndarray = np.sqrt(rest**2 + (PLANCK / metres * LIGHT) ** 2) - rest
    return joule / ELECTRON_CHARGE / quantity.factor


def _bits(mask: Mask, good: np.ndarray) -> np.ndarray:
    """What a mask says of pixels: good ones have all good bits and no bad one, bad ones the bad bits alone."""
    return np.where(good, np.uint32(mask.good_bits & ~mask.bad_bits), np.uint32(mask.bad_bits))


def _make(file, path: str, geometry: Geometry, **what: Any) -> None:
    """Create a dataset where nothing is yet."""
    if not path.strip("/"):
        raise InputError("a path of the geometry", "must name a dataset", path, file=geometry.file)
    try:
        file.create_dataset(path, **what)
    except (ValueError, TypeError, RuntimeError) as error:
        rule = f"cannot be written as the geometry has it: {str(error).splitlines()[0]}"
        raise InputError(path, rule, file=os.fspath(geometry.file)) from None
