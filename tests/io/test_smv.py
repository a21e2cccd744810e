"""SMV images against nanoBragg's own files and against fabio."""

from __future__ import annotations

import re
from pathlib import Path

import fabio
import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bragg_numba.errors import InputError
from bragg_numba.io.smv import SmvHeader, read_smv, smv_bytes
from bragg_numba.io.smv_entries import read_smv_header

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "golden.h5"
with h5py.File(GOLDEN) as _file:
    CASES = sorted(name for name in _file if "smv_header" in _file[name])
    WHOLE = sorted(name for name in _file if "smv_int" in _file[name])

FIELDS = {
    "PIXEL_SIZE": "pixel_size_mm",
    "DISTANCE": "distance_mm",
    "WAVELENGTH": "wavelength_A",
    "BEAM_CENTER_X": "beam_center_x_mm",
    "BEAM_CENTER_Y": "beam_center_y_mm",
    "ADXV_CENTER_X": "adxv_center_x_mm",
    "ADXV_CENTER_Y": "adxv_center_y_mm",
    "MOSFLM_CENTER_X": "mosflm_center_x_mm",
    "MOSFLM_CENTER_Y": "mosflm_center_y_mm",
    "DENZO_X_BEAM": "denzo_x_beam_mm",
    "DENZO_Y_BEAM": "denzo_y_beam_mm",
    "XDS_ORGX": "xds_orgx",
    "XDS_ORGY": "xds_orgy",
    "CLOSE_DISTANCE": "close_distance_mm",
    "PHI": "phi_deg",
    "OSC_START": "osc_start_deg",
    "OSC_RANGE": "osc_range_deg",
    "TWOTHETA": "twotheta_deg",
}


def golden_bytes(case: str, item: str) -> bytes:
    with h5py.File(GOLDEN) as file:
        return bytes(file[case][item][()])


def header_of(entries: dict[str, float | str]) -> SmvHeader:
    """Return the header that a file's entries came from, to the six digits that they show."""
    return SmvHeader(
        size1=int(entries["SIZE1"]),
        size2=int(entries["SIZE2"]),
        dials_origin_mm=tuple(float(value) for value in entries["DIALS_ORIGIN"].split(",")),
        **{name: entries[keyword] for keyword, name in FIELDS.items()},
    )


def a_header(**changes) -> SmvHeader:
    values = dict.fromkeys(FIELDS.values(), 1.5) | {
        "size1": 4,
        "size2": 3,
        "dials_origin_mm": (1.0, -2.0, 3.25),
    }
    return SmvHeader(**(values | changes))


def an_image(shape: tuple[int, int] = (3, 4)) -> np.ndarray:
    return np.arange(shape[0] * shape[1], dtype=np.uint16).reshape(shape) * 257


def write(path: Path, text: str, pixels: bytes) -> Path:
    path.write_bytes(text.encode("latin-1").ljust(512) + pixels)
    return path


@pytest.mark.parametrize("case", CASES)
def test_header_has_the_bytes_that_nanobragg_wrote(case, tmp_path):
    written = golden_bytes(case, "smv_header")
    # One pixel and the same header otherwise: a whole file without the pixels of the large cases.
    sizes = dict(re.findall(r"(SIZE\d)=(\d+)", written.decode()))
    small = write(tmp_path / "small.img", re.sub(r"(SIZE\d)=\d+", r"\1=1", written.decode()), b"\0\0")

    assert header_of(read_smv_header(small).values | sizes).encode() == written


@pytest.mark.parametrize("case", WHOLE)
@pytest.mark.parametrize("item", ["smv_int", "smv_noise"])
def test_whole_file_of_nanobragg_survives_reading_and_writing(case, item, tmp_path):
    written = golden_bytes(case, item)
    (tmp_path / "image.img").write_bytes(written)
    image = read_smv(tmp_path / "image.img")

    assert smv_bytes(header_of(image.header.values), image.pixels) == written


