"""A tiny network with five logits, and what people put behind them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnxruntime
from cfcam.export.graph import Graph, value_info
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

__all__ = ["CLASSES", "IMAGES", "head", "integers", "logits", "node", "run"]

CLASSES = 5
IMAGES = np.random.default_rng(2).standard_normal((6, 3, 8, 8)).astype(np.float32)
node = helper.make_node


def integers(*values: int) -> NDArray[np.int64]:
    return np.array(values, np.int64)


def head(
    nodes: Sequence[NodeProto] = (),
    constants: dict[str, NDArray] | None = None,
    outputs: dict[str, int] | None = None,
    classes: int = CLASSES,
) -> ModelProto:
    """image (N, 3, 8, 8) -> logits (N, classes) -> `nodes`. outputs: by name, their element types; "out" by default."""
    generator = np.random.default_rng(0)
    weights = {
        "kernel": generator.standard_normal((4, 3, 3, 3)).astype(np.float32),
        "weight": 3 * generator.standard_normal((4, classes)).astype(np.float32),
        **(constants or {}),
    }
    body = [
        node("Conv", ["image", "kernel"], ["conv"]),
        node("Relu", ["conv"], ["relu"]),
        node("GlobalAveragePool", ["relu"], ["pooled"]),
        node("Flatten", ["pooled"], ["features"]),
        node("MatMul", ["features", "weight"], ["logits"]),
    ]
    given = outputs or {"out": TensorProto.FLOAT}
    graph = helper.make_graph(
        [*body, *nodes],
        "net",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [helper.make_value_info(name, helper.make_tensor_type_proto(kind, None)) for name, kind in given.items()],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def logits(classes: int = CLASSES) -> NDArray[np.float64]:
    """The logits of `IMAGES`, by ONNX Runtime from the network without a head."""
    return run(head(outputs={"logits": TensorProto.FLOAT}, classes=classes))["logits"].astype(np.float64)


def run(model: ModelProto | Graph, *more: str, **feeds: NDArray) -> dict[str, NDArray]:
    """Outputs for `IMAGES`, and further values of a graph. feeds: further inputs."""
    if isinstance(model, Graph):
        probe = model.copy()
        missing = [name for name in dict.fromkeys(more) if name not in probe.output_names]
        probe.outputs = [*probe.outputs, *(value_info(probe, name) for name in missing)]
        model = probe.to_model()
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    values = [np.asarray(value) for value in session.run(None, {"image": IMAGES, **feeds})]
    return dict(zip([o.name for o in session.get_outputs()], values, strict=True))
