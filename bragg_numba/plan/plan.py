"""The plan: an experiment flattened to float64 arrays in SI units, made once."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np

from bragg_numba.conventions import AVOGADRO, DEGREES
from bragg_numba.errors import InputError
from bragg_numba.experiment import Crystal, Experiment
from bragg_numba.experiment.placing import PlacedDetector, PlacedPanel, place_detector
from bragg_numba.experiment.vectors import Vector, as_vector, dot
from bragg_numba.kernels import parameters, physics, walk
from bragg_numba.memory import require
from bragg_numba.plan.amorphous import Amorphous, flatten_backgrounds
from bragg_numba.plan.cell import Cell, orient_cell
from bragg_numba.plan.classic_stream import ClassicStream
from bragg_numba.plan.damage import drifted, faded_table, longest_scattering_per_A
from bragg_numba.plan.diffuse import DiffusePlan, flatten_diffuse
from bragg_numba.plan.dispersion import DispersionPlan, flatten_dispersion
from bragg_numba.plan.doubts import list_doubts
from bragg_numba.plan.efficiency import with_efficiency
from bragg_numba.plan.orientations import count_domains, draw_misset, list_orientations, widest_spread
from bragg_numba.plan.panels import list_panels, list_sensors, wanted_pixels
from bragg_numba.plan.sources import Sources, list_sources
from bragg_numba.plan.steps import Steps, phi_steps, require_listable
from bragg_numba.plan.table import dense_table
from bragg_numba.plan.transmission import TransmissionPlan, flatten_transmission

#: Structure factor of a water molecule in the forward direction, electrons, and its molar mass, g/mol.
WATER_F = 2.57
WATER_MOLAR_MASS = 18.0


#: Shapes whose radius nanoBragg takes in 1/angstrom, times the number of cells (eq. 14).
_SPOTS_OF_VOLUME = ("gauss", "tophat")

#: More terms than this are a slip of the pen: months on a workstation.
MOST_PIXEL_STEPS = 1e16


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that a kernel needs, and what a report wants to know.

    ``cells`` is float64 (n_phi * n_domains, 9): real cell vectors a, b, c in metres of every spindle step
    and mosaic domain, domains innermost; ``shares`` (n_phi * n_domains,) are the domains' weights, their mean is 1.
    ``table`` is float64 (h, k, l) with a border of one cell. Where a dose has changed it, ``intact`` is what it was
    before.

    Where the experiment has ``lattices``, each has a plan of its own without water; what stands beside them is the
    frame's, and the crystal's that says how much water there is. In the same way blocks of several ``sizes`` have a
    plan each; what stands beside them is that of a block with the most cells along each axis.
    """

    experiment: Experiment
    detector: PlacedDetector
    cell: Cell
    sources: Sources
    cells: np.ndarray
    shares: np.ndarray
    table: np.ndarray
    mask: np.ndarray  #: bool (n_slow, n_fast), or (0, 0) for none
    roi: tuple[int, int, int, int]  #: fast_min, fast_max, slow_min, slow_max; inclusive, inside the frame
    panels: tuple[parameters.Panel, ...]
    lattice: parameters.Lattice
    lookup: parameters.Table
    rules: parameters.Rules
    phi: Steps  #: radians
    layers: Steps  #: metres
    domains: int
    mosaic_spread: float  #: radians; the largest of three; 0 where the domains are given
    oversample: int
    recommended_oversample: int
    cell_counts: tuple[int, int, int]
    notes: tuple[str, ...] = field(default=())
    lattices: tuple[Plan, ...] | None = None  #: of each lattice alone, where the experiment has lattices
    sizes: tuple[Plan, ...] | None = None  #: of the blocks of each size alone, where they have several
    amorphous: Amorphous | None = None
    diffuse: DiffusePlan | None = None
    dispersion: DispersionPlan | None = None  #: where F depends on the wavelength; ``table`` then is the largest F
    transmission: TransmissionPlan | None = None
    intact: tuple[tuple[int, int, int], np.ndarray] | None = None  #: first indices and table; None: ``table`` is

    @property
    def shape(self) -> tuple[int, int]:
        """(slow, fast) pixels of the frame."""
        return self.detector.n_slow, self.detector.n_fast

    @property
    def intact_table(self) -> tuple[tuple[int, int, int], np.ndarray]:
        """First index per axis and F of the table without damage."""
        return self.intact or ((self.lookup.h_first, self.lookup.k_first, self.lookup.l_first), self.table)

    @property
    def covers_frame(self) -> bool:
        """Whether every pixel of the frame is rendered, so that none need be cleared."""
        n_slow, n_fast = self.shape
        pixels = sum(panel.n_slow * panel.n_fast for panel in self.panels)
        return not self.mask.size and self.roi == (0, n_fast - 1, 0, n_slow - 1) and pixels == n_slow * n_fast

    def panel_of(self, slow: int, fast: int) -> int | None:
        """Number of the panel that holds a pixel of the frame, None where none does."""
        for number, panel in enumerate(self.panels):
            row, column = slow - panel.first_row, fast - panel.first_column
            if 0 <= row < panel.n_slow and 0 <= column < panel.n_fast:
                return number
        return None

    @property
    def rendered(self) -> np.ndarray:
        """bool (n_slow, n_fast), True where a panel has a wanted pixel; (0, 0) where every pixel is one."""
        if sum(panel.n_slow * panel.n_fast for panel in self.panels) == self.shape[0] * self.shape[1]:
            return self.mask
        rendered = np.zeros(self.shape, dtype=np.bool_)
        for g in self.panels:
            rendered[g.first_row : g.first_row + g.n_slow, g.first_column : g.first_column + g.n_fast] = True
        return rendered & self.mask if self.mask.size else rendered

    @property
    def arguments(self) -> tuple:
        """What the CPU's kernels take first: panels, lattice, lookup, rules, sources, cells, table or Dispersion."""
        panels = parameters.panel_array(self.panels)
        table = self.table if self.dispersion is None else self.dispersion.kernels
        return panels, self.lattice, self.lookup, self.rules, self.sources.arrays, self.cell_rows, table

    @property
    def cell_rows(self) -> np.ndarray:
        """The cells with their shares as the CPU's kernels take them, float64 (n, parameters.N_CELL)."""
        return np.column_stack([self.cells, self.shares])

    @property
    def weighs_domains(self) -> bool:
        """Whether mosaic domains differ in their share of the photons."""
        return bool(np.ptp(self.shares) > 0.0)

    @property
    def parts(self) -> tuple[Plan, ...] | None:
        """The plans that are rendered one after another and added up: of lattices or sizes; None: this one alone."""
        return self.sizes if self.lattices is None else self.lattices

    @property
    def metric(self) -> np.ndarray:
        """The lattice's metric of h, k, l (eq. 14), float64 (3, 3)."""
        q = self.lattice
        hk, hl, kl = q.metric_hk / 2, q.metric_hl / 2, q.metric_kl / 2
        return np.array([[q.metric_hh, hk, hl], [hk, q.metric_kk, kl], [hl, kl, q.metric_ll]])

    @property
    def is_slanted(self) -> bool:
        """Whether the metric has numbers off its diagonal."""
        q = self.lattice
        return q.metric_hk != 0.0 or q.metric_hl != 0.0 or q.metric_kl != 0.0

    @property
    def steps(self) -> int:
        """Terms that each pixel averages over; sensor layers do not count."""
        return len(self.sources.wavelength) * len(self.cells) * self.oversample**2

    @property
    def pixel_steps(self) -> int:
        """Terms of the whole frame, layers and lattices included, before any is skipped."""
        if self.parts is not None:
            return sum(plan.pixel_steps for plan in self.parts)
        fast = self.roi[1] - self.roi[0] + 1
        slow = self.roi[3] - self.roi[2] + 1
        return fast * slow * self.steps * self.layers.n


