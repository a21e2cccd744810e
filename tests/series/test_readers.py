"""Files that other programs take at face value: CrystFEL's rules, pyFAI's and DIALS's, and DIALS itself where it is."""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
import subprocess

import h5py
import hdf5plugin
import numpy as np
import pytest

from bragg_numba import Experiment
from bragg_numba.io.nxmx import SATURATION
from bragg_numba.plan.plan import make_plan
from bragg_numba.series import Series, rotation_series, still_series
from bragg_numba.series.describe import describe, export_texts
from bragg_numba.series.mcstas import mcstas_rotation

CRYSTAL = "-cell 50 60 70 80 95 105 -default_F 100 -N 5 -oversample 1 -fluence 1e28 "
SMALL = CRYSTAL + "-lambda 1.1 -detpixels_x 40 -detpixels_y 30 -pixel 0.2 -distance 120 "

needs_dials = pytest.mark.skipif(shutil.which("dials.import") is None, reason="DIALS is not installed")


def _experiment(words: str) -> Experiment:
    return Experiment.from_nanobragg(SMALL + words)


def _texts(series, dtype="uint16"):
    """The text files of a series, by the end of their names, without a frame rendered."""
    description, _ = describe(series, dtype, len(series), {})
    return {name.removeprefix("s"): text for name, text in export_texts(description, "s", "s_master.h5").items()}


def _corners(experiment: Experiment) -> np.ndarray:
    """Where the four corners of the detector are, (4, 3), metres in the McStas frame."""
    d = make_plan(experiment).detector
    pixel = np.array([[f, s] for s in (0, d.n_slow) for f in (0, d.n_fast)], dtype=float)
    at = np.array(d.origin) + d.pixel_size * (pixel @ np.array([d.fast, d.slow]))
    return at @ mcstas_rotation(experiment, d).T


# --- CrystFEL -----------------------------------------------------------------------------------


def _geom(text: str) -> dict[str, str]:
    lines = [line for line in text.splitlines() if line and not line.startswith(";")]
    return dict(re.fullmatch(r"(\S+) = (\S.*)", line).groups() for line in lines)


def _number(text: str) -> float:
    assert re.fullmatch(r"-?\d+(\.\d+)?", text), text
    return float(text)


def _direction(text: str) -> np.ndarray:
    """As CrystFEL's parser: signs, digits, points and axes, with blanks between."""
    found = np.zeros(3)
    assert re.fullmatch(r"([+-]\d*\.?\d*[xyz] ?)+", text), text
    for sign, size, axis in re.findall(r"([+-])(\d*\.?\d*)([xyz])", text):
        found["xyz".index(axis)] += float(f"{sign}{size or 1}")
    return found


def _crystfel_corners(geom: dict[str, str], frame=0, master=None) -> np.ndarray:
    """The corners of the detector as CrystFEL computes them: pixels across the beam, metres along it."""

    def length(text: str) -> float:
        value, unit = text.split()
        assert unit == "m"
        return float(master[value][frame]) if value.startswith("/") else _number(value)

    pitch = 1.0 / _number(geom["res"])
    corner = np.array([_number(geom["p0/corner_x"]), _number(geom["p0/corner_y"]), 0.0]) * pitch
    corner[2] = length(geom["clen"]) + _number(geom.get("p0/coffset", "0"))
    for place, axis in enumerate("xy"):
        if f"detector_shift_{axis}" in geom:
            corner[place] += length(geom[f"detector_shift_{axis}"])
    fast, slow = _direction(geom["p0/fs"]), _direction(geom["p0/ss"])
    n_fast, n_slow = int(geom["p0/max_fs"]) + 1, int(geom["p0/max_ss"]) + 1
    return np.array([corner + pitch * (f * fast + s * slow) for s in (0, n_slow) for f in (0, n_fast)])


