"""The same photons, bit for bit, however the work is cut."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

from bragg_numba import Beam, Crystal, Detector, Experiment, Sampling, Simulator, StructureFactors


def crowded(fidelity="nanobragg", shape="square", **sampling) -> Experiment:
    return Experiment(
        crystal=Crystal(
            cell=(30.0, 41.0, 52.0, 88.0, 103.0, 95.0),
            misset_deg=(5, 17, 40),
            cell_counts=(4, 5, 3),
            shape=shape,
            mosaic_spread_deg=1.0,
            mosaic_domains=4,
            water_um=0.003,  # as bright as the weaker Bragg photons
        ),
        beam=Beam(polarization=0.9, dispersion_percent=1.0, dispersion_steps=2),
        detector=Detector(n_fast=83, n_slow=61, pixel_mm=0.7, distance_mm=80.0, twotheta_deg=10.0),
        sampling=Sampling(**{"oversample": 1, "interpolate": False, **sampling}),
        structure_factors=StructureFactors(default_F=5.0),
        fidelity=fidelity,
    )


CASES = [
    pytest.param(fidelity, shape, precision, id=f"{fidelity}-{shape}-{precision}")
    for fidelity in ("nanobragg", "physical")
    for shape in ("square", "round", "gauss", "tophat")
    for precision in ("tile", "float64")
]


@pytest.mark.parametrize(("fidelity", "shape", "precision"), CASES)
def test_the_cases_are_what_they_are_called(fidelity, shape, precision):
    sim = Simulator(crowded(fidelity, shape), precision=precision)
    image = sim.render()

    assert sim.precision == precision
    assert Simulator(sim.experiment).precision == "tile"  # what a user gets
    assert image.max() > 3 * image.mean() > 0  # spots, and not water alone


@pytest.mark.parametrize(("fidelity", "shape", "precision"), CASES)
def test_one_and_two_threads_give_the_same_bits(fidelity, shape, precision):
    one, two = (Simulator(crowded(fidelity, shape), threads=count, precision=precision).render() for count in (1, 2))
    assert one.any()
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("send", [copy.deepcopy, lambda simulator: pickle.loads(pickle.dumps(simulator))])
@pytest.mark.parametrize(("fidelity", "shape", "precision"), CASES)
def test_a_simulator_that_has_rendered_can_be_copied_and_sent(fidelity, shape, precision, send):
    sim = Simulator(crowded(fidelity, shape), precision=precision)
    image = sim.render().copy()

    np.testing.assert_array_equal(send(sim).render(), image)


@pytest.mark.parametrize("rows", [1, 7, 60, 1000])
@pytest.mark.parametrize(("fidelity", "shape", "precision"), CASES)
def test_tiles_of_any_height_make_the_same_frame(fidelity, shape, precision, rows):
    sim = Simulator(crowded(fidelity, shape), precision=precision)
    whole = sim.render()
    pieces = np.concatenate([tile.copy() for _, tile in sim.tiles(rows=rows)])
    np.testing.assert_array_equal(pieces, whole)


@pytest.mark.parametrize("roi", [(0, 82, 0, 60), (5, 40, 11, 12), (33, 33, 60, 60), (17, 82, 3, 59)])
@pytest.mark.parametrize(("fidelity", "shape", "precision"), CASES)
def test_a_region_of_interest_is_a_crop(fidelity, shape, precision, roi):
    whole = Simulator(crowded(fidelity, shape), precision=precision).render()
    region = Simulator(crowded(fidelity, shape, roi=roi), precision=precision).render()
    inside = np.zeros_like(whole, dtype=bool)
    inside[roi[2] : roi[3] + 1, roi[0] : roi[1] + 1] = True
    np.testing.assert_array_equal(region[inside], whole[inside])
    assert not region[~inside].any()


def test_masked_pixels_stay_dark_and_leave_the_others_alone():
    base = crowded()
    mask = np.random.default_rng(1).random((61, 83)) > 0.4
    masked = Simulator(base.replace(detector=base.detector.replace(mask=mask))).render()
    np.testing.assert_array_equal(masked, np.where(mask, Simulator(base).render(), 0))


def test_rendering_twice_gives_the_same_bits():
    sim = Simulator(crowded())
    first = sim.render().copy()
    np.testing.assert_array_equal(sim.render(out=np.full((61, 83), 7, np.float32)), first)
