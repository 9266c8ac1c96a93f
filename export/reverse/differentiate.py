"""From a classifier to one that also gives out the activations and gradients of its target layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, helper

from ...runtime.contract.columns_spec import ColumnsSpec
from ...runtime.contract.spec import OutputSpec
from ..axes.layout import NCHW, Layout, in_order
from ..errors import ExportError, LayerError, UnsupportedOperatorError
from ..graph import Graph, fold_batch_norms, fold_constants, prune, value_info
from ..graph.fast_forms import use_fast_forms
from ..graph.passes import repeat
from ..target_layers import Asked, asked_layers, for_each_layer, output_names, refuse_repeated
from .candidates import Candidate, blocker, candidates, choose_layer, explain_blocker
from .columns import Columns, ranks_of
from .core import backward
from .detail import choose_detail
from .emitter import Emitter, OneHot, Value
from .exposing import Exposed, Exposing
from .opening import open_model
from .path import find_path
from .rewriting import rewrite_path
from .rivals import rivals_gradient
from .score import Score, find_score, score_of

__all__ = [
    "ClassesPerImage",
    "DetailLayer",
    "Differentiated",
    "LayerView",
    "TargetLayer",
    "differentiate",
    "list_layers",
    "per_image",
]

#: How many classes of each image one inference explains: a number, as many as it is asked for, or None for one whose
#: class input has no axis for it.
ClassesPerImage = int | Literal["free"] | None

#: Names of the outputs that the first layer has besides.
_DETAIL, _RIVALS = "cam_detail", "cam_rivals"


@dataclass(frozen=True)
class LayerView:
    """How the layer is held and how it is to be read; what is None is found out.

    layout: ``NCHW``, ``NHWC`` or ``NTC``. grid: (H, W) of the tokens. prefix_tokens: class and
    register tokens that come first and are set aside.
    """

    layout: str | None = None
    grid: tuple[int, int] | None = None
    prefix_tokens: int | None = None


#: One for the layer, or one for each of several; a `Layout` is followed to the letter, a `LayerView` completed.
Views = LayerView | Layout | Sequence[LayerView | Layout | None] | None


@dataclass(frozen=True)
class TargetLayer:
    """One target layer of a differentiated model.

    layer: as it was chosen; value: its name in the new model. pooled: its gradient is constant over the
    grid. activations, gradients: its outputs.
    """

    layer: Candidate
    value: str
    pooled: bool
    activations: str
    gradients: str


@dataclass(frozen=True)
class DetailLayer:
    """The detail layer of a differentiated model.

    layer: as it was chosen; value: its name in the new model. activations: its output.
    """

    layer: Candidate
    value: str
    activations: str


@dataclass(frozen=True)
class Differentiated:
    """What `differentiate` made.

    graph: all plain outputs, then ``cam_activations`` and ``cam_gradients`` (N, C, H, W) float32, those of
    further layers (``cam_activations_1``, ...), ``cam_detail`` (N, C, H, W) and ``cam_rivals`` (N, C, 1, 1) where there
    are any, and ``cam_class`` int64 (N,); one more input ``cam_target`` int64 (N,), -1 for the top class.
    layers: the target layers, in the order in which they were asked for. score: what was
    differentiated. notes: what was changed on the way, in sentences. detail: the detail layer, or None.
    rivals: the output with the gradient of the logsumexp of the other classes' logits at the first layer, or None.
    columns: where several classes of each image are explained, how many; ``cam_target`` and ``cam_class`` are then
    (N, K), the gradients (N, K, C, H, W) and ``cam_rivals`` (N, K, C, 1, 1).
    """

    graph: Graph
    layers: tuple[TargetLayer, ...]
    score: Score
    notes: list[str]
    detail: DetailLayer | None = None
    rivals: str | None = None
    columns: ColumnsSpec | None = None

    @cached_property
    def model(self) -> ModelProto:
        """The graph as a model of its own; large weights are shared."""
        return self.graph.to_model()

    @property
    def layer(self) -> Candidate:
        """The first target layer."""
        return self.layers[0].layer

    @property
    def value(self) -> str:
        """What the first target layer's value is called in `model`."""
        return self.layers[0].value

    @property
    def pooled(self) -> bool:
        """Whether the first target layer's gradient is constant over the grid."""
        return self.layers[0].pooled


