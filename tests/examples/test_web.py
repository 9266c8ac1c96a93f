"""The example for browsers in headless Chromium, where `make examples` has installed its packages."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

import onnx_classifiers  # noqa: E402
from cfcam.export import export_onnx  # noqa: E402
from cfcam.runtime import Explainer  # noqa: E402
from small_photos import lying_photo  # noqa: E402

_EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "web"
_CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or ""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("node") is None, reason="Node is not installed"),
    pytest.mark.skipif(not _CHROMIUM, reason="Chromium is not installed: install it, or name it in CHROMIUM"),
    pytest.mark.skipif(not (_EXAMPLE / "node_modules").exists(), reason="run `make examples` once"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("web")
    onnx.save(onnx_classifiers.make("plain"), folder / "net.onnx")
    export_onnx(folder / "net.onnx", folder / "net.fused.cam.onnx", fused=True)
    export_onnx(folder / "net.onnx", folder / "net.cam.onnx")
    export_onnx(folder / "net.onnx", folder / "net.cpu.cam.onnx", fused=True, fused_form="cpu")
    lying_photo(folder / "turned.jpg")
    return folder


def _browse(*words):
    command = ["node", str(_EXAMPLE / "browser.mjs"), "--chromium", _CHROMIUM, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.parametrize("backend", ["wasm", "webgpu"])
def test_the_map_is_that_of_cfcam(folder, tmp_path, backend):
    model, photo, raw = folder / "net.fused.cam.onnx", folder / "turned.jpg", tmp_path / "map.f32"
    run = _browse(model, photo, "--target", "2", "--backend", backend, "--map", raw)
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    with Explainer(model) as explainer:
        expected = explainer.explain(photo, 2)
    assert (found["class"], found["empty"], found["elsewhere"]) == (2, expected.empty, [])
    assert found["probability"] == pytest.approx(expected.probability, abs=1e-5)
    np.testing.assert_allclose(np.fromfile(raw, np.float32).reshape(expected.map.shape), expected.map, atol=2e-3)


def test_a_camera_is_explained(folder):
    run = _browse(folder / "net.fused.cam.onnx", "--camera")
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)["elsewhere"] == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("net.cam.onnx", "turned.jpg"), "export it again with `--fused`"),
        (("net.cpu.cam.onnx", "turned.jpg", "--backend", "webgpu"), "export it again with `--fused-form static`"),
        (("net.fused.cam.onnx", "net.onnx"), "cannot read this file as a photo"),
        (("net.fused.cam.onnx", "turned.jpg", "--target", "no"), "There is no class 'no'"),
    ],
)
def test_mistakes_are_said_on_the_page(folder, words, said):
    run = _browse(*(folder / word if "." in word else word for word in words))
    assert run.returncode == 1
    assert said in run.stderr
