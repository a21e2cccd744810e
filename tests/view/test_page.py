"""The page in a real browser: it opens, zooms, moves, tells what is under the cursor, and shows what is in the file."""

from __future__ import annotations

import io
import re
import threading

import numpy as np
import pytest
from browser import Browser, needs_chromium
from frames_to_look_at import flat, made_up, of_panels, write, write_wet_series
from PIL import Image

from bragg_numba.cli.bragg import main
from bragg_numba.experiment.placing import place_detector
from bragg_numba.view.gallery import Gallery
from bragg_numba.view.page import few_frames, listed_frames
from bragg_numba.view.scene import open_scene
from bragg_numba.view.server import Server

DRAWN = "window.viewer && viewer.look && viewer.waiting === 0 && viewer.asked === 0 && !viewer.due"


@pytest.fixture(scope="module")
def browser():
    with Browser() as found:
        yield found


@pytest.fixture(scope="module")
def wet(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wet")
    write_wet_series(folder)
    return folder


def opened(browser, path, *words, width=1200, height=800, **more):
    """The page of a file, drawn."""
    html = f"{path}.html"
    assert main(["view", str(path), "--html", html, *words]) == 0
    page = browser.open(html, width=width, height=height, **more)
    page.wait(DRAWN)
    return page


def hover(page, fast, slow):
    """Put the mouse onto a place of the frame; return what is read there."""
    x, y = page.evaluate(f"viewer.screen({fast}, {slow})")
    left, top, _, _ = page.box("#image")
    page.move(left + x, top + y)
    page.wait("document.querySelector('#value').textContent !== '…'")
    return {name: page.text(f"#{name}") for name in ("place", "value", "resolution", "angle", "panel")}


def colours(page) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB")).astype(int)


# --- in the browser


@needs_chromium
def test_the_value_under_the_cursor_is_that_of_the_array(browser, tmp_path):
    image = made_up((300, 400))
    page = opened(browser, write(tmp_path / "f.h5", image, flat(400, 300)), "--spots")
    for fast, slow in ((0, 0), (399, 299), (255, 256), (256, 255), (123, 45)):
        found = hover(page, fast + 0.5, slow + 0.5)
        assert found["place"] == f"{fast}, {slow}"
        assert np.float32(found["value"]) == image[slow, fast]
    assert page.problems == []
    page.close()


@needs_chromium
def test_the_wheel_zooms_about_the_cursor_to_single_pixels_and_dragging_moves(browser, tmp_path):
    image = made_up((300, 400))
    page = opened(browser, write(tmp_path / "f.h5", image, flat(400, 300)))
    left, top, _, _ = page.box("#image")
    x, y = (round(place) for place in page.evaluate("viewer.screen(200.5, 100.5)"))
    under = f"(at => [at.fast, at.slow])(viewer.under({x}, {y}))"
    before = page.evaluate(under)
    for _ in range(12):
        page.wheel(left + x, top + y, -300)
    page.wait("viewer.view.zoom > 40")
    assert page.evaluate(under) == pytest.approx(before, abs=1e-6)
    zoom, at = page.evaluate("viewer.view.zoom"), page.evaluate("viewer.screen(200, 100)")
    page.drag((left + x, top + y), (left + x + 70, top + y - 40))
    assert page.evaluate("viewer.screen(200, 100)") == pytest.approx([at[0] + 70, at[1] - 40], abs=1e-3)
    assert page.evaluate("viewer.view.zoom") == zoom
    found = hover(page, 200.5, 100.5)
    assert found["place"] == "200, 100" and np.float32(found["value"]) == image[100, 200]
    page.click("#fit")
    assert page.evaluate("viewer.screen(0, 0).concat(viewer.screen(400, 300)).every(v => v >= 0)")
    assert page.problems == []
    page.close()


@needs_chromium
def test_a_changed_frame_changes_its_pixels_and_no_others(browser, tmp_path):
    image, seen = np.ones((40, 50), dtype=np.float32), []
    image[0, :20] = 50.0
    for value in (1.0, 40.0):
        image[20, 30] = value
        page = opened(browser, write(tmp_path / "f.h5", image, flat(50, 40)))
        page.evaluate("for (const id of ['rings', 'spots']) if (document.getElementById(id).checked) "
                      "document.getElementById(id).click(); viewer.typed = {low: 1, high: 50}; viewer.setLook();"
                      "viewer.lookAt(25, 20, 10)")  # fmt: skip
        page.wait(DRAWN)
        corners = page.evaluate("[viewer.screen(30, 20), viewer.screen(31, 21)]")
        seen.append((colours(page), corners))
        page.close()
    (before, ((x, y), (right, low))), (after, _) = seen
    assert right - x == pytest.approx(10) and low - y == pytest.approx(10)
    inside = np.s_[round(y) + 2 : round(low) - 2, round(x) + 2 : round(right) - 2]
    assert (np.abs(after - before)[inside].sum(axis=2) > 60).all()
    stage = (np.abs(after - before).sum(axis=2) > 0)[:700, :850]
    stage[round(y) - 1 : round(low) + 1, round(x) - 1 : round(right) + 1] = False
    assert not stage.any()


@needs_chromium
def test_spots_say_their_indices_and_photons(browser, wet):
    page = opened(browser, wet / "s_photons" / "s_master.h5", "--spots", "--frame", "2")
    with open_scene(wet / "s_photons" / "s_master.h5") as scene:
        table, _ = scene.spots(2)
    page.wait("viewer.spots")
    assert page.text("#count") == f"({len(table)})"
    lone = next(s for s in table[1:] if np.sort(np.hypot(table["fast"] - s["fast"], table["slow"] - s["slow"]))[1] > 3)
    hover(page, lone["fast"], lone["slow"])
    first, second, *_ = page.evaluate("document.querySelector('#tip').textContent").split("\n")
    assert first == f"{lone['h']} {lone['k']} {lone['l']}"
    assert float(second.split()[0]) == pytest.approx(lone["photons"], rel=1e-3)
    page.click("#spots")
    hover(page, lone["fast"], lone["slow"])
    assert page.evaluate("document.querySelector('#tip').hidden")
    assert page.problems == []
    page.close()


CASES = {
    "flat": lambda: flat(50, 40, "-xds -twotheta 12 -detector_rotz 20"),
    "curved": lambda: flat(50, 40, "-curved_det -Xbeam 3 -Ybeam 2 -detector_roty 6"),
    "panels": of_panels,
}


@needs_chromium
@pytest.mark.parametrize("case", CASES)
def test_resolutions_and_rings_are_those_of_the_laboratory(browser, tmp_path, case):
    experiment = CASES[case]()
    image = made_up(experiment.detector.shape)
    page = opened(browser, write(tmp_path / f"{case}.h5", image, experiment))
    at, beam = experiment.pixel_positions_m(), np.array(place_detector(experiment).beam)
    two_theta = np.arccos(np.clip(at @ beam / np.linalg.norm(at, axis=-1), -1, 1))
    names = ["p0"] if not experiment.detector.panels else [panel.name for panel in experiment.detector.panels]
    n_slow, n_fast = image.shape
    for slow, fast in ((3, 5), (n_slow - 4, n_fast - 3), (n_slow // 3, 10), (n_slow - 20, 8)):
        found = hover(page, fast + 0.5, slow + 0.5)
        assert np.float32(found["value"].split()[0]) == image[slow, fast]
        if np.isnan(two_theta[slow, fast]):
            assert (found["panel"], found["resolution"]) == ("none", "–")
            continue
        d = experiment.beam.wavelength_A / (2 * np.sin(two_theta[slow, fast] / 2))
        # The mouse stands on whole pixels of the screen.
        assert float(found["resolution"].split()[0]) == pytest.approx(d, rel=0.02)
        assert not experiment.detector.panels or found["panel"] in names
    exactly = page.evaluate(f"""[[3, 5], [{n_slow - 4}, {n_fast - 3}]].map(([slow, fast]) =>
        resolutionAt(viewer.about, panelAt(viewer.about, fast, slow) ?? viewer.about.panels[0],
            fast + .5, slow + .5).angle)""")
    for angle, place in zip(exactly, ((3, 5), (n_slow - 4, n_fast - 3)), strict=True):
        assert np.isnan(two_theta[place]) or angle == pytest.approx(two_theta[place], abs=1e-6)
    # Every point of a ring lies at its angle, on its panel.
    off = page.evaluate("""viewer.about.panels.flatMap(p => chosenRings(viewer.about).flatMap(d =>
        ringOn(viewer.about, p, angleOf(viewer.about, d), 360).flat().map(([f, s]) =>
            Math.abs(resolutionAt(viewer.about, p, f, s).d / d - 1))))""")
    assert len(off) > 50 and max(off) < 1e-9
    assert page.problems == []
    page.close()


@needs_chromium
def test_panels_are_assembled_as_they_stand(browser, tmp_path):
    experiment = of_panels()
    image = made_up(experiment.detector.shape)
    page = opened(browser, write(tmp_path / "p.h5", image, experiment))
    before = colours(page)
    page.evaluate("document.getElementById('panels').click(); document.getElementById('assembled').click()")
    page.wait(DRAWN)
    assert (colours(page) != before).any()
    for number, panel in enumerate(experiment.detector.panels):
        fast, slow = panel.first_column + panel.n_fast // 2, panel.first_row + panel.n_slow // 2
        found = hover(page, fast + 0.5, slow + 0.5)
        assert found["place"] == f"{fast}, {slow}", number
        assert np.float32(found["value"]) == image[slow, fast]
    assert page.problems == []
    page.close()


@needs_chromium
def test_layers_frames_and_contrast_are_chosen(browser, wet):
    page = opened(browser, wet / "s_counts_master.h5", "--frames", "1,3")
    with open_scene(wet / "s_counts_master.h5") as scene:
        images = {(layer.name, frame): layer.read(frame) for layer in scene.layers for frame in (1, 3)}
    assert page.evaluate("[...document.getElementById('layer').options].map(o => o.value)") == list(
        dict.fromkeys(name for name, _ in images)
    )
    page.evaluate("document.getElementById('image').focus()")
    shown = []
    for (name, frame), image in images.items():
        page.evaluate(f"viewer.show({frame}, viewer.scene.layers.find(l => l.name === '{name}'))")
        page.wait(DRAWN)
        value = hover(page, 30.5, 20.5)["value"]
        assert image.dtype.type(float(value)) == image[20, 30], (name, frame)
        shown.append(colours(page))
    assert all((a != b).any() for a, b in zip(shown[:-1], shown[1:], strict=True))
    page.evaluate("document.getElementById('image').focus()")
    page.key("ArrowLeft")
    page.wait("viewer.frame === 1 && document.getElementById('frame').value === '1'")
    for scale in ("log", "sqrt", "linear"):
        for palette in ("fire", "grey", "ink"):
            page.evaluate(f"""(() => {{ for (const [id, value] of [['scale', '{scale}'], ['colours', '{palette}']]) {{
                const e = document.getElementById(id); e.value = value;
                e.dispatchEvent(new Event('change')); }} }})()""")
            page.wait(DRAWN)
    page.evaluate("document.getElementById('percentile').value = 5;"
                  "document.getElementById('percentile').dispatchEvent(new Event('input'))")  # fmt: skip
    assert page.text("#percent") == "50 %"
    assert page.evaluate("document.querySelectorAll('#histogram rect').length") > 5
    assert page.evaluate("document.querySelector('#profile polyline').getAttribute('points').split(' ').length") > 5
    assert page.problems == []
    page.close()


@needs_chromium
def test_masked_pixels_look_masked_and_say_so(browser, wet):
    page = opened(browser, wet / "s_photons" / "s_master.h5", "--frames", "0")
    assert hover(page, 0.5, 20.5)["value"] == "0 (no pixel)"
    x, y = page.evaluate("viewer.screen(0.5, 30.5)")
    masked = colours(page)[round(y), round(x)]
    assert masked.tolist() == [38, 62, 74]
    page.click("#mask")
    page.wait(DRAWN)
    assert colours(page)[round(y), round(x)].tolist() == [0, 0, 0]
    page.close()


@needs_chromium
def test_a_phone_has_everything_too(browser, tmp_path):
    path = write(tmp_path / "f.h5", made_up((300, 400)), flat(400, 300))
    page = opened(browser, path, width=390, height=780, mobile=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.evaluate("document.getElementById('image').clientWidth") == 390
    for selector in ("#layer", "#scale", "#rings", "#histogram", "#facts"):
        x, _, width, height = page.box(selector)
        assert x >= 0 and x + width <= 390 and height > 0
    assert page.problems == []
    page.close()


@needs_chromium
def test_a_served_series_shows_every_frame_and_asks_nobody_else(browser, wet):
    with open_scene(wet / "s_photons" / "s_master.h5") as scene, Server(Gallery(scene)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            page = browser.open(server.url)
            page.wait(DRAWN)
            for frame in (0, 3):
                page.evaluate(f"viewer.show({frame})")
                page.wait(DRAWN)
                assert np.float32(hover(page, 30.5, 20.5)["value"]) == scene.source.frame(frame)[20, 30]
            page.click("#spots")
            page.wait("viewer.spots && viewer.spots.n > 5")
            assert all(url.startswith((server.url, "data:")) for url in page.requested)
            assert page.problems == []
        finally:
            server.shutdown()
            thread.join()
        server.server_close()
        page.evaluate("viewer.show(2)")  # not asked for yet
        page.wait("document.getElementById('message').textContent.includes('the server has gone')")
        page.close()


@needs_chromium
def test_large_frames_are_shown_by_tiles_of_their_level(browser, tmp_path):
    image = np.zeros((1100, 1700), dtype=np.float32)
    image[777, 1234] = 900.0  # one pixel among a million is seen from afar
    path = write(tmp_path / "f.h5", image, flat(1700, 1100))
    with open_scene(path) as scene, Server(Gallery(scene)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        page = browser.open(server.url, width=800, height=500)
        page.wait(DRAWN)
        page.click("#rings")
        page.wait(DRAWN)
        tiles = [url for url in page.requested if "/tile/" in url]
        assert tiles and not any("/frame/0/" in url.split("/tile/")[1] for url in tiles)
        x, y = page.evaluate("viewer.screen(1234.5, 777.5)")
        assert colours(page)[round(y) - 2 : round(y) + 3, round(x) - 2 : round(x) + 3].max() > 150
        assert hover(page, 1234.5, 777.5)["value"] in ("900", "0")  # pixels are smaller than those of the screen
        page.evaluate("viewer.lookAt(1234.5, 777.5, 30)")
        page.wait(DRAWN)
        assert hover(page, 1234.5, 777.5)["value"] == "900"
        assert page.problems == []
        page.close()
        server.shutdown()
        thread.join()


# --- the file


def test_the_page_holds_all_it_needs_and_runs_nothing_of_the_file(tmp_path, capsys):
    name = "<img src=x onerror=alert(1)>'\"&.h5"
    path = write(tmp_path / name, made_up((40, 50)), flat(50, 40))
    assert main(["view", path, "--html", str(tmp_path / "v.html")]) == 0
    assert "frame 0 of 1, layers frame, noise" in capsys.readouterr().out
    text = (tmp_path / "v.html").read_text(encoding="utf-8")
    assert "<img" not in text and "&lt;img src=x" in text and "{{" not in text
    assert not re.search(r"""(?:src|href)=["'](?!data:)""", text)
    assert "http://www.w3.org/2000/svg" in text and text.count("http") == 1 + text.count("http-equiv")
    assert re.search(r"Content-Security-Policy\" content=\"default-src 'none'; [^\"]*sha256-", text)


@needs_chromium
def test_names_of_files_are_text_in_the_browser(browser, tmp_path):
    name = "<img src=x onerror=document.title='run'></script><b>.h5"
    path = tmp_path / name.replace("/", "∕")
    page = opened(browser, write(path, made_up((40, 50)), flat(50, 40)))
    assert page.text("#title") == path.name and page.evaluate("document.title") == path.name
    assert page.problems == []
    page.close()


def test_a_page_takes_a_few_frames_evenly_spread():
    assert few_frames(1000, (100, 100), 3) == [0, 200, 400, 599, 799, 999]
    assert few_frames(3, (100, 100), 3) == [0, 1, 2]
    assert few_frames(1000, (4096, 4096), 2) == [0]
    assert few_frames(1, (1, 1), 1) == [0]
    assert listed_frames("--frames", "7-9, 0,3,8", 10) == [0, 3, 7, 8, 9]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--html", "v.html", "--frames", "0,1"], "--frames must name frames between 0 and 0"),
        (["--html", "v.html", "--frames", "x"], "--frames must be frames and ranges"),
        (["--html", "v.html", "--frames", ""], "--frames must be frames and ranges"),
        (["--html", "v.html", "--frames", "0-"], "--frames must be frames and ranges"),
        (["--html", "v.html", "--frames", "0-99999999999999999999"], "--frames must name frames"),
        (["--html", "v.html", "--layers", "frame,bragg"], "--layers must be one of frame, noise"),
        (["--html", "v.html", "--frame", "1"], "--frame must lie between 0 and 0"),
        (["--html", "v.html", "--serve"], "either --html or --serve"),
        (["--html", "v.html", "-o", "v.png"], "--output is for a PNG alone"),
        (["--html", "v.html", "--port", "80"], "--port is for --serve alone"),
        (["--serve", "--frames", "0"], "--frames is for --html alone"),
        (["--frame", "x"], "--frame must be a whole number"),
        (["--size", "5"], "--size must"),
        (["--html", "no/folder/v.html"], "no/folder/v.html cannot be written"),
        (["--html", "f.h5"], "f.h5 must not be a file that is read"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_written(tmp_path, monkeypatch, capsys, words, said):
    write(tmp_path / "f.h5", made_up((40, 50)), flat(50, 40))
    monkeypatch.chdir(tmp_path)
    assert main(["view", "f.h5", *words]) == 2
    assert said in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["f.h5"]
