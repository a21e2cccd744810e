"""What there is to see of a file: layers, mask, spots, facts, and what a page may ask for."""

from __future__ import annotations

import json
import shutil
import zlib

import h5py
import hdf5plugin  # noqa: F401
import numpy as np
import pytest
from frames_to_look_at import flat, made_up, write, write_wet_series

from bragg_numba import InputError
from bragg_numba.view.gallery import SPOT_COLUMNS, Gallery, NotThere
from bragg_numba.view.scene import NO_PIXEL, ROUNDING, open_scene


@pytest.fixture(scope="module")
def wet(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wet")
    write_wet_series(folder)
    return folder


def unpacked(answer, dtype) -> np.ndarray:
    planes = np.frombuffer(zlib.decompress(answer.data), np.uint8).reshape(np.dtype(dtype).itemsize, -1)
    return np.ascontiguousarray(planes.T).view(dtype).ravel()


def pixels(path, index):
    with h5py.File(path) as file:
        return file["/entry/data/data"][index]


@pytest.mark.parametrize("master", ["s_photons/s_master.h5", "s_counts_master.h5"])
def test_photons_are_the_sum_of_their_layers_and_counts_lie_beside(wet, master):
    photons, counts = (pixels(wet / name, 2) for name in ("s_photons/s_master.h5", "s_counts_master.h5"))
    with open_scene(wet / master) as scene:
        images = {layer.name: layer.read(2) for layer in scene.layers}
        labels = {layer.name: layer.label for layer in scene.layers}
        own = photons if "photons" in master else counts
        assert np.array_equal(images["frame"], own) and images["frame"].dtype == own.dtype
        assert np.array_equal(images["counts" if own is photons else "photons"], counts if own is photons else photons)
    assert labels["background-0"] == "background: water" and labels["background-1"] == "background: <glass>"
    rest = photons - images["background-0"] - images["background-1"]
    assert (images["bragg"] >= -1e-6 * photons).all() and images["bragg"].max() > 1
    assert (np.abs(images["bragg"] - rest) <= 2 * ROUNDING * photons).all()
    assert images["background-0"][20, 20] != images["background-1"][20, 20]


def test_photons_alone_are_drawn_from_as_noise_would(wet, tmp_path, capsys):
    from bragg_numba.cli.bragg import main

    shutil.copytree(wet / "s_photons", tmp_path / "alone")
    master = tmp_path / "alone" / "s_master.h5"
    assert main(["noise", str(master), "-o", str(tmp_path / "n.h5"), "--counts", "uint32"]) == 0
    with open_scene(master) as scene:
        noise = scene.layer("noise")
        assert noise.unit == "counts"
        for index in (0, 3):
            assert np.array_equal(noise.read(index), pixels(tmp_path / "n.h5", index))


def test_what_lies_in_the_place_of_the_counts_and_is_not_theirs_is_left_alone(wet, tmp_path):
    shutil.copytree(wet, tmp_path / "w")
    with h5py.File(tmp_path / "w" / "s_counts_master.h5", "r+") as file:
        del file["/entry/process/experiment"]
    with open_scene(tmp_path / "w" / "s_photons" / "s_master.h5") as scene:
        assert [layer.name for layer in scene.layers if layer.unit == "counts"] == ["noise"]


def test_the_mask_says_where_nothing_was_rendered(wet):
    with open_scene(wet / "s_counts_master.h5") as scene:
        assert (scene.mask[:, :2] == NO_PIXEL).all() and not scene.mask[:, 2:].any()


def test_spots_are_those_of_the_truth_brightest_first(wet):
    with open_scene(wet / "s_counts_master.h5") as scene:
        table, _ = scene.spots(1)
        _, truth = scene.source.truth(1)
    assert len(table) == len(truth) > 5
    assert (np.diff(table["photons"]) <= 0).all()
    assert np.array_equal(np.sort(table["photons"]), np.sort(truth["photons"]))


def test_a_frame_of_the_command_line_has_spots_that_are_predicted_now(tmp_path):
    experiment = flat(50, 40, "-fluence 1e28")
    with open_scene(write(tmp_path / "f.h5", made_up((40, 50)), experiment)) as scene:
        table, said = scene.spots(0)
        assert len(table) and said == "predicted now"
        assert ("wavelength_A", 1.1) in scene.facts(0)
    running = flat(50, 40, "-fluence 1e28 -oversample_omega")
    with open_scene(write(tmp_path / "g.h5", made_up((40, 50)), running)) as scene:
        table, said = scene.spots(0)
        assert not len(table) and "cannot be predicted" in said


# --- what a page may ask for


def test_every_name_that_a_page_may_ask_for_has_an_answer(wet):
    with open_scene(wet / "s_photons" / "s_master.h5") as scene:
        gallery = Gallery(scene, frames=[1, 3])
        names = gallery.names()
        answers = {name: gallery.answer(name) for name in names}
        scene_says = json.loads(answers["scene"].data)
        assert (scene_says["frames"], scene_says["start"], scene_says["total"]) == ([1, 3], 1, 4)
        for index in (1, 3):
            for layer in scene.layers:
                tile = unpacked(answers[f"tile/{index}/{layer.name}/0/0/0"], layer.dtype).reshape(40, 50)
                assert np.array_equal(tile, layer.read(index)), layer.name
                numbers = json.loads(answers[f"numbers/{index}/{layer.name}"].data)
                assert numbers["max"] == pytest.approx(float(layer.read(index)[:, 2:].max()))
            table, _ = scene.spots(index)
            columns = unpacked(answers[f"spots/{index}"], np.float32).reshape(len(SPOT_COLUMNS), -1)
            assert np.array_equal(columns[0], table["h"]) and np.allclose(columns[5], table["photons"], rtol=1e-6)
        assert np.array_equal(unpacked(answers["mask/0/0/0"], np.uint8).reshape(40, 50), scene.mask)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "scene/",
        "frame/0",
        "frame/4",
        "frame/-1",
        "frame/1x",
        "frame/٣",
        "frame/" + "9" * 5000,
        "numbers/1/none",
        "tile/1/frame/0/0/1",
        "tile/1/frame/1/0/0",
        "tile/1/frame/999999999/0/0",
        "mask/0/1/0",
        "mask/7/0/0",
        "../scene",
        "tile/1/../0/0/0",
    ],
)
def test_there_is_nothing_under_other_names(wet, name):
    with open_scene(wet / "s_photons" / "s_master.h5") as scene:
        gallery = Gallery(scene, frames=[1, 3])
        with pytest.raises(NotThere):
            gallery.answer(name)


def test_a_layer_that_is_not_there_is_named_with_those_that_are(wet):
    with (
        open_scene(wet / "s_photons" / "s_master.h5") as scene,
        pytest.raises(InputError, match="frame, counts, bragg"),
    ):
        scene.layer("nothing")


def test_images_that_were_not_asked_for_longest_are_given_up(wet, monkeypatch):
    from bragg_numba.view import gallery as module

    monkeypatch.setattr(module, "KEPT_BYTES", 3 * 50 * 40 * 4 * 4 // 3)
    with open_scene(wet / "s_photons" / "s_master.h5") as scene:
        gallery = Gallery(scene)
        for index in (0, 1, 0, 2, 3):
            gallery.answer(f"tile/{index}/frame/0/0/0")
        assert list(gallery._pyramids) == [(0, "frame"), (2, "frame"), (3, "frame")]
