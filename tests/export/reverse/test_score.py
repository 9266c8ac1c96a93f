"""Which output has the scores, and the classes that they stand for."""

from __future__ import annotations

import numpy as np
import pytest
from cfcam.export.errors import ExportError
from cfcam.export.graph import Graph
from cfcam.export.reverse.opening import open_model
from cfcam.export.reverse.score import both_sides, find_score, similarity_score
from onnx import NodeProto, TensorProto
from score_heads import head, integers, logits, node, run

ONE = np.array([[1.0], [-2.0], [0.5], [0.0], [1.0]], np.float32)


def opened(nodes: list[NodeProto], constants: dict | None = None, *outputs: str, classes: int = 5) -> Graph:
    kinds = {name: int(TensorProto.FLOAT) for name in outputs or ("out",)}
    return open_model(head(nodes, constants, kinds, classes=classes))[0]


def test_classes_come_before_a_single_number_and_before_features() -> None:
    heads = [
        node("MatMul", ["logits", "one"], ["age"]),
        node("MatMul", ["logits", "three"], ["mood"]),
        node("MatMul", ["logits", "three"], ["other"]),
    ]
    weights = {"one": ONE, "three": np.ones((5, 3), np.float32)}
    graph = opened(heads, weights, "age", "logits", "mood", "other")
    graph.rename("logits", "embedding")
    for output in graph.outputs:
        output.name = output.name.replace("logits", "embedding")
    score = find_score(graph)
    assert (score.output, score.classes) == ("mood", 3)
    assert "'age' (N, 1), 'embedding' (N, 5), 'mood' (N, 3), 'other' (N, 3), 'mood' was taken" in score.notes[0]
    assert "'embedding' is what others are computed from; --score NAME takes another" in score.notes[0]
    assert find_score(graph, kind="regression").output == "age"
    # One output: nothing to choose, nothing to say.
    assert find_score(opened([node("MatMul", ["logits", "one"], ["out"])], weights)).notes == ()


def test_logits_and_their_softmax_are_one_head() -> None:
    graph = opened([node("Softmax", ["logits"], ["p"], axis=1)], None, "logits", "p")
    score = find_score(graph)
    assert (score.output, score.value) == ("logits", "logits")


@pytest.mark.parametrize("shape", [None, (-1,)])
@pytest.mark.parametrize("inside", [True, False])
def test_one_logit_stands_for_two_classes(inside: bool, shape: tuple[int, ...] | None) -> None:
    nodes = [node("Sigmoid", ["logits"], ["p"])] if inside else [node("Identity", ["logits"], ["p"])]
    nodes.append(node("Reshape", ["p", "shape"], ["out"]) if shape else node("Identity", ["p"], ["out"]))
    graph = opened(nodes, {"shape": integers(*shape)} if shape else None, classes=1)
    score = both_sides(graph, find_score(graph))
    assert (score.kind, score.classes, score.columns, score.signs) == ("binary", 2, (0, 0), (-1, 1))
    z = logits(classes=1)
    np.testing.assert_allclose(run(graph, score.value)[score.value], np.concatenate([-z, z], 1), rtol=1e-6)


def test_a_regression_is_larger_or_smaller() -> None:
    graph = opened([node("Sigmoid", ["logits"], ["out"])], classes=2)
    score = both_sides(graph, find_score(graph, kind="regression"))
    assert (score.kind, score.classes, score.signs) == ("regression", 4, (1, 1, -1, -1))
    values = 1 / (1 + np.exp(-logits(classes=2)))
    np.testing.assert_allclose(run(graph, score.value)[score.value], np.concatenate([values, -values], 1), atol=1e-6)


def test_similarity_is_the_cosine() -> None:
    graph = opened([node("Identity", ["logits"], ["out"])])
    wanted = np.array([1.0, -2, 0.5, 3, 1])
    score = similarity_score(graph, None, wanted)
    z = logits()
    expected = z @ wanted / np.linalg.norm(z, axis=1) / np.linalg.norm(wanted)
    np.testing.assert_allclose(run(graph, score.value)[score.value][:, 0], expected, rtol=1e-5)
    with pytest.raises(ExportError, match=r"reference: has 4 numbers, and no such output"):
        similarity_score(graph, None, wanted[:4])
    with pytest.raises(ExportError, match="finite numbers that are not all zero"):
        similarity_score(graph, None, 0 * wanted)


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_probabilities_that_only_people_know_to_be_some(kind: str) -> None:
    """The logarithm takes the logits' place: its softmax (sigmoid) is the probability itself."""
    total = node("ReduceSum", ["s", "axis"], ["t"])
    shares = [node("Softplus", ["logits"], ["s"]), total, node("Div", ["s", "t"], ["out"])]
    graph = opened(shares, {"axis": integers(1)})
    assert find_score(graph).recognised is False
    score = find_score(graph, kind=kind)  # type: ignore[arg-type]
    values = run(graph, score.value)
    p = values["out"].astype(np.float64)
    expected = np.log(p) if kind == "softmax" else np.log(p / (1 - p))
    np.testing.assert_allclose(values[score.value], expected, rtol=1e-4, atol=1e-5)


def test_integers_are_dequantised_by_their_own_scale() -> None:
    steps = {"s": np.array(0.25, np.float32), "z": np.array(3, np.int8)}
    model = head([node("QuantizeLinear", ["logits", "s", "z"], ["out"])], steps, {"out": TensorProto.INT8})
    graph, _ = open_model(model)
    score = find_score(graph)
    held = run(graph, score.output)[score.output]
    np.testing.assert_allclose(held, (np.round(logits() / 0.25) * 0.25).clip(-32.75, 31), atol=1e-6)


STEPS = {"s": np.array(0.05, np.float32), "z": np.array(3, np.int8)}
PAIR = [node("QuantizeLinear", ["logits", "s", "z"], ["q"]), node("DequantizeLinear", ["q", "s", "z"], ["d"])]
ROUNDED = ((np.round(logits() / 0.05) + 3).clip(-128, 127) - 3) * 0.05


def test_quantisers_right_behind_logits_are_stepped_over() -> None:
    assert (np.abs(ROUNDED - logits()) > 0.1).any(axis=0).all()  # each class lies beyond the range now and then
    shape = {"shape": integers(-1, 5, 1)}
    graph = opened([*PAIR, node("Reshape", ["d", "shape"], ["out"])], {**STEPS, **shape})
    score = find_score(graph)
    assert (score.output, score.value, score.kind, score.exact) == ("out", "logits", "logits", False)
    between = [*PAIR, node("MatMul", ["d", "square"], ["out"])]  # a layer of weights is the network's own
    score = find_score(opened(between, {**STEPS, "square": np.eye(5, dtype=np.float32)}))
    assert (score.value, score.exact) == ("out", True)


def test_a_quantised_regression_shows_what_the_model_gives() -> None:
    graph = opened([*PAIR, node("Identity", ["d"], ["out"])], STEPS)
    score = both_sides(graph, find_score(graph, kind="regression"))
    values = run(graph, score.output, score.value)
    np.testing.assert_allclose(values[score.output], np.concatenate([ROUNDED, -ROUNDED], 1), atol=1e-5)
    np.testing.assert_allclose(values[score.value], np.concatenate([logits(), -logits()], 1), atol=1e-5)
    assert not score.exact
