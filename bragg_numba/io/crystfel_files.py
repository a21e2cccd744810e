"""CrystFEL's other text files, as plain values: unit cells (.cell), lists of reflections (.hkl) and streams."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np

from bragg_numba.errors import InputError
from bragg_numba.io.atomic import file_error
from bragg_numba.io.geometry import Vector
from bragg_numba.io.text_files import read_text

__all__ = [
    "CrystfelCell",
    "ReflectionList",
    "StreamChunk",
    "StreamCrystal",
    "StreamHeader",
    "parse_cell",
    "read_cell",
    "read_chunks",
    "read_reflections",
    "read_stream_header",
]

_CELL_FIRST = "CrystFEL unit cell file version 1.0"
_LIST_FIRST = "CrystFEL reflection list version 2.0"
_OLD_LIST_FIRST = "  h   k   l          I    phase   sigma(I)  counts  fs/px  ss/px"
_STREAM_FIRST = "CrystFEL stream format 2.3"
_END_OF_LIST = "End of reflections"
_INDEX_MOST = 2**31 - 1

_LATTICES = ("triclinic", "monoclinic", "orthorhombic", "tetragonal", "rhombohedral", "hexagonal", "cubic")
_WITH_UNIQUE_AXIS = ("monoclinic", "tetragonal", "hexagonal")
_CENTRINGS = "PABCIFRH"
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_INTEGER = re.compile(r"[+-]?\d{1,10}", re.ASCII)


def _number(file: str, line: int, name: str, text: str, *, above: float = -math.inf) -> float:
    value = float(text) if _NUMBER.fullmatch(text) else math.nan
    if not math.isfinite(value):
        raise InputError(f"line {line}: {name}", "must be a finite number", text, file=file)
    if value <= above:
        raise InputError(f"line {line}: {name}", f"must be above {above:g}", text, file=file)
    return value


# --- unit cells


@dataclass(frozen=True, slots=True, kw_only=True)
class CrystfelCell:
    """A unit cell; a lies along x and b in the plane of x and y where a frame is asked for."""

    lengths_A: Vector
    angles_deg: Vector
    lattice_type: str | None = None  #: None: a PDB file does not say
    centering: str = "P"  #: H: the obverse setting of R on hexagonal axes
    unique_axis: str | None = None


def read_cell(path: str | os.PathLike[str]) -> CrystfelCell:
    """Read a unit cell: of CrystFEL's own files, or of the CRYST1 line of a PDB file, which all others are taken for.

    Raises
    ------
    InputError
        If the file cannot be read; with the number of the line, the rule and the value for what breaks a rule.
    """
    return parse_cell(read_text(path), os.fspath(path))


def parse_cell(text: str, file: str) -> CrystfelCell:
    """Return the unit cell that a text describes, as ``read_cell`` does of that of a file.

    Raises
    ------
    InputError
        As ``read_cell``; ``file`` is what it says the text is from.
    """
    lines = text.split("\n")
    if lines[0] != _CELL_FIRST:
        return _checked_cell(_pdb_cell(file, lines), file)
    given: dict[str, tuple[int, list[str]]] = {}
    for number, line in enumerate(lines[1:], start=2):
        words = line.split()
        if not words or words[0].startswith(";"):
            continue
        if len(words) < 3 or words[1] != "=":
            rule = "must be key = value, with blanks around the ="
            raise InputError(f"line {number}", rule, line.strip(), file=file)
        if words[0] not in ("lattice_type", "centering", "unique_axis", "a", "b", "c", "al", "be", "ga"):
            rule = "must be of lattice_type, centering, unique_axis, a, b, c, al, be and ga"
            raise InputError(f"line {number}", rule, words[0], file=file)
        given[words[0]] = (number, words[2:])

    def size(key: str, units: dict[str, float]) -> float:
        if key not in given:
            raise InputError("the cell", f"must give {key}", file=file)
        number, words = given[key]
        value = _number(file, number, key, words[0], above=0.0)
        if len(words) < 2 or words[1] not in units:
            shown = words[1] if len(words) > 1 else ""
            raise InputError(f"line {number}: {key}", f"must have the unit {' or '.join(units)}", shown, file=file)
        return value * units[words[1]]

    def choice(key: str, allowed: tuple[str, ...] | str) -> str | None:
        if key not in given:
            return None
        number, words = given[key]
        if words[0] not in allowed or not words[0]:
            raise InputError(f"line {number}: {key}", f"must be one of {', '.join(allowed)}", words[0], file=file)
        return words[0]

    lattice = choice("lattice_type", _LATTICES)
    axis = choice("unique_axis", ("a", "b", "c", "?", "*"))
    axis = None if axis in ("?", "*") else axis
    if lattice in _WITH_UNIQUE_AXIS and axis is None:
        raise InputError("unique_axis", f"must be given for a {lattice} lattice", file=file)
    a, b, c = (size(key, {"A": 1.0, "nm": 10.0}) for key in ("a", "b", "c"))
    al, be, ga = (size(key, {"deg": 1.0, "rad": 180.0 / math.pi}) for key in ("al", "be", "ga"))
    cell = CrystfelCell(
        lengths_A=(a, b, c),
        angles_deg=(al, be, ga),
        lattice_type=lattice or "triclinic",
        centering=choice("centering", tuple(_CENTRINGS)) or "P",
        unique_axis=axis,
    )
    return _checked_cell(cell, file)


def _pdb_cell(file: str, lines: list[str]) -> CrystfelCell:
    for number, line in enumerate(lines, start=1):
        if line.startswith("CRYST1"):
            limits = ((6, 15), (15, 24), (24, 33), (33, 40), (40, 47), (47, 54))
            words = [line[first:end].strip() for first, end in limits]
            names = ("a", "b", "c", "alpha", "beta", "gamma")
            a, b, c, al, be, ga = (
                _number(file, number, f"{name} of CRYST1", word, above=0.0)
                for name, word in zip(names, words, strict=True)
            )
            centring = line[55:56].strip() or "P"
            if centring not in _CENTRINGS:
                rule = f"must be one of {', '.join(_CENTRINGS)}"
                raise InputError(f"line {number}: the centring of CRYST1", rule, centring, file=file)
            return CrystfelCell(lengths_A=(a, b, c), angles_deg=(al, be, ga), centering=centring)
    rule = f"must begin with the line {_CELL_FIRST}, or be a PDB file with a CRYST1 line"
    raise InputError("a unit cell", rule, lines[0], file=file)


def _checked_cell(cell: CrystfelCell, file: str) -> CrystfelCell:
    ca, cb, cg = (math.cos(math.radians(angle)) for angle in cell.angles_deg)
    if not 1.0 - ca * ca - cb * cb - cg * cg + 2.0 * ca * cb * cg > 1e-12 or max(cell.angles_deg) >= 180.0:
        raise InputError("al, be and ga", "must be the angles of a cell with a volume", cell.angles_deg, file=file)
    return cell


# --- lists of reflections


@dataclass(frozen=True, slots=True, kw_only=True)
class ReflectionList:
    """Intensities, on whatever scale, of the reflections of a point group's asymmetric unit, or of more of them."""

    indices: np.ndarray  #: (n, 3) int32
    intensities: np.ndarray  #: (n,) float64; may be negative
    sigmas: np.ndarray  #: (n,) float64
    phases_deg: np.ndarray  #: (n,) float64; NaN where there is none
    measurements: np.ndarray  #: (n,) int64
    symmetry: str | None  #: as CrystFEL writes it; None in files of version 1.0, which do not say
    notes: str = ""


