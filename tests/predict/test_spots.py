"""The table of spots against the rendered image."""

import numpy as np
import pytest
from sample_panels import crooked, lit

from bragg_numba import Crystal, Detector, Experiment, InputError, Panel, Sampling, Simulator
from bragg_numba.plan.plan import make_plan
from bragg_numba.predict.spots import spot_table

BASE = (
    "-cell 50 60 70 80 95 105 -default_F 100 -lambda 1 -distance 100 -misset 10 20 30 -fluence 1e27 "
    "-pixel 0.06 -detpixels_x 1000 -detpixels_y 960 "
)

#: Half the side of the box around an isolated spot, pixels, and how far its neighbours must be.
HALF, APART = 14, 30


def _isolated(table, shape, n=10, half=HALF, apart_by=APART):
    """The brightest spots, at least 30 % on the sphere, whose neighbours within some pixels are below 0.5 %."""
    found = []
    for spot in table[np.argsort(-table["photons"])]:
        apart = np.hypot(table["slow"] - spot["slow"], table["fast"] - spot["fast"])
        near = (apart < apart_by) & (apart > 0)
        inside = all(half < spot[axis] < size - half - 1 for axis, size in zip(("slow", "fast"), shape, strict=True))
        if spot["partiality"] > 0.3 and inside and not (table["photons"][near] > 0.005 * spot["photons"]).any():
            found.append(spot)
    return found[:n]


def _box(image, spot, half=HALF):
    """Centroid (slow, fast) and photons of the pixels around a spot."""
    slow, fast = int(spot["slow"]), int(spot["fast"])
    part = image[slow - half : slow + half + 1, fast - half : fast + half + 1].astype(np.float64)
    at = np.arange(-half, half + 1) + 0.5
    total = part.sum()
    return slow + (part.sum(axis=1) @ at) / total, fast + (part.sum(axis=0) @ at) / total, total


CASES = {
    "square": "-N 20 -oversample 4",
    "square, unequal": "-Na 15 -Nb 25 -Nc 20 -oversample 4",
    "round": "-N 20 -oversample 4 -round_xtal",
    "tilted": "-N 20 -oversample 4 -twotheta 12 -detector_roty 5",
    "xds frame": "-N 20 -oversample 4 -xds -twotheta 8",
    "sweep": "-N 20 -oversample 3 -phi 40 -osc 0.3 -phisteps 3",
    "mosaic and divergent": "-N 20 -oversample 3 -mosaic_spread 0.2 -mosaic_domains 4 -hdivrange 0.5 -hdivsteps 2",
    "spectrum": "-N 20 -oversample 3 -dispersion 0.2 -dispsteps 3",
    "curved": "-N 20 -oversample 4 -curved_det",
}


@pytest.mark.parametrize("words", CASES.values(), ids=CASES.keys())
@pytest.mark.parametrize("fidelity", ["nanobragg", "physical"])
def test_isolated_spots_lie_where_the_table_says(words, fidelity):
    experiment = Experiment.from_nanobragg(BASE + words).replace(fidelity=fidelity)
    simulator = Simulator(experiment)
    table = spot_table(simulator.plan, 1e-3)
    spots = _isolated(table, simulator.shape)
    assert len(spots) >= 3
    image = simulator.render()
    for spot in spots:
        slow, fast, photons = _box(image, spot)
        assert abs(slow - spot["slow"]) < 0.1
        assert abs(fast - spot["fast"]) < 0.1
        # The box cuts tails off a square crystal's spots and catches those of its neighbours: a sinc^2 beyond
        # m fringes to both sides holds 1 / (pi^2 m), m about 5 here, along each of two streaks.
        assert photons == pytest.approx(spot["photons"], rel=2 / (np.pi**2 * 5))


@pytest.mark.parametrize("shape", ["-gauss_xtal", "-tophat_spots"])
def test_spots_of_compact_shapes_hold_the_photons_that_the_table_says(shape):
    # Fidelity physical: like the C program's, nanobragg's spots of these shapes are far smaller than a pixel.
    experiment = Experiment.from_nanobragg(BASE + f"-N 12 -oversample 10 {shape}").replace(fidelity="physical")
    simulator = Simulator(experiment)
    table = spot_table(simulator.plan, 1e-3)
    spots = _isolated(table, simulator.shape)
    assert len(spots) >= 3
    image = simulator.render()
    for spot in spots:
        slow, fast, photons = _box(image, spot)
        assert np.hypot(slow - spot["slow"], fast - spot["fast"]) < 0.1
        # The plane stands for a sphere: relative error of the order of (spot size / radius) = 1/(12 * 50).
        # Top hats have an edge, of which 16 sub-pixels see 2 %.
        assert photons == pytest.approx(spot["photons"], rel=0.02 if "tophat" in shape else 0.005)


