"""Where one reflection lies on a block: for one orientation, at every wavelength of a direction.

In coordinates in which all that matters lies within 1 of the reflection, the block is nearly a plane that moves along
a line as the wavelength grows: the wavelengths in reach are an interval, and the spot's middle is nearly linear in the
wavelength (docs/physics.md, eq. 39). From the pixel next to that guess the spot's ellipse is worked out anew.
"""

import math

from bragg_numba.kernels import physics
from bragg_numba.kernels._jit import shared_function
from bragg_numba.kernels.pixels.terms import dot
from bragg_numba.kernels.spots.rows import (
    BLOCK_COLUMNS,
    BLOCK_ROWS,
    FORM_H,
    FORM_K,
    FORM_L,
    SCALE_H,
    SCALE_K,
    SCALE_L,
    TO_X,
    TO_Y,
    TO_Z,
    WIDTH,
)

#: Sources in reach up to which it is quicker to look at each.
FEW = 4

#: From a block's first pixel to its middle, in pixels.
TO_RIGHT, TO_BOTTOM = 0.5 * (BLOCK_COLUMNS - 1), 0.5 * (BLOCK_ROWS - 1)

#: A pixel along fast is at most this part of the way from a block's middle to its corner.
PER_PIXEL = 1.0 / TO_RIGHT


@shared_function
def middle_of_block(panel, place):
    """Direction of a block's middle, its change per pixel along fast and slow, and the angle to its corner, radians."""
    g = panel
    row, column, _, sub_slow, sub_fast, depth = place
    fast = g.pitch_fast * (column + TO_RIGHT) + (g.subpixel_fast * sub_fast + 0.5 * g.subpixel_fast)
    slow = g.pitch_slow * (row + TO_BOTTOM) + (g.subpixel_slow * sub_slow + 0.5 * g.subpixel_slow)
    x, y, z = physics.flat_position(g, fast, slow, depth)
    nearness = 1.0 / math.sqrt(x * x + y * y + z * z)
    x, y, z = x * nearness, y * nearness, z * nearness
    pitch_fast, pitch_slow = g.pitch_fast * nearness, g.pitch_slow * nearness
    along = x * g.fast_x + y * g.fast_y + z * g.fast_z
    per_fast = (
        pitch_fast * (g.fast_x - along * x),
        pitch_fast * (g.fast_y - along * y),
        pitch_fast * (g.fast_z - along * z),
    )
    along = x * g.slow_x + y * g.slow_y + z * g.slow_z
    per_slow = (
        pitch_slow * (g.slow_x - along * x),
        pitch_slow * (g.slow_y - along * y),
        pitch_slow * (g.slow_z - along * z),
    )
    wide, tall = TO_RIGHT * pitch_fast, TO_BOTTOM * pitch_slow
    skew = abs(g.fast_x * g.slow_x + g.fast_y * g.slow_y + g.fast_z * g.slow_z)
    return (x, y, z), per_fast, per_slow, math.sqrt(wide * wide + tall * tall + 2.0 * skew * wide * tall)


@shared_function
def turn_exactly(vectors, direction):
    """The three coordinates of a change of direction, over the wave number, metres."""
    v, d = vectors, direction
    return (
        dot(v[0], v[1], v[2], d[0], d[1], d[2]),
        dot(v[3], v[4], v[5], d[0], d[1], d[2]),
        dot(v[6], v[7], v[8], d[0], d[1], d[2]),
    )


@shared_function
def scaled(scales, vector):
    """Three numbers, each times its own."""
    return scales[0] * vector[0], scales[1] * vector[1], scales[2] * vector[2]


@shared_function
def inner(u, v):
    """Scalar product of two tuples."""
    return u[0] * v[0] + u[1] * v[1] + u[2] * v[2]


@shared_function
def first_not_below(values, start, stop, limit):
    """First place from ``start`` to before ``stop`` of growing values that is not below a limit; else ``stop``."""
    low, high = start, stop
    while low < high:
        between = (low + high) // 2
        if values[between] < limit:
            low = between + 1
        else:
            high = between
    return low


