"""NXmx files as other programs read them: nxmx, fabio, silx."""

import json
import os

import h5py
import hdf5plugin  # noqa: F401
import numpy as np
import pytest

from bragg_numba import Experiment
from bragg_numba.io.compression import COMPRESSIONS, Codec
from bragg_numba.io.data_file import FrameWriter
from bragg_numba.io.nxmx import SATURATION
from bragg_numba.plan.plan import make_plan
from bragg_numba.series import Series, rotation_series, still_series

nxmx = pytest.importorskip("nxmx")

CRYSTAL = "-cell 50 60 70 80 95 105 -default_F 100 -N 5 -oversample 1 -fluence 1e28 "
SMALL = CRYSTAL + "-lambda 1.1 -detpixels_x 40 -detpixels_y 30 -pixel 0.2 -distance 120 "


def _pixel_corners(path, shape):
    """Corners of some pixels in the McStas frame, from the file alone, as nxmx understands it; metres."""
    with h5py.File(path) as file:
        detector = nxmx.NXmx(file).entries[0].instruments[0].detectors[0]
        module = detector.modules[0]
        pixel = np.array([[fast, slow] for slow in (0, 7, shape[0]) for fast in (0, 11, shape[1])], dtype=float)
        at = np.zeros((len(pixel), 3))
        for axis, number in ((module.fast_pixel_direction, pixel[:, 0]), (module.slow_pixel_direction, pixel[:, 1])):
            pitch = axis[()].to("m").magnitude
            at += np.outer(number * pitch, np.array(axis.vector))
        # The rest of the chain is the same for both: fast, offset, translation.
        chain = nxmx.get_dependency_chain(module.fast_pixel_direction)
        for axis in chain[1:]:
            at += axis[()].to("m").magnitude * np.array(axis.vector)
            if axis.offset is not None:
                assert not np.any(axis.offset)
    return pixel, at


def _signature(points):
    """What no rotation of the frame can change: distances, and the volume's sign of the first corners."""
    squares = points @ points.T
    return squares, np.linalg.det(points[[0, 2, 6]])


CONVENTIONS = [f"-{name}" for name in ("mosflm", "denzo", "adxv", "xds", "dials")]
TILTS = ["", "-twotheta 15", "-detector_rotx 3 -detector_roty -7 -detector_rotz 20", "-twotheta -8 -detector_roty 11"]


@pytest.mark.parametrize("tilt", TILTS)
@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("pivot", ["beam", "sample"])
def test_nxmx_puts_every_pixel_where_the_detector_has_it(tmp_path, convention, tilt, pivot):
    experiment = Experiment.from_nanobragg(f"{SMALL} {convention} {tilt} -pivot {pivot} -Xbeam 3.1 -Ybeam 4.3")
    series = Series(experiment, [{"phi_deg": 0.0}])
    path = series_head(series, tmp_path / "head.h5")
    pixel, at = _pixel_corners(path, experiment.detector.shape)
    d = make_plan(experiment).detector
    own = np.array(d.origin) + d.pixel_size * (pixel[:, :1] * np.array(d.fast) + pixel[:, 1:] * np.array(d.slow))
    beam = np.array(d.beam)
    # The beam goes to +z, and everything else turns with it: equal products of any two pixels' positions and
    # equal handedness mean one proper rotation.
    assert np.abs(at[:, 2] - own @ beam).max() < 1e-9
    squares, volume = _signature(at)
    own_squares, own_volume = _signature(own)
    assert np.abs(squares - own_squares).max() < 1e-9 * np.sqrt(own_squares.max())
    assert volume == pytest.approx(own_volume, rel=1e-9)
    if convention in ("-mosflm", "-denzo"):
        assert np.abs(at - np.stack([-own[:, 2], own[:, 1], own[:, 0]], axis=1)).max() < 1e-9
    elif convention in ("-xds", "-dials"):
        assert np.abs(at - own * [-1, -1, 1]).max() < 1e-9
    else:
        assert np.abs(at - own).max() < 1e-9


