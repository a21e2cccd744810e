"""MTZ files and CIF files of structure factors, and what they are expanded to."""

from __future__ import annotations

import gzip
import subprocess
from pathlib import Path

import gemmi
import numpy as np
import pytest
from reflection_files import GROUPS, unique, values_of, write_cif, write_mtz

from bragg_numba import InputError, StructureFactors

#: A Python that may have cctbx, whose files are read as well.
OTHER_PYTHON = "/usr/bin/python3"


def table_of(factors: StructureFactors) -> dict[tuple[int, ...], float]:
    table = dict(zip(map(tuple, factors.indices.tolist()), factors.amplitudes.tolist(), strict=True))
    assert len(table) == len(factors.indices)
    return table


def same(one: StructureFactors, other: StructureFactors) -> bool:
    return np.array_equal(one.indices, other.indices) and np.array_equal(one.amplitudes, other.amplitudes)


@pytest.mark.parametrize("name", GROUPS)
def test_a_list_becomes_the_whole_sphere_by_the_operations_of_its_group(name, tmp_path):
    indices = unique(name)
    values = values_of(indices)
    table = table_of(StructureFactors.from_mtz(write_mtz(tmp_path / "f.mtz", name, indices, {"FP": ("F", values)})))

    operations = gemmi.SpaceGroup(name).operations()
    known = {tuple(hkl): value for hkl, value in zip(indices.tolist(), values.tolist(), strict=True)}
    asu = gemmi.ReciprocalAsu(gemmi.SpaceGroup(name))
    cell = gemmi.UnitCell(*GROUPS[name])
    finest = cell.calculate_d_array(indices).min() * (1.0 - 1e-7)  # of what is listed: beyond it all is default_F
    everything = gemmi.make_miller_array(cell, gemmi.SpaceGroup("P 1"), finest, unique=False).tolist()
    for hkl in everything:
        if operations.is_systematically_absent(hkl):
            assert table[tuple(hkl)] == 0.0
        else:
            assert table[tuple(hkl)] == known[tuple(asu.to_asu(hkl, operations)[0])]
    assert len(table) == len(everything) > 300


@pytest.mark.parametrize("name", GROUPS)
@pytest.mark.parametrize("prefix", ["_refln.", "_refln_"])
def test_mtz_and_cif_give_the_same_table_to_the_last_bit(name, prefix, tmp_path):
    indices = unique(name)
    plus, minus = values_of(indices), values_of(indices, seed=2)
    minus[::5] = np.nan
    pair = {"F(+)": ("G", plus), "SIGF(+)": ("L", plus), "F(-)": ("G", minus), "SIGF(-)": ("L", plus)}
    of_mtz = StructureFactors.from_mtz(write_mtz(tmp_path / "f.mtz", name, indices, pair))
    tags = {"pdbx_F_plus": plus, "pdbx_F_plus_sigma": plus, "pdbx_F_minus": minus}

    assert same(of_mtz, StructureFactors.from_cif(write_cif(tmp_path / "f.cif", name, indices, tags, prefix)))
    assert of_mtz.cell == tuple(map(float, GROUPS[name])) and of_mtz.space_group == name


def test_friedel_mates_are_kept_apart_through_proper_and_improper_operations(tmp_path):
    indices = np.array([[1, 2, 3]])
    pair = {"F(+)": ("G", np.array([5.0])), "F(-)": ("G", np.array([7.0]))}
    proper = table_of(StructureFactors.from_mtz(write_mtz(tmp_path / "p.mtz", "P 21 21 21", indices, pair)))
    assert {hkl for hkl, value in proper.items() if value == 5.0} == {(1, 2, 3), (1, -2, -3), (-1, 2, -3), (-1, -2, 3)}
    assert {hkl for hkl, value in proper.items() if value == 7.0} == {
        (-hkl[0], -hkl[1], -hkl[2]) for hkl, value in proper.items() if value == 5.0
    }
    # P n a 21 has a twofold axis along c and two mirrors: F(1 2 3) is F(-1 2 3), and F(1 2 -3) is the mate.
    improper = table_of(StructureFactors.from_mtz(write_mtz(tmp_path / "i.mtz", "P n a 21", indices, pair)))
    assert {hkl for hkl, value in improper.items() if value == 5.0} == {(1, 2, 3), (-1, -2, 3), (-1, 2, 3), (1, -2, 3)}


def test_a_list_that_is_p1_already_is_not_doubled(tmp_path):
    indices = gemmi.make_miller_array(gemmi.UnitCell(*GROUPS["P 1"]), gemmi.SpaceGroup("P 1"), 3.0, unique=False)
    values = values_of(indices)  # Friedel mates of their own in rows of their own
    factors = StructureFactors.from_mtz(write_mtz(tmp_path / "f.mtz", "P 1", indices, {"FP": ("F", values)}))
    expected = dict(zip(map(tuple, indices.tolist()), values.tolist(), strict=True))
    assert table_of(factors) == expected
    assert dict(factors.counts)["friedel_filled"] == dict(factors.counts)["duplicate"] == 0


