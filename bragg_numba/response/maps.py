"""What belongs to a detector and not to a frame: gains of its pixels, dead and hot ones; keyed by its seed alone."""

from __future__ import annotations

from functools import lru_cache

import numpy as np


@lru_cache(maxsize=1)
def quantile_table() -> np.ndarray:
    """Return the table of normal deviates that the kernels use."""
    from scipy.special import ndtri

    from bragg_numba.kernels.random.effects import STEPS, normal_table

    return normal_table(ndtri(np.linspace(0.0, 1.0, STEPS + 1)))


@lru_cache(maxsize=2)
def pixel_gains(sigma: float, seed: int, shape: tuple[int, int], first_pixel: int) -> np.ndarray:
    """Return the gains of pixels over their mean, (slow, fast) float32, not below 0; not to be written to."""
    from bragg_numba.kernels.random.effects import GAIN_MAP, fill_normals

    gains = np.empty(shape[0] * shape[1], dtype=np.float32)
    fill_normals(np.uint64(seed), np.uint32(0), GAIN_MAP, np.uint64(first_pixel), quantile_table(), gains)
    gains *= np.float32(sigma)
    gains += np.float32(1.0)
    np.maximum(gains, 0.0, out=gains)
    gains.flags.writeable = False
    return gains.reshape(shape)


def bad_pixels(response, shape: tuple[int, int], first_pixel: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return which pixels are dead and which hot, (slow, fast) bool; a dead one is not hot."""
    from bragg_numba.kernels.random.effects import DEAD_PIXELS, HOT_PIXELS

    dead = _chosen(response.dead_pixels, response.detector_seed, int(DEAD_PIXELS), shape, first_pixel)
    hot = _chosen(response.hot_pixels, response.detector_seed, int(HOT_PIXELS), shape, first_pixel)
    return dead, hot & ~dead


@lru_cache(maxsize=4)
def _chosen(part: float, seed: int, effect: int, shape: tuple[int, int], first_pixel: int) -> np.ndarray:
    from bragg_numba.kernels.random.effects import fill_uniforms

    if part == 0.0:
        return np.zeros(shape, dtype=bool)
    u = np.empty(shape[0] * shape[1])
    fill_uniforms(np.uint64(seed), np.uint32(0), np.uint64(effect), np.uint64(first_pixel), u)
    return (u < part).reshape(shape)
