"""nanoBragg's own random numbers, bit for bit: one shared shuffle table, float32 at every C assignment.

The C program keeps its generator in static variables that all streams (orientation, mosaic domains, photon
noise) share. Here they are two small arrays that travel together as a ``ClassicState``:

======================  ==========================================================================
``integers[0:32]``      Bays-Durham shuffle table
``integers[LAST]``      the table entry that chose the next slot; 0 means never started
``integers[IDUM]``      the linear congruential state of the stream that is running now
``integers[HAS_SPARE]`` 1 while the second normal deviate of a pair waits
``reals[...]``          what the Poisson generator remembers of its last mean, and the spare deviate
======================  ==========================================================================

``start_stream`` sets ``IDUM`` to minus the seed. A value of 0 or below makes the next deviate refill the
table; a negative seed therefore does not restart anything: it goes on with the table as it stands, as in C.

The arithmetic follows C's rules: libm is called in double precision and each assignment to a C ``float`` is
one rounding to float32. Do not add fastmath here: a single fused operation changes the accepted trials.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from bragg_numba.kernels._jit import serial_kernel

__all__ = [
    "ClassicState",
    "classic_state",
    "gaussian",
    "log_gamma",
    "mosaic_rotation",
    "noise_image",
    "poisson",
    "start_stream",
    "uniform",
]

MULTIPLIER = 16807
MODULUS = 2147483647
QUOTIENT = 127773  # MODULUS // MULTIPLIER: Schrage's split keeps every product within 31 bits
REMAINDER = 2836  # MODULUS % MULTIPLIER
TABLE_SIZE = 32
SLOT_WIDTH = 1 + (MODULUS - 1) // TABLE_SIZE
WARM_UP = 8
LARGEST_UNIFORM = 1.0 - 1.2e-7

LAST, IDUM, HAS_SPARE = TABLE_SIZE, TABLE_SIZE + 1, TABLE_SIZE + 2
OLD_MEAN, LIMIT, WIDTH, LOG_MEAN, SPARE = 0, 1, 2, 3, 4  # LIMIT: exp(-mean), or ln of the mode's weight

LANCZOS = (
    76.18009172947146,
    -86.50532032941677,
    24.01409824083091,
    -1.231739572450155,
    0.1208650973866179e-2,
    -0.5395239384953e-5,
)


class ClassicState(NamedTuple):
    """The generator's memory: ``integers`` (35,) int64 and ``reals`` (5,) float32; changed in place."""

    integers: np.ndarray
    reals: np.ndarray


def classic_state() -> ClassicState:
    """Return the memory of a program that has just started."""
    integers = np.zeros(TABLE_SIZE + 3, dtype=np.int64)
    reals = np.zeros(5, dtype=np.float32)
    reals[OLD_MEAN] = -1.0  # no mean is negative, so the first one is always new
    return ClassicState(integers, reals)


@serial_kernel
def start_stream(state, seed):
    """Let the next deviates come from ``seed`` (stored negated, as in C); changes ``state`` in place."""
    state.integers[IDUM] = -seed


@serial_kernel
def _advance(idum):
    """One step of the Park-Miller generator, without overflow."""
    k = np.int64(idum / QUOTIENT)  # C truncates towards zero; the quotient is far below 2^53
    idum = MULTIPLIER * (idum - k * QUOTIENT) - REMAINDER * k
    return idum + MODULUS if idum < 0 else idum


@serial_kernel
def uniform(state):
    """Return one float32 uniform deviate in (0, 1); changes ``state`` in place."""
    integers = state.integers
    idum = integers[IDUM]
    if idum <= 0 or integers[LAST] == 0:
        idum = max(-idum, 1)
        for slot in range(TABLE_SIZE + WARM_UP - 1, -1, -1):
            idum = _advance(idum)
            if slot < TABLE_SIZE:
                integers[slot] = idum
        integers[LAST] = integers[0]
    idum = _advance(idum)
    slot = integers[LAST] // SLOT_WIDTH
    integers[LAST] = integers[slot]
    integers[slot] = idum
    integers[IDUM] = idum
    value = np.float32((1.0 / MODULUS) * integers[LAST])
    return np.float32(LARGEST_UNIFORM) if np.float64(value) > LARGEST_UNIFORM else value


@serial_kernel
def gaussian(state):
    """Return one float32 normal deviate (polar Box-Muller); every second call hands out the spare one."""
    if state.integers[HAS_SPARE] != 0:
        state.integers[HAS_SPARE] = 0
        return state.reals[SPARE]
    while True:
        v1 = np.float32(2.0 * uniform(state) - 1.0)
        v2 = np.float32(2.0 * uniform(state) - 1.0)
        square = v1 * v1 + v2 * v2
        if np.float32(0.0) < square < np.float32(1.0):
            break
    factor = np.float32(math.sqrt(-2.0 * math.log(np.float64(square)) / np.float64(square)))
    state.reals[SPARE] = v1 * factor
    state.integers[HAS_SPARE] = 1
    return v2 * factor