@pytest.mark.parametrize("name", ["P 21 21 21", "C 1 2 1", "I 2 3", "R 3:H"])
def test_extinct_reflections_are_zero_whatever_the_file_and_the_default_say(name, tmp_path):
    indices = gemmi.make_miller_array(gemmi.UnitCell(*GROUPS[name]), gemmi.SpaceGroup("P 1"), 3.0, unique=False)
    columns = {"FP": ("F", np.full(len(indices), 3.0))}
    factors = StructureFactors.from_mtz(write_mtz(tmp_path / "f.mtz", name, indices, columns), default_F=9.0)
    absent = gemmi.SpaceGroup(name).operations().systematic_absences(factors.indices.copy())
    assert absent.any() and not factors.amplitudes[absent].any()
    assert (factors.amplitudes[~absent] == 3.0).all() and dict(factors.counts)["extinct_listed"] > 0

    listed = write_mtz(tmp_path / "g.mtz", name, unique(name, 3.0), {"FP": ("F", np.ones(len(unique(name, 3.0))))})
    zeros = StructureFactors.from_mtz(listed)
    assert set(table_of(zeros)) <= set(table_of(factors)) and (zeros.amplitudes == 0.0).any()


def test_negative_missing_duplicate_and_conflicting_entries_are_counted(tmp_path):
    indices = np.array([[1, 2, 3], [1, -2, -3], [2, 2, 3], [2, -2, -3], [3, 1, 1], [4, 1, 1], [0, 0, 1]])
    intensities = np.array([16.0, 16.0, 1.0, 9.0, -4.0, np.nan, 25.0])
    path = write_mtz(tmp_path / "f.mtz", "P 21 21 21", indices, {"I": ("J", intensities)})
    factors = StructureFactors.from_mtz(path)
    assert {name: number for name, number in factors.counts if name != "friedel_filled"} == {
        "rows": 7,
        "not_a_number": 1,
        "duplicate": 2,
        "negative": 1,
        "conflicting": 1,
        "extinct_listed": 1,
    }
    table = table_of(factors)
    assert table[1, 2, 3] == 4.0 and table[2, 2, 3] == np.sqrt(5.0) and table[3, 1, 1] == 0.0
    assert (4, 1, 1) not in table and table[0, 0, 1] == 0.0
    tags = {"intensity_meas": intensities}
    assert same(factors, StructureFactors.from_cif(write_cif(tmp_path / "f.cif", "P 21 21 21", indices, tags)))


@pytest.fixture
def rich(tmp_path) -> Path:
    """An MTZ file with a column of every kind."""
    indices = unique("P 21 21 21", 4.0)
    kinds = {
        **{"FREE": "I", "FP": "F", "SIGFP": "Q", "F(+)": "G", "SIGF(+)": "L", "F(-)": "G", "SIGF(-)": "L"},
        **{"IMEAN": "J", "SIGIMEAN": "Q", "I(+)": "K", "I(-)": "K", "FC": "F", "PHIC": "P", "FWT": "F", "DANO": "D"},
    }
    columns = {label: (kind, values_of(indices, seed)) for seed, (label, kind) in enumerate(kinds.items())}
    return write_mtz(tmp_path / "rich.mtz", "P 21 21 21", indices, columns)


@pytest.mark.parametrize(
    ("labels", "taken"),
    [
        (None, "amplitudes F(+),F(-)"),
        ("FP", "amplitudes FP"),
        ("FP,SIGFP", "amplitudes FP"),
        (["I(-)", "I(+)"], "roots of intensities I(+),I(-)"),
        ("IMEAN", "roots of intensities IMEAN"),
        (" FC ", "amplitudes FC"),
    ],
)
def test_the_columns_that_are_asked_for_are_taken(labels, taken, rich):
    assert StructureFactors.from_mtz(rich, labels).origin == f"rich.mtz: {taken}"


@pytest.mark.parametrize("labels", ["FREE", "PHIC", "SIGFP", "DANO", "F(+)", "NOPE", "FP,FC", "H"])
def test_other_columns_are_refused_with_a_list_of_those_that_would_do(labels, rich):
    with pytest.raises(InputError, match="labels must name") as caught:
        StructureFactors.from_mtz(rich, labels)
    assert "those that would do: F(+),F(-); I(+),I(-); FP; IMEAN; FC; FWT" in str(caught.value)


