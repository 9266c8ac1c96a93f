"""Which values of two graphs that were made from one source are the same value.

A network's own values keep their names from precision to precision. Those that the exporter makes (``cam_...``) are
numbered as they come, so that a name may mean another value in the other graph: they, and what a precision pass
renames, are matched by the operator that makes them and by what it reads.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto

__all__ = ["HANDS_ON", "computed_values", "match_values"]

#: Operators that hand on their first input, but for rounding.
HANDS_ON = ("QuantizeLinear", "DequantizeLinear", "Cast", "Identity")

_MADE = "cam_"

#: Elements of a constant that tells one node from another, such as axes, bounds and factors.
_SMALL = 8

_Key = tuple[str, tuple[str, ...]]


def match_values(candidate: GraphProto, reference: GraphProto, contract: Collection[str]) -> dict[str, str]:
    """Match the values of two graphs.

    Args:
        candidate: A graph, possibly with pairs of Q/DQ and casts between the nodes.
        reference: The graph that it was made from.
        contract: Names of the exporter's that mean the same in every file, such as ``cam_activations``.

    Returns:
        Name in the candidate -> name in the reference, of the values of which both are known to be the same but for
        rounding. Weights are left out.
    """
    origins = {value.name: value.name for value in reference.input}
    same = {value.name: value.name for value in candidate.input if value.name in origins}
    waiting: dict[_Key, list[list[str]]] = {}
    for node, key in _keys(reference, origins):
        waiting.setdefault(key, []).append(list(node.output))
        origins.update((name, name) for name in node.output)
    named = {name for outputs in waiting.values() for names in outputs for name in names}
    trusted = {name for name in named if not name.startswith(_MADE) or name in contract}
    taken: set[str] = set()
    for node, key in _keys(candidate, same):
        by_name = [name if name in trusted else "" for name in node.output]
        if not any(by_name):
            by_name = next((outputs for outputs in waiting.get(key, ()) if outputs[0] not in taken), [])
        for name, found in zip(node.output, by_name, strict=False):
            if name and found:
                same[name] = found
                taken.add(found)
    return same


def computed_values(graph: GraphProto) -> list[str]:
    """What a graph computes from its inputs; the integers inside of Q/DQ pairs do not count."""
    weights = _weights(graph)
    kept = (node for node in graph.node if node.op_type != "QuantizeLinear")
    return [name for node in kept for name in node.output if name not in weights]


def _keys(graph: GraphProto, origins: dict[str, str]) -> Iterator[tuple[NodeProto, _Key]]:
    """Each node that computes something from the input, and what tells it from others.

    origins: value -> what stands for it in keys; the caller adds a node's outputs, what only hands on is added here.
    """
    weights = _weights(graph)
    for node in graph.node:
        if all(name in weights for name in node.output):
            continue
        if node.op_type not in HANDS_ON:
            yield node, (node.op_type, tuple(weights.get(one, origins.get(one, "?")) for one in node.input))
        elif node.input[0] in origins:
            origins[node.output[0]] = origins[node.input[0]]


def _weights(graph: GraphProto) -> dict[str, str]:
    """All values that do not depend on the input, and the "" of inputs that are left out, with what is said in keys.

    Weights have other names in other precisions, and other values but for rounding; small constants are told apart.
    """
    from onnx import numpy_helper

    found = {"": ""}
    for weight in graph.initializer:
        small = math.prod(weight.dims) <= _SMALL
        found[weight.name] = "".join(f"{one:.2g} " for one in numpy_helper.to_array(weight).ravel()) if small else "w"
    for node in graph.node:
        if all(name in found for name in node.input):
            found.update((name, "w") for name in node.output)
    return found
