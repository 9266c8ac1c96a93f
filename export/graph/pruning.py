"""Removing what no output needs, and computing once what was computed twice."""

from __future__ import annotations

from onnx import NodeProto

from .graph import Graph, captured_names, subgraphs

__all__ = ["node_key", "prune", "share_subexpressions"]

_RANDOM = {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}


def prune(graph: Graph) -> int:
    """Drop nodes and constants that no graph output depends on; returns the number of nodes dropped."""
    needed = graph.ancestors(graph.output_names)
    kept = [n for n in graph.nodes if any(o in needed for o in n.output)]
    dropped = len(graph.nodes) - len(kept)
    graph.nodes = kept
    for name in [n for n in graph.constants if n not in needed]:
        del graph.constants[name]
    graph.reindex()
    return dropped


def node_key(node: NodeProto) -> tuple | None:
    """What makes two nodes compute the same thing; None where they must stay apart."""
    if node.op_type in _RANDOM or any(True for _ in subgraphs(node)):
        return None
    attributes = tuple(sorted(a.SerializeToString(deterministic=True) for a in node.attribute))
    return (node.domain, node.op_type, tuple(node.input), attributes, tuple(bool(o) for o in node.output))


def share_subexpressions(graph: Graph) -> int:
    """Merge nodes that compute the same values from the same inputs; returns how many went.

    Small constants with equal bytes are merged first. Names of graph outputs survive.
    """
    outputs = set(graph.output_names)
    captured = {name for node in graph.nodes for name in captured_names(node)}
    names: dict[str, str] = {}
    contents: dict[tuple, str] = {}
    for name, tensor in graph.constants.items():
        shape = tuple(tensor.dims)
        if name in outputs or name in captured or (tensor.HasField("raw_data") and len(tensor.raw_data) > 1 << 16):
            continue
        array = graph.constant(name)
        if array is None or array.dtype == object or array.nbytes > 1 << 16:
            continue
        first = contents.setdefault((tensor.data_type, shape, array.tobytes()), name)
        if first != name:
            names[name] = first
    seen: dict[tuple, NodeProto] = {}
    kept: list[NodeProto] = []
    for node in graph.nodes:
        for position, name in enumerate(node.input):
            if name in names:
                node.input[position] = names[name]
        key = node_key(node)
        first = seen.setdefault(key, node) if key is not None else node
        if first is node or any(o in outputs or o in captured for o in node.output):
            kept.append(node)
        else:
            names.update(zip(node.output, first.output, strict=True))
    merged = len(graph.nodes) - len(kept)
    graph.nodes = kept
    graph.reindex()
    return merged
