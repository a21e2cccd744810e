"""What files say of detectors made of panels: masters, geometry for CrystFEL, pictures, counts."""

from __future__ import annotations

import re

import h5py
import numpy as np
import pytest
from sample_panels import crooked, lit, window

from bragg_numba import Detector, Experiment, InputError, Panel, Sampling, Series
from bragg_numba.io.nxmx import GAP
from bragg_numba.series.source import open_source

nxmx = pytest.importorskip("nxmx", reason="needs the package nxmx")


def straightened(detector: Detector) -> Detector:
    """The same panels with their slow axes at right angles to the fast ones."""
    panels = []
    for panel in detector.panels:
        fast, slow = np.array(panel.fast), np.array(panel.slow)
        panels.append(panel.replace(slow=tuple(slow - (slow @ fast) / (fast @ fast) * fast)))
    return detector.replace(panels=panels)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A series of crooked panels: folder, experiment, what was written."""
    folder = tmp_path_factory.mktemp("panels")
    panels = list(crooked().panels)
    panels[3] = panels[3].replace(bad=[(2, 5, 1, 9)], name="q0a1")
    experiment = lit(Detector(panels=panels, convention="adxv"), sampling=Sampling(oversample=1, roi=(2, 110, 0, 66)))
    series = Series(experiment, [{"phi_deg": 0.0}, {"phi_deg": 40.0}])
    return folder, experiment, series.write(folder / "s", backend="cpu", counts="uint16", seed=3, spot_threshold=1e-3)


def module_positions(path) -> np.ndarray:
    """Centres of all pixels as NXmx has them, (slow, fast, 3), metres; NaN where no module lies."""
    with h5py.File(path) as file:
        detector = nxmx.NXmx(file).entries[0].instruments[0].detectors[0]
        found = np.full((*file["/entry/data/data"].shape[1:], 3), np.nan)
        for module in detector.modules:
            (row, column), (n_slow, n_fast) = module.data_origin, module.data_size
            fast, slow = module.fast_pixel_direction, module.slow_pixel_direction
            chain = nxmx.get_dependency_chain(fast)[1:]
            place, translation = chain
            assert translation.path == "/entry/instrument/detector/transformations/translation"
            corner = sum(axis[()].to("m").magnitude * np.array(axis.vector) for axis in (place, translation))
            assert nxmx.get_dependency_chain(slow)[1].path == place.path
            assert abs(np.dot(fast.vector, slow.vector)) < 1e-12
            rows, columns = np.mgrid[:n_slow, :n_fast] + 0.5
            steps = [axis[()].to("m").magnitude * np.array(axis.vector) for axis in (fast, slow)]
            at = corner + columns[..., None] * steps[0] + rows[..., None] * steps[1]
            found[row : row + n_slow, column : column + n_fast] = at
    return found


def test_every_panel_is_a_module_at_its_place(tmp_path):
    experiment = lit(straightened(crooked()))
    result = Series(experiment, [{"phi_deg": 0.0}]).write(tmp_path / "s", backend="cpu", spots=False)

    found = module_positions(result.masters[0])

    np.testing.assert_allclose(found, experiment.pixel_positions_m(), rtol=0, atol=1e-12)
    assert not any("right angles" in note for note in result.notes)


def test_skewed_panels_are_turned_for_nxmx_alone_and_the_note_says_how_far(written):
    _, experiment, result = written
    found, exact = module_positions(result.masters[0]), experiment.pixel_positions_m()

    (note,) = [note for note in result.notes if "right angles" in note]

    moved = float(re.search(r"by up to ([\d.]+) pixels", note)[1])
    pixels = {panel.name: min(panel.pixel_mm) / 1000 for panel in experiment.detector.panels}
    worst = {}
    for panel in experiment.detector.panels:
        off = np.linalg.norm(found[window(panel)] - exact[window(panel)], axis=-1) / pixels[panel.name]
        worst[panel.name] = off.max()
        # About its middle.
        assert off[panel.n_slow // 2, panel.n_fast // 2] < 0.2
    # Corners of pixels lie half a pixel further out than centres.
    assert moved == pytest.approx(max(worst.values()), rel=0.1)
    assert max(worst, key=worst.get) in note


def test_the_mask_marks_gaps_and_bad_pixels(written):
    _, experiment, result = written
    with h5py.File(result.masters[0]) as file:
        mask = file["/entry/instrument/detector/pixel_mask"][()]
        counts = file["/entry/data/data"][()]

    lies = ~np.isnan(experiment.pixel_positions_m()[..., 0])
    panel = experiment.detector.panels[3]
    lies[panel.first_row + 1 : panel.first_row + 10, panel.first_column + 2 : panel.first_column + 6] = False
    inside = np.zeros(lies.shape, bool)
    inside[:67, 2:111] = True
    assert np.array_equal(mask == 0, lies & inside)
    assert (mask[~lies] & GAP != 0).all()
    assert not counts[:, ~lies].any()


def read_geom(text: str) -> np.ndarray:
    """Centres of the pixels that a CrystFEL geometry file describes, metres."""
    values: dict[str, str] = dict(line.split(" = ") for line in text.splitlines() if " = " in line and line[0] != ";")
    names = sorted({key.split("/")[0] for key in values if "/min_fs" in key})
    shape = [1 + max(int(values[f"{name}/max_{axis}"]) for name in names) for axis in ("ss", "fs")]
    found = np.full((*shape, 3), np.nan)
    clen = float(values["clen"].split()[0])
    for name in names:
        low, high = ([int(values[f"{name}/{end}_{axis}"]) for axis in ("ss", "fs")] for end in ("min", "max"))
        pixel = 1.0 / float(values[f"{name}/res"])
        steps = []
        for axis in ("fs", "ss"):
            parts = dict.fromkeys("xyz", 0.0)
            for term in values[f"{name}/{axis}"].split():
                assert re.fullmatch(r"[+-][\d.]+[xyz]", term), "CrystFEL reads no exponents"
                parts[term[-1]] = float(term[:-1])
            steps.append(pixel * np.array([parts[x] for x in "xyz"]))
        corner = np.array(
            [
                pixel * float(values[f"{name}/corner_x"]),
                pixel * float(values[f"{name}/corner_y"]),
                clen + float(values[f"{name}/coffset"]),
            ]
        )
        rows, columns = np.mgrid[: high[0] - low[0] + 1, : high[1] - low[1] + 1] + 0.5
        found[low[0] : high[0] + 1, low[1] : high[1] + 1] = (
            corner + columns[..., None] * steps[0] + rows[..., None] * steps[1]
        )
    return found


def test_the_geometry_for_crystfel_has_the_panels_as_they_are(written):
    folder, experiment, _ = written
    text = (folder / "s.geom").read_text()

    assert "q0a1/min_fs = 71" in text
    np.testing.assert_allclose(read_geom(text), experiment.pixel_positions_m(), rtol=0, atol=1e-9)
    assert not list(folder.glob("*.poni")) and not list(folder.glob("*XDS.INP"))


def test_truth_tells_the_panel_and_no_beam_centre(written):
    _, experiment, result = written
    with open_source(result.masters[0]) as source:
        row, spots = source.truth(0)

    assert np.isnan(row["beam_center_px"]).all()
    assert len(set(spots["panel"])) > 1
    for spot in spots:
        panel = experiment.detector.panels[spot["panel"]]
        assert 0 <= spot["slow"] - panel.first_row < panel.n_slow
        assert 0 <= spot["fast"] - panel.first_column < panel.n_fast


def test_pictures_and_pages_are_drawn(written, tmp_path):
    from bragg_numba.cli.bragg import main

    folder, _, result = written
    assert main(["view", result.masters[0], "-o", str(tmp_path / "v.png"), "--spots"]) == 0
    assert main(["view", result.masters[0], "--html", str(tmp_path / "v.html")]) == 0
    assert (tmp_path / "v.png").stat().st_size > 1000
    assert main(["info", result.masters[0], "--json"]) == 0


def test_a_frame_of_panels_is_rendered_again_from_its_file(tmp_path):
    from bragg_numba.cli.bragg import main

    experiment = lit(crooked(thickness_um=320), sampling=Sampling(oversample=1))
    experiment.save(tmp_path / "e.json")
    assert main(["render", str(tmp_path / "e.json"), "-o", str(tmp_path / "a.h5"), "--backend", "cpu"]) == 0
    assert main(["render", str(tmp_path / "a.h5"), "-o", str(tmp_path / "b.h5"), "--backend", "cpu"]) == 0
    images = []
    for name in "ab":
        with h5py.File(tmp_path / f"{name}.h5") as file:
            images.append(file["/entry/data/data"][()])
    assert np.array_equal(*images)
    assert Experiment.load(tmp_path / "b.h5") == experiment


def test_smv_headers_are_refused_by_name(tmp_path):
    from bragg_numba.cli.outputs import smv_header
    from bragg_numba.plan.plan import make_plan

    with pytest.raises(InputError, match="SMV header needs a detector of one panel with square pixels"):
        smv_header(make_plan(lit(crooked())))


def test_one_panel_that_is_the_whole_image_is_written_as_a_single_plane(tmp_path):
    panel = Panel(n_fast=40, n_slow=30, origin_mm=(-4, 3, 80), fast=(1, 0, 0), slow=(0, -1, 0), pixel_mm=0.2)
    experiment = lit(Detector(panels=[panel], convention="adxv"))

    result = Series(experiment, [{"phi_deg": 0.0}]).write(tmp_path / "s", backend="cpu", spots=False)

    with h5py.File(result.masters[0]) as file:
        detector = file["/entry/instrument/detector"]
        assert detector["beam_center_x"][()] == pytest.approx(20.0)
        assert "module" in detector
    assert (tmp_path / "s.poni").exists()