@pytest.mark.parametrize("pixel", [0.2, 0.075, 1 / 3])
@pytest.mark.parametrize(
    "tilt",
    ["", "-detector_rotx 0.001", "-detector_roty -1e-5 -detector_rotz 2e-7", "-twotheta 0.003", "-twotheta 20"]
    + ["-detector_rotx 3e-9", "-detector_roty 12 -detector_rotx 1e-3", "-distance 1e-3", "-distance 9e6"],
)
def test_the_geometry_of_crystfel_holds_no_exponent_and_loses_no_digit(tilt, pixel):
    experiment = _experiment(f"{tilt} -pixel {pixel} -detpixels 4000")
    geom = _geom(_texts(Series(experiment, [{"phi_deg": 0.0}]))[".geom"])
    off = _crystfel_corners(geom) - _corners(experiment)
    # 1e-6 pixels, and what a float64 of this size cannot hold.
    assert np.abs(off).max() < 1e-9 * pixel + 1e-15 * experiment.detector.distance_mm


def test_no_number_of_the_geometry_has_an_exponent():
    words = "-lambda 0.0012 -dispersion 1e-6 -dispsteps 3 -detector_rotx 1e-6"
    for text in _geom(_texts(Series(_experiment(words), [{"phi_deg": 0.0}]))[".geom"]).values():
        assert not re.search(r"\d[eE][+-]?\d", text), text


@pytest.mark.parametrize("pivot", ["beam", "sample"])
@pytest.mark.parametrize("tilt", ["", "-twotheta 15", "-detector_rotx 5 -detector_roty -8 -detector_rotz 20"])
def test_crystfel_and_nxmx_have_every_frames_detector_where_its_beam_centre_puts_it(tmp_path, tilt, pivot):
    ways = {"beam_x_mm": {"normal": [3.0, 0.4]}, "beam_y_mm": {"normal": [4.0, 0.4]}}
    series = still_series(_experiment(f"{tilt} -pivot {pivot} -Xbeam 3 -Ybeam 4"), 4, seed=2, distributions=ways)
    result = series.write(tmp_path / "s", spots=False)
    geom = _geom((tmp_path / "s.geom").read_text())
    assert any("detector/shift" in note for note in result.notes)
    with h5py.File(tmp_path / "s_master.h5") as file:
        for index in range(4):
            off = _crystfel_corners(geom, index, file) - _corners(series.experiment_of(index))
            assert np.abs(off).max() < 1e-6 * 0.2e-3
        # The chain of NXmx: translation and the three shifts add up to the first corner.
        axis, place = file["/entry/instrument/detector/transformations/translation"], np.zeros((4, 3))
        for _ in range(4):
            place += np.outer(np.broadcast_to(axis[()], 4), axis.attrs["vector"])
            below = axis.attrs["depends_on"]
            axis = file[below] if below != "." else None
        assert below == "."
    own = [_corners(series.experiment_of(index))[0] for index in range(4)]
    assert np.abs(place - own).max() < 1e-12


@pytest.mark.parametrize(
    ("words", "option"),
    [
        ("", "horiz50"),
        ("-polar 1", "horiz100"),
        ("-polar 0.9", "horiz95"),
        ("-polar 0.9 -adxv", "horiz95"),
        ("-polar 0.5 -polar_vector 0 1 0", "vert75"),
        ("-polar 0.5 -polar_vector 0 1 -1", "45deg75"),  # half way from McStas's x to its y
        ("-polar -0.5", "horiz25"),
        ("-nopolar", "none"),
    ],
)
def test_the_geometry_says_which_polarisation_crystfel_should_correct(words, option):
    text = _texts(Series(_experiment(words), [{"phi_deg": 0.0}]))[".geom"]
    assert re.findall(r"--polarisation=(\w+)", text) == [option]
    assert "whole numbers" not in text


def test_the_bandwidth_of_spectra_that_differ_is_written():
    spectra = [[[1.09, 1.0], [1.11, 1.0]], [[1.16, 1.0], [1.2, 2.0], [1.24, 1.0]]]
    experiment = _experiment("").replace(fidelity="physical")
    geom = _geom(_texts(Series(experiment, [{"spectrum": lines} for lines in spectra]))[".geom"])
    of_frames = [0.01 / 1.1, 0.04 / np.sqrt(2.0) / 1.2]
    assert _number(geom["bandwidth"]) == pytest.approx(np.sqrt(np.mean(np.square(of_frames))), rel=1e-9)


