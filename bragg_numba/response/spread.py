"""Point spread: where the photons of a pixel end, inside the frame and beyond it."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np

from bragg_numba.errors import InputError

#: Full widths at half maximum: of a Gauss function over its sigma, of a fibre over its length g.
GAUSS_WIDTH = 2.0 * math.sqrt(2.0 * math.log(2.0))
FIBRE_WIDTH = 2.0 * math.sqrt(2.0 ** (2.0 / 3.0) - 1.0)

#: Pixels of a side up to which a frame is spread by one transform that no tail is folded in.
WHOLE_SIDE = 1100

#: Weights of a row up to which they are added up one by one.
FEW_WEIGHTS = 129


def gauss_weights(sigma_px: float, most: int) -> np.ndarray:
    """Return the parts of a photon that 2 n + 1 pixels in a row get; it hits the middle one.

    In float64 nothing is left beyond; ``most`` is the largest n that anybody asks for.
    """
    reach = max(1, min(math.ceil(9.0 * sigma_px + 0.5), most))
    edges = (np.arange(-reach, reach + 2) - 0.5) / (sigma_px * math.sqrt(2.0))
    inside = np.array([math.erf(edge) for edge in edges])
    return 0.5 * np.diff(inside)


def fibre_weights(length_px: float, half: int, wide: int, xp=np) -> np.ndarray:
    """Return the parts that pixels (0 ... half, 0 ... wide) get of a photon that hits the middle of pixel (0, 0).

    The integral of g / (2 pi) (g^2 + r^2)^-3/2 over each pixel, g = ``length_px``, from its four corners. ``xp``: CuPy
    for an array of its own.
    """
    x, y = xp.arange(-0.5, half + 1.0), xp.arange(-0.5, wide + 1.0)
    root = length_px * xp.sqrt(length_px**2 + x[:, None] ** 2 + y[None, :] ** 2)
    corner = xp.arctan(x[:, None] * y[None, :] / root) / (2.0 * math.pi)
    return corner[1:, 1:] - corner[1:, :-1] - corner[:-1, 1:] + corner[:-1, :-1]


def spread_gauss(image: np.ndarray, fwhm_px: float) -> np.ndarray:
    """Return an image (slow, fast) spread by a Gauss function; float32 stays float32."""
    from scipy.ndimage import convolve1d
    from scipy.signal import fftconvolve

    sigma, spread = fwhm_px / GAUSS_WIDTH, image
    for axis in (1, 0):
        weights = gauss_weights(sigma, image.shape[axis] - 1)
        if len(weights) <= FEW_WEIGHTS:
            spread = convolve1d(spread, weights, axis=axis, mode="constant")
        else:
            wide = weights[:, None] if axis == 0 else weights[None, :]
            full = fftconvolve(spread.astype(np.float64), wide, axes=axis)
            first = len(weights) // 2
            kept = slice(first, first + image.shape[axis])
            spread = (full[kept] if axis == 0 else full[:, kept]).astype(image.dtype)
    return spread


def spread_kernel(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Return an image spread by a kernel of odd sides, whose middle is where a photon hits."""
    shape = padded(image.shape, [n - 1 for n in kernel.shape])
    there = np.zeros(shape)
    there[: kernel.shape[0], : kernel.shape[1]] = kernel
    there = np.roll(there, [-(n // 2) for n in kernel.shape], axis=(0, 1))
    return _transformed(image.astype(np.float64), _transform(there), shape).astype(image.dtype)


def spread_fibre(image: np.ndarray, fwhm_px: float, *, exact: bool = True) -> np.ndarray:
    """Return an image spread by a fibre taper; its tail is not cut at any distance.

    Small frames are padded to twice their size, so that what leaves at one edge does not come back at the other. Of
    larger ones only what lies within an eighth of the longer side is spread pixel by pixel; the far tail, which is
    smooth, is added between squares of 8 pixels (below 1e-6 of the photons of a spot are then elsewhere).
    Unless ``exact``, larger frames are transformed in float32, whose rounding, some 1e-8 of the brightest pixel, is of
    no account beside a detector's noise.
    """
    length = fwhm_px / FIBRE_WIDTH
    if max(image.shape) <= WHOLE_SIDE:
        shape = padded(image.shape, [n - 1 for n in image.shape])
        transform = _fibre_transform(length, image.shape, shape, 0, "f8")
        return _transformed(image.astype(np.float64), transform, shape).astype(image.dtype)
    reach = max(image.shape) // 8
    shape = padded(image.shape, [reach, reach])
    transform = _fibre_transform(length, image.shape, shape, reach, "f8" if exact else "f4")
    if exact:
        near = np.ascontiguousarray(_transformed(image.astype(np.float64), transform, shape), dtype=np.float32)
    else:
        near = _transformed_single(image, transform, shape)
    return _with_far_tail(image, length, reach, near)


def padded(sides, reach) -> tuple[int, int]:
    """Return sides that transform fast, of ``sides`` and ``reach`` or more together."""
    from scipy.fft import next_fast_len

    slow, fast = (next_fast_len(n + r, real=True) for n, r in zip(sides, reach, strict=True))
    return slow, fast


def _transform(there: np.ndarray) -> np.ndarray:
    from scipy.fft import rfft2

    return rfft2(there, workers=_threads())


def _transformed(image: np.ndarray, transform: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    from scipy.fft import fft, ifft, irfft, rfft

    # Row by row, then column by column: rows of nothing but padding are never transformed.
    workers = _threads()
    found = fft(rfft(image, shape[1], axis=1, workers=workers), shape[0], axis=0, workers=workers, overwrite_x=True)
    found *= transform
    found = ifft(found, axis=0, workers=workers, overwrite_x=True)[: image.shape[0]]
    return irfft(found, shape[1], axis=1, workers=workers)[:, : image.shape[1]]


def _transformed_single(image: np.ndarray, transform: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return ``_transformed`` of an image float32 by a real transform, its rows as long as ``shape``; bit for bit.

    All passes over memory are made by all threads, and none is made twice: scipy copies what it pads.
    """
    from scipy.fft import fft, ifft, irfft, rfft

    from bragg_numba.kernels.response.coarse import multiply_pairs, pad

    workers = _threads()
    wide = np.empty(shape, dtype=np.float32)
    pad(image, wide)
    found = rfft(wide, axis=1, workers=workers)
    found = fft(found, axis=0, workers=workers, overwrite_x=True)
    multiply_pairs(transform, found.view(np.float32))
    found = ifft(found, axis=0, workers=workers, overwrite_x=True)
    return irfft(found[: image.shape[0]], shape[1], axis=1, workers=workers)


def _threads() -> int:
    import numba

    return numba.get_num_threads()


def _window(distance: np.ndarray, reach: float) -> np.ndarray:
    """Return 1 up to half of ``reach`` and 0 from it on, with a smooth step between."""
    t = np.clip(2.0 * distance / reach - 1.0, 0.0, 1.0)
    return 1.0 - t**3 * (10.0 - t * (15.0 - 6.0 * t))


@lru_cache(maxsize=2)
def _fibre_transform(
    length: float, sides: tuple[int, int], shape: tuple[int, int], reach: int, kind: str
) -> np.ndarray:
    """Return the transform of the part of a fibre's spread within ``reach`` pixels; all of it where that is 0."""
    half, wide = (reach or n - 1 for n in sides)
    quarter = fibre_weights(length, half, wide)
    if reach:
        quarter *= _window(np.hypot(np.arange(half + 1)[:, None], np.arange(wide + 1)), reach)
    there = np.zeros(shape, dtype=kind)
    there[: half + 1, : wide + 1] = quarter
    there[shape[0] - half :, : wide + 1] = quarter[:0:-1]
    there[: half + 1, shape[1] - wide :] = quarter[:, :0:-1]
    there[shape[0] - half :, shape[1] - wide :] = quarter[:0:-1, :0:-1]
    return _transform(there).real.copy()  # it is even, so that its transform is real


def _with_far_tail(image: np.ndarray, length: float, reach: int, near: np.ndarray) -> np.ndarray:
    """Return an image's fibre spread of its near part, (slow, fast or more) float32, and what lies beyond."""
    from bragg_numba.kernels.response.coarse import SIDE, add_coarse, sum_coarse

    # One more square on each side, between which and the outermost ones the last pixels lie.
    rows, columns = (-(-n // SIDE) + 2 for n in image.shape)
    shape, transform = _tail_transform(length, reach, rows, columns)
    squares = np.empty((rows, columns))
    sum_coarse(image, squares)
    found = _transformed(squares, transform, shape)
    out = np.empty(image.shape, dtype=np.float32)
    add_coarse(np.ascontiguousarray(found, dtype=np.float32), near, out)
    return out


@lru_cache(maxsize=2)
def _tail_transform(length: float, reach: int, rows: int, columns: int) -> tuple[tuple[int, int], np.ndarray]:
    """Return the padded shape of coarse squares, and the transform of what each sends to those beyond ``reach``."""
    from bragg_numba.kernels.response.coarse import SIDE

    shape = padded((rows, columns), (rows - 1, columns - 1))
    # Distances either way round: no square is nearer by way of the padding than it is.
    slow, fast = (np.minimum(np.arange(n), n - np.arange(n)) * SIDE for n in shape)
    distance = np.hypot(slow[:, None], fast)
    tail = length / (2.0 * math.pi) * (length**2 + distance**2) ** -1.5 * (1.0 - _window(distance, reach))
    # Chords between squares lie above a convex curve by 1/12 of its second difference on average, and a pixel that is
    # shared out among squares adds as much.
    around = sum(np.roll(tail, step, axis) for step in (1, -1) for axis in (0, 1))
    tail -= (around - 4.0 * tail) / 6.0
    return shape, _transform(tail).real.copy()


def check_kernel(name: str, kernel) -> np.ndarray:
    """Return a kernel as float64 (odd, odd) numbers that are finite, not negative and together 1 at most."""
    try:
        found = np.array(kernel, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(name, "must be an array of numbers", type(kernel).__name__) from None
    if found.ndim != 2 or not all(n % 2 for n in found.shape) or max(found.shape, default=0) > 4095:
        raise InputError(name, "must have two odd sides of 4095 pixels at most", found.shape)
    if not (np.isfinite(found).all() and (found >= 0).all()):
        raise InputError(name, "must hold finite numbers that are not negative")
    total = float(found.sum())
    if not 0.0 < total <= 1.0 + 1e-6:
        raise InputError(name, "must have a sum above 0 and not above 1", total, "a photon is nowhere more than once")
    return found


def spreader(
    kind: str | None, fwhm_px: float, kernel: np.ndarray | None, *, exact: bool
) -> Callable[[np.ndarray], np.ndarray] | None:
    """Return what spreads an image, or None where nothing does; ``exact`` as for ``spread_fibre``."""
    if kind == "kernel" and kernel is not None:
        return lambda image: spread_kernel(image, kernel)
    if kind == "gauss" and fwhm_px > 0.0:
        return lambda image: spread_gauss(image, fwhm_px)
    if kind == "fibre" and fwhm_px > 0.0:
        return lambda image: spread_fibre(image, fwhm_px, exact=exact)
    return None
