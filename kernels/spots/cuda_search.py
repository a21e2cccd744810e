"""Which steps of which spots reach a tile on a GPU, and where on it: float64, once a spot and step.

In coordinates in which all that matters lies within 1 of the reflection, a tile is nearly a plane that moves along a
line as the wavelength grows (docs/physics.md, eq. 39): which wavelengths come near, and where the spot's middle then
lies, is known without looking at each. Beside the pixel next to that guess the spot's ellipse is worked out anew: it
stays narrow however large the crystal is. Scalars and tuples of them; what a block makes of it is in cuda_tile.
"""

import math
from typing import NamedTuple

import numpy as np
from bragg_numba.kernels._jit_cuda import gpu_function, on_gpu
from bragg_numba.kernels.pixels import terms as cpu_terms
from bragg_numba.kernels.pixels.cuda_frame import TILE_SIDE
from bragg_numba.kernels.pixels.cuda_functions import physics
from bragg_numba.kernels.spots import ellipse as cpu_ellipse
from bragg_numba.kernels.spots.rows import FORM_H, FORM_K, FORM_L, SCALE_H, SCALE_K, SCALE_L
from numba import float32, int32, uint32

ellipse = on_gpu(cpu_ellipse, takes_arrays=True, physics=physics, dot=on_gpu(cpu_terms).dot)

#: From a tile's first pixel to its middle along an axis, and to its corner at most, however skewed the axes: in pixels.
TO_MIDDLE = 0.5 * (TILE_SIDE - 1)
TO_CORNER = 2.0 * TO_MIDDLE

#: Pixels that an outline is wider than its ellipse on all sides: more than float32 rounds of a place on a tile.
ROOM = 1e-4


class Ray(NamedTuple):
    """A direction of a panel, and how it changes from a pixel to the next along fast and slow (first order)."""

    x: float
    y: float
    z: float
    fast_x: float
    fast_y: float
    fast_z: float
    slow_x: float
    slow_y: float
    slow_z: float
    pitch: float  #: angle of the longer edge of a pixel that is met head-on, radians


class Outline(NamedTuple):
    """An ellipse of pixels, float32: those whose (column - fast + lean down)^2 + narrowing down^2 <= radius^2.

    ``down`` is row - slow; ``radius_squared`` is negative where there is none.
    """

    fast: np.float32
    slow: np.float32
    lean: np.float32
    narrowing: np.float32
    radius_squared: np.float32


@gpu_function
def ray_to(panel, row, column, here):
    """The Ray to a sub-pixel of a place on a panel, which need not be a whole pixel's; ``here``: cuda_tile.Here."""
    g = panel
    fast = g.pitch_fast * column + (g.subpixel_fast * here.sub_fast + g.half_fast)
    slow = g.pitch_slow * row + (g.subpixel_slow * here.sub_slow + g.half_slow)
    x, y, z = physics.flat_position(g, fast, slow, here.depth)
    nearness = 1.0 / math.sqrt(x * x + y * y + z * z)
    x, y, z = x * nearness, y * nearness, z * nearness
    pitch_fast, pitch_slow = g.pitch_fast * nearness, g.pitch_slow * nearness
    along_fast = x * g.fast_x + y * g.fast_y + z * g.fast_z
    along_slow = x * g.slow_x + y * g.slow_y + z * g.slow_z
    return Ray(
        x,
        y,
        z,
        pitch_fast * (g.fast_x - along_fast * x),
        pitch_fast * (g.fast_y - along_fast * y),
        pitch_fast * (g.fast_z - along_fast * z),
        pitch_slow * (g.slow_x - along_slow * x),
        pitch_slow * (g.slow_y - along_slow * y),
        pitch_slow * (g.slow_z - along_slow * z),
        max(pitch_fast, pitch_slow),
    )


@gpu_function
def slopes_of(scales, vectors, ray):
    """Change of the scaled coordinates per pixel along fast and slow, over the wave number."""
    along_fast = ellipse.scaled(scales, ellipse.turn_exactly(vectors, (ray.fast_x, ray.fast_y, ray.fast_z)))
    return along_fast, ellipse.scaled(scales, ellipse.turn_exactly(vectors, (ray.slow_x, ray.slow_y, ray.slow_z)))


@gpu_function
def longest(scales, vectors):
    """The most that the scaled coordinates change with a direction, over the wave number; a bound."""
    h = scales[0] * scales[0] * ellipse.inner(vectors[0:3], vectors[0:3])
    k = scales[1] * scales[1] * ellipse.inner(vectors[3:6], vectors[3:6])
    return math.sqrt(h + k + scales[2] * scales[2] * ellipse.inner(vectors[6:9], vectors[6:9]))


