"""Every reflection of a frame, where it falls and how many photons it brings."""

from __future__ import annotations

import math

import numpy as np

from bragg_numba.errors import InputError
from bragg_numba.kernels import physics
from bragg_numba.kernels._jit import uncompiled
from bragg_numba.kernels.parameters import GAUSS, ROUND, SQUARE, TOPHAT, panel_array
from bragg_numba.kernels.spots import predict as spots
from bragg_numba.plan.plan import Plan
from bragg_numba.predict.reach import reciprocal_cells, search

#: One reflection. ``slow`` and ``fast`` count pixels from the frame's outer corner: pixel p spans p to p + 1. ``panel``
#: counts the detector's panels, ``lattice`` the frame's crystals.
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
        ("lattice", np.int32),
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
        (n,) of dtype ``SPOT``, lattice by lattice and panel by panel in the order of h, k, l. ``photons`` is what the
        model, with the lattice's weight, puts into
        the whole spot, tails included; ``partiality`` is that over what it would be with every step exactly on the
        Ewald sphere; the excitation error is the distance of the reciprocal lattice point from the centre of the
        Ewald sphere minus its radius, of the step nearest to 0.

    Raises
    ------
    InputError
        With nanoBragg's running products, whose photons are no sum over reflections.
    """
    if plan.lattices is not None:
        tables = [spot_table(one, threshold) for one in plan.lattices]
        for number, table in enumerate(tables):
            table["lattice"] = number
        return np.concatenate(tables) if tables else np.zeros(0, dtype=SPOT)
    if plan.sizes is not None:
        return merge_spots([spot_table(one, 0.0) for one in plan.sizes], threshold)
    rules = plan.rules
    if plan.lattice.shape != SQUARE and plan.lattice.shape not in _METRIC_REACH:
        raise InputError("spots", "cannot be predicted for this shape", plan.experiment.crystal.shape)
    if rules.running:
        raise InputError(
            "spots",
            "cannot be predicted with oversample_thick, _polar or _omega under fidelity nanobragg",
            hint="turn them or the spot table off",
        )
    reach = reach_of_shape(plan, reciprocal_cells(plan)[0])
    where = search(plan, reach)
    nouns = (plan.lattice, plan.lookup, plan.rules, plan.sources.arrays, plan.cell_rows, plan.table)
    dispersion = None if plan.dispersion is None else plan.dispersion.kernels
    cones = _cones(plan, 3.0 * where.slack * float(plan.sources.wavelength.max()))
    looked = (where.stars, plan.roi, plan.mask, inverse_gram(plan), where.limits, where.slack, where.q_max)
    found = spots.list_spots(
        panel_array(plan.panels), cones, *nouns, *looked, reach, max(float(threshold), 1e-30), dispersion
    )
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


def merge_spots(tables: list[np.ndarray], threshold: float) -> np.ndarray:
    """One table of the spots of blocks of several sizes, of which each table has one: those with ``threshold`` photons.

    Photons are added up, places are means over them; a spot's partiality is its photons over those of all sizes with
    every step on the Ewald sphere.
    """
    rows = np.concatenate(tables) if tables else np.zeros(0, SPOT)
    keys = np.stack([rows[name] for name in ("panel", "h", "k", "l")], axis=1)
    _, first, owner = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    owner = owner.reshape(-1)

    def summed(values: np.ndarray) -> np.ndarray:
        return np.bincount(owner, weights=values, minlength=len(first))

    merged = rows[first]
    photons, photons_of = rows["photons"], summed(rows["photons"])
    merged["photons"] = photons_of
    for name in ("slow", "fast"):
        merged[name] = summed(photons * rows[name]) / photons_of
    merged["partiality"] = photons_of / summed(photons / rows["partiality"])
    return merged[photons_of >= threshold]


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


def inverse_gram(plan: Plan) -> np.ndarray:
    """The inverse of the metric of a shape (eq. 14); of square crystals, which have none, anything."""
    if plan.lattice.shape == SQUARE:
        return np.eye(3)
    return np.linalg.inv(plan.metric)


def reaches_along(plan: Plan, star: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Distances (n,), 1/m, along unit vectors (n, 3) at which the lattice factor of an orientation still matters."""
    if plan.lattice.shape == SQUARE:
        counts = np.array([plan.lattice.n_a, plan.lattice.n_b, plan.lattice.n_c])
        return spots.REACH * np.abs(normals @ star / counts).max(axis=1)
    inverse = star @ inverse_gram(plan) @ star.T
    return _METRIC_REACH[plan.lattice.shape] * np.sqrt(((normals @ inverse) * normals).sum(axis=1))


def reach_of_shape(plan: Plan, star: np.ndarray) -> float:
    """Largest distance from the Ewald sphere at which the lattice factor matters, 1/m."""
    if plan.lattice.shape == SQUARE:
        counts = np.array([plan.lattice.n_a, plan.lattice.n_b, plan.lattice.n_c])
        return float(spots.REACH * np.max(np.linalg.norm(star, axis=0) / counts))
    inverse = star @ inverse_gram(plan) @ star.T
    reach = _METRIC_REACH[plan.lattice.shape]
    return float(reach * np.sqrt(np.linalg.eigvalsh(inverse)[-1]))
