"""Photon noise of frames that lie on a GPU: the counts of ``counter.poisson``, drawn where the photons are."""

from __future__ import annotations

import numpy as np

from bragg_numba.errors import InputError
from bragg_numba.render import devices
from bragg_numba.render.cuda import as_caller_array, as_numba_array
from bragg_numba.response.photons import Drawn, check_photons


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
        mean = device_photons(photons, index)
        statistics_of(mean, 1.0)
        counts = cuda.device_array(tuple(mean.shape), dtype=np.uint32)
        n_slow, n_fast = (int(n) for n in mean.shape)
        words = (np.uint64(seed), np.uint32(frame), np.uint64(first_row * n_fast))
        launch(kernels.poisson_counts, n_slow * n_fast, mean, *words, counts)
        cuda.synchronize()
    return as_caller_array(counts)


def device_photons(photons, index: int):
    """Return a caller's photons on GPU ``index`` as numba holds them, the same memory; its device must be chosen.

    Raises
    ------
    InputError
        If they are no C-contiguous float32 of two dimensions.
    """
    mean = as_numba_array("photons", photons, index)
    if len(mean.shape) != 2 or mean.dtype != np.float32 or not mean.is_c_contiguous():
        raise InputError("photons", "must be C-contiguous float32 of two dimensions on a device", mean.dtype)
    return mean


def launch(kernel, tasks: int, *arguments) -> None:
    """Launch a kernel of a thread for each of ``tasks`` pixels or the like, none for none."""
    from bragg_numba.kernels.random.cuda import THREADS

    if tasks:
        kernel[-(-tasks // THREADS), THREADS](*arguments)


def statistics_of(image, scale: float | None = None) -> Drawn:
    """Return sum and maximum of an image on a device, (slow, fast) float32, bit for bit those of the CPU.

    With ``scale`` they are of photons, which are to be multiplied by it.

    Raises
    ------
    InputError
        With ``scale``, if a pixel is NaN, infinite or negative, or becomes infinite.
    """
    from numba import cuda

    from bragg_numba.kernels.random import cuda as kernels
    from bragg_numba.kernels.random.philox import BAD, MOST, N_STATISTICS, SUM, chunks_of

    chunks = chunks_of(int(image.shape[0]) * int(image.shape[1]))
    if chunks == 0:
        return Drawn(0.0, 0.0, 0)
    there = cuda.device_array((chunks, N_STATISTICS), dtype=np.float64)
    kernels.photon_statistics[chunks, kernels.THREADS](image, there)
    found = there.copy_to_host()
    most = float(found[:, MOST].max())
    if scale is not None:
        with np.errstate(over="ignore"):
            if found[:, BAD].any() or not np.isfinite(np.float32(most) * np.float32(scale)):
                check_photons(check_photons(image.copy_to_host()) * np.float32(scale))
    return Drawn(float(found[:, SUM].sum()), most, 0)
