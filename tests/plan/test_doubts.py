"""What nobody can want: said with its number where it can be rendered, refused in one sentence where a count is 0."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest

from bragg_numba import Crystal, Experiment, InputError, Rotation, Simulator
from bragg_numba.cli.nanobragg import main
from bragg_numba.lab.parity.cases import default_cases_file, load_cases
from bragg_numba.plan import doubts
from bragg_numba.plan.plan import make_plan

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
BASE = [
    "-cell",
    "70",
    "80",
    "90",
    "75",
    "85",
    "95",
    "-default_F",
    "100",
    "-N",
    "5",
    "-detpixels",
    "48",
    "-pixel",
    "0.5",
]
BASE += ["-oversample", "1", "-misset", "10", "20", "30", "-noprogress"]
FIDELITIES = ["nanobragg", "physical"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def doubts_of(*words: str, fidelity: str = "nanobragg") -> list[str]:
    """What the plan says beyond the crystal's fringes, which BASE leaves unresolved, and the angles of its cell."""
    plan = make_plan(Experiment.from_nanobragg([*BASE, "-fidelity", fidelity, *words]))
    usual = "may vary within a pixel", "angles come out as"
    return [note for note in plan.notes if not any(words in note for words in usual)]


# --- doubts that the plan has


@pytest.mark.parametrize("fidelity", FIDELITIES)
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-energy", "12.4"], "999.9 A"),
        (["-energy", "12.4"], "12400 eV"),
        (["-lambda", "500"], "500 A"),
        (["-lambda", "0.01"], "0.01 A"),
        (["-energy", "9e6"], "0.001378 A"),
        (["-N", "3", "-lambda", "9", "-cell", "4", "4", "4", "90", "90", "90"], "widest spacing of planes, 4 A"),
        (["-hdivsteps", "3"], "1 radian"),
        (["-vdivsteps", "4", "-square_div"], "1 radian"),
        (["-pixel", "172"], "a pixel of 172 mm stands 100 mm"),
        (["-distance", "0.1"], "stands 0.1 mm"),
    ],
)
def test_a_slip_is_said_with_its_number(words, said, fidelity):
    assert any(said in doubt for doubt in doubts_of(*words, fidelity=fidelity))


@pytest.mark.parametrize(
    "words",
    [[], ["-lambda", "6.2"], ["-energy", "100000"], ["-energy", "2000"], ["-divergence", "2", "-divsteps", "5"]],
    ids=" ".join,
)
def test_what_people_do_is_not_doubted(words):
    assert doubts_of(*words) == []


def test_no_command_line_of_the_golden_data_and_of_the_parity_matrix_is_doubted(monkeypatch):
    found = []
    monkeypatch.setattr(
        "bragg_numba.plan.plan.list_doubts", lambda *plan: found.extend(said := doubts.list_doubts(*plan)) or said
    )
    monkeypatch.chdir(GOLDEN / "inputs")
    with h5py.File(GOLDEN / "golden.h5") as file:
        lines = [json.loads(group.attrs["argv"]) for group in file.values()]
    lines += [list(point.words) for case in load_cases(default_cases_file())[0] for point in case.points]
    assert len(lines) > 200
    for words in lines:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            make_plan(Experiment.from_nanobragg(words))
        # Whose angles the reference does not keep is no slip of theirs.
        assert [one for one in found if "angles come out as" not in one] == [], words
        found.clear()


@pytest.mark.parametrize(
    ("cell", "angles"),
    [("40 50 60 75 85 110", "75.217 85.075 110.065"), ("60 60 60 70 70 70", ""), ("40 50 60 90 95 90", "")],
)
def test_angles_that_the_reference_does_not_keep_are_said(cell, angles):
    words = f"-cell {cell} -default_F 1 -N 5 -detpixels 16"
    notes = [one for one in make_plan(Experiment.from_nanobragg(words)).notes if "angles come out as" in one]

    if angles:
        assert len(notes) == 1 and angles in notes[0] and "-fidelity physical" in notes[0]
    elif cell.startswith("40"):
        assert notes == []
    else:
        assert len(notes) == 1
    assert not any(
        "angles come" in one for one in make_plan(Experiment.from_nanobragg(words + " -fidelity physical")).notes
    )


# --- spots that C's radius leaves too narrow


@pytest.mark.parametrize(("flag", "shape"), [("-gauss_xtal", "gauss"), ("-tophat_spots", "tophat")])
@pytest.mark.parametrize("fudge", ["1", "0.3"])
def test_spots_too_narrow_for_their_photons_are_said_with_the_share_that_is_left(flag, shape, fudge):
    words = [flag, "-N", "12", "-fudge", fudge, "-mosaic", "0.5", "-mosaic_domains", "200"]
    (doubt,) = doubts_of(*words)
    assert flag in doubt and "-fidelity physical" in doubt
    said = float(doubt.split("renders ")[1].split()[0])

    base = Experiment.from_nanobragg([*BASE, *words])
    sums = [float(Simulator(base.replace(fidelity=f)).render().sum(dtype=float)) for f in FIDELITIES]
    assert said == pytest.approx(sums[0] / sums[1], rel=0.5)
    assert doubts_of(*words, fidelity="physical") == []


