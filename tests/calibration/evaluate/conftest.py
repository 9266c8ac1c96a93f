"""Photos that the tiny model of `tiny_model` knows, one colour each, and an explainer for it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from cfcam.calibration.evaluate import make_plan, read_boxes
from cfcam.runtime.explainer import Explainer
from PIL import Image


def draw_photo(path: Path, channel: int, seed: int) -> tuple[float, float, float, float]:
    """A grey photo of 96 x 64 pixels with a patch of one colour; returns its box, as fractions."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(100, 140, (64, 96, 3), dtype=np.uint8)
    y, x = int(rng.integers(8, 30)), int(rng.integers(8, 50))
    pixels[y : y + 24, x : x + 32] = 20
    pixels[y : y + 24, x : x + 32, channel] = 250
    Image.fromarray(pixels).save(path)
    return x / 96, y / 64, (x + 32) / 96, (y + 24) / 64


@pytest.fixture(scope="session")
def coloured(tmp_path_factory) -> tuple[list[Path], dict[str, tuple[float, float, float, float]]]:
    """Twelve photos, red, green and blue in turn, and the box of each by file name."""
    folder = tmp_path_factory.mktemp("coloured")
    boxes = {}
    for number in range(12):
        path = folder / f"photo{number:02d}.png"
        boxes[path.name] = draw_photo(path, number % 3, number)
    return sorted(folder.iterdir()), boxes


@pytest.fixture
def explainer(tiny_path):
    with Explainer(tiny_path("logits"), threads=1) as opened:
        yield opened


@pytest.fixture
def small(explainer):
    return make_plan(explainer, methods=["cfcam", "gradcam"], baselines=["centre", "random"], seed=3, annotated=True)


@pytest.fixture
def boxes(coloured, tmp_path):
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps([{"file": name, "boxes": [box]} for name, box in coloured[1].items()]))
    return read_boxes(path)
