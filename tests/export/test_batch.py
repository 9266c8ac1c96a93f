"""Models whose answer for an image depends on its batch: refused, or fixed at one image, and then right."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from cfcam.export import export_onnx
from cfcam.export.errors import ExportError
from cfcam.runtime import Explainer
from onnx_classifiers import CLASSES, Builder, _features

Head = Callable[[Builder, str], object]


def gemm(b: Builder, x: str, out: str | None = None) -> str:
    pooled = b("Flatten", b("GlobalAveragePool", x))
    return b("Gemm", pooled, b.weight(CLASSES, 16), b.weight(CLASSES), transB=1, out=out)


def squeeze_before_gemm(b: Builder, x: str) -> None:
    pooled = b("Squeeze", b("GlobalAveragePool", x))
    b("Gemm", pooled, b.weight(CLASSES, 16), b.weight(CLASSES), transB=1, out="logits")


def squeeze_at_the_end(b: Builder, x: str) -> None:
    b("Squeeze", b("Conv", b("GlobalAveragePool", x), b.weight(CLASSES, 16, 1, 1)), out="logits")


def flat(b: Builder, x: str) -> None:
    b("Reshape", gemm(b, x), b.constant(np.array([-1])), out="logits")


def one_row(b: Builder, x: str) -> None:
    b("Reshape", gemm(b, x), b.constant(np.array([1, -1])), out="logits")


def one_row_of_classes(b: Builder, x: str) -> None:
    b("Reshape", gemm(b, x), b.constant(np.array([1, CLASSES])), out="logits")


def turned_to_and_fro(b: Builder, x: str) -> None:
    """Classes and batch change places, and are read in the order that this leaves."""
    turned = b("Transpose", gemm(b, x), perm=[1, 0])
    b("Reshape", turned, b.constant(np.array([-1, CLASSES])), out="logits")


def squeeze_that_does_nothing(b: Builder, x: str) -> None:
    b("Squeeze", gemm(b, x), out="logits")


def classes_by_images(b: Builder, x: str) -> None:
    b("Transpose", gemm(b, x), perm=[1, 0], out="logits")


def batch_norm_without_statistics(b: Builder, x: str) -> None:
    axes = b.constant(np.array([0, 2, 3]))
    centred = b("Sub", x, b("ReduceMean", x, axes))
    variance = b("Add", b("ReduceMean", b("Mul", centred, centred), axes), b.constant(np.float32(1e-5)))
    gemm(b, b("Relu", b("Div", centred, b("Sqrt", variance))), out="logits")


def softmax_over_the_batch(b: Builder, x: str) -> None:
    b("Softmax", gemm(b, x), axis=0, out="logits")


def mean_over_the_batch(b: Builder, x: str) -> None:
    scores = gemm(b, x)
    b("Sub", scores, b("ReduceMean", scores, b.constant(np.array([0]))), out="logits")


def saved(folder: Path, head: Head, batch: int | str = "N") -> Path:
    b = Builder()
    head(b, _features(b))
    model = b.model({"logits": ["a", "b"]}, [batch, 3, 32, 32])
    model.graph.output[0].type.tensor_type.ClearField("shape")
    onnx.save(model, folder / "net.onnx")
    return folder / "net.onnx"


@pytest.mark.parametrize(
    ("head", "batch", "note"),
    [
        (squeeze_before_gemm, "N", "in the exported file it stays"),
        (squeeze_at_the_end, "N", "in the exported file it stays"),
        (squeeze_at_the_end, 1, "in the exported file it stays"),
        (flat, "N", "fixed to 1 in the exported file: 'logits' has shape (7,) for one image and (14,) for 2"),
        (flat, 1, "gives (1, classes), not (classes,)"),
        (one_row, "N", "fixed to 1 in the exported file: 'logits' has shape (1, 7) for one image and (1, 14) for 2"),
        (turned_to_and_fro, "N", "depends on the other images of its batch"),
        (squeeze_that_does_nothing, "N", "in the exported file it stays"),
        (one_row_of_classes, "N", "the model does not run on 2 images at once (Reshape node"),
        (batch_norm_without_statistics, "N", "depends on the other images of its batch"),
    ],
)
def test_what_is_right_for_one_image_is_exported(head: Head, batch: int | str, note: str, tmp_path: Path) -> None:
    """What is shown of a photo is what the model says of it alone, whatever company it is given in."""
    path = saved(tmp_path, head, batch)
    report = export_onnx(path, tmp_path / "x.cam.onnx")
    assert [line for line in report.warnings if note in line], report.warnings
    images = np.random.default_rng(0).standard_normal((3, 3, 32, 32)).astype(np.float32)
    with Explainer(report.path) as explainer:
        together = explainer.tensors(images)
        alone = [explainer.tensors(images[i : i + 1]) for i in range(3)]
    assert together.scores.shape == (3, CLASSES)
    np.testing.assert_allclose(together.scores, np.concatenate([one.scores for one in alone]), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(
        together.gradients, np.concatenate([one.gradients for one in alone]), rtol=1e-3, atol=1e-6
    )
    if head is not squeeze_before_gemm:  # which does not run on a single image
        source = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        for image, one in zip(images, alone, strict=True):
            said = np.asarray(source.run(None, {"image": image[None]})[0]).reshape(-1)
            np.testing.assert_allclose(one.scores[0], said, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("head", "batch", "words"),
    [
        (softmax_over_the_batch, "N", "the same for every image that is given alone"),
        (softmax_over_the_batch, 2, "depends on the other images of its batch of 2"),
        (mean_over_the_batch, "N", "the same for every image that is given alone"),
        (mean_over_the_batch, 1, "the same for every image that is given alone"),
        (mean_over_the_batch, 2, "depends on the other images of its batch of 2"),
        (classes_by_images, "N", "has 7 rows for 1 image, expected one row per image: where its rows are the classes"),
        (turned_to_and_fro, 4, "depends on the other images of its batch of 4"),
        (batch_norm_without_statistics, 5, "depends on the other images of its batch of 5"),
    ],
)
def test_what_has_no_answer_for_one_image_is_refused(head: Head, batch: int | str, words: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=words):
        export_onnx(saved(tmp_path, head, batch), tmp_path / "x.cam.onnx")
    assert not (tmp_path / "x.cam.onnx").exists()


@pytest.mark.parametrize("size", [0, -1])
def test_a_batch_of_0_or_less_is_free(size: int, tmp_path: Path) -> None:
    report = export_onnx(saved(tmp_path, lambda b, x: gemm(b, x, out="logits"), size), tmp_path / "x.cam.onnx")
    shape = onnx.load(report.path).graph.input[0].type.tensor_type.shape
    assert shape.dim[0].dim_param
    with Explainer(report.path) as explainer:
        assert explainer.tensors(np.zeros((4, 3, 32, 32), np.float32)).scores.shape == (4, CLASSES)
