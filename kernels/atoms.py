"""Structure factors of atoms by direct summation, row by row of the reciprocal lattice (docs/structure-factors.md)."""

import math

import numpy as np
from bragg_numba.kernels._jit import cpu_kernel, serial_kernel
from numba import prange


@cpu_kernel
def sum_waves(rows, metric, firsts, factors, atoms, sums):
    """Add the waves of atoms into sums[row, place], for every row of reflections h, k of the reciprocal lattice.

    The loop along l needs no function: a wave's phase turns by the same angle at every step, and its Debye-Waller
    factor, whose exponent is a quadratic form, by a ratio that itself changes by the same ratio.

    Parameters
    ----------
    rows
        int64 (n, 4): h, k, first and last l.
    metric
        float64 (6,): 1/d^2 of a reflection as its coefficients of hh, kk, ll, hk, hl, kl; 1/angstrom^2.
    firsts
        int64 (kinds + 1,): where in ``atoms`` the atoms of each kind begin.
    factors
        float64 (kinds, 9): a1, b1 ... a4, b4, c of the form factor, electrons and square angstrom.
    atoms
        float64 (n, 10): x, y, z (parts of the cell), occupancy, and the Debye-Waller exponent's coefficients of
        hh, kk, ll, hk, hl, kl.
    sums
        complex128 (n, longest row): structure factors, electrons, from the first l of each row on.
    """
    for row in prange(len(rows)):
        h, k, first, last = rows[row, 0], rows[row, 1], rows[row, 2], rows[row, 3]
        waves = np.empty((last - first + 1, 2))
        for kind in range(len(firsts) - 1):
            waves[:] = 0.0
            for atom in range(firsts[kind], firsts[kind + 1]):
                _add_wave(h, k, first, last, atoms[atom], waves)
            for place in range(last - first + 1):
                l = first + place  # noqa: E741
                square = metric[0] * h * h + metric[1] * k * k + metric[2] * l * l
                square += metric[3] * h * k + metric[4] * h * l + metric[5] * k * l
                factor = factors[kind, 8]
                for term in range(4):
                    factor += factors[kind, 2 * term] * math.exp(-0.25 * factors[kind, 2 * term + 1] * square)
                sums[row, place] += factor * complex(waves[place, 0], waves[place, 1])


@serial_kernel
def _add_wave(h, k, first, last, atom, waves):
    """Add one atom's wave, but for its form factor, to waves[place] (real, imaginary)."""
    middle = (first + last) // 2  # outwards from here, so that factors that vanish do so at the ends
    turns = h * atom[0] + k * atom[1] + middle * atom[2]
    angle = 2.0 * math.pi * (turns - math.floor(turns))
    real, imaginary = math.cos(angle), math.sin(angle)
    step = 2.0 * math.pi * (atom[2] - math.floor(atom[2]))
    step_real, step_imaginary = math.cos(step), math.sin(step)
    across = atom[8] * h + atom[9] * k
    exponent = atom[4] * h * h + atom[5] * k * k + atom[7] * h * k + across * middle + atom[6] * middle * middle
    here = atom[3] * math.exp(-exponent)
    change = math.exp(-2.0 * atom[6])
    for direction in (1, -1):
        # From the middle up, itself included, then down from the one below.
        ratio = math.exp(-(direction * across + atom[6] * (2 * direction * middle + 1)))
        size, re, im = here, real, imaginary
        turn = direction * step_imaginary
        place, end = middle - first, last - first + 1
        if direction < 0:
            re, im = re * step_real - im * turn, im * step_real + re * turn
            size *= ratio
            ratio *= change
            place, end = place - 1, -1
        while place != end:
            waves[place, 0] += size * re
            waves[place, 1] += size * im
            re, im = re * step_real - im * turn, im * step_real + re * turn
            size *= ratio
            ratio *= change
            place += direction
