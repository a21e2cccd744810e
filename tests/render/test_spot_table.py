"""The truth that comes from the rendering pass: what each spot brings to the pixels, and whose pixel each is."""

from __future__ import annotations

import numpy as np
import pytest
from sample_panels import crooked, lit
from test_engine import VARIANTS, by_spots, crystal, with_sampling

from bragg_numba import Crystal, Experiment, InputError, Sampling, Simulator
from bragg_numba.predict.spots import spot_table

#: Spots of a few pixels, well sampled, and far enough apart.
FINE = (
    "-cell 50 60 70 80 95 105 -default_F 100 -lambda 1 -distance 100 -misset 10 20 30 -fluence 1e27 "
    "-pixel 0.06 -detpixels_x 640 -detpixels_y 600 -N 12 -oversample 2 -gauss_xtal -dispersion 0.2 -dispsteps 3"
)

#: Half the side of the box around an isolated spot, pixels, and how far its neighbours must be.
HALF, APART = 9, 19


@pytest.fixture(scope="module")
def fine() -> Simulator:
    experiment = Experiment.from_nanobragg(FINE).replace(fidelity="physical")
    simulator = Simulator(with_sampling(experiment, engine="spots"), backend="cpu", threads=1)
    simulator.render()
    return simulator


def isolated(table, shape):
    """Numbers of the spots with at least 10 photons that have next to nothing beside them, and do not meet an edge."""
    found = []
    for number, spot in enumerate(table):
        apart = np.maximum(np.abs(table["slow"] - spot["slow"]), np.abs(table["fast"] - spot["fast"]))
        inside = all(HALF < spot[axis] < size - HALF - 1 for axis, size in zip(("slow", "fast"), shape, strict=True))
        beside = (apart < APART) & (apart > 0.0)
        if spot["photons"] > 10.0 and inside and not (table["photons"][beside] > 1e-7 * spot["photons"]).any():
            found.append(number)
    return found


def box(spot):
    slow, fast = int(spot["slow"]), int(spot["fast"])
    return slice(slow - HALF, slow + HALF + 1), slice(fast - HALF, fast + HALF + 1)


def masked(experiment):
    """The same with a region of interest that cuts blocks and spots, and a mask that takes pixels out of both."""
    mask = np.random.default_rng(3).random(experiment.detector.shape) > 0.2
    experiment = experiment.replace(detector=experiment.detector.replace(mask=mask))
    return with_sampling(experiment, roi=(9, 140, 5, 77))


