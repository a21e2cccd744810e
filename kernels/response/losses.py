"""Counts that a counter loses to its dead time, and those that are made up for."""

from __future__ import annotations

import math

import numpy as np
from bragg_numba.kernels._jit import cpu_kernel, device_function, serial_kernel
from bragg_numba.kernels.random.effects import DEAD_TIME, fill_effect, later_uniform
from bragg_numba.kernels.random.philox import (
    BLOCK,
    CHUNK,
    CHUNKS_AT_ONCE,
    GROUP_BITS,
    HALF_BITS,
    HALF_UNIT,
    LOW_WORD,
    WORD_BITS,
    chunk_limits,
)
from bragg_numba.kernels.random.quantile import tail_deviate
from numba import prange

__all__ = ["lose_counts", "rate_corrected"]

# Expected losses of a pixel below which their number is taken from the Poisson distribution, whose chance of no loss
# is exact then: two losses are wrong by the third power of this.
FEW_LOSSES = 0.05
# Part of the exposure that all dead times of a pixel take together below which losses are independent of each other.
THIN = 0.01
# From so many expected losses and photons on, their number is a rounded normal deviate.
MANY_LOSSES, MANY_PHOTONS = 20.0, 256.0
_0 = np.float32(0.0)


@device_function
def kept_on_average(photons, dead, paralyzable):
    """Return the mean count of ``photons`` that come at random times; ``dead`` is dead time over exposure."""
    if paralyzable:
        return 1.0 + (photons - 1.0) * math.exp(photons * math.log1p(-dead)) if dead < 1.0 else 1.0
    return photons / (1.0 + (photons - 1.0) * dead)


@device_function
def spread_of_losses(photons, dead, paralyzable):
    """Return the variance of the count of many ``photons``, whose number is given.

    It is what the variance of the count of a Poisson number of photons, n / (1 + x)^3 of a counter that is not
    paralyzable and n e^-x (1 - 2 x e^-x) of one that is, x being n times ``dead``, has more than the variance of the
    mean count of that number.
    """
    x = photons * dead
    if paralyzable:
        decay = math.exp(-x)
        return photons * decay * (1.0 - decay * (1.0 + x * x))
    return photons * x / (1.0 + x) ** 4


@device_function
def count_one_by_one(photons, dead, paralyzable, pixel, frame, k0, k1):
    """Return the count of a whole number of photons: their times are drawn in order, and those too early left out."""
    time, last, count = 0.0, -1.0, 0.0
    number = np.uint64(0)
    left = photons
    while left > 0.0:
        u = later_uniform(pixel, number, frame, DEAD_TIME, k0, k1)
        number += np.uint64(1)
        # The first of so many random times in what is left of the exposure.
        time += (1.0 - time) * -math.expm1(math.log1p(-u) / left)
        left -= 1.0
        if count == 0.0 or time - last >= dead:
            count += 1.0
            last = time
        elif paralyzable:
            last = time
    return count


@device_function
def losses_by_inversion(mean, u):
    """Return the number at which the Poisson distribution passes 1 - ``u``: no losses for all but small ``u``."""
    term = math.exp(-mean)
    above, lost = 1.0 - term, 0.0
    while u < above and lost < 1000.0:
        lost += 1.0
        term *= mean / lost
        above -= term
    return lost


@device_function
def count_after_dead_time(photons, dead, paralyzable, word, pixel, frame, k0, k1):
    """Return the count of a pixel that ``photons`` (whole float64) reach; ``word`` is its first of this effect."""
    expected = photons * (photons - 1.0) * dead
    u = (np.float64(word) + 0.5) * 2.0**-32
    if expected < FEW_LOSSES:
        # No gap is too short with probability (1 - (n - 1) dead)^n.
        mean = -photons * math.log1p(-(photons - 1.0) * dead)
        return max(photons - losses_by_inversion(mean, u), 1.0)
    if photons > MANY_PHOTONS and expected >= MANY_LOSSES:
        z = tail_or_middle(u)
        mean = kept_on_average(photons, dead, paralyzable)
        # Rounding at random adds 1/6.
        width = math.sqrt(max(spread_of_losses(photons, dead, paralyzable) - 1.0 / 6.0, 0.0))
        exact = mean + width * z
        return min(max(math.floor(exact + later_uniform(pixel, np.uint64(0), frame, DEAD_TIME, k0, k1)), 1.0), photons)
    if photons > MANY_PHOTONS and photons * dead < THIN:
        return photons - losses_by_inversion(photons - kept_on_average(photons, dead, paralyzable), u)
    return count_one_by_one(photons, dead, paralyzable, pixel, frame, k0, k1)


@device_function
def tail_or_middle(u):
    """Return the normal deviate below which lies the probability ``u``."""
    x = 0.0
    if u < 0.02:
        return tail_deviate(u)
    if u > 0.98:
        return -tail_deviate(1.0 - u)
    for _ in range(20):  # Newton's method, which converges from 0 for all of these
        step = (0.5 * math.erfc(-x / math.sqrt(2.0)) - u) * math.sqrt(2.0 * math.pi) * math.exp(0.5 * x * x)
        step /= 1.0 + 0.5 * x * step
        x -= step
        if abs(step) < 1e-12:
            break
    return x


