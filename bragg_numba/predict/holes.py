"""What a table of structure factors lacks: on the detector, in shells of resolution, and on one frame."""

from __future__ import annotations

from typing import Any

import numpy as np

from bragg_numba.io.point_groups import centring_allows
from bragg_numba.io.reflections import inverse_squares
from bragg_numba.kernels.parameters import Panel
from bragg_numba.plan.plan import Plan
from bragg_numba.predict.reach import longest_scattering, reciprocal_cells, search
from bragg_numba.predict.spots import reach_of_shape, reaches_along

__all__ = ["frame_holes", "hole_lines", "report_holes", "table_holes"]

#: Shells of equal volume.
SHELLS = 10

#: Pairs of a reflection and a step that are tried for one frame, at most; with more steps some of them are.
MOST_PAIRS = 5_000_000

#: Entries from which on it is no chance that all obey a centring.
_ENOUGH = 50

#: What counts mean, for a person; those of 0 are not told.
_COUNTED = {
    "rows": "rows",
    "not_a_number": "without a number",
    "negative": "negative, taken as 0",
    "duplicate": "images of other rows",
    "conflicting": "said to be several values, of which the mean counts",
    "extinct_listed": "extinct in the space group, taken as 0",
    "friedel_filled": "taken from Friedel mates",
    "atoms": "atoms",
    "ncs_copies": "atoms more by non-crystallographic symmetry",
    "special_positions": "atoms on special positions",
}


def report_holes(plan: Plan) -> dict[str, Any]:
    """Return ``table_holes`` and ``frame_holes`` in one, plain values by name."""
    return {**table_holes(plan), **frame_holes(plan)}


def table_holes(plan: Plan) -> dict[str, Any]:
    """Return what a table holds of the reflections that the detector could show in some orientation.

    Returns
    -------
    dict
        ``reflections`` of the list and ``default_F``; where there is a list also ``space_group``, ``origin``,
        ``centring`` that a list without a space group obeys, ``counts`` by name, ``resolution_A`` of the detector's
        farthest pixel or of ``dmin_A``, and ``shells`` of equal volume up to there: lists of ``d_max_A`` (0: without
        end), ``d_min_A``, ``possible`` and ``listed``, reflections of P1, Friedel mates apart. ``possible`` and
        ``listed`` are their sums. Where F depends on the energy, ``anomalous`` holds of each element the lowest and
        highest f' and f'' at the wavelengths of the frame.
    """
    factors = plan.experiment.structure_factors
    report: dict[str, Any] = {"reflections": 0, "default_F": factors.default_F}
    if factors.indices is None or factors.amplitudes is None:
        return report
    limit = _resolution_limit(plan)
    edges = limit * (np.arange(SHELLS + 1) / SHELLS) ** (1.0 / 3.0)
    star = reciprocal_cells(plan)[0]
    metric = star.T @ star
    possible = np.diff(np.array([_reflections_within(metric, edge) for edge in edges]))
    indices = _listed_once(plan)
    squares = inverse_squares(metric, *indices.T)
    listed = np.histogram(np.sqrt(squares[squares > 0.0]), edges)[0]
    counts = dict(factors.counts)
    if not counts:
        counts = {"rows": len(factors.indices), "negative": int(np.count_nonzero(factors.amplitudes < 0.0))}
        counts["duplicate"] = len(factors.indices) - len(indices)
    with np.errstate(divide="ignore"):
        bounds = np.where(edges > 0.0, 1e10 / edges, 0.0)
    return {
        **report,
        "reflections": len(indices),
        "space_group": factors.space_group or "",
        "origin": factors.origin or "",
        "centring": "" if factors.space_group else _obeyed_centring(indices),
        "counts": counts,
        "resolution_A": float(bounds[-1]),
        "possible": int(possible.sum()),
        "listed": int(listed.sum()),
        "shells": {
            "d_max_A": [*map(float, bounds[:-1])],
            "d_min_A": [*map(float, bounds[1:])],
            "possible": [*map(int, possible)],
            "listed": [*map(int, listed)],
        },
        **_anomalous(plan),
    }


def _anomalous(plan: Plan) -> dict[str, Any]:
    """Lowest and highest f' and f'' of each element at the wavelengths of a frame, under ``anomalous``."""
    noun = plan.experiment.structure_factors.anomalous
    if noun is None or plan.dispersion is None:
        return {}
    found = plan.dispersion.kernels.factors
    names = ("f_prime_min", "f_prime_max", "f_double_prime_min", "f_double_prime_max")
    limits = np.stack([found.min(axis=0), found.max(axis=0)], axis=1).reshape(-1, 4)
    pairs = zip(noun.elements, limits.tolist(), strict=True)
    return {"anomalous": {element: dict(zip(names, row, strict=True)) for element, row in pairs}}


def frame_holes(plan: Plan) -> dict[str, int]:
    """Return how many reflections a frame reaches, and how many of them the table lacks.

    A frame reaches a reflection that comes, in one of its steps, as near to the Ewald sphere as its lattice factor goes
    (``spot_table``), where the diffracted ray meets a pixel that is rendered.

    Returns
    -------
    dict
        ``reached``; ``lacking``, those of them that have ``default_F`` for want of an entry. Empty without a list.
    """
    if plan.experiment.structure_factors.indices is None:
        return {}
    found = _reached(plan)
    return {"reached": len(found), "lacking": int(np.count_nonzero(~_is_listed(plan, found)))}


