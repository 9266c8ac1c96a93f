"""The file of the tail, and what is wrong with it when something is."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from cfcam.runtime import Explainer
from cfcam.runtime.contract.modelfile import read_spec
from cfcam.runtime.errors import CfcamError, EngineError, MethodError, ModelFileError, SpecError
from cfcam.runtime.tail import Tail
from tiny_model import WITH_TAIL, reference


def copy_of(tiny_path, name, folder):
    """The variant's model and tail, in a folder of their own."""
    for suffix in ("cam", "tail"):
        shutil.copy(tiny_path(name).with_name(f"{name}.{suffix}.onnx"), folder)
    return folder / f"{name}.cam.onnx"


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("name", ["tail", "tail-fixed-batch", "tail-softmax"])
def test_logits_of_activations(tiny_path, name, count):
    model = WITH_TAIL[name]
    path = tiny_path(name)
    images = np.random.default_rng(0).normal(size=(count, 3, 32, 48)).astype(np.float32)
    expected = [reference(model, image) for image in images]
    activations = np.stack([one["activations"] for one in expected]).astype(np.float32)
    tail = Tail(path, read_spec(path), "cpu", threads=1)
    assert tail.batch == (2 if name == "tail-fixed-batch" else None)
    found = tail.logits(activations, images[0])
    np.testing.assert_allclose(found, [one["logits"] for one in expected], atol=1e-4)
    activations[0, 0, 0, 0] = np.nan
    with pytest.raises(EngineError, match=r"tail\.onnx: output 'scores' holds NaN or infinity for image 0"):
        tail.logits(activations, images[0])
    tail.close()


def test_a_model_without_tail(tiny_path):
    with (
        Explainer(tiny_path("logits")) as explainer,
        pytest.raises(MethodError, match=r"cfcam export \.\.\. --with-tail"),
    ):
        explainer.explain(np.zeros((3, 32, 48), np.float32), method="ablationcam")


def test_a_tail_that_is_missing_or_another_one(tiny_path, tmp_path):
    path = copy_of(tiny_path, "tail", tmp_path)
    beside = tmp_path / "tail.tail.onnx"
    good = beside.read_bytes()

    def refused() -> str:
        with Explainer(path) as explainer:
            explainer.explain(np.ones((3, 32, 48), np.float32), method="gradcam")  # no tail is looked for
            with pytest.raises(CfcamError) as caught:
                explainer.explain(np.ones((3, 32, 48), np.float32), method="reciprocam")
        assert caught.type is ModelFileError
        assert "\n" not in str(caught.value)
        return str(caught.value)

    beside.write_bytes(tiny_path("tail").with_name("tail-nhwc.tail.onnx").read_bytes() + b"\x00")
    assert f"{beside}: is not the tail that was exported with tail.cam.onnx" in refused()
    beside.write_bytes(good[:-1])
    assert "another SHA-256" in refused()
    beside.unlink()
    assert f"{beside}: no such file; it is the tail of tail.cam.onnx" in refused()
    beside.write_bytes(good)
    with Explainer(path) as explainer:
        assert not explainer.explain(np.ones((3, 32, 48), np.float32), method="reciprocam").map.max() > 1


def test_a_tail_elsewhere_is_not_read(tiny_path, tmp_path):
    """The name comes from the file: it must not lead out of the folder."""
    from dataclasses import replace

    path = copy_of(tiny_path, "tail", tmp_path)
    spec = read_spec(path)
    assert spec.tail is not None
    for name in ("../tail.tail.onnx", str(tmp_path / "tail.tail.onnx"), ".."):
        with pytest.raises(SpecError, match=r"tail\.file: expected the name of a file beside this one"):
            replace(spec, tail=replace(spec.tail, file=name))


def test_inputs_that_are_not_as_the_model_says(tiny_path, tmp_path):
    from dataclasses import replace

    path = copy_of(tiny_path, "tail", tmp_path)
    spec = read_spec(path)
    assert spec.tail is not None
    for change in ({"inputs": ("cam_activations", "image")}, {"score": "logits"}):
        with pytest.raises(ModelFileError, match=r"tail\.tail\.onnx: expected the inputs"):
            Tail(path, replace(spec, tail=replace(spec.tail, **change)), "cpu")


def test_a_closed_explainer_opens_no_tail(tiny_path, tmp_path):
    explainer = Explainer(copy_of(tiny_path, "tail", tmp_path))
    explainer.close()
    for _ in range(2):
        with pytest.raises(EngineError, match="the explainer is closed: open the file again"):
            explainer.resolve_method("ablationcam")
    assert explainer._tail is None
