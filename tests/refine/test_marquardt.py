"""The minimiser and its block-arrow algebra, on models whose answers are known otherwise."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import least_squares
from scipy.sparse import csr_array

from bragg_numba.errors import InputError
from bragg_numba.refine.blocks import Blocks, WithReflections
from bragg_numba.refine.marquardt import Restraint, Rules, minimise

X = np.linspace(-3.0, 3.0, 61)
SIGMA = 0.05


def line(width: float, height: float, centre: float) -> tuple[np.ndarray, np.ndarray]:
    """A Gaussian line and its slopes in width, height and centre, (3, 61)."""
    u = (X - centre) / width
    shape = np.exp(-0.5 * u * u)
    return height * shape, np.array([height * shape * u * u / width, shape, height * shape * u / width])


def lines_seen(seed: int = 1) -> np.ndarray:
    noise = np.random.default_rng(seed)
    truth = [(0.7, 2.0, 0.3), (0.7, 1.0, -0.5), (0.7, 3.0, 0.1)]
    return np.array([line(*one)[0] + SIGMA * noise.normal(size=X.size) for one in truth])


def of_lines(data: np.ndarray):
    """Normal equations of lines with a width in common: parameters width, height 0, centre 0, height 1 ..."""

    def evaluate(at: np.ndarray) -> Blocks:
        value, gradient = 0.0, np.zeros(1 + 2 * len(data))
        shared, own, cross = np.zeros((1, 1)), [], []
        for i, seen in enumerate(data):
            model, slopes = line(at[0], *at[1 + 2 * i : 3 + 2 * i])
            off = (model - seen) / SIGMA
            matrix = slopes @ slopes.T / SIGMA**2
            value += 0.5 * float(off @ off)
            pull = slopes @ off / SIGMA
            gradient[0] += pull[0]
            gradient[1 + 2 * i : 3 + 2 * i] = pull[1:]
            shared += matrix[:1, :1]
            own.append(matrix[1:, 1:])
            cross.append(matrix[:1, 1:])
        return Blocks(value, gradient, shared, tuple(own), tuple(cross))

    return evaluate


def dense(blocks: Blocks) -> np.ndarray:
    whole = np.zeros((len(blocks.gradient),) * 2)
    n = len(blocks.shared)
    whole[:n, :n] = blocks.shared
    for part, own, cross in zip(blocks.parts, blocks.own, blocks.cross, strict=True):
        whole[part, part], whole[:n, part], whole[part, :n] = own, cross, cross.T
    return whole


START = np.array([1.0, 1.5, 0.0, 1.5, 0.0, 1.5, 0.0])


def test_the_minimum_is_that_of_least_squares():
    data = lines_seen()
    found = minimise(of_lines(data), START, tolerance=1e-12)

    def residuals(at):
        return np.concatenate(
            [(line(at[0], *at[1 + 2 * i : 3 + 2 * i])[0] - seen) / SIGMA for i, seen in enumerate(data)]
        )

    oracle = least_squares(residuals, START, xtol=1e-15, ftol=1e-15, gtol=1e-15)
    assert found.converged
    # Both stop where the value is flat to rounding: the square root of that in the parameters.
    assert found.at == pytest.approx(oracle.x, abs=1e-6)
    assert found.blocks.value == pytest.approx(oracle.cost, rel=1e-12)
    assert list(found.history) == sorted(found.history, reverse=True)


def test_the_step_and_the_covariances_are_those_of_the_whole_matrix():
    blocks = of_lines(lines_seen())(START)
    whole = dense(blocks)
    step = blocks.solve()
    assert step == pytest.approx(-np.linalg.solve(whole, blocks.gradient), rel=1e-10)
    assert blocks.curvature(step) == pytest.approx(step @ whole @ step, rel=1e-12)
    inverse = np.linalg.inv(whole)
    for part, found in zip(blocks.parts, blocks.covariances(), strict=True):
        where = np.r_[0, part.start : part.stop]
        assert found == pytest.approx(inverse[np.ix_(where, where)], rel=1e-9, abs=1e-15)


def test_reflections_are_eliminated_as_the_whole_matrix_says():
    """Blocks beside a diagonal: step and covariances are those of the dense matrix."""
    rng = np.random.default_rng(2)
    jacobian = rng.normal(size=(40, 12))
    jacobian[:20, 3:5] = jacobian[20:, 5:7] = 0.0  # two stills of two parameters of their own, three shared ones
    for reflection in range(5):  # each in pixels of its own
        mine = np.arange(40) % 5 == reflection
        jacobian[~mine, 7 + reflection] = 0.0
    whole, gradient = jacobian.T @ jacobian, rng.normal(size=12)
    blocks = Blocks(
        0.0, gradient[:7], whole[:3, :3], (whole[3:5, 3:5], whole[5:7, 5:7]), (whole[:3, 3:5], whole[:3, 5:7])
    )
    found = WithReflections(blocks, gradient[7:], np.diag(whole)[7:].copy(), csr_array(whole[:7, 7:]))
    assert found.solve() == pytest.approx(-np.linalg.solve(whole, gradient), rel=1e-9)
    step = rng.normal(size=12)
    assert found.curvature(step) == pytest.approx(step @ whole @ step, rel=1e-12)
    inverse = np.linalg.inv(whole)
    covariances, variances = found.covariances()
    assert variances == pytest.approx(np.diag(inverse)[7:], rel=1e-9)
    for covariance, own in zip(covariances, ([3, 4], [5, 6]), strict=True):
        at = [0, 1, 2, *own]
        assert covariance == pytest.approx(inverse[np.ix_(at, at)], rel=1e-8)


def test_errors_are_as_large_as_their_covariances_say():
    truth = np.array([0.7, 2.0, 0.3, 1.0, -0.5, 3.0, 0.1])
    total = 0.0
    for seed in range(40):
        found = minimise(of_lines(lines_seen(seed)), truth)
        off = found.at - truth
        total += off @ dense(found.blocks) @ off
    # Chi-square of 40 x 7 degrees of freedom: mean 280, standard deviation 23.7; four of these.
    assert abs(total - 280) < 4 * math.sqrt(2 * 280)


def test_bounds_hold_and_the_others_find_their_minimum():
    data = lines_seen()
    rules = Rules.none(7)
    rules.low[0], rules.high[0] = 0.9, 2.0
    found = minimise(of_lines(data), START, rules)
    free = minimise(of_lines(data), START)
    assert found.at[0] == 0.9 and found.bound.tolist() == [True] + [False] * 6
    assert found.converged and found.blocks.value > free.blocks.value
    assert np.abs(found.blocks.gradient[1:]).max() < 1e-2 * np.sqrt(found.blocks.diagonal[1:]).max()


def test_a_start_outside_its_bounds_is_moved_inside():
    rules = Rules.none(7)
    rules.high[1] = 1.0
    assert minimise(of_lines(lines_seen()), START, rules, most_steps=1).at[1] <= 1.0


def test_a_prior_is_one_more_observation():
    rules = Rules.none(7)
    rules.centre[2], rules.sigma[2] = 0.25, 1e-6
    found = minimise(of_lines(lines_seen()), START, rules)
    assert found.at[2] == pytest.approx(0.25, abs=1e-5)
    part = found.blocks.covariances()[0]
    assert math.sqrt(part[2, 2]) == pytest.approx(1e-6, rel=1e-3)


def test_a_restraint_ties_parameters_of_one_still_and_shared_ones():
    at = START.copy()
    blocks = of_lines(lines_seen())(at)
    rules = Rules.none(7)
    tied = replace(rules, restraints=(Restraint((0, 3, 4), (1.0, -2.0, 0.5), 0.3, 0.01),))
    added = tied.add_to(blocks, at)
    direction = np.zeros(7)
    direction[[0, 3, 4]] = 1.0, -2.0, 0.5
    off = (direction @ at - 0.3) / 0.01
    assert added.value == pytest.approx(blocks.value + 0.5 * off**2)
    assert added.gradient == pytest.approx(blocks.gradient + off * direction / 0.01)
    assert dense(added) == pytest.approx(dense(blocks) + np.outer(direction, direction) / 1e-4)


def test_a_restraint_between_own_parameters_of_two_stills_is_refused():
    blocks = of_lines(lines_seen())(START)
    free = Rules.none(7)
    rules = replace(free, restraints=(Restraint((1, 3), (1.0, -1.0), 0.0, 1.0),))
    with pytest.raises(InputError, match="own parameters of two stills"):
        rules.add_to(blocks, START)


def test_what_the_data_do_not_fix_has_no_uncertainty_and_does_not_move():
    """One parameter acts on nothing, and of two that act alike only the sum is known."""

    def evaluate(at: np.ndarray) -> Blocks:
        slopes = np.array([[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]])
        off = slopes @ at - np.array([1.0, 2.0])
        return Blocks(
            0.5 * float(off @ off), slopes.T @ off, np.zeros((0, 0)), (slopes.T @ slopes,), (np.zeros((0, 4)),)
        )

    found = minimise(evaluate, np.zeros(4), tolerance=1e-9)
    assert found.converged
    assert found.at[0] + found.at[1] == pytest.approx(1.0, abs=1e-3)
    assert found.at[2] == pytest.approx(2.0, abs=1e-3) and found.at[3] == 0.0
    variances = np.diag(found.blocks.covariances()[0])
    assert np.isinf(variances[[0, 1, 3]]).all() and variances[2] == pytest.approx(1.0)


def test_steps_into_what_makes_no_sense_are_not_taken():
    """The minimum of -log x + x lies at 1; the first whole step from 3 leads to -3."""

    def evaluate(at: np.ndarray) -> Blocks:
        if at[0] <= 0.0:
            raise InputError("x", "must be positive", at[0])
        return Blocks(
            at[0] - math.log(at[0]), 1.0 - 1.0 / at, np.zeros((0, 0)), (np.diag(at**-2),), (np.zeros((0, 1)),)
        )

    found = minimise(evaluate, np.array([3.0]), tolerance=1e-12)
    assert found.converged and found.at[0] == pytest.approx(1.0, abs=1e-5)


def test_a_start_that_makes_no_sense_is_refused():
    def evaluate(at: np.ndarray) -> Blocks:
        return Blocks(math.nan, at, np.zeros((0, 0)), (np.eye(1),), (np.zeros((0, 1)),))

    with pytest.raises(InputError, match="the start must have a finite likelihood"):
        minimise(evaluate, np.zeros(1))


def test_progress_is_told_after_each_step_that_was_taken():
    told: list[tuple[int, float]] = []
    found = minimise(of_lines(lines_seen()), START, progress=lambda count, value: told.append((count, value)))
    assert [value for _, value in told] == list(found.history[1:])


def test_a_power_is_straight_in_the_logarithm_of_a_positive_parameter():
    """y = s n^6 / 10^6 with n far from where it ends: straight steps overshoot, factors do not."""
    x = np.linspace(0.5, 1.5, 9)

    def evaluate(at: np.ndarray) -> Blocks:
        s, n = at
        model = s * (n / 10.0) ** 6 * np.exp(-((n * x / 10.0) ** 2))
        exact = 3.0 * 1.2**6 * np.exp(-((1.2 * x) ** 2))
        jacobian = np.stack([model / s, model * (6.0 / n - 2.0 * n * (x / 10.0) ** 2)], axis=1)
        blocks = Blocks.empty(2, [])
        return replace(
            blocks,
            value=float(0.5 * np.square(exact - model).sum()),
            gradient=-jacobian.T @ (exact - model),
            shared=jacobian.T @ jacobian,
        )

    rules = Rules.none(2)
    rules.low[:] = 1e-3
    found = minimise(evaluate, np.array([1.0, 4.0]), replace(rules, positive=np.array([True, True])), tolerance=1e-12)
    assert found.converged and found.at == pytest.approx([3.0, 12.0], rel=1e-6)
    assert found.evaluations < minimise(evaluate, np.array([1.0, 4.0]), rules, tolerance=1e-12).evaluations
