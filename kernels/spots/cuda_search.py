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
from numba import float32

ellipse = on_gpu(cpu_ellipse, takes_arrays=True, physics=physics, dot=on_gpu(cpu_terms).dot)

#: From a tile's first pixel to its middle along an axis, and to its corner, in pixels.
TO_MIDDLE = 0.5 * (TILE_SIDE - 1)
TO_CORNER = math.sqrt(2.0) * TO_MIDDLE

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
    pitch: float  #: angle of a pixel that is met head-on, radians


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
def ray_to(panel, row, column, sub, depth):
    """The Ray to a sub-pixel of a place on a panel, which need not be a whole pixel's."""
    g = panel
    fast = g.pixel_size * column + (g.subpixel_size * sub[1] + g.half_subpixel)
    slow = g.pixel_size * row + (g.subpixel_size * sub[0] + g.half_subpixel)
    x, y, z = physics.flat_position(g, fast, slow, depth)
    nearness = 1.0 / math.sqrt(x * x + y * y + z * z)
    x, y, z, pitch = x * nearness, y * nearness, z * nearness, g.pixel_size * nearness
    along_fast = x * g.fast_x + y * g.fast_y + z * g.fast_z
    along_slow = x * g.slow_x + y * g.slow_y + z * g.slow_z
    return Ray(
        x,
        y,
        z,
        pitch * (g.fast_x - along_fast * x),
        pitch * (g.fast_y - along_fast * y),
        pitch * (g.fast_z - along_fast * z),
        pitch * (g.slow_x - along_slow * x),
        pitch * (g.slow_y - along_slow * y),
        pitch * (g.slow_z - along_slow * z),
        pitch,
    )


@gpu_function
def slopes_of(scales, vectors, ray):
    """Change of the scaled coordinates per pixel along fast and slow, over the wave number."""
    along_fast = ellipse.scaled(scales, ellipse.turn_exactly(vectors, (ray.fast_x, ray.fast_y, ray.fast_z)))
    return along_fast, ellipse.scaled(scales, ellipse.turn_exactly(vectors, (ray.slow_x, ray.slow_y, ray.slow_z)))


@gpu_function
def longest(scales, vectors):
    """The most that the scaled coordinates change with a direction, over the wave number."""
    h, k, l = ellipse.length(vectors[0:3]), ellipse.length(vectors[3:6]), ellipse.length(vectors[6:9])  # noqa: E741
    return ellipse.length(ellipse.scaled(scales, (h, k, l)))


@gpu_function
def place_on_tile(spot, vectors, middle, incident, waves, start, stop):
    """Which of a direction's sources bring a reflection near a tile, for one orientation.

    ``middle`` is the Ray to the tile's middle. Returns the first source and the one after the last, and where the
    spot's middle lies on the tile: along fast at wavelength 0 and per metre, and along slow.
    """
    scales = (spot[SCALE_H], spot[SCALE_K], spot[SCALE_L])
    w = ellipse.scaled(scales, (spot[FORM_H], spot[FORM_K], spot[FORM_L]))
    to_middle = ellipse.less((middle.x, middle.y, middle.z), incident)
    p = ellipse.scaled(scales, ellipse.turn_exactly(vectors, to_middle))
    u, v = slopes_of(scales, vectors, middle)
    normal = (u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0])
    uu, uv, vv = ellipse.inner(u, u), ellipse.inner(u, v), ellipse.inner(v, v)
    squared = max(ellipse.inner(normal, normal), 1e-300)
    per = 1.0 / squared
    per_normal = math.sqrt(per)
    # The second order of a direction at the tile's corner, and what slopes there differ by, relative.
    far = TO_CORNER * middle.pitch
    margin, slack = 2.0 * far * far * longest(scales, vectors) * waves[stop - 1], 1.0 + 2.5 * far
    first, last = ellipse.waves_in_reach(
        ellipse.inner(normal, p) * per_normal, ellipse.inner(normal, w) * per_normal, margin, waves, start, stop
    )
    up, vp, uw, vw = ellipse.inner(u, p), ellipse.inner(v, p), ellipse.inner(u, w), ellipse.inner(v, w)
    fast_0, fast_1 = (uv * vp - vv * up) * per + TO_MIDDLE, (vv * uw - uv * vw) * per
    slow_0, slow_1 = (uv * up - uu * vp) * per + TO_MIDDLE, (uu * vw - uv * uw) * per
    if first < last:
        # Of these only those whose spot meets the tile.
        wide = slack * per_normal * (1.0 + margin) / waves[first]
        low, high = ellipse.waves_on_axis(fast_0, fast_1, wide * math.sqrt(vv), TILE_SIDE)
        low_slow, high_slow = ellipse.waves_on_axis(slow_0, slow_1, wide * math.sqrt(uu), TILE_SIDE)
        low, high = max(low, low_slow), min(high, high_slow)
        first = ellipse.first_not_below(waves, first, last, low)
        last = ellipse.first_not_below(waves, first, last, high)
    return first, last, (fast_0, fast_1, slow_0, slow_1)


@gpu_function
def pixel_next_to(place):
    """The pixel of a tile, along one axis, that is nearest to a place."""
    return math.floor(min(max(place, 0.0), TILE_SIDE - 1.0) + 0.5)


@gpu_function
def outline_of(panel, corner, sub, depth, spot, vectors, incident, waves, wavelength, line):
    """The Outline of a spot on the tile whose first pixel is ``corner``, at one wavelength; ``line``: place_on_tile."""
    column, row = pixel_next_to(line[0] + wavelength * line[1]), pixel_next_to(line[2] + wavelength * line[3])
    ray = ray_to(panel, corner[0] + row, corner[1] + column, sub, depth)
    scales = (spot[SCALE_H], spot[SCALE_K], spot[SCALE_L])
    at = ellipse.turn_exactly(vectors, ellipse.less((ray.x, ray.y, ray.z), incident))
    x = scales[0] * (waves * at[0] - spot[FORM_H])
    y = scales[1] * (waves * at[1] - spot[FORM_K])
    z = scales[2] * (waves * at[2] - spot[FORM_L])
    u, v = slopes_of(scales, vectors, ray)
    uu, uv, vv = ellipse.inner(u, u), ellipse.inner(u, v), ellipse.inner(v, v)
    per = 1.0 / max(uu * vv - uv * uv, 1e-300)
    along_u, along_v = ellipse.inner(u, (x, y, z)), ellipse.inner(v, (x, y, z))
    fast, slow = (uv * along_v - vv * along_u) * per, (uv * along_u - uu * along_v) * per
    nearest = x * x + y * y + z * z + along_u * fast + along_v * slow
    # Beyond the pixel next to the spot's middle a tile is a plane but for the second order of the spot's own size.
    half = wavelength * math.sqrt(max(uu, vv) * per)
    angle = 2.0 * ray.pitch * min(1.5 + half, TILE_SIDE)
    radius = 1.0 + angle * angle * longest(scales, vectors) * waves
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