def make_plan(experiment: Experiment, max_memory: int | None = None, like: Plan | None = None) -> Plan:
    """Flatten an experiment.

    Parameters
    ----------
    max_memory
        Bytes that the plan may take; default 80 % of what is free.
    like
        A plan of whose parts those are taken over that are made of the same objects: the structure factor table, the
        mask, the placed detector with its panels, the sources. In a series they are made once.

    Raises
    ------
    InputError
        If the detector cannot be placed or the memory does not suffice.
    """
    notes: list[str] = list(experiment.detector.geometry_notes)
    beam, crystal, sampling = experiment.beam, experiment.crystal, experiment.sampling
    physical = experiment.fidelity == "physical"
    stands = _stands_alike(experiment, like)  # the plan of a detector and a beam that stand alike
    detector = place_detector(experiment) if stands is None else stands.detector
    stream = ClassicStream()
    misset = draw_misset(crystal, stream, physical=physical)
    pristine = orient_cell(experiment, misset)
    cell = drifted(pristine, experiment.damage)
    counts = _cell_counts(experiment, cell, notes)
    interpolate = _interpolates(experiment, counts, physical=physical, notes=notes)
    closest = _closest_pixel(detector, physical=physical)
    oversample, recommended = _oversampling(experiment, cell, counts, closest, notes)
    sources = list_sources(beam, detector, physical=physical) if stands is None else stands.sources
    domains = _count_domains(experiment, notes)
    rotation = experiment.rotation
    phi = phi_steps(
        None if rotation.osc_deg is None else rotation.osc_deg / DEGREES,
        None if rotation.phi_step_deg is None else rotation.phi_step_deg / DEGREES,
        rotation.phi_steps,
        one_degree=1.0 / DEGREES,
    )
    shown = f"{phi.n} phi steps x {domains} mosaic domains"
    require_listable("the number of crystal orientations", phi.n * domains, shown)
    require(
        "the list of crystal orientations",
        # cells, the domains' matrices and working copies
        3 * 72 * phi.n * domains,
        max_memory,
        shown,
    )
    mean_A = sources.mean_wavelength_A
    angles = tuple(rotation.phi_deg / DEGREES + phi.step * step for step in range(phi.n))
    transmission = flatten_transmission(experiment, detector, mean_A, angles)
    if transmission is not None:
        notes += transmission.notes
    if stands is None:
        sources = with_efficiency(experiment, detector, sources, transmission, notes)
    sensors = list_sensors(experiment.detector, mean_A, physical=physical, notes=notes)
    layers = max((sensor.layers for sensor in sensors), key=lambda steps: steps.n)
    n_fast, n_slow = detector.n_fast, detector.n_slow
    roi = sampling.roi or (0, n_fast, 0, n_slow)
    roi = (roi[0], min(roi[1], n_fast - 1), roi[2], min(roi[3], n_slow - 1))
    pixels = (roi[1] - roi[0] + 1) * (roi[3] - roi[2] + 1)
    _refuse_absurd(pixels, oversample, len(sources.wavelength), phi.n, domains, layers.n)
    phi_start = rotation.phi_deg / DEGREES
    cells, shares = list_orientations(cell, detector.spindle, phi_start, phi, crystal, stream, physical=physical)
    shares_factors = like is not None and like.experiment.structure_factors is experiment.structure_factors
    dispersion = None
    if experiment.structure_factors.anomalous is not None:
        if shares_factors and like is not None and like.sources is sources:
            dispersion = like.dispersion
        else:
            before = like.dispersion if shares_factors and like is not None else None
            dispersion = flatten_dispersion(experiment.structure_factors, sources, max_memory, before)
    if dispersion is not None:
        first, table = dispersion.first, dispersion.largest
    elif shares_factors and like is not None:
        first, table = like.intact_table
    else:
        first, table = dense_table(experiment.structure_factors, max_memory)
    intact = None
    damage, factors = experiment.damage, experiment.structure_factors
    if damage is not None and damage.dose_MGy > 0.0:
        intact = (first, table)
        longest = longest_scattering_per_A(detector, sources, curved=experiment.detector.curved)
        first, table = faded_table(*intact, factors.default_F, damage, pristine, longest, max_memory)
    steps = len(sources.wavelength) * len(cells) * oversample**2
    has_table = factors.indices is not None or intact is not None
    gram = _gram(experiment, cell, counts, physical=physical)
    notes += list_doubts(experiment, detector, pristine, counts, sources, gram)
    shares_mask = like is not None and like.experiment.detector is experiment.detector
    mask = like.mask if like is not None and shares_mask else wanted_pixels(experiment.detector)
    amorphous = flatten_backgrounds(experiment, detector, sources, sensors, roi, mask, _cut_before(experiment, like))
    if amorphous is not None:
        notes += amorphous.notes
    if physical and (sampling.oversample_thick or sampling.oversample_polar or sampling.oversample_omega):
        notes.append(
            "oversample_thick, _polar and _omega have no effect: with fidelity physical every sub-step "
            "has its own factors"
        )
    if stands is not None and stands.experiment.sampling is sampling and stands.oversample == oversample:
        panels = stands.panels
    else:
        panels = list_panels(experiment, detector, sensors, oversample, physical=physical)
    plan = Plan(
        experiment=experiment,
        detector=detector,
        cell=cell,
        sources=sources,
        cells=cells,
        shares=shares,
        table=table,
        mask=mask,
        roi=roi,
        panels=panels,
        lattice=_lattice(experiment, gram, counts),
        lookup=parameters.Table(
            *first,
            *table.shape,
            has_table=has_table,
            interpolate=interpolate,
            default_F=factors.default_F,
        ),
        rules=_rules(experiment, steps, sources, physical=physical),
        phi=phi,
        layers=layers,
        domains=domains,
        mosaic_spread=widest_spread(crystal),
        oversample=oversample,
        recommended_oversample=recommended,
        cell_counts=counts,
        notes=tuple(notes),
        amorphous=amorphous,
        diffuse=flatten_diffuse(experiment, detector, sources, sensors, cells, domains, _mean_cells(crystal, counts)),
        transmission=transmission,
        intact=intact,
        dispersion=dispersion,
    )
    if experiment.lattices is not None:
        return _with_lattices(plan, max_memory)
    return plan if crystal.sizes is None else _with_sizes(plan, max_memory)


