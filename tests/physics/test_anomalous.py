"""Structure factors that depend on the energy: every photon has those of its own wavelength."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from bragg_numba import (
    Beam,
    Crystal,
    Detector,
    Diffuse,
    Experiment,
    InputError,
    Lattice,
    Sampling,
    Simulator,
    Spectrum,
    StructureFactors,
)
from bragg_numba.io.anomalous import factors_of
from bragg_numba.plan.plan import make_plan
from bragg_numba.predict.holes import hole_lines, report_holes
from bragg_numba.predict.spots import spot_table
from bragg_numba.trace.pixel import trace_pixel

CELL = (31.0, 38.0, 45.0, 90.0, 95.0, 90.0)
EDGE = np.array([[6950.0, -3.5, 0.5], [7110.0, -8.0, 0.5], [7125.0, -7.0, 5.0], [7200.0, -4.5, 3.9]])

#: Wavelengths on both sides of the edge, and their weights.
WAVES_A = 12398.42 / np.array([7000.0, 7105.0, 7118.0, 7126.0, 7190.0, 7400.0])
WEIGHTS = np.array([0.4, 1.7, 0.9, 1.3, 0.2, 0.6])


def made_up_sums(seed: int = 5, elements: tuple[str, ...] = ("Fe",)) -> tuple[np.ndarray, np.ndarray, dict]:
    """Indices of a whole sphere, F0, and partial sums of elements, as a few atoms make them."""
    rng = np.random.default_rng(seed)
    grid = np.array(list(np.ndindex(21, 25, 29))) - (10, 12, 14)
    star = np.array([1 / CELL[0], 1 / CELL[1], 1 / CELL[2]])
    indices = grid[((grid * star) ** 2).sum(axis=1) < 1 / 3.2**2]
    normal = waves_of(indices, rng.uniform(size=(40, 3)), 8.0)
    return indices, normal, {element: waves_of(indices, rng.uniform(size=(3, 3)), 1.0) for element in elements}


def waves_of(indices, places, form: float) -> np.ndarray:
    return form * np.exp(2j * np.pi * (indices @ places.T)).sum(axis=1)


def factors_with(tables: dict, **more) -> StructureFactors:
    indices, normal, partial = made_up_sums(elements=tuple(tables))
    return StructureFactors.from_partial_sums(indices, normal, partial=partial, anomalous=tables, cell=CELL, **more)


def experiment_of(factors: StructureFactors, waves_A=WAVES_A, weights=WEIGHTS, **more) -> Experiment:
    """A few domains in a beam of some wavelengths, or of one; two crystal sizes of a frame."""
    beam = {"wavelength_A": float(np.mean(waves_A)), "fluence_per_m2": 1e28}
    if len(waves_A) > 1:
        beam["spectrum"] = Spectrum(shape="table", wavelengths_A=waves_A, weights=weights)
    crystal = {
        "cell": CELL,
        "cell_counts": (14, 12, 10),
        "misset_deg": (10, 20, 30),
        "shape": more.pop("shape", "gauss"),
    }
    sampling = Sampling(oversample=1, **{"engine": "pixels", **more.pop("sampling", {})})
    return Experiment(
        crystal=Crystal(**crystal, mosaic_spread_deg=0.3, mosaic_domains=more.pop("domains", 3)),
        structure_factors=factors,
        beam=Beam(**beam),
        detector=Detector(n_fast=120, n_slow=72, pixel_mm=0.4, distance_mm=60),
        sampling=sampling,
        **{"fidelity": "physical", **more},
    )


def rendered(experiment: Experiment, precision: str = "tile") -> np.ndarray:
    simulator = Simulator(experiment, backend="cpu", precision=precision)
    image = simulator.render().astype(np.float64)
    assert simulator.precision == precision
    return image


def weighted_sum(factors: StructureFactors, precision: str = "tile", **more) -> np.ndarray:
    """The mean of monochromatic frames, each with the fixed table of its wavelength."""
    total = np.zeros((72, 120))
    for wave, weight in zip(WAVES_A, WEIGHTS / WEIGHTS.sum(), strict=True):
        total += weight * rendered(experiment_of(factors.at(wave), [wave], [1.0], **more), precision)
    return total


@pytest.mark.parametrize(
    ("shape", "precision", "sampling"),
    [
        ("square", "tile", {}),
        ("square", "float64", {}),
        ("gauss", "tile", {}),
        ("square", "float64", {"interpolate": True}),
        ("gauss", "tile", {"cutoff_photons": 1e-9, "engine": "spots"}),
        pytest.param("round", "tile", {}, marks=pytest.mark.slow),
        pytest.param("tophat", "tile", {}, marks=pytest.mark.slow),
        pytest.param("square", "tile", {"cutoff_photons": 1e-9, "engine": "spots"}, marks=pytest.mark.slow),
        pytest.param("gauss", "float64", {"pixel_average": True, "engine": "spots"}, marks=pytest.mark.slow),
    ],
)
def test_a_frame_of_many_wavelengths_is_the_weighted_sum_of_frames_of_one_each(shape, precision, sampling):
    factors = factors_with({"Fe": EDGE})
    kind = {"shape": shape, "sampling": sampling}
    image = rendered(experiment_of(factors, **kind), precision)
    expected = weighted_sum(factors, precision, **kind)
    # Float32 images are rounded, the sum of six and the frame each by 6e-8.
    assert image.sum() == pytest.approx(expected.sum(), rel=2e-7)
    bright = expected > 1e-7 * expected.max()
    assert bright.sum() > 30
    assert image[bright] == pytest.approx(expected[bright], rel=1e-6)


def test_tiles_that_reach_too_much_for_a_table_of_their_own_are_right():
    """A cell so large that a tile's box of indices holds tens of thousands."""
    experiment = experiment_of(factors_with({"Fe": EDGE}, default_F=3.0), shape="square")
    large = experiment.crystal.replace(cell=(230.0, 238.0, 245.0, 90.0, 90.0, 90.0), cell_counts=(5, 5, 5))
    experiment = experiment.replace(crystal=large)
    image, exact = rendered(experiment), rendered(experiment, "float64")
    assert image == pytest.approx(exact, rel=1e-4, abs=1e-6 * exact.max())


