"""Parameters by name: what they are, how they are refused, what one unit of each changes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sample_experiments import rich_experiment

from bragg_numba import Beam, Crystal, Detector, Experiment, InputError, Panel, Sampling, StructureFactors
from bragg_numba.experiment.placing import place_detector
from bragg_numba.plan.plan import make_plan
from bragg_numba.slopes.differences import tangents_of
from bragg_numba.slopes.families import FAMILIES, free_constants
from bragg_numba.slopes.parameters import WORDS, find_parameters, frozen, moved, plan_at
from bragg_numba.slopes.rotations import rotation_of, turn_of_change
from bragg_numba.slopes.tangents import OF_PANELS

#: Extrapolated differences: eps over the smallest step in radians (2e-3) times the weights of the extrapolation.
RELATIVE = 1e-10


def experiment(**changes) -> Experiment:
    """A still on 20 x 24 pixels under fidelity physical."""
    parts = {
        "beam": Beam(wavelength_A=1.5),
        "crystal": Crystal(cell=(50, 60, 70, 80, 95, 100), misset_deg=(10, 20, 30), cell_counts=(4, 5, 6)),
        "detector": Detector(n_fast=24, n_slow=20, pixel_mm=2, distance_mm=90, beam_x_mm=21, beam_y_mm=23),
        "structure_factors": StructureFactors(default_F=100),
        "fidelity": "physical",
    }
    return Experiment(**{**parts, **changes})


def of_panels(thickness_um: float = 0, **changes) -> Experiment:
    skewed = Panel(name="left", n_fast=8, n_slow=9, origin_mm=(-20, 8, 100), fast=(1, 0.1, 0), slow=(0.1, -1, 0.2))
    plain = Panel(n_fast=8, n_slow=9, origin_mm=(3, 8, 100), fast=(1, 0, 0), slow=(0, -1, 0), thickness_um=thickness_um)
    return experiment(detector=Detector(panels=[skewed, plain], pixel_mm=2, convention="adxv"), **changes)


def tangent(e: Experiment, name: str, at=None):
    (found,) = tangents_of(e, find_parameters(e, name), at)
    return found


def vectors(e: Experiment) -> np.ndarray:
    cell = make_plan(e).cell
    return 1e-10 * np.array([cell.a, cell.b, cell.c])


# --- names ---------------------------------------------------------------------------------------


def test_a_name_without_a_number_stands_for_all_components():
    names = [one.name for one in find_parameters(experiment(), "crystal.cell, scale")]
    assert names == [*(f"crystal.cell[{i}]" for i in range(6)), "scale"]


@pytest.mark.parametrize("word", [word for word in WORDS if word not in ("mosaic", "panels", "F2")])
def test_words_stand_for_parameters(word):
    assert find_parameters(experiment(), word) == find_parameters(experiment(), ",".join(WORDS[word]))


def test_values_and_units_are_those_of_the_fields():
    found = find_parameters(experiment(), ["crystal.cell", "beam.wavelength_A", "detector.beam_y_mm", "scale"])
    assert [one.value for one in found] == [50, 60, 70, 80, 95, 100, 1.5, 23, 1]
    assert [one.unit for one in found] == ["angstrom"] * 3 + ["deg"] * 3 + ["angstrom", "mm", ""]


def test_a_beam_centre_that_is_not_given_has_the_value_of_the_convention():
    e = experiment(detector=Detector(n_fast=24, n_slow=20, pixel_mm=2, distance_mm=90, rotation_deg=(3, 0, 0)))
    (one,) = find_parameters(e, "detector.beam_x_mm")
    there, _ = moved(e, {"detector.beam_x_mm": one.value})
    assert one.value == pytest.approx(1000 * place_detector(e).beam_x)
    assert place_detector(there).origin == pytest.approx(place_detector(e).origin, rel=1e-14)


def test_panels_are_named_by_number_or_by_name():
    e = of_panels()
    for name in ("detector.panels[0].turn_deg[1]", "detector.panels[left].turn_deg[1]"):
        assert [one.name for one in find_parameters(e, name)] == ["detector.panels[0].turn_deg[1]"]
    assert len(find_parameters(e, "panels")) == 2 * 6


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("crystal.cel", "did you mean crystal.cell"),
        ("crystal.cell[6]", "from 0 to 5"),
        ("crystal.cell[-1]", "from 0 to 5"),
        ("crystal.cell[0][1]", "one number too many"),
        ("crystal.mosaic_seed", "chooses random numbers"),
        ("crystal.mosaic_domains", "whole number of steps"),
        ("rotation.phi_steps", "whole number of steps"),
        ("sampling.oversample", "whole number of steps"),
        ("crystal.size_mm[0]", "rounded to whole cells"),
        ("crystal.shape", "not a number"),
        ("crystal.mosaic_spread_deg", "a crystal of one domain"),
        ("detector.thickness_um", "without a sensor"),
        ("detector.close_distance_mm", "has no value"),
        ("detector.panels[0].shift_mm", "needs a detector of panels"),
        ("detector.shift_mm", "needs a detector of panels"),
        ("structure_factors.F2", "needs a table"),
        ("beam.flux_per_s", "without flux_per_s"),
        ("beam.weights", "one source"),
        ("crystal.cell,cell", "must not stand beside crystal.cell"),
        ("scale,scale", "only once"),
        ("", "at least one"),
        ("crystal..cell", "no name of a parameter"),
    ],
)
def test_what_has_no_derivative_is_refused_by_its_name(name, said):
    with pytest.raises(InputError, match=said) as refused:
        find_parameters(experiment(), name)
    assert refused.value.name in name or refused.value.name.startswith(
        ("parameters", "crystal.free_cell", *name.split(","))
    )


def test_what_is_no_text_is_refused():
    with pytest.raises(InputError, match="must be names"):
        find_parameters(experiment(), [3])


def test_nothing_that_moves_spots_of_a_tophat_crystal_has_a_derivative():
    e = experiment(crystal=experiment().crystal.replace(shape="tophat"))
    for name in ("crystal.cell[0]", "misset", "orientation", "distance", "wavelength", "counts"):
        with pytest.raises(InputError, match="tophat"):
            find_parameters(e, name)
    assert len(find_parameters(e, "scale,fluence,polarization,structure_factors.default_F")) == 4


@pytest.mark.parametrize(
    ("detector", "name", "driver"),
    [
        ({"close_distance_mm": 90}, "detector.distance_mm", "close_distance_mm"),
        ({"origin_mm": (90, 20, 20)}, "detector.beam_x_mm", "origin_mm"),
        ({"pivot": "sample", "org_x_px": 3, "org_y_px": 4}, "detector.beam_x_mm", "org_x_px"),
        ({"beam_x_mm": 5, "beam_y_mm": 6, "close_x_mm": 9}, "detector.close_x_mm", "beam centre"),
    ],
)
def test_a_field_that_another_one_overrides_is_refused_by_its_name(detector, name, driver):
    e = experiment(detector=Detector(n_fast=24, n_slow=20, pixel_mm=2, **{"distance_mm": 90, **detector}))
    with pytest.raises(InputError, match=f"{name} has no effect.*{driver}"):
        tangent(e, name)


def test_a_random_orientation_has_no_misset_but_can_be_turned():
    e = experiment(crystal=experiment().crystal.replace(misset_deg="random"))
    with pytest.raises(InputError, match="crystal.misset_deg.*orientation_deg"):
        find_parameters(e, "misset")
    at_start, a = tangent(e, "crystal.orientation_deg[1]").cell_vectors_m, vectors(e)
    assert at_start == pytest.approx(np.cross([0, 1, 0], a) * math.pi / 180, rel=RELATIVE, abs=1e-19)


# --- moving --------------------------------------------------------------------------------------


def test_moved_experiments_hold_what_they_can_and_extras_the_rest():
    e = experiment()
    values = {"crystal.cell[1]": 61.0, "crystal.cell_counts[2]": 6.4, "scale": 3.0, "crystal.turn_deg[0]": 1.0}
    there, extras = moved(e, values)
    assert there.crystal.cell == (50, 61, 70, 80, 95, 100) and there.crystal.cell_counts == (4, 5, 6)
    assert extras.cell_counts == (4, 5, 6.4) and extras.turn_rad == pytest.approx((math.pi / 180, 0, 0))
    assert there.beam.fluence_per_m2 == 3 * e.beam.fluence_per_m2
    plan = plan_at(e, values)
    assert plan.lattice.n_c == 6.4 and plan.lattice.metric_ll == pytest.approx(6.4**2)
    assert plan.cells[0].reshape(3, 3) == pytest.approx(vectors(there) @ rotation_of(np.array(extras.turn_rad)).T)


def test_the_radius_of_a_gauss_crystal_follows_real_numbers_of_cells_in_both_fidelities():
    """nanoBragg's radius is in 1/angstrom, times the number of cells."""
    for fidelity in ("physical", "nanobragg"):
        e = experiment(crystal=experiment().crystal.replace(shape="gauss"), fidelity=fidelity)
        names = [f"crystal.cell_counts[{i}]" for i in range(3)]
        exact = make_plan(e.replace(crystal=e.crystal.replace(cell_counts=(8, 3, 7)))).metric
        assert plan_at(e, dict(zip(names, (8, 3, 7), strict=True))).metric == pytest.approx(exact, rel=1e-14)


