"""A refusal of what a file holds begins with the file's name; the same text given as text has no file to name."""

from __future__ import annotations

import json
import re

import h5py
import numpy as np
import pytest

from bragg_numba import Experiment, InputError, Series, load_plan
from bragg_numba.cli.bragg import main

WORDS = "-cell 50 60 70 80 95 105 -default_F 100 -N 3 -detpixels 8 -oversample 1"


def saved(**changes) -> str:
    """An experiment's JSON with some of its values changed; None: left out."""
    values = {**json.loads(Experiment.from_nanobragg(WORDS).to_json()), **changes}
    return json.dumps({name: value for name, value in values.items() if value is not None})


def plan(**changes) -> str:
    """A series plan with some of its values changed; None: left out."""
    head = {"format": "bragg_numba series", "version": 1, "nanobragg": WORDS}
    values = {**head, "rotation": {"start_deg": 0, "width_deg": 1, "n": 2}, **changes}
    return json.dumps({name: value for name, value in values.items() if value is not None})


EXPERIMENTS = {
    "a colon too few": ('{"format": "bragg_numba experiment",\n "version" 1}', "is not JSON: .*line 2 column 12"),
    "prose": ("The crystal is cubic.\n", "is not JSON: .*line 1 column 1"),
    "cut short": (saved()[:-20], "is not JSON: .*line 1 column"),
    "empty": ("", "is not JSON: .*line 1 column 1"),
    "deep": ("[" * 100_000, "is not JSON"),
    "another format": ('{"format": "other"}', 'must be a JSON object with "format": "bragg_numba experiment"'),
    "a series plan": (plan(), 'must be a JSON object with "format": "bragg_numba experiment"'),
    "another version": (saved(version=99), 'must have "version": 1'),
    "an unknown part": (saved(cristal={}), "experiment.cristal is not a known part"),
    "a missing part": (saved(crystal=None), "experiment.crystal must be given"),
    "an unknown field": (saved(beam={"wavelenght_A": 1.0}), r"Beam.wavelenght_A .*did you mean wavelength_A\?"),
    "a bad value": (saved(beam={"wavelength_A": -1}), "Beam.wavelength_A must lie between"),
    "parts at odds": (saved(sampling={"roi": [90, 99, 0, 1]}), "Sampling.roi must touch the detector"),
}

PLANS = {
    "a colon too few": ('{"format" "bragg_numba series"}', "is not JSON: .*line 1 column 11"),
    "prose": ("ten thousand frames, please\n", "is not JSON: .*line 1 column 1"),
    "another format": (saved(), 'must be a JSON object with "format": "bragg_numba series"'),
    "an unknown part": (plan(rotatoin={}), "series plan: rotatoin is not a known part"),
    "an unknown argument": (plan(rotation={"start": 0}), "series plan: rotation: start is not a known argument"),
    "a missing argument": (plan(rotation={"start_deg": 0}), "series plan: rotation does not fit: .*width_deg"),
    "no frames": (plan(rotation=None), "must hold exactly one of"),
    "a bad flag": (plan(nanobragg=WORDS + " -lamda 1"), "-lamda"),
    "a bad column": (plan(rotation=None, frames={"phi": [1.0]}), "frames.phi is not a known column"),
    "a bad experiment": (
        plan(nanobragg=None, experiment={**json.loads(saved()), "beam": {"wavelength_A": -1}}),
        "Beam.wavelength_A must lie between",
    ),
    "an experiment's file that is broken": (
        plan(nanobragg=None, experiment="broken.json"),
        "broken.json: experiment is not JSON: .*line 1 column 2",
    ),
    "an experiment's file that is not there": (
        plan(nanobragg=None, experiment="absent.json"),
        "absent.json cannot be read: No such file",
    ),
    "a table that is not there": (plan(rotation=None, frames="absent.csv"), "absent.csv cannot be read"),
    "no object as output": (plan(output=[]), "output must be a JSON object"),
    "no text as prefix": (plan(output={"prefix": 3}), "output.prefix must be text"),
}

#: What only the command looks at: Python hands these to ``Series.write``.
OUTPUTS = {
    "an unknown option": (plan(output={"conts": "uint16"}), r"output.conts .*did you mean counts\?"),
    "a bad option": (plan(output={"scale": -1}), "output.scale must lie"),
    "nothing to write": (plan(output={"photons": False}), "output must write photons or counts"),
}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.json").write_text("{,}")
    return tmp_path


def refusal(capsys, *words: str) -> str:
    """Run ``bragg-numba`` with words that must be refused; return its one sentence."""
    assert main(list(words)) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    return error.removeprefix("error: ").strip()


