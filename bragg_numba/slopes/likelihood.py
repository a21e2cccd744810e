"""Likelihoods of data given photons, pixel by pixel (eq. 65): what kernels/slopes/cpu.py has for a single one."""

from __future__ import annotations

import math

import numpy as np

from bragg_numba.kernels.slopes.cpu import GAUSSIAN, LEAST_PHOTONS, MODEL_VARIANCE


def judge(
    kind: int, photons: np.ndarray, data: np.ndarray, variance: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Minus the logarithm of each pixel's likelihood, its slope in the photons, and the expected second one.

    ``kind`` is the kernel's number of the likelihood; pixels whose data are NaN do not count.
    """
    counts = np.isfinite(data)
    off = np.where(counts, data - photons, 0.0)
    if kind == GAUSSIAN:
        found = 0.5 * off**2 / variance, -off / variance, 1.0 / variance
    elif kind == MODEL_VARIANCE:
        spread = np.maximum(photons + variance, LEAST_PHOTONS)
        found = (
            0.5 * (np.log(2.0 * math.pi * spread) + off**2 / spread),
            0.5 * (1.0 - 2.0 * off - off**2 / spread) / spread,
            1.0 / spread + 0.5 / spread**2,
        )
    else:
        expected = np.maximum(photons, LEAST_PHOTONS)
        seen = np.where(counts, data, 0.0)
        shown = np.where(seen > 0.0, seen, 1.0)
        value = expected - seen + np.where(seen > 0.0, seen * np.log(shown / expected), 0.0)
        found = value, 1.0 - seen / expected, 1.0 / expected
    return np.where(counts, found[0], 0.0), np.where(counts, found[1], 0.0), np.where(counts, found[2], 0.0)
