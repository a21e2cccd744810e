"""nanoBragg's own generator of random numbers, with its random orientation and mosaic domains, bit for bit."""

from __future__ import annotations

import math

import numpy as np

from bragg_numba import checks as check
from bragg_numba.errors import InputError

__all__ = ["ClassicStream", "missetting_angles"]

_LARGEST_SEED = 2**31 - 1
# C passes "90", meant as degrees, where radians are taken; the orientation of a seed depends on it.
_WHOLE_SPHERE = 90.0


class ClassicStream:
    """The one generator of a nanoBragg run, whose shuffle table all its streams share.

    A run draws in this order: random orientation, mosaic domains, photon noise. Each stream begins with its
    own seed, and a seed of 0 or more refills the table, so that the order only matters for negative seeds,
    which go on with the table that the stream before left behind.

    One object stands for one run of the program: make a new one for each frame.

    Examples
    --------
    >>> stream = ClassicStream()
    >>> stream.mosaic_umats(0.001, 3, 777).shape
    (3, 3, 3)
    """

    def __init__(self) -> None:
        from bragg_numba.kernels.random.classic import classic_state

        self._state = classic_state()

    def start(self, seed: int):
        """Begin a stream with its seed; return the state, which the kernels of ``classic_random`` draw from."""
        from bragg_numba.kernels.random.classic import start_stream

        start_stream(self._state, check.whole_number("seed", seed, -_LARGEST_SEED, _LARGEST_SEED))
        return self._state

    def misset_umat(self, seed: int) -> np.ndarray:
        """Return a random orientation, (3, 3) float64, from three deviates of ``seed``."""
        return self._rotations(_WHOLE_SPHERE, 1, seed)[0]

    def misset_angles(self, seed: int) -> tuple[float, float, float]:
        """Return a random orientation as rotations about lab x, y, z, applied in that order, in radians."""
        return missetting_angles(self.misset_umat(seed))

    def mosaic_umats(self, spread_rad: float, domains: int, seed: int) -> np.ndarray:
        """Return the orientations of the mosaic domains, (domains, 3, 3) float64 (eq. 27).

        The first domain is aligned, yet its three deviates are drawn, also where the spread is 0.
        """
        if domains < 1:
            raise InputError("domains", "must be at least 1", domains)
        umats = self._rotations(spread_rad, domains, seed)
        umats[0] = np.eye(3)
        return umats

    def uniforms(self, seed: int, count: int) -> np.ndarray:
        """Return the first ``count`` uniform deviates of ``seed``, (count,) float64 in (0, 1), each a float32."""
        from bragg_numba.kernels.random.classic import uniform

        state = self.start(seed)
        return np.array([uniform(state) for _ in range(count)], dtype=np.float64)

    def _rotations(self, spread_rad: float, count: int, seed: int) -> np.ndarray:
        from bragg_numba.kernels.random.classic import mosaic_rotation

        rotations = np.empty((count, 3, 3), dtype=np.float64)
        state = self.start(seed)
        for rotation in rotations:
            mosaic_rotation(np.float32(spread_rad), state, rotation)
        return rotations


def missetting_angles(umat: np.ndarray) -> tuple[float, float, float]:
    """Return the rotations about lab x, y and z (radians, applied in that order) that make ``umat``.

    Where the middle angle is a right angle the first and last are not unique; C's choice is (pi, pi/2, rest).
    """
    rows = np.array(umat, dtype=np.float64)
    for _ in range(2):  # C normalises twice; the second pass can still move the last bit
        for row in rows:
            length = math.sqrt(row[0] * row[0] + row[1] * row[1] + row[2] * row[2])
            if length > 0:
                row /= length
    zx, zy, zz = (float(value) for value in rows[2])
    if zx * zx < 1.0:
        return (
            math.atan2(zy, zz),
            math.atan2(-zx, math.sqrt(zy * zy + zz * zz)),
            math.atan2(rows[1, 0], rows[0, 0]),
        )
    return 4 * math.atan2(1, 1), 2 * math.atan2(1, 1), math.atan2(rows[0, 1], -rows[1, 1])
