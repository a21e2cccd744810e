"""What one step of one spot brings to a pixel on a GPU: places in float64, the shape in float32.

The reflection is known: a pixel's coordinates are those of its displacement from it, as small as the spot, and
nothing need be split before it is rounded to float32. Where float32 cannot tell whether the reflection is a pixel's
nearest, and where a spot may reach half-way to its neighbours, the pixel is what the float64 kernels make of it.
"""

import math
from typing import NamedTuple

from bragg_numba.kernels._jit_cuda import gpu_function
from bragg_numba.kernels.parameters import ROUND, SQUARE
from bragg_numba.kernels.pixels.cuda_functions import physics, walk
from bragg_numba.kernels.spots.rows import H, K, L
from numba import float32, float64


class SpotKind(NamedTuple):
    """What a spots kernel is compiled for: the compiler knows it, so that branches on it vanish."""

    shape: int
    exact: bool  #: every term in float64, from the pixel's own h, k, l
    several: bool = False  #: panels come as an array, not as the numbers of one


#: How near to 1/2 float32 does not know on which side an index lies: more than it rounds.
DOUBT = 1e-6

#: Distance from a whole index within which the sines of a grating are their limit: their product must not vanish.
PEAK = 1e-10


@gpu_function
def direction_of(panel, row, column, here):
    """Unit vector to a sub-pixel, and its distance, as in cuda_float64; ``here`` says which sub-pixel and layer."""
    fast, slow = walk.subpixel_place(panel, row, column, here.sub_slow, here.sub_fast)
    x, y, z = physics.flat_position(panel, fast, slow, here.depth)
    return walk.direction(x, y, z)


@gpu_function
def exact_factor(kind, lattice, direction, cell, incident, wavelength, spot):
    """Lattice factor in a direction, normalised, as in cuda_float64; 0 where another reflection is the nearest."""
    d, i, c = direction, incident, cell
    q_x, q_y, q_z = physics.scattering_vector(d[0], d[1], d[2], i[0], i[1], i[2], wavelength)
    h, k, l = walk.indices(c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7], c[8], q_x, q_y, q_z)  # noqa: E741
    own = physics.nearest_index(h) == spot[H] and physics.nearest_index(k) == spot[K]
    if own and physics.nearest_index(l) == spot[L]:
        return walk.lattice_factor(kind.shape, lattice, h, k, l)
    return 0.0


@gpu_function
def farthest_of(x, y, z):
    """Largest of three displacements, float32."""
    return float32(max(abs(x), max(abs(y), abs(z))))


@gpu_function
def grating_parts(x, n):
    """Numerator and denominator of a grating (eq. 13), not normalised, float32; x: displacement from a peak, turns."""
    turns = float32(physics.fraction(n * x))
    at = float32(x)
    on_peak = abs(at) < float32(PEAK)
    top = float32(n) if on_peak else float32(physics.sin_pi_single(turns))
    return float32(top), float32(1.0) if on_peak else float32(physics.sin_pi_single(at))


@gpu_function
def square_term(lattice, x, y, z):
    """Lattice factor of a square crystal, normalised (eq. 13), float32."""
    top_h, bottom_h = grating_parts(x, lattice.n_a)
    top_k, bottom_k = grating_parts(y, lattice.n_b)
    top_l, bottom_l = grating_parts(z, lattice.n_c)
    volume = float32(lattice.n_a * lattice.n_b * lattice.n_c)
    ratio = float32(top_h * top_k * top_l / (bottom_h * bottom_k * bottom_l * volume))
    return float32(ratio * ratio)


@gpu_function
def round_term(lattice, x, y, z):
    """Lattice factor of a round crystal, normalised (eq. 15), float32.

    What the root leaves out of the squared radius is added to the radius' fraction: a phase needs more than the 24
    bits of the radius itself.
    """
    squared = physics.quadratic_form(lattice, x, y, z)
    r = float32(math.sqrt(float32(squared)))
    left_out = float32(squared - float64(r) * float64(r))
    phase = physics.fraction_single(r) + float32(0.5) * left_out / (r + float32(1e-30))
    return float32(physics.sphere_single(r, float32(phase)))


@gpu_function
def radial_term(kind, x, y, z):
    """Factor of a shape that ends at a radius, float32; x, y, z: coordinates whose squares add up to it (eq. 38)."""
    squared = x * x + y * y + z * z
    return float32(walk.after_single(kind.shape, float32(walk.before_single(kind.shape, squared))))


@gpu_function
def is_near_half(kind, x, y, z):
    """Whether float32 cannot tell if a pixel is nearest to the reflection from which it lies x, y, z away."""
    if kind.shape == SQUARE or kind.shape == ROUND:
        return abs(farthest_of(float32(x), float32(y), float32(z)) - float32(0.5)) < float32(DOUBT)
    return False


@gpu_function
def term_of(kind, lattice, x, y, z):
    """Lattice factor of a pixel that lies x, y, z from its reflection, float32; 0 where another is the nearest."""
    if kind.shape == SQUARE or kind.shape == ROUND:
        if farthest_of(float32(x), float32(y), float32(z)) > float32(0.5):
            return float32(0.0)
        if kind.shape == SQUARE:
            return square_term(lattice, x, y, z)
        return round_term(lattice, x, y, z)
    return radial_term(kind, x, y, z)