def hole_lines(report: dict[str, Any]) -> list[str]:
    """What a report says, for a person."""
    if not report["reflections"]:
        return []
    told = [f"{number} {_COUNTED.get(name, name)}" for name, number in report["counts"].items() if number]
    head = report["origin"] or "a list of h k l F"
    if report["space_group"]:
        head += f", {report['space_group']}"
    lines = [f"structure factors: {head}: {', '.join(told)}"]
    shells = report["shells"]
    percent = [
        "-" if not possible else f"{100.0 * listed / possible:.0f}"
        for possible, listed in zip(shells["possible"], shells["listed"], strict=True)
    ]
    lines.append(
        f"  {report['listed']} of {report['possible']} reflections to {report['resolution_A']:.4g} A, as far as the "
        f"detector goes; in shells from {shells['d_min_A'][0]:.3g} A down: {' '.join(percent)} %"
    )
    if report["centring"]:
        lines.append(
            f"  no entry is one that {report['centring']} centring extinguishes; such reflections count as missing here"
        )
    for element, of in report.get("anomalous", {}).items():
        lines.append(
            f"  {element}: f' {_between(of['f_prime_min'], of['f_prime_max'])}, "
            f"f'' {_between(of['f_double_prime_min'], of['f_double_prime_max'])} electrons at this frame's wavelengths"
        )
    if "reached" in report:
        lines.append(
            f"  this frame reaches {report['reached']} reflections; {report['lacking']} of them are not in the list "
            f"and have F = {report['default_F']:g} (default_F)"
        )
    return lines


def _between(low: float, high: float) -> str:
    """Two numbers that may be the same."""
    return f"{low:.3g}" if low == high else f"{low:.3g} to {high:.3g}"


def _obeyed_centring(indices: np.ndarray) -> str:
    """The centring, of those that extinguish most, none of whose extinct reflections is listed; empty: none, or few."""
    if len(indices) >= _ENOUGH:
        for centring in "FHIABC":
            if centring_allows(indices, centring).all():
                return centring
    return ""


def _resolution_limit(plan: Plan) -> float:
    """Length of the longest scattering vector that is looked at, 1/m."""
    longest = min(longest_scattering(plan) / 1.01, 2.0 / float(plan.sources.wavelength.min()))
    dmin = plan.experiment.sampling.dmin_A
    return min(longest, 1e10 / dmin) if dmin > 0.0 else longest


def _reflections_within(metric: np.ndarray, radius: float) -> int:
    """Reflections with 0 < 1/d <= radius (1/m), of P1."""
    if radius <= 0.0:
        return 0
    h, k, first, last = _rows_within(metric, radius)
    return int((last - first + 1).sum()) - 1


