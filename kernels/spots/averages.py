"""Spots as a pixel's whole area sees them: each step's spot is integrated over every pixel that it touches (eq. 43).

The block is divided into squares, and these again, until a square holds so little that its share cannot matter, or so
little of the spot's structure that a few points of it tell its integral. How far that goes depends on the spot alone:
one a thousand times narrower than a pixel takes some ten divisions more.
"""

import math

from bragg_numba.kernels import physics, walk
from bragg_numba.kernels._jit import shared_function
from bragg_numba.kernels.parameters import GAUSS, ROUND, SQUARE, TOPHAT
from bragg_numba.kernels.spots.boxes import note_touched
from bragg_numba.kernels.spots.ellipse import (
    along_fast,
    along_slow,
    cross,
    inner,
    length,
    less,
    scaled,
    turn_exactly,
    turn_of,
)
from bragg_numba.kernels.spots.patches import denominator, product_of_gratings
from bragg_numba.kernels.spots.rows import (
    BLOCK_COLUMNS,
    BLOCK_ROWS,
    FORM_H,
    FORM_K,
    FORM_L,
    LIMIT,
    SCALE_H,
    SCALE_K,
    SCALE_L,
    SPOT_SUM,
    WIDTH,
    H,
    K,
    L,
)

#: What a square may bring that is not looked at more closely, over what the spot's peak does in all; of a top hat's
#: edge, where what is too much here is too little there.
NEGLIGIBLE, NEGLIGIBLE_OF_EDGE = 1e-7, 2e-5

#: Half of what a square may span so that nine points of it, or four, tell its integral: fringes, or the metric's radii.
NINE_POINTS, FOUR_POINTS = 0.35, 0.1

#: Gauss and Legendre's points of an interval from -1 to 1, two and three of them, and the three's weights by halves.
OF_TWO, OF_THREE = 1.0 / math.sqrt(3.0), math.sqrt(0.6)
AT_MIDDLE, AT_SIDE = 4.0 / 9.0, 5.0 / 18.0

#: How often a spot's place is moved at most, pixels below which it stands still, and the squared radius, in which all
#: that matters lies within 1, beyond which it is beside the sphere.
MOST_MOVES, STILL, BESIDE = 8, 1e-3, 1.1

#: Half of what a square may span so that nine points of it tell its integral better than a mean of fringes does.
UNSURE = 1.5

#: Fringes from the peak beyond which a square that spans many takes their mean.
FRINGED = 2.0


@shared_function
def direction_at(panel, place, fast, slow):
    """Direction of a place on the block, in pixels from its first corner, and 1 / distance."""
    x, y, z = physics.flat_position(
        panel, panel.pitch_fast * (place[1] + fast), panel.pitch_slow * (place[0] + slow), place[5]
    )
    nearness = 1.0 / math.sqrt(x * x + y * y + z * z)
    return (x * nearness, y * nearness, z * nearness), nearness


@shared_function
def misses_sphere(step, guess, spot, panel, place):
    """Tell whether a spot surely lies beside the sphere: from where on the block it comes nearest to it.

    ``guess``: where that may be, pixels; eq. 39 needs pixels within a spot, so it is found step by step in between.
    """
    vectors, _, incident, waves = step
    scales = (spot[SCALE_H], spot[SCALE_K], spot[SCALE_L])
    fast, slow = guess
    for _ in range(MOST_MOVES):
        fast, slow = min(max(fast, -1.0), BLOCK_COLUMNS + 1.0), min(max(slow, -1.0), BLOCK_ROWS + 1.0)
        d, nearness = direction_at(panel, place, fast, slow)
        u = scaled(scales, turn_exactly(vectors, turn_of(panel.pitch_fast * nearness, d, along_fast(panel))))
        v = scaled(scales, turn_exactly(vectors, turn_of(panel.pitch_slow * nearness, d, along_slow(panel))))
        offset = offset_of(vectors, less(d, incident), waves, spot[FORM_H], spot[FORM_K], spot[FORM_L])
        offset = scaled(scales, offset)
        uu, uv, vv, on_u, on_v = inner(u, u), inner(u, v), inner(v, v), inner(u, offset), inner(v, offset)
        per = 1.0 / (waves * max(uu * vv - uv * uv, 1e-300))
        move_fast, move_slow = (uv * on_v - vv * on_u) * per, (uv * on_u - uu * on_v) * per
        fast, slow = fast + move_fast, slow + move_slow
        if abs(move_fast) + abs(move_slow) < STILL:
            # What the last move leaves is of the second order.
            left = inner(offset, offset) + waves * (on_u * move_fast + on_v * move_slow)
            return left > BESIDE
    return False


@shared_function
def offset_of(vectors, way, waves, h, k, l):  # noqa: E741
    """Coordinates at a way from the beam, less the reflection's."""
    x, y, z = turn_exactly(vectors, way)
    return waves * x - h, waves * y - k, waves * z - l


