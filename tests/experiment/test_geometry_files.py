"""Detectors and experiments from CrystFEL's .geom and DIALS's .expt, in Python and on the command line."""

from __future__ import annotations

import json
import math
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bragg_numba import (
    Beam,
    Crystal,
    Detector,
    Experiment,
    InputError,
    Rotation,
    Sampling,
    StructureFactors,
    list_crossings,
)
from bragg_numba.cli import bragg, nanobragg
from bragg_numba.experiment.placing import place_detector
from bragg_numba.io.expt_file import read_expt, several_axes, write_expt
from bragg_numba.io.expt_models import ExptBeam, ExptCrystal, ExptExperiment, ExptPanel, ExptScan, mcstas
from bragg_numba.plan.plan import make_plan
from bragg_numba.predict.spots import spot_table

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "geometries"
OWN = ROOT / "tests" / "data"

needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the collection of geometries is not beside the checkout")

#: What the files of the collection lack, or have in a data file.
VALUES = {
    "/LCLS/detector_1/EncoderValue": -500.0,
    "/LCLS/detectorPosition": 90.0,
    "/LCLS/detector_encoder": -400.0,
    "/LCLS/detectorEncoderValue": -450.0,
    "/LCLS/photon_energy_eV": 9000.0,
    "/LCLS/photon_energy": 9000.0,
    "/LCLS/photon_energyK": 9.0,
    "/LCLS/wavelength": 1.125e-10,
    "/LCLS/electron_energy": 300e3,
    "/LCLS/electron_energy2": 300.0,
}
REFUSED = {
    "agipd1m_cheetah2d.geom": "must have one dimension that is ss",
    "agipd1m_vds_badregions.geom": "bad_p0h1 must name its panel",
    "s2e_simex.geom": "line 1 must be key = value",
    # Templates, which are to be completed.
    "epix10k2m_lcls_om.geom": "clen is needed, and the file has none",
    "jungfrau4m_lcls_om.geom": "clen is needed, and the file has none",
    "pilatus_om.geom": "clen is needed, and the file has none",
}

TWO_PANELS = """\
photon_energy = 9000 eV
bandwidth = 0.002
clen = /run/z
res = 10000
a/min_fs = 0
a/max_fs = 9
a/min_ss = 0
a/max_ss = 4
a/corner_x = -5
a/corner_y = 2.5
a/fs = +1.0x +0.01y
a/ss = -0.01x +1.02y -0.03z
a/coffset = 0.002
b/min_fs = 0
b/max_fs = 9
b/min_ss = 5
b/max_ss = 9
b/corner_x = -5
b/corner_y = 12.5
b/fs = x
b/ss = y
b/mask_edge_pixels = 1
badspot/panel = a
badspot/min_fs = 3
badspot/max_fs = 4
badspot/min_ss = 1
badspot/max_ss = 1
"""

PARTS = {"crystal": Crystal(cell=(100,)), "structure_factors": StructureFactors(default_F=10.0)}


@pytest.fixture
def two_panels(tmp_path) -> Path:
    path = tmp_path / "two.geom"
    path.write_text(TWO_PANELS)
    return path


# --- .geom ----------------------------------------------------------------------------------------


@needs_shared
def test_every_geometry_of_the_collection_is_read_or_refused_with_its_reason():
    files = sorted(SHARED.glob("*.geom"))
    assert len(files) > 50
    for path in files:
        if path.name in REFUSED:
            with pytest.raises(InputError, match=REFUSED[path.name]):
                Detector.from_geom(path, values=VALUES)
            continue
        detector = Detector.from_geom(path, values=VALUES)
        assert detector.geometry_file == str(path) and detector.convention == "adxv"
    for name in ("epix10k2m_lcls_om.geom", "jungfrau4m_lcls_om.geom", "pilatus_om.geom"):
        assert Detector.from_geom(SHARED / name, clen_mm=100.0).panels


