"""What notebooks show of frames, series and experiments."""

from __future__ import annotations

import base64
import html.parser
import io
import re

import numpy as np
import pytest
from frames_to_look_at import flat, made_up, of_panels, write
from PIL import Image

from bragg_numba import Detector, Experiment, Frame, InputError, rotation_series


class Elements(html.parser.HTMLParser):
    """Names of a page's elements, its text, and whether each is closed."""

    EMPTY = ("img", "path", "circle", "polygon")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names, self.open, self.text = [], [], ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.names.append(tag)
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.names.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def picture_of(text: str) -> np.ndarray:
    data = base64.b64decode(re.search(r"data:image/png;base64,([^\"]+)", text)[1])
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def test_a_frame_shows_its_picture_and_a_table():
    image = made_up((300, 400))
    frame = Frame(image, flat(400, 300), title="<b>&")
    text = frame._repr_html_()
    shown = Elements(text)
    assert {"img", "table"} <= set(shown.names) and "b" not in shown.names
    assert "<b>&" in shown.text and f"{float(image.max()):.7g}"[:5] in shown.text and "photons" in shown.text
    assert len(text) < 300_000
    assert picture_of(text).shape == (300, 400, 3)
    assert repr(frame).startswith("<<b>&: 400 x 300 pixels (fast x slow), float32, sum ")


def test_another_image_is_another_picture():
    image = np.zeros((60, 50), dtype=np.uint16)
    image[20, 30] = 9
    before = picture_of(Frame(image, flat(50, 60))._repr_html_())
    image[50, 10] = 9
    after = picture_of(Frame(image, flat(50, 60))._repr_html_())
    assert np.argwhere((before != after).any(axis=2)).tolist() == [[50, 10]]
    assert "18 counts" in Frame(image, flat(50, 60))._repr_html_()


def test_a_frame_is_read_from_its_file(tmp_path):
    image = made_up((40, 50))
    frame = Frame.load(write(tmp_path / "f.h5", image, flat(50, 40)))
    assert np.array_equal(frame.image, image) and frame.title == "f.h5, frame 0"
    assert frame.picture(side=25).size == (25, 20)
    for index in (1, -1):
        with pytest.raises(InputError, match=r"index must .*0.*got"):
            Frame.load(tmp_path / "f.h5", index)


@pytest.mark.parametrize(
    ("image", "more", "rule"),
    [
        (np.zeros((50, 40)), {}, "Frame.image must be real numbers, 40 x 50"),
        (np.zeros((40, 50), dtype=complex), {}, "Frame.image must be real"),
        (np.zeros((1, 40, 50)), {}, "Frame.image must be real"),
        (np.zeros((40, 50)), {"spots": np.zeros(3)}, "Frame.spots must be a table"),
        (np.zeros((40, 50)), {"spots": [1, 2]}, "Frame.spots must be a table"),
    ],
)
def test_what_is_no_frame_of_the_detector_is_refused(image, more, rule):
    with pytest.raises(InputError, match=re.escape(rule)):
        Frame(image, flat(50, 40), **more)
    with pytest.raises(InputError, match=r"Frame\.experiment must be an Experiment"):
        Frame(np.zeros((40, 50)), "-cell 100")


@pytest.mark.parametrize("experiment", [flat(50, 40), flat(50, 40, "-curved_det -twotheta 20"), of_panels()])
def test_experiments_and_series_show_their_detector(experiment):
    for noun in (experiment, rotation_series(experiment, 0.0, 1.0, 3)):
        text = noun._repr_html_()
        shown = Elements(text)
        assert shown.names.count("polygon") == len(experiment.detector.panels or (1,))
        assert shown.names.count("circle") >= 1 and "table" in shown.names
        assert len(text) < 30_000


def test_the_sketch_has_the_panels_inside_and_the_beam_in_the_middle():
    text = flat(50, 40, "-xds -Xbeam 0 -Ybeam 0")._repr_html_()  # the beam meets a corner
    points = np.array([part.split(",") for part in re.search(r'polygon points="([^"]+)"', text)[1].split()], float)
    assert (points >= 5).all() and (points <= 235).all()
    assert np.abs(points - 120).sum(axis=1).min() < 2


def test_a_detector_that_cannot_be_placed_is_a_table_all_the_same():
    experiment = Experiment.from_nanobragg("-cell 100 -default_F 100 -N 5 -detpixels 64")
    turned = experiment.replace(detector=Detector(n_fast=64, n_slow=64, twotheta_deg=90.0, pivot="beam"))
    assert "<table>" in turned._repr_html_()
