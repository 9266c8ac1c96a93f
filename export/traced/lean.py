"""Pass 6, lean: nothing is computed twice, nothing is expanded before it must be.

A raw trace costs 1.1 to 1.6 times the plain network. Each rewrite here is a small
function with one case; `simplify` runs them until none applies.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import fx

from .nodes import call

__all__ = ["simplify"]

aten = torch.ops.aten

# Operators that return their input's values: in inference they are nothing but a name.
_SAME_VALUE = {
    aten.detach.default,
    aten.clone.default,
    aten.alias.default,
    aten.lift_fresh_copy.default,
    aten.contiguous.default,
}

# Element by element, with broadcasting.
_POINTWISE = {
    aten.add.Tensor,
    aten.sub.Tensor,
    aten.mul.Tensor,
    aten.mul.Scalar,
    aten.div.Tensor,
    aten.div.Scalar,
    aten.neg.default,
    aten.where.self,
}


def simplify(joint: fx.GraphModule) -> fx.GraphModule:
    """Rewrite in place until nothing changes; returns `joint`."""
    rewrites: list[Callable[[fx.Node], bool]] = [
        _drop_same_value,
        _drop_double_transpose,
        _linear_again,
        _drop_unread_indices,
        _sink_expand,
    ]
    _reshapes_only(joint)
    changed = True
    while changed:
        changed = False
        for node in list(joint.graph.nodes):
            if node.op == "call_function" and node.users:
                changed |= any(rewrite(node) for rewrite in rewrites)
        changed |= _share_equal(joint)
        joint.graph.eliminate_dead_code()
    joint.graph.lint()
    joint.recompile()
    return joint


def _reshapes_only(joint: fx.GraphModule) -> None:
    """Views are reshapes: strides mean nothing in a file, and copies that made a view possible go."""
    for node in joint.graph.nodes:
        if node.target in (aten.view.default, aten._unsafe_view.default):
            node.target = aten.reshape.default


def _drop_same_value(node: fx.Node) -> bool:
    """detach(x), clone(x), and a reshape or expand to the shape that x has, are x."""
    if not node.all_input_nodes:
        return False
    source = node.all_input_nodes[0]
    same = node.target in _SAME_VALUE
    if node.target in (aten.reshape.default, aten.expand.default):
        same = _shape(node) == _shape(source)
    if node.target is aten._to_copy.default:
        same = node.meta["val"].dtype == source.meta["val"].dtype
    if same:
        node.replace_all_uses_with(source)
    return same


def _drop_double_transpose(node: fx.Node) -> bool:
    """t(t(x)) is x."""
    if node.target is not aten.t.default:
        return False
    source = node.args[0]
    if isinstance(source, fx.Node) and source.target is aten.t.default:
        node.replace_all_uses_with(source.args[0])  # type: ignore[arg-type]
        return True
    return False


def _linear_again(node: fx.Node) -> bool:
    """addmm(b, x, t(w)) and mm(x, t(w)) are linear(x, w, b).

    As a linear operator the weight keeps its orientation in the file, which is the one
    that the backward pass reads: one copy instead of two.
    """
    if node.target not in (aten.addmm.default, aten.mm.default) or node.kwargs:
        return False
    *bias, source, transposed = node.args
    if not (isinstance(transposed, fx.Node) and transposed.target is aten.t.default):
        return False
    weight = transposed.args[0]
    if not (isinstance(weight, fx.Node) and weight.op == "get_attr"):
        return False
    with node.graph.inserting_before(node):
        linear = node.graph.call_function(aten.linear.default, (source, weight, *bias))
    linear.meta = dict(node.meta)
    node.replace_all_uses_with(linear)
    return True


def _drop_unread_indices(node: fx.Node) -> bool:
    """A max pooling whose indices nobody reads is one without (TensorRT refuses them)."""
    if node.target is not aten.max_pool2d_with_indices.default:
        return False
    if any(user.args[1] != 0 for user in node.users if user.users):
        return False
    with node.graph.inserting_before(node):
        pooled = node.graph.call_function(aten.max_pool2d.default, node.args, node.kwargs)
    for user in list(node.users):
        if user.args[1] == 0:
            pooled.meta["val"] = user.meta["val"]
            user.replace_all_uses_with(pooled)
    return True


def _sink_expand(node: fx.Node) -> bool:
    """f(expand(x), y) is f(x, y) when y is as large, and expand(f(x)) when x is alone."""
    if node.target not in _POINTWISE:
        return False
    expands = [n for n in node.all_input_nodes if n.target is aten.expand.default]
    if not expands or _shape(node) is None:
        return False
    others = [n for n in node.all_input_nodes if n not in expands and _shape(n) is not None]
    if any(_shape(other) == _shape(node) for other in others):
        for expand in expands:
            node.replace_input_with(expand, expand.args[0])  # type: ignore[arg-type]
        return True
    scalars = all(other.meta["val"].dim() == 0 for other in others)
    if len(expands) == 1 and scalars and _shape(expands[0]) == _shape(node):
        (expand,) = expands
        source = expand.args[0]
        assert isinstance(source, fx.Node)
        graph, mode = node.graph, source.meta["val"].fake_mode
        with graph.inserting_before(node):
            arguments = [source if argument is expand else argument for argument in node.args]
            small = call(graph, mode, node.target, *arguments, **node.kwargs)
            large = call(graph, mode, aten.expand.default, small, *expand.args[1:])
        node.replace_all_uses_with(large)
        return True
    return False


def _share_equal(joint: fx.GraphModule) -> bool:
    """Two nodes with the same operator and the same arguments are one (all are pure)."""
    seen: dict[Any, fx.Node] = {}
    changed = False
    for node in list(joint.graph.nodes):
        if node.op not in ("call_function", "get_attr"):
            continue
        key = (node.op, node.target, _freeze(node.args), _freeze(node.kwargs))
        first = seen.setdefault(key, node)
        if first is not node:
            node.replace_all_uses_with(first)
            joint.graph.erase_node(node)
            changed = True
    return changed


def _freeze(argument: Any) -> Any:
    """A hashable image of a node's arguments. Types count: 1, 1.0 and True differ."""
    if isinstance(argument, list | tuple):
        return tuple(_freeze(a) for a in argument)
    if isinstance(argument, dict):
        return tuple(sorted((k, _freeze(v)) for k, v in argument.items()))
    if isinstance(argument, slice):
        return ("slice", _freeze((argument.start, argument.stop, argument.step)))
    return argument if isinstance(argument, fx.Node) else (type(argument).__name__, repr(argument))


def _shape(node: Any) -> tuple[Any, ...] | None:
    value = node.meta.get("val") if isinstance(node, fx.Node) else None
    return tuple(str(size) for size in value.shape) if isinstance(value, torch.Tensor) else None