def _with_lattices(plan: Plan, max_memory: int | None) -> Plan:
    """The plan of a frame with a plan for each of its lattices; they share table and mask."""
    experiment = plan.experiment
    plans: list[Plan] = []
    notes: list[str] = []
    for index in range(len(experiment.lattices or ())):
        try:
            plans.append(make_plan(experiment.of_lattice(index), max_memory, like=plan))
        except InputError as error:
            raise InputError(f"Experiment.lattices[{index}]:", str(error)) from None
        notes += plans[-1].notes
    return replace(plan, lattices=tuple(plans), notes=tuple(dict.fromkeys(notes)))


def _with_sizes(plan: Plan, max_memory: int | None) -> Plan:
    """The plan of a crystal with one for each size of its blocks; they share table, mask, detector and beam."""
    experiment = plan.experiment
    n = len(experiment.crystal.sizes or ())
    plans = [make_plan(experiment.of_size(i), max_memory, like=plan) for i in range(n)]
    notes = (note for one in (plan, *plans) for note in one.notes)
    return replace(plan, sizes=tuple(plans), notes=tuple(dict.fromkeys(notes)))


def _mean_cells(crystal: Crystal, counts: tuple[int, int, int]) -> float:
    """Unit cells of a block, of several sizes their mean."""
    if crystal.cell_count_matrix is not None:
        return float(np.linalg.det(np.array(crystal.cell_count_matrix)))
    rows = np.array(crystal.sizes or ((*counts, 1.0),), dtype=np.float64)
    return float(np.average(rows[:, :3].prod(axis=1), weights=rows[:, 3]))


