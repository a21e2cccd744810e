"""A small server for one page and what it asks for: on this machine alone, for reading alone.

It listens on 127.0.0.1, answers GET and HEAD, and takes a request only if it names this very server as its host: a page
of another site whose name was made to lead here cannot read anything. No part of an address ever becomes the name of a
file: what can be asked for is the page, its parts by their few names, and what the gallery knows.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from bragg_numba.errors import BraggError, InputError
from bragg_numba.versions import __version__
from bragg_numba.view.gallery import Gallery, NotThere
from bragg_numba.view.page import SCRIPTS, STYLE, served_page, static

HOST = "127.0.0.1"

#: Seconds after which a connection that says nothing is closed.
IDLE_S = 60

#: What browsers are told to make of it: it may load from here alone, and nobody may put it into a frame.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}

_TEXT = "text/plain; charset=utf-8"


class Server(ThreadingHTTPServer):
    """Serves a gallery until it is shut down.

    Parameters
    ----------
    gallery
        What is shown.
    port
        To listen on; 0: any that is free.

    Raises
    ------
    InputError
        If the port cannot be had.
    """

    daemon_threads = True
    block_on_close = False  # a browser keeps its connections open

    def __init__(self, gallery: Gallery, port: int = 0) -> None:
        self.gallery = gallery
        self.closed = False
        parts = {f"/{name}": ("text/javascript; charset=utf-8", static(name)) for name in SCRIPTS}
        parts[f"/{STYLE}"] = ("text/css; charset=utf-8", static(STYLE))
        parts["/"] = ("text/html; charset=utf-8", served_page(gallery.scene.title))
        self.parts = {path: (kind, text.encode("utf-8", "replace")) for path, (kind, text) in parts.items()}
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as error:
            hint = "without --port a free one is taken"
            raise InputError("--port", f"cannot be listened on: {error.strerror or error}", port, hint) from None
        self.hosts = {f"{name}:{self.server_port}" for name in (HOST, "localhost")}
        if self.server_port == 80:
            self.hosts |= {HOST, "localhost"}

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://{HOST}:{self.server_port}/"

    def server_close(self) -> None:
        """Listen no longer, and answer nothing more on connections that are still open."""
        self.closed = True
        super().server_close()

    def handle_error(self, request, client_address) -> None:
        """Say nothing of connections that broke: the browser has turned to something else."""


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    server_version = f"bragg_numba/{__version__}"
    sys_version = ""
    timeout = IDLE_S

    def do_GET(self) -> None:
        """Answer a request."""
        if self.server.closed:
            self.close_connection = True
            return
        status, kind, data = self._answer()
        self.send_response(status)
        for name, value in {**HEADERS, "Content-Type": kind, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    do_HEAD = do_GET

    def _answer(self) -> tuple[HTTPStatus, str, bytes]:
        if self.headers.get_all("Host", []) not in [[host] for host in self.server.hosts]:
            return HTTPStatus.FORBIDDEN, _TEXT, b"this server answers requests for itself alone"
        path = self.path.partition("?")[0]
        if path in self.server.parts:
            kind, data = self.server.parts[path]
            return HTTPStatus.OK, kind, data
        asked = re.fullmatch(r"/data/([a-z0-9/-]+)", path, re.ASCII)
        try:
            if asked is None:
                raise NotThere(path)
            answer = self.server.gallery.answer(asked[1])
        except NotThere:
            return HTTPStatus.NOT_FOUND, _TEXT, b"there is nothing of this name"
        except (BraggError, OSError, MemoryError) as error:
            sentence = " ".join(str(error).split()) or "the system has not enough memory for this"
            return HTTPStatus.INTERNAL_SERVER_ERROR, _TEXT, sentence.encode("utf-8", "replace")
        kind = "application/json" if answer.is_json else "application/octet-stream"
        return HTTPStatus.OK, kind, answer.data

    def log_message(self, *_) -> None:
        """Say nothing: a page asks for hundreds of tiles."""