@shared_function
def is_nearest(offset):
    """Tell whether indices that differ by this from a reflection's belong to it."""
    return abs(offset[0]) <= 0.5 and abs(offset[1]) <= 0.5 and abs(offset[2]) <= 0.5


@shared_function
def factor_at(shape, edges, lattice, step, spot, fast, slow, panel, place):
    """The lattice factor of a place; 0 where another reflection is the nearest.

    ``step``: vectors of the coordinates, the cell, the incident direction, 1 / wavelength.
    """
    vectors, cell, incident, waves = step
    way = less(direction_at(panel, place, fast, slow)[0], incident)
    x, y, z = offset_of(vectors, way, waves, spot[FORM_H], spot[FORM_K], spot[FORM_L])
    if shape in (SQUARE, ROUND):
        if not is_nearest((x, y, z)):
            return 0.0
    elif edges is not None and not is_nearest(offset_of(cell, way, waves, spot[H], spot[K], spot[L])):
        return 0.0
    if shape == SQUARE:
        square = physics.grating_squared(x, lattice.n_a) * physics.grating_squared(y, lattice.n_b)
        return square * physics.grating_squared(z, lattice.n_c)
    squared = physics.quadratic_form(lattice, x, y, z) if shape == ROUND else x * x + y * y + z * z
    return walk.radial_factor(shape, squared)


# --- what a square holds --------------------------------------------------------------------------


@shared_function
def mean_of_grating(count, offset, spread):
    """Nearly the mean of one grating within ``spread`` of an offset: itself, its fringes' mean, or the peak's share."""
    if count * spread <= NINE_POINTS:
        return physics.grating_squared(offset, count)
    apart = min(abs(offset), 0.5)
    if count * (apart - spread) >= FRINGED:
        root = count * physics.sin_pi(apart)
        return 0.5 / (root * root) * apart * apart / (apart * apart - spread * spread)
    return min(1.0 / denominator(count, offset, spread), 0.5 / (count * spread))


@shared_function
def judge_gratings(lattice, spot, offset, spread):
    """As judge, of a parallelepiped."""
    nearest = max(abs(offset[0]) - spread[0], max(abs(offset[1]) - spread[1], abs(offset[2]) - spread[2]))
    most = 1.0 / product_of_gratings((lattice.n_a, lattice.n_b, lattice.n_c), offset, spread)
    if nearest > 0.5 or most * spot[LIMIT] < 1.0:
        return 0.0, 0.0, 0.0, 0.0
    widest = max(lattice.n_a * spread[0], max(lattice.n_b * spread[1], lattice.n_c * spread[2]))
    mean = mean_of_grating(lattice.n_a, offset[0], spread[0]) * mean_of_grating(lattice.n_b, offset[1], spread[1])
    mean *= mean_of_grating(lattice.n_c, offset[2], spread[2])
    return most, mean, widest, most


@shared_function
def judge_radius(shape, spot, radius, limit, spread):
    """As judge, of a shape that is a function of the radius; ``limit``: the radius beyond which nothing counts."""
    nearest = max(radius - spread, 0.0)
    if nearest > limit:
        return 0.0, 0.0, 0.0, 0.0
    if shape == ROUND:
        x = math.pi * math.pi * nearest * nearest
        peak = physics.SPHERE_SCALE * physics.SPHERE_SCALE
        most = peak if x < 1.0 else min(peak, 9.0 * peak * (1.0 + x) / (x * x * x))
        if spread <= NINE_POINTS or nearest < FRINGED:
            return most, walk.radial_factor(shape, radius * radius), spread, most
        x = math.pi * math.pi * radius * radius
        return most, 4.5 * peak * (1.0 + x) / (x * x * x), spread, most
    most = walk.radial_factor(shape, nearest * nearest)
    if shape == GAUSS:
        return most, walk.radial_factor(shape, radius * radius), spread, most
    # A top hat is whole or nothing; only across its edge is there anything to resolve.
    farthest = radius + spread
    least = walk.radial_factor(shape, farthest * farthest)
    return most, walk.radial_factor(shape, radius * radius), 0.0 if least == most else math.inf, most - least


@shared_function
def judge(shape, lattice, spot, offset, around):
    """What a square holds of a spot, by its middle's offset and what it spans around that (``around``).

    Returns a bound of the factor anywhere in it, 0 if nothing counts; nearly its mean; half of what it spans, in
    fringes or the metric's radii; and a bound of what the mean may be off by.
    """
    if shape == SQUARE:
        return judge_gratings(lattice, spot, offset, around)
    if shape == ROUND:
        to_metric = math.sqrt(lattice.metric_hh)
        limit = math.sqrt(spot[LIMIT]) * to_metric / lattice.n_a
        radius = math.sqrt(physics.quadratic_form(lattice, offset[0], offset[1], offset[2]))
        spread = math.sqrt(
            lattice.metric_hh * around[0] * around[0]
            + lattice.metric_kk * around[1] * around[1]
            + lattice.metric_ll * around[2] * around[2]
        )
        return judge_radius(shape, spot, radius, limit, spread)
    return judge_radius(shape, spot, length(offset), math.sqrt(spot[LIMIT]), length(around))


