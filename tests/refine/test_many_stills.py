"""Many stills: structure factors from their spots, a detector from all of them, the page about refinement."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bragg_numba import Beam, Crystal, Detector, Experiment, InputError, Sampling, Simulator, StructureFactors, poisson
from bragg_numba import refine as refinement
from bragg_numba.plan.plan import make_plan
from bragg_numba.refine import Still, refine, refine_factors, with_factors
from bragg_numba.slopes.parameters import moved


def factors(reach: int, seed: int = 1) -> StructureFactors:
    rng = np.random.default_rng(seed)
    span = range(-reach, reach + 1)
    indices = np.array([(h, k, m) for h in span for k in span for m in span])
    return StructureFactors(indices=indices, amplitudes=20.0 + 100.0 * np.sqrt(rng.exponential(1.0, len(indices))))


def truths(n: int, pixels: int, reach: int, seed: int = 3) -> list[Experiment]:
    rng, table = np.random.default_rng(seed), factors(reach)
    return [
        Experiment(
            beam=Beam(wavelength_A=1.0, fluence_per_m2=3e28),
            crystal=Crystal(
                cell=(40, 45, 50, 90, 90, 90),
                misset_deg=tuple(rng.uniform(-180, 180, 3)),
                cell_counts=(9, 9, 9),
                shape="gauss",
            ),
            detector=Detector(n_fast=pixels, n_slow=pixels, pixel_mm=0.2, distance_mm=60),
            structure_factors=table,
            sampling=Sampling(oversample=2),
            fidelity="physical",
        )
        for _ in range(n)
    ]


def counts(experiment: Experiment, seed: int) -> np.ndarray:
    return poisson(Simulator(experiment, backend="cpu").render(), seed)


def perturbed(table: StructureFactors, part: float) -> StructureFactors:
    rng = np.random.default_rng(8)
    return table.replace(amplitudes=table.amplitudes * np.exp(part * rng.normal(size=len(table.amplitudes))))


def r1(found: StructureFactors, exact: StructureFactors, which: np.ndarray) -> float:
    return float(np.abs(found.amplitudes - exact.amplitudes)[which].sum() / exact.amplitudes[which].sum())


def off_factors(n: int, pixels: int, reach: int):
    exact = truths(n, pixels, reach)
    start = perturbed(exact[0].structure_factors, 0.2)
    stills = [Still(experiment=one, data=counts(one, i)) for i, one in enumerate(exact)]
    return exact[0].structure_factors, start, refine_factors(with_factors(stills, start))


def test_structure_factors_come_back_from_their_spots():
    exact, start, found = off_factors(4, 96, 5)
    strong = found.photons > 400
    assert strong.sum() > 20
    assert r1(start, exact, strong) > 0.1
    # 400 photons and more: amplitudes to 2.5 % and better.
    assert r1(found.structure_factors, exact, strong) < 0.025
    off = (found.structure_factors.amplitudes - exact.amplitudes)[strong] / found.sigma[strong]
    # Chi-square over its mean, within four of its deviations.
    assert abs(np.mean(off**2) - 1) < 4 * np.sqrt(2 / strong.sum())
    # What is expected and does not show becomes 0; what is not expected stays.
    unseen = np.isinf(found.sigma) & (found.structure_factors.amplitudes > 0)
    assert unseen.any()
    # But for the root of the square.
    assert found.structure_factors.amplitudes[unseen] == pytest.approx(start.amplitudes[unseen], rel=4e-16)


def test_stills_of_different_factors_are_refused():
    one, other = truths(2, 16, 1)
    data = np.ones((16, 16))
    other = other.replace(structure_factors=perturbed(one.structure_factors, 0.1))
    with pytest.raises(InputError, match="the same structure factors"):
        refine_factors([Still(experiment=one, data=data), Still(experiment=other, data=data)])
    with pytest.raises(InputError, match="list of Still"):
        refine_factors([])
    with pytest.raises(InputError, match="needs a table"):
        refine_factors([Still(experiment=one.replace(structure_factors=StructureFactors(default_F=1)), data=data)])


def check_factors_and_scales(n: int, pixels: int, reach: int) -> None:
    """|F|^2 off by 20 %, scales of all stills but the first unknown."""
    exact = truths(n, pixels, reach)
    table = exact[0].structure_factors
    start = perturbed(table, 0.2)
    grown = np.exp(0.3 * np.random.default_rng(9).normal(size=n))
    grown[0] = 1.0
    starts = [
        one.replace(structure_factors=start, beam=one.beam.replace(fluence_per_m2=3e28 * factor))
        for one, factor in zip(exact, grown, strict=True)
    ]
    frames = [counts(one, i) for i, one in enumerate(exact)]
    found = refine(starts, frames, "scale", shared="F2", coarse=False, tolerance=1e-3)
    assert found.converged and found.factor_sigmas is not None
    fitted = found.experiment.structure_factors
    assert all(one.structure_factors is fitted for one in found.experiments)
    strong = found.factor_sigmas < 0.025 * fitted.amplitudes
    assert strong.sum() > 20
    assert r1(start, table, strong) > 0.1
    assert r1(fitted, table, strong) < 0.02
    # Of the first still the photons are known: they are what all others and |F|^2 are measured by.
    assert "0: scale" not in found.values
    for still in range(1, n):
        name = f"{still}: scale"
        assert abs(found.values[name] * grown[still] - 1.0) < 5 * found.sigmas[name] * grown[still]
    off = ((fitted.amplitudes - table.amplitudes) / found.factor_sigmas)[strong]
    assert abs(np.std(off) ** 2 - 1) < 4 * np.sqrt(2 / strong.sum())


def test_structure_factors_and_scales_come_back_together():
    check_factors_and_scales(5, 96, 5)


def test_structure_factors_alone_are_what_expectation_and_maximisation_find():
    exact = truths(2, 96, 4)
    start = perturbed(exact[0].structure_factors, 0.2)
    stills = with_factors([Still(experiment=one, data=counts(one, i)) for i, one in enumerate(exact)], start)
    found = refine(stills, free=(), shared="F2", tolerance=1e-6)
    other = refine_factors(stills, tolerance=1e-5)
    strong = found.factor_sigmas < 0.05 * found.experiment.structure_factors.amplitudes
    a, b = found.experiment.structure_factors.amplitudes[strong], other.structure_factors.amplitudes[strong]
    assert strong.sum() > 10
    # By a part of their uncertainties, which are those of separate spots there.
    assert np.abs((a - b) / found.factor_sigmas[strong]).max() < 0.05
    assert found.factor_sigmas[strong] == pytest.approx(other.sigma[strong], rel=0.1)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"free": "F2"}, "must be shared by all stills"),
        ({"free": "orientation", "shared": "F2,scale"}, "scale must not be shared beside"),
        ({"free": "scale", "shared": "F2", "robust": "huber"}, "robust must be None"),
    ],
)
def test_what_cannot_be_refined_beside_structure_factors_is_refused(options, said):
    exact = truths(2, 16, 1)
    with pytest.raises(InputError, match=said):
        refine(exact, [np.ones((16, 16))] * 2, **options)
    with pytest.raises(InputError, match="the same structure factors"):
        other = exact[1].replace(structure_factors=perturbed(exact[0].structure_factors, 0.1))
        refine([exact[0], other], [np.ones((16, 16))] * 2, "scale", shared="F2")


def test_the_package_is_the_function():
    assert callable(refinement) and refinement.refine is refine


def test_examples_of_the_page_run():
    page = (Path(__file__).parents[2] / "docs" / "refine.md").read_text(encoding="utf-8")
    names: dict[str, object] = {}
    for block in page.split("```python")[1:]:
        exec(compile(block.split("```")[0], "refine.md", "exec"), names)


@pytest.mark.slow
def test_fifteen_stills_give_structure_factors_and_scales():
    check_factors_and_scales(15, 160, 8)


@pytest.mark.slow
def test_a_hundred_stills_give_structure_factors_to_four_percent():
    exact, start, found = off_factors(100, 160, 8)
    seen = found.photons > 100
    assert r1(start, exact, seen) > 0.1
    assert r1(found.structure_factors, exact, seen) < 0.04


SHARED = "distance,centre,detector.rotation_deg[1],detector.rotation_deg[2]"


def detector_of(exact: list[Experiment]) -> dict[str, float]:
    """The true values of the parameters of ``SHARED``: lab x is the beam, a turn about which is the crystals'."""
    placed = make_plan(exact[0]).detector
    values = {"detector.distance_mm": 60.0, "detector.beam_x_mm": 1000 * placed.beam_x}
    values |= {"detector.beam_y_mm": 1000 * placed.beam_y}
    return values | {"detector.rotation_deg[1]": 0.0, "detector.rotation_deg[2]": 0.0}