def test_moved_refuses_what_is_no_single_parameter():
    with pytest.raises(InputError, match="stands for 6"):
        moved(experiment(), {"crystal.cell": 3.0})
    with pytest.raises(InputError, match="must enclose a volume"):
        moved(experiment(), {"crystal.cell[3]": 179.0})
    with pytest.raises(InputError, match="finite"):
        moved(experiment(), {"scale": math.nan})


def test_what_a_plan_chose_is_written_down():
    e = rich_experiment().replace(sampling=Sampling())
    e = e.replace(crystal=e.crystal.replace(size_mm=(1e-5, None, None), mosaic_domains=None))
    plan = make_plan(e)
    fixed = frozen(plan)
    assert fixed.sampling.oversample == plan.oversample and fixed.crystal.mosaic_domains == plan.domains == 10
    assert fixed.crystal.cell_counts == plan.cell_counts and make_plan(fixed).lattice == plan.lattice


@pytest.mark.parametrize(
    ("cell", "free"),
    [
        ((50, 50, 50, 90, 90, 90), 1),
        ((50, 50, 80, 90, 90, 90), 2),
        ((50, 80, 80, 90, 90, 90), 2),
        ((50, 60, 80, 90, 90, 90), 3),
        ((50, 50, 80, 90, 90, 120), 2),
        ((50, 50, 50, 70, 70, 70), 2),
        ((50, 60, 80, 90, 100, 90), 4),
        ((50, 60, 80, 90, 90, 110), 4),
        ((50, 60, 80, 91, 92, 93), 6),
    ],
)
def test_free_constants_are_those_of_the_crystal_system(cell, free):
    constants = free_constants(cell)
    assert len(constants) == free
    e = experiment(crystal=Crystal(cell=cell))
    for i, places in enumerate(constants):
        new = moved(e, {f"crystal.free_cell[{i}]": cell[places[0]] + 1})[0].crystal.cell
        assert new == tuple(value + (place in places) for place, value in enumerate(cell))


