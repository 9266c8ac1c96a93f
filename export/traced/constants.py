"""Pass 3, first half: what depends on nothing but sizes is computed now.

Window masks, positions and the like are made anew in every forward pass, often by writing
into slices, which leaves dozens of scatters in the file. Weights are left alone: what is
computed from them may be larger than they are, and engines fold it when they load the file.

Before: `graph` is functional. After: no operator reads constants only, unless one of them is
a weight.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from .fold import get_tensor, set_tensor

__all__ = ["fold_constants"]

aten = torch.ops.aten

# Operators whose result depends on the shape of their input only.
_OF_SHAPE = {
    aten.new_zeros.default,
    aten.new_ones.default,
    aten.new_full.default,
    aten.zeros_like.default,
    aten.ones_like.default,
    aten.full_like.default,
}
_CREATION = {
    aten.zeros.default,
    aten.ones.default,
    aten.full.default,
    aten.scalar_tensor.default,
    aten.arange.default,
    aten.arange.start,
    aten.arange.start_step,
    aten.linspace.default,
    aten.eye.default,
    aten.eye.m,
}


def fold_constants(graph: fx.GraphModule) -> fx.GraphModule:
    """Replace constant values by tensors, in place; returns `graph`."""
    known: dict[fx.Node, Any] = {}
    for node in graph.graph.nodes:
        if node.op == "get_attr":
            tensor = get_tensor(graph, str(node.target)).detach()
            if not tensor.is_floating_point() or tensor.dim() == 0:  # a table of indices, a number in the code
                known[node] = tensor
        elif node.op == "call_function" and _is_constant(node, known):
            with torch.no_grad():
                known[node] = _compute(node, known)
    for node, value in known.items():
        read = any(user not in known for user in node.users)
        if node.op != "get_attr" and read and isinstance(value, torch.Tensor):
            # Its own name is free for another operator, and the converter names values after operators.
            name = f"constant_{node.name}"
            with graph.graph.inserting_before(node):
                constant = graph.graph.get_attr(set_tensor(graph, name, value.contiguous()))
            constant.meta["val"] = node.meta["val"]
            node.replace_all_uses_with(constant)
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return graph


def _is_constant(node: fx.Node, known: dict[fx.Node, Any]) -> bool:
    value = node.meta.get("val")
    fixed = isinstance(value, torch.Tensor | list | tuple) and all(
        isinstance(size, int) for item in _tensors(value) for size in item.shape
    )
    if not fixed:
        return False
    inputs = node.all_input_nodes
    if node.target in _OF_SHAPE:
        return inputs == [node.args[0]]
    if node.target in _CREATION:
        return not inputs
    return bool(inputs) and all(source in known for source in inputs)


def _tensors(value: Any) -> list[torch.Tensor]:
    return [item for item in (value if isinstance(value, list | tuple) else [value]) if isinstance(item, torch.Tensor)]


def _compute(node: fx.Node, known: dict[fx.Node, Any]) -> Any:
    def value(source: fx.Node) -> Any:
        # An input that is not known is the model of a creation: shape and dtype are read.
        like = source.meta["val"]
        return known[source] if source in known else torch.empty(node.meta["val"].shape, dtype=like.dtype)

    return node.target(*fx.map_arg(node.args, value), **fx.map_arg(node.kwargs, value))  # type: ignore[operator]
