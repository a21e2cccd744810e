"""Label images in the files of a series, and which way its truth was got."""

import json

import h5py
import numpy as np
import pytest

from bragg_numba import Experiment, InputError, Simulator
from bragg_numba.cli.bragg import main
from bragg_numba.series import pipeline, still_series, truth
from bragg_numba.series.options import OutputOptions
from bragg_numba.series.source import open_source

WORDS = (
    "-cell 50 60 70 80 95 105 -default_F 100 -lambda 1 -distance 100 -misset 10 20 30 -fluence 1e27 "
    "-pixel 0.2 -detpixels_x 163 -detpixels_y 91 -N 12 -oversample 1 -gauss_xtal"
)


def series(engine: str, n: int = 3):
    experiment = Experiment.from_nanobragg(WORDS).replace(fidelity="physical")
    return still_series(experiment.replace(sampling=experiment.sampling.replace(engine=engine)), n, seed=4)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("labels")
    series("spots").write(folder / "s", frames_per_file=2, labels=True, counts="uint16", threads=1, spot_threshold=0.1)
    return folder


def test_files_hold_the_labels_and_the_sums_of_each_frame(written):
    stills = series("spots")
    with h5py.File(written / "s_photons" / "s_master.h5") as file:
        frames = file["/entry/truth/frames"][()]
        assert list(frames["truth"]) == [b"summed"] * 3
        assert json.loads(file["/entry/process/rendering"][()])["truth"] == "summed"
        assert "photons" in file["/entry/truth/spots_000001"].attrs["meaning"]
        for index in range(3):
            simulator = Simulator(stills.experiment_of(index), backend="cpu", threads=1)
            simulator.render()
            row, table = frames[index], file[f"/entry/truth/spots_{index // 2 + 1:06d}"]
            table = table[row["first_spot"] : row["first_spot"] + row["spots"]]
            assert len(table) and np.array_equal(table, simulator.spot_table(0.1))
            images = file[f"/entry/truth/labels_{index // 2 + 1:06d}"]
            labels = simulator.labels(0.1).images()
            assert set(images) == set(labels) == set(truth.LABELS)
            for name, image in labels.items():
                np.testing.assert_array_equal(images[name][index % 2], image)
            assert images["spot"].dtype == np.int32 and images["h"].dtype == np.float32
    with h5py.File(written / "s_counts_master.h5") as file:
        assert "labels_000001" not in file["/entry/truth"]


def test_readers_find_the_spots_of_a_frame(written):
    with open_source(written / "s_photons" / "s_master.h5") as source:
        row, spots = source.truth(2)
        assert row["truth"] == b"summed" and row["first_spot"] == 0 and len(spots) == row["spots"] > 0


def test_pixels_say_that_their_truth_is_predicted(tmp_path):
    series("pixels", 1).write(tmp_path / "s", threads=1)
    with h5py.File(tmp_path / "s_master.h5") as file:
        assert file["/entry/truth/frames"]["truth"][0] == b"predicted"


def test_labels_need_spots_and_the_engine_of_spots(tmp_path, capsys):
    with pytest.raises(InputError, match="output.labels need the table of spots"):
        OutputOptions(labels=True, spots=False)
    with pytest.raises(InputError, match="output.labels"):
        OutputOptions(labels="yes")
    experiment = Experiment.from_nanobragg(f"{WORDS} -curved_det")
    still_series(experiment, 2).save(tmp_path / "plan.json")
    assert main(["series", str(tmp_path / "plan.json"), "--labels", "--quiet"]) == 2
    assert "output.labels cannot be made: a detector is curved" in capsys.readouterr().err
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".h5"]


def test_what_a_file_is_does_not_depend_on_options_that_are_off():
    assert "labels" not in OutputOptions().pixel_options() and OutputOptions(labels=True).pixel_options()["labels"]


def test_tables_are_written_in_pieces_where_they_grow_large(tmp_path, monkeypatch):
    monkeypatch.setattr(truth, "SPOTS_KEPT", 5)
    monkeypatch.setattr(truth, "FRAMES_KEPT", 2)
    stills = series("pixels", 5)
    stills.write(tmp_path / "s", threads=1, spot_threshold=0.1)
    with open_source(tmp_path / "s_master.h5") as source:
        for index in range(5):
            row, spots = source.truth(index)
            assert row["frame"] == index and row["spots"] > 0
            simulator = Simulator(stills.experiment_of(index), backend="cpu")
            assert np.array_equal(spots, simulator.spot_table(0.1))


def test_plans_share_the_detector_that_does_not_move():
    stills = series("pixels", 2)
    renderer = pipeline.Renderer(stills, OutputOptions())
    first, second = renderer.plan(0), renderer.plan(1)
    assert second.detector is first.detector and second.sources is first.sources and second.panels is first.panels
    moved = stills.experiment.replace(detector=stills.experiment.detector.replace(distance_mm=101.0))
    again = pipeline.make_plan(moved, like=first)
    assert again.detector.distance != first.detector.distance and again.panels != first.panels