# --- tangents ------------------------------------------------------------------------------------


def test_a_turn_moves_cell_vectors_by_its_cross_product():
    e = experiment()
    for i, axis in enumerate(np.eye(3)):
        found = tangent(e, f"crystal.orientation_deg[{i}]").cell_vectors_m
        exact = np.cross(axis, vectors(e)) * math.pi / 180
        assert found == pytest.approx(exact, rel=RELATIVE, abs=RELATIVE * np.abs(exact).max())
    # Missetting angles turn about lab x, then y, then z: the last one about z itself.
    last = tangent(e, "crystal.misset_deg[2]").cell_vectors_m
    exact = np.cross([0, 0, 1], vectors(e)) * math.pi / 180
    assert last == pytest.approx(exact, rel=RELATIVE, abs=RELATIVE * np.abs(exact).max())


def test_edges_and_angles_of_a_cell_change_as_eq_26_says():
    """Of an orthorhombic cell: an edge its own vector, gamma a shear that leaves |b| as it is."""
    e = experiment(crystal=Crystal(cell=(50, 60, 70, 90, 90, 90)))
    a, b, _ = vectors(e)
    assert tangent(e, "crystal.cell[0]").cell_vectors_m[0] == pytest.approx(a / 50, rel=RELATIVE)
    found = tangent(e, "crystal.cell[5]").cell_vectors_m
    change = (found[0] @ b + a @ found[1]) / (np.linalg.norm(a) * np.linalg.norm(b))
    assert change == pytest.approx(-math.pi / 180, rel=RELATIVE)
    assert abs(found[1] @ b) < RELATIVE * np.linalg.norm(b) ** 2


def test_all_cell_tangents_keep_the_metric_of_the_cell():
    e = experiment(crystal=experiment().crystal.replace(orientation=tuple(map(tuple, rotation_of(np.ones(3))))))
    frame, steps = vectors(e), (1e-3,) * 6
    for i, step in enumerate(steps):
        found = tangent(e, f"crystal.cell[{i}]").cell_vectors_m
        cell = list(e.crystal.cell)

        def metric(offset, i=i, cell=cell):
            lengths = np.array([value + offset * (place == i) for place, value in enumerate(cell)])
            cosines = np.cos(np.radians(lengths[3:]))
            gram = np.array([[1, cosines[2], cosines[1]], [cosines[2], 1, cosines[0]], [cosines[1], cosines[0], 1]])
            return 1e-20 * gram * np.outer(lengths[:3], lengths[:3])

        exact = (metric(step) - metric(-step)) / (2 * step)
        # Plain differences of a smooth function with a step of 1e-3: relative 1e-7 of the largest.
        assert found @ frame.T + frame @ found.T == pytest.approx(exact, abs=1e-7 * np.abs(exact).max())


