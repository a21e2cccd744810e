"""One Philox stream for each random effect of a detector, beside that of the photons.

The last word of the counter (``philox.py``) is an effect's number in its upper 8 bits and a running number below; the
photons are effect 0. So a deviate depends on nothing but (seed, frame, pixel, effect): no effect that is switched on
or off shifts another. What belongs to a detector, not to a frame, has the detector's seed as key and frame 0.
"""

from __future__ import annotations

import math

import numpy as np
from bragg_numba.kernels._jit import cpu_kernel, device_function, fused_kernel, serial_kernel, uncompiled
from bragg_numba.kernels.random.philox import (
    CHUNK,
    CHUNKS_AT_ONCE,
    GROUP_BITS,
    LANE,
    LOW_WORD,
    WORD_BITS,
    chunk_limits,
    fill_words,
    philox4x32,
    unit_interval,
)
from bragg_numba.kernels.random.quantile import tail_deviate
from numba import prange

__all__ = ["fill_normals", "fill_uniforms", "fill_uniforms_at", "normal_table"]

#: Effects: of a frame, then of a detector. Their numbers are part of what a seed means.
FLICKER, DEAD_TIME, CASCADE, READOUT = (np.uint64(n) for n in (1, 2, 3, 4))
VIRTUAL_SLOW, VIRTUAL_FAST = (np.uint64(n) for n in (5, 6))
GAIN_MAP, DEAD_PIXELS, HOT_PIXELS = (np.uint64(n) for n in (64, 65, 66))

EFFECT_BITS = np.uint64(24)

#: Steps of equal probability in the table of normal deviates; in the first and last few it is not used.
STEPS = 2048
TAIL_STEPS = 16
_INDEX_BITS = np.uint32(21)  # 32 - 11
_FIRST_WORD = np.uint32(TAIL_STEPS * 2**21)
_WORDS_BETWEEN = np.uint32((STEPS - 2 * TAIL_STEPS) * 2**21)
_REST = np.uint32(2**21 - 1)
_REST_UNIT = np.float32(2.0**-21)


@device_function
def product(a, b):
    """Return the product of two float32, rounded by itself: a GPU would make one operation of it and a sum."""
    return a * b


@device_function
def effect_word(effect, number):
    """Return the last word of the counter of block ``number`` (uint64) of an effect."""
    return (effect << EFFECT_BITS) | number


@fused_kernel
def fill_effect(first_group, frame, effect, k0, k1, words):
    """Fill ``words`` (CHUNK,) uint32 with the first words of an effect's pixels."""
    fill_words(first_group, frame, effect_word(effect, np.uint64(0)), k0, k1, words)


@device_function
def later_uniform(pixel, number, frame, effect, k0, k1):
    """Return deviate ``number`` (uint64, from 0) of one pixel and effect in [0, 1), besides that of its first word.

    Its blocks are the pixel's own: the group's word is that of the pixel, and the running number begins at 1.
    """
    block = number >> np.uint64(1)
    last = effect_word(effect, block + np.uint64(1))
    w0, w1, w2, w3 = philox4x32(pixel & LOW_WORD, pixel >> WORD_BITS, frame, last, k0, k1)
    first = (number & np.uint64(1)) == np.uint64(0)
    return unit_interval(w0 if first else w2, w1 if first else w3)


@device_function
def effect_uniform(pixel, frame, effect, k0, k1):
    """Return the deviate of a pixel's first word, in the middle of its step of 2^-32."""
    group, lane = pixel >> GROUP_BITS, pixel & LANE
    last = effect_word(effect, np.uint64(0))
    w0, w1, w2, w3 = philox4x32(group & LOW_WORD, group >> WORD_BITS, frame, last, k0, k1)
    low = w0 if lane == np.uint64(0) else w1
    high = w2 if lane == np.uint64(2) else w3
    return (np.float64(low if lane < np.uint64(2) else high) + 0.5) * 2.0**-32


@device_function
def normal_in_step(word, value, rise):
    """Return the normal deviate of a word from the row of the table that its step has."""
    return value + product(rise, np.float32(np.int32(word & _REST)) * _REST_UNIT)


@device_function
def normal_in_tail(word):
    """Return the normal deviate of a word in the first or last steps of the table."""
    u = (np.float64(word) + 0.5) * 2.0**-32
    x = tail_deviate(u if u < 0.5 else 1.0 - u)
    return x if u < 0.5 else -x


@device_function
def is_in_tail(word):
    """Return whether a word (uint32) lies in the first or last steps of the table."""
    return np.uint32(word - _FIRST_WORD) >= _WORDS_BETWEEN  # those below wrap around


def tail_polynomials():
    """Return the coefficients of ``fast_tail``, rising powers: the deviate's polynomial through Chebyshev's points."""
    points = np.cos(np.pi * (np.arange(TAIL_TERMS) + 0.5) / TAIL_TERMS)
    powers, deviate = np.vander(points, increasing=True), uncompiled(tail_deviate)
    found = np.zeros((TAIL_ROWS, TAIL_TERMS))
    for row in range(int(FIRST_TAIL_ROW), TAIL_ROWS):
        p = (row + 0.5 * (points + 1.0)) * 2.0 ** (int(_TAIL_BITS) - 32)
        found[row] = np.linalg.solve(powers, [deviate(float(one)) for one in p])
    return found


