"""What JavaScript makes of a photo is what the runtime makes of it, bit for bit. Needs Node and no packages."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cfcam.runtime.contract.spec import FoldedSpec, InputSpec, ResizeSpec
from cfcam.runtime.photos.preprocess import prepare

_MODULE = Path(__file__).resolve().parents[2] / "examples" / "web" / "camspec.mjs"

pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="Node is not installed")

# Cases on standard input, a file with the photo's bytes for each; answers: the values, and the box, of each.
_SCRIPT = """
import { readFileSync } from "node:fs";
import { box, classOf, coloured, prepare } from "%s";
const answers = JSON.parse(readFileSync(0)).map(({ input, photo, width, height }) => {
  const prepared = prepare(readFileSync(photo), width, height, 3, { input });
  return { dims: prepared.dims, box: box(prepared.frame), data: Array.from(prepared.data) };
});
const output = { classes: 3, labels: ["a", "b", "B"] };
const refused = (text) => { try { return classOf(text, { output }); } catch (error) { return error.message; } };
const classes = ["", " A ", "2", "b", "3", "x"].map(refused);
console.log(JSON.stringify({ answers, classes, picture: Array.from(coloured(Float32Array.of(0, 0.5, 1))) }));
"""

_SIZES = ((90, 41), (40, 131), (32, 32), (7, 300))


def _inputs():
    modes = [ResizeSpec(mode="shorter", size=37), ResizeSpec(mode="stretch", crop="none"), ResizeSpec(mode="pad")]
    modes += [ResizeSpec(mode="fit", corner="down"), ResizeSpec(mode="shorter", size=38, corner="down")]
    filters = ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")
    for number, (resize, interpolation) in enumerate(itertools.product(modes, filters)):
        color = ("rgb", "bgr", "gray")[number % 3]
        channels = 1 if color == "gray" else 3
        yield InputSpec(
            name="x",
            height=24,
            width=33,
            layout=("NCHW", "NHWC")[number % 2],
            color=color,
            scale=1 / 255,
            mean=(0.485, 0.456, 0.406)[:channels],
            std=(0.229, 0.224, 0.225)[:channels],
            resize=ResizeSpec(**{**asdict(resize), "interpolation": interpolation}),
        )
    folded = FoldedSpec(scale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    kinds: list[tuple[Any, Any]] = [("float32", "NCHW"), ("uint8", "NHWC")]
    for dtype, layout in kinds:  # the graph normalises
        yield InputSpec(
            name="x",
            height=24,
            width=33,
            dtype=dtype,
            layout=layout,
            scale=1.0,
            mean=(0.0,) * 3,
            std=(1.0,) * 3,
            resize=ResizeSpec(mode="pad", crop="none"),
            folded=folded,
        )


@pytest.fixture(scope="module")
def cases():
    random = np.random.default_rng(0)
    photos = [random.integers(0, 256, (height, width, 3), np.uint8) for width, height in _SIZES]
    return [(spec, photos[number % len(photos)]) for number, spec in enumerate(_inputs())]


@pytest.fixture(scope="module")
def answer(cases, tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    asked = []
    for number, (spec, photo) in enumerate(cases):
        (folder / str(number)).write_bytes(photo.tobytes())
        height, width = photo.shape[:2]
        asked.append({"input": asdict(spec), "photo": str(folder / str(number)), "width": width, "height": height})
    script = _SCRIPT % _MODULE.as_uri()
    run = subprocess.run(
        ["node", "--input-type=module", "-e", script], input=json.dumps(asked), capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def test_inputs_are_equal(cases, answer):
    assert len(answer["answers"]) == len(cases)
    for (spec, photo), found in zip(cases, answer["answers"], strict=True):
        expected = prepare(photo, spec)
        assert found["dims"] == [1, *expected.tensor.shape]
        values = np.float32(found["data"]).reshape(expected.tensor.shape)
        np.testing.assert_array_equal(values, expected.tensor, str(spec))
        frame = expected.frame
        assert found["box"] == [*frame.to_photo(0, 0), *frame.to_photo(*frame.input)]


def test_classes(answer):
    top, by_label, by_index, twice, *unknown = answer["classes"]
    assert (top, by_label, by_index) == (-1, 0, 2)
    assert "give one of 1, 2" in twice
    assert all("There is no class" in words for words in unknown)


def test_hotter_is_lighter_and_more_opaque(answer):
    cold, warm, hot = np.reshape(answer["picture"], (3, 4))
    assert cold.sum() < warm.sum() < hot.sum()
    assert cold[3] < warm[3] < hot[3] < 255