def list_layers(model: ModelProto, score: str | None = None) -> list[Candidate]:
    """The layers of `model` that can be explained, the default marked. Raises `ExportError`."""
    graph, _ = open_model(model)
    return candidates(graph, find_score(graph, score))


def differentiate(
    model: ModelProto | Graph,
    layer: Asked = None,
    score: str | OutputSpec | Score | None = None,
    *,
    view: Views = None,
    detail: str | tuple[str, Layout] | Candidate | None = None,
    rivals: bool = False,
    classes: ClassesPerImage = None,
    target: str = "cam_target",
    activations: str = "cam_activations",
    gradients: str = "cam_gradients",
    chosen: str = "cam_class",
    guarded: bool = False,
) -> Differentiated:
    """Add the gradient of the chosen class's logit with respect to a layer to the graph itself.

    model: or its graph, as `open_model` gives it; it is not changed.
    layer: a value's or a node's name, default: what enters the last spatial pooling; or several of
    them, in any order: one backward pass reaches them all, and the further ones' outputs are
    numbered. score: the output to explain, by its name, as an exported file states it, or as it was found in this graph
    before; default: see `find_score`. view: of the layer; of
    several, one for each. detail: see `choose_detail`. rivals: add the rivals' gradient where the head is linear.
    classes: of each image. guarded: a class that does not exist is taken for another one, and stops no batch;
    whoever asks for that must leave its explanation out. The remaining names are those of what is added.

    Raises `LayerError` for a layer that does not exist, does not reach the score or is named twice,
    `UnsupportedOperatorError` for an operator without a rule, `ExportError` for a model without
    a (N, classes) score or one that already has values of the new names.
    """
    graph, notes = (model.copy(), []) if isinstance(model, Graph) else open_model(model)
    if isinstance(score, OutputSpec):
        score = score_of(graph, score)
    found_score = score if isinstance(score, Score) else find_score(graph, score)
    layers = _chosen_layers(graph, found_score, asked_layers(layer), view)
    for found in layers:
        stop = blocker(graph, found.name, found_score.value)
        if stop is not None:
            raise UnsupportedOperatorError(explain_blocker(graph, found_score, found, stop))
    finer, note = choose_detail(graph, found_score, layers[0], detail)
    notes += [] if note is None else [note]
    try:
        made = write_gradients(
            graph,
            layers,
            found_score,
            detail=finer,
            rivals=rivals,
            classes=classes,
            target=target,
            activations=activations,
            gradients=gradients,
            chosen=chosen,
            guarded=guarded,
        )
    except UnsupportedOperatorError as error:
        # A form that its rule does not cover: say what would work, as for an operator without a rule.
        plain = model if isinstance(model, Graph) else open_model(model)[0]
        node = plain.producers.get(error.value or "")
        if node is None:
            raise
        reached = next((f for f in layers if set(node.output) & plain.descendants([f.name])), layers[0])
        raise UnsupportedOperatorError(explain_blocker(plain, found_score, reached, node, str(error))) from error
    return replace(made, notes=[*notes, *made.notes])


