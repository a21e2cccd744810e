"""How Sphinx makes the documentation site; scripts/docs runs it."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from bragg_numba.versions import __version__

ROOT = Path(__file__).resolve().parent.parent

project, author, copyright = "bragg_numba", "The bragg_numba developers", "2026, The bragg_numba developers"
release = version = __version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]

# Tutorials are run when the site is built, in a folder of their own; what fails there fails the build.
nb_execution_mode = "cache"
nb_execution_timeout = 600
nb_execution_raise_on_error = True
nb_execution_in_temp = True
# Progress bars and notes on stderr are no part of a page.
nb_output_stderr = "remove"
nb_merge_streams = False


def _absent_needs():
    """What is not installed here of what tutorials need, by page: their heads say it, ``needs: torch``."""
    found = {}
    for path in sorted((ROOT / "docs" / "tutorials").glob("*.md")):
        head = re.match(r"---\n(.*?)\n---\n", path.read_text(encoding="utf-8"), re.DOTALL)
        wanted = re.search(r"^needs: (\w+)$", head[1], re.MULTILINE) if head else None
        if wanted and importlib.util.find_spec(wanted[1]) is None:
            found[f"tutorials/{path.stem}"] = wanted[1]
    return found


# Their cells are shown and not run; the page says so, and its head names the language, which no kernel does then.
# PyTorch and JAX are too large for everyone who builds the site.
not_run = _absent_needs()
nb_execution_excludepatterns = [f"{page}.md" for page in not_run]

# Formulas are written as text, so that pages need no script for them and open without a network.
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4

# So that the reference describes what is built upon them where they are missing.
autodoc_mock_imports = [name for name in ("torch", "jax") if importlib.util.find_spec(name) is None]
autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints = "none"
autodoc_class_signature = "separated"
napoleon_google_docstring = False
napoleon_use_rtype = False

html_theme = "furo"
html_title = f"bragg_numba {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]


def _files_of_the_repository(app, docname, source):
    """Name files beside docs/ that pages link to, which the site does not have, as text: links hold on GitHub."""
    up = "../" * (docname.count("/") + 1)
    source[0] = re.sub(rf"\[([^\]]+)\]\({re.escape(up)}[^)]*\)", r"\1", source[0])


def _say_that_cells_were_not_run(app, docname, source):
    """Put a note below the title of a page whose cells were not run."""
    if docname in not_run:
        note = (
            f":::{{note}}\n{not_run[docname]} was not installed where this page was built: its cells were not run.\n:::"
        )
        source[0] = re.sub(r"^(# .*)$", rf"\1\n\n{note}", source[0], count=1, flags=re.MULTILINE)


def _pages_not_named(app, docname, source):
    """Let a ``*`` of the index stand for the pages that it does not name: Sphinx itself would list the others twice."""
    if docname != "index":
        return
    named = set(re.findall(r"^[\w/-]+$", source[0], re.MULTILINE))
    rest = sorted(app.env.found_docs - named - {"index"})
    for folder in ("tutorials/", ""):
        pages = [page for page in rest if page.startswith(folder) and "/" not in page.removeprefix(folder)]
        source[0] = source[0].replace(f"\n{folder}*\n", "\n" + "".join(f"{page}\n" for page in pages))


def _fields_as_written(app, what, name, obj, options, lines):
    """Put back what stands before the colon of a field's line: napoleon takes it for a type."""
    types = [line for line in lines if line.startswith(":type: ")]
    if what == "attribute" and types:
        lines[0] = f"{types[0].removeprefix(':type: ')}: {lines[0]}"
        lines.remove(types[0])


def setup(app):
    """Tell Sphinx what to do with sources."""
    app.connect("source-read", _files_of_the_repository)
    app.connect("source-read", _say_that_cells_were_not_run)
    app.connect("source-read", _pages_not_named)
    app.connect("autodoc-process-docstring", _fields_as_written, priority=600)