def test_fabio_reads_our_image(tmp_path):
    path = tmp_path / "image.img"
    path.write_bytes(smv_bytes(a_header(wavelength_A=1.25), an_image()))
    image = fabio.open(str(path))

    assert np.array_equal(image.data, an_image())
    assert float(image.header["WAVELENGTH"]) == 1.25


def test_numbers_too_long_for_512_bytes_make_a_longer_header_that_can_be_read(tmp_path):
    long = dict.fromkeys(FIELDS.values(), -1.23456e-100)
    path = tmp_path / "image.img"
    path.write_bytes(smv_bytes(a_header(**long), an_image()))
    image = read_smv(path)

    assert path.stat().st_size == 1024 + 2 * 12
    assert image.header.values["HEADER_BYTES"] == 1024
    assert np.array_equal(image.pixels, an_image())
    assert np.array_equal(fabio.open(str(path)).data, an_image())


@pytest.mark.parametrize(("order", "dtype"), [("little_endian", "<u2"), ("big_endian", ">u2")])
def test_both_byte_orders_give_the_same_pixels(tmp_path, order, dtype):
    text = f"{{\nHEADER_BYTES=  512;\nBYTE_ORDER={order};\nTYPE=unsigned_short;\nSIZE1=4;\nSIZE2=3;\n}}\f"
    path = write(tmp_path / "image.img", text, an_image().astype(dtype).tobytes())
    image = read_smv(path)

    assert image.pixels.dtype == np.uint16
    assert np.array_equal(image.pixels, an_image())


def test_detector_dimensions_stand_in_for_missing_sizes(tmp_path):
    path = write(tmp_path / "image.img", "{\nHEADER_BYTES=512;\nDETECTOR_DIMENSIONS=3 3;\n}\f", bytes(18))

    assert read_smv(path).pixels.shape == (3, 3)


def test_bytes_after_the_pixels_are_left(tmp_path):
    path = write(tmp_path / "image.img", "{\nHEADER_BYTES=512;\nSIZE1=2;\nSIZE2=1;\n}\f", bytes([1, 0, 2, 0, 9, 9]))

    assert read_smv(path).pixels.tolist() == [[1, 2]]


@pytest.mark.parametrize(
    ("line", "keyword", "value"),
    [
        ("DISTANCE=100;\nCLOSE_DISTANCE=99;", "DISTANCE", 100.0),  # C takes the 99 of the longer word
        ("CLOSE_DISTANCE=99;", "DISTANCE", None),
        ("DISTANCE=100;\nDISTANCE=120;", "DISTANCE", 120.0),  # the last of equal keys, as C
        ("DISTANCE=100;\nCOMMENT=old DISTANCE=999;", "DISTANCE", 100.0),
        ("COMMENT=DISTANCE=999;", "DISTANCE", None),
        ("DISTANCE=100;\nCOMMENT=old; DISTANCE=999;", "DISTANCE", 100.0),
        ("COMMENT=old; DISTANCE=999;\nDISTANCE=100;", "DISTANCE", 100.0),
        ("PIXEL_SIZE=0.1; DISTANCE=100;", "DISTANCE", 100.0),  # two entries on a line are two entries
        ("DISTANCE = 100 ;\r\nPHI=3;\r", "DISTANCE", 100.0),
        ("DISTANCE=100 mm;", "DISTANCE", 100.0),
        ("}\fDISTANCE=100;", "DISTANCE", None),  # what follows the header is none of it
        ("XDS_ORGX=12.5;", "ORGX", 12.5),
        ("XDS_ORGX=12.5;\nORGX=3;", "ORGX", 3.0),
        ("OSC_START=4;", "PHI", 4.0),
        ("OSC_START=4;\nPHI= -2.5e-1degrees;", "PHI", -0.25),
        ("SOURCE_WAVELENGTH=1 1.5418;", "WAVELENGTH", 1.5418),  # d*TREK: the count comes first
        ("SOURCE_WAVELENGTH= 1  1.5418 ;\nSCAN_WAVELENGTH=1.2;", "WAVELENGTH", 1.2),
        ("WAVELENGTH=1 0.9;", "WAVELENGTH", 0.9),
        ("WAVELENGTH=;\nSOURCE_WAVELENGTH=1 1.5418;", "WAVELENGTH", 1.5418),
        ("WAVELENGTH=long;", "WAVELENGTH", None),  # C takes 0
        ("OSC_RANGE=nan;", "OSC_RANGE", None),
        ("DISTANCE=inf;", "DISTANCE", None),
        ("PIXEL_SIZE=0.1 0.1;", "PIXEL_SIZE", 0.1),
        ("PIXEL_SIZE=0.1,0.1;", "PIXEL_SIZE", 0.1),
        ("PIXEL_SIZE=2 0.1 0.1;", "PIXEL_SIZE", 0.1),
    ],
)
def test_a_key_counts_where_an_assignment_begins(tmp_path, line, keyword, value):
    text = f"{{\nHEADER_BYTES=512;\nSIZE1=1;\nSIZE2=1;\n{line}\n}}\f"

    assert read_smv_header(write(tmp_path / "image.img", text, b"")).number(keyword) == value


