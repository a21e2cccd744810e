"""Photon counts from a counter: Philox4x32-10 and exact Poisson deviates, without any state.

Philox (Salmon, Moraes, Dror & Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC11) turns a counter of
four 32-bit words into four random words under a key of two. Here the key is the seed and the counter is

    (group, low word; group, high word; frame; 0)      one word for each of four neighbouring pixels
    (group, low word; group, high word; frame; 1)      32 more bits for each of them, should the first not do

so that the count of a pixel depends on nothing but (seed, frame, pixel): threads and tiles cannot change it. It is
the Poisson distribution's quantile of one deviate, whatever the mean: a brighter pixel never counts fewer photons.
Every word is kept in a uint64, whose product of two 32-bit numbers is exact on all targets.

``poisson_count`` defines the count of a pixel; it and what it calls are pure and scalar, so that a kernel for
another target can call them too. ``draw_chunk`` is the same for many pixels at once: float32 arithmetic that
the compiler vectorises settles nearly all of them, and leaves to the scalar functions those too close to call.
"""

from __future__ import annotations

import math

import numpy as np
from bragg_numba.kernels._jit import cpu_kernel, device_function, fused_kernel, serial_kernel
from bragg_numba.kernels.random.quantile import (
    OF_D,
    OF_P_AND_C,
    S_LEAST,
    S_MOST,
    beyond_mean,
    count_of_quantile,
)
from numba import prange

__all__ = ["philox4x32", "photon_statistics", "poisson_count", "poisson_counts"]

# numba would make a float of a uint64 and a plain int: every constant that meets a word is a uint64.
MULTIPLIER_0 = np.uint64(0xD2511F53)
MULTIPLIER_1 = np.uint64(0xCD9E8D57)
WEYL_0 = np.uint64(0x9E3779B9)
WEYL_1 = np.uint64(0xBB67AE85)
LOW_WORD = np.uint64(0xFFFFFFFF)
WORD_BITS = np.uint64(32)
SPARE_BITS = np.uint64(11)  # 64 - 53: a float64 holds 53
ROUNDS = 10

GROUP_BITS = np.uint64(2)  # four pixels share a block of four words
LANE = np.uint64(3)
# Last word of the counter.
FIRST_WORDS, SECOND_WORDS = np.uint64(0), np.uint64(1)
HALF, ALL_BITS = np.uint64(2**52 - 1), np.uint64(2**53 - 1)

UNIT = 2.0**-53
WORD_UNIT = 2.0**-32
# Below this mean the distribution is summed from its first term on; above, its quantile is expanded (quantile.py).
SMALL_MEAN = 50.0
# A term this small no longer changes a sum near 1.
NEGLIGIBLE = 2.0**-56
LARGEST_COUNT = 4294967295.0
# A mean so far above the largest count (65,000 standard deviations) that the count is always that one.
HOPELESS_MEAN = 2.0**33


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
def group_word(pixel, frame, which, k0, k1):
    """Return the word of one pixel out of its group's block; ``which``: FIRST_WORDS or SECOND_WORDS."""
    group = pixel >> GROUP_BITS
    lane = pixel & LANE
    w0, w1, w2, w3 = philox4x32(group & LOW_WORD, group >> WORD_BITS, frame, which, k0, k1)
    low = w0 if lane == np.uint64(0) else w1
    high = w2 if lane == np.uint64(2) else w3
    return low if lane < np.uint64(2) else high


@device_function
def invert(mean, low, high):
    """Return the count at which the Poisson distribution passes ``low``, and whether it passes ``high`` there too."""
    count = 0.0
    term = math.exp(-mean)
    total = term
    while low >= total and (term > NEGLIGIBLE or count < mean):
        count += 1.0
        term *= mean / count
        total += term
    return count, high <= total