@pytest.mark.parametrize("fidelity", ["nanobragg", "physical"])
def test_a_sensor_captures_what_the_table_says(fidelity):
    words = BASE + "-N 20 -oversample 3 -distance 80"
    sensor = "-detector_thick 300 -detector_abs 200 -detector_thicksteps 3"
    simulator = Simulator(Experiment.from_nanobragg(f"{words} {sensor}").replace(fidelity=fidelity))
    table = spot_table(simulator.plan, 1e-3)
    spots = _isolated(table, simulator.shape, 5)
    assert len(spots) == 5
    image = simulator.render()
    for spot in spots:
        slow, fast, photons = _box(image, spot)
        assert np.hypot(slow - spot["slow"], fast - spot["fast"]) < 0.1
        assert photons == pytest.approx(spot["photons"], rel=0.03)
    if fidelity == "physical":
        bare = spot_table(Simulator(Experiment.from_nanobragg(words).replace(fidelity=fidelity)).plan, 1e-3)
        brightest = table[np.argmax(table["photons"])]
        (same,) = bare[(bare["h"] == brightest["h"]) & (bare["k"] == brightest["k"]) & (bare["l"] == brightest["l"])]
        # Along the beam 1 - exp(-300 / 200); in the corners, 42 mm off at 80 mm, the path is 1 / cos(0.48) longer.
        assert 1 - np.exp(-1.5) < brightest["photons"] / same["photons"] < 1 - np.exp(-1.5 / np.cos(0.48))


def test_the_spots_together_hold_the_photons_of_the_image():
    simulator = Simulator(Experiment.from_nanobragg(BASE + "-N 12 -oversample 4"))
    table = spot_table(simulator.plan, 1e-9)
    # What is missing are spots more than 4 fringes off, each below 1/(2 pi^2 16) of its height: 5 % in all.
    assert 0.9 < table["photons"].sum() / simulator.render().sum(dtype=np.float64) < 1.02


def test_photons_of_every_spot_grow_with_the_square_of_the_amplitude():
    tables = []
    for f in (1, 2):
        plan = Simulator(Experiment.from_nanobragg(BASE.replace("F 100", f"F {100 * f}") + "-N 20")).plan
        tables.append(spot_table(plan, 1e-3 * f**2))
    once, twice = tables
    assert len(once) > 100
    for name in ("h", "k", "l"):
        np.testing.assert_array_equal(twice[name], once[name])
    # A power of two is exact in every product and sum.
    np.testing.assert_array_equal(twice["photons"], 4 * once["photons"])


def test_partiality_is_one_on_the_sphere_and_falls_away_from_it():
    plan = Simulator(Experiment.from_nanobragg(BASE + "-N 20")).plan
    table = spot_table(plan, 1e-3)
    assert table["partiality"].max() <= 1.0 + 1e-6
    near = np.abs(table["excitation_error_per_A"]) < 5e-5
    far = np.abs(table["excitation_error_per_A"]) > 8e-4
    assert table["partiality"][near].min() > 0.95
    assert table["partiality"][far].max() < 0.4


def test_the_excitation_error_is_the_distance_from_the_ewald_sphere():
    plan = Simulator(Experiment.from_nanobragg(BASE + "-N 20")).plan
    table = spot_table(plan, 0.1)
    stars = np.linalg.inv([plan.cell.a, plan.cell.b, plan.cell.c])
    q = np.stack([table["h"], table["k"], table["l"]], axis=1) @ stars.T
    distance = np.linalg.norm(q + np.array(plan.detector.beam) / 1.0, axis=1) - 1.0
    # float32 in the table
    assert np.abs(distance - table["excitation_error_per_A"]).max() < 1e-9
    length = np.linalg.norm(q, axis=1)
    seen = length > 0
    assert np.allclose(1 / length[seen], table["resolution_A"][seen], rtol=2**-22)


