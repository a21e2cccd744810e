"""-mtz, -cif and -pdb: structure factors, and the cell where none is given."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from reflection_files import unique, values_of, write_cif, write_mtz

from bragg_numba import Experiment, InputError, Simulator, StructureFactors
from bragg_numba.cli.nanobragg import main

GOLDEN = Path(__file__).parent.parent / "golden" / "structure_factors"
REST = "-N 5 -detpixels 32 -pixel 1 -distance 60"


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """The working folder, with a crystal in each kind of file."""
    monkeypatch.chdir(tmp_path)
    indices = unique("C 1 2 1", 4.0)
    plus, minus = values_of(indices), values_of(indices, 2)
    write_mtz(tmp_path / "f.mtz", "C 1 2 1", indices, {"F(+)": ("G", plus), "F(-)": ("G", minus), "FP": ("F", plus)})
    write_cif(tmp_path / "f.cif", "C 1 2 1", indices, {"F_meas_au": plus})
    shutil.copy(GOLDEN / "c2_fe.pdb", tmp_path / "m.pdb")
    (tmp_path / "fe.txt").write_text("energy f1 f2\n7000 -3.8 0.5\n7200 -4.0 3.9 # beyond the edge\n")
    (tmp_path / "kev.txt").write_text("7.0 -3.8 0.5\n7.2 -4.0 3.9\n")
    return tmp_path


@pytest.mark.parametrize(
    ("words", "read"),
    [
        ("-mtz f.mtz", lambda: StructureFactors.from_mtz("f.mtz")),
        ("-mtz f.mtz -labels FP", lambda: StructureFactors.from_mtz("f.mtz", "FP")),
        ("-cif f.cif -default_F 3", lambda: StructureFactors.from_cif("f.cif", default_F=3.0)),
        ("-pdb m.pdb -dmin 4", lambda: StructureFactors.from_model("m.pdb", dmin_A=4.0)),
        (
            "-pdb m.pdb -dmin 4 -anomalous S 0.2 0.5 -anomalous Fe -3.5 2.1",
            lambda: StructureFactors.from_model("m.pdb", dmin_A=4.0, anomalous={"S": (0.2, 0.5), "Fe": (-3.5, 2.1)}),
        ),
        (
            "-pdb m.pdb -dmin 4 -anomalous S 0.2 0.5 -anomalous Fe fe.txt -anomalous Zn auto",
            lambda: StructureFactors.from_model(
                "m.pdb", dmin_A=4.0, anomalous={"S": (0.2, 0.5), "Fe": "fe.txt", "Zn": "auto"}
            ),
        ),
        (
            "-pdb m.pdb -dmin 4 -anomalous auto",
            lambda: StructureFactors.from_model("m.pdb", dmin_A=4.0, anomalous="auto"),
        ),
        (
            "-pdb m.pdb -dmin 4 -solvent 0.3 50",
            lambda: StructureFactors.from_model("m.pdb", dmin_A=4.0, k_sol=0.3, B_sol=50.0),
        ),
    ],
)
def test_a_flag_reads_what_python_reads_and_the_cell_is_that_of_the_file(words, read, folder):
    experiment = Experiment.from_nanobragg(f"{words} {REST}")
    expected = read()
    assert experiment.structure_factors == expected
    assert experiment.crystal.cell == expected.cell
    assert Experiment.from_json(experiment.to_json()) == experiment


def test_files_are_looked_for_in_the_folder_that_is_given(folder, monkeypatch):
    monkeypatch.chdir("/")
    assert Experiment.from_nanobragg(f"-mtz f.mtz {REST}", folder).crystal.cell[0] == 30.0


def test_a_cell_that_is_given_wins_and_another_one_than_the_file_has_is_said(folder):
    agreed = Experiment.from_nanobragg(f"-cell 30.001 20 25 90 105.01 90 -mtz f.mtz {REST}")
    assert not [note for note in Simulator(agreed, backend="cpu").notes if "cell" in note]
    other = Experiment.from_nanobragg(f"-cell 31 20 25 90 105 90 -mtz f.mtz {REST}")
    assert other.crystal.cell[0] == 31.0
    said = [note for note in Simulator(other, backend="cpu").notes if "cell" in note]
    assert said == [
        "the crystal's cell is 31 20 25 90 105 90, and that of its structure factors 30 20 25 90 105 90: the crystal's "
        "is rendered"
    ]
    matrix = np.diag([1 / 32, 1 / 20, 1 / 25])
    np.savetxt(folder / "a.mat", matrix)
    assert [
        note for note in Simulator(Experiment.from_nanobragg(f"-mat a.mat -mtz f.mtz {REST}")).notes if "cell" in note
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("-mtz f.mtz -cif f.cif", "-cif must not come together with -mtz"),
        ("-hkl f.hkl -pdb m.pdb -dmin 3", "-pdb must not come together with -hkl"),
        ("-pdb m.pdb", "-pdb needs -dmin"),
        ("-pdb m.pdb -dmin 0.01", "-dmin must lie at or above 0.1"),
        ("-pdb m.pdb -dmin 3 -labels FP", "-labels needs -mtz or -cif"),
        ("-mtz f.mtz -solvent 0.3 40", "-solvent needs -pdb"),
        ("-mtz f.mtz -anomalous Fe 1 2", "-anomalous needs -pdb"),
        ("-pdb m.pdb -dmin 3 -anomalous Xx 1 2", "anomalous must name elements, got 'Xx'"),
        ("-pdb m.pdb -dmin 3 -anomalous auto -anomalous Fe 1 2", "-anomalous must be given once"),
        ("-pdb m.pdb -dmin 3 -anomalous Fe", "-anomalous needs the word auto, or an element and auto"),
        ("-pdb m.pdb -dmin 3 -anomalous Fe 1", "-anomalous needs f'' after f' (electrons)"),
        ("-pdb m.pdb -dmin 3 -anomalous H auto", "must be an element from lithium to uranium"),
        ("-pdb m.pdb -dmin 3 -anomalous Fe nowhere.txt", "nowhere.txt cannot be read"),
        ("-pdb m.pdb -dmin 3 -anomalous Fe kev.txt", "kev.txt: the table must have energies between 100 and 1e+06 eV"),
        ("-pdb m.pdb -dmin 3 -anomalous Fe m.pdb", "m.pdb"),
        ("-pdb m.pdb -dmin 3 -solvent 0.3 -40", "-solvent must lie at or above 0"),
        ("-mtz f.mtz -labels NOPE", "those that would do: F(+),F(-); FP"),
        ("-mtz m.pdb", "is no whole MTZ file"),
        ("-cif f.mtz", "cannot be read as CIF"),
        ("-pdb f.cif -dmin 4", "holds no atoms"),
        ("-pdb nowhere.pdb -dmin 4", "nowhere.pdb cannot be read"),
        ("-pdb m.pdb -dmin 4000", "dmin_A must be less than the widest spacing"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence_and_nothing_is_written(words, said, folder, capsys):
    before = sorted(folder.iterdir())
    assert main([*words.split(), *REST.split(), "-noprogress", "-floatfile", "f.bin"]) == 2
    refusal = capsys.readouterr().err
    assert said in refusal and refusal.startswith("error: ") and refusal.count("\n") == 1
    assert sorted(folder.iterdir()) == before


def test_a_cache_of_an_earlier_run_is_neither_read_nor_written_beside_a_crystal_file(folder, capsys):
    (folder / "Fdump.bin").write_bytes(b"no dump")
    assert Experiment.from_nanobragg(f"-mtz f.mtz {REST}").structure_factors.space_group == "C 1 2 1"
    assert (folder / "Fdump.bin").read_bytes() == b"no dump"
    with pytest.raises(InputError, match="Fdump.bin"):
        Experiment.from_nanobragg(f"-cell 30 {REST}")
