"""Crystal orientations: missetting, spindle steps, mosaic domains (docs/physics.md, section 5)."""

from __future__ import annotations

import math

import numpy as np

from bragg_numba.conventions import DEGREES
from bragg_numba.experiment import Crystal
from bragg_numba.experiment.vectors import Vector, as_vector, rotate_about, scale
from bragg_numba.plan.cell import Cell
from bragg_numba.plan.classic_stream import ClassicStream
from bragg_numba.plan.steps import Steps


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


def stream_after_crystal(crystal: Crystal, spread: float, domains: int) -> ClassicStream:
    """The run's generator after the orientation and the mosaic domains have drawn from it.

    ``spread`` (radians) and ``domains`` are the plan's. The reference draws for every domain, also for the one of a
    perfect crystal.
    """
    stream = ClassicStream()
    if crystal.misset_deg == "random":
        stream.uniforms(crystal.misset_seed, 3)
    stream.mosaic_umats(spread, domains, crystal.mosaic_seed)
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
    stream: ClassicStream,
    seed: int,
    spread: float,
    domains: int,
) -> np.ndarray:
    """Real cell vectors a, b, c of every step, metres: float64 (phi.n * domains, 9), domains innermost.

    Every spindle step rotates freshly from phi = 0; the mosaic rotation follows it (eq. 19).
    """
    at_zero = [scale(v, 1e-10) for v in (cell.a, cell.b, cell.c)]
    turned = np.empty((phi.n, 3, 3))
    for i in range(phi.n):
        angle = phi_start + phi.step * i
        for j, v in enumerate(at_zero):
            turned[i, j] = rotate_about(spindle, v, angle) if angle != 0.0 else v
    if spread <= 0.0 or domains == 1:
        # A single domain is the aligned one.
        return np.repeat(turned.reshape(phi.n, 9), domains, axis=0)
    umats = stream.mosaic_umats(spread, domains, seed)
    cells = np.empty((phi.n, domains, 3, 3))
    for row in range(3):
        # Written out, so that each component has the reference's order of operations.
        u = umats[:, row]
        for vector in range(3):
            x, y, z = turned[:, vector].T[:, :, None]
            cells[:, :, vector, row] = u[:, 0] * x + u[:, 1] * y + u[:, 2] * z
    return cells.reshape(phi.n * domains, 9)