@pytest.mark.parametrize("name", ["agipd1m_rotated3d_extrageom", "dssc1m_extrageom", "lpd1m_extrageom"])
def test_pixels_are_where_crystfel_has_them(name):
    path = OWN / f"{name}.geom"
    experiment = Experiment.from_geom(path, **PARTS)
    positions = experiment.pixel_positions_m()
    panel, text = {}, path.read_text()
    for line in text.splitlines():
        key, _, value = line.partition(";")[0].partition("=")
        if "/" in key:
            own, _, word = key.strip().partition("/")
            panel.setdefault(own, {})[word] = value.strip()
    top = {key: line.partition(";")[0].partition("=")[2] for line in text.splitlines() for key in [line.split(" ")[0]]}
    clen, res = float(top["clen"]), float(top["res"])
    modules = sorted({p.get("dim1", "0") for p in panel.values()}, key=int)
    height = max(int(p["max_ss"]) for p in panel.values()) + 1

    def direction(words: str) -> np.ndarray:
        vector = np.zeros(3)
        for term in words.replace(" ", "").replace("-", " -").replace("+", " +").split():
            vector["xyz".index(term[-1])] += float(term[:-1])
        return vector

    for p in panel.values():
        fast, slow = 17, 3
        at = np.array([float(p["corner_x"]), float(p["corner_y"]), 0.0])
        at = at + (fast + 0.5) * direction(p["fs"]) + (slow + 0.5) * direction(p["ss"])
        at = at / res + np.array([0.0, 0.0, clen + float(p.get("coffset", 0.0))])
        row = modules.index(p.get("dim1", "0")) * height + int(p["min_ss"]) + slow
        assert np.abs(positions[row, int(p["min_fs"]) + fast] - at).max() < 1e-12


def test_a_number_at_a_path_comes_from_an_option_or_a_data_file(two_panels, tmp_path):
    with pytest.raises(InputError, match=r"line 3: clen lies in a data file, at /run/z \(in mm\)"):
        Detector.from_geom(two_panels)
    with pytest.raises(InputError, match="needs the value at /run/z"):
        Detector.from_geom(two_panels, values={"/run/x": 3.0})
    run = tmp_path / "run.h5"
    with h5py.File(run, "w") as file:
        file["/run/z"] = [80.0, 90.0]
    with pytest.raises(InputError, match="2 values at /run/z, one for each frame"):
        Detector.from_geom(two_panels, data_file=run)

    def z(**options) -> float:
        return Detector.from_geom(two_panels, **options).panels[1].origin_mm[2]

    assert z(values={"/run/z": 80.0}) == pytest.approx(80.0, abs=1e-12)
    assert z(data_file=run, event=1) == pytest.approx(90.0, abs=1e-12)
    assert z(data_file=run, event=1, values={"/run/z": 70.0}) == pytest.approx(70.0, abs=1e-12)
    assert z(clen_mm=60.0) == pytest.approx(60.0, abs=1e-12)


def test_what_a_geometry_says_of_the_beam_reaches_the_experiment(two_panels):
    experiment = Experiment.from_geom(two_panels, clen_mm=80.0, beam=Beam(polarization=1.0), **PARTS)
    assert experiment.beam.wavelength_A == pytest.approx(12398.412 / 9000.0, rel=1e-7)
    assert experiment.beam.polarization == 1.0
    wavelengths = make_plan(experiment).sources.wavelength * 1e10
    assert wavelengths.std() / wavelengths.mean() == pytest.approx(0.002, rel=1e-12)
    assert Experiment.from_geom(two_panels, clen_mm=80.0, wavelength_A=1.1, **PARTS).beam.wavelength_A == 1.1
    two_panels.write_text(TWO_PANELS.partition("\n")[2])
    with pytest.raises(InputError, match="wavelength is needed, and the file has none"):
        Experiment.from_geom(two_panels, clen_mm=80.0, **PARTS)
    with_own = Experiment.from_geom(two_panels, clen_mm=80.0, beam=Beam(wavelength_A=1.3), **PARTS)
    assert with_own.beam.wavelength_A == 1.3


def test_bad_regions_edges_and_masks_are_skipped(two_panels, tmp_path):
    good = Detector.from_geom(two_panels, clen_mm=80.0).mask
    expected = np.ones((10, 10), dtype=bool)
    expected[1, 3:5] = False
    expected[[5, 9]] = expected[5:, [0, 9]] = False
    assert (good == expected).all()
    with h5py.File(tmp_path / "masks.h5", "w") as file:
        file["/mask"] = np.full((10, 10), 3, dtype=np.uint16)
        file["/mask"][2, 2], file["/mask"][7, 7] = 2, 7
    lines = ("a/mask = /mask", "a/mask_file = masks.h5", "a/mask_good = 0x1", "b/mask1_data = /mask")
    two_panels.write_text("\n".join([TWO_PANELS, *lines, "b/mask1_file = masks.h5", "b/mask1_badbits = 0x4", ""]))
    expected[2, 2] = expected[7, 7] = False
    detector = Detector.from_geom(two_panels, clen_mm=80.0)
    assert (detector.mask == expected).all() and not detector.geometry_notes
    (tmp_path / "masks.h5").rename(tmp_path / "elsewhere.h5")
    (note,) = Detector.from_geom(two_panels, clen_mm=80.0).geometry_notes
    assert "masks.h5" in note and "count as good" in note
    with pytest.raises(InputError, match=r"masks\.h5 at /mask, which is not there"):
        Detector.from_geom(two_panels, clen_mm=80.0, masks=True)
    assert not Detector.from_geom(two_panels, clen_mm=80.0, masks=False).geometry_notes