@device_function
def count_by_inversion(mean, word, pixel, frame, k0, k1):
    """Return the Poisson count of a small mean, from the pixel's word.

    The uniform deviate has 53 bits, of which ``word`` holds the first 32; the others are made only where these
    leave the count open (once in 10^9 pixels). So the distribution is right down to probabilities of about
    1e-15, where 32 bits would cut the tail off at 2e-10, in every frame.
    """
    low = np.float64(word) * WORD_UNIT
    count, settled = invert(mean, low, low + WORD_UNIT)
    if not settled:
        u = unit_interval(word, group_word(pixel, frame, SECOND_WORDS, k0, k1))
        count, settled = invert(mean, u, u)
    return count


@device_function
def count_by_quantile(mean, word, pixel, frame, k0, k1):
    """Return the Poisson count of a mean of at least ``SMALL_MEAN``, from the same deviate of 53 bits."""
    if mean >= HOPELESS_MEAN:
        return LARGEST_COUNT
    bits = ((word << WORD_BITS) | group_word(pixel, frame, SECOND_WORDS, k0, k1)) >> SPARE_BITS
    upper = bits > HALF
    # The middle of its step: neither 0 nor 1.
    p = (np.float64(ALL_BITS - bits if upper else bits) + 0.5) * UNIT
    return min(count_of_quantile(mean, p, upper), LARGEST_COUNT)


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
    word = group_word(pixel, frame, FIRST_WORDS, k0, k1)
    if mean < SMALL_MEAN:
        count = count_by_inversion(mean, word, pixel, frame, k0, k1)
    else:
        count = count_by_quantile(mean, word, pixel, frame, k0, k1)
    return count


# ---- Many pixels at once ------------------------------------------------------------------------------------

#: Pixels that are drawn together: their working rows stay in the first-level cache. A power of 2.
CHUNK = 1024

# Rows of the working array: at fixed places in one array, so that the compiler sees that they cannot overlap.
# Each begins 512 bytes further than a whole number of 4096. A processor takes a load for one of what was just stored if
# the last 12 bits of both addresses agree, and waits: a row is then as far ahead of another as loops go in one stride.
_ROW = CHUNK + 128
_TERM, _ABOVE, _NEAREST, _COUNT = 0, _ROW, 2 * _ROW, 3 * _ROW
#: Values in the working array.
WORK = 4 * _ROW

#: Pixels that are dark, faint or bright, together.
BLOCK = 64
# Rows of a block in the working array.
_MEAN, _X, _MANTISSA, _EXPONENT = 0, BLOCK, 2 * BLOCK, 3 * BLOCK

#: Chunks that one thread takes at a time.
CHUNKS_AT_ONCE = 64

#: What is noted of a chunk, columns of ``statistics``: photons in all, most in a pixel, counts above ``top``, and
#: pixels whose mean is no finite number of at least 0.
SUM, MOST, OVERLOADS, BAD = range(4)
N_STATISTICS = 4

UNSURE = np.uint32(0xFFFFFFFF)  # a count that float32 leaves open

# Error of a float32 cumulative distribution: fast_decay is wrong by 1e-4 at most (512 times two roundings of 2^-24,
# and those of the squares), n terms and their sum by n roundings each, the deviate by 2^-24; n is below 100.
CLOSE = np.float32(2e-4)

# A darker pixel has no photon if the deviate is below 1 - mean <= exp(-mean); a quarter of a word is lost to
# rounding, hence the margin.
DARK_MEAN = np.float32(2.0**-5)
ALMOST_ONE = np.float32(1.0 - 2.0**-20)

#: Means of a chunk up to which six terms of the distribution settle most pixels.
FEW_PHOTONS = 1.5

#: From this mean on the expanded quantile settles a pixel sooner than the distribution's terms; up to the other it fits
#: in an int32.
BRIGHT_MEAN, MOST_BRIGHT = np.float32(12.0), np.float32(2.0**30)
#: So many dim pixels of a bright chunk are worth all terms of their distribution, for all pixels.
MANY_DIM = CHUNK // 16
#: So many bright pixels of a block are settled together.
FEW_BRIGHT = 2

