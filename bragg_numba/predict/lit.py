"""The reflections that a frame shows, how far each of them reaches, and on which tiles it lies.

What the engine that goes reflection by reflection is told (kernels/spots/tile.py, docs/physics.md, section 10).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from bragg_numba import tolerances
from bragg_numba.kernels import physics
from bragg_numba.kernels.parameters import GAUSS, OVERHANG, ROUND, SQUARE, TOPHAT, panel_array
from bragg_numba.kernels.spots import candidates
from bragg_numba.kernels.spots.rows import (
    FORM_H,
    FORM_L,
    GAIN,
    LIMIT,
    N_SPOT,
    SCALE_H,
    SCALE_L,
    Beams,
    Forms,
    H,
    L,
    Lists,
)
from bragg_numba.kernels.work import COLUMN, PANEL, ROW
from bragg_numba.plan.arithmetic.squares import strongest_square
from bragg_numba.plan.plan import Plan
from bragg_numba.predict.reach import reciprocal_cells, search, spreads

#: Squared radius beyond which physics.gauss_single is 0.
DARK_RADIUS_SQUARED = 27.8

#: Squared radius up to which a top-hat spot is not 0, with a margin for rounding.
TOPHAT_RADIUS_SQUARED = 0.3975

#: Part of what a pixel may be off by that is left to what lies beyond the cut of a gauss spot.
SHARE_OF_CUT = 0.25

#: Part of a gauss spot's peak that is left out where spots are integrated over pixels.
LEAST_OF_AVERAGE = 1e-10

#: Reflections, the strongest, among which the brightest pixel is looked for; and how many of them are tried.
SEARCHED, PROBED = 4096, 64

#: Reflections near the sphere, about, from which on they are looked at more closely before they are listed: of a large
#: cell in a beam of many wavelengths or directions hardly one in a hundred comes near in any step.
MANY = 2**20


@dataclass(frozen=True, slots=True)
class Lit:
    """The reflections of a frame as the kernels take them, and where their spots lie."""

    indices: np.ndarray  #: int32 (n, 3), in the order of h, k, l
    spots: np.ndarray  #: float64 (n, N_SPOT), kernels.spots.rows; with the waves of DispersedSpots
    factors: np.ndarray  #: of DispersedSpots; (0, 0) where F does not depend on the wavelength
    extents: np.ndarray  #: float64 (n, N_EXTENT), kernels.spots.candidates
    beams: Beams
    forms: Forms
    cut_photons: float  #: what a pixel's expectation may be off by because spots are cut, photons
    halved: bool  #: spots may reach half-way to their neighbours


def find_lit(plan: Plan, cutoff_photons: float, *, single: bool, share_of_cut: float = SHARE_OF_CUT) -> Lit:
    """Find the reflections that bring more than ``cutoff_photons`` to any pixel in any step.

    Parameters
    ----------
    cutoff_photons
        What no pixel's expectation may be off by, at least 0. Gauss spots are cut where the tolerance allows it
        (tolerances.py), if that is more; top hats end by themselves.
    single
        Whether the terms will be made in float32.
    share_of_cut
        Part of what a pixel may be off by that is left to what lies beyond the cut of a gauss spot.
    """
    beams, forms = group_sources(plan), make_forms(plan)
    stars_of = reciprocal_cells(plan)
    ceiling = brightest_term(plan)
    faintest = cutoff_photons / ceiling if ceiling > 0.0 else math.inf
    cut = cutoff_photons
    averaged = plan.experiment.sampling.pixel_average
    if plan.lattice.shape == GAUSS and cutoff_photons == 0.0 and not averaged:
        found = _list(plan, _largest_reach(plan, stars_of[0], DARK_RADIUS_SQUARED), 0.0)
        cut = share_of_cut * tolerances.OF_BRIGHTEST * _probe(plan, *_weakest(plan, *found), stars_of, beams)
        faintest = cut / ceiling if ceiling > 0.0 else math.inf
        indices, squares = found
        bright = squares > faintest
        indices, squares = indices[bright], squares[bright]
    else:
        strongest = strongest_square(plan.table) if plan.lookup.has_table else plan.lookup.default_F**2
        least = faintest / strongest if strongest > 0.0 else math.inf
        reach = float(_reaches(plan, stars_of[0], _scales(plan, np.array([min(least, 1.0)]))[0])[0])
        indices, squares = _list(plan, reach, faintest)
    parts = np.minimum(faintest / squares, 1.0)
    if averaged and plan.lattice.shape == GAUSS:
        parts = np.maximum(parts, LEAST_OF_AVERAGE)
    scales, limits = _scales(plan, parts)
    spots = np.zeros((len(indices), N_SPOT))
    spots[:, H : L + 1] = indices
    spots[:, FORM_H : FORM_L + 1] = indices @ _root_of_metric(plan).T
    spots[:, SCALE_H : SCALE_L + 1] = scales
    spots[:, GAIN] = squares * plan.rules.scale
    if has_normalised_gains(plan, single=single):
        spots[:, GAIN] *= (plan.lattice.n_a * plan.lattice.n_b * plan.lattice.n_c) ** 2
    spots[:, LIMIT] = limits
    factors = np.empty((0, 0))
    if plan.dispersion is not None:
        factors = plan.dispersion.kernels.factors[order_of_sources(plan)[0]]
        spots = np.concatenate([spots, _waves(plan, indices) / np.sqrt(squares)[:, None]], axis=1)
    extents = _extents(plan, indices, scales, stars_of, beams)
    near = extents[:, candidates.STEPS] > 0.0
    indices, spots, extents = (np.ascontiguousarray(of_spot[near]) for of_spot in (indices, spots, extents))
    return Lit(indices, spots, factors, extents, beams, forms, cut, _are_halved(plan, scales[near]))


def _waves(plan: Plan, indices: np.ndarray) -> np.ndarray:
    """Real and imaginary part of F without what depends on the wavelength and of partial sums, (n, 2 + 2 elements)."""
    assert plan.dispersion is not None
    parts, look = plan.dispersion.kernels.parts, plan.lookup
    first = np.array([look.h_first, look.k_first, look.l_first])
    place = np.clip(indices - first, 0, np.array(plan.table.shape) - 1)
    tables = parts[: len(parts) - OVERHANG].reshape(-1, *plan.table.shape)
    return np.stack([table[tuple(place.T)] for table in tables], axis=1)


def _weakest(plan: Plan, indices: np.ndarray, squares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The reflections with the largest F^2, SEARCHED at most, with the least that each has at any wavelength."""
    if plan.dispersion is None:
        return indices, squares
    strongest = np.argsort(-squares, kind="stable")[:SEARCHED]
    waves = _waves(plan, indices[strongest]).view(np.complex128)
    least = np.full(len(strongest), np.inf)
    for factors in np.unique(plan.dispersion.kernels.factors, axis=0):
        least = np.minimum(least, np.abs(waves[:, 0] + waves[:, 1:] @ factors.view(np.complex128)) ** 2)
    return indices[strongest], least