def _stands_alike(experiment: Experiment, like: Plan | None) -> Plan | None:
    """``like``, if its detector stands as this experiment's does, and its beam is the same."""
    if like is None:
        return None
    other = like.experiment
    same = other.detector is experiment.detector and other.beam is experiment.beam
    same = same and other.fidelity == experiment.fidelity and other.rotation.axis == experiment.rotation.axis
    same = same and other.transmission is experiment.transmission
    return like if same else None


def _cut_before(experiment: Experiment, like: Plan | None) -> tuple[parameters.Scattering, ...]:
    """The tables of the same backgrounds where a plan has them already, else ()."""
    if like is None or like.amorphous is None or like.experiment.backgrounds is not experiment.backgrounds:
        return ()
    return tuple(layer.table for layer in like.amorphous.layers)


def _refuse_absurd(pixels: int, oversample: int, sources: int, phi_steps: int, domains: int, layers: int) -> None:
    terms = pixels * oversample**2 * sources * phi_steps * domains * layers
    if terms > MOST_PIXEL_STEPS:
        raise InputError(
            "the image",
            f"would take {terms:.3g} pixel-steps, where {MOST_PIXEL_STEPS:.0e} are months of work",
            hint=f"{pixels} pixels x {oversample}^2 sub-pixels x {sources} sources x {phi_steps} phi steps "
            f"x {domains} mosaic domains x {layers} layers"
            + ("; with pixel_average pixels need no sub-pixels" if oversample > 1 else ""),
        )


