"""Cutting the plain classifier back out of an explained file."""

from __future__ import annotations

from dataclasses import dataclass

from onnx import ModelProto

from ...runtime.contract.spec import CamSpec
from ..graph import extract, fold_batch_norms
from ..reverse import LayerView
from ..tail.cutting import find_layer_value, open_exported

__all__ = ["PlainModel", "plain_model"]


@dataclass(frozen=True, eq=False)
class PlainModel:
    """model: from the image to the plain outputs. layers: the values that are the target layers, in the order
    of the spec; views: how each is read."""

    model: ModelProto
    layers: tuple[str, ...]
    views: tuple[LayerView, ...]


def plain_model(model: ModelProto, spec: CamSpec, *, fold: bool = True) -> PlainModel:
    """The classifier inside the explained `model`, which is not changed. fold: its batch norms.

    Folded now because every engine folds them later, in the forward pass only: the backward pass would
    keep a second copy of each weight. Raises `LayerError`.
    """
    graph = open_exported(model)
    layers: list[str] = []
    for index, layer in enumerate(spec.layers):
        value = find_layer_value(graph, spec.with_layer(layer.name))
        own = graph.fresh(f"target_layer_{index}")
        if value in (layer.activations, layer.gradients):  # its own name is free again, and will be wanted
            graph.rename(value, own)
            value = own
        layers.append(value)
    if fold:
        fold_batch_norms(graph, keep=set(layers))
    outputs = [name for name in graph.output_names if name not in spec.added_outputs]
    views = tuple(
        LayerView(layer.layout, layer.grid, layer.prefix_tokens if layer.layout == "NTC" else None)
        for layer in spec.layers
    )
    return PlainModel(extract(graph, [spec.input.name], outputs), tuple(layers), views)
