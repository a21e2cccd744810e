"""The documentation site, as scripts/docs builds it: whole, without broken links, and sound in a browser."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from browser import Browser, needs_chromium

#: The site takes minutes to build anew, a few seconds where only a page changed.
pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
BUILT = DOCS / "_build" / "html"
#: Width and height of a window, pixels.
WINDOWS = {"desktop": (1280, 900), "phone": (390, 844)}
#: What Sphinx makes beside our pages.
MADE = {"genindex.html", "search.html", "py-modindex.html"}


@pytest.fixture(scope="module")
def site() -> Path:
    """The folder of the site, built: what was built before and has not changed is not built again."""
    absent = [name for name in ("sphinx", "myst_nb", "furo", "matplotlib") if importlib.util.find_spec(name) is None]
    if absent:
        pytest.skip(f"{absent[0]} is not installed: pip install -e '.[docs]'")
    words = ["-m", "sphinx", "-b", "html", "-W", "--keep-going", "-q", DOCS, BUILT]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return BUILT


class _Page(HTMLParser):
    """Links, places to link to, and pictures of a page."""

    def __init__(self, path: Path):
        super().__init__()
        self.links: list[str] = []
        self.places: set[str] = set()
        self.pictures: list[dict] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.places.add(given.get("id") or "")
        if tag == "img":
            self.pictures.append(given)
        for name in ("href", "src"):
            if tag in ("a", "img", "link", "script") and given.get(name):
                self.links.append(given[name])


def _pages(site: Path) -> dict[Path, _Page]:
    return {path: _Page(path) for path in sorted(site.rglob("*.html")) if "_static" not in path.parts}


def test_every_page_of_docs_is_on_the_site(site):
    sources = {path.relative_to(DOCS).with_suffix(".html") for path in DOCS.rglob("*.md") if "_build" not in path.parts}
    assert len(sources) > 25
    assert sorted(str(page) for page in sources if not (site / page).exists()) == []


def test_every_link_of_the_site_leads_somewhere(site):
    pages = _pages(site)
    broken, followed = [], 0
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            followed += 1
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            named = pages.get(target)
            if not target.exists() or (parts.fragment and named and unquote(parts.fragment) not in named.places):
                broken.append(f"{path.relative_to(site)} -> {link}")
    assert followed > 500
    assert broken == []


def test_nothing_is_fetched_from_elsewhere(site):
    for path, page in _pages(site).items():
        outside = [
            link for link in page.links if link.startswith(("http:", "https:", "//")) and link.endswith((".js", ".css"))
        ]
        assert outside == [], path


def test_tutorials_show_pictures_of_their_run_and_each_says_what_it_shows(site):
    tutorials = [path for path in _pages(site) if path.parent.name == "tutorials"]
    with_figures = [path for path in tutorials if "_images/" in path.read_text(encoding="utf-8")]
    assert len(with_figures) >= 5
    assert "Traceback" not in "".join(path.read_text(encoding="utf-8") for path in tutorials)


@pytest.fixture(scope="module")
def browser():
    with Browser() as started:
        yield started


@needs_chromium
@pytest.mark.parametrize("window", WINDOWS)
def test_every_page_opens_in_a_browser_without_errors_and_fits_its_width(site, browser, window):
    width, height = WINDOWS[window]
    tab = browser.open("about:blank", width=width, height=height, mobile=window == "phone")
    wrong = []
    for path in _pages(site):
        name = str(path.relative_to(site))
        tab.problems.clear()
        tab.goto(path.as_uri())
        if tab.problems:
            wrong.append(f"{name}: {tab.problems}")
        wide = tab.evaluate(f"document.documentElement.scrollWidth - {width}")
        if wide > 1:
            wrong.append(f"{name} is {wide} pixels wider than the window")
        if name not in MADE and not tab.evaluate("document.querySelector('h1')?.offsetHeight > 0"):
            wrong.append(f"{name} shows no heading")
        if tab.evaluate("[...document.images].some(i => i.complete && i.naturalWidth == 0 && i.offsetParent)"):
            wrong.append(f"{name} has a picture that does not load")
    tab.close()
    assert wrong == []
