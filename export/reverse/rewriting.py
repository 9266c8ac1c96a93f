"""Replacing a fused operator by simpler ones, so that their rules apply.

Fused operators do not give out their inner values (attention probabilities, for instance),
which a backward pass needs. Written out on the path, forward and backward share them; off the
path they stay as they are, and only their shapes are asked for.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

from onnx import NodeProto, helper

from ...runtime.errors import CfcamError
from ..errors import ExportError, UnsupportedOperatorError
from ..graph import Graph
from ..wording import first_line
from .emitter import Emitter, Value, infer_node
from .path import find_path
from .registry import Context, node_name, register_fused

__all__ = ["find_rewrite", "is_fused", "rewrite", "rewrite_path", "settle_fused"]

Rewrite = Callable[[Context], "list[Value | None]"]

_REWRITES: dict[tuple[str, str], Rewrite] = {}


def rewrite(*operators: str, domain: str = "") -> Callable[[Rewrite], Rewrite]:
    """Register a function that writes the outputs of `operators` with simpler ones."""

    def decorate(make: Rewrite) -> Rewrite:
        for operator in operators:
            _REWRITES[domain, operator] = make
            register_fused(domain, operator)
        return make

    return decorate


def find_rewrite(node: NodeProto) -> Rewrite | None:
    """How a node is written out, or None where it is not fused."""
    return _REWRITES.get(("" if node.domain == "ai.onnx" else node.domain, node.op_type))


def is_fused(node: NodeProto) -> bool:
    """True for an operator that ONNX itself does not define and that can be written out."""
    return node.domain not in ("", "ai.onnx") and find_rewrite(node) is not None


def rewrite_path(graph: Graph, wrt: Sequence[str], targets: Sequence[str]) -> int:
    """Write out every fused node between `wrt` and `targets`; returns how many.

    Raises `UnsupportedOperatorError` for a form that cannot be.
    """
    done = 0
    while True:
        # What is written out may hold fused operators in turn.
        chosen = {id(n) for n in find_path(graph, wrt, targets).nodes if find_rewrite(n) is not None}
        if not chosen:
            return done
        done += len(chosen)
        _write_out(graph, lambda node, chosen=chosen: id(node) in chosen)


def settle_fused(graph: Graph) -> None:
    """Make the operators that ONNX itself does not define fit for everything that follows.

    1. Values in and behind them get their shapes. Inference does not know them, so they are
       written out in a copy, where it does.
    2. Nodes that give out more than one value are written out for good: a residual sum, given out
       beside its normalised form, would seem to reach the rest of the network by itself only.
    """
    _describe_fused(graph)
    _write_out(graph, lambda node: is_fused(node) and sum(_used(graph, o) for o in node.output) > 1, tolerant=True)


def _used(graph: Graph, output: str) -> bool:
    return bool(output) and (output in graph.consumers or output in graph.output_names)


def _describe_fused(graph: Graph) -> None:
    fused = sum(is_fused(node) for node in graph.nodes)
    if not fused:
        return
    plain = graph.copy()
    # A shape that is missing in the first pass may be there in the next.
    while fused:
        _write_out(plain, is_fused, tolerant=True)
        left = sum(is_fused(node) for node in plain.nodes)
        if left == fused:
            break
        fused = left
    graph.describe(plain.types)
    graph.infer()


def _write_out(graph: Graph, chosen: Callable[[NodeProto], bool], *, tolerant: bool = False) -> None:
    """Replace the chosen nodes in one walk. Tolerant: those that cannot be written out stay."""
    kept: list[NodeProto] = []
    for node in graph.nodes[:]:
        if chosen(node):
            try:
                kept += _written_out(graph, node)
                continue
            except ExportError:
                if not tolerant:
                    raise
        elif any(o and graph.shape(o) is None for o in node.output):
            # It may stand behind one that was written out, and before another.
            with contextlib.suppress(ExportError):  # an operator that nobody knows
                graph.types.update(infer_node(graph, node))
        kept.append(node)
    graph.nodes = kept
    graph.reindex()
    graph.infer()


def _written_out(graph: Graph, node: NodeProto) -> list[NodeProto]:
    make = find_rewrite(node)
    assert make is not None
    before, graph.nodes = graph.nodes, []
    try:
        emitter = Emitter(graph, prefix=node.name or node.op_type.lower(), share=False)
        values = _values(make, Context(emitter, node, [], frozenset()))
        renamed: dict[str, str] = {}  # made here -> the output that it became
        for position, output in enumerate(node.output):
            value = values[position] if position < len(values) else None
            if not output:
                continue
            if value is None:
                if _used(graph, output):
                    raise UnsupportedOperatorError(
                        f"{node.op_type} node '{node.name}': its output {position} is used, which cannot be written out"
                    )
                continue
            name = renamed.get(value.name, value.name)
            if name == value.name and any(name in n.output for n in graph.nodes):
                _rename(graph.nodes, name, output)
                renamed[name] = output
            else:
                graph.nodes.append(helper.make_node("Identity", [name], [output], name=graph.fresh("same")))
            if value.shape is not None or output not in graph.types:
                graph.types[output] = (value.kind, value.shape)
        return graph.nodes
    finally:
        graph.nodes = before


def _values(make: Rewrite, context: Context) -> list[Value | None]:
    try:
        return make(context)
    except CfcamError:
        raise
    except Exception as error:  # inputs or attributes that no model may have, but that a file can hold
        raise ExportError(
            f"{node_name(context.node)} cannot be written out: its inputs or attributes do not fit its operator "
            f"({type(error).__name__}: {first_line(error)})"
        ) from error


def _rename(nodes: list[NodeProto], old: str, new: str) -> None:
    for node in nodes:
        for names in (node.input, node.output):
            for position, name in enumerate(names):
                if name == old:
                    names[position] = new
