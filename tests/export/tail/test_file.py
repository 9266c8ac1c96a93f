"""The tail as a file of its own: its inputs, its scores, and how they answer to the activations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_classifiers
import onnxruntime as ort
import pytest
from cfcam.export import export_onnx
from cfcam.export.sources.preprocessing import preset
from cfcam.export.tail.file import tail_path
from cfcam.runtime.contract.modelfile import file_sha256
from onnx import ModelProto

STRETCH = preset("tf").override(mode="stretch")


def saved(folder: Path, model: ModelProto) -> Path:
    onnx.save(model, folder / "net.onnx")
    return folder / "net.onnx"


def session(path: Path) -> ort.InferenceSession:
    return ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize(
    ("output", "expected"),
    [("x.cam.onnx", "x.tail.onnx"), ("a/x.onnx", "a/x.tail.onnx"), ("x.camera.onnx", "x.camera.tail.onnx")],
)
def test_its_name_is_made_from_the_files(output: str, expected: str) -> None:
    assert tail_path(output) == Path(expected)


@pytest.mark.parametrize("which", ["default", "middle"])
@pytest.mark.parametrize("name", onnx_classifiers.NETS)
def test_the_tail_file_gives_the_scores(name: str, which: str, tmp_path: Path) -> None:
    layer = None if which == "default" else onnx_classifiers.NETS[name][1]
    report = export_onnx(
        saved(tmp_path, onnx_classifiers.make(name)), tmp_path / "net.cam.onnx", layer=layer, with_tail=True,
        preprocessing=STRETCH,
    )  # fmt: skip
    tail = report.spec.tail
    assert tail is not None
    assert tail.file == "net.tail.onnx"
    assert tail.sha256 == file_sha256(tmp_path / tail.file)
    needs_image = name == "tokens" or (name == "branch" and which == "middle")
    assert tail.inputs == (("cam_activations", "image") if needs_image else ("cam_activations",))
    opened = session(tmp_path / tail.file)
    first = opened.get_inputs()[0]
    assert (first.name, first.type) == ("cam_activations", "tensor(float)")
    assert first.shape[1:] == [report.spec.layer.channels, *report.spec.layer.grid]
    assert [o.name for o in opened.get_outputs()] == [tail.score]
    assert opened.get_outputs()[0].shape[1:] == [report.spec.output.classes]
    # Not only from the activations as they were: the scores answer to a change as the gradient says.
    cam = session(tmp_path / "net.cam.onnx")
    shape = cam.get_inputs()[0].shape
    image = np.random.default_rng(0).standard_normal((3, *shape[1:]))
    image = image.astype(np.float16 if name == "half" else np.float32)
    given = dict(
        zip([o.name for o in cam.get_outputs()], cam.run(None, {"image": image, "cam_target": [0] * 3}), strict=True)
    )
    activations, gradients = (np.asarray(given[n], np.float64) for n in ("cam_activations", "cam_gradients"))

    def score(maps: np.ndarray) -> np.ndarray:
        feeds = {"cam_activations": maps.astype(np.float32), "image": image}
        return np.asarray(opened.run(None, {n: feeds[n] for n in tail.inputs})[0], np.float64)[:, 0]

    step = 1e-2 * np.abs(activations).mean() * np.sign(gradients)
    moved = (score(activations + step) - score(activations - step)) / 2
    expected = (gradients * step).sum((1, 2, 3))
    if name == "quantised":  # rounding to steps hides small changes
        return
    np.testing.assert_allclose(moved, expected, rtol=0.1)


def test_the_tail_starts_no_second_copy_of_the_front(tmp_path: Path) -> None:
    export_onnx(saved(tmp_path, onnx_classifiers.plain()), tmp_path / "a.onnx", layer="middle", with_tail=True)
    assert {n.op_type for n in onnx.load(tmp_path / "a.tail.onnx").graph.node} == {
        "Conv", "Flatten", "Gemm", "GlobalAveragePool", "Relu"
    }  # fmt: skip
