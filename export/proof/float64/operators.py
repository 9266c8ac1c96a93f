"""Operators that ONNX's reference evaluator lacks, runs slowly, or takes out of float64.

An operator is a function of (node, inputs, opset); absent inputs are None. It returns an array
or a tuple, in the dtype of its input, or NotImplemented for a form that it leaves to the
reference evaluator.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.special
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper

from ...graph.graph import attribute
from . import windows
from .quantisation import clip_to_range, dequantize, quantize
from .resize import resize

__all__ = ["find_operator"]

Array = NDArray[Any]
Operator = Callable[[NodeProto, "list[Any]", int], Any]

_OPERATORS: dict[str, Operator] = {}

_UNARY: dict[str, Callable[[Array], Array]] = {
    "Identity": lambda x: x,
    "Erf": scipy.special.erf,
    "HardSwish": lambda x: x * np.clip(x / 6 + np.asarray(0.5, x.dtype), 0, 1),
    "Mish": lambda x: x * np.tanh(np.logaddexp(0, x)),
    "Relu": lambda x: np.maximum(x, 0),
    "Sigmoid": scipy.special.expit,
    "Softplus": lambda x: np.logaddexp(0, x),
    "Tanh": np.tanh,
}
_BINARY: dict[str, Callable[[Array, Array], Array]] = {
    "Add": np.add,
    "MatMul": np.matmul,
    "Mul": np.multiply,
    "Sub": np.subtract,
}


def find_operator(node: NodeProto, *, straight_through: bool = False) -> Operator | None:
    """Our own implementation of a node's operator, or None."""
    if node.domain not in ("", "ai.onnx"):
        return None
    if straight_through and node.op_type == "QuantizeLinear":
        return clip_to_range
    if node.op_type in _UNARY:
        unary = _UNARY[node.op_type]
        return lambda _node, inputs, _opset: unary(inputs[0])
    if node.op_type in _BINARY:
        binary = _BINARY[node.op_type]
        return lambda _node, inputs, _opset: binary(inputs[0], inputs[1])
    return _OPERATORS.get(node.op_type)


def _operator(name: str) -> Callable[[Operator], Operator]:
    def register(function: Operator) -> Operator:
        _OPERATORS[name] = function
        return function

    return register


@_operator("Conv")
def _conv(node: NodeProto, inputs: list[Any], opset: int) -> Any:
    return windows.convolve(node, inputs[0], inputs[1], inputs[2] if len(inputs) > 2 else None)


@_operator("ConvTranspose")
def _conv_transpose(node: NodeProto, inputs: list[Any], opset: int) -> Any:
    return windows.convolve_transposed(node, inputs[0], inputs[1], inputs[2] if len(inputs) > 2 else None)


@_operator("MaxPool")
def _max_pool(node: NodeProto, inputs: list[Any], opset: int) -> Any:
    if len([o for o in node.output if o]) > 1 or inputs[0].dtype.kind != "f":
        return NotImplemented
    return windows.max_pool(node, inputs[0])


@_operator("AveragePool")
def _average_pool(node: NodeProto, inputs: list[Any], opset: int) -> Any:
    return windows.average_pool(node, inputs[0], opset)


@_operator("LpPool")
def _lp_pool(node: NodeProto, inputs: list[Any], opset: int) -> Any:
    return windows.lp_pool(node, inputs[0])


@_operator("Pad")
def _pad(node: NodeProto, inputs: list[Any], opset: int) -> Any:
    """Negative pads, which cut: numpy's padding, and with it the reference evaluator, refuses them."""
    x, pads, value, axes = [*inputs, None, None, None][:4]
    pads = np.asarray(attribute(node, "pads") if opset < 11 else pads).reshape(-1)
    if attribute(node, "mode", "constant") != "constant" or (pads >= 0).all():
        return NotImplemented
    order = range(x.ndim) if axes is None else [int(axis) % x.ndim for axis in np.asarray(axes).reshape(-1)]
    cut, added = [slice(None)] * x.ndim, [(0, 0)] * x.ndim
    for axis, before, after in zip(order, *np.split(pads, 2), strict=True):
        cut[axis] = slice(max(-before, 0), x.shape[axis] - max(-after, 0))
        added[axis] = (max(before, 0), max(after, 0))
    fill = attribute(node, "value", 0.0) if value is None else np.asarray(value).reshape(-1)[0]
    return np.pad(x[tuple(cut)], added, constant_values=fill)


