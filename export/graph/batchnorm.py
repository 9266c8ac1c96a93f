"""Folding inference-time BatchNormalization into the convolution before it."""

from __future__ import annotations

from collections.abc import Container

import numpy as np
from onnx import NodeProto

from .graph import Graph, attribute

__all__ = ["fold_batch_norms"]


def fold_batch_norms(graph: Graph, *, keep: Container[str] = (), only: Container[str] | None = None) -> int:
    """Fold BatchNormalization nodes into the Conv that feeds them; returns how many.

    Engines do this by themselves in the forward pass; a backward pass that still reads the
    unfolded weight would then keep a second copy of it alive.

    keep: values that must survive (target layers). only: fold just the nodes whose output
    is in here. Not folded: a Conv whose output is used elsewhere or is a graph output, or
    whose weight is shared or computed.
    """
    folded = 0
    for node in list(graph.nodes):
        if node.op_type != "BatchNormalization" or (only is not None and node.output[0] not in only):
            continue
        conv = graph.producers.get(node.input[0])
        if conv is None or not _foldable(graph, node, conv, keep):
            continue
        parameters = [graph.constant(n) for n in node.input[1:5]]
        weight = graph.constant(conv.input[1])
        if weight is None or any(p is None for p in parameters):
            continue
        scale, shift, mean, variance = (np.asarray(p, np.float64) for p in parameters)
        factor = scale / np.sqrt(variance + attribute(node, "epsilon", 1e-5))
        bias = graph.constant(conv.input[2]) if len(conv.input) > 2 and conv.input[2] else 0.0
        new_bias = (np.asarray(bias, np.float64) - mean) * factor + shift
        axes = (-1,) + (1,) * (weight.ndim - 1)
        _set_constant(graph, conv, 1, (weight.astype(np.float64) * factor.reshape(axes)).astype(weight.dtype))
        _set_constant(graph, conv, 2, new_bias.astype(weight.dtype))
        output = node.output[0]
        graph.nodes.remove(node)
        conv.output[0] = output
        graph.reindex()
        folded += 1
    return folded


def _foldable(graph: Graph, node: NodeProto, conv: NodeProto, keep: Container[str]) -> bool:
    value = node.input[0]
    return (
        conv.op_type == "Conv"
        and not attribute(node, "training_mode", 0)
        and len([o for o in node.output if o]) == 1
        and len(graph.consumers.get(value, ())) == 1
        and value not in graph.output_names
        and value not in keep
        and len(graph.consumers.get(conv.input[1], ())) == 1
    )


def _set_constant(graph: Graph, node: NodeProto, position: int, array: np.ndarray) -> None:
    while len(node.input) <= position:
        node.input.append("")
    old = node.input[position]
    name = graph.fresh(f"{old or node.name + '_bias'}_folded")
    graph.add_constant(name, array)
    node.input[position] = name
    if old and len(graph.consumers.get(old, ())) <= 1:
        graph.constants.pop(old, None)
