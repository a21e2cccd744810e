"""Every reflection of a frame, where it falls and how many photons it brings."""

from __future__ import annotations

import math

import numpy as np

from bragg_numba.errors import InputError
from bragg_numba.kernels import physics
from bragg_numba.kernels._jit import uncompiled
from bragg_numba.kernels.parameters import GAUSS, ROUND, SQUARE, TOPHAT, Panel, panel_array
from bragg_numba.kernels.spots import predict as spots
from bragg_numba.plan.plan import Plan

#: One reflection. ``slow`` and ``fast`` count pixels from the frame's outer corner: pixel p spans p to p + 1. ``panel``
#: counts the detector's panels.
SPOT = np.dtype(
    [
        ("h", np.int32),
        ("k", np.int32),
        ("l", np.int32),
        ("slow", np.float64),
        ("fast", np.float64),
        ("photons", np.float64),
        ("resolution_A", np.float32),
        ("partiality", np.float32),
        ("excitation_error_per_A", np.float32),
        ("panel", np.int32),
    ]
)

#: Distance from the Ewald sphere, in the metric of the shape, beyond which nothing is looked for.
_METRIC_REACH = {GAUSS: 2.0, ROUND: spots.REACH, TOPHAT: 0.63}


def spot_table(plan: Plan, threshold: float = 1.0) -> np.ndarray:
    """List the reflections of one frame that bring at least ``threshold`` photons.

    Nothing is rendered: each reflection's lattice factor is integrated over the Ewald sphere's tangent plane,
    for every source and orientation (docs/series.md).

    Parameters
    ----------
    plan
        The frame's plan.
    threshold
        Photons; at least 1e-30.

    Returns
    -------
    numpy.ndarray
        (n,) of dtype ``SPOT``, panel by panel in the order of h, k, l. ``photons`` is what the model puts into
        the whole spot, tails included; ``partiality`` is that over what it would be with every step exactly on the
        Ewald sphere; the excitation error is the distance of the reciprocal lattice point from the centre of the
        Ewald sphere minus its radius, of the step nearest to 0.

    Raises
    ------
    InputError
        With nanoBragg's running products, whose photons are no sum over reflections.
    """
    rules = plan.rules
    if plan.lattice.shape != SQUARE and plan.lattice.shape not in _METRIC_REACH:
        raise InputError("spots", "cannot be predicted for this shape", plan.experiment.crystal.shape)
    if rules.running:
        raise InputError(
            "spots",
            "cannot be predicted with oversample_thick, _polar or _omega under fidelity nanobragg",
            hint="turn them or the spot table off",
        )
    stars = np.linalg.inv(plan.cells.reshape(-1, 3, 3))  # rows a, b, c -> columns a*, b*, c*
    reach = _reach(plan, stars[0])
    spread, source_spread = _spreads(plan, stars)
    q_max = min(_longest_scattering(plan) + reach + source_spread, 2.2 / plan.sources.wavelength.min())
    edges = np.linalg.norm(plan.cells.reshape(-1, 3, 3)[0], axis=1)
    limits = np.array([math.ceil(q_max * edges[0]), math.ceil(q_max * edges[1])], dtype=np.int64)
    nouns = (plan.lattice, plan.lookup, plan.rules, plan.sources.arrays, plan.cells, plan.table)
    where = (np.ascontiguousarray(stars), plan.roi, plan.mask, _inverse_gram(plan), limits)
    bounds = (reach, q_max, spread, source_spread, max(float(threshold), 1e-30))
    aside = 3.0 * (reach + spread * q_max + source_spread) * float(plan.sources.wavelength.max())
    found = spots.list_spots(panel_array(plan.panels), _cones(plan, aside), *nouns, *where, *bounds)
    found = found[np.argsort(found[:, spots.PANEL], kind="stable")]
    table = np.zeros(len(found), dtype=SPOT)
    table["panel"] = found[:, spots.PANEL]
    for name, column in (("h", spots.H), ("k", spots.K), ("l", spots.L), ("slow", spots.SLOW), ("fast", spots.FAST)):
        table[name] = found[:, column]
    table["photons"] = found[:, spots.PHOTONS]
    table["resolution_A"] = found[:, spots.RESOLUTION] * 1e10
    table["partiality"] = found[:, spots.PARTIALITY]
    table["excitation_error_per_A"] = found[:, spots.EXCITATION] * 1e-10
    return table


