"""The documents say what the code does: named tests, files, flags and equations exist."""

from __future__ import annotations

import ast
import functools
import importlib.util
import re
from pathlib import Path

import pytest

import bragg_numba

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
SOURCES = sorted([*(ROOT / "kernels").rglob("*.py"), *(ROOT / "bragg_numba").rglob("*.py")])


def _numbered_equations() -> set[int]:
    """Numbers that docs/physics.md gives in bold: **(7) Name** or **(7)**."""
    return {int(number) for number in re.findall(r"\*\*\((\d+)\)", (DOCS / "physics.md").read_text())}


def _tests_named_in(page: str) -> list[tuple[str, str]]:
    return re.findall(r"`([\w/]+\.py)::(\w+)`", (DOCS / page).read_text())


def test_every_test_that_the_fidelity_page_names_exists():
    named = _tests_named_in("fidelity.md")
    assert len(named) > 25
    for file, name in named:
        tree = ast.parse((ROOT / "tests" / file).read_text())
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, (file, name)


def test_every_row_of_the_fidelity_tables_names_a_test():
    rows = [line for line in (DOCS / "fidelity.md").read_text().splitlines() if line.startswith("| ")]
    rows = [row for row in rows if not row.endswith("held by |")]
    assert len(rows) == 14 + 36 + 4
    for row in rows:
        assert "::test_" in row.split("|")[-2], row


#: Numbers that a text cites: "eq. 7", "eqs. 14 and 17", "eq. 4, 7".
CITATION = re.compile(r"\beqs?\. (\d+(?:(?:, | and | to )\d+)*)")


def _cited(text: str) -> set[int]:
    return {int(number) for numbers in CITATION.findall(text) for number in re.findall(r"\d+", numbers)}


@functools.cache
def _docstrings(path: Path) -> dict[str, str]:
    """Docstrings of a file's functions and classes by name, methods included; ``""``: the module's own."""
    tree = ast.parse(path.read_text())
    found = {"": ast.get_docstring(tree) or ""}
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found[node.name] = ast.get_docstring(node) or ""
    return found


CITING = [path for path in SOURCES if _cited(path.read_text())]


def test_there_are_citations_to_check():
    assert len(CITING) >= 10


