"""Several panels in one frame: the kernels take them from the plan, whatever made it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from sample_panels import corner_and_steps, crooked, lit, window

from bragg_numba import Beam, Detector, Experiment, Panel, Sampling, Simulator
from bragg_numba.plan.plan import Plan, make_plan
from bragg_numba.tolerances import OF_BRIGHTEST, RELATIVE, allowed

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


def as_panels(words: str, cuts) -> tuple[Experiment, Experiment]:
    """An experiment, and the same with its detector cut at some columns, ten pixels further apart each."""
    whole = Experiment.from_nanobragg(words)
    d = make_plan(whole).detector
    edges = [0, *cuts, d.n_fast]
    panels = []
    for number, (first, stop) in enumerate(zip(edges[:-1], edges[1:], strict=True)):
        corner = np.array(d.origin) + first * d.pixel_size * np.array(d.fast)
        panels.append(
            Panel(
                n_fast=stop - first,
                n_slow=d.n_slow,
                origin_mm=tuple(1000.0 * corner),
                fast=d.fast,
                slow=d.slow,
                pixel_mm=1000.0 * d.pixel_size,
                first_row=0,
                first_column=first + 10 * number,
            )
        )
    sensor = {name: getattr(whole.detector, name) for name in ("thickness_um", "attenuation_depth_um")}
    cut = Detector(panels=panels, convention=whole.detector.convention, **sensor)
    return whole, whole.replace(detector=cut)


WIDE = "-cell 70 80 90 90 95 90 -misset 10 20 30 -default_F 100 -N 8 -lambda 1.1 -distance 80 -pixel 0.2 -adxv"
SENSOR = "-detector_thick 300 -detector_abs 400"


@pytest.mark.parametrize("precision", ["tile", "float64"])
@pytest.mark.parametrize(
    "extra",
    ["-oversample 1", f"-oversample 2 {SENSOR}", f"-oversample 1 -fidelity physical {SENSOR} -detector_rotx 7"],
)
def test_a_detector_cut_into_panels_renders_the_image_of_the_whole(precision, extra):
    whole, cut = as_panels(f"{WIDE} -detpixels_x 200 -detpixels_y 90 {extra}", (64, 150))

    expected = Simulator(whole, backend="cpu", precision=precision).render()
    image = Simulator(cut, backend="cpu", precision=precision).render()

    assert not image[:, 64:74].any() and not image[:, 160:170].any()
    parts = np.concatenate([image[:, :64], image[:, 74:160], image[:, 170:]], axis=1)
    # The corner of a part is rounded, and with it every place on it.
    np.testing.assert_allclose(parts, expected, rtol=RELATIVE, atol=OF_BRIGHTEST * expected.max())


def test_panels_whose_corners_are_no_rounded_numbers_render_the_very_image_of_the_whole():
    # A pixel of 2^-3 mm: corners, places and steps are exact.
    words = f"{WIDE} -pixel 0.125 -detpixels 192 -Xbeam 12 -Ybeam 12 -distance 64 -oversample 1"
    whole, cut = as_panels(words, (64, 128))

    image = Simulator(cut, backend="cpu", precision="tile").render()

    parts = np.concatenate([image[:, :64], image[:, 74:138], image[:, 148:]], axis=1)
    assert np.array_equal(parts, Simulator(whole, backend="cpu", precision="tile").render())


def direct_sum(experiment: Experiment) -> np.ndarray:
    """Photons of a square crystal of one structure factor, summed over its cells pixel by pixel; 0 in gaps."""
    plan = make_plan(experiment)
    at = experiment.pixel_positions_m()
    r = np.linalg.norm(at, axis=-1)
    area = np.zeros(plan.shape)
    normal = np.zeros((*plan.shape, 3))
    for panel in experiment.detector.panels:
        _, along_fast, along_slow = corner_and_steps(panel)
        across = np.cross(along_fast, along_slow)
        area[window(panel)] = np.linalg.norm(across)
        normal[window(panel)] = across / np.linalg.norm(across)
    solid_angle = area * np.abs((at * normal).sum(axis=-1)) / r**3
    toward, beam = at / r[..., None], plan.sources.incident[0]
    scatter = (toward - beam) / plan.sources.wavelength[0]
    amplitude = np.ones(plan.shape, complex)
    for axis, n in enumerate(experiment.crystal.cell_counts):
        turns = scatter @ plan.cells[0][3 * axis : 3 * axis + 3]
        amplitude = amplitude * np.exp(2j * np.pi * turns[..., None] * np.arange(n)).sum(axis=-1)
    cosine = toward @ beam
    polarization = 0.5 * (1.0 + cosine**2)
    factor = 7.94079248018965e-30 * experiment.beam.photons_per_m2 * experiment.structure_factors.default_F**2
    return np.nan_to_num(factor * np.abs(amplitude) ** 2 * polarization * solid_angle)


@pytest.mark.parametrize("precision", ["tile", "float64"])
def test_crooked_panels_render_what_a_sum_over_cells_says(precision):
    experiment = lit(crooked(), beam=Beam(wavelength_A=1.1))

    simulator = Simulator(experiment, backend="cpu", precision=precision)
    image = simulator.render()

    expected = direct_sum(experiment)
    assert simulator.precision == precision
    assert (np.abs(image - expected) <= allowed(expected, expected.max())).all()
    lies = ~np.isnan(experiment.pixel_positions_m()[..., 0])
    assert (image[lies] > 0).all() and not image[~lies].any()
    assert simulator.statistics.pixels == lies.sum()
    assert simulator.statistics.mean == pytest.approx(expected[lies].mean(), rel=1e-5)


def test_the_solid_angle_of_crooked_pixels_is_that_of_their_outlines():
    experiment = lit(crooked())
    total = 0.0
    for panel in experiment.detector.panels:
        corner, along_fast, along_slow = corner_and_steps(panel)
        rows, columns = np.mgrid[: panel.n_slow + 1, : panel.n_fast + 1]
        at = corner + columns[..., None] * along_fast + rows[..., None] * along_slow
        a, b, c, d = at[:-1, :-1], at[:-1, 1:], at[1:, 1:], at[1:, :-1]
        total += triangles(a, b, c).sum() + triangles(a, c, d).sum()

    # A pixel is small for its distance: its centre stands for all of it to the square of 0.3 / 60.
    assert Simulator(experiment, backend="cpu").solid_angle() == pytest.approx(total, rel=1e-5)


def triangles(a, b, c):
    """Solid angles of flat triangles seen from the origin (van Oosterom and Strackee)."""
    x, y, z = (np.linalg.norm(v, axis=-1) for v in (a, b, c))
    dot = lambda u, v: (u * v).sum(axis=-1)  # noqa: E731
    volume = np.abs(dot(a, np.cross(b, c)))
    return 2.0 * np.arctan2(volume, x * y * z + dot(a, b) * z + dot(a, c) * y + dot(b, c) * x)


@pytest.mark.parametrize("precision", ["tile", "float64"])
def test_regions_masks_and_bad_pixels_count_in_the_image(precision):
    detector = crooked()
    everywhere = Simulator(lit(detector), backend="cpu", precision=precision).render()
    mask = np.random.default_rng(1).random(detector.shape) < 0.8
    panels = list(detector.panels)
    panels[2] = panels[2].replace(bad=[(5, 20, 3, 9), (0, 0, 0, 25)])
    panels[1] = panels[1].replace(mask=np.indices((33, 37)).sum(axis=0) % 3 > 0)
    picky = detector.replace(panels=panels, mask=mask)
    wanted = mask & ~np.isnan(lit(detector).pixel_positions_m()[..., 0])
    wanted[43 + 3 : 43 + 10, 3 + 5 : 3 + 21] = wanted[43:69, 3] = False
    wanted[window(panels[1])] &= panels[1].mask
    wanted[:7] = wanted[61:] = wanted[:, :11] = wanted[:, 100:] = False

    simulator = Simulator(
        lit(picky, sampling=Sampling(oversample=1, roi=(11, 99, 7, 60))), backend="cpu", precision=precision
    )
    image = simulator.render()

    assert np.array_equal(image, np.where(wanted, everywhere, 0.0))
    assert simulator.statistics.pixels == wanted.sum()
    rows = np.concatenate([tile.copy() for _, tile in simulator.tiles(9)])
    assert np.array_equal(rows, image)


def test_every_panel_may_have_its_own_sensor():
    detector = crooked(thickness_um=300, attenuation_depth_um=500, thickness_steps=3)
    panels = list(detector.panels)
    panels[0] = panels[0].replace(thickness_um=0)
    panels[1] = panels[1].replace(thickness_um=450, attenuation_depth_um=200)
    own = detector.replace(panels=panels)
    images = {}
    for name, one in (("own", own), ("alike", detector), ("none", crooked())):
        for precision in ("tile", "float64"):
            simulator = Simulator(lit(one, fidelity="physical"), backend="cpu", precision=precision)
            images[name, precision] = simulator.render()
            assert simulator.precision == precision

    image = images["own", "tile"]
    assert np.array_equal(image[window(panels[0])], images["none", "tile"][window(panels[0])])
    assert np.array_equal(image[window(panels[2])], images["alike", "tile"][window(panels[2])])
    assert (image[window(panels[1])] > 1.5 * images["alike", "tile"][window(panels[1])]).mean() > 0.5
    limit = allowed(images["own", "float64"], images["own", "float64"].max())
    assert (np.abs(image - images["own", "float64"]) <= limit).all()


def test_a_pixel_of_any_panel_is_traced_to_its_rendered_value():
    simulator = Simulator(lit(crooked()), backend="cpu", precision="float64")
    image = simulator.render()
    for panel in simulator.experiment.detector.panels:
        slow, fast = panel.first_row + 5, panel.first_column + 7
        trace = simulator.trace(slow, fast)
        assert trace.value == image[slow, fast]
        assert trace["panel"] == panel.name
        assert f"TRACE_C:panel={panel.name}" in trace.text()

    nowhere = simulator.trace(0, 72)
    assert nowhere.value == 0.0 and "lies on no panel" in nowhere.notes[0]


@pytest.mark.parametrize("size", [(41, 70), (16, 6), (130, 3), (8, 130), (3, 200), (9, 90), (200, 34), (1, 1)])
def test_panels_of_any_size_are_filled_by_tiles_that_fit_them(size):
    n_slow, n_fast = size
    panel = Panel(
        n_fast=n_fast, n_slow=n_slow, origin_mm=(-8, 9, 50), fast=(1, 0, 0.1), slow=(0, -1, 0.1), pixel_mm=(0.2, 0.1)
    )
    experiment = lit(Detector(panels=[panel], convention="adxv"), sampling=Sampling(oversample=2))

    images = {p: Simulator(experiment, backend="cpu", precision=p).render() for p in ("tile", "float64")}

    assert (images["tile"] > 0).all()
    limit = allowed(images["float64"], images["float64"].max())
    assert (np.abs(images["tile"] - images["float64"]) <= limit).all()
