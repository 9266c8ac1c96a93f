"""Target layers: which values can be explained, and which one is the default."""

from __future__ import annotations

import difflib
from dataclasses import replace

from onnx import NodeProto

from ..axes.layout import Layout, raster
from ..errors import LayerError, UnsupportedOperatorError
from ..graph import Graph
from .candidate import Candidate, Values
from .default_layer import proposals
from .path import is_integer_only, refusal
from .registry import node_name
from .score import Score
from .usable import blocker, refusals

__all__ = ["Candidate", "blocker", "candidates", "choose_layer", "describe", "explain_blocker", "usable_behind"]

_ACTIVATIONS = {
    "Relu", "LeakyRelu", "PRelu", "Elu", "Celu", "Selu", "ThresholdedRelu", "Clip", "Sigmoid", "HardSigmoid",
    "HardSwish", "Swish", "Mish", "Gelu", "Tanh", "Softplus", "Softsign", "BatchNormalization",
}  # fmt: skip
#: Of so many layers that may be the default the gradient is tried; a file in which none of them has one has a reason.
_TRIED = 8


def candidates(graph: Graph, score: Score, *, anywhere: bool = False) -> list[Candidate]:
    """Values between the image and the score that have a grid, in the graph's order.

    Values that only feed an activation or a normalisation are left out: their better half is
    listed; so are those that are still the image, in other numbers. The default, marked, is the first of
    `default_layer.proposals` from which the score can be differentiated; where there is none, the first of all, whose
    refusal says why. anywhere: see there.
    """
    return _listed(Values(graph, score), anywhere)


def _listed(values: Values, anywhere: bool = False) -> list[Candidate]:
    found: dict[str, Candidate] = {}
    for node in values.graph.nodes:
        for name in node.output:
            if name not in values.on_way or name not in values.features or _feeds_activation_only(values.graph, name):
                continue
            layer = values.candidate(name)
            if layer is not None:
                found[name] = layer
    default = _default(values, anywhere)
    if default is not None:
        found[default.name] = default
    return sorted(found.values(), key=lambda layer: layer.depth)


def _default(values: Values, anywhere: bool) -> Candidate | None:
    first: Candidate | None = None
    for tried, (layer, why) in enumerate(proposals(values, anywhere=anywhere)):
        marked = replace(layer, default=True, why=why)
        first = first or marked
        if tried >= _TRIED:
            break
        if not refusals(values.graph, values.score, [layer.name]):
            return marked
    return first


def choose_layer(
    graph: Graph, score: Score, name: str | None, axes: Layout | None = None, grid: tuple[int, int] | None = None
) -> Candidate:
    """The layer called `name` (a value, or a node whose first output is meant), or the default.

    axes: how the value holds its grid, where that is known already; grid: (H, W) of tokens, where only that is.
    Raises `LayerError` with the nearest names and the candidates.
    """
    values = Values(graph, score)
    known = _listed(values)
    if name is None:
        for candidate in known:
            if candidate.default:
                return candidate
        if not known:
            before = graph.ancestors([score.value])
            integers = (n for n in graph.nodes if is_integer_only(n) and not before.isdisjoint(n.output))
            if (node := next(integers, None)) is not None:
                raise UnsupportedOperatorError(str(refusal(node)))
            raise LayerError(
                "the model has no layer with a grid: behind the image no value keeps rows and columns apart, so there "
                "is nothing to make a map of; explain a model whose layers do, with convolutions or patches"
            )
        raise LayerError(f"no value with a grid is passed by every way to the score: name a layer; {describe(known)}")
    by_name = {c.name: c for c in known}
    value = name
    if name not in graph.producers:
        node = next((n for n in graph.nodes if n.name == name), None)
        if node is None:
            everything = [*by_name, *(c.node for c in known)]
            near = difflib.get_close_matches(name, everything, n=3, cutoff=0.3)
            hint = f"; nearest: {', '.join(near)}" if near else ""
            raise LayerError(f"the graph has no value or node '{name}'{hint}; {describe(known)}")
        value = next((o for o in node.output if o in by_name), node.output[0])
    if value in by_name:
        return by_name[value] if axes is None else replace(by_name[value], axes=axes)
    if value not in graph.ancestors([score.value]):
        raise LayerError(f"layer '{name}' does not reach the score '{score.value}'; {describe(known)}")
    node = graph.producers[value]
    depth = graph.nodes.index(node)
    shape = graph.shape(value) or ()
    if axes is not None:
        return Candidate(value, node.name, node.op_type, shape, axes, depth)
    made = values.named(value)
    tokens = shape[1] if len(shape) == 3 and isinstance(shape[1], int) else 0
    if made is None and grid is not None and (given := raster(*grid, tokens)) is not None:
        return Candidate(value, node.name, node.op_type, shape, given, depth)
    if made is None:
        hint = (
            "; if its tokens are in reading order, give their grid with --grid HxW (grid=(H, W) in Python)"
            if tokens
            else ""
        )
        expected = "(N, C, H, W), (N, H, W, C) or (N, T, C)"
        raise LayerError(
            f"layer '{name}' has shape {shape}, expected a grid of features {expected}{hint}; {describe(known)}"
        )
    return made


def describe(known: list[Candidate], most: int = 12) -> str:
    """The last candidates in one line: name and shape."""
    if not known:
        return "no value of this graph has a grid of features"
    shown = known[-most:]
    text = ", ".join(f"{c.name} ({', '.join(str(d or '?') for d in c.shape)})" for c in shown)
    return f"{'last ' if len(known) > most else ''}candidates: {text}"


def usable_behind(graph: Graph, score: Score, node: NodeProto) -> Candidate | None:
    """The first candidate that `node` makes or that lies behind it, from which the score can be differentiated."""
    behind = graph.descendants([o for o in node.output if o])
    near = [c for c in candidates(graph, score) if c.name in behind]
    refused = refusals(graph, score, [c.name for c in near])
    return next((c for c in near if c.name not in refused), None)


def _feeds_activation_only(graph: Graph, name: str) -> bool:
    users = graph.consumers.get(name, [])
    return len(users) == 1 and users[0].op_type in _ACTIVATIONS and users[0].input[0] == name


def explain_blocker(graph: Graph, score: Score, layer: Candidate, node: NodeProto, reason: str | None = None) -> str:
    """The whole sentence about an operator that stops the derivative."""
    reason = reason or refusal(node) or f"{node_name(node)} cannot be differentiated"
    reached = [n for n in node.input if n in graph.descendants([layer.name])]
    better = usable_behind(graph, score, node)
    advice = (
        f"the nearest layer behind it that works is '{better.name}' ({better.operator}, shape {better.shape})"
        if better is not None
        else "no layer behind it has a grid; export the model without that operator"
    )
    return f"{reason}; layer '{layer.name}' reaches it by {', '.join(repr(n) for n in reached)}; {advice}"
