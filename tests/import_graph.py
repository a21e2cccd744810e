"""Which module imports which, read from the sources.

Imports inside functions, under ``if TYPE_CHECKING``, and names of modules in quotes (for ``import_module``, for
``python -m``, in tables of commands) count like any other. That Python runs ``h/__init__.py`` before ``h.one`` does not
count as an import of ``h`` by whoever asks for ``h.one``.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

#: Module -> the modules that it imports.
Graph = dict[str, set[str]]


def find_modules(folders: Mapping[str, Path]) -> dict[str, Path]:
    """Return every module below the folders of some packages, by its dotted name."""
    found = {}
    for package, folder in folders.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            found[".".join([package, *(parts[:-1] if parts[-1] == "__init__" else parts)])] = path
    return found


def read_imports(modules: Mapping[str, Path]) -> Graph:
    """Return which of the modules each of them imports."""
    return {
        name: {
            target
            for wanted in _wanted(ast.parse(path.read_text(encoding="utf-8")), name, path.name == "__init__.py")
            if (target := _module_of(wanted, modules)) is not None and target != name
        }
        for name, path in modules.items()
    }


def _wanted(tree: ast.Module, module: str, is_package: bool) -> Iterator[str]:
    """The dotted names that a module asks for; a name taken out of a module as a part of it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            here = module.split(".")[: None if is_package else -1]
            base = here[: len(here) - node.level + 1] if node.level else []
            base += node.module.split(".") if node.module else []
            yield from (".".join([*base, alias.name]) for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and "." in node.value:
            yield f"{node.value}:"  # only if it is exactly a module's name


def _module_of(wanted: str, modules: Mapping[str, Path]) -> str | None:
    """The module that a dotted name lies in or is; None for what lies elsewhere."""
    if wanted.endswith(":"):
        return wanted[:-1] if wanted[:-1] in modules else None
    parts = wanted.split(".")
    names = (".".join(parts[:n]) for n in range(len(parts), 0, -1))
    return next((name for name in names if name in modules), None)


def circles(graph: Mapping[str, set[str]]) -> list[str]:
    """Return one shortest circle, ``a -> b -> a``, for each group of names that lead to each other."""
    found, seen = [], set()
    for start in sorted(graph):
        way = None if start in seen else _way_back(graph, start)
        if way is not None:
            seen |= set(way)
            found.append(" -> ".join(way))
    return found


def _way_back(graph: Mapping[str, set[str]], start: str) -> list[str] | None:
    """The shortest way from a name to itself, breadth first."""
    ways, known = [[start]], set()
    for way in ways:
        for step in sorted(graph.get(way[-1], ())):
            if step == start:
                return [*way, step]
            if step not in known:
                known.add(step)
                ways.append([*way, step])
    return None


def packages_of(graph: Graph, top: str) -> Graph:
    """Return the graph between packages; a module that lies directly in ``top`` stands for itself."""
    found: Graph = {}
    for name, targets in graph.items():
        here = found.setdefault(_package_of(name, graph, top), set())
        here |= {_package_of(target, graph, top) for target in targets}
    return {name: targets - {name} for name, targets in found.items()}


def _package_of(name: str, graph: Graph, top: str) -> str:
    is_package = any(other.startswith(f"{name}.") for other in graph)
    parent = name.rpartition(".")[0]
    return name if is_package or parent in (top, "") else parent


def against_layers(graph: Graph, top: str, layers: tuple[str, ...]) -> list[str]:
    """Return every import of a higher layer by a lower one; ``layers`` are first parts below ``top``, lowest first."""
    height = {layer: place for place, layer in enumerate(layers)}

    def layer_of(module: str) -> int:
        return height[module.removeprefix(top).strip(".").split(".")[0]]

    return [
        f"{name} imports {target}"
        for name, targets in sorted(graph.items())
        for target in sorted(targets)
        if layer_of(target) > layer_of(name)
    ]