def write_gradients(
    graph: Graph,
    layers: Sequence[Candidate],
    score: Score,
    *,
    detail: Candidate | None = None,
    rivals: bool = False,
    classes: ClassesPerImage = None,
    target: str = "cam_target",
    activations: str = "cam_activations",
    gradients: str = "cam_gradients",
    chosen: str = "cam_class",
    guarded: bool = False,
) -> Differentiated:
    """The passes of `differentiate`, on an opened graph (which they change) whose layers and score are known.

    A layer may be an input of the graph. Raises what `differentiate` raises about operators, and names that are taken.
    """
    notes: list[str] = []
    names = [output_names(index, activations, gradients) for index in range(len(layers))]
    added = [name for pair in names for name in pair]
    taken = {target, *added, chosen, _DETAIL, _RIVALS} & graph.names
    outer = sorted(taken & {*graph.input_names, *graph.output_names})
    if outer:
        raise ExportError(f"the model already has an input or output called '{outer[0]}'; it may be an exported one")
    if taken:
        raise ExportError(f"the graph already has values called {', '.join(sorted(taken))}: is it exported already?")
    wrt = [layer.name for layer in layers]
    rewrite_path(graph, wrt, [score.value])
    path = find_path(graph, wrt, [score.value])
    folded = fold_batch_norms(graph, keep={*wrt, score.value}, only=path.values)
    if folded:
        notes.append(f"{folded} batch normalisations behind the layer were folded into their convolutions")
    emitter = Emitter(graph, prefix="cam")
    exposing = Exposing(graph, emitter)
    columns = None
    if classes is not None:
        count = None if classes == "free" else classes
        columns = Columns(graph, emitter, score, target, count, guarded=guarded)
    rows = [_chosen_class(graph, emitter, score, target, guarded)] if columns is None else columns.rows
    kind = graph.elem_type(score.value) or TensorProto.FLOAT
    rank = len(score.shape)
    # Several passes with a fixed batch and several classes, else one.
    passes: list[list[Exposed]] = []
    rivals_of: list[Value | None] = []
    for explained in rows:
        seed = OneHot(emitter, explained, kind, score.shape) if rank > 1 else emitter.constant(_one(kind))
        slopes = backward(graph, emitter, {score.value: seed}, wrt)
        passes.append([])
        for layer in layers:
            slope = slopes[layer.name]
            if slope is None:
                raise LayerError(f"the gradient of score '{score.value}' with respect to layer '{layer.name}' is zero")
            passes[-1].append(exposing.prepare(layer, slope))
        if rivals:
            rivals_of.append(rivals_gradient(graph, emitter, score, explained, layers[0], slopes[layers[0].name]))
    exposed, against = passes[0], [value for value in rivals_of if value is not None]
    parts = {name: [each[i].gradients for each in passes] for i, (_, name) in enumerate(names)}
    if against:
        parts[_RIVALS] = against
    by_class = {name: part[0] if columns is None else columns.beside(part) for name, part in parts.items()}
    finer = None if detail is None else exposing.prepare_activations(detail)
    made = [
        TargetLayer(layer, exposing.name_activations(one, a), one.pooled, a, g)
        for layer, one, (a, g) in zip(layers, exposed, names, strict=True)
    ]
    shown = None
    if detail is not None and finer is not None:
        shown = DetailLayer(detail, exposing.name_activations(finer, _DETAIL), _DETAIL)
        added.append(_DETAIL)
    shapes = {name: one.dims for one, (_, name) in zip(exposed, names, strict=True)}
    if against:
        shapes[_RIVALS] = against[0].dims
        added.append(_RIVALS)
    for name, value in by_class.items():
        exposing.name_output(value, name, shapes[name] if columns is None else columns.shape(shapes[name]))
    if columns is None:
        exposing.name_output(rows[0], chosen, (score.shape[0],))
    else:
        exposing.name_output(columns.classes, chosen, (score.shape[0], columns.count))
        columns.widen(shapes, chosen)
    plain_outputs = graph.output_names
    for name in (*added, chosen):
        graph.outputs.append(value_info(graph, name))
    prune(graph)
    use_fast_forms(graph, plain_outputs)
    repeat(graph, fold_constants, prune)
    graph.ir_version = max(9, helper.find_min_ir_version_for(_imports(graph)))
    return Differentiated(
        graph,
        tuple(made),
        score,
        notes,
        shown,
        _RIVALS if against else None,
        None if classes is None else ColumnsSpec(count=None if classes == "free" else classes, ranks=ranks_of(score)),
    )


def per_image(columns: ColumnsSpec | None) -> ClassesPerImage:
    """What `differentiate` was asked for, where a file has these columns."""
    return None if columns is None else "free" if columns.count is None else columns.count


