"""The incident X-ray beam."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bragg_numba import checks as check
from bragg_numba.errors import InputError
from bragg_numba.experiment.noun import Noun
from bragg_numba.experiment.spectrum import Pulse, Spectrum, as_spectrum

#: Photons per square metre at which r_e^2 * fluence is 1, so that an image is in units of F^2.
UNIT_FLUENCE_PER_M2 = 125932015286227086360700780544.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Beam(Noun):
    """Incident beam: wavelength, flux, polarization, divergence, spectrum.

    ``None`` means "not given": the value follows from the others by nanoBragg's rules
    (docs/nanobragg.md, "steps").
    """

    wavelength_A: float = 1.0
    fluence_per_m2: float = UNIT_FLUENCE_PER_M2  #: photons per square metre, whole exposure
    flux_per_s: float = 0.0  #: photons per second; when not 0 the fluence is flux * exposure / beam_size^2
    exposure_s: float = 1.0
    beam_size_mm: float = 0.1  #: also clips the crystal's y and z sizes, as in nanoBragg
    polarization: float = 0.0  #: Kahn factor, -1..1; 0 is unpolarized
    polarized: bool = True  #: False leaves the polarization factor at 1
    dispersion_percent: float = 0.0  #: full spread of wavelengths, percent of the central one
    dispersion_steps: int | None = None
    horizontal_divergence_mrad: float | None = None  #: full range
    horizontal_divergence_step_mrad: float | None = None
    horizontal_divergence_steps: int | None = None
    vertical_divergence_mrad: float | None = None
    vertical_divergence_step_mrad: float | None = None
    vertical_divergence_steps: int | None = None
    round_divergence: bool = True  #: trim the grid of directions to an ellipse
    sources: tuple | None = None  #: rows (x, y, z, weight, wavelength_m) instead of a grid; None in a row: default
    direction: tuple | None = None  #: downstream; None: the detector convention's
    polarization_axis: tuple | None = None  #: of the E-vector; None: the detector convention's
    spectrum: Spectrum | None = None  #: instead of a dispersion; of a table wavelength_A becomes the shot's mean
    shot: int = 0  #: which shot of a spectrum whose shots differ; a series counts its frames

    def __post_init__(self) -> None:
        put, pre = self._set, "Beam."
        put(
            "wavelength_A",
            check.number(pre + "wavelength_A", self.wavelength_A, low=1e-3, high=1e4, hint="angstrom"),
        )
        put("fluence_per_m2", check.number(pre + "fluence_per_m2", self.fluence_per_m2, low=0.0, high=1e60))
        put("flux_per_s", check.number(pre + "flux_per_s", self.flux_per_s, low=0.0, high=1e60))
        put("exposure_s", check.number(pre + "exposure_s", self.exposure_s, above=0.0, high=1e12))
        put("beam_size_mm", check.number(pre + "beam_size_mm", self.beam_size_mm, low=1e-9, high=1e6))
        put("polarization", check.number(pre + "polarization", self.polarization, low=-1.0, high=1.0))
        put("polarized", check.flag(pre + "polarized", self.polarized))
        put(
            "dispersion_percent",
            check.number(pre + "dispersion_percent", self.dispersion_percent, low=0.0, high=199.0),
        )
        for field in ("dispersion_steps", "horizontal_divergence_steps", "vertical_divergence_steps"):
            value = getattr(self, field)
            put(field, check.optional(check.count, pre + field, value, low=1, high=1_000_000))
        for axis in ("horizontal", "vertical"):
            for field in (f"{axis}_divergence_mrad", f"{axis}_divergence_step_mrad"):
                value = getattr(self, field)
                put(field, check.optional(check.number, pre + field, value, low=0.0, high=6283.0))
        put("round_divergence", check.flag(pre + "round_divergence", self.round_divergence))
        put("direction", check.optional(check.vector, pre + "direction", self.direction, nonzero=True))
        axis = check.optional(check.vector, pre + "polarization_axis", self.polarization_axis, nonzero=True)
        put("polarization_axis", axis)
        if self.sources is not None:
            put("sources", _clean_sources(self.sources))
        put("shot", check.count(pre + "shot", self.shot, low=0, high=2**63 - 1))
        if self.spectrum is not None:
            self._fit_spectrum()

    def _fit_spectrum(self) -> None:
        """Refuse what would name wavelengths a second time; take the mean of those that a table has."""
        spectrum = as_spectrum("Beam.spectrum", self.spectrum)
        self._set("spectrum", spectrum)
        if self.sources is not None:
            raise InputError("Beam.spectrum", "cannot be combined with sources, which have their own wavelengths")
        if self.dispersion_percent or self.dispersion_steps is not None:
            hint = "Spectrum.tophat is the spectrum that a dispersion stands for"
            raise InputError("Beam.spectrum", "cannot be combined with a dispersion", hint=hint)
        pulse = spectrum.pulse(self.wavelength_A, self.shot)  # refuses a shot that a table lacks
        if spectrum.is_absolute:
            self._set("wavelength_A", pulse.mean_A)

    @property
    def pulse(self) -> Pulse | None:
        """The spectrum of this shot; None without a spectrum."""
        return None if self.spectrum is None else self.spectrum.pulse(self.wavelength_A, self.shot)

    @property
    def photons_per_m2(self) -> float:
        """Fluence of this shot in photons per square metre: the mean one times the pulse's share of it."""
        pulse = self.pulse
        return self.mean_photons_per_m2 if pulse is None else self.mean_photons_per_m2 * pulse.energy

    @property
    def mean_photons_per_m2(self) -> float:
        """Fluence in photons per square metre, from the flux where that is given (eq. 28); of a mean pulse."""
        if self.flux_per_s != 0.0:
            size_m = self.beam_size_mm / 1000
            return self.flux_per_s * self.exposure_s / size_m / size_m
        return self.fluence_per_m2


def _clean_sources(rows) -> tuple:
    clean = []
    if isinstance(rows, str) or not np.iterable(rows):
        raise InputError("Beam.sources", "must be rows of 5 values", rows)
    for i, row in enumerate(rows):
        name = f"Beam.sources[{i}]"
        parts = tuple(row) if np.iterable(row) else ()
        if len(parts) != 5:
            raise InputError(name, "must be 5 values: x, y, z, weight, wavelength_m", row)
        x, y, z = (check.optional(check.number, name, part) for part in parts[:3])
        if (x, y, z) == (0.0, 0.0, 0.0):
            raise InputError(name, "must not lie at the crystal", row)
        weight = check.optional(check.number, f"{name} weight", parts[3])
        wavelength = check.optional(
            check.number,
            f"{name} wavelength",
            parts[4],
            low=1e-13,
            high=1e-6,
            hint="the fifth column is in metres: 1.5e-10 is 1.5 angstrom",
        )
        clean.append((x, y, z, weight, wavelength))
    if not clean:
        raise InputError("Beam.sources", "must hold at least one source")
    return tuple(clean)
