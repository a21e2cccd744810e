"""Several crystals on a frame, or none: images, spots, series and their truth."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401 - registers the filters
import numpy as np
import pytest

from bragg_numba import Crystal, Experiment, InputError, Lattice, Series, Simulator, simulate, still_series
from bragg_numba.cli.bragg import main
from bragg_numba.cli.info import describe
from bragg_numba.predict.spots import spot_table
from bragg_numba.series.draws import generator_of, random_rotations
from bragg_numba.series.options import OutputOptions
from bragg_numba.series.pipeline import Job
from bragg_numba.series.source import open_source, write_counts
from bragg_numba.series.workers import read_part, write_parts

LINE = "-cell 78 70 37 90 100 90 -default_F 100 -N 10 -lambda 1 -distance 100 -detpixels 64 -pixel 1.6 -fluence 1e27"


@pytest.fixture(scope="module")
def base() -> Experiment:
    return Experiment.from_nanobragg(f"{LINE} -oversample 1")


def turned(base: Experiment, n: int) -> list[Crystal]:
    turns = random_rotations(np.random.default_rng(1), n)
    return [base.crystal.replace(orientation=tuple(map(tuple, turn.tolist()))) for turn in turns]


# --- one image


def test_a_frame_is_the_weighted_sum_of_its_crystals(base):
    one, two, three = turned(base, 3)
    weights = (0.5, 1.0, 0.25)
    frame = simulate(base.replace(lattices=list(zip((one, two, three), weights, strict=True))), backend="cpu")
    alone = [simulate(base.replace(crystal=crystal), backend="cpu") for crystal in (one, two, three)]
    # Powers of two are exact in float32: what is left is the rounding of two sums.
    expected = sum(np.float64(weight) * image for weight, image in zip(weights, alone, strict=True))
    assert frame.max() > 10.0
    assert np.abs(frame - expected).max() <= 2 * np.finfo(np.float32).eps * frame.max()


def test_one_lattice_of_weight_1_is_the_crystal_alone_bit_by_bit(base):
    (crystal,) = turned(base, 1)
    frame = simulate(base.replace(lattices=[Lattice(crystal=crystal)]), backend="cpu")
    assert np.array_equal(frame, simulate(base.replace(crystal=crystal), backend="cpu"))


def test_a_flux_and_a_fluence_are_shared_alike(base):
    (crystal,) = turned(base, 1)
    beam = base.beam.replace(flux_per_s=base.beam.photons_per_m2 * (1e-4) ** 2, exposure_s=1.0, beam_size_mm=0.1)
    by_flux = base.replace(beam=beam, lattices=[(crystal, 0.3)])
    assert np.allclose(simulate(by_flux, backend="cpu"), simulate(base.replace(lattices=[(crystal, 0.3)])), rtol=1e-5)


@pytest.mark.parametrize("fidelity", ["nanobragg", "physical"])
def test_water_counts_once_whatever_the_number_of_crystals(base, fidelity):
    wet = base.replace(crystal=base.crystal.replace(water_um=5), fidelity=fidelity)
    dry = wet.replace(crystal=base.crystal)
    water = simulate(wet.replace(lattices=()), backend="cpu")
    assert water.min() > 0.0
    for crystals in (turned(wet, 1), turned(wet, 3)):
        lattices = [Lattice(crystal=crystal, weight=0.5) for crystal in crystals]
        bragg = simulate(
            dry.replace(lattices=[one.replace(crystal=one.crystal.replace(water_um=0)) for one in lattices])
        )
        frame = simulate(wet.replace(lattices=lattices), backend="cpu")
        assert np.abs(frame - (bragg + water)).max() <= 4 * np.finfo(np.float32).eps * frame.max()


def test_a_frame_without_a_crystal_is_dark(base):
    sim = Simulator(base.replace(lattices=[]), backend="cpu")
    assert not sim.render().any()
    assert len(spot_table(sim.plan)) == 0
    assert sim.statistics.sum == 0.0


def test_tiles_are_the_rows_of_the_frame(base):
    sim = Simulator(base.replace(lattices=turned(base, 2)), backend="cpu")
    rows = np.concatenate([rows.copy() for _, rows in sim.tiles(13)])
    assert np.array_equal(rows, sim.render())


def test_predictions_are_those_of_each_crystal_with_its_weight(base):
    one, two = turned(base, 2)
    together = base.replace(lattices=[(one, 0.5), (two, 2.0)])
    table = spot_table(Simulator(together).plan, 1e-3)
    for number, (crystal, weight) in enumerate(((one, 0.5), (two, 2.0))):
        alone = spot_table(Simulator(base.replace(crystal=crystal)).plan, 1e-3 / weight)
        own = table[table["lattice"] == number]
        assert len(own) == len(alone) > 50
        assert np.allclose(own["photons"], weight * alone["photons"], rtol=1e-12)
        for name in ("h", "k", "l", "slow", "fast", "partiality", "excitation_error_per_A"):
            assert np.array_equal(own[name], alone[name])


def test_an_experiment_with_lattices_is_its_json_and_one_without_has_none_there(base):
    together = base.replace(lattices=[(crystal, 0.5) for crystal in turned(base, 2)])
    again = Experiment.from_json(together.to_json())
    assert again == together
    assert again.lattices[1].weight == 0.5
    assert "lattices" not in base.to_json()
    assert "lattices[1]" in str(together)
    assert "9 of Lattice" in str(base.replace(lattices=9 * together.lattices[:1]))


@pytest.mark.parametrize(
    "lattices, message",
    [
        (3, "must be a list of Lattice"),
        ("ab", "must be a list of Lattice"),
        ([3], r"lattices\[0\] must be a Lattice, or a crystal and its weight"),
        ([(Crystal(cell=(50, 50, 50)), -1.0)], "Lattice.weight must lie between 0"),
        ([(Crystal(cell=(50, 50, 50)), np.nan)], "Lattice.weight must be a finite number"),
        ([Crystal(cell=(50, 50, 50), water_um=3.0)], "must be 0 or 0"),
    ],
)
def test_lattices_that_cannot_be_are_refused(base, lattices, message):
    with pytest.raises(InputError, match=message):
        base.replace(lattices=lattices)


@pytest.mark.parametrize(
    "lattices", [5, [5], [{}], [{"crystal": 5}], [{"crystal": {"cell": [50, 50, 50]}, "wight": 1}]]
)
def test_lattices_of_a_json_that_cannot_be_are_refused(base, lattices):
    values = {**json.loads(base.to_json()), "lattices": lattices}
    with pytest.raises(InputError):
        Experiment.from_json(json.dumps(values))


def test_a_pixel_of_several_crystals_is_traced_for_each_alone(base):
    together = base.replace(lattices=turned(base, 2))
    with pytest.raises(InputError, match="cannot be traced together"):
        Simulator(together).trace(3, 4)
    frame = simulate(together, backend="cpu")
    slow, fast = np.unravel_index(frame.argmax(), frame.shape)
    parts = [Simulator(together.of_lattice(i)).trace(int(slow), int(fast)).final["I_pixel_final"] for i in (0, 1)]
    assert sum(parts) == pytest.approx(float(frame.max()), rel=1e-5)


def test_a_saved_experiment_with_lattices_is_rendered_and_described_by_the_commands(base, tmp_path, capsys):
    together = base.replace(lattices=[(crystal, 0.5) for crystal in turned(base, 2)])
    together.save(tmp_path / "e.json")
    assert main(["render", str(tmp_path / "e.json"), "-o", str(tmp_path / "f.h5"), "--backend", "cpu"]) == 0
    assert main(["info", str(tmp_path / "f.h5")]) == 0
    assert "weight" in capsys.readouterr().out
    with h5py.File(tmp_path / "f.h5") as file:
        assert np.array_equal(np.squeeze(file["/entry/data/data"][()]), simulate(together, backend="cpu"))


# --- series


def test_every_way_to_make_a_series_makes_the_same_bytes(base, tmp_path):
    wet = base.replace(crystal=base.crystal.replace(water_um=2))
    given = {"hit_rate": 0.6, "count": {"1": 0.5, "2": 0.5}, "weights": {"uniform": [0.2, 1]}}
    series = still_series(wet, 6, seed=5, lattices=given)
    assert set(series.frames.lattices) == {0, 1, 2}
    sums = set()
    (part,) = write_parts(tmp_path / "plan", series, OutputOptions(), [Job(1, range(6), "")])
    told, _ = read_part(str(tmp_path / "plan"), part)  # by a worker
    for name, one, threads in (("a", series, None), ("b", series, 1), ("c", Series(told.experiment, told.frames), 1)):
        options = {"counts": "uint16", "frames_per_file": 4, "backend": "cpu", "spot_threshold": 1e-3}
        result = one.write(tmp_path / name / "s", threads=threads, **options)
        assert result.notes == ()  # frames that hit no crystal are as they should be
        sums.add(tuple(hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in result.data_files))
    assert len(sums) == 1
    with open_source(result.masters[0]) as source:
        for index in range(6):
            experiment = series.experiment_of(index)
            row, spots = source.truth(index)
            lattices = source.lattices(index)
            assert row["lattices"] == len(lattices) == series.frames.lattices[index]
            assert np.array_equal(source.frame(index), simulate(experiment, backend="cpu"))
            assert np.array_equal(spots, spot_table(Simulator(experiment).plan, 1e-3))
            for one, lattice in zip(lattices, experiment.lattices, strict=True):
                assert one["weight"] == lattice.weight
                assert np.abs(one["orientation"] - np.array(lattice.crystal.orientation)).max() < 1e-12
        assert np.isnan(source.truth(int(np.argmin(series.frames.lattices)))[0]["orientation"]).all()
        again = source.series
    assert again.frames.digest(0, 6) == series.frames.digest(0, 6)
    crystals = describe(result.masters[0])["crystals"]
    assert crystals == {"all": series.frames.lattices.sum(), "frames_without": (series.frames.lattices == 0).sum()}
    write_counts(result.masters[0], tmp_path / "n.h5", seed=2)
    with open_source(tmp_path / "n.h5") as source:
        assert np.array_equal(source.lattices(1)["frame"], [1] * series.frames.lattices[1])


def test_experiment_lists_have_every_crystal(base, tmp_path):
    frames = [{"lattices": [{"quaternion": (1, 0, 0, 0)}, {"quaternion": (1, 1, 0, 0)}]}, {"lattices": []}]
    Series(base, frames).write(tmp_path / "s", backend="cpu")
    listed = json.loads((tmp_path / "s.expt").read_text())
    assert [one["identifier"] for one in listed["experiment"]] == ["0-0", "0-1"]
    assert len(listed["crystal"]) == 2


def test_the_first_crystal_is_the_one_that_a_series_without_others_shows(base):
    alone = still_series(base, 5, seed=3)
    several = still_series(base, 5, seed=3, lattices={"count": 3})
    assert np.array_equal(alone.frames["orientation"], several.frames["lattice_orientation"][:, 0])
    longer = still_series(base, 9, seed=3, lattices={"count": 3, "hit_rate": 1.0})
    assert np.array_equal(longer.frames["lattice_orientation"][:5], several.frames["lattice_orientation"])


def test_hit_rates_and_numbers_are_those_that_were_asked_for(base):
    n = 4000
    series = still_series(base, n, lattices={"hit_rate": 0.3, "count": {"1": 3, "2": 1}})
    found = np.bincount(series.frames.lattices, minlength=3) / n
    # Five standard deviations of a binomial share.
    for share, wanted in zip(found, (0.7, 0.3 * 0.75, 0.3 * 0.25), strict=True):
        assert abs(share - wanted) < 5 * np.sqrt(wanted * (1 - wanted) / n)


def test_parts_of_a_split_crystal_lie_nearly_alike(base):
    series = still_series(base, 400, lattices={"count": 2, "split_deg": 0.5, "weights": [0.7, 0.3]})
    turns = series.frames["lattice_orientation"]
    traces = np.einsum("nij,nij->n", turns[:, 0], turns[:, 1])
    angles = np.degrees(np.arccos(np.clip((traces - 1) / 2, -1, 1)))
    assert np.sqrt(np.mean(angles**2)) == pytest.approx(0.5, rel=0.15)
    assert series.frames["lattice_weight"][7].tolist() == [0.7, 0.3]


def test_a_table_may_give_each_lattice_a_cell(base):
    series = Series(base, [{"lattices": [{"quaternion": (1, 0, 0, 0), "cell": (60, 70, 80, 90, 90, 90)}]}])
    experiment = series.experiment_of(0)
    assert experiment.lattices[0].crystal.cell == (60, 70, 80, 90, 90, 90)
    assert experiment.crystal == experiment.lattices[0].crystal


@pytest.mark.parametrize(
    "frames, message",
    [
        ([{"lattices": 3}], "must be a list of lattices"),
        ([{"lattices": [3]}], "must be a list of lattices"),
        ([{"lattices": [{"quaternion": (1, 0, 0, 0), "wieght": 2}]}], "did you mean weight"),
        ([{"lattices": [{"weight": 2}]}], "must all have orientation"),
        ([{"lattices": [{"quaternion": (1, 0, 0, 0), "weight": -2}]}], "must be at least 0"),
        ([{"lattices": [{"orientation": np.diag([1, 1, -1])}]}], "must be rotation matrices"),
        ([{"lattices": [{"orientation": np.eye(2)}]}], "must be rotation matrices"),
        ([{"lattices": [{"quaternion": (0, 0, 0, 0)}]}], "must be finite and not 0"),
        ([{"lattices": [], "orientation": np.eye(3)}], "every lattice has an orientation of its own"),
        ({"lattice_weight": [[1.0]]}, "must hold lattice_orientation"),
        ({"lattice_orientation": np.full((1, 1, 3, 3), np.inf)}, "must have finite numbers"),
        ({"lattice_orientation": np.eye(3)[None, None], "lattice_weight": [[np.nan]]}, "must have finite numbers"),
        ({"lattice_orientation": 3}, "must be numbers"),
    ],
)
def test_tables_of_lattices_that_cannot_be_are_refused(base, frames, message):
    with pytest.raises(InputError, match=message):
        Series(base, frames)


@pytest.mark.parametrize(
    "given, message",
    [
        (3, "must be a JSON object"),
        ({"hitrate": 0.5}, "did you mean hit_rate"),
        ({"hit_rate": 1.5}, "must lie between 0 and 1"),
        ({"count": 0}, "must lie between 1"),
        ({"count": {}}, "must be a number, or numbers and their probabilities"),
        ({"count": {"x": 1}}, "whole numbers of lattices"),
        ({"count": {"1": -1}}, "must lie at or above 0|must lie between"),
        ({"count": {"0": 1}}, "probability above 0"),
        ({"count": 2, "weights": [1.0]}, "must be one for each of 2 lattices"),
        ({"weights": "heavy"}, "must be a number"),
        ({"split_deg": -1}, "must lie between 0"),
    ],
)
def test_stills_with_lattices_that_cannot_be_are_refused(base, given, message):
    with pytest.raises(InputError, match=message):
        still_series(base, 2, lattices=given)


def test_generators_of_columns_are_apart():
    assert generator_of(1, "a").random() != generator_of(1, "b").random()


def test_backgrounds_count_once_whatever_the_number_of_crystals(base):
    from bragg_numba import Background

    wet = base.replace(backgrounds=(Background(material="water", thickness_mm=0.05),))
    air = simulate(wet.replace(lattices=()), backend="cpu")
    assert air.max() > 0.0
    crystals = turned(base, 2)
    frame = simulate(wet.replace(lattices=[Lattice(crystal=crystal) for crystal in crystals]), backend="cpu")
    bragg = simulate(base.replace(lattices=[Lattice(crystal=crystal) for crystal in crystals]), backend="cpu")
    assert np.abs(frame - (bragg + air)).max() <= 4 * np.finfo(np.float32).eps * frame.max()


# --- the truth that is summed


def test_spots_of_lattices_are_summed_where_all_are_rendered_spot_by_spot(base):
    small = base.crystal.replace(shape="gauss", cell_counts=(12, 13, 11))
    far = base.detector.replace(distance_mm=400)
    spots = base.sampling.replace(engine="spots")
    base = base.replace(crystal=small, detector=far, sampling=spots, fidelity="physical")
    one = base.replace(lattices=list(zip(turned(base, 2), (1.0, 0.5), strict=True)))
    sim = Simulator(one, backend="cpu")
    image = sim.render()
    table = sim.spot_table(0.0)

    assert sim.truth == "summed"
    assert set(table["lattice"]) == {0, 1}
    assert table["photons"].sum() == pytest.approx(image.sum(dtype=np.float64), rel=1e-5)
    for number in (0, 1):
        alone = Simulator(one.of_lattice(number), backend="cpu")
        alone.render()
        own = alone.spot_table(0.0)
        mine = table[table["lattice"] == number]
        assert all(np.array_equal(own[name], mine[name]) for name in own.dtype.names if name != "lattice")
    assert Simulator(base.replace(lattices=()), backend="cpu").truth == "predicted"
    with pytest.raises(InputError, match="lattices"):
        sim.labels()


def test_diffuse_scattering_is_refused_where_it_would_be_one_crystals_alone(base):
    from bragg_numba import Diffuse

    with pytest.raises(InputError, match="lattices"):
        base.replace(lattices=[Lattice(crystal=base.crystal)], diffuse=Diffuse())
