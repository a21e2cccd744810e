"""The rooms of the house: imports run down the layers and form no circle, lazy ones included."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

import pytest
from import_graph import against_layers, circles, find_modules, packages_of, read_imports

ROOT = Path(__file__).resolve().parent.parent
TOP = "bragg_numba"
MODULES = find_modules({TOP: ROOT / "bragg_numba", f"{TOP}.kernels": ROOT / "kernels"})
GRAPH = read_imports(MODULES)

#: The lowest first; each may import from itself and from those before it. "" is bragg_numba/__init__.py.
LAYERS = (
    "kernels",
    *("errors", "checks", "conventions", "memory", "threads", "tolerances", "versions"),
    "materials",
    "io",
    "dialect",
    "experiment",
    "plan",
    "predict",
    "trace",
    "slopes",
    "render",
    "response",
    "series",
    "view",
    "refine",
    "torch",
    "jax",
    "lab",
    "cli",
    "",
)


def test_every_room_has_its_place_among_the_layers():
    assert {name.removeprefix(TOP).strip(".").split(".")[0] for name in MODULES} == set(LAYERS)


def test_imports_run_down_the_layers():
    assert against_layers(GRAPH, TOP, LAYERS) == []


def test_no_modules_import_each_other_in_a_circle():
    assert circles(GRAPH) == []


def test_no_packages_import_each_other_in_a_circle():
    assert circles(packages_of(GRAPH, TOP)) == []


def test_the_graph_holds_the_imports_that_are_there():
    # One of each kind: at the top, inside a function, of a kernel, in quotes.
    assert "bragg_numba.plan.panels" in GRAPH["bragg_numba.plan.plan"]
    assert "bragg_numba.dialect" in GRAPH["bragg_numba.experiment.experiment"]
    assert "bragg_numba.kernels.pixels.cpu" in GRAPH["bragg_numba.render.cpu"]
    assert "bragg_numba.cli.series" in GRAPH["bragg_numba.cli.bragg"]


def test_the_map_of_the_rooms_lists_them_in_this_order():
    page = (ROOT / "docs" / "where-to-change.md").read_text(encoding="utf-8").split("## The map")[0]
    named = re.findall(r"`(?:bragg_numba/)?(\w+)(?:/|\.py)`", "".join(re.findall(r"^\| (`.*?) \|", page, re.MULTILINE)))
    assert (*named, "") == LAYERS


def test_every_package_is_installed():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    listed = setup["options"]["packages"].split()
    assert sorted(listed) == sorted(name for name, path in MODULES.items() if path.name == "__init__.py")


# --- the checker itself, on made-up houses


def house(folder: Path, sources: dict[str, str]) -> dict[str, set[str]]:
    """The graph of a package ``h`` with these sources by path."""
    for name, text in {"__init__.py": "", **sources}.items():
        path = folder / "h" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        (path.parent / "__init__.py").touch()
    return read_imports(find_modules({"h": folder / "h"}))


SOUND = {
    "low.py": "import math\n",
    "a/one.py": "from h.low import x\n",
    "a/two.py": "from h.a import one\n",
    "b/three.py": "import h.a.two\n'h.a.two and more words'\n",
}


def test_a_sound_house_passes(tmp_path):
    graph = house(tmp_path, SOUND)
    assert graph["h.b.three"] == {"h.a.two"} and graph["h.a.two"] == {"h.a.one"} and graph["h.a.one"] == {"h.low"}
    assert circles(graph) == circles(packages_of(graph, "h")) == []
    assert against_layers(graph, "h", ("low", "a", "b", "")) == []


@pytest.mark.parametrize(
    "back",
    [
        "from h.b.three import x",
        "import h.b.three as three",
        "from h.b import three",
        "from ..b import three",
        "def f():\n    from h.b.three import x",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from h.b.three import x",
        "from importlib import import_module\nimport_module('h.b.three')",
        "COMMANDS = {'three': ('h.b.three', 'help')}",
    ],
)
def test_a_way_back_is_found_however_it_is_written(tmp_path, back):
    graph = house(tmp_path, {**SOUND, "a/one.py": back + "\n"})
    assert circles(graph) == ["h.a.one -> h.b.three -> h.a.two -> h.a.one"]
    assert circles(packages_of(graph, "h")) == ["h.a -> h.b -> h.a"]
    assert against_layers(graph, "h", ("low", "a", "b", "")) == ["h.a.one imports h.b.three"]


def test_packages_may_form_a_circle_where_modules_do_not(tmp_path):
    graph = house(tmp_path, {**SOUND, "a/four.py": "from h.b import three\n"})
    assert circles(graph) == []
    assert circles(packages_of(graph, "h")) == ["h.a -> h.b -> h.a"]


def test_a_package_and_the_one_inside_it_may_not_import_each_other(tmp_path):
    inner = {"a/inner/two.py": "from h.a.one import x\n"}
    graph = house(tmp_path, {**inner, "a/one.py": "", "a/four.py": "import h.a.inner.two\n"})
    assert circles(graph) == []
    assert circles(packages_of(graph, "h")) == ["h.a -> h.a.inner -> h.a"]


def test_an_import_of_the_whole_from_a_part_is_an_import_upwards(tmp_path):
    graph = house(tmp_path, {**SOUND, "low.py": "from h import anything\n"})
    assert against_layers(graph, "h", ("low", "a", "b", "")) == ["h.low imports h"]
