"""Spots as peaks: CXI as CrystFEL reads it, COCO for training; frames as miniCBF."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import fabio
import h5py
import hdf5plugin
import numpy as np
import pytest
from PIL import Image

from bragg_numba import Experiment
from bragg_numba.cli.bragg import main
from bragg_numba.series import rotation_series, still_series
from bragg_numba.series.source import open_source

#: As in test_labels.py, whose kernels it shares.
WORDS = (
    "-cell 50 60 70 80 95 105 -default_F 100 -lambda 1 -distance 100 -misset 10 20 30 -fluence 1e27 "
    "-pixel 0.2 -detpixels_x 163 -detpixels_y 91 -N 12 -oversample 1 -gauss_xtal"
)


def experiment(words: str = "") -> Experiment:
    found = Experiment.from_nanobragg(f"{WORDS} {words}").replace(fidelity="physical")
    return found.replace(sampling=found.sampling.replace(engine="spots"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Counts with labels (``l``) and photons without (``p``), three stills each; counts of a sweep (``w``)."""
    at = tmp_path_factory.mktemp("peaks")
    stills = still_series(experiment(), 3, seed=4)
    some = {"frames_per_file": 2, "threads": 1, "spot_threshold": 0.1}
    stills.write(at / "l", photons=False, counts="uint16", labels=True, **some)
    stills.write(at / "p", **some)
    sweep = rotation_series(experiment("-Xbeam 9 -Ybeam 17"), 5.0, 0.25, 2)
    sweep.write(at / "w", photons=False, counts="uint32", **some)
    return at


def truth(path):
    with open_source(path) as source:
        return [(source.frame(index), source.truth(index)[1]) for index in range(len(source.series))]


# --- CXI


def test_a_cxi_file_has_the_spots_as_peaks_and_the_frames(folder, tmp_path):
    assert main(["export", str(folder / "l_master.h5"), "--cxi", str(tmp_path / "l.cxi")]) == 0
    with h5py.File(tmp_path / "l.cxi") as file:
        peaks = file["/entry_1/result_1"]
        assert int(file["cxi_version"][()]) >= 140
        for index, (frame, spots) in enumerate(truth(folder / "l_master.h5")):
            n = peaks["nPeaks"][index]
            assert n == len(spots) > 3
            spots = spots[np.argsort(-spots["photons"], kind="stable")]
            for name, expected in (
                ("peakXPosRaw", spots["fast"] - 0.5),
                ("peakYPosRaw", spots["slow"] - 0.5),
                ("peakTotalIntensity", spots["photons"]),
            ):
                assert np.allclose(peaks[name][index, :n], expected, rtol=1e-6), name
                assert not peaks[name][index, n:].any()
            assert np.array_equal(file["/entry_1/data_1/data"][index], frame)
            assert np.array_equal(file["/entry/data/data"][index], frame)
            # A bright peak lies on its pixel.
            if spots["photons"][0] > 50:
                column, row = (round(float(peaks[name][index, 0])) for name in ("peakXPosRaw", "peakYPosRaw"))
                assert frame[row - 2 : row + 3, column - 2 : column + 3].sum() > 0.3 * spots["photons"][0]
    with open_source(tmp_path / "l.cxi") as source:  # it is a master like any other
        assert len(source.series) == 3