@device_function
def rate_corrected(count, dead, paralyzable):
    """Return the number of photons that makes a counter count ``count`` on average; infinite where none does."""
    rate = count * dead
    if not paralyzable:
        return count / (1.0 - rate) if rate < 1.0 else np.inf
    if rate >= math.exp(-1.0):
        return np.inf
    x = rate
    for _ in range(60):  # x exp(-x) = rate, on the branch that begins at 0
        step = (x * math.exp(-x) - rate) / (math.exp(-x) * (1.0 - x))
        x -= step
        if abs(step) <= 1e-14 * x:
            break
    return x / dead


@serial_kernel
def touched_pixels(counts, words, chance, change):
    """Return how many pixels may count other than their photons: with a loss, or too many for what is changed."""
    touched = np.uint32(0)
    for i in range(len(counts)):
        photons = np.float32(np.int32(counts[i]))
        u = np.float32(np.int32(words[i] >> HALF_BITS)) * HALF_UNIT
        # A count that is no int32 has become negative.
        touched += np.uint32((u <= photons * photons * chance) | (photons >= change) | (photons < _0))
    return touched


@serial_kernel
def count_chunk(counts, words, dead, paralyzable, corrected, limit, top, first_pixel, frame, k0, k1):
    """Replace the photons ``counts`` of a part of a chunk by what is counted; return how many are overloaded."""
    overloads = 0
    # Nearly all pixels are what they were. These bounds are never below those that decide.
    chance, change = np.float32(dead * 1.000001), np.float32(min(limit, top)) * np.float32(0.999999)
    if corrected:
        change = min(change, np.float32(min(0.4999 / math.sqrt(dead), 1e30) if dead > 0.0 else 1e30))
    for start in range(0, len(counts), BLOCK):
        end = min(start + BLOCK, len(counts))
        if touched_pixels(counts[start:end], words[start:end], chance, change) > 0:
            overloads += count_block(
                counts[start:end],
                words[start:end],
                dead,
                paralyzable,
                corrected,
                limit,
                top,
                first_pixel + np.uint64(start),
                frame,
                k0,
                k1,
            )
    return overloads


@device_function
def counted(photons, word, dead, paralyzable, corrected, limit, top, pixel, frame, k0, k1):
    """Return what a counter says of ``photons`` (whole float64): ``top`` if it is overloaded."""
    count = photons
    # An upper bound of the chance of any loss: nearly all pixels are done with here.
    expected = photons * (photons - 1.0) * dead
    if expected >= FEW_LOSSES or np.float64(word) * 2.0**-32 < expected:
        count = count_after_dead_time(photons, dead, paralyzable, word, pixel, frame, k0, k1)
    over = count >= limit
    if corrected and count * count * dead > 0.25:
        count = math.floor(rate_corrected(count, dead, paralyzable) + 0.5) * 1.0
    return top if over or count >= top else count


@serial_kernel
def count_block(counts, words, dead, paralyzable, corrected, limit, top, first_pixel, frame, k0, k1):
    """``count_chunk`` for a few pixels, each by itself."""
    overloads = 0
    for i in range(len(counts)):
        photons, pixel = np.float64(counts[i]), first_pixel + np.uint64(i)
        count = counted(photons, words[i], dead, paralyzable, corrected, limit, top, pixel, frame, k0, k1)
        overloads += count >= top
        counts[i] = np.uint32(count)
    return overloads


@cpu_kernel
def lose_counts(counts, dead, paralyzable, corrected, limit, top, seed, frame, first_pixel, overloads):
    """Turn the photons that reach each pixel into what a counter with a dead time says, in place.

    Parameters
    ----------
    counts : (n,) uint32, photons; written
    dead : float64, dead time over exposure time, 0 or more
    paralyzable : bool, whether a photon within the dead time of another begins a new one
    corrected : bool, whether the mean loss is made up for
    limit : float64, count from which on a pixel is overloaded, before the correction
    top : float64, what an overloaded pixel becomes, and the least that is one
    seed, frame, first_pixel : as for ``poisson_counts``
    overloads : (chunks,) int64, written
    """
    k0, k1 = np.uint64(seed) & LOW_WORD, np.uint64(seed) >> WORD_BITS
    n, n_chunks = len(counts), len(overloads)
    aligned = np.uint64(first_pixel) & ~np.uint64(CHUNK - 1)
    for part in prange((n_chunks + CHUNKS_AT_ONCE - 1) // CHUNKS_AT_ONCE):
        words = np.empty(CHUNK, dtype=np.uint32)
        for chunk in range(part * CHUNKS_AT_ONCE, min((part + 1) * CHUNKS_AT_ONCE, n_chunks)):
            start, low, high = chunk_limits(chunk, first_pixel, n)
            place = aligned + np.uint64(chunk * CHUNK)
            these = counts[start + low : start + high]
            most = np.uint32(0)
            for i in range(len(these)):
                most = max(most, these[i])
            overloads[chunk] = 0
            # Nothing to lose: one photon alone, or losses less likely than the smallest word.
            if np.float64(most) * (np.float64(most) - 1.0) * dead > 2.0**-33:
                fill_effect(place >> GROUP_BITS, np.uint64(frame), DEAD_TIME, k0, k1, words)
            elif np.float64(most) < min(limit, top):
                continue
            else:
                words[:] = np.uint32(0xFFFFFFFF)
            overloads[chunk] = count_chunk(
                these,
                words[low:high],
                dead,
                paralyzable,
                corrected,
                limit,
                top,
                place + np.uint64(low),
                np.uint64(frame),
                k0,
                k1,
            )