def series_head(series, path):
    """Write everything of an NXmx file but its frames."""
    from bragg_numba.io import nxmx as writer
    from bragg_numba.series.describe import describe

    description, _ = describe(series, "float32", len(series), {})
    with h5py.File(path, "w") as file:
        writer.write_head(file, description, writer.now())
    return path


def test_a_beam_that_is_not_along_an_axis_still_goes_to_z(tmp_path):
    experiment = Experiment.from_nanobragg(SMALL + "-beam_vector 1 0.1 -0.2")
    path = series_head(Series(experiment, [{"phi_deg": 0.0}]), tmp_path / "head.h5")
    pixel, at = _pixel_corners(path, experiment.detector.shape)
    d = make_plan(experiment).detector
    own = np.array(d.origin) + d.pixel_size * (pixel[:, :1] * np.array(d.fast) + pixel[:, 1:] * np.array(d.slow))
    assert np.abs(at[:, 2] - own @ np.array(d.beam)).max() < 1e-9
    assert np.linalg.det(at[[0, 2, 6]]) == pytest.approx(np.linalg.det(own[[0, 2, 6]]), rel=1e-9)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """A sweep of 5 frames in files of 2, photons and counts, with a masked pixel."""
    folder = tmp_path_factory.mktemp("sweep")
    experiment = Experiment.from_nanobragg(SMALL + "-roi 2 39 0 29")
    mask = np.ones(experiment.detector.shape, dtype=bool)
    mask[3, 5] = False
    experiment = experiment.replace(detector=experiment.detector.replace(mask=mask))
    series = rotation_series(experiment, 10.0, 0.5, 5)
    result = series.write(folder / "s", counts="uint16", seed=7, frames_per_file=2, spot_threshold=1e-3)
    return folder, series, result


def test_nxmx_reads_wavelength_omega_and_mask(sweep):
    folder, series, _ = sweep
    with h5py.File(folder / "s_counts_master.h5") as file:
        entry = nxmx.NXmx(file).entries[0]
        assert entry.definition == "NXmx"
        beam = entry.instruments[0].beams[0]
        assert beam.incident_wavelength.to("angstrom").magnitude == 1.1
        omega = entry.samples[0].depends_on
        # Clockwise as seen along the beam's left: MOSFLM's spindle +z is McStas's -x.
        assert np.array_equal(omega.vector, [-1.0, 0.0, 0.0])
        assert np.allclose(omega[()].to("deg").magnitude, [10.0, 10.5, 11.0, 11.5, 12.0], rtol=1e-15)
        mask = entry.instruments[0].detectors[0].pixel_mask
        assert np.argwhere(mask[:, 2:]).tolist() == [[3, 3]]
        assert (mask[:, :2] != 0).all()
        detector = entry.instruments[0].detectors[0]
        assert detector.saturation_value == 65532
        assert detector.bit_depth_readout == 16
        assert detector.sensor_thickness.to("m").magnitude > 0
        assert detector.sensor_material == "Si"


def test_stills_have_no_goniometer_and_one_wavelength_a_frame(tmp_path):
    ways = {"wavelength_A": {"normal": [1.1, 0.01]}}
    series = still_series(Experiment.from_nanobragg(SMALL), 3, seed=2, distributions=ways)
    path = series_head(series, tmp_path / "head.h5")
    with h5py.File(path) as file:
        assert file["/entry/sample/depends_on"][()] == b"."
        assert np.array_equal(file["/entry/instrument/beam/incident_wavelength"], series.frames["wavelength_A"])


def test_a_spectrum_that_all_frames_share_is_a_variant_of_its_mean(tmp_path):
    """DIALS before 3.13 takes the first of several wavelengths for a sweep, and stops at stills."""
    experiment = Experiment.from_nanobragg(SMALL + "-dispersion 2 -dispsteps 3")
    path = series_head(rotation_series(experiment, 0.0, 1.0, 2), tmp_path / "head.h5")
    with h5py.File(path) as file:
        beam = file["/entry/instrument/beam"]
        assert beam["incident_wavelength"].shape == ()
        assert beam["incident_wavelength"][()] == pytest.approx(1.1, rel=1e-12)
        assert "incident_wavelength_weights" not in beam
        name = beam["incident_wavelength"].attrs["variant"]
        assert np.allclose(beam[name], [1.089, 1.1, 1.111], rtol=1e-12)
        assert beam[f"{name}_weights"].shape == (3,)
        assert beam[f"{name}_weights"][()].sum() == pytest.approx(1.0)
        assert beam[name].attrs["units"] == "angstrom"


