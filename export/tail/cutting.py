"""The tail of an exported file: the part from the target layer to the class scores.

Whoever holds a ``.cam.onnx``, whatever it was made of, can cut it out and run it: to check the
gradient by differences, or to ablate channels. The layer is found in the graph itself, by
walking back from the file's ``cam_activations``; names in `LayerSpec` of older files may be those of a tracer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper

from ...runtime.contract.spec import CamSpec, LayerSpec
from ..axes.layout import Layout, in_order
from ..errors import LayerError
from ..graph import Graph, Shape, attribute, extract, fold_constants, open_graph
from ..graph.graph import reads
from ..proof.float64 import Evaluator
from ..reverse.score import score_of

__all__ = [
    "Tail",
    "cut",
    "cut_tail",
    "find_detail_value",
    "find_layer_value",
    "held_axes",
    "index_map",
    "open_exported",
]

#: What an exporter puts between the layer and `cam_activations`.
_REARRANGING = {"Cast", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"}


@dataclass(frozen=True, eq=False)
class Tail:
    """model: computes `score` (and, when asked for, the file's gradient and class outputs, from its
    class input) from `layer` and `others`.

    layer: the layer's value, in the model's own layout. others: values that go round the layer
    and that the tail needs too; empty for most networks. shape: of the layer's value, batch first.
    score: the logits, (N, classes) with any axes of 1 behind.
    index: int64 (C, H, W), where each cell of ``cam_activations`` lies in one image's flattened
    layer value; cells of the value that are not in it are tokens that were set aside.
    """

    model: ModelProto
    layer: str
    others: tuple[str, ...]
    shape: Shape
    score: str
    index: NDArray[np.int64]

    @property
    def complete(self) -> bool:
        """True when `cam_activations` holds all of the layer's value."""
        return self.index.size == int(np.prod([int(d or 0) for d in self.shape[1:]]))

    @property
    def needed(self) -> tuple[str, ...]:
        """Values that must be read out of a run of the whole file, besides ``cam_activations``."""
        return self.others if self.complete else (self.layer, *self.others)

    def layer_value(self, activations: NDArray, known: Mapping[str, NDArray] | None = None) -> NDArray:
        """The layer's value that has these activations (N, C, H, W).

        known: values from a run of the file; the layer's own is needed, for tokens that were set
        aside, only when `complete` is False.
        """
        count = len(activations)
        flat = np.empty((count, int(np.prod([int(d or 0) for d in self.shape[1:]]))), activations.dtype)
        if not self.complete:
            flat[:] = np.asarray((known or {})[self.layer]).reshape(count, -1)
        flat[:, self.index.reshape(-1)] = activations.reshape(count, -1)
        return flat.reshape(count, *(int(d or 0) for d in self.shape[1:]))

    def maps(self, value: NDArray) -> NDArray:
        """(N, C, H, W) of something in the layer's layout (N, ...)."""
        return value.reshape(len(value), -1)[:, self.index]


def open_exported(model: ModelProto) -> Graph:
    """An exported model as a `Graph` in normal form. Raises what `normalise` raises."""
    graph, _ = open_graph(model)
    fold_constants(graph)
    return graph


def cut_tail(model: ModelProto | Graph, spec: CamSpec, *, gradients: bool = False) -> Tail:
    """Cut the tail out of an exported model, which is not changed.

    gradients: keep the backward pass too; the tail then also gives the outputs that
    `spec.layer.gradients` and `spec.chosen` name, and takes the input `spec.target`.
    Raises `LayerError` when the graph has no layer that `cam_activations` shows.
    """
    graph = model if isinstance(model, Graph) else open_exported(model)
    layer = find_layer_value(graph, spec)
    score = score_of(graph, spec.output)
    outputs = [score.value, *((spec.layer.gradients, spec.chosen) if gradients else ())]
    part, others = cut(graph, layer, outputs, inputs=[spec.target] if gradients else [])
    return Tail(part, layer, tuple(others), graph.shape(layer) or (), score.value, index_map(graph, spec.layer, layer))


