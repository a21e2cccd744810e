"""``nb-compare``: exit statuses, and evidence that a person can read anywhere."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from bragg_numba.cli.compare import main

FAKE = """#!{python}
\"\"\"A program with nanoBragg's interface that knows one pattern.\"\"\"
import sys
import numpy as np

words = sys.argv[1:]
value = dict(zip(words, words[1:]))
print("fake", *words)
if "-fail" in words:
    print("the crystal fell off", file=sys.stderr)
    sys.exit(9)
slow, fast = int(value.get("-slow", 96)), int(value.get("-fast", 96))
if {ours} and "-other_shape" in words:
    slow, fast = 2 * slow, 2 * fast
image = np.random.default_rng(2).random((slow, fast), dtype=np.float32) ** 8
if {ours} and "-spoil" in words:
    image[-12:, -12:] = 0
if {ours} and "-nan" in words:
    image[3, 4] = np.nan
if {ours} and "-says" in words:
    exact = value.get("-precision") == "float64" or "-intfile" in words
    print(f"  rendering 1e+03 pixel-steps on cpu in {{'float64' if exact or '-always64' in words else 'tile'}}")
    if not exact and "-coarse" in words:
        image[:20] *= 1.2
if "-sleep" in words:
    __import__("time").sleep(60)
if "-usage" in words:
    print("usage: this", "-floatfile x", sep="\\n")
    sys.exit(9)
if "-nothing" not in words:
    image.tofile(value["-floatfile"])
if "-header" in words and "-intfile" in words:
    with open(value["-intfile"], "w") as file:
        file.write(f"{{{{\\nHEADER_BYTES=512;\\nSIZE1={{fast}};\\nSIZE2={{slow}};\\n}}}}")
if "-hkl" in words:
    print("reflections:", open(value["-hkl"]).read())
    open(value.get("-dump", "Fdump.bin"), "w")
