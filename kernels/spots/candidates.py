"""Which reflections may bring photons, in which directions their spots lie, and on which tiles."""

import math

import numpy as np
from bragg_numba.kernels import physics, walk
from bragg_numba.kernels._jit import cpu_kernel, serial_kernel, shared_function
from bragg_numba.kernels.parameters import SHARE_OF_CELL
from bragg_numba.kernels.spots.predict import hit_flat, l_limits
from bragg_numba.kernels.work import panel_at
from numba import prange

#: What is known of where a reflection's spot lies, float64: a direction; unit vectors across it, towards the beam and
#: sideways; lowest and highest slope along these of any ray of the spot; how many steps are near; whether the rays lie
#: too far apart for that.
TO_X, TO_Y, TO_Z, IN_X, IN_Y, IN_Z, BY_X, BY_Y, BY_Z, IN_LOW, IN_HIGH, BY_LOW, BY_HIGH, STEPS, WIDE = range(15)

#: And the ray of the step that comes nearest to the sphere, and how near, 1/m.
BEST_X, BEST_Y, BEST_Z, BEST = range(15, 19)
N_EXTENT = 19

#: Cosine of the angle from a spot's first ray beyond which it counts as WIDE.
_WIDEST = 0.96


@serial_kernel
def waves_near_sphere(q_x, q_y, q_z, i_x, i_y, i_z, reach):
    """Lowest and highest 1 / wavelength at which a point q lies within ``reach`` of the Ewald sphere, 1/m.

    From abs(q + g i) = g +- reach: the squares leave an equation of first order in g.
    """
    squared = q_x * q_x + q_y * q_y + q_z * q_z - reach * reach
    against = -(q_x * i_x + q_y * i_y + q_z * i_z)
    low, high = 0.0, math.inf
    if squared <= 0.0:  # the origin itself
        return low, high
    if against + reach <= 0.0:
        return 1.0, 0.0
    low = squared / (2.0 * (against + reach))
    if against - reach > 0.0:
        high = squared / (2.0 * (against - reach))
    return low, high


@shared_function
def comes_near(q_x, q_y, q_z, star, l, i_x, i_y, i_z, waves, near):  # noqa: E741
    """Whether a point, ``l`` c* from q, comes near to the sphere at any wavelength; ``waves``, ``near``: as below."""
    if near[0] == math.inf:
        return True
    x, y, z = q_x + l * star[0, 2], q_y + l * star[1, 2], q_z + l * star[2, 2]
    reach = near[0] + near[1] * math.sqrt(x * x + y * y + z * z)
    low, high = waves_near_sphere(x, y, z, i_x, i_y, i_z, reach)
    return low <= waves[1] and high >= waves[0]


@serial_kernel
def list_reflections(star, limits, slack, q_max, incident, wavelength, waves, near, lookup, table, faintest):
    """List the reflections within ``slack`` (1/m) of the Ewald sphere that are stronger than ``faintest``.

    Parameters
    ----------
    star
        float64 (3, 3), columns a*, b*, c*, 1/m.
    limits
        int64 (2,): largest abs(h) and abs(k).
    q_max
        Longest scattering vector that matters, 1/m.
    waves, near
        Between which 1 / wavelength a reflection must come near to the sphere, 1/m, and how near: near[0], and near[1]
        times its scattering vector more.
    faintest
        F^2 up to which a reflection does not count.

    Returns
    -------
    (numpy.ndarray, numpy.ndarray)
        int32 (n, 3), in the order of h, k, l, and F^2, float64 (n,).
    """
    indices, squares, n = np.empty((1024, 3), np.int32), np.empty(1024), 0
    i_x, i_y, i_z = incident[0], incident[1], incident[2]
    sphere = 1.0 / wavelength
    for h in range(-limits[0], limits[0] + 1):
        for k in range(-limits[1], limits[1] + 1):
            q_x = h * star[0, 0] + k * star[0, 1]
            q_y = h * star[1, 0] + k * star[1, 1]
            q_z = h * star[2, 0] + k * star[2, 1]
            low, high = l_limits(q_x, q_y, q_z, star, i_x, i_y, i_z, wavelength, sphere + slack)
            hole_low, hole_high = l_limits(q_x, q_y, q_z, star, i_x, i_y, i_z, wavelength, sphere - slack)
            near_low, near_high = l_limits(q_x, q_y, q_z, star, 0.0, 0.0, 0.0, 1.0, q_max)
            low, high = max(low, near_low), min(high, near_high)
            l = math.ceil(low)  # noqa: E741
            while l <= high:
                if hole_low < l < hole_high:
                    l = math.floor(hole_high) + 1  # noqa: E741
                    continue
                f_cell = lookup.default_F
                if not comes_near(q_x, q_y, q_z, star, l, i_x, i_y, i_z, waves, near):
                    f_cell = 0.0
                elif lookup.has_table:
                    f_cell = walk.nearest_factor(lookup, table, float(h), float(k), float(l))
                if f_cell * f_cell > faintest:
                    if n == len(indices):
                        more, more_squares = np.empty((2 * n, 3), np.int32), np.empty(2 * n)
                        more[:n], more_squares[:n] = indices, squares
                        indices, squares = more, more_squares
                    indices[n, 0], indices[n, 1], indices[n, 2] = h, k, int(l)
                    squares[n] = f_cell * f_cell
                    n += 1
                l += 1  # noqa: E741
    return indices[:n].copy(), squares[:n].copy()