def off_detector(exact: list[Experiment]) -> list[Experiment]:
    """A distance off by 0.5 mm, shifts of 0.2 mm and tilts of 0.1 degree; crystals turned by some 0.03 degrees."""
    d, x, y, _, _ = detector_of(exact).values()
    off = {"distance_mm": d + 0.5, "beam_x_mm": x + 0.2, "beam_y_mm": y - 0.2, "rotation_deg": (0, 0.1, -0.1)}
    detector, rng = exact[0].detector.replace(**off), np.random.default_rng(5)
    return [
        moved(
            one.replace(detector=detector),
            {f"crystal.orientation_deg[{i}]": value for i, value in enumerate(rng.normal(0, 0.03, 3))},
        )[0]
        for one in exact
    ]


def check_detector(n: int, pixels: int, reach: int) -> None:
    exact = truths(n, pixels, reach)
    frames = [counts(one, i) for i, one in enumerate(exact)]
    found = refine(off_detector(exact), frames, "orientation,scale", shared=SHARED)
    assert found.converged
    for name, value in detector_of(exact).items():
        assert abs(found.values[name] - value) < 3 * found.sigmas[name], name
        assert found.sigmas[name] < 0.05


def check_errors(n: int, pixels: int, reach: int, seeds: int) -> None:
    """Errors of the detector by their covariance are chi-square of five degrees of freedom a seed."""
    exact = truths(n, pixels, reach)
    images = [Simulator(one, backend="cpu").render() for one in exact]
    true = np.array(list(detector_of(exact).values()))
    total, own = 0.0, []
    for seed in range(seeds):
        frames = [poisson(image, 1000 * seed + i) for i, image in enumerate(images)]
        found = refine(exact, frames, "orientation,scale", shared=SHARED, coarse=False)
        rows = [(one.value, one.sigma) for one in found.fitted]
        off = np.array([(value - at) / sigma for (value, sigma), at in zip(rows, true, strict=False)])
        total += off @ np.linalg.solve(found.correlations[0][:5, :5], off)
        own += [(one.value - (one.name == "scale")) / one.sigma for one in found.fitted[5:]]
    # Within four deviations of their means.
    assert abs(total - 5 * seeds) < 4 * np.sqrt(2 * 5 * seeds)
    assert abs(np.mean(np.square(own)) - 1) < 4 * np.sqrt(2 / len(own))


def test_a_few_stills_give_a_detector_within_its_uncertainties():
    check_detector(5, 96, 6)


def test_errors_of_a_detector_are_as_large_as_its_covariance_says():
    check_errors(4, 96, 6, 8)


@pytest.mark.slow
def test_errors_of_fifty_seeds_are_as_large_as_the_covariance_says():
    check_errors(20, 160, 8, 50)


@pytest.mark.slow
def test_a_hundred_stills_give_a_detector_within_its_uncertainties():
    check_detector(100, 160, 8)