def test_a_dispersion_about_wavelengths_that_differ_is_a_spectrum_a_frame(tmp_path):
    experiment = Experiment.from_nanobragg(SMALL + "-dispersion 2 -dispsteps 3")
    series = Series(experiment, {"wavelength_A": [1.1, 1.2]})
    path = series_head(series, tmp_path / "head.h5")
    with h5py.File(path) as file:
        beam = file["/entry/instrument/beam"]
        assert np.allclose(beam["incident_wavelength"], [1.1, 1.2], rtol=1e-12)
        lines = beam[beam["incident_wavelength"].attrs["variant"]][()]
    for index in range(2):
        sources = make_plan(series.experiment_of(index)).sources.wavelength * 1e10
        assert np.allclose(lines[index], np.unique(sources), rtol=1e-12)


def test_every_length_and_angle_has_units(sweep):
    folder, _, _ = sweep
    found, without = [], []

    def look(name, item):
        ending = name.rsplit("/", 1)[-1]
        physical = ("direction", "translation", "offset", "size", "thickness", "distance", "wavelength", "omega")
        if isinstance(item, h5py.Dataset) and any(word in ending for word in physical) and ending != "data_size":
            (found if "units" in item.attrs else without).append(name)

    with h5py.File(folder / "s_photons" / "s_master.h5") as file:
        file.visititems(look)
    assert len(found) >= 8
    assert without == []


def test_xds_plugin_rules_hold(sweep):
    folder, _, _ = sweep
    with h5py.File(folder / "s_counts_master.h5") as file:
        mask = file["/entry/instrument/detector/pixel_mask"]
        assert mask.dtype == np.uint32
        specific = file["/entry/instrument/detector/detectorSpecific"]
        # The plugin refuses chunks, takes any whole numbers, and looks at five bits.
        assert specific["pixel_mask"].chunks is None
        assert specific["pixel_mask"].dtype == np.uint8
        assert np.array_equal(specific["pixel_mask"], mask[()] & 0x1F)
        assert (specific["nimages"][()], specific["ntrigger"][()]) == (5, 1)
        assert "eiger_fw_version" not in specific
        assert specific["pixel_mask"].shape == mask.shape
        links = [file["/entry/data"].get(f"data_{k:06d}", getlink=True) for k in (1, 2, 3)]
        assert [os.path.basename(link.filename) == link.filename for link in links] == [True] * 3
        for k, n in ((1, 2), (2, 2), (3, 1)):
            data = file[f"/entry/data/data_{k:06d}"]
            assert data.shape == (n, 30, 40)
            assert data.chunks == (1, 30, 40)
            assert data.id.get_create_plist().get_nfilters() == 1
            assert data.id.get_create_plist().get_filter(0)[0] == 32008


def test_photons_are_what_the_simulator_renders(sweep):
    from bragg_numba import Simulator

    folder, series, _ = sweep
    with h5py.File(folder / "s_photons" / "s_master.h5") as file:
        for index in range(5):
            frame = file["/entry/data/data"][index]
            assert frame.any()
            assert np.array_equal(frame, Simulator(series.experiment_of(index)).render())


def test_fabio_and_silx_read_the_frames(sweep, tmp_path, monkeypatch):
    fabio = pytest.importorskip("fabio")
    nexus = pytest.importorskip("silx.io.nxdata")
    folder, _, _ = sweep
    monkeypatch.chdir(tmp_path)  # the names in the master are relative to itself, not to where one stands
    with h5py.File(folder / "s_counts_master.h5") as file:
        frames = file["/entry/data/data"][()]
        plot = nexus.get_default(file)
        assert plot.is_valid
        assert np.array_equal(plot.signal, frames)
    assert frames.sum() > 0
    with fabio.open(str(folder / "s_counts_data_000002.h5")) as opened:
        assert opened.nframes == 2
        assert np.array_equal(opened.data, frames[2])
        assert np.array_equal(opened.next().data, frames[3])


