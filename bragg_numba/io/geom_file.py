"""CrystFEL geometry files (.geom): read by the rules of CrystFEL 0.10 and of 0.11 and later, and written.

What the keys mean stands in docs/geometry.md; the values are those of ``io/geometry.py``.
"""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass, field
from typing import NoReturn

import numpy as np

from bragg_numba.errors import InputError
from bragg_numba.io.geom_groups import MOST_CHILDREN, MOST_GROUPS, Groups, derive_groups, derive_rigid_groups, is_legal
from bragg_numba.io.geometry import RANGES, UNITS, BadRegion, Flag, Geometry, GeomPanel, Mask, Quantity, Vector
from bragg_numba.io.text_files import read_text

__all__ = ["lines_of_groups", "parse_geom", "read_geom", "write_geom"]

_WHOLE_MOST = 2**31 - 1
_MOST_DIMS = 16
_MOST_FLAGS = 16
#: Far beyond anything real, and near enough to reckon with: pixels, components of fs and ss, metres, pixels per metre.
_FARTHEST, _LONGEST, _MOST_COFFSET_M, _MOST_RES = 1e9, 1e6, 1e6, 1e12
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_HEXADECIMAL = re.compile(r"0[xX][0-9a-fA-F]+")
_TERM = re.compile(r"([+-])(\d+\.?\d*|\.\d+|)([xyz])", re.ASCII)
_MASK_KEY = re.compile(r"mask(\d+)_(data|file|goodbits|badbits)", re.ASCII)
_DIM_KEY = re.compile(r"dim(\d+)", re.ASCII)
_SHORT_MASK = {
    "mask": "mask0_data",
    "mask_file": "mask0_file",
    "mask_good": "mask0_goodbits",
    "mask_bad": "mask0_badbits",
}
_LIMITS = ("min_fs", "max_fs", "min_ss", "max_ss")
_MANDATORY = (*_LIMITS, "corner_x", "corner_y", "fs", "ss", "res")
_PANEL_KEYS = {
    *_MANDATORY,
    *("coffset", "clen", "adu_per_photon", "adu_per_eV", "max_adu", "data", "no_index", "mask_edge_pixels"),
    *("saturation_map", "saturation_map_file"),
}
_FLAG_KEYS = {"flag_lessthan", "flag_morethan", "flag_equal"}
_TOP_KEYS = {*UNITS, "bandwidth", "peak_list", "peak_list_type"}
_WAVELENGTHS = ("photon_energy", "wavelength", "electron_voltage")
_BAD_KEYS = {*_LIMITS, "min_x", "max_x", "min_y", "max_y", "panel"}
#: Of older versions, without effect in any that reads the rest.
_WITHOUT_EFFECT = {"badrow_direction", "rail_direction", "clen_for_centering"}


def read_geom(path: str | os.PathLike[str]) -> Geometry:
    """Read a CrystFEL geometry file.

    A file without wavelength, camera length or ``adu_per_*`` is read, although CrystFEL refuses it: those may come
    from elsewhere. Keys that are not known are listed in ``Geometry.unknown``.

    Raises
    ------
    InputError
        If the file cannot be read; with the number of the line, the rule and the value for what breaks a rule.
    """
    return parse_geom(read_text(path), os.fspath(path))


def parse_geom(text: str, file: str = "") -> Geometry:
    """Return the geometry that a text describes, as ``read_geom`` does; ``file`` is what errors call it."""
    return _Reader(file).read(text)


@dataclass(frozen=True, slots=True)
class _Entry:
    """What a line says: its number, the key as it stands there, the value without blanks around it."""

    line: int
    key: str
    text: str


@dataclass(slots=True)
class _Lines:
    """What the lines of one panel say so far; of none, what the next ones begin with."""

    line: int
    entries: dict[str, _Entry] = field(default_factory=dict)
    flags: list[_Entry] = field(default_factory=list)

    def copy(self, line: int) -> _Lines:
        return _Lines(line, dict(self.entries), list(self.flags))


