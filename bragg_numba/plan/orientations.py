"""Crystal orientations: missetting, spindle steps, mosaic domains (docs/physics.md, section 5)."""

from __future__ import annotations

import math
import random
from statistics import NormalDist

import numpy as np

from bragg_numba.conventions import DEGREES
from bragg_numba.experiment import Crystal
from bragg_numba.experiment.vectors import Vector, as_vector, rotate_about, rotate_by, scale
from bragg_numba.plan.cell import Cell
from bragg_numba.plan.classic_stream import ClassicStream
from bragg_numba.plan.steps import Steps, mosaic_domains


def draw_misset(crystal: Crystal, stream: ClassicStream, *, physical: bool) -> Vector | None:
    """Missetting angles in radians: as given, or drawn from ``misset_seed``; None for none.

    ``stream`` is the run's generator: the mosaic domains draw from the same one afterwards.
    """
    if crystal.misset_deg is None:
        return None
    if not isinstance(crystal.misset_deg, str):
        return as_vector(angle / DEGREES for angle in crystal.misset_deg)
    if not physical:
        return stream.misset_angles(crystal.misset_seed)
    return _angles_of_rotation(random_rotation(stream, crystal.misset_seed))


def stream_after_crystal(crystal: Crystal) -> ClassicStream:
    """The run's generator after the orientation and the mosaic domains have drawn from it.

    The reference draws for every domain, also for the one of a perfect crystal; domains that it does not know draw
    nothing.
    """
    stream = ClassicStream()
    if crystal.misset_deg == "random":
        stream.uniforms(crystal.misset_seed, 3)
    if crystal.mosaic_rotations is None and crystal.mosaic_model == "cap":
        stream.mosaic_umats(widest_spread(crystal), count_domains(crystal), crystal.mosaic_seed)
    return stream


#: Slots of the classic generator's shuffle table.
_SLOTS = 32


def random_rotation(stream: ClassicStream, seed: int) -> np.ndarray:
    """Rotation matrix (3, 3), uniform over SO(3), from the three deviates of ``seed`` that C uses.

    Over many seeds the first deviate is not uniform: the table's entry 0 chooses the slot to read, and
    where it chooses itself it is below 1/32. Its distribution function, (min(32 u, 1) + 31 u) / 32, makes
    it so.
    """
    first, second, third = stream.uniforms(seed, 3)
    first = (min(_SLOTS * first, 1.0) + (_SLOTS - 1) * first) / _SLOTS
    return uniform_rotation(first, second, third)


def uniform_rotation(u1: float, u2: float, u3: float) -> np.ndarray:
    """Rotation matrix, uniform over SO(3) for uniform deviates (Shoemake 1992; eq. 20)."""
    r1, r2 = math.sqrt(1.0 - u1), math.sqrt(u1)
    t1, t2 = 2.0 * math.pi * u2, 2.0 * math.pi * u3
    x, y, z, w = r1 * math.sin(t1), r1 * math.cos(t1), r2 * math.sin(t2), r2 * math.cos(t2)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def _angles_of_rotation(u: np.ndarray) -> Vector:
    """Angles about x, then y, then z that make the rotation ``u``."""
    return (
        math.atan2(u[2, 1], u[2, 2]),
        math.atan2(-u[2, 0], math.hypot(u[2, 1], u[2, 2])),
        math.atan2(u[1, 0], u[0, 0]),
    )