def test_a_series_can_be_moved(sweep, tmp_path):
    folder, _, _ = sweep
    import shutil

    shutil.copytree(folder, tmp_path / "elsewhere")
    master = os.path.join("s_photons", "s_master.h5")
    with h5py.File(folder / master) as old, h5py.File(tmp_path / "elsewhere" / master) as new:
        assert np.array_equal(old["/entry/data/data"], new["/entry/data/data"])


@pytest.mark.parametrize("dtype", ["float32", "uint16", "uint32"])
@pytest.mark.parametrize("name", COMPRESSIONS)
def test_every_compression_gives_the_frame_back(tmp_path, name, dtype):
    frame = (np.random.default_rng(3).poisson(4.0, (67, 129)) * 1.0).astype(dtype)
    codec = Codec(name)
    with h5py.File(tmp_path / "f.h5", "w") as file:
        writer = FrameWriter(file, 2, frame.shape, dtype, codec)
        writer.write(0, frame, codec.pack(frame))
        writer.write(1, frame, None)
    with h5py.File(tmp_path / "f.h5") as file:
        assert np.array_equal(file["/entry/data/data"][0], frame)
        assert np.array_equal(file["/entry/data/data"][1], frame)


def test_without_the_fast_packer_the_frames_are_the_same(tmp_path, monkeypatch):
    from bragg_numba.io import compression

    series = rotation_series(Experiment.from_nanobragg(SMALL), 0.0, 1.0, 1)
    series.write(tmp_path / "fast", counts="uint16")
    monkeypatch.setattr(compression, "_compressor", lambda: None)
    series.write(tmp_path / "slow", counts="uint16")
    with h5py.File(tmp_path / "fast_counts_master.h5") as a, h5py.File(tmp_path / "slow_counts_master.h5") as b:
        assert np.array_equal(a["/entry/data/data"], b["/entry/data/data"])
        assert a["/entry/data/data"][()].any()


@pytest.mark.parametrize("counts", ["uint16", "uint32"])
def test_counts_saturate_and_never_wrap(tmp_path, counts):
    bright = Experiment.from_nanobragg(SMALL.replace("1e28", "1e36"))
    series = Series(bright, [{"phi_deg": 0.0}])
    series.write(tmp_path / "s", counts=counts)
    with h5py.File(tmp_path / "s_photons" / "s_master.h5") as p, h5py.File(tmp_path / "s_counts_master.h5") as c:
        photons, drawn = p["/entry/data/data"][0], c["/entry/data/data"][0]
        top = SATURATION[counts]
        assert drawn.max() == top
        # Ten standard deviations above the limit there is no doubt.
        assert (drawn[photons > top + 10 * np.sqrt(top)] == top).all()
        assert c["/entry/truth/frames"]["overloads"][0] >= np.count_nonzero(photons > top + 10 * np.sqrt(top))


def test_the_command_remakes_the_counts_from_the_photons(sweep, tmp_path):
    from bragg_numba.cli.bragg import main

    folder, series, _ = sweep
    out = tmp_path / "counts.h5"
    assert main(["noise", str(folder / "s_photons" / "s_master.h5"), "-o", str(out), "--seed", "7"]) == 0
    with h5py.File(folder / "s_counts_master.h5") as a, h5py.File(out) as b:
        assert np.array_equal(a["/entry/data/data"], b["/entry/data/data"])
        # In one file the spots are counted through, in several each starts anew.
        names = [name for name in a["/entry/truth/frames"].dtype.names if name != "first_spot"]
        assert np.array_equal(a["/entry/truth/frames"][()][names], b["/entry/truth/frames"][()][names])
        assert b["/entry/truth/spots"].shape == (a["/entry/truth/frames"]["spots"].sum(),)
        assert len(nxmx.NXmx(b).entries[0].samples[0].depends_on[()]) == 5
    assert main(["noise", str(folder / "s_photons" / "s_master.h5"), "-o", str(out), "--seed", "8"]) == 0
    with h5py.File(folder / "s_counts_master.h5") as a, h5py.File(out) as b:
        assert not np.array_equal(a["/entry/data/data"], b["/entry/data/data"])


