"""Photos whose names are no text, move the cursor, or are as long as a name can be: they stop nobody."""

from __future__ import annotations

import json
import os
import sys

import numpy as np
import pytest
from cfcam.cli import main
from PIL import Image

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems do not take such names")

_NAMES = [b"plain.png", b"\xff\xfe.png", b"a\x1b[2Jb\nc.png", "\u202egpj.png".encode(), b"x" * 251 + b".png"]


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """A folder of five photos, and one that cannot be read, in the current folder."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, name in enumerate(_NAMES):
        pixels = np.random.default_rng(number).integers(0, 255, (40, 60, 3), dtype=np.uint8)
        with open(os.fsencode(folder) + b"/" + name, "wb") as file:
            Image.fromarray(pixels).save(file, "PNG")
    with open(os.fsencode(folder) + b"/\x80\x1b[31m.png", "wb") as file:
        file.write(b"nothing")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CFCAM_CACHE", str(tmp_path / "cache"))
    return folder


def _clean(text: str) -> bool:
    return all(line.isprintable() for line in text.split("\n"))


@pytest.mark.parametrize(
    "words",
    [
        ["explain", "-o", "maps", "-m", "gradcam"],
        ["explain", "--json", "-m", "gradcam"],
        ["evaluate", "--report", "r.html", "--sheet", "s.png", "--methods", "gradcam", "--baselines", "centre"],
        ["evaluate", "--json", "--methods", "gradcam", "--baselines", "none"],
        ["parts"],
        ["check"],
    ],
    ids=lambda words: " ".join(words[:3]),
)
def test_only_the_photo_that_cannot_be_read_is_missing(tiny_path, photos, capsys, words):
    command, *options = words
    images = [str(photos)] if command in ("explain", "parts") else ["--images", str(photos)]
    assert main([command, str(tiny_path("logits")), *images, *options]) == 1
    out, err = capsys.readouterr()
    assert _clean(out), ascii(out)
    assert _clean(err), ascii(err)
    if "--json" in options:
        document = json.loads(out)
        out.encode()
        assert len(document["results" if command == "explain" else "photos"]) == 5
        assert r"\x80" in document["errors"][0]["error"] or r"\udc80" in document["errors"][0]["error"]
    else:
        assert r"\udc80\x1b[31m.png: is not an image" in err
        assert err.count(".png: ") == 1, "the name is said once"
    if "-o" in options and command == "explain":
        assert len(os.listdir("maps")) == 5
    if "--report" in options:
        text = (photos.parent / "r.html").read_text("utf-8")
        assert "\x1b" not in text
        assert r"\udcff" in text