@pytest.mark.parametrize(("text", "complaint"), EXPERIMENTS.values(), ids=EXPERIMENTS)
def test_an_experiments_file_is_named_and_its_text_alone_is_not(folder, text, complaint):
    (folder / "x.json").write_text(text)

    with pytest.raises(InputError, match=complaint) as of_file:
        Experiment.load("x.json")
    with pytest.raises(InputError, match=complaint) as of_text:
        Experiment.from_json(text)

    assert str(of_file.value) == f"x.json: {of_text.value}"
    assert "x.json" not in str(of_text.value)


@pytest.mark.parametrize(("text", "complaint"), EXPERIMENTS.values(), ids=EXPERIMENTS)
@pytest.mark.parametrize("words", [["info"], ["render", "-o", "frame.h5"]], ids=lambda words: words[0])
def test_commands_name_the_experiments_file(folder, capsys, words, text, complaint):
    (folder / "x.json").write_text(text)
    sentence = refusal(capsys, words[0], "x.json", *words[1:])

    assert sentence.startswith("x.json: ")
    assert re.search(complaint, sentence)


@pytest.mark.parametrize(("text", "complaint"), PLANS.values(), ids=PLANS)
def test_a_plans_file_is_named_and_its_text_alone_is_not(folder, text, complaint):
    (folder / "p.json").write_text(text)

    for load in (load_plan, Series.load):
        with pytest.raises(InputError, match=complaint) as of_file:
            load("p.json")
        with pytest.raises(InputError, match=complaint) as of_text:
            Series.from_json(text)
        assert str(of_file.value) == f"p.json: {of_text.value}"


@pytest.mark.parametrize(("text", "complaint"), [*PLANS.values(), *OUTPUTS.values()], ids=[*PLANS, *OUTPUTS])
def test_the_series_command_names_the_plans_file(folder, capsys, text, complaint):
    (folder / "p.json").write_text(text)
    before = sorted(path.name for path in folder.iterdir())
    sentence = refusal(capsys, "series", "p.json", "-o", "s")

    assert sentence.startswith("p.json: ")
    assert re.search(complaint, sentence)
    assert sorted(path.name for path in folder.iterdir()) == before


@pytest.mark.parametrize(
    ("words", "complaint"),
    [(["--scale", "-1"], "output.scale must lie"), (["--no-photons"], "output must write photons or counts")],
)
def test_what_the_command_line_is_to_blame_for_is_not_laid_on_the_plan(folder, capsys, words, complaint):
    (folder / "p.json").write_text(plan(output={"scale": 2.0}))

    assert refusal(capsys, "series", "p.json", "-o", "s", *words).startswith(complaint)


@pytest.mark.parametrize("command", ["info", "render", "series"])
@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "cannot be read: No such file"),
        (bytes(range(256)), "is neither JSON text nor"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "is not a readable HDF5 file"),
    ],
    ids=["absent", "binary", "cut short"],
)
def test_a_file_that_is_no_file_of_ours_is_named(folder, capsys, command, content, complaint):
    if content is not None:
        (folder / "some.file").write_bytes(content)
    words = ["-o", "out.h5"] if command == "render" else []
    sentence = refusal(capsys, command, "some.file", *words)

    assert sentence.startswith("some.file ")
    assert complaint in sentence


def write_hdf5(path, **process) -> None:
    with h5py.File(path, "w") as file:
        file["/entry/data/data"] = np.zeros((1, 8, 8), dtype=np.float32)
        for name, text in process.items():
            file[f"/entry/process/{name}"] = text


@pytest.mark.parametrize(
    ("words", "process", "complaint"),
    [
        (["info"], {"experiment": "{,}"}, "experiment is not JSON: .*line 1 column 2"),
        (["info"], {"experiment": saved(version=99)}, 'must have "version": 1'),
        (["info"], {"versions": "3.11.7"}, "versions is not JSON: .*line 1 column"),
        (["render", "-o", "out.h5"], {"experiment": saved(cristal={})}, "cristal is not a known part"),
        (["view", "-o", "out.png"], {"experiment": "{,}"}, "experiment is not JSON: .*line 1 column 2"),
        (["noise", "-o", "out.h5"], {"experiment": "{}", "series": plan(rotation=None)}, "exactly one of"),
        (["series"], {"series": plan(version=7)}, 'must be a JSON object with "format"'),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_what_an_hdf5_file_keeps_of_its_experiment_names_the_file(folder, capsys, words, process, complaint):
    write_hdf5(folder / "f.h5", **process)
    sentence = refusal(capsys, words[0], "f.h5", *words[1:])

    assert sentence.startswith("f.h5: ")
    assert re.search(complaint, sentence)


def test_a_file_whose_frames_are_a_group_holds_no_frame(folder, capsys):
    with h5py.File("f.h5", "w") as file:
        file.create_group("/entry/data/data")

    assert refusal(capsys, "info", "f.h5").startswith("f.h5 holds no frame")
