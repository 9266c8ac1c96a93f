"""Target layers: which values can be explained, and which one is the default."""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass, replace
from typing import Literal

from onnx import NodeProto, TensorProto

from ..axes.layout import NCHW, Layout, raster
from ..axes.onnx_values import AxisMap, map_axes
from ..errors import LayerError
from ..graph import Graph, Shape, attribute
from .path import find_path, refusal
from .registry import node_name
from .rewriting import find_rewrite
from .score import Score

__all__ = ["Candidate", "blocker", "candidates", "choose_layer", "describe", "explain_blocker", "usable_behind"]

_POOLS = {"GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"}
_WINDOW_POOLS = {"AveragePool", "MaxPool", "LpPool"}
_REDUCTIONS = {"ReduceMean", "ReduceMax", "ReduceSum", "ReduceL2"}
_ACTIVATIONS = {
    "Relu", "LeakyRelu", "PRelu", "Elu", "Celu", "Selu", "ThresholdedRelu", "Clip", "Sigmoid", "HardSigmoid",
    "HardSwish", "Swish", "Mish", "Gelu", "Tanh", "Softplus", "Softsign", "BatchNormalization",
}  # fmt: skip
_DISCRETE = {TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL}
_MIXERS = {"Softmax", "Attention", "MultiHeadAttention"}


@dataclass(frozen=True)
class Candidate:
    """A value that a map can be made of.

    name: of the value. node, operator: what makes it. axes: how the value, of this shape, holds its grid. depth:
    its place among the graph's nodes, 0 first. default: this is what is taken when none is named; why: the
    reason in words. assumed: the axes could not be followed from the image, and are what the shape looks like.
    """

    name: str
    node: str
    operator: str
    shape: Shape
    axes: Layout
    depth: int
    default: bool = False
    why: str = ""
    assumed: bool = False

    @property
    def layout(self) -> Literal["NCHW", "NHWC", "NTC"]:
        """The kind of `axes`."""
        return self.axes.kind

    @property
    def channels(self) -> int:
        """Number of channels."""
        return self.axes.grid(self.shape[1:])[0]

    @property
    def grid(self) -> tuple[int | None, int | None]:
        """(H, W); None for a size that is not fixed."""
        height, width = (d if isinstance(d, int) else None for d in self.axes.grid(self.shape[1:])[1:])
        return height, width

    @property
    def prefix_tokens(self) -> int:
        """Class and register tokens in front of the grid's (``NTC`` only)."""
        return self.axes.prefix


def candidates(graph: Graph, score: Score, *, anywhere: bool = False) -> list[Candidate]:
    """Values between the image and the score that have a grid, in the graph's order.

    Values that only feed an activation or a normalisation are left out: their better half is
    listed. The default, marked, is the value that enters the last spatial pooling or flatten
    and that every way to the score passes. anywhere: else the last value with a grid that does; of tokens that are
    pooled without those in front of the grid, the value that still has all of them, which modules return.
    """
    on_way = graph.ancestors([score.value]) & graph.descendants(graph.input_names)
    axes = map_axes(graph)
    found: list[Candidate] = []
    for depth, node in enumerate(graph.nodes):
        for name in node.output:
            if not name or name not in on_way or _feeds_activation_only(graph, name):
                continue
            made = _candidate(graph, axes, score, node, name, depth)
            if made is not None:
                found.append(made)
    by_name = {c.name: c for c in found}
    chosen = _default(graph, score, by_name) or (_last(graph, score, by_name) if anywhere else None)
    if chosen is None:
        return found
    name, why = chosen
    name = _before_slice(graph, name, by_name) if anywhere else name
    if name not in {c.name for c in found}:
        node = graph.producers[name]
        extra = _candidate(graph, axes, score, node, name, graph.nodes.index(node))
        if extra is None:
            return found
        found = sorted([*found, extra], key=lambda c: c.depth)
    return [replace(c, default=True, why=why) if c.name == name else c for c in found]