def _chosen_layers(graph: Graph, score: Score, asked: list[str | None], view: Views) -> list[Candidate]:
    views = for_each_layer(view, len(asked), "views", lambda given: isinstance(given, LayerView | Layout))
    chosen = []
    for name, one in zip(asked, views, strict=True):
        axes, grid = (one, None) if isinstance(one, Layout) else (None, None if one is None else one.grid)
        chosen.append(choose_layer(graph, score, name, axes, grid))
    refuse_repeated(asked, [found.name for found in chosen])
    return [
        # A `Layout` of tokens whose places could not be followed is what the user stated.
        replace(found, assumed=found.assumed and one.kind != "NTC")
        if isinstance(one, Layout)
        else _viewed(found, one or LayerView())
        for found, one in zip(chosen, views, strict=True)
    ]


def _imports(graph: Graph) -> list[onnx.OperatorSetIdProto]:
    return [helper.make_opsetid(d, v) for d, v in graph.opsets.items() if d == ""]


def _viewed(layer: Candidate, view: LayerView) -> Candidate:
    """The layer as the caller says it is to be read. Raises `LayerError` when that cannot be."""
    shape = layer.shape
    if view.layout is not None and view.layout != layer.layout:
        if (view.layout == "NTC") != (len(shape) == 3):
            raise LayerError(f"layer '{layer.name}' has shape {shape}, which cannot be {view.layout}")
        layer = replace(layer, axes=Layout("NHWC") if view.layout == "NHWC" else NCHW)
    stated = view.layout is not None if layer.layout != "NTC" else view.grid is not None
    layer = replace(layer, assumed=layer.assumed and not stated)
    if layer.layout != "NTC":
        if view.grid is not None and view.grid != layer.grid:
            have, wanted = ("x".join(map(str, sides)) for sides in (layer.grid, view.grid))
            raise LayerError(
                f"layer '{layer.name}' has a grid of {have}, not {wanted}: a grid is given for tokens only"
            )
        return layer
    if view.grid is None and view.prefix_tokens is None:
        return layer
    tokens = int(shape[1] or 0)
    prefix = layer.prefix_tokens
    if view.grid is not None:
        prefix = tokens - view.grid[0] * view.grid[1]
    if view.prefix_tokens is not None:
        prefix = view.prefix_tokens
    height, width = layer.grid
    same = (height, width) if prefix == layer.prefix_tokens and height and width else None
    grid = view.grid or same or _square(tokens - prefix)
    if grid is None or grid[0] * grid[1] + prefix != tokens or prefix < 0:
        raise LayerError(
            f"layer '{layer.name}' has {tokens} tokens, which are not {prefix} prefix tokens and a grid of "
            f"{grid if grid else 'equal sides'}: give its grid and prefix tokens"
        )
    return (
        layer if (grid, prefix) == (layer.grid, layer.prefix_tokens) else replace(layer, axes=in_order(*grid, prefix))
    )


def _square(count: int) -> tuple[int, int] | None:
    side = round(max(count, 0) ** 0.5)
    return (side, side) if side * side == count and side else None


def _one(kind: int) -> np.ndarray:
    """The seed of the only score that each image has."""
    return np.ones(1, helper.tensor_dtype_to_np_dtype(kind))


def _chosen_class(graph: Graph, emitter: Emitter, score: Score, target: str, guarded: bool) -> Value:
    """Where(target < 0, ArgMax(score), target), int64 (N,); guarded: where target is too large, too."""
    batch = score.shape[0]
    graph.inputs.append(helper.make_tensor_value_info(target, TensorProto.INT64, [batch]))
    graph.types[target] = (TensorProto.INT64, (batch,))
    graph.names.add(target)
    # Where the scores do not determine the output, as the mean of several views, the top class is the output's.
    wanted, value = emitter.value(target), emitter.value(score.value if score.exact else score.output)
    if value.shape is None or len(value.shape) != 2:
        value = emitter.reshape(value, value, (batch, score.classes))
    top = emitter("ArgMax", value, axis=1, keepdims=0)
    none = (wanted < 0) | ~(wanted < score.classes) if guarded else wanted < 0
    return emitter.where(none, top, wanted)