def _cell_counts(experiment: Experiment, cell: Cell, notes: list[str]) -> tuple[int, int, int]:
    """Cells along a, b, c; a size in millimetres wins, and y and z are clipped to the beam."""
    crystal = experiment.crystal
    if crystal.cell_count_matrix is not None:
        n_a, n_b, n_c = (max(1, math.ceil(n - 1e-9)) for n in _fringes_along(crystal.cell_count_matrix))
        return n_a, n_b, n_c
    if crystal.sizes is not None:
        rows = [row[:3] for row in crystal.sizes]
        n_a, n_b, n_c = (max(edges) for edges in zip(*rows, strict=True))
        return n_a, n_b, n_c
    beam_size = experiment.beam.beam_size_mm / 1000
    counts = []
    for axis, n, size_mm, edge in zip("abc", crystal.cell_counts, crystal.size_mm, cell.edges_m, strict=True):
        if size_mm is not None:
            size = size_mm / 1000
            if axis != "a" and beam_size < size:
                notes.append(f"crystal clipped along {axis} from {size * 1e6:g} to {beam_size * 1e6:g} um by the beam")
                size = beam_size
            n = math.ceil(size / edge)
        counts.append(max(1, n))
    return tuple(counts)


def _interpolates(experiment: Experiment, counts, *, physical: bool, notes: list[str]) -> bool:
    wanted = experiment.sampling.interpolate
    if wanted is None:
        # The reference decides before -xtalsize takes effect.
        wanted = min(counts if physical else experiment.crystal.cell_counts) <= 2
    return bool(wanted) and experiment.structure_factors.indices is not None


def _closest_pixel(detector: PlacedDetector, *, physical: bool) -> tuple[float, float]:
    """Pitch and distance that set how many fringes a pixel holds: of several panels those that set most."""
    if detector.is_single:
        if not physical:
            return detector.pixel_size, detector.distance
        hits = 0.0 < detector.true_distance < math.inf
        return detector.pixel_size, detector.true_distance if hits else detector.close_distance
    pairs = [(max(g.pitch_fast, g.pitch_slow), _distance_of(g, detector.beam)) for g in detector.panels]
    return max(pairs, key=lambda pair: pair[0] / pair[1])


def _distance_of(panel: PlacedPanel, beam: Vector) -> float:
    """Distance along the beam to a panel's plane; of one that leans further than 60 degrees, to the plane."""
    cosine = dot(panel.normal, beam)
    return panel.close_distance / cosine if cosine > 0.5 else panel.close_distance


def _oversampling(experiment, cell, counts, closest, notes) -> tuple[int, int]:
    """Sub-pixels along an edge: enough for three points per interference fringe (eq. 9)."""
    if experiment.sampling.pixel_average:
        return 1, 1
    size = max(n * edge for n, edge in zip(counts, cell.edges_m, strict=True))
    wavelength = experiment.beam.wavelength_A / 1.0e10
    pixel, distance = closest
    reciprocal_pixel = wavelength * distance / pixel
    recommended = max(1, math.ceil(min(3.0 * size / reciprocal_pixel, 1e9)))
    chosen = experiment.sampling.oversample
    if chosen is None:
        return recommended, recommended
    if chosen < recommended:
        notes.append(
            f"the crystal is {size * 1e10:g} A long and a pixel spans only {reciprocal_pixel * 1e10:g} A: "
            f"intensity may vary within a pixel; oversample {recommended} would resolve it, and "
            "pixel_average integrates over it"
        )
    return chosen, recommended


def _fringes_along(matrix: tuple) -> Vector:
    """How many fringes a unit of h, k and l holds for a matrix of cell counts: the lengths of its columns."""
    return as_vector(np.linalg.norm(np.array(matrix), axis=0))


def _count_domains(experiment: Experiment, notes: list[str]) -> int:
    crystal = experiment.crystal
    domains = count_domains(crystal)
    if crystal.mosaic_rotations is not None:
        return domains
    spread = crystal.mosaic_spread_deg
    if not spread and crystal.mosaic_domains not in (None, 1):
        notes.append("mosaic domains without a mosaic spread are all alike: rendering 1")
    elif spread and crystal.mosaic_domains is None:
        notes.append(f"a mosaic spread without a number of domains: rendering {domains}")
    return domains


