"""Which nodes lie between a layer and the score, and which of them stop a gradient."""

from __future__ import annotations

import numpy as np
import pytest
from cfcam.export.graph import Graph
from cfcam.export.reverse.path import find_path, refusal
from onnx import TensorProto, helper
from small_graphs import make, normal


def graph_of(*nodes, outputs=("y",), **constants) -> Graph:
    return Graph(make(list(nodes), constants, outputs=outputs))


def test_only_what_depends_on_the_layer_and_reaches_the_score_is_on_the_path() -> None:
    graph = graph_of(
        helper.make_node("Relu", ["x"], ["before"], name="front"),
        helper.make_node("Neg", ["before"], ["layer"], name="maker"),
        helper.make_node("Abs", ["layer"], ["a"], name="abs"),
        helper.make_node("Exp", ["layer"], ["side"], name="side"),
        helper.make_node("Mul", ["a", "before"], ["y"], name="product"),
        outputs=("y", "side"),
    )
    path = find_path(graph, ["layer"], ["y"])
    assert [node.name for node in path.nodes] == ["abs", "product"]
    assert path.values == {"layer", "a", "y"}


def test_a_layer_behind_another_lets_the_way_of_the_first_through() -> None:
    graph = graph_of(
        helper.make_node("Relu", ["x"], ["first"], name="r"),
        helper.make_node("Neg", ["first"], ["second"], name="n"),
        helper.make_node("Abs", ["second"], ["y"], name="a"),
    )
    assert [node.name for node in find_path(graph, ["first", "second"], ["y"]).nodes] == ["n", "a"]
    assert [node.name for node in find_path(graph, ["second"], ["y"]).nodes] == ["a"]


def test_shapes_and_masks_end_a_way() -> None:
    graph = graph_of(
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Greater", ["x", "zero"], ["mask"]),
        helper.make_node("Expand", ["zero", "shape"], ["none"]),
        helper.make_node("Where", ["mask", "one", "none"], ["y"]),
        zero=np.zeros(4, np.float32),
        one=np.ones(4, np.float32),
    )
    path = find_path(graph, ["x"], ["y"])
    assert (path.nodes, path.values) == ([], set())


def test_quantised_values_do_not_end_it() -> None:
    graph = graph_of(
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], name="q"),
        helper.make_node("Reshape", ["q", "flat"], ["r"], name="reshape"),
        helper.make_node("DequantizeLinear", ["r", "s", "z"], ["y"], name="dq"),
        s=np.array(0.1, np.float32),
        z=np.array(0, np.int8),
        flat=np.array([-1]),
    )
    assert [node.name for node in find_path(graph, ["x"], ["y"]).nodes] == ["q", "reshape", "dq"]


def test_what_a_body_reads_from_outside_counts() -> None:
    info = helper.make_tensor_value_info("r", TensorProto.FLOAT, None)
    bodies = [helper.make_graph([helper.make_node(op, ["x"], ["r"])], op, [], [info]) for op in ("Relu", "Neg")]
    fork = helper.make_node("If", ["flag"], ["y"], name="fork", then_branch=bodies[0], else_branch=bodies[1])
    path = find_path(graph_of(fork, flag=np.array(True)), ["x"], ["y"])
    assert [node.name for node in path.nodes] == ["fork"]
    assert path.values == {"x", "y"}


@pytest.mark.parametrize(
    ("operator", "domain", "sentence"),
    [
        ("Loop", "", "Loop node 'n': control flow lies between the layer and the score; choose a layer behind it"),
        ("If", "ai.onnx", "If node 'n': control flow"),
        ("If", "vendor", "vendor::If node 'n' has no derivative rule"),
        ("LSTM", "", "LSTM node 'n': a recurrence between the layer and the score"),
        ("QLinearConv", "", "an integer-only quantised operator has no gradient; quantise the model in QDQ form"),
        ("QLinearAdd", "com.microsoft", "com.microsoft::QLinearAdd node 'n': an integer-only quantised operator"),
        ("GridSample", "", "GridSample node 'n' has no derivative rule"),
    ],
)
def test_each_kind_of_obstacle_has_its_sentence(operator: str, domain: str, sentence: str) -> None:
    reason = refusal(helper.make_node(operator, ["x"], ["y"], name="n", domain=domain))
    assert reason is not None
    assert sentence in reason


def test_an_operator_with_a_rule_is_no_obstacle() -> None:
    graph = graph_of(helper.make_node("Gemm", ["x", "w"], ["y"]), w=normal(4, 2))
    assert refusal(graph.nodes[0]) is None
