"""Detectors made of panels: what is refused, how they are kept, where their pixels are."""

from __future__ import annotations

import numpy as np
import pytest
from bragg_numba.kernels import physics
from bragg_numba.kernels._jit import uncompiled
from sample_panels import corner_and_steps, crooked, lit, window

import bragg_numba
from bragg_numba import Beam, Detector, Experiment, InputError, Panel
from bragg_numba.experiment.placing import place_detector
from bragg_numba.plan.plan import make_plan


def panel(**fields) -> Panel:
    given = {"n_fast": 8, "n_slow": 5, "origin_mm": (-1, 1, 100), "fast": (1, 0, 0), "slow": (0, -1, 0), **fields}
    return Panel(**given)


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"n_fast": 0}, "n_fast"),
        ({"n_slow": 2.5}, "n_slow"),
        ({"origin_mm": (0, 0, np.nan)}, "origin_mm"),
        ({"origin_mm": (0, 0)}, "origin_mm"),
        ({"fast": (0, 0, 0)}, "fast"),
        ({"fast": (0, 2, 1e-4)}, "fast"),
        ({"slow": (np.inf, 0, 0)}, "slow"),
        ({"pixel_mm": 0}, "pixel_mm"),
        ({"pixel_mm": (0.1, 0.1, 0.1)}, "pixel_mm"),
        ({"first_row": -1}, "first_row"),
        ({"thickness_um": -1}, "thickness_um"),
        ({"bad": (0, 1, 2, 3)}, "bad"),
        ({"bad": ((3, 2, 0, 0),)}, "bad"),
        ({"bad": ((0, 8, 0, 0),)}, "bad"),
        ({"mask": np.ones((8, 5))}, "mask"),
        ({"name": " "}, "name"),
    ],
)
def test_a_panel_that_cannot_be_is_refused_by_the_name_of_the_field(fields, name):
    with pytest.raises(InputError) as refused:
        panel(**fields)

    assert name in refused.value.name


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"panels": ()}, "1 to"),
        ({"panels": panel()}, "list of Panel"),
        ({"panels": [panel(), 3]}, r"panels\[1\]"),
        ({"panels": [panel(name="a"), panel(name="a")]}, "different names"),
        ({"panels": [panel(first_row=0), panel(first_row=4)]}, "share pixels.*'p0' and 'p1'"),
        ({"panels": [panel(), panel()], "n_slow": 9}, "hold all panels, 10"),
        ({"panels": [panel()], "distance_mm": 90}, "no meaning beside panels"),
        ({"panels": [panel()], "beam_x_mm": 3}, "no meaning beside panels"),
        ({"panels": [panel()], "rotation_deg": (1, 0, 0)}, "no meaning beside panels"),
        ({"panels": [panel()], "curved": True}, "no meaning beside panels"),
    ],
)
def test_panels_that_do_not_fit_together_are_refused(fields, words):
    with pytest.raises(InputError, match=words):
        Detector(**fields)


def test_panels_without_a_place_are_stacked_along_the_rows():
    detector = Detector(panels=[panel(), panel(n_fast=11), panel(first_column=8, first_row=0)])

    places = [(one.name, one.first_row, one.first_column) for one in detector.panels]
    assert places == [("p0", 0, 0), ("p1", 5, 0), ("p2", 0, 8)]
    assert detector.shape == (10, 16)
    assert detector.replace(n_fast=20).shape == (10, 20)


def test_panels_survive_json_and_repr():
    bad = panel(bad=[(0, 1, 2, 3)], mask=np.arange(40).reshape(5, 8) % 3 > 0, thickness_um=320)
    experiment = lit(Detector(panels=[panel(), bad]))

    again = Experiment.from_json(experiment.to_json())

    assert again == experiment
    assert np.array_equal(again.detector.panels[1].good, bad.good)
    plain = Detector(panels=[panel(pixel_mm=0.2)])
    assert eval(repr(plain), vars(bragg_numba)) == plain
    assert "2 of Panel, p0 to p1" in str(experiment)


