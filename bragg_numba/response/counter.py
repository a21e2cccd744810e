"""Photon noise that depends only on the seed, the frame and the pixel: the same on any number of threads."""

from __future__ import annotations

import numpy as np

from bragg_numba import checks as check
from bragg_numba.errors import InputError
from bragg_numba.response.photons import Drawn, as_image, check_photons, is_on_device

__all__ = ["Drawn", "draw_counts", "poisson", "sum_photons"]


def poisson(
    photons,
    seed: int,
    frame: int = 0,
    first_row: int = 0,
    n_fast: int | None = None,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Draw one Poisson count for each pixel.

    The count of a pixel follows from ``seed``, ``frame`` and the pixel's place in the whole frame alone. A
    tile of whole rows, told which row of the frame it starts with, gets the counts that the whole frame would
    give.

    Parameters
    ----------
    photons
        (slow, fast) float32, expected photons; finite and not negative. A device array is drawn from on its
        GPU, and the same counts stay there.
    seed
        Any whole number from 0 to 2^64 - 1.
    frame
        Number of the frame in its series, 0 to 2^32 - 1; frames are independent.
    first_row
        The frame's row that ``photons[0]`` is.
    n_fast
        Pixels in a row of the frame; ``photons`` must be that wide. Default: the width of ``photons``.
    out
        (slow, fast) uint32, C-contiguous; filled and returned. Default: a new array.

    Returns
    -------
    numpy.ndarray
        (slow, fast) uint32 photon counts; a count above 2^32 - 1 becomes 2^32 - 1.

    Raises
    ------
    InputError
        If a pixel is NaN, infinite or negative, or an argument lies outside its range.

    Examples
    --------
    >>> import numpy as np
    >>> poisson(np.zeros((1, 3), dtype=np.float32), seed=1)
    array([[0, 0, 0]], dtype=uint32)
    """
    on_device = is_on_device(photons)
    image = photons if on_device else as_image(photons)
    first_row = check.whole_number("first_row", first_row, 0, 2**32 - 1)
    if n_fast is not None and n_fast != image.shape[-1]:
        raise InputError("n_fast", f"must be the width of photons ({image.shape[-1]})", n_fast, "tiles are whole rows")
    if on_device:
        from bragg_numba.response.cuda_counts import poisson_on_device

        seed, frame = checked_shot(seed, frame)
        if out is not None:
            raise InputError("out", "must be left out for photons on a device")
        return poisson_on_device(image, seed, frame, first_row)
    if out is None:
        out = np.empty(image.shape, dtype=np.uint32)
    elif out.shape != image.shape or out.dtype != np.uint32 or not out.flags.c_contiguous:
        raise InputError("out", f"must be a contiguous uint32 array of shape {image.shape}", out.shape)
    draw_counts(image, seed, frame, out, top=2**32 - 1, first_pixel=first_row * image.shape[1])
    return out


def checked_shot(seed: int, frame: int) -> tuple[int, int]:
    """Return seed and frame of the noise as whole numbers that the stream has.

    Raises
    ------
    InputError
        If one is not.
    """
    return check.whole_number("seed", seed, 0, 2**64 - 1), check.whole_number("frame", frame, 0, 2**32 - 1)


def draw_counts(
    photons: np.ndarray,
    seed: int,
    frame: int,
    counts: np.ndarray,
    *,
    top: int,
    scale: float = 1.0,
    first_pixel: int = 0,
) -> Drawn:
    """Draw ``poisson(photons * scale, seed, frame)`` into ``counts``, clipped, in one pass over memory.

    Parameters
    ----------
    photons
        (slow, fast) float32, C-contiguous.
    counts
        (slow, fast) uint16 or uint32, C-contiguous; filled.
    top
        Largest count, at least 6; larger ones become it.
    scale
        ``photons`` are multiplied by it first, in float32.
    first_pixel
        The frame's pixel that ``photons[0, 0]`` is.

    Raises
    ------
    InputError
        If a pixel is NaN, infinite or negative, or an argument lies outside its range.
    """
    from bragg_numba.kernels.random.philox import N_STATISTICS, chunks_of, poisson_counts

    seed, frame = checked_shot(seed, frame)
    found = np.empty((chunks_of(photons.size, first_pixel), N_STATISTICS))
    poisson_counts(
        photons.reshape(-1),
        np.float32(scale),
        np.uint64(seed),
        np.uint32(frame),
        np.uint64(first_pixel),
        float(top),
        counts.reshape(-1),
        found,
    )
    return _drawn(photons, found, scale)


def sum_photons(photons: np.ndarray) -> Drawn:
    """Return what ``draw_counts`` would, bit for bit, of a frame that gets no counts; (slow, fast) float32."""
    from bragg_numba.kernels.random.philox import N_STATISTICS, chunks_of, photon_statistics

    found = np.empty((chunks_of(photons.size), N_STATISTICS))
    photon_statistics(photons.reshape(-1), found)
    return _drawn(photons, found, 1.0)


def sum_of(image: np.ndarray) -> float:
    """Return the sum of an image (slow, fast) float32, C-contiguous, in float64, in the order of ``sum_photons``."""
    from bragg_numba.kernels.random.philox import N_STATISTICS, SUM, chunks_of, photon_statistics

    found = np.empty((chunks_of(image.size), N_STATISTICS))
    photon_statistics(image.reshape(-1), found)
    return float(found[:, SUM].sum())


def _drawn(photons: np.ndarray, found: np.ndarray, scale: float) -> Drawn:
    from bragg_numba.kernels.random.philox import BAD, MOST, OVERLOADS, SUM

    if found[:, BAD].any():
        with np.errstate(over="ignore"):
            check_photons(photons * np.float32(scale))
    most = float(found[:, MOST].max(initial=0.0))
    return Drawn(float(found[:, SUM].sum()), most, int(found[:, OVERLOADS].sum()))