def find_layer_value(graph: Graph, spec: CamSpec) -> str:
    """The value that is the target layer: `cam_activations`, or what it was rearranged from.

    Raises `LayerError`.
    """
    on_way = graph.ancestors([score_of(graph, spec.output).value])
    chain = _rearranged_from(graph, spec.layer.activations)
    # The name that the spec gives may be a tracer's, which stands for another value here: its shape counts too.
    fitting = [value for value in chain if value in on_way and _holds(graph.shape(value), spec.layer)]
    if fitting:
        return spec.layer.value if spec.layer.value in fitting else fitting[0]
    raise LayerError(
        f"output '{spec.layer.activations}' does not show a value on the way to score '{spec.output.name}' that holds "
        f"{spec.layer.channels} channels of {spec.layer.grid[0]}x{spec.layer.grid[1]} as {spec.layer.layout}: "
        "was the file changed after its export?"
    )


def find_detail_value(graph: Graph, detail: LayerSpec, layer: str) -> str:
    """The value that is the detail layer of the target layer's value `layer`. Raises `LayerError`."""
    on_way = graph.ancestors([layer])
    fitting = [
        value
        for value in _rearranged_from(graph, detail.activations)
        if value in on_way and _holds(graph.shape(value), detail)
    ]
    if fitting:
        return detail.value if detail.value in fitting else fitting[0]
    raise LayerError(
        f"output '{detail.activations}' does not show a value on the way to the target layer that holds "
        f"{detail.channels} channels of {detail.grid[0]}x{detail.grid[1]}: was the file changed after its export?"
    )


def _rearranged_from(graph: Graph, output: str) -> list[str]:
    """`output` and the values that it was rearranged from, one after the other."""
    chain = [output]
    while (node := graph.producers.get(chain[-1])) is not None and node.op_type in _REARRANGING:
        chain.append(node.input[0])
    return chain


def _holds(shape: Shape | None, layer: LayerSpec) -> bool:
    """Whether a value of this shape can be the layer, in the layout that the spec states."""
    if shape is None:
        return False
    if layer.layout == "NTC":
        tokens = shape[1] if len(shape) == 3 else None
        return isinstance(tokens, int) and shape[2] == layer.channels and tokens >= layer.grid[0] * layer.grid[1]
    height, width = layer.grid
    want = (layer.channels, height, width) if layer.layout == "NCHW" else (height, width, layer.channels)
    return tuple(shape[1:]) == want


def index_map(graph: Graph, spec: LayerSpec, layer: str) -> NDArray[np.int64]:
    """Where each cell of `cam_activations` lies in one image's flattened layer value: int64 (C, H, W).

    Found by running the few nodes between the two on cells that hold their own number.
    """
    shape = graph.shape(layer) or (None,)
    batch, sizes = shape[0], shape[1:]
    count = batch if isinstance(batch, int) else 1
    numbers = np.arange(np.prod([int(d or 0) for d in sizes], dtype=np.int64), dtype=np.float64)
    if layer == spec.activations:
        return numbers.astype(np.int64).reshape(spec.channels, *spec.grid)
    chain, _ = cut(graph, layer, [spec.activations])
    every = np.broadcast_to(numbers, (count, numbers.size)).reshape(count, *(int(d or 0) for d in sizes))
    return Evaluator(chain).run({layer: every})[spec.activations][0].astype(np.int64)


def held_axes(followed: Layout | None, places: NDArray[np.int64], shape: Sequence[Any], layer: LayerSpec) -> Layout:
    """How the layer's value holds its grid: in reading order or as its axes say, as the file gives its cells.

    followed: what its axes say. places: as `index_map` finds them. shape: of the value, without the batch. Raises
    `LayerError` where the file gives its cells in another order.
    """
    in_reading_order = in_order(*layer.grid, layer.prefix_tokens) if layer.layout == "NTC" else Layout(layer.layout)
    for axes in (in_reading_order, followed):
        if axes is not None and np.array_equal(axes.places(shape), places):
            return axes
    raise LayerError(f"layer '{layer.name}': the order in which the file gives its cells cannot be told from its graph")