def test_signs_of_mates_are_told_from_those_in_a_name(tmp_path):
    indices = unique("P 1", 4.0)
    labels = ("F-obs(+)", "F-obs(-)", "I-obs(+)", "I-obs(-)", "Fplus", "Fminus")
    kinds = {label: "K" if label.startswith("I") else "G" for label in labels}
    columns = {label: (kind, values_of(indices)) for label, kind in kinds.items()}
    path = write_mtz(tmp_path / "f.mtz", "P 1", indices, columns)
    with pytest.raises(InputError, match="would do") as caught:
        StructureFactors.from_mtz(path, "NOPE")
    assert "F-obs(+),F-obs(-); Fplus,Fminus; I-obs(+),I-obs(-)" in str(caught.value)


def test_a_number_may_stand_for_what_is_missing(tmp_path):
    path = write_mtz(
        tmp_path / "f.mtz", "P 1", np.array([[1, 2, 3], [2, 2, 2]]), {"FP": ("F", np.array([3.0, -999.0]))}
    )
    mtz = gemmi.read_mtz_file(str(path))
    mtz.valm = -999.0
    mtz.write_to_file(str(path))
    factors = StructureFactors.from_mtz(path)
    assert dict(factors.counts)["not_a_number"] == 1 and (2, 2, 2) not in table_of(factors)


def test_a_choice_that_is_not_clear_is_left_to_the_user(tmp_path):
    indices = unique("P 1", 4.0)
    columns = {label: (kind, values_of(indices)) for label, kind in (("FA", "F"), ("SIGFA", "Q"), ("FB", "F"))}
    columns |= {"SIGFB": ("Q", values_of(indices)), "FEMPTY": ("F", np.full(len(indices), np.nan))}
    path = write_mtz(tmp_path / "f.mtz", "P 1", indices, columns)
    with pytest.raises(InputError, match="labels must say which, got 'FA; FB'"):
        StructureFactors.from_mtz(path)
    with pytest.raises(InputError, match="columns with values"):
        StructureFactors.from_mtz(path, "FEMPTY")


def test_a_file_may_be_gzipped(tmp_path):
    indices = unique("P 1", 4.0)
    mtz = write_mtz(tmp_path / "f.mtz", "P 1", indices, {"FP": ("F", values_of(indices))})
    cif = write_cif(tmp_path / "f.cif", "P 1", indices, {"F_meas_au": values_of(indices)})
    for path in (mtz, cif):
        (path.parent / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    expected = StructureFactors.from_mtz(mtz)
    assert same(expected, StructureFactors.from_mtz(tmp_path / "f.mtz.gz"))
    assert same(expected, StructureFactors.from_cif(tmp_path / "f.cif.gz"))


@pytest.mark.parametrize("part", [0, 10, 100, 0.3, 0.6, 0.9, -100])
def test_a_truncated_mtz_file_is_refused_in_a_sentence(part, tmp_path):
    indices = unique("P 1", 4.0)
    path = write_mtz(tmp_path / "f.mtz", "P 1", indices, {"FP": ("F", values_of(indices))})
    data = path.read_bytes()
    path.write_bytes(data[: part if isinstance(part, int) else int(part * len(data))])
    with pytest.raises(InputError, match="f.mtz is no whole MTZ file"):
        StructureFactors.from_mtz(path)


CELL = "_cell.length_a 10\n_cell.length_b 11\n_cell.length_c 12\n_cell.angle_alpha 90\n_cell.angle_beta 90\n"
HEAD = f"data_x\n{CELL}_cell.angle_gamma 90\n_symmetry.space_group_name_H-M 'P 21 21 21'\n"
LOOP = "loop_\n_refln.index_h\n_refln.index_k\n_refln.index_l\n_refln.F_meas_au\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no reflections"),
        ("hello", "cannot be read as CIF"),
        (HEAD, "holds no reflections"),
        (HEAD + LOOP, "must hold at least one"),
        (HEAD + LOOP + "1 2 3 4\n1 2 4\n", "cannot be read as CIF"),
        (HEAD + LOOP + "1 2 3 four\n", "F_meas_au of reflection 1 must be a number, got 'four'"),
        (HEAD + LOOP + "1 2 3 ?\n2 2 2 .\n", "amplitudes or intensities that have values"),
        (HEAD + LOOP + "1 2 ? 4\n", "reflection 1 must have whole h, k and l"),
        (HEAD + LOOP + "1 2 3.5 4\n", "reflection 1 must have whole h, k and l"),
        (HEAD + LOOP + "1 2 3 4\n9999999 1 1 1\n", "reflection 2 must have whole h, k and l"),
        (HEAD.replace("length_a 10", "length_a ?") + LOOP + "1 2 3 4\n", "must have a length_a"),
        (HEAD.replace("beta 90", "beta 190") + LOOP + "1 2 3 4\n", "must be that of a crystal"),
        (HEAD.replace("P 21 21 21", "P 99") + LOOP + "1 2 3 4\n", "must be a space group, got 'P 99'"),
        ("data_x\n" + LOOP + "1 2 3 4\n", "must state the unit cell"),
        (HEAD.replace("_symmetry.space", "_other.space") + LOOP + "1 2 3 4\n", "must state the space group"),
        (HEAD + LOOP.replace("F_meas_au", "status") + "1 2 3 o\n", "must hold amplitudes or intensities"),
    ],
)
def test_a_cif_file_that_cannot_be_used_is_refused_in_a_sentence(text, said, tmp_path):
    (tmp_path / "f.cif").write_text(text)
    with pytest.raises(InputError) as caught:
        StructureFactors.from_cif(tmp_path / "f.cif")
    assert said in str(caught.value) and "f.cif" in str(caught.value) and "\n" not in str(caught.value)


