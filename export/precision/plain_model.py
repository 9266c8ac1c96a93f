"""Cutting the plain classifier back out of an explained file."""

from __future__ import annotations

from dataclasses import dataclass

from onnx import ModelProto

from ...runtime.contract.spec import CamSpec, LayerSpec
from ..axes.layout import Layout
from ..axes.onnx_values import map_axes
from ..fused.joining import without_rule
from ..graph import extract, fold_batch_norms
from ..tail.cutting import find_detail_value, find_layer_value, held_axes, index_map, open_exported

__all__ = ["PlainModel", "plain_model"]


@dataclass(frozen=True, eq=False)
class PlainModel:
    """model: from the image to the plain outputs. layers: the values that are the target layers, in the order
    of the spec; views: how each is read. detail: the value that is the detail layer and how it is read, or None."""

    model: ModelProto
    layers: tuple[str, ...]
    views: tuple[Layout, ...]
    detail: tuple[str, Layout] | None = None


def plain_model(model: ModelProto, spec: CamSpec, *, fold: bool = True) -> PlainModel:
    """The classifier inside the explained `model`, which is not changed. fold: its batch norms.

    Folded now because every engine folds them later, in the forward pass only: the backward pass would
    keep a second copy of each weight. The rule of a fused file is left behind. Raises `LayerError`.
    """
    if spec.fused is not None:
        model, spec = without_rule(model, spec), spec.two_stage
    graph = open_exported(model)
    layers: list[str] = []
    views: list[Layout] = []
    followed = map_axes(graph)

    def added(layer: LayerSpec, value: str, own: str) -> tuple[str, Layout]:
        shape = [int(size or 0) for size in (graph.shape(value) or ())[1:]]
        view = held_axes(followed.layout(value), index_map(graph, layer, value), shape, layer)
        if value in (layer.activations, layer.gradients):  # its own name is free again, and will be wanted
            own = graph.fresh(own)
            graph.rename(value, own)
            value = own
        return value, view

    for index, layer in enumerate(spec.layers):
        value, view = added(layer, find_layer_value(graph, spec.with_layer(layer.name)), f"target_layer_{index}")
        layers.append(value)
        views.append(view)
    detail = None
    if spec.layer.detail is not None:
        as_layer = spec.layer.detail.as_layer()
        detail = added(as_layer, find_detail_value(graph, as_layer, layers[0]), "detail_layer")
    if fold:
        fold_batch_norms(graph, keep={*layers, *(() if detail is None else detail[:1])})
    outputs = [name for name in graph.output_names if name not in spec.added_outputs]
    return PlainModel(extract(graph, [spec.input.name], outputs), tuple(layers), tuple(views), detail)
