"""One pixel, one reflection, one step, as the float64 renderer has it."""

from bragg_numba.kernels import physics, walk
from bragg_numba.kernels._jit import serial_kernel
from bragg_numba.kernels.pixels.rays import scatter_at_pixel
from bragg_numba.kernels.spots.rows import H, K, L


@serial_kernel
def exact_factor(step, panel, lattice, place, row, column, spot):
    """Lattice factor of a pixel of a tile, normalised; 0 where another reflection is the nearest.

    ``step`` is (a, b, c in metres, incident direction, wavelength), ``place`` that of the tile's first pixel, ``spot``
    a row of the list of spots.
    """
    cell, incident, wavelength = step
    first_row, first_column, _, sub_slow, sub_fast, depth = place
    slow, fast = float(first_row + row), float(first_column + column)
    q_x, q_y, q_z = scatter_at_pixel(panel, incident, wavelength, slow, fast, sub_slow, sub_fast, depth)
    c = cell
    h, k, l = walk.indices(c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7], c[8], q_x, q_y, q_z)  # noqa: E741
    own = physics.nearest_index(h) == spot[H] and physics.nearest_index(k) == spot[K]
    if not (own and physics.nearest_index(l) == spot[L]):
        return 0.0
    return walk.lattice_factor(lattice.shape, lattice, h, k, l)
