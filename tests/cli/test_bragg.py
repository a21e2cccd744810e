"""bragg-numba: its commands, what they refuse, and that a saved experiment renders as it did."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from sample_experiments import rich_experiment, same_in_python

from bragg_numba import Experiment, InputError, simulate
from bragg_numba.cli import bragg


def test_a_saved_experiment_and_a_frame_render_again_as_they_were(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    experiment = rich_experiment()
    experiment.save("e.json")
    assert bragg.main(["render", "e.json", "-o", "one.h5", "--float", "one.bin", "--png", "one.png"]) == 0
    capsys.readouterr()
    assert bragg.main(["render", "one.h5", "-o", "two.h5", "--json", "--threads", "1"]) == 0
    assert json.loads(capsys.readouterr().out)["output"]["files"] == ["two.h5"]
    from bragg_numba.io.frame_file import read_frame

    expected = simulate(experiment)
    assert (read_frame("one.h5") == expected).all()
    assert (read_frame("two.h5") == expected).all()
    assert (np.fromfile("one.bin", dtype="<f4") == expected.ravel()).all()


def test_a_frame_written_by_tiles_is_the_frame_written_whole(tmp_path, monkeypatch):
    from bragg_numba.cli import streaming
    from bragg_numba.io.frame_file import read_frame

    monkeypatch.chdir(tmp_path)
    rich_experiment().save("e.json")
    outputs = ["-o", "{}.h5", "--float", "{}.bin", "--png", "{}.png"]
    assert bragg.main(["render", "e.json", *(word.format("whole") for word in outputs)]) == 0
    monkeypatch.setattr(streaming, "WHOLE_BYTES", 0)
    monkeypatch.setattr(streaming, "TILE_BYTES", 3 * 24 * 4)  # three rows
    assert bragg.main(["render", "e.json", *(word.format("tiled") for word in outputs)]) == 0
    assert (read_frame("tiled.h5") == read_frame("whole.h5")).all()
    for kind in ("bin", "png"):
        assert (tmp_path / f"tiled.{kind}").read_bytes() == (tmp_path / f"whole.{kind}").read_bytes()


def test_the_commands_are_listed_with_a_line_each_and_each_has_help(capsys):
    assert bragg.main(["--help"]) == 0
    text = capsys.readouterr().out
    for name, (_, line) in bragg.commands().items():
        assert name in text and line in text
        assert bragg.main([name, "--help"]) == 0
        assert f"bragg-numba {name}" in capsys.readouterr().out


def test_a_command_that_this_installation_lacks_is_not_listed(monkeypatch, capsys):
    monkeypatch.setitem(bragg.COMMANDS, "brew", ("bragg_numba.cli.no_such_module", "make tea"))
    assert bragg.main(["--help"]) == 0
    assert "brew" not in capsys.readouterr().out
    assert bragg.main(["brew"]) == 2


def test_a_length_of_vectors_that_there_is_not_is_refused_by_commands_and_in_python(monkeypatch, capsys):
    monkeypatch.setenv("BRAGG_NUMBA_VECTOR_BITS", "384")
    sentence = "BRAGG_NUMBA_VECTOR_BITS must be one of 256, 512, got '384'"

    assert bragg.main(["bench"]) == 2
    assert sentence in capsys.readouterr().err
    with pytest.raises(InputError, match=sentence):
        simulate(same_in_python(), backend="cpu")
    for length in ("256", "512", ""):
        monkeypatch.setenv("BRAGG_NUMBA_VECTOR_BITS", length)
        assert bragg.main(["--help"]) == 0


@pytest.mark.parametrize(
    "words",
    [
        ["nonsense"],
        ["render"],
        ["render", "e.json"],
        ["render", "absent.json", "-o", "f.h5"],
        ["render", "junk", "-o", "f.h5"],
        ["render", "e.json", "-o", "f.h5", "--threads", "many"],
        ["render", "e.json", "-o", "f.h5", "--precision", "half"],
        ["render", "e.json", "-o", "f.h5", "--backend", "tpu"],
        ["render", "e.json", "-o", "f.h5", "--max-memory", "1"],
        ["render", "e.json", "-o", "nowhere/f.h5"],
        ["render", "e.json", "-o", "f.h5", "extra"],
        ["render", "e.json", "--outp", "f.h5"],
        ["info"],
        ["info", "absent"],
        ["info", "junk"],
        ["info", "."],
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_is_one_sentence_and_status_2(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    same_in_python().save("e.json")
    (tmp_path / "junk").write_bytes(bytes(range(256)))
    before = sorted(path.name for path in tmp_path.iterdir())
    assert bragg.main(words) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("error: ") and printed.err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_info_tells_what_a_frame_and_an_experiment_hold(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    same_in_python().save("e.json")
    assert bragg.main(["render", "e.json", "-o", "f.h5"]) == 0
    capsys.readouterr()
    assert bragg.main(["info", "f.h5", "--json"]) == 0
    frame = json.loads(capsys.readouterr().out)
    assert frame["kind"] == "frame" and frame["pixels_slow_fast"] == [20, 24]
    assert frame["experiment"]["beam"]["wavelength_A"] == 1.5
    assert frame["statistics"]["sum"] == pytest.approx(simulate(same_in_python()).sum(dtype=float), rel=1e-12)
    for name in ("e.json", "f.h5"):
        assert bragg.main(["info", name]) == 0
        text = capsys.readouterr().out
        assert "wavelength_A" in text and "1.5" in text and "20 24" in text


def test_traces_that_diverge_have_status_1_and_equal_ones_0(tmp_path, capsys):
    (tmp_path / "a").write_text("TRACE_C: hkl 1.5 2 3\nTRACE_C: F_latt 5\n")
    (tmp_path / "b").write_text("TRACE_C: hkl 1.5 2 3\nTRACE_C: F_latt 6\n")
    paths = [str(tmp_path / name) for name in "ab"]
    assert bragg.main(["diverge", *paths]) == 1
    assert "F_latt" in capsys.readouterr().out
    assert bragg.main(["diverge", paths[0], paths[0]]) == 0
    assert bragg.main(["diverge", paths[0], "absent"]) == 5
    assert bragg.main(["diverge", *paths, "--rtol", "x"]) == 2


@pytest.mark.slow
def test_a_frame_of_a_gigabyte_is_written_in_less_memory_than_it_takes(tmp_path):
    words = "-cell 100 -default_F 100 -N 5 -detpixels 16384 -pixel 0.02 -oversample 1"
    Experiment.from_nanobragg(words).save(tmp_path / "e.json")
    code = (
        "import resource, sys; from bragg_numba.cli.bragg import main; "
        "status = main(sys.argv[1:]); print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss); sys.exit(status)"
    )
    command = [sys.executable, "-c", code, "render", str(tmp_path / "e.json"), "-o", str(tmp_path / "f.h5")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    kilobytes = int(done.stdout.split()[-1])
    assert (tmp_path / "f.h5").stat().st_size > 4 * 16384**2
    # The compiler alone takes up to 350 MB; the frame is 1074 MB.
    assert kilobytes < 700_000
