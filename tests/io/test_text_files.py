"""Orientation matrices and source lists."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bragg_numba import Experiment
from bragg_numba.errors import InputError
from bragg_numba.io.structure_factor_files import read_hkl
from bragg_numba.io.text_files import read_matrix, read_sources
from bragg_numba.series import Series, rotation_series
from bragg_numba.series.frames import FrameTable

INPUTS = Path(__file__).resolve().parents[1] / "golden" / "inputs"


def text_file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "some.txt"
    path.write_text(text)
    return path


def test_matrix_has_the_lab_axes_as_rows():
    matrix = read_matrix(INPUTS / "tri.mat")

    assert matrix.dtype == np.float64
    assert matrix[0].tolist() == [-0.0166724, -0.00194048, -0.00921314]
    assert matrix[:, 0].tolist() == [-0.0166724, 0.00296773, -0.01070056]


def test_lines_after_the_matrix_are_left(tmp_path):
    text = " 1 2 3\n 4 5 6\n 7 8 9\n 0.000 0.000 0.000\n name of the crystal\n"

    assert read_matrix(text_file(tmp_path, text)).tolist() == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "holds 0"),
        ("1 2 3\n4 5 6\n7 8\n", "holds 8"),
        ("1 2 3\n4 five 6\n7 8 9\n", "line 2 must hold finite numbers, got 'five'"),
        ("1 2 3\n4 5 6\n7 8 nan\n", "line 3 must hold finite numbers"),
        ("inf 2 3\n4 5 6\n7 8 9\n", "line 1 must hold finite numbers"),
    ],
)
def test_broken_matrix_is_refused(tmp_path, text, reason):
    path = text_file(tmp_path, text)
    with pytest.raises(InputError, match=reason) as caught:
        read_matrix(path)

    assert caught.value.name == str(path)


def test_sources_of_the_golden_case_are_read():
    assert read_sources(INPUTS / "three.src") == [
        (-10.0, 0.0, 0.0, 1.0, 1.5e-10),
        (-10.0, 0.05, 0.02, 2.0, 1.48e-10),
        (-10.0, -0.03, 0.04, 0.5, 1.53e-10),
    ]


def test_delimiters_comments_and_blank_lines_are_understood(tmp_path):
    text = "# x y z weight wavelength\n\n-10,0;0\n \t\n  -10:1!2\t0.5  # weak\n-10 3 4 1 1e-10 99 more\n,;\n"

    assert read_sources(text_file(tmp_path, text)) == [
        (-10.0, 0.0, 0.0, None, None),
        (-10.0, 1.0, 2.0, 0.5, None),
        (-10.0, 3.0, 4.0, 1.0, 1e-10),
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("-10 0", "must give at least x, y and z"),
        ("-10 0 zero", "must hold finite numbers, got 'zero'"),
        ("-10 0 nan", "must hold finite numbers"),
        ("-10 0 0 inf", "must hold finite numbers"),
        ("0 0 0 1 1e-10", "at the origin"),
        ("-10 0 0 1 0", "wavelength above 0"),
        ("-10 0 0 1 -1e-10", "wavelength above 0"),
    ],
)
def test_bad_source_is_named_by_its_line(tmp_path, line, reason):
    path = text_file(tmp_path, f"# sources\n-10 0 0\n\n{line}\n")
    with pytest.raises(InputError, match=f"line 4 .*{reason}") as caught:
        read_sources(path)

    assert caught.value.name == str(path)


@pytest.mark.parametrize("text", ["", "\n\n", "# none\n"])
def test_list_without_sources_is_refused(tmp_path, text):
    with pytest.raises(InputError, match="at least one source"):
        read_sources(text_file(tmp_path, text))


@pytest.mark.parametrize("read", [read_matrix, read_sources])
def test_missing_file_and_folder_are_refused(tmp_path, read):
    with pytest.raises(InputError, match="No such file"):
        read(tmp_path / "none.txt")
    with pytest.raises(InputError, match="directory"):
        read(tmp_path)


@settings(max_examples=150, deadline=None)
@given(body=st.one_of(st.binary(max_size=80), st.text("0123456789 .-+e#\n\t,;:!nai", max_size=80).map(str.encode)))
@pytest.mark.parametrize("read", [read_matrix, read_sources])
def test_garbage_is_read_or_refused_and_nothing_else(tmp_path_factory, read, body):
    path = tmp_path_factory.getbasetemp() / "garbage.txt"
    path.write_bytes(body)
    try:
        found = np.array(read(path), dtype=float)  # None becomes NaN
    except InputError as error:
        assert str(path) in str(error)
    else:
        assert found.shape == (3, 3) if read is read_matrix else found.shape[1:] == (5,)
        assert np.isfinite(found[:, :3]).all()


#: A comment as people write them, in every encoding that their editors use.
ENCODINGS = ["utf-8", "latin-1", "utf-8-sig", "utf-16", "utf-16-be", "utf-32"]


def encoded(path: Path, text: str, encoding: str) -> Path:
    mark = "\ufeff" if encoding.endswith("be") else ""  # the others bring theirs
    path.write_bytes((mark + text).encode(encoding))
    return path


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_comments_and_byte_order_marks_of_any_editor_are_read(tmp_path, encoding, ending):
    def file(name, *lines):
        return encoded(tmp_path / name, ending.join([*lines, ""]), encoding)

    hkl = file("a.hkl", "1 2 3 4.5", "# Größe in Å, 5 µm", "-1 0 2 7 # näher")
    indices, amplitudes = read_hkl(hkl)
    assert indices.tolist() == [[1, 2, 3], [-1, 0, 2]]
    assert amplitudes.tolist() == [4.5, 7.0]
    matrix = file("a.mat", " 1 2 3", " 4 5 6", " 7 8 9", " Kristall Nº 5, 100 Å")
    assert read_matrix(matrix).tolist() == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    assert read_sources(file("a.src", "-1 0 0 1 1e-10 # Ångström")) == [(-1.0, 0.0, 0.0, 1.0, 1e-10)]
    table = FrameTable.from_any(file("frames.csv", "# Drehung in °", "phi_deg,seed", "1.5,7", "2.5,8"))
    assert table["phi_deg"].tolist() == [1.5, 2.5]
    assert table["seed"].tolist() == [7, 8]


def test_a_bad_line_behind_a_latin_comment_is_still_named(tmp_path):
    path = encoded(tmp_path / "a.hkl", "# Å\n1 2 3 4\n1 2 drei 4\n", "latin-1")
    with pytest.raises(InputError, match=r"a\.hkl line 3 must hold the numbers h k l F"):
        read_hkl(path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_json_files_may_begin_with_a_byte_order_mark(tmp_path, encoding):
    experiment = Experiment.from_nanobragg("-cell 100 -default_F 100 -N 5 -detpixels 64")
    path = encoded(tmp_path / "experiment.json", experiment.to_json(), encoding)
    assert Experiment.load(path) == experiment
    plan = rotation_series(experiment, 0.0, 1.0, 3).to_json()
    assert len(Series.load(encoded(tmp_path / "plan.json", plan, encoding))) == 3
    path.write_bytes(b"\xff\x00\x80")
    with pytest.raises(InputError, match="neither JSON text nor an HDF5 file"):
        Series.load(path)