@serial_kernel
def log_gamma(x):
    """Natural logarithm of the gamma function, by six Lanczos terms; float32 in and out."""
    x = np.float64(np.float32(x))
    shifted = x + 5.5
    shifted -= (x + 0.5) * math.log(shifted)
    series = 1.000000000190015
    y = x
    for coefficient in LANCZOS:
        y += 1.0
        series += coefficient / y
    return np.float32(-shifted + math.log(2.5066282746310005 * series / x))


@serial_kernel
def _poisson_by_waiting(mean, state):
    """Count uniform deviates until their product falls to exp(-mean): for means below 12."""
    reals = state.reals
    if mean != reals[OLD_MEAN]:
        reals[OLD_MEAN] = mean
        reals[LIMIT] = np.float32(math.exp(np.float64(-mean)))
    count = np.float32(0.0)
    product = uniform(state)
    while product > reals[LIMIT]:
        count += np.float32(1.0)
        product *= uniform(state)
    return count


@serial_kernel
def _poisson_by_rejection(mean, state):
    """Accept deviates of a Lorentzian that covers the distribution: for means of 12 to a million."""
    reals = state.reals
    if mean != reals[OLD_MEAN]:
        reals[OLD_MEAN] = mean
        reals[WIDTH] = np.float32(math.sqrt(2.0 * np.float64(mean)))
        reals[LOG_MEAN] = np.float32(math.log(np.float64(mean)))
        reals[LIMIT] = mean * reals[LOG_MEAN] - log_gamma(np.float64(mean) + 1.0)
    while True:
        y = np.float32(math.tan(math.pi * np.float64(uniform(state))))
        count = reals[WIDTH] * y + mean
        if count < np.float32(0.0):
            continue
        count = np.float32(math.floor(np.float64(count)))
        exponent = count * reals[LOG_MEAN] - log_gamma(np.float64(count) + 1.0) - reals[LIMIT]
        weight = np.float32(0.9 * (1.0 + np.float64(y * y)) * math.exp(np.float64(exponent)))
        if uniform(state) <= weight:
            return count


@serial_kernel
def poisson(mean, state):
    """Return a Poisson deviate for one float32 mean (photons), as a float32; changes ``state`` in place.

    Above a million photons C adds a normal deviate and does not round: the result is then not a whole number.
    """
    mean = np.float32(mean)
    if np.float64(mean) > 1.0e6:
        return np.float32(np.float64(mean) + math.sqrt(np.float64(mean)) * np.float64(gaussian(state)))
    if np.float64(mean) < 12.0:
        return _poisson_by_waiting(mean, state)
    return _poisson_by_rejection(mean, state)


@serial_kernel
def mosaic_rotation(spread, state, rotation):
    """Write a random rotation from a spherical cap into ``rotation`` (3, 3) float64.

    Three deviates give the axis and the angle ``spread * (1 - r^2)^(1/3)``; the angle is float32 arithmetic,
    as in C, whose argument ``spread`` (radians) is a float.
    """
    r1 = 2.0 * uniform(state) - 1.0
    r2 = 2.0 * uniform(state) - 1.0
    r3 = 2.0 * uniform(state) - 1.0
    across = math.sqrt(1.0 - r2 * r2)
    angle = np.float64(np.float32(spread) * np.float32(1.0 - r3 * r3) ** np.float32(1.0 / 3.0))
    x, y, z = across * math.sin(math.pi * r1), across * math.cos(math.pi * r1), r2
    c, s = math.cos(angle), math.sin(angle)
    rest = 1.0 - c
    # The order of the products is C's: ((1-c) x) y, not (1-c) (x y), so that the last bit agrees.
    xy, xz, yz = rest * x * y, rest * x * z, rest * y * z
    rotation[0, 0], rotation[0, 1], rotation[0, 2] = c + rest * (x * x), xy - s * z, xz + s * y
    rotation[1, 0], rotation[1, 1], rotation[1, 2] = xy + s * z, c + rest * (y * y), yz - s * x
    rotation[2, 0], rotation[2, 1], rotation[2, 2] = xz - s * y, yz + s * x, c + rest * (z * z)


@serial_kernel
def noise_image(photons, adc, roi, state, image):
    """Draw photon counts for the region of interest, row by row, into ``image``.

    Parameters
    ----------
    photons : (slow, fast) float32, photons
    adc : float, offset added to every pixel of the region
    roi : (xmin, xmax, ymin, ymax), both ends included; x is fast
    state : ClassicState, its stream already started
    image : (slow, fast) uint16, written in the region only

    Returns
    -------
    photon_sum : float
        Sum of the counts, before the offset.
    overloads : int
        Pixels above 65535, which are set to it.
    """
    xmin, xmax, ymin, ymax = roi
    photon_sum = 0.0
    overloads = 0
    for slow in range(max(ymin, 0), min(ymax + 1, photons.shape[0])):
        for fast in range(max(xmin, 0), min(xmax + 1, photons.shape[1])):
            count = np.float64(poisson(photons[slow, fast], state))
            photon_sum += count
            count += adc
            if count > 65535.0:
                count = 65535.0
                overloads += 1
            # A negative value has no meaning in C's unsigned conversion; 0 is what the integer image does.
            image[slow, fast] = np.uint16(max(count, 0.0))
    return photon_sum, overloads
