"""The default layer: what stands at the end of the grid, and what is tried where that cannot be explained."""

from __future__ import annotations

from collections.abc import Iterator

from onnx import NodeProto, TensorProto

from ..graph import Graph, attribute
from .candidate import REDUCTIONS, Candidate, Values, reduced_axes
from .score import Score

__all__ = ["proposals"]

_POOLS = {"GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"}
_WINDOW_POOLS = {"AveragePool", "MaxPool", "LpPool"}
_PLANES = {"Conv", "ConvTranspose", "FusedConv"}
#: What only holds the same numbers in another shape.
_TURNS = {"Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"}
_DISCRETE = {TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL}
_MIXERS = {"Softmax", "Attention", "MultiHeadAttention"}
#: A window of at least so many cells that covers more than half of the grid mixes what is far apart.
_LARGE_WINDOW = 4


def proposals(values: Values, *, anywhere: bool) -> Iterator[tuple[Candidate, str]]:
    """Layers that may be the default, the best first, and in words why.

    Each is a value that every way to the score passes: what enters the last spatial pooling or flatten, or an earlier
    one; of class-token networks, the stream before tokens are mixed for the last time; where nothing ends the grid, the
    last value that has one. anywhere: of tokens that are pooled without those in front of the grid, the
    value that still has all of them, which modules return.
    """
    seen: set[str] = set()
    for layer, why in (*_ends(values), *_streams(values), *_last(values)):
        layer = _before_slice(values, layer) if anywhere else layer
        if layer.name not in seen and layer.name in values.features:
            seen.add(layer.name)
            yield layer, why


def _ends(values: Values) -> Iterator[tuple[Candidate, str]]:
    """What enters a pooling or a flatten, from the last one on."""
    for node in _on_way(values):
        layer = _source(values, node.input[0]) if node.input else None
        why = None if layer is None else _end(values, node, layer)
        if layer is not None and why is not None and _unavoidable(values.graph, values.score, layer.name):
            yield layer, f"enters the last {why} ({node.op_type} '{node.name}')"


def _on_way(values: Values) -> Iterator[NodeProto]:
    """Nodes that the score depends on, the last one first."""
    return (node for node in reversed(values.graph.nodes) if any(output in values.on_way for output in node.output))


def _source(values: Values, name: str) -> Candidate | None:
    """The value with a grid that `name` is, turned round or pooled along one side already."""
    while (node := values.graph.producers.get(name)) is not None:
        here = values.candidate(name)
        if here is not None and not _thins(values, node):
            return here
        if here is None and node.op_type not in _TURNS and not _thins(values, node):
            return None
        name = node.input[0]
    return None


def _thins(values: Values, node: NodeProto) -> bool:
    """Whether a node pools a grid along one side only, or over windows that cover most of it."""
    layer = values.candidate(node.input[0]) if node.input else None
    if layer is None:
        return False
    if node.op_type in REDUCTIONS:
        reduced = reduced_axes(values.graph, node, len(layer.shape))
        return layer.layout != "NTC" and reduced is not None and len({*reduced} & {*layer.axes.grid_axes}) == 1
    if node.op_type != "AveragePool" or layer.layout != "NCHW":
        return False
    window = list(attribute(node, "kernel_shape", []))
    covered = all(side is not None and 2 * size > side for size, side in zip(window, layer.grid, strict=False))
    return len(window) == 2 and covered and max(window) >= _LARGE_WINDOW


def _end(values: Values, node: NodeProto, layer: Candidate) -> str | None:
    """What kind of end of the grid of `layer` a node is, which reads it, or None."""
    graph = values.graph
    rank, out = len(graph.shape(node.input[0]) or ()), graph.shape(node.output[0])
    gone = values.axes.has_place(node.output[0]) is False
    if node.op_type in _POOLS:
        return "global pooling"
    if node.op_type in REDUCTIONS:
        reduced = reduced_axes(graph, node, rank)
        direct = node.input[0] == layer.name and reduced == list(layer.axes.grid_axes)
        if layer.layout == "NTC":
            return "pooling over the tokens" if direct or gone else None
        return "global pooling" if direct or gone else None
    if node.op_type in _WINDOW_POOLS and out is not None and out[2:] == (1, 1):
        return "pooling over the whole grid"
    if node.op_type in _PLANES and gone:
        return "convolution over the whole grid"
    if node.op_type in ("Flatten", "Reshape") and out is not None and len(out) == 2 and rank == 4:
        return "flatten"
    return None


def _streams(values: Values) -> Iterator[tuple[Candidate, str]]:
    """Of class-token networks: the last stream before tokens are mixed for the last time, then earlier ones."""
    mixed = False
    for node in _on_way(values):
        if mixed:
            for output in node.output:
                layer = values.candidate(output)
                if layer is not None and layer.layout == "NTC" and _unavoidable(values.graph, values.score, output):
                    yield _before_projections(values, layer), "the token stream that enters the last attention block"
        mixed = mixed or node.op_type in _MIXERS


def _last(values: Values) -> Iterator[tuple[Candidate, str]]:
    """Where no pooling and no flatten ends the grid: values that have one, the last one first."""
    for node in _on_way(values):
        for name in node.output:
            layer = values.candidate(name)
            if layer is not None and not layer.assumed and _unavoidable(values.graph, values.score, name):
                users = [n for n in values.graph.consumers.get(name, ()) if any(o in values.on_way for o in n.output)]
                enters = ", ".join(f"{n.op_type} '{n.name}'" for n in users)
                yield layer, f"the last value with a grid; enters {enters}"


def _before_slice(values: Values, layer: Candidate) -> Candidate:
    """The value whose prefix tokens are cut off to make `layer`: setting them aside is what the export does too."""
    while (node := values.graph.producers[layer.name]).op_type == "Slice":
        source = values.candidate(node.input[0])
        if source is None or source.grid != layer.grid:
            break
        layer = source
    return layer


def _before_projections(values: Values, layer: Candidate) -> Candidate:
    """The stream that keys and values are projected from, where all that attention reads is one projection."""
    node = values.graph.producers.get(layer.name)
    while node is not None and node.op_type in ("Add", "Gemm", "MatMul"):
        sources = [n for n in node.input if n and n not in values.graph.constants]
        if len(sources) != 1:
            break
        source = values.candidate(sources[0])
        if source is not None and source.layout == "NTC":
            layer = source
        node = values.graph.producers.get(sources[0])
    return layer


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
