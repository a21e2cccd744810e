"""The phases that the CPU's tile kernel makes, against mpmath."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from bragg_numba.kernels._jit import fused_kernel
from bragg_numba.kernels.pixels import rows
from bragg_numba.kernels.pixels.rays import aim_at_groups, offset_pixels
from bragg_numba.kernels.pixels.rows import COLUMNS, GROUPS, LANES, ROWS
from bragg_numba.kernels.pixels.terms import phases_of_pixel, split_phases
from exact_phases import exact_phases, random_words, turns_between

from bragg_numba import Experiment
from bragg_numba.plan.arithmetic import cpu as arithmetic
from bragg_numba.plan.plan import make_plan


@fused_kernel
def phases_of_tile(panel, lookup, phases, incident, cell, row, column, split, work, exact, found):
    """Fill found[row, column, axis] with the whole part taken off h, h less it, and {N h}."""
    g, place = panel, (row, column, COLUMNS, 0, 0, 0.0)
    aim_at_groups(panel, place, work, exact)
    offset_pixels(work)
    a, b, c = (cell[0], cell[1], cell[2]), (cell[3], cell[4], cell[5]), (cell[6], cell[7], cell[8])
    slow_a = a[0] * g.slow_x + a[1] * g.slow_y + a[2] * g.slow_z
    slow_b = b[0] * g.slow_x + b[1] * g.slow_y + b[2] * g.slow_z
    slow_c = c[0] * g.slow_x + c[1] * g.slow_y + c[2] * g.slow_z
    p, slows = phases, (slow_a, slow_b, slow_c)
    counts, same_counts = (p.n_a, p.n_b, p.n_c), (p.same_a, p.same_b, p.same_c)
    firsts = (lookup.h_first, lookup.k_first, lookup.l_first)
    split_phases(cell, slows, incident, counts, firsts, split, (), work, exact)
    for lane in range(LANES):
        for group in range(GROUPS):
            pixel = lane * GROUPS + group
            w_h, w_k, w_l, d_h, d_k, d_l, t_h, t_k, t_l = phases_of_pixel(
                work, group, pixel, lane, counts, same_counts, split
            )
            at = found[group // COLUMNS * LANES + lane, group % COLUMNS]
            at[0, 0], at[0, 1], at[0, 2] = lookup.h_first + work[rows.NEAR_H + group] + w_h, d_h, t_h
            at[1, 0], at[1, 1], at[1, 2] = lookup.k_first + work[rows.NEAR_K + group] + w_k, d_k, t_k
            at[2, 0], at[2, 1], at[2, 2] = lookup.l_first + work[rows.NEAR_L + group] + w_l, d_l, t_l


def tile_of(plan, choice, row: int, column: int) -> np.ndarray:
    work, exact = np.zeros(rows.SIZE_32, np.float32), np.zeros(rows.SIZE_64)
    found = np.zeros((ROWS, COLUMNS, 3, 3))
    cell = tuple(float(x) for x in plan.cells[0] / plan.sources.wavelength[0])
    incident = tuple(float(x) for x in plan.sources.incident[0])
    phases, split = arithmetic.phases(plan, choice), arithmetic.code(plan, choice).split
    phases_of_tile(plan.panels[0], plan.lookup, phases, incident, cell, row, column, split, work, exact, found)
    return found


@pytest.mark.parametrize("split", [False, True])
def test_phases_err_by_no_more_than_equation_24_says(split):
    rng = np.random.default_rng(7 + split)
    farthest, most, over = 0.0, 0, []
    with mpmath.workdps(40):
        for _ in range(700 if split else 2000):
            plan = make_plan(Experiment.from_nanobragg(random_words(rng)))
            error_turns = arithmetic.phase_error(plan, split=split)
            if arithmetic._needs_float64(plan) or error_turns > arithmetic.PHASE_BUDGET:
                continue
            choice = arithmetic.CpuArithmetic("tile", error_turns, "", split=split)
            row, column = int(rng.integers(0, 128)) * ROWS, int(rng.integers(0, 32)) * COLUMNS
            found = tile_of(plan, choice, row, column)
            # Ends of groups, where pixels are farthest from the centre, and somewhere else.
            places = [
                (0, 0),
                (LANES - 1, COLUMNS - 1),
                (LANES, 0),
                tuple(int(n) for n in rng.integers((ROWS, COLUMNS))),
            ]
            for down, right in places:
                for axis, h in enumerate(exact_phases(plan, row + down, column + right)):
                    whole, d, t = found[down, right, axis]
                    n = plan.cell_counts[axis]
                    # The float64 phase itself carries a few 2^-53 of h, and the nudge; a half turn is rounded once.
                    besides = 2.0**-25 + n * (8 * float(abs(h)) * 2.0**-53 + 2.0**-40)
                    over.append((turns_between(n, h, t) - besides) / error_turns)
                    assert abs(float(h - mpmath.mpf(whole)) - d) < 2.0**-22 + 3.0 * error_turns / n
                    farthest, most = max(farthest, float(abs(h))), max(most, n)
    assert len(over) > (3000 if split else 1000)
    assert farthest > 300 and most > (900 if split else 50)
    assert max(over) <= 3.0
    assert np.quantile(over, 0.99) <= 1.0


def test_beside_a_peak_n_h_stays_n_times_h():
    # Next to the direct beam h, k, l are 1e-6 to 1e-2, and a ratio of sines needs both phases to their last bits.
    line = "-cell 100 100 100 90 90 90 -default_F 1 -N 10 -lambda 1 -distance 100 -pixel 0.001 -detpixels 64"
    plan = make_plan(Experiment.from_nanobragg(f"{line} -oversample 1"))
    for split in (False, True):
        found = tile_of(plan, arithmetic.CpuArithmetic("tile", 0.0, "", split=split), 16, 0)
        h, t = found[..., 1], found[..., 2]

        assert 0.0 < np.abs(h).max() < 0.05
        # One rounding each of h and of n h.
        np.testing.assert_allclose(t, 10 * h, rtol=2.0**-23)
