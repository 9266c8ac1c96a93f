"""The backward walk against derivatives worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from cfcam.export.errors import ExportError, UnsupportedOperatorError
from cfcam.export.graph import Graph
from cfcam.export.reverse import registry
from cfcam.export.reverse.core import backward, expose
from cfcam.export.reverse.emitter import Emitter, Value
from onnx import NodeProto, helper
from onnx_gradcheck import run_ort
from small_graphs import make, normal


def walk(
    nodes: list[NodeProto], seeds: dict[str, float], wrt: list[str], outputs=("y",), **constants
) -> tuple[Graph, dict[str, Value | None]]:
    """Backward from values of shape (N, 4) whose gradients are these numbers everywhere."""
    graph = Graph(make(nodes, constants, outputs=outputs))
    emitter = Emitter(graph)
    given = {name: emitter.constant(np.full((1, 1), value, np.float32)) for name, value in seeds.items()}
    return graph, backward(graph, emitter, given, wrt)


def numbers(graph: Graph, slopes: dict[str, Value | None], x: np.ndarray) -> list[np.ndarray]:
    graph.outputs = []
    for name, slope in slopes.items():
        assert slope is not None
        expose(graph, slope, f"d_{name}")
        graph.outputs.append(helper.make_tensor_value_info(f"d_{name}", slope.kind, None))
    return [np.broadcast_to(value, x.shape) for value in run_ort(graph.to_model(), {"x": x})]


def test_one_walk_reaches_a_layer_and_the_layer_before_it() -> None:
    """y = a * b with a = exp(x), b = a + x: dy/da = b + a, dy/dx = (b + a) e^x + a."""
    nodes = [
        helper.make_node("Exp", ["x"], ["a"]),
        helper.make_node("Add", ["a", "x"], ["b"]),
        helper.make_node("Mul", ["a", "b"], ["y"]),
    ]
    x = normal(2, 4)
    a = np.exp(x)
    b = a + x
    graph, slopes = walk(nodes, {"y": 1.0}, ["a", "x"])
    for found, want in zip(numbers(graph, slopes, x), (b + a, (b + a) * a + a), strict=True):
        np.testing.assert_allclose(found, want, rtol=1e-5)


def test_several_seeds_add_up() -> None:
    """Two outputs, 3 sin(x) and its square, with gradients 2 and 5: dx = (2 + 5 * 2 y) 3 cos(x)."""
    nodes = [
        helper.make_node("Sin", ["x"], ["s"]),
        helper.make_node("Mul", ["s", "three"], ["y"]),
        helper.make_node("Mul", ["y", "y"], ["z"]),
    ]
    x = normal(2, 4)
    graph, slopes = walk(nodes, {"y": 2.0, "z": 5.0}, ["x"], ("y", "z"), three=np.array(3, np.float32))
    want = (2 + 10 * 3 * np.sin(x)) * 3 * np.cos(x)
    np.testing.assert_allclose(numbers(graph, slopes, x)[0], want, rtol=1e-5)


def test_zero_is_none_and_a_constant_slope_keeps_axes_of_one() -> None:
    nodes = [
        helper.make_node("Round", ["x"], ["r"]),
        helper.make_node("Neg", ["r"], ["n"]),
        helper.make_node("Abs", ["x"], ["side"]),
        helper.make_node("Add", ["n", "side"], ["y"]),
    ]
    _, slopes = walk(nodes, {"y": 1.0}, ["n", "r"])
    assert all(slope is not None and slope.shape == (1, 1) for slope in slopes.values())
    _, slopes = walk([nodes[0], helper.make_node("Exp", ["r"], ["y"])], {"y": 1.0}, ["x"])
    assert slopes == {"x": None}


def test_an_operator_without_a_rule_is_named_with_the_value_where_the_walk_stopped() -> None:
    nodes = [helper.make_node("Det", ["x"], ["d"], name="odd"), helper.make_node("Neg", ["d"], ["y"])]
    graph = Graph(make(nodes, inputs={"x": ["N", 2, 2]}))
    emitter = Emitter(graph)
    with pytest.raises(UnsupportedOperatorError, match="Det node 'odd' has no derivative rule") as caught:
        backward(graph, emitter, {"y": emitter.constant(np.ones(1, np.float32))}, ["x"])
    assert caught.value.value == "d"


def _wrong_shape(c: registry.Context):
    return {0: c.e.unsqueeze(c.g, [0])}


def _wrong_attribute(c: registry.Context):
    return {0: c.e.transpose(c.g, [0, 7])}


@pytest.mark.parametrize(
    ("derive", "sentence"),
    [
        (_wrong_shape, r"the rule of Neg node 'n' made a gradient of shape \(1, 1, 1\) for 'x' of shape \('N', 4\)"),
        (_wrong_attribute, r"Neg node 'n' cannot be differentiated: its inputs or attributes do not fit .*IndexError"),
    ],
)
def test_what_a_rule_makes_is_checked(derive, sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry._RULES, ("", "Neg"), registry.Rule(derive))
    with pytest.raises(ExportError, match=sentence):
        walk([helper.make_node("Neg", ["x"], ["y"], name="n")], {"y": 1.0}, ["x"])