def test_two_elements_of_which_one_is_fixed_cost_one_sum():
    factors = factors_with({"Fe": EDGE, "S": (0.3, 0.6)})
    assert factors.anomalous.elements == ("Fe",)
    indices, normal, partial = made_up_sums(elements=("Fe", "S"))
    at = complex(-8.0, 0.5)
    expected = np.abs(normal + at * partial["Fe"] + (0.3 + 0.6j) * partial["S"])
    assert factors.at(12398.42 / 7110.0).amplitudes == pytest.approx(expected, rel=1e-9)


def test_several_elements_have_each_their_own_wavelengths():
    factors = factors_with({"Fe": EDGE, "Zn": "auto"})
    image = rendered(experiment_of(factors), "float64")
    assert image == pytest.approx(weighted_sum(factors, "float64"), rel=1e-6, abs=1e-7 * image.max())


def test_friedel_mates_differ_by_what_absorbs():
    factors = factors_with({"Fe": EDGE})
    mates = np.lexsort(-factors.indices.T[::-1])
    order = np.lexsort(factors.indices.T[::-1])
    differences = []
    for energy in (7000.0, 7125.0):
        one = factors.at(12398.42 / energy).amplitudes
        differences.append(np.abs(one[order] - one[mates]).mean())
    assert differences[1] > 5.0 * differences[0] > 0.1
    without = factors_with({"Fe": (-5.0, 0.0)}).amplitudes
    assert without[order] == pytest.approx(without[mates])


def test_predicted_spots_hold_the_photons_of_each_wavelength():
    factors = factors_with({"Fe": EDGE})
    mixed = spot_table(make_plan(experiment_of(factors)), threshold=1e-6)
    expected: dict = {}
    for wave, weight in zip(WAVES_A, WEIGHTS / WEIGHTS.sum(), strict=True):
        table = spot_table(make_plan(experiment_of(factors.at(wave), [wave], [1.0])), threshold=1e-12)
        for spot in table:
            key = (spot["h"], spot["k"], spot["l"])
            expected[key] = expected.get(key, 0.0) + weight * spot["photons"]
    strong = mixed[mixed["photons"] > 0.01 * mixed["photons"].max()]
    assert len(strong) > 10
    # Spots at the detector's rim are on it at some wavelengths only, where each table asks for itself.
    inside = strong[(strong["slow"] > 6) & (strong["slow"] < 66) & (strong["fast"] > 6) & (strong["fast"] < 114)]
    found = inside["photons"]
    wanted = np.array([expected[spot["h"], spot["k"], spot["l"]] for spot in inside])
    assert found == pytest.approx(wanted, rel=1e-9)
    assert (mixed["partiality"] > 0.0).all() and (mixed["partiality"] <= 1.0 + 1e-9).all()


