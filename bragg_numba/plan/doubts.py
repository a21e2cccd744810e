"""What can be rendered and is yet hardly what somebody wants: sentences with the number and the way out."""

from __future__ import annotations

import math
from itertools import product

import numpy as np

from bragg_numba.conventions import ENERGY_WAVELENGTH_EV_A
from bragg_numba.experiment import Experiment
from bragg_numba.experiment.placing import PlacedDetector
from bragg_numba.plan.cell import Cell
from bragg_numba.plan.sources import Sources

#: Wavelengths that crystals are looked at with, angstrom: 250 keV to 1.2 keV.
SHORTEST_A, LONGEST_A = 0.05, 10.0

#: Share of the photons of true spots below which those of C's radius are worth a warning.
FEWEST_PHOTONS = 0.5

#: Cells are the same up to this part of an edge, and degrees.
SAME_LENGTH, SAME_ANGLE_DEG = 1e-3, 0.1

#: Degrees by which the angles of a cell may differ from those given and not be worth a word.
CLOSE_ANGLES_DEG = 0.01

#: A pixel of more than this part of its distance is as good as a unit mistaken.
WIDEST_PIXEL = 0.5

#: Reflections of which one is the closest to the origin, in any cell that a crystallographer would choose.
_INDICES = np.array([hkl for hkl in product(range(-2, 3), repeat=3) if any(hkl)], dtype=float)


def list_doubts(
    experiment: Experiment,
    detector: PlacedDetector,
    cell: Cell,
    counts: tuple[int, int, int],
    sources: Sources,
    gram: np.ndarray,
) -> list[str]:
    """Return one sentence for each thing about a plan that looks like a slip.

    ``counts`` are the cells along a, b, c and ``gram`` is the lattice's metric (eq. 14), float64 (3, 3).
    """
    doubts = [_wavelength(cell, counts, sources), _divergence(experiment, sources), _pixel(detector)]
    doubts += [coarse_channels(experiment, detector, cell, counts, sources), _fine_channels(experiment)]
    doubts += [_other_cell(experiment, cell), _lean_of_c(experiment, cell)]
    if experiment.fidelity == "nanobragg" and experiment.crystal.shape in ("gauss", "tophat"):
        doubts.append(_narrow_spots(experiment, counts, gram))
    return [doubt for doubt in doubts if doubt]


def _lean_of_c(experiment: Experiment, cell: Cell) -> str:
    """Say that the reference's c* gives a triclinic cell other angles than its own."""
    crystal = experiment.crystal
    if experiment.fidelity != "nanobragg" or crystal.cell is None or crystal.mosflm_matrix is not None:
        return ""
    given, made = crystal.cell[3:], cell.angles_deg
    if max(abs(one - other) for one, other in zip(given, made, strict=True)) < CLOSE_ANGLES_DEG:
        return ""
    return (
        "the cell's angles come out as {:.3f} {:.3f} {:.3f} degrees: nanoBragg's c* is that of cells with "
        "sin gamma = sin gamma*; -fidelity physical, or -mat, gives those of -cell".format(*made)
    )


def coarse_channels(
    experiment: Experiment, detector: PlacedDetector, cell: Cell, counts: tuple[int, int, int], sources: Sources
) -> str:
    """Say that a beam's wavelengths are too far apart: a spot would be a row of stripes (docs/spectra.md).

    Those of a spectrum or a dispersion; sources that a user lists are what they are.

    A step of wavelength moves a reflection's distance from the sphere by |q|^2 / 2 of it; it should stay below half a
    fringe of the crystal, or below what the mosaic domains smear.
    """
    beam = experiment.beam
    waves = np.unique(sources.wavelength)
    if beam.sources is not None or len(waves) < 3 or (beam.spectrum is not None and beam.spectrum.channel_jitter):
        return ""
    energies = np.sort(1.0 / waves)
    energies /= energies.mean()
    # The usual gap: two colours far apart are no coarse sampling of one.
    gap, span = float(np.median(np.diff(energies))), float(energies[-1] - energies[0])
    wavelength_A = float(sources.wavelength.mean()) * 1e10
    length_A = max(n * edge * 1e10 for n, edge in zip(counts, cell.edges_m, strict=True))
    d_A = max(_smallest_spacing_A(detector, wavelength_A), experiment.sampling.dmin_A)
    spread = math.radians(experiment.crystal.typical_spread_deg)
    allowed = max(d_A * d_A / (length_A * wavelength_A), 2.0 * d_A * spread / wavelength_A)
    if gap < allowed:
        return ""
    centre_eV = ENERGY_WAVELENGTH_EV_A / wavelength_A
    enough = math.floor((span + gap) / allowed) + 1
    if beam.spectrum is None:
        what, remedy = "wavelengths of the dispersion", f"{enough} -dispsteps would do"
    else:
        what = "spectrum's channels"
        remedy = f"{enough} channels would do, or -channel_jitter, which turns stripes into noise"
    return (
        f"the {what} are {gap * centre_eV:.3g} eV apart, where spots at {d_A:.3g} A of a crystal of "
        f"{length_A:.4g} A want less than {allowed * centre_eV:.3g} eV: {remedy}"
    )


