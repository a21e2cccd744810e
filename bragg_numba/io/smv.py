"""SMV images: pixels behind a text header, as nanoBragg writes them and as it and others write what is read here."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

import numpy as np

from bragg_numba.errors import InputError
from bragg_numba.io.atomic import file_error
from bragg_numba.io.smv_entries import HEADER_BYTES, SmvEntries, read_smv_header

__all__ = ["NonbraggHeader", "SmvHeader", "SmvImage", "read_smv", "smv_bytes"]

#: Keys that tell the type of the pixels: ADSC's, d*TREK's.
_TYPE_KEYS = ("TYPE", "Data_type", "DATA_TYPE")
#: What the type is where the header does not say: numpy's kind and size.
_UNSIGNED_SHORT = "u2"


def _first_entries(header: SmvHeader | NonbraggHeader, header_bytes: int) -> list[tuple[str, str]]:
    """What both programs' headers begin with: the pixels, and where the beam is."""
    return [
        ("HEADER_BYTES", f"{header_bytes}"),
        ("DIM", "2"),
        ("BYTE_ORDER", "little_endian"),
        ("TYPE", "unsigned_short"),
        ("SIZE1", f"{header.size1:d}"),
        ("SIZE2", f"{header.size2:d}"),
        ("PIXEL_SIZE", f"{header.pixel_size_mm:g}"),
        ("DISTANCE", f"{header.distance_mm:g}"),
        ("WAVELENGTH", f"{header.wavelength_A:g}"),
        ("BEAM_CENTER_X", f"{header.beam_center_x_mm:g}"),
        ("BEAM_CENTER_Y", f"{header.beam_center_y_mm:g}"),
    ]


def _last_entries(header: SmvHeader | NonbraggHeader, osc_start_deg: float) -> list[tuple[str, str]]:
    """What both end with: the sweep."""
    return [
        ("CLOSE_DISTANCE", f"{header.close_distance_mm:g}"),
        ("PHI", f"{header.phi_deg:g}"),
        ("OSC_START", f"{osc_start_deg:g}"),
        ("OSC_RANGE", f"{header.osc_range_deg:g}"),
        ("TWOTHETA", f"{header.twotheta_deg:g}"),
        ("DETECTOR_SN", "000"),
        ("BEAMLINE", "fake"),
    ]


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
            *_first_entries(self, header_bytes),
            ("ADXV_CENTER_X", f"{self.adxv_center_x_mm:g}"),
            ("ADXV_CENTER_Y", f"{self.adxv_center_y_mm:g}"),
            ("MOSFLM_CENTER_X", f"{self.mosflm_center_x_mm:g}"),
            ("MOSFLM_CENTER_Y", f"{self.mosflm_center_y_mm:g}"),
            ("DENZO_X_BEAM", f"{self.denzo_x_beam_mm:g}"),
            ("DENZO_Y_BEAM", f"{self.denzo_y_beam_mm:g}"),
            ("DIALS_ORIGIN", ",".join(f"{value:g}" for value in self.dials_origin_mm)),
            ("XDS_ORGX", f"{self.xds_orgx:g}"),
            ("XDS_ORGY", f"{self.xds_orgy:g}"),
            *_last_entries(self, self.osc_start_deg),
        ]
        # nanoBragg forgets the semicolon of DIALS_ORIGIN; readers of its images have learned to live with it.
        lines = [f"{key}={value}{'' if key == 'DIALS_ORIGIN' else ';'}\n" for key, value in entries]
        return ("{\n" + "".join(lines) + "}\f").encode("ascii")


@dataclass(frozen=True, slots=True, kw_only=True)
class NonbraggHeader:
    """What the header of an image of nonBragg says, in the units of the file."""

    size1: int  #: pixels along fast
    size2: int  #: pixels along slow
    pixel_size_mm: float
    distance_mm: float
    wavelength_A: float
    beam_center_x_mm: float
    beam_center_y_mm: float
    orgx: float  #: pixels
    orgy: float  #: pixels
    close_distance_mm: float
    phi_deg: float
    osc_range_deg: float
    twotheta_deg: float

    def encode(self) -> bytes:
        """Return the header's bytes, filled with blanks to 512, equal to nonBragg's byte for byte."""
        entries = [
            *_first_entries(self, HEADER_BYTES),
            ("ORGX", f"{self.orgx:g}"),
            ("ORGY", f"{self.orgy:g}"),
            *_last_entries(self, self.phi_deg),
        ]
        text = "{\n" + "".join(f"{key}={value};\n" for key, value in entries) + "}\f"
        return text.encode("ascii").ljust(HEADER_BYTES)


