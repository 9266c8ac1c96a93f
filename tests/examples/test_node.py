"""The example for Node, where `make examples` has installed its packages."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

import onnx_classifiers  # noqa: E402
from cfcam.export import export_onnx  # noqa: E402
from cfcam.runtime import Explainer  # noqa: E402
from PIL import Image  # noqa: E402
from small_photos import lying_photo  # noqa: E402

_EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "node" / "explain.mjs"

pytestmark = [
    pytest.mark.skipif(shutil.which("node") is None, reason="Node is not installed"),
    pytest.mark.skipif(not (_EXAMPLE.parent / "node_modules").exists(), reason="run `make examples` once"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("node")
    onnx.save(onnx_classifiers.make("plain"), folder / "net.onnx")
    export_onnx(folder / "net.onnx", folder / "net.fused.cam.onnx", fused=True)
    export_onnx(folder / "net.onnx", folder / "net.two.cam.onnx", fused=True, classes_per_image=2)
    export_onnx(folder / "net.onnx", folder / "net.cam.onnx")
    pixels = lying_photo(folder / "turned.jpg")
    Image.fromarray(pixels[..., 0]).save(folder / "grey.png")
    return folder


def _run(*words):
    return subprocess.run(["node", str(_EXAMPLE), *map(str, words)], capture_output=True, text=True)


@pytest.mark.parametrize(
    ("file", "photo", "target"), [("net.fused.cam.onnx", "turned.jpg", None), ("net.two.cam.onnx", "grey.png", 2)]
)
def test_the_map_is_that_of_cfcam(folder, tmp_path, file, photo, target):
    asked = [] if target is None else ["--target", target]
    output, raw = tmp_path / "overlay.png", tmp_path / "map.f32"
    run = _run(folder / file, folder / photo, "-o", output, "--map", raw, "--json", *asked)
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    with Explainer(folder / file) as explainer:
        expected = explainer.explain(folder / photo, target)
    assert (found["class"], found["label"], found["empty"]) == (expected.target, expected.label, expected.empty)
    assert found["probability"] == pytest.approx(expected.probability, abs=1e-6)
    np.testing.assert_allclose(np.fromfile(raw, np.float32).reshape(expected.map.shape), expected.map, atol=2e-3)
    with Image.open(output) as picture:
        assert picture.size == expected.photo.size


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("net.cam.onnx", "grey.png"), "export it again with `--fused`"),
        (("net.onnx", "grey.png"), "cfcam export --fused"),
        (("grey.png", "grey.png"), "not an ONNX file"),
        (("net.fused.cam.onnx", "net.onnx"), "unsupported image format"),
        (("net.fused.cam.onnx", "grey.png", "--target", "no"), "There is no class 'no'"),
        (("net.fused.cam.onnx",), "usage"),
    ],
)
def test_mistakes_are_said_in_a_line(folder, words, said):
    run = _run(*(folder / word if "." in word else word for word in words))
    assert run.returncode == 1
    assert said in run.stderr
    assert len(run.stderr.strip().splitlines()) == 1
