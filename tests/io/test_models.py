"""Structure factors from coordinates, against cctbx's and gemmi's direct sums."""

from __future__ import annotations

import re
from pathlib import Path

import gemmi
import numpy as np
import pytest

from bragg_numba import InputError, StructureFactors
from bragg_numba.io.model_factors import model_factors
from bragg_numba.io.models import read_model

GOLDEN = Path(__file__).parent.parent / "golden" / "structure_factors"

#: What cctbx was told of iron, electrons.
IRON = {"Fe": (-3.5, 2.1)}


def table_of(factors: StructureFactors) -> dict[tuple[int, ...], float]:
    return dict(zip(map(tuple, factors.indices.tolist()), factors.amplitudes.tolist(), strict=True))


@pytest.mark.parametrize(("method", "tolerance"), [("direct", 1e-6), ("density", 1e-3)])
@pytest.mark.parametrize("name", ["p212121", "c2_fe", "r3h"])
def test_amplitudes_are_those_of_cctbx(name, method, tolerance):
    golden = np.load(GOLDEN / f"{name}.npz")
    path, dmin_A = GOLDEN / f"{name}.pdb", float(golden["dmin"])
    table = table_of(StructureFactors.from_model(path, dmin_A=dmin_A, method=method, anomalous=IRON))
    expected = np.abs(golden["F"].astype(np.complex128))
    found = np.array([table.pop(tuple(hkl)) for hkl in golden["hkl"].tolist()])
    assert np.abs(found - expected).max() < tolerance * expected.mean()
    assert not any(table.values())  # what cctbx left out is extinct


ATOM = "{:<6}{:5d} {:<4}{:1}{:3} A{:4d}    {:8.3f}{:8.3f}{:8.3f}{:6.2f}{:6.2f}          {:>2}{:2}\n"


def write_pdb(path: Path, cell: tuple, group: str, atoms: list[dict], more: str = "") -> Path:
    """Write a PDB file; of each atom element, xyz, and if they are not usual occupancy, B, altloc, charge, aniso."""
    text = "CRYST1{:9.3f}{:9.3f}{:9.3f}{:7.2f}{:7.2f}{:7.2f} {:<11}\n".format(*cell, group) + more
    for number, atom in enumerate(atoms, start=1):
        rest = (atom.get("altloc", ""), "UNK", number, *atom["xyz"], atom.get("occupancy", 1.0), atom.get("B", 10.0))
        element = atom["element"].upper()
        text += ATOM.format("ATOM", number, element, *rest, element, atom.get("charge", ""))
        if "aniso" in atom:
            u = "".join(f"{round(1e4 * value):7d}" for value in atom["aniso"])
            text += f"ANISOU{number:5d} {element:<4} UNK A{number:4d}  {u}      {element:>2}\n"
    path.write_text(text + "END\n")
    return path


def mixed_atoms(seed: int, cell: tuple, n: int = 12) -> list[dict]:
    """Atoms of a few elements, every third with a displacement tensor, every fourth in two conformations."""
    rng = np.random.default_rng(seed)
    orth = np.array(gemmi.UnitCell(*cell).orth.mat.tolist())
    atoms = []
    for number in range(n):
        atom = {"element": ("C", "N", "O", "S", "Fe")[number % 5], "xyz": orth @ rng.uniform(0.05, 0.95, 3)}
        atom |= {"B": round(rng.uniform(2, 40), 2), "occupancy": round(rng.uniform(0.2, 0.9), 2)}
        if number % 3 == 0:
            atom["aniso"] = [*rng.uniform(0.1, 0.4, 3), *rng.uniform(-0.05, 0.05, 3)]
        atoms.append(atom)
        if number % 4 == 0:
            atom["altloc"] = "A"
            atoms.append({**atom, "altloc": "B", "xyz": atom["xyz"] + 0.7, "occupancy": 1.0 - atom["occupancy"]})
    return atoms


@pytest.mark.parametrize(
    ("group", "cell"),
    [
        ("P 1", (11, 12, 13, 80, 95, 100)),
        ("P n a 21", (12, 14, 11, 90, 90, 90)),
        ("P 61 2 2", (14, 14, 30, 90, 90, 120)),
        ("F 4 3 2", (24, 24, 24, 90, 90, 90)),
        ("P 1 21/c 1", (12, 14, 11, 90, 110, 90)),
    ],
)
def test_direct_sums_are_those_of_gemmi_with_tensors_and_alternate_conformations(group, cell, tmp_path):
    path = write_pdb(tmp_path / "m.pdb", cell, group, mixed_atoms(3, cell))
    factors = model_factors(read_model(path), 2.0, method="direct")
    structure = gemmi.read_structure(str(path))
    oracle = gemmi.StructureFactorCalculatorX(structure.cell)
    some = np.random.default_rng(0).permutation(len(factors.indices))[:150]
    expected = np.array([oracle.calculate_sf_from_model(structure[0], hkl) for hkl in factors.indices[some].tolist()])
    assert np.abs(factors.normal[some] - expected).max() < 3e-6 * np.abs(expected).mean()  # gemmi keeps 32 bits