# --- Saturation, masks, places ------------------------------------------------------------------


@pytest.mark.parametrize("counts", ["uint16", "uint32"])
def test_counts_that_were_cut_are_above_every_limit_that_readers_are_told(tmp_path, counts):
    series = rotation_series(Experiment.from_nanobragg(SMALL.replace("1e28", "1e36")), 0.0, 1.0, 2)
    series.write(tmp_path / "s", counts=counts, spots=False)
    with h5py.File(tmp_path / "s_counts_master.h5") as file:
        cut = int(file["/entry/data/data"][()].max())
        detector = file["/entry/instrument/detector"]
        valid = int(detector["saturation_value"][()])
        assert detector["underload_value"][()] == 0
    assert cut == SATURATION[counts] == valid + 1
    overload = re.search(r"OVERLOAD= (\d+)", (tmp_path / "s_XDS.INP").read_text())
    assert int(overload[1]) == valid
    text = (tmp_path / "s.geom").read_text()
    assert f"--max-adu={valid}" in text
    flags = re.findall(r"^flag_(equal|morethan) = (\d+)$", text, re.MULTILINE)
    # CrystFEL compares float32 and rounds to whole numbers first where it asks for equality.
    for value in (cut, np.iinfo(counts).max):
        value = np.float32(value)
        assert any(value == float(limit) if how == "equal" else value > np.float32(limit) for how, limit in flags)
    with h5py.File(tmp_path / "s_photons" / "s_master.h5") as file:
        # Photons are not cut.
        assert file["/entry/data/data"][()].max() < file["/entry/instrument/detector/saturation_value"][()]


def test_a_master_is_small_however_many_pixels_there_are(tmp_path):
    experiment = _experiment("-detpixels 2000 -roi 0 10 0 10")
    rotation_series(experiment, 0.0, 1.0, 1).write(tmp_path / "s", counts="uint16", spots=False)
    assert os.path.getsize(tmp_path / "s_photons" / "s_master.h5") < 200_000
    # XDS's plugin wants a byte a pixel.
    assert os.path.getsize(tmp_path / "s_counts_master.h5") < 2000**2 + 200_000
    with h5py.File(tmp_path / "s_counts_master.h5") as file:
        mask = file["/entry/instrument/detector/pixel_mask"]
        assert mask.compression == "gzip"  # every HDF5 has that filter
        assert (np.count_nonzero(mask[()] == 0), mask.dtype) == (121, np.uint32)


def test_a_folder_of_counts_holds_no_photons(tmp_path):
    series = rotation_series(_experiment(""), 0.0, 1.0, 3)
    result = series.write(tmp_path / "s", counts="uint16", frames_per_file=2)
    kinds = set()
    for path in tmp_path.glob("*.h5"):
        with h5py.File(path) as file:
            kinds.add(file["/entry/data/data"].dtype.name)
    assert kinds == {"uint16"}
    assert [os.path.relpath(path, tmp_path) for path in result.masters] == [
        os.path.join("s_photons", "s_master.h5"),
        "s_counts_master.h5",
    ]
    (tmp_path / "s_photons" / "s_data_000001.h5").unlink()
    assert series.write(tmp_path / "s", counts="uint16", frames_per_file=2, resume=True).rendered == 2
    # Without counts the photons are what a folder holds, and nothing is left of the other.
    series.write(tmp_path / "s", overwrite=True)
    assert sorted(path.name for path in tmp_path.rglob("*.h5")) == ["s_data_000001.h5", "s_master.h5"]


# --- pyFAI --------------------------------------------------------------------------------------