@pytest.mark.skipif(shutil.which("indexamajig") is None, reason="needs CrystFEL's indexamajig")
def test_indexamajig_finds_the_peaks_where_they_are(folder, tmp_path):
    assert main(["export", str(folder / "l_master.h5"), "--cxi", str(tmp_path / "l.cxi")]) == 0
    assert main(["export", str(folder / "l_master.h5"), "-o", str(tmp_path / "l")]) == 0
    with open(tmp_path / "l.geom", "a") as file:
        file.write("peak_list = /entry_1/result_1\n")
    (tmp_path / "run.lst").write_text(f"{tmp_path / 'l.cxi'}\n")
    command = ["indexamajig", "-i", "run.lst", "-g", "l.geom", "-o", "l.stream", "--peaks=cxi", "--indexing=none"]
    done = subprocess.run(
        [*command, "-j", "1", "--no-check-peaks", "--no-revalidate"],
        cwd=tmp_path,
        env={**os.environ, "HDF5_PLUGIN_PATH": hdf5plugin.PLUGIN_PATH},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    chunks = (tmp_path / "l.stream").read_text().split("----- Begin chunk -----")[1:]
    for chunk, (_, spots) in zip(chunks, truth(folder / "l_master.h5"), strict=True):
        lines = chunk.split("Panel\n")[1].split("End of peak list")[0].split("\n")[:-1]
        found = np.array([line.split()[:2] for line in lines], dtype=float)
        spots = spots[np.argsort(-spots["photons"], kind="stable")]
        assert np.allclose(found, np.stack([spots["fast"], spots["slow"]], axis=1), atol=0.006)


# --- COCO


def test_coco_has_every_spot_with_the_box_of_its_pixels(folder, tmp_path, capsys):
    assert main(["export", str(folder / "l_master.h5"), "--coco", str(tmp_path / "c")]) == 0
    said = json.loads((tmp_path / "c" / "annotations.json").read_text())
    frames = truth(folder / "l_master.h5")
    assert f"3 images, {sum(len(spots) for _, spots in frames)} spots" in capsys.readouterr().out
    assert [one["id"] for one in said["categories"]] == [1]
    assert len({one["id"] for one in said["annotations"]}) == len(said["annotations"])
    with h5py.File(folder / "l_master.h5") as file:
        labels = [file[f"/entry/truth/labels_{i // 2 + 1:06d}/spot"][i % 2] for i in range(3)]
    for image, (frame, spots), label in zip(said["images"], frames, labels, strict=True):
        assert (image["width"], image["height"]) == (163, 91)
        picture = np.asarray(Image.open(tmp_path / "c" / image["file_name"]))
        assert np.array_equal(picture, frame)
        own = [one for one in said["annotations"] if one["image_id"] == image["id"]]
        assert [one["hkl"] for one in own] == [[int(spot[axis]) for axis in "hkl"] for spot in spots]
        checked = 0
        for row, (one, spot) in enumerate(zip(own, spots, strict=True)):
            x, y, width, height = one["bbox"]
            assert 0 <= x < x + width <= 163 and 0 <= y < y + height <= 91 and one["iscrowd"] == 0
            assert one["photons"] == pytest.approx(spot["photons"]) and one["category_id"] == 1
            slow, fast = np.nonzero(label == row)
            if len(slow):
                assert (x, y, x + width, y + height) == (fast.min(), slow.min(), fast.max() + 1, slow.max() + 1)
                assert one["area"] == len(slow)
                checked += 1
        assert checked > 3


def test_without_labels_boxes_are_five_pixels_and_photons_are_kept_as_they_are(folder, tmp_path):
    words = ["export", str(folder / "p_master.h5"), "--coco", str(tmp_path / "c"), "--least-photons", "1.5"]
    assert main(words) == 0
    said = json.loads((tmp_path / "c" / "annotations.json").read_text())
    frames = truth(folder / "p_master.h5")
    assert len(said["annotations"]) == sum(np.count_nonzero(spots["photons"] >= 1.5) for _, spots in frames) > 0
    for one in said["annotations"]:
        x, y, width, height = one["bbox"]
        fast, slow = one["center"]
        assert x <= fast <= x + width and y <= slow <= y + height and one["area"] == width * height <= 25
        inside = 2 < fast < 160 and 2 < slow < 88
        assert not inside or (width, height) == (5, 5)
    for image, (frame, _) in zip(said["images"], frames, strict=True):
        assert np.array_equal(np.asarray(Image.open(tmp_path / "c" / image["file_name"])), frame)
    before = sorted(tmp_path.rglob("*"))
    assert main(words) == 2  # nothing is written over
    assert sorted(tmp_path.rglob("*")) == before


# --- miniCBF


def test_a_minicbf_has_the_counts_and_the_geometry(folder, tmp_path):
    path = tmp_path / "w_0002.cbf"
    assert main(["export", str(folder / "w_master.h5"), "--cbf", str(path), "--frame", "1"]) == 0
    with fabio.open(path) as found:
        assert np.array_equal(found.data, truth(folder / "w_master.h5")[1][0])
        text = found.header["_array_data.header_contents"]
    assert "Wavelength 1 A" in text and "Detector_distance 0.1 m" in text and "Start_angle 5.25 deg" in text
    assert "Angle_increment 0.25 deg" in text
    with h5py.File(folder / "w_master.h5") as file:
        detector = file["/entry/instrument/detector"]
        centre = [float(detector[f"beam_center_{axis}"][()]) for axis in "xy"]
    said = [float(word) for word in re.search(r"Beam_xy \(([\d.]+), ([\d.]+)\)", text).groups()]
    assert said == pytest.approx(centre, abs=1e-5)


@pytest.mark.skipif(
    not Path("/usr/bin/dials.import").exists(), reason="needs the dxtbx of the system (apt-get install dials)"
)
def test_dxtbx_has_the_same_detector(folder, tmp_path):
    path = tmp_path / "w_0001.cbf"
    assert main(["export", str(folder / "w_master.h5"), "--cbf", str(path)]) == 0
    code = (
        "import dxtbx, json, sys\ni = dxtbx.load(sys.argv[1])\np = i.get_detector()[0]\n"
        "s = i.get_beam().get_s0()\n"
        "print(json.dumps([p.get_ray_intersection_px(s), p.get_distance(), i.get_beam().get_wavelength(), "
        "list(i.get_raw_data()), i.get_scan().get_oscillation()]))"
    )
    done = subprocess.run(["/usr/bin/python3", "-c", code, str(path)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    centre, distance, wavelength, pixels, oscillation = json.loads(done.stdout.splitlines()[-1])
    with h5py.File(folder / "w_master.h5") as file:
        detector = file["/entry/instrument/detector"]
        assert centre == pytest.approx([float(detector[f"beam_center_{axis}"][()]) for axis in "xy"], abs=1e-4)
    assert (distance, wavelength) == (pytest.approx(100), 1.0)
    assert pixels == truth(folder / "w_master.h5")[0][0].ravel().tolist()
    assert oscillation == [5.0, 0.25]


# --- refusals


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["p_master.h5", "--cbf", "x"], "miniCBF holds whole numbers"),
        (["w_master.h5", "--cbf", "x", "--frame", "2"], "--frame must lie between 0 and 1"),
        (["w_master.h5", "--cbf", "x", "--cxi", "y"], "give one of --stream"),
        (["w_master.h5", "--frame", "1"], "--frame is for --cbf alone"),
        (["w_master.h5", "--least-photons", "1"], "--least-photons is for --coco alone"),
        (["w_master.h5", "--coco", "x", "--least-photons", "-1"], "--least-photons must"),
        (["w_master.h5", "--coco", "no/such/x"], "no/such/x cannot be written"),
        (["w_master.h5", "--cxi", "w_master.h5"], "must not be a file"),
        (["bare.h5", "--cxi", "x"], "holds no table of spots, which CXI is made of"),
        (["bare.h5", "--coco", "x"], "holds no table of spots, which COCO is made of"),
        (["tilted.h5", "--cbf", "x"], "miniCBF needs a detector of one panel that stands square"),
    ],
)
def test_what_cannot_be_written_is_refused(folder, monkeypatch, capsys, words, said):
    from bragg_numba.io.frame_file import write_frame

    monkeypatch.chdir(folder)
    write_frame("bare.h5", np.zeros((91, 163), np.float32), experiment().to_json())
    if words[0] == "tilted.h5":
        write_frame("tilted_photons.h5", np.ones((91, 163), np.float32), experiment("-twotheta 9").to_json())
        if not Path("tilted.h5").exists():
            assert main(["noise", "tilted_photons.h5", "-o", "tilted.h5"]) == 0
    before = set(os.listdir())
    assert main(["export", *words]) == 2
    assert said in capsys.readouterr().err
    assert set(os.listdir()) == before
