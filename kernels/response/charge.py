"""The charge of an integrating detector's pixels: amplified, digitised, brought to one scale."""

from __future__ import annotations

import math

import numpy as np
from bragg_numba.kernels._jit import cpu_kernel, device_function, serial_kernel
from bragg_numba.kernels.random.effects import CASCADE, READOUT, fill_effect, normals_of_words, product
from bragg_numba.kernels.random.philox import CHUNK, CHUNKS_AT_ONCE, GROUP_BITS, LOW_WORD, WORD_BITS, chunk_limits
from numba import prange

__all__ = ["record_charge", "to_charge"]

_0, _1_2 = np.float32(0.0), np.float32(0.5)
_MANY = np.float32(2.0**22)
_LARGEST = np.float32(2.0**31 - 128)  #: of an int32


@serial_kernel
def digitise_chunk(charge, normals, stages, adc_top, offset, top, counts):
    """Amplify, digitise and linearise the charge of a chunk; return how many pixels are overloaded.

    ``charge`` (m,) float32 in photons; ``stages`` (5, 3) float32: the charge from which on a stage is used, ADU a
    photon, noise in ADU, pedestal in ADU, and by what the ADU above it are multiplied.
    """
    beyond = np.uint32(0)
    for i in range(len(charge)):
        beyond += np.uint32(charge[i] >= stages[0, 1])
    if beyond == 0:
        return digitise_first(charge, normals, stages, adc_top, offset, top, counts)
    return digitise_any(charge, normals, stages, adc_top, offset, top, counts)


@device_function
def digits(q, normal, gain, noise, pedestal, scale, adc_top, offset, top):
    """Return the value of a pixel, and whether it is an overload."""
    adu = math.floor(pedestal + product(gain, q) + product(noise, normal) + _1_2)
    over = adu >= adc_top
    adu = max(adu, _0)
    value = max(math.floor((adu - pedestal) * scale + offset + _1_2), _0)
    return np.uint32(np.int32(min(value, _LARGEST))), over | (value >= np.float32(top))


@device_function
def are_whole(pedestal, scale, offset):
    """Return whether ADU and values of a stage are whole numbers that float32 holds, so that rounding changes none."""
    return (
        scale == np.float32(1.0)
        and pedestal == np.floor(pedestal)
        and offset == np.floor(offset)
        and offset < _MANY
        and pedestal < _MANY
    )


@device_function
def cascaded(q, normal, excess):
    """Return the charge of photons whose charges are not equal; ``excess``: variance of that of one of them."""
    return q + product(math.sqrt(max(q, _0) * excess), normal)


@device_function
def pixel_gain(normal, sigma):
    """Return the gain of a pixel over their mean."""
    return max(np.float32(1.0) + product(sigma, normal), _0)


@serial_kernel
def digitise_whole(charge, normals, gain, noise, pedestal, adc_top, offset, top, counts):
    """``digitise_first`` where ADU and values are whole, in float32, which is exact then."""
    overloads, last = np.uint32(0), np.float32(top)
    for i in range(len(charge)):
        adu = np.floor(pedestal + product(gain, charge[i]) + product(noise, normals[i]) + _1_2)
        value = max(max(min(adu, adc_top), _0) - pedestal + offset, _0)
        over = (adu >= adc_top) | (value >= last)
        overloads += np.uint32(over)
        counts[i] = top if over else np.uint32(np.int32(value))
    return int(overloads)


@serial_kernel
def digitise_first(charge, normals, stages, adc_top, offset, top, counts):
    """``digitise_chunk`` where all pixels are in the first stage."""
    overloads = np.uint32(0)
    gain, noise, pedestal, scale = stages[1, 0], stages[2, 0], stages[3, 0], stages[4, 0]
    if adc_top < _MANY and are_whole(pedestal, scale, offset):
        return digitise_whole(charge, normals, gain, noise, pedestal, adc_top, offset, top, counts)
    for i in range(len(charge)):
        value, over = digits(charge[i], normals[i], gain, noise, pedestal, scale, adc_top, offset, top)
        overloads += np.uint32(over)
        counts[i] = top if over else value
    return int(overloads)


