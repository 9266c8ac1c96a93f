"""Bodies of loops: graphs of their own, which read values of the graph around them by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from onnx import GraphProto, ModelProto, TensorProto, helper

from ..graph import Graph, Shape
from ..reverse.emitter import Emitter, Value

__all__ = ["Body", "loop"]


class Body:
    """The body of a Loop under construction. Reading a value of the graph around needs `outer`, which names it here."""

    def __init__(self, around: Emitter, prefix: str) -> None:
        model = ModelProto(ir_version=around.graph.ir_version)
        model.opset_import.extend(helper.make_opsetid(d, v) for d, v in around.graph.opsets.items())
        model.graph.name = around.graph.fresh(f"{prefix}_body")
        self.graph = Graph(model)
        self.graph.names |= around.graph.names  # a body may not give a name that is taken around it
        self.emitter = Emitter(self.graph, prefix, share=False)

    def input(self, name: str, kind: int, shape: Shape) -> Value:
        name = self.graph.fresh(f"{self.emitter.prefix}_{name}")
        self.graph.inputs.append(helper.make_tensor_value_info(name, kind, list(shape)))
        self.graph.types[name] = (kind, shape)
        return self.emitter.value(name)

    def outer(self, value: Value) -> Value:
        """A value of the graph around, as the body reads it."""
        self.graph.types[value.name] = (value.kind, value.shape)
        return self.emitter.value(value.name)

    def finish(self, outputs: Sequence[Value]) -> GraphProto:
        graph = self.graph
        shown = []
        for value in outputs:  # an output must be made by a node of the body, and by one alone
            made = self.emitter("Identity", value, shape=value.shape)
            shown.append(helper.make_tensor_value_info(made.name, made.kind, _stated(made.shape)))
        read = {name for node in graph.nodes for name in node.input}
        constants = [tensor for name, tensor in graph.constants.items() if name in read]  # some were folded
        return helper.make_graph(graph.nodes, graph.model.graph.name, graph.inputs, shown, initializer=constants)


def _stated(shape: Shape | None) -> list[int | str | None] | None:
    return None if shape is None else list(shape)


def loop(
    around: Emitter,
    prefix: str,
    trips: Value,
    carried: Sequence[Value],
    step: Callable[[Body, Value, Sequence[Value]], tuple[Value | None, Sequence[Value], Sequence[Value]]],
    *,
    scanned: int = 0,
) -> tuple[list[Value], list[Value]]:
    """A Loop.

    Args:
        around: where it stands.
        prefix: of the names in its body.
        trips: int64 scalar, how many turns at most.
        carried: values that each turn gets from the one before.
        step: (body, number of the turn as an int64 scalar, carried) -> (whether to go on, a bool scalar, or None for
            always; what is carried on; what each turn leaves behind).
        scanned: how many values each turn leaves behind.

    Returns:
        What was carried to the end, and what the turns left behind, with an axis of turns in front.
    """
    graph = around.graph
    body = Body(around, prefix)
    turn = body.input("turn", TensorProto.INT64, ())
    going = body.input("going", TensorProto.BOOL, ())
    states = [body.input("state", value.kind, value.dims) for value in carried]
    go_on, states_after, left = step(body, turn, states)
    assert len(left) == scanned
    assert len(states_after) == len(carried)
    proto = body.finish([go_on if go_on is not None else going, *states_after, *left])
    graph.names |= body.graph.names
    ends = [graph.fresh(f"{prefix}_end") for _ in carried]
    rows = [graph.fresh(f"{prefix}_rows") for _ in left]
    # An empty last input is dropped by some tools, and a Loop has two inputs at least.
    always = "" if carried else around.constant(np.array(True)).name
    node = helper.make_node(
        "Loop", [trips.name, always, *(value.name for value in carried)], [*ends, *rows], body=proto,
        name=graph.fresh(f"{prefix}_loop"),
    )  # fmt: skip
    for name, value in zip(ends, carried, strict=True):
        graph.types[name] = (value.kind, value.shape)
    for name, value in zip(rows, left, strict=True):
        graph.types[name] = (value.kind, (None, *value.dims))
    graph.add_node(node)
    return [around.value(name) for name in ends], [around.value(name) for name in rows]