def _gram(experiment: Experiment, cell: Cell, counts, *, physical: bool) -> np.ndarray:
    """The metric of the radius (eq. 14), float64 (3, 3): cells, or |dq| times the volume as in C.

    C's radius knows no directions: of a matrix with numbers off its diagonal it is that of the cells (eq. 49).
    """
    crystal = experiment.crystal
    n_a, n_b, n_c = _cells_along(crystal, counts)
    matrix = np.diag([n_a, n_b, n_c]) if crystal.cell_count_matrix is None else np.array(crystal.cell_count_matrix)
    if (matrix != np.diag(np.diag(matrix))).any():
        gram = matrix.T @ matrix
    elif crystal.shape in _SPOTS_OF_VOLUME and not physical:
        stars = np.array([cell.a_star, cell.b_star, cell.c_star])
        gram = stars @ stars.T * (n_a * n_a * n_b * n_b * n_c * n_c)
    else:
        gram = np.diag([n_a * n_a, n_b * n_b, n_c * n_c])
    if crystal.shape == "square":  # has fringes along each axis, and no radius
        return gram
    gram = gram * crystal.fudge
    if not 1e-100 < float(np.linalg.eigvalsh(gram)[0]) < math.inf:
        raise InputError(
            "Crystal.fudge",
            f"must leave the spots of a {crystal.shape} crystal a size",
            crystal.fudge,
            "-fudge multiplies their squared radius, and 0 lights all of reciprocal space",
        )
    return gram


def _cells_along(crystal: Crystal, counts) -> Vector:
    """Numbers along a, b, c whose product is that of a block's cells: of a matrix in proportion to its fringes."""
    matrix = crystal.cell_count_matrix
    if matrix is None:
        return as_vector(counts)
    along = _fringes_along(matrix)
    shrink = (float(np.linalg.det(np.array(matrix))) / math.prod(along)) ** (1.0 / 3.0)
    if abs(shrink - 1.0) < 1e-12:  # a diagonal one, but for the determinant's rounding
        return along
    return as_vector(n * shrink for n in along)


def _lattice(experiment: Experiment, gram: np.ndarray, counts) -> parameters.Lattice:
    """Shape, size and the metric of the radius."""
    crystal = experiment.crystal
    n_a, n_b, n_c = _cells_along(crystal, counts)
    shape = parameters.SHAPE_NAMES.index(crystal.shape)
    if shape not in walk.SHAPES_IN_FLOAT64:
        raise InputError("Crystal.shape", "has no lattice factor in the kernels", crystal.shape)
    return parameters.Lattice(
        shape=shape,
        n_a=n_a,
        n_b=n_b,
        n_c=n_c,
        metric_hh=float(gram[0, 0]),
        metric_kk=float(gram[1, 1]),
        metric_ll=float(gram[2, 2]),
        metric_hk=float(2.0 * gram[0, 1]),
        metric_hl=float(2.0 * gram[0, 2]),
        metric_kl=float(2.0 * gram[1, 2]),
    )


def _rules(experiment: Experiment, steps: int, sources: Sources, *, physical: bool) -> parameters.Rules:
    """What is done once a term and once a pixel (eq. 21, 50), and the background of water (eq. 29)."""
    sampling, blocks = experiment.sampling, experiment.crystal.scale
    fluence = experiment.beam.photons_per_m2
    water = experiment.crystal.water_um / 1e6
    background = (
        WATER_F * WATER_F * physics.R_E_SQUARED * fluence * water * water * water * 1e6 * AVOGADRO / WATER_MOLAR_MASS
    )
    running = [getattr(sampling, f"oversample_{name}") and not physical for name in ("thick", "polar", "omega")]
    return parameters.Rules(
        per_term=physical,
        running_thick=running[0],
        running_polar=running[1],
        running_omega=running[2],
        running=any(running),
        weighted=physical or sampling.dmin_A > 0.0 or bool(np.ptp(sources.weight) > 0.0),
        skip_zero=water == 0.0,
        background=0.0 if physical else background / blocks,  # which the scale multiplies
        scale=physics.R_E_SQUARED * fluence / steps * blocks,
        flat_background=background if physical else 0.0,
    )
