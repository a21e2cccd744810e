"""What a detector makes of photons on a GPU, a thread a pixel: twins of charge and losses and of what is around them.

The deviates and the arithmetic are those of the CPU's functions, each product and sum rounded by itself. Logarithms and
exponentials may round otherwise, which shows where a deviate lies within their rounding of a step.
"""

import math

from bragg_numba.kernels._jit_cuda import SIMULATED, gpu_function, gpu_kernel, on_gpu
from bragg_numba.kernels.random import cuda as random
from bragg_numba.kernels.random import effects as numbers
from bragg_numba.kernels.response import charge as cpu_charge
from bragg_numba.kernels.response import losses as cpu_losses
from numba import cuda, float32, float64, int64, uint32, uint64
from numba.cuda import libdevice

effects, philox, product = random.effects, random.philox, random.product
losses = on_gpu(cpu_losses, later_uniform=effects.later_uniform, tail_deviate=random.quantile.tail_deviate)
charges = on_gpu(cpu_charge, product=product)

#: Threads in a block.
THREADS = random.THREADS

#: Columns of ``lines``: a wide pixel's own place and its other one, of both sides of a border between chips.
OWN_0, OTHER_0, OWN_1, OTHER_1 = range(4)

_0 = cpu_charge._0
_INDEX_BITS = uint64(numbers._INDEX_BITS)


if SIMULATED:

    def wide_product(a, b):
        """Return the product of two float64."""
        return a * b
else:

    @gpu_function
    def wide_product(a, b):
        """Return the product of two float64 as a multiplication of its own."""
        return libdevice.dmul_rn(a, b)


@gpu_function
def first_word(pixel, frame, effect, k0, k1):
    """Return the first word of a pixel and effect."""
    which = uint64(effects.effect_word(effect, uint64(0)))
    return uint64(philox.group_word(pixel, frame, which, k0, k1))


@gpu_function
def normal(pixel, frame, effect, k0, k1, table):
    """Return the normal deviate of a pixel and effect."""
    word = first_word(pixel, frame, effect, k0, k1)
    if effects.is_in_tail(word):
        return float32(effects.normal_in_tail(word))
    step = word >> _INDEX_BITS
    return float32(effects.normal_in_step(word, table[step, 0], table[step, 1]))


@gpu_function
def gain(pixel, sigma, k0, k1, table):
    """Return the gain of a pixel over their mean; the keys are the detector's."""
    return float32(charges.pixel_gain(normal(pixel, uint64(0), numbers.GAIN_MAP, k0, k1, table), sigma))


@gpu_kernel
def scale_photons(photons, scale, sigma, detector_seed, first_pixel, table, out):
    """Multiply photons (slow, fast) float32 by ``scale`` and by the pixels' gains, of ``sigma``, into ``out``."""
    k0, k1 = uint64(detector_seed) & philox.LOW_WORD, uint64(detector_seed) >> philox.WORD_BITS
    n_fast = photons.shape[1]
    for pixel in range(cuda.grid(1), photons.shape[0] * n_fast, cuda.gridsize(1)):
        row, column = pixel // n_fast, pixel % n_fast
        mean = photons[row, column] * scale
        if sigma > _0:
            mean *= gain(uint64(first_pixel) + uint64(pixel), sigma, k0, k1, table)
        out[row, column] = mean


@gpu_kernel
def lose_counts(counts, dead, paralyzable, corrected, limit, top, seed, frame, first_pixel):
    """Turn photons into what a counter with a dead time says, in place; twin of losses.lose_counts."""
    k0, k1 = uint64(seed) & philox.LOW_WORD, uint64(seed) >> philox.WORD_BITS
    frame_word, n_fast = uint64(frame), counts.shape[1]
    for pixel in range(cuda.grid(1), counts.shape[0] * n_fast, cuda.gridsize(1)):
        row, column = pixel // n_fast, pixel % n_fast
        photons = float64(counts[row, column])
        place = uint64(first_pixel) + uint64(pixel)
        word = philox.LOW_WORD
        if photons * (photons - 1.0) * dead > 0.0:
            word = first_word(place, frame_word, numbers.DEAD_TIME, k0, k1)
        said = losses.counted(photons, word, dead, paralyzable, corrected, limit, top, place, frame_word, k0, k1)
        counts[row, column] = uint32(said)


