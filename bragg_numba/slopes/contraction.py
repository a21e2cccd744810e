"""From Tangents to numbers: what each parameter's slope takes of the sums that the kernels make (eq. 60 to 64)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bragg_numba.kernels.parameters import SQUARE
from bragg_numba.kernels.slopes import nouns, rows
from bragg_numba.plan.plan import Plan
from bragg_numba.slopes.cell_counts import metric_is_of_volume
from bragg_numba.slopes.tangents import OF_PANELS, Tangent

#: Relative changes of wavelengths that differ by less are one.
_ALIKE = 1e-13


@dataclass(frozen=True, slots=True)
class Contraction:
    """A sparse matrix for each panel: parameters by rows of sums; and the moves of sources, whose rows come last.

    ``starts`` int64 (parameters + 1,), ``places`` int64 (entries,), ``factors`` float64 (panels, entries); ``weights``
    and ``waves`` float64 (sources, moves): changes of the sources' weights, and relative ones of their wavelengths.
    ``photons`` float64 (parameters,): relative changes of all photons, those beside the crystal's among them.
    """

    starts: np.ndarray
    places: np.ndarray
    factors: np.ndarray
    weights: np.ndarray
    waves: np.ndarray
    photons: np.ndarray

    @property
    def matrix(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """``starts``, ``places`` and ``factors``, as the kernels take them."""
        return self.starts, self.places, self.factors

    @property
    def wanted(self) -> nouns.Wanted:
        """Which sums the kernels have to make."""
        used = np.zeros(rows.N_ROWS, dtype=bool)
        used[self.places[(self.places < rows.N_ROWS) & self.factors.any(axis=0)]] = True
        return nouns.Wanted(
            strain=bool(used[rows.STRAIN : rows.TURN].any() or self.waves.any()),
            turn=bool(used[rows.TURN : rows.PLACE].any()),
            detector=bool(used[rows.PLACE : rows.OF_SHAPE].any()),
            shape=bool(used[rows.OF_SHAPE : rows.SPREAD].any()),
            spread=bool(used[rows.SPREAD]),
        )

    def along(self, direction: np.ndarray) -> Contraction:
        """The Contraction of one parameter that moves all by so many of their units."""
        factors = self.factors * np.repeat(direction, np.diff(self.starts))
        photons = np.array([direction @ self.photons])
        return Contraction(np.array([0, len(self.places)]), self.places, factors, self.weights, self.waves, photons)


def contract(plan: Plan, tangents: Sequence[Tangent]) -> Contraction:
    """The Contraction of some tangents of a plan."""
    matrices = np.zeros((len(plan.panels), len(tangents), rows.N_ROWS + len(tangents)))
    moves: list[tuple[np.ndarray, np.ndarray]] = []
    for number, tangent in enumerate(tangents):
        of = matrices[:, number]
        _of_crystal(plan, tangent, of)
        _of_panels(plan, tangent, of)
        move = _of_sources(plan, tangent, of)
        if move is not None:
            of[:, rows.N_ROWS + len(moves)] = 1.0
            moves.append(move)
    used = np.logical_or.reduce(matrices != 0.0, axis=0)
    # The kernels take four entries at a time: rows that a parameter does not need fill up, with factors of 0.
    for number in range(len(tangents)):
        lacking = -int(used[number].sum()) % 4
        used[number, np.nonzero(~used[number, : rows.N_ROWS])[0][:lacking]] = True
    starts = np.concatenate([[0], np.cumsum(used.sum(axis=1))]).astype(np.int64)
    parameters, entries = np.nonzero(used)
    n_sources = len(plan.sources.wavelength)
    stacked = [np.stack(part, axis=1) for part in zip(*moves, strict=True)] or [np.zeros((n_sources, 0))] * 2
    return Contraction(
        starts=starts,
        places=entries.astype(np.int64),
        factors=np.ascontiguousarray(matrices[:, parameters, entries]),
        weights=np.ascontiguousarray(stacked[0]),
        waves=np.ascontiguousarray(stacked[1]),
        photons=np.array([tangent.log_scale or 0.0 for tangent in tangents]),
    )


def vectors_at_rest(plan: Plan) -> np.ndarray:
    """(3, 3): the cell vectors a, b, c before spindle and mosaic domains turn them, metres."""
    return np.array([plan.cell.a, plan.cell.b, plan.cell.c]) * 1e-10


def _of_crystal(plan: Plan, tangent: Tangent, of: np.ndarray) -> None:
    """Add what comes by way of the crystal, and of the beam as a whole."""
    metric = np.zeros((3, 3))
    if tangent.cell_vectors_m is not None:
        at_rest, change = vectors_at_rest(plan), np.asarray(tangent.cell_vectors_m, dtype=np.float64)
        of[:, rows.STRAIN : rows.STRAIN + 9] += (change @ np.linalg.inv(at_rest)).reshape(9)
        metric += _metric_of_vectors(plan, at_rest, change, tangent.stars_per_A)
    if tangent.cell_counts is not None:
        counts = np.array([plan.lattice.n_a, plan.lattice.n_b, plan.lattice.n_c])
        change = np.asarray(tangent.cell_counts, dtype=np.float64)
        if plan.lattice.shape == SQUARE:
            of[:, rows.OF_SHAPE : rows.OF_SHAPE + 3] += change
        else:
            of[:, rows.BRAGG] += 2.0 * (change / counts).sum()
            if metric_is_of_volume(plan):
                metric += 2.0 * (change / counts).sum() * plan.metric
            else:
                metric += np.diag(2.0 * change / counts) * plan.metric
    if plan.lattice.shape != SQUARE:
        fields = (metric[0, 0], metric[1, 1], metric[2, 2], 2 * metric[0, 1], 2 * metric[0, 2], 2 * metric[1, 2])
        of[:, rows.OF_SHAPE : rows.OF_SHAPE + 6] += fields
    if tangent.turn_rad is not None:
        of[:, rows.TURN : rows.TURN + 3] += np.asarray(tangent.turn_rad, dtype=np.float64)
    if tangent.mosaic_spread_rad is not None:
        of[:, rows.SPREAD] += tangent.mosaic_spread_rad
    if tangent.log_scale is not None:
        of[:, rows.VALUE] += tangent.log_scale
    if tangent.log_water is not None:
        of[:, rows.VALUE] += tangent.log_water
        of[:, rows.BRAGG] -= tangent.log_water
    if tangent.polarization is not None:
        of[:, rows.KAHN] += tangent.polarization
    if tangent.default_F is not None and not plan.lookup.has_table and plan.lookup.default_F != 0.0:
        of[:, rows.BRAGG] += 2.0 * tangent.default_F / plan.lookup.default_F


def _metric_of_vectors(plan: Plan, at_rest: np.ndarray, change: np.ndarray, stars: np.ndarray | None) -> np.ndarray:
    """Change of the metric, (3, 3), as the cell vectors change: of the reciprocal cell's where that is meant."""
    if not metric_is_of_volume(plan):
        return np.zeros((3, 3))
    held = np.array([plan.cell.a_star, plan.cell.b_star, plan.cell.c_star])
    moved = -np.linalg.inv(at_rest).T @ change.T @ held if stars is None else np.asarray(stars, dtype=np.float64)
    # The metric is that of the stars, times a number.
    half = moved @ np.linalg.inv(held) @ plan.metric
    return half + half.T


