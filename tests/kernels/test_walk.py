"""The decisions of a pixel's walk: which shape, which entry of the table, which factors when."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from bragg_numba.kernels import parameters, walk
from bragg_numba.kernels._jit import fused_kernel
from bragg_numba.kernels.parameters import ROUND, SHAPE_NAMES, SQUARE

from bragg_numba import Experiment, InputError
from bragg_numba.plan.arithmetic import cpu as arithmetic
from bragg_numba.plan.plan import make_plan

LINE = "-cell 50 60 70 90 90 90 -default_F 1 -N 5 -detpixels 8"
UNKNOWN = len(SHAPE_NAMES)


@fused_kernel
def singles(shape, radii, found):
    """Fill found with walk.radial_single of radii, float32."""
    for i in range(len(radii)):
        found[i] = walk.radial_single(shape, radii[i])


@pytest.mark.parametrize("shape", range(len(SHAPE_NAMES)), ids=SHAPE_NAMES)
def test_every_shape_is_known_in_float64_and_highest_at_a_whole_index(shape):
    lattice = make_plan(Experiment.from_nanobragg(LINE)).lattice
    assert shape in walk.SHAPES_IN_FLOAT64

    top = walk.lattice_factor(shape, lattice, 3.0, -2.0, 1.0)

    assert top == pytest.approx(1.0 if shape != ROUND else math.pi / 6, rel=1e-9)
    assert 0.0 <= walk.lattice_factor(shape, lattice, 3.04, -2.03, 1.01) <= top


@pytest.mark.parametrize("shape", [s for s in walk.SHAPES_IN_FLOAT32 if s not in (SQUARE, ROUND)])
def test_shapes_of_the_squared_radius_agree_in_both_precisions(shape):
    radii = np.linspace(0.0, 4.0, 97, dtype=np.float32)
    found = np.empty_like(radii)
    singles(shape, radii, found)

    exact = np.array([walk.radial_factor(shape, float(r)) for r in radii])

    np.testing.assert_allclose(found, exact, rtol=40 * 2.0**-24, atol=2.0**-126)


def test_a_shape_that_no_branch_knows_is_not_a_number():
    found = np.zeros(1, np.float32)
    singles(UNKNOWN, np.ones(1, np.float32), found)

    assert math.isnan(walk.radial_factor(UNKNOWN, 0.1))
    assert np.isnan(found).all()


def test_a_shape_without_a_lattice_factor_is_refused_when_the_plan_is_made(monkeypatch):
    names = (*SHAPE_NAMES, "fifth")
    monkeypatch.setattr(parameters, "SHAPE_NAMES", names)
    monkeypatch.setattr("bragg_numba.experiment.crystal.SHAPE_NAMES", names)
    experiment = Experiment.from_nanobragg(LINE)
    experiment = experiment.replace(crystal=experiment.crystal.replace(shape="fifth"))

    with pytest.raises(InputError, match="Crystal.shape has no lattice factor in the kernels, got 'fifth'"):
        make_plan(experiment)

    # Known in float64 alone: rendered there, whatever is asked for.
    monkeypatch.setattr(walk, "SHAPES_IN_FLOAT64", (*walk.SHAPES_IN_FLOAT64, UNKNOWN))
    for precision in ("auto", "tile"):
        choice = arithmetic.choose(make_plan(experiment), precision)
        assert (choice.precision, choice.reason) == ("float64", "a shape of the crystal that has no float32 form")


def test_the_nearest_entry_of_the_table_is_taken_and_the_border_beyond_it():
    lookup = parameters.Table(-1, -1, -1, 4, 3, 3, has_table=True, interpolate=False, default_F=7.0)
    table = np.full((4, 3, 3), 7.0)
    table[1, 1, 1], table[2, 1, 1] = 10.0, 20.0  # (0, 0, 0) and (1, 0, 0)

    def entry(h, k=0.0, l=0.0):  # noqa: E741
        return walk.structure_factor(True, False, lookup, table, h, k, l)

    assert entry(0.4) == (10.0, 0)
    assert entry(0.6) == (20.0, 0)
    assert entry(0.5) == (10.0, 0)  # halves downwards (eq. 10)
    assert entry(1.51) == (7.0, 0) and entry(900.0) == (7.0, 0) and entry(0.0, -3.0) == (7.0, 0)


def test_interpolation_that_leaves_the_table_takes_the_nearest_entry_and_is_counted():
    lookup = parameters.Table(-1, -1, -1, 10, 10, 10, has_table=True, interpolate=True, default_F=0.0)
    h, k, l = np.indices((10, 10, 10))  # noqa: E741
    table = 1.0 * h + 10.0 * k + 100.0 * l
    table[[0, -1]] = table[:, [0, -1]] = table[:, :, [0, -1]] = 0.0

    # A cubic through values on a plane is the plane.
    inside, missed = walk.structure_factor(True, True, lookup, table, 2.25, 3.5, 2.75)
    assert (inside, missed) == (pytest.approx(3.25 + 45.0 + 375.0, rel=1e-14), 0)
    assert walk.structure_factor(True, True, lookup, table, 0.6, 3.4, 2.8) == (2.0 + 40.0 + 400.0, 1)


@pytest.mark.parametrize("thick, polar, omega", list(itertools.product((False, True), repeat=3)))
def test_running_products_multiply_the_whole_sum(thick, polar, omega):
    line = f"{LINE} " + " ".join(
        f"-oversample_{name}" for name, on in (("thick", thick), ("polar", polar), ("omega", omega)) if on
    )
    rules = make_plan(Experiment.from_nanobragg(line)).rules
    factors = 2.0**thick * 3.0**polar * 5.0**omega

    assert rules.running == (thick or polar or omega)
    assert walk.add_running(rules, 4.0, 7.0, 0.5, 1.0, 2.0, 3.0, 5.0) == 11.0 * factors
    assert walk.add_running(rules, 4.0, 7.0, 0.5, 0.0, 2.0, 3.0, 5.0) == 4.0  # beyond dmin
    assert walk.add_running(rules, 4.0, 0.0, 0.0, 1.0, 2.0, 3.0, 5.0) == 4.0  # dark, and no water