def test_values_with_their_uncertainty_in_brackets_are_read(tmp_path):
    text = HEAD.replace("length_a 10", "length_a 10.0(1)") + LOOP + "1 2 3 4.5(3)\n2 2 2 ?\n"
    (tmp_path / "f.cif").write_text(text)
    factors = StructureFactors.from_cif(tmp_path / "f.cif")
    assert factors.cell[0] == 10.0 and table_of(factors)[1, 2, 3] == 4.5


def test_an_unmerged_file_is_refused(tmp_path):
    columns = {"M/ISYM": ("Y", np.ones(1)), "I": ("J", np.ones(1))}
    path = write_mtz(tmp_path / "f.mtz", "P 1", np.array([[1, 2, 3]]), columns)
    with pytest.raises(InputError, match="must be merged"):
        StructureFactors.from_mtz(path)


def test_an_index_that_would_take_all_memory_is_refused(tmp_path):
    indices = np.array([[1, 2, 3], [90000, 90000, 90000]])
    path = write_mtz(tmp_path / "f.mtz", "P 1", indices, {"FP": ("F", np.ones(2))})
    with pytest.raises(InputError, match="f.mtz: the table of structure factors would take"):
        StructureFactors.from_mtz(path)


_CCTBX = """
import sys
from cctbx import crystal
from cctbx.array_family import flex
from iotbx.cif import miller_arrays_as_cif_block, model
folder, root, name, anomalous, cell = sys.argv[1:5] + [tuple(map(float, sys.argv[5:]))][:1]
symmetry = crystal.symmetry(cell, name)
chosen = symmetry.build_miller_set(anomalous_flag=bool(int(anomalous)), d_min=3.0)
values = flex.double([(7919 * i) % 99991 / 100.0 for i in range(chosen.size())])
array = chosen.array(values, values).set_observation_type_xray_amplitude()
array.as_mtz_dataset(column_root_label="F").mtz_object().write(f"{folder}/{root}.mtz")
for kind in ("mmcif", "corecif"):
    document = model.cif()
    document["x"] = miller_arrays_as_cif_block(array, array_type="meas", format=kind).cif_block
    with open(f"{folder}/{root}.{kind}", "w") as file:
        print(document, file=file)
"""


@pytest.mark.parametrize("anomalous", [0, 1])
@pytest.mark.parametrize("name", ["P 21 21 21", "R 3:H", "P n a 21"])
def test_files_that_cctbx_writes_give_the_same_table_as_those_of_gemmi(name, anomalous, tmp_path):
    words = [OTHER_PYTHON, "-c", _CCTBX, str(tmp_path), "f", name, str(anomalous), *map(str, GROUPS[name])]
    try:
        done = subprocess.run(words, capture_output=True, text=True)
    except OSError:
        pytest.skip(f"there is no {OTHER_PYTHON}")
    if done.returncode:
        pytest.skip(f"cctbx does not write files here: {done.stderr.strip().splitlines()[-1]}")
    of_mtz = StructureFactors.from_mtz(tmp_path / "f.mtz")
    assert same(of_mtz, StructureFactors.from_cif(tmp_path / "f.mmcif"))
    assert same(of_mtz, StructureFactors.from_cif(tmp_path / "f.corecif"))
    copy = gemmi.read_mtz_file(str(tmp_path / "f.mtz"))
    copy.write_to_file(str(tmp_path / "g.mtz"))
    assert same(of_mtz, StructureFactors.from_mtz(tmp_path / "g.mtz"))
    (tmp_path / "g.cif").write_text(gemmi.MtzToCif().write_cif_to_string(copy))
    assert same(of_mtz, StructureFactors.from_cif(tmp_path / "g.cif"))