def list_orientations(
    cell: Cell,
    spindle: Vector,
    phi_start: float,
    phi: Steps,
    crystal: Crystal,
    stream: ClassicStream,
    *,
    physical: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Real cell vectors a, b, c of every step, metres: float64 (phi.n * domains, 9), domains innermost; and shares.

    The shares, float64 of the same length, are the domains' weights over their mean. Every spindle step rotates freshly
    from phi = 0; the mosaic rotation follows it (eq. 19), or where ``physical`` and it is none of C's, goes before: the
    domains turn with their crystal (eq. 48).
    """
    umats, weights = _list_domains(crystal, stream)
    shares = np.tile(weights * (len(weights) / weights.sum()), phi.n)
    at_zero = np.array([scale(v, 1e-10) for v in (cell.a, cell.b, cell.c)])
    if physical and not _is_of_reference(crystal):
        turned = _times(umats, at_zero[None])[:, 0]
        rows = [turned] * phi.n
        for i in range(phi.n):
            angle = phi_start + phi.step * i
            if angle != 0.0:
                x, y, z = np.moveaxis(turned, -1, 0)
                rows[i] = np.stack(rotate_by(*spindle, x, y, z, math.sin(angle), math.cos(angle)), axis=-1)
        return np.stack(rows).reshape(-1, 9), shares
    turned = np.empty((phi.n, 3, 3))
    for i in range(phi.n):
        angle = phi_start + phi.step * i
        for j, v in enumerate(at_zero):
            turned[i, j] = rotate_about(spindle, as_vector(v), angle) if angle != 0.0 else v
    if len(umats) == 1 and crystal.mosaic_rotations is None:
        # A single domain is the aligned one.
        return turned.reshape(phi.n, 9), shares
    return np.swapaxes(_times(umats, turned), 0, 1).reshape(-1, 9), shares


def _times(umats: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Each of (n, 3, 3) rotations times the rows of each of (m, 3, 3) cells: float64 (n, m, 3, 3)."""
    turned = np.empty((len(umats), len(cells), 3, 3))
    for row in range(3):
        # Written out, so that each component has the reference's order of operations.
        u = umats[:, row].T[:, :, None]
        for vector in range(3):
            x, y, z = cells[:, vector].T
            turned[:, :, vector, row] = u[0] * x + u[1] * y + u[2] * z
    return turned


def _is_of_reference(crystal: Crystal) -> bool:
    """Whether domains are drawn as in C: from a cap of one spread."""
    drawn = crystal.mosaic_rotations is None and crystal.mosaic_model == "cap"
    return drawn and not isinstance(crystal.mosaic_spread_deg, tuple)


def count_domains(crystal: Crystal) -> int:
    """How many mosaic domains are rendered: given ones that weigh something, 10 where only a spread is given."""
    if crystal.mosaic_rotations is None:
        return mosaic_domains(widest_spread(crystal), crystal.mosaic_domains)
    weights = crystal.mosaic_weights
    return len(crystal.mosaic_rotations) if weights is None else int(np.count_nonzero(weights))


def widest_spread(crystal: Crystal) -> float:
    """The largest mosaic spread, radians; 0 without one."""
    spread = crystal.mosaic_spread_deg
    return (max(spread) if isinstance(spread, tuple) else spread or 0.0) / DEGREES


def _list_domains(crystal: Crystal, stream: ClassicStream) -> tuple[np.ndarray, np.ndarray]:
    """The domains' rotations (n, 3, 3) and their weights (n,), none of them 0."""
    if crystal.mosaic_rotations is not None:
        rotations, weights = crystal.mosaic_rotations, crystal.mosaic_weights
        if weights is None or np.ptp(weights) == 0.0:
            return rotations, np.ones(len(rotations))
        kept = weights > 0.0
        return rotations[kept], weights[kept]
    n, widest = count_domains(crystal), widest_spread(crystal)
    if n == 1 or widest == 0.0:
        return np.eye(3)[None], np.ones(1)
    spreads = crystal.mosaic_spread_deg
    along = np.array(spreads, dtype=np.float64) / DEGREES
    if crystal.mosaic_model == "gauss":
        rotations = rotations_of_vectors(along * normal_vectors(n, crystal.mosaic_seed))
    elif isinstance(spreads, tuple):
        rotations = rotations_of_vectors(
            along * _vectors_of_rotations(stream.mosaic_umats(1.0, n, crystal.mosaic_seed))
        )
    else:
        rotations = stream.mosaic_umats(widest, n, crystal.mosaic_seed)
    return rotations, np.ones(n)


#: Domains from which on their rotation vectors are made to have the same mean square along every axis.
ROUNDED = 40


def normal_vectors(n: int, seed: int) -> np.ndarray:
    """Rotation vectors (n, 3) of domains whose angles about random axes are normally distributed, sigma 1 (eq. 48).

    They come in pairs v, -v; of an odd number the last is 0. Axes lie on a spiral over a hemisphere, and each angle
    stands for an equal part of the distribution, as its root mean square: that of all is 1 whatever n is. ``seed``
    says which axis has which angle. Many domains are then strained a little, so that there is as much along any axis.
    """
    pairs = n // 2
    vectors = np.zeros((n, 3))
    if pairs:
        along = (np.arange(pairs) + 0.5) / pairs  # cosine to the pole
        across, around = np.sqrt(1.0 - along * along), math.sqrt(math.pi * 2 * pairs) * np.arcsin(along)
        axes = np.stack([across * np.cos(around), across * np.sin(around), along], axis=1)
        angles = _normal_parts(pairs) * math.sqrt(n / (2 * pairs))
        draws = random.Random(seed & 0xFFFFFFFF)
        order = sorted(range(pairs), key=[draws.random() for _ in range(pairs)].__getitem__)
        half = axes * angles[order][:, None]
        if n >= ROUNDED:
            half = half @ np.linalg.inv(np.linalg.cholesky(3.0 / n * 2.0 * half.T @ half)).T
        vectors[0 : 2 * pairs : 2], vectors[1 : 2 * pairs : 2] = half, -half
    return vectors


def _normal_parts(n: int) -> np.ndarray:
    """Root mean squares of a positive normal deviate (sigma 1) in each of ``n`` parts that are equally likely."""
    normal = NormalDist()
    edges = [0.0, *(normal.inv_cdf(0.5 + 0.5 * i / n) for i in range(1, n)), math.inf]
    # Of x^2 times the density the integral is that of the density less x times it.
    drop = np.array([0.0 if math.isinf(edge) else edge * normal.pdf(edge) for edge in edges])
    squares: np.ndarray = 1.0 - 2.0 * n * np.diff(drop)
    return np.sqrt(squares)


def rotations_of_vectors(vectors: np.ndarray) -> np.ndarray:
    """Rotations (n, 3, 3) about the vectors (n, 3) by their lengths, radians."""
    angles = np.linalg.norm(vectors, axis=1)
    rotations = np.empty((len(vectors), 3, 3))
    for rotation, vector, angle in zip(rotations, vectors, angles, strict=True):
        axis = as_vector(vector / angle) if angle > 0.0 else (0.0, 0.0, 1.0)
        rotation[:] = np.array([rotate_about(axis, as_vector(e), float(angle)) for e in np.eye(3)]).T
    return rotations


def _vectors_of_rotations(rotations: np.ndarray) -> np.ndarray:
    """Rotation vectors (n, 3), radians, of rotations by less than half a turn."""
    skew = rotations - rotations.transpose(0, 2, 1)
    sines = 0.5 * np.stack([skew[:, 2, 1], skew[:, 0, 2], skew[:, 1, 0]], axis=1)
    lengths = np.linalg.norm(sines, axis=1)
    angles = np.arctan2(lengths, 0.5 * (np.trace(rotations, axis1=1, axis2=2) - 1.0))
    found: np.ndarray = sines * np.where(lengths > 0.0, angles / np.where(lengths > 0.0, lengths, 1.0), 1.0)[:, None]
    return found
