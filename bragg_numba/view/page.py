"""The page: from its parts in ``static/``, as one file that holds its frames or as what a server sends."""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Iterator, Sequence
from importlib import resources

from bragg_numba.errors import InputError
from bragg_numba.view.gallery import Gallery

#: The scripts, in the order in which they need each other.
SCRIPTS = ("geometry.js", "store.js", "colours.js", "plots.js", "viewer.js")
STYLE = "viewer.css"

#: Pixels of all layers and frames that a page takes if nobody says which; one frame it takes always.
MOST_PIXELS = 40_000_000

#: Frames that a page takes if nobody says which.
MOST_FRAMES = 6


def static(name: str) -> str:
    """Return one of the files that the page is made of."""
    return (resources.files("bragg_numba.view") / "static" / name).read_text(encoding="utf-8")


def served_page(title: str) -> str:
    """The page that asks a server for everything."""
    head = "".join(f'<script defer src="{name}"></script>\n' for name in SCRIPTS)
    page = _filled(title, f'<link rel="stylesheet" href="{STYLE}">\n{head}', "")
    return page.replace('<html lang="en">', '<html lang="en" data-served>')


def whole_page(gallery: Gallery, layers: Sequence[str] | None = None, progress=None) -> Iterator[bytes]:
    """Yield the parts of a page that needs no other file: it holds all that may be asked for of the gallery's frames.

    Parameters
    ----------
    gallery
        Knows the frames.
    layers
        Names of the layers that are taken; None: all.
    progress
        Called with the fraction done.
    """
    style, script = static(STYLE), "\n".join(static(name).replace('"use strict";\n', "") for name in SCRIPTS)
    script = '"use strict";\n' + script
    # Nothing that is no part of this package runs, and nothing is fetched, whatever names from files hold.
    allowed = f"default-src 'none'; img-src data:; style-src {_digest(style)}; script-src {_digest(script)}"
    head = f'<meta http-equiv="Content-Security-Policy" content="{allowed}">\n<style>{style}</style>'
    before, after = _filled(gallery.scene.title, head, "\0").split("\0")
    yield _utf8(f"{before}<script>{script}</script>\n")
    names = gallery.names(layers)
    for done, name in enumerate(names, start=1):
        answer = gallery.answer(name, layers)
        if answer.is_json:
            # Within a script's element the only thing that means anything is its end.
            kind, text = "application/json", answer.data.replace(b"<", b"\\u003c")
        else:
            kind, text = "application/octet-stream", base64.b64encode(answer.data)
        yield b'<script type="%s" id="data:%s">%s</script>\n' % (kind.encode(), name.encode(), text)
        if progress is not None:
            progress(done / len(names))
    yield _utf8(after)


def few_frames(total: int, shape: tuple[int, int], layers: int) -> list[int]:
    """The frames that a page takes if nobody says which: evenly spread, first and last among them."""
    affordable = MOST_PIXELS // max(1, shape[0] * shape[1] * layers)
    n = max(1, min(MOST_FRAMES, affordable, total))
    return sorted({round(i * (total - 1) / max(n - 1, 1)) for i in range(n)})


def listed_frames(name: str, text: str, total: int) -> list[int]:
    """Return the frames of a list such as ``0,3,7-9``, in order and each once.

    Raises
    ------
    InputError
        If it is no such list, or names a frame that is not there.
    """
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not (first.isdecimal() and first.isascii() and (not dash or (last.isdecimal() and last.isascii()))):
            raise InputError(name, "must be frames and ranges of frames such as 0,3,7-9", text)
        start, stop = int(first), int(last if dash else first)
        if not start <= stop < total:
            raise InputError(name, f"must name frames between 0 and {total - 1}, ranges upwards", part.strip())
        found.update(range(start, stop + 1))
    return sorted(found)


def _filled(title: str, head: str, data: str) -> str:
    page = static("viewer.html").replace("{{head}}", head).replace("{{data}}", data)
    return page.replace("{{title}}", html.escape(title))


def _digest(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
    return f"'sha256-{digest}'"


def _utf8(text: str) -> bytes:
    # Names of files may hold bytes that are no text.
    return text.encode("utf-8", "replace")