def test_a_detector_from_a_file_survives_json(two_panels):
    experiment = Experiment.from_geom(two_panels, clen_mm=80.0, **PARTS)
    again = Experiment.from_json(experiment.to_json())
    assert again == experiment and again.detector.geometry_text == TWO_PANELS
    assert "text of" not in repr(experiment.detector) and len(TWO_PANELS) < 1000
    long = experiment.detector.replace(geometry_text=TWO_PANELS * 3)
    assert f"text of {TWO_PANELS.count(chr(10)) * 3} lines" in repr(long)


def test_info_tells_what_a_geometry_needs(two_panels, capsys):
    assert bragg.main(["info", str(two_panels), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["panels"], told["pixels_slow_fast"], told["bad_regions"]) == (2, [10, 10], 1)
    assert told["camera_length"] == "clen at /run/z (mm)"
    assert told["wavelength"] == "photon_energy 9000 eV"


# --- .expt ----------------------------------------------------------------------------------------


@needs_shared
def test_every_experiment_list_of_the_collection_is_read_to_its_positions():
    files = sorted(SHARED.glob("*.expt"))
    assert len(files) == 5
    for path in files:
        listed = read_expt(path)
        for index in (0, len(listed) - 1):
            experiment = Experiment.from_expt(path, index)
            assert experiment.detector == Detector.from_expt(path, index)
            row = 0  # panels lie below each other
            for placed, panel in zip(place_detector(experiment).panels, listed[index].detector, strict=True):
                assert (placed.first_row, placed.first_column) == (row, 0)
                for fast, slow in ((0.5, 0.5), (placed.n_fast - 0.5, 3.5), (7.5, placed.n_slow - 0.5)):
                    along, down = fast * placed.pitch_fast, slow * placed.pitch_slow
                    at = np.array(placed.origin) + along * np.array(placed.fast) + down * np.array(placed.slow)
                    assert np.abs(at - mcstas(panel.lab_mm(fast, slow)) / 1000.0).max() < 1e-12
                row += panel.image_size[1]
            assert experiment.detector.shape[0] == row
        with pytest.raises(InputError, match=f"index must be below {len(listed)}, the number of experiments"):
            Experiment.from_expt(path, len(listed))


@needs_shared
def test_the_crystal_of_a_still_stands_as_dials_has_it():
    path = SHARED / "jf16m_exafel_kpp.expt"
    experiment, listed = Experiment.from_expt(path, 7), read_expt(path)[7]
    cell = make_plan(experiment).cell
    stars = np.array([cell.a_star, cell.b_star, cell.c_star]).T
    assert np.abs(stars - mcstas(listed.crystal.A.T).T).max() < 1e-15
    assert experiment.crystal.mosaic_spread_deg == listed.crystal.half_mosaicity_deg
    edges = np.linalg.norm(np.array(listed.crystal.real_space), axis=1)
    assert np.abs(np.array(experiment.crystal.cell_counts) - listed.crystal.domain_size_A / edges).max() <= 0.5


@needs_shared
def test_dials_own_predictions_come_out():
    experiment = Experiment.from_expt(SHARED / "i03_thau_single_ffs.expt")
    predicted = {
        (-28, 14, 93): (3937.314, 91.352, 0.649),
        (-26, 14, 90): (3769.996, 214.530, 0.341),
        (-14, -30, -11): (2979.930, 3628.805, 0.877),
    }
    found = list_crossings(experiment, list(predicted))
    assert [tuple(row)[:3] for row in found[["h", "k", "l"]].tolist()] == list(predicted)
    z = (found["phi_deg"] - experiment.rotation.phi_deg) / experiment.rotation.osc_deg
    ours = np.stack([found["fast"], found["slow"], z], axis=1)
    assert np.abs(ours - list(predicted.values())).max() < 0.001
    # Without a sensor, that is without DIALS's own depth, they are where the table of spots has them.
    thin = experiment.detector.replace(panels=[experiment.detector.panels[0].replace(thickness_um=0.0)])
    found = list_crossings(experiment.replace(detector=thin), list(predicted))
    crystal = experiment.crystal.replace(cell_counts=(200, 200, 100), shape="gauss")
    for row in found:
        still = Rotation(phi_deg=float(row["phi_deg"]), axis=experiment.rotation.axis)
        frame = experiment.replace(detector=thin, crystal=crystal, rotation=still, sampling=Sampling(oversample=1))
        spots = spot_table(make_plan(frame), threshold=1e-20)
        (spot,) = spots[(spots["h"] == row["h"]) & (spots["k"] == row["k"]) & (spots["l"] == row["l"])]
        assert (spot["fast"], spot["slow"]) == pytest.approx((row["fast"], row["slow"]), abs=1e-6)


# --- the command line -----------------------------------------------------------------------------

BASE = "-cell 100 -default_F 10 -N 5"


def test_flags_complete_a_geometry(two_panels):
    line = f"{BASE} -geom {two_panels} -geom_value /run/z=80"
    experiment = Experiment.from_nanobragg(line)
    assert experiment.detector == Detector.from_geom(two_panels, values={"/run/z": 80.0})
    assert experiment.beam == Experiment.from_geom(two_panels, values={"/run/z": 80.0}, **PARTS).beam
    by_distance = Experiment.from_nanobragg(f"{BASE} -geom {two_panels} -distance 80 -lambda {12398.42 / 9000}")
    assert by_distance.detector == experiment.detector
    assert Experiment.from_nanobragg(line + " -dispersion 1 -dispsteps 3").beam.dispersion_steps == 3
    folder = two_panels.parent
    assert Experiment.from_nanobragg(line.replace(f"{folder}/", ""), folder).detector == experiment.detector


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ("-pixel 0.1", "-pixel must not stand beside -geom"),
        ("-xds", "-xds must not stand beside -geom"),
        ("-twotheta 3", "-twotheta must not stand beside -geom"),
        ("-energy 9500", "-energy contradicts line 1 of"),
        ("-geom_value 80", "-geom_value must be PATH=NUMBER"),
        ("-geom_event seven -geom_data nothing.h5", "event must be the number of a frame"),
        ("-geom_data nothing.h5", "nothing.h5"),
        ("-expt x.expt", "-geom must not stand beside -expt"),
        ("-expt_index 3", "-expt_index has no meaning without -expt"),
        ("-beam_vector 0 0 0", "-beam_vector must not be the zero vector"),
        ("", r"line 3: clen lies in a data file, at /run/z .*-geom_value PATH=NUMBER says it"),
    ],
)
def test_flags_that_contradict_a_geometry_are_refused(two_panels, flags, sentence):
    with pytest.raises(InputError, match=sentence):
        Experiment.from_nanobragg(f"{BASE} -geom {two_panels} {flags}")