@pytest.mark.parametrize("path", CITING, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_equation_that_a_file_cites_is_in_the_physics_page(path):
    assert _cited(path.read_text()) <= _numbered_equations()


@pytest.mark.parametrize("number", sorted(_numbered_equations()))
def test_every_equation_of_the_page_is_cited_by_a_function(number):
    assert any(number in _cited(text) for path in SOURCES for name, text in _docstrings(path).items() if name)


#: The function of kernels/physics.py that is an equation, once.
FUNCTIONS = {
    1: "rotate_by",
    2: "flat_position",
    3: "curved_position",
    4: "scattering_vector",
    5: "solid_angle",
    6: "capture_fraction",
    7: "is_beyond_dmin",
    8: "polarization_factor",
    10: "nearest_index",
    11: "fraction",
    12: "sin_pi",
    13: "grating_squared",
    14: "quadratic_form",
    15: "sphere_squared",
    16: "gauss_squared",
    17: "tophat_squared",
    18: "lagrange4",
}


@pytest.mark.parametrize(("number", "name"), FUNCTIONS.items(), ids=map(str, FUNCTIONS))
def test_the_function_that_is_an_equation_cites_it(number, name):
    assert number in _cited(_docstrings(ROOT / "kernels" / "physics.py")[name])


def test_equations_are_numbered_without_gaps():
    known = _numbered_equations()
    assert len(known) >= 36
    assert known == set(range(1, max(known) + 1))


def test_the_divergence_finder_points_to_equations_that_exist():
    from bragg_numba.trace.equations import EQUATION_NUMBERS

    numbers = {number for number in EQUATION_NUMBERS.values() if number is not None}
    assert len(numbers) > 10
    assert numbers <= _numbered_equations()


def test_the_flag_tables_are_those_of_the_parser():
    spec = importlib.util.spec_from_file_location("flag_tables", ROOT / "scripts" / "flag_tables.py")
    flag_tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(flag_tables)
    text = flag_tables.PAGE.read_text()
    assert flag_tables.page_with(text) == text, "run python scripts/flag_tables.py"


def _files_named_in(page: Path) -> list[tuple[str, str]]:
    """Files of this repository that a page names, as it names them, and where they must be."""
    text = page.read_text()
    named = re.findall(r"`((?:kernels|bragg_numba|tests|docs|scripts|bench|examples)/[\w/.]*)`", text)
    linked = re.findall(r"\]\((?!http)([^)#]+)", text)
    places = {name: ROOT / name for name in named} | {name: page.parent / name for name in linked}
    return [(name, str(place.relative_to(ROOT))) for name, place in sorted(places.items())]


NAMED_FILES = [
    pytest.param(place, id=f"{page.name}-{name}")
    for page in (ROOT / "README.md", *PAGES)
    for name, place in _files_named_in(page)
    if "__pycache__" not in name  # is there once something was compiled
]


def test_there_are_named_files_to_check():
    assert len(NAMED_FILES) > 60


@pytest.mark.parametrize("place", NAMED_FILES)
def test_every_file_that_a_page_names_exists(place):
    assert (ROOT / place).exists()


@functools.cache
def _defined_in(path: Path) -> set[str]:
    """Names that a file defines: functions, classes and variables of the module, and those of its classes."""
    names: set[str] = set()
    bodies = [ast.parse(path.read_text()).body]
    while bodies:
        for node in bodies.pop():
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                names.add(node.name)
            if isinstance(node, ast.ClassDef):
                bodies.append(node.body)
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names


def _names_in_the_map() -> list[tuple[str, tuple[str, ...]]]:
    """Names of code in the table of docs/where-to-change.md, each with the Python files that may define it.

    In "`name` in `file`" and "`name` of `file`" it is that file, in "`file` (`name`, ...)" the one before the
    brackets, elsewhere any file of the same row.
    """
    found = []
    for row in (DOCS / "where-to-change.md").read_text().split("## The map")[1].splitlines():
        if not row.startswith("| ") or row.startswith("| to add"):
            continue
        files = re.findall(r"`([\w/]+\.py)`", row)
        for match in re.finditer(r"`([A-Za-z_]\w*)`", row):
            after = re.match(r"(?:, `\w+`| and `\w+`)* (?:in|of) `([\w/]+\.py)`", row[match.end() :])
            before = re.search(r"`([\w/]+\.py)` \([^()]*$", row[: match.start()])
            bound = after or before
            found.append((match[1], (bound[1],) if bound else tuple(files)))
    return found


def test_the_map_of_changes_names_code():
    assert len(_names_in_the_map()) >= 10


@pytest.mark.parametrize(("name", "files"), _names_in_the_map())
def test_every_name_in_the_map_of_changes_is_defined_where_it_says(name, files):
    assert any(name in _defined_in(ROOT / file) for file in files), files


def test_the_frame_file_holds_what_its_page_lists(tmp_path):
    import h5py

    from bragg_numba.cli.nanobragg import main

    path = tmp_path / "frame.h5"
    assert main(["-cell", "50", "-default_F", "1", "-detpixels", "8", "-noprogress", "-o", str(path)]) == 0
    listed = re.findall(r"^\| `(/entry[\w/*]*)`", (DOCS / "file-format.md").read_text(), flags=re.MULTILINE)
    assert len(listed) >= 8
    with h5py.File(path) as file:
        for name in listed:
            assert name.removesuffix("/*") in file, name
        assert file.attrs["default"] == "entry"


def _imports_in_pages() -> list[tuple[str, str, str]]:
    """(page, module, name) of everything that a block of code in README.md or docs/ imports of this package."""
    found = []
    for page in (ROOT / "README.md", *PAGES):
        blocks = re.findall(r"^```\w+\n(.*?)^```", page.read_text(), flags=re.DOTALL | re.MULTILINE)
        for block in blocks:
            for module, names in re.findall(r"\bfrom (bragg_numba[\w.]*) import (\([^)]*\)|[\w, ]+)", block):
                words = [word.split(" as ")[0].strip("() \n") for word in names.split(",")]
                found += [(page.name, module, word) for word in words if word]
            found += [(page.name, module, "") for module in re.findall(r"\bimport (bragg_numba[\w.]*)", block)]
    return found


def test_imports_are_found_on_the_pages_that_have_some():
    assert {"README.md", "series.md", "gpu.md", "parity.md"} <= {page for page, _, _ in _imports_in_pages()}


@pytest.mark.parametrize(("page", "module", "name"), sorted(set(_imports_in_pages())))
def test_pages_import_from_the_package_itself(page, module, name):
    if module in ("bragg_numba.torch", "bragg_numba.jax"):  # which have names of their own, and need not be there
        room = (ROOT / module.replace(".", "/") / "__init__.py").read_text()
        assert f'"{name}"' in room.split("__all__")[1]
        return
    assert module == "bragg_numba"
    assert not name or name in bragg_numba.__all__


@pytest.mark.parametrize("name", bragg_numba.__all__)
def test_every_name_of_the_package_can_be_imported(name):
    assert getattr(bragg_numba, name) is not None
    assert name in dir(bragg_numba)
