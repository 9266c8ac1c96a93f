"""Making nodes in a traced graph with the shape and dtype that they will have."""

from __future__ import annotations

from typing import Any

from torch import fx
from torch._subclasses.fake_tensor import FakeTensorMode

__all__ = ["call"]


def call(graph: fx.Graph, mode: FakeTensorMode, target: Any, *args: Any, **kwargs: Any) -> fx.Node:
    """Add a call at the graph's insertion point, with ``meta["val"]`` from a run in `mode`."""
    node = graph.call_function(target, args, kwargs)

    def value(argument: fx.Node) -> Any:
        return argument.meta["val"]

    with mode:
        node.meta["val"] = target(*fx.map_arg(args, value), **fx.map_arg(kwargs, value))
    return node
