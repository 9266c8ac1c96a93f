"""Random graphs, one operator after the other, of which it is known all along what their values are."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from .numpy_onnx import RANGES, NumpyGraph

__all__ = ["Building", "Grid"]


@dataclass(frozen=True)
class Grid:
    """How a value of rank 3 or 4 holds a grid: `order` makes (N, C, H, W) of it, after `prefix` tokens are cut off."""

    order: tuple[int, ...]
    grid: tuple[int, int]
    prefix: int = 0

    def planes(self, value: Any) -> Any:
        """(N, C, H, W) of a value."""
        if value.ndim == 3:  # tokens
            value = value[:, self.prefix :].reshape(len(value), *self.grid, -1)
        return value.transpose(self.order)

    def value(self, planes: Any, like: Any) -> Any:
        """The value of (N, C, H, W), held as `like` is; tokens in front are those of `like`."""
        value = planes.transpose(np.argsort(self.order))
        if like.ndim == 4:
            return value
        return np.concatenate([like[:, : self.prefix], value.reshape(len(like), -1, like.shape[2])], axis=1)


NCHW, NHWC = (0, 1, 2, 3), (0, 3, 1, 2)


class Building:
    """Nodes and weights; `values` of the images that ranges of quantisers are taken from; `grids` by value.

    Each node is evaluated at once, by `NumpyGraph`.
    """

    def __init__(self, chance: random.Random, image: str, samples: Any, opset: int) -> None:
        self.chance, self.opset = chance, opset
        self.numbers = np.random.default_rng(chance.randrange(2**32))
        self.nodes: list[Any] = []
        self.weights: dict[str, Any] = {}
        self.values: dict[str, Any] = {image: samples.astype(np.float64)}
        self.grids: dict[str, Grid] = {}
        self.quantised = False

    def constant(self, array: Any) -> str:
        name = f"w{len(self.weights)}"
        self.weights[name] = np.asarray(array)
        return name

    def ints(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64))

    def number(self, value: float) -> str:
        return self.constant(np.array(value, np.float32))

    def weight(self, *shape: int, scale: float | None = None) -> str:
        """Random numbers, of a size that keeps the variance; some as integers with a scale for each output."""
        fan = float(np.prod(shape[1:])) if len(shape) == 4 else shape[0]
        array = self.numbers.standard_normal(shape) * ((2 / fan) ** 0.5 if scale is None else scale)
        if not self.quantised or len(shape) < 2:
            return self.constant(array.astype(np.float32))
        axis = 0 if len(shape) == 4 else len(shape) - 1
        others = tuple(a for a in range(len(shape)) if a != axis)
        steps = np.abs(array).max(axis=others, keepdims=True) / 127
        whole = self.constant(np.rint(array / steps).astype(np.int8))
        steps, zeros = steps.reshape(-1).astype(np.float32), np.zeros(steps.size, np.int8)
        return self("DequantizeLinear", whole, self.constant(steps), self.constant(zeros), axis=axis)

    def __call__(self, kind: str, *inputs: str, count: int = 1, grid: Grid | None = None, **attributes: Any) -> Any:
        """Add a node. count: of its outputs. grid: how its output holds one."""
        outputs = [f"{kind.lower()}{len(self.nodes)}{'abc'[i] if count > 1 else ''}" for i in range(count)]
        node = helper.make_node(kind, list(inputs), outputs, name=f"n{len(self.nodes)}", **attributes)
        self.nodes.append(node)
        some = {name: self.weights[name] for name in inputs if name in self.weights}
        graph = helper.make_graph([node], "one", [], [], [numpy_helper.from_array(a, n) for n, a in some.items()])
        known = {name: self.values[name] for name in inputs if name not in some and name}
        self.values.update(NumpyGraph(helper.make_model(graph)).run(known))
        if grid is not None:
            for output in outputs:
                self.grids[output] = grid
        return outputs[0] if count == 1 else outputs

    def same(self, kind: str, x: str, *more: str, **attributes: Any) -> str:
        """A node whose output holds a grid as its input does."""
        return self(kind, x, *more, grid=self.grids.get(x), **attributes)

    def reduce(self, kind: str, x: str, axes: list[int], keepdims: int) -> str:
        """A reduction, in the form that the opset asks for."""
        if kind != "ReduceSum" and self.opset < 18:
            return self(kind, x, axes=axes, keepdims=keepdims)
        return self(kind, x, self.ints(*axes), keepdims=keepdims)

    def pair(self, x: str, bounds: tuple[float, float] | None = None) -> str:
        """QuantizeLinear and DequantizeLinear, whose range is about that of the samples; it cuts some of them off."""
        values = self.values[x]
        low, high = bounds or (min(float(values.min()), 0.0), max(float(values.max()), 0.0))
        kind = np.dtype(self.chance.choice([np.uint8, np.int8]))
        bottom = RANGES[kind][0]
        step = max(high - low, 1e-3) / 255 * (1 if bounds else self.chance.choice([1, 1, 0.8, 1.3]))
        zero = np.clip(np.rint(bottom - low / step), bottom, bottom + 255)
        how = self.number(step), self.constant(zero.astype(kind))
        return self.same("DequantizeLinear", self.same("QuantizeLinear", x, *how), *how)

    def transposed(self, x: str, perm: tuple[int, ...]) -> str:
        """Axes moved; a grid with them."""
        held = self.grids.get(x)
        grid = None if held is None else Grid(tuple(perm.index(a) for a in held.order), held.grid)
        return self("Transpose", x, perm=list(perm), grid=grid)

    def model(self, image: str, kind: int, shape: list[Any], outputs: list[str]) -> ModelProto:
        """Outputs are float32, but for those of ArgMax and TopK, whose types are found out."""
        infos = [helper.make_empty_tensor_value_info(name) for name in outputs]
        integers = {name for n in self.nodes if n.op_type in ("ArgMax", "TopK") for name in n.output[-1:]}
        for info in infos:
            rank = self.values[info.name].ndim
            elem = TensorProto.INT64 if info.name in integers else TensorProto.FLOAT
            dims = ["N", *self.values[info.name].shape[1:]] if rank else []
            info.CopyFrom(helper.make_tensor_value_info(info.name, elem, dims))
        graph = helper.make_graph(
            self.nodes,
            "net",
            [helper.make_tensor_value_info(image, kind, shape)],
            infos,
            [numpy_helper.from_array(array, name) for name, array in self.weights.items()],
        )
        opsets = [helper.make_opsetid("", self.opset)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8 if self.opset < 19 else 9)