@pytest.mark.parametrize("line", ["PIXEL_SIZE=0.1 0.2", "SOURCE_WAVELENGTH=2 1.5406 1.3922", "DISTANCE=100 200"])
def test_several_numbers_where_one_is_wanted_are_refused(tmp_path, line):
    path = write(tmp_path / "image.img", f"{{\nHEADER_BYTES=512;\nSIZE1=1;\nSIZE2=1;\n{line};\n}}\f", b"")
    key = {"SOURCE_WAVELENGTH": "WAVELENGTH"}.get(line.partition("=")[0], line.partition("=")[0])

    with pytest.raises(InputError, match="must be one number") as caught:
        read_smv_header(path).number(key)
    assert str(path) in caught.value.name


DTREK = """{
HEADER_BYTES= 1024;
COMMENT=DISTANCE=999 SIZE1=77;
BYTE_ORDER=little_endian;
Data_type=long int;
COMPRESSION=None;
DETECTOR_NUMBER=1;
DETECTOR_NAMES=CCD_;
CCD_GONIO_NUM_VALUES=3;
CCD_GONIO_NAMES=RotZ RotX/Swing TransZ/Dist;
CCD_GONIO_UNITS=deg deg mm;
CCD_GONIO_VALUES=0 -20 -45.5;
CCD_SPATIAL_DISTORTION_INFO=1024.5 1020.5 0.0732 0.0732;
ROTATION=10.0 10.5 0.5 30.0 0 0 0 0 0 0;
SOURCE_WAVELENGTH=1 1.5418;
SIZE1=4;
SIZE2=3;
}
"""


def test_a_header_of_dtrek_is_read_by_its_own_keys(tmp_path):
    path = tmp_path / "saturn.img"
    path.write_bytes(DTREK.encode().ljust(1024) + np.arange(12, dtype="<i4").tobytes())
    image = read_smv(path)

    expected = {"WAVELENGTH": 1.5418, "PIXEL_SIZE": 0.0732, "DISTANCE": 45.5, "PHI": 10.0, "OSC_RANGE": 0.5}
    assert {key: image.header.number(key) for key in expected} == expected
    assert image.header.number("BEAM_CENTER_X") is None
    assert image.header.unused == ("RotX/Swing=-20",)
    assert image.pixels.dtype == np.int32
    assert image.pixels.tolist() == np.arange(12).reshape(3, 4).tolist()


