"""What TensorRT refuses in an ONNX graph, as a table: no TensorRT is needed to read it.

Seen with the parser of TensorRT for RTX 1.7 on ONNX's own operator test cases, unless a row says
otherwise; versions differ, so a row is a reason to look. Where TensorRT is installed,
`runtime.engines.tensorrt.build.parse_onnx` asks the parser itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, numpy_helper

from ..export.graph import attribute
from ..export.graph.graph import subgraphs
from ..export.reverse.registry import node_name

__all__ = ["LARGEST_OPSET", "LARGEST_TOP_K", "Refusal", "tensorrt_refusals"]

#: TensorRT 10 takes operators up to about this version of the default operator set.
LARGEST_OPSET = 20
#: The largest K of TopK.
LARGEST_TOP_K = 3840


@dataclass(frozen=True)
class Refusal:
    """One thing that TensorRT refuses. node: in words, with its operator; empty for the whole file."""

    node: str
    operator: str
    reason: str

    def __str__(self) -> str:
        return f"{self.node}: {self.reason}" if self.node else self.reason


_PLUGIN = "TensorRT takes it only with a plugin"
_INTEGERS = "integer-only quantisation; the QDQ form (QuantizeLinear / DequantizeLinear pairs) is taken"
_NO_LAYER = "TensorRT has no such layer"

#: Refused in every form.
_ALWAYS = {
    **dict.fromkeys(
        [
            "AffineGrid", "Bernoulli", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor",
            "CenterCropPad", "Col2Im", "Compress", "Det", "MaxUnpool", "NegativeLogLikelihoodLoss",
            "OptionalGetElement", "OptionalHasElement", "SequenceInsert", "SequenceMap", "SoftmaxCrossEntropyLoss",
            "SplitToSequence", "Unique",
        ],
        _NO_LAYER,
    ),
    **dict.fromkeys(["BitCast", "CumProd", "DFT", "DeformConv", "NonZero", "RoiAlign"], _PLUGIN),
    **dict.fromkeys(
        ["ConvInteger", "DynamicQuantizeLinear", "MatMulInteger", "QLinearConv", "QLinearMatMul"], _INTEGERS
    ),
}  # fmt: skip

Constants = Mapping[str, Any]
Condition = Callable[[NodeProto, Constants], "str | None"]


def _scatter(node: NodeProto, constants: Constants) -> str | None:
    reduction = attribute(node, "reduction", "none")
    if reduction == "none":
        return None
    return f"reduction '{reduction}' is refused, and TensorRT 8.6 is reported to ignore it silently: a wrong result"


def _with_more_outputs(reason: str) -> Condition:
    return lambda node, constants: reason if len([o for o in node.output if o]) > 1 else None


def _top_k(node: NodeProto, constants: Constants) -> str | None:
    if len(node.input) < 2:  # an attribute, before opset 10
        k: Any = attribute(node, "k", 0)
    else:
        k = constants.get(node.input[1], 0)  # an unknown one is taken
    count = int(np.asarray(k).reshape(-1)[0])
    return f"K is {count}, the most that TensorRT takes is {LARGEST_TOP_K}" if count > LARGEST_TOP_K else None


def _constant_axes(node: NodeProto, constants: Constants) -> str | None:
    given = len(node.input) > 1 and node.input[1]
    return "the axes have to be a constant" if given and node.input[1] not in constants else None


#: Refused in some forms: the reason, or None.
_SOMETIMES: dict[str, Condition] = {
    **dict.fromkeys(["ScatterElements", "ScatterND"], _scatter),
    "MaxPool": _with_more_outputs("the output of indices is refused"),
    "LayerNormalization": _with_more_outputs("the outputs of mean and deviation are refused"),
    "TopK": _top_k,
    **dict.fromkeys(
        [
            "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin",
            "ReduceProd", "ReduceSum", "ReduceSumSquare", "Squeeze", "Unsqueeze",
        ],
        _constant_axes,
    ),
}  # fmt: skip


def tensorrt_refusals(model: ModelProto) -> list[Refusal]:
    """What some version of TensorRT is known to refuse in `model`, in the graph's order."""
    found = []
    opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)
    if opset > LARGEST_OPSET:
        found.append(
            Refusal("", "", f"operator set {opset}: TensorRT 10 takes {LARGEST_OPSET} at most (newer ones take more)")
        )
    local = {(function.domain, function.name) for function in model.functions}
    for node, constants in _nodes(model.graph, {}):
        reason = _reason(node, constants, (node.domain, node.op_type) in local)
        if reason is not None:
            found.append(Refusal(node_name(node), node.op_type, reason))
    return found


def _reason(node: NodeProto, constants: Constants, local: bool) -> str | None:
    if local:
        return None
    if node.domain not in ("", "ai.onnx"):
        return f"an operator of '{node.domain}', not of ONNX; {_PLUGIN}"
    if node.op_type in _SOMETIMES:
        return _SOMETIMES[node.op_type](node, constants)
    return _ALWAYS.get(node.op_type)


def _nodes(graph: GraphProto, outer: Constants) -> Iterator[tuple[NodeProto, Constants]]:
    """Every node, those of bodies too, with the small constants that it can see."""
    constants = dict(outer)
    for tensor in graph.initializer:
        # Only axes and counts are read; the rest is known to be constant.
        small = len(tensor.dims) <= 1 and int(np.prod(tensor.dims)) <= 16
        constants[tensor.name] = numpy_helper.to_array(tensor) if small else True
    for node in graph.node:
        if node.op_type == "Constant":
            value = attribute(node, "value")
            constants[node.output[0]] = (
                numpy_helper.to_array(value) if value is not None else attribute(node, "value_ints", True)
            )
        yield node, constants
        for body in subgraphs(node):
            yield from _nodes(body, constants)
