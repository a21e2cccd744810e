"""Counts of a series through a detector's response, and what its files say of it."""

from __future__ import annotations

import json

import h5py
import hdf5plugin  # noqa: F401
import numpy as np
import pytest

from bragg_numba import Experiment, InputError, OutputOptions, Response
from bragg_numba.cli.bragg import main
from bragg_numba.io.nxmx import DEAD, NOISY
from bragg_numba.plan.plan import make_plan
from bragg_numba.response.counter import poisson
from bragg_numba.series import rotation_series
from bragg_numba.series.recorder import response_of

WORDS = (
    "-cell 50 60 70 80 95 105 -default_F 100 -N 5 -fluence 1e28 -lambda 1.1 -detpixels_x 50 -detpixels_y 40 "
    "-pixel 0.1 -distance 20 -water 0.3 -roi 2 49 0 39 "
)


def sweep(words=WORDS, n=3):
    return rotation_series(Experiment.from_nanobragg(words), 0.0, 0.5, n)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("series")
    response = {"preset": "rayonix", "dead_pixels": 0.02, "hot_pixels": 0.01}
    options = {"seed": 7, "frames_per_file": 2, "precision": "float64"}
    sweep().write(folder / "s", response=response, **options)
    return folder


def test_counts_go_through_the_response(written):
    with h5py.File(written / "s_photons" / "s_master.h5") as file, h5py.File(written / "s_counts_master.h5") as counts:
        photons, found = file["/entry/data/data"][()], counts["/entry/data/data"][()]
        response = Response.from_dict(json.loads(counts["/entry/process/response"][()]))
        mask = counts["/entry/instrument/detector/pixel_mask"][()]
        assert found.dtype == np.uint16
        there = np.ones(photons.shape[1:], dtype=bool)
        there[:, :2] = False
        for frame in range(len(photons)):
            wanted = response.apply(photons[frame], 7, frame, pixel_um=100.0, mask=there, top=65533)
            assert np.array_equal(found[frame], wanted)
        dead, hot = response.bad_pixels(there.shape)
        assert np.array_equal(mask & DEAD > 0, dead)
        assert np.array_equal(mask & NOISY > 0, hot)
        assert (mask[:, :2] & 1).all()
        assert dead.any() and hot.any()
        detector = counts["/entry/instrument/detector"]
        assert detector["saturation_value"][()] == 65532
        assert (found[:, hot & there] == 65533).all()
        assert "response" not in file["/entry/process"]
        assert not (file["/entry/instrument/detector/pixel_mask"][()] & (DEAD | NOISY)).any()


def test_texts_beside_a_series_have_its_gain(written):
    gain = Response.preset("rayonix", photon_keV=12.39841984 / 1.1).adu_per_photon[0]
    panel = json.loads((written / "s.expt").read_text())["detector"][0]["panels"][0]
    assert panel["gain"] == pytest.approx(gain)
    assert panel["pedestal"] == 40.0
    assert panel["trusted_range"][1] == 65532.0
    assert f"gain = {gain:.9f}".rstrip("0")[:14] in (written / "s.phil").read_text()
    assert f"adu_per_photon = {gain:.9f}".rstrip("0")[:24] in (written / "s.geom").read_text()


