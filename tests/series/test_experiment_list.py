"""The .expt beside a series: the crystals as they are, and the detector as DIALS itself has it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import pytest
from sample_panels import crooked, lit

from bragg_numba import (
    Beam,
    Crystal,
    Detector,
    Experiment,
    Sampling,
    Series,
    StructureFactors,
    list_crossings,
    rotation_series,
    still_series,
)
from bragg_numba.cli import bragg, nanobragg
from bragg_numba.io import nxmx
from bragg_numba.io.expt_file import read_expt
from bragg_numba.io.expt_models import mcstas, reciprocal_vectors
from bragg_numba.io.geom_file import read_geom
from bragg_numba.plan.plan import make_plan
from bragg_numba.series.describe import describe
from bragg_numba.series.experiment_list import experiment_list
from bragg_numba.series.truth import frame_record

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "geometries"
SMALL = (
    "-cell 40 45 50 90 95 90 -default_F 100 -N 5 -detpixels 24 -pixel 0.8 -lambda 1.1 -misset 10 20 30 -oversample 1"
)

needs_dxtbx = pytest.mark.skipif(
    not Path("/usr/lib/python3/dist-packages/dxtbx").is_dir(),
    reason="dxtbx is not installed beside the system's Python",
)


def stars(experiment: Experiment) -> np.ndarray:
    """a*, b*, c* in columns, 1/angstrom, laboratory."""
    cell = make_plan(experiment).cell
    return np.linalg.inv(np.array([cell.a, cell.b, cell.c]))


def test_stills_of_panels_come_back_from_their_list(tmp_path):
    series = still_series(lit(crooked()), 3, seed=5, distributions={"wavelength_A": {"normal": [1.0, 0.01]}})
    series.write(tmp_path / "s", backend="cpu")
    listed = read_expt(tmp_path / "s.expt")
    assert len(listed) == 3
    assert [one.imageset["single_file_indices"] for one in listed] == [[0], [1], [2]]
    assert {tuple(one.imageset["images"]) for one in listed} == {("s_master.h5",)}
    for index in range(3):
        again, frame = Experiment.from_expt(tmp_path / "s.expt", index), series.experiment_of(index)
        assert np.abs(stars(again) - stars(frame)).max() < 1e-15
        assert again.beam.wavelength_A == frame.beam.wavelength_A
        # DIALS's axes are at right angles: about the middle of a panel nothing moves.
        for panel, own in zip(again.detector.panels, frame.detector.panels, strict=True):
            places = [(p.first_row + p.n_slow // 2, p.first_column + p.n_fast // 2) for p in (panel, own)]
            off = again.pixel_positions_m()[places[0]] - frame.pixel_positions_m()[places[1]]
            assert np.abs(off).max() < 2e-5


def test_a_sweep_comes_back_with_its_spindle_and_angles(tmp_path):
    experiment = Experiment.from_nanobragg(SMALL + " -osc 0.5 -phi 10 -spindle_axis 0.1 0.2 1 -polar 0.9")
    series = Series(experiment, [{"phi_deg": 10.0}, {"phi_deg": 10.5}, {"phi_deg": 11.0}])
    series.write(tmp_path / "s", backend="cpu")
    (listed,) = read_expt(tmp_path / "s.expt")
    assert (listed.scan.image_range, listed.scan.start_deg, listed.scan.width_deg) == ((1, 3), 10.0, 0.5)
    assert listed.beam.kahn_factor == pytest.approx(0.9)
    with h5py.File(tmp_path / "s_master.h5") as file:
        turn = describe(series, "float32", 3, {})[0].geometry.rotation
        assert file["/entry/data/data"].shape[0] == 3
    spindle = turn @ np.array(make_plan(experiment).detector.spindle)
    hkl = np.array([3.0, -2.0, 5.0])
    for angle in (10.0, 11.0):
        along = spindle * (spindle @ (r := turn @ stars(experiment) @ hkl))
        turned = along + (r - along) * np.cos(np.radians(angle)) + np.cross(spindle, r) * np.sin(np.radians(angle))
        found = reciprocal_vectors(hkl, listed.crystal, listed.goniometer, angle)
        assert np.abs(mcstas(found) - turned).max() < 1e-14


@pytest.mark.skipif(not SHARED.is_dir(), reason="the collection of geometries is not beside the checkout")
def test_what_dials_refined_comes_back_with_its_predictions(tmp_path):
    experiment = Experiment.from_expt(SHARED / "i03_thau_single_ffs.expt")
    series = rotation_series(experiment, 0.0, 0.1, 3)
    rows = np.array([frame_record(make_plan(series.experiment_of(index)), index) for index in range(3)])
    path = tmp_path / "s.expt"
    path.write_text(experiment_list(describe(series, "float32", 3, {})[0], series, rows, "s_master.h5"))
    indices = [(-28, 14, 93), (-26, 14, 90), (-14, -30, -11)]
    ours, again = (list_crossings(one, indices) for one in (experiment, Experiment.from_expt(path)))
    for name in ("phi_deg", "slow", "fast"):
        assert again[name] == pytest.approx(ours[name], abs=1e-6)


def test_a_single_frame_has_a_list_and_a_geometry_too(tmp_path, capsys):
    frame = tmp_path / "frame.h5"
    geom = ROOT / "tests" / "data" / "jungfrau2m_extrageom.geom"
    words = f"-cell 40 -default_F 100 -N 5 -geom {geom} -roi 0 20 0 20 -oversample 1 -o {frame} -misset 3 4 5"
    assert nanobragg.main(words.split()) == 0
    assert f"geometry of {geom}: 32 panels" in capsys.readouterr().out
    assert bragg.main(["info", str(frame)]) == 0
    assert str(geom) in capsys.readouterr().out
    assert bragg.main(["export", str(frame)]) == 0
    again = Experiment.from_expt(tmp_path / "frame.expt")
    experiment = Experiment.load(frame)
    assert np.nanmax(np.abs(again.pixel_positions_m() - experiment.pixel_positions_m())) < 1e-12
    assert np.abs(stars(again) - stars(experiment)).max() < 1e-15
    assert read_geom(tmp_path / "frame.geom").groups[-1] == ("all", ("p0", "p1", "p2", "p3"))


_DXTBX = """
import json, sys
import dxtbx
from dxtbx.model.experiment_list import ExperimentListFactory
found = {}
for name in sys.argv[1:]:
    detector = dxtbx.load(name).get_detector()
    listed = ExperimentListFactory.from_json_file(name.replace("_master.h5", ".expt"), check_format=False)[0].detector
    found[name] = [
        [[p.get_pixel_lab_coord(xy) for xy in ((0, 0), (p.get_image_size()[0], 0), (7.25, p.get_image_size()[1]))]
         for p in panels] for panels in (detector, listed)]
