"""What a dose does: reflections by their spacing, the cell, series."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from bragg_numba import Damage, Experiment, InputError, Series, Simulator, rotation_series, simulate, still_series
from bragg_numba.plan.plan import make_plan

LINE = "-cell 40 50 60 -N 3 -detpixels 48 -pixel 0.8 -distance 60 -oversample 1 -fluence 1e26 -lambda 1 "


def experiment(damage: Damage | None = None, more: str = "-default_F 100") -> Experiment:
    return Experiment.from_nanobragg(LINE + more).replace(damage=damage)


def by_index(one: Experiment) -> dict[tuple[int, int, int], np.void]:
    simulator = Simulator(one)
    simulator.render()
    table = simulator.spot_table(0.0)
    return {(int(row["h"]), int(row["k"]), int(row["l"])): row for row in table}


@pytest.mark.parametrize("law", ["linear", "power"])
@pytest.mark.parametrize("extra", ["", "-gauss_xtal -fidelity physical"])
def test_a_reflection_fades_by_its_own_spacing(law, extra):
    damage = Damage(dose_MGy=15.0, law=law)
    fresh = by_index(experiment(None, "-default_F 100 " + extra))
    worn = by_index(experiment(damage, "-default_F 100 " + extra))
    assert fresh.keys() == worn.keys() and len(fresh) > 200
    for index, row in fresh.items():
        if not any(index):
            continue
        d = 1.0 / math.sqrt(sum((n / edge) ** 2 for n, edge in zip(index, (40, 50, 60), strict=True)))
        half = 10.0 * d if law == "linear" else 20.0 * (d / 2.0) ** 1.7
        expected = math.exp(-math.log(2.0) * 15.0 / half)
        assert worn[index]["photons"] / row["photons"] == pytest.approx(expected, rel=1e-5)


def test_half_is_left_at_10_MGy_an_angstrom():
    for d in (1.0, 2.0, 3.7):
        assert Damage(dose_MGy=10.0 * d).intensity_left(d) == pytest.approx(0.5)
    # All laws meet at 2 angstrom.
    for damage in (Damage(dose_MGy=20, law="power"), Damage(dose_MGy=20, exponent=2), Damage(dose_MGy=20, exponent=0)):
        assert damage.intensity_left(2.0) == pytest.approx(0.5)
    assert Damage(dose_MGy=20, exponent=0).intensity_left(7.0) == pytest.approx(0.5)
    # A B factor: the logarithm goes with 1 / d^2.
    logs = np.log(Damage(dose_MGy=20, exponent=2).intensity_left(np.array([1.0, 2.0, 4.0])))
    assert logs * [1, 4, 16] == pytest.approx([logs[0]] * 3)
    assert Damage(dose_MGy=7).intensity_left(math.inf) == 1.0


def test_amplitudes_of_a_list_and_those_beside_it_fade(tmp_path):
    (tmp_path / "few.hkl").write_text("0 0 1 50\n3 2 1 80\n-4 1 7 20\n")
    line = LINE + "-hkl few.hkl -default_F 10 -nointerpolate"
    fresh = make_plan(Experiment.from_nanobragg(line, tmp_path))
    worn = make_plan(Experiment.from_nanobragg(line + " -dose 8", tmp_path))

    def F(plan, *index) -> float:
        first = (plan.lookup.h_first, plan.lookup.k_first, plan.lookup.l_first)
        return float(plan.table[tuple(n - low for n, low in zip(index, first, strict=True))])

    for index, amplitude in (((3, 2, 1), 80), ((-4, 1, 7), 20), ((5, 5, 5), 10), ((0, 0, 0), 10)):
        q = math.sqrt(sum((n / edge) ** 2 for n, edge in zip(index, (40, 50, 60), strict=True)))
        assert F(worn, *index) == pytest.approx(amplitude * math.exp(-math.log(2) * 8 * q / 20.0))
    assert fresh.table.shape < worn.table.shape  # the fresh one holds the list alone
    # No reflection on the detector lies beyond.
    assert worn.lookup.has_table and min(worn.table.shape) > 2 * 40 / 2.5


def test_no_dose_is_bitwise_nothing():
    bare = simulate(experiment())
    assert np.array_equal(simulate(experiment(Damage())), bare)
    assert np.array_equal(simulate(experiment(Damage(dose_per_frame_MGy=3, cell_drift_per_MGy=(1e-3, 0, 0)))), bare)
    assert "damage" not in experiment().to_dict()


def test_the_cell_grows_with_the_dose_and_keeps_its_angles():
    oblique = "-default_F 100 -cell 40 50 60 80 95 105 -misset 10 20 30"
    drift = (1e-3, -5e-4, 2e-3)
    fresh = make_plan(experiment(None, oblique)).cell
    grown = make_plan(experiment(Damage(dose_MGy=4, cell_drift_per_MGy=drift), oblique)).cell
    np.testing.assert_allclose(grown.lengths_A, np.array(fresh.lengths_A) * (1 + 4 * np.array(drift)))
    np.testing.assert_allclose(grown.angles_deg, fresh.angles_deg)
    real, stars = np.array([grown.a, grown.b, grown.c]), np.array([grown.a_star, grown.b_star, grown.c_star])
    np.testing.assert_allclose(
        real @ stars.T,
        np.array([fresh.a, fresh.b, fresh.c]) @ np.array([fresh.a_star, fresh.b_star, fresh.c_star]).T,
        atol=1e-12,
    )
    assert grown.volume_A3 == pytest.approx(fresh.volume_A3 * float(np.prod(1 + 4 * np.array(drift))))


# --- series


def test_a_sweep_adds_up_doses_and_a_frame_has_half_of_its_own():
    series = rotation_series(experiment(Damage(dose_MGy=1.0, dose_per_frame_MGy=0.5)), 0.0, 1.0, 3)
    np.testing.assert_allclose(series.frames["dose_MGy"], [1.25, 1.75, 2.25])
    assert series.experiment_of(2).damage.dose_MGy == 2.25
    again = Series.from_json(series.to_json())
    np.testing.assert_allclose(again.frames["dose_MGy"], [1.25, 1.75, 2.25])


def test_doses_follow_the_fluence_of_each_frame():
    damage = Damage(photons_per_um2_per_Gy=2000.0)
    table = {"phi_deg": [0.0, 1.0, 2.0], "fluence_per_m2": [4e21, 8e21, 0.0]}
    series = Series(experiment(damage), table)
    # 4e21 / m^2 are 4e9 / um^2, 2 MGy.
    np.testing.assert_allclose(series.frames["dose_MGy"], [1.0, 4.0, 6.0])
    plain = rotation_series(experiment(damage, "-default_F 100 -fluence 4e21"), 0.0, 1.0, 2)
    np.testing.assert_allclose(plain.frames["dose_MGy"], [1.0, 3.0])


def test_stills_have_the_dose_that_they_are_given():
    per_frame = experiment(Damage(dose_per_frame_MGy=2.0))
    assert "dose_MGy" not in still_series(per_frame, 3).frames
    drawn = still_series(experiment(), 20, seed=3, distributions={"dose_MGy": {"uniform": [2, 9]}})
    doses = drawn.frames["dose_MGy"]
    assert doses.min() >= 2 and doses.max() <= 9 and len(set(doses)) == 20
    # Without a noun of its own, by the default law.
    assert drawn.experiment_of(4).damage == Damage(dose_MGy=float(doses[4]))
    given = Series(per_frame, [{"phi_deg": 0.0, "dose_MGy": 7.0}])
    assert given.frames["dose_MGy"].tolist() == [7.0]


def test_frames_of_a_series_share_the_undamaged_table():
    series = rotation_series(experiment(Damage(dose_per_frame_MGy=5.0)), 0.0, 1.0, 3)
    first = make_plan(series.experiment_of(0))
    last = make_plan(series.experiment_of(2), like=make_plan(series.experiment_of(1), like=first))
    assert last.intact_table[1] is first.intact_table[1]
    alone = make_plan(series.experiment_of(2))
    assert np.array_equal(last.table, alone.table)


# --- what is said


def test_flags_and_json_say_the_same():
    line = "-default_F 100 -dose 3 -dose_per_frame 0.5 -damage_law power -half_dose 12 -damage_exponent 1.5"
    one = Experiment.from_nanobragg(f"{LINE} {line} -cell_drift 0.1 0 -0.2")
    assert one.damage == Damage(
        dose_MGy=3,
        dose_per_frame_MGy=0.5,
        law="power",
        half_dose_MGy_per_A=12,
        exponent=1.5,
        cell_drift_per_MGy=(0.001, 0, -0.002),
    )
    assert Experiment.from_json(one.to_json()) == one
    fluence = Experiment.from_nanobragg(f"{LINE} -default_F 100 -dose_photons 2000")
    assert fluence.damage == Damage(photons_per_um2_per_Gy=2000)
    plan = json.dumps(
        {
            **{"format": "bragg_numba series", "version": 1, "nanobragg": LINE + "-default_F 100"},
            **{"damage": {"dose_per_frame_MGy": 2}, "rotation": {"start_deg": 0, "width_deg": 1, "n": 2}},
        }
    )
    np.testing.assert_allclose(Series.from_json(plan).frames["dose_MGy"], [1, 3])


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"dose_MGy": -1}, "dose_MGy must lie"),
        ({"dose_MGy": float("nan")}, "finite"),
        ({"law": "cubic"}, "must be one of linear, power"),
        ({"half_dose_MGy_per_A": 0}, "greater than 0"),
        ({"exponent": -1}, "between 0 and 10"),
        ({"dose_per_frame_MGy": 1, "photons_per_um2_per_Gy": 2000}, "must not come together"),
        ({"cell_drift_per_MGy": (0.1, 0)}, "3 numbers"),
        ({"dose_MGy": 10, "cell_drift_per_MGy": (-0.1, 0, 0)}, "between a tenth and ten times"),
    ],
)
def test_damage_that_cannot_be_is_refused(fields, said):
    with pytest.raises(InputError, match=said):
        Damage(**fields)


def test_other_things_than_damage_are_refused():
    with pytest.raises(InputError, match=r"Experiment.damage must be a Damage"):
        experiment(3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="frames.*dose_MGy must lie"):
        Series(experiment(), [{"dose_MGy": -2.0}])
