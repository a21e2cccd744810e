"""Rotations by vectors: their matrices, and how these change (docs/slopes.md)."""

from __future__ import annotations

import math

import numpy as np


def rotation_of(vector: np.ndarray) -> np.ndarray:
    """The matrix (3, 3) of a rotation about a vector's direction by its length in radians."""
    angle = float(np.linalg.norm(vector))
    k = _cross_matrix(vector)
    # sin x/x and (1 - cos x)/x^2 without cancellation.
    first = math.sin(angle) / angle if angle > 0.0 else 1.0
    half = math.sin(angle / 2.0) / (angle / 2.0) if angle > 0.0 else 1.0
    return np.eye(3) + first * k + 0.5 * half * half * (k @ k)


def turn_of_change(vector: np.ndarray, change: np.ndarray) -> np.ndarray:
    """The rotation vector that turns what ``vector`` has turned, for a small change of ``vector``.

    ``rotation_of(vector + e change)`` is ``rotation_of(e * result) @ rotation_of(vector)`` to first order in e.
    """
    angle = float(np.linalg.norm(vector))
    if angle < 1e-4:  # the terms left out are below angle^2/24 of the last
        second, third = 0.5, 1.0 / 6.0
    else:
        second, third = (1.0 - math.cos(angle)) / angle**2, (angle - math.sin(angle)) / angle**3
    k = _cross_matrix(vector)
    return change + second * (k @ change) + third * (k @ (k @ change))


def _cross_matrix(vector: np.ndarray) -> np.ndarray:
    """The matrix whose product with x is ``vector`` x ``x``."""
    x, y, z = vector
    return np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