def _poni_corners(text: str) -> np.ndarray:
    """The corners of the detector by pyFAI's equations, turned from its axes (up, right, along) to McStas's."""
    values = dict(line.split(": ", 1) for line in text.splitlines() if not line.startswith("#"))
    config = json.loads(values["Detector_config"])
    (slow, fast), pixel = config["max_shape"], config["pixel1"]
    ends = [(slow - s if config["orientation"] == 2 else s, f) for s in (0, slow) for f in (0, fast)]
    p1 = np.array([end[0] for end in ends]) * pixel - float(values["Poni1"])
    p2 = np.array([end[1] for end in ends]) * pixel - float(values["Poni2"])
    distance = float(values["Distance"])
    (s1, s2, s3), (c1, c2, c3) = (f([float(values[f"Rot{k}"]) for k in (1, 2, 3)]) for f in (np.sin, np.cos))
    up = p1 * c2 * c3 + p2 * (c3 * s1 * s2 - c1 * s3) - distance * (c1 * c3 * s2 + s1 * s3)
    right = p1 * c2 * s3 + p2 * (c1 * c3 + s1 * s2 * s3) - distance * (-c3 * s1 + c1 * s2 * s3)
    along = p1 * s2 - p2 * c2 * s1 + distance * c1 * c2
    return np.stack([-right, up, along], axis=1)


@pytest.mark.parametrize("convention", ["-mosflm", "-adxv", "-xds", "-dials"])
@pytest.mark.parametrize("tilt", ["", "-twotheta 25", "-detector_rotx 5 -detector_roty -8 -detector_rotz 200"])
def test_pyfai_has_the_detector_where_it_is(convention, tilt):
    experiment = _experiment(f"{convention} {tilt} -pivot beam -Xbeam 3 -Ybeam 4")
    text = _texts(Series(experiment, [{"phi_deg": 0.0}]))[".poni"]
    assert np.abs(_poni_corners(text) - _corners(experiment)).max() < 1e-12
    assert "Wavelength: 1.1e-10" in text


def test_pyfai_itself_agrees(tmp_path):
    pyfai = pytest.importorskip("pyFAI")
    experiment = _experiment("-detector_rotx 5 -detector_roty -8 -detector_rotz 20")
    path = tmp_path / "s.poni"
    path.write_text(_texts(Series(experiment, [{"phi_deg": 0.0}]))[".poni"])
    along, up, right = pyfai.load(str(path)).calc_pos_zyx(d1=np.array([-0.5]), d2=np.array([-0.5]))
    assert np.abs([-right[0], up[0], along[0]] - _corners(experiment)[0]).max() < 1e-9


def test_a_sweep_on_axes_that_are_not_at_right_angles_has_no_files_for_pyfai_and_xds(tmp_path):
    skewed = _experiment("-fdet_vector 0 0 1 -sdet_vector 0 -1 0.1")
    result = rotation_series(skewed, 0.0, 1.0, 2).write(tmp_path / "s", spots=False)
    assert [os.path.basename(path) for path in result.exports] == ["s.geom", "s.phil", "s.expt"]
    geom = _geom((tmp_path / "s.geom").read_text())
    assert np.abs(_crystfel_corners(geom) - _corners(skewed)).max() < 1e-10


# --- DIALS --------------------------------------------------------------------------------------


def test_the_import_file_says_what_nxmx_cannot():
    text = _texts(Series(_experiment("-polar 0.7 -polar_vector 0 1 -1"), [{"phi_deg": 0.0}]))[".phil"]
    assert "polarization_fraction = 0.85\n" in text
    # DIALS's frame: x and z against those of McStas, where the normal is (-1, 1, 0) / sqrt 2.
    assert "polarization_normal = 0.707106781187,0.707106781187,0\n" in text
    assert "parallax_correction = False" in text
    # At 0.1 A and head on, silicon takes 99.99 % in 200 mm.
    assert float(re.search(r"thickness = (\d+)", text)[1]) > 1000
    with_sensor = _texts(Series(_experiment("-detector_thick 450"), [{"phi_deg": 0.0}]))[".phil"]
    assert "thickness" not in with_sensor
    assert "polarization_fraction = 0.5\n" in with_sensor
    assert "polarization_fraction" not in _texts(Series(_experiment("-nopolar"), [{"phi_deg": 0.0}]))[".phil"]


