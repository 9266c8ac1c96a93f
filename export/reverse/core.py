"""The backward walk: reverse-mode differentiation of the part of a graph between values.

Only values that depend on `wrt` *and* reach a seed get a gradient. Everything else is
untouched and needs no rule.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from onnx import NodeProto, helper

from ...runtime.errors import CfcamError
from ..errors import ExportError, UnsupportedOperatorError
from ..graph import Graph
from ..wording import first_line
from .emitter import Emitter, Value
from .path import find_path, refusal
from .registry import Context, Rule, find_rule, node_name

__all__ = ["backward", "expose"]


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
        raise UnsupportedOperatorError(reason, next((o for o in node.output if o), None))
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


def expose(graph: Graph, value: Value, exposed: str) -> None:
    """Give a value a second name by an Identity node."""
    graph.add_node(helper.make_node("Identity", [value.name], [exposed], name=graph.fresh(f"expose_{exposed}")))
    graph.types[exposed] = (value.kind, value.shape)
