"""Every reflection of a frame, where it falls and how many photons it brings."""

from __future__ import annotations

import numpy as np

from bragg_numba.errors import InputError
from bragg_numba.kernels.parameters import GAUSS, ROUND, SQUARE, TOPHAT
from bragg_numba.kernels.spots import predict as spots
from bragg_numba.plan.plan import Plan
from bragg_numba.predict.reach import reciprocal_cells, search

#: One reflection. ``slow`` and ``fast`` count pixels from the frame's outer corner: pixel p spans p to p + 1.
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
    reach = _reach(plan, reciprocal_cells(plan)[0])
    where = search(plan, reach)
    nouns = (plan.lattice, plan.lookup, plan.rules, plan.sources.arrays, plan.cells, plan.table)
    where = (where.stars, plan.roi, plan.mask, _inverse_gram(plan), where.limits, where.slack, where.q_max)
    bounds = (reach, max(float(threshold), 1e-30))
    found = np.concatenate([spots.list_spots(panel, *nouns, *where, *bounds) for panel in plan.panels])
    table = np.zeros(len(found), dtype=SPOT)
    for name, column in (("h", spots.H), ("k", spots.K), ("l", spots.L), ("slow", spots.SLOW), ("fast", spots.FAST)):
        table[name] = found[:, column]
    table["photons"] = found[:, spots.PHOTONS]
    table["resolution_A"] = found[:, spots.RESOLUTION] * 1e10
    table["partiality"] = found[:, spots.PARTIALITY]
    table["excitation_error_per_A"] = found[:, spots.EXCITATION] * 1e-10
    return table


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