def test_images_that_panels_do_not_fit_into_are_refused_before_any_work(two_panels, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert nanobragg.main(f"{BASE} -geom {two_panels} -distance 80".split()) == 2
    assert "an SMV image needs a detector of one panel" in capsys.readouterr().err
    assert not list(tmp_path.glob("*image*"))


@needs_shared
def test_an_expt_on_the_command_line_is_the_same_experiment():
    path = SHARED / "i03_thau_single_ffs.expt"
    line = Experiment.from_nanobragg(f"-expt {path} -default_F 1 -fidelity physical")
    assert line == Experiment.from_expt(path, fidelity="physical")
    for flags in ("-cell 100", "-osc 1", "-polar 0", "-detector_thick 100", "-distance 3", "-misset random"):
        with pytest.raises(InputError, match=f"{flags.split()[0]} must not stand beside -expt"):
            Experiment.from_nanobragg(f"-expt {path} -default_F 1 {flags}")


# --- whatever somebody gives ----------------------------------------------------------------------

_LINES = TWO_PANELS.replace("/run/z", "0.08").splitlines()
_JUNK = st.sampled_from(
    ["", "-", "1e400", "nan", "1e9", "-3", "x", "0", "/a/%", "%", "2147483647", "a,b", "=", "\0", "é"]
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(_LINES) - 1), _JUNK), max_size=4), st.integers(0, len(_LINES)))
def test_a_damaged_geometry_is_read_or_refused_in_a_sentence(tmp_path_factory, damage, cut):
    lines = list(_LINES)
    for place, junk in damage:
        lines[place] = lines[place].partition("=")[0] + "= " + junk
    path = tmp_path_factory.getbasetemp() / "damaged.geom"
    path.write_text("\n".join(lines[:cut] if len(damage) > 2 else lines), encoding="utf-8")
    try:
        experiment = Experiment.from_geom(path, **PARTS)
    except InputError as error:
        assert "\n" not in str(error)
    else:
        assert math.isfinite(experiment.beam.wavelength_A)


