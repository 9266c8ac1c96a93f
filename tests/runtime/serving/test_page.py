"""The page: nothing from elsewhere, and the map where it belongs."""

from __future__ import annotations

import base64
import hashlib
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from cfcam.runtime import Explainer
from cfcam.runtime.serving.page import map_on_photo, page
from PIL import Image
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.testclient import TestClient


@pytest.fixture(scope="module")
def answer():
    return TestClient(Starlette(routes=[Route("/", page)])).get("/")


class _Parts(HTMLParser):
    def __init__(self):
        super().__init__()
        self.attributes, self.identifiers, self.inside, self.texts = [], [], "", {}

    def handle_starttag(self, tag, attrs):
        self.attributes += [(tag, name, value) for name, value in attrs]
        self.identifiers += [value for name, value in attrs if name == "id"]
        self.inside = tag

    def handle_data(self, data):
        if self.inside in ("script", "style"):
            self.texts[self.inside] = self.texts.get(self.inside, "") + data

    def handle_endtag(self, tag):
        self.inside = ""


def test_the_policy_lets_the_pages_own_script_and_style_run_and_nothing_else(answer):
    parts = _Parts()
    parts.feed(answer.text)
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    for tag in ("script", "style"):
        digest = base64.b64encode(hashlib.sha256(parts.texts[tag].encode()).digest()).decode()
        assert policy[f"{tag}-src"] == f"'sha256-{digest}'"
    assert policy["default-src"] == policy["frame-ancestors"] == policy["form-action"] == "'none'"
    assert policy["connect-src"] == "'self'"
    # What the policy would keep from working: handlers and styles in attributes.
    assert not [one for one in parts.attributes if one[1].startswith("on") or one[1] == "style"]


def test_the_page_asks_nobody_else(answer):
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert not re.search(r"https?:|wss?:|url\(|@import", answer.text)
    parts = _Parts()
    parts.feed(answer.text)
    assert [value for _, name, value in parts.attributes if name in ("src", "href")] == ["data:,"]
    assert "innerHTML" not in answer.text  # labels are text, whatever a file calls its classes
    assert "localStorage" not in answer.text


def test_every_element_that_the_script_names_is_there_once(answer):
    parts = _Parts()
    parts.feed(answer.text)
    named = set(re.findall(r'\$\("(\w+)"\)', answer.text))
    assert len(parts.identifiers) == len(set(parts.identifiers))
    assert named <= set(parts.identifiers)


def test_the_map_lies_where_the_input_lay(tiny_path):
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 90, 3), np.uint8))
    with Explainer(tiny_path("logits")) as explainer:
        explanation = explainer.explain(photo)
    found = map_on_photo(explanation)
    picture = Image.open(io.BytesIO(base64.b64decode(found["png"])))
    assert picture.mode == "P"
    np.testing.assert_array_equal(np.array(picture), np.rint(explanation.map * 255))
    # The peak, from the picture and its box alone.
    row, column = np.unravel_index(np.array(picture).argmax(), (picture.height, picture.width))
    x0, y0, x1, y1 = found["box"]
    x = x0 + (column + 0.5) / picture.width * (x1 - x0)
    y = y0 + (row + 0.5) / picture.height * (y1 - y0)
    assert explanation.peak == pytest.approx((x, y))