@serial_kernel
def start_extent(d_x, d_y, d_z, i_x, i_y, i_z, out):
    """Begin a row of extents with a ray."""
    along = d_x * i_x + d_y * i_y + d_z * i_z
    t_x, t_y, t_z = i_x - along * d_x, i_y - along * d_y, i_z - along * d_z
    size = math.sqrt(t_x * t_x + t_y * t_y + t_z * t_z)
    if size < 1e-9:  # along the beam any direction across serves
        if abs(d_x) < 0.9:
            t_x, t_y, t_z = 0.0, d_z, -d_y
        else:
            t_x, t_y, t_z = -d_z, 0.0, d_x
        size = math.sqrt(t_x * t_x + t_y * t_y + t_z * t_z)
    t_x, t_y, t_z = t_x / size, t_y / size, t_z / size
    out[TO_X], out[TO_Y], out[TO_Z] = d_x, d_y, d_z
    out[IN_X], out[IN_Y], out[IN_Z] = t_x, t_y, t_z
    out[BY_X] = d_y * t_z - d_z * t_y
    out[BY_Y] = d_z * t_x - d_x * t_z
    out[BY_Z] = d_x * t_y - d_y * t_x


@serial_kernel
def support(bases, scales, boxed, x, y, z):
    """How far along a unit vector anything that matters lies from a reciprocal lattice point, 1/m.

    ``bases`` (3, 3): columns, the way in 1/m that a unit of each coordinate leads; what matters lies within 1 of the
    coordinates times ``scales`` or, ``boxed``, each coordinate within that over the square root of 3.
    """
    h = (bases[0, 0] * x + bases[1, 0] * y + bases[2, 0] * z) / scales[0]
    k = (bases[0, 1] * x + bases[1, 1] * y + bases[2, 1] * z) / scales[1]
    l = (bases[0, 2] * x + bases[1, 2] * y + bases[2, 2] * z) / scales[2]  # noqa: E741
    if boxed:
        return (abs(h) + abs(k) + abs(l)) / math.sqrt(3.0)
    return math.sqrt(h * h + k * k + l * l)