@pytest.mark.parametrize("words", [["-gauss_xtal"], ["-tophat_spots"], ["-round_xtal", "-N", "40"], ["-N", "40"]])
def test_spots_that_hold_their_photons_are_not_doubted(words):
    assert doubts_of(*words) == []


# --- counts and metrics that come out 0

NOTHING = {
    "no direction within the ellipse": ["-divergence", "1", "-hdivstep", "1", "-vdivstep", "1"],
    "one step of a radian": ["-divsteps", "1"],
    "one step each way": ["-hdivrange", "1", "-hdivstep", "2", "-vdivrange", "1", "-vdivstep", "3"],
    "no phi step": ["-osc", "0", "-phistep", "0.1"],
    "no phi step but for rounding": ["-osc", "1e-323", "-phistep", "10"],
    "spots of all space, gauss": ["-gauss_xtal", "-fudge", "0"],
    "spots of all space, tophat": ["-tophat_spots", "-fudge", "0"],
    "spots of all space, round": ["-round_xtal", "-fudge", "0"],
    "a metric that rounds to 0": ["-gauss_xtal", "-fudge", "1e-320"],
    "a cell of nothing": ["-cell", "1e-200"],
    "a sensor of nothing": ["-detector_thick", "1e-320"],
    "an attenuation depth of nothing": ["-detector_thick", "100", "-detector_abs", "1e-320"],
    "a detector at the crystal": ["-pix0_vector", "1e-320", "0", "0"],
    "a distance of nothing": ["-distance", "1e-320"],
}


@pytest.mark.parametrize("fidelity", FIDELITIES)
@pytest.mark.parametrize("kind", NOTHING)
def test_a_count_or_metric_that_comes_out_0_is_one_sentence(kind, fidelity, folder, capsys):
    words = [*BASE, *NOTHING[kind], "-fidelity", fidelity]
    with pytest.raises(InputError):
        make_plan(Experiment.from_nanobragg(words))
    assert main(words) == 2
    printed = capsys.readouterr()
    assert "Traceback" not in printed.out + printed.err
    assert len([line for line in printed.err.splitlines() if line.startswith("error: ")]) == 1
    assert list(folder.iterdir()) == []


def test_a_fudge_of_0_changes_nothing_of_a_square_crystal():
    images = [Simulator(Experiment.from_nanobragg([*BASE, "-fudge", fudge])).render() for fudge in ("0", "1")]
    assert np.array_equal(*images)


def test_the_library_refuses_an_empty_sweep_as_the_command_does():
    base = Experiment.from_nanobragg(BASE)
    with pytest.raises(InputError, match="the number of phi steps must be at least 1"):
        Simulator(base.replace(rotation=Rotation(osc_deg=0.0, phi_step_deg=0.1)))
    with pytest.raises(InputError, match=r"Crystal\.fudge"):
        Simulator(base.replace(crystal=Crystal(cell=(50.0,), shape="gauss", fudge=0.0)))


# --- doubts that only the image raises


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-fluence", "0"], "no pixel has a photon: the fluence is 0"),
        (["-dmin", "500"], "no pixel has a photon: none lies within -dmin 500 A"),
        (["-gauss_xtal", "-N", "100"], "no pixel has a photon: no spot is wide enough"),
        (["-fluence", "1e16", "-noisefile", "n.img"], "photons, so that the noise image holds next to none"),
        (["-fluence", "1e40", "-noisefile", "n.img"], "pixels of the noise image are saturated at 65535"),
        (["-intfile", "i.img", "-scale", "1e9"], "pixels of the integer image are saturated at 65535"),
    ],
)
def test_an_image_that_nobody_can_want_is_said(words, said, folder, capsys):
    assert main([*BASE, *words, "-floatfile", "f.bin", "-json"]) == 0
    printed = capsys.readouterr()
    assert said in printed.err
    assert any(said in note for note in json.loads(printed.out)["notes"])


def test_a_mask_that_skips_all_is_said(folder, capsys):
    text = "{\nHEADER_BYTES=512;\nTYPE=unsigned_short;\nSIZE1=48;\nSIZE2=48;\n}\f"
    (folder / "dark.img").write_bytes(text.encode().ljust(512) + bytes(2 * 48 * 48))
    assert main([*BASE, "-mask", "dark.img", "-floatfile", "f.bin"]) == 0
    assert "no pixel has a photon: the mask skips all of them" in capsys.readouterr().err


def test_photons_without_counts_may_be_few(folder, capsys):
    assert main([*BASE, "-fluence", "1e16", "-floatfile", "f.bin"]) == 0
    assert "photons" not in capsys.readouterr().err
