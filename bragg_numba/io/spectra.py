"""Spectra of other programs: two columns of text, or one spectrum a shot in an HDF5 file."""

from __future__ import annotations

import os
import re

import numpy as np

from bragg_numba.conventions import ENERGY_WAVELENGTH_EV_A
from bragg_numba.errors import InputError, read_from
from bragg_numba.io.text_files import read_text

#: Units of the first column: photon energies in eV, or wavelengths in angstrom, of one of them.
ENERGY_UNITS = {"ev": 1.0, "kev": 1000.0}
LENGTH_UNITS = {"a": 1.0, "å": 1.0, "angstrom": 1.0, "angstroms": 1.0, "ang": 1.0, "nm": 10.0, "m": 1e10, "pm": 0.01}

#: What a column without a unit may hold: angstrom, or electron volts.
SHORTEST_A, LONGEST_A, LOWEST_EV = 0.05, 10.0, 1000.0

#: What any wavelength may be, as that of a beam.
SHORTEST_OF_ALL_A, LONGEST_OF_ALL_A = 1e-3, 1e4

#: Names of datasets that hold the channels, and of those that hold their photons, the likeliest first.
CHANNEL_NAMES = (
    *("energies_eV", "energy_eV", "wavelengths_A", "wavelength_A", "incident_wavelength_spectrum"),
    *("photon_energies", "photon_energy", "energies", "energy", "wavelengths", "wavelength", "incident_wavelength"),
)
WEIGHT_NAMES = (
    *("weights", "weight", "incident_wavelength_spectrum_weights", "incident_wavelength_weights"),
    *("spectra", "spectrum", "intensities", "intensity", "photons"),
)

#: Most numbers that a file of spectra may hold: 1 GB.
MOST_NUMBERS = 2**27

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_BETWEEN = re.compile(r"[\s,;]+")