def test_every_pixel_is_where_its_panel_has_it():
    experiment = lit(crooked())

    positions = experiment.pixel_positions_m()

    assert positions.shape == (*experiment.detector.shape, 3) and positions.dtype == np.float64
    expected = np.full(positions.shape, np.nan)
    for one in experiment.detector.panels:
        corner, along_fast, along_slow = corner_and_steps(one)
        slow, fast = np.mgrid[: one.n_slow, : one.n_fast] + 0.5
        expected[window(one)] = corner + fast[..., None] * along_fast + slow[..., None] * along_slow
    assert np.array_equal(np.isnan(positions), np.isnan(expected))
    assert np.isnan(positions[0, 72]).all()
    np.testing.assert_allclose(positions, expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize("words", ["-twotheta 12 -xds", "-curved_det -mosflm", "-detector_rotx 5 -curved_det -adxv"])
def test_the_pixels_of_a_single_plane_are_where_the_kernels_have_them(words):
    experiment = Experiment.from_nanobragg(f"-cell 50 -default_F 1 -N 3 -oversample 1 -detpixels 9 -pixel 2 {words}")
    plan = make_plan(experiment)
    place, g = uncompiled(physics.curved_position if plan.panels[0].curved else physics.flat_position), plan.panels[0]

    positions = experiment.pixel_positions_m()

    expected = [[place(g, (f + 0.5) * 0.002, (s + 0.5) * 0.002, 0.0) for f in range(9)] for s in range(9)]
    np.testing.assert_allclose(positions, expected, rtol=0, atol=1e-15)


def test_normals_point_away_from_the_crystal_whichever_way_the_axes_turn():
    for placed in place_detector(lit(crooked())).panels:
        assert (
            np.dot(placed.normal, placed.origin) == pytest.approx(placed.close_distance) and placed.close_distance > 0
        )
    left_handed = place_detector(lit(Detector(panels=[panel(slow=(0, 1, 0))], convention="adxv"))).panels[0]
    assert left_handed.normal == (0.0, 0.0, 1.0)


def test_a_plane_through_the_crystal_is_refused():
    with pytest.raises(InputError, match=r"Panel 'p1' must not have its plane through the crystal"):
        make_plan(lit(Detector(panels=[panel(), panel(origin_mm=(5, 5, 0))])))


@pytest.mark.parametrize("convention", ["mosflm", "denzo", "adxv", "xds", "dials"])
def test_one_panel_that_is_the_whole_image_has_a_beam_centre(convention):
    words = f"-cell 50 -default_F 1 -N 3 -detpixels_x 40 -detpixels_y 30 -pixel 0.3 -Xbeam 4 -Ybeam 5 -{convention}"
    whole = Experiment.from_nanobragg(f"{words} -detector_rotx 3 -detector_rotz 20")
    d = place_detector(whole)
    one = Panel(
        n_fast=40, n_slow=30, origin_mm=tuple(1000 * x for x in d.origin), fast=d.fast, slow=d.slow, pixel_mm=0.3
    )

    placed = place_detector(whole.replace(detector=Detector(panels=[one], convention=convention)))

    assert placed.is_single
    for field in ("beam_fast", "beam_slow", "close_fast", "close_slow", "true_distance", "size_fast", "org_px"):
        assert getattr(placed, field) == pytest.approx(getattr(d, field), rel=1e-12)
    # What the convention calls them: of a plane that is not tilted.
    flat = place_detector(Experiment.from_nanobragg(words))
    one = one.replace(origin_mm=tuple(1000 * x for x in flat.origin), fast=flat.fast, slow=flat.slow)
    placed = place_detector(whole.replace(detector=Detector(panels=[one], convention=convention)))
    assert (placed.beam_x, placed.beam_y) == pytest.approx((0.004, 0.005), rel=1e-12)


def test_several_panels_have_no_beam_centre():
    placed = place_detector(lit(crooked(), beam=Beam()))

    assert not placed.is_single and np.isnan(placed.beam_fast)
    with pytest.raises(InputError, match=r"a header needs a detector of one panel with square pixels, got '4 panels'"):
        placed.require_single("a header")
