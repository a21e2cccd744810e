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

#: Pixels that a guess may be off by, and how often it is made at most.
MOST_OFF, MOST_TRIES = 4.0, 4

#: Angle from a block's middle to its corner, radians, up to which the slopes at its middle serve everywhere.
PLAIN = 0.1

#: What slopes around a spot may differ by from those at a pixel next to its middle, relative.
SLACK = 1.1

#: From a block's first pixel to its middle, in pixels.
TO_RIGHT, TO_BOTTOM = 0.5 * (BLOCK_COLUMNS - 1), 0.5 * (BLOCK_ROWS - 1)

#: A pixel along fast is at most this part of the way from a block's middle to its corner.
PER_PIXEL = 1.0 / TO_RIGHT


@shared_function
def inner(u, v):
    """Scalar product of two tuples."""
    return u[0] * v[0] + u[1] * v[1] + u[2] * v[2]


@shared_function
def cross(u, v):
    """Vector product of two tuples."""
    return u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]


@shared_function
def turn_of(angle, direction, axis):
    """By what a direction changes where its place moves along an axis, by ``angle`` as seen face on."""
    along = inner(direction, axis)
    return (
        angle * (axis[0] - along * direction[0]),
        angle * (axis[1] - along * direction[1]),
        angle * (axis[2] - along * direction[2]),
    )


@shared_function
def along_fast(panel):
    """The panel's fast axis."""
    return panel.fast_x, panel.fast_y, panel.fast_z


@shared_function
def along_slow(panel):
    """The panel's slow axis."""
    return panel.slow_x, panel.slow_y, panel.slow_z


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
    per_fast = turn_of(pitch_fast, (x, y, z), along_fast(g))
    per_slow = turn_of(pitch_slow, (x, y, z), along_slow(g))
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
def slopes_of(u, v, slack):
    """What ellipse_at takes of the scaled coordinates' changes per pixel along fast and slow, ``u`` and ``v``.

    Themselves; the inverse of their products' matrix; half width and height of a radius 1, and half width of the row
    through the middle, by ``slack`` larger; how the ellipse leans and narrows from row to row.
    """
    normal = cross(u, v)
    uu, uv, vv = inner(u, u), inner(u, v), inner(v, v)
    per = 1.0 / max(inner(normal, normal), 1e-300)
    per_normal, per_uu = math.sqrt(per), 1.0 / uu
    return (
        u,
        v,
        uu * per,
        uv * per,
        vv * per,
        slack * math.sqrt(vv) * per_normal,
        slack * math.sqrt(uu) * per_normal,
        slack * math.sqrt(per_uu),
        uv * per_uu,
        per_uu * per_uu / per,
    )


@shared_function
def guess_error(far, pitch):
    """By how many pixels a spot's middle that is guessed from a block's may be off, and how often to guess again."""
    error, tries = 0.75 * (1.0 + 2.0 * far) * far * far / pitch, 1
    while error > MOST_OFF and tries < MOST_TRIES:
        error, tries = 0.75 * error * error * pitch, tries + 1
    return error, tries


