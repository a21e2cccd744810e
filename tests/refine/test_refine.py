"""Stills refined against photons with noise: what is found, how sure it is, and what is refused."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

import bragg_numba
from bragg_numba import (
    Beam,
    Crystal,
    Detector,
    Experiment,
    InputError,
    Sampling,
    Simulator,
    StructureFactors,
    poisson,
    refine,
)
from bragg_numba.plan.plan import make_plan
from bragg_numba.refine import Refinement, Still, read_experiments, restrain_cell
from bragg_numba.refine.result import with_uncertainty
from bragg_numba.slopes.parameters import moved

CELL = (55, 65, 75, 90, 95, 90)
N = (12, 12, 11)


def factors(seed: int = 1) -> StructureFactors:
    rng = np.random.default_rng(seed)
    indices = np.array([(h, k, m) for h in range(-16, 17) for k in range(-18, 19) for m in range(-20, 21)])
    return StructureFactors(indices=indices, amplitudes=1.0 + 100.0 * np.sqrt(rng.exponential(1.0, len(indices))))


FACTORS = factors()


def truth(shape: str = "gauss", pixels: tuple[int, int] = (192, 201), **crystal) -> Experiment:
    """A still of a protein-like cell on (slow, fast) pixels."""
    return Experiment(
        beam=Beam(wavelength_A=1.0, fluence_per_m2=1e29),
        crystal=Crystal(**{"cell": CELL, "misset_deg": (10, 20, 30), "cell_counts": N, "shape": shape, **crystal}),
        detector=Detector(n_fast=pixels[1], n_slow=pixels[0], pixel_mm=0.1, distance_mm=50),
        structure_factors=FACTORS,
        sampling=Sampling(oversample=2),  # of few and of many cells alike
        fidelity="physical",
    )


def photons(experiment: Experiment, seed: int | None = 7) -> np.ndarray:
    """Counts of a still; its expected photons where ``seed`` is None."""
    image = Simulator(experiment, backend="cpu").render()
    return image if seed is None else poisson(image, seed)


def dark() -> StructureFactors:
    """Structure factors of a crystal that scatters nothing."""
    return FACTORS.replace(amplitudes=np.zeros(len(FACTORS.amplitudes)))


def wrong(experiment: Experiment, scale: float = 0.1) -> Experiment:
    """diffBragg's starting errors: cell by 0.1 A and 0.1 degree, 0.15 degrees of missetting, N 20, a scale of 10."""
    crystal = experiment.crystal.replace(cell=(55.1, 65.2, 74.9, 90, 94.9, 90), cell_counts=(20, 20, 20))
    axis = np.array([1.0, -2.0, 2.0]) / 3.0
    values = {f"crystal.orientation_deg[{i}]": 0.15 * x for i, x in enumerate(axis)}
    beam = experiment.beam.replace(fluence_per_m2=scale * experiment.beam.fluence_per_m2)
    return moved(experiment.replace(crystal=crystal, beam=beam), values)[0]


def angle_between(one: Experiment, other: Experiment) -> float:
    """Degrees between two orientations, strains of the cells left out."""
    a, b = (np.array([c.a, c.b, c.c]) for c in (make_plan(one).cell, make_plan(other).cell))
    u, _, v = np.linalg.svd(np.linalg.inv(a) @ b)
    return math.degrees(math.acos(min(1.0, (np.trace(u @ v) - 1.0) / 2.0)))


@pytest.fixture(scope="module")
def square() -> tuple[Experiment, Refinement]:
    e = truth("square", (256, 257))
    return e, refine(wrong(e), photons(e), free="orientation,cell,counts,scale")


@pytest.mark.parametrize("shape", ["gauss", "square"])
def test_a_still_with_noise_is_refined_from_diffbraggs_starting_errors(shape, square):
    if shape == "square":
        e, found = square
    else:
        e = truth(shape, (256, 257))
        found = refine(wrong(e), photons(e), free="orientation,cell,counts,scale")
    # A dozen passes over the pixels near spots: what the time of a still is made of.
    assert found.converged and found.evaluations <= 20
    off = np.abs(np.subtract(found.experiment.crystal.cell, CELL))
    assert angle_between(e, found.experiment) < 0.005
    assert off[:3].sum() < 0.025 and off[3:].max() < 0.025
    counts = [found.values[f"crystal.cell_counts[{i}]"] for i in range(3)]
    assert np.abs(np.subtract(counts, N)).max() < 0.2
    assert found.values["scale"] == pytest.approx(10.0, rel=0.01)


