"""Constants are folded, weights are not."""

from __future__ import annotations

import numpy as np
from cfcam.export.graph import (
    Graph,
    fold_constants,
)
from onnx import helper
from small_graphs import make, normal


def test_folding_shape_arithmetic() -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "zero"], ["n"], axis=0),
        helper.make_node("Mul", ["n", "two"], ["m"]),
        helper.make_node("Concat", ["m", "rest"], ["target"], axis=0),
        helper.make_node("Reshape", ["x", "target"], ["y"]),
    ]
    constants = {"zero": np.array([0]), "two": np.array([2]), "rest": np.array([-1])}
    graph = Graph(make(nodes, constants, inputs={"x": [3, 4]}))
    assert fold_constants(graph) == 4
    assert [n.op_type for n in graph.nodes] == ["Reshape"]
    target = graph.constant("target")
    assert target is not None
    assert target.tolist() == [6, -1]
    assert graph.shape("y") == (6, 2)


def test_weights_are_not_folded() -> None:
    nodes = [helper.make_node("Transpose", ["w"], ["t"]), helper.make_node("MatMul", ["x", "t"], ["y"])]
    graph = Graph(make(nodes, {"w": normal(300, 4)}))
    assert fold_constants(graph) == 0
