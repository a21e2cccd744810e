"""What the photons that were summed of a spot do not say: its resolution, excitation error and partiality (eq. 42)."""

import math

import numpy as np
from bragg_numba.kernels import physics, walk
from bragg_numba.kernels._jit import serial_kernel
from bragg_numba.kernels.parameters import SHARE_OF_CELL, SQUARE
from bragg_numba.kernels.spots.predict import forms, metric_peak, place_spot, square_peak
from bragg_numba.kernels.walk import square_of_parts
from bragg_numba.kernels.work import panel_at

#: Columns of what is said of a spot.
RESOLUTION, ON_SPHERE, EXCITATION = range(3)
N_COLUMNS = 3


@serial_kernel
def nearest_wave(waves, start, stop, squared, against):
    """Place of the 1 / wavelength, growing from start to before stop, at which a point comes nearest to the sphere.

    ``squared``: the point's q^2; ``against``: -q times the incident direction.
    """
    if stop - start == 1 or against <= 0.0:
        return start if stop - start == 1 else stop - 1  # it comes nearer as the sphere grows, and is never on it
    at = start + np.searchsorted(waves[start:stop], squared / (2.0 * against))
    if at == start:
        return start
    if at == stop:
        return stop - 1
    # The distance from the sphere is nearly linear in the wave number between two of them.
    middle = 0.5 * (waves[at - 1] + waves[at])
    return at if squared / (2.0 * against) > middle else at - 1


@serial_kernel
def fill_totals(beams, bright, totals):
    """Fill totals with the weight of each direction's sources, each times its ``bright``."""
    for beam in range(len(totals)):
        totals[beam] = 0.0
        for source in range(beams.first[beam], beams.first[beam + 1]):
            totals[beam] += beams.weight[beam] * beams.share[source] * bright[source]


@serial_kernel
def complete_spots(
    panels, lattice, rules, beams, cells, stars, inverse_gram, reach, indices, gains, number, centroids, parts, factors
):
    """Say of spots what their photons do not (eq. 42).

    Parameters
    ----------
    panels
        Array of kernels.parameters.PANEL_RECORD.
    beams
        spots.rows.Beams.
    cells, stars
        (n, N_CELL) real cells with their shares (parameters.py), and (n, 3, 3) reciprocal ones (columns a*, b*, c*),
        1/m, of every orientation.
    inverse_gram
        (3, 3) inverse of the lattice's metric; not used by square crystals.
    reach
        Distance from the Ewald sphere, 1/m, up to which a step counts as near.
    indices, gains
        int32 (n, 3), and float64 (n,): what turns a normalised lattice factor into photons over the solid angle.
    number, centroids
        int64 (n,): the panel; float64 (n, 2): where on it, pixels along fast and slow.
    parts, factors
        Where F depends on the wavelength the WAVES of the spots, float64 (n, 2 + 2 elements), and the factors of
        rows.DispersedSpots; else both (0, 0).

    Returns
    -------
    numpy.ndarray
        float64 (n, N_COLUMNS): resolution in metres; photons of the whole spot with every step on the sphere; distance
        from the sphere of the step that comes nearest, 1/m.
    """
    out = np.zeros((len(indices), N_COLUMNS))
    volumes, inverse_metrics, root_dets = forms(cells, stars, inverse_gram)
    counts = (lattice.n_a, lattice.n_b, lattice.n_c)
    totals = np.zeros(len(beams.weight))
    if len(parts) == 0:
        fill_totals(beams, np.ones(len(beams.waves)), totals)
    bright = np.empty(len(beams.waves))
    polar, point = np.ones(len(totals)), np.empty(2)
    for spot in range(len(indices)):
        if len(parts) > 0:
            for source in range(len(bright)):
                bright[source] = square_of_parts(parts[spot], factors, source, 0, 1)
            fill_totals(beams, bright, totals)
        g = panel_at(panels, number[spot])
        fast, slow = centroids[spot, 0] * g.pitch_fast, centroids[spot, 1] * g.pitch_slow
        x, y, z = physics.flat_position(g, fast, slow, 0.0)
        d_x, d_y, d_z, _ = walk.direction(x, y, z)
        if g.polarized:
            for beam in range(len(totals)):
                i_x, i_y, i_z = beams.incident[beam, 0], beams.incident[beam, 1], beams.incident[beam, 2]
                polar[beam] = walk.polarization(g, i_x, i_y, i_z, d_x, d_y, d_z)
        h, k, l = indices[spot, 0], indices[spot, 1], indices[spot, 2]  # noqa: E741
        nearest, near_weight, near_peak, of_nearest = math.inf, 0.0, 0.0, 0.0
        for orientation in range(len(cells)):
            q_x = h * stars[orientation, 0, 0] + k * stars[orientation, 0, 1] + l * stars[orientation, 0, 2]
            q_y = h * stars[orientation, 1, 0] + k * stars[orientation, 1, 1] + l * stars[orientation, 1, 2]
            q_z = h * stars[orientation, 2, 0] + k * stars[orientation, 2, 1] + l * stars[orientation, 2, 2]
            squared = q_x * q_x + q_y * q_y + q_z * q_z
            if orientation == 0:
                out[spot, RESOLUTION] = 1.0 / math.sqrt(squared) if squared > 0.0 else math.inf
            for beam in range(len(totals)):
                i_x, i_y, i_z = beams.incident[beam, 0], beams.incident[beam, 1], beams.incident[beam, 2]
                against = -(q_x * i_x + q_y * i_y + q_z * i_z)
                at = nearest_wave(beams.waves, beams.first[beam], beams.first[beam + 1], squared, against)
                waves = beams.waves[at]
                s_x, s_y, s_z = q_x + waves * i_x, q_y + waves * i_y, q_z + waves * i_z
                size = math.sqrt(s_x * s_x + s_y * s_y + s_z * s_z)
                zeta, total = size - waves, totals[beam] * cells[orientation, SHARE_OF_CELL]
                if abs(zeta) > reach and abs(zeta) >= abs(nearest):
                    continue
                n_x, n_y, n_z = s_x / size, s_y / size, s_z / size
                if lattice.shape == SQUARE:
                    peak = square_peak(n_x, n_y, n_z, stars[orientation], counts, volumes[orientation])
                else:
                    peak = metric_peak(
                        lattice.shape, n_x, n_y, n_z, inverse_metrics[orientation], root_dets[orientation]
                    )
                peak *= polar[beam] * beams.wavelength[at] * beams.wavelength[at]
                if abs(zeta) <= reach:
                    near_weight += total
                    near_peak += total * peak
                if abs(zeta) < abs(nearest):
                    nearest, of_nearest = zeta, peak
        mean = near_peak / near_weight if near_weight > 0.0 else of_nearest
        captured = place_spot(g, rules.per_term, d_x, d_y, d_z, point)
        # The scale divides by the sub-pixels too, but the integral is over whole pixels.
        steps = totals.sum() * len(cells) * g.oversample * g.oversample
        out[spot, ON_SPHERE] = gains[spot] * steps * captured * mean
        out[spot, EXCITATION] = nearest
    return out