@serial_kernel
def widen_extent(q_x, q_y, q_z, i_x, i_y, i_z, waves, bases, scales, boxed, farthest, out):
    """Widen a row of extents by the rays of one step's spot; return whether it meets the sphere.

    ``farthest``: how far from the point anything that matters lies, 1/m; else as support.
    """
    s_x, s_y, s_z = q_x + waves * i_x, q_y + waves * i_y, q_z + waves * i_z
    size = math.sqrt(s_x * s_x + s_y * s_y + s_z * s_z)
    if size <= 0.0:
        out[WIDE] = 1.0
        return True
    d_x, d_y, d_z = s_x / size, s_y / size, s_z / size
    reach = support(bases, scales, boxed, d_x, d_y, d_z)
    # The sphere is no plane: it bends by the square of the spot's size over its own radius.
    if abs(size - waves) > reach + farthest * farthest / waves:
        return False
    if out[IN_LOW] > out[IN_HIGH]:
        start_extent(d_x, d_y, d_z, i_x, i_y, i_z, out)
    along = d_x * out[TO_X] + d_y * out[TO_Y] + d_z * out[TO_Z]
    by_in = support(bases, scales, boxed, out[IN_X], out[IN_Y], out[IN_Z]) / size
    by_by = support(bases, scales, boxed, out[BY_X], out[BY_Y], out[BY_Z]) / size
    along_in = support(bases, scales, boxed, out[TO_X], out[TO_Y], out[TO_Z]) / size
    if along < _WIDEST or max(by_in, max(by_by, along_in)) > 0.25:
        out[WIDE] = 1.0
        return True
    inward = (d_x * out[IN_X] + d_y * out[IN_Y] + d_z * out[IN_Z]) / along
    sideways = (d_x * out[BY_X] + d_y * out[BY_Y] + d_z * out[BY_Z]) / along
    # As slopes, to the plane across the first ray.
    closer = 1.02 / (along - along_in)
    by_in = closer * (by_in + abs(inward) * along_in)
    by_by = closer * (by_by + abs(sideways) * along_in)
    out[IN_LOW], out[IN_HIGH] = min(out[IN_LOW], inward - by_in), max(out[IN_HIGH], inward + by_in)
    out[BY_LOW], out[BY_HIGH] = min(out[BY_LOW], sideways - by_by), max(out[BY_HIGH], sideways + by_by)
    return True


@serial_kernel
def keep_best(q_x, q_y, q_z, i_x, i_y, i_z, waves, out):
    """Keep the ray of a step if it comes nearer to the sphere than those before."""
    s_x, s_y, s_z = q_x + waves * i_x, q_y + waves * i_y, q_z + waves * i_z
    size = math.sqrt(s_x * s_x + s_y * s_y + s_z * s_z)
    if size > 0.0 and abs(size - waves) < out[BEST]:
        out[BEST] = abs(size - waves)
        out[BEST_X], out[BEST_Y], out[BEST_Z] = s_x / size, s_y / size, s_z / size


