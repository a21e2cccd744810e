"""The header of an SMV image that somebody wrote: entries, and the numbers that they state."""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass

from bragg_numba.errors import InputError
from bragg_numba.io.atomic import file_error

__all__ = ["HEADER_BYTES", "SmvEntries", "read_smv_header"]

#: Bytes of nanoBragg's and of most other headers.
HEADER_BYTES = 512
#: A header of more bytes than this is none.
MOST_HEADER_BYTES = 2**24

_MAGIC = re.compile(rb"\{\s*HEADER_BYTES\s*=")
_END = re.compile(r"^\s*\}", re.MULTILINE)
_KEY = re.compile(r"\w+", re.ASCII)
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)

#: What others, and nanoBragg itself, call what these keys say.
_SYNONYMS = {
    "WAVELENGTH": ("SCAN_WAVELENGTH", "SOURCE_WAVELENGTH"),
    "ORGX": ("XDS_ORGX",),
    "ORGY": ("XDS_ORGY",),
    "PHI": ("OSC_START",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SmvEntries:
    """The header of a file that was read, entry by entry.

    A key counts where an assignment begins, never inside a value; the last of equal keys counts.
    """

    name: str  #: of the file
    texts: dict[str, str]
    header_bytes: int
    shape: tuple[int, int]  #: (slow, fast) pixels

    @property
    def values(self) -> dict[str, float | str]:
        """The entries: a number where one is nothing but a number, else text."""
        found: dict[str, float | str] = {}
        for key, text in self.texts.items():
            number = _NUMBER.fullmatch(text)
            found[key] = float(number[0]) if number else text
        return found

    def number(self, key: str) -> float | None:
        """Return the number that ``key`` states, in the file's own unit; None where it states none.

        Where the key itself is missing, what another writer calls the same counts: nanoBragg's XDS_ORGX, ADSC's
        OSC_START, and of a d*TREK header the wavelength, pixel size, distance and rotation.

        Raises
        ------
        InputError
            If the entry states several numbers. A count before them, as d*TREK writes it, is none of them.
        """
        for synonym in (key, *_SYNONYMS.get(key, ())):
            numbers = _without_count(_numbers_of(self.texts.get(synonym, "")))
            if numbers:
                return self._only(synonym, numbers)
        return self._dtrek_number(key)

    @property
    def unused(self) -> tuple[str, ...]:
        """What a d*TREK header says of the detector's place that is not read: ``name=value`` each."""
        return tuple(
            f"{axis}={value:g}" for axis, _, value in self._dtrek_goniometer() if value and not _is_distance(axis)
        )

    def _only(self, key: str, numbers: list[float]) -> float | None:
        """The one number of an entry, which may be repeated."""
        if len(set(numbers)) > 1:
            raise InputError(f"{key} of {self.name}", "must be one number", self.texts.get(key, numbers))
        return numbers[0] if numbers else None

    def _dtrek_number(self, key: str) -> float | None:
        """What d*TREK writes in entries of several numbers, each with its own meaning."""
        if "DETECTOR_NAMES" not in self.texts:
            return None
        if key == "PIXEL_SIZE":
            detector = self._dtrek_detector()
            # Beam along fast and slow, pixels; pixel size along fast and slow, millimetres.
            info = f"{detector}SPATIAL_DISTORTION_INFO"
            return self._only(info, _numbers_of(self.texts.get(info, ""))[2:4])
        if key == "DISTANCE":
            found = [
                abs(value) for axis, unit, value in self._dtrek_goniometer() if _is_distance(axis) and unit == "mm"
            ]
            return self._only(f"{self._dtrek_detector()}GONIO_VALUES", found)
        rotation = _numbers_of(self.texts.get("ROTATION", ""))  # start, end, increment, exposure ...
        if key in ("PHI", "OSC_RANGE") and len(rotation) >= 3:
            return rotation[0] if key == "PHI" else rotation[2]
        return None

    def _dtrek_detector(self) -> str:
        """What the keys of the (first) detector begin with."""
        return (self.texts.get("DETECTOR_NAMES", "").split() or [""])[0]

    def _dtrek_goniometer(self) -> list[tuple[str, str, float]]:
        """Name, unit and value of each axis that carries the detector."""
        detector = self._dtrek_detector() + "GONIO_"
        axes, units = (self.texts.get(detector + word, "").split() for word in ("NAMES", "UNITS"))
        values = _numbers_of(self.texts.get(detector + "VALUES", ""))
        return list(zip(axes, units, values, strict=False))


def read_smv_header(path: str | os.PathLike[str]) -> SmvEntries:
    """Read the header of an SMV image; its pixels are not looked at and need not be there.

    Raises
    ------
    InputError
        If the file is missing, is no SMV image, or states an impossible size of its header or of the image.
    """
    name = os.fspath(path)
    try:
        with open(path, "rb") as file:
            start = file.read(HEADER_BYTES)
            text, header_bytes = _header_of(name, start)
            if header_bytes > HEADER_BYTES:
                rest = file.read(min(header_bytes, MOST_HEADER_BYTES) - HEADER_BYTES)
                text = _c_string(start + rest)
                _require_whole(name, text, len(start) + len(rest), header_bytes)
    except OSError as error:
        raise file_error(path, error, "read") from error
    texts = _entries(text)
    return SmvEntries(name=name, texts=texts, header_bytes=header_bytes, shape=_sizes(name, texts))


def _header_of(name: str, start: bytes) -> tuple[str, int]:
    """Return the first 512 bytes as text, if they begin an SMV header, and how long the header says it is."""
    if not _MAGIC.match(start):
        raise InputError(name, "is not an SMV image: it must begin with '{', a line end and HEADER_BYTES=")
    text = _c_string(start)
    stated = _entries(text).get("HEADER_BYTES", "")
    size = (_numbers_of(stated) or [math.nan])[0]
    if not (_is_whole(size) and len("{\nHEADER_BYTES=") < size <= MOST_HEADER_BYTES):
        raise InputError(name, f"must state its HEADER_BYTES, at most {MOST_HEADER_BYTES}", stated)
    header_bytes = int(size)
    if header_bytes < HEADER_BYTES:
        text = _c_string(start[:header_bytes])
    _require_whole(name, text, len(start), min(header_bytes, HEADER_BYTES))
    return text, header_bytes


def _require_whole(name: str, text: str, found: int, header_bytes: int) -> None:
    """Raise InputError if a header ends with the file before its closing brace: what it lacks is not known."""
    if found < header_bytes and not _END.search(text):
        raise InputError(name, f"is cut short: its header has {header_bytes} bytes", found)


def _sizes(name: str, texts: dict[str, str]) -> tuple[int, int]:
    """Return (n_slow, n_fast), which must be stated and possible."""
    stated = [_without_count(_numbers_of(texts.get(key, ""))) for key in ("SIZE1", "SIZE2")]
    if stated[0] in ([], [0.0]):
        both = _without_count(_numbers_of(texts.get("DETECTOR_DIMENSIONS", "")))
        stated = [both[:1], both[-1:]] if len(both) <= 2 else [both, both]
    if not all(stated):
        raise InputError(name, "must state its size as SIZE1 and SIZE2 or DETECTOR_DIMENSIONS")
    n_fast, n_slow = (numbers[0] for numbers in stated)
    alone = all(len(numbers) == 1 for numbers in stated)
    if not (alone and _is_whole(n_fast) and _is_whole(n_slow) and n_fast >= 1 and n_slow >= 1):
        raise InputError(name, "states an impossible size", (n_fast, n_slow))
    return int(n_slow), int(n_fast)


def _c_string(data: bytes) -> str:
    """Return the text before the first zero byte, where a C string ends."""
    return data.partition(b"\0")[0].decode("latin-1")


def _numbers_of(text: str) -> list[float]:
    """Return the finite numbers that a value begins with; "100 mm" is one, and so is "0.25degrees"."""
    found = []
    for word in re.split(r"[\s,]+", text.strip()):
        number = _NUMBER.match(word)
        if number is None or not math.isfinite(float(number[0])):
            break
        found.append(float(number[0]))
        if number[0] != word:
            break
    return found


def _without_count(numbers: list[float]) -> list[float]:
    """Leave out how many numbers follow, which d*TREK writes before them."""
    return numbers[1:] if len(numbers) > 1 and numbers[0] == len(numbers) - 1 else numbers


def _is_distance(axis: str) -> bool:
    """Say whether an axis of d*TREK's detector goniometer is the one along the beam: "TransZ/Dist"."""
    return "transz" in axis.lower() or "dist" in axis.lower()


def _entries(text: str) -> dict[str, str]:
    """Return the header's ``KEY=value`` entries; the last of equal keys counts.

    An entry that begins a line counts more than one that follows a ";" on the line of another, where it may be
    part of a comment.
    """
    end = _END.search(text)
    begun: dict[str, str] = {}
    following: dict[str, str] = {}
    for line in re.split(r"[\r\n\f]+", text[: end.start()] if end else text):
        for place, part in enumerate(line.strip(" \t{").split(";")):
            key, equals, value = part.partition("=")
            if equals and _KEY.fullmatch(key.strip()):
                (following if place else begun)[key.strip()] = value.strip()
    return following | begun


def _is_whole(value: float) -> bool:
    return math.isfinite(value) and value == int(value)