@gpu_kernel
def to_charge(counts, charge):
    """Copy photons (slow, fast) uint32 to ``charge`` float32."""
    n_fast = counts.shape[1]
    for pixel in range(cuda.grid(1), counts.shape[0] * n_fast, cuda.gridsize(1)):
        row, column = pixel // n_fast, pixel % n_fast
        charge[row, column] = float32(counts[row, column])


@gpu_kernel
def record_charge(
    charge,
    sigma,
    detector_seed,
    excess,
    stages,
    adc_top,
    offset,
    top,
    seed,
    frame,
    first_pixel,
    table,
    counts,
):
    """Turn the photons that each pixel absorbed into digits; twin of charge.record_charge.

    ``charge`` (slow, fast) float32, or (0, 0): ``counts`` holds the photons. ``sigma`` float32, of the pixels' gains.
    """
    k0, k1 = uint64(seed) & philox.LOW_WORD, uint64(seed) >> philox.WORD_BITS
    d0, d1 = uint64(detector_seed) & philox.LOW_WORD, uint64(detector_seed) >> philox.WORD_BITS
    frame_word, n_fast, spread = uint64(frame), counts.shape[1], charge.shape[0] > 0
    for pixel in range(cuda.grid(1), counts.shape[0] * n_fast, cuda.gridsize(1)):
        row, column = pixel // n_fast, pixel % n_fast
        place = uint64(first_pixel) + uint64(pixel)
        q = charge[row, column] if spread else float32(counts[row, column])
        if excess > _0:
            q = float32(charges.cascaded(q, normal(place, frame_word, numbers.CASCADE, k0, k1, table), excess))
        if sigma > _0:
            q *= gain(place, sigma, d0, d1, table)
        stage = 0 if q < stages[0, 1] else 2 if q >= stages[0, 2] else 1
        noise, deviate = stages[2, stage], _0
        if noise > _0:
            deviate = normal(place, frame_word, numbers.READOUT, k0, k1, table)
        value, over = charges.digits(
            q, deviate, stages[1, stage], noise, stages[3, stage], stages[4, stage], adc_top, offset, top
        )
        counts[row, column] = top if over else value


@gpu_kernel
def gather_wide(image, lines, weight, axis):
    """Give wide pixels the expected photons of their places, in their own; twin of virtual.gather along one axis.

    ``lines`` (borders, 4) int32; ``weight`` float32, which part of the other place lies in a pixel.
    """
    across = image.shape[1] if axis == 0 else image.shape[0]
    for task in range(cuda.grid(1), lines.shape[0] * across, cuda.gridsize(1)):
        border, at = task // across, task % across
        own_0, other_0 = place_of(lines, border, OWN_0, at, axis), place_of(lines, border, OTHER_0, at, axis)
        own_1, other_1 = place_of(lines, border, OWN_1, at, axis), place_of(lines, border, OTHER_1, at, axis)
        sum_0 = image[own_0] + float32(product(image[other_0], weight))
        sum_1 = image[own_1] + float32(product(image[other_1], weight))
        image[other_0] = image[other_1] = _0
        image[own_0], image[own_1] = sum_0, sum_1


@gpu_function
def place_of(lines, border, which, at, axis):
    """Return row and column of a place of a wide pixel."""
    line = int64(lines[border, which])
    return (line, at) if axis == 0 else (at, line)


@gpu_function
def own_part(value, share, pixel, effect, frame, k0, k1):
    """Return which part of a wide pixel's ``value`` is its own place's: the share, rounded at random."""
    u = effects.effect_uniform(pixel, frame, effect, k0, k1)
    return int64(math.floor(wide_product(float64(value), share) + u))


