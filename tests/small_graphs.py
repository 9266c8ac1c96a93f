"""Graphs of a few nodes, for tests of what is done to graphs."""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

RNG = np.random.default_rng(7)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def make(nodes, constants=None, *, inputs=None, outputs=("y",), opset=18, ir=9) -> ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(k, TensorProto.FLOAT, v) for k, v in (inputs or {"x": ["N", 4]}).items()],
        [helper.make_value_info(o, helper.make_tensor_type_proto(TensorProto.FLOAT, None)) for o in outputs],
        [numpy_helper.from_array(v, k) for k, v in (constants or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)


def linear() -> ModelProto:
    return make([helper.make_node("Gemm", ["x", "w"], ["y"], transB=1)], {"w": normal(300, 4)})
