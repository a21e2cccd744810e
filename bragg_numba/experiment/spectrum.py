"""Which wavelengths a pulse holds, and how many of its photons each: the same in every shot, or drawn anew for each."""

from __future__ import annotations

import dataclasses
import difflib
import math
import os
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np

from bragg_numba import checks as check
from bragg_numba.conventions import ENERGY_WAVELENGTH_EV_A
from bragg_numba.errors import InputError, read_from
from bragg_numba.experiment.noun import Noun
from bragg_numba.io.spectra import check_spectra

#: What a spectrum may look like.
SHAPES = ("monochromatic", "gaussian", "tophat", "pink", "sase", "table")

#: FWHM of a Gaussian over its sigma.
FWHM = 2.0 * math.sqrt(2.0 * math.log(2.0))

#: FWHM of a spike of a SASE spectrum times that of its Gaussian pulse: 2 ln 2 / pi of Planck's constant, eV fs.
SPIKE_EV_FS = 2.0 * math.log(2.0) / math.pi * 4.135667696

#: Channels reach this many sigmas from a Gaussian's centre, and this many tails below a pink line's.
SIGMAS, TAILS = 3.0, 5.0

#: A narrower bandwidth than this is none.
NARROWEST_PERCENT = 1e-9

#: Most channels of a shape.
MOST_CHANNELS = 1_000_000


class Pulse(NamedTuple):
    """The spectrum of one shot."""

    wavelength_m: np.ndarray  #: float64 (channels,)
    weight: np.ndarray  #: float64 (channels,), photons of each channel, in any unit; none of them 0
    energy: float  #: photons of the pulse over those of a mean one

    @property
    def mean_A(self) -> float:
        """Mean wavelength of the photons, angstrom."""
        return float(np.average(self.wavelength_m, weights=self.weight)) * 1e10