@gpu_kernel
def divide_wide(counts, lines, share, offset, axis, top, seed, frame):
    """Divide the values of wide pixels among their places; twin of virtual.divide along one axis.

    ``share`` float64, which part is the own place's; ``offset`` and ``top`` int64.
    """
    k0, k1 = uint64(seed) & philox.LOW_WORD, uint64(seed) >> philox.WORD_BITS
    frame_word = uint64(frame)
    effect = numbers.VIRTUAL_SLOW if axis == 0 else numbers.VIRTUAL_FAST
    across = counts.shape[1] if axis == 0 else counts.shape[0]
    for task in range(cuda.grid(1), lines.shape[0] * across, cuda.gridsize(1)):
        border, at = task // across, task % across
        own_0, own_1 = place_of(lines, border, OWN_0, at, axis), place_of(lines, border, OWN_1, at, axis)
        before_0, before_1 = int64(counts[own_0]), int64(counts[own_1])
        above_0, above_1 = before_0 - offset, before_1 - offset
        pixel_0 = uint64(own_0[0] * counts.shape[1] + own_0[1])
        pixel_1 = uint64(own_1[0] * counts.shape[1] + own_1[1])
        part_0 = own_part(above_0, share, pixel_0, effect, frame_word, k0, k1)
        part_1 = own_part(above_1, share, pixel_1, effect, frame_word, k0, k1)
        for which in range(4):
            line = lines[border, which]
            is_own_0, is_other_0 = line == lines[border, OWN_0], line == lines[border, OTHER_0]
            is_own_1, is_other_1 = line == lines[border, OWN_1], line == lines[border, OTHER_1]
            value = offset + part_0 * is_own_0 + (above_0 - part_0) * is_other_0
            value += part_1 * is_own_1 + (above_1 - part_1) * is_other_1
            over = before_0 >= top and (is_own_0 or is_other_0) or before_1 >= top and (is_own_1 or is_other_1)
            place = place_of(lines, border, which, at, axis)
            counts[place] = uint32(top if over else min(max(value, int64(0)), top - 1))


@gpu_kernel
def mark_pixels(mask, slow_places, fast_places, dead, hot, detector_seed, first_pixel, top, counts, overloads):
    """Give places that have no value theirs, and count the overloaded pixels among the others.

    ``mask`` (slow, fast) bool, True where there is a pixel, or (0, 0); ``slow_places`` (slow,) and ``fast_places``
    (fast,) bool, rows and columns of wide pixels that become 0, or (0,) both; ``dead`` and ``hot``, parts of all
    pixels; ``top`` uint32, of a hot pixel; ``overloads`` (1,) uint32, added to.
    """
    k0, k1 = uint64(detector_seed) & philox.LOW_WORD, uint64(detector_seed) >> philox.WORD_BITS
    n_fast = counts.shape[1]
    for pixel in range(cuda.grid(1), counts.shape[0] * n_fast, cuda.gridsize(1)):
        row, column = pixel // n_fast, pixel % n_fast
        place = uint64(first_pixel) + uint64(pixel)
        before = counts[row, column]
        value = before
        if slow_places.shape[0] > 0 and (slow_places[row] or fast_places[column]):
            value = uint32(0)
        is_hot = hot > 0.0 and effects.effect_uniform(place, uint64(0), numbers.HOT_PIXELS, k0, k1) < hot
        if dead > 0.0 and effects.effect_uniform(place, uint64(0), numbers.DEAD_PIXELS, k0, k1) < dead:
            value, is_hot = uint32(0), False
        if is_hot:
            value = top
        if mask.shape[0] > 0 and not mask[row, column]:
            value = uint32(0)
        if value >= top and not is_hot:
            cuda.atomic.add(overloads, 0, uint32(1))
        if value != before:
            counts[row, column] = value
