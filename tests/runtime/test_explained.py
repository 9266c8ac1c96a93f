"""A file with a detail layer and the rivals' gradient, explained: the form of the map is the one that is stated."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cfcam.runtime import Explainer, cam_map
from cfcam.runtime.methods.base import Form

onnx = pytest.importorskip("onnx", reason="exporting needs onnx")

import onnx_classifiers  # noqa: E402
from cfcam.export.onnx_export import export_onnx  # noqa: E402
from cfcam.export.sources.preprocessing import preset  # noqa: E402


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("guided")
    onnx.save(onnx_classifiers.plain(), str(folder / "net.onnx"))
    return export_onnx(folder / "net.onnx", folder / "x.cam.onnx", preprocessing=preset("torchvision")).path


def image(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((3, 32, 32)).astype(np.float32)


def test_the_default_is_guided_and_says_so(path: Path) -> None:
    with Explainer(path, threads=1) as explainer:
        found = explainer.explain(image(0), 3)
        (layer,) = explainer.tensors(image(0)[None], 3).layers
    assert found.form == Form(guided=True, contrast=0.3)
    assert (found.detail, found.grid) == ("early", (16, 16))
    assert found.to_dict()["form"] == {"guided": True, "contrast": 0.3, "unguided": None, "detail": "early"}
    expected = cam_map(
        layer.activations, layer.gradients, "cfcam", {"last": True}, 32, detail=layer.detail, rivals=layer.rivals
    )
    np.testing.assert_allclose(found.map, expected[0], atol=1e-6)


def test_it_can_be_the_last_layer_alone(path: Path) -> None:
    with Explainer(path, threads=1) as explainer:
        found = explainer.explain(image(0), 3, settings={"guided": False, "contrast": 0})
        other = explainer.explain(image(0), 3, "gradcam")
    assert found.form == Form()
    assert (found.detail, found.grid) == (None, (8, 8))
    assert (other.form, other.detail, other.grid) == (None, None, (8, 8))
    assert "form" not in other.to_dict()


def test_noisy_copies_are_guided_too(path: Path) -> None:
    with Explainer(path, threads=1) as explainer:
        still = explainer.explain(image(0), 3)
        smooth = explainer.explain(image(0), 3, smooth={"copies": 3, "noise": 0})
    np.testing.assert_allclose(smooth.map, still.map, atol=1e-5)
    assert smooth.form == still.form
    assert smooth.grid == (16, 16)