def test_a_distance_moves_the_origin_along_the_beam():
    e = experiment()
    found = tangent(e, "detector.distance_mm")
    beam = place_detector(e).beam
    assert set(found.changed) == {"origin_m", "close_distance_m"}
    assert found.origin_m[0] == pytest.approx(1e-3 * np.array(beam), rel=RELATIVE, abs=1e-16)
    assert found.close_distance_m == pytest.approx([1e-3], rel=RELATIVE)


def test_a_tilt_about_the_beam_centre_turns_all_axes():
    e = experiment()
    placed = place_detector(e)
    pivot = np.array(placed.beam) * placed.distance
    for i, axis in enumerate(np.eye(3)):
        found = tangent(e, f"detector.rotation_deg[{i}]")
        for field in ("fast", "slow", "normal"):
            slope = getattr(found, field)
            exact = np.cross(axis, getattr(placed, field)) * math.pi / 180
            assert (np.zeros(3) if slope is None else slope[0]) == pytest.approx(exact, rel=RELATIVE, abs=1e-13)
        exact = np.cross(axis, np.array(placed.origin) - pivot) * math.pi / 180
        assert found.origin_m[0] == pytest.approx(exact, rel=1e-9, abs=1e-13)


def test_panels_shift_along_their_own_axes_and_turn_about_their_middles():
    e = of_panels()
    g = place_detector(e).panels[0]
    shift = tangent(e, "detector.panels[left].shift_mm[0]")
    assert shift.origin_m[0] == pytest.approx(1e-3 * np.array(g.fast), rel=RELATIVE, abs=1e-16)
    assert not shift.origin_m[1].any()
    out = tangent(e, "detector.panels[0].shift_mm[2]")
    assert out.close_distance_m == pytest.approx([1e-3, 0.0], rel=RELATIVE)
    turn = tangent(e, "detector.panels[0].turn_deg[2]")
    middle = 0.5 * (g.n_fast * g.pitch_fast * np.array(g.fast) + g.n_slow * g.pitch_slow * np.array(g.slow))
    exact = np.cross(g.normal, -middle) * math.pi / 180
    assert turn.origin_m[0] == pytest.approx(exact, rel=RELATIVE, abs=1e-13)
    # In its own plane: what faces the crystal stays.
    assert turn.normal is None or np.abs(turn.normal).max() < 1e-13


def test_a_detector_of_panels_shifts_and_turns_as_one():
    e = of_panels()
    assert tangent(e, "detector.shift_mm[2]").origin_m == pytest.approx(np.array([[0, 0, 1e-3]] * 2), abs=1e-15)
    placed = place_detector(e)
    pivot = np.array(placed.beam) * placed.distance
    found = tangent(e, "detector.turn_deg[1]").origin_m
    exact = np.cross([0, 1, 0], [np.array(g.origin) - pivot for g in placed.panels]) * math.pi / 180
    assert found == pytest.approx(exact, rel=RELATIVE, abs=1e-13)


def test_sensors_change_their_layers_and_attenuation():
    e = experiment(
        detector=experiment().detector.replace(thickness_um=400, attenuation_depth_um=250, thickness_steps=4)
    )
    depth = tangent(e, "detector.attenuation_depth_um")
    assert depth.attenuation_per_m == pytest.approx([-1e-6 / 250e-6**2], rel=RELATIVE)
    found = tangent(e, "detector.thickness_um")
    # Four layers, each of which absorbs in its middle.
    assert found.layer_step_m == pytest.approx([0.25e-6], rel=RELATIVE)
    assert found.close_distance_m == pytest.approx([0.125e-6], rel=1e-8)
    with pytest.raises(InputError, match=r"panels\[0\].thickness_um.*without a sensor"):
        find_parameters(of_panels(), "detector.panels[left].thickness_um")


