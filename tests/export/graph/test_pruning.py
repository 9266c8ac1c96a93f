"""What nobody needs goes, and nothing is computed twice."""

from __future__ import annotations

import numpy as np
from cfcam.export.graph import (
    Graph,
    prune,
    share_subexpressions,
)
from onnx import helper
from onnx_gradcheck import run_ort
from small_graphs import make, normal


def test_sharing_and_pruning() -> None:
    nodes = [
        helper.make_node("Mul", ["x", "a"], ["m1"]),
        helper.make_node("Mul", ["x", "b"], ["m2"]),
        helper.make_node("Relu", ["m1"], ["r1"]),
        helper.make_node("Relu", ["m2"], ["r2"]),
        helper.make_node("Tanh", ["m2"], ["dead"]),
        helper.make_node("Add", ["r1", "r2"], ["y"]),
    ]
    source = make(nodes, {"a": np.array(2, np.float32), "b": np.array(2, np.float32)})
    graph = Graph(source)
    assert share_subexpressions(graph) == 2
    assert prune(graph) == 1
    assert [n.op_type for n in graph.nodes] == ["Mul", "Relu", "Add"]
    assert list(graph.constants) == ["a"]
    x = normal(2, 4)
    np.testing.assert_array_equal(run_ort(graph.to_model(), {"x": x})[0], run_ort(source, {"x": x})[0])


def test_random_nodes_are_not_shared() -> None:
    nodes = [helper.make_node("RandomNormalLike", ["x"], [f"r{i}"]) for i in range(2)]
    graph = Graph(make([*nodes, helper.make_node("Sub", ["r0", "r1"], ["y"])]))
    assert share_subexpressions(graph) == 0