@pytest.mark.parametrize(
    ("stated", "dtype"),
    [
        ("TYPE=unsigned_short", "u2"),
        ("TYPE=signed_short", "i2"),
        ("TYPE=unsigned_long", "u4"),
        ("TYPE=float", "f4"),
        ("TYPE=uint16", "u2"),
        ("TYPE=float64", "f8"),
        ("Data_type=unsigned short int", "u2"),
        ("Data_type=short int", "i2"),
        ("Data_type=long int", "i4"),
        ("Data_type=unsigned long int", "u4"),
        ("Data_type=signed char", "i1"),
        ("Data_type=unsigned char", "u1"),
        ("Data_type=float IEEE", "f4"),
        ("Data_type=double", "f8"),
    ],
)
@pytest.mark.parametrize(("order", "mark"), [("little_endian", "<"), ("big_endian", ">")])
def test_pixels_are_read_in_the_type_that_the_header_states(tmp_path, stated, dtype, order, mark):
    text = f"{{\nHEADER_BYTES=512;\nBYTE_ORDER={order};\n{stated};\nSIZE1=3;\nSIZE2=2;\n}}\f"
    pixels = np.array([[0, 1, 2], [100, 0, 7]], dtype=mark + dtype)
    image = read_smv(write(tmp_path / "image.img", text, pixels.tobytes()))

    assert image.notes == ()
    assert image.pixels.dtype == np.dtype(dtype)
    assert np.array_equal(image.pixels, pixels)


def test_what_the_header_leaves_open_of_its_pixels_is_said(tmp_path):
    image = read_smv(write(tmp_path / "image.img", "{\nHEADER_BYTES=512;\nSIZE1=2;\nSIZE2=1;\n}\f", bytes(4)))

    assert [note.split()[2:4] for note in image.notes] == [["no", "TYPE:"], ["no", "BYTE_ORDER:"]]


@pytest.mark.parametrize(
    ("lines", "pixels", "reason"),
    [
        ("TYPE=complex", 64, "type that is known"),
        ("Data_type=Compressed", 64, "type that is known"),
        ("TYPE=unsigned_short;\nCOMPRESSION=RLE", 64, "not compressed"),
        ("TYPE=unsigned_short;\nBYTE_ORDER=middle_endian", 64, "BYTE_ORDER"),
        ("TYPE=long int", 15, "cut short"),
        ("DIM=2", 16, "must state the TYPE"),  # four bytes a pixel are no unsigned_short
    ],
)
def test_pixels_that_cannot_be_read_are_refused_with_a_reason(tmp_path, lines, pixels, reason):
    text = f"{{\nHEADER_BYTES=512;\n{lines};\nSIZE1=2;\nSIZE2=2;\n}}\f"
    path = write(tmp_path / "image.img", text, bytes(pixels))
    with pytest.raises(InputError, match=reason):
        read_smv(path)
    assert read_smv_header(path).shape == (2, 2)


@pytest.mark.parametrize("length", [60, 200, 512, 600])
def test_a_header_alone_can_be_read(tmp_path, length):
    text = "{\nHEADER_BYTES=512;\nSIZE1=20;\nSIZE2=30;\nDISTANCE=80;\n}\f"
    (tmp_path / "alone.img").write_bytes(text.encode().ljust(length))

    header = read_smv_header(tmp_path / "alone.img")
    assert (header.shape, header.number("DISTANCE")) == ((30, 20), 80.0)


def test_detector_dimensions_state_fast_and_slow(tmp_path):
    text = "{\nHEADER_BYTES=512;\nDETECTOR_DIMENSIONS=4 3;\n}\f"  # C takes the first number for both

    assert read_smv_header(write(tmp_path / "image.img", text, b"")).shape == (3, 4)