HALF_BITS = np.uint32(8)  # 32 - 24: a float32 holds 24
HALF_UNIT = np.float32(2.0**-24)
INFINITE = np.float32(np.inf)
_0, _1 = np.float32(0.0), np.float32(1.0)
_1_2, _1_3, _1_4, _1_5 = (np.float32(1.0 / n) for n in (2, 3, 4, 5))
_1_6, _1_24, _1_512 = (np.float32(1.0 / n) for n in (6, 24, 512))
_4 = np.float32(4.0)

# A normal deviate from a word. The logarithm's mantissa begins at sqrt(1/2), whose bits these are.
ROOT_HALF_BITS, MANTISSA_BITS, EXPONENT_SHIFT = np.int32(0x3F3504F3), np.int32(0x7FFFFF), np.int32(23)
FIRST_BIT, ALL_ONES = np.uint32(0x80000000), np.uint32(0xFFFFFFFF)
_2_31, _2_32, _LN_2 = np.float32(2.0**-31), np.float32(2.0**-32), np.float32(math.log(2.0))
# Beyond this logarithm, in 5e-4 of the pixels, the polynomial does not hold.
MIDDLE, TAIL = np.float32(3.5), np.float32(7.0)
UNKNOWN = np.float32(-(2.0**24))

# The least distance of a quantile from a whole number: what its expansion lacks, and float32's rounding: of the
# deviate, below 3.5, to 2e-7 of itself, of its product with the mean's root, and of sums; a word's width is less.
_OF_D, _OF_P_AND_C, _OF_ROOT = np.float32(OF_D), np.float32(OF_P_AND_C), np.float32(2.5e-6)
_S_LEAST, _S_MOST = np.float32(S_LEAST), np.float32(S_MOST)


@device_function
def fast_decay(mean):
    """Return exp(-mean) in float32 for means up to ``SMALL_MEAN``, to 1e-4 of itself: no branch and no table."""
    x = mean * _1_512
    p = _1 - x * (_1 - x * (_1_2 - x * (_1_6 - x * _1_24)))
    p *= p
    p *= p
    p *= p
    p *= p
    p *= p
    p *= p
    p *= p
    p *= p
    p *= p
    return p