CASES = {
    "gauss": lambda f: crystal("gauss", f),
    "gauss, masked": lambda f: masked(crystal("gauss", f)),
    "square, masked": lambda f: masked(crystal("square", f)),
    "sensor": lambda f: VARIANTS["a sensor"](crystal("gauss", f)),
    "divergence": lambda f: VARIANTS["divergence"](crystal("gauss", f)),
    "resolution limit": lambda f: VARIANTS["a resolution limit"](crystal("gauss", f)),
    "oversampled": lambda f: VARIANTS["oversampled"](crystal("square", f)),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("fidelity", ["nanobragg", "physical"])
def test_the_spots_together_hold_the_photons_of_the_image(case, fidelity):
    simulator = by_spots(CASES[case](fidelity), threads=1)
    image = simulator.render()

    table = simulator.spot_table(0.0)

    assert simulator.truth == "summed" and image.max() > 1.0
    # Pixels are float32: each is right to 2^-24, and spots are float64.
    assert table["photons"].sum() == pytest.approx(image.sum(dtype=np.float64), rel=2**-23)
    slow, fast = np.indices(image.shape) + 0.5
    for name, at in (("slow", slow), ("fast", fast)):
        assert (table["photons"] * table[name]).sum() == pytest.approx((image * at).sum(), rel=2**-22)


def test_an_isolated_spot_is_what_lies_on_the_detector(fine):
    table, image = fine.spot_table(0.0), fine.render().astype(np.float64)
    numbers = isolated(table, image.shape)

    assert len(numbers) >= 3
    for number in numbers:
        spot, part = table[number], image[box(table[number])]
        slow, fast = (np.arange(s.start, s.stop) + 0.5 for s in box(spot))
        assert part.sum() == pytest.approx(spot["photons"], rel=1e-6)
        assert part.sum(axis=1) @ slow / part.sum() == pytest.approx(spot["slow"], abs=1e-4)
        assert part.sum(axis=0) @ fast / part.sum() == pytest.approx(spot["fast"], abs=1e-4)


def test_summed_and_predicted_agree_where_spots_are_whole_and_well_sampled(fine):
    summed, predicted = fine.spot_table(1e-6), spot_table(fine.plan, 1e-6)
    key = {tuple(row): number for number, row in enumerate(summed[["h", "k", "l"]].tolist())}
    seen = 0
    for row in predicted:
        whole = all(HALF < row[axis] < size - HALF for axis, size in zip(("slow", "fast"), fine.shape, strict=True))
        if not whole or row["partiality"] < 0.1 or not np.isfinite(row["resolution_A"]):
            continue
        found, seen = summed[key[row["h"], row["k"], row["l"]]], seen + 1
        # A sphere is no plane: relative error of the order of the spot over its radius, 1 / (12 * 50).
        assert found["photons"] == pytest.approx(row["photons"], rel=3e-3)
        assert found["partiality"] == pytest.approx(row["partiality"], rel=6e-3)
        assert np.hypot(found["slow"] - row["slow"], found["fast"] - row["fast"]) < 0.01
        assert found["excitation_error_per_A"] == row["excitation_error_per_A"]
        assert found["resolution_A"] == row["resolution_A"]
    assert seen >= 10
    assert np.all(np.diff(summed["panel"]) >= 0)


@pytest.mark.parametrize(("fidelity", "shape"), [("physical", "gauss"), ("nanobragg", "square")])
def test_a_table_does_not_depend_on_who_renders_what(fidelity, shape):
    experiment = masked(crystal(shape, fidelity))
    one = by_spots(experiment, threads=1)
    one.render()
    expected = one.spot_table(0.0)
    two = by_spots(experiment, threads=2)
    two.render()

    assert len(expected) > 20
    assert np.array_equal(two.spot_table(0.0), expected)
    for rows in (17, 64):
        for _ in one.tiles(rows):
            pass
        assert np.array_equal(one.spot_table(0.0), expected)


def test_a_panel_has_the_photons_that_fall_on_it():
    detector = crooked(seed=5)
    crystal_of_panels = Crystal(
        cell=(50, 60, 70, 90, 95, 90), misset_deg=(10, 20, 30), cell_counts=(12, 12, 12), shape="gauss"
    )
    sampling = Sampling(oversample=3, engine="spots")
    experiment = lit(detector, crystal=crystal_of_panels, sampling=sampling).replace(fidelity="physical")
    simulator = Simulator(experiment, backend="cpu", threads=1)
    image = simulator.render()

    table = simulator.spot_table(0.0)

    assert len(set(table["panel"])) > 1
    for number, g in enumerate(simulator.plan.panels):
        here = image[g.first_row : g.first_row + g.n_slow, g.first_column : g.first_column + g.n_fast]
        own = table[table["panel"] == number]
        assert own["photons"].sum() == pytest.approx(here.sum(dtype=np.float64), rel=2**-22)
        assert ((own["slow"] > g.first_row) & (own["slow"] < g.first_row + g.n_slow)).all()


def test_water_is_of_no_spot():
    dry, wet = (by_spots(e, threads=1) for e in (crystal("gauss"), VARIANTS["water"](crystal("gauss"))))
    dry.render()
    wet.render()

    assert np.array_equal(dry.spot_table(0.0), wet.spot_table(0.0))


def test_pixels_predict_and_spots_must_be_rendered():
    experiment = crystal("gauss")
    pixels = Simulator(with_sampling(experiment, engine="pixels"), backend="cpu")

    assert pixels.truth == "predicted" and pixels.describe_rendering()["truth"] == "predicted"
    assert np.array_equal(pixels.spot_table(0.5), spot_table(pixels.plan, 0.5))
    with pytest.raises(InputError, match="needs a rendered frame"):
        by_spots(experiment).spot_table()
    for bad in (-1.0, np.nan, "many"):
        with pytest.raises(InputError, match="threshold"):
            pixels.spot_table(bad)


def test_labels_give_isolated_spots_their_pixels(fine):
    table, image, labels = fine.spot_table(1e-3), fine.render(), fine.labels(1e-3)

    assert labels.spot.dtype == np.int32 and labels.h.dtype == labels.wavelength_A.dtype == np.float32
    for number in isolated(table, image.shape):
        spot, here = table[number], box(table[number])
        own = labels.spot[here] == number
        assert image[here][own].sum(dtype=np.float64) == pytest.approx(spot["photons"], rel=1e-3)
        for name in "hkl":
            bright = own & (image[here] > 1e-3 * image[here].max())
            np.testing.assert_allclose(getattr(labels, name)[here][bright], spot[name], atol=1e-2)
    on = labels.spot >= 0
    assert on.any() and not on.all() and labels.spot.max() < len(table)
    photons = np.isfinite(labels.wavelength_A)
    assert photons[on].all() and np.array_equal(photons, np.isfinite(labels.h))
    # From the shortest wavelength to the longest, 0.2 % apart, each in some pixel nearly alone.
    assert 0.9989 < np.nanmin(labels.wavelength_A) < 0.9995 and 1.0005 < np.nanmax(labels.wavelength_A) < 1.0011


def test_labels_know_the_dominant_spot_of_each_pixel():
    # Photons of two reflections in a pixel: means lie between, and the label is that of the stronger one.
    simulator = by_spots(crystal("gauss", cells=6), threads=1)
    image = simulator.render()
    labels, table = simulator.labels(0.0), simulator.spot_table(0.0)

    on = labels.spot >= 0
    total = np.bincount(labels.spot[on], weights=image[on], minlength=len(table))
    assert (total <= 1.0001 * image.sum()).all() and np.array_equal(on, np.isfinite(labels.h))
    strongest = np.argmax(table["photons"])
    mine = labels.spot == strongest
    assert mine.any()
    assert np.abs(np.median(labels.h[mine]) - table["h"][strongest]) < 0.5


def test_labels_of_pixels_come_from_spots_or_are_refused():
    experiment = crystal("gauss")
    pixels = Simulator(with_sampling(experiment, engine="pixels"), backend="cpu", threads=1)
    labels, table = pixels.labels(0.1), pixels.spot_table(0.1)
    spots = by_spots(experiment, threads=1)
    spots.render()
    again, summed = spots.labels(0.1), spots.spot_table(0.1)

    on = (labels.spot >= 0) & (again.spot >= 0)
    assert on.any()
    for name in "hkl":
        assert np.array_equal(table[name][labels.spot[on]], summed[name][again.spot[on]])
    curved = experiment.replace(detector=experiment.detector.replace(curved=True, twotheta_deg=0.0))
    with pytest.raises(InputError, match="labels cannot be made: a detector is curved"):
        Simulator(curved, backend="cpu").labels()
