"""Vectors of three floats for the set-up, in the order of operations of the reference."""

from __future__ import annotations

import math
from collections.abc import Iterable

from bragg_numba.kernels import physics
from bragg_numba.kernels._jit import uncompiled

Vector = tuple[float, float, float]

#: physics.rotate_by, not compiled: of arrays, too.
rotate_by = uncompiled(physics.rotate_by)


def as_vector(values: Iterable) -> Vector:
    """Three numbers as a vector."""
    x, y, z = values
    return (float(x), float(y), float(z))


def rotate_about(axis: Vector, v: Vector, angle: float) -> Vector:
    """Rotate ``v`` about a unit axis by ``angle`` radians (physics.rotate_by, not compiled)."""
    return rotate_by(*axis, *v, math.sin(angle), math.cos(angle))


def rotate_xyz(v: Vector, angles: Vector) -> Vector:
    """Rotate ``v`` about the fixed lab axes x, then y, then z, by radians; zero angles are skipped."""
    x, y, z = v
    about_x, about_y, about_z = angles
    if about_x != 0.0:
        c, s = math.cos(about_x), math.sin(about_x)
        y, z = y * c + z * -s, y * s + z * c
    if about_y != 0.0:
        c, s = math.cos(about_y), math.sin(about_y)
        x, z = x * c + y * 0.0 + z * s, x * -s + y * 0.0 + z * c
    if about_z != 0.0:
        c, s = math.cos(about_z), math.sin(about_z)
        x, y = x * c + y * -s, x * s + y * c
    return (x, y, z)


def dot(u: Vector, v: Vector) -> float:
    """Inner product."""
    return u[0] * v[0] + u[1] * v[1] + u[2] * v[2]


def cross(u: Vector, v: Vector) -> Vector:
    """Vector product."""
    return (
        u[1] * v[2] - u[2] * v[1],
        u[2] * v[0] - u[0] * v[2],
        u[0] * v[1] - u[1] * v[0],
    )


def length(v: Vector) -> float:
    """Euclidean length."""
    return math.sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2])


def unit(v: Vector) -> Vector:
    """Unit vector along ``v``; the zero vector stays."""
    size = length(v)
    return (v[0] / size, v[1] / size, v[2] / size) if size != 0.0 else (0.0, 0.0, 0.0)


def scale(v: Vector, factor: float) -> Vector:
    """``factor`` times ``v``."""
    return (factor * v[0], factor * v[1], factor * v[2])


def combine(*terms: tuple[float, Vector]) -> Vector:
    """Sum of factor * vector, from left to right."""
    x = y = z = 0.0
    for i, (factor, v) in enumerate(terms):
        if i == 0:
            x, y, z = factor * v[0], factor * v[1], factor * v[2]
        else:
            x, y, z = x + factor * v[0], y + factor * v[1], z + factor * v[2]
    return (x, y, z)