def read_reflections(path: str | os.PathLike[str]) -> ReflectionList:
    """Read a list of reflections of CrystFEL, of version 2.0 or 1.0, such as partialator and process_hkl write.

    Raises
    ------
    InputError
        If the file cannot be read, is of another kind or ends too soon; with the number of a line that is not
        h k l I phase sigma(I) nmeas.
    """
    file = os.fspath(path)
    lines = read_text(path).split("\n")
    symmetry = None
    if lines[0] == _LIST_FIRST:
        start, columns = 3, 7
        if len(lines) < 3 or not lines[1].startswith("Symmetry: ") or not lines[1][10:].strip():
            shown = lines[1] if len(lines) > 1 else ""
            raise InputError("line 2", "must be Symmetry: and a point group", shown, file=file)
        symmetry = lines[1][10:].strip()
    elif lines[0].rstrip() == _OLD_LIST_FIRST.rstrip():
        start, columns = 1, 9
    else:
        rule = f"must begin with the line {_LIST_FIRST}, or with the heading of version 1.0"
        raise InputError("a list of reflections", rule, lines[0], file=file)
    try:
        end = lines.index(_END_OF_LIST, start)
    except ValueError:
        raise InputError("the list", f"must end with the line {_END_OF_LIST}", file=file) from None
    rows = [line.split() for line in lines[start:end]]
    for number, (words, line) in enumerate(zip(rows, lines[start:end], strict=True), start=start + 1):
        if len(words) < columns:
            what = "h k l I phase sigma(I) nmeas" + (" fs ss" if columns == 9 else "")
            raise InputError(f"line {number}", f"must be {what}", line.strip(), file=file)

    def column(place: int, name: str, pattern: re.Pattern[str]) -> np.ndarray:
        for number, words in enumerate(rows, start=start + 1):
            if not pattern.fullmatch(words[place]):
                rule = "must be a whole number" if pattern is _INTEGER else "must be a number"
                raise InputError(f"line {number}: {name}", rule, words[place], file=file)
        values = np.array([float(words[place]) for words in rows], dtype=np.float64)
        limit = _INDEX_MOST if pattern is _INTEGER else math.inf
        wrong = ~np.isfinite(values) | (np.abs(values) > limit)
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise InputError(f"line {start + 1 + row}: {name}", "must be smaller", rows[row][place], file=file)
        return values

    indices = np.column_stack([column(place, name, _INTEGER) for place, name in enumerate("hkl")])
    phases = np.array([_phase(words[4]) for words in rows], dtype=np.float64)
    return ReflectionList(
        indices=indices.astype(np.int32),
        intensities=column(3, "I", _NUMBER),
        sigmas=column(5, "sigma(I)", _NUMBER),
        phases_deg=phases,
        measurements=column(6, "nmeas", _INTEGER).astype(np.int64),
        symmetry=symmetry,
        notes="\n".join(lines[end + 1 :]).strip(),
    )


