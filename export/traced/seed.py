"""Pass 5, seed: the chosen class replaces the free `seed` input of the joint graph.

The backward pass starts from a one-hot (N, K). Where it meets a matrix of weights first,
the product is one row of that matrix, and is written as a gather of the row; otherwise
the one-hot is made by comparison, never by a scatter (TensorRT refuses it).

Before: inputs ``(image, target, seed)``. After: inputs ``(image, target)``.
"""

from __future__ import annotations

import torch
from torch import fx

from .nodes import call

__all__ = ["plant_seed"]

aten = torch.ops.aten


def plant_seed(joint: fx.GraphModule) -> fx.GraphModule:
    """Replace `seed` in place; returns `joint`. Run it after `lean.simplify`."""
    graph = joint.graph
    _, _, seed = (node for node in graph.nodes if node.op == "placeholder")
    (output,) = (node for node in graph.nodes if node.op == "output")
    chosen = output.args[0][-1]  # type: ignore[index]
    _move_up(chosen, before=next(iter(seed.users)))
    for user in list(seed.users):
        _gather_rows(graph, user, seed, chosen)
    if seed.users:
        seed.replace_all_uses_with(_one_hot(graph, seed, chosen))
    graph.erase_node(seed)
    graph.eliminate_dead_code()
    joint.recompile()
    return joint


def _gather_rows(graph: fx.Graph, user: fx.Node, seed: fx.Node, chosen: fx.Node) -> None:
    """Rewrite `user` when it multiplies the seed by a weight with one row per class."""
    # 1. A linear head: one_hot (N, K) @ weight (K, C).
    if user.target is aten.mm.default and user.args[0] is seed and _is_weight(user.args[1]):
        with graph.inserting_before(user):
            rows = call(graph, seed.meta["val"].fake_mode, aten.index_select.default, user.args[1], 0, chosen)
        user.replace_all_uses_with(rows)
        return
    # 2. A 1x1 convolution on the pooled grid: the same with weight (K, C, 1, 1).
    if user.target is aten.reshape.default and user.args[0] is seed:
        for convolution in list(user.users):
            if (
                convolution.target is aten.convolution.default
                and convolution.args[0] is user
                and _is_weight(convolution.args[1])
                and convolution.args[6] is True  # transposed
                and convolution.args[8] == 1  # groups
                and tuple(convolution.args[1].meta["val"].shape[2:]) == (1, 1)  # type: ignore[union-attr]
                and tuple(convolution.meta["val"].shape[2:]) == (1, 1)
            ):
                mode = seed.meta["val"].fake_mode
                with graph.inserting_before(convolution):
                    rows = call(graph, mode, aten.index_select.default, convolution.args[1], 0, chosen)
                convolution.replace_all_uses_with(rows)


def _is_weight(argument: object) -> bool:
    return isinstance(argument, fx.Node) and argument.op == "get_attr"


def _one_hot(graph: fx.Graph, seed: fx.Node, chosen: fx.Node) -> fx.Node:
    value = seed.meta["val"]
    mode = value.fake_mode
    with graph.inserting_after(chosen):
        column = call(graph, mode, aten.unsqueeze.default, chosen, 1)
    with graph.inserting_after(column):
        classes = call(graph, mode, aten.arange.default, value.shape[1], dtype=torch.int64)
    with graph.inserting_after(classes):
        equal = call(graph, mode, aten.eq.Tensor, column, classes)
    with graph.inserting_after(equal):
        return call(graph, mode, aten._to_copy.default, equal, dtype=value.dtype)


def _move_up(chosen: fx.Node, before: fx.Node) -> None:
    """The class was chosen last in the trace, and is needed first: move it and its inputs."""
    order = {node: i for i, node in enumerate(chosen.graph.nodes)}
    needed, queue = [], [chosen]
    while queue:
        node = queue.pop()
        if order[node] > order[before]:
            needed.append(node)
            queue.extend(node.all_input_nodes)
    for node in sorted(set(needed), key=order.__getitem__):
        before.prepend(node)
