"""The matrix of parity cases: complete, in step with the golden data, and passing."""

import json
import os
import re
from pathlib import Path

import h5py
import numpy as np
import pytest

from bragg_numba import InputError
from bragg_numba.cli import nanobragg
from bragg_numba.cli.bragg import main
from bragg_numba.lab.parity import matrix
from bragg_numba.lab.parity.cases import default_cases_file, load_cases
from bragg_numba.lab.parity.matrix import FAILED, PASSED, SKIPPED, Command, run_cases

CASES, GOLDEN = load_cases(default_cases_file())
PROGRAM = os.environ.get("NB_C_BIN")

#: Acceptance tests of the specification that compare with the C program.
ACCEPTANCE = {n for n in range(1, 30) if n not in (19, 28)}  # 19 is not there; 28 is a speed: bench/


def compare(cases, **options):
    """Run cases with our own command."""
    return run_cases(cases, Command(nanobragg.main, nanobragg.__name__), **options)


def in_order(words):
    """Words of a command line with the folders taken off file names."""
    return [Path(word).name if word.endswith((".hkl", ".mat", ".src")) else word for word in words]


# --- the file -----------------------------------------------------------------------------------


def test_every_acceptance_test_has_its_row():
    named = " ".join(case.stands_for for case in CASES)
    # "AT-PARALLEL-012, -013" names two.
    found = {int(number) for number in re.findall(r"-(0\d\d)\b", named)}
    assert found >= ACCEPTANCE


def test_every_golden_image_has_its_row_and_the_command_it_was_made_with():
    with h5py.File(GOLDEN) as file:
        commands = {name: json.loads(file[name].attrs["argv"]) for name in file}
    points = {point.golden: point for case in CASES for point in case.points if point.golden}

    assert set(points) == set(commands)
    for name, words in commands.items():
        assert in_order(points[name].words) == words


def test_every_file_that_a_row_names_is_there():
    words = {word for case in CASES for point in case.points for word in point.words}
    files = {word for word in words if word.endswith((".hkl", ".mat", ".src"))}
    assert {Path(word).suffix for word in files} == {".hkl", ".mat", ".src"}
    assert [word for word in files if not Path(word).is_file()] == []


def test_names_of_points_are_unique():
    names = [point.name for case in CASES for point in case.points]
    assert len(names) == len(set(names))


def write(folder, text):
    path = folder / "cases.yaml"
    path.write_text(text)
    return path


CASE = "- {name: a, stands_for: b, flags: -cell 100 -lambda {x}"


def test_sweeps_multiply_and_values_may_hold_several_words(tmp_path):
    text = """
inputs: in here
cases:
  - name: a
    stands_for: b
    flags: -hkl {inputs}/f.hkl -misset {angles} -N {n}
    sweep: {angles: ["1 2 3", "4 5 6"], n: [7, 8]}
    variants: {plain: "", round: -round_xtal}
    golden: {"plain, angles 1 2 3, n 8": g}
"""
    ((case,), golden) = load_cases(write(tmp_path, text))

    assert golden is None and len(case.points) == 8
    first, second = case.points[:2]
    assert first.words == ("-hkl", f"{tmp_path}/in here/f.hkl", *["-misset", "1", "2", "3", "-N", "7"])
    assert (first.golden, second.golden) == (None, "g")
    assert case.points[-1].words[-1] == "-round_xtal"
    assert case.points[-1].name == "a [round, angles 4 5 6, n 8]"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cases: 3", "must be a mapping with a list 'cases'"),
        ("cases: [", "is not YAML"),
        ("cases: [{name: a}]", "must have a text 'stands_for'"),
        ("cases: [{name: a, stands_for: b, flags: -N 5, colour: red}]", "'colour'"),
        ("cases: [{name: a, stands_for: b, flags: '-N {n}'}]", "swept values"),
        ("cases: [{name: a, stands_for: b, flags: -N 5, images: [sound]}]", "images must be some of"),
        ("cases: [{name: a, stands_for: b, flags: -N 5, thresholds: {luck: 1}}]", "'luck'"),
        ("cases: [{name: a, stands_for: b, flags: -N 5}, {name: a, stands_for: b, flags: -N 5}]", "alike"),
    ],
)
def test_a_matrix_that_cannot_be_understood_is_refused(tmp_path, text, said):
    with pytest.raises(InputError, match=re.escape(said)):
        load_cases(write(tmp_path, text))


def test_a_missing_matrix_is_refused(tmp_path):
    with pytest.raises(InputError, match="could not be read"):
        load_cases(tmp_path / "nothing.yaml")