def _smallest_spacing_A(detector: PlacedDetector, wavelength_A: float) -> float:
    """The spacing of planes that scatter to the farthest corner of the panels, angstrom."""
    beam, least = np.array(detector.beam), 1.0
    for panel in detector.panels:
        across = panel.n_fast * panel.pitch_fast * np.array(panel.fast)
        down = panel.n_slow * panel.pitch_slow * np.array(panel.slow)
        for corner in (0.0 * down, across, down, across + down):
            at = np.array(panel.origin) + corner
            least = min(least, float(at @ beam / np.linalg.norm(at)))
    return wavelength_A / (2.0 * max(math.sqrt((1.0 - least) / 2.0), 1e-6))


def _fine_channels(experiment: Experiment) -> str:
    """Say that SASE channels are narrower than a spike: neighbours of a true pulse would rise and fall together."""
    spectrum = experiment.beam.spectrum
    if spectrum is None or spectrum.shape != "sase":
        return ""
    width = spectrum.channel_eV(experiment.beam.wavelength_A)
    if width >= spectrum.spike_eV:
        return ""
    most = max(1, math.floor(spectrum.channels * width / spectrum.spike_eV))
    return (
        f"SASE channels of {width:.3g} eV are narrower than a spike of {spectrum.spike_eV:.3g} eV, and neighbours are "
        f"drawn apart where a pulse of {spectrum.pulse_fs:g} fs ties them together: {most} channels hold all of it"
    )


def _wavelength(cell: Cell, counts: tuple[int, int, int], sources: Sources) -> str:
    """Say that a wavelength is none that crystals diffract."""
    shortest, longest = (float(edge) * 1e10 for edge in (sources.wavelength.min(), sources.wavelength.max()))
    for wavelength in (longest, shortest):
        if not SHORTEST_A <= wavelength <= LONGEST_A:
            energy = ENERGY_WAVELENGTH_EV_A / wavelength
            in_kev = SHORTEST_A <= wavelength / 1000.0 <= LONGEST_A
            meant = f"; {energy:.4g} keV are {1000.0 * energy:.5g} eV" if in_kev else ""
            return (
                f"the wavelength is {wavelength:.4g} A ({energy:.4g} eV), outside of the {SHORTEST_A:g} to "
                f"{LONGEST_A:g} A that crystals are looked at with (-lambda is in angstrom, -energy in eV{meant})"
            )
    stars = np.array([cell.a_star, cell.b_star, cell.c_star])
    widest = 1.0 / float(np.sqrt(((_INDICES @ stars) ** 2).sum(axis=1)).min())
    if max(counts) > 1 and shortest > 2.0 * widest:
        return (
            f"the wavelength is {shortest:.4g} A, more than twice the widest spacing of planes, {widest:.4g} A: "
            "no reflection but 0 0 0 can diffract"
        )
    return ""


def _other_cell(experiment: Experiment, cell: Cell) -> str:
    """Say that structure factors were made for another cell than the crystal's."""
    stated = experiment.structure_factors.cell
    if stated is None:
        return ""
    lengths = max(abs(one / other - 1.0) for one, other in zip(cell.lengths_A, stated[:3], strict=True))
    angles = max(abs(one - other) for one, other in zip(cell.angles_deg, stated[3:], strict=True))
    if lengths <= SAME_LENGTH and angles <= SAME_ANGLE_DEG:
        return ""
    shown = (" ".join(f"{size:.6g}" for size in sizes) for sizes in ((*cell.lengths_A, *cell.angles_deg), stated))
    return "the crystal's cell is {}, and that of its structure factors {}: the crystal's is rendered".format(*shown)


def _divergence(experiment: Experiment, sources: Sources) -> str:
    """Say that a number of directions alone spreads them over a radian."""
    beam = experiment.beam
    if beam.sources is not None:
        return ""
    for axis, letter, steps in (("horizontal", "h", sources.horizontal), ("vertical", "v", sources.vertical)):
        if getattr(beam, f"{axis}_divergence_mrad") is None and steps.range == 1.0:
            return (
                f"{steps.n} {axis} directions without a range are spread over 1 radian, as in nanoBragg: give "
                f"-{letter}divrange or -divergence (mrad)"
            )
    return ""


def _pixel(detector: PlacedDetector) -> str:
    """Say that pixels are as large as their distance."""
    pixel_mm, distance_mm = 1000.0 * detector.pixel_size, 1000.0 * detector.close_distance
    if pixel_mm <= WIDEST_PIXEL * distance_mm:
        return ""
    return f"a pixel of {pixel_mm:.4g} mm stands {distance_mm:.4g} mm from the crystal: both are in millimetres"


def _narrow_spots(experiment: Experiment, counts: tuple[int, int, int], gram: np.ndarray) -> str:
    """Say that C's radius, |dq|^2 (Na Nb Nc)^2, leaves spots of a large crystal too narrow to hold its photons."""
    true = np.array(counts, dtype=float) ** 2 * experiment.crystal.fudge
    # The volume of a spot goes as one over the root of its metric's determinant.
    share = math.exp(0.5 * (float(np.log(true).sum()) - float(np.linalg.slogdet(gram)[1])))
    if share >= FEWEST_PHOTONS:
        return ""
    shape = experiment.crystal.shape
    flag = {"gauss": "-gauss_xtal", "tophat": "-tophat_spots"}[shape]
    return (
        f"{flag} renders {share:.2g} of the photons that spots of {counts[0]} x {counts[1]} x {counts[2]} cells hold, "
        f"or misses them all: nanoBragg's radius shrinks with the number of all cells, not with the crystal's edge; "
        "-fidelity physical renders spots as wide as the crystal makes them"
    )