def test_partial_sums_of_elements_make_the_anomalous_ones(tmp_path):
    cell = (11, 12, 13, 80, 95, 100)
    path = write_pdb(tmp_path / "m.pdb", cell, "P 1", mixed_atoms(4, cell))
    factors = model_factors(read_model(path), 2.5, elements=("Fe", "S", "Se"))
    assert set(factors.partial) == {"Fe", "S"}
    total = factors.at({"Fe": (-2.0, 3.0)})
    opposite = np.lexsort(-factors.indices.T[::-1])  # where -h stands
    assert np.array_equal(factors.indices[opposite], -factors.indices)
    assert np.abs(np.abs(total) - np.abs(total[opposite])).max() > 1.0  # Friedel mates differ
    assert np.abs(factors.at({"Fe": (-2.0, 0.0)})) == pytest.approx(np.abs(factors.at({"Fe": (-2.0, 0.0)})[opposite]))
    assert total == pytest.approx(factors.normal + (-2.0 + 3.0j) * factors.partial["Fe"])


def test_an_atom_of_full_occupancy_on_an_axis_is_one_atom_and_a_divided_one_counts_as_often_as_it_lies(tmp_path):
    cell = (20, 20, 30, 90, 90, 90)
    other = {"element": "C", "xyz": (3, 4, 5)}
    whole = write_pdb(tmp_path / "1.pdb", cell, "P 4", [{"element": "Fe", "xyz": (0.1, 0.1, 5)}, other])
    quarter = {"element": "Fe", "xyz": (0, 0, 5), "occupancy": 0.25}
    divided = write_pdb(tmp_path / "2.pdb", cell, "P 4", [quarter, other])
    one, four = (StructureFactors.from_model(path, dmin_A=3.0) for path in (whole, divided))
    assert np.allclose(one.amplitudes, four.amplitudes, rtol=0, atol=1e-9)
    assert dict(one.counts)["special_positions"] == 1 and dict(four.counts)["special_positions"] == 0


def test_an_atom_beside_a_point_where_axes_cross_is_moved_onto_it(tmp_path):
    cell = (21.386, 21.386, 36.356, 90, 90, 120)
    near = write_pdb(tmp_path / "1.pdb", cell, "P 6 2 2", [{"element": "Fe", "xyz": (0.3, 0.05, 0.2)}])
    exact = write_pdb(tmp_path / "2.pdb", cell, "P 6 2 2", [{"element": "Fe", "xyz": (0, 0, 0)}])
    assert np.allclose(*(StructureFactors.from_model(path, dmin_A=4.0).amplitudes for path in (near, exact)))


def test_symmetry_that_the_file_does_not_write_out_is_carried_out_and_that_it_does_is_not(tmp_path):
    cell = (30, 30, 30, 90, 90, 90)
    atoms = [{"element": "S", "xyz": (3, 4, 5)}, {"element": "O", "xyz": (6, 4, 9)}]
    turn = "MTRIX1   2  1.000000  0.000000  0.000000        9.00000    {0}\n"
    turn += "MTRIX2   2  0.000000  1.000000  0.000000        1.00000    {0}\n"
    turn += "MTRIX3   2  0.000000  0.000000  1.000000        2.00000    {0}\n"
    both = atoms + [{**atom, "xyz": np.add(atom["xyz"], (9, 1, 2))} for atom in atoms]
    strict = write_pdb(tmp_path / "1.pdb", cell, "P 1", atoms, turn.format(" "))
    given = write_pdb(tmp_path / "2.pdb", cell, "P 1", both, turn.format("1"))
    one, other = (StructureFactors.from_model(path, dmin_A=4.0) for path in (strict, given))
    assert np.allclose(one.amplitudes, other.amplitudes)
    assert dict(one.counts)["ncs_copies"] == 2 and dict(other.counts)["ncs_copies"] == 0