class _Reader:
    """One pass over the lines, which are then turned into values."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.top: dict[str, _Entry] = {}
        self.wavelength: _Entry | None = None
        self.defaults = _Lines(0)
        self.unused: _Entry | None = None  # the first top-level key since the last new panel
        self.panels: dict[str, _Lines] = {}
        self.bad: dict[str, _Lines] = {}
        self.groups: list[_Entry] = []
        self.rigid: list[_Entry] = []
        self.unknown: list[tuple[int, str, str]] = []

    def read(self, text: str) -> Geometry:
        for number, line in enumerate(text.split("\n"), start=1):
            self._take(number, line)
        if not self.panels:
            raise InputError("the geometry", "must describe at least one panel", file=self.file)
        if self.unused is not None:
            self._refuse(self.unused, "has no effect: it stands after the last panel that it could be for")
        panels = tuple(self._panel(name, lines) for name, lines in self.panels.items())
        self._check_overlaps(panels)
        by_name = {panel.name: panel for panel in panels}
        quantities = {key: self._quantity(key, self.top.get(key)) for key in UNITS}
        if quantities["detector_shift_x"] and not quantities["detector_shift_y"]:
            self._refuse(self.top["detector_shift_x"], "needs a detector_shift_y beside it")
        bandwidth, peaks = self.top.get("bandwidth"), self.top.get("peak_list_type")
        if peaks is not None and peaks.text not in ("auto", "cxi", "list3"):
            self._refuse(peaks, "must be auto, cxi or list3", peaks.text)
        return Geometry(
            panels=panels,
            clen=quantities["clen"],
            wavelength=quantities[self.wavelength.key] if self.wavelength else None,
            bandwidth=1e-8 if bandwidth is None else self._number(bandwidth, low=0.0),
            shift_x=quantities["detector_shift_x"],
            shift_y=quantities["detector_shift_y"],
            bad_regions=tuple(self._bad_region(name, lines, by_name) for name, lines in self.bad.items()),
            groups=self._read_groups(by_name),
            rigid_groups=self._rigid_groups("rigid_group_", ""),
            rigid_group_collections=self._rigid_groups("rigid_group_collection_", "rigid_group_collection_"),
            peak_list=self.top["peak_list"].text if "peak_list" in self.top else None,
            peak_list_type=peaks.text if peaks else None,
            unknown=tuple(self.unknown),
            file=self.file,
        )

    # --- lines

    def _take(self, number: int, line: str) -> None:
        """Sort one line."""
        line = line.lstrip(" \t").partition(";")[0]
        if not line:
            return
        key, equals, text = line.partition("=")
        key, text = key.rstrip(" \t"), text.strip(" \t")
        entry = _Entry(number, key, text)
        if not equals:
            hint = "comments begin with ;" if line.startswith("#") else ""
            raise InputError(f"line {number}", "must be key = value", line, hint=hint, file=self.file)
        if not key:
            raise InputError(f"line {number}", "must have a key before the =", line, file=self.file)
        if not text:
            self._refuse(entry, "must have a value")
        name, slash, own = key.partition("/")
        if not slash:
            self._take_top(entry)
        elif not name or not own or name != name.strip() or own != own.strip():
            self._refuse(entry, "must be panel/key, without blanks around the /")
        elif name.startswith("bad"):
            lines = self.bad.setdefault(name, _Lines(number))
            if own in _BAD_KEYS:
                lines.entries[own] = entry
            else:
                self.unknown.append((number, key, text))
        elif name.startswith(("group", "rigid_group")):
            self._refuse(entry, "must not be of a panel: no panel's name begins with group or rigid_group")
        else:
            if name not in self.panels:
                self.panels[name] = self.defaults.copy(number)
                self.unused = None
            self._take_for_panel(self.panels[name], own, entry)

    def _take_top(self, entry: _Entry) -> None:
        if entry.key in _TOP_KEYS:
            self.top[entry.key] = entry
            if entry.key in _WAVELENGTHS:
                self.wavelength = entry
        elif entry.key.startswith("rigid_group"):
            self.rigid.append(entry)
        elif entry.key.startswith("group_"):
            self.groups.append(entry)
        elif self._take_for_panel(self.defaults, entry.key, entry) and self.unused is None:
            self.unused = entry

    def _take_for_panel(self, lines: _Lines, key: str, entry: _Entry) -> bool:
        """Note a key of a panel; say whether it is one."""
        key = _SHORT_MASK.get(key, key)
        if key in _FLAG_KEYS:
            lines.flags.append(entry)
            if len(lines.flags) > _MOST_FLAGS:
                self._refuse(entry, f"is one flag too many: a panel has {_MOST_FLAGS} at most")
        elif key in _PANEL_KEYS:
            if key in ("adu_per_photon", "adu_per_eV"):  # the later one counts
                lines.entries.pop("adu_per_photon", None)
                lines.entries.pop("adu_per_eV", None)
            lines.entries[key] = entry
        elif found := _MASK_KEY.fullmatch(key):
            if len(found[1]) > 1 or int(found[1]) > 7:
                self._refuse(entry, "must be of a mask from 0 to 7")
            lines.entries[key] = entry
        elif found := _DIM_KEY.fullmatch(key):
            if len(found[1]) > 3 or int(found[1]) >= _MOST_DIMS:
                self._refuse(entry, f"must be of a dimension from 0 to {_MOST_DIMS - 1}")
            lines.entries[f"dim{int(found[1])}"] = entry
        elif key.startswith(("mask", "dim")):
            self._refuse(entry, "is none of the keys that begin with mask or dim")
        elif key in _WITHOUT_EFFECT:
            return False
        else:
            self.unknown.append((entry.line, entry.key, entry.text))
            return False
        return True

    # --- values

    def _refuse(self, entry: _Entry, rule: str, value: object = InputError._NO_VALUE, *, hint: str = "") -> NoReturn:
        raise InputError(f"line {entry.line}: {entry.key}", rule, value, hint=hint, file=self.file)

    def _number(
        self, entry: _Entry, *, low: float = -math.inf, above: float = -math.inf, most: float = math.inf
    ) -> float:
        if not _NUMBER.fullmatch(entry.text):
            hint = "its unit is fixed" if re.match(rf"{_NUMBER.pattern}[ \t]", entry.text, re.ASCII) else ""
            self._refuse(entry, "must be a number", entry.text, hint=hint)
        value = float(entry.text)
        if not math.isfinite(value):
            self._refuse(entry, "must be a finite number", entry.text)
        if value < low:
            self._refuse(entry, f"must not be below {low:g}", entry.text)
        if value <= above:
            self._refuse(entry, f"must be above {above:g}", entry.text)
        if abs(value) > most:
            self._refuse(entry, f"must not be beyond {most:g}", entry.text)
        return value

    def _whole(self, entry: _Entry, *, low: int = 0, high: int = _WHOLE_MOST) -> int:
        """A whole number, which may be written as 1029.0."""
        value = self._number(entry)
        if value != int(value) or not low <= value <= high:
            self._refuse(entry, f"must be a whole number from {low} to {high}", entry.text)
        return int(value)

    def _bits(self, entry: _Entry) -> int:
        if _HEXADECIMAL.fullmatch(entry.text):
            value = int(entry.text, 16)
            if value < 2**32:
                return value
            self._refuse(entry, "must fit 32 bits", entry.text)
        return self._whole(entry, high=2**32 - 1)

    def _truth(self, entry: _Entry) -> bool:
        word = entry.text.lower()
        if word in ("true", "false"):
            return word == "true"
        if not _NUMBER.fullmatch(word):
            self._refuse(entry, "must be true, false or a number", entry.text)
        return int(float(word)) != 0 if math.isfinite(float(word)) else True

    def _direction(self, entry: _Entry) -> Vector:
        """A sum of terms such as -0.0058x +0.9999y -0.01z, in pixels."""
        text = entry.text.replace(" ", "")
        rest = text if text.startswith(("+", "-")) else "+" + text
        vector = dict.fromkeys("xyz", 0.0)
        while rest:
            term = _TERM.match(rest)
            if term is None:
                hint = "no exponents" if re.search(r"\d[eE]", text) else ""
                rule = "must be a sum of terms such as -0.0058x +0.9999y -0.01z"
                self._refuse(entry, rule, entry.text, hint=hint)
            vector[term[3]] += float(term[1] + (term[2] or "1"))
            rest = rest[term.end() :]
        if max(map(abs, vector.values())) > _LONGEST:
            self._refuse(entry, f"must not have components beyond {_LONGEST:g}", entry.text)
        if not any(vector.values()):
            self._refuse(entry, "must not be zero", entry.text)
        return vector["x"], vector["y"], vector["z"]

    def _quantity(self, key: str, entry: _Entry | None) -> Quantity | None:
        """A number with its unit, or the path where one lies. A unit is what follows the first blank."""
        if entry is None:
            return None
        units = UNITS[key]
        text, blank, unit = entry.text.partition(" ")
        is_path = text.startswith("/")
        if not blank:
            if key in ("wavelength", "electron_voltage"):
                self._refuse(entry, f"must have a unit, {' or '.join(units)}, after one blank", entry.text)
            unit = "mm" if key == "clen" and is_path else next(iter(units))
        elif unit not in units:
            self._refuse(entry, f"must have the unit {' or '.join(units)}, after one blank", entry.text)
        if is_path:
            if not text.strip("/"):
                self._refuse(entry, "must name something in a data file", entry.text)
            return Quantity(key=key, unit=unit, path=text, line=entry.line)
        if key.startswith("detector_shift") and text.lower() in ("nan", "+nan", "-nan"):
            return Quantity(key=key, unit=unit, number=0.0, line=entry.line)
        if not _NUMBER.fullmatch(text):
            self._refuse(entry, "must be a number, or a path in the data file, which begins with /", entry.text)
        number = float(text) * units[unit]
        low, high = RANGES[key]
        if key in _WAVELENGTHS and not number > 0.0:
            self._refuse(entry, "must be greater than 0", entry.text)
        if not low <= number <= high:
            unit = next(unit for unit, factor in units.items() if factor == 1.0)
            self._refuse(entry, f"must lie between {low:g} and {high:g} {unit}", entry.text)
        return Quantity(key=key, unit=unit, number=number, line=entry.line)

    # --- panels

    def _panel(self, name: str, lines: _Lines) -> GeomPanel:
        entries = lines.entries
        for key in _MANDATORY:
            if key not in entries:
                raise InputError(f"line {lines.line}: panel {name}", f"must give {key}", file=self.file)

        def number(key: str, **limits: float) -> float | None:
            return self._number(entries[key], **limits) if key in entries else None

        def text(key: str) -> str | None:
            return entries[key].text if key in entries else None

        limits = {key: self._whole(entries[key]) for key in _LIMITS}
        for axis in ("fs", "ss"):
            if limits[f"max_{axis}"] < limits[f"min_{axis}"]:
                rule = f"must not be below min_{axis}, {limits[f'min_{axis}']}"
                self._refuse(entries[f"max_{axis}"], rule, limits[f"max_{axis}"])
        fs, ss = self._direction(entries["fs"]), self._direction(entries["ss"])
        scale = math.hypot(*fs) * math.hypot(*ss)
        if not math.hypot(*np.cross(fs, ss)) > 1e-9 * scale:
            self._refuse(entries["ss"], f"must not be along fs, {entries['fs'].text}", entries["ss"].text)
        data = text("data") or "/data/data"
        max_adu = entries.get("max_adu")
        endless = max_adu is None or max_adu.text.lower().lstrip("+") in ("inf", "infinity")
        return GeomPanel(
            name=name,
            **limits,
            corner=(
                self._number(entries["corner_x"], most=_FARTHEST),
                self._number(entries["corner_y"], most=_FARTHEST),
            ),
            fs=fs,
            ss=ss,
            res=self._res(entries["res"]),
            coffset_m=number("coffset", most=_MOST_COFFSET_M) or 0.0,
            clen=self._quantity("clen", entries.get("clen")),
            adu_per_photon=number("adu_per_photon", above=0.0),
            adu_per_eV=number("adu_per_eV", above=0.0),
            max_adu=math.inf if max_adu is None or endless else self._number(max_adu),
            data=data,
            dims=self._dims(name, lines),
            masks=self._masks(lines, data),
            flags=tuple(self._flag(entry) for entry in lines.flags),
            saturation_map=text("saturation_map"),
            saturation_map_file=text("saturation_map_file"),
            no_index=self._truth(entries["no_index"]) if "no_index" in entries else False,
            mask_edge_pixels=self._whole(entries["mask_edge_pixels"]) if "mask_edge_pixels" in entries else 0,
        )

    def _res(self, entry: _Entry) -> float:
        value = self._number(entry, above=0.0, most=_MOST_RES)
        if value < 1.0 / _MOST_RES:
            self._refuse(entry, f"must not be below {1.0 / _MOST_RES:g}", entry.text)
        return value

    def _flag(self, entry: _Entry) -> Flag:
        value = self._number(entry)
        if abs(value) > 2**63:
            self._refuse(entry, "must fit 64 bits", entry.text)
        return Flag(kind=entry.key.rpartition("/")[2].removeprefix("flag_"), value=int(value))

    def _dims(self, name: str, lines: _Lines) -> tuple[str | int, ...]:
        found: dict[int, str | int] = {0: "ss", 1: "fs"}
        latest = None
        for key, entry in lines.entries.items():
            if _DIM_KEY.fullmatch(key):
                latest = entry if latest is None or entry.line > latest.line else latest
                known = entry.text in ("ss", "fs", "%")
                if not known and not (entry.text.isascii() and entry.text.isdigit() and len(entry.text) < 11):
                    self._refuse(entry, "must be ss, fs, % or a number", entry.text)
                found[int(key[3:])] = entry.text if known else self._whole(entry)
        dims = tuple(found.get(place, "") for place in range(max(found) + 1))
        shown = ", ".join(f"dim{place} = {value or 'nothing'}" for place, value in enumerate(dims))
        where = f"line {latest.line if latest else lines.line}: panel {name}"
        if "" in dims:
            raise InputError(where, f"must say what every dimension is, but has {shown}", file=self.file)
        for axis in ("ss", "fs"):
            if dims.count(axis) != 1:
                raise InputError(where, f"must have one dimension that is {axis}, but has {shown}", file=self.file)
        if dims.index("ss") > dims.index("fs"):
            raise InputError(where, f"must have ss before fs, but has {shown}", file=self.file)
        return dims

    def _masks(self, lines: _Lines, data: str) -> tuple[Mask, ...]:
        masks = []
        for index in range(8):
            given = {
                part: entry
                for part in ("data", "file", "goodbits", "badbits")
                if (entry := lines.entries.get(f"mask{index}_{part}")) is not None
            }
            if not given:
                continue
            bits = {part: self._bits(given[part]) if part in given else 0 for part in ("goodbits", "badbits")}
            if "data" not in given:
                if "file" in given:
                    self._refuse(given["file"], f"needs the mask's place in that file, mask{index}_data")
                for part, value in bits.items():
                    if value:
                        self._refuse(given[part], f"needs the mask's place, mask{index}_data", given[part].text)
                continue  # bits of nothing that mean nothing
            where = given["data"]
            if not where.text.startswith("/"):
                self._refuse(where, "must be a path in an HDF5 file, which begins with /", where.text)
            if where.text.count("%") > data.count("%"):
                self._refuse(where, f"must not have more % than the data's path, {data}", where.text)
            masks.append(
                Mask(
                    index=index,
                    data=where.text,
                    file=given["file"].text if "file" in given else None,
                    good_bits=bits["goodbits"],
                    bad_bits=bits["badbits"],
                )
            )
        return tuple(masks)

    def _check_overlaps(self, panels: tuple[GeomPanel, ...]) -> None:
        """Refuse two panels that share pixels of the data."""
        arrays: dict[tuple, list[GeomPanel]] = {}
        for panel in panels:
            arrays.setdefault((panel.data, tuple(panel.fixed.items())), []).append(panel)
        for together in arrays.values():
            above: list[GeomPanel] = []
            for panel in sorted(together, key=lambda panel: panel.min_ss):
                above = [other for other in above if other.max_ss >= panel.min_ss]
                for other in above:
                    if other.min_fs <= panel.max_fs and panel.min_fs <= other.max_fs:
                        first, second = sorted((panel.name, other.name), key=list(self.panels).index)
                        where = f"line {self.panels[second].line}: panel {second}"
                        raise InputError(where, f"must not share pixels of the data with {first}", file=self.file)
                above.append(panel)

    # --- bad regions and groups

    def _bad_region(self, name: str, lines: _Lines, panels: dict[str, GeomPanel]) -> BadRegion:
        entries = lines.entries
        where = f"line {lines.line}: {name}"
        across = [key for key in entries if key[-2:] in ("_x", "_y")]
        along = [key for key in entries if key in _LIMITS]
        if across and along:
            rule = f"must not be mixed with {entries[across[0]].key}: a bad region is in x/y or in fs/ss"
            self._refuse(entries[along[0]], rule)
        if across:
            limits = {key: self._number(entries[key]) for key in across}
            x, y = ((limits.get(f"min_{a}", math.nan), limits.get(f"max_{a}", math.nan)) for a in "xy")
            return BadRegion(name=name, x=x, y=y)
        if not along:
            raise InputError(where, "must give its limits, in x/y or in fs/ss", file=self.file)
        if "panel" in entries:
            if entries["panel"].text not in panels:
                self._refuse(entries["panel"], "must be one of the panels", entries["panel"].text)
            panel = panels[entries["panel"].text]
        elif len(panels) == 1:
            panel = next(iter(panels.values()))
        else:
            raise InputError(where, f"must name its panel, {name}/panel: its limits are in fs/ss", file=self.file)
        # What is left out counts as 0, for CrystFEL too.
        found = {key: self._whole(entries[key]) if key in entries else 0 for key in _LIMITS}
        for axis in ("fs", "ss"):
            low, high = found[f"min_{axis}"], found[f"max_{axis}"]
            first, last = getattr(panel, f"min_{axis}"), getattr(panel, f"max_{axis}")
            if not first <= low <= high <= last:
                rule = f"must lie in panel {panel.name}, {axis} {first} to {last}"
                raise InputError(where, rule, f"{low} to {high}", file=self.file)
        fs, ss = ((found[f"min_{a}"], found[f"max_{a}"]) for a in ("fs", "ss"))
        return BadRegion(name=name, panel=panel.name, fs=fs, ss=ss)

    def _read_groups(self, panels: dict[str, GeomPanel]) -> Groups:
        """The hierarchy, each of whose groups is made of panels and of groups above it in the file."""
        known, groups = set(panels), []
        for entry in self.groups:
            name, members = entry.key.removeprefix("group_"), _members(entry.text)
            if not name or name in known:
                self._refuse(entry, "must have a name of its own" if name else "must have a name")
            if not members:
                self._refuse(entry, "must have members", entry.text)
            if len(members) > MOST_CHILDREN:
                self._refuse(entry, f"must have {MOST_CHILDREN} members at most", len(members))
            for place, member in enumerate(members):
                if member not in known:
                    rule = "must be made of panels and of groups that are defined above it"
                    self._refuse(entry, rule, member)
                if member in members[:place]:
                    self._refuse(entry, "must not hold a member twice", member)
            known.add(name)
            groups.append((name, members))
            if len(known) > MOST_GROUPS:
                self._refuse(entry, f"is one too many: panels and groups are {MOST_GROUPS} at most")
        return tuple(groups)

    def _rigid_groups(self, start: str, collection: str) -> Groups:
        """Groups, or collections of groups, as versions up to 0.10 have them; nothing is asked of their members."""
        found = {}
        for entry in self.rigid:
            is_collection = entry.key.startswith("rigid_group_collection")
            name = entry.key.removeprefix(start)
            if is_collection == bool(collection) and name and name != entry.key:
                found[name] = _members(entry.text)
        return tuple(found.items())


def _members(text: str) -> tuple[str, ...]:
    return tuple(member.strip() for member in text.split(",") if member.strip())


# --- writing


def write_geom(geometry: Geometry, comment: str = "") -> str:
    """Return the text of a .geom: read back, it gives the same positions, to the last digit.

    Directions are written without exponents, which CrystFEL refuses there. Where the geometry has no groups they
    are made from its rigid groups or from its panels' names, and the other way round.

    Raises
    ------
    InputError
        For a panel's name that cannot stand in such a file, or more panels and groups than CrystFEL takes.
    """
    for panel in geometry.panels:
        if not is_legal(panel.name):
            rule = "must hold no / ; = , or blank, and begin with none of bad, group, rigid_group"
            raise InputError("the name of a panel", rule, panel.name, hint="legal_names makes such names")
    lines = [f"; {line}" for line in comment.splitlines()]
    for quantity in (geometry.wavelength, geometry.clen, geometry.shift_x, geometry.shift_y):
        if quantity is not None:
            lines.append(f"{quantity.key} = {_quantity_text(quantity)}")
    lines.append(f"bandwidth = {geometry.bandwidth!r}")
    lines += [f"peak_list = {geometry.peak_list}"] if geometry.peak_list else []
    lines += [f"peak_list_type = {geometry.peak_list_type}"] if geometry.peak_list_type else []
    tables = [_panel_lines(panel) for panel in geometry.panels]
    # A panel cannot take back what it is given as a default: that holds for all of them, in the same place.
    common = {key: value for key, value in tables[0].items() if all(table.get(key) == value for table in tables[1:])}
    common = {key: value for key, value in common.items() if key not in (*_LIMITS, "corner_x", "corner_y", "fs", "ss")}
    lines += ["", *_lines_of("", common)]
    for region in geometry.bad_regions:
        lines += ["", *_region_lines(region)]
    for panel, table in zip(geometry.panels, tables, strict=True):
        own = {key: value for key, value in table.items() if key not in common}
        lines += ["", *_lines_of(f"{panel.name}/", own)]
    names = [panel.name for panel in geometry.panels]
    return "\n".join([*lines, "", *lines_of_groups(names, geometry), ""])


def lines_of_groups(names: list[str], like: Geometry | None = None) -> list[str]:
    """Return the lines of a .geom that say which panels belong together, as CrystFEL before and since 0.11 has it.

    The groups are those of ``like``, whose panels have these names; where it has none they are made from its rigid
    groups or from the names, and the other way round.

    Raises
    ------
    InputError
        For groups of too many members, and for more panels and groups than CrystFEL takes.
    """
    given = () if like is None else like.groups
    rigid, collections = ((), ()) if like is None else (like.rigid_groups, like.rigid_group_collections)
    groups = _checked(given or derive_groups(names, rigid), names)
    if not rigid:
        rigid, collections = derive_rigid_groups(names, groups)
    return [
        *_group_lines("rigid_group_", rigid),
        *_group_lines("rigid_group_collection_", collections),
        *_group_lines("group_", groups),
    ]


def _digits(value: float) -> str:
    """A number to its last digit, without an exponent."""
    return np.format_float_positional(value + 0.0, trim="-")


def _direction_text(vector: Vector) -> str:
    terms = [
        f"{'-' if value < 0.0 else '+'}{_digits(abs(value))}{axis}" for axis, value in zip("xyz", vector, strict=True)
    ]
    return " ".join(terms)


def _quantity_text(quantity: Quantity) -> str:
    if quantity.path is not None:
        return f"{quantity.path} {quantity.unit}"
    assert quantity.number is not None
    value = quantity.number / quantity.factor
    # Dividing may lose the last digit: then the unit is that of the number itself.
    if value * quantity.factor != quantity.number:
        unit = next(unit for unit, factor in UNITS[quantity.key].items() if factor == 1.0)
        return f"{quantity.number!r} {unit}"
    return f"{value!r} {quantity.unit}"


def _panel_lines(panel: GeomPanel) -> dict[str, str | tuple[str, ...]]:
    """What is to be said of a panel, by key; the keys of flags may repeat."""
    found: dict[str, str | tuple[str, ...]] = {
        "res": repr(panel.res),
        **{key: str(getattr(panel, key)) for key in _LIMITS},
        "corner_x": repr(panel.corner[0]),
        "corner_y": repr(panel.corner[1]),
        "fs": _direction_text(panel.fs),
        "ss": _direction_text(panel.ss),
        "coffset": repr(panel.coffset_m),
        "data": panel.data,
        **{f"dim{place}": str(value) for place, value in enumerate(panel.dims)},
    }
    if panel.clen is not None:
        found["clen"] = _quantity_text(panel.clen)
    for key in ("adu_per_photon", "adu_per_eV", "saturation_map", "saturation_map_file"):
        value = getattr(panel, key)
        if value is not None:
            found[key] = value if isinstance(value, str) else repr(value)
    for mask in panel.masks:
        found[f"mask{mask.index}_data"] = mask.data
        if mask.file is not None:
            found[f"mask{mask.index}_file"] = mask.file
        found[f"mask{mask.index}_goodbits"] = f"{mask.good_bits:#x}"
        found[f"mask{mask.index}_badbits"] = f"{mask.bad_bits:#x}"
    if panel.flags:
        found["flags"] = tuple(f"flag_{flag.kind} = {flag.value}" for flag in panel.flags)
    if math.isfinite(panel.max_adu):
        found["max_adu"] = repr(panel.max_adu)
    if panel.no_index:
        found["no_index"] = "1"
    if panel.mask_edge_pixels:
        found["mask_edge_pixels"] = str(panel.mask_edge_pixels)
    return found


def _lines_of(start: str, table: dict[str, str | tuple[str, ...]]) -> list[str]:
    lines = []
    for key, value in table.items():
        lines += [f"{start}{key} = {value}"] if isinstance(value, str) else [start + line for line in value]
    return lines


def _region_lines(region: BadRegion) -> list[str]:
    lines = [f"{region.name}/panel = {region.panel}"] if region.panel is not None else []
    for axis in ("fs", "ss", "x", "y"):
        limits = getattr(region, axis)
        for word, limit in zip(("min", "max"), limits or (), strict=False):
            if not math.isnan(limit):
                lines.append(f"{region.name}/{word}_{axis} = {limit!r}")
    return lines


def _group_lines(start: str, groups: Groups) -> list[str]:
    return [f"{start}{name} = {','.join(members)}" for name, members in groups if members]


def _checked(groups: Groups, names: list[str]) -> Groups:
    """Return groups that CrystFEL takes; refuse others."""
    known = set(names)
    for name, members in groups:
        if len(members) > MOST_CHILDREN:
            raise InputError(f"group {name}", f"must have {MOST_CHILDREN} members at most", len(members))
        if not known.issuperset(members) or name in known:
            raise InputError(f"group {name}", "must be made of panels and of groups before it", members)
        known.add(name)
    if len(names) + len(groups) > MOST_GROUPS:
        raise InputError("panels and groups of a .geom", f"must be {MOST_GROUPS} at most", len(names) + len(groups))
    return groups