def _dials(folder, program: str, *words: str) -> str:
    environment = {**os.environ, "HDF5_PLUGIN_PATH": hdf5plugin.PLUGIN_PATH, "OMP_NUM_THREADS": "2"}
    for name in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"):
        environment.pop(name, None)
    done = subprocess.run([f"dials.{program}", *words], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def _imported(folder, *words: str) -> dict:
    """What ``dials.import`` makes of files: the models by kind."""
    _dials(folder, "import", *words)
    with open(folder / "imported.expt") as file:
        return json.load(file)


@needs_dials
def test_dials_imports_a_folder_of_counts_as_one_sweep_and_masks_what_was_cut(tmp_path):
    series = rotation_series(_experiment("-polar 0.7 -polar_vector 0 1 -1"), 0.0, 1.0, 3)
    series.write(tmp_path / "s", counts="uint16", frames_per_file=2)
    found = _imported(tmp_path, "s.phil", *sorted(path.name for path in tmp_path.glob("*.h5")))
    assert [os.path.basename(images["template"]) for images in found["imageset"]] == ["s_counts_master.h5"]
    (panel,) = found["detector"][0]["panels"]
    low, high = panel["trusted_range"]
    assert low <= 0
    assert high < SATURATION["uint16"]
    assert panel["px_mm_strategy"]["type"] == "SimplePxMmStrategy"
    assert np.abs(np.array(panel["origin"]) / 1000.0 - _corners(series.experiment)[0] * [-1, 1, -1]).max() < 1e-12
    (beam,) = found["beam"]
    assert beam["polarization_fraction"] == pytest.approx(0.85)
    assert np.allclose(beam["polarization_normal"], [np.sqrt(0.5), np.sqrt(0.5), 0.0])


@needs_dials
def test_dials_takes_the_mean_of_a_spectrum(tmp_path):
    dispersed = _experiment("-dispersion 1 -dispsteps 5")
    for name, series in (("sweep", rotation_series(dispersed, 0.0, 1.0, 3)), ("stills", still_series(dispersed, 3))):
        series.write(tmp_path / name, spots=False)
        found = _imported(tmp_path, f"{name}_master.h5")
        assert {round(beam["wavelength"], 9) for beam in found["beam"]} == {1.1}


@needs_dials
def test_dials_reads_a_tilted_detector_whose_beam_centre_varies_as_the_first_frames(tmp_path):
    ways = {"beam_x_mm": {"normal": [3.0, 0.4]}, "beam_y_mm": {"normal": [4.0, 0.4]}}
    series = still_series(_experiment("-twotheta 15 -Xbeam 3 -Ybeam 4"), 3, seed=2, distributions=ways)
    result = series.write(tmp_path / "s", spots=False)
    (detector,) = _imported(tmp_path, "s_master.h5")["detector"]
    origin = np.array(detector["panels"][0]["origin"]) / 1000.0
    assert np.abs(origin - _corners(series.experiment_of(0))[0] * [-1, 1, -1]).max() < 1e-12
    assert any("that of the first frame" in note for note in result.notes)


CELL = (40.0, 45.0, 50.0)


def _random_amplitudes() -> dict[tuple[int, int, int], float]:
    """Amplitudes to 1.5 angstrom of a crystal of point group 222, unique indices."""
    draw = np.random.default_rng(3)
    axes = np.meshgrid(*[np.arange(int(edge / 1.5) + 1) for edge in CELL], indexing="ij")
    indices = np.stack(axes, axis=-1).reshape(-1, 3)
    size = ((indices / np.array(CELL)) ** 2).sum(axis=1)
    indices = indices[(size > 0) & (size < 1.5**-2)]
    amplitudes = 100.0 * np.sqrt(0.2 + draw.exponential(size=len(indices)))
    return dict(zip(map(tuple, indices.tolist()), amplitudes.tolist(), strict=True))


def _read_mtz(path, *labels: str) -> list[np.ndarray]:
    """Columns of an MTZ file: float32 rows from byte 80 on, described by a header of lines of 80 bytes behind them."""
    content = path.read_bytes()
    header = content[4 * (struct.unpack("<i", content[4:8])[0] - 1) :].decode("ascii", "replace")
    lines = [header[start : start + 80].split() for start in range(0, len(header), 80)]
    n, rows = next((int(line[1]), int(line[2])) for line in lines if line and line[0] == "NCOL")
    names = [line[1] for line in lines if line and line[0] == "COLUMN"]
    table = np.frombuffer(content, "<f4", n * rows, 80).reshape(rows, n)
    return [table[:, names.index(label)].astype(float) for label in labels]


@needs_dials
def test_intensities_that_dials_merges_are_those_of_the_truth(tmp_path):
    """A sweep is imported with its import file, indexed, integrated, scaled and merged; about a minute."""
    truth = _random_amplitudes()
    signs = np.array(np.meshgrid([1, -1], [1, -1], [1, -1])).reshape(3, -1).T
    rows = [(*(sign * hkl), F) for hkl, F in truth.items() for sign in signs]
    np.savetxt(tmp_path / "all.hkl", rows, fmt="%d %d %d %.5f")
    words = (
        f"-hkl {tmp_path}/all.hkl -cell 40 45 50 90 90 90 -misset 20 35 50 -N 10 -gauss_xtal -fidelity physical "
        "-nointerpolate -lambda 1 -distance 80 -pixel 0.2 -detpixels 420 -oversample 2 -phisteps 6 -fluence 4e28 "
        "-water 0.033"  # ten counts a pixel, which the background's model wants
    )
    series = rotation_series(Experiment.from_nanobragg(words), 0.0, 0.3, 120)
    series.write(tmp_path / "s", photons=False, counts="uint16", seed=7, spots=False)
    _dials(tmp_path, "import", "s.phil", "s_master.h5")
    _dials(tmp_path, "find_spots", "imported.expt", "nproc=2")
    cell = ",".join(map(str, (*CELL, 90, 90, 90)))
    _dials(tmp_path, "index", "imported.expt", "strong.refl", f"unit_cell={cell}", "space_group=P222")
    _dials(tmp_path, "refine", "indexed.expt", "indexed.refl", "scan_varying=False")
    simple = ("background.algorithm=simple", "profile.fitting=False", "prediction.d_min=1.7")
    _dials(tmp_path, "integrate", "refined.expt", "refined.refl", "nproc=2", *simple)
    _dials(tmp_path, "scale", "integrated.expt", "integrated.refl", "output.html=None")
    _dials(tmp_path, "merge", "scaled.expt", "scaled.refl", "truncate=False", "anomalous=False", "output.html=None")
    *axes, merged = _read_mtz(tmp_path / "merged.mtz", "H", "K", "L", "IMEAN")
    indices = np.abs(np.stack(axes, axis=1)).astype(int)
    good = merged > 0.0
    assert len(good) > 3000
    assert good.mean() > 0.99
    expected = np.array([truth[tuple(row)] for row in indices.tolist()])
    F, expected, size = np.sqrt(merged[good]), expected[good], ((indices[good] / np.array(CELL)) ** 2).sum(axis=1)
    F = F * (F @ expected) / (F @ F)
    assert np.abs(F - expected).sum() / expected.sum() < 0.008
    # No slope with resolution: what 1 / cos or a wrong polarization would make of it is ten times as much.
    edges = np.quantile(size, [0.15, 0.4, 0.6, 0.8, 1.0])
    shells = [(size >= low) & (size <= high) for low, high in zip(edges[:-1], edges[1:], strict=True)]
    ratios = [np.sum(F[shell] ** 2) / np.sum(expected[shell] ** 2) for shell in shells]
    assert np.ptp(ratios) < 0.012, ratios