class _Known(Noun):
    """What a table's mean is, found when it is first wanted: every frame of a series asks for it again."""

    __slots__ = ("_means",)
    _means: tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Spectrum(_Known):
    """Channels of photon energy and how many photons each has; docs/spectra.md holds the formulas.

    All shapes but tables lie about ``Beam.wavelength_A``; channels are evenly spaced in photon energy. What is drawn
    is drawn from ``seed`` and the number of the shot (``Beam.shot``; in a series the frame's) and from nothing else.

    Widths are percent of the central photon energy.
    """

    shape: str = "monochromatic"
    bandwidth_percent: float = 0.0  #: FWHM; of a top hat the full width, of pink the line without its tail
    channels: int = 50  #: of all shapes but monochromatic and table
    tail_percent: float | None = None  #: pink: 1/e length of the tail to low energies; None: the bandwidth
    pulse_fs: float | None = None  #: sase: FWHM of the pulse, femtoseconds
    second_percent: float = 0.0  #: sase: the second colour lies this much above the first, below 0: under it
    second_share: float = 0.0  #: sase: photons of the second colour over all
    seeded_share: float = 0.0  #: sase: photons of the self-seeded line over all
    seeded_percent: float = 0.01  #: sase: FWHM of that line
    centre_jitter_percent: float = 0.0  #: sigma of each shot's centre
    energy_jitter_percent: float = 0.0  #: sigma of each shot's photons, over their mean
    channel_jitter: bool = False  #: each shot has every channel at a random place within its width
    equal_energy: bool = False  #: every shot has the same photons, whatever was drawn or a table's weights sum to
    recentre: bool = False  #: table: moved in energy, so that the mean of all spectra lies at Beam.wavelength_A
    seed: int = 1
    wavelengths_A: np.ndarray | None = None  #: table: (channels,) or (shots, channels)
    weights: np.ndarray | None = None  #: table: (channels,) or (shots, channels), photons in any unit

    def __post_init__(self) -> None:
        put, pre = self._set, "Spectrum."
        put("shape", check.choice(pre + "shape", self.shape, SHAPES))
        put("channels", check.count(pre + "channels", self.channels, low=1, high=MOST_CHANNELS))
        put("seed", check.count(pre + "seed", self.seed, low=0, high=2**63 - 1))
        for name in ("channel_jitter", "equal_energy", "recentre"):
            put(name, check.flag(pre + name, getattr(self, name)))
        limits = {
            "bandwidth_percent": (0.0, 100.0),
            "second_percent": (-50.0, 50.0),
            "seeded_percent": (NARROWEST_PERCENT, 100.0),
            "centre_jitter_percent": (0.0, 10.0),
            "energy_jitter_percent": (0.0, 1000.0),
            "second_share": (0.0, 1.0),
            "seeded_share": (0.0, 1.0),
        }
        for name, (low, high) in limits.items():
            put(name, check.number(pre + name, getattr(self, name), low=low, high=high))
        put("tail_percent", check.optional(check.number, pre + "tail_percent", self.tail_percent, low=0.0, high=100.0))
        put("pulse_fs", check.optional(check.number, pre + "pulse_fs", self.pulse_fs, above=0.0, high=1e9))
        self._refuse_what_has_no_effect()
        if self.shape == "table":
            self._clean_table()
        elif self.shape != "monochromatic" and self.bandwidth_percent < NARROWEST_PERCENT:
            rule = f"must be above 0 for shape {self.shape}, {NARROWEST_PERCENT:g} at least"
            raise InputError("Spectrum.bandwidth_percent", rule)
        if self.shape == "sase" and self.pulse_fs is None:
            raise InputError("Spectrum.pulse_fs", "must be given for shape sase", hint="its spikes' width is 1.8 eV fs")
        if self.second_share + self.seeded_share > 1.0:
            raise InputError("Spectrum.second_share", "must be at most 1 with seeded_share", self.second_share)
        if self.shape not in ("monochromatic", "table"):
            self._refuse_negative_energies()

    # --- ways to make one -------------------------------------------------------------------------

    @classmethod
    def monochromatic(cls, **more) -> Self:
        """One wavelength, that of the beam; ``more``: jitters and seed."""
        return cls(**more)

    @classmethod
    def gaussian(cls, bandwidth_percent: float, channels: int = 50, **more) -> Self:
        """A Gaussian of this FWHM, to 3 sigma; ``more``: further fields."""
        return cls(shape="gaussian", bandwidth_percent=bandwidth_percent, channels=channels, **more)

    @classmethod
    def tophat(cls, bandwidth_percent: float, channels: int = 50, **more) -> Self:
        """Equal weights over this full width; ``more``: further fields."""
        return cls(shape="tophat", bandwidth_percent=bandwidth_percent, channels=channels, **more)

    @classmethod
    def pink(cls, bandwidth_percent: float, tail_percent: float | None = None, channels: int = 50, **more) -> Self:
        """A line of an undulator: a Gaussian with an exponential tail to low energies; ``more``: further fields."""
        return cls(
            shape="pink", bandwidth_percent=bandwidth_percent, tail_percent=tail_percent, channels=channels, **more
        )

    @classmethod
    def sase(cls, bandwidth_percent: float, pulse_fs: float, channels: int = 50, **more) -> Self:
        """Spikes of a free-electron laser under a Gaussian of this FWHM; ``more``: further fields."""
        return cls(shape="sase", bandwidth_percent=bandwidth_percent, pulse_fs=pulse_fs, channels=channels, **more)

    @classmethod
    def table(cls, weights, *, energies_eV=None, wavelengths_A=None, **more) -> Self:
        """Spectra as they are: (channels,) or (shots, channels) weights at energies or wavelengths.

        ``more``: jitters, ``recentre`` and seed.
        """
        if (energies_eV is None) == (wavelengths_A is None):
            raise InputError("Spectrum.table", "needs either energies_eV or wavelengths_A")
        if wavelengths_A is None:
            found = _numbers("Spectrum.energies_eV", energies_eV)
            if not (found > 0.0).all():
                raise InputError("Spectrum.energies_eV", "must be above 0", float(found.min()))
            wavelengths_A = ENERGY_WAVELENGTH_EV_A / found
        return cls(shape="table", wavelengths_A=wavelengths_A, weights=weights, **more)

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], unit: str | None = None, **more) -> Self:
        """Read a spectrum from a text file of two columns, or spectra shot by shot from an HDF5 file.

        Parameters
        ----------
        path
            Text: energy or wavelength, and photons, a channel a line. HDF5: see docs/spectra.md.
        unit
            Of the first column: eV, keV, A, nm or m; None: as the file says it, else by size: from 0.05 to 10
            angstrom, from 1000 on eV.
        more
            Jitters, ``recentre`` and seed.

        Raises
        ------
        InputError
            If the file cannot be read or breaks a rule: which line, which rule, which value.
        """
        from bragg_numba.io.spectra import read_spectra

        wavelengths, weights = read_spectra(path, unit)
        with read_from(path):
            return cls(shape="table", wavelengths_A=wavelengths, weights=weights, **more)

    # --- checks -----------------------------------------------------------------------------------

    def _refuse_what_has_no_effect(self) -> None:
        """Refuse fields of other shapes than this: they were meant for something."""
        owners = {
            "tail_percent": ("pink",),
            "pulse_fs": ("sase",),
            "second_percent": ("sase",),
            "second_share": ("sase",),
            "seeded_share": ("sase",),
            "recentre": ("table",),
            "wavelengths_A": ("table",),
            "weights": ("table",),
            "bandwidth_percent": ("gaussian", "tophat", "pink", "sase"),
        }
        for name, shapes in owners.items():
            value = getattr(self, name)
            given = value is not None and (isinstance(value, (np.ndarray, list, tuple)) or bool(value))
            if given and self.shape not in shapes:
                raise InputError(f"Spectrum.{name}", f"has no effect on shape {self.shape}", hint=" or ".join(shapes))

    def _clean_table(self) -> None:
        if self.wavelengths_A is None or self.weights is None:
            raise InputError("Spectrum", "of shape table needs wavelengths_A and weights")
        lengths = _numbers("Spectrum.wavelengths_A", self.wavelengths_A)
        weights = _numbers("Spectrum.weights", self.weights)
        check_spectra(lengths, weights)
        for name, array in (("wavelengths_A", lengths), ("weights", weights)):
            array.flags.writeable = False
            self._set(name, array)

    def _refuse_negative_energies(self) -> None:
        low, high = self._edges()
        if low <= -0.99 or high > 10.0:
            raise InputError(
                "Spectrum.bandwidth_percent",
                "must leave every channel a photon energy above 0",
                self.bandwidth_percent,
                f"channels reach from {100.0 * low:+.3g} to {100.0 * high:+.3g} % of the centre",
            )

    def alone(self, shot: int) -> Self:
        """One spectrum of a table of many that does not depend on the others: what was checked is not checked again.

        Channels without photons, which fill up spectra with fewer than others, are left out.
        """
        assert self.weights is not None and self.wavelengths_A is not None
        assert self.weights.ndim == 2 and self.equal_energy and not self.recentre
        there = self.weights[shot] > 0.0
        lengths = self.wavelengths_A[shot] if self.wavelengths_A.ndim == 2 else self.wavelengths_A
        own = {"wavelengths_A": lengths[there], "weights": self.weights[shot][there]}
        made = object.__new__(type(self))
        for field in dataclasses.fields(self):
            made._set(field.name, own.get(field.name, getattr(self, field.name)))
        return made

    # --- what it is -------------------------------------------------------------------------------

    @property
    def n_shots(self) -> int | None:
        """How many shots there are spectra for; None: any number."""
        return len(self.weights) if self.weights is not None and self.weights.ndim == 2 else None

    @property
    def is_absolute(self) -> bool:
        """Whether the photon energies are those of a table, wherever the beam's wavelength lies."""
        return self.shape == "table" and not self.recentre

    @property
    def varies(self) -> bool:
        """Whether shots differ."""
        jitters = self.centre_jitter_percent or self.energy_jitter_percent or self.channel_jitter
        return bool(jitters) or self.shape == "sase" or self.n_shots is not None

    @property
    def spike_eV(self) -> float:
        """FWHM of a SASE spike, eV."""
        return SPIKE_EV_FS / self.pulse_fs if self.pulse_fs else 0.0

    def channel_eV(self, wavelength_A: float) -> float:
        """Width of a channel of a shape with channels, eV."""
        low, high = self._edges()
        return (high - low) / self.channels * ENERGY_WAVELENGTH_EV_A / wavelength_A

    def pulse(self, wavelength_A: float, shot: int = 0) -> Pulse:
        """Return the spectrum of one shot of a beam with this wavelength.

        Raises
        ------
        InputError
            If a table has no such shot.
        """
        centre = ENERGY_WAVELENGTH_EV_A / wavelength_A
        lengths, weights, photons = self._mean_pulse(wavelength_A, shot)
        if self.shape == "sase":
            weights, photons = self._draw_spikes(weights, centre, shot)
        if self.recentre or self.channel_jitter or self.centre_jitter_percent:
            lengths = ENERGY_WAVELENGTH_EV_A / self._moved(ENERGY_WAVELENGTH_EV_A / lengths, centre, shot)
        if self.energy_jitter_percent:
            photons *= self._gamma(shot, "energy", 1.0 / max(0.01 * self.energy_jitter_percent, 1e-9) ** 2)
        there = weights > 0.0
        if not there.all():
            lengths, weights = lengths[there], weights[there]
        # As Beam has it, to the last bit.
        metres = lengths / 1e10 if self.shape == "monochromatic" else lengths * 1e-10
        return Pulse(metres, weights, 1.0 if self.equal_energy else photons)

    def _mean_pulse(self, wavelength_A: float, shot: int) -> tuple[np.ndarray, np.ndarray, float]:
        """Wavelengths, weights and photons before anything is drawn; of a table those of the shot."""
        if self.shape == "monochromatic":
            return np.array([wavelength_A]), np.ones(1), 1.0
        if self.shape == "table":
            return self._of_table(shot)
        edges = self._channel_edges()
        lengths = wavelength_A / (1.0 + 0.5 * (edges[1:] + edges[:-1]))
        return lengths, self._mean_weights(edges), 1.0

    def _of_table(self, shot: int) -> tuple[np.ndarray, np.ndarray, float]:
        """Wavelengths, weights as they stand there, and photons over the mean of all shots."""
        assert self.wavelengths_A is not None and self.weights is not None
        lengths, weights = self.wavelengths_A, self.weights
        if weights.ndim == 1:
            return lengths, weights, 1.0
        if not 0 <= shot < len(weights):
            raise InputError("Beam.shot", f"must be below {len(weights)}, the number of spectra", shot)
        photons = 1.0 if self.equal_energy else float(weights[shot].sum()) / self._mean_of_table()[0]
        return lengths[shot] if lengths.ndim == 2 else lengths, weights[shot], photons

    def _mean_of_table(self) -> tuple[float, float]:
        """Mean photons of a table's spectra, and the mean photon energy of all of them, eV."""
        try:
            return self._means
        except AttributeError:
            assert self.wavelengths_A is not None and self.weights is not None
            weights = np.atleast_2d(self.weights)
            energies = np.broadcast_to(ENERGY_WAVELENGTH_EV_A / self.wavelengths_A, weights.shape)
            means = float(weights.sum(axis=1).mean()), float(np.average(energies, weights=weights))
            self._set("_means", means)
            return means

    def _moved(self, energies: np.ndarray, centre: float, shot: int) -> np.ndarray:
        """Photon energies of the channels, eV, as recentring and jitters have them."""
        if self.channel_jitter and self.shape != "monochromatic":
            half = _half_widths(energies)
            energies = energies + half * (2.0 * self._stream(shot, "channel").random(len(energies)) - 1.0)
        if self.recentre:
            energies = energies + (centre - self._mean_of_table()[1])
        if self.centre_jitter_percent:
            moved = 0.01 * self.centre_jitter_percent * self._stream(shot, "centre").standard_normal()
            energies = energies + moved * centre
        if energies.min() <= 0.0:
            raise InputError("Spectrum", f"leaves a channel of shot {shot} no photon energy", float(energies.min()))
        return energies

    def _channel_edges(self) -> np.ndarray:
        """Edges of the channels, as parts of the central energy from it; (channels + 1,)."""
        low, high = self._edges()
        return low + (high - low) / self.channels * np.arange(self.channels + 1.0)

    def _sigma(self) -> float:
        return 0.01 * self.bandwidth_percent / FWHM

    def _tail(self) -> float:
        return 0.01 * (self.bandwidth_percent if self.tail_percent is None else self.tail_percent)

    def _edges(self) -> tuple[float, float]:
        """Where channels begin and end, as parts of the central energy from it."""
        if self.shape == "tophat":
            return -0.005 * self.bandwidth_percent, 0.005 * self.bandwidth_percent
        low, high = -SIGMAS * self._sigma(), SIGMAS * self._sigma()
        if self.shape == "pink":
            return low - TAILS * self._tail(), high
        if self.second_share:
            second = 0.01 * self.second_percent
            low, high = min(low, low + second), max(high, high + second)
        if self.seeded_share:
            line = SIGMAS * 0.01 * self.seeded_percent / FWHM
            low, high = min(low, -line), max(high, line)
        return low, high

    def _mean_weights(self, edges: np.ndarray) -> np.ndarray:
        """Photons of each channel: of the density over its width; their sum 1. SASE: without the seeded line."""
        if self.shape == "tophat":
            return np.full(len(edges) - 1, 1.0 / (len(edges) - 1))
        if self.shape == "pink":
            found = np.diff(_below_tailed(edges, self._sigma(), self._tail()))
        else:
            found = (1.0 - self.second_share) * _of_gaussian(edges, 0.0, self._sigma())
            if self.second_share:
                found += self.second_share * _of_gaussian(edges, 0.01 * self.second_percent, self._sigma())
        found = np.maximum(found, 0.0)
        return found / found.sum()

    def _draw_spikes(self, mean: np.ndarray, centre: float, shot: int) -> tuple[np.ndarray, float]:
        """Weights of one shot and its photons over the mean: a Gamma deviate for each channel, of its own modes.

        A channel of M spikes has Gamma(M, mean / M): mean and variance mean^2 / M. The self-seeded line is one pulse
        with modes of its own: all of its channels rise and fall together.
        """
        modes = max(1.0, self.channel_eV(ENERGY_WAVELENGTH_EV_A / centre) / self.spike_eV)
        drawn = mean * self._stream(shot, "spikes").standard_gamma(modes, size=len(mean)) / modes
        if self.seeded_share:
            line = _of_gaussian(self._channel_edges(), 0.0, 0.01 * self.seeded_percent / FWHM)
            of_line = max(1.0, 0.01 * self.seeded_percent * centre / self.spike_eV)
            together = self._gamma(shot, "seeded", of_line)
            drawn = (1.0 - self.seeded_share) * drawn + self.seeded_share * together * line / line.sum()
        photons = float(drawn.sum())
        return drawn / photons, photons

    def _gamma(self, shot: int, name: str, modes: float) -> float:
        """A Gamma deviate of this stream with mean 1 and variance 1 / modes."""
        return float(self._stream(shot, name).standard_gamma(modes)) / modes

    def _stream(self, shot: int, name: str) -> np.random.Generator:
        """The random numbers of one quantity of one shot: no other draws from them."""
        key = np.random.SeedSequence([self.seed, shot, *f"spectrum {name}".encode()])
        return np.random.Generator(np.random.Philox(key))