def test_wavelengths_of_a_spectrum_and_of_a_matrix_follow_the_central_one():
    e = experiment(beam=Beam(wavelength_A=1.5, dispersion_percent=2, dispersion_steps=3))
    found = tangent(e, "wavelength").wavelengths_m
    assert found == pytest.approx(make_plan(e).sources.wavelength / 1.5, rel=RELATIVE)
    spread = tangent(e, "beam.dispersion_percent").wavelengths_m
    assert spread == pytest.approx(1.5e-10 * np.array([-0.005, 0.0, 0.005]), rel=1e-9, abs=1e-22)
    matrix = ((0.03, 0, 0), (0, 0.025, 0), (0, 0, 0.02))
    e = experiment(crystal=Crystal(mosflm_matrix=matrix))
    assert tangent(e, "wavelength").cell_vectors_m == pytest.approx(vectors(e) / 1.5, rel=RELATIVE, abs=1e-22)


def test_photons_follow_fluence_flux_and_scale():
    assert tangent(experiment(), "fluence").log_scale == pytest.approx(1 / experiment().beam.fluence_per_m2, rel=1e-9)
    e = experiment(beam=Beam(flux_per_s=1e12, exposure_s=0.1))
    assert tangent(e, "beam.exposure_s").log_scale == pytest.approx(10.0, rel=RELATIVE)
    assert tangent(e, "scale", {"scale": 4.0}).log_scale == 0.25


def test_weights_keep_their_mean():
    rows = tuple((None, None, None, weight, 1.5e-10) for weight in (1.0, 2.0, 3.0))
    e = experiment(beam=Beam(sources=rows))
    assert [one.value for one in find_parameters(e, "beam.weights")] == [0.5, 1.0, 1.5]
    found = tangent(e, "beam.weights[1]").weights
    up, down = (moved(e, {"beam.weights[1]": 1.0 + offset})[1].weights for offset in (1e-3, -1e-3))
    assert found.sum() == pytest.approx(0.0, abs=1e-15)
    # Plain differences with a step of 1e-3: relative 1e-6.
    assert found == pytest.approx((np.array(up) - down) / 2e-3, rel=1e-6)


def test_derivatives_hold_where_relative_parameters_have_gone_already():
    """Rotation vectors do not add up: the derivative is taken where they are."""
    e = experiment()
    at = {f"crystal.orientation_deg[{i}]": value for i, value in enumerate((5.0, -8.0, 3.0))}
    found = tangent(e, "crystal.orientation_deg[0]", at).cell_vectors_m

    def there(offset):
        return vectors(moved(e, {**at, "crystal.orientation_deg[0]": 5.0 + offset})[0])

    plain = (there(1e-2) - there(-1e-2)) / 2e-2
    assert found == pytest.approx(plain, rel=1e-6, abs=1e-7 * np.abs(plain).max())
    turned = {name.replace("orientation", "turn"): value for name, value in at.items()}
    w = tangent(e, "crystal.turn_deg[0]", turned).turn_rad
    start = np.radians([5.0, -8.0, 3.0])
    assert np.cross(w, vectors(moved(e, at)[0])) == pytest.approx(found, rel=1e-9, abs=1e-9 * np.abs(found).max())
    assert w == pytest.approx(turn_of_change(start, np.array([math.pi / 180, 0, 0])))


def test_every_family_with_a_step_has_a_tangent_somewhere():
    """No entry of the registry that nothing can reach; panels' fields are those of the plan."""
    matrix = ((0.03, 0, 0), (0, 0.025, 0), (0, 0, 0.02))
    near = {"n_fast": 24, "n_slow": 20, "pixel_mm": 2, "convention": "xds", "thickness_um": 300}
    mosaic = experiment().crystal.replace(mosaic_spread_deg=0.2)
    table = StructureFactors(default_F=1, indices=np.array([[1, 0, 0]]), amplitudes=np.array([3.0]))
    tried = [
        experiment(crystal=mosaic, beam=Beam(dispersion_percent=1, dispersion_steps=2), structure_factors=table),
        experiment(beam=Beam(flux_per_s=1e12), crystal=Crystal(mosflm_matrix=matrix)),
        experiment(detector=Detector(**near, close_distance_mm=80, close_x_mm=20, close_y_mm=24)),
        experiment(detector=Detector(**near, origin_mm=(-20, -20, 90))),
        experiment(detector=Detector(**near, org_x_px=10, org_y_px=9)),
        of_panels(300),
        of_panels(300, beam=Beam(wavelength_A=1.2)),
    ]
    reached = set()
    for e in tried:
        for family in FAMILIES:
            try:
                found = find_parameters(e, family.key.replace("[]", "[1]"))
                if family.key != "structure_factors.F2":
                    for slope in tangents_of(e, found):
                        assert slope.changed
                        rows = [np.shape(getattr(slope, field))[0] for field in OF_PANELS if field in slope.changed]
                        assert set(rows) <= {len(make_plan(e).panels)}
            except InputError:
                continue
            reached.add(family.key)
    assert reached == {family.key for family in FAMILIES}
