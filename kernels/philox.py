"""Photon counts from a counter: Philox4x32-10 and exact Poisson deviates, without any state.

Philox (Salmon, Moraes, Dror & Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC11) turns a counter of
four 32-bit words into four random words under a key of two. Here the key is the seed and the counter is

    (pixel, low word; pixel, high word; frame; attempt)

so that the count of a pixel depends on nothing but (seed, frame, pixel): threads and tiles cannot change it.
Every word is kept in a uint64, whose product of two 32-bit numbers is exact on all targets. All functions are
pure and scalar, so that a kernel for another target can call them too.
"""

from __future__ import annotations

import math

import numpy as np
from bragg_numba.kernels._jit import cpu_kernel, device_function
from numba import prange

__all__ = ["philox4x32", "poisson_count", "poisson_counts"]

# numba would make a float of a uint64 and a plain int: every constant that meets a word is a uint64.
MULTIPLIER_0 = np.uint64(0xD2511F53)
MULTIPLIER_1 = np.uint64(0xCD9E8D57)
WEYL_0 = np.uint64(0x9E3779B9)
WEYL_1 = np.uint64(0xBB67AE85)
LOW_WORD = np.uint64(0xFFFFFFFF)
WORD_BITS = np.uint64(32)
SPARE_BITS = np.uint64(11)  # 64 - 53: a float64 holds 53
ONE = np.uint64(1)
ROUNDS = 10

UNIT = 2.0**-53
# Below this mean counts are looked up in the cumulative distribution; above it the rejection method is valid.
SMALL_MEAN = 10.0
# A term this small no longer changes a sum near 1.
NEGLIGIBLE = 2.0**-56
LARGEST_COUNT = 4294967295.0
# A mean so far above the largest count (65,000 standard deviations) that the count is always that one.
HOPELESS_MEAN = 2.0**33
# From this count on the series for ln k! is right to 1e-10.
STIRLING_FROM = 10.0


@device_function
def philox4x32(c0, c1, c2, c3, k0, k1):
    """Return the four random words (uint64 below 2^32) of the counter ``c0..c3`` under the key ``k0, k1``."""
    for _ in range(ROUNDS):
        product_0 = MULTIPLIER_0 * c0
        product_1 = MULTIPLIER_1 * c2
        c0 = (product_1 >> WORD_BITS) ^ c1 ^ k0
        c2 = (product_0 >> WORD_BITS) ^ c3 ^ k1
        c1 = product_1 & LOW_WORD
        c3 = product_0 & LOW_WORD
        k0 = (k0 + WEYL_0) & LOW_WORD
        k1 = (k1 + WEYL_1) & LOW_WORD
    return c0, c1, c2, c3


@device_function
def unit_interval(high, low):
    """Return a uniform deviate in [0, 1) from two words: a multiple of 2^-53."""
    return np.float64(((high << WORD_BITS) | low) >> SPARE_BITS) * UNIT


@device_function
def count_by_inversion(mean, u):
    """Return the Poisson count at which the cumulative distribution passes ``u``; for small means.

    With 53 bits the distribution is right down to probabilities of about 1e-15, rarer than one pixel in ten
    million frames of 4096 x 4096; 32 bits would cut the tail off at 2e-10, in every frame.
    """
    if u < 1.0 - mean:  # 1 - x <= exp(-x): most dark pixels need no exponential
        return 0.0
    # The first four terms without a branch: which of them u passes is what no processor can predict.
    term_0 = math.exp(-mean)
    term_1 = term_0 * mean
    term_2 = term_1 * mean * (1.0 / 2.0)
    term = term_2 * mean * (1.0 / 3.0)
    total_1 = term_0 + term_1
    total_2 = total_1 + term_2
    total = total_2 + term
    if u < total:
        zero_or_one = 1.0 if u >= term_0 else 0.0
        return zero_or_one + (1.0 if u >= total_1 else 0.0) + (1.0 if u >= total_2 else 0.0)
    count = 3.0
    while u >= total and term > NEGLIGIBLE:
        count += 1.0
        term *= mean / count
        total += term
    return count


