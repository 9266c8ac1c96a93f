"""Constant folding of what is small: index arithmetic, bounds, scales."""

from __future__ import annotations

import math

import numpy as np
from onnx import NodeProto, helper
from onnx.reference import ReferenceEvaluator

from .exact_resize import Resize
from .graph import Graph, Shape, attribute, subgraphs
from .loading import tensor_bytes

__all__ = ["FOLD_LIMIT", "evaluate_node", "fold_constants"]

#: Results of more bytes are left to the engine, so that no weight is stored in two forms.
FOLD_LIMIT = 1024

# Random, stateful, or the place where a quantised weight must stay quantised.
_KEPT = {
    "Bernoulli", "DequantizeLinear", "DynamicQuantizeLinear", "If", "Loop", "Multinomial", "QuantizeLinear",
    "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Scan",
}  # fmt: skip

# Whose result can be much larger than what goes in.
_GROWING = {"ConstantOfShape", "Expand", "EyeLike", "OneHot", "Pad", "Range", "Resize", "Tile"}


def evaluate_node(node: NodeProto, inputs: dict[str, np.ndarray], opset: int) -> list[np.ndarray] | None:
    """Outputs of one node of the default domain by ONNX's reference evaluator; None where it cannot."""
    given = {name: value for name, value in inputs.items() if name}
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape) for n, a in given.items()],
        [helper.make_value_info(n, helper.make_tensor_type_proto(1, None)) for n in node.output if n],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    try:
        return [np.asarray(v) for v in ReferenceEvaluator(model, new_ops=[Resize]).run(None, given)]  # type: ignore[union-attr]
    except Exception:  # an operator that the evaluator lacks stays in the graph
        return None


def fold_constants(graph: Graph) -> int:
    """Replace nodes with constant inputs and small results by constants; returns how many.

    ``Shape`` and ``Size`` of a value whose shape is static count as constant, and so does a size
    that is picked from a shape and is known itself.
    """
    folded = 0
    kept: list[NodeProto] = []
    outputs = set(graph.output_names)
    for node in graph.nodes:
        values = _fold(graph, node)
        if values is None or any(o in outputs for o in node.output):
            kept.append(node)
            continue
        for name, value in zip([o for o in node.output if o], values, strict=True):
            graph.add_constant(name, value)
        folded += 1
    if folded:
        graph.nodes = kept
        graph.reindex()
        graph.infer()
    return folded


def _fold(graph: Graph, node: NodeProto) -> list[np.ndarray] | None:
    if node.domain not in ("", "ai.onnx") or node.op_type in _KEPT or any(True for _ in subgraphs(node)):
        return None
    sizes = _sizes(graph, node)
    if sizes is not None:
        return [sizes]
    if not node.input or any(n and n not in graph.constants for n in node.input):
        return None
    # A length that inference leaves open belongs to index arithmetic mostly: evaluate and see, where that is cheap.
    given = sum(tensor_bytes(graph.constants[n]) for n in node.input if n)
    unknown = FOLD_LIMIT + 1 if node.op_type in _GROWING or given > 64 * FOLD_LIMIT else 0
    size = sum(_size(graph, o, unknown) for o in node.output if o)
    if size > FOLD_LIMIT:
        return None
    inputs = {n: a for n in node.input if n and (a := graph.constant(n)) is not None}
    values = evaluate_node(node, inputs, graph.opset)
    if values is None or sum(v.nbytes for v in values) > FOLD_LIMIT:
        return None
    return values


def _sizes(graph: Graph, node: NodeProto) -> np.ndarray | None:
    """What a Shape or Size gives where the sizes are known; of a Gather from a Shape only those that it picks."""
    if node.op_type == "Gather" and attribute(node, "axis", 0) == 0:
        maker, picked = graph.producers.get(node.input[0]), graph.constant(node.input[1])
        if maker is None or maker.op_type != "Shape" or picked is None:
            return None
        dims = _dims(graph, maker)
        if dims is None or any(not -len(dims) <= i < len(dims) for i in picked.reshape(-1)):
            return None
        wanted = [dims[int(i)] for i in picked.reshape(-1)]
        known = [d for d in wanted if isinstance(d, int)]
        return np.array(known, np.int64).reshape(picked.shape) if len(known) == len(wanted) else None
    if node.op_type not in ("Shape", "Size"):
        return None
    dims = _dims(graph, node)
    if dims is None or not all(isinstance(d, int) for d in dims):
        return None
    whole = [d for d in dims if isinstance(d, int)]
    return np.array(math.prod(whole) if node.op_type == "Size" else whole, np.int64)


def _dims(graph: Graph, node: NodeProto) -> Shape | None:
    """The sizes that a Shape node gives out, known or not."""
    shape = graph.shape(node.input[0])
    if shape is None or node.op_type == "Size":
        return shape
    return shape[attribute(node, "start", 0) : attribute(node, "end")]


def _size(graph: Graph, name: str, unknown: int) -> int:
    kind, shape = graph.elem_type(name), graph.shape(name)
    sizes = [dim for dim in shape or () if isinstance(dim, int)]
    if kind is None or shape is None or len(sizes) < len(shape):
        return unknown
    return math.prod(sizes) * 8