@shared_function
def waves_in_reach(a, b, margin, waves, start, stop):
    """Which of the sources have abs(waves a - b) <= 1 + margin."""
    low, high = b - (1.0 + margin), b + (1.0 + margin)
    if a == 0.0:
        return (start, stop) if low <= 0.0 <= high else (start, start)
    low, high = low / a, high / a
    if low > high:
        low, high = high, low
    first = first_not_below(waves, start, stop, low)
    # One further: a wave number that equals the limit is in reach.
    last = first_not_below(waves, first, stop, high)
    return first, min(last + 1, stop) if last < stop and waves[last] <= high else last


@shared_function
def length(v):
    """Length of a tuple of three."""
    return math.sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2])


@shared_function
def nine(row):
    """A row of nine numbers as a tuple."""
    return row[0], row[1], row[2], row[3], row[4], row[5], row[6], row[7], row[8]


@shared_function
def times_nine(factor, v):
    """Nine numbers times another."""
    return (
        factor * v[0],
        factor * v[1],
        factor * v[2],
        factor * v[3],
        factor * v[4],
        factor * v[5],
        factor * v[6],
        factor * v[7],
        factor * v[8],
    )


@shared_function
def less(u, v):
    """Difference of two tuples of three."""
    return u[0] - v[0], u[1] - v[1], u[2] - v[2]


@shared_function
def waves_on_axis(start, per_metre, half, count):
    """Between which wave numbers a spot that moves with the wavelength comes near the ``count`` pixels of an axis."""
    low, high = -half - 1.0 - start, count + half - start
    if per_metre == 0.0:
        return (0.0, math.inf) if low <= 0.0 <= high else (1.0, 0.0)
    low, high = low / per_metre, high / per_metre
    if low > high:
        low, high = high, low
    if high <= 0.0:
        return 1.0, 0.0
    return 1.0 / high, 1.0 / low if low > 0.0 else math.inf


@shared_function
def place_on_block(vectors, spot, aim, incident, waves, start, stop, to_edge):
    """Where a reflection lies on a block for one orientation and direction.

    ``to_edge``: how far, in pixels along an axis, what is looked for lies from the pixels that matter. Returns the
    first source in reach and the one after the last, and what ellipse_at takes: ``line``, the guess of the spot's
    middle along fast and slow at wavelength 0 and per metre; ``form``, the scaled coordinates' changes per pixel
    along fast and slow and what follows from them.
    """
    middle, per_fast, per_slow, far = aim
    scales = (spot[SCALE_H], spot[SCALE_K], spot[SCALE_L])
    w = scaled(scales, (spot[FORM_H], spot[FORM_K], spot[FORM_L]))
    p = scaled(scales, turn_exactly(vectors, less(middle, incident)))
    # A ball around the block's middle holds all of it.
    largest = length(scaled(scales, (length(vectors[0:3]), length(vectors[3:6]), length(vectors[6:9]))))
    if stop - start == 1:
        apart, around = (
            less(scaled((waves[start], waves[start], waves[start]), p), w),
            1.0 + 1.2 * far * largest * waves[start],
        )
        if inner(apart, apart) > around * around:
            return start, start, (0.0, 0.0, 0.0, 0.0), (w, w, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    u, v = scaled(scales, turn_exactly(vectors, per_fast)), scaled(scales, turn_exactly(vectors, per_slow))
    normal = (u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0])
    uu, uv, vv = inner(u, u), inner(u, v), inner(v, v)
    squared = max(inner(normal, normal), 1e-300)
    per_normal = 1.0 / math.sqrt(squared)
    off, to_normal = inner(normal, p) * per_normal, inner(normal, w) * per_normal
    # Slopes elsewhere on the block differ from those at its middle by about the angle between.
    slack = 1.0 + 2.5 * far
    over_edge = slack * to_edge * (length(u) + length(v))
    most = 2.0 * far * far * largest * waves[stop - 1] + waves[stop - 1] * over_edge
    first, last = waves_in_reach(off, to_normal, most, waves, start, stop)
    up, vp, uw, vw = inner(u, p), inner(v, p), inner(u, w), inner(v, w)
    per = 1.0 / squared
    fast_0, fast_1 = (uv * vp - vv * up) * per + TO_RIGHT, (vv * uw - uv * vw) * per
    slow_0, slow_1 = (uv * up - uu * vp) * per + TO_BOTTOM, (uu * vw - uv * uw) * per
    half_fast, half_slow, per_uu = slack * math.sqrt(vv) * per_normal, slack * math.sqrt(uu) * per_normal, 1.0 / uu
    if last - first > FEW:
        # Of the sources in reach only those whose spot meets the block.
        wide = (1.0 + most) / waves[first]
        low, high = waves_on_axis(fast_0, fast_1, wide * half_fast + to_edge, BLOCK_COLUMNS)
        low_slow, high_slow = waves_on_axis(slow_0, slow_1, wide * half_slow + to_edge, BLOCK_ROWS)
        low, high = max(low, low_slow), min(high, high_slow)
        first = first_not_below(waves, first, last, low)
        last = first_not_below(waves, first, last, high)
    # Beyond the pixel next to its middle a spot is a plane's but for the second order of its own size.
    own = 1.5 + max(half_fast, half_slow) * (1.0 + waves[stop - 1] * over_edge) / waves[start]
    angle = own * length(per_fast) + own * length(per_slow)
    margin = angle * angle * largest * waves[stop - 1]
    form = (
        u,
        v,
        uu * per,
        uv * per,
        vv * per,
        half_fast,
        half_slow,
        slack * math.sqrt(per_uu),
        uv * per_uu,
        squared * per_uu * per_uu,
        1.0 + margin,
    )
    return first, last, (fast_0, fast_1, slow_0, slow_1), form


