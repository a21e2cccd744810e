"""Plans for the command line: files that they name lie beside them, and protected files stay."""

from __future__ import annotations

import json
import os

import h5py
import numpy as np
import pytest

from bragg_numba import Experiment, InputError
from bragg_numba.cli.bragg import main
from bragg_numba.io.smv import SmvHeader, smv_bytes
from bragg_numba.io.structure_factor_files import write_dump
from bragg_numba.series import OutputOptions, Series, rotation_series

LINE = "-lambda 1 -detpixels 16 -pixel 1 -distance 50 -N 3"
PLAN = {"format": "bragg_numba series", "version": 1, "rotation": {"start_deg": 0, "width_deg": 1, "n": 2}}


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """The folder of the plan; the working folder is another one."""
    (tmp_path / "plans").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "plans"


def _plan(folder, line, **parts):
    path = folder / "plan.json"
    path.write_text(json.dumps({**PLAN, "nanobragg": line, **parts}))
    return path


def _image() -> bytes:
    numbers = dict.fromkeys(SmvHeader.__slots__, 1.0) | {"size1": 16, "size2": 16, "dials_origin_mm": (0, 0, 0)}
    pixels = np.ones((16, 16), dtype=np.uint16)
    pixels[3, 5] = 0
    return smv_bytes(SmvHeader(**numbers), pixels)


def test_every_file_that_a_plan_names_is_looked_up_beside_it(elsewhere):
    files = {"t.hkl": b"1 0 0 30\n", "t.mat": b".01 0 0 0 .01 0 0 0 .01\n", "t.src": b"-1 0 0\n", "m.img": _image()}
    for name, content in files.items():
        (elsewhere / name).write_bytes(content)
    (elsewhere / "frames.csv").write_text("phi_deg\n1\n2\n3\n")
    line = f"{LINE} -hkl t.hkl -mat t.mat -sourcefile t.src -mask m.img"
    series = Series.load(_plan(elsewhere, line))
    assert series.experiment.structure_factors.amplitudes.tolist() == [30.0]
    assert series.experiment.beam.sources is not None
    assert not series.experiment.detector.mask[3, 5]
    absolute = line.replace("t.", f"{elsewhere}/t.").replace("m.img", f"{elsewhere}/m.img")
    assert Series.load(_plan(elsewhere, absolute)).experiment == series.experiment
    plan = json.loads(_plan(elsewhere, line).read_text())
    del plan["rotation"]
    (elsewhere / "plan.json").write_text(json.dumps({**plan, "frames": "frames.csv"}))
    assert Series.load(elsewhere / "plan.json").frames["phi_deg"].tolist() == [1.0, 2.0, 3.0]


def test_the_cache_of_structure_factors_is_that_beside_the_plan(elsewhere):
    for folder, amplitude in ((elsewhere, 5.0), (elsewhere.parent / "work", 7.0)):
        write_dump(folder / "Fdump.bin", np.array([0, 0, 0]), np.full((1, 1, 1), amplitude))
    with pytest.warns(UserWarning, match="plans/Fdump.bin"):
        series = Series.load(_plan(elsewhere, f"{LINE} -cell 50 -default_F 1"))
    assert series.experiment.structure_factors.amplitudes.tolist() == [5.0]


@pytest.mark.parametrize(
    "parts",
    [
        {"nanobragg": f"{LINE} -cell 50 -hkl absent"},
        {"nanobragg": f"{LINE} -default_F 1 -mat absent"},
        {"nanobragg": f"{LINE} -cell 50 -default_F 1 -mask absent"},
        {"nanobragg": f"{LINE} -cell 50 -default_F 1 -img absent"},
        {"nanobragg": f"{LINE} -cell 50 -default_F 1 -sourcefile absent"},
        {"nanobragg": f"{LINE} -cell 50 -dump absent"},
        {"experiment": "absent"},
    ],
)
def test_a_file_that_is_not_there_is_named_by_its_whole_path(elsewhere, parts, capsys):
    path = elsewhere / "plan.json"
    path.write_text(json.dumps({**PLAN, **parts}))
    for plan in (str(path), os.path.relpath(path)):
        assert main(["series", plan]) == 2
        assert f"{elsewhere}/absent" in capsys.readouterr().err