def test_mmcif_and_gzipped_files_hold_the_same_model(tmp_path):
    cell = (11, 12, 13, 80, 95, 100)
    path = write_pdb(tmp_path / "m.pdb", cell, "P 1", mixed_atoms(5, cell))
    structure = gemmi.read_structure(str(path))
    structure.setup_entities()
    structure.make_mmcif_document().write_file(str(tmp_path / "m.cif"))
    import gzip

    (tmp_path / "m.pdb.gz").write_bytes(gzip.compress(path.read_bytes()))
    expected = StructureFactors.from_model(path, dmin_A=3.0)
    for name, tolerance in (("m.cif", 1e-5), ("m.pdb.gz", 0.0)):
        found = StructureFactors.from_model(tmp_path / name, dmin_A=3.0)
        assert np.allclose(found.amplitudes, expected.amplitudes, rtol=0, atol=tolerance * expected.amplitudes.mean())


def test_a_charge_takes_the_form_factor_of_the_ion(tmp_path):
    cell = (12, 12, 12, 90, 90, 90)
    ion, atom = (
        write_pdb(tmp_path / f"{n}.pdb", cell, "P 1", [{"element": "Zn", "xyz": (0, 0, 0), "B": 0.0, "charge": charge}])
        for n, charge in enumerate(("2+", ""))
    )
    charged, neutral = (table_of(StructureFactors.from_model(path, dmin_A=6.0)) for path in (ion, atom))
    assert 1.0 < neutral[0, 0, 1] - charged[0, 0, 1] < 2.0
    by_density = table_of(StructureFactors.from_model(ion, dmin_A=6.0, method="density"))
    assert by_density[0, 0, 1] == pytest.approx(charged[0, 0, 1], rel=1e-3)
    assert gemmi.IT92_get_ignore_charge()  # as it was


def test_a_solvent_weakens_coarse_reflections_and_leaves_fine_ones(tmp_path):
    path = GOLDEN / "p212121.pdb"
    dry, wet = (StructureFactors.from_model(path, dmin_A=2.0, k_sol=k_sol) for k_sol in (0.0, 0.35))
    d = gemmi.UnitCell(*dry.cell).calculate_d_array(dry.indices.copy())
    moved = np.abs(wet.amplitudes - dry.amplitudes)
    assert moved[d > 8.0].mean() > 20.0 * moved[d < 2.5].mean() > 0.0
    assert "solvent of 0.35 electrons/A^3, B 46 A^2" in wet.origin


PDB = (GOLDEN / "c2_fe.pdb").read_text()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no atoms"),
        ("hello world\n", "holds no atoms"),
        (re.sub("ATOM.*\n", "", PDB), "holds no atoms"),
        (re.sub("CRYST1.*\n", "", PDB), "must come with a unit cell"),
        (re.sub("CRYST1.*\n", "CRYST1    1.000    1.000    1.000  90.00  90.00  90.00 P 1\n", PDB), "with a unit cell"),
        (PDB.replace("C 1 2 1", "C 9 9 9"), "must be one that is known, got 'C 9 9 9'"),
        (PDB.replace("109.00", "300.00"), "must be that of a crystal"),
        (PDB.replace("13.398", "  abc "), "must hold x, y, z, occupancy and B"),
        (PDB.replace("FE", "QQ"), "must be of a known element"),
        (PDB[:900], "cannot be read as coordinates"),
        ("MODEL        1\n" + PDB.replace("END", "ENDMDL\nMODEL        2\n" + PDB[700:]), "must hold one model"),
    ],
)
def test_coordinates_that_cannot_be_used_are_refused_in_a_sentence(text, said, tmp_path):
    (tmp_path / "m.pdb").write_text(text)
    with pytest.raises(InputError) as caught:
        StructureFactors.from_model(tmp_path / "m.pdb", dmin_A=4.0)
    assert said in str(caught.value) and "m.pdb" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"dmin_A": 0.0}, "dmin_A must lie between"),
        ({"dmin_A": 500.0}, "dmin_A must be less than the widest spacing"),
        ({"dmin_A": 0.1, "max_memory": 10**6}, "would take"),
        ({"method": "fft"}, "method must be one of auto, direct, density"),
        ({"anomalous": {"Xx": (1, 2)}}, "must name elements"),
        ({"anomalous": {"Fe": 1}}, "must be 2 numbers"),
        ({"anomalous": [1]}, "must be like"),
        ({"k_sol": -1}, "k_sol must lie between"),
    ],
)
def test_options_that_mean_nothing_are_refused(options, said):
    with pytest.raises(InputError, match=said):
        StructureFactors.from_model(GOLDEN / "c2_fe.pdb", **{"dmin_A": 4.0, **options})


def test_a_matrix_that_does_not_fit_the_cell_is_left_out_and_said(tmp_path):
    (tmp_path / "m.pdb").write_text(PDB.replace("SCALE1      0.066960", "SCALE1      0.166960"))
    factors = StructureFactors.from_model(tmp_path / "m.pdb", dmin_A=3.0)
    assert "does not fit its unit cell" in factors.origin
