"""The phases of a GPU patch, run on the CPU with the same functions, against mpmath."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
from bragg_numba.kernels import physics
from bragg_numba.kernels._jit import fused_kernel
from bragg_numba.kernels.parameters import SinglePanel, single_panel_array
from bragg_numba.kernels.pixels import cuda_steps as steps
from exact_phases import exact_phases, random_words, turns_between

from bragg_numba import Experiment
from bragg_numba.plan.arithmetic import cuda as arithmetic
from bragg_numba.plan.plan import make_plan

SINGLE = np.float32


@fused_kernel
def phases_of_patch(curved, panel, flat, single, row, column, cell, incident, wavelength, side, phases):
    """Fill phases[pixel, axis] with the whole part taken off h, h less it, and {N h}, as the tile kernel makes them."""
    patch = steps.aim_at_patch(curved, panel, side, row, column, steps.Sub(0, 0, 0, 0.0, True, True))
    c_x, c_y, c_z = SINGLE(patch.c_x), SINGLE(patch.c_y), SINGLE(patch.c_z)
    per = 1.0 / wavelength
    half = 0.5 * (side - 1)
    counts = (single.n_a, single.n_b, single.n_c)
    for number in range(side * side):
        u, w = SINGLE(number % side - half), SINGLE(number // side - half)
        x, y, z, _ = steps.rest_on_flat(flat, u, w, c_x, c_y, c_z, SINGLE(1.0 / patch.distance))
        pixel = steps.Pixel(u, w, SINGLE(x), SINGLE(y), SINGLE(z))
        for axis in range(3):
            a_x, a_y, a_z = cell[3 * axis] * per, cell[3 * axis + 1] * per, cell[3 * axis + 2] * per
            whole, of_patch = steps.step_axis(a_x, a_y, a_z, incident[0], incident[1], incident[2], patch)
            coarse, fine = steps.pixel_phase(of_patch, pixel)
            near, d, t = physics.reduced_pair(coarse, fine, counts[axis])
            phases[number, axis, 0] = whole + near
            phases[number, axis, 1] = d
            phases[number, axis, 2] = t


def test_every_phase_that_the_bound_accepts_is_right_to_1e_7_turns():
    rng = np.random.default_rng(11)
    worst, farthest, most, accepted = 0.0, 0.0, 0, 0
    mpmath.mp.dps = 40
    for _ in range(400):
        plan = make_plan(Experiment.from_nanobragg(random_words(rng)), None)
        choice = arithmetic.choose(plan, "auto")
        if not choice.side:
            continue
        accepted += 1
        single = arithmetic.single(plan, choice)
        row, column = (int(n) * choice.side for n in rng.integers(0, 2048 // choice.side, 2))
        phases = np.zeros((choice.side**2, 3, 3))
        phases_of_patch(
            False,
            plan.panels[0],
            SinglePanel(*single_panel_array(plan.panels)[0]),
            single,
            row,
            column,
            plan.cells[0],
            plan.sources.incident[0],
            float(plan.sources.wavelength[0]),
            choice.side,
            phases,
        )
        for pixel in (0, choice.side - 1, choice.side**2 - 1, int(rng.integers(choice.side**2))):
            exact = exact_phases(plan, row + pixel // choice.side, column + pixel % choice.side)
            for axis, h in enumerate(exact):
                whole, d, t = phases[pixel, axis]
                n = plan.cell_counts[axis]
                error = turns_between(n, h, t)
                # The float64 phase itself carries a few 2^-53 of h.
                assert error <= choice.error_turns + 2.0**-25 + 8 * n * float(abs(h)) * 2.0**-53
                assert abs(float(h - mpmath.mpf(whole)) - d) < 2.0**-22
                if abs(h) <= 1000:
                    worst = max(worst, error)
                farthest, most = max(farthest, float(abs(h))), max(most, n)
    assert accepted > 100
    assert farthest > 300 and most > 900
    assert worst < 1e-7


@pytest.mark.parametrize("angle", [0.0, 1e-9, -0.3, 1.0, math.pi / 2, 3.0, -4.0, 12.0])
def test_sine_and_cosine_are_those_of_the_library(angle):
    @fused_kernel
    def both(x):
        return physics.sine_and_cosine_of_turns(x)

    sine, cosine = both(angle)

    # The angle over pi is rounded once: half an ulp of up to 4 half turns.
    assert abs(sine - math.sin(angle)) < 8 * 2.0**-52
    assert abs(cosine - math.cos(angle)) < 8 * 2.0**-52