@gpu_function
def place_on_tile(spot, vectors, middle, incident, waves, start, stop):
    """Which of a direction's sources bring a reflection near a tile, for one orientation.

    ``middle`` is the Ray to the tile's middle. Returns the first source and the one after the last, and where the
    spot's middle lies on the tile: along fast at wavelength 0 and per metre, and along slow.
    """
    scales = (spot[SCALE_H], spot[SCALE_K], spot[SCALE_L])
    # The second order of a direction at the tile's corner, and what slopes there differ by, relative.
    far = TO_CORNER * middle.pitch
    margin, slack = 2.0 * far * far * longest(scales, vectors) * waves[stop - 1], 1.0 + 2.5 * far
    u, v = slopes_of(scales, vectors, middle)
    uu, uv, vv = ellipse.inner(u, u), ellipse.inner(u, v), ellipse.inner(v, v)
    to_middle = ellipse.less((middle.x, middle.y, middle.z), incident)
    p = ellipse.scaled(scales, ellipse.turn_exactly(vectors, to_middle))
    w = ellipse.scaled(scales, (spot[FORM_H], spot[FORM_K], spot[FORM_L]))
    normal = (u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0])
    per = 1.0 / max(ellipse.inner(normal, normal), 1e-300)
    off, to_normal = ellipse.inner(normal, p), ellipse.inner(normal, w)
    up, vp, uw, vw = ellipse.inner(u, p), ellipse.inner(v, p), ellipse.inner(u, w), ellipse.inner(v, w)
    line = (
        (uv * vp - vv * up) * per + TO_MIDDLE,
        (vv * uw - uv * vw) * per,
        (uv * up - uu * vp) * per + TO_MIDDLE,
        (uu * vw - uv * uw) * per,
    )
    per_normal = math.sqrt(per)
    first, last = ellipse.waves_in_reach(off * per_normal, to_normal * per_normal, margin, waves, start, stop)
    if first < last:
        # Of these only those whose spot meets the tile.
        wide = slack * per_normal * (1.0 + margin) / waves[first]
        low, high = ellipse.waves_on_axis(line[0], line[1], wide * math.sqrt(vv), TILE_SIDE)
        low_slow, high_slow = ellipse.waves_on_axis(line[2], line[3], wide * math.sqrt(uu), TILE_SIDE)
        low, high = max(low, low_slow), min(high, high_slow)
        first = ellipse.first_not_below(waves, first, last, low)
        last = ellipse.first_not_below(waves, first, last, high)
    return first, last, line


@gpu_function
def pixel_next_to(place):
    """The pixel of a tile, along one axis, that is nearest to a place."""
    return math.floor(min(max(place, 0.0), TILE_SIDE - 1.0) + 0.5)


@gpu_function
def outline_of(panel, here, spot, vectors, incident, waves, wavelength, line):
    """The Outline of a spot on a tile, at one wavelength; ``line``: where place_on_tile says that its middle lies.

    ``vectors`` is a row of nine in memory: one axis after the other, few of them are in registers.
    """
    column, row = pixel_next_to(line[0] + wavelength * line[1]), pixel_next_to(line[2] + wavelength * line[3])
    ray = ray_to(panel, here.row + row, here.column + column, here)
    # Scalar products of the scaled coordinates of that pixel, x, and of their changes along fast and slow, u and v.
    uu, uv, vv, ux, vx, xx, longest_squared = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for axis in range(int32(vectors.shape[0]) // 3):  # the compiler does not see that it is three
        first, scale = uint32(3 * axis), spot[uint32(SCALE_H + axis)]
        a = (scale * vectors[first], scale * vectors[first + uint32(1)], scale * vectors[first + uint32(2)])
        u = ellipse.inner(a, (ray.fast_x, ray.fast_y, ray.fast_z))
        v = ellipse.inner(a, (ray.slow_x, ray.slow_y, ray.slow_z))
        along = ellipse.inner(a, ellipse.less((ray.x, ray.y, ray.z), incident))
        x = waves * along - scale * spot[uint32(FORM_H + axis)]
        uu, uv, vv = uu + u * u, uv + u * v, vv + v * v
        ux, vx, xx = ux + u * x, vx + v * x, xx + x * x
        longest_squared += ellipse.inner(a, a)
    per = 1.0 / max(uu * vv - uv * uv, 1e-300)
    fast, slow = (uv * vx - vv * ux) * per, (uv * ux - uu * vx) * per
    nearest = xx + ux * fast + vx * slow
    # Beyond the pixel next to the spot's middle a tile is a plane but for the second order of the spot's own size and
    # of what the guess of that pixel is off by.
    half, far = wavelength * math.sqrt(max(uu, vv) * per), TO_CORNER * ray.pitch
    angle = 2.0 * min(ray.pitch * (1.5 + half) + 0.75 * (1.0 + 2.0 * far) * far * far, ray.pitch * TILE_SIDE)
    radius = 1.0 + angle * angle * math.sqrt(longest_squared) * waves
    left_over = radius * radius - nearest
    lean, narrowing = uv / uu, 1.0 / (per * uu * uu)
    within = wavelength * math.sqrt(max(left_over, 0.0) / uu) * (1.0 + 2.0 * angle)
    within += ROOM * (1.0 + abs(lean) + math.sqrt(narrowing))
    return Outline(
        float32(column + wavelength * fast),
        float32(row + wavelength * slow),
        float32(lean),
        float32(narrowing),
        float32(within * within if left_over > 0.0 else -1.0),
    )