def test_a_missing_data_file_is_an_error_and_not_zeros(sweep, tmp_path, capsys):
    import shutil

    from bragg_numba.cli.bragg import main

    folder, _, _ = sweep
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    (copy / "s_photons" / "s_data_000002.h5").unlink()
    assert main(["noise", str(copy / "s_photons" / "s_master.h5"), "-o", str(tmp_path / "c.h5")]) == 2
    assert "s_data_000002.h5" in capsys.readouterr().err
    assert not (tmp_path / "c.h5").exists()


def test_a_master_holds_the_experiment_and_the_series(sweep):
    folder, series, _ = sweep
    again = Series.load(folder / "s_photons" / "s_master.h5")
    assert again.frames.digest(0, 5) == series.frames.digest(0, 5)
    assert Experiment.load(folder / "s_photons" / "s_master.h5") == series.experiment
    with h5py.File(folder / "s_photons" / "s_master.h5") as file:
        assert "numba" in json.loads(file["/entry/process/versions"][()])
        assert "noise" not in file["/entry/process"]
    with h5py.File(folder / "s_counts_master.h5") as file:
        assert file["/entry/process/noise"][()] == b"philox4x32-10, quantile"


def test_the_crystfel_corner_and_axes_are_those_of_the_file(sweep, tmp_path):
    from bragg_numba.cli.bragg import main

    folder, series, _ = sweep
    assert main(["export", str(folder / "s_counts_master.h5"), "-o", str(tmp_path / "x")]) == 0
    lines = dict(line.split(" = ", 1) for line in (tmp_path / "x.geom").read_text().splitlines() if " = " in line)
    _, at = _pixel_corners(folder / "s_counts_master.h5", (30, 40))
    res = float(lines["res"])
    corner = np.array([float(lines["p0/corner_x"]) / res, float(lines["p0/corner_y"]) / res])
    assert np.abs(corner - at[0, :2]).max() < 1e-9
    assert abs(float(lines["clen"].split()[0]) - at[0, 2]) < 1e-9
    assert (lines["p0/fs"], lines["p0/ss"]) == ("-1x", "-1y")


def test_xds_finds_the_pixel_nearest_to_the_crystal(sweep, tmp_path):
    from bragg_numba.cli.bragg import main

    folder, series, _ = sweep
    assert main(["export", str(folder / "s_counts_master.h5"), "-o", str(tmp_path / "x")]) == 0
    text = (tmp_path / "x_XDS.INP").read_text()
    words = text.split()
    d = make_plan(series.experiment).detector
    assert float(words[words.index("ORGX=") + 1]) == pytest.approx(d.org_px[0], rel=1e-7)
    assert float(words[words.index("ORGY=") + 1]) == pytest.approx(d.org_px[1], rel=1e-7)
    assert float(words[words.index("DETECTOR_DISTANCE=") + 1]) == pytest.approx(120.0, rel=1e-9)
    assert "ROTATION_AXIS= 1 0 0" in text
    assert "s_counts_??????.h5" in text


def test_the_picture_and_the_page_are_written(sweep, tmp_path):
    from PIL import Image

    from bragg_numba.cli.bragg import main

    folder, _, _ = sweep
    master = str(folder / "s_photons" / "s_master.h5")
    assert main(["view", master, "--frame", "3", "--spots", "-o", str(tmp_path / "v.png")]) == 0
    with Image.open(tmp_path / "v.png") as image:
        assert image.size == (40, 30)
    assert main(["view", master, "--html", str(tmp_path / "v.html")]) == 0
    page = (tmp_path / "v.html").read_text()
    assert all(f'id="data:tile/{frame}/frame/0/0/0"' in page for frame in range(5))
    assert main(["view", master, "--frame", "5"]) == 2


