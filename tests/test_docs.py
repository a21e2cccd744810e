"""The documents say what the code does: named tests, files, flags and equations exist."""

from __future__ import annotations

import ast
import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
SOURCES = sorted([*(ROOT / "kernels").glob("*.py"), *(ROOT / "bragg_numba").rglob("*.py")])


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
    assert len(rows) == 11 + 35 + 4
    for row in rows:
        assert "::test_" in row.split("|")[-2], row


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_equation_that_a_docstring_cites_is_in_the_physics_page(path):
    known = _numbered_equations()
    for numbers in re.findall(r"\beqs?\. (\d+(?:(?:, | and | to )\d+)*)", path.read_text()):
        assert {int(number) for number in re.findall(r"\d+", numbers)} <= known, numbers


def test_equations_are_numbered_without_gaps():
    known = _numbered_equations()
    assert known == set(range(1, len(known) + 1))


def test_every_equation_of_the_kernels_is_cited_by_its_function():
    text = (ROOT / "kernels" / "physics.py").read_text()
    for number in (1, 2, 3, 4, 5, 6, 7, 8, *range(10, 19)):
        assert f"eq. {number})" in text, number


def test_the_divergence_finder_points_to_equations_that_exist():
    from bragg_numba.trace.equations import EQUATION_NUMBERS

    known = _numbered_equations()
    assert {number for number in EQUATION_NUMBERS.values() if number is not None} <= known


def test_the_flag_tables_are_those_of_the_parser():
    spec = importlib.util.spec_from_file_location("flag_tables", ROOT / "scripts" / "flag_tables.py")
    flag_tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(flag_tables)
    text = flag_tables.PAGE.read_text()
    assert flag_tables.page_with(text) == text, "run python scripts/flag_tables.py"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_file_that_a_page_names_exists(page):
    text = page.read_text()
    for name in re.findall(r"`((?:kernels|bragg_numba|tests|docs|scripts|bench|examples)/[\w/.]*)`", text):
        assert (ROOT / name).exists(), name
    for name in re.findall(r"\]\((?!http)([^)#]+)", text):
        assert (page.parent / name).exists(), name


def test_every_function_that_the_map_of_changes_names_exists():
    text = (DOCS / "where-to-change.md").read_text()
    for name, file in re.findall(r"`(\w+)` in `([\w/]+\.py)`", text):
        assert re.search(rf"\b{name}\b", (ROOT / file).read_text()), (name, file)


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