def test_errors_of_a_still_are_as_large_as_it_says(square):
    e, found = square
    exact = {"crystal.free_cell[0]": 55, "crystal.free_cell[1]": 65, "crystal.free_cell[2]": 75}
    exact |= {"crystal.free_cell[3]": 95, "scale": 10, **{f"crystal.cell_counts[{i}]": n for i, n in enumerate(N)}}
    # Five standard deviations of eight parameters: one in 200,000 seeds fails.
    for name, value in exact.items():
        assert abs(found.values[name] - value) < 5 * found.sigmas[name]
        assert 0 < found.sigmas[name] < 0.02 * value


def test_what_came_out_prints_and_is_kept(square, tmp_path):
    _, found = square
    text = str(found)
    assert "converged" in text and "crystal.free_cell[3]" in text and "uncertainty" in text
    found.save(tmp_path / "refined.json")
    kept = json.loads((tmp_path / "refined.json").read_text())
    assert [one["name"] for one in kept["parameters"]] == list(found.values)
    assert np.shape(kept["correlations"][0]["matrix"]) == (len(found.fitted),) * 2
    assert read_experiments(tmp_path / "refined.json") == (found.experiment,)
    with pytest.raises(InputError, match="is no JSON"):
        read_experiments(__file__)
    assert np.diag(found.correlations[0]) == pytest.approx(1.0) and np.abs(found.correlations[0]).max() <= 1.0 + 1e-9


def test_the_model_is_what_the_refined_experiment_shows(square):
    _, found = square
    model = found.model()
    assert model.shape == (256, 257) and model.min() >= 1e-3
    counts = {name: value for name, value in found.values.items() if "counts" in name}
    assert all(abs(value - round(value)) < 0.1 for value in counts.values())
    # Rounded numbers of cells, whose squares make the height of a spot: by a few percent of the strongest.
    assert np.abs(model - photons(found.experiment, None)).max() < 0.1 * model.max()


def test_boxes_around_the_spots_are_enough():
    e = truth("gauss", (256, 257))
    found = refine(wrong(e), photons(e), free="orientation,cell,counts,scale", boxes=4)
    assert found.pixels < 0.5 * 256 * 257
    assert angle_between(e, found.experiment) < 0.005
    assert found.values["scale"] == pytest.approx(10.0, rel=0.01)


def test_a_still_behind_obstacles_is_refined():
    from bragg_numba import AirPath, Background, Shadow

    shadow = Shadow(corners_px=((0, 0), (100, 0), (100, 90)), transmission=0.2)
    water = Background(material="water", thickness_mm=1e-12)
    e = truth().replace(transmission=(AirPath(), shadow), backgrounds=(water,))
    start = wrong(e)
    # The start's own backgrounds would be those of a tenth of the photons.
    of_truth = Still(experiment=start, data=photons(e), background=photons(e.replace(structure_factors=dark()), None))
    found = refine(of_truth, free="orientation,cell,counts,scale")
    assert found.values["scale"] == pytest.approx(10.0, rel=0.01)
    assert angle_between(e, found.experiment) < 0.005
    with pytest.raises(InputError, match="detector.distance_mm has no slope where obstacles"):
        refine(e, photons(e), free="distance")


def test_the_detector_and_the_wavelength_are_found_where_all_else_is_known():
    e = truth()
    data = photons(e)
    d = e.detector.replace(distance_mm=50.05, beam_x_mm=9.87, rotation_deg=(0.05, 0, -0.03))
    true_x = 1000 * make_plan(e).detector.beam_x
    found = refine(e.replace(detector=d), data, free="distance,detector.beam_x_mm,tilt")
    exact = {"detector.distance_mm": 50.0, "detector.beam_x_mm": true_x}
    exact |= {f"detector.rotation_deg[{i}]": 0.0 for i in range(3)}
    for name, value in exact.items():
        assert abs(found.values[name] - value) < 5 * found.sigmas[name], name
    found = refine(e.replace(beam=e.beam.replace(wavelength_A=1.001)), data, free="wavelength")
    assert abs(found.values["beam.wavelength_A"] - 1.0) < 5 * found.sigmas["beam.wavelength_A"] < 1e-3


