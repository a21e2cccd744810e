"""Amorphous backgrounds flattened for the kernel: panels, sources, tables and how much there is of each material."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from bragg_numba.conventions import AVOGADRO
from bragg_numba.errors import InputError
from bragg_numba.experiment import Background, Beam, Experiment
from bragg_numba.experiment.placing import PlacedDetector
from bragg_numba.experiment.vectors import Vector
from bragg_numba.kernels import parameters, physics
from bragg_numba.plan.panels import Sensor, list_panels
from bragg_numba.plan.sources import Sources, mean_one

#: Cells of the grid in which a piece of a table is looked for: at most, and for each point of the table.
MOST_CELLS, CELLS_OF_POINT = 2**18, 4


class Axes(Protocol):
    """What of a placed detector backgrounds need."""

    @property
    def n_fast(self) -> int: ...
    @property
    def n_slow(self) -> int: ...
    @property
    def polarization(self) -> Vector: ...


@dataclass(frozen=True, slots=True)
class Layer:
    """One background, but for the beam's fluence."""

    label: str
    table: parameters.Scattering
    molecules: float  #: in the beam


@dataclass(frozen=True, slots=True)
class Amorphous:
    """All backgrounds of an experiment.

    ``rays`` float64 (n, 11), a row a source: unit vectors of beam, E and B; 1 / (2 wavelength), 1/m; weight.
    """

    layers: tuple[Layer, ...]
    panels: tuple[parameters.Panel, ...]
    rays: np.ndarray
    fluence: float  #: photons/m^2
    roi: tuple[int, int, int, int]
    mask: np.ndarray  #: bool (n_slow, n_fast), or (0, 0) for none
    shape: tuple[int, int]
    arcs_of_lab: bool = False  #: curved as nonBragg bends it
    notes: tuple[str, ...] = ()

    @property
    def molecules(self) -> list[tuple[str, float]]:
        """What is in the beam: each layer's label and molecules."""
        return [(layer.label, layer.molecules) for layer in self.layers]

    def shares_image(self, other: Amorphous) -> bool:
        """Whether another one is the same but for the fluence, at most."""
        return (
            self.panels == other.panels
            and (self.roi, self.shape, self.arcs_of_lab) == (other.roi, other.shape, other.arcs_of_lab)
            and all(a is b or _alike(a, b) for a, b in zip(self.layers, other.layers, strict=False))
            and len(self.layers) == len(other.layers)
            and np.array_equal(self.rays, other.rays)
            and (self.mask is other.mask or np.array_equal(self.mask, other.mask))
        )

    def scale(self, layer: Layer) -> float:
        """Photons of a term 1 of a layer (eq. 44)."""
        steps = len(self.rays) * self.panels[0].oversample ** 2
        return physics.R_E_SQUARED * self.fluence * layer.molecules / steps


def flatten_backgrounds(
    experiment: Experiment,
    detector: PlacedDetector,
    sources: Sources,
    sensors: tuple[Sensor, ...],
    roi: tuple[int, int, int, int],
    mask: np.ndarray,
    tables: tuple[parameters.Scattering, ...] = (),
) -> Amorphous | None:
    """Flatten the backgrounds of an experiment; None without any. ``tables``: theirs, where they were cut before."""
    if not experiment.backgrounds:
        return None
    physical, sampling = experiment.fidelity == "physical", experiment.sampling
    # A background is smooth: what the crystal's fringes would need, it does not.
    oversample = sampling.oversample or 1
    panels = list_panels(experiment, detector, sensors, oversample, physical=physical)
    weights = _shares(experiment.beam, sources)
    return amorphous_of(
        experiment.backgrounds, experiment.beam, detector, panels, sources, roi, mask, weights=weights, tables=tables
    )


def amorphous_of(
    backgrounds: tuple[Background, ...],
    beam: Beam,
    detector: Axes,
    panels: tuple[parameters.Panel, ...],
    sources: Sources,
    roi: tuple[int, int, int, int],
    mask: np.ndarray,
    *,
    weights: np.ndarray | None,
    tables: tuple[parameters.Scattering, ...] = (),
    arcs_of_lab: bool = False,
) -> Amorphous:
    """Put backgrounds together with a beam and panels. ``weights``: of the sources; None: 1 each."""
    notes: list[str] = []
    cut = tables or tuple(cut_table(stol * 1e10, F) for stol, F in (one.table for one in backgrounds))
    pairs = zip(backgrounds, cut, strict=True)
    layers = tuple(Layer(one.label, table, _molecules(one, beam, notes)) for one, table in pairs)
    weights = np.ones(len(sources.wavelength)) if weights is None else weights
    return Amorphous(
        layers=layers,
        panels=panels,
        rays=_rays(sources, weights, np.array(detector.polarization)),
        fluence=beam.photons_per_m2,
        roi=roi,
        mask=mask,
        shape=(detector.n_slow, detector.n_fast),
        arcs_of_lab=arcs_of_lab,
        notes=tuple(notes),
    )