@device_function
def log_probability(count, mean):
    """Return ln(mean^count exp(-mean) / count!), also where both are so large that its terms cancel."""
    if count < STIRLING_FROM:
        return count * math.log(mean) - mean - math.lgamma(count + 1.0)
    # With d = count - mean the leading terms of Stirling's series become d + count ln(1 - d / count), of the
    # order of d^2 / count: no cancellation of numbers of the size of count ln(count).
    d = count - mean
    inverse = 1.0 / count
    square = inverse * inverse
    series = inverse * (1.0 / 12.0 - square * (1.0 / 360.0 - square * (1.0 / 1260.0 - square / 1680.0)))
    return d + count * math.log1p(-d * inverse) - 0.5 * math.log(2.0 * math.pi * count) - series


@device_function
def rejection_shape(mean):
    """Return the hat function (a, b, height, squeeze) of Hoermann's PTRS for a mean of at least 10."""
    b = 0.931 + 2.53 * math.sqrt(mean)
    a = -0.059 + 0.02483 * b
    height = 1.1239 + 1.1328 / (b - 3.4)
    squeeze = 0.9277 - 3.6224 / (b - 2.0)
    return a, b, height, squeeze


@device_function
def count_by_rejection(mean, low, high, frame, k0, k1):
    """Return a Poisson count by transformed rejection with squeeze; for means from 10 on.

    PTRS of W. Hoermann, "The transformed rejection method for generating Poisson random variables",
    Insurance: Mathematics and Economics 12 (1993) 39-45. Each attempt takes the next block of the pixel.
    """
    a, b, height, squeeze = rejection_shape(mean)
    attempt = np.uint64(0)
    while True:
        w0, w1, w2, w3 = philox4x32(low, high, frame, attempt, k0, k1)
        u = unit_interval(w0, w1) - 0.5
        v = unit_interval(w2, w3)
        attempt += ONE
        edge = 0.5 - abs(u)
        count = math.floor((2.0 * a / edge + b) * u + mean + 0.43)
        if edge >= 0.07 and v <= squeeze:
            break
        if count < 0.0 or (edge < 0.013 and v > edge):
            continue
        if math.log(v * height / (a / (edge * edge) + b)) <= log_probability(count, mean):
            break
    return count


@device_function
def poisson_count(mean, pixel, frame, k0, k1):
    """Return the photon count of one pixel as a whole float64 of at most 2^32 - 1.

    Parameters
    ----------
    mean : float64, expected photons, finite and not negative
    pixel : uint64, index in the whole frame
    frame : uint64 below 2^32
    k0, k1 : uint64 below 2^32, low and high word of the seed
    """
    low = pixel & LOW_WORD
    high = pixel >> WORD_BITS
    if mean < SMALL_MEAN:
        w0, w1, _, _ = philox4x32(low, high, frame, np.uint64(0), k0, k1)
        count = count_by_inversion(mean, unit_interval(w0, w1))
    elif mean < HOPELESS_MEAN:
        count = min(count_by_rejection(mean, low, high, frame, k0, k1), LARGEST_COUNT)
    else:
        count = LARGEST_COUNT
    return count


@cpu_kernel
def poisson_counts(photons, seed, frame, first_pixel, counts):
    """Draw a count for each pixel into ``counts``; rows run in parallel.

    Parameters
    ----------
    photons : (slow, fast) float32, expected photons, finite and not negative
    seed : uint64
    frame : uint32
    first_pixel : uint64, index in the whole frame of photons[0, 0]
    counts : (slow, fast) uint32, written
    """
    n_slow, n_fast = photons.shape
    k0 = np.uint64(seed) & LOW_WORD
    k1 = np.uint64(seed) >> WORD_BITS
    frame_word = np.uint64(frame)
    for slow in prange(n_slow):
        row_pixel = np.uint64(first_pixel) + np.uint64(slow) * np.uint64(n_fast)
        for fast in range(n_fast):
            mean = np.float64(photons[slow, fast])
            pixel = row_pixel + np.uint64(fast)
            counts[slow, fast] = np.uint32(poisson_count(mean, pixel, frame_word, k0, k1))