# --- the run ------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", [c for c in CASES if not c.full_frame and c.points[0].golden], ids=lambda c: c.name)
def test_the_golden_data_agree(case):
    (outcome,) = compare([case], golden=GOLDEN)

    assert outcome.status == PASSED, outcome.reasons


@pytest.mark.slow
@pytest.mark.parametrize("case", [c for c in CASES if c.full_frame], ids=lambda c: c.name)
def test_full_frames_agree_with_the_golden_data(case):
    (outcome,) = compare([case], golden=GOLDEN)

    assert outcome.status == PASSED, outcome.reasons
    assert outcome.centre["excess"] <= 1 and set(outcome.seconds) == {"ours", matrix.COLD, matrix.WARM}


@pytest.mark.skipif(not PROGRAM, reason="NB_C_BIN does not name the C program")
@pytest.mark.parametrize("case", [c for c in CASES if not c.full_frame], ids=lambda c: c.name)
def test_the_c_program_agrees(case):
    outcomes = compare([case], program=PROGRAM)

    assert {outcome.status for outcome in outcomes} == {PASSED}, [o.reasons for o in outcomes if o.reasons]


def test_what_has_no_golden_data_is_skipped_with_the_reason(tmp_path):
    cases, _ = load_cases(write(tmp_path, "cases: [{name: a, stands_for: b, flags: -cell 100 -default_F 1}]"))

    (outcome,) = compare(cases, golden=GOLDEN)

    assert outcome.status == SKIPPED and "NB_C_BIN" in outcome.reasons[0]


def tampered(folder, flags, **changes):
    """A matrix whose row says that ``flags`` make the golden image N1."""
    text = "{name: a, stands_for: b, golden: N1, flags: " + json.dumps(flags)
    text += "".join(f", {key}: {json.dumps(value)}" for key, value in changes.items())
    return load_cases(write(folder, f"cases: [{text}}}]"))[0]


N1 = "-cell 100 100 100 90 90 90 -default_F 100 -N 1 -lambda 1.0 -distance 100 -detpixels 64 -pixel 0.1"


def test_a_frame_that_is_brighter_by_a_ten_thousandth_fails(tmp_path):
    assert compare(tampered(tmp_path, N1), golden=GOLDEN)[0].status == PASSED

    wrong = tampered(tmp_path, N1.replace("-default_F 100", "-default_F 100.005"))
    (outcome,) = compare(wrong, golden=GOLDEN, keep=tmp_path)

    assert outcome.status == FAILED
    # F^2 is brighter by 1.0001, and a pixel is allowed a tenth of that and a little.
    assert 5 < outcome.excess <= 10.01 and outcome.sum_ratio == pytest.approx(1.00010000, abs=1e-7)
    assert (tmp_path / "a" / "py.bin").is_file()


def test_a_refused_command_line_is_a_failure_that_says_why(tmp_path):
    (outcome,) = compare(tampered(tmp_path, f"{N1} -bogus 3"), golden=GOLDEN)

    assert outcome.status == FAILED and "-bogus" in outcome.reasons[0]


def test_another_shape_is_a_failure(tmp_path):
    (outcome,) = compare(tampered(tmp_path, N1.replace("-detpixels 64", "-detpixels 65")), golden=GOLDEN)

    assert outcome.status == FAILED and "64 x 64" in outcome.reasons[0]


@pytest.fixture
def program(tmp_path):
    """A program with the C program's interface whose image is ours, spoilt as its flags ask."""
    import sys

    path = tmp_path / "nanoBragg"
    path.write_text(
        f"""#!{sys.executable}
import sys, time
import numpy as np
from bragg_numba.cli.nanobragg import main
words = [word for word in sys.argv[1:] if word not in ("-hang", "-spoil")]
if "-hang" in sys.argv:
    time.sleep(60)
words += ["-precision", "float64"]
status = main(words)
if "-spoil" in sys.argv:
    name = words[words.index("-floatfile") + 1]
    image = np.fromfile(name, dtype="<f4")
    image[-1] *= 1.001
    image.tofile(name)
sys.exit(status)
"""
    )
    path.chmod(0o755)
    return path


def live(folder, flags, **changes):
    text = "{name: a, stands_for: b, flags: " + json.dumps(flags)
    text += "".join(f", {key}: {json.dumps(value)}" for key, value in changes.items())
    return load_cases(write(folder, f"cases: [{text}}}]"))[0]


