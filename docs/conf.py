"""How Sphinx makes the documentation site; scripts/docs runs it."""

from __future__ import annotations

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

# Formulas are written as text, so that pages need no script for them and open without a network.
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4

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
    app.connect("source-read", _pages_not_named)
    app.connect("autodoc-process-docstring", _fields_as_written, priority=600)