@shared_function
def ellipse_at(line, form, vectors, spot, to_middle, waves, wavelength, over_edge, places):
    """The ellipse of a spot at one wavelength, from the block's pixel next to where it is guessed to lie.

    ``to_middle``: the form's coordinates at the block's middle over the wave number. Returns whether it is in reach;
    its middle along fast and slow, half width and height, half width of the row through the middle, pixels; how it
    leans and narrows from row to row.
    """
    u, v, uu, uv, vv, half_fast, half_slow, half_row, lean, narrowing, within = form
    fast = min(max(line[0] + wavelength * line[1], 0.0), BLOCK_COLUMNS - 1.0)
    slow = min(max(line[2] + wavelength * line[3], 0.0), BLOCK_ROWS - 1.0)
    column, row = math.floor(fast + 0.5), math.floor(slow + 0.5)
    pixel = int(row) * WIDTH + int(column)
    way = turn_exactly(vectors, (places[TO_X + pixel], places[TO_Y + pixel], places[TO_Z + pixel]))
    x = spot[SCALE_H] * (waves * (to_middle[0] + way[0]) - spot[FORM_H])
    y = spot[SCALE_K] * (waves * (to_middle[1] + way[1]) - spot[FORM_K])
    z = spot[SCALE_L] * (waves * (to_middle[2] + way[2]) - spot[FORM_L])
    along_u, along_v = u[0] * x + u[1] * y + u[2] * z, v[0] * x + v[1] * y + v[2] * z
    fast, slow = uv * along_v - vv * along_u, uv * along_u - uu * along_v
    nearest = x * x + y * y + z * z + along_u * fast + along_v * slow
    radius = within + waves * over_edge
    left_over = radius * radius - nearest
    part = wavelength * math.sqrt(max(left_over, 0.0))
    return (
        left_over > 0.0,
        column + wavelength * fast,
        row + wavelength * slow,
        part * half_fast,
        part * half_slow,
        part * half_row,
        lean,
        narrowing,
    )


@shared_function
def form_edge(form, to_edge, far):
    """Radius per wave number that ``to_edge`` pixels along an axis add, in scaled coordinates."""
    return (1.0 + 2.5 * far) * to_edge * (length(form[0]) + length(form[1]))