@_operator("Div")
def _div(node: NodeProto, inputs: list[Any], opset: int) -> Any:
    return inputs[0] / inputs[1] if inputs[0].dtype.kind == "f" else NotImplemented


@_operator("Cast")
def _cast(node: NodeProto, inputs: list[Any], opset: int) -> Any:
    to = attribute(node, "to")
    known = (TensorProto.DOUBLE, TensorProto.FLOAT, TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL)
    if inputs[0].dtype.kind not in "fiub" or to not in known:
        return NotImplemented
    return inputs[0].astype(helper.tensor_dtype_to_np_dtype(to))


@_operator("Clip")
def _clip(node: NodeProto, inputs: list[Any], opset: int) -> Any:
    low, high = attribute(node, "min"), attribute(node, "max")
    if opset >= 11:
        low, high = (*inputs[1:], None, None)[:2]
    x = inputs[0]
    x = x if low is None else np.maximum(x, np.asarray(low, x.dtype))
    return x if high is None else np.minimum(x, np.asarray(high, x.dtype))


@_operator("Gemm")
def _gemm(node: NodeProto, inputs: list[Any], opset: int) -> Any:
    a = inputs[0].T if attribute(node, "transA", 0) else inputs[0]
    b = inputs[1].T if attribute(node, "transB", 0) else inputs[1]
    result = attribute(node, "alpha", 1.0) * (a @ b)
    bias = inputs[2] if len(inputs) > 2 else None
    return (result if bias is None else result + attribute(node, "beta", 1.0) * bias).astype(a.dtype, copy=False)


@_operator("GatherElements")
def _gather_elements(node: NodeProto, inputs: list[Any], opset: int) -> Any:
    data, indices = inputs
    axis = attribute(node, "axis", 0) % data.ndim
    part = tuple(slice(None) if a == axis else slice(size) for a, size in enumerate(indices.shape))
    return np.take_along_axis(data[part], indices, axis)


@_operator("Einsum")
def _einsum(node: NodeProto, inputs: list[Any], opset: int) -> Any:
    return np.einsum(attribute(node, "equation").replace(" ", ""), *inputs, optimize=True)


@_operator("Gelu")
def _gelu(node: NodeProto, inputs: list[Any], opset: int) -> Any:
    x = inputs[0]
    if attribute(node, "approximate", "none") == "tanh":
        # sqrt(2 / pi) as ONNX's function body computes it, in the precision of x.
        inner = np.asarray(np.sqrt(2 / np.pi), x.dtype) * (x + np.asarray(0.044715, x.dtype) * x**3)
        return x * ((1 + np.tanh(inner)) / 2)
    return x * ((1 + scipy.special.erf(x / np.asarray(np.sqrt(2), x.dtype))) / 2)


@_operator("Swish")
def _swish(node: NodeProto, inputs: list[Any], opset: int) -> Any:
    x = inputs[0]
    return x * scipy.special.expit(np.asarray(attribute(node, "alpha", 1.0), x.dtype) * x)


@_operator("HardSigmoid")
def _hard_sigmoid(node: NodeProto, inputs: list[Any], opset: int) -> Any:
    x = inputs[0]
    alpha, beta = (np.asarray(attribute(node, n, d), x.dtype) for n, d in (("alpha", 0.2), ("beta", 0.5)))
    return np.clip(alpha * x + beta, 0, 1)