def _of_panels(plan: Plan, tangent: Tangent, of: np.ndarray) -> None:
    """Add what comes by way of the detector."""

    def given(name: str) -> np.ndarray | None:
        value = getattr(tangent, name)
        return None if value is None else np.asarray(value, dtype=np.float64)

    if not any(name in OF_PANELS for name in tangent.changed):
        return
    for name, first in (
        ("origin_m", rows.PLACE),
        ("fast", rows.PLACE_FAST),
        ("slow", rows.PLACE_SLOW),
        ("normal", rows.NORMAL),
    ):
        if (vectors := given(name)) is not None:
            of[:, first : first + 3] += vectors
    for name, row in (
        ("close_distance_m", rows.NEAR),
        ("attenuation_per_m", rows.DECAY),
        ("layer_step_m", rows.DEPTH),
    ):
        if (numbers := given(name)) is not None:
            of[:, row] += numbers
    for index, panel in enumerate(plan.panels):
        area = 0.0
        if (pitch := given("pitch_fast_m")) is not None:
            longer = pitch[index] / panel.pitch_fast
            of[index, rows.PLACE_FAST : rows.PLACE_FAST + 3] += longer * np.array(
                (panel.fast_x, panel.fast_y, panel.fast_z)
            )
            area += longer
        if (pitch := given("pitch_slow_m")) is not None:
            of[index, rows.PLACE_SLOW : rows.PLACE_SLOW + 3] += (
                pitch[index] / panel.pitch_slow * np.array((panel.slow_x, panel.slow_y, panel.slow_z))
            )
        if (height := given("height_m")) is not None:
            area += height[index] / panel.height
        if not panel.point_pixel:
            of[index, rows.VALUE] += area


def _of_sources(plan: Plan, tangent: Tangent, of: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Add what comes by way of wavelengths that change alike; else return the change of each source."""
    sources = plan.sources
    waves = np.zeros(len(sources.wavelength))
    if tangent.wavelengths_m is not None:
        waves = np.asarray(tangent.wavelengths_m, dtype=np.float64) / sources.wavelength
        if np.ptp(waves) <= _ALIKE * np.abs(waves).max():
            of[:, (rows.STRAIN, rows.STRAIN + 4, rows.STRAIN + 8)] -= waves.mean()
            waves = np.zeros_like(waves)
    weights = np.zeros_like(waves) if tangent.weights is None else np.asarray(tangent.weights, dtype=np.float64)
    return (weights, waves) if waves.any() or weights.any() else None
