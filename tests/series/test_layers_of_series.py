"""Transmission, sensors and damage of series: what the files say, and what of frames arrives."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest

from bragg_numba import (
    Background,
    Beamstop,
    Damage,
    Experiment,
    InputError,
    Series,
    Shadow,
    Simulator,
    Window,
    rotation_series,
)
from bragg_numba.cli.bragg import main
from bragg_numba.series.source import write_counts, write_nxmx

LINE = "-cell 50 -default_F 100 -N 3 -detpixels 32 -pixel 0.8 -distance 60 -oversample 1 -fluence 1e26 -lambda 1 "
HEAD = [(20, 5, 5), (20, 10, 5), (20, 10, 10), (20, 5, 10)]
QUIET = {"exports": False, "spots": True, "threads": 1}


def experiment(more: str = "", **parts) -> Experiment:
    return Experiment.from_nanobragg(LINE + more).replace(**parts)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The master of a sweep with all of it, and the series."""
    ways = (
        Window(material="al", thickness_um=200, backgrounds=False),
        Beamstop(diameter_mm=4, distance_mm=30),
        Shadow(corners_mm=HEAD, turns=True),
    )
    one = experiment(
        "-water 3 -sensor CdTe -detector_thick 500",
        transmission=ways,
        backgrounds=(Background(material="air", thickness_mm=5),),
        damage=Damage(dose_per_frame_MGy=4.0),
    )
    series = rotation_series(one, 0.0, 10.0, 3)
    prefix = tmp_path_factory.mktemp("layers") / "s"
    (master,) = series.write(prefix, **QUIET).masters
    return master, series


def frames_of(master) -> np.ndarray:
    with h5py.File(master) as file:
        frames: np.ndarray = file["/entry/data/data"][()]
        return frames


def test_frames_are_what_arrives(written):
    master, series = written
    for index, frame in enumerate(frames_of(master)):
        assert np.array_equal(frame, Simulator(series.experiment_of(index)).render())


def test_the_master_keeps_the_transmission_and_marks_what_is_always_dark(written):
    master, series = written
    still = series.experiment.transmission[:2]
    whole = Simulator(series.experiment_of(0).replace(transmission=still))
    with h5py.File(master) as file:
        assert np.array_equal(file["/entry/transmission/crystal"][()], whole.transmission())
        assert np.array_equal(file["/entry/transmission/backgrounds"][()], whole.transmission(backgrounds=True))
        assert [name.decode() for name in file["/entry/transmission/obstacles"]] == [
            *("window of al", "beamstop", "shadow")
        ]
        mask = file["/entry/instrument/detector/pixel_mask"][()]
        assert np.array_equal(mask, np.where(whole.transmission() == 0.0, 256, 0))
        assert file["/entry/instrument/detector/sensor_material"][()] == b"CdTe"
        assert file["/entry/instrument/detector/sensor_thickness"][()] == pytest.approx(500e-6)


def test_the_truth_has_each_frames_dose_and_the_photons_that_arrive(written):
    master, series = written
    with h5py.File(master) as file:
        frames = file["/entry/truth/frames"][()]
        spots = file["/entry/truth/spots_000001"][()]
    np.testing.assert_allclose(frames["dose_MGy"], [2.0, 6.0, 10.0])
    simulator = Simulator(series.experiment_of(1))
    simulator.render()
    own = spots[frames["first_spot"][1] :][: frames["spots"][1]]
    assert np.array_equal(own, simulator.spot_table(1.0))


def test_each_background_is_stored_as_it_arrives(written, tmp_path):
    master, series = written
    with h5py.File(master) as file:
        group = file["/entry/background"]
        water, air = group["photons"][()][group["index"][1]], group["air/photons"][()][group["air/index"][1]]
    both = series.experiment_of(1)
    dark = both.replace(structure_factors=both.structure_factors.replace(default_F=1e-9), damage=None)
    expected = Simulator(dark, precision="float64").render()
    np.testing.assert_allclose(water + air, expected, rtol=1e-4, atol=1e-6 * expected.max())
    assert not air[15:17, 15:17].any() and air.max() > 0.0
    write_counts(master, tmp_path / "n.h5", seed=3, background=0.0)
    with h5py.File(tmp_path / "n.h5") as file:
        assert "crystal" in file["/entry/transmission"]


