"""Giving out values: activations and gradients as (N, C, H, W) float32, under the names of outputs.

A value takes its output's name where nothing needs the old one: that costs nothing. Only where it must keep
its own is it copied.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from onnx import TensorProto

from ..graph import Graph, Shape
from .candidates import Candidate
from .core import expose
from .emitter import Emitter, Value

__all__ = ["Exposed", "ExposedActivations", "Exposing"]


@dataclass(frozen=True)
class ExposedActivations:
    """A layer's activations as they leave the file. dims: their shape."""

    layer: Candidate
    activations: Value
    dims: Shape


@dataclass(frozen=True)
class Exposed(ExposedActivations):
    """A layer's activations and gradients as they leave the file. pooled: see `LayerSpec`."""

    gradients: Value
    pooled: bool


class Exposing:
    """Names values of `graph` as outputs. Made before the backward pass is: what is there then is the model's own."""

    def __init__(self, graph: Graph, emitter: Emitter) -> None:
        self._graph, self._emitter = graph, emitter
        self._own = set(graph.producers)
        self._renamed: dict[str, str] = {}

    def prepare(self, layer: Candidate, gradient: Value) -> Exposed:
        """Write what brings the layer's value and its gradient into (N, C, H, W): before anything is named."""
        emitter = self._emitter
        source = emitter.value(layer.name)
        shown = self.prepare_activations(layer)
        pooled = all(self._before_padding(gradient, layer).dims[axis] == 1 for axis in layer.axes.grid_axes)
        slopes = _as_nchw(emitter, _filled(self._graph, emitter, gradient, source), layer, shown.dims)
        return Exposed(layer, shown.activations, shown.dims, emitter.cast(slopes, TensorProto.FLOAT), pooled)

    def prepare_activations(self, layer: Candidate) -> ExposedActivations:
        """Write what brings the layer's value into (N, C, H, W): before anything is named."""
        dims = (layer.shape[0], layer.channels, *layer.grid)
        return ExposedActivations(layer, _as_nchw(self._emitter, self._emitter.value(layer.name), layer, dims), dims)

    def _before_padding(self, gradient: Value, layer: Candidate) -> Value:
        """The gradient of the grid's tokens, before those that are set aside got zeros and it was filled."""
        if not layer.prefix_tokens:
            return gradient
        for operator in ("Pad", "Expand"):
            maker = self._graph.producers.get(gradient.name)
            if maker is None or maker.op_type != operator:
                break
            gradient = self._emitter.value(maker.input[0])
        return gradient

    def name_activations(self, exposed: ExposedActivations, name: str) -> str:
        """Give the activations out as `name`; returns what the layer's value is called from now on."""
        graph, maps, layer = self._graph, exposed.activations, exposed.layer.name
        free = layer not in graph.output_names and layer in graph.producers
        if maps.name == layer and maps.kind == TensorProto.FLOAT and free:
            self._rename(layer, name)
            graph.types[name] = (TensorProto.FLOAT, exposed.dims)
            return name
        self.name_output(self._emitter.cast(maps, TensorProto.FLOAT), name, exposed.dims)
        return layer

    def name_output(self, value: Value, name: str, shape: Shape) -> None:
        """Give `value` out as `name`, by renaming it where it was made for this."""
        graph = self._graph
        current = self._renamed.get(value.name, value.name)
        known = current in self._own or current in graph.output_names or current in self._renamed.values()
        if current in graph.producers and not known:
            self._rename(current, name)
        else:
            expose(graph, Value(self._emitter, current, value.kind, value.shape), name)
        graph.types[name] = (graph.types[name][0], shape)

    def _rename(self, old: str, new: str) -> None:
        self._graph.rename(old, new)
        self._renamed[old] = new


def _as_nchw(emitter: Emitter, value: Value, layer: Candidate, dims: Shape) -> Value:
    axes = layer.axes
    if axes.kind == "NHWC":
        return emitter.transpose(value, [0, 3, 1, 2])
    if axes.kind != "NTC":
        return value
    tokens, cells = int(layer.shape[1] or 0), math.prod(digit.size for digit in axes.digits)
    if cells != tokens:
        value = emitter.slice(value, 1, axes.prefix, axes.prefix + cells, length=cells)
    maps = emitter.transpose(value, [0, 2, 1])
    if axes.order != sorted(axes.order):  # windows, or another order of tokens
        apart = (dims[0], layer.channels, *(digit.size for digit in axes.digits))
        maps = emitter.transpose(emitter.reshape(maps, value, apart), [0, 1, *(2 + i for i in axes.order)])
    return emitter.reshape(maps, value, dims)


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