def has_normalised_gains(plan: Plan, *, single: bool) -> bool:
    """Whether a spot's GAIN is that of a lattice factor that is 1 on the peak: not with square crystals in float32."""
    return not (single and plan.lattice.shape == SQUARE)


def group_sources(plan: Plan, *, alone: bool = False) -> Beams:
    """The sources by direction, each direction's by growing 1 / wavelength.

    With a resolution limit every source is a direction of its own: which pixels it reaches is its own, too. ``alone``:
    without one, too.
    """
    sources, rules = plan.sources, plan.rules
    weights, waves = sources.weight, 1.0 / sources.wavelength
    order, firsts = order_of_sources(plan, alone=alone)
    weight = np.add.reduceat(weights[order], firsts[:-1])
    share = weights[order] / np.repeat(np.where(weight > 0.0, weight, 1.0), np.diff(firsts))
    if not rules.weighted:
        # Without weights of its own a term counts as 1.
        weight, share = np.ones(len(weight)), np.ones(len(share))
    return Beams(
        incident=np.ascontiguousarray(sources.incident[order[firsts[:-1]]]),
        first=firsts,
        weight=weight,
        waves=np.ascontiguousarray(waves[order]),
        wavelength=np.ascontiguousarray(sources.wavelength[order]),
        share=share,
    )