def _text_attributes(path):
    found = []

    def look(name, item):
        for key in item.attrs:
            kind = item.attrs.get_id(key).get_type()
            if isinstance(kind, h5py.h5t.TypeStringID):
                found.append((name, key, kind.get_cset()))

    with h5py.File(path) as file:
        look("/", file)
        file.visititems(look)
    return found


def test_text_attributes_are_ascii(sweep, tmp_path):
    """HDF5 does not turn UTF-8 into ASCII, which durin asks for: it would not find NX_class."""
    from bragg_numba.cli.bragg import main

    folder, _, _ = sweep
    assert main(["noise", str(folder / "s_photons" / "s_master.h5"), "-o", str(tmp_path / "c.h5")]) == 0
    for path in (folder / "s_photons" / "s_master.h5", folder / "s_counts_data_000001.h5", tmp_path / "c.h5"):
        found = _text_attributes(path)
        assert ("/", "NX_class") in [entry[:2] for entry in found]
        assert [entry for entry in found if entry[2] != h5py.h5t.CSET_ASCII] == []


def test_the_first_and_the_last_nxdata_hold_the_frames(sweep):
    """DIALS takes the first group of this class, durin the last one."""
    folder, _, _ = sweep
    with h5py.File(folder / "s_photons" / "s_master.h5") as file:
        found = []
        file.visititems(lambda name, item: found.append(name) if item.attrs.get("NX_class") == "NXdata" else None)
    assert found == ["entry/data"]


@pytest.mark.parametrize(
    ("words", "stokes"),
    [
        ("-polar 0.9", [1, 0.9, 0, 0]),  # MOSFLM's E-vector is z: McStas's x
        ("-polar 0.9 -adxv", [1, 0.9, 0, 0]),
        ("-polar 0.5 -polar_vector 0 1 0", [1, -0.5, 0, 0]),  # up
        ("-polar 0.5 -polar_vector 0 1 -1", [1, 0, 0.5, 0]),  # half way between x and y
        ("-nopolar", [1, 0, 0, 0]),
    ],
)
def test_the_stokes_vector_says_how_the_beam_is_polarized(tmp_path, words, stokes):
    path = series_head(Series(Experiment.from_nanobragg(SMALL + words), [{"phi_deg": 0.0}]), tmp_path / "head.h5")
    with h5py.File(path) as file:
        written = file["/entry/instrument/beam/incident_polarization_stokes"]
        assert written.shape == (1, 4)
        assert np.allclose(written[0], stokes, rtol=0.0, atol=1e-15)


def test_spectra_that_differ_are_a_variant_of_their_means(tmp_path):
    spectra = [[[1.1, 1.0], [1.13, 2.0]], [[1.0, 1.0], [1.1, 1.0], [1.2, 2.0]]]
    experiment = Experiment.from_nanobragg(SMALL).replace(fidelity="physical")
    path = series_head(Series(experiment, [{"spectrum": lines} for lines in spectra]), tmp_path / "head.h5")
    with h5py.File(path) as file:
        beam = file["/entry/instrument/beam"]
        assert np.allclose(beam["incident_wavelength"], [1.12, 1.125], rtol=1e-15)
        # What dxtbx follows.
        name = beam["incident_wavelength"].attrs["variant"]
        assert beam[name].attrs["units"] == "angstrom"
        assert beam[name].shape == beam[f"{name}_weights"].shape == (2, 3)
        for index, lines in enumerate(spectra):
            weights = beam[f"{name}_weights"][index]
            mean = (beam[name][index] * weights).sum() / weights.sum()
            assert mean == pytest.approx(np.average(*np.transpose(lines)[[0]], weights=np.transpose(lines)[1]))


def _geom(path):
    return dict(line.split(" = ", 1) for line in path.read_text().splitlines() if " = " in line)


