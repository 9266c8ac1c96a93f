"""The page: nothing from elsewhere, and the map where it belongs."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import threading
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import uvicorn
from cfcam.runtime import Explainer
from cfcam.runtime.serving.app import make_app
from cfcam.runtime.serving.models import ServedModel
from cfcam.runtime.serving.page import map_on_photo, page
from cfcam.runtime.serving.server import bound_socket
from cfcam.runtime.serving.service import Limits, Service
from PIL import Image
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.testclient import TestClient

_CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or ""
_PLAYWRIGHT = Path(__file__).resolve().parents[3] / "examples" / "web" / "package.json"


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


@pytest.fixture
def address(tiny_path):
    service = Service({"m": ServedModel("m", Explainer(tiny_path("logits")))}, Limits(token="sesame"))
    server = uvicorn.Server(uvicorn.Config(make_app(service), lifespan="off", log_config=None))
    with bound_socket("127.0.0.1", 0) as listener:
        running = threading.Thread(target=server.run, args=([listener],))
        running.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        server.should_exit = True
        running.join(10)


@pytest.mark.slow
@pytest.mark.skipif(not _CHROMIUM or shutil.which("node") is None, reason="Chromium or Node is not installed")
@pytest.mark.skipif(not (_PLAYWRIGHT.parent / "node_modules").exists(), reason="run `make examples` once")
def test_what_a_person_does_in_a_browser(tiny_path, tmp_path, address):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 90, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    words = [address, tmp_path / "photo.png", "sesame", _PLAYWRIGHT, _CHROMIUM]
    script = Path(__file__).with_name("page_in_browser.mjs")
    run = subprocess.run(["node", script, *map(str, words)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert (found["elsewhere"], found["broken"]) == ([], [])
    with Explainer(tiny_path("logits")) as explainer:
        explanation = explainer.explain(pixels)
        labels = explainer.spec.output.labels or ()
    assert found["classes"] == [f"{label} ({index})" for index, label in enumerate(labels)]
    assert found["first"] == f"{explanation.label}: {explanation.measured}"
    assert found["second"].startswith(explanation.top[1][1])
    x0, y0, x1, y1 = map_on_photo(explanation)["box"]
    assert found["place"] == pytest.approx([100 * x0, 100 * y0, 100 * (x1 - x0), 100 * (y1 - y0)], abs=1e-3)
    assert "does not take this token" in found["wrong_token"]
    assert "there is no such class" in found["no_class"]
    assert "cannot show this file as a photo" in found["no_photo"]
    assert found["camera"]
    assert found["saved"] == "explanation.png"