def _phase(text: str) -> float:
    return float(text) if _NUMBER.fullmatch(text) else math.nan


# --- streams


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamHeader:
    """What a stream says before its first chunk."""

    geometry: str = ""  #: text of the .geom, for ``parse_geom``
    cell: str = ""  #: text of the target cell
    lines: tuple[str, ...] = ()  #: program, command line and the like


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamCrystal:
    """A crystal as it was indexed, in the laboratory frame of CrystFEL (z along the beam, y up)."""

    reciprocal: tuple[Vector, Vector, Vector]  #: a*, b* and c* in rows, 1/angstrom
    line: int = 0
    lattice_type: str | None = None
    centering: str = "P"
    unique_axis: str | None = None
    profile_radius_per_A: float | None = None
    det_shift_mm: tuple[float, float] = (0.0, 0.0)  #: along x and y; what versions up to 0.10.2 refined
    weight: float = 1.0  #: what the crystal's photons are multiplied by, in streams of this package


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamChunk:
    """One frame: what it was, and the crystals that were found on it."""

    line: int
    filename: str = ""
    event: str | None = None
    serial: int | None = None
    indexed_by: str | None = None
    photon_energy_eV: float | None = None
    divergence_rad: float | None = None
    bandwidth: float | None = None  #: fraction
    camera_length_m: float | None = None
    headers: dict[str, float | int | str] = field(default_factory=dict)  #: values of the data file by their path
    crystals: tuple[StreamCrystal, ...] = ()


