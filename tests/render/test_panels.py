"""Several panels in one frame: the kernels take them from the plan, whatever made it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from bragg_numba import Experiment, Simulator
from bragg_numba.plan.plan import Plan, make_plan
from bragg_numba.tolerances import OF_BRIGHTEST, RELATIVE

LINE = "-cell 70 80 90 90 95 90 -misset 10 20 30 -default_F 100 -N 8 -lambda 1.1 -distance 80 -pixel 0.2 -oversample 1"
FRAME = "-detpixels_x 150 -detpixels_y 90"


def cut(plan: Plan, column: int) -> Plan:
    """The same detector as two panels side by side."""
    whole = plan.panels[0]
    shift = column * whole.pitch_fast
    moved = {f"origin_{x}": getattr(whole, f"origin_{x}") + shift * getattr(whole, f"fast_{x}") for x in "xyz"}
    left = whole._replace(n_fast=column)
    right = whole._replace(n_fast=whole.n_fast - column, first_column=column, **moved)
    return dataclasses.replace(plan, panels=(left, right))


@pytest.mark.parametrize("precision", ["tile", "float64"])
@pytest.mark.parametrize("extra", ["", "-roi 20 120 10 70", "-detector_thick 300 -detector_abs 400"])
def test_two_halves_of_a_detector_render_what_the_whole_does(precision, extra):
    experiment = Experiment.from_nanobragg(f"{LINE} {FRAME} {extra}")
    plan = make_plan(experiment)
    whole = Simulator(experiment, backend="cpu", precision=precision)

    halves = Simulator(experiment, backend="cpu", precision=precision, plan=cut(plan, 83))

    expected = whole.render()
    assert expected.max() > 0
    np.testing.assert_allclose(halves.render(), expected, rtol=RELATIVE, atol=OF_BRIGHTEST * expected.max())
    assert halves.solid_angle() == pytest.approx(whole.solid_angle(), rel=1e-12)


def test_what_no_panel_covers_stays_dark():
    experiment = Experiment.from_nanobragg(f"{LINE} {FRAME}")
    plan = cut(make_plan(experiment), 80)
    left, right = plan.panels
    gap = dataclasses.replace(plan, panels=(left._replace(n_fast=70), right))

    image = Simulator(experiment, backend="cpu", plan=gap).render()

    assert not image[:, 70:80].any()
    assert (image[:, :70] > 0).all() and (image[:, 80:] > 0).all()


def test_a_pixel_of_the_second_panel_is_traced_to_its_rendered_value():
    experiment = Experiment.from_nanobragg(f"{LINE} {FRAME}")
    simulator = Simulator(experiment, backend="cpu", precision="float64", plan=cut(make_plan(experiment), 83))
    image = simulator.render()

    assert simulator.trace(40, 100).value == image[40, 100]