def test_text_files_lie_beside_every_series(sweep, tmp_path):
    folder, series, result = sweep
    assert sorted(os.path.basename(name) for name in result.exports) == [
        "s.expt",
        "s.geom",
        "s.phil",
        "s.poni",
        "s_XDS.INP",
    ]
    assert "s_counts_??????.h5" in (folder / "s_XDS.INP").read_text()
    assert _geom(folder / "s.geom")["photon_energy"] == "11271.29091 eV"
    stills = still_series(Experiment.from_nanobragg(SMALL), 2, seed=1)
    written = stills.write(tmp_path / "t")
    assert [os.path.basename(name) for name in written.exports] == ["t.geom", "t.phil", "t.poni", "t.expt"]
    assert stills.write(tmp_path / "u", exports=False).exports == ()
    assert sorted(path.name for path in tmp_path.glob("u*")) == ["u_data_000001.h5", "u_master.h5", "u_series.log"]
    photons = rotation_series(Experiment.from_nanobragg(SMALL), 0.0, 1.0, 2).write(tmp_path / "p")
    assert [os.path.basename(name) for name in photons.exports] == ["p.geom", "p.phil", "p.poni", "p_XDS.INP", "p.expt"]
    assert "whole numbers only" in (tmp_path / "p_XDS.INP").read_text()


def test_text_files_that_somebody_changed_are_left_unless_all_is_written_anew(tmp_path):
    series = rotation_series(Experiment.from_nanobragg(SMALL), 0.0, 1.0, 2)
    series.write(tmp_path / "s")
    own = (tmp_path / "s_XDS.INP").read_text()
    (tmp_path / "s_XDS.INP").write_text(own + "JOB= XYCORR\n")
    result = series.write(tmp_path / "s", resume=True)
    assert any("s_XDS.INP was there already" in note for note in result.notes)
    assert (tmp_path / "s_XDS.INP").read_text() == own + "JOB= XYCORR\n"
    # What is written beside the frames is no reason to render them again.
    assert series.write(tmp_path / "s", resume=True, exports=False).rendered == 0
    series.write(tmp_path / "s", overwrite=True)
    assert (tmp_path / "s_XDS.INP").read_text() == own


def test_crystfel_finds_the_wavelength_and_the_place_of_every_frame(tmp_path):
    ways = {"wavelength_A": {"normal": [1.1, 0.01]}, "beam_x_mm": {"normal": [3.0, 0.2]}}
    series = still_series(Experiment.from_nanobragg(SMALL), 4, seed=2, distributions=ways)
    series.write(tmp_path / "s")
    geom = _geom(tmp_path / "s.geom")
    assert geom["wavelength"] == "/entry/instrument/beam/incident_wavelength A"
    assert "photon_energy" not in geom
    turn = np.array([[0, 0, -1], [0, 1, 0], [1, 0, 0]])  # MOSFLM's laboratory to McStas
    with h5py.File(tmp_path / "s_master.h5") as file:
        assert np.array_equal(file["/entry/instrument/beam/incident_wavelength"], series.frames["wavelength_A"])
        shift = np.stack([file[geom[f"detector_shift_{axis}"].removesuffix(" m")][()] for axis in "xy"], axis=1)
    corner = np.array([float(geom["p0/corner_x"]), float(geom["p0/corner_y"])]) / float(geom["res"])
    for index in range(4):
        origin = turn @ np.array(make_plan(series.experiment_of(index)).detector.origin)
        assert np.abs(corner + shift[index] - origin[:2]).max() < 1e-9


def test_crystfel_gets_the_bandwidth_of_a_spectrum(tmp_path):
    series = Series(Experiment.from_nanobragg(SMALL + "-dispersion 2 -dispsteps 3"), [{"phi_deg": 0.0}])
    series.write(tmp_path / "s")
    geom = _geom(tmp_path / "s.geom")
    # Three equal lines 1 % apart.
    assert float(geom["bandwidth"]) == pytest.approx(0.01 * np.sqrt(2.0 / 3.0), rel=1e-5)
    assert float(geom["photon_energy"].split()[0]) == pytest.approx(12398.42 / 1.1, rel=1e-9)