def _shares(beam: Beam, sources: Sources) -> np.ndarray:
    """How the sources share the fluence, with either fidelity: weights of mean 1, times their efficiency."""
    if beam.sources is not None:
        weights = mean_one(np.array([1.0 if row[3] is None else row[3] for row in beam.sources]))
    else:
        weights = np.ones(len(sources.wavelength)) if beam.spectrum is None else sources.incident_weight
    return weights if sources.whole_efficiency is None else weights * sources.whole_efficiency


def list_rays(beam: Beam, sources: Sources, detector: Axes) -> np.ndarray:
    """The rays of an experiment, rows of ``Amorphous.rays``."""
    weights = _shares(beam, sources)
    return _rays(sources, weights, np.array(detector.polarization))


def _molecules(background: Background, beam: Beam, notes: list[str]) -> float:
    """How many molecules of a material the beam lights."""
    edges = []
    for given, side in ((background.width_mm, "width"), (background.height_mm, "height")):
        edge = beam.beam_size_mm if given is None else given
        if edge > beam.beam_size_mm:
            notes.append(f"{background.label} clipped in {side} from {edge:g} to {beam.beam_size_mm:g} mm by the beam")
            edge = beam.beam_size_mm
        edges.append(edge / 1000.0)
    volume = background.thickness_mm / 1000.0 * edges[0] * edges[1]
    return background.molecules or volume * background.density * 1e6 * AVOGADRO / background.molar_mass


def _alike(a: Layer, b: Layer) -> bool:
    same = a.table is b.table or np.array_equal(a.table.cubics, b.table.cubics)
    return same and a.molecules == b.molecules


def _rays(sources: Sources, weights: np.ndarray, axis: np.ndarray) -> np.ndarray:
    """Rows of kernels.amorphous: E and B of each source, orthonormal with its beam (eq. 8)."""
    beam = sources.incident
    b = np.cross(axis, beam)
    lengths = np.linalg.norm(b, axis=1, keepdims=True)
    if not (lengths > 1e-9).all():
        raise InputError("Beam.polarization_axis", "must not be parallel to any source's beam", tuple(axis))
    b = b / lengths
    rows = [beam, np.cross(beam, b), b, 0.5 / sources.wavelength, weights]
    return np.ascontiguousarray(np.column_stack(rows))


def cut_table(stol: np.ndarray, F: np.ndarray) -> parameters.Scattering:
    """Cut a table of F, at ``stol`` 1/m, into the cubics that lead through four points each (eq. 44).

    nonBragg adds two points far beyond either end: what is left of its cubics are parabolas in the first and last
    intervals, and lines outside.
    """
    n = len(stol)
    rows = np.empty((n + 1, 5))
    for piece in sorted({0, 1, n - 1, n}):
        points = slice(max(piece - 2, 0), min(piece + 2, n))
        rows[piece] = _polynomial(list(stol[points]), list(F[points]))
    if n > 3:
        windows = [slice(k, n - 3 + k) for k in range(4)]
        rows[2 : n - 1] = _polynomial([stol[w] for w in windows], [F[w] for w in windows]).T
    last = max(float(stol[-1]), 1.0)
    closest = float(np.diff(stol).min()) if n > 1 else last
    cells = int(min(MOST_CELLS, max(CELLS_OF_POINT * n, 64, 2.0 * last / closest)))
    # A little before the cell begins, whose place in the grid is rounded: the kernel only goes up.
    edges = np.arange(cells) * (last / cells * (1.0 - 1e-12))
    starts = np.searchsorted(stol, edges, side="right").astype(np.int32)
    single = int(np.diff(np.append(starts, n)).max()) <= 1
    return parameters.Scattering(single, cells / last, starts, np.append(stol, math.inf), rows)


def _polynomial(x: list, y: list) -> np.ndarray:
    """The polynomial through some points, as a row of Scattering.cubics; of points that are arrays, as columns."""
    origin, divided = x[len(x) // 2], list(y)
    for order in range(1, len(x)):  # Newton's divided differences
        for i in range(len(x) - 1, order - 1, -1):
            divided[i] = (divided[i] - divided[i - 1]) / (x[i] - x[i - order])
    nothing = np.zeros_like(origin)
    powers = [nothing] * 4
    for place in range(len(x) - 1, -1, -1):
        shift = x[place] - origin
        powers = [(powers[k - 1] if k else divided[place]) - shift * powers[k] for k in range(4)]
    return np.array([*powers, origin])
