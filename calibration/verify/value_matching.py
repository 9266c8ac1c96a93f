"""Which values of two graphs that were made from one source are the same value.

A network's own values keep their names from precision to precision. Those that the exporter makes (``cam_...``) are
numbered as they come, so that a name may mean another value in the other graph. What only hands on a value, such as a
pair of Q/DQ or a cast, has that value on both of its sides, whatever their names.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import GraphProto

__all__ = ["HANDS_ON", "computed_values", "match_values"]

#: Operators that hand on their first input, but for rounding.
HANDS_ON = ("QuantizeLinear", "DequantizeLinear", "Cast", "Identity")

_MADE = "cam_"


def match_values(candidate: GraphProto, reference: GraphProto, contract: Collection[str]) -> dict[str, str]:
    """Match the values of two graphs.

    Args:
        candidate: A graph, possibly with pairs of Q/DQ and casts between the nodes.
        reference: The graph that it was made from.
        contract: Names of the exporter's that mean the same in every file, such as ``cam_activations``.

    Returns:
        Name in the candidate -> name in the reference, of the values that are known to be the same but for rounding.
    """
    named = {name for node in reference.node for name in node.output} | {value.name for value in reference.input}
    known = {name for name in named if name and (not name.startswith(_MADE) or name in contract)}
    here = [value.name for value in candidate.input] + [name for node in candidate.node for name in node.output]
    same = {name: name for name in here if name in known}
    handing = [(node.input[0], node.output[0]) for node in candidate.node if node.op_type in HANDS_ON]
    for source, result in reversed(handing):  # a precision pass renames what it casts back afterwards
        if result in same:
            same.setdefault(source, same[result])
    for source, result in handing:
        if source in same:
            same.setdefault(result, same[source])
    return same


def computed_values(graph: GraphProto) -> list[str]:
    """What a graph computes from its inputs; weights and the integers inside of Q/DQ pairs do not count."""
    fixed = {weight.name for weight in graph.initializer} | {""}
    found = []
    for node in graph.node:
        if all(name in fixed for name in node.input):
            fixed.update(node.output)
        elif node.op_type != "QuantizeLinear":
            found += [name for name in node.output if name]
    return found
