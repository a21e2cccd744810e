"""What makes the package one that can be published: its texts agree with each other, and what is built is whole."""

from __future__ import annotations

import configparser
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml

from bragg_numba.versions import __version__

ROOT = Path(__file__).resolve().parent.parent
SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg", encoding="utf-8")
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
CHANGES = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
#: What is read when the package is built.
SOURCES = ("pyproject.toml", "setup.cfg", "MANIFEST.in", "README.md", "LICENSE", "bragg_numba", "kernels")


def test_the_version_is_the_same_wherever_it_stands():
    headings = re.findall(r"^## (\S+)", CHANGES, flags=re.MULTILINE)
    assert SETUP["metadata"]["version"] == CITATION["version"] == __version__
    assert headings[0] == "Unreleased"
    assert headings[1] == __version__


def test_the_licence_is_the_one_that_is_named():
    text = (ROOT / SETUP["metadata"]["license_files"]).read_text(encoding="utf-8")
    assert SETUP["metadata"]["license"] == CITATION["license"] == "BSD-3-Clause"
    assert text.startswith("BSD 3-Clause License")
    assert SETUP["metadata"]["author"] in text


def test_a_citation_has_what_the_format_asks_for():
    assert {"cff-version", "message", "title", "authors"} <= set(CITATION)


def test_every_requirement_says_since_when():
    requirements = SETUP["options"]["install_requires"] + "".join(SETUP["options.extras_require"].values())
    lines = [line for line in requirements.splitlines() if line and not line.startswith("#")]
    assert len(lines) > 20
    assert [line for line in lines if ">=" not in line] == []
    # Private names of it are used: one that was not tried is not allowed.
    assert re.search(r"^numba >= [\d.]+, < [\d.]+$", requirements, flags=re.MULTILINE)


def _pins(*words: str) -> list[str]:
    script = ROOT / "scripts" / "pinned_requirements.py"
    return subprocess.run([sys.executable, script, *words], capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )


def test_the_oldest_of_each_requirement_is_its_lower_bound():
    pins = _pins("--oldest", "test")
    assert "numba == 0.60" in pins
    assert "pytest == 8" in pins
    assert not any("," in pin and "nvidia" not in pin for pin in pins)
    assert "numba >= 0.60, < 0.69" in _pins("--newest", "test")


@pytest.mark.parametrize("name", ["Dockerfile", "bragg-numba.def"])
def test_a_container_copies_all_that_the_package_is_built_from(name):
    text = (ROOT / "containers" / name).read_text(encoding="utf-8")
    words = set(re.findall(r"[\w.-]+", text))
    assert [source for source in SOURCES if source not in words] == []
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert not set(SOURCES) & set(ignored)


@pytest.mark.slow
def test_what_is_built_holds_every_module_and_passes_twine(tmp_path):
    for tool in ("build", "twine"):
        pytest.importorskip(tool, reason=f"{tool} is not installed: pip install build twine")
    done = subprocess.run(
        [sys.executable, "-m", "build", "--outdir", tmp_path, ROOT], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (wheel,), (archive,) = tmp_path.glob("*.whl"), tmp_path.glob("*.tar.gz")
    modules = {path.relative_to(ROOT) for path in (ROOT / "bragg_numba").rglob("*.py")}
    modules |= {"bragg_numba" / path.relative_to(ROOT) for path in (ROOT / "kernels").rglob("*.py")}
    with zipfile.ZipFile(wheel) as file:
        assert {str(path) for path in modules} == {name for name in file.namelist() if name.endswith(".py")}
    with tarfile.open(archive) as file:
        names = {name.partition("/")[2] for name in file.getnames()}
    assert {"LICENSE", "CITATION.cff", "CHANGELOG.md", "kernels/physics.py", "examples/2erl_P1.hkl"} <= names
    checked = subprocess.run(
        [sys.executable, "-m", "twine", "check", "--strict", wheel, archive], capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stdout
