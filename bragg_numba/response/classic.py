"""nanoBragg's own photon noise, bit for bit."""

from __future__ import annotations

import numpy as np

from bragg_numba.plan.classic_stream import ClassicStream
from bragg_numba.response.photons import check_photons

__all__ = ["noise_image"]


def noise_image(
    photons: np.ndarray,
    seed: int,
    adc: float = 40.0,
    roi: tuple[int, int, int, int] | None = None,
    stream: ClassicStream | None = None,
) -> tuple[np.ndarray, float, int]:
    """Return a noisy detector image (eq. 31), the sum of its photons and the number of overloads.

    Parameters
    ----------
    photons
        (slow, fast) float32, expected photons.
    seed
        The noise seed, as given to ``-seed``.
    adc
        Offset of every pixel inside the region.
    roi
        (xmin, xmax, ymin, ymax) in pixels, both ends included; pixels outside stay 0. Default: all.
    stream
        The generator of the run: a negative seed goes on with what it left behind. Default: a new one.

    Returns
    -------
    tuple
        (slow, fast) uint16 image, float photon sum (without the offset), int overloads.

    Raises
    ------
    InputError
        If a pixel is NaN or negative.
    """
    from bragg_numba.kernels.random import classic as classic_random

    photons = check_photons(photons)
    n_slow, n_fast = photons.shape
    region = (0, n_fast - 1, 0, n_slow - 1) if roi is None else tuple(int(edge) for edge in roi)
    image = np.zeros(photons.shape, dtype=np.uint16)
    state = (ClassicStream() if stream is None else stream).start(seed)
    photon_sum, overloads = classic_random.noise_image(photons, float(adc), region, state, image)
    return image, photon_sum, overloads