def cut(
    graph: Graph, layer: str, outputs: Sequence[str], *, inputs: Sequence[str] = (), around: bool = True
) -> tuple[ModelProto, list[str]]:
    """(model, others): the part of `graph` that computes `outputs` from `layer` and `others`.

    inputs: graph inputs that the part keeps. around: values that go round the layer become
    `others`; otherwise the part computes them itself, from the graph's own inputs.
    The batch size is read off the layer, wherever the graph reads it off a value before the layer.
    """
    own = [layer, *inputs]
    inside = graph.descendants(own)
    sizes = _sizes(graph, layer, inside)
    free = _free_of_inputs(graph, set(sizes))
    others: dict[str, None] = {}
    if around:
        for node in _needed_nodes(graph, own, outputs):
            if any(o in inside for o in node.output):
                others.update((n, None) for n in reads(node) if n not in inside and n not in free)
    stops = [layer, *others]
    read = {n for node in _needed_nodes(graph, [*stops, *sizes], outputs) for n in reads(node)}
    used = [name for name in sizes if name in read]
    model = extract(graph, [*stops, *used], outputs)
    kept = [i for i in model.graph.input if i.name not in used]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    nodes = [n for name in used for n in _size_nodes(graph, layer, name, sizes[name])] + list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model, list(others)


def _sizes(graph: Graph, layer: str, inside: set[str]) -> dict[str, list[int | None]]:
    """Outputs of ``Shape`` nodes before the layer -> their numbers, None for the layer's own batch.

    Reshapes ask for N by the shape of whatever is at hand, often the image.
    """
    batch, *_ = graph.shape(layer) or (None,)
    found: dict[str, list[int | None]] = {}
    for node in graph.nodes:
        if node.op_type != "Shape" or node.input[0] in inside or not isinstance(batch, str):
            continue
        shape = graph.shape(node.input[0])
        if shape and shape[0] == batch and all(isinstance(d, int) for d in shape[1:]):
            part = list(shape)[attribute(node, "start", 0) : attribute(node, "end", len(shape))]
            found[node.output[0]] = [d if isinstance(d, int) else None for d in part]
    return found


def _size_nodes(graph: Graph, layer: str, name: str, sizes: list[int | None]) -> list[NodeProto]:
    """Nodes that make `name` = `sizes` from the layer's shape."""

    def numbers(values: list[int]) -> NodeProto:
        made = graph.fresh(f"{name}_numbers")
        return helper.make_node("Constant", [], [made], name=made, value_ints=values)

    if None not in sizes:
        constant = numbers([int(d or 0) for d in sizes])
        constant.output[0] = name
        return [constant]
    whole, first = graph.fresh(f"{name}_layer"), graph.fresh(f"{name}_batch")
    zero = numbers([0])
    nodes = [
        zero,
        helper.make_node("Shape", [layer], [whole], name=whole),
        helper.make_node("Gather", [whole, zero.output[0]], [first], name=first),
    ]
    if len(sizes) == 1:
        nodes[-1].output[0] = name
        return nodes
    rest = numbers([int(d or 0) for d in sizes[1:]])
    joined = helper.make_node("Concat", [first, rest.output[0]], [name], axis=0, name=graph.fresh(f"{name}_joined"))
    return [*nodes, rest, joined]


def _free_of_inputs(graph: Graph, known: set[str]) -> set[str]:
    """Values that need no graph input: made of constants and of `known` values."""
    free = {*graph.constants, *known}
    for node in graph.nodes:
        if all(n in free for n in reads(node)):
            free.update(o for o in node.output if o)
    return free


def _needed_nodes(graph: Graph, stops: Sequence[str], outputs: Sequence[str]) -> list[NodeProto]:
    """Nodes that compute `outputs`, without what lies before `stops`; in order."""
    needed = graph.ancestors(outputs, stops=set(stops)).difference(stops)
    return [n for n in graph.nodes if not needed.isdisjoint(n.output)]
