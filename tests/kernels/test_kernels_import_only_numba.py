"""kernels/ is a layer of its own: no file formats, no configuration, compiler flags in _jit.py and _jit_cuda.py."""

from __future__ import annotations

import ast
from pathlib import Path

import bragg_numba.kernels
import pytest

FOLDER = Path(bragg_numba.kernels.__file__).parent
MODULES = sorted(FOLDER.rglob("*.py"))
ALLOWED = ("math", "functools", "types", "typing", "numpy", "numba", "bragg_numba.kernels", "__future__")

#: Modules that have to do with the machine, and what else they import.
OF_MACHINE = {
    "_cache": ("contextlib", "hashlib", "os", "pickle", "shutil", "stat", "sys", "tempfile", "warnings", "llvmlite"),
    "_launch": ("contextlib", "os", "sys", "threading"),
    "_vectors": ("copy", "os", "llvmlite"),
}
DECORATOR_MAKERS = {"njit", "jit", "vectorize", "guvectorize", "stencil"}


def _name(path: Path) -> str:
    return path.relative_to(FOLDER).as_posix()


def _imports(tree: ast.Module):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide where a name comes from"
            yield node.module


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_kernels_import_only_math_numba_numpy_and_themselves(path):
    for name in _imports(ast.parse(path.read_text())):
        allowed = (*ALLOWED, *OF_MACHINE.get(path.stem, ()))
        assert any(name == one or name.startswith(one + ".") for one in allowed), name


@pytest.mark.parametrize("path", [p for p in MODULES if "_jit" not in p.stem], ids=_name)
def test_compiler_flags_stand_only_in_the_jit_modules(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "numba":
            assert not DECORATOR_MAKERS & {alias.name for alias in node.names}
        if isinstance(node, ast.keyword):
            assert node.arg != "fastmath"
        if isinstance(node, ast.Attribute):
            assert node.attr not in DECORATOR_MAKERS


def test_there_are_kernels_to_check():
    assert {"physics", "walk", "cpu", "cuda", "predict", "philox"} <= {path.stem for path in MODULES}