def choose_layer(
    graph: Graph, score: Score, name: str | None, axes: Layout | None = None, grid: tuple[int, int] | None = None
) -> Candidate:
    """The layer called `name` (a value, or a node whose first output is meant), or the default.

    axes: how the value holds its grid, where that is known already; grid: (H, W) of tokens, where only that is.
    Raises `LayerError` with the nearest names and the candidates.
    """
    known = candidates(graph, score)
    if name is None:
        for candidate in known:
            if candidate.default:
                return candidate
        raise LayerError(f"no value enters a last spatial pooling: name a layer; {describe(known)}")
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
    made = _candidate(graph, map_axes(graph), score, node, value, depth)
    tokens = shape[1] if len(shape) == 3 and isinstance(shape[1], int) else 0
    if made is None and grid is not None and (given := raster(*grid, tokens)) is not None:
        return Candidate(value, node.name, node.op_type, shape, given, depth)
    if made is None:
        hint = "; if its tokens are in reading order, give their grid (grid=(H, W))" if tokens else ""
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


def blocker(graph: Graph, layer: str, score: str) -> NodeProto | None:
    """The last node between layer and score that cannot be differentiated, or None."""
    nodes = find_path(graph, [layer], [score]).nodes
    bad = [n for n in nodes if find_rewrite(n) is None and refusal(n) is not None]
    return bad[-1] if bad else None


def usable_behind(graph: Graph, score: Score, node: NodeProto) -> Candidate | None:
    """The first candidate that `node` makes or that lies behind it, from which the score can be differentiated."""
    behind = graph.descendants([o for o in node.output if o])
    usable = (c for c in candidates(graph, score) if c.name in behind and blocker(graph, c.name, score.value) is None)
    return next(usable, None)


def _feeds_activation_only(graph: Graph, name: str) -> bool:
    users = graph.consumers.get(name, [])
    return len(users) == 1 and users[0].op_type in _ACTIVATIONS and users[0].input[0] == name


def _candidate(graph: Graph, axes: AxisMap, score: Score, node: NodeProto, name: str, depth: int) -> Candidate | None:
    shape = graph.shape(name)
    if shape is None or not graph.is_float(name) or len(shape) not in (3, 4):
        return None
    batch, ours = score.shape[0], shape[0]
    if isinstance(batch, int) and isinstance(ours, int) and batch != ours:
        return None
    known, sizes = axes.layout(name), axes.sizes(name)
    if known is not None and sizes is not None:
        return Candidate(name, node.name, node.op_type, (shape[0], *sizes[1:]), known, depth)
    return _guessed(graph, node, name, depth, shape) if axes.is_lost(name) else None


def _guessed(graph: Graph, node: NodeProto, name: str, depth: int, shape: Shape) -> Candidate | None:
    """What a value of unknown axes looks like by its shape and its neighbours."""
    if len(shape) == 4:
        axes = Layout("NHWC") if _is_nhwc(graph, name, shape) else NCHW
        if 1 in axes.grid(shape[1:])[1:]:  # a row or a column at most
            return None
    else:
        tokens = shape[1]
        side = math.isqrt(tokens) if isinstance(tokens, int) else 0
        axes = raster(side, side, tokens) if isinstance(tokens, int) else None
        if side < 2 or axes is None or axes.prefix > 8:
            return None
    if not isinstance(axes.grid(shape[1:])[0], int):
        return None
    return Candidate(name, node.name, node.op_type, shape, axes, depth, assumed=True)


def _is_nhwc(graph: Graph, name: str, shape: Shape) -> bool:
    """True when the value is used, or was made, with its channels last."""
    for user in graph.consumers.get(name, ()):
        if user.op_type in _REDUCTIONS and _axes(graph, user, 4) == [1, 2]:
            return True
        if user.op_type == "Transpose" and attribute(user, "perm") and list(attribute(user, "perm")) == [0, 3, 1, 2]:
            return True
        if (user.op_type == "MatMul" and user.input[0] == name) or user.op_type == "LayerNormalization":
            return True
    maker = graph.producers.get(name)
    made = maker is not None and maker.op_type == "Transpose" and list(attribute(maker, "perm", [])) == [0, 2, 3, 1]
    square = shape[1] == shape[2] and shape[2] != shape[3]
    return made and square


def _axes(graph: Graph, node: NodeProto, rank: int) -> list[int] | None:
    axes = graph.integers(node, "axes", 1)
    return None if axes is None else sorted(axis % rank for axis in axes)