def _rows_within(metric: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """h, k, first and last l of every row of reflections with 1/d <= radius, of which none is empty."""
    limits = np.floor(radius * np.sqrt(np.diag(np.linalg.inv(metric)))).astype(np.int64)
    h, k = (grid.ravel() for grid in np.mgrid[-limits[0] : limits[0] + 1, -limits[1] : limits[1] + 1])
    across = (metric[0, 2] * h + metric[1, 2] * k) / metric[2, 2]
    rest = (metric[0, 0] * h * h + 2.0 * metric[0, 1] * h * k + metric[1, 1] * k * k) / metric[2, 2]
    root = radius * radius * (1.0 + 1e-12) / metric[2, 2] - rest + across * across
    there = root >= 0.0
    h, k, across, half = h[there], k[there], across[there], np.sqrt(root[there])
    first, last = np.ceil(-across - half).astype(np.int64), np.floor(-across + half).astype(np.int64)
    filled = last >= first
    return h[filled], k[filled], first[filled], last[filled]


def _listed_once(plan: Plan) -> np.ndarray:
    """The reflections of the list, each once, int64 (n, 3)."""
    first, there = _where_listed(plan)
    return np.argwhere(there) + first


def _where_listed(plan: Plan) -> tuple[np.ndarray, np.ndarray]:
    """First index of the list's box, and which of its cells are listed."""
    indices = plan.experiment.structure_factors.indices
    assert indices is not None
    first = indices.min(axis=0).astype(np.int64)
    there = np.zeros(plan.experiment.structure_factors.table_shape, dtype=bool)
    there[tuple((indices - first).T)] = True
    return first, there


def _is_listed(plan: Plan, wanted: np.ndarray) -> np.ndarray:
    """Which reflections (n, 3) the list has."""
    first, there = _where_listed(plan)
    at = wanted - first
    inside = ((at >= 0) & (at < there.shape)).all(axis=1)
    listed = np.zeros(len(wanted), dtype=bool)
    listed[inside] = there[tuple(at[inside].T)]
    return listed


def _reached(plan: Plan) -> np.ndarray:
    """The reflections that a frame reaches, int64 (n, 3), without 0 0 0."""
    stars = reciprocal_cells(plan)
    reach = reach_of_shape(plan, stars[0])
    where = search(plan, reach)
    candidates = _near_sphere(plan, stars[0], where.slack, min(where.q_max, _resolution_limit(plan) + reach))
    n_sources = len(plan.sources.wavelength)
    steps = len(stars) * n_sources
    stride = max(1, -(-steps * len(candidates) // MOST_PAIRS))
    found = np.zeros(len(candidates), dtype=bool)
    for step in range(0, steps, stride):
        orientation, source = divmod(step, n_sources)
        left = np.flatnonzero(~found)
        if not len(left):
            break
        q = candidates[left] @ stars[orientation].T
        wave = 1.0 / plan.sources.wavelength[source]
        rays = q + wave * plan.sources.incident[source]
        lengths = np.linalg.norm(rays, axis=1)
        near = np.flatnonzero(np.abs(lengths - wave) <= reach)
        rays, errors = rays[near] / lengths[near, None], np.abs(lengths[near] - wave)
        met = (errors <= reaches_along(plan, stars[orientation], rays)) & _meets_detector(plan, rays)
        found[left[near[met]]] = True
    return candidates[found]


def _near_sphere(plan: Plan, stars: np.ndarray, slack: float, q_max: float) -> np.ndarray:
    """Reflections, int64 (n, 3), within ``slack`` (1/m) of the first step's Ewald sphere, and up to ``q_max``."""
    h, k, first, last = _rows_within(stars.T @ stars, q_max)
    wave = 1.0 / plan.sources.wavelength[0]
    start = np.outer(h, stars[:, 0]) + np.outer(k, stars[:, 1]) + wave * plan.sources.incident[0]
    c_star = stars[:, 2]
    c_squared = float(c_star @ c_star)
    middle = -(start @ c_star) / c_squared
    rest = np.einsum("ni,ni->n", start, start) / c_squared - middle * middle  # distance from the axis of the row

    def half(radius: float) -> np.ndarray:
        return np.sqrt(np.maximum(radius * radius / c_squared - rest, 0.0))

    outer, inner = half(wave + slack), half(max(wave - slack, 0.0))
    pieces = []
    hollow = inner > 0.0
    for low, high, rows in (
        (middle - outer, np.where(hollow, middle - inner, middle + outer), outer > 0.0),
        (middle + inner, middle + outer, hollow),
    ):
        begin, end = np.maximum(np.ceil(low[rows]), first[rows]), np.minimum(np.floor(high[rows]), last[rows])
        pieces.append(_spread(h[rows], k[rows], begin.astype(np.int64), end.astype(np.int64)))
    found = np.unique(np.concatenate(pieces), axis=0)
    return found[found.any(axis=1)]


def _spread(h: np.ndarray, k: np.ndarray, first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Every reflection of rows with their first and last l, (n, 3)."""
    lengths = np.maximum(last - first + 1, 0)
    row = np.repeat(np.arange(len(h)), lengths)
    begins = np.cumsum(lengths) - lengths
    return np.column_stack([h[row], k[row], first[row] + np.arange(len(row)) - begins[row]])


def _meets_detector(plan: Plan, rays: np.ndarray) -> np.ndarray:
    """Which directions (n, 3), unit vectors, meet a pixel that is rendered; of a curved detector all do."""
    if any(panel.curved for panel in plan.panels):
        return np.ones(len(rays), dtype=bool)
    met = np.zeros(len(rays), dtype=bool)
    fast_min, fast_max, slow_min, slow_max = plan.roi
    for panel in plan.panels:
        fast, slow = _pixels(panel, rays)
        inside = (fast >= 0) & (fast < panel.n_fast) & (slow >= 0) & (slow < panel.n_slow)
        column, row = np.where(inside, fast, 0) + panel.first_column, np.where(inside, slow, 0) + panel.first_row
        inside &= (column >= fast_min) & (column <= fast_max) & (row >= slow_min) & (row <= slow_max)
        if plan.mask.size:
            inside &= plan.mask[row, column]
        met |= inside
    return met


def _pixels(panel: Panel, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The panel's pixels, int64 fast and slow, that rays meet; -1 for those that go the other way."""
    normal = np.array([panel.normal_x, panel.normal_y, panel.normal_z])
    axes = np.array([[panel.fast_x, panel.fast_y, panel.fast_z], [panel.slow_x, panel.slow_y, panel.slow_z]])
    towards = rays @ normal
    ahead = towards > 1e-6
    points = rays * (panel.close_distance / np.where(ahead, towards, 1.0))[:, None]
    points = points - np.array([panel.origin_x, panel.origin_y, panel.origin_z])
    along = np.linalg.solve(axes @ axes.T, (points @ axes.T).T)  # axes need not be at right angles
    fast, slow = along[0] / panel.pitch_fast, along[1] / panel.pitch_slow
    ahead &= (np.abs(fast) < 1e9) & (np.abs(slow) < 1e9)
    fast, slow = np.where(ahead, np.floor(fast), -1.0), np.where(ahead, np.floor(slow), -1.0)
    return fast.astype(np.int64), slow.astype(np.int64)