@dataclass(frozen=True, slots=True, eq=False)
class SmvImage:
    """A file that was read: its header and its pixels.

    ``pixels`` is (slow, fast) in the file's own type of number and this machine's byte order. ``notes`` say which
    defaults were taken where the header does not say how its pixels are to be read.
    """

    header: SmvEntries
    pixels: np.ndarray
    notes: tuple[str, ...] = ()


def smv_bytes(header: SmvHeader | NonbraggHeader, image: np.ndarray) -> bytes:
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
    """Read an SMV image: integers of 8, 16, 32 or 64 bits or floats, in either byte order.

    Raises
    ------
    InputError
        If the file is missing, is no SMV image, is cut short, is compressed or states impossible sizes or a type
        or byte order that is not known; nothing larger than the file itself is allocated.
    """
    header = read_smv_header(path)
    dtype, notes = _pixel_type(header)
    n_slow, n_fast = header.shape
    try:
        with open(path, "rb") as file:
            data_bytes = os.fstat(file.fileno()).st_size - header.header_bytes
            _check_size(header, dtype.itemsize, data_bytes)
            file.seek(header.header_bytes)
            data = file.read(dtype.itemsize * n_slow * n_fast)
    except OSError as error:
        raise file_error(path, error, "read") from error
    if len(data) != dtype.itemsize * n_slow * n_fast:
        raise InputError(header.name, "changed while it was read: pixels are missing")
    pixels = np.frombuffer(data, dtype=dtype).reshape(n_slow, n_fast).astype(dtype.newbyteorder("="))
    return SmvImage(header, pixels, notes)


def _pixel_type(header: SmvEntries) -> tuple[np.dtype, tuple[str, ...]]:
    """Return the type of the pixels as they stand in the file, and which of its parts were defaults."""
    notes = []
    compression = header.texts.get("COMPRESSION", "")
    if compression.lower() not in ("", "none"):
        raise InputError(header.name, "must hold pixels that are not compressed", f"COMPRESSION={compression}")
    stated = next((header.texts[key] for key in _TYPE_KEYS if header.texts.get(key)), None)
    kind = _UNSIGNED_SHORT if stated is None else _kind(header.name, stated)
    if stated is None:
        notes.append(f"{header.name} states no TYPE: reading its pixels as unsigned_short")
    order = header.texts.get("BYTE_ORDER", "").lower()
    if order[:3] not in ("", "lit", "big"):
        raise InputError(header.name, "must state a BYTE_ORDER of little_endian or big_endian", order)
    if not order:
        notes.append(f"{header.name} states no BYTE_ORDER: reading its pixels as little_endian")
    return np.dtype((">" if order.startswith("big") else "<") + kind), tuple(notes)


def _kind(name: str, stated: str) -> str:
    """Return numpy's kind and size for what a header calls the type: unsigned_short, "long int", "float IEEE" ..."""
    words = re.split(r"[\s_]+", stated.strip().lower())
    sized = re.fullmatch(r"(u?int|float(?=32|64))(8|16|32|64)", words[0])
    if len(words) == 1 and sized:
        return {"int": "i", "uint": "u", "float": "f"}[sized[1]] + str(int(sized[2]) // 8)
    rest = [word for word in words if word not in ("int", "integer", "ieee", "signed", "unsigned")]
    size = {"": "4", "long": "4", "long long": "8", "short": "2", "char": "1", "byte": "1"}.get(" ".join(rest))
    if size is not None:
        return ("u" if "unsigned" in words or "byte" in words else "i") + size
    if rest in (["float"], ["double"], ["real"]) and not {"unsigned", "signed", "int"} & set(words):
        return "f8" if rest == ["double"] else "f4"
    known = "unsigned_short, short int, unsigned_long, long int, signed char, unsigned char, float, double"
    raise InputError(name, "must hold pixels of a type that is known", stated, hint=known)


def _check_size(header: SmvEntries, itemsize: int, data_bytes: int) -> None:
    """Raise InputError if a file's pixels are missing, or are not of the size that was taken for want of a TYPE."""
    n_slow, n_fast = header.shape
    needed = itemsize * n_slow * n_fast
    if needed > data_bytes:
        raise InputError(
            header.name, f"is cut short: {n_fast} x {n_slow} pixels need {needed} bytes", max(data_bytes, 0)
        )
    if not any(header.texts.get(key) for key in _TYPE_KEYS) and data_bytes in (2 * needed, 4 * needed):
        each = data_bytes // (n_slow * n_fast)
        raise InputError(header.name, f"must state the TYPE of its pixels, which have {each} bytes each")
