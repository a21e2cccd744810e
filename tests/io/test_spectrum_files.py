"""Files of spectra: two columns, or a spectrum a shot in HDF5."""

import h5py
import numpy as np
import pytest

from bragg_numba import InputError, Spectrum
from bragg_numba.cli.nanobragg import main
from bragg_numba.conventions import ENERGY_WAVELENGTH_EV_A
from bragg_numba.io.spectra import read_spectra

ENERGIES = np.array([9000.0, 9005.0, 9010.0])


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("9000 1\n9005 2\n9010 4\n", None),
        ("# from the beamline\n\n9000,1\n9005 , 2\n9010;4  # last\n", None),
        ("energy(keV) counts\n9.000 1\n9.005 2\n9.010 4\n", None),
        ("9.0 1\n9.005 2\n9.01 4\n", "keV"),
        ("# keV weight\n9.0 1\n9.005 2\n9.01 4", None),
        ("1.3776022222222222 1 7\n1.3768373126041089 2 7\n1.3760732519422865 4 7\n", None),
        ("wavelength (nm), photons\n.13776022222222222 1\n.13768373126041089 2\n.13760732519422865 4\n", None),
        ("1.3776022222222222e-10 1\n1.3768373126041089e-10 2\n1.3760732519422865e-10 4\n", "m"),
    ],
)
def test_two_columns_are_read_in_the_unit_they_name(tmp_path, text, unit):
    path = tmp_path / "s.txt"
    path.write_text(text)
    lengths, weights = read_spectra(path, unit)
    assert ENERGY_WAVELENGTH_EV_A / lengths == pytest.approx(ENERGIES, rel=1e-12)
    assert weights.tolist() == [1.0, 2.0, 4.0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "at least one channel"),
        ("# nothing\n", "at least one channel"),
        ("9000 1\n9005\n", "line 2"),
        ("9000 1\n9005 x\n", "line 2"),
        ("9000 nan\n", "line 1"),
        ("9000 inf\n", "line 1"),
        ("9000 1\n-9005 1\n", "above 0"),
        ("9000 0\n9005 0\n", "sum above 0"),
        ("9000 1\n9005 -1\n", "at least 0"),
        ("90 1\n100 1\n", "does not say whether"),
        ("1.0 1\n9000 1\n", "does not say whether"),
        ("1e300 1\n", "between 0.001 and 10000"),
    ],
)
def test_a_bad_file_is_one_sentence_and_status_2(tmp_path, capsys, monkeypatch, text, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.txt").write_text(text)
    line = "-cell 100 -default_F 100 -N 5 -detpixels 16 -pixel 2 -spectrum s.txt -floatfile out.bin"
    assert main(line.split()) == 2
    said = capsys.readouterr().err.strip()
    assert words in said and "s.txt" in said and said.count("\n") == 0
    assert not (tmp_path / "out.bin").exists()


def write(path, **datasets):
    with h5py.File(path, "w") as file:
        for name, (values, units) in datasets.items():
            file[name.replace("__", "/")] = values
            if units:
                file[name.replace("__", "/")].attrs["units"] = units


STACK = np.array([[1.0, 2.0, 4.0], [3.0, 3.0, 1.0]])


@pytest.mark.parametrize(
    "datasets",
    [
        {"energies_eV": (ENERGIES, None), "weights": (STACK, None)},
        {"run__photon_energy": (ENERGIES / 1000, "keV"), "run__spectra": (STACK, None)},
        {
            "entry__beam__incident_wavelength": (1.3768, "angstrom"),
            "entry__beam__incident_wavelength_spectrum": (
                np.tile(ENERGY_WAVELENGTH_EV_A / ENERGIES, (2, 1)),
                "angstrom",
            ),
            "entry__beam__incident_wavelength_spectrum_weights": (STACK, None),
        },
    ],
)
def test_an_hdf5_stack_has_a_spectrum_a_shot(tmp_path, datasets):
    write(tmp_path / "s.h5", **datasets)
    spectrum = Spectrum.from_file(tmp_path / "s.h5")
    assert spectrum.n_shots == 2
    pulse = spectrum.pulse(1.0, 1)
    assert ENERGY_WAVELENGTH_EV_A / (pulse.wavelength_m * 1e10) == pytest.approx(ENERGIES, rel=1e-12)
    assert pulse.weight.tolist() == [3.0, 3.0, 1.0] and pulse.energy == 1.0


@pytest.mark.parametrize(
    ("datasets", "words"),
    [
        ({"energies_eV": (ENERGIES, None)}, "holds no dataset of the photons"),
        ({"weights": (STACK, None)}, "holds no dataset of the channels"),
        ({"a__energies_eV": (ENERGIES, None), "a__weights": (STACK, None), "b__weights": (STACK, None)}, "one dataset"),
        ({"energies_eV": (ENERGIES[:2], None), "weights": (STACK, None)}, "shape"),
        ({"energies_eV": (ENERGIES, "furlong"), "weights": (STACK, None)}, "must be in eV"),
        ({"energies_eV": (ENERGIES, None), "weights": (STACK * np.nan, None)}, "finite"),
        ({"energies_eV": (ENERGIES, None), "weights": (STACK * [[1.0], [0.0]], None)}, "shot 1"),
        ({"energies_eV": (np.zeros(0), None), "weights": (np.zeros((2, 0)), None)}, "at least one channel"),
    ],
)
def test_a_bad_stack_is_one_sentence(tmp_path, datasets, words):
    write(tmp_path / "s.h5", **datasets)
    with pytest.raises(InputError, match=words) as told:
        Spectrum.from_file(tmp_path / "s.h5")
    assert "s.h5" in str(told.value)


def test_files_that_are_none_are_one_sentence(tmp_path):
    (tmp_path / "cut.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    for name in ("cut.h5", "missing.txt", "."):
        with pytest.raises(InputError, match="cannot be read|does not exist|not a readable HDF5"):
            Spectrum.from_file(tmp_path / name)


def test_a_unit_that_is_none_is_refused():
    with pytest.raises(InputError, match="must be eV"):
        Spectrum.from_file("any.txt", unit="furlong")
