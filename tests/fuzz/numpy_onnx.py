"""ONNX graphs evaluated by numpy in double precision: an opinion that shares no code with the project.

Integers of quantisers are held as floating-point numbers. What rounds is repeated around a base, where that is given:
a small change passes it unrounded, inside a quantiser's range, and the graph can be differentiated by differences.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from onnx import ModelProto, TensorProto, helper, numpy_helper

__all__ = ["RANGES", "NumpyGraph"]

Values = dict[str, Any]

RANGES = {np.dtype(np.uint8): (0, 255), np.dtype(np.int8): (-128, 127)}


class NumpyGraph:
    """A model of the operators below; `run` gives all of its values by name."""

    def __init__(self, model: ModelProto) -> None:
        self.nodes = [
            (n.op_type, list(n.input), list(n.output), {a.name: helper.get_attribute_value(a) for a in n.attribute})
            for n in model.graph.node
        ]
        self.constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}

    def run(self, feeds: Mapping[str, Any], base: Values | None = None) -> Values:
        """feeds: inputs, and other values that are to be these. base: all values near which the graph is linear."""
        values: Values = dict(feeds)
        for kind, inputs, outputs, attributes in self.nodes:
            if outputs[0] in feeds:
                continue
            given = [self.value(values, name) for name in inputs]
            around = None if base is None else ([self.value(base, name) for name in inputs], base[outputs[0]])
            if kind in ("QuantizeLinear", "Cast"):
                made = _ROUNDING[kind](self.constants.get(inputs[-1]), around, *given, **attributes)
            else:
                made = _OPERATORS[kind](*given, **attributes)
            made = made if isinstance(made, tuple) else (made,)
            values.update(zip(outputs, made, strict=True))
        return values

    def value(self, values: Values, name: str) -> Any:
        if name in self.constants:
            array = self.constants[name]
            return array if array.dtype == np.int64 else array.astype(np.float64)
        return values[name] if name else None


def _conv(x: Any, w: Any, b: Any = None, *, strides: Any = (1, 1), pads: Any = (0, 0, 0, 0), group: int = 1) -> Any:
    x = np.pad(x, ((0, 0), (0, 0), (pads[0], pads[2]), (pads[1], pads[3])))
    windows = sliding_window_view(x, w.shape[2:], axis=(2, 3))[:, :, :: strides[0], :: strides[1]]
    parts = zip(np.split(windows, group, axis=1), np.split(w, group), strict=True)
    y = np.concatenate([np.einsum("nchwij,ocij->nohw", part, kernel, optimize=True) for part, kernel in parts], axis=1)
    return y if b is None else y + b[:, None, None]


def _pooled(reduce: Callable[..., Any]) -> Callable[..., Any]:
    def pool(x: Any, *, kernel_shape: Any, strides: Any = (1, 1)) -> Any:
        return reduce(sliding_window_view(x, kernel_shape, axis=(2, 3))[:, :, :: strides[0], :: strides[1]], (4, 5))

    return pool


def _reduced(reduce: Callable[..., Any]) -> Callable[..., Any]:
    def run(x: Any, given: Any = None, *, axes: Any = None, keepdims: int = 1) -> Any:
        return reduce(x, axis=tuple(axes if given is None else given), keepdims=bool(keepdims))

    return run


def _reshape(x: Any, shape: Any) -> Any:
    return x.reshape([x.shape[i] if size == 0 else size for i, size in enumerate(shape)])


def _softmax(x: Any, *, axis: int = -1) -> Any:
    powers = np.exp(x - x.max(axis, keepdims=True))
    return powers / powers.sum(axis, keepdims=True)


def _slice(x: Any, starts: Any, ends: Any, axes: Any, steps: Any = None) -> Any:
    where = [slice(None)] * x.ndim
    for i, axis in enumerate(axes):
        where[axis] = slice(int(starts[i]), int(ends[i]), None if steps is None else int(steps[i]))
    return x[tuple(where)]


def _gemm(a: Any, b: Any, c: Any = 0.0, *, transB: int = 0) -> Any:
    return a @ (b.T if transB else b) + c


def _norm(x: Any, scale: Any, bias: Any, *, axis: int = -1, epsilon: float = 1e-5) -> Any:
    centred = x - x.mean(axis, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axis, keepdims=True) + epsilon) * scale + bias


def _top(x: Any, k: Any, *, axis: int = -1) -> tuple[Any, Any]:
    order = np.argsort(-x, axis=axis, kind="stable")[:, : int(k[0])]
    return np.take_along_axis(x, order, axis), order


def _steps(x: Any, scale: Any, axis: int) -> Any:
    """A scale or zero point along its axis."""
    return scale if np.size(scale) == 1 else scale.reshape([-1 if a == axis % x.ndim else 1 for a in range(x.ndim)])


def _quantise(zero: Any, around: Any, x: Any, scale: Any, _zero: Any, *, axis: int = 1) -> Any:
    low, high = RANGES[zero.dtype]

    def position(values: Any) -> Any:
        return values / _steps(values, scale, axis) + _steps(values, zero.astype(np.float64), axis)

    if around is None:  # in float32, so that halves are halves
        return np.clip(np.rint(position(x).astype(np.float32)), low, high).astype(np.float64)
    (before, *_), result = around
    there = position(before)
    return result + np.where((there > low - 0.5) & (there < high + 0.5), position(x) - there, 0)


def _dequantise(x: Any, scale: Any, zero: Any, *, axis: int = 1) -> Any:
    return (x - _steps(x, zero, axis)) * _steps(x, scale, axis)


def _cast(_: Any, around: Any, x: Any, *, to: int) -> Any:
    if to == TensorProto.FLOAT16:
        return x.astype(np.float16).astype(np.float64) if around is None else around[1] + (x - around[0][0])
    return np.asarray(x, np.float64)


_ROUNDING: dict[str, Callable[..., Any]] = {"QuantizeLinear": _quantise, "Cast": _cast}

_OPERATORS: dict[str, Callable[..., Any]] = {
    "Add": np.add,
    "ArgMax": lambda x, axis, keepdims=1: np.argmax(x, axis=axis, keepdims=bool(keepdims)),
    "AveragePool": _pooled(np.mean),
    "Clip": lambda x, low, high: np.clip(x, low, high),
    "Concat": lambda *x, axis: np.concatenate(x, axis),
    "Conv": _conv,
    "DequantizeLinear": _dequantise,
    "Div": np.divide,
    "Exp": np.exp,
    "Expand": lambda x, shape: x * np.ones(shape.astype(int)),
    "Flatten": lambda x, axis=1: x.reshape(int(np.prod(x.shape[:axis])), -1),
    "Gather": lambda x, i, axis=0: np.take(x, i.astype(int), axis),
    "Gemm": _gemm,
    "GlobalAveragePool": lambda x: x.mean((2, 3), keepdims=True),
    "GlobalMaxPool": lambda x: x.max((2, 3), keepdims=True),
    "Identity": lambda x: x,
    "LayerNormalization": _norm,
    "Log": np.log,
    "LogSoftmax": lambda x, axis=-1: np.log(_softmax(x, axis=axis)),
    "MatMul": np.matmul,
    "MaxPool": _pooled(np.max),
    "Mul": np.multiply,
    "Neg": np.negative,
    "ReduceMax": _reduced(np.max),
    "ReduceMean": _reduced(np.mean),
    "ReduceSum": _reduced(np.sum),
    "Relu": lambda x: np.maximum(x, 0),
    "Reshape": _reshape,
    "Shape": lambda x: np.array(x.shape),
    "Sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "Slice": _slice,
    "Softmax": _softmax,
    "Split": lambda x, sizes, axis=0: tuple(np.split(x, np.cumsum(sizes)[:-1].astype(int), axis)),
    "Squeeze": lambda x, axes: np.squeeze(x, tuple(axes)),
    "Sub": np.subtract,
    "Tanh": np.tanh,
    "TopK": _top,
    "Transpose": lambda x, perm: x.transpose(perm),
    "Unsqueeze": lambda x, axes: np.expand_dims(x, tuple(axes)),
}
