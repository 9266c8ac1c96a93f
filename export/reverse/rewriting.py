"""Replacing a fused operator on the path by simpler ones, so that their rules apply.

Fused operators do not give out their inner values (attention probabilities, for instance),
which a backward pass needs. Rewriting them keeps one forward computation for both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from onnx import NodeProto, helper

from ..graph import Graph
from .emitter import Emitter, Value
from .registry import Context

__all__ = ["find_rewrite", "rewrite", "rewrite_path"]

Rewrite = Callable[[Context], "list[Value | None]"]

_REWRITES: dict[tuple[str, str], Rewrite] = {}


def rewrite(operator: str, domain: str = "") -> Callable[[Rewrite], Rewrite]:
    """Register a function that writes the node's outputs with simpler operators."""

    def decorate(make: Rewrite) -> Rewrite:
        _REWRITES[domain, operator] = make
        return make

    return decorate


def find_rewrite(node: NodeProto) -> Rewrite | None:
    from . import rules  # noqa: F401 - registers all families

    return _REWRITES.get(("" if node.domain == "ai.onnx" else node.domain, node.op_type))


def rewrite_path(graph: Graph, wrt: Sequence[str], targets: Sequence[str]) -> int:
    """Rewrite every fused node between `wrt` and `targets`; returns how many."""
    from .core import find_path

    done = 0
    while True:
        node = next((n for n in find_path(graph, wrt, targets).nodes if find_rewrite(n) is not None), None)
        if node is None:
            return done
        _replace(graph, node)
        done += 1


def _replace(graph: Graph, node: NodeProto) -> None:
    make = find_rewrite(node)
    assert make is not None
    before, position = graph.nodes, next(i for i, n in enumerate(graph.nodes) if n is node)
    graph.nodes = []
    emitter = Emitter(graph, prefix=node.name or node.op_type.lower(), share=False)
    values = make(Context(emitter, node, [], frozenset()))
    for output, value in zip(node.output, values, strict=False):
        if not output or value is None:
            continue
        made = next((n for n in graph.nodes if value.name in n.output), None)
        if made is None or (value.name in graph.types and _already_renamed(node, value.name)):
            graph.nodes.append(helper.make_node("Identity", [value.name], [output], name=graph.fresh("same")))
        else:
            _rename(graph.nodes, value.name, output)
        graph.types.setdefault(output, (value.kind, value.shape))
    added = graph.nodes
    graph.nodes = [*before[:position], *added, *before[position + 1 :]]
    graph.reindex()
    graph.infer()


def _already_renamed(node: NodeProto, name: str) -> bool:
    return name in node.output


def _rename(nodes: list[NodeProto], old: str, new: str) -> None:
    for node in nodes:
        for names in (node.input, node.output):
            for position, name in enumerate(names):
                if name == old:
                    names[position] = new