def test_the_command_draws_the_counts_again(written, tmp_path, capsys):
    fields = tmp_path / "ccd.json"
    fields.write_text(json.dumps({"preset": "rayonix", "dead_pixels": 0.02, "hot_pixels": 0.01}))
    master = str(written / "s_photons" / "s_master.h5")
    assert main(["noise", master, "-o", str(tmp_path / "c.h5"), "--response", str(fields)]) == 0
    with h5py.File(tmp_path / "c.h5") as again, h5py.File(written / "s_counts_master.h5") as counts:
        assert np.array_equal(again["/entry/data/data"][()], counts["/entry/data/data"][()])
        assert again["/entry/process/response"][()] == counts["/entry/process/response"][()]
    assert main(["noise", master, "-o", str(tmp_path / "j.h5"), "--response", "jungfrau", "--seed", "9"]) == 0
    with h5py.File(tmp_path / "j.h5") as file:
        assert file["/entry/data/data"].dtype == np.uint32
        assert json.loads(file["/entry/process/response"][()])["name"] == "jungfrau"
    # The seed of the series is kept where none is given; without a response its counts are plain ones.
    assert main(["noise", master, "-o", str(tmp_path / "p.h5"), "--seed", "9"]) == 0
    with h5py.File(tmp_path / "p.h5") as plain, h5py.File(master) as photons:
        assert np.array_equal(plain["/entry/data/data"][1], poisson(photons["/entry/data/data"][1], 9, 1))
        assert "response" not in plain["/entry/process"]
    capsys.readouterr()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("jungfra", "ideal, eiger2"),
        ("missing.json", "missing.json"),
        ('{"preset": "film"}', "rayonix"),
        ('{"dead_time": 3}', "dead_time"),
        ("[1]", "object"),
        ("{", "JSON"),
    ],
)
def test_a_response_that_is_none_is_refused_in_one_sentence(written, tmp_path, capsys, text, said):
    name = text
    if text[0] in "{[":
        name = str(tmp_path / "r.json")
        (tmp_path / "r.json").write_text(text)
    master = str(written / "s_photons" / "s_master.h5")
    assert main(["noise", master, "-o", str(tmp_path / "c.h5"), "--response", name]) == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told) == 1
    assert said in told[0]
    assert not (tmp_path / "c.h5").exists()


def test_no_counts_and_a_response_contradict_each_other(tmp_path, capsys):
    sweep(n=1).save(tmp_path / "plan.json")
    command = ["series", str(tmp_path / "plan.json"), "-o", str(tmp_path / "s"), "--counts", "none", "--response"]
    assert main([*command, "eiger2"]) == 2
    assert "needs counts" in capsys.readouterr().err
    assert not list(tmp_path.glob("s*"))
    assert OutputOptions(response="none").response is None


def test_options_with_a_response_are_those_they_were_without_one():
    assert "response" not in OutputOptions(counts="uint32").pixel_options()
    options = OutputOptions(response=Response.preset("rayonix"))
    assert options.counts == "uint16"
    assert OutputOptions.from_dict(json.loads(json.dumps(options.to_dict()))) == options
    assert OutputOptions(response="eiger2").counts == "uint32"
    with pytest.raises(InputError, match="needs counts"):
        OutputOptions(response="eiger2", counts="none")


def test_a_sensor_that_absorbed_the_photons_is_not_asked_twice():
    thick = WORDS + "-detector_thick 450 -detector_abs 238 "
    assert response_of(make_plan(Experiment.from_nanobragg(thick)), "eiger2").quantum_efficiency == 1.0
    assert response_of(make_plan(Experiment.from_nanobragg(WORDS)), "eiger2").quantum_efficiency < 0.95


def test_files_say_what_was_done_with_virtual_pixels(written, tmp_path):
    chips = {"chip_pixels": [20, 40], "module_pixels": [42, 40]}
    there = np.isin(np.arange(50), [19, 20, 21, 22])
    for way in ("mask", "split"):
        (tmp_path / "r.json").write_text(json.dumps({**chips, "virtual_pixels": way}))
        out = tmp_path / f"{way}.h5"
        words = ["noise", str(written / "s_photons" / "s_master.h5"), "-o", str(out), "--seed", "3"]
        assert main([*words, "--response", str(tmp_path / "r.json"), "--counts", "uint32"]) == 0
        with h5py.File(out) as file:
            mask = file["/entry/instrument/detector/pixel_mask"][()]
            assert np.array_equal(mask >> 30 & 1, np.broadcast_to(there & (way == "mask"), mask.shape))
            applied = "/entry/instrument/detector/virtual_pixel_interpolation_applied"
            assert (applied in file and bool(file[applied][()])) == (way == "split")
            frames = file["/entry/data/data"][()].astype(int)
        if way == "mask":
            assert not frames[:, :, there].any()
        else:
            assert abs(frames[:, :, 19] - frames[:, :, 20]).max() == 1