@shared_function
def integral_of(shape, edges, lattice, step, spot, fast, slow, half, span, panel, place):
    """Integral of the factor over a square that spans little, square pixels."""
    total = 0.0
    if span <= FOUR_POINTS:
        shift = half * OF_TWO
        for corner in range(4):
            x, y = fast + shift * (2 * (corner % 2) - 1), slow + shift * (2 * (corner // 2) - 1)
            total += 0.25 * factor_at(shape, edges, lattice, step, spot, x, y, panel, place)
    else:
        shift = half * OF_THREE
        for point in range(9):
            across, down = point % 3 - 1, point // 3 - 1
            weight = (AT_MIDDLE if across == 0 else AT_SIDE) * (AT_MIDDLE if down == 0 else AT_SIDE)
            x, y = fast + shift * across, slow + shift * down
            total += weight * factor_at(shape, edges, lattice, step, spot, x, y, panel, place)
    return 4.0 * half * half * total


# --- dividing -------------------------------------------------------------------------------------


@shared_function
def peak_area(shape, lattice, u, v):
    """About the area in which a spot's peak lies, square pixels; ``u``, ``v``: slopes of the coordinates per pixel."""
    a, b, c = 1.0, 1.0, 1.0
    if shape == SQUARE:
        a, b, c = lattice.n_a, lattice.n_b, lattice.n_c
    elif shape == ROUND:
        a, b, c = math.sqrt(lattice.metric_hh), math.sqrt(lattice.metric_kk), math.sqrt(lattice.metric_ll)
    u, v = (a * u[0], b * u[1], c * u[2]), (a * v[0], b * v[1], c * v[2])
    across = cross(u, v)
    return 1.0 / math.sqrt(max(inner(across, across), 1e-300))


@shared_function
def push(values, top, fast, slow, half):
    """Put a square on the pile; return the pile's new height."""
    values[3 * top], values[3 * top + 1], values[3 * top + 2] = fast, slow, half
    return top + 1


@shared_function
def add_average(shape, edges, share, step, slopes, guess, spot, place, panel, lattice, scratch):
    """Add a step's integral over each pixel of the block (eq. 43).

    ``step``: as factor_at; ``guess``: as misses_sphere. ``slopes``: of the coordinates over the wave number, per pixel
    along fast and slow; what each bends by per square of a pixel; by how much slopes may differ on the block.
    """
    if misses_sphere(step, guess, spot, panel, place):
        return
    vectors, _, incident, waves = step
    per_fast, per_slow, bends, slack = slopes
    u = (waves * per_fast[0], waves * per_fast[1], waves * per_fast[2])
    v = (waves * per_slow[0], waves * per_slow[1], waves * per_slow[2])
    steps = (
        slack * (abs(u[0]) + abs(v[0])),
        slack * (abs(u[1]) + abs(v[1])),
        slack * (abs(u[2]) + abs(v[2])),
    )
    least = (NEGLIGIBLE_OF_EDGE if shape == TOPHAT else NEGLIGIBLE) * peak_area(shape, lattice, u, v)
    tall, wide = min(BLOCK_ROWS, panel.n_slow - place[0]), min(BLOCK_COLUMNS, panel.n_fast - place[1])
    pile, top = scratch.values, 0
    half = 0.5 * BLOCK_ROWS
    for root in range(BLOCK_COLUMNS // BLOCK_ROWS):
        top = push(pile, top, half + root * BLOCK_ROWS, half, half)
    while top > 0:
        top -= 1
        fast, slow, half = pile[3 * top], pile[3 * top + 1], pile[3 * top + 2]
        if fast - half >= wide or slow - half >= tall:
            continue
        way = less(direction_at(panel, place, fast, slow)[0], incident)
        offset = offset_of(vectors, way, waves, spot[FORM_H], spot[FORM_K], spot[FORM_L])
        bent = waves * half * half
        around = (
            half * steps[0] + bent * bends[0],
            half * steps[1] + bent * bends[1],
            half * steps[2] + bent * bends[2],
        )
        most, mean, span, doubt = judge(shape, lattice, spot, offset, around)
        if most == 0.0:
            continue
        if half <= 0.5:
            area = 4.0 * half * half
            value = -1.0
            if span <= NINE_POINTS or (span <= UNSURE and doubt * area <= least):
                value = integral_of(shape, edges, lattice, step, spot, fast, slow, half, span, panel, place)
            elif doubt * area <= least:
                value = area * mean
            if value >= 0.0:
                row, column = int(math.floor(slow)), int(math.floor(fast))
                scratch.places[SPOT_SUM + row * WIDTH + column] += share * value
                note_touched(row, row + 1, column, column + 1, scratch.flags)
                continue
        half *= 0.5
        top = push(pile, top, fast - half, slow - half, half)
        top = push(pile, top, fast + half, slow - half, half)
        top = push(pile, top, fast - half, slow + half, half)
        top = push(pile, top, fast + half, slow + half, half)
