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

    assert header_of(read_smv(small).header_values | sizes).encode() == written


@pytest.mark.parametrize("case", WHOLE)
@pytest.mark.parametrize("item", ["smv_int", "smv_noise"])
def test_whole_file_of_nanobragg_survives_reading_and_writing(case, item, tmp_path):
    written = golden_bytes(case, item)
    (tmp_path / "image.img").write_bytes(written)
    image = read_smv(tmp_path / "image.img")

    assert smv_bytes(header_of(image.header_values), image.pixels) == written


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
    assert image.header_values["HEADER_BYTES"] == 1024
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
    ("keyword", "value"),
    [
        ("DISTANCE", 99.0),  # the last occurrence is inside CLOSE_DISTANCE
        ("ORGX", 12.5),  # inside XDS_ORGX
        ("CLOSE_DISTANCE", 99.0),
        ("WAVELENGTH", 0.0),  # text counts as 0
        ("PHI", -0.25),  # what follows the number does not matter
        ("TWOTHETA", None),
        ("OSC_RANGE", None),  # "nan" is as good as none
    ],
)
def test_value_of_finds_what_nanobragg_would_find(tmp_path, keyword, value):
    text = (
        "{\nHEADER_BYTES=512;\nSIZE1=1;\nSIZE2=1;\nDISTANCE=100;\nXDS_ORGX=12.5;\nCLOSE_DISTANCE=99;\n"
        "WAVELENGTH=long;\nPHI= -2.5e-1degrees;\nOSC_RANGE=nan;\n}\f"
    )
    image = read_smv(write(tmp_path / "image.img", text, b"\0\0"))

    assert image.value_of(keyword) == value


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
        ("{\nHEADER_BYTES=512;\nSIZE1=1e300;\nSIZE2=inf;\n}\f", bytes(12), "impossible size"),
        ("{\nHEADER_BYTES=4096;\nSIZE1=1;\nSIZE2=1;\n}\f", bytes(12), "HEADER_BYTES"),
        ("{\nHEADER_BYTES=-512;\nSIZE1=1;\nSIZE2=1;\n}\f", bytes(12), "HEADER_BYTES"),
        ("{\nHEADER_BYTES=512;\nTYPE=long_integer;\nSIZE1=1;\nSIZE2=1;\n}\f", bytes(4), "unsigned_short"),
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