print(json.dumps(found))
"""


@needs_dxtbx
def test_dxtbx_has_pixels_where_we_have_them(tmp_path):
    """Masters of detectors as they are, one frame each that was never filled."""
    names = ["agipd1m_rotated3d_extrageom", "dssc1m_extrageom", "jungfrau2m_extrageom", "lpd1m_extrageom"]
    paths = [ROOT / "tests" / "data" / f"{name}.geom" for name in names]
    others = ("jf16m_swissfel_crystfel", "epix10k2m_cheetahgui", "cspad_cxi_crystfel", "jungfrau4m_id29_panels")
    paths += [path for name in others if (path := SHARED / f"{name}.geom").exists()]
    expected = {}
    for path in paths:
        values = {"/LCLS/detector_1/EncoderValue": -450.0, "/LCLS/photon_energy_eV": 9000.0}
        detector = Detector.from_geom(path, values=values).replace(mask=None)
        experiment = Experiment(
            detector=detector, crystal=Crystal(cell=(100,)), structure_factors=StructureFactors(default_F=1.0)
        )
        series = Series(experiment, [{"phi_deg": 0.0}])
        description, _ = describe(series, "float32", 1, {})
        master = tmp_path / f"{path.stem}_master.h5"
        with h5py.File(master, "w") as file:
            nxmx.write_head(file, description, nxmx.now())
            file.create_dataset("/entry/data/data", (1, *detector.shape), "f4", chunks=(1, 64, detector.shape[1]))
        rows = np.array([frame_record(make_plan(experiment), 0)])
        text = experiment_list(description, series, rows, master.name)
        (tmp_path / f"{path.stem}.expt").write_text(text)
        expected[str(master)] = [
            [mcstas(p.place(np.array(f), np.array(s))) * 1000.0 for f, s in ((0, 0), (p.n_fast, 0), (7.25, p.n_slow))]
            for p in (panel.upright()[0] for panel in description.geometry.panels)
        ]
    environment = {**os.environ, "HDF5_PLUGIN_PATH": hdf5plugin.PLUGIN_PATH}
    for name in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"):
        environment.pop(name, None)
    python = shutil.which("python3", path="/usr/bin")
    done = subprocess.run([python, "-c", _DXTBX, *expected], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    for name, ours in expected.items():
        for theirs in found[name]:
            assert np.abs(np.array(theirs) - np.array(ours)).max() < 1e-6, name


_RESIDUALS = """
import numpy as np
from dials.array_family import flex
found = flex.reflection_table.from_file("indexed.refl")
found = found.select(found.get_flags(found.flags.indexed))
off = np.array(found["xyzcal.px"] - found["xyzobs.px.value"])
print(len(set(found["id"])), len(found), np.median(np.hypot(off[:, 0], off[:, 1])))
"""


@pytest.mark.slow
@needs_dxtbx
@pytest.mark.skipif(not SHARED.is_dir(), reason="the collection of geometries is not beside the checkout")
@pytest.mark.skipif(shutil.which("dials.index") is None, reason="DIALS is not on the PATH")
def test_dials_indexes_stills_on_a_jungfrau_16m(tmp_path):
    """Two stills of a protein on 32 modules are imported, searched and indexed; about two minutes."""
    cell, draw = (79.0, 79.0, 38.0), np.random.default_rng(3)
    axes = [np.arange(-int(edge / 2.2), int(edge / 2.2) + 1) for edge in cell]
    hkl = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    size = ((hkl / np.array(cell)) ** 2).sum(axis=1)
    hkl = hkl[(size > 0) & (size < 2.2**-2)]
    amplitudes = 100.0 * np.sqrt(0.1 + draw.exponential(size=tuple(len(axis) // 2 + 1 for axis in axes)))
    experiment = Experiment.from_geom(
        SHARED / "jf16m_nanobragg_multipanel.geom",
        crystal=Crystal(
            cell=(*cell, 90, 90, 90),
            cell_counts=(22, 22, 45),
            shape="gauss",
            mosaic_spread_deg=0.12,
            mosaic_domains=60,
        ),
        structure_factors=StructureFactors(indices=hkl, amplitudes=amplitudes[tuple(np.abs(hkl).T)]),
        beam=Beam(fluence_per_m2=1e28, polarization=1.0),
        sampling=Sampling(oversample=3, cutoff_photons=1e-2, engine="spots", interpolate=False),
        fidelity="physical",
    )
    still_series(experiment, 2, seed=11).write(tmp_path / "s", photons=False, counts="uint16", spots=False)
    environment = {**os.environ, "HDF5_PLUGIN_PATH": hdf5plugin.PLUGIN_PATH, "OMP_NUM_THREADS": "2"}
    for name in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"):
        environment.pop(name, None)

    def run(*words: str) -> str:
        done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return done.stdout

    run("dials.import", "s.phil", "s_master.h5")
    run("dials.find_spots", "imported.expt", "nproc=2")
    # Debian's DIALS lacks a part of its own indexer of stills; the other one takes them one by one.
    ways = ("joint_indexing=False", "stills.indexer=sequences", "max_lattices=1", "auto_reduction.action=fix")
    known = ("unit_cell=79,79,38,90,90,90", "space_group=P222", "beam.fix=all", "detector.fix=all")
    run("dials.index", "imported.expt", "strong.refl", *known, *ways)
    crystals, reflections, median = run("/usr/bin/python3", "-c", _RESIDUALS).split()
    assert int(crystals) == 2
    assert int(reflections) > 600
    assert float(median) < 0.2
