"""The table of frames: what it takes, what it refuses, what it changes."""

import numpy as np
import pytest

from bragg_numba import Experiment, InputError
from bragg_numba.series import Series, rotation_series, still_series
from bragg_numba.series.frames import rotation_of_quaternion

WORDS = "-cell 50 60 70 80 95 105 -default_F 100 -N 5 -detpixels 32 -lambda 1.2"
EPS = np.finfo(np.float64).eps


@pytest.fixture(scope="module")
def experiment():
    return Experiment.from_nanobragg(WORDS)


def test_a_structured_array_a_csv_file_and_rows_make_the_same_table(experiment, tmp_path):
    table = np.zeros(2, dtype=[("phi_deg", float), ("wavelength_A", float), ("cell_counts", int, 3), ("seed", "u8")])
    table["phi_deg"], table["wavelength_A"] = [0.0, 0.5], [1.0, 1.1]
    table["cell_counts"], table["seed"] = [[3, 4, 5], [6, 7, 8]], [1, 2**64 - 1]
    path = tmp_path / "frames.csv"
    path.write_text(f"phi_deg,wavelength_A,n_a,n_b,n_c,seed\n0.0,1.0,3,4,5,1\n0.5,1.1,6,7,8,{2**64 - 1}\n")
    rows = ({name: row[name] for name in table.dtype.names} for row in table)
    digests = {Series(experiment, given).frames.digest(0, 2) for given in (table, path, rows)}
    assert len(digests) == 1
    second = Series(experiment, table).experiment_of(1)
    assert second.crystal.cell_counts == (6, 7, 8)
    assert second.beam.wavelength_A == 1.1
    assert second.rotation.phi_deg == 0.5


def test_what_does_not_change_is_the_same_object_in_every_frame(experiment):
    series = Series(experiment, [{"phi_deg": 1.0}, {"phi_deg": 2.0}])
    assert series.experiment_of(1).structure_factors is experiment.structure_factors
    assert series.experiment_of(1).detector is experiment.detector


def test_the_structure_factor_table_is_planned_once():
    from bragg_numba.series.options import OutputOptions
    from bragg_numba.series.pipeline import Renderer

    series = rotation_series(Experiment.from_nanobragg(WORDS), 0.0, 1.0, 2)
    renderer = Renderer(series, OutputOptions())
    first = renderer.plan(0)
    assert renderer.plan(1).table is first.table


def test_a_quaternion_turns_as_its_half_angle_says():
    # 90 degrees about z takes x to y.
    half = np.radians(45.0)
    turned = rotation_of_quaternion([[2 * np.cos(half), 0, 0, 2 * np.sin(half)]])[0] @ [1.0, 0.0, 0.0]
    assert np.abs(turned - [0.0, 1.0, 0.0]).max() <= 4 * EPS


def test_random_orientations_are_uniform_rotations(experiment):
    u = still_series(experiment, 4000, seed=5).frames["orientation"]
    assert np.abs(u @ np.swapaxes(u, 1, 2) - np.eye(3)).max() < 16 * EPS
    assert np.allclose(np.linalg.det(u), 1.0, atol=16 * EPS)
    # Every element of a uniform rotation has mean 0 and variance 1/3: 5 sigma of the mean of 4000.
    assert np.abs(u.mean(axis=0)).max() < 5 * np.sqrt(1 / 3 / 4000)
    # and the mean rotation angle is pi/2 + 2/pi, with a standard deviation below 0.7
    angle = np.arccos(np.clip((np.trace(u, axis1=1, axis2=2) - 1) / 2, -1, 1))
    assert abs(angle.mean() - (np.pi / 2 + 2 / np.pi)) < 5 * 0.7 / np.sqrt(4000)


def test_a_longer_series_of_stills_begins_with_the_shorter_one(experiment):
    ways = {"wavelength_A": {"normal": [1.0, 0.01]}, "mosaic_spread_deg": {"uniform": [0.1, 0.2]}}
    short = still_series(experiment, 3, seed=9, distributions=ways)
    long = still_series(experiment, 8, seed=9, distributions=ways)
    alone = still_series(experiment, 8, seed=9)
    for name in short.frames.columns:
        assert np.array_equal(short.frames[name], long.frames[name][:3])
    assert np.array_equal(alone.frames["orientation"], long.frames["orientation"])


def test_a_sweep_starts_each_frame_where_the_last_one_ended(experiment):
    series = rotation_series(experiment, 10.0, 0.25, 4)
    assert series.frames["phi_deg"].tolist() == [10.0, 10.25, 10.5, 10.75]
    assert series.experiment.rotation.osc_deg == 0.25


def test_a_spectrum_becomes_sources_on_the_axis():
    experiment = Experiment.from_nanobragg(WORDS).replace(fidelity="physical")
    series = Series(experiment, [{"spectrum": [(1.0, 1.0), (1.01, 3.0)]}, {"spectrum": [(1.02, 2.0)]}])
    beam = series.experiment_of(0).beam
    assert beam.pulse.weight.tolist() == [1.0, 3.0]
    assert beam.wavelength_A == pytest.approx(1.0075, rel=4 * EPS)
    assert len(series.experiment_of(1).beam.pulse.weight) == 1


def test_a_saved_plan_gives_the_same_series(experiment, tmp_path):
    series = still_series(experiment, 3, seed=4, distributions={"seed": {"choice": [1, 2, 3]}})
    series.save(tmp_path / "plan.json", {"counts": "uint16"})
    loaded = Series.load(tmp_path / "plan.json")
    assert loaded.frames.digest(0, 3) == series.frames.digest(0, 3)
    assert loaded.experiment == series.experiment


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        ([{"phi": 1.0}], "did you mean phi_deg"),
        ([], "at least one column"),
        ([{"phi_deg": float("nan")}], "finite"),
        ([{"phi_deg": 1.0}, {"wavelength_A": 1.0}], "columns of the first frame"),
        ([{"cell_counts": (1.5, 2, 3)}], "whole numbers"),
        ([{"orientation": np.diag([1.0, 1.0, -1.0])}], "rotation matrix"),
        ([{"quaternion": (0, 0, 0, 0)}], "not 0"),
        ([{"spectrum": [(1.0, 1.0), (1.1, -2.0)]}], "at least 0"),
        ([{"shot": 3}], "shots of a Beam.spectrum"),
        ([{"wavelength_A": 1.0, "spectrum": [(1.0, 1.0)]}], "either wavelength_A or spectrum"),
        ({"phi_deg": [1.0, 2.0], "wavelength_A": [1.0]}, "one length"),
        ([{"seed": -1}], "from 0"),
    ],
)
def test_a_table_that_cannot_be_honoured_is_refused_by_name(experiment, frames, words):
    with pytest.raises(InputError, match=words):
        Series(experiment, frames)


def test_a_wavelength_that_would_have_no_effect_is_refused():
    experiment = Experiment.from_nanobragg(WORDS)
    fixed = experiment.replace(beam=experiment.beam.replace(sources=((None, None, None, 1.0, 1e-10),)))
    with pytest.raises(InputError, match="has no effect"):
        Series(fixed, [{"wavelength_A": 1.1}])