"""


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """Two fake programs; the test runs in an empty folder of its own."""
    for name, ours in (("fake_c", False), ("fake_py", True)):
        program = tmp_path / name
        program.write_text(FAKE.format(python=sys.executable, ours=ours))
        program.chmod(0o755)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.delenv("NB_C_BIN", raising=False)
    return tmp_path


def compare(programs, *words, flags=("-N", "5")):
    options = ["--c-bin", str(programs / "fake_c"), "--py-bin", f"'{programs / 'fake_py'}' -extra"]
    return main([*options, *words, "--", *flags])


def evidence(folder="comparisons"):
    (found,) = Path(folder).iterdir()
    return found


def test_two_programs_that_agree_leave_the_whole_evidence(programs, capsys):
    assert compare(programs, "--save-diff") == 0

    folder = evidence()
    assert re.fullmatch(r"\d{8}-\d{6}-[0-9a-f]{8}", folder.name)
    expected = "c.bin py.bin c_stdout.txt c_stderr.txt py_stdout.txt py_stderr.txt c.png py.png diff.png diff.bin"
    expected += " summary.json commands.txt environment.json report.html"
    assert {path.name for path in folder.iterdir()} == set(expected.split())
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["passed"] and summary["whole"]["correlation"] == 1.0
    assert [run["status"] for run in summary["runs"]] == [0, 0]
    assert "-extra" in (folder / "commands.txt").read_text()
    assert "numpy" in json.loads((folder / "environment.json").read_text())["versions"]
    printed = capsys.readouterr().out
    assert str(folder) in printed and "worst tile" in printed


def test_nothing_is_written_beside_the_evidence(programs):
    (programs / "here" / "my.hkl").write_text("0 0 1 10\n")

    assert compare(programs, flags=("-hkl", "my.hkl")) == 0

    assert {path.name for path in (programs / "here").iterdir()} == {"my.hkl", "comparisons"}
    assert "0 0 1 10" in (evidence() / "c_stdout.txt").read_text()  # relative names still mean what they say


@pytest.mark.parametrize(
    ("flags", "first", "second"),
    [
        ((), "float64", "float32 (tile)"),  # the four default files hold integers
        (("-intfile", "i.img"), "float64", "float32 (tile)"),
        (("-floatfile", "f.bin", "-pgmfile", "p.pgm"), "float64", "float32 (tile)"),
        (("-floatfile", "f.bin"), "float32 (tile)", "float64"),
        (("-o", "f.h5"), "float32 (tile)", "float64"),
        (("-pngfile", "f.png"), "float32 (tile)", "float64"),
        (("-precision", "float64"), "float64", None),  # what was asked for, and nothing else
        (("-o", "f.h5", "-always64"), "float64", None),
        (("-always64",), "float64", None),
    ],
)
def test_what_the_flags_alone_would_render_is_compared_and_the_other_arithmetic_too(
    programs, capsys, flags, first, second
):
    assert compare(programs, flags=("-says", *flags)) == 0

    summary = json.loads((evidence() / "summary.json").read_text())
    assert summary["arithmetic"] == f"{first} on cpu"
    assert [other["arithmetic"] for other in summary["also"]] == ([] if second is None else [f"{second} on cpu"])
    assert summary["verdict"].startswith(f"Ours in {first} on cpu: Good")
    printed = capsys.readouterr().out
    assert (f"In {second} on cpu: Good" in printed) == (second is not None)
    assert "whole frame, " in (evidence() / "report.html").read_text()


def test_a_fault_of_the_arithmetic_without_integers_has_status_3(programs):
    """The default command line renders float64: that alone would have passed."""
    assert compare(programs, flags=("-says", "-coarse")) == 3

    summary = json.loads((evidence() / "summary.json").read_text())
    assert summary["whole"]["correlation"] == 1.0 and not summary["passed"]
    assert "In float32 (tile) on cpu: Bad" in summary["verdict"]


def test_a_run_that_takes_long_is_not_repeated(programs, monkeypatch):
    monkeypatch.setattr("bragg_numba.cli.compare.LITTLE_SECONDS", 0.0)
    assert compare(programs, flags=("-says",)) == 0
    assert json.loads((evidence() / "summary.json").read_text())["also"] == []


def test_the_real_command_renders_float32_where_no_integers_are_asked_for(programs):
    flags = ["-cell", "100", "-default_F", "100", "-N", "5", "-detpixels_f", "48", "-detpixels_s", "40", "-o", "f.h5"]
    main(["--c-bin", str(programs / "fake_c"), "--threshold", "-1", "--outdir", "real", "--resample", "--", *flags])

    summary = json.loads((evidence("real") / "summary.json").read_text())
    assert summary["arithmetic"].startswith("float32 (tile) on ")
    assert [other["arithmetic"].split()[0] for other in summary["also"]] == ["float64"]


def test_outputs_that_the_flags_name_are_left_out_with_a_note(programs, capsys):
    flags = (
        "-N",
        "5",
        "-floatfile",
        "mine.bin",
        "-noiseimage",
        "noise.img",
        "-hkl",
        "h.hkl",
        "-dump",
        "d.bin",
    )
    (programs / "here" / "h.hkl").write_text("")

    assert compare(programs, flags=flags) == 0

    printed = capsys.readouterr().out
    for word in ("-floatfile mine.bin", "-noiseimage noise.img", "-dump d.bin"):
        assert f"left out {word}" in printed
    assert {path.name for path in (programs / "here").iterdir()} == {"h.hkl", "comparisons"}


def test_a_dump_that_is_read_is_not_left_out(programs, capsys):
    assert compare(programs, flags=("-dump", "mine.bin")) == 0

    assert "left out" not in capsys.readouterr().out
    assert "-dump mine.bin" in (evidence() / "c_stdout.txt").read_text()


def test_a_wrong_edge_has_status_3_and_is_named(programs, capsys):
    assert compare(programs, flags=("-spoil",)) == 3

    summary = json.loads((evidence() / "summary.json").read_text())
    assert not summary["passed"]
    assert summary["whole"]["worst_tile"]["slow"] == [80, 96]
    assert "slow 80..95, fast 80..95" in capsys.readouterr().out


def test_a_good_region_is_good_but_the_bad_frame_is_warned_of(programs, capsys):
    assert compare(programs, "--roi", "0", "63", "0", "47", flags=("-spoil",)) == 0

    summary = json.loads((evidence() / "summary.json").read_text())
    assert summary["region"]["shape"] == [48, 64]
    assert summary["whole"]["worst_tile"]["correlation"] < 0.9
    printed = capsys.readouterr()
    assert "warning" in printed.err and "whole frame" in printed.err
    assert "Whole frame: Bad" in summary["verdict"]


def test_a_lower_threshold_lets_a_difference_pass(programs):
    assert compare(programs, "--threshold", "-1", flags=("-spoil",)) == 0
    assert compare(programs, "--threshold", "0.5", flags=("-spoil",)) == 3


def test_a_nan_is_never_good(programs, capsys):
    assert compare(programs, "--threshold", "-1", flags=("-nan",)) == 3

    assert "not finite" in capsys.readouterr().out
    assert "not finite" in (evidence() / "report.html").read_text()


def test_different_shapes_have_status_4_unless_resampled(programs, capsys):
    assert compare(programs, "--outdir", "one", flags=("-other_shape",)) == 4
    error = capsys.readouterr().err
    assert "96 x 96" in error and "192 x 192" in error and "--resample" in error

    assert compare(programs, "--outdir", "two", "--resample", flags=("-other_shape",)) == 3
    assert json.loads((evidence("two") / "summary.json").read_text())["notes"]


def test_a_detector_that_is_not_square_is_understood(programs):
    assert compare(programs, flags=("-slow", "40", "-fast", "70", "-header")) == 0

    assert json.loads((evidence() / "summary.json").read_text())["whole"]["shape"] == [40, 70]


@pytest.mark.parametrize(
    ("flag", "said"), [("-fail", "exit status 9: the crystal fell off"), ("-nothing", "wrote no float image")]
)
def test_a_program_that_fails_has_status_2_and_its_words_are_shown(programs, capsys, flag, said):
    assert compare(programs, flags=(flag,)) == 2

    assert said in capsys.readouterr().err
    assert json.loads((evidence() / "summary.json").read_text())["passed"] is False


def test_a_missing_program_has_status_2_and_a_hint(programs, capsys, monkeypatch):
    flags = ["--", "-N", "5"]
    assert main(flags) == 2
    assert "./nanoBragg" in (error := capsys.readouterr().err) and "NB_C_BIN" in error

    monkeypatch.setenv("NB_C_BIN", str(programs / "fake_c"))
    assert main(["--py-bin", "no_such_command --fast", *flags]) == 2
    assert "--py-bin" in capsys.readouterr().err
    assert not (programs / "here" / "comparisons").exists()
    (programs / "text").write_text("not a program")
    assert main(["--c-bin", str(programs / "text"), *flags]) == 2
    assert "not executable" in capsys.readouterr().err


def test_the_reference_is_named_by_the_environment(programs, monkeypatch):
    monkeypatch.setenv("NB_C_BIN", str(programs / "fake_c"))

    assert main(["--py-bin", str(programs / "fake_py"), "--", "-N", "5"]) == 0


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--"],
        ["--images", "a.bin"],
        ["--images", "a", "b", "--", "-N", "5"],
        ["--no-such-option", "--", "-N", "5"],
        ["--threshold", "2", "--", "-N", "5"],
        ["--threshold", "nan", "--", "-N", "5"],
        ["--png-scale", "0", "--", "-N", "5"],
        ["--roi", "5", "2", "0", "9", "--", "-N", "5"],
        ["--roi", "-1", "2", "0", "9", "--", "-N", "5"],
        ["--roi", "1", "2", "--", "-N", "5"],
        ["--shape", "3", "4", "--", "-N", "5"],
        ["--py-bin", "'", "--", "-N", "5"],
    ],
)
def test_a_wrong_command_line_has_status_1(words, capsys):
    assert main(words) == 1

    error = capsys.readouterr().err
    assert error.startswith("usage: nb-compare") and "error:" in error


def test_help_is_printed_and_good(capsys):
    assert main(["--help"]) == 0
    assert main(["-h"]) == 0

    assert "exit status" in capsys.readouterr().out


def test_an_output_folder_that_cannot_be_made_has_status_5(programs, capsys):
    (programs / "here" / "file").write_text("")

    assert compare(programs, "--outdir", "file/below") == 5
    assert "could not read or write" in capsys.readouterr().err


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    image = np.random.default_rng(0).random((64, 64), dtype=np.float32)
    image.tofile("a.bin")
    image[60:, 60:] = 0
    image.tofile("wrong.bin")
    image[:32, :32].tofile("small.bin")
    return tmp_path


def test_two_files_are_compared_without_running_anything(files):
    import h5py

    with h5py.File("a.h5", "w") as file:
        file["/entry/data/data"] = np.fromfile("a.bin", dtype=np.float32).reshape(1, 64, 64)

    assert main(["--images", "a.bin", "a.h5"]) == 0
    assert main(["--images", "a.bin", "wrong.bin"]) == 3
    assert main(["--images", "a.bin", "wrong.bin", "--roi", "0", "31", "0", "31"]) == 0
    assert main(["--images", "a.bin", "wrong.bin", "--roi", "0", "64", "0", "31"]) == 1
    assert main(["--images", "a.bin", "wrong.bin", "--shape", "32", "128"]) == 3
    assert main(["--images", "a.bin", "a.bin", "--shape", "32", "32"]) == 5
    assert main(["--images", "a.bin", "small.bin"]) == 4
    assert main(["--images", "a.bin", "absent.bin"]) == 5
    assert not list(files.glob("*/report.html"))  # evidence only where it is asked for


def test_two_files_leave_evidence_when_a_folder_is_given(files):
    assert main(["--images", "a.bin", "wrong.bin", "--outdir", "kept"]) == 3

    names = {path.name for path in evidence("kept").iterdir()}
    assert {"c.png", "py.png", "diff.png", "summary.json", "report.html", "commands.txt"} <= names


def test_the_report_stands_alone_and_tells_the_verdict_first(files):
    main(["--images", "a.bin", "wrong.bin", "--outdir", "kept"])

    page = (evidence("kept") / "report.html").read_text()
    sources = re.findall(r"""(?:src|href)\s*=\s*["']?([^"' >]+)""", page) + re.findall(r"url\(([^)]*)\)", page)
    assert len(sources) >= 6
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert "<script" not in page and "@import" not in page
    first = page[page.index("<body>") :][:600]
    assert "Bad" in first and "slow 48..63, fast 48..63" in first


def test_the_same_flags_have_the_same_hash_and_folders_never_collide(tmp_path):
    from bragg_numba.lab.parity.evidence import new_folder

    folders = [new_folder(tmp_path, ["-N", "5"]) for _ in range(3)]
    other = new_folder(tmp_path, ["-N5"])

    assert len(set(folders)) == 3
    assert len({folder.name.split("-")[2] for folder in folders}) == 1
    assert other.name.split("-")[2] != folders[0].name.split("-")[2]


def test_a_program_that_takes_too_long_is_ended_and_named(programs, capsys):
    assert compare(programs, "--timeout", "0.5", flags=("-sleep",)) == 2

    said = capsys.readouterr().err
    assert "reference did not finish" in said and "0.5 s" in said
    assert compare(programs, "--timeout", "0", flags=("-N", "5")) == 1


def test_a_program_that_prints_its_usage_is_said_to_lack_flags(programs, capsys):
    assert compare(programs, flags=("-usage",)) == 2
    assert "flags are missing" in capsys.readouterr().err
