"""Pass 3, fold: behind a target layer, batch norms go into the convolutions before them.

Engines fold them by themselves in the forward direction. If the graph did not, the
backward pass would read the unfolded weight and the engine would hold two copies of it.
Norms before the layer have no backward pass: they are left to the converter, which folds
them as it does in a plain export, to the last bit.

Before: `graph` in inference form. After: behind the layer no batch norm follows a
convolution, unless the convolution's output has another reader.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import fx

__all__ = ["copy_graph", "fold_batch_norms", "get_tensor", "set_tensor"]

aten = torch.ops.aten

_CONVOLUTIONS = {aten.conv1d.default, aten.conv2d.default, aten.conv3d.default}
_NORM = aten._native_batch_norm_legit_no_training.default


def fold_batch_norms(graph: fx.GraphModule, targets: Sequence[fx.Node]) -> tuple[fx.GraphModule, list[fx.Node]]:
    """A copy of `graph` with folded batch norms, and what the `targets` have become in it.

    The product of weight and scale is computed in float64 and rounded once.
    """
    folded, mapping = copy_graph(graph)
    targets = [mapping[target] for target in targets]
    behind = set(targets)
    for norm in list(folded.graph.nodes):
        if any(source in behind for source in norm.all_input_nodes):
            behind.add(norm)
        if norm.target is not _NORM or norm.args[0] not in behind:
            continue
        convolution = norm.args[0]
        results = list(norm.users)
        foldable = (
            isinstance(convolution, fx.Node)
            and convolution.target in _CONVOLUTIONS
            and convolution not in targets
            and list(convolution.users) == [norm]
            and all(user.target is operator.getitem and user.args[1] == 0 for user in results)
            and _is_constant(convolution.args[1])
        )
        if not foldable:
            continue
        _fold_one(folded, convolution, norm)
        for result in results:
            result.replace_all_uses_with(convolution)
            convolution.meta = dict(result.meta)
            targets = [convolution if target is result else target for target in targets]
            folded.graph.erase_node(result)
        folded.graph.erase_node(norm)
    folded.graph.eliminate_dead_code()
    folded.delete_all_unused_submodules()
    folded.recompile()
    return folded, targets


def copy_graph(graph: fx.GraphModule) -> tuple[fx.GraphModule, dict[fx.Node, fx.Node]]:
    """A copy whose nodes are its own and whose tensors are shared."""
    nodes = fx.Graph()
    mapping: dict[fx.Node, fx.Node] = {}
    result = nodes.graph_copy(graph.graph, mapping)
    nodes.output(result)
    return fx.GraphModule(graph, nodes), mapping


def get_tensor(graph: fx.GraphModule, name: str) -> torch.Tensor:
    """The tensor that ``get_attr`` `name` reads (dots go into submodules)."""
    value: Any = graph
    for part in name.split("."):
        value = getattr(value, part)
    return value


def set_tensor(graph: fx.GraphModule, name: str, value: torch.Tensor) -> str:
    """Register `value` as a buffer called like `name`, made unique; returns the name."""
    base = name.replace(".", "_")
    unique, count = base, 0
    while hasattr(graph, unique):
        count += 1
        unique = f"{base}_{count}"
    graph.register_buffer(unique, value.detach())
    return unique


def _is_constant(argument: Any) -> bool:
    return isinstance(argument, fx.Node) and argument.op == "get_attr"


def _fold_one(graph: fx.GraphModule, convolution: fx.Node, norm: fx.Node) -> None:
    def tensor(argument: Any) -> torch.Tensor | None:
        return None if argument is None else get_tensor(graph, argument.target).detach()

    weight_node = convolution.args[1]
    weight = tensor(weight_node)
    assert weight is not None
    assert isinstance(weight_node, fx.Node)
    bias = tensor(convolution.args[2]) if len(convolution.args) > 2 else None
    scale, shift, mean, variance = (tensor(argument) for argument in norm.args[1:5])
    epsilon: Any = norm.args[6]
    assert mean is not None
    assert variance is not None
    factor = (variance.double() + epsilon).rsqrt()
    if scale is not None:
        factor = factor * scale.double()
    offset = (0 if bias is None else bias.double()) - mean.double()
    new_bias = offset * factor + (0 if shift is None else shift.double())
    new_weight = weight.double() * factor.reshape(-1, *[1] * (weight.dim() - 1))
    with graph.graph.inserting_before(convolution):
        names = [str(weight_node.target), str(weight_node.target).removesuffix("weight") + "bias"]
        values = [new_weight.to(weight.dtype), new_bias.to(weight.dtype)]
        nodes = [graph.graph.get_attr(set_tensor(graph, n, v)) for n, v in zip(names, values, strict=True)]
    arguments = list(convolution.args)
    convolution.args = (arguments[0], *nodes, *arguments[3:])