def test_masked_and_outside_spots_are_left_out():
    experiment = Experiment.from_nanobragg(BASE + "-N 20 -roi 100 299 50 349")
    everything = spot_table(Simulator(Experiment.from_nanobragg(BASE + "-N 20")).plan, 0.1)
    inside = (everything["fast"] >= 100) & (everything["fast"] < 300)
    inside &= (everything["slow"] >= 50) & (everything["slow"] < 350)
    assert 0 < inside.sum() < len(everything)
    assert np.array_equal(spot_table(Simulator(experiment).plan, 0.1), everything[inside])


@pytest.mark.parametrize(
    "extra", ["", "-mosaic_spread 0.3 -mosaic_domains 4 -hdivrange 0.5 -hdivsteps 2", "-gauss_xtal"]
)
def test_spots_of_panels_are_those_of_the_whole_where_their_panels_lie_in_the_image(extra):
    whole = Experiment.from_nanobragg(BASE + f"-N 20 {extra} -twotheta 8 -pivot sample")
    d = make_plan(whole).detector
    corner, fast, slow = (np.array(v) for v in (d.origin, d.fast, d.slow))
    panels, places = [], []
    for top, bottom, row in ((0, 140, 7), (140, d.n_slow, 155)):
        for left, right, column in ((0, 90, 3), (90, 251, 99), (251, d.n_fast, 270)):
            at = 1000.0 * (corner + d.pixel_size * (left * fast + top * slow))
            panels.append(
                Panel(
                    n_fast=right - left,
                    n_slow=bottom - top,
                    origin_mm=tuple(at),
                    fast=d.fast,
                    slow=d.slow,
                    pixel_mm=1000.0 * d.pixel_size,
                    first_row=row,
                    first_column=column,
                )
            )
            places.append((top, bottom, left, right, row - top, column - left))
    everything = spot_table(make_plan(whole), 1e-2)

    table = spot_table(make_plan(whole.replace(detector=Detector(panels=panels))), 1e-2)

    assert len(table) == len(everything) > 20
    assert set(everything["panel"]) == {0} and len(set(table["panel"])) == 6
    assert (np.diff(table["panel"]) >= 0).all()
    for number, (top, bottom, left, right, down, across) in enumerate(places):
        inside = (everything["slow"] >= top) & (everything["slow"] < bottom)
        expected = everything[inside & (everything["fast"] >= left) & (everything["fast"] < right)]
        found = table[table["panel"] == number]
        for name in ("h", "k", "l"):
            assert np.array_equal(found[name], expected[name])
        np.testing.assert_allclose(found["slow"] - down, expected["slow"], rtol=0, atol=1e-6)
        np.testing.assert_allclose(found["fast"] - across, expected["fast"], rtol=0, atol=1e-6)
        np.testing.assert_allclose(found["photons"], expected["photons"], rtol=1e-9)


def fine(detector):
    """The same panels with five times as many pixels along each edge."""
    panels = []
    for panel in detector.panels:
        sizes = {name: 5 * getattr(panel, name) for name in ("n_fast", "n_slow", "first_row", "first_column")}
        panels.append(panel.replace(**sizes, pixel_mm=tuple(p / 5 for p in panel.pixel_mm)))
    return detector.replace(panels=panels)


def test_spots_lie_where_crooked_panels_show_them():
    detector = fine(crooked(seed=5))
    crystal = Crystal(cell=(50, 60, 70, 90, 95, 90), misset_deg=(10, 20, 30), cell_counts=(20, 20, 20))
    simulator = Simulator(lit(detector, crystal=crystal, sampling=Sampling(oversample=3)), backend="cpu")
    table = spot_table(simulator.plan, 1e-3)
    image = simulator.render()
    seen = 0
    for spot in _isolated(table, simulator.shape, 40, 10, 22):
        panel = detector.panels[spot["panel"]]
        slow, fast = int(spot["slow"]), int(spot["fast"])
        rows = panel.first_row + 10 < slow < panel.first_row + panel.n_slow - 11
        if not (rows and panel.first_column + 10 < fast < panel.first_column + panel.n_fast - 11):
            continue
        seen += 1
        found = _box(image, spot, 10)
        assert np.hypot(found[0] - spot["slow"], found[1] - spot["fast"]) < 0.15
        assert found[2] == pytest.approx(spot["photons"], rel=0.06)
    assert seen >= 3


def test_running_products_are_refused():
    experiment = Experiment.from_nanobragg(BASE + "-N 20 -oversample_polar")
    with pytest.raises(InputError, match="cannot be predicted"):
        spot_table(Simulator(experiment).plan)