def order_of_sources(plan: Plan, *, alone: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """The sources by direction, int64 (n,), and where in that order each direction begins and the last one ends."""
    sources = plan.sources
    if alone or plan.experiment.sampling.dmin_A > 0.0:
        order, firsts = np.arange(len(sources.wavelength)), np.arange(len(sources.wavelength) + 1)
    else:
        _, of_source = np.unique(sources.incident, axis=0, return_inverse=True)
        # Directions in the order in which they first appear: nanoBragg's factors are those of the first source.
        of_source = of_source.reshape(-1)
        seen = np.unique(of_source, return_index=True)[1]
        rank = np.empty(len(seen), dtype=np.int64)
        rank[np.argsort(seen)] = np.arange(len(seen))
        order = np.lexsort((1.0 / sources.wavelength, rank[of_source]))
        firsts = np.append(0, np.cumsum(np.bincount(rank[of_source])))
    return order, firsts.astype(np.int64)


def make_forms(plan: Plan) -> Forms:
    """Of every orientation the vectors that turn a scattering vector into the coordinates of a spot (eq. 38)."""
    vectors = _root_of_metric(plan) @ plan.cells.reshape(-1, 3, 3)
    return Forms(np.ascontiguousarray(vectors.reshape(-1, 9)), plan.cell_rows)


def _root_of_metric(plan: Plan) -> np.ndarray:
    """What turns indices into coordinates, (3, 3): the metric's root for gauss and tophat, nothing for the others."""
    if plan.lattice.shape in (GAUSS, TOPHAT):
        return np.linalg.cholesky(plan.metric).T
    return np.eye(3)


def brightest_term(plan: Plan) -> float:
    """Photons that a reflection with F = 1 would bring to a pixel if every step lay on its peak; a bound."""
    angle = max(
        (1.0 if panel.point_pixel else panel.pitch_fast * panel.height) / panel.close_distance**2
        for panel in plan.panels
    )
    volume = plan.lattice.n_a * plan.lattice.n_b * plan.lattice.n_c
    captured = 1.0 if plan.rules.per_term else float(plan.layers.n)
    return plan.rules.scale * plan.steps * volume * volume * angle * captured


def _list(plan: Plan, reach: float, faintest: float) -> tuple[np.ndarray, np.ndarray]:
    where, beam = search(plan, reach), plan.sources
    q_max = where.q_max
    if plan.experiment.sampling.dmin_A > 0.0:
        q_max = min(q_max, 1e10 / plan.experiment.sampling.dmin_A + reach)
    faintest = max(faintest, 0.0)
    waves, near = (0.0, math.inf), (math.inf, 0.0)
    # The part of the sphere within q_max, as thick as is looked at, and one reflection a cell's volume.
    volume = abs(float(np.linalg.det(plan.cells[0].reshape(3, 3))))
    if 2.0 * math.pi * q_max * q_max * where.slack * volume > MANY:
        spread, _ = spreads(plan, where.stars)
        tilt = float(np.linalg.norm(beam.incident - beam.incident[0], axis=1).max())
        waves = (1.0 / float(beam.wavelength.max()), 1.0 / float(beam.wavelength.min()))
        near = (1.0001 * (reach + tilt * waves[1]), 1.0001 * spread)
    return candidates.list_reflections(
        where.stars[0],
        where.limits,
        where.slack,
        q_max,
        beam.incident[0],
        beam.wavelength[0],
        waves,
        near,
        plan.lookup,
        plan.table,
        faintest,
    )


def _largest_reach(plan: Plan, star: np.ndarray, radius_squared: float) -> float:
    scale = np.full((1, 3), 1.0 / math.sqrt(radius_squared))
    return float(_reaches(plan, star, scale)[0])


def _probe(plan: Plan, indices: np.ndarray, squares: np.ndarray, stars: np.ndarray, beams: Beams) -> float:
    """Photons of the brightest pixel among those of the strongest reflections: a lower bound of the frame's."""
    if not len(indices):
        return 0.0
    strongest = np.argsort(-squares, kind="stable")[:SEARCHED]
    indices, squares = indices[strongest], squares[strongest]
    # Only steps that come near to the sphere can be bright.
    extents = _extents(plan, indices, np.ones((len(indices), 3)), stars, beams)
    bright = np.where(extents[:, candidates.STEPS] > 0.0, squares * extents[:, candidates.STEPS], -1.0)
    tried = np.argsort(-bright, kind="stable")[:PROBED]
    indices, squares, extents = indices[tried], squares[tried], extents[tried]
    panels = panel_array(plan.panels)
    sums, rays = candidates.probe_pixels(
        indices, squares, extents, panels, plan.roi, plan.mask, plan.lattice, plan.sources.arrays, plan.cell_rows
    )
    best = int(np.argmax(sums))
    if sums[best] <= 0.0:
        return 0.0
    return float(sums[best]) * plan.rules.scale * plan.oversample**2 * _factor_of_ray(plan, rays[best])


def _factor_of_ray(plan: Plan, ray: np.ndarray) -> float:
    """A lower bound of solid angle, polarization and capture along a ray that meets the detector, times F = 1."""
    volume = plan.lattice.n_a * plan.lattice.n_b * plan.lattice.n_c
    panel = max(plan.panels, key=lambda p: float(np.dot((p.normal_x, p.normal_y, p.normal_z), ray)))
    obliquity = float(np.dot((panel.normal_x, panel.normal_y, panel.normal_z), ray))
    distance = panel.close_distance / max(obliquity, 1e-6)
    angle = 1.0 / distance**2 if panel.point_pixel else panel.pitch_fast * panel.height * obliquity / distance**2
    cosine = float(np.dot(plan.sources.incident[0], ray))
    polar = cosine * cosine if panel.polarized else 1.0
    captured = 1.0
    if panel.has_sensor:
        thickness = panel.layers * panel.layer_step * panel.attenuation
        captured = -math.expm1(-thickness)
        if not plan.rules.per_term:  # of the last layer only
            captured *= math.exp(-thickness / max(obliquity, 1e-6))
    return volume * volume * angle * max(polar, 1e-6) * captured


def _scales(plan: Plan, least: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What coordinates are multiplied by so that the lattice factor is below ``least`` beyond 1, and the LIMIT.

    ``least`` float64 (n,), at most 1; returns (n, 3) and (n,).
    """
    lattice = plan.lattice
    counts = np.array([lattice.n_a, lattice.n_b, lattice.n_c])
    if lattice.shape == SQUARE:
        with np.errstate(divide="ignore"):
            most = 1.0 / least
        return 1.0 / (math.sqrt(3.0) * _edges_of_gratings(np.sqrt(most)[:, None] / counts)), most
    if lattice.shape == ROUND:
        fudged = counts * math.sqrt(lattice.metric_hh / (counts[0] * counts[0]))
        if plan.is_slanted:
            fudged = _fringes_within(plan.metric)
        radius = _radius_of_sphere(least)
        radius = np.minimum(radius, 0.5 * math.sqrt(float((fudged**2).sum())))
        ball = fudged / radius[:, None]
        # A box of half a cell on each side may be the smaller one.
        box = 1.0 / (math.sqrt(3.0) * np.minimum(radius[:, None] / fudged, 0.5))
        smaller = np.prod(box, axis=1) > np.prod(ball, axis=1)
        return np.where(smaller[:, None], box, ball), (radius * counts[0] / fudged[0]) ** 2
    if lattice.shape == GAUSS:
        with np.errstate(divide="ignore"):
            squared = np.minimum(-0.5 * 0.63 * np.log(least), DARK_RADIUS_SQUARED)
        squared = np.maximum(squared, 1e-6)
    else:
        squared = np.full(len(least), TOPHAT_RADIUS_SQUARED)
    return np.repeat(1.0 / np.sqrt(squared)[:, None], 3, axis=1), squared


def _fringes_within(metric: np.ndarray) -> np.ndarray:
    """Numbers along h, k, l whose ellipsoid of radius 1 is the smallest in its proportions around that of a metric."""
    along = np.sqrt(np.diag(metric))
    least = float(np.linalg.eigvalsh(metric / np.outer(along, along))[0])
    return along * math.sqrt(least) * (1.0 - 1e-9)


def _edges_of_gratings(denominators: np.ndarray) -> np.ndarray:
    """Distance from a peak beyond which e (3 - 4 e^2) exceeds a number; 1/2 at most (eq. 37)."""
    low, high = np.zeros_like(denominators), np.full_like(denominators, 0.5)
    for _ in range(40):
        middle = 0.5 * (low + high)
        below = middle * (3.0 - 4.0 * middle * middle) < denominators
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return high


def _radius_of_sphere(least: np.ndarray) -> np.ndarray:
    """Radius in fringes beyond which a round crystal's factor is below ``least`` (eq. 37)."""
    peak = physics.SPHERE_SCALE**2
    # abs(sin x - x cos x) <= sqrt(1 + x^2): the factor is at most 9 S^2 (1 + x^2) / x^6.
    low, high = np.full(len(least), 1e-3), np.full(len(least), 1e7)
    for _ in range(80):
        middle = np.sqrt(low * high)
        x = (math.pi * middle) ** 2
        above = np.minimum(9.0 * peak * (1.0 + x) / x**3, peak) > least
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return high


def _reaches(plan: Plan, star: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """How far from a reciprocal lattice point anything within 1 of the scaled coordinates lies, 1/m."""
    inverse = star @ np.linalg.inv(_root_of_metric(plan))  # coordinates -> 1/m
    if plan.lattice.shape in (GAUSS, TOPHAT):
        return float(np.linalg.norm(inverse, 2)) / scales[:, 0]
    return np.linalg.norm(np.linalg.norm(inverse, axis=0) / scales, axis=1)


def _extents(plan: Plan, indices: np.ndarray, scales: np.ndarray, stars: np.ndarray, beams: Beams) -> np.ndarray:
    """Where the spots lie (kernels.spots.candidates.find_extents)."""
    bases = np.ascontiguousarray(stars @ np.linalg.inv(_root_of_metric(plan)))
    boxed = plan.lattice.shape == SQUARE
    return candidates.find_extents(
        indices, np.ascontiguousarray(scales), boxed, _reaches(plan, stars[0], scales), stars, bases, beams
    )


def _are_halved(plan: Plan, scales: np.ndarray) -> bool:
    """Whether a spot may reach half-way to its neighbours, where another reflection is the nearest."""
    if not len(scales) or plan.lattice.shape in (SQUARE, ROUND):
        return False  # their terms always look
    inverse = np.linalg.inv(_root_of_metric(plan))
    return bool((np.linalg.norm(inverse, axis=1) / scales.min()).max() > 0.49)


def deal(plan: Plan, lit: Lit, tiles: np.ndarray, tile: tuple[int, int]) -> Lists:
    """Which spots each tile of a work list must look for.

    ``tiles`` int32 (n, N_COLUMNS), kernels.work; ``tile``: rows and columns of a tile.
    """
    panels = plan.panels
    down = max(-(-panel.n_slow // tile[0]) for panel in panels)
    across = max(-(-panel.n_fast // tile[1]) for panel in panels)
    grids = np.full((len(panels), down, across), -1, np.int32)
    grids[tiles[:, PANEL], tiles[:, ROW] // tile[0], tiles[:, COLUMN] // tile[1]] = np.arange(len(tiles))
    depths = np.array([0.0, (plan.layers.n - 1) * plan.layers.step])
    boxes = candidates.find_boxes(panel_array(panels), depths, lit.extents)
    counts = np.zeros(len(tiles), np.int64)
    candidates.count_spots(boxes, grids, tile, counts)
    first = np.append(0, np.cumsum(counts)).astype(np.int64)
    spots = np.empty(int(first[-1]), np.int64)
    candidates.deal_spots(boxes, grids, tile, first[:-1].copy(), spots)
    return Lists(first, spots)
