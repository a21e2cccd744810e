"""What a table of structure factors lacks: counted by brute force, and said by the command in print, JSON and file."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest
from reflection_files import unique, values_of, write_mtz

from bragg_numba import Experiment, Simulator, StructureFactors
from bragg_numba.cli.bragg import main as bragg
from bragg_numba.cli.nanobragg import main
from bragg_numba.io.point_groups import centring_allows
from bragg_numba.plan.plan import make_plan
from bragg_numba.predict.holes import frame_holes, hole_lines, table_holes
from bragg_numba.predict.spots import spot_table

LINE = "-cell 40 50 60 80 95 105 -default_F 1 -N 12 -detpixels 128 -pixel 0.8 -distance 60 -lambda 1.2 "


def sphere(experiment: Experiment, radius_per_A: float) -> tuple[np.ndarray, np.ndarray]:
    """Every reflection but 0 0 0 up to a radius, int64 (n, 3), by brute force, and their 1/d."""
    cell = make_plan(experiment).cell
    stars = np.linalg.inv([cell.a, cell.b, cell.c]).T  # of what is rendered
    n = 26
    indices = np.array(np.meshgrid(*[np.arange(-n, n + 1)] * 3, indexing="ij")).reshape(3, -1).T
    lengths = np.linalg.norm(indices @ stars, axis=1)
    inside = (lengths <= radius_per_A) & (lengths > 0)
    assert np.abs(indices[inside]).max() < n
    return indices[inside], lengths[inside]


def test_completeness_in_shells_is_what_counting_finds():
    experiment = Experiment.from_nanobragg(LINE + "-dmin 2.5")
    everything, lengths = sphere(experiment, 0.4)
    rng = np.random.default_rng(2)
    listed = everything[rng.random(len(everything)) < 0.7]
    listed = np.concatenate([listed, listed[:5], [[0, 0, 0], [50, 50, 50]]])
    factors = StructureFactors(indices=listed, amplitudes=rng.normal(3, 1, len(listed)))
    report = table_holes(make_plan(experiment.replace(structure_factors=factors)))

    assert report["resolution_A"] == pytest.approx(2.5)
    assert (report["possible"], report["listed"]) == (len(everything), len(listed) - 7)
    assert report["counts"] == {"rows": len(listed), "negative": (factors.amplitudes < 0).sum(), "duplicate": 5}
    shells = report["shells"]
    assert sum(shells["possible"]) == len(everything) and sum(shells["listed"]) == len(listed) - 7
    for d_max, d_min, possible in zip(
        shells["d_max_A"][1:], shells["d_min_A"][1:], shells["possible"][1:], strict=True
    ):
        assert possible == np.count_nonzero((lengths > 1 / d_max) & (lengths <= 1 / d_min))


def test_a_list_that_obeys_a_centring_is_known_by_it():
    experiment = Experiment.from_nanobragg(LINE)
    everything = sphere(experiment, 0.3)[0]
    for centring in "PABCIFH":
        listed = everything[centring_allows(everything, centring)]
        factors = StructureFactors(indices=listed, amplitudes=np.ones(len(listed)))
        report = table_holes(make_plan(experiment.replace(structure_factors=factors)))
        assert report["centring"] == centring.replace("P", "")
        assert any("centring extinguishes" in line for line in hole_lines(report)) == (centring != "P")


@pytest.mark.parametrize(
    "more",
    [
        "",
        "-gauss_xtal",
        "-osc 0.5 -phisteps 4 -mosaic 0.2 -mosaic_domains 3",
        "-divergence 2 -divsteps 2 -roi 9 90 0 99",
    ],
)
def test_a_frame_reaches_the_reflections_whose_spots_it_shows(more):
    experiment = Experiment.from_nanobragg(LINE + more)
    spots = spot_table(make_plan(experiment), 1e-30)
    shown = np.unique(np.array([spots[axis] for axis in "hkl"]).T, axis=0)
    shown = shown[shown.any(axis=1)]
    factors = StructureFactors(indices=shown[::3], amplitudes=np.ones(len(shown[::3])), default_F=2.0)
    report = frame_holes(make_plan(experiment.replace(structure_factors=factors)))

    # A spot's centre and its reflection's ray differ by little: a few at the frame's edge lie on different sides.
    assert report["reached"] == pytest.approx(len(shown), rel=0.03)
    assert report["lacking"] == pytest.approx(len(shown) - len(shown[::3]), rel=0.04)


def test_without_a_list_there_is_nothing_to_lack():
    simulator = Simulator(Experiment.from_nanobragg(LINE), backend="cpu")
    assert simulator.describe_structure_factors() == {"reflections": 0, "default_F": 1.0}


def test_the_command_says_in_print_json_and_file_what_is_missing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    indices = unique("P 21 21 21", 4.0)
    values = values_of(indices)
    values[3], values[4] = np.nan, -5.0
    write_mtz(tmp_path / "f.mtz", "P 21 21 21", indices, {"FP": ("F", values)})
    line = ["-mtz", "f.mtz", "-default_F", "7", "-N", "5", "-detpixels", "64", "-pixel", "1", "-distance", "60"]
    line += ["-oversample", "1", "-noprogress", "-o", "f.h5"]

    assert main(line) == 0
    printed = capsys.readouterr().out
    assert f"structure factors: f.mtz: amplitudes FP, P 21 21 21: {len(indices)} rows, 1 without a number" in printed
    assert "1 negative, taken as 0" in printed and "as far as the detector goes; in shells from" in printed
    assert "are not in the list and have F = 7 (default_F)" in printed

    assert main([*line, "-json"]) == 0
    report = json.loads(capsys.readouterr().out)
    told = report["structure_factors"]
    assert report["plan"]["unit_cell"] == pytest.approx([20, 24, 30, 90, 90, 90])  # the file's
    assert told["counts"]["not_a_number"] == told["counts"]["negative"] == 1
    assert 0 < told["lacking"] < told["reached"] and 0 < told["listed"] < told["possible"]
    with h5py.File("f.h5") as file:
        kept = file["/entry/process/structure_factors"]
        assert kept["lacking"][()] == told["lacking"] and kept["counts/negative"][()] == 1
        assert kept["shells/listed"][()].tolist() == told["shells"]["listed"]
        assert kept["space_group"][()].decode() == "P 21 21 21"

    assert bragg(["info", "f.h5", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["structure_factors"]["reached"] == told["reached"]
