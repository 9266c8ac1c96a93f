"""Which part of a graph a gradient goes through, and which of its nodes stop it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from onnx import NodeProto, TensorProto

from ..graph import Graph
from ..graph.graph import captured_names
from .registry import find_rule, node_name

__all__ = ["GradientPath", "find_path", "refusal"]

_QUANTISED = {
    TensorProto.INT8, TensorProto.UINT8, TensorProto.INT16, TensorProto.UINT16, TensorProto.INT4, TensorProto.UINT4,
    TensorProto.FLOAT8E4M3FN, TensorProto.FLOAT8E4M3FNUZ, TensorProto.FLOAT8E5M2, TensorProto.FLOAT8E5M2FNUZ,
}  # fmt: skip

_CONTROL_FLOW = {"If", "Loop", "Scan", "SequenceMap"}
_RECURRENT = {"LSTM", "GRU", "RNN"}
_INTEGER_ONLY = {
    "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger", "DynamicQuantizeLinear", "QLinearAdd",
    "QLinearMul", "QLinearGlobalAveragePool", "QLinearAveragePool", "QLinearSigmoid", "QLinearLeakyRelu",
    "QLinearConcat", "QLinearSoftmax", "QGemm", "MatMulIntegerToFloat", "DynamicQuantizeMatMul",
}  # fmt: skip


@dataclass(frozen=True)
class GradientPath:
    """The nodes between layers and score, in topological order, and the values that carry gradients."""

    nodes: list[NodeProto]
    values: set[str]


def find_path(graph: Graph, wrt: Sequence[str], targets: Sequence[str]) -> GradientPath:
    """What lies on a differentiable way from `wrt` to `targets`.

    Integer and boolean values (shapes, masks, indices) end a way; quantised tensors do not. Where a value of
    `wrt` depends on another, the way of the other goes on through it.
    """
    carrying = set(wrt)
    touched: list[NodeProto] = []
    for node in graph.nodes:
        sources = [n for n in (*node.input, *captured_names(node)) if n in carrying]
        if not sources:
            continue
        outputs = [o for o in node.output if o and _carries(graph, node, o, sources)]
        if outputs:
            touched.append(node)
            carrying.update(outputs)
    needed = set(targets)
    nodes: list[NodeProto] = []
    for node in reversed(touched):
        if any(o in needed for o in node.output):
            nodes.append(node)
            needed.update(n for n in (*node.input, *captured_names(node)) if n in carrying)
    return GradientPath(nodes[::-1], needed & carrying)


def _carries(graph: Graph, node: NodeProto, output: str, sources: list[str]) -> bool:
    if graph.is_float(output):
        return True
    if graph.elem_type(output) not in _QUANTISED:
        return node.op_type in _INTEGER_ONLY
    return (
        node.op_type == "QuantizeLinear"
        or node.op_type in _INTEGER_ONLY
        or any(graph.elem_type(n) in _QUANTISED for n in sources)
    )


def is_integer_only(node: NodeProto) -> bool:
    """Whether the operator computes with integers throughout, so that no gradient passes it."""
    return node.op_type in _INTEGER_ONLY


def refusal(node: NodeProto) -> str | None:
    """Why a node cannot be differentiated, or None when there is a rule."""
    if node.op_type in _CONTROL_FLOW and node.domain in ("", "ai.onnx"):
        return (
            f"{node_name(node)}: control flow lies between the layer and the score; choose a layer behind it, or "
            "export the model again without it (a fixed number of steps unrolls, a constant condition folds)"
        )
    if node.op_type in _RECURRENT:
        return (
            f"{node_name(node)}: a recurrence between the layer and the score, which cfcam does not differentiate; "
            "explain the part for images alone (a model that ends before the recurrence, with scores of its own), or "
            "write the recurrence out in steps"
        )
    if node.op_type in _INTEGER_ONLY:
        return (
            f"{node_name(node)}: an integer-only quantised operator has no gradient; quantise the model in QDQ form "
            "(QuantizeLinear / DequantizeLinear pairs) instead"
        )
    if find_rule(node) is None:
        return f"{node_name(node)} has no derivative rule"
    return None