@cpu_kernel
def find_extents(indices, scales, boxed, reaches, stars, bases, beams):
    """Where the spots of reflections lie, over all steps: float64 (n, N_EXTENT).

    Parameters
    ----------
    indices, scales
        int32 (n, 3); float64 (n, 3), as in the list of spots (rows.py).
    boxed
        Whether what matters is a box of the coordinates, not an ellipsoid.
    reaches
        float64 (n,): how far from a reciprocal lattice point anything that matters lies, 1/m.
    stars, bases
        float64 (orientations, 3, 3), columns: a*, b*, c*, and where a unit of each coordinate leads, 1/m.
    beams
        spots.rows.Beams.
    """
    extents = np.zeros((len(indices), N_EXTENT))
    for spot in prange(len(indices)):
        out = extents[spot]
        out[IN_LOW], out[BY_LOW], out[IN_HIGH], out[BY_HIGH] = math.inf, math.inf, -math.inf, -math.inf
        h, k, l = indices[spot, 0], indices[spot, 1], indices[spot, 2]  # noqa: E741
        reach, scale = reaches[spot], scales[spot]
        out[BEST], steps = math.inf, 0.0
        for orientation in range(len(stars)):
            q_x = h * stars[orientation, 0, 0] + k * stars[orientation, 0, 1] + l * stars[orientation, 0, 2]
            q_y = h * stars[orientation, 1, 0] + k * stars[orientation, 1, 1] + l * stars[orientation, 1, 2]
            q_z = h * stars[orientation, 2, 0] + k * stars[orientation, 2, 1] + l * stars[orientation, 2, 2]
            base = bases[orientation]
            for beam in range(len(beams.weight)):
                i_x, i_y, i_z = beams.incident[beam, 0], beams.incident[beam, 1], beams.incident[beam, 2]
                low, high = waves_near_sphere(q_x, q_y, q_z, i_x, i_y, i_z, reach)
                start, stop = beams.first[beam], beams.first[beam + 1]
                if not (low <= beams.waves[stop - 1] and high >= beams.waves[start]):
                    continue
                first = start + np.searchsorted(beams.waves[start:stop], low)
                last = start + np.searchsorted(beams.waves[start:stop], high, "right")
                # The reach is that of the longest way; along the ray it may be shorter.
                while first < last:
                    if widen_extent(q_x, q_y, q_z, i_x, i_y, i_z, beams.waves[first], base, scale, boxed, reach, out):
                        break
                    first += 1
                # A ray turns one way as the wavelength grows.
                while first < last:
                    if widen_extent(
                        q_x, q_y, q_z, i_x, i_y, i_z, beams.waves[last - 1], base, scale, boxed, reach, out
                    ):
                        break
                    last -= 1
                if first < last:
                    steps += last - first
                    for source in ((first + last) // 2, first, last - 1):
                        keep_best(q_x, q_y, q_z, i_x, i_y, i_z, beams.waves[source], out)
        out[STEPS] = steps
    return extents


@serial_kernel
def box_on_panel(panel, depths, extent, box, point):
    """Fill box with the first and last column and row of a panel on which a spot may lie; False: on none.

    ``depths``: front and back of the sensor, m.
    """
    low_fast, high_fast, low_slow, high_slow = math.inf, -math.inf, math.inf, -math.inf
    if extent[WIDE] == 0.0:
        for corner in range(8):
            inward = extent[IN_LOW] if corner % 2 == 0 else extent[IN_HIGH]
            sideways = extent[BY_LOW] if corner // 2 % 2 == 0 else extent[BY_HIGH]
            d_x = extent[TO_X] + inward * extent[IN_X] + sideways * extent[BY_X]
            d_y = extent[TO_Y] + inward * extent[IN_Y] + sideways * extent[BY_Y]
            d_z = extent[TO_Z] + inward * extent[IN_Z] + sideways * extent[BY_Z]
            size = math.sqrt(d_x * d_x + d_y * d_y + d_z * d_z)
            d_x, d_y, d_z = d_x / size, d_y / size, d_z / size
            along = d_x * panel.normal_x + d_y * panel.normal_y + d_z * panel.normal_z
            if along < 1e-3:
                # Rays beside the panel, or nearly: a box of corners would be none.
                if along < -0.5:
                    return False
                low_fast, low_slow, high_fast, high_slow = 0.0, 0.0, math.inf, math.inf
                break
            hit_flat(panel, d_x, d_y, d_z, depths[corner // 4], point)
            fast, slow = point[0] / panel.pitch_fast, point[1] / panel.pitch_slow
            low_fast, high_fast = min(low_fast, fast), max(high_fast, fast)
            low_slow, high_slow = min(low_slow, slow), max(high_slow, slow)
    else:
        low_fast, low_slow, high_fast, high_slow = 0.0, 0.0, math.inf, math.inf
    # One pixel for the parts of pixels, and for what lies between rows of tiles.
    low_fast, low_slow = max(low_fast - 1.0, 0.0), max(low_slow - 1.0, 0.0)
    high_fast, high_slow = min(high_fast + 1.0, panel.n_fast - 1.0), min(high_slow + 1.0, panel.n_slow - 1.0)
    if low_fast > high_fast or low_slow > high_slow:
        return False
    box[0], box[1], box[2], box[3] = int(low_fast), int(high_fast), int(low_slow), int(high_slow)
    return True


@cpu_kernel
def find_boxes(panels, depths, extents):
    """Where each spot may lie on each panel: int32 (panels, n, 4), first and last column and row; -1: nowhere."""
    boxes = np.full((len(panels), len(extents), 4), -1, np.int32)
    for spot in prange(len(extents)):
        point = np.empty(2)
        if extents[spot, STEPS] > 0.0:
            for index in range(len(panels)):
                panel = panel_at(panels, index)
                box_on_panel(panel, depths, extents[spot], boxes[index, spot], point)
    return boxes


@serial_kernel
def count_spots(boxes, grids, sizes, counts):
    """Add to counts (tiles) how many spots each tile of a work list must look for.

    ``grids`` int32 (panels, tile rows, tile columns): a tile's place in the list, or -1; ``sizes``: rows and columns
    of a tile.
    """
    for panel in range(len(boxes)):
        for spot in range(boxes.shape[1]):
            if boxes[panel, spot, 0] < 0:
                continue
            for row in range(boxes[panel, spot, 2] // sizes[0], boxes[panel, spot, 3] // sizes[0] + 1):
                for column in range(boxes[panel, spot, 0] // sizes[1], boxes[panel, spot, 1] // sizes[1] + 1):
                    tile = grids[panel, row, column]
                    if tile >= 0:
                        counts[tile] += 1


@serial_kernel
def deal_spots(boxes, grids, sizes, free, spots):
    """Fill spots with those of each tile, in growing order; free (tiles): where each tile's begin, moved on."""
    for panel in range(len(boxes)):
        for spot in range(boxes.shape[1]):
            if boxes[panel, spot, 0] < 0:
                continue
            for row in range(boxes[panel, spot, 2] // sizes[0], boxes[panel, spot, 3] // sizes[0] + 1):
                for column in range(boxes[panel, spot, 0] // sizes[1], boxes[panel, spot, 1] // sizes[1] + 1):
                    tile = grids[panel, row, column]
                    if tile >= 0:
                        spots[free[tile]] = spot
                        free[tile] += 1


@cpu_kernel
def probe_pixels(indices, squares, extents, panels, roi, mask, lattice, sources, cells):
    """Brightness of the pixel at the best ray of each reflection, in terms of F^2 times the lattice factor.

    The sum over all steps, weighted, as the renderers would make it, but for the factors of the pixel; 0 where the
    ray meets no wanted pixel. Returns float64 (n,), and (n, 3) the direction to the pixel.
    """
    found, rays = np.zeros(len(indices)), np.zeros((len(indices), 3))
    incident, wavelength, weight = sources.incident, sources.wavelength, sources.weight
    for spot in prange(len(indices)):
        point = np.empty(2)
        if extents[spot, STEPS] == 0.0:
            continue
        for index in range(len(panels)):
            panel = panel_at(panels, index)
            if not hit_flat(panel, extents[spot, BEST_X], extents[spot, BEST_Y], extents[spot, BEST_Z], 0.0, point):
                continue
            column = math.floor(point[0] / panel.pitch_fast)
            row = math.floor(point[1] / panel.pitch_slow)
            if not (0 <= row < panel.n_slow and 0 <= column < panel.n_fast):
                continue
            slow, fast = int(row) + panel.first_row, int(column) + panel.first_column
            if not (roi[0] <= fast <= roi[1] and roi[2] <= slow <= roi[3]) or (mask.size > 0 and not mask[slow, fast]):
                continue
            at_fast, at_slow = walk.subpixel_place(panel, float(row), float(column), 0, 0)
            x = at_fast * panel.fast_x + at_slow * panel.slow_x + panel.origin_x
            y = at_fast * panel.fast_y + at_slow * panel.slow_y + panel.origin_y
            z = at_fast * panel.fast_z + at_slow * panel.slow_z + panel.origin_z
            d_x, d_y, d_z, _ = walk.direction(x, y, z)
            total = 0.0
            for source in range(len(wavelength)):
                q_x = (d_x - incident[source, 0]) / wavelength[source]
                q_y = (d_y - incident[source, 1]) / wavelength[source]
                q_z = (d_z - incident[source, 2]) / wavelength[source]
                for step in range(len(cells)):
                    c = cells[step]
                    h, k, l = walk.indices(c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7], c[8], q_x, q_y, q_z)  # noqa: E741
                    own = physics.nearest_index(h) == indices[spot, 0] and physics.nearest_index(k) == indices[spot, 1]
                    if own and physics.nearest_index(l) == indices[spot, 2]:
                        share = weight[source] * c[SHARE_OF_CELL]
                        total += share * walk.lattice_factor(lattice.shape, lattice, h, k, l)
            found[spot] = total * squares[spot]
            rays[spot, 0], rays[spot, 1], rays[spot, 2] = d_x, d_y, d_z
    return found, rays
