"""Drive a real browser in tests: Debian's chromium without a window, over the two pipes of its DevTools protocol.

No library and no port: messages are JSON that ends in a zero byte. A page remembers every error and warning of its
console, every exception that nobody caught and every request that failed, in ``Page.problems``.

    with Browser() as browser:
        page = browser.open("http://127.0.0.1:8000/", width=1200, height=800)
        assert page.evaluate("document.title") == "frames"
        assert page.problems == []
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

#: Names under which systems install it; NB_CHROMIUM names another.
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "headless-shell")

#: Seconds for anything that a page is asked: machines that test are busy.
PATIENCE = 60.0

_SWITCHES = (
    "--headless=new",
    "--remote-debugging-pipe",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-gpu",
    "--disable-sync",
    "--force-color-profile=srgb",
    "--hide-scrollbars",
    "--mute-audio",
)


def find_chromium() -> str | None:
    """Return the path of a browser that can be driven, None where there is none."""
    named = os.environ.get("NB_CHROMIUM")
    return shutil.which(named) if named else next(filter(None, map(shutil.which, NAMES)), None)


#: For tests that need a browser.
needs_chromium = pytest.mark.skipif(
    find_chromium() is None, reason="no chromium is installed (apt-get install chromium), nor named by NB_CHROMIUM"
)


#: Becomes the program that it is given, with its descriptors 3 and 4, where the browser looks for the pipes.
_REDIRECTED = """
import os, sys
ends = [int(one) for one in sys.argv[1:3]]
while min(ends) < 5:
    ends = [os.dup(one) for one in ends]
for end, number in zip(ends, (3, 4)):
    os.dup2(end, number)
