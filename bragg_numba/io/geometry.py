"""What a CrystFEL geometry says, as plain values: panels, where they lie in the laboratory and in the file's data.

Laboratory frame: z along the beam, y up, x = y x z (to the left as seen along the beam), the sample at the origin;
that of McStas. ``io/geom_file.py`` reads and writes the text.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from bragg_numba.errors import InputError
from bragg_numba.io.hdf5 import open_hdf5, reading

__all__ = [
    "BadRegion",
    "Block",
    "Flag",
    "GeomPanel",
    "Geometry",
    "Mask",
    "PlacedPanel",
    "Placement",
    "Quantity",
    "Slab",
    "event_parts",
    "fill_path",
    "opened",
    "panel_of_place",
    "pixel_positions",
]

Vector = tuple[float, float, float]

#: What a data file may be given as: numbers by their path, the name of an HDF5 file, or an open one; or a list of
#: these, of which the first that can know a path is asked.
Values = Any

#: CrystFEL's constants, SI: a wavelength made of an energy in a .geom is the one that CrystFEL makes of it.
PLANCK, LIGHT, ELECTRON_CHARGE, ELECTRON_MASS = 6.62606896e-34, 299792458.0, 1.6021773e-19, 9.1093837015e-31

ANGSTROM = 1e-10

#: The factor of each unit, for each kind of number that may lie in a data file.
LENGTHS = {"m": 1.0, "mm": 1e-3}
UNITS = {
    "clen": LENGTHS,
    "detector_shift_x": LENGTHS,
    "detector_shift_y": LENGTHS,
    "photon_energy": {"eV": 1.0, "keV": 1e3},
    "electron_voltage": {"V": 1.0, "kV": 1e3},
    "wavelength": {"m": 1.0, "A": ANGSTROM},
}


#: Between what such numbers lie, in m, eV or V: far beyond anything real, and near enough to reckon with.
RANGES = {
    "clen": (-1e6, 1e6),
    "detector_shift_x": (-1e6, 1e6),
    "detector_shift_y": (-1e6, 1e6),
    "photon_energy": (1e-3, 1e15),
    "electron_voltage": (1e-3, 1e15),
    "wavelength": (1e-20, 1.0),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """A number of a .geom, or the path in a data file where it lies.

    ``number`` is in m, eV or V, whatever the unit in the file; ``unit`` is the one that the file gives, or that its
    rules take where it gives none (m for the number of a length, mm for a clen at a path).
    """

    key: str  #: clen, detector_shift_x, detector_shift_y, photon_energy, electron_voltage or wavelength
    unit: str
    number: float | None = None
    path: str | None = None
    line: int = 0  #: of the file, for errors; 0: from no file

    @property
    def factor(self) -> float:
        """What a value in ``unit`` is multiplied by to be in m, eV or V."""
        return UNITS[self.key][self.unit]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mask:
    """Where a mask lies, and what its bits mean: a pixel is bad without all good bits, or with any bad bit."""

    index: int  #: 0 to 7
    data: str  #: path in an HDF5 file
    file: str | None = None  #: default: the file of the data
    good_bits: int = 0
    bad_bits: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """Values of the data that mean "no measurement": below, above or equal to ``value``."""

    kind: str  #: lessthan, morethan or equal
    value: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GeomPanel:
    """One panel as a .geom describes it.

    ``corner``, ``fs`` and ``ss`` are in pixels, that is in units of 1 / ``res`` metres; the corner is the outer one
    of the first pixel. ``fs`` and ``ss`` need be neither of length one nor at right angles. ``min_fs`` to ``max_ss``
    are the first and last columns and rows in the file's data, inclusive.
    """

    name: str
    min_fs: int
    max_fs: int
    min_ss: int
    max_ss: int
    corner: tuple[float, float]
    fs: Vector
    ss: Vector
    res: float  #: pixels per metre
    coffset_m: float = 0.0  #: added to the camera length
    clen: Quantity | None = None  #: its own camera length, as CrystFEL took it up to 0.10
    adu_per_photon: float | None = None
    adu_per_eV: float | None = None
    max_adu: float = math.inf
    data: str = "/data/data"
    dims: tuple[str | int, ...] = ("ss", "fs")  #: "ss", "fs", "%" (of the event) or a number
    masks: tuple[Mask, ...] = ()
    flags: tuple[Flag, ...] = ()
    saturation_map: str | None = None
    saturation_map_file: str | None = None
    no_index: bool = False
    mask_edge_pixels: int = 0

    @property
    def n_fast(self) -> int:
        """Pixels along fs."""
        return self.max_fs - self.min_fs + 1

    @property
    def n_slow(self) -> int:
        """Pixels along ss."""
        return self.max_ss - self.min_ss + 1

    @property
    def fixed(self) -> dict[int, int]:
        """The dimensions that have a number, with it: which part of a stack the panel lies in."""
        return {place: value for place, value in enumerate(self.dims) if isinstance(value, int)}


@dataclass(frozen=True, slots=True, kw_only=True)
class BadRegion:
    """Pixels that are bad: of one panel, in the file's coordinates, or of all, by where they are.

    ``fs`` and ``ss`` are the first and last, inclusive; ``x`` and ``y`` are exclusive limits, in pixels of each panel,
    of the outer corner of a pixel that comes first. A limit that is missing (NaN) makes the region empty.
    """

    name: str
    panel: str | None = None
    fs: tuple[int, int] | None = None
    ss: tuple[int, int] | None = None
    x: tuple[float, float] | None = None
    y: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One two-dimensional array of the data: what of it lies in which rows of the slab."""

    data: str
    fixed: tuple[tuple[int, int], ...]  #: (dimension, number) that choose it in a stack
    first_row: int
    n_slow: int
    n_fast: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Slab:
    """All panels in one two-dimensional array: the blocks of a stack below each other, by their numbers."""

    n_slow: int
    n_fast: int
    blocks: tuple[Block, ...]
    first_rows: tuple[int, ...]  #: of each panel's block


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedPanel:
    """A panel in the laboratory (metres) and in the slab (pixels)."""

    name: str
    n_fast: int
    n_slow: int
    first_fast: int  #: column of the slab
    first_slow: int  #: row of the slab
    origin_m: Vector  #: outer corner of the first pixel
    fast_m: Vector  #: from one pixel to the next along fs
    slow_m: Vector  #: from one pixel to the next along ss


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """All panels of a detector, and the array that holds them."""

    n_slow: int
    n_fast: int
    panels: tuple[PlacedPanel, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """A CrystFEL geometry. Numbers that lie in a data file are fetched by ``place`` and ``wavelength_A``."""

    panels: tuple[GeomPanel, ...]
    clen: Quantity | None = None
    wavelength: Quantity | None = None  #: or photon_energy or electron_voltage, by its key
    bandwidth: float = 1e-8  #: standard deviation, fraction of the wavelength
    shift_x: Quantity | None = None
    shift_y: Quantity | None = None
    bad_regions: tuple[BadRegion, ...] = ()
    groups: tuple[tuple[str, tuple[str, ...]], ...] = ()  #: name and members, the lowest first
    rigid_groups: tuple[tuple[str, tuple[str, ...]], ...] = ()
    rigid_group_collections: tuple[tuple[str, tuple[str, ...]], ...] = ()
    peak_list: str | None = None
    peak_list_type: str | None = None  #: auto, cxi or list3
    unknown: tuple[tuple[int, str, str], ...] = ()  #: line, key and value of what was not understood, and left
    file: str = ""  #: what it was read from

    def slab(self) -> Slab:
        """Return how the arrays of the data lie in one; a lone array is its own slab.

        Arrays of a stack all are as high as the highest, so that a whole stack lies as ``stack.reshape(-1, n_fast)``.
        """
        keys = [(panel.data, tuple(panel.fixed.items())) for panel in self.panels]
        paths = list(dict.fromkeys(data for data, _ in keys))
        height = dict.fromkeys(paths, 0)
        for panel in self.panels:
            height[panel.data] = max(height[panel.data], panel.max_ss + 1)
        width = max(panel.max_fs + 1 for panel in self.panels)
        first, blocks, row = {}, [], 0
        for key in sorted(set(keys), key=lambda key: (paths.index(key[0]), [n for _, n in key[1]], key[1])):
            first[key] = row
            blocks.append(Block(data=key[0], fixed=key[1], first_row=row, n_slow=height[key[0]], n_fast=width))
            row += height[key[0]]
        return Slab(n_slow=row, n_fast=width, blocks=tuple(blocks), first_rows=tuple(first[key] for key in keys))

    def place(self, values: Values = None, event: int | str | None = None, *, clen_m: float | None = None) -> Placement:
        """Return where every panel is.

        Parameters
        ----------
        values
            Where to look for what lies at a path of a data file: a mapping from that path to the number that would
            stand there, the name of an HDF5 file, or an open ``h5py.File``; or a list of a mapping and a file, which
            is asked for what the mapping has not.
        event
            Which of a file's frames: a number, or as CrystFEL writes it ("//7", "run3/a//0/7").
        clen_m
            The camera length, instead of that of the file.

        Raises
        ------
        InputError
            For a number that is needed and not given: with its key, its line and its path.
        """
        shift_x, shift_y = (self._shift(which, values, event) for which in (self.shift_x, self.shift_y))
        slab, placed, lengths = self.slab(), [], {}
        for panel, first_row in zip(self.panels, slab.first_rows, strict=True):
            clen = panel.clen or self.clen
            if clen_m is not None:
                length = clen_m
            elif clen is None:
                raise InputError("clen", "is needed, and the file has none", hint="give it", file=self.file)
            else:
                if clen not in lengths:
                    lengths[clen] = _fetch(clen, values, event, self.file)
                length = lengths[clen]
            pitch = 1.0 / panel.res
            placed.append(
                PlacedPanel(
                    name=panel.name,
                    n_fast=panel.n_fast,
                    n_slow=panel.n_slow,
                    first_fast=panel.min_fs,
                    first_slow=first_row + panel.min_ss,
                    origin_m=(
                        panel.corner[0] * pitch + shift_x,
                        panel.corner[1] * pitch + shift_y,
                        length + panel.coffset_m,
                    ),
                    fast_m=_scaled(panel.fs, pitch),
                    slow_m=_scaled(panel.ss, pitch),
                )
            )
        return Placement(n_slow=slab.n_slow, n_fast=slab.n_fast, panels=tuple(placed))

    def wavelength_A(self, values: Values = None, event: int | str | None = None) -> float | None:
        """Return the wavelength in angstrom; None where the file says nothing of it. ``values`` as for ``place``.

        Energies and voltages are turned into wavelengths with CrystFEL's constants.
        """
        given = self.wavelength
        if given is None:
            return None
        number = _fetch(given, values, event, self.file)
        if given.key == "photon_energy":
            return PLANCK * LIGHT / (number * ELECTRON_CHARGE) / ANGSTROM
        if given.key == "electron_voltage":
            joule = number * ELECTRON_CHARGE
            relativistic = 2.0 * ELECTRON_MASS * joule * (1.0 + joule / (2.0 * ELECTRON_MASS * LIGHT**2))
            return PLANCK / math.sqrt(relativistic) / ANGSTROM
        return number / ANGSTROM

    def _shift(self, which: Quantity | None, values: Values, event: int | str | None) -> float:
        """A detector shift in metres; what is no number is none, as CrystFEL has it."""
        if which is None:
            return 0.0
        number = _fetch(which, values, event, self.file, nan_allowed=True)
        return 0.0 if math.isnan(number) else number


def panel_of_place(placed: PlacedPanel, *, clen_m: float = 0.0, **rest: Any) -> GeomPanel:
    """Return what a .geom says of a panel in the laboratory, in pixels as wide as its own along fs.

    The rows and columns are those of the slab; ``clen_m`` is what the file gives for all panels, and ``rest`` are
    further fields of ``GeomPanel`` (data, dims, masks ...).
    """
    res = 1.0 / math.hypot(*placed.fast_m)
    return GeomPanel(
        name=placed.name,
        min_fs=placed.first_fast,
        max_fs=placed.first_fast + placed.n_fast - 1,
        min_ss=placed.first_slow,
        max_ss=placed.first_slow + placed.n_slow - 1,
        corner=(placed.origin_m[0] * res, placed.origin_m[1] * res),
        fs=_scaled(placed.fast_m, res),
        ss=_scaled(placed.slow_m, res),
        res=res,
        coffset_m=placed.origin_m[2] - clen_m,
        **rest,
    )


def pixel_positions(placement: Placement) -> np.ndarray:
    """Return the centre of every pixel of the slab, (n_slow, n_fast, 3) float64 in metres; NaN where no panel lies."""
    out = np.full((placement.n_slow, placement.n_fast, 3), np.nan)
    for panel in placement.panels:
        rows = slice(panel.first_slow, panel.first_slow + panel.n_slow)
        columns = slice(panel.first_fast, panel.first_fast + panel.n_fast)
        slow = (np.arange(panel.n_slow) + 0.5)[:, None, None] * np.array(panel.slow_m)
        fast = (np.arange(panel.n_fast) + 0.5)[None, :, None] * np.array(panel.fast_m)
        out[rows, columns] = np.array(panel.origin_m) + fast + slow
    return out


def event_parts(event: int | str | None) -> tuple[list[str], list[int]]:
    """Return the words of an event for the ``%`` of paths, and its numbers for those of dimensions.

    An event is a number, or text as CrystFEL writes it: words, ``//`` and numbers, with ``/`` between them.
    """
    if event is None:
        return [], []
    if isinstance(event, str) and "//" in event:
        words, _, numbers = event.partition("//")
        split = [word for word in words.split("/") if word], [word for word in numbers.split("/") if word]
        if all(word.isascii() and word.isdigit() for word in split[1]):
            return split[0], [int(word) for word in split[1]]
    elif isinstance(event, (int, np.integer)) and not isinstance(event, bool) and event >= 0:
        return [], [int(event)]
    raise InputError("event", "must be the number of a frame, or CrystFEL's words//numbers", event)


def fill_path(path: str, words: list[str], name: str) -> str:
    """Return a path with its ``%`` replaced, in their order, by the words of an event."""
    if path.count("%") > len(words):
        rule = f"needs an event with {path.count('%')} words for the % of its path"
        raise InputError(name, rule, path, hint="give the event as CrystFEL writes it: words//numbers")
    for word in words[: path.count("%")]:
        path = path.replace("%", word.replace("%", "\0"), 1)
    return path.replace("\0", "%")


@contextmanager
def opened(file) -> Iterator:
    """Give an open HDF5 file: the one that is given, or that of a name, which is closed again."""
    if isinstance(file, (str, os.PathLike)):
        with open_hdf5(file) as handle:
            yield handle
    else:
        yield file


def _fetch(
    quantity: Quantity, values: Values, event: int | str | None, file: str, *, nan_allowed: bool = False
) -> float:
    """Return a quantity's number in m, eV or V."""
    name = _where(quantity)
    if quantity.path is None:
        assert quantity.number is not None
        return _in_range(quantity, quantity.number, name, file)
    if values is None:
        rule = f"lies in a data file, at {quantity.path} (in {quantity.unit})"
        raise InputError(name, rule, hint=f"give that file, or a value of {quantity.key}", file=file)
    number = _look_up(quantity, values, event, name, file)
    try:
        number = float(number)
    except (TypeError, ValueError):
        raise InputError(name, f"must be a number at {quantity.path}", number, file=file) from None
    if not math.isfinite(number) and not (nan_allowed and math.isnan(number)):
        raise InputError(name, f"must be a finite number at {quantity.path}", number, file=file)
    return number if math.isnan(number) else _in_range(quantity, number * quantity.factor, name, file)


def _look_up(quantity: Quantity, values: Values, event: int | str | None, name: str, file: str):
    """Return what stands at a quantity's path, in its unit."""
    assert quantity.path is not None
    known: list[str] = []
    for place in values if isinstance(values, (list, tuple)) else [values]:
        if not isinstance(place, Mapping) or hasattr(place, "filename"):  # an open HDF5 file is a mapping, too
            return _number_in_file(place, quantity.path, event, name)
        if quantity.path in place:
            return place[quantity.path]
        known += map(str, place)
    rule = f"needs the value at {quantity.path} (in {quantity.unit})"
    raise InputError(name, rule, hint=f"there is one for {', '.join(known) or 'none'}", file=file)


def _in_range(quantity: Quantity, number: float, name: str, file: str) -> float:
    low, high = RANGES[quantity.key]
    if not low <= number <= high:
        unit = next(unit for unit, factor in UNITS[quantity.key].items() if factor == 1.0)
        raise InputError(name, f"must lie between {low:g} and {high:g} {unit}", number, file=file)
    return number


def _number_in_file(file, path: str, event: int | str | None, name: str):
    """Return the number of one event: each dimension that is not of size 1 takes the event's next number."""
    import h5py

    words, numbers = event_parts(event)
    with opened(file) as handle:
        whose = str(handle.filename)
        path = fill_path(path, words, name)
        with reading(whose):
            found = handle.get(path) if path.strip("/") else None
            if not isinstance(found, h5py.Dataset):
                raise InputError(name, f"needs a number at {path}, where nothing of the kind is", file=whose)
            if found.shape is None or found.dtype.kind not in "iuf":
                raise InputError(name, f"must be a number at {path}", str(found.dtype), file=whose)
            index, left = [], list(numbers)
            for size in found.shape:
                if size == 1:
                    index.append(0)
                elif not left:
                    rule = f"finds {size} values at {path}, one for each frame"
                    raise InputError(name, rule, hint="say which event", file=whose)
                elif left[0] >= size:
                    raise InputError("event", f"must be below {size}, the number of values at {path}", left[0])
                else:
                    index.append(left.pop(0))
            return found[tuple(index)]


def _where(quantity: Quantity) -> str:
    return f"line {quantity.line}: {quantity.key}" if quantity.line else quantity.key


def _scaled(vector: Vector, factor: float) -> Vector:
    return vector[0] * factor, vector[1] * factor, vector[2] * factor