def _default(graph: Graph, score: Score, known: dict[str, Candidate]) -> tuple[str, str] | None:
    on_way = graph.ancestors([score.value])
    for node in reversed(graph.nodes):
        if not any(o in on_way for o in node.output) or not node.input:
            continue
        why = _pools(graph, node, known)
        if why is not None and _unavoidable(graph, score, node.input[0]):
            return _before_turns(graph, node.input[0], known), f"enters the last {why} ({node.op_type} '{node.name}')"
    # Class-token networks: the last stream before tokens are mixed for the last time.
    mixed = False
    for node in reversed(graph.nodes):
        if not any(o in on_way for o in node.output):
            continue
        if mixed:
            for output in node.output:
                if output in known and known[output].layout == "NTC" and _unavoidable(graph, score, output):
                    stream = _before_projections(graph, output, known)
                    return stream, "the token stream that enters the last attention block"
        mixed = mixed or node.op_type in _MIXERS
    return None


def _last(graph: Graph, score: Score, known: dict[str, Candidate]) -> tuple[str, str] | None:
    """Where no pooling and no flatten ends the grid: the last value that has one and that everything passes."""
    on_way = graph.ancestors([score.value])
    for name in reversed(known):
        if not known[name].assumed and _unavoidable(graph, score, name):
            users = [node for node in graph.consumers.get(name, ()) if any(o in on_way for o in node.output)]
            enters = ", ".join(f"{node.op_type} '{node.name}'" for node in users)
            return name, f"the last value with a grid; enters {enters}"
    return None


def _before_turns(graph: Graph, value: str, known: dict[str, Candidate]) -> str:
    """The layer that is turned round to be pooled: tokens as (N, C, T) or (N, C, 1, T) have no layout of their own."""
    source = value
    while source not in known:
        node = graph.producers.get(source)
        if node is None or node.op_type not in ("Transpose", "Unsqueeze"):
            return value
        source = node.input[0]
    return source


def _before_slice(graph: Graph, value: str, known: dict[str, Candidate]) -> str:
    """The value whose prefix tokens are cut off to make `value`: setting them aside is what the export does too."""
    while (node := graph.producers.get(value)) is not None and node.op_type == "Slice":
        source = node.input[0]
        if source not in known or value not in known or known[source].grid != known[value].grid:
            break
        value = source
    return value


def _before_projections(graph: Graph, value: str, known: dict[str, Candidate]) -> str:
    """The stream that keys and values are projected from, where all that attention reads is one projection."""
    found, node = value, graph.producers.get(value)
    while node is not None and node.op_type in ("Add", "Gemm", "MatMul"):
        sources = [n for n in node.input if n and n not in graph.constants]
        if len(sources) != 1:
            break
        if sources[0] in known and known[sources[0]].layout == "NTC":
            found = sources[0]
        node = graph.producers.get(sources[0])
    return found


def _pools(graph: Graph, node: NodeProto, known: dict[str, Candidate]) -> str | None:
    """What kind of end of the grid this node is, or None."""
    shape, out = graph.shape(node.input[0]), graph.shape(node.output[0])
    if shape is None or not graph.is_float(node.input[0]):
        return None
    if len(shape) == 4:
        nhwc = node.op_type in _REDUCTIONS and _axes(graph, node, 4) == [1, 2]
        grid = (shape[1], shape[2]) if nhwc else (shape[2], shape[3])
        if grid == (1, 1):
            return None
        if node.op_type in _POOLS:
            return "global pooling"
        if node.op_type in _REDUCTIONS and _axes(graph, node, 4) in ([2, 3], [1, 2]):
            return "global pooling"
        if node.op_type in _WINDOW_POOLS and out is not None and out[2:] == (1, 1):
            return "pooling over the whole grid"
        if node.op_type in ("Flatten", "Reshape") and out is not None and len(out) == 2:
            return "flatten"
    tokens = known.get(node.input[0])
    if tokens is not None and tokens.layout == "NTC" and node.op_type in _REDUCTIONS and _axes(graph, node, 3) == [1]:
        return "pooling over the tokens"
    return None


def _unavoidable(graph: Graph, score: Score, value: str) -> bool:
    """True when every way of floating-point values from the inputs to the score passes `value`.

    Integers do not count: sizes taken from the image reach everything.
    """
    seen, waiting = {value}, list(graph.input_names)
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        for node in graph.consumers.get(name, ()):
            waiting.extend(o for o in node.output if o and graph.elem_type(o) not in _DISCRETE)
    return score.value not in seen


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