def sweep_of_two_panels() -> ExptExperiment:
    """An experiment with everything that is read of one."""
    size = {"pixel_mm": (0.1, 0.2), "image_size": (20, 10), "thickness_mm": 0.3, "mu_per_mm": 3.0, "parallax": True}
    a, b, c = (40.0, 1.0, 0.0), (0.0, 50.0, 2.0), (3.0, 0.0, 60.0)
    stars = np.linalg.inv(np.array([a, b, c]))
    points = tuple(tuple(map(tuple, (stars * (1.0 + 0.01 * k)).tolist())) for k in range(4))
    return ExptExperiment(
        beam=ExptBeam(direction=(0.0, 0.1, 0.995), wavelength_A=1.0, polarization_fraction=0.9),
        detector=tuple(
            ExptPanel(
                name=f"p{k}",
                origin_mm=(-1.0, 3.0 - 2.5 * k, -80.0),
                fast=(1.0, 0.0, 0.0),
                slow=(0.0, -1.0, 0.0),
                mask=((0, 0, 3, 2),),
                groups=("left",),
                strategy="ParallaxCorrectedPxMmStrategy",
                **size,
            )
            for k in range(2)
        ),
        goniometer=several_axes(((1.0, 0.0, 0.0), (0.0, 0.6, 0.8)), (0.0, 30.0), ("phi", "chi"), 0),
        scan=ExptScan(image_range=(5, 7), start_deg=10.0, width_deg=0.5, exposure_times=(0.1, 0.1, 0.1)),
        crystal=ExptCrystal(real_space=(a, b, c), A_at_scan_points=points, mosaicity_deg=0.1),
    )


def test_a_scan_varying_crystal_is_that_of_its_image(tmp_path):
    one = sweep_of_two_panels()
    path = tmp_path / "sweep.expt"
    path.write_text(write_expt([one]))
    for image in (None, 5, 7):
        experiment = Experiment.from_expt(path, image=image)
        place = 0 if image is None else image - 5
        A = np.mean(one.crystal.A_at_scan_points[place : place + 2], axis=0)
        turned = np.array(one.goniometer.setting_rotation) @ np.array(one.goniometer.fixed_rotation) @ A
        cell = make_plan(experiment).cell
        assert np.abs(np.array([cell.a_star, cell.b_star, cell.c_star]) - mcstas(turned.T)).max() < 1e-15
        assert experiment.rotation.phi_deg == pytest.approx(10.0 + 0.5 * place)
        spindle = np.array(one.goniometer.setting_rotation) @ (1.0, 0.0, 0.0)
        assert experiment.rotation.axis == pytest.approx(mcstas(spindle))
    assert experiment.crystal.mosaic_spread_deg == pytest.approx(0.1 / 0.4964, rel=1e-4)
    assert experiment.beam.exposure_s == 0.1 and experiment.beam.polarization == pytest.approx(0.8)
    panel = experiment.detector.panels[1]
    assert (panel.thickness_um, panel.bad) == (pytest.approx(300.0), ((0, 2, 0, 1),))
    assert panel.attenuation_depth_um == pytest.approx(1000.0 / 3.0)
    with pytest.raises(InputError, match="image must lie in the scan, 5 to 7, got 8"):
        Experiment.from_expt(path, image=8)


_DOCUMENT = json.loads(write_expt([sweep_of_two_panels()]))
_WRONG = st.sampled_from([None, 0, -1, 1e308, 1e-308, float("nan"), [], {}, "x", [0, 0, 0], [1e300] * 3, True, 10**400])


def _leaves(node, path=()):
    yield path
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, child in children:
        yield from _leaves(child, (*path, key))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(list(_leaves(_DOCUMENT))[1:]), _WRONG), min_size=1, max_size=2))
def test_a_damaged_experiment_list_is_read_or_refused_in_a_sentence(tmp_path_factory, damage):
    document = json.loads(json.dumps(_DOCUMENT))
    for path, wrong in damage:
        node = document
        try:
            for key in path[:-1]:
                node = node[key]
            node[path[-1]] = wrong
        except (TypeError, IndexError, KeyError):
            pass  # what the first one has replaced
    path = tmp_path_factory.getbasetemp() / "damaged.expt"
    path.write_text(json.dumps(document))
    try:
        experiment = Experiment.from_expt(path, image=6)
    except InputError as error:
        assert "\n" not in str(error)
    else:
        assert math.isfinite(experiment.beam.wavelength_A)