#: Directions beyond a panel's corners that may still be its own: its sensor's depth and a pixel's rim, radians.
_RIM = 2e-3


def _cones(plan: Plan, aside: float) -> np.ndarray:
    """Around each panel a cone of directions: unit vector and least cosine, float64 (n, 4).

    ``aside`` radians is how far a reflection's steps may lie from its first. Of a single panel every direction is in.
    """
    if len(plan.panels) == 1:
        return np.array([[0.0, 0.0, 0.0, -1.0]])
    place = uncompiled(physics.flat_position)
    cones = np.empty((len(plan.panels), 4))
    for cone, g in zip(cones, plan.panels, strict=True):
        wide, tall = g.n_fast * g.pitch_fast, g.n_slow * g.pitch_slow
        at = np.array(
            [place(g, wide / 2.0, tall / 2.0, 0.0), *(place(g, f, s, 0.0) for f in (0.0, wide) for s in (0.0, tall))]
        )
        rays = at / np.linalg.norm(at, axis=1)[:, None]
        cone[:3] = rays[0]
        # A corner is the farthest point of a panel from its middle.
        angle = math.acos(min(1.0, float((rays[1:] @ rays[0]).min()))) + aside + _RIM
        cone[3] = math.cos(min(angle, math.pi))
    return cones


def _inverse_gram(plan: Plan) -> np.ndarray:
    if plan.lattice.shape == SQUARE:
        return np.eye(3)
    return np.linalg.inv(plan.metric)


def _reach(plan: Plan, star: np.ndarray) -> float:
    """Largest distance from the Ewald sphere at which the lattice factor matters, 1/m."""
    if plan.lattice.shape == SQUARE:
        counts = np.array([plan.lattice.n_a, plan.lattice.n_b, plan.lattice.n_c])
        return float(spots.REACH * np.max(np.linalg.norm(star, axis=0) / counts))
    inverse = star @ _inverse_gram(plan) @ star.T
    reach = _METRIC_REACH[plan.lattice.shape]
    return float(reach * np.sqrt(np.linalg.eigvalsh(inverse)[-1]))


def _spreads(plan: Plan, stars: np.ndarray) -> tuple[float, float]:
    """How much farther than the first step's any other step's point may be: part of abs(q), and 1/m."""
    turn = (stars - stars[0]) @ np.linalg.inv(stars[0])
    spread = float(np.linalg.norm(turn, axis=(1, 2)).max())  # Frobenius: never less than the true bound
    per_wavelength = 1.0 / plan.sources.wavelength
    centres = plan.sources.incident * per_wavelength[:, None]
    moved = np.linalg.norm(centres - centres[0], axis=1) + np.abs(per_wavelength - per_wavelength[0])
    return spread, float(moved.max())


def _longest_scattering(plan: Plan) -> float:
    """Length of the longest scattering vector that meets the region of interest, 1/m; or the sphere's diameter."""
    longest = max(_farthest_ray(plan, panel) for panel in plan.panels)
    if longest > 1.2:  # beyond about 70 degrees: edges no longer bound the inside
        longest = 2.0
    return longest / plan.sources.wavelength.min() * 1.01


def _farthest_ray(plan: Plan, panel: Panel) -> float:
    """Largest distance between an incident direction and one to a panel's part of the region of interest."""
    left, right = max(plan.roi[0] - panel.first_column, 0), min(plan.roi[1] + 1 - panel.first_column, panel.n_fast)
    top, bottom = max(plan.roi[2] - panel.first_row, 0), min(plan.roi[3] + 1 - panel.first_row, panel.n_slow)
    if right <= left or bottom <= top:
        return 0.0
    place = uncompiled(physics.curved_position if panel.curved else physics.flat_position)
    longest = 0.0
    # Along the edges: on a flat detector the corners would do, on a curved one they need not.
    for part in np.linspace(0.0, 1.0, 17):
        fast, slow = left + part * (right - left), top + part * (bottom - top)
        for f, s in ((fast, top), (fast, bottom), (left, slow), (right, slow)):
            at = np.array(place(panel, f * panel.pitch_fast, s * panel.pitch_slow, 0.0))
            ray = at / np.linalg.norm(at)
            longest = max(longest, float(np.linalg.norm(ray - plan.sources.incident, axis=1).max()))
    return longest
