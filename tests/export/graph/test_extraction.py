"""A part of a graph is cut out."""

from __future__ import annotations

import numpy as np
import pytest
from cfcam.export.errors import ExportError
from cfcam.export.graph import (
    Graph,
    extract,
)
from onnx import helper
from onnx_gradcheck import run_ort
from small_graphs import make, normal


def test_cutting_out_a_tail() -> None:
    nodes = [
        helper.make_node("Mul", ["x", "k"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Add", ["b", "c"], ["y"]),
    ]
    graph = Graph(make(nodes, {"k": np.array(3, np.float32), "c": normal(4)}))
    tail = extract(graph, ["a"], ["y"])
    assert [n.op_type for n in tail.graph.node] == ["Relu", "Add"]
    assert [i.name for i in tail.graph.input] == ["a"]
    assert [t.name for t in tail.graph.initializer] == ["c"]
    x = normal(2, 4)
    np.testing.assert_array_equal(run_ort(tail, {"a": 3 * x})[0], run_ort(graph.to_model(), {"x": x})[0])
    with pytest.raises(ExportError, match="no value 'nowhere'"):
        extract(graph, ["nowhere"], ["y"])