@_operator("BatchNormalization")
def _batch_normalization(node: NodeProto, inputs: list[Any], opset: int) -> Any:
    if attribute(node, "training_mode", 0) or len([o for o in node.output if o]) > 1:
        return NotImplemented
    x, *parameters = inputs
    scale, shift, mean, variance = (p.reshape(-1, *[1] * (x.ndim - 2)) for p in parameters)
    return (x - mean) * (scale / np.sqrt(variance + np.asarray(attribute(node, "epsilon", 1e-5), x.dtype))) + shift


@_operator("LayerNormalization")
def _layer_normalization(node: NodeProto, inputs: list[Any], opset: int) -> Any:
    x, scale = inputs[0], inputs[1]
    start = attribute(node, "axis", -1) % x.ndim
    axes = tuple(range(start, x.ndim))
    mean = x.mean(axes, keepdims=True)
    deviation = np.sqrt(((x - mean) ** 2).mean(axes, keepdims=True) + _epsilon(node, x))
    result = (x - mean) / deviation * scale
    if len(inputs) > 2 and inputs[2] is not None:
        result = result + inputs[2]
    return result, mean, 1 / deviation


@_operator("RMSNormalization")
def _rms_normalization(node: NodeProto, inputs: list[Any], opset: int) -> Any:
    x = inputs[0]
    axes = tuple(range(attribute(node, "axis", -1) % x.ndim, x.ndim))
    return x / np.sqrt((x * x).mean(axes, keepdims=True) + _epsilon(node, x)) * inputs[1]


@_operator("InstanceNormalization")
def _instance_normalization(node: NodeProto, inputs: list[Any], opset: int) -> Any:
    x, scale, shift = inputs
    apart = (-1, *[1] * (x.ndim - 2))
    return _standardised(node, x, tuple(range(2, x.ndim))) * scale.reshape(apart) + shift.reshape(apart)


@_operator("GroupNormalization")
def _group_normalization(node: NodeProto, inputs: list[Any], opset: int) -> Any:
    x, scale, shift = inputs
    groups = attribute(node, "num_groups")
    grouped = x.reshape(len(x), groups, -1)
    apart = (-1, *[1] * (x.ndim - 2))
    if opset < 21:  # one scale for each group, before it became one for each channel
        scale, shift = (np.repeat(p, x.shape[1] // groups) for p in (scale, shift))
    return _standardised(node, grouped, (2,)).reshape(x.shape) * scale.reshape(apart) + shift.reshape(apart)


def _standardised(node: NodeProto, x: Array, axes: tuple[int, ...]) -> Array:
    mean = x.mean(axes, keepdims=True)
    return (x - mean) / np.sqrt(((x - mean) ** 2).mean(axes, keepdims=True) + _epsilon(node, x))


def _epsilon(node: NodeProto, x: Array) -> Array:
    return np.asarray(attribute(node, "epsilon", 1e-5), x.dtype)


@_operator("MeanVarianceNormalization")
def _mean_variance_normalization(node: NodeProto, inputs: list[Any], opset: int) -> Any:
    x = inputs[0]
    axes = tuple(attribute(node, "axes", None) or (0, 2, 3))
    return (x - x.mean(axes, keepdims=True)) / (x.std(axes, keepdims=True) + np.asarray(1e-9, x.dtype))


@_operator("LRN")
def _lrn(node: NodeProto, inputs: list[Any], opset: int) -> Any:
    x = inputs[0]
    size = attribute(node, "size")
    squares = np.pad(x * x, [(0, 0), ((size - 1) // 2, size // 2), *[(0, 0)] * (x.ndim - 2)])
    total = sum(squares[:, i : i + x.shape[1]] for i in range(size))
    alpha, beta, bias = (attribute(node, n, d) for n, d in (("alpha", 1e-4), ("beta", 0.75), ("bias", 1.0)))
    return (x / (bias + alpha / size * total) ** beta).astype(x.dtype, copy=False)


_OPERATORS["QuantizeLinear"] = quantize
_OPERATORS["DequantizeLinear"] = dequantize
_OPERATORS["Resize"] = resize