@fused_kernel
def fill_words(first_group, frame, last, k0, k1, words):
    """Fill ``words`` (CHUNK,) uint32 with a word for each pixel; ``last``: uint64, the last word of the counter."""
    for j in range(CHUNK // 4):
        group = first_group + np.uint64(j)
        w0, w1, w2, w3 = philox4x32(group & LOW_WORD, group >> WORD_BITS, frame, last, k0, k1)
        words[4 * j] = np.uint32(w0)
        words[4 * j + 1] = np.uint32(w1)
        words[4 * j + 2] = np.uint32(w2)
        words[4 * j + 3] = np.uint32(w3)


@fused_kernel
def settle_dark(means, words, start, drawn):
    """Fill a block of ``drawn`` (CHUNK,) uint32: 0 where the deviate is clearly below exp(-mean), else UNSURE."""
    for j in range(BLOCK):
        i = np.uint64(start) + np.uint64(j)
        u = np.float32(np.int32(words[i] >> HALF_BITS)) * HALF_UNIT
        drawn[i] = np.uint32(0) if u + means[i] < ALMOST_ONE else UNSURE


@fused_kernel
def settle_faint(means, words, start, drawn):
    """The same with up to five photons; all terms without a branch, which no processor could predict."""
    for j in range(BLOCK):
        i = np.uint64(start) + np.uint64(j)
        mean = means[i]
        term = fast_decay(mean)
        # The cumulative distribution less the deviate.
        above = term - np.float32(np.int32(words[i] >> HALF_BITS)) * HALF_UNIT
        nearest = abs(above)
        count = np.uint32(above <= _0)
        term *= mean
        above += term
        nearest = min(nearest, abs(above))
        count += np.uint32(above <= _0)
        term *= mean * _1_2
        above += term
        nearest = min(nearest, abs(above))
        count += np.uint32(above <= _0)
        term *= mean * _1_3
        above += term
        nearest = min(nearest, abs(above))
        count += np.uint32(above <= _0)
        term *= mean * _1_4
        above += term
        nearest = min(nearest, abs(above))
        count += np.uint32(above <= _0)
        term *= mean * _1_5
        above += term
        nearest = min(nearest, abs(above))
        drawn[i] = count if (above > CLOSE) & (nearest > CLOSE) & (mean < SMALL_MEAN) else UNSURE


@fused_kernel
def settle_many(means, words, terms, work, drawn):
    """The same with up to ``terms`` - 1 photons, for a whole chunk; ``work`` (WORK,) float32."""
    for i in range(CHUNK):
        mean = means[i]
        term = fast_decay(mean)
        above = term - np.float32(np.int32(words[i] >> HALF_BITS)) * HALF_UNIT
        work[_TERM + i] = term
        work[_ABOVE + i] = above
        work[_NEAREST + i] = abs(above)
        work[_COUNT + i] = _1 if above <= _0 else _0
    for n in range(1, terms, 4):
        per_1, per_2 = np.float32(1.0 / n), np.float32(1.0 / (n + 1))
        per_3, per_4 = np.float32(1.0 / (n + 2)), np.float32(1.0 / (n + 3))
        for i in range(CHUNK):
            mean, term, above = means[i], work[_TERM + i], work[_ABOVE + i]
            nearest, count = work[_NEAREST + i], work[_COUNT + i]
            term *= mean * per_1
            above += term
            nearest = min(nearest, abs(above))
            count += _1 if above <= _0 else _0
            term *= mean * per_2
            above += term
            nearest = min(nearest, abs(above))
            count += _1 if above <= _0 else _0
            term *= mean * per_3
            above += term
            nearest = min(nearest, abs(above))
            count += _1 if above <= _0 else _0
            term *= mean * per_4
            above += term
            nearest = min(nearest, abs(above))
            count += _1 if above <= _0 else _0
            work[_TERM + i] = term
            work[_ABOVE + i] = above
            work[_NEAREST + i] = nearest
            work[_COUNT + i] = count
    for i in range(CHUNK):
        above, nearest = work[_ABOVE + i], work[_NEAREST + i]
        sure = (above > CLOSE) & (nearest > CLOSE) & (means[i] < SMALL_MEAN)
        drawn[i] = np.uint32(np.int32(work[_COUNT + i])) if sure else UNSURE


@fused_kernel
def settle_blocks(means, words, drawn):
    """Settle a chunk of few photons; between peaks most blocks are dark."""
    for start in range(0, CHUNK, BLOCK):
        bright = np.uint32(0)
        for j in range(BLOCK):
            bright += np.uint32(means[np.uint64(start) + np.uint64(j)] >= DARK_MEAN)
        if bright == 0:
            settle_dark(means, words, start, drawn)
        else:
            settle_faint(means, words, start, drawn)


@fused_kernel
def start_deviates(means, words, start, work):
    """Put means, 2 q - 1 and 4 q (1 - q) of a block into rows of ``work`` (WORK,) float32; q = word / 2^32."""
    for j in range(BLOCK):
        i = np.uint64(start) + np.uint64(j)
        word = words[i]
        q = (np.float32(np.int32(min(word, ALL_ONES - word))) + _1_2) * _2_32
        work[_MEAN + j] = means[i]
        work[_X + j] = np.float32(np.int32(word ^ FIRST_BIT)) * _2_31
        work[_MANTISSA + j] = _4 * q * (_1 - q)


@fused_kernel
def split_numbers(bits):
    """Split numbers of a block into mantissa, of sqrt(1/2) or more, and exponent; ``bits`` is ``work`` as int32."""
    for j in range(BLOCK):
        above = np.int32(bits[_MANTISSA + j] - ROOT_HALF_BITS)
        bits[_MANTISSA + j] = np.int32((above & MANTISSA_BITS) + ROOT_HALF_BITS)
        bits[_EXPONENT + j] = np.int32(above >> EXPONENT_SHIFT)


@device_function
def negative_logarithm(mantissa, exponent):
    """Return -ln(mantissa 2^exponent), to 2e-7; the mantissa from sqrt(1/2) to sqrt(2)."""
    f = mantissa - _1
    p = np.float32(0.171021069) + f * (np.float32(-0.16080349) + f * np.float32(0.104344198))
    p = np.float32(0.249834482) + f * (np.float32(-0.199182116) + f * p)
    p = np.float32(0.500000856) + f * (np.float32(-0.333343546) + f * p)
    return f * f * p - f - exponent * _LN_2


@device_function
def deviate_over_x(logarithm):
    """Return what times x = 2 q - 1 is the normal deviate of q; ``logarithm`` -ln(1 - x^2), up to ``TAIL``."""
    t = logarithm - MIDDLE
    p = np.float32(-4.81044663e-8) + t * (np.float32(-3.44141484e-9) + t * np.float32(7.98122497e-10))
    p = np.float32(-2.2453472e-5) + t * (np.float32(-5.67751651e-7) + t * (np.float32(4.7861999e-7) + t * p))
    p = np.float32(-6.80414654e-4) + t * (np.float32(2.24320436e-4) + t * p)
    return np.float32(2.46473373) + t * (np.float32(0.332846926) + t * (np.float32(-9.49945128e-3) + t * p))


@fused_kernel
def expand_quantiles(bits, work):
    """Put into a row of ``work`` how far the counts of a block lie above the whole part of their means, or ``UNKNOWN``.

    This is the long loop: but for the exponents it reads and writes one array.
    """
    for j in range(BLOCK):
        work[_EXPONENT + j] = np.float32(bits[_EXPONENT + j])
    for j in range(BLOCK):
        mean = work[_MEAN + j]
        logarithm = negative_logarithm(work[_MANTISSA + j], work[_EXPONENT + j])
        root = math.sqrt(mean)
        inverse = _1 / root
        above, s = beyond_mean(root, inverse, work[_X + j] * deviate_over_x(logarithm))
        y = (mean - np.float32(np.int32(mean))) + above
        below = np.float32(np.int32(y))
        below -= _1 if y < below else _0
        off = y - below
        margin = _OF_D * (inverse * inverse) + _OF_P_AND_C + _OF_ROOT * root
        sure = (off > margin) & (off < _1 - margin) & (s > _S_LEAST) & (s < _S_MOST) & (logarithm < TAIL)
        work[_X + j] = below if sure & (mean >= BRIGHT_MEAN) & (mean < MOST_BRIGHT) else UNKNOWN


@fused_kernel
def settle_bright(means, words, start, work, bits, drawn):
    """Settle those of a block that are UNSURE yet and bright by their expanded quantile."""
    start_deviates(means, words, start, work)
    split_numbers(bits)
    expand_quantiles(bits, work)
    for j in range(BLOCK):
        i = np.uint64(start) + np.uint64(j)
        above, before = work[_X + j], drawn[i]
        count = np.uint32(np.int32(np.int32(work[_MEAN + j]) + np.int32(above)))
        drawn[i] = count if (before == UNSURE) & (above > UNKNOWN) else before


@serial_kernel
def settle_brighter(means, words, work, bits, drawn):
    """Settle most bright pixels of a chunk."""
    for start in range(0, CHUNK, BLOCK):
        bright = np.uint32(0)
        for j in range(BLOCK):
            i = np.uint64(start) + np.uint64(j)
            bright += np.uint32((means[i] >= BRIGHT_MEAN) & (drawn[i] == UNSURE))
        if bright >= FEW_BRIGHT:
            settle_bright(means, words, start, work, bits, drawn)


@serial_kernel
def clip_settled(top, drawn):
    """Replace settled counts above ``top`` (uint32) by it; return how many there are."""
    overloads = np.uint32(0)
    for i in range(CHUNK):
        over = (drawn[i] > top) & (drawn[i] != UNSURE)
        overloads += np.uint32(over)
        drawn[i] = top if over else drawn[i]
    return int(overloads)


@serial_kernel
def exact_count(mean, word, pixel, frame, k0, k1):
    """``poisson_count`` of a pixel whose first word is known; by itself, so that nothing is fused here."""
    if mean < SMALL_MEAN:
        return count_by_inversion(mean, word, pixel, frame, k0, k1)
    return count_by_quantile(mean, word, pixel, frame, k0, k1)


@fused_kernel
def settle_rest(means, words, first_pixel, frame, k0, k1, top, drawn):
    """Replace what is UNSURE in ``drawn`` by the exact count; return how many of these are above ``top``."""
    overloads = 0
    for start in range(0, CHUNK, 32):
        unsure = np.uint32(0)
        for j in range(32):
            unsure += np.uint32(drawn[np.uint64(start) + np.uint64(j)] == UNSURE)
        if unsure == 0:
            continue
        for i in range(start, start + 32):
            if drawn[i] == UNSURE:
                pixel = first_pixel + np.uint64(i)
                count = exact_count(np.float64(means[i]), np.uint64(words[i]), pixel, frame, k0, k1)
                overloads += count > top
                drawn[i] = np.uint32(min(count, top))
    return overloads


@serial_kernel
def load_chunk(part, low, means):
    """Copy the pixels ``part`` to ``means[low:]`` (CHUNK,), 0 elsewhere; return how many are bad."""
    bad = np.uint32(0)
    means[:low] = _0
    means[low + len(part) :] = _0
    inner = means[low : low + len(part)]
    for i in range(len(part)):
        mean = part[i]
        bad += np.uint32(not ((mean >= _0) & (mean < INFINITE)))
        inner[i] = mean
    return int(bad)


@serial_kernel
def sum_chunk(means, sums, most):
    """Return sum and maximum of a chunk; ``sums`` float64, ``most`` float32 (CHUNK // 2,) or more to work in.

    Halves are added to each other: that is an order the compiler can vectorise without changing it.
    """
    half = CHUNK // 2
    for i in range(half):
        sums[i] = np.float64(means[i]) + np.float64(means[half + i])
        most[i] = max(means[i], means[half + i])
    while half > 1:
        half //= 2
        for i in range(half):
            sums[i] += sums[half + i]
            most[i] = max(most[i], most[half + i])
    return sums[0], np.float64(most[0])


@serial_kernel
def scale_chunk(scale, means):
    """Multiply ``means`` by ``scale`` in place; return how many become too large for float32."""
    bad = np.uint32(0)
    for i in range(CHUNK):
        means[i] *= scale
        bad += np.uint32(not (means[i] < INFINITE))
    return int(bad)


@serial_kernel
def store_chunk(drawn, low, part):
    """Copy ``drawn[low:]`` to the pixels ``part``."""
    inner = drawn[low : low + len(part)]
    for i in range(len(part)):
        part[i] = inner[i]


@serial_kernel
def draw_chunk(means, total, most, first_pixel, frame, k0, k1, top, words, work, bits, drawn):
    """Fill ``drawn`` (CHUNK,) uint32 with the counts of ``means``; return how many are above ``top``.

    ``total`` and ``most`` are about the sum and the maximum of the means: they choose the way, not the result. ``bits``
    int32 is another view of ``work``.
    """
    if most == 0.0:
        drawn[:] = np.uint32(0)
        return 0
    fill_words(first_pixel >> GROUP_BITS, frame, FIRST_WORDS, k0, k1, words)
    average = total / CHUNK
    if average < FEW_PHOTONS:
        settle_blocks(means, words, drawn)
    else:
        dim = np.uint32(0)
        for i in range(CHUNK):
            dim += np.uint32(means[i] < BRIGHT_MEAN)
        if dim > MANY_DIM:
            highest = min(average, np.float64(BRIGHT_MEAN))
            settle_many(means, words, int(highest + 3.0 * math.sqrt(highest)) + 3, work, drawn)
        else:
            drawn[:] = UNSURE
    if most >= BRIGHT_MEAN:
        settle_brighter(means, words, work, bits, drawn)
    overloads = 0
    if average >= FEW_PHOTONS or most >= BRIGHT_MEAN:
        overloads = clip_settled(np.uint32(np.uint64(top)), drawn)
    return overloads + settle_rest(means, words, first_pixel, frame, k0, k1, top, drawn)


@device_function
def chunk_limits(chunk, first_pixel, n):
    """Return where chunk ``chunk`` of ``n`` pixels starts among them (may be negative), and which part holds any."""
    start = chunk * CHUNK - int(first_pixel & np.uint64(CHUNK - 1))
    return start, max(0, -start), min(CHUNK, n - start)


@cpu_kernel
def poisson_counts(photons, scale, seed, frame, first_pixel, top, counts, statistics):
    """Draw a count for each pixel into ``counts``; chunks of pixels run in parallel.

    Parameters
    ----------
    photons : (n,) float32, expected photons, finite and not negative
    scale : float32, photons are multiplied by it first
    seed : uint64
    frame : uint32
    first_pixel : uint64, index in the whole frame of photons[0]
    top : float64, largest count; larger ones become it
    counts : (n,) uint16 or uint32, written
    statistics : (chunks, N_STATISTICS) float64, written; chunks = chunks_of(n, first_pixel)
    """
    k0 = np.uint64(seed) & LOW_WORD
    k1 = np.uint64(seed) >> WORD_BITS
    frame_word = np.uint64(frame)
    n, n_chunks = len(photons), len(statistics)
    aligned = np.uint64(first_pixel) & ~np.uint64(CHUNK - 1)
    for part in prange((n_chunks + CHUNKS_AT_ONCE - 1) // CHUNKS_AT_ONCE):
        means, sums = np.empty(CHUNK, dtype=np.float32), np.empty(CHUNK // 2, dtype=np.float64)
        work = np.empty(WORK, dtype=np.float32)
        bits = work.view(np.int32)
        words, drawn = np.empty(CHUNK, dtype=np.uint32), np.empty(CHUNK, dtype=np.uint32)
        for chunk in range(part * CHUNKS_AT_ONCE, min((part + 1) * CHUNKS_AT_ONCE, n_chunks)):
            start, low, high = chunk_limits(chunk, first_pixel, n)
            bad = load_chunk(photons[start + low : start + high], low, means)
            total, most = sum_chunk(means, sums, work)
            if scale != _1:
                bad += scale_chunk(scale, means)
            overloads = 0
            if bad == 0:
                place = aligned + np.uint64(chunk * CHUNK)
                overloads = draw_chunk(
                    means,
                    total * scale,
                    most * scale,
                    place,
                    frame_word,
                    k0,
                    k1,
                    top,
                    words,
                    work,
                    bits,
                    drawn,
                )
                store_chunk(drawn, low, counts[start + low : start + high])
            statistics[chunk, SUM] = total
            statistics[chunk, MOST] = most
            statistics[chunk, OVERLOADS] = overloads
            statistics[chunk, BAD] = bad


@cpu_kernel
def photon_statistics(photons, statistics):
    """Fill ``statistics`` (chunks, N_STATISTICS) as ``poisson_counts`` would, without drawing; photons (n,) float32."""
    n, n_chunks = len(photons), len(statistics)
    for part in prange((n_chunks + CHUNKS_AT_ONCE - 1) // CHUNKS_AT_ONCE):
        means, sums = np.empty(CHUNK, dtype=np.float32), np.empty(CHUNK // 2, dtype=np.float64)
        most = np.empty(CHUNK // 2, dtype=np.float32)
        for chunk in range(part * CHUNKS_AT_ONCE, min((part + 1) * CHUNKS_AT_ONCE, n_chunks)):
            start, low, high = chunk_limits(chunk, np.uint64(0), n)
            bad = load_chunk(photons[start + low : start + high], low, means)
            total, largest = sum_chunk(means, sums, most)
            statistics[chunk, SUM] = total
            statistics[chunk, MOST] = largest
            statistics[chunk, OVERLOADS] = 0.0
            statistics[chunk, BAD] = bad


def chunks_of(n: int, first_pixel: int = 0) -> int:
    """Return how many chunks ``n`` pixels from ``first_pixel`` on touch."""
    return -(-(first_pixel % CHUNK + n) // CHUNK)
