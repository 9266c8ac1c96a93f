"""Batch norms go into convolutions, where nothing else needs their input."""

from __future__ import annotations

import numpy as np
from cfcam.export.graph import (
    Graph,
    fold_batch_norms,
    prune,
)
from onnx import ModelProto, helper
from onnx_gradcheck import run_ort
from small_graphs import make, normal


def normed(extra=(), outputs=("y",)) -> ModelProto:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("BatchNormalization", ["c", "s", "b", "m", "v"], ["y"], epsilon=1e-3),
        *extra,
    ]
    constants = {"w": normal(5, 3, 3, 3), "s": normal(5), "b": normal(5), "m": normal(5), "v": np.abs(normal(5)) + 1}
    return make(nodes, constants, inputs={"x": ["N", 3, 6, 6]}, outputs=outputs)


def test_batch_norm_folding() -> None:
    source = normed()
    graph = Graph(source)
    assert fold_batch_norms(graph) == 1
    prune(graph)
    assert [n.op_type for n in graph.nodes] == ["Conv"]
    assert len(graph.constants) == 2
    x = normal(2, 3, 6, 6)
    np.testing.assert_allclose(run_ort(graph.to_model(), {"x": x})[0], run_ort(source, {"x": x})[0], atol=1e-5)


def test_batch_norm_is_kept_where_its_input_is_needed() -> None:
    assert fold_batch_norms(Graph(normed()), keep={"c"}) == 0
    assert fold_batch_norms(Graph(normed()), only={"other"}) == 0
    assert fold_batch_norms(Graph(normed(outputs=("y", "c")))) == 0
    shared = [helper.make_node("Conv", ["x", "w"], ["c2"])]
    assert fold_batch_norms(Graph(normed(shared, outputs=("y", "c2")))) == 0