def test_a_command_line_outside_a_plan_names_files_as_the_shell_does(elsewhere):
    (elsewhere.parent / "work" / "t.hkl").write_text("1 0 0 30\n")
    assert Experiment.from_nanobragg(f"{LINE} -cell 50 -hkl t.hkl").structure_factors.amplitudes.tolist() == [30.0]
    (elsewhere / "t.hkl").write_text("1 0 0 20\n")
    beside = Experiment.from_nanobragg(f"{LINE} -cell 50 -hkl t.hkl", folder=elsewhere)
    assert beside.structure_factors.amplitudes.tolist() == [20.0]


def test_no_counts_may_be_asked_for_in_a_plan_as_on_the_command_line(elsewhere):
    path = _plan(elsewhere, f"{LINE} -cell 50 -default_F 10", output={"counts": "none", "prefix": "s"})
    assert main(["series", str(path), "--quiet"]) == 0
    assert {name.name for name in elsewhere.glob("*master.h5")} == {"s_master.h5"}
    assert OutputOptions(counts="none") == OutputOptions()
    with pytest.raises(InputError, match="photons or counts"):
        OutputOptions(counts="none", photons=False)


@pytest.mark.parametrize("protected", ["s_data_000002.h5", "s_master.h5", "s_counts_data_000001.h5", "s_series.log"])
def test_overwriting_removes_nothing_of_a_series_of_which_a_part_is_protected(tmp_path, protected):
    series = rotation_series(Experiment.from_nanobragg(f"{LINE} -cell 50 -default_F 10"), 0.0, 1.0, 2)
    options = {"counts": "uint16", "frames_per_file": 1}
    series.write(tmp_path / "s", **options)
    (tmp_path / protected).chmod(0o444)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(InputError, match=f"{protected} exists and is write-protected"):
        series.write(tmp_path / "s", overwrite=True, **options)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_broken_data_file_that_is_protected_is_left_before_any_work(tmp_path):
    series = rotation_series(Experiment.from_nanobragg(f"{LINE} -cell 50 -default_F 10"), 0.0, 1.0, 3)
    series.write(tmp_path / "s", frames_per_file=1)
    (tmp_path / "s_data_000001.h5").unlink()
    os.truncate(tmp_path / "s_data_000003.h5", 100)
    (tmp_path / "s_data_000003.h5").chmod(0o444)
    with pytest.raises(InputError, match=r"s_data_000003\.h5 exists and is write-protected"):
        series.write(tmp_path / "s", resume=True, frames_per_file=1)
    assert not (tmp_path / "s_data_000001.h5").exists()


def test_a_protected_output_of_another_command_is_refused(tmp_path, capsys):
    series = rotation_series(Experiment.from_nanobragg(f"{LINE} -cell 50 -default_F 10"), 0.0, 1.0, 1)
    series.write(tmp_path / "s")
    for name in ("out.h5", "s.geom", "out.png"):
        (tmp_path / name).write_bytes(b"kept")
        (tmp_path / name).chmod(0o444)
    master = str(tmp_path / "s_master.h5")
    for words in (
        ["noise", master, "-o", str(tmp_path / "out.h5")],
        ["export", master, "--nxmx", str(tmp_path / "out.h5")],
        ["export", master],
        ["view", master, "-o", str(tmp_path / "out.png")],
    ):
        assert main(words) == 2
        assert "write-protected" in capsys.readouterr().err
    assert (tmp_path / "out.h5").read_bytes() == b"kept"


def test_new_series_files_have_the_mode_that_the_umask_says(tmp_path):
    series = rotation_series(Experiment.from_nanobragg(f"{LINE} -cell 50 -default_F 10"), 0.0, 1.0, 1)
    before = os.umask(0o027)
    try:
        series.write(tmp_path / "s")
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.glob("s*")} == {0o640}
    with h5py.File(tmp_path / "s_master.h5") as file:
        assert file["/entry/data/data"][0].any()