_TABLES = {
    "Peaks from peak search": "End of peak list",
    "Reflections measured after indexing": "End of reflections",
}
_BEGIN_CHUNK, _END_CHUNK = "----- Begin chunk -----", "----- End chunk -----"
_BEGIN_CRYSTAL, _END_CRYSTAL = "--- Begin crystal", "--- End crystal"
_BLOCKS = {
    "----- Begin geometry file -----": "----- End geometry file -----",
    "----- Begin unit cell -----": "----- End unit cell -----",
}
_AXIS = re.compile(r"([abc])star = +(\S+) +(\S+) +(\S+) +nm\^-1 *")
_SHIFT = re.compile(r"predict_refine/det_shift x = +(\S+) +y = +(\S+) +mm *")
_WEIGHT = re.compile(r"bragg_numba/weight = +(\S+) *")
_RADIUS = re.compile(r"profile_radius = +(\S+) +nm\^-1 *")
#: Lines of a chunk with one number: the field, and how the line looks.
_CHUNK_NUMBERS = {
    "photon_energy_eV": re.compile(r"photon_energy_eV = *(\S+) *"),
    "divergence_rad": re.compile(r"beam_divergence = *(\S+)(?: +rad)? *"),
    "bandwidth": re.compile(r"beam_bandwidth = *(\S+)(?: .*)?"),
    "camera_length_m": re.compile(r"average_camera_length = *(\S+)(?: +m)? *"),
}
_HEADER = re.compile(r"(?:header/(int|float|str)/|hdf5(?=/))(.+?) = (.*)")


class _Lines:
    """Lines of a stream, one after another, with their numbers."""

    def __init__(self, file: str, source: Iterator[str]) -> None:
        self.file, self.source, self.number = file, source, 0

    def next(self) -> str | None:
        line = next(self.source, None)
        if line is None:
            return None
        self.number += 1
        return line.rstrip("\r\n")

    def until(self, end: str, what: str) -> Iterator[str]:
        """Yield lines up to ``end``, which is taken and must be there."""
        begun = self.number
        while (line := self.next()) is not None:
            if line == end:
                return
            if line in (_BEGIN_CHUNK, _END_CHUNK) and end != _END_CHUNK:
                rule = f"must end with the line {end}, before line {self.number}"
                raise InputError(f"line {begun}: {what}", rule, line, file=self.file)
            yield line
        rule = f"must end with the line {end}: the stream ends before"
        raise InputError(f"line {begun}: {what}", rule, file=self.file, hint="was it cut short?")

    def refuse(self, name: str, rule: str, value: object) -> NoReturn:
        raise InputError(f"line {self.number}: {name}", rule, value, file=self.file)


def read_stream_header(path: str | os.PathLike[str]) -> StreamHeader:
    """Read what a stream says before its first chunk.

    Raises
    ------
    InputError
        If the file cannot be read or is no stream of CrystFEL 2.3.
    """
    texts = dict.fromkeys(_BLOCKS, "")
    others = []
    with _opened(path) as lines:
        while (line := lines.next()) is not None and line != _BEGIN_CHUNK:
            if line in _BLOCKS:
                texts[line] = "\n".join(lines.until(_BLOCKS[line], "the block")) + "\n"
            elif line.strip():
                others.append(line)
    geometry, cell = texts.values()
    return StreamHeader(geometry=geometry, cell=cell, lines=tuple(others))


def read_chunks(path: str | os.PathLike[str]) -> Iterator[StreamChunk]:
    """Read the chunks of a stream one by one; tables of peaks and reflections are passed over.

    Streams that were joined one behind the other are read as one.

    Raises
    ------
    InputError
        If the file cannot be read or is no stream of CrystFEL 2.3; with the number of the line for a chunk or crystal
        that does not end, lacks what it needs or holds a number that is none.
    """
    with _opened(path) as lines:
        while (line := lines.next()) is not None:
            if line in _BLOCKS:
                for _ in lines.until(_BLOCKS[line], "the block"):
                    pass
            elif line == _BEGIN_CHUNK:
                yield _chunk(lines)