def read_spectra(path: str | os.PathLike[str], unit: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Read wavelengths (angstrom) and photons, (channels,) or (shots, channels) both or the latter alone.

    Parameters
    ----------
    unit
        Of what the file has for channels: eV, keV, A, nm, pm or m; None: as the file says it, or by size.

    Raises
    ------
    InputError
        If the file cannot be read or breaks a rule.
    """
    name = os.fspath(path)
    if unit is not None and _unit_of(unit) is None:
        raise InputError("unit", "must be eV, keV, A, nm, pm or m", unit)
    try:
        with open(path, "rb") as file:
            is_hdf5 = file.read(len(_SIGNATURE)) == _SIGNATURE
    except OSError:
        is_hdf5 = False  # which read_text says in its words
    found, weights, said = _read_hdf5(name) if is_hdf5 else _read_columns(name)
    lengths = _as_wavelengths(name, found, unit or said)
    with read_from(path):
        check_spectra(lengths, weights)
    return lengths, weights


def check_spectra(lengths: np.ndarray, weights: np.ndarray) -> None:
    """Refuse what is no spectrum: float64 wavelengths (angstrom), (channels,) or (shots, channels), and photons.

    Raises
    ------
    InputError
        For shapes that do not fit, numbers that are not finite or out of range, and spectra without photons.
    """
    if weights.ndim not in (1, 2) or lengths.shape not in (weights.shape, weights.shape[-1:]):
        rule = "must have the shape of their channels, or (shots, channels)"
        raise InputError("Spectrum.weights", rule, weights.shape, f"there are {lengths.shape} channels")
    if not weights.size:
        raise InputError("Spectrum.weights", "must hold at least one channel", weights.shape)
    outside = ~((lengths >= SHORTEST_OF_ALL_A) & (lengths <= LONGEST_OF_ALL_A))
    if outside.any():
        rule = f"must be wavelengths between {SHORTEST_OF_ALL_A:g} and {LONGEST_OF_ALL_A:g} angstrom"
        raise InputError("Spectrum.wavelengths_A", rule, float(lengths[outside][0]))
    if not np.isfinite(weights).all():
        place = tuple(int(i) for i in np.argwhere(~np.isfinite(weights))[0])
        raise InputError("Spectrum.weights", "must be finite", place)
    if weights.min() < 0.0:
        hint = "subtract the background of a measured one and leave what is below 0 at 0"
        raise InputError("Spectrum.weights", "must be at least 0", float(weights.min()), hint)
    with np.errstate(over="ignore"):
        sums = np.atleast_1d(weights.sum(axis=-1))
    if not (np.isfinite(sums) & (sums > 0.0)).all():
        shot = int(np.flatnonzero(~(np.isfinite(sums) & (sums > 0.0)))[0])
        where = f" in every shot; shot {shot} has not" if weights.ndim == 2 else ""
        raise InputError("Spectrum.weights", f"must have a finite sum above 0{where}")


def _unit_of(text: str) -> str | None:
    """A unit's key, None for what is none."""
    key = text.strip().lower()
    return key if key in ENERGY_UNITS or key in LENGTH_UNITS else None


def _as_wavelengths(name: str, values: np.ndarray, unit: str | None) -> np.ndarray:
    """Energies or wavelengths in a unit as angstrom."""
    if not np.isfinite(values).all() or values.min() <= 0.0:
        bad = values[~(np.isfinite(values) & (values > 0.0))].flat[0]
        raise InputError(name, "must have energies or wavelengths above 0", float(bad))
    key = None if unit is None else _unit_of(unit)
    if key is None:
        low, high = float(values.min()), float(values.max())
        if low >= LOWEST_EV:
            key = "ev"
        elif low >= SHORTEST_A and high <= LONGEST_A:
            key = "a"
        else:
            rule = f"does not say whether {low:.6g} to {high:.6g} are energies or wavelengths, and their size does not"
            raise InputError(name, rule, hint='name the unit in a first line such as "# keV weight", or say unit')
    if key in ENERGY_UNITS:
        return ENERGY_WAVELENGTH_EV_A / (values * ENERGY_UNITS[key])
    scale = LENGTH_UNITS[key]
    return values if scale == 1.0 else values * scale


def _read_columns(name: str) -> tuple[np.ndarray, np.ndarray, str | None]:
    """Two columns of a text file, and the unit that a comment or a line of names says."""
    unit: str | None = None
    rows: list[list[float]] = []
    for number, line in enumerate(read_text(name).split("\n"), start=1):
        text, _, comment = line.partition("#")
        words = [word for word in _BETWEEN.split(text.strip()) if word]
        if not words:
            unit = unit or _unit_in(comment)
            continue
        try:
            values = [float(word) for word in words[:2]]
        except ValueError:
            if not rows and unit is None and re.match(r"[A-Za-z\"(]", words[0]):
                unit = _unit_in(text)  # the names of the columns
                continue
            raise InputError(
                name, f"line {number} must be two numbers: energy or wavelength, and photons", line
            ) from None
        if len(values) < 2:
            raise InputError(name, f"line {number} must be two numbers: energy or wavelength, and photons", line)
        if not np.isfinite(values).all():
            raise InputError(name, f"line {number} must be finite", line)
        rows.append(values)
    if not rows:
        raise InputError(name, "must hold at least one channel: energy or wavelength, and photons")
    columns = np.array(rows).T
    return columns[0].copy(), columns[1].copy(), unit


def _unit_in(text: str) -> str | None:
    """The unit that a line of words names."""
    words = [word for word in re.split(r"[^A-Za-zÅå]+", text) if word]
    exact = [word for word in words if word.lower() in (*ENERGY_UNITS, "angstrom", "angstroms", "å", "nm", "pm")]
    if not exact:  # a lone A is a unit, "a line" is not
        exact = [word for word in words if word == "A" or (word == "m" and "wavelength" in text.lower())]
    return exact[0] if exact else None


def _read_hdf5(name: str) -> tuple[np.ndarray, np.ndarray, str | None]:
    """Channels, photons and unit of an HDF5 file; datasets are known by their names."""
    import h5py

    from bragg_numba.io.hdf5 import open_hdf5, reading

    with open_hdf5(name) as file, reading(name):
        datasets: dict[str, h5py.Dataset] = {}

        def keep(path: str, item) -> None:
            if isinstance(item, h5py.Dataset) and item.dtype.kind in "iuf" and item.ndim in (1, 2):
                datasets[path] = item

        file.visititems(keep)
        weights = _named(name, datasets, WEIGHT_NAMES, "the photons of each channel")
        channels = _named(name, datasets, CHANNEL_NAMES, "the channels' energies or wavelengths", len(weights[1].shape))
        for path, item in (channels, weights):
            if item.size > MOST_NUMBERS:
                raise InputError(f"{name}:/{path}", f"must hold at most {MOST_NUMBERS} numbers", item.size)
        unit = channels[1].attrs.get("units")
        if isinstance(unit, bytes):
            unit = unit.decode("utf-8", "replace")
        found = np.asarray(channels[1][()], dtype=np.float64)
        photons = np.asarray(weights[1][()], dtype=np.float64)
    if unit is not None and _unit_of(str(unit)) is None:
        raise InputError(f"{name}:/{channels[0]}", "must be in eV, keV, A, nm, pm or m", str(unit))
    if unit is None:
        ends = {"_ev": "eV", "_a": "A"}
        unit = next((ends[end] for end in ends if channels[0].lower().endswith(end)), None)
    if not found.size or not photons.size:
        raise InputError(name, "must hold at least one channel")
    return found, photons, None if unit is None else str(unit)


def _named(name: str, datasets: dict, names: tuple[str, ...], what: str, most: int = 2):
    """Path and dataset of the likeliest of some names."""
    for wanted in names:
        found = [path for path in datasets if path.rsplit("/", 1)[-1].lower() == wanted.lower()]
        found = [path for path in found if datasets[path].ndim <= most]
        if len(found) > 1:
            raise InputError(name, f"must hold one dataset of {what}", sorted(found))
        if found:
            return found[0], datasets[found[0]]
    raise InputError(name, f"holds no dataset of {what}", sorted(datasets), f"known names: {', '.join(names)}")
