"""Networks on 12x16 images whose layers are listed, as ONNX graphs."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["chain", "conv_net"]


def conv_net(*, tail: str = "GlobalAveragePool", middle: str = "Relu") -> onnx.ModelProto:
    """Conv, Relu, Conv, `middle`, `tail`, Flatten, Gemm, Softmax on 12x16 images."""
    random = np.random.RandomState(0)
    features = 5 if tail == "GlobalAveragePool" else 5 * 6 * 8
    constants = {
        "w1": random.randn(4, 3, 3, 3),
        "w2": random.randn(5, 4, 3, 3),
        "matrix": random.randn(7, features),
    }
    node = helper.make_node
    nodes = [
        node("Conv", ["image", "w1"], ["c1"], name="first", pads=[1, 1, 1, 1]),
        node("Relu", ["c1"], ["r1"], name="first_relu"),
        node("Conv", ["r1", "w2"], ["c2"], name="second", pads=[1, 1, 1, 1], strides=[2, 2]),
        node(middle, ["c2"], ["r2"], name="second_act"),
    ]
    pooled = "r2"
    if tail == "GlobalAveragePool":
        nodes.append(node(tail, ["r2"], ["p"], name="pool"))
        pooled = "p"
    nodes += [
        node("Flatten", [pooled], ["f"], name="flat"),
        node("Gemm", ["f", "matrix"], ["scores"], transB=1),
        node("Softmax", ["scores"], ["probabilities"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, 12, 16])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 7])],
        [numpy_helper.from_array(a.astype(np.float32), n) for n, a in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def chain(text: str, stated: dict[str, list] | None = None) -> onnx.ModelProto:
    """A network on 12x16 images, written as "Operator inputs -> output attribute=1,2; ...".

    stated: shapes that no inference knows. Inverse, which has no rule, is ONNX Runtime's own.
    """
    random = np.random.RandomState(0)
    weights = {
        "w1": (4, 3, 3, 3),
        "w2": (4, 3, 3, 3),
        "whole": (4, 4, 6, 8),
        "m": (4, 7),
        "flat": (576, 4),
        "mean": (1,),
    }
    integers = {
        "two": [-1, 4], "three": [0, 4, -1], "last": [-1], "middle": [1], "inner": [1, 2], "grid": [2, 3],
        "zeros": [0, 0], "ones": [1, 1], "none": 0,
    }  # fmt: skip
    constants = {name: random.randn(*shape).astype(np.float32) for name, shape in weights.items()}
    constants |= {name: np.array(values, np.int64) for name, values in integers.items()}
    constants |= {"s": np.array(0.05, np.float32), "z": np.array(0, np.int8)}
    nodes, read = [], set()
    for step in filter(None, map(str.strip, text.split(";"))):
        left, right = (side.split() for side in step.split("->"))
        attributes: dict[str, Any] = {}
        for word in right[1:]:
            name, _, value = word.partition("=")
            attributes[name] = [int(v) for v in value.split(",")] if "," in value else int(value)
        if left[-1] in ("w1", "w2"):
            attributes = {"strides": [2, 2], "pads": [1, 1, 1, 1]}
        domain = "com.microsoft" if left[0] == "Inverse" else ""
        nodes.append(helper.make_node(left[0], left[1:], right[:1], domain=domain, **attributes))
        read |= {*left[1:]}
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, 12, 16])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 7])],
        [numpy_helper.from_array(array, name) for name, array in constants.items() if name in read],
        value_info=[helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (stated or {}).items()],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)