# The deviate in the tails, by how far a word is from the nearer end: rows of 2^18 words, polynomials of degree 7,
# within 2e-11 of ``normal_in_tail``; nearer to the end than four rows it bends too much.
_TAIL_BITS, TAIL_ROWS, TAIL_TERMS = np.uint32(18), 2**7, 8
FIRST_TAIL_ROW = np.uint32(4)
TAIL_ERROR = 1e-10
_TAIL_REST, _TAIL_UNIT = np.uint32(2**18 - 1), 2.0**-17
_ALL_ONES = np.uint32(0xFFFFFFFF)
_TAILS = tail_polynomials()


@serial_kernel
def exact_tail(word):
    """``normal_in_tail`` by itself, as float32."""
    return np.float32(normal_in_tail(word))


@serial_kernel
def fast_tail(word):
    """Return ``exact_tail`` of a word (uint32); that is asked where a polynomial leaves its last bit open."""
    upper = word > _ALL_ONES >> np.uint32(1)
    m = np.uint32(_ALL_ONES - word) if upper else word
    row = np.uint64(m >> _TAIL_BITS)
    if row < FIRST_TAIL_ROW:
        return exact_tail(word)
    t = (np.float64(np.int32(m & _TAIL_REST)) + 0.5) * _TAIL_UNIT - 1.0
    x = _TAILS[row, TAIL_TERMS - 1]
    for k in range(TAIL_TERMS - 2, -1, -1):
        x = x * t + _TAILS[row, k]
    found = np.float32(x - TAIL_ERROR)
    if found != np.float32(x + TAIL_ERROR):
        return exact_tail(word)
    return -found if upper else found


@serial_kernel
def normals_of_words(words, table, normals):
    """Fill ``normals`` (CHUNK,) float32 with the normal deviates of ``words``; table (STEPS, 2) float32."""
    for i in range(CHUNK):
        word = words[i]
        step = np.uint64(word >> _INDEX_BITS)
        normals[i] = normal_in_step(word, table[step, 0], table[step, 1])
    for start in range(0, CHUNK, 16):
        tails = np.uint32(0)
        for j in range(16):
            tails += np.uint32(is_in_tail(words[np.uint64(start) + np.uint64(j)]))
        if tails == 0:
            continue
        for i in range(start, start + 16):
            if is_in_tail(words[i]):
                normals[i] = fast_tail(words[i])


@cpu_kernel
def fill_normals(seed, frame, effect, first_pixel, table, out):
    """Fill ``out`` (n,) float32 with the normal deviates of one effect; see ``poisson_counts`` for the numbers."""
    k0, k1 = np.uint64(seed) & LOW_WORD, np.uint64(seed) >> WORD_BITS
    n = len(out)
    n_chunks = (int(first_pixel & np.uint64(CHUNK - 1)) + n + CHUNK - 1) // CHUNK
    aligned = np.uint64(first_pixel) & ~np.uint64(CHUNK - 1)
    for part in prange((n_chunks + CHUNKS_AT_ONCE - 1) // CHUNKS_AT_ONCE):
        words, normals = np.empty(CHUNK, dtype=np.uint32), np.empty(CHUNK, dtype=np.float32)
        for chunk in range(part * CHUNKS_AT_ONCE, min((part + 1) * CHUNKS_AT_ONCE, n_chunks)):
            start, low, high = chunk_limits(chunk, first_pixel, n)
            place = aligned + np.uint64(chunk * CHUNK)
            fill_effect(place >> GROUP_BITS, np.uint64(frame), effect, k0, k1, words)
            normals_of_words(words, table, normals)
            for i in range(low, high):
                out[start + i] = normals[i]


@cpu_kernel
def fill_uniforms(seed, frame, effect, first_pixel, out):
    """Fill ``out`` (n,) float64 with the uniform deviates in (0, 1) of one effect."""
    k0, k1 = np.uint64(seed) & LOW_WORD, np.uint64(seed) >> WORD_BITS
    for i in prange(len(out)):
        out[i] = effect_uniform(np.uint64(first_pixel) + np.uint64(i), np.uint64(frame), effect, k0, k1)


@cpu_kernel
def fill_uniforms_at(seed, frame, effect, pixels, out):
    """Fill ``out`` (n,) float64 with the uniform deviates in (0, 1) of one effect at some pixels, (n,) uint64."""
    k0, k1 = np.uint64(seed) & LOW_WORD, np.uint64(seed) >> WORD_BITS
    for i in prange(len(out)):
        out[i] = effect_uniform(pixels[i], np.uint64(frame), effect, k0, k1)


def normal_table(quantiles) -> np.ndarray:
    """Return the table of ``normals_of_words``: value and rise of every step; ``quantiles`` (STEPS + 1,) float64.

    Chords would lie outside the curve's bend; each is moved so that it is right on the average of its step.
    """
    inner = np.where(np.isfinite(quantiles), quantiles, 0.0)
    table = np.stack([inner[:-1], np.diff(inner)], axis=1)
    density = np.exp(-0.5 * inner**2) / math.sqrt(2.0 * math.pi)
    # The mean of a normal deviate over a step of equal probability is the difference of densities times STEPS.
    table[:, 0] += (density[:-1] - density[1:]) * STEPS - 0.5 * (inner[:-1] + inner[1:])
    return np.ascontiguousarray(table, dtype=np.float32)
