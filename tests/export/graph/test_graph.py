"""A graph answers questions about its values."""

from __future__ import annotations

import numpy as np
from cfcam.export.graph import (
    Graph,
)
from onnx import TensorProto, helper
from onnx_gradcheck import run_ort
from small_graphs import make, normal


def test_questions() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("Neg", ["a"], ["b"]),
        helper.make_node("Abs", ["x"], ["side"]),
        helper.make_node("Add", ["b", "c"], ["y"]),
    ]
    graph = Graph(make(nodes, {"c": normal(4)}))
    assert graph.shape("b") == ("N", 4)
    assert graph.is_float("b")
    assert graph.shape("unknown") is None
    assert graph.ancestors(["y"]) == {"x", "a", "b", "c", "y"}
    assert graph.descendants(["x"]) == {"x", "a", "b", "side", "y"}
    assert graph.ancestors(["y"], stops={"b"}) == {"b", "c", "y"}
    assert graph.fresh("a") == "a_1"
    assert graph.fresh("a") == "a_2"
    constant = graph.constant("c")
    assert constant is not None
    assert constant.shape == (4,)
    assert graph.constant("a") is None


def test_names_inside_bodies_count_as_uses() -> None:
    info = helper.make_tensor_value_info("r", TensorProto.FLOAT, None)
    bodies = [helper.make_graph([helper.make_node(op, ["a"], ["r"])], op, [], [info]) for op in ("Relu", "Neg")]
    nodes = [
        helper.make_node("Abs", ["x"], ["a"]),
        helper.make_node("If", ["flag"], ["y"], then_branch=bodies[0], else_branch=bodies[1]),
    ]
    graph = Graph(make(nodes, {"flag": np.array(True)}))
    assert "a" in graph.ancestors(["y"])
    graph.rename("a", "renamed")
    x = normal(2, 4)
    np.testing.assert_array_equal(run_ort(graph.to_model(), {"x": x})[0], np.abs(x))
