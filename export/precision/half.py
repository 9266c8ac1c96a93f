"""float16 by casts, with float32 islands, by ONNX Runtime's converter."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import onnx.version_converter
from onnx import ModelProto, TensorProto, helper

from ...runtime.contract.spec import CamSpec
from ..errors import ExportError
from ..graph import Graph, open_graph, prune
from ..wording import first_line

__all__ = ["ISLANDS", "scale_gradients", "scale_seeds", "to_half"]

#: Stays float32: what adds up many numbers, and what spans more than float16's range.
ISLANDS = (
    "CumSum", "Exp", "GlobalAveragePool", "GroupNormalization", "InstanceNormalization", "LayerNormalization", "Log",
    "LogSoftmax", "LpNormalization", "MeanVarianceNormalization", "Pow", "RMSNormalization", "ReduceL2",
    "ReduceLogSumExp", "ReduceMean", "ReduceSum", "ReduceSumSquare", "Reciprocal", "Softmax", "Softplus", "Sqrt",
)  # fmt: skip

#: The gradient runs this much larger through float16, so that it stays clear of its smallest numbers.
_SCALE = 1024.0
#: Bytes of a constant that may be stored twice.
_SMALL = 1024
#: The first opset whose quantisers take float16.
_HALF_QUANTISERS = 19


def to_half(model: ModelProto, spec: CamSpec, float_nodes: Sequence[str] = ()) -> ModelProto:
    """`model` in float16 between float32 inputs and outputs. float_nodes: more nodes that stay float32.

    Works on an explained and on a plain model; weights that the islands read stay float32. Raises `ExportError`.
    """
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

    graph, _ = open_graph(model)
    scaled = scale_seeds(graph, spec, _SCALE)
    if any(node.op_type == "QuantizeLinear" for node in graph.nodes) and graph.opset < _HALF_QUANTISERS:
        graph = _raised(graph)
    kept = {*DEFAULT_OP_BLOCK_LIST, *ISLANDS}
    islands = [node.name for node in graph.nodes if node.op_type in kept]
    float_nodes = _with_their_weights(graph, [*float_nodes, *islands])
    try:
        made = convert_float_to_float16(
            graph.to_model(),
            keep_io_types=True,
            op_block_list=list(kept),
            node_block_list=list(float_nodes),
        )
    except Exception as error:  # its exceptions have no common base
        raise ExportError(f"ONNX Runtime's float16 converter failed: {first_line(error)}") from error
    graph, _ = open_graph(made)  # in order: the converter appends its casts
    if scaled:  # only now: before an output, whatever makes it, the converter rounds to float16
        scale_gradients(graph, spec, 1 / _SCALE)
    return graph.to_model()


def _with_their_weights(graph: Graph, names: Sequence[str]) -> list[str]:
    """The nodes `names`, to be kept float32, and those that read a weight of theirs.

    Of a constant that any node reads in float16 the converter keeps no other form, and the float32 node would compute
    with the rounded one. Small constants are copied instead.
    """
    wanted = set(names)
    weights: set[str] = set()
    copies: dict[str, str] = {}
    for node in graph.nodes:
        if node.name not in wanted:
            continue
        for place, name in enumerate(node.input):
            array = graph.constant(name)
            if array is None or array.dtype != np.float32:
                continue
            if array.nbytes > _SMALL:
                weights.add(name)
                continue
            if name not in copies:
                copies[name] = graph.fresh(f"{name}_float32")
                graph.add_constant(copies[name], array)
            node.input[place] = copies[name]
    graph.reindex()
    prune(graph)
    return [node.name for node in graph.nodes if node.name in wanted or weights & set(node.input)]


def scale_seeds(graph: Graph, spec: CamSpec, factor: float) -> bool:
    """Multiply what the backward pass of an explained graph starts from; False where there is no backward pass.

    A gradient is linear in its seed: what the chosen class picks, a row of the head's weights or a one-hot.
    """
    if spec.chosen not in graph.output_names:
        return False
    outputs = [layer.gradients for layer in spec.layers]
    backward = graph.descendants([spec.chosen]) & graph.ancestors(outputs)
    seeds = [
        name
        for name in backward
        if graph.is_float(name) and not any(graph.is_float(n) for n in graph.producers[name].input if n in backward)
    ]
    for name in seeds:
        _multiply(graph, name, factor)
    return bool(seeds)


def scale_gradients(graph: Graph, spec: CamSpec, factor: float) -> None:
    """Multiply the gradients that an explained graph gives out."""
    for layer in spec.layers:
        _multiply(graph, layer.gradients, factor)


def _multiply(graph: Graph, name: str, factor: float) -> None:
    """Let the value `name` be `factor` times what it was, for all that reads it."""
    node, raw, constant = graph.producers[name], graph.fresh(f"{name}_unscaled"), graph.fresh("gradient_scale")
    node.output[list(node.output).index(name)] = raw
    kind = helper.tensor_dtype_to_np_dtype(graph.elem_type(name) or TensorProto.FLOAT)
    graph.add_constant(constant, np.array(factor, kind))
    times = helper.make_node("Mul", [raw, constant], [name], name=graph.fresh(f"{name}_times"))
    graph.nodes.insert(graph.nodes.index(node) + 1, times)
    graph.reindex()


def _raised(graph: Graph) -> Graph:
    try:
        return Graph(onnx.version_converter.convert_version(graph.to_model(), _HALF_QUANTISERS))
    except Exception as error:
        raise ExportError(
            f"a quantised graph with float16 around it needs opset {_HALF_QUANTISERS}, and ONNX's converter failed "
            f"({first_line(error)}): leave the rest float32"
        ) from error