def test_rewritten_files_keep_the_transmission(written, tmp_path):
    master, _ = written
    write_nxmx(master, tmp_path / "again.h5")
    with h5py.File(tmp_path / "again.h5") as file, h5py.File(master) as first:
        assert np.array_equal(file["/entry/transmission/crystal"][()], first["/entry/transmission/crystal"][()])
        assert file["/entry/truth/frames"]["dose_MGy"].tolist() == [2.0, 6.0, 10.0]


def test_a_series_without_any_of_it_says_nothing_of_it(tmp_path):
    (master,) = rotation_series(experiment(), 0.0, 1.0, 1).write(tmp_path / "s", **QUIET).masters
    with h5py.File(master) as file:
        assert "transmission" not in file["/entry"]
        assert file["/entry/truth/frames"]["dose_MGy"].tolist() == [0.0]
        assert file["/entry/instrument/detector/sensor_material"][()] == b"Si"


@pytest.mark.parametrize(
    ("word", "said", "truly"),
    [("silicon", b"Si", b"Si"), ("gaas", b"GaAs", b"GaAs"), ("p43", b"Si", b"Gd2O2S")],
)
def test_masters_name_materials_as_readers_know_them(tmp_path, word, said, truly):
    one = experiment(f"-sensor {word} -detector_thick 100")
    result = rotation_series(one, 0.0, 1.0, 1).write(tmp_path / "s", **QUIET)
    with h5py.File(result.masters[0]) as file:
        detector = file["/entry/instrument/detector"]
        assert detector["sensor_material"][()] == said
        assert detector["detectorSpecific/sensor_material"][()] == truly
    assert any("DIALS knows sensors" in note for note in result.notes) == (said != truly)


PLAN = {
    "format": "bragg_numba series",
    "version": 1,
    "nanobragg": LINE + "-sensor Si -detector_thick 320",
    "rotation": {"start_deg": 0, "width_deg": 1, "n": 2},
    "transmission": [{"kind": "air"}, {"kind": "shadow", "corners_mm": HEAD, "turns": True}],
    "damage": {"dose_per_frame_MGy": 2},
}


def test_a_plan_has_transmission_and_damage(tmp_path):
    (tmp_path / "plan.json").write_text(json.dumps(PLAN))
    series = Series.load(tmp_path / "plan.json")
    assert [type(one).__name__ for one in series.experiment.transmission] == ["AirPath", "Shadow"]
    assert series.frames["dose_MGy"].tolist() == [1.0, 3.0]
    assert Series.from_json(series.to_json()).experiment == series.experiment


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"transmission": {"kind": "air"}}, "transmission must be a list"),
        ({"transmission": [{"kind": "mist"}]}, r"transmission\[0\].kind must be one of"),
        ({"transmission": [{"kind": "air", "gas": "mist"}]}, "AirPath.gas must be"),
        ({"damage": 3}, "Damage must be a JSON object"),
        ({"damage": {"dose": 3}}, "Damage.dose is not a known field"),
    ],
)
def test_a_plan_that_says_it_wrongly_is_refused(tmp_path, changes, said):
    (tmp_path / "plan.json").write_text(json.dumps({**PLAN, **changes}))
    with pytest.raises(InputError, match="plan.json.*" + said):
        Series.load(tmp_path / "plan.json")


def test_the_commands_report_what_stands_in_the_way(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    from bragg_numba.cli.nanobragg import main as nanobragg

    words = f"{LINE} -air all -beamstop 2 30 -dose 20 -sensor Si -detector_thick 320 -o f.h5"
    assert nanobragg(words.split()) == 0
    out = capsys.readouterr().out
    assert "air: 0.98" in out and "beamstop" in out and "sensor of Si is 0.00032 m thick" in out
    assert "dose 20 MGy: 0.5 of the intensity is left at 2 A" in out
    assert main(["info", "f.h5"]) == 0
    out = capsys.readouterr().out
    assert "1 beamstop" in out and "dose_MGy" in out
    assert main(["render", "f.h5", "-o", "g.h5", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)["plan"]
    assert report["dose_MGy"] == 20 and report["sensor"] == "Si" and report["transmission"][0][0] == "air"
    with h5py.File("f.h5") as one, h5py.File("g.h5") as other:
        assert np.array_equal(one["/entry/data/data"][()], other["/entry/data/data"][()])