def as_spectrum(name: str, value) -> Spectrum:
    """Return a spectrum given as such, as its dictionary, or as the name of a shape that needs nothing else."""
    if isinstance(value, Spectrum):
        return value
    if isinstance(value, dict):
        return Spectrum.from_dict(value)
    near = difflib.get_close_matches(str(value), SHAPES, n=1)
    hint = f"Spectrum(shape={near[0]!r})" if near else "Spectrum.gaussian, .tophat, .pink, .sase, .from_file"
    raise InputError(name, "must be a Spectrum", value, hint)


def _numbers(name: str, values) -> np.ndarray:
    """Finite numbers as a float64 array of its own."""
    try:
        found = np.array(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(name, "must be numbers, as many in every row") from None
    if not np.isfinite(found).all():
        raise InputError(name, "must be finite", tuple(int(i) for i in np.argwhere(~np.isfinite(found))[0]))
    return found


def _half_widths(energies: np.ndarray) -> np.ndarray:
    """Half of each channel's width: half-way to the nearer neighbour; 0 for one alone."""
    order = np.argsort(energies, kind="stable")
    gaps = np.diff(energies[order])
    half = np.zeros(len(energies))
    if len(gaps):
        half[order] = 0.5 * np.minimum(np.append(gaps[0], gaps), np.append(gaps, gaps[-1]))
    return half


def _of_gaussian(edges: np.ndarray, centre: float, sigma: float) -> np.ndarray:
    """Part of a Gaussian between neighbouring edges."""
    return np.diff([0.5 * math.erf((edge - centre) / (sigma * math.sqrt(2.0))) for edge in edges])


def _below_tailed(edges: np.ndarray, sigma: float, tail: float) -> np.ndarray:
    """Part of a Gaussian with an exponential tail to low energies that lies below each edge."""
    found = []
    for edge in (edges / sigma).tolist():
        below = 0.5 * math.erfc(-edge / math.sqrt(2.0))
        if tail > 0.0:
            # Gaussian minus exponential: P(x < e) = Phi(e) + exp(e r + r^2 / 2) Phi(-e - r), r = sigma / tail.
            rate = sigma / tail
            above = edge + rate
            if above < 20.0:
                below += math.exp(rate * edge + 0.5 * rate * rate) * 0.5 * math.erfc(above / math.sqrt(2.0))
            else:  # the first terms of erfc's expansion, before they overflow
                inverse = 1.0 / above
                density = math.exp(-0.5 * edge * edge) / math.sqrt(2.0 * math.pi)
                below += density * inverse * (1.0 - inverse**2 + 3.0 * inverse**4)
        found.append(below)
    return np.array(found)