def test_spots_of_factors_that_are_the_same_at_all_energies_are_those_of_fixed_ones():
    flat = factors_with({"Fe": [[5000.0, -4.0, 2.0], [9000.0, -4.0, 2.0]]})
    fixed = factors_with({"Fe": (-4.0, 2.0)})
    assert flat.anomalous is not None and fixed.anomalous is None
    sampling = {"cutoff_photons": 1e-9, "engine": "spots"}
    simulators = [Simulator(experiment_of(factors, sampling=sampling), backend="cpu") for factors in (flat, fixed)]
    images = [simulator.render() for simulator in simulators]
    # The cut of a spot follows the largest F it may have, of which the sum of absolute values is a bound.
    assert images[0] == pytest.approx(images[1], rel=1e-6, abs=1e-8)
    for tables in (
        [simulator.spot_table(threshold=1e-3) for simulator in simulators],
        [spot_table(simulator.plan, threshold=1e-3) for simulator in simulators],
    ):
        assert len(tables[0]) > 20
        for name in tables[0].dtype.names:
            assert tables[0][name] == pytest.approx(tables[1][name], rel=1e-5), name


def test_summed_spots_have_the_photons_of_the_image():
    experiment = experiment_of(factors_with({"Fe": EDGE}), sampling={"cutoff_photons": 1e-9, "engine": "spots"})
    simulator = Simulator(experiment, backend="cpu")
    image = simulator.render()
    table = simulator.spot_table(threshold=0.0)
    assert table["photons"].sum() == pytest.approx(image.sum(dtype=float), rel=1e-5)


def test_a_trace_adds_up_to_the_pixel():
    experiment = experiment_of(factors_with({"Fe": EDGE}), shape="square")
    image = rendered(experiment, "float64")
    slow, fast = (int(i) for i in np.unravel_index(image.argmax(), image.shape))
    trace = trace_pixel(make_plan(experiment), slow, fast)
    assert trace.final["I_pixel_final"] == pytest.approx(image[slow, fast], rel=1e-6)


def test_lattices_share_what_depends_on_the_wavelength():
    factors = factors_with({"Fe": EDGE})
    one = experiment_of(factors)
    turned = one.crystal.replace(misset_deg=(40, 50, 60))
    both = one.replace(lattices=[Lattice(crystal=one.crystal, weight=0.7), Lattice(crystal=turned, weight=0.3)])
    image = rendered(both)
    apart = 0.7 * rendered(one) + 0.3 * rendered(one.replace(crystal=turned))
    assert image == pytest.approx(apart, rel=1e-6, abs=1e-7 * image.max())
    plan = make_plan(both)
    assert plan.lattices[0].dispersion.kernels.parts is plan.lattices[1].dispersion.kernels.parts


def test_another_pulse_of_a_series_takes_the_tables_over():
    factors = factors_with({"Fe": EDGE})
    first = make_plan(experiment_of(factors))
    other = make_plan(experiment_of(factors, WAVES_A * 1.001), like=first)
    assert other.dispersion.kernels.parts is first.dispersion.kernels.parts
    alone = make_plan(experiment_of(factors, WAVES_A * 1.001))
    assert np.array_equal(other.table, alone.table)
    assert np.array_equal(other.dispersion.kernels.factors, alone.dispersion.kernels.factors)


def test_memory_does_not_grow_with_the_number_of_wavelengths():
    factors = factors_with({"Fe": EDGE})
    plan = make_plan(experiment_of(factors, np.linspace(1.7, 1.8, 200), np.ones(200)))
    assert plan.dispersion.kernels.parts.nbytes + plan.table.nbytes < 41 * plan.table.size


def test_it_survives_json_and_shows_itself(tmp_path):
    experiment = experiment_of(factors_with({"Fe": EDGE, "Zn": "auto"}))
    again = Experiment.from_json(experiment.to_json())
    assert again == experiment
    assert again.structure_factors.anomalous.tables[1] is None
    assert np.array_equal(again.structure_factors.anomalous.normal, experiment.structure_factors.anomalous.normal)
    assert "Fe" in repr(again.structure_factors) and "anomalous" in str(again)
    assert json.loads(again.to_json())["structure_factors"]["anomalous"]["elements"] == ["Fe", "Zn"]


