"""Cutting the plain classifier back out of an explained file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from ...runtime.contract.spec import CamSpec, LayerSpec
from ..axes.layout import Layout, in_order
from ..axes.onnx_values import map_axes
from ..errors import LayerError
from ..graph import extract, fold_batch_norms
from ..tail.cutting import find_layer_value, index_map, open_exported

__all__ = ["PlainModel", "plain_model"]


@dataclass(frozen=True, eq=False)
class PlainModel:
    """model: from the image to the plain outputs. layers: the values that are the target layers, in the order
    of the spec; views: how each is read."""

    model: ModelProto
    layers: tuple[str, ...]
    views: tuple[Layout, ...]


def plain_model(model: ModelProto, spec: CamSpec, *, fold: bool = True) -> PlainModel:
    """The classifier inside the explained `model`, which is not changed. fold: its batch norms.

    Folded now because every engine folds them later, in the forward pass only: the backward pass would
    keep a second copy of each weight. Raises `LayerError`.
    """
    graph = open_exported(model)
    layers: list[str] = []
    views: list[Layout] = []
    followed = map_axes(graph)
    for index, layer in enumerate(spec.layers):
        value = find_layer_value(graph, spec.with_layer(layer.name))
        shape = [int(size or 0) for size in (graph.shape(value) or ())[1:]]
        views.append(_axes(followed.layout(value), index_map(graph, layer, value), shape, layer))
        own = graph.fresh(f"target_layer_{index}")
        if value in (layer.activations, layer.gradients):  # its own name is free again, and will be wanted
            graph.rename(value, own)
            value = own
        layers.append(value)
    if fold:
        fold_batch_norms(graph, keep=set(layers))
    outputs = [name for name in graph.output_names if name not in spec.added_outputs]
    return PlainModel(extract(graph, [spec.input.name], outputs), tuple(layers), tuple(views))


def _axes(followed: Layout | None, places: NDArray[np.int64], shape: Sequence[Any], layer: LayerSpec) -> Layout:
    """How the layer's value holds its grid: in reading order or as its axes say, as the file gives its cells."""
    in_reading_order = in_order(*layer.grid, layer.prefix_tokens) if layer.layout == "NTC" else Layout(layer.layout)
    for axes in (in_reading_order, followed):
        if axes is not None and np.array_equal(axes.places(shape), places):
            return axes
    raise LayerError(f"layer '{layer.name}': the order in which the file gives its cells cannot be told from its graph")
