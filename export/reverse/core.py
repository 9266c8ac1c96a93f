"""The backward walk: reverse-mode differentiation of the part of a graph between values.

Only values that depend on `wrt` *and* reach a seed get a gradient. Everything else is
untouched and needs no rule.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from onnx import ModelProto, NodeProto, TensorProto, helper

from ...runtime.errors import CfcamError
from ..errors import ExportError, UnsupportedOperatorError
from ..graph import Graph, prune, value_info
from ..graph.checking import first_line
from ..graph.graph import captured_names
from .emitter import Emitter, Value
from .registry import Context, Rule, find_rule, node_name

__all__ = ["Path", "backward", "expose", "find_path", "refusal", "vjp"]

_QUANTISED = {
    TensorProto.INT8, TensorProto.UINT8, TensorProto.INT16, TensorProto.UINT16, TensorProto.INT4, TensorProto.UINT4,
    TensorProto.FLOAT8E4M3FN, TensorProto.FLOAT8E4M3FNUZ, TensorProto.FLOAT8E5M2, TensorProto.FLOAT8E5M2FNUZ,
}  # fmt: skip

_CONTROL_FLOW = {"If", "Loop", "Scan", "SequenceMap"}
_INTEGER_ONLY = {
    "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger", "DynamicQuantizeLinear", "QLinearAdd",
    "QLinearMul", "QLinearGlobalAveragePool", "QLinearAveragePool", "QLinearSigmoid", "QLinearLeakyRelu",
    "QLinearConcat", "QLinearSoftmax", "QGemm", "MatMulIntegerToFloat", "DynamicQuantizeMatMul",
}  # fmt: skip


class Path:
    """The nodes between `wrt` and the targets, in topological order, and the values that carry gradients."""

    def __init__(self, nodes: list[NodeProto], values: set[str]) -> None:
        self.nodes, self.values = nodes, values


def find_path(graph: Graph, wrt: Sequence[str], targets: Sequence[str]) -> Path:
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
    return Path(nodes[::-1], needed & carrying)


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


def refusal(node: NodeProto) -> str | None:
    """Why a node cannot be differentiated, or None when there is a rule."""
    if node.op_type in _CONTROL_FLOW and node.domain in ("", "ai.onnx"):
        return (
            f"{node_name(node)}: control flow lies between the layer and the score; choose a layer behind it, or "
            "export the model again without it (a fixed number of steps unrolls, a constant condition folds)"
        )
    if node.op_type in _INTEGER_ONLY:
        return (
            f"{node_name(node)}: an integer-only quantised operator has no gradient; quantise the model in QDQ form "
            "(QuantizeLinear / DequantizeLinear pairs) instead"
        )
    if find_rule(node) is None:
        return f"{node_name(node)} has no derivative rule"
    return None


def backward(graph: Graph, emitter: Emitter, seeds: Mapping[str, Value], wrt: Sequence[str]) -> dict[str, Value | None]:
    """Write the backward pass from `seeds` (value -> its gradient) to `wrt`.

    Returns the gradient of each value of `wrt`, with axes of size 1 where it is constant, or
    None where it is identically zero. It is one walk: the gradient of a value of `wrt` that depends on
    another is carried on to the other. Raises `UnsupportedOperatorError`.
    """
    path = find_path(graph, wrt, list(seeds))
    gradients: dict[str, Value] = {}
    for name, seed in seeds.items():
        if name in path.values:
            gradients[name] = seed
    for node in reversed(path.nodes):
        given = [gradients.get(o) if o else None for o in node.output]
        if all(g is None for g in given):
            continue
        for position, gradient in _node_gradients(emitter, node, given, path.values).items():
            name = node.input[position]
            gradients[name] = gradients[name] + gradient if name in gradients else gradient
    return {name: gradients.get(name) for name in wrt}


def _node_gradients(
    emitter: Emitter, node: NodeProto, given: list[Value | None], on_path: set[str]
) -> dict[int, Value]:
    reason = refusal(node)
    if reason is not None:
        raise UnsupportedOperatorError(reason)
    found = find_rule(node)
    assert found is not None
    wanted = frozenset(i for i, n in enumerate(node.input) if n in on_path)
    context = Context(emitter, node, given, wanted)
    try:
        return _by_rule(found, context)
    except CfcamError:
        raise
    except Exception as error:  # inputs or attributes that no model may have, but that a file can hold
        raise ExportError(
            f"{node_name(node)} cannot be differentiated: its inputs or attributes do not fit its operator "
            f"({type(error).__name__}: {first_line(error)})"
        ) from error


def _by_rule(found: Rule, context: Context) -> dict[int, Value]:
    result: dict[int, Value] = {}
    for position, entry in found.derive(context).items():
        if position not in context.wanted:
            continue
        gradient = entry() if callable(entry) else entry
        if gradient is None:
            continue
        target = context.x(position)
        if found.broadcasting:
            gradient = context.sum_to(gradient, context.y(), target)
        _check(context.node, gradient, target)
        result[position] = gradient
    return result


def _check(node: NodeProto, gradient: Value, target: Value) -> None:
    if gradient.shape is None or target.shape is None:
        return
    fits = len(gradient.shape) == len(target.shape) and all(
        a == 1 or a == b or not isinstance(a, int) or not isinstance(b, int)
        for a, b in zip(gradient.shape, target.shape, strict=True)
    )
    if not fits:
        raise ExportError(
            f"the rule of {node_name(node)} made a gradient of shape {gradient.shape} for '{target.name}' of shape "
            f"{target.shape}: the shapes that the model states contradict each other, or this is an error in cfcam"
        )


def vjp(model: ModelProto, wrt: Sequence[str], outputs: Sequence[str]) -> ModelProto:
    """The vector-Jacobian product of a model, as a model.

    Takes the inputs of `model` and one ``cotangent_<output>`` per output, of that output's
    shape; gives one ``gradient_<value>`` per value of `wrt`: the gradient of
    sum over outputs of <cotangent, output>. Values of `wrt` may be inputs or inner values.
    """
    from .opening import open_model
    from .rewriting import rewrite_path

    graph, _ = open_model(model)
    rewrite_path(graph, wrt, outputs)
    emitter = Emitter(graph)
    seeds: dict[str, Value] = {}
    for name in outputs:
        cotangent = graph.fresh(f"cotangent_{name}")
        info = value_info(graph, name)
        info.name = cotangent
        graph.inputs.append(info)
        graph.types[cotangent] = graph.types[name]
        seeds[name] = emitter.value(cotangent)
    gradients = backward(graph, emitter, seeds, wrt)
    graph.outputs = []
    for name in wrt:
        target = emitter.value(name)
        found = gradients[name]
        full = emitter.zeros_like(target) if found is None else emitter.expand(found, target)
        exposed = graph.fresh(f"gradient_{name}")
        expose(graph, full, exposed)
        graph.types[exposed] = (full.kind, target.shape)
        graph.outputs.append(value_info(graph, exposed))
    prune(graph)
    return graph.to_model()


def expose(graph: Graph, value: Value, exposed: str) -> None:
    """Give a value a second name by an Identity node."""
    graph.add_node(helper.make_node("Identity", [value.name], [exposed], name=graph.fresh(f"expose_{exposed}")))
    graph.types[exposed] = (value.kind, value.shape)