def test_the_report_says_which_factors_the_frame_had():
    report = report_holes(make_plan(experiment_of(factors_with({"Fe": EDGE}))))
    said = report["anomalous"]["Fe"]
    found = factors_of("Fe", EDGE, WAVES_A)
    assert said["f_prime_min"] == pytest.approx(found.real.min()) and said["f_prime_max"] == pytest.approx(
        found.real.max()
    )
    assert said["f_double_prime_max"] == pytest.approx(found.imag.max())
    assert any(line.startswith("  Fe: f' ") for line in hole_lines(report))


def test_what_cannot_be_is_refused_in_a_sentence():
    factors = factors_with({"Fe": EDGE})
    with pytest.raises(
        InputError, match="Experiment.diffuse is not rendered for structure factors that depend on the energy"
    ):
        experiment_of(factors).replace(diffuse=Diffuse())
    from bragg_numba.render.engine import choose_gpu_engine

    with pytest.raises(InputError, match="are not rendered by GPUs where they depend on the energy"):
        choose_gpu_engine(make_plan(experiment_of(factors)), "auto", device=None)
    with pytest.raises(InputError, match="is known between 1000 and 200000 eV"):
        make_plan(experiment_of(factors_with({"Fe": "auto"}), [50.0], [1.0]))
    with pytest.raises(InputError, match="StructureFactors.amplitudes must be left out beside anomalous"):
        factors.replace(amplitudes=factors.amplitudes + 1.0)
    with pytest.raises(InputError, match="must come together with indices"):
        StructureFactors(default_F=1.0, anomalous=factors.anomalous)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"partial": {}}, "partial must be like"),
        ({"partial": {"Qq": np.ones(3)}}, "partial must name elements"),
        ({"partial": {"Fe": np.ones(4)}}, r"partial\['Fe'\] must be an array of complex numbers, shape \(3,\)"),
        ({"anomalous": {"Zn": "auto"}}, "must say where f' and f'' of Fe come from"),
        ({"anomalous": {"Fe": "auto", "Zn": "auto"}}, "it has none of Zn"),
        ({"anomalous": "all"}, "anomalous must be"),
        ({"normal": [1.0, np.nan, 2.0]}, "must be finite"),
        ({"normal": "abc"}, "normal must be an array of complex numbers"),
        ({"indices": [[1, 0, 0], [0, 1, 0]]}, "must have shape"),
        ({"anomalous": {"Fe": [[7000, 1, 2]]}}, "two or more rows"),
        ({"anomalous": {"Fe": [[7, 1, 2], [8, 1, 2]]}}, "are they keV"),
        ({"anomalous": {"Fe": [[7000, 1, 2], [7000, 2, 2]]}}, "each energy once"),
        ({"anomalous": {"Fe": [[7000, 1, 2], [8000, 1, -3]]}}, "no f'' below 0"),
        ({"anomalous": {"Fe": [[7000, 1, 2], [8000, np.inf, 3]]}}, "finite numbers"),
        ({"anomalous": {"Fe": [[7000, 1], [8000, 3]]}}, "two or more rows of three numbers"),
        ({"anomalous": {"Fe": [[7000, 1, 2], [8000]]}}, "must be"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(change, said):
    indices = [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    given = {"indices": indices, "normal": np.ones(3), "partial": {"Fe": np.ones(3)}, "anomalous": {"Fe": "auto"}}
    given |= change
    with pytest.raises(InputError, match=said):
        StructureFactors.from_partial_sums(given.pop("indices"), given.pop("normal"), **given)


def test_code_of_other_plans_is_what_it_was():
    """Nothing of it is compiled where F does not depend on the wavelength."""
    from bragg_numba.plan.arithmetic.cpu import choose, code

    plan = make_plan(experiment_of(factors_with({"Fe": EDGE})))
    plain = make_plan(experiment_of(factors_with({"Fe": EDGE}).at(1.75)))
    assert code(plain, choose(plain, "tile")).dispersed is None and plain.dispersion is None
    assert code(plan, choose(plan, "tile")).dispersed == ((),)
    assert dataclasses.replace(plain).arguments[-1] is plain.table
