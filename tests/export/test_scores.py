"""Exported files whose heads are not plain logits: what they show, what they differentiate, what they refuse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from cfcam.export import ExportError, export_onnx
from cfcam.export.layers import list_layers
from cfcam.export.report import ExportReport
from cfcam.runtime import Explainer
from numpy.typing import NDArray
from onnx import TensorProto
from score_heads import IMAGES, head, integers, logits, node

SOFTMAX = [node("Softmax", ["logits"], ["p"], axis=1)]


def exported(tmp_path: Path, model: onnx.ModelProto, **options: Any) -> ExportReport:
    onnx.save(model, tmp_path / "net.onnx")
    return export_onnx(tmp_path / "net.onnx", tmp_path / "net.cam.onnx", **options)


def weights() -> NDArray[np.float32]:
    return 3 * np.random.default_rng(0).standard_normal((4 * 27 + 20,))[108:].reshape(4, 5).astype(np.float32)


def softmax(z: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.exp(z) / np.exp(z).sum(1, keepdims=True)


def test_percent_shows_the_softmax_and_differentiates_the_logits(tmp_path: Path) -> None:
    percent = node("Mul", ["p", "h"], ["out"])
    report = exported(tmp_path, head([*SOFTMAX, percent], {"h": np.array(100, np.float32)}))
    assert "probability as the source gives it" in [check.name for check in report.proof.checks]
    with Explainer(report.path) as explainer:
        np.testing.assert_allclose(explainer.probabilities(IMAGES), softmax(logits()), atol=1e-6)
        gradients = explainer.tensors(IMAGES, 3).gradients
    np.testing.assert_allclose(gradients.sum((2, 3)), np.broadcast_to(weights()[:, 3], (6, 4)), rtol=1e-5)


def test_the_mean_of_views_shows_its_own_top_class(tmp_path: Path) -> None:
    views = [
        *SOFTMAX,
        node("Mul", ["logits", "turn"], ["n"]),
        node("Softmax", ["n"], ["p2"], axis=1),
        node("Mean", ["p", "p2"], ["out"]),
    ]
    report = exported(tmp_path, head(views, {"turn": np.array(-0.3, np.float32)}))
    assert report.spec.output.partial
    expected = (softmax(logits()) + softmax(-0.3 * logits())) / 2
    with Explainer(report.path) as explainer:
        np.testing.assert_allclose(explainer.probabilities(IMAGES), expected, atol=1e-6)
        np.testing.assert_array_equal(explainer.tensors(IMAGES).classes, expected.argmax(1))


def test_a_dictionary_is_left_out_and_its_labels_are_kept(tmp_path: Path) -> None:
    labels = ["ant", "bee", "cat", "dog", "elk"]
    nodes = [
        *SOFTMAX,
        node("ZipMap", ["p"], ["loss"], domain="ai.onnx.ml", classlabels_strings=labels),
        node("ArgMax", ["p"], ["best"], axis=1),
        node("ArrayFeatureExtractor", ["names", "best"], ["label"], domain="ai.onnx.ml"),
    ]
    model = head(nodes, {"names": np.array(labels, object)}, {"label": TensorProto.STRING})
    number = onnx.helper.make_tensor_type_proto(TensorProto.FLOAT, [])
    kind = onnx.helper.make_map_type_proto(TensorProto.STRING, number)
    model.graph.output.append(onnx.helper.make_value_info("loss", onnx.helper.make_sequence_type_proto(kind)))
    report = exported(tmp_path, model)
    assert list_layers(tmp_path / "net.onnx").score == "logits"
    assert report.spec.output.labels == tuple(labels)
    assert any("'label', 'loss': no tensor of numbers, left out; 'p' holds" in note for note in report.warnings)
    with Explainer(report.path) as explainer:
        np.testing.assert_allclose(explainer.probabilities(IMAGES), softmax(logits()), atol=1e-6)


SHARES = [
    node("Softplus", ["logits"], ["s"]),
    node("ReduceSum", ["s", "axis"], ["t"]),
    node("Div", ["s", "t"], ["out"]),
]
UNIT = [node("LpNormalization", ["logits"], ["out"], axis=1, p=2)]


def test_numbers_that_add_up_to_one_are_no_logits(tmp_path: Path) -> None:
    model = head(SHARES, {"axis": integers(1)})
    with pytest.raises(ExportError, match=r"add up to 1 on all .* --score-kind softmax"):
        exported(tmp_path, model)
    assert not (tmp_path / "net.cam.onnx").exists()
    report = exported(tmp_path, model, score_kind="softmax")
    soft = np.log1p(np.exp(logits()))
    with Explainer(report.path) as explainer:
        np.testing.assert_allclose(explainer.probabilities(IMAGES), soft / soft.sum(1, keepdims=True), atol=1e-5)
    report = exported(tmp_path, model, score="logits")
    assert report.spec.output.name == "logits"


def test_numbers_between_zero_and_one_are_pointed_out(tmp_path: Path) -> None:
    scaled = node("Mul", ["a", "third"], ["b"])
    squashed = [node("Atan", ["logits"], ["a"]), scaled, node("Add", ["b", "half"], ["out"])]
    numbers = {"third": np.array(1 / np.pi, np.float32), "half": np.array(0.5, np.float32)}
    report = exported(tmp_path, head(squashed, numbers))
    assert any("'out' lies between 0 and 1" in note and "--score-kind sigmoid" in note for note in report.warnings)
    report = exported(tmp_path, head(squashed, numbers), score_kind="sigmoid")
    assert (report.spec.output.kind, [n for n in report.warnings if "lies between" in n]) == ("sigmoid", [])


def test_an_embedding_has_no_classes_and_a_similarity(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"vector of length 1 .* --reference FILE.npy"):
        exported(tmp_path, head(UNIT))
    reference = np.array([1.0, 2, 0, -1, 0.5])
    report = exported(tmp_path, head(UNIT), reference=reference)
    assert report.spec.output.labels == ("similarity+", "similarity-")
    z = logits()
    cosine = z @ reference / np.linalg.norm(z, axis=1) / np.linalg.norm(reference)
    with Explainer(report.path) as explainer:
        found = explainer.explain_batch(list(IMAGES), "+")
        assert explainer.explain(IMAGES[0], "similarity-").target == 1
    np.testing.assert_allclose([one.value or 0 for one in found], cosine, rtol=1e-4)


def test_a_regression_has_a_value_and_two_directions(tmp_path: Path) -> None:
    model = head(outputs={"logits": TensorProto.FLOAT}, classes=2)
    options = {"score_kind": "regression", "unit": "years", "labels": ["age", "height"]}
    report = exported(tmp_path, model, **options)
    assert report.spec.output.labels == ("age+", "height+", "age-", "height-")
    with Explainer(report.path) as explainer:
        found = {name: explainer.explain(IMAGES[1], name, "gradcam") for name in ("age+", "age-", "1-", "height")}
        slopes = {name: explainer.tensors(IMAGES[1:2], name).gradients for name in ("age+", "age-")}
        default = explainer.explain(IMAGES[1])
    np.testing.assert_allclose(slopes["age-"], -slopes["age+"])
    z = logits(classes=2)[1]
    assert [found[name].target for name in found] == [0, 2, 3, 1]
    np.testing.assert_allclose([one.value or 0 for one in found.values()], [z[0], z[0], z[1], z[1]], rtol=1e-5)
    assert (default.target, default.probability, default.unit) == (0, None, "years")
    assert default.measured == f"{default.value:.4g} years"
    assert default.to_dict()["probability"] is None
    with pytest.raises(ExportError, match="unit: only a regression's values have one"):
        exported(tmp_path, model, unit="years")


def test_a_score_beyond_its_quantisers_range_has_the_gradient_of_the_score(tmp_path: Path) -> None:
    steps = {"s": np.array(0.05, np.float32), "z": np.array(0, np.int8)}
    pair = [node("QuantizeLinear", ["logits", "s", "z"], ["q"]), node("DequantizeLinear", ["q", "s", "z"], ["out"])]
    report = exported(tmp_path, head(pair, steps))
    assert any("'out' is quantised: the gradient is that of 'logits' before it" in note for note in report.warnings)
    rounded = (logits() / 0.05).round().clip(-128, 127) * 0.05
    with Explainer(report.path) as explainer:
        np.testing.assert_allclose(explainer.probabilities(IMAGES), softmax(rounded), atol=1e-5)
        found = explainer.tensors(IMAGES)
    assert (logits().max(axis=1) > 6.4).any()
    expected = weights()[:, found.classes].T
    np.testing.assert_allclose(found.gradients.sum((2, 3)), expected, rtol=1e-5)
