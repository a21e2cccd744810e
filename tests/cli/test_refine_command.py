"""``bragg-numba refine``: from a frame and a start to values, a table, files and a picture."""

from __future__ import annotations

import json

import numpy as np
import pytest

from bragg_numba import Beam, Crystal, Detector, Experiment, Sampling, Simulator, StructureFactors, poisson
from bragg_numba.cli.bragg import main
from bragg_numba.io.frame_file import write_frame
from bragg_numba.refine import read_experiments

TRUTH = Experiment(
    beam=Beam(wavelength_A=1.0, fluence_per_m2=1e28),
    crystal=Crystal(cell=(55, 65, 75, 90, 90, 90), misset_deg=(10, 20, 30), cell_counts=(12, 12, 11), shape="gauss"),
    detector=Detector(n_fast=121, n_slow=120, pixel_mm=0.2, distance_mm=60),
    structure_factors=StructureFactors(default_F=300),
    sampling=Sampling(oversample=2),
    fidelity="physical",
)


@pytest.fixture(scope="module")
def frame(tmp_path_factory):
    path = tmp_path_factory.mktemp("refine") / "frame.h5"
    counts = poisson(Simulator(TRUTH, backend="cpu").render(), 4)
    write_frame(path, counts.astype(np.float32), TRUTH.to_json())
    return path


START = ["--set", "crystal.misset_deg[0]=10.1", "--set", "scale=0.5"]


def test_a_frame_is_refined_and_everything_is_written(frame, tmp_path, capsys):
    out, saved, png = (tmp_path / name for name in ("refined.json", "experiment.json", "boxes.png"))
    files = ["-o", str(out), "--save-experiment", str(saved), "--png", str(png)]
    assert main(["refine", str(frame), "--free", "misset,cell,scale", *START, *files]) == 0
    printed = capsys.readouterr().out
    assert "converged" in printed and "crystal.misset_deg[0]" in printed and f"wrote {png}" in printed
    kept = {one["name"]: one for one in json.loads(out.read_text())["parameters"]}
    assert kept["crystal.misset_deg[0]"]["start"] == 10.1
    assert abs(kept["crystal.misset_deg[0]"]["value"] - 10) < 5 * kept["crystal.misset_deg[0]"]["sigma"]
    # The scale counts from what --set made of the experiment.
    assert Experiment.load(saved).beam.fluence_per_m2 == pytest.approx(1e28, rel=0.05)
    assert read_experiments(out) == (Experiment.load(saved),)
    assert png.read_bytes().startswith(b"\x89PNG")


def test_any_image_is_refined_with_an_experiment(frame, tmp_path, capsys):
    start, image = tmp_path / "start.json", tmp_path / "image.npy"
    TRUTH.save(start)
    np.save(image, 2.0 * poisson(Simulator(TRUTH, backend="cpu").render(), 4).astype(np.float64) + 10.0)
    words = ["refine", str(image), "--experiment", str(start), "--free", "scale", "--gain", "2", "--offset", "10"]
    assert main([*words, "--json", "--no-coarse", "--prior", "scale=1,10", "--bounds", "scale=,4"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["parameters"][0]["value"] == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--free", "crystal.sell"], "did you mean"),
        (["--set", "scale"], "must be NAME=VALUE"),
        (["--set", "scale=much"], "must be a number"),
        (["--bounds", "scale=1"], "two numbers"),
        (["--prior", "scale="], "must be NAME=VALUE"),
        (["--boxes", "some"], "must be a whole number"),
        (["--frames", "3"], "--frames must lie between 0 and 0"),
        (["--frames", "0:0"], "at least one frame"),
        (["--gain", "0"], "greater than 0"),
        (["--readout", "-1"], "--readout"),
        (["--restrain-cell", "1"], "two numbers"),
        (["--background", "flat"], "must be a number"),
        (["--likelihood", "normal"], "likelihood must be one of"),
        (["--expt", "no.expt", "--experiment", "no.json"], "cannot be combined"),
        (["--experiment", "no.json"], "no.json"),
        (["-o", "no/such/folder/refined.json"], "no/such/folder"),
    ],
)
def test_what_cannot_be_is_one_sentence(frame, words, said, capsys):
    assert main(["refine", str(frame), *words]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1 and error.startswith("error: ")
