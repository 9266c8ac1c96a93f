"""If with a condition that is known: the branch that is taken replaces it.

Exporters write such nodes for what depends on a shape (squeezing an axis that may be 1), and the
shape is usually known.
"""

from __future__ import annotations

from onnx import GraphProto, NodeProto, TensorProto, helper

from .graph import Graph, attribute, rename_inputs

__all__ = ["take_known_branches"]


def take_known_branches(graph: Graph) -> int:
    """Replace every If whose condition is a constant by the nodes of its branch; returns how many."""
    kept: list[NodeProto] = []
    taken = 0
    for node in graph.nodes:
        branch = _chosen(graph, node)
        if branch is None:
            kept.append(node)
        else:
            kept += _inlined(graph, node, branch)
            taken += 1
    if taken:
        graph.nodes = kept
        graph.reindex()
        graph.infer()
    return taken


def _chosen(graph: Graph, node: NodeProto) -> GraphProto | None:
    if node.op_type != "If" or node.domain not in ("", "ai.onnx"):
        return None
    condition = graph.constant(node.input[0])
    if condition is None or condition.size != 1:
        return None
    return attribute(node, "then_branch" if bool(condition.reshape(-1)[0]) else "else_branch")


def _inlined(graph: Graph, node: NodeProto, branch: GraphProto) -> list[NodeProto]:
    """The branch's nodes, with names of their own and the If's outputs."""
    names: dict[str, str] = {}
    for tensor in branch.initializer:
        copied = TensorProto()
        copied.CopyFrom(tensor)
        copied.name = names[tensor.name] = graph.fresh(f"{node.name}_{tensor.name}")
        graph.constants[copied.name] = copied
    made = {o for n in branch.node for o in n.output if o}
    asked = [o.name for o in branch.output]
    for inner, outer in zip(asked, node.output, strict=True):
        if inner in made and inner not in names and outer:
            names[inner] = outer
    for name in made - set(names):
        names[name] = graph.fresh(f"{node.name}_{name}")
    nodes: list[NodeProto] = []
    for original in branch.node:
        copied = NodeProto()
        copied.CopyFrom(original)
        copied.name = graph.fresh(f"{node.name}_{original.name or original.op_type}")
        rename_inputs(copied, names)
        copied.output[:] = [names.get(o, o) for o in original.output]
        nodes.append(copied)
    # Values from outside, weights, and one value that is given out twice.
    for inner, outer in zip(asked, node.output, strict=True):
        if outer and names.get(inner) != outer:
            nodes.append(
                helper.make_node("Identity", [names.get(inner, inner)], [outer], name=graph.fresh(f"{outer}_taken"))
            )
    return nodes
