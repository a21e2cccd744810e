"""f' and f'': tables of measured edges, Cromer and Liberman beyond them."""

from __future__ import annotations

import gemmi
import numpy as np
import pytest

from bragg_numba import InputError, StructureFactors
from bragg_numba.io.anomalous import check_anomalous, factors_of, read_anomalous_table

EV_A = 12398.42


def test_a_table_is_read_in_any_order_with_headings_and_further_columns(tmp_path):
    (tmp_path / "fe.txt").write_text(
        "# iron foil\nenergy_eV  f1  f2  sigma\n7200, -4.5, 3.9, 0.1\n\n7000;-3.8;0.5;0.2 # below\n7120\t-8.1\t2.5\n"
    )
    table = read_anomalous_table(tmp_path / "fe.txt")
    assert table.tolist() == [[7000.0, -3.8, 0.5], [7120.0, -8.1, 2.5], [7200.0, -4.5, 3.9]]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "must hold lines of energy"),
        ("a b c\n", "must hold lines of energy"),
        ("7000 1 2\n7100 1\n", "line 2 must hold energy"),
        ("7000 1 2\n7100 x 2\n", "line 2 must hold energy"),
        ("7000 1 2\n7100 nan 2\n", "line 2 must hold energy"),
        ("7000 1 2\n", "two or more rows"),
        ("7.0 1 2\n7.1 1 2\n", "are they keV"),
        ("7000 1 2\n7000 1 2\n", "each energy once"),
        ("7000 4 -3.5\n7100 4 -5\n", "no f'' below 0"),
        ("7000 1 2\n7100 1e9 2\n", "below 10000 electrons"),
    ],
)
def test_a_table_that_breaks_a_rule_is_refused_by_its_name(text, said, tmp_path):
    (tmp_path / "t.txt").write_text(text)
    with pytest.raises(InputError, match=said) as refusal:
        read_anomalous_table(tmp_path / "t.txt")
    assert str(refusal.value).startswith(str(tmp_path / "t.txt"))


def test_between_rows_factors_are_linear_and_nothing_jumps_at_the_ends():
    table = np.array([[7000.0, -3.0, 0.7], [7100.0, -7.0, 0.9], [7200.0, -4.0, 4.2]])
    energies = np.array([7025.0, 7000.0 - 1e-6, 7000.0, 7200.0, 7200.0 + 1e-6])
    found = factors_of("Fe", table, EV_A / energies)
    assert found[0] == pytest.approx(-4.0 + 0.75j)
    assert found[1] == pytest.approx(found[2], abs=1e-6) and found[3] == pytest.approx(found[4], abs=1e-6)


def test_beyond_the_ends_cromer_and_liberman_go_on_from_there():
    table = np.array([[7000.0, -3.0, 0.7], [7200.0, -4.0, 4.2]])
    beyond = factors_of("Fe", table, EV_A / np.array([6500.0, 9000.0]))
    free = [complex(*gemmi.cromer_liberman(26, energy)) for energy in (6500.0, 7000.0, 7200.0, 9000.0)]
    assert beyond[0] == pytest.approx(free[0] + (-3.0 + 0.7j) - free[1])
    assert beyond[1] == pytest.approx(free[3] + (-4.0 + 4.2j) - free[2])
    low = np.array([[7000.0, -3.0, 0.0], [7200.0, -4.0, 0.0]])
    assert (factors_of("Fe", low, EV_A / np.array([6500.0, 6900.0, 20000.0])).imag >= 0.0).all()


def test_auto_takes_what_is_heavier_than_neon():
    given = check_anomalous("anomalous", "auto", ["C", "O", "S", "Fe", "Fe", "H"])
    assert given == {"Fe": None, "S": None}


def test_an_atom_alone_has_the_factors_of_cromer_and_liberman(tmp_path):
    """One iron atom in P 1: F is its form factor plus f' + i f''."""
    text = "CRYST1   12.000   13.000   14.000  90.00  90.00  90.00 P 1\n"
    text += "HETATM    1 FE   UNK A   1       0.000   0.000   0.000  1.00  0.00          FE\nEND\n"
    (tmp_path / "fe.pdb").write_text(text)
    factors = StructureFactors.from_model(tmp_path / "fe.pdb", dmin_A=3.0, anomalous="auto")
    assert "Fe f' f'' by Cromer and Liberman" in factors.origin
    at = factors.at(1.5)
    f_prime, f_double_prime = gemmi.cromer_liberman(26, EV_A / 1.5)
    assert at.amplitudes == pytest.approx(np.abs(factors.anomalous.normal + complex(f_prime, f_double_prime)), rel=1e-9)
    fixed = StructureFactors.from_model(tmp_path / "fe.pdb", dmin_A=3.0, anomalous={"Fe": (f_prime, f_double_prime)})
    assert at.amplitudes == pytest.approx(fixed.amplitudes, rel=1e-12)
    assert fixed.anomalous is None and np.array_equal(fixed.indices, factors.indices)