def test_several_stills_share_a_detector():
    """Five crystals, a distance and a beam centre; each orientation and scale of its own."""
    rng = np.random.default_rng(3)
    truths = [truth(misset_deg=tuple(rng.uniform(-30, 30, 3))) for _ in range(5)]
    frames = [photons(e, seed) for seed, e in enumerate(truths)]
    centre = 1000 * make_plan(truths[0]).detector.beam_x
    moved_detector = truths[0].detector.replace(distance_mm=50.1, beam_x_mm=centre + 0.05)
    starts = [
        moved(e.replace(detector=moved_detector), {f"crystal.orientation_deg[{i}]": x for i, x in enumerate(turn)})[0]
        for e, turn in zip(truths, rng.normal(0, 0.05, (5, 3)), strict=True)
    ]
    found = refine(starts, frames, "orientation,scale", shared="distance,detector.beam_x_mm")
    assert len(found.experiments) == 5 and len(found.fitted) == 2 + 5 * 4
    assert abs(found.values["detector.distance_mm"] - 50.0) < 5 * found.sigmas["detector.distance_mm"]
    assert abs(found.values["detector.beam_x_mm"] - centre) < 5 * found.sigmas["detector.beam_x_mm"]
    for still, (e, one) in enumerate(zip(truths, found.experiments, strict=True)):
        assert one.detector == found.experiment.detector
        assert angle_between(e, one) < 0.01
        assert found.names_of(still)[0] == "detector.distance_mm" and f"{still}: scale" in found.values
    assert "and 20 parameters of single stills" in found.table()


def test_pixels_that_lie_count_less_in_a_robust_fit():
    e = truth()
    data = photons(e).astype(np.float64)
    rng = np.random.default_rng(5)
    lit = np.argwhere(data > 100)
    for slow, fast in lit[rng.integers(0, len(lit), len(lit) // 20)]:
        data[slow, fast] *= 4
    plain = refine(e, data, free="scale,misset", coarse=False)
    for robust in ("huber", "cauchy"):
        found = refine(e, data, free="scale,misset", coarse=False, robust=robust)
        assert abs(found.values["scale"] - 1) < 0.25 * abs(plain.values["scale"] - 1)


def test_bounds_priors_and_restraints_hold():
    e = truth()
    data = photons(e)
    start = e.replace(crystal=e.crystal.replace(cell=(55.05, 65, 75, 90, 95, 90)))
    bound = refine(start, data, free="crystal.cell[0]", bounds={"crystal.cell[0]": (55.02, 56)}, coarse=False)
    assert bound.values["crystal.cell[0]"] == 55.02 and bound.fitted[0].at_bound
    assert any("ended at a bound" in note for note in bound.notes)
    prior = refine(start, data, free="crystal.cell[0]", priors={"crystal.cell": (55.05, 1e-6)}, coarse=False)
    assert prior.values["crystal.cell[0]"] == pytest.approx(55.05, abs=1e-4)
    rules = restrain_cell(CELL, 0.01, 1e-6)
    held = refine(start, data, free="crystal.cell", restraints=rules, coarse=False)
    assert held.experiment.crystal.cell[3] == pytest.approx(90, abs=1e-5)
    assert held.sigmas["crystal.cell[3]"] <= 1e-6 < held.sigmas["crystal.cell[4]"]


def test_what_the_data_cannot_tell_is_said():
    """A scale and a fluence are the same thing."""
    e = truth()
    found = refine(e, photons(e), free="scale,fluence", coarse=False)
    assert math.isinf(found.sigmas["scale"]) and any("do not determine" in note for note in found.notes)
    assert "unknown" in found.table() and json.loads(found.to_json())["parameters"][0]["sigma"] is None


def test_a_local_background_is_taken_from_around_the_spots():
    e = truth()
    data = poisson(photons(e, None) + np.float32(2.0), 3)
    found = refine(e, data, free="scale", background="local", coarse=False)
    assert abs(found.values["scale"] - 1) < 0.01
    known = refine(e, data, free="scale", background=2.0, coarse=False)
    assert abs(known.values["scale"] - 1) < 5 * known.sigmas["scale"]


@pytest.mark.parametrize("likelihood", ["model", "gaussian"])
def test_other_likelihoods_find_the_same(likelihood):
    e = truth()
    data = photons(e, None) + np.random.default_rng(2).normal(0, 3, e.detector.shape)
    start = e.replace(beam=e.beam.replace(fluence_per_m2=5e28))
    found = refine(start, data, free="scale,misset", likelihood=likelihood, variance=9.0, coarse=False)
    assert abs(found.values["scale"] - 2) < 5 * found.sigmas["scale"]


def test_pixels_that_say_nothing_do_not_count():
    e = truth()
    data = photons(e).astype(np.uint32)
    data[data > 50] = np.iinfo(np.uint32).max
    assert refine(e, data, free="scale", coarse=False).pixels < data.size
    mask = np.zeros(e.detector.shape, dtype=bool)
    mask[:50] = True
    assert refine(e, photons(e), free="scale", mask=mask, coarse=False, boxes=None).pixels == 50 * 201


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"free": "crystal.celll"}, "did you mean"),
        ({"free": ""}, "at least one parameter"),
        ({"free": "scale", "shared": "scale"}, "either shared or free"),
        ({"free": "scale", "likelihood": "normal"}, "likelihood must be one of"),
        ({"free": "scale", "likelihood": "gaussian"}, "variance must be greater than 0"),
        ({"free": "scale", "robust": "tukey"}, "robust must be one of"),
        ({"free": "scale", "bounds": {"scale": 3}}, "must be a pair"),
        ({"free": "scale", "bounds": {"scale": (3, 2)}}, "low < high"),
        ({"free": "scale", "bounds": {"fluence": (1, 2)}}, "must name parameters that are free"),
        ({"free": "scale", "priors": {"scale": 0}}, "greater than 0"),
        ({"free": "scale", "restraints": [3]}, "restraints.0. must be"),
        ({"free": "scale", "boxes": "all"}, "boxes must be"),
        ({"free": "scale", "background": "flat"}, "background must be"),
        ({"free": "scale", "background": -1.0}, "at or above 0"),
        ({"free": "scale", "variance": np.ones(3)}, "frame's shape"),
        ({"free": "scale", "mask": np.ones(3)}, "mask must be bool"),
        ({"free": "scale", "most_steps": 0}, "most_steps"),
        ({"free": "scale", "tolerance": 0}, "tolerance"),
        ({"free": "scale", "workers": 0}, "workers"),
        ({"free": "structure_factors.F2"}, "refine_factors"),
    ],
)
def test_what_cannot_be_refined_is_refused(options, said):
    e = truth(pixels=(16, 16))
    with pytest.raises(InputError, match=said):
        refine(e, np.ones((16, 16)), **options)


