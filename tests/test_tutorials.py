"""What the tutorials of docs/tutorials/ show works as it stands."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
TUTORIALS = ROOT / "docs" / "tutorials"


def run(page: str) -> dict:
    """Run the Python blocks of a page one after the other; return the names that they leave."""
    text = (TUTORIALS / page).read_text(encoding="utf-8")
    names: dict = {}
    for code in re.findall(r"^```python\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE):
        exec(compile(code, page, "exec"), names)
    return names


def said_in(text: str) -> np.ndarray:
    """Percent in frames, pairs, and percent in the structure factors, of each line that tells them."""
    return np.array(re.findall(r"([\d.]+) % in (\d+) pairs, ([\d.]+) %", text), dtype=float)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_pdb_file_becomes_a_frame(folder):
    shutil.copy(ROOT / "examples" / "iron.pdb", folder / "2erl.pdb")  # the page asks the reader to fetch one
    image = run("pdb-to-frame.md")["image"]
    assert image.shape == (1024, 1024) and image.max() > 100 * np.median(image)


def test_bijvoet_ratios_of_integrated_frames_are_those_of_the_structure_factors(folder, capsys):
    run("anomalous.md")
    ratios = said_in(capsys.readouterr().out)
    assert ratios == pytest.approx(said_in((TUTORIALS / "anomalous.md").read_text(encoding="utf-8")), abs=0.02)
    assert len(ratios) == 5
    monochromatic, pulse = ratios[:4], ratios[4]
    assert (monochromatic[:, 1] >= 20).all()
    # Two percent, and what rounding to 0.01 % leaves: neighbours' tails in the boxes.
    assert monochromatic[:, 0] == pytest.approx(monochromatic[:, 2], rel=0.02, abs=0.03)
    below, at_white_line = monochromatic[0, 0], monochromatic[2, 0]
    assert at_white_line > 4.0 * below
    assert below < pulse[0] < at_white_line