def test_structure_factors_left_in_the_folder_do_not_reach_another_case(tmp_path, monkeypatch, golden_folder):
    monkeypatch.chdir(tmp_path)
    Path("Fdump.bin").write_bytes(b"0 1 0 1 0 1\n\f" + np.full(8, 3.0).tobytes())
    chosen = {case.name: case for case in CASES}

    outcomes = compare([chosen["golden_sparse_F"], chosen["golden_single_cell"]], golden=GOLDEN)

    assert [outcome.status for outcome in outcomes] == [PASSED, PASSED]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["Fdump.bin"]


def test_laws_are_judged_over_a_sweep(tmp_path, program):
    flags = "-cell 100 -default_F {F} -N 5 -lambda 6.2 -distance 100 -detpixels 32"
    sweep = {"F": [50, 100, 200]}
    good = live(tmp_path, flags, sweep=sweep, law={"against": "F", "power": 2, "within": 1e-5}, differ_below=1.1)
    bad = live(tmp_path, flags, sweep=sweep, law={"against": "F", "power": 3, "within": 0.5}, differ_below=0.9)

    assert [o.status for o in compare(good, program=program)] == [PASSED] * 5
    outcomes = compare(bad, program=program)
    assert [o.status for o in outcomes] == [PASSED] * 3 + [FAILED] * 2
    assert "F^2.0000" in outcomes[3].reasons[0]


def test_one_wrong_pixel_in_the_last_corner_fails(tmp_path, program, monkeypatch):
    real = matrix.Ours.render
    # Ours does not know -spoil and would refuse it.
    monkeypatch.setattr(
        matrix.Ours,
        "render",
        lambda self, point: real(self, __import__("dataclasses").replace(point, words=point.words[:-1])),
    )

    (outcome,) = compare(live(tmp_path, f"{N1} -spoil"), program=program)

    assert outcome.status == FAILED and outcome.excess > 1


def test_a_reference_that_hangs_is_ended(tmp_path, program, monkeypatch):
    monkeypatch.setattr(matrix.Ours, "render", lambda self, point: matrix._Images(program, (64, 64), 0.0))
    monkeypatch.setattr(matrix._Images, "floats", lambda self: np.ones((64, 64), dtype=np.float32))

    (outcome,) = compare(live(tmp_path, f"{N1} -hang"), program=program, timeout=0.5)

    assert outcome.status == FAILED and "longer than 0.5 s" in outcome.reasons[0]


# --- the command --------------------------------------------------------------------------------


def test_the_command_leaves_a_bundle_with_the_worst_first(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("NB_C_BIN", raising=False)
    wrong = write(
        tmp_path,
        f"""
cases:
  - {{name: fine, stands_for: a golden image, golden: N1, flags: {N1}}}
  - {{name: unknown, stands_for: nothing, flags: {N1}}}
  - {{name: dark, stands_for: a wrong one, golden: N1, flags: {N1.replace("-default_F 100", "-default_F 50")}}}
""",
    )

    status = main(["parity", "--cases", str(wrong), "--golden", str(GOLDEN), "--outdir", str(tmp_path / "out")])

    assert status == 3
    (folder,) = (tmp_path / "out").iterdir()
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["counts"] == {"passed": 1, "failed": 1, "skipped": 1} and not summary["passed"]
    assert [outcome["name"] for outcome in summary["outcomes"]] == ["dark", "fine", "unknown"]
    page = (folder / "report.html").read_text()
    assert page.index("dark") < page.index("fine") < page.index("unknown")
    assert page.count("data:image/png;base64,") == 6 and "1 failed" in page
    assert "http" not in page  # a page for any machine, with nothing to fetch
    assert (folder / "dark" / "py.bin").is_file() and (folder / "commands.txt").is_file()
    assert "numpy" in json.loads((folder / "environment.json").read_text())["versions"]
    assert "1 passed, 1 failed, 1 skipped" in capsys.readouterr().out


def test_the_command_runs_named_cases_and_lists_them_all(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("NB_C_BIN", raising=False)

    assert main(["parity", "golden_single_cell", "--outdir", str(tmp_path)]) == 0
    assert "1 passed, 0 failed, 0 skipped" in capsys.readouterr().out
    assert main(["parity", "--list"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(CASES)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["golden_single_cel"], "did you mean golden_single_cell?"),
        (["--cases", "nowhere.yaml"], "could not be read"),
        (["--c-bin", "nowhere", "golden_single_cell"], "must be an executable file"),
        (["--timeout", "-1"], "seconds above 0"),
        (["--golden", "nowhere.h5", "golden_single_cell"], "nowhere.h5"),
    ],
)
def test_the_command_refuses_in_one_sentence(tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NB_C_BIN", raising=False)

    assert main(["parity", *words]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and said in error