def test_data_that_do_not_fit_are_refused():
    e = truth(pixels=(16, 16))
    for data, said in (
        (np.ones((3, 4)), "detector's shape"),
        (np.full((16, 16), np.nan), "a pixel that counts"),
        (np.full((16, 16), -1.0), "must not be negative"),
        (np.array([["a"] * 16] * 16), "must be numbers"),
        ([np.ones((16, 16))] * 2, None),
    ):
        if said is None:
            assert len(refine(e, data, free="scale", coarse=False).experiments) == 2
            continue
        with pytest.raises(InputError, match=said):
            refine(e, data, free="scale")
    with pytest.raises(InputError, match="as many as the experiments"):
        refine([e, e], [np.ones((16, 16))], free="scale")
    with pytest.raises(InputError, match="start alike"):
        other = e.replace(detector=e.detector.replace(distance_mm=51))
        refine([e, other], [np.ones((16, 16))] * 2, free="scale", shared="distance")


def test_stills_can_be_given_as_such():
    e = truth()
    found = refine(Still(experiment=e, data=photons(e)), free="scale", coarse=False)
    assert abs(found.values["scale"] - 1) < 5 * found.sigmas["scale"]
    assert bragg_numba.refine(Still(experiment=e, data=photons(e)), free="scale").values == found.values


@pytest.mark.parametrize(
    ("value", "sigma", "shown"),
    [
        (12.003456, 0.0171, ("12.003", "0.017")),
        (54.99999, 0.00066, ("54.99999", "0.00066")),
        (1234567.0, 890.0, ("1234567", "890")),
        (3.2e26, 4.1e24, ("3.2e+26", "4.1e+24")),
        (1.5, math.inf, ("1.5", "unknown")),
        (1.5, 0.0, ("1.5", "0")),
    ],
)
def test_uncertainties_have_two_digits(value, sigma, shown):
    assert with_uncertainty(value, sigma) == shown
