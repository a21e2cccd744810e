"""Photon noise of frames that lie on a GPU: the counts of ``counter.poisson``, drawn where the photons are."""

from __future__ import annotations

import importlib.util

import numpy as np

from bragg_numba.errors import InputError
from bragg_numba.render import devices
from bragg_numba.render.cuda import as_caller_array, as_numba_array
from bragg_numba.response.photons import check_photons


def poisson_on_device(photons, seed: int, frame: int, first_row: int):
    """Draw one Poisson count for each pixel of a device array; the counts stay there.

    The counts are those of ``counter.poisson``, which checks the numbers.

    Raises
    ------
    InputError
        If the array is none of photons, or a pixel is NaN, infinite or negative.
    """
    from numba import cuda

    from bragg_numba.kernels.random import cuda as kernels

    index = devices.index_of(photons)
    with cuda.gpus[index]:
        mean = as_numba_array("photons", photons, index)
        if len(mean.shape) != 2 or mean.dtype != np.float32 or not mean.is_c_contiguous():
            raise InputError("photons", "must be C-contiguous float32 of two dimensions on a device", mean.dtype)
        _require_photons(mean)
        counts = cuda.device_array(tuple(mean.shape), dtype=np.uint32)
        n_fast = int(mean.shape[1])
        blocks = max(1, -(-int(mean.shape[0]) * n_fast // kernels.THREADS))
        words = (np.uint64(seed), np.uint32(frame), np.uint64(first_row * n_fast))
        kernels.poisson_counts[blocks, kernels.THREADS](mean, *words, counts)
        cuda.synchronize()
    return as_caller_array(counts)


def on_host(photons) -> np.ndarray:
    """Return a copy of a device array (slow, fast) float32 in the memory of the host."""
    from numba import cuda

    index = devices.index_of(photons)
    with cuda.gpus[index]:
        return as_numba_array("photons", photons, index).copy_to_host()


def _require_photons(mean) -> None:
    """Raise InputError if a pixel is NaN, infinite or negative; looked at on the device where CuPy can."""
    if not devices.simulated() and importlib.util.find_spec("cupy") is not None:
        import cupy

        photons = cupy.asarray(mean)
        if bool(((photons >= 0) & (photons < np.inf)).all()):
            return
    check_photons(mean.copy_to_host())