@serial_kernel
def digitise_any(charge, normals, stages, adc_top, offset, top, counts):
    """``digitise_chunk`` whatever the stages."""
    overloads = np.uint32(0)
    switch_1, switch_2 = stages[0, 1], stages[0, 2]
    for i in range(len(charge)):
        q = charge[i]
        first, last = q < switch_1, q >= switch_2
        gain = stages[1, 0] if first else (stages[1, 2] if last else stages[1, 1])
        noise = stages[2, 0] if first else (stages[2, 2] if last else stages[2, 1])
        pedestal = stages[3, 0] if first else (stages[3, 2] if last else stages[3, 1])
        scale = stages[4, 0] if first else (stages[4, 2] if last else stages[4, 1])
        value, over = digits(q, normals[i], gain, noise, pedestal, scale, adc_top, offset, top)
        overloads += np.uint32(over)
        counts[i] = top if over else value
    return int(overloads)


@serial_kernel
def add_cascade(charge, normals, excess):
    """Add to the charge of a chunk what the photons' unequal charges differ by."""
    for i in range(CHUNK):
        charge[i] = cascaded(charge[i], normals[i], excess)


@serial_kernel
def multiply(gains, charge):
    """Multiply the charge of some pixels by their gains."""
    for i in range(len(charge)):
        charge[i] *= gains[i]


@cpu_kernel
def to_charge(counts, charge, sums):
    """Copy photons (slow, fast) uint32 to ``charge`` float32; ``sums`` (slow,) float64, of the rows."""
    for row in prange(counts.shape[0]):
        total = np.uint64(0)
        for column in range(counts.shape[1]):
            charge[row, column] = np.float32(counts[row, column])
            total += np.uint64(counts[row, column])
        sums[row] = np.float64(total)


@cpu_kernel
def record_charge(
    charge, gains, excess, stages, adc_top, offset, top, seed, frame, first_pixel, table, counts, overloads
):
    """Turn the photons absorbed by each pixel of an integrating detector into digits.

    Parameters
    ----------
    charge : (n,) float32, photons where they were spread and are not whole any more; (0,): ``counts`` holds them
    gains : (n,) float32, the gain of each pixel over their mean; (0,) where all are 1
    excess : float32, variance of the charge of one photon, in photons squared
    stages : (5, 3) float32, see ``digitise_chunk``
    adc_top : float32, least value of the converter that is an overload
    offset : float32, added to every value
    top : uint32, what an overloaded pixel becomes, and the least that is one
    seed, frame, first_pixel : as for ``poisson_counts``
    table : (STEPS, 2) float32, ``effects.normal_table``
    counts : (n,) uint32, written
    overloads : (chunks,) int64, written
    """
    k0, k1 = np.uint64(seed) & LOW_WORD, np.uint64(seed) >> WORD_BITS
    n, n_chunks = len(counts), len(overloads)
    aligned = np.uint64(first_pixel) & ~np.uint64(CHUNK - 1)
    noisy = stages[2, 0] > _0 or stages[2, 1] > _0 or stages[2, 2] > _0
    for part in prange((n_chunks + CHUNKS_AT_ONCE - 1) // CHUNKS_AT_ONCE):
        words = np.empty(CHUNK, dtype=np.uint32)
        normals, amount = np.zeros(CHUNK, dtype=np.float32), np.zeros(CHUNK, dtype=np.float32)
        for chunk in range(part * CHUNKS_AT_ONCE, min((part + 1) * CHUNKS_AT_ONCE, n_chunks)):
            start, low, high = chunk_limits(chunk, first_pixel, n)
            place = aligned + np.uint64(chunk * CHUNK)
            if len(charge):
                amount[low:high] = charge[start + low : start + high]
            else:
                amount[low:high] = counts[start + low : start + high]
            if excess > _0:
                fill_effect(place >> GROUP_BITS, np.uint64(frame), CASCADE, k0, k1, words)
                normals_of_words(words, table, normals)
                add_cascade(amount, normals, excess)
            if len(gains):
                multiply(gains[start + low : start + high], amount[low:high])
            if noisy:
                fill_effect(place >> GROUP_BITS, np.uint64(frame), READOUT, k0, k1, words)
                normals_of_words(words, table, normals)
            else:
                normals[:] = _0
            these = counts[start + low : start + high]
            overloads[chunk] = digitise_chunk(amount[low:high], normals[low:high], stages, adc_top, offset, top, these)
