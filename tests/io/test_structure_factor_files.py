"""Lists and dumps of structure factors."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bragg_numba.errors import InputError
from bragg_numba.io.structure_factor_files import dump_bytes, read_dump, read_hkl, write_dump

INPUTS = Path(__file__).resolve().parents[1] / "golden" / "inputs"


def hkl_file(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "some.hkl"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_list_of_a_protein_is_read_in_its_order():
    indices, amplitudes = read_hkl(INPUTS / "2erl_P1.hkl")

    assert indices.dtype == np.int32 and amplitudes.dtype == np.float64
    assert indices[0].tolist() == [-35, -3, 4]
    assert amplitudes[:2].tolist() == [41.075, 14.576]
    assert len(indices) == len(amplitudes) == (INPUTS / "2erl_P1.hkl").read_bytes().count(b"\n")


@pytest.mark.parametrize(
    "text",
    [
        "0 0 0 50\n-1 2 3 7.5\n",
        "0 0 0 50\n-1 2 3 7.5",
        "0 0 0 50 1.5\n-1 2 3 7.5 0.2\n",
        "0 0 0 50 1.5 180\n-1 2 3 7.5 0.2 0\n",
        "0 0 0 50\n-1 2 3 7.5 0.2\n",
        "# h k l F\n\n0 0 0 50  # strong\n   \n\t-1  2\t3 7.5\r\n",
        "0.0 0 0 50\n-1.0 2.000 3e0 7.5\n",
    ],
    ids=["four columns", "no last line end", "five", "six", "mixed", "comments", "real indices"],
)
def test_columns_comments_and_real_indices_are_understood(tmp_path, text):
    indices, amplitudes = read_hkl(hkl_file(tmp_path, text))

    assert indices.tolist() == [[0, 0, 0], [-1, 2, 3]]
    assert amplitudes.tolist() == [50.0, 7.5]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("1.5 0 0 50", "whole h k l"),
        ("1 0 0", "h k l F"),
        ("h k l F", "numbers"),
        ("1 0 0 1.0.0", "numbers"),
        ("1 0 0 nan", "finite"),
        ("1 0 inf 5", "finite"),
        ("1 0 0 1e999", "finite"),
        ("99999999999 0 0 5", "whole h k l"),
        ("1,0,0,5", "numbers"),
    ],
)
def test_bad_line_is_named_by_its_number(tmp_path, line, reason):
    path = hkl_file(tmp_path, f"# comment\n0 0 0 50\n\n{line}\n1 1 1 5\n")
    with pytest.raises(InputError, match=f"line 4 .*{reason}") as caught:
        read_hkl(path)

    assert caught.value.name == str(path)


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment\n"])
def test_empty_list_is_refused(tmp_path, text):
    with pytest.raises(InputError, match="at least one line"):
        read_hkl(hkl_file(tmp_path, text))


def test_missing_list_and_folder_are_refused(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        read_hkl(tmp_path / "none.hkl")
    with pytest.raises(InputError, match="directory"):
        read_hkl(tmp_path)


def test_hundred_thousand_lines_take_less_than_a_second(tmp_path):
    numbers = np.random.default_rng(1).integers(-60, 60, (100_000, 4))
    path = tmp_path / "long.hkl"
    np.savetxt(path, numbers, fmt="%d %d %d %d.25")
    start = time.perf_counter()
    indices, amplitudes = read_hkl(path)

    assert time.perf_counter() - start < 1
    assert np.array_equal(indices, numbers[:, :3])
    assert np.array_equal(amplitudes, numbers[:, 3] + np.copysign(0.25, numbers[:, 3]))


@settings(max_examples=150, deadline=None)
@given(body=st.one_of(st.binary(max_size=80), st.text("0123456789 .-+e#\n\tnaif", max_size=80).map(str.encode)))
def test_garbage_list_is_read_or_refused_and_nothing_else(tmp_path_factory, body):
    path = tmp_path_factory.getbasetemp() / "garbage.hkl"
    path.write_bytes(body)
    try:
        indices, amplitudes = read_hkl(path)
    except InputError as error:
        assert str(path) in str(error)
    else:
        assert len(indices) == len(amplitudes) > 0
        assert np.isfinite(amplitudes).all()


def a_table() -> np.ndarray:
    return np.random.default_rng(4).gamma(1.0, 100, (3, 4, 2))


def test_dump_has_the_layout_that_nanobragg_writes():
    data = dump_bytes(np.array([-1, 0, 2]), a_table())
    header = b"-1 1 0 3 2 3\n\f"
    padded = np.zeros((4, 5, 3))
    padded[:3, :4, :2] = a_table()

    assert data == header + padded.astype("<f8").tobytes()


def test_dump_survives_writing_and_reading(tmp_path):
    path = tmp_path / "Fdump.bin"
    write_dump(path, np.array([-1, 0, 2]), a_table())
    minima, maxima, table = read_dump(path)

    assert path.read_bytes() == dump_bytes(np.array([-1, 0, 2]), a_table())
    assert minima.tolist() == [-1, 0, 2] and maxima.tolist() == [1, 3, 3]
    assert np.array_equal(table, a_table())


@pytest.mark.parametrize("first_byte", [0x09, 0x0A, 0x0B, 0x0C, 0x0D, 0x20])
def test_first_number_may_begin_with_a_white_space_byte(tmp_path, first_byte):
    table = a_table()
    table[0, 0, 0] = np.frombuffer(bytes([first_byte, 0, 0, 0, 0, 0, 0x59, 0x40]), "<f8")[0]
    write_dump(tmp_path / "Fdump.bin", np.zeros(3, int), table)

    assert np.array_equal(read_dump(tmp_path / "Fdump.bin")[2], table)


@pytest.mark.parametrize("end", [b"", b"\n", b" ", b"\r\n\f", b"\f"], ids=repr)
@pytest.mark.parametrize("first_byte", [0x00, 0x20, 0x0B, 0x35, 0x2D], ids=hex)
def test_the_header_may_end_in_any_white_space_or_in_none(tmp_path, end, first_byte):
    """C reads such files too, but eats first bytes of the table that are white space or digits."""
    table = a_table()
    table[0, 0, 0] = np.frombuffer(bytes([first_byte, 0, 0, 0, 0, 0, 0x59, 0x40]), "<f8")[0]
    data = dump_bytes(np.array([-1, 0, 2]), table)
    header, _, numbers = data.partition(b"\n\f")
    (tmp_path / "Fdump.bin").write_bytes(header + end + numbers)
    minima, maxima, found = read_dump(tmp_path / "Fdump.bin")

    assert (minima.tolist(), maxima.tolist()) == ([-1, 0, 2], [1, 3, 3])
    assert np.array_equal(found, table)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "is not a dump"),
        (b"0 1 0 1 0 1\n", "bytes long"),
        (b"0 1 0 1 0 x\n\f" + bytes(216), "is not a dump"),
        (b"0 1 0 1 0 1\n\f" + bytes(215), "229 bytes long"),
        (b"0 1 0 1 0 1\n\f" + bytes(217), "229 bytes long"),
        (b"1 0 0 1 0 1\n\f" + bytes(216), "impossible index limits"),
        (b"0 2000000000 0 2000000000 0 2000000000\n\f" + bytes(216), "bytes long"),
        (b"0 9999999999 0 1 0 1\n\f" + bytes(216), "impossible index limits"),
        (b"-3 -3 5 5 6 6\n\f" + np.array([np.nan] + [0] * 7).tobytes(), "-3 5 6 is not"),
    ],
)
def test_broken_dump_is_refused_before_anything_large_is_allocated(tmp_path, data, reason):
    path = tmp_path / "Fdump.bin"
    path.write_bytes(data)
    with pytest.raises(InputError, match=reason) as caught:
        read_dump(path)

    assert caught.value.name == str(path)


def test_missing_dump_is_refused(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        read_dump(tmp_path / "Fdump.bin")


@settings(max_examples=100, deadline=None)
@given(place=st.integers(0, 300), byte=st.integers(0, 255), cut=st.integers(0, 600))
def test_damaged_dump_is_read_or_refused_and_nothing_else(tmp_path_factory, place, byte, cut):
    path = tmp_path_factory.getbasetemp() / "damaged.bin"
    data = bytearray(dump_bytes(np.array([-1, 0, 2]), a_table()))
    data[place] = byte
    path.write_bytes(bytes(data)[:cut])
    try:
        minima, maxima, table = read_dump(path)
    except InputError as error:
        assert str(path) in str(error)
    else:
        assert table.shape == tuple(maxima - minima + 1)
        assert np.isfinite(table).all()
