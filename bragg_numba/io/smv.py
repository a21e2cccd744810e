"""SMV images: 16-bit pixels behind a text header, as nanoBragg writes and reads them."""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass, field

import numpy as np

from bragg_numba.errors import InputError
from bragg_numba.io.atomic import file_error

__all__ = ["SmvHeader", "SmvImage", "read_smv", "smv_bytes"]

HEADER_BYTES = 512
_MAGIC = b"{\nHEADER_BYTES="
# The number at the start of a text, as C's atof reads it (without hexadecimal).
_NUMBER = re.compile(r"\s*([+-]?(?:(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|inf(?:inity)?|nan))", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class SmvHeader:
    """What the header of an image says, in the units of the file."""

    size1: int  #: pixels along fast
    size2: int  #: pixels along slow
    pixel_size_mm: float
    distance_mm: float
    wavelength_A: float
    beam_center_x_mm: float
    beam_center_y_mm: float
    adxv_center_x_mm: float
    adxv_center_y_mm: float
    mosflm_center_x_mm: float
    mosflm_center_y_mm: float
    denzo_x_beam_mm: float
    denzo_y_beam_mm: float
    dials_origin_mm: tuple[float, float, float]
    xds_orgx: float  #: pixels
    xds_orgy: float  #: pixels
    close_distance_mm: float
    phi_deg: float
    osc_start_deg: float
    osc_range_deg: float
    twotheta_deg: float

    def encode(self) -> bytes:
        """Return the header's bytes, filled with blanks to 512, equal to nanoBragg's byte for byte.

        Numbers so long that 512 bytes cannot hold them (nanoBragg then writes a broken file) get a header of
        1024 bytes that says so.
        """
        text = self._text(HEADER_BYTES)
        if len(text) <= HEADER_BYTES:
            return text.ljust(HEADER_BYTES)
        return self._text(2 * HEADER_BYTES).ljust(2 * HEADER_BYTES)

    def _text(self, header_bytes: int) -> bytes:
        entries = [
            ("HEADER_BYTES", f"{header_bytes}"),
            ("DIM", "2"),
            ("BYTE_ORDER", "little_endian"),
            ("TYPE", "unsigned_short"),
            ("SIZE1", f"{self.size1:d}"),
            ("SIZE2", f"{self.size2:d}"),
            ("PIXEL_SIZE", f"{self.pixel_size_mm:g}"),
            ("DISTANCE", f"{self.distance_mm:g}"),
            ("WAVELENGTH", f"{self.wavelength_A:g}"),
            ("BEAM_CENTER_X", f"{self.beam_center_x_mm:g}"),
            ("BEAM_CENTER_Y", f"{self.beam_center_y_mm:g}"),
            ("ADXV_CENTER_X", f"{self.adxv_center_x_mm:g}"),
            ("ADXV_CENTER_Y", f"{self.adxv_center_y_mm:g}"),
            ("MOSFLM_CENTER_X", f"{self.mosflm_center_x_mm:g}"),
            ("MOSFLM_CENTER_Y", f"{self.mosflm_center_y_mm:g}"),
            ("DENZO_X_BEAM", f"{self.denzo_x_beam_mm:g}"),
            ("DENZO_Y_BEAM", f"{self.denzo_y_beam_mm:g}"),
            ("DIALS_ORIGIN", ",".join(f"{value:g}" for value in self.dials_origin_mm)),
            ("XDS_ORGX", f"{self.xds_orgx:g}"),
            ("XDS_ORGY", f"{self.xds_orgy:g}"),
            ("CLOSE_DISTANCE", f"{self.close_distance_mm:g}"),
            ("PHI", f"{self.phi_deg:g}"),
            ("OSC_START", f"{self.osc_start_deg:g}"),
            ("OSC_RANGE", f"{self.osc_range_deg:g}"),
            ("TWOTHETA", f"{self.twotheta_deg:g}"),
            ("DETECTOR_SN", "000"),
            ("BEAMLINE", "fake"),
        ]
        # nanoBragg forgets the semicolon of DIALS_ORIGIN; readers of its images have learned to live with it.
        lines = [f"{key}={value}{'' if key == 'DIALS_ORIGIN' else ';'}\n" for key, value in entries]
        return ("{\n" + "".join(lines) + "}\f").encode("ascii")


@dataclass(frozen=True, slots=True, eq=False)
class SmvImage:
    """A file that was read: its header, entry by entry, and its pixels.

    ``header_values`` holds numbers where an entry is nothing but a number, else text; ``pixels`` is
    (slow, fast) uint16 in this machine's byte order.
    """

    header_values: dict[str, float | str]
    pixels: np.ndarray
    header_text: str = field(repr=False, default="")

    def value_of(self, keyword: str) -> float | None:
        """Return the number that nanoBragg would take for ``keyword``, or None where it would find none.

        It takes the last place where the letters occur, also inside a longer word: "DISTANCE" ends on
        CLOSE_DISTANCE if that follows, "ORGX" finds XDS_ORGX. Text counts as 0.
        """
        value = _value_of(self.header_text, keyword)
        return None if value is None or math.isnan(value) else value


def smv_bytes(header: SmvHeader, image: np.ndarray) -> bytes:
    """Return a whole SMV file.

    Parameters
    ----------
    header
        Its ``size1`` and ``size2`` must fit the image.
    image
        (slow, fast) uint16.
    """
    if image.dtype != np.uint16 or image.shape != (header.size2, header.size1):
        shown = f"{image.dtype} {image.shape}"
        raise InputError("image", f"must be uint16 of shape {(header.size2, header.size1)}", shown)
    return header.encode() + image.astype("<u2", copy=False).tobytes()


def read_smv(path: str | os.PathLike[str]) -> SmvImage:
    """Read an SMV image of unsigned 16-bit pixels in either byte order.

    Raises
    ------
    InputError
        If the file is missing, is no SMV image, is cut short or states impossible sizes; nothing larger than
        the file itself is allocated.
    """
    name = os.fspath(path)
    try:
        with open(path, "rb") as file:
            file_bytes = os.fstat(file.fileno()).st_size
            text = _header_text(name, file.read(HEADER_BYTES), file_bytes)
            header_bytes = _header_bytes(name, text, file_bytes)
            if header_bytes != HEADER_BYTES:
                file.seek(0)
                text = _c_string(file.read(header_bytes))
            n_slow, n_fast = _sizes(name, text, file_bytes - header_bytes)
            file.seek(header_bytes)
            data = file.read(2 * n_slow * n_fast)
    except OSError as error:
        raise file_error(path, error, "read") from error
    if len(data) != 2 * n_slow * n_fast:
        raise InputError(name, "changed while it was read: pixels are missing")
    order = ">u2" if text.rpartition("BYTE_ORDER=")[2].startswith("big_endian") else "<u2"
    pixels = np.frombuffer(data, dtype=order).reshape(n_slow, n_fast).astype(np.uint16)
    return SmvImage(_entries(text), pixels, text)


def _header_text(name: str, start: bytes, file_bytes: int) -> str:
    """Return the first 512 bytes as text, if they begin an SMV header."""
    if not start.startswith(_MAGIC):
        raise InputError(name, "is not an SMV image: it must begin with '{', a line end and HEADER_BYTES=")
    if file_bytes < HEADER_BYTES:
        raise InputError(name, f"is cut short: an SMV header has at least {HEADER_BYTES} bytes", file_bytes)
    return _c_string(start)


def _header_bytes(name: str, text: str, file_bytes: int) -> int:
    """Return how long the header says it is."""
    size = _value_of(text, "HEADER_BYTES")
    if size is None or not _is_whole(size) or not len(_MAGIC) < size <= file_bytes:
        raise InputError(name, "states a HEADER_BYTES that does not fit the file", size)
    return int(size)


def _sizes(name: str, text: str, data_bytes: int) -> tuple[int, int]:
    """Return (n_slow, n_fast), which must be stated, possible and no more than the file holds."""
    if "TYPE=" in text and "unsigned_short" not in text:
        raise InputError(name, "must hold unsigned_short pixels", text.rpartition("TYPE=")[2].partition(";")[0])
    n_fast, n_slow = _value_of(text, "SIZE1"), _value_of(text, "SIZE2")
    if not n_fast:
        n_fast = n_slow = _value_of(text, "DETECTOR_DIMENSIONS")
    if n_fast is None or n_slow is None:
        raise InputError(name, "must state its size as SIZE1 and SIZE2 or DETECTOR_DIMENSIONS")
    if not (_is_whole(n_fast) and _is_whole(n_slow) and n_fast >= 1 and n_slow >= 1):
        raise InputError(name, "states an impossible size", (n_fast, n_slow))
    n_fast, n_slow = int(n_fast), int(n_slow)
    if 2 * n_fast * n_slow > data_bytes:
        rule = f"is cut short: {n_fast} x {n_slow} pixels need {2 * n_fast * n_slow} bytes"
        raise InputError(name, rule, data_bytes)
    return n_slow, n_fast


def _c_string(data: bytes) -> str:
    """Return the text before the first zero byte, where a C string ends."""
    return data.partition(b"\0")[0].decode("latin-1")


def _value_of(text: str, keyword: str) -> float | None:
    """Return the number after the "=" that follows the last occurrence of ``keyword``."""
    _, found, rest = text.rpartition(keyword)
    if not found:
        return None
    number = _NUMBER.match(rest.partition("=")[2])
    return float(number[1]) if number else 0.0


def _entries(text: str) -> dict[str, float | str]:
    """Return the header's ``KEY=value`` lines; the last of equal keys counts."""
    values: dict[str, float | str] = {}
    for line in text.splitlines():
        key, equals, value = line.partition("=")
        if equals:
            value = value.strip().removesuffix(";").strip()
            number = _NUMBER.fullmatch(value)
            values[key.strip()] = float(number[1]) if number else value
    return values


def _is_whole(value: float) -> bool:
    return math.isfinite(value) and value == int(value)
