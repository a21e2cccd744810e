"""Point spread of frames that lie on a GPU, by CuPy's transforms: that of ``spread``, without its far squares."""

from __future__ import annotations

import importlib.util
from functools import lru_cache

from bragg_numba.render import devices
from bragg_numba.response.spread import FIBRE_WIDTH, GAUSS_WIDTH, fibre_weights, gauss_weights, padded


def is_possible() -> bool:
    """Tell whether frames can be spread on a device."""
    return not devices.simulated() and importlib.util.find_spec("cupy") is not None


def spread_on_device(response, image, pixel_um: float | None, index: int):
    """Return a device array (slow, fast) float32 after a response's point spread, as numba holds it, on GPU ``index``.

    Expected photons are transformed in float64, and what rounding leaves below 0 becomes 0; photons that were drawn in
    float32, whose rounding, some 1e-8 of the brightest pixel, is of no account beside a detector's noise.
    """
    import cupy
    from numba import cuda

    kind, width, kernel, exact = response.point_spread_of(pixel_um)
    with cupy.cuda.Device(index):
        given = cupy.asarray(image)
        if kind == "kernel":
            shape, transform = kernel_transform(kernel, given.shape, cupy)
        else:
            shape, transform = _kept(kind, width, given.shape, exact, index)
        out = convolved(given, transform, shape, exact, cupy)
        cupy.cuda.get_current_stream().synchronize()  # the kernels that follow may run in another
    return cuda.as_cuda_array(out)


@lru_cache(maxsize=1)
def _kept(kind: str, width: float, sides: tuple[int, int], exact: bool, index: int):
    """Return the transform of a spread on one GPU; frames of a series have the same."""
    import cupy

    return (gauss_transform if kind == "gauss" else fibre_transform)(width, sides, exact, cupy)


def convolved(image, transform, shape: tuple[int, int], exact: bool, xp):
    """Return an image (slow, fast) float32 convolved by its transform; ``xp`` is CuPy, or NumPy."""
    found = xp.fft.rfft2(image.astype(xp.float64) if exact else image, s=shape)
    found *= transform
    out = xp.fft.irfft2(found, s=shape)[: image.shape[0], : image.shape[1]].astype(xp.float32)
    if exact:
        out = xp.maximum(out, xp.float32(0.0))
    return xp.ascontiguousarray(out)


def kernel_transform(kernel, sides: tuple[int, int], xp):
    """Return the padded shape for a kernel (odd, odd), whose middle is where a photon hits, and its transform."""
    shape = padded(sides, [n - 1 for n in kernel.shape])
    there = xp.zeros(shape)
    there[: kernel.shape[0], : kernel.shape[1]] = xp.asarray(kernel)
    there = xp.roll(there, [-(n // 2) for n in kernel.shape], axis=(0, 1))
    return shape, xp.fft.rfft2(there)


def gauss_transform(fwhm_px: float, sides: tuple[int, int], exact: bool, xp):
    """Return the padded shape for a Gauss function, and its transform."""
    rows = [gauss_weights(fwhm_px / GAUSS_WIDTH, n - 1) for n in sides]
    shape = padded(sides, [len(row) - 1 for row in rows])
    slow, fast = (xp.zeros(n) for n in shape)
    for there, row in ((slow, rows[0]), (fast, rows[1])):
        there[: len(row)] = xp.asarray(row)
    slow, fast = (xp.roll(there, -(len(row) // 2)) for there, row in ((slow, rows[0]), (fast, rows[1])))
    # Both are even, so that their transforms are real.
    found = xp.fft.fft(slow).real[:, None] * xp.fft.rfft(fast).real[None, :]
    return shape, found if exact else found.astype(xp.float32)


def fibre_transform(fwhm_px: float, sides: tuple[int, int], exact: bool, xp):
    """Return the padded shape for a fibre taper, twice the sides, and its transform; nothing of its tail is cut off."""
    shape = padded(sides, [n - 1 for n in sides])
    half, wide = (n - 1 for n in sides)
    quarter = fibre_weights(fwhm_px / FIBRE_WIDTH, half, wide, xp)
    there = xp.zeros(shape, dtype=xp.float64 if exact else xp.float32)
    there[: half + 1, : wide + 1] = quarter
    there[shape[0] - half :, : wide + 1] = quarter[:0:-1]
    there[: half + 1, shape[1] - wide :] = quarter[:, :0:-1]
    there[shape[0] - half :, shape[1] - wide :] = quarter[:0:-1, :0:-1]
    return shape, xp.ascontiguousarray(xp.fft.rfft2(there).real)
