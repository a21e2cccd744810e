"""What README.md shows works as it stands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import h5py
import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("code", blocks("python"), ids=lambda code: code.split("\n")[0][:40])
def test_the_python_examples_run(code, folder):
    names: dict = {}
    exec(compile(code, "README.md", "exec"), names)
    assert names["image"].max() > 0


def test_the_commands_run_one_after_another(folder, capsys):
    from bragg_numba.cli import bragg, compare, nanobragg

    programs = {"nanobragg-numba": nanobragg.main, "bragg-numba": bragg.main, "nb-compare": compare.main}
    lines = [line for block in blocks("sh") for line in block.replace("\\\n", " ").splitlines()]
    assert len(lines) >= 5
    for line in lines:
        program, *words = shlex.split(line)
        assert programs[program](words) == 0, capsys.readouterr().err
    with h5py.File("frame.h5") as one, h5py.File("again.h5") as two:
        assert (one["/entry/data/data"][()] == two["/entry/data/data"][()]).all()


def test_the_number_of_golden_cases_is_the_true_one():
    with h5py.File(ROOT / "tests" / "golden" / "golden.h5") as file:
        assert f"for {len(file)} command lines" in README
