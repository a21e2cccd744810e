"""Attenuation of elements and materials, against published numbers and xraydb."""

from __future__ import annotations

import numpy as np
import pytest

from bragg_numba import InputError
from bragg_numba.materials import attenuation_per_m, find_material
from bragg_numba.materials.attenuation import BUILT_IN

KEV_A = 12.39842


def depth_um(name: str, keV: float, *, absorbed: bool) -> float:
    return 1e6 / float(attenuation_per_m("x", find_material("x", name), KEV_A / keV, absorbed=absorbed))


@pytest.mark.parametrize("absorbed", [True, False], ids=["absorption", "total"])
@pytest.mark.parametrize("name", BUILT_IN)
def test_attenuation_is_that_of_xraydb_from_3_to_60_keV(name, absorbed):
    xraydb = pytest.importorskip("xraydb", reason="xraydb is not installed: the extra 'test' has it")
    material = find_material("x", name)
    keV = np.exp(np.linspace(np.log(3.0), np.log(60.0), 1001))
    ours = attenuation_per_m("x", material, KEV_A / keV, absorbed=absorbed) / 100.0
    kind = "photo" if absorbed else "total"
    theirs = xraydb.material_mu(material.formula, keV * 1000.0, density=material.density_g_per_cm3, kind=kind)
    # The script's tolerance, 0.4 %, for absorption and scattering each; next to an edge both are what they are.
    np.testing.assert_allclose(ours, theirs, rtol=6e-3)


@pytest.mark.parametrize(
    ("name", "keV", "micrometres"),
    [
        # Of realism.md, section 5: total attenuation, made with xraydb.
        *(("si", keV, um) for keV, um in ((7.1, 47.1), (12.4, 238.0), (20.0, 962.0), (40.0, 6126.0))),
        *(("CdTe", keV, um) for keV, um in ((7.1, 5.0), (12.4, 22.1), (25.0, 146.0), (30.0, 78.3))),
        *(("GaAs", keV, um) for keV, um in ((9.5, 43.3), (12.4, 12.5), (30.0, 135.0))),
        *(("Gd2O2S", keV, um) for keV, um in ((7.1, 10.0), (8.0, 3.9), (20.0, 37.2))),
        *(("beryllium", keV, um) for keV, um in ((7.1, 3476.0), (12.4, 13020.0), (20.0, 24040.0))),
        *(("kapton", keV, um) for keV, um in ((8.0, 1143.0), (12.4, 4081.0))),
        *(("water", keV, um) for keV, um in ((8.0, 964.0), (20.0, 12350.0))),
        *(("air", keV, um) for keV, um in ((7.1, 57.6e4), (12.4, 298e4), (20.0, 1048e4))),
    ],
)
def test_attenuation_lengths_are_the_known_ones(name, keV, micrometres):
    # 1.5 %: the numbers have three digits, and a gas's density a temperature.
    assert depth_um(name, keV, absorbed=False) == pytest.approx(micrometres, rel=0.015)


def test_a_sensor_of_450_um_silicon_absorbs_84_percent_at_12_4_keV():
    assert 1.0 - np.exp(-450.0 / depth_um("Si", 12.4, absorbed=True)) == pytest.approx(0.840, abs=0.002)


def test_absorption_jumps_at_an_edge_and_scattering_does_not():
    below, above = (depth_um("CdTe", keV, absorbed=True) for keV in (26.70, 26.72))
    assert below / above > 2.0
    per_m = [attenuation_per_m("x", find_material("x", "CdTe"), KEV_A / keV, absorbed=False) for keV in (26.70, 26.72)]
    absorbed = [1e6 / below, 1e6 / above]
    scattered = np.array(per_m) - absorbed
    assert scattered[0] == pytest.approx(scattered[1], rel=1e-2)


def test_a_formula_is_the_sum_of_its_elements_by_mass():
    mixed = find_material("x", "SiO2", 1.0)
    masses = {"Si": 28.085, "O": 2 * 15.999}
    parts = [
        mass / sum(masses.values()) * attenuation_per_m("x", find_material("x", element, 1.0), 1.0, absorbed=True)
        for element, mass in masses.items()
    ]
    assert float(attenuation_per_m("x", mixed, 1.0, absorbed=True)) == pytest.approx(float(sum(parts)), rel=1e-6)


@pytest.mark.parametrize("word", ["Si", "si", "SI", "silicon", " Silicon "])
def test_names_may_be_written_in_any_way(word):
    assert find_material("x", word) == find_material("x", "si")


@pytest.mark.parametrize("formula", ["Cs2Te", "Cd0.8Zn0.2Te", "B4C", "UO2"])
def test_any_formula_will_do_with_a_density(formula):
    assert float(attenuation_per_m("x", find_material("x", formula, 5.0), 1.0, absorbed=False)) > 0.0
    with pytest.raises(InputError, match="x needs a density"):
        find_material("x", formula)


@pytest.mark.parametrize(
    ("word", "said"),
    [("silicium", "silicon"), ("Xx2", "built in"), ("", "built in"), ("Si(O)2", "sio2"), (3, "name or a formula")],
)
def test_what_is_no_material_is_refused(word, said):
    with pytest.raises(InputError, match=said):
        find_material("Detector.sensor", word, 2.0)


@pytest.mark.parametrize("wavelength_A", [20.0, 0.05, [1.0, 30.0]])
def test_energies_beyond_the_table_are_refused(wavelength_A):
    with pytest.raises(InputError, match="1 to 200 keV"):
        attenuation_per_m("x", find_material("x", "si"), wavelength_A, absorbed=True)