@shared_function
def place_on_block(vectors, spot, aim, incident, waves, start, stop, to_edge):
    """Where a reflection lies on a block for one orientation and direction (eq. 39).

    ``to_edge``: how far, in pixels along an axis, what is looked for lies from the pixels that matter. Returns the
    first source in reach and the one after the last, and what ellipse_at takes: ``line``, the guess of the spot's
    middle along fast and slow at wavelength 0 and per metre; ``form``, slopes_of at the block's middle; ``room``, the
    radius that is looked at, and per wave number; how often to guess; whether the slopes are those of the place.
    """
    middle, per_fast, per_slow, far = aim
    scales = (spot[SCALE_H], spot[SCALE_K], spot[SCALE_L])
    w = scaled(scales, (spot[FORM_H], spot[FORM_K], spot[FORM_L]))
    p = scaled(scales, turn_exactly(vectors, less(middle, incident)))
    # Slopes elsewhere on the block differ from those at its middle by about the angle between.
    slack = 1.0 + 2.5 * far
    largest = length(scaled(scales, (length(vectors[0:3]), length(vectors[3:6]), length(vectors[6:9]))))
    u, v = scaled(scales, turn_exactly(vectors, per_fast)), scaled(scales, turn_exactly(vectors, per_slow))
    form = slopes_of(u, v, slack)
    line, room = (0.0, 0.0, 0.0, 0.0), (1.0, 0.0, 1, False)
    if stop - start == 1:
        # A ball around the block's middle holds all of it.
        apart = less(scaled((waves[start], waves[start], waves[start]), p), w)
        around = 1.0 + slack * far * largest * waves[start]
        if inner(apart, apart) > around * around:
            return start, start, line, form, room
    _, _, uu, uv, vv, half_fast, half_slow, _, _, _ = form
    normal = cross(u, v)
    per_normal = 1.0 / max(length(normal), 1e-150)
    off, to_normal = inner(normal, p) * per_normal, inner(normal, w) * per_normal
    over_edge = slack * to_edge * (length(u) + length(v))
    most = 2.0 * slack * far * far * largest * waves[stop - 1] + waves[stop - 1] * over_edge
    first, last = waves_in_reach(off, to_normal, most, waves, start, stop)
    up, vp, uw, vw = inner(u, p), inner(v, p), inner(u, w), inner(v, w)
    line = (uv * vp - vv * up + TO_RIGHT, vv * uw - uv * vw, uv * up - uu * vp + TO_BOTTOM, uu * vw - uv * uw)
    pitch = min(length(per_fast), length(per_slow))
    error, tries = guess_error(far, pitch)
    if last - first > FEW:
        # Of the sources in reach only those whose spot meets the block.
        wide = (1.0 + most) / waves[first]
        beyond = to_edge + 0.75 * slack * far * far / pitch
        low, high = waves_on_axis(line[0], line[1], wide * half_fast + beyond, BLOCK_COLUMNS)
        low_slow, high_slow = waves_on_axis(line[2], line[3], wide * half_slow + beyond, BLOCK_ROWS)
        low, high = max(low, low_slow), min(high, high_slow)
        first = first_not_below(waves, first, last, low)
        last = first_not_below(waves, first, last, high)
    # Around the pixel that was last guessed a spot is a plane's but for the second order of its own size.
    own = 1.5 + error + max(half_fast, half_slow) * (1.0 + waves[stop - 1] * over_edge) / waves[start]
    angle = own * (length(per_fast) + length(per_slow))
    room = (1.0 + slack * angle * angle * largest * waves[stop - 1], over_edge, tries, far > PLAIN)
    return first, last, line, form, room


@shared_function
def way_to(pixel, places):
    """Direction of a pixel of a block less that of its middle."""
    return places[TO_X + pixel], places[TO_Y + pixel], places[TO_Z + pixel]


@shared_function
def slopes_at(pixel, vectors, spot, places):
    """slopes_of at a pixel of the block that is neither in its last row nor its last column."""
    scales, here = (spot[SCALE_H], spot[SCALE_K], spot[SCALE_L]), way_to(pixel, places)
    u = scaled(scales, turn_exactly(vectors, less(way_to(pixel + 1, places), here)))
    v = scaled(scales, turn_exactly(vectors, less(way_to(pixel + WIDTH, places), here)))
    return slopes_of(u, v, SLACK)


@shared_function
def ellipse_at(line, form, room, vectors, spot, to_middle, waves, wavelength, places):
    """The ellipse of a spot at one wavelength, from the block's pixel next to where it is guessed to lie.

    ``to_middle``: the form's coordinates at the block's middle over the wave number. Returns whether it is in reach;
    its middle along fast and slow, half width and height, half width of the row through the middle, pixels; how it
    leans and narrows from row to row.
    """
    fast, slow, nearest = line[0] + wavelength * line[1], line[2] + wavelength * line[3], 0.0
    within, over_edge, tries, local = room
    for _ in range(tries):
        column = math.floor(min(max(fast, 0.0), BLOCK_COLUMNS - 2.0) + 0.5)
        row = math.floor(min(max(slow, 0.0), BLOCK_ROWS - 2.0) + 0.5)
        pixel = int(row) * WIDTH + int(column)
        way = turn_exactly(vectors, way_to(pixel, places))
        x = spot[SCALE_H] * (waves * (to_middle[0] + way[0]) - spot[FORM_H])
        y = spot[SCALE_K] * (waves * (to_middle[1] + way[1]) - spot[FORM_K])
        z = spot[SCALE_L] * (waves * (to_middle[2] + way[2]) - spot[FORM_L])
        if local:
            form = slopes_at(pixel, vectors, spot, places)
        u, v, uu, uv, vv, _, _, _, _, _ = form
        along_u, along_v = u[0] * x + u[1] * y + u[2] * z, v[0] * x + v[1] * y + v[2] * z
        by_fast, by_slow = uv * along_v - vv * along_u, uv * along_u - uu * along_v
        nearest = x * x + y * y + z * z + along_u * by_fast + along_v * by_slow
        fast, slow = column + wavelength * by_fast, row + wavelength * by_slow
    _, _, _, _, _, half_fast, half_slow, half_row, lean, narrowing = form
    radius = within + waves * over_edge
    left_over = radius * radius - nearest
    part = wavelength * math.sqrt(max(left_over, 0.0))
    return (
        left_over > 0.0,
        fast,
        slow,
        part * half_fast,
        part * half_slow,
        part * half_row,
        lean,
        narrowing,
    )