@pytest.mark.parametrize(
    ("text", "pixels", "reason"),
    [
        ("", b"", "is not an SMV image"),
        ("P5\n10 10\n255\n", bytes(100), "is not an SMV image"),
        ("{\nHEADER_BYTES=512;\n}\f", bytes(8), "must state its size"),
        ("{\nHEADER_BYTES=512;\nSIZE1=2;\n}\f", bytes(8), "must state its size"),
        ("{\nHEADER_BYTES=512;\nSIZE1=2;\nSIZE2=3;\n}\f", bytes(11), "is cut short"),
        ("{\nHEADER_BYTES=512;\nSIZE1=-2;\nSIZE2=-3;\n}\f", bytes(12), "impossible size"),
        ("{\nHEADER_BYTES=512;\nSIZE1=2.5;\nSIZE2=2;\n}\f", bytes(12), "impossible size"),
        ("{\nHEADER_BYTES=512;\nSIZE1=1e9;\nSIZE2=1e9;\n}\f", bytes(12), "is cut short"),
        ("{\nHEADER_BYTES=512;\nSIZE1=1e300;\nSIZE2=1e300;\n}\f", bytes(12), "cut short"),
        ("{\nHEADER_BYTES=512;\nSIZE1=1;\nSIZE2=inf;\n}\f", bytes(12), "must state its size"),
        ("{\nHEADER_BYTES=4096;\nSIZE1=1;\nSIZE2=1;\n}\f", bytes(12), "cut short"),
        ("{\nHEADER_BYTES=1e9;\nSIZE1=1;\nSIZE2=1;\n}\f", bytes(12), "HEADER_BYTES"),
        ("{\nHEADER_BYTES=512;\nSIZE1=1 2 3;\nSIZE2=1;\n}\f", bytes(12), "impossible size"),
        ("{\nHEADER_BYTES=-512;\nSIZE1=1;\nSIZE2=1;\n}\f", bytes(12), "HEADER_BYTES"),
    ],
)
def test_broken_files_are_refused_with_a_reason(tmp_path, text, pixels, reason):
    path = write(tmp_path / "image.img", text, pixels)
    with pytest.raises(InputError, match=reason) as caught:
        read_smv(path)

    assert caught.value.name == str(path)


def test_header_cut_short_is_refused(tmp_path):
    (tmp_path / "image.img").write_bytes(b"{\nHEADER_BYTES=512;\nSIZE1=1;")
    with pytest.raises(InputError, match="is cut short"):
        read_smv(tmp_path / "image.img")


def test_missing_file_and_folder_are_refused(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        read_smv(tmp_path / "none.img")
    with pytest.raises(InputError, match="directory"):
        read_smv(tmp_path)


@pytest.mark.parametrize("image", [np.zeros((4, 3), np.uint16), np.zeros((3, 4), np.int32)])
def test_image_that_does_not_fit_its_header_is_refused(image):
    with pytest.raises(InputError, match="must be uint16 of shape"):
        smv_bytes(a_header(), image)


@settings(max_examples=150, deadline=None)
@given(body=st.binary(max_size=700), begins_well=st.booleans(), cut=st.integers(0, 1100))
def test_garbage_is_read_or_refused_and_nothing_else(tmp_path_factory, body, begins_well, cut):
    path = tmp_path_factory.getbasetemp() / "garbage.img"
    start = b"{\nHEADER_BYTES=" if begins_well else b""
    path.write_bytes((start + body).ljust(600, b" ")[:cut])
    try:
        image = read_smv(path)
    except InputError as error:
        assert str(path) in str(error)
    else:
        assert image.pixels.dtype == np.uint16
        assert 512 + image.pixels.nbytes <= path.stat().st_size


@settings(max_examples=150, deadline=None)
@given(place=st.integers(0, 511), byte=st.integers(0, 255), cut=st.integers(0, 600))
def test_damaged_image_is_read_or_refused_and_nothing_else(tmp_path_factory, place, byte, cut):
    path = tmp_path_factory.getbasetemp() / "damaged.img"
    data = bytearray(smv_bytes(a_header(), an_image()))
    data[place] = byte
    path.write_bytes(bytes(data)[:cut])
    try:
        image = read_smv(path)
    except InputError as error:
        assert str(path) in str(error)
    else:
        assert image.pixels.dtype == np.uint16
        assert 512 + image.pixels.nbytes <= path.stat().st_size
