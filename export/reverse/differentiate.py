"""From a classifier to one that also gives out a layer's activations and gradients."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, helper

from ..errors import ExportError, LayerError, UnsupportedOperatorError
from ..graph import Graph, fold_batch_norms, fold_constants, prune, value_info
from ..graph.fast_forms import use_fast_forms
from .core import backward, expose, find_path
from .emitter import Emitter, OneHot, Value
from .layers import Candidate, blocker, candidates, choose_layer, explain_blocker
from .opening import open_model
from .rewriting import rewrite_path
from .score import Score, find_score

__all__ = ["Differentiated", "LayerView", "differentiate", "list_layers"]


@dataclass(frozen=True)
class LayerView:
    """How the layer is held and how it is to be read; what is None is found out.

    layout: ``NCHW``, ``NHWC`` or ``NTC``. grid: (H, W) of the tokens. prefix_tokens: class and
    register tokens that come first and are set aside.
    """

    layout: str | None = None
    grid: tuple[int, int] | None = None
    prefix_tokens: int | None = None


@dataclass(frozen=True)
class Differentiated:
    """What `differentiate` made.

    model: all plain outputs, then ``cam_activations`` and ``cam_gradients`` (N, C, H, W) float32
    and ``cam_class`` int64 (N,); one more input ``cam_target`` int64 (N,), -1 for the top class.
    layer: the target layer; value: its name in `model`. pooled: its gradient is constant over
    the grid. score: what was differentiated. notes: what was changed on the way, in sentences.
    """

    model: ModelProto
    layer: Candidate
    value: str
    pooled: bool
    score: Score
    notes: list[str]


def list_layers(model: ModelProto, score: str | None = None) -> list[Candidate]:
    """The layers of `model` that can be explained, the default marked. Raises `ExportError`."""
    graph, _ = open_model(model)
    return candidates(graph, find_score(graph, score))


def differentiate(
    model: ModelProto,
    layer: str | None = None,
    score: str | None = None,
    *,
    view: LayerView | None = None,
    target: str = "cam_target",
    activations: str = "cam_activations",
    gradients: str = "cam_gradients",
    chosen: str = "cam_class",
) -> Differentiated:
    """Add the gradient of the chosen class's logit with respect to a layer to the graph itself.

    layer: a value's or a node's name, default: what enters the last spatial pooling. score: the
    output to explain, default: the first of shape (N, classes). The remaining names are those
    of what is added. `model` is not changed.

    Raises `LayerError` for a layer that does not exist or does not reach the score,
    `UnsupportedOperatorError` for an operator without a rule, `ExportError` for a model without
    a (N, classes) score or one that already has values of the new names.
    """
    graph, notes = open_model(model)
    found_score = find_score(graph, score)
    found = _viewed(choose_layer(graph, found_score, layer), view or LayerView())
    taken = {target, activations, gradients, chosen} & graph.names
    if taken:
        raise ExportError(f"the graph already has values called {', '.join(sorted(taken))}: is it exported already?")
    stop = blocker(graph, found.name, found_score.value)
    if stop is not None:
        raise UnsupportedOperatorError(explain_blocker(graph, found_score, found, stop))
    try:
        rewrite_path(graph, [found.name], [found_score.value])
        path = find_path(graph, [found.name], [found_score.value])
        folded = fold_batch_norms(graph, keep={found.name, found_score.value}, only=path.values)
        if folded:
            notes.append(f"{folded} batch normalisations behind the layer were folded into their convolutions")
        emitter = Emitter(graph, prefix="cam")
        classes = _chosen_class(graph, emitter, found_score, target)
        kind = graph.elem_type(found_score.value) or TensorProto.FLOAT
        seed = OneHot(emitter, classes, kind, found_score.shape)
        gradient = backward(graph, emitter, {found_score.value: seed}, [found.name])[found.name]
    except UnsupportedOperatorError as error:
        # A form that its rule does not cover: say what would work, as for an operator without a rule.
        plain, _ = open_model(model)
        node = plain.producers.get(error.value or "")
        if node is None:
            raise
        raise UnsupportedOperatorError(explain_blocker(plain, found_score, found, node, str(error))) from error
    if gradient is None:
        raise LayerError(f"the gradient of score '{found_score.value}' with respect to layer '{found.name}' is zero")
    source = emitter.value(found.name)
    spatial = {"NCHW": [2, 3], "NHWC": [1, 2], "NTC": [1]}[found.layout]
    pooled = all(gradient.dims[a] == 1 for a in spatial)
    dims = _nchw_dims(found)
    maps = _as_nchw(emitter, source, found, dims)
    arrow = _as_nchw(emitter, _filled(graph, emitter, gradient, source), found, dims)
    value = _expose_activations(graph, maps, found.name, activations)
    _name_output(graph, emitter.cast(arrow, TensorProto.FLOAT), gradients, dims)
    _name_output(graph, classes, chosen, (found_score.shape[0],))
    if value is None:
        _name_output(graph, maps, activations, dims)
        value = found.name
    plain_outputs = graph.output_names
    for name in (activations, gradients, chosen):
        graph.outputs.append(value_info(graph, name))
    prune(graph)
    use_fast_forms(graph, plain_outputs)
    if fold_constants(graph):
        prune(graph)
    graph.ir_version = max(9, helper.find_min_ir_version_for(_imports(graph)))
    finished = graph.to_model()
    return Differentiated(finished, found, value, pooled, found_score, notes)


def _imports(graph: Graph) -> list[onnx.OperatorSetIdProto]:
    return [helper.make_opsetid(d, v) for d, v in graph.opsets.items() if d == ""]


def _viewed(layer: Candidate, view: LayerView) -> Candidate:
    """The layer as the caller says it is to be read. Raises `LayerError` when that cannot be."""
    shape = layer.shape
    changes: dict = {}
    if view.layout is not None and view.layout != layer.layout:
        if (view.layout == "NTC") != (len(shape) == 3):
            raise LayerError(f"layer '{layer.name}' has shape {shape}, which cannot be {view.layout}")
        c, h, w = (1, 2, 3) if view.layout == "NCHW" else (3, 1, 2)
        changes = {"layout": view.layout, "channels": shape[c], "grid": (shape[h], shape[w])}
    layer = replace(layer, **changes)
    if layer.layout == "NTC":
        tokens = int(shape[1] or 0)
        prefix = layer.prefix_tokens
        if view.grid is not None:
            prefix = tokens - view.grid[0] * view.grid[1]
        if view.prefix_tokens is not None:
            prefix = view.prefix_tokens
        height, width = layer.grid
        found = (height, width) if prefix == layer.prefix_tokens and height and width else None
        grid = view.grid or found or _square(tokens - prefix)
        if grid is None or grid[0] * grid[1] + prefix != tokens or prefix < 0:
            raise LayerError(
                f"layer '{layer.name}' has {tokens} tokens, which are not {prefix} prefix tokens and a grid of "
                f"{grid if grid else 'equal sides'}: give its grid and prefix tokens"
            )
        return replace(layer, grid=grid, prefix_tokens=prefix)
    return layer


def _square(count: int) -> tuple[int, int] | None:
    side = round(max(count, 0) ** 0.5)
    return (side, side) if side * side == count and side else None


def _chosen_class(graph: Graph, emitter: Emitter, score: Score, target: str) -> Value:
    """Where(target < 0, ArgMax(score), target), int64 (N,)."""
    batch = score.shape[0]
    graph.inputs.append(helper.make_tensor_value_info(target, TensorProto.INT64, [batch]))
    graph.types[target] = (TensorProto.INT64, (batch,))
    graph.names.add(target)
    wanted, value = emitter.value(target), emitter.value(score.value)
    if len(score.shape) > 2:
        value = emitter.reshape(value, value, score.shape[:2])
    top = emitter("ArgMax", value, axis=1, keepdims=0)
    return emitter.where(wanted < 0, top, wanted)


def _filled(graph: Graph, emitter: Emitter, gradient: Value, source: Value) -> Value:
    """The gradient over the whole layer.

    A constant one is multiplied by a grid that holds its last constant factor (1 / cells, after
    a mean): one small product instead of a product and an Expand.
    """
    missing = [a for a in range(source.rank) if gradient.dims[a] == 1 and source.dims[a] != 1]
    sizes = [source.dims[a] for a in missing]
    if not missing or not all(isinstance(d, int) for d in sizes):
        return emitter.expand(gradient, source)
    factor, maker = 1.0, graph.producers.get(gradient.name)
    if maker is not None and maker.op_type == "Mul" and not graph.consumers.get(gradient.name):
        constant = graph.constant(maker.input[1])
        if constant is not None and constant.size == 1 and constant.ndim <= source.rank:
            factor = float(constant.reshape(-1)[0])
            gradient = Value(emitter, maker.input[0], gradient.kind, gradient.shape)
    shape = [int(source.dims[a] or 0) if a in missing else 1 for a in range(source.rank)]
    return gradient * emitter.constant(np.full(shape, factor, gradient.dtype))


def _nchw_dims(layer: Candidate) -> tuple:
    return (layer.shape[0], layer.channels, *layer.grid)


def _as_nchw(emitter: Emitter, value: Value, layer: Candidate, dims: tuple) -> Value:
    if layer.layout == "NHWC":
        return emitter.transpose(value, [0, 3, 1, 2])
    if layer.layout == "NTC":
        tokens = int(layer.shape[1] or 0)
        if layer.prefix_tokens:
            count = tokens - layer.prefix_tokens
            value = emitter.slice(value, 1, layer.prefix_tokens, tokens, length=count)
        return emitter.reshape(emitter.transpose(value, [0, 2, 1]), value, dims, [0, 2, 1, 1])
    return value


def _expose_activations(graph: Graph, maps: Value, layer: str, name: str) -> str | None:
    """Rename the layer's value to the output's name where nothing else needs its old name: that costs nothing."""
    plain = maps.name == layer and maps.kind == TensorProto.FLOAT
    if not plain or layer in graph.output_names or layer not in graph.producers:
        return None
    graph.rename(layer, name)
    return name


def _name_output(graph: Graph, value: Value, name: str, shape: tuple) -> None:
    """Give a value the name of a graph output, by renaming it where it was made for this only."""
    maker = graph.producers.get(value.name)
    users = graph.consumers.get(value.name, [])
    if maker is not None and not users and value.name not in graph.output_names:
        graph.rename(value.name, name)
    else:
        cast = value.kind != TensorProto.FLOAT and np.issubdtype(value.dtype, np.floating)
        if cast:
            graph.add_node(helper.make_node("Cast", [value.name], [name], to=TensorProto.FLOAT, name=f"{name}_cast"))
            graph.types[name] = (TensorProto.FLOAT, value.shape)
        else:
            expose(graph, value, name)
    graph.types[name] = (graph.types[name][0], shape)