os.execv(sys.argv[3], sys.argv[3:])
"""


class BrowserError(AssertionError):
    """The browser refused what it was told, or took too long."""


class Browser:
    """A browser process with a profile of its own, which is removed at the end; a context manager."""

    def __init__(self) -> None:
        path = find_chromium()
        if path is None:
            raise BrowserError("there is no chromium")
        self._profile = tempfile.mkdtemp(prefix="chromium-")
        theirs_in, self._to = os.pipe()
        self._from, theirs_out = os.pipe()
        switches = [*_SWITCHES, f"--user-data-dir={self._profile}"]
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            switches.append("--no-sandbox")  # which root cannot have
        self._process = subprocess.Popen(
            [sys.executable, "-ISc", _REDIRECTED, str(theirs_in), str(theirs_out), path, *switches, "about:blank"],
            pass_fds=(theirs_in, theirs_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._buffer = b""
        self._number = 0
        self._answers: dict[int, dict] = {}
        self._pages: dict[str, Page] = {}

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """End the process and remove its profile."""
        try:
            self.call("Browser.close")
            self._process.wait(10)
        except (BrowserError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        os.close(self._to)
        os.close(self._from)
        shutil.rmtree(self._profile, ignore_errors=True)

    def open(self, url: str, *, width: int = 1200, height: int = 800, mobile: bool = False) -> Page:
        """Open a page in a window of this size and wait until it is loaded."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = self._pages[session] = Page(self, session, target)
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.call(f"{domain}.enable")
        page.resize(width, height, mobile=mobile)
        page.goto(url)
        return page

    def call(self, method: str, session: str | None = None, **parameters) -> dict:
        """Send one command of the DevTools protocol and return its answer."""
        self._number += 1
        number = self._number
        message = {"id": number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        try:
            os.write(self._to, json.dumps(message).encode() + b"\0")
        except OSError as error:
            raise BrowserError(f"the browser has gone: {error}") from None
        deadline = time.monotonic() + PATIENCE
        while number not in self._answers:
            self.receive(deadline - time.monotonic(), method)
        answer = self._answers.pop(number)
        if "error" in answer:
            raise BrowserError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def receive(self, seconds: float, waiting_for: str) -> None:
        """Take in what the browser says next."""
        if seconds <= 0.0 or not select.select([self._from], [], [], seconds)[0]:
            raise BrowserError(f"the browser took too long: {waiting_for}")
        data = os.read(self._from, 1 << 20)
        if not data:
            raise BrowserError(f"the browser has gone: {waiting_for}")
        *messages, self._buffer = (self._buffer + data).split(b"\0")
        for message in map(json.loads, messages):
            if "id" in message:
                self._answers[message["id"]] = message
            elif message.get("sessionId") in self._pages:
                self._pages[message["sessionId"]].heard(message["method"], message["params"])


class Page:
    """One tab. Places are pixels of the window, from its upper left corner."""

    def __init__(self, browser: Browser, session: str, target: str) -> None:
        self._browser, self._session, self._target = browser, session, target
        self._loaded = False
        self.problems: list[str] = []
        self.requested: list[str] = []  #: addresses that it asked for

    def call(self, method: str, **parameters) -> dict:
        """Send a command of the DevTools protocol to this page."""
        return self._browser.call(method, self._session, **parameters)

    def heard(self, event: str, what: dict) -> None:
        """Note an event of this page."""
        if event == "Page.loadEventFired":
            self._loaded = True
        elif event == "Runtime.exceptionThrown":
            thrown = what["exceptionDetails"]
            self.problems.append(thrown.get("exception", {}).get("description", thrown["text"]))
        elif event == "Runtime.consoleAPICalled" and what["type"] in ("error", "warning", "assert"):
            self.problems.append(" ".join(str(one.get("value", one.get("description"))) for one in what["args"]))
        elif event == "Log.entryAdded" and what["entry"]["level"] in ("error", "warning"):
            self.problems.append(f"{what['entry']['text']} {what['entry'].get('url', '')}".strip())
        elif event == "Network.requestWillBeSent":
            self.requested.append(what["request"]["url"])
        elif event == "Network.responseReceived" and what["response"]["status"] >= 400:
            self.problems.append(f"{what['response']['status']} {what['response']['url']}")

    def goto(self, url: str) -> None:
        """Go to an address (or the path of a file) and wait until it is loaded."""
        if "://" not in url and not url.startswith(("data:", "about:")):
            url = Path(url).resolve().as_uri()
        self._loaded = False
        answer = self.call("Page.navigate", url=url)
        if answer.get("errorText"):
            raise BrowserError(f"{url}: {answer['errorText']}")
        deadline = time.monotonic() + PATIENCE
        while not self._loaded:
            self._browser.receive(deadline - time.monotonic(), f"loading {url}")

    def resize(self, width: int, height: int, *, mobile: bool = False) -> None:
        """Give the window another size; ``mobile``: of a phone, with touch."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)
        self.call("Emulation.setTouchEmulationEnabled", enabled=mobile)

    def evaluate(self, script: str) -> Any:
        """Return the value of an expression, as JSON can say it; promises are waited for."""
        answer = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            thrown = answer["exceptionDetails"]
            raise BrowserError(thrown.get("exception", {}).get("description", thrown["text"]))
        return answer["result"].get("value")

    def wait(self, script: str, seconds: float = PATIENCE) -> Any:
        """Wait until an expression is true; return its value."""
        deadline = time.monotonic() + seconds
        while not (value := self.evaluate(script)):
            if time.monotonic() > deadline:
                raise BrowserError(f"never true: {script}; problems: {self.problems}")
            time.sleep(0.02)
        return value

    def text(self, selector: str) -> str:
        """Return what an element shows."""
        return self.evaluate(f"document.querySelector({json.dumps(selector)}).textContent.trim()")

    def box(self, selector: str) -> tuple[float, float, float, float]:
        """Return x, y, width and height of an element, after scrolling it into view."""
        script = f"""(() => {{ const e = document.querySelector({json.dumps(selector)});
            e.scrollIntoView({{block: "nearest"}}); const b = e.getBoundingClientRect();
            return [b.x, b.y, b.width, b.height] }})()"""
        x, y, width, height = self.evaluate(script)
        return x, y, width, height

    def move(self, x: float, y: float, **more) -> None:
        """Move the mouse."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y, **more)

    def press(self, x: float, y: float) -> None:
        """Click at a place."""
        self.move(x, y)
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def click(self, selector: str) -> None:
        """Click in the middle of an element."""
        x, y, width, height = self.box(selector)
        self.press(x + width / 2, y + height / 2)

    def drag(self, start: tuple[float, float], stop: tuple[float, float], steps: int = 4) -> None:
        """Drag with the left button held down."""
        self.move(*start)
        self.call("Input.dispatchMouseEvent", type="mousePressed", x=start[0], y=start[1], button="left", clickCount=1)
        for step in range(1, steps + 1):
            x, y = (a + (b - a) * step / steps for a, b in zip(start, stop, strict=True))
            self.move(x, y, button="left", buttons=1)
        self.call("Input.dispatchMouseEvent", type="mouseReleased", x=stop[0], y=stop[1], button="left", clickCount=1)

    def wheel(self, x: float, y: float, delta: float) -> None:
        """Turn the wheel over a place; a negative ``delta`` is away from the user."""
        self.call("Input.dispatchMouseEvent", type="mouseWheel", x=x, y=y, deltaX=0, deltaY=delta)

    def key(self, key: str) -> None:
        """Press a key, such as ``ArrowRight``."""
        text = {"text": key} if len(key) == 1 else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key)

    def screenshot(self, path=None, *, whole: bool = False) -> bytes:
        """Return the window as PNG, and write it to ``path`` where given; ``whole``: what must be scrolled to, too."""
        answer = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        data = base64.b64decode(answer["data"])
        if path is not None:
            Path(path).write_bytes(data)
        return data

    def close(self) -> None:
        """Close the tab."""
        self._browser.call("Target.closeTarget", targetId=self._target)