class _opened:
    """A stream that is read line by line, whatever its length."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = path

    def __enter__(self) -> _Lines:
        file = os.fspath(self.path)
        try:
            self.handle = open(self.path, encoding="utf-8", errors="replace", newline="\n")
        except OSError as error:
            raise file_error(self.path, error, "read") from error
        lines = _Lines(file, iter(self.handle))
        try:
            first = lines.next()
        except OSError as error:
            self.handle.close()
            raise file_error(self.path, error, "read") from error
        if first is None or not first.startswith(_STREAM_FIRST):
            self.handle.close()
            raise InputError("a stream", f"must begin with {_STREAM_FIRST}", (first or "")[:80], file=file)
        return lines

    def __exit__(self, *_: object) -> None:
        self.handle.close()


def _chunk(lines: _Lines) -> StreamChunk:
    begun, crystals = lines.number, []
    found: dict[str, Any] = {}
    headers: dict[str, float | int | str] = {}
    for line in lines.until(_END_CHUNK, "a chunk"):
        if line in _TABLES:
            for _ in lines.until(_TABLES[line], "a table"):
                pass
        elif line == _BEGIN_CRYSTAL:
            crystals.append(_crystal(lines))
        elif line == _BEGIN_CHUNK:
            lines.refuse("a chunk", "must not begin before the one above ends", line)
        elif line.startswith("Image filename: "):
            found["filename"] = line[16:]
        elif line.startswith("Event: "):
            found["event"] = line[7:]
        elif line.startswith("Image serial number: "):
            if not _INTEGER.fullmatch(line[21:].strip()):
                lines.refuse("Image serial number", "must be a whole number", line[21:])
            found["serial"] = int(line[21:])
        elif line.startswith("indexed_by = "):
            found["indexed_by"] = line[13:].strip()
        elif header := _HEADER.fullmatch(line):
            headers[header[2]] = _header_value(header[1], header[3])
        else:
            for name, pattern in _CHUNK_NUMBERS.items():
                if match := pattern.fullmatch(line):
                    above = 0.0 if name == "photon_energy_eV" else -math.inf
                    found[name] = _number(lines.file, lines.number, line.partition(" ")[0], match[1], above=above)
    if "photon_energy_eV" not in found and crystals:
        raise InputError(f"line {begun}: the chunk", "must give photon_energy_eV", file=lines.file)
    return StreamChunk(line=begun, headers=headers, crystals=tuple(crystals), **found)


def _header_value(kind: str | None, text: str) -> float | int | str:
    """A value of the data file; what is no number stays text."""
    if kind == "str":
        return text
    if kind == "int" and re.fullmatch(r"[+-]?\d{1,19}", text.strip(), re.ASCII):
        return int(text)
    return float(text) if _NUMBER.fullmatch(text.strip()) else text


def _crystal(lines: _Lines) -> StreamCrystal:
    begun = lines.number
    axes: dict[str, Vector] = {}
    found: dict[str, Any] = {}
    for line in lines.until(_END_CRYSTAL, "a crystal"):
        if line in _TABLES:
            for _ in lines.until(_TABLES[line], "a table"):
                pass
        elif match := _AXIS.fullmatch(line):
            numbers = [_number(lines.file, lines.number, f"{match[1]}star", match[place]) for place in (2, 3, 4)]
            axes[match[1]] = (numbers[0] / 10.0, numbers[1] / 10.0, numbers[2] / 10.0)
        elif line.startswith(("astar", "bstar", "cstar")):
            lines.refuse(line[:5], "must be = x y z nm^-1", line)
        elif match := _SHIFT.fullmatch(line):
            x, y = (_number(lines.file, lines.number, "predict_refine/det_shift", match[place]) for place in (1, 2))
            found["det_shift_mm"] = (x, y)
        elif match := _WEIGHT.fullmatch(line):
            found["weight"] = _number(lines.file, lines.number, "bragg_numba/weight", match[1])
        elif match := _RADIUS.fullmatch(line):
            found["profile_radius_per_A"] = _number(lines.file, lines.number, "profile_radius", match[1]) / 10.0
        elif line.startswith("lattice_type = "):
            found["lattice_type"] = line[15:].strip()
        elif line.startswith("centering = ") and line[12:].strip():
            found["centering"] = line[12:].strip()
        elif line.startswith("unique_axis = "):
            axis = line[14:].strip()
            found["unique_axis"] = axis if axis in ("a", "b", "c") else None
    missing = [f"{axis}star" for axis in "abc" if axis not in axes]
    if missing:
        raise InputError(f"line {begun}: the crystal", f"must give {missing[0]}", file=lines.file)
    reciprocal = (axes["a"], axes["b"], axes["c"])
    lengths = math.prod(math.hypot(*axis) for axis in reciprocal)
    if not abs(np.linalg.det(np.array(reciprocal))) > 1e-9 * lengths:
        rule = "must have astar, bstar and cstar that do not lie in a plane"
        raise InputError(f"line {begun}: the crystal", rule, reciprocal, file=lines.file)
    return StreamCrystal(reciprocal=reciprocal, line=begun, **found)
