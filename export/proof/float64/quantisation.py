"""QuantizeLinear and DequantizeLinear with one scale, or one per channel.

Blocked forms and 8-bit floats are left to the reference evaluator.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, helper

from ...graph.graph import attribute

__all__ = ["clip_to_range", "dequantize", "quantize"]

Array = NDArray[Any]

_FOUR_BITS = {"int4": (-8, 7), "uint4": (0, 15)}


def quantize(node: NodeProto, inputs: list[Any], opset: int) -> Any:
    """QuantizeLinear: rounded half to even, saturated."""
    kind = _kind(node, inputs)
    if kind is None:
        return NotImplemented
    dtype, low, high = kind
    scaled, offset = _scaled(node, inputs)
    return np.clip(np.rint(scaled) + offset, low, high).astype(dtype)


def clip_to_range(node: NodeProto, inputs: list[Any], opset: int) -> Any:
    """QuantizeLinear without its rounding: a float in the units of the quantised type.

    Rounding to nearest still reaches the range from half a step outside.
    """
    kind = _kind(node, inputs)
    if kind is None:
        return NotImplemented
    _, low, high = kind
    scaled, offset = _scaled(node, inputs)
    return np.clip(scaled + offset, low - 0.5, high + 0.5)


def dequantize(node: NodeProto, inputs: list[Any], opset: int) -> Any:
    """DequantizeLinear, of integers or of what `clip_to_range` made."""
    q, step = inputs[:2]
    zero = inputs[2] if len(inputs) > 2 else None
    if attribute(node, "block_size", 0) or not (q.dtype.kind in "iuf" or q.dtype.name in _FOUR_BITS):
        return NotImplemented
    axis = attribute(node, "axis", 1) % max(q.ndim, 1)
    shifted = q.astype(step.dtype)
    if zero is not None:
        shifted = shifted - _parameter(zero, q.ndim, axis).astype(step.dtype)
    return shifted * _parameter(step, q.ndim, axis)


def _kind(node: NodeProto, inputs: list[Any]) -> tuple[np.dtype[Any], int, int] | None:
    """(quantised type, lowest, highest value), or None for a form that is not covered."""
    if attribute(node, "block_size", 0):
        return None
    zero, named = inputs[2] if len(inputs) > 2 else None, attribute(node, "output_dtype", 0)
    dtype = zero.dtype if zero is not None else np.dtype(np.uint8)
    if zero is None and named:
        dtype = np.dtype(helper.tensor_dtype_to_np_dtype(named))
    if dtype.name in _FOUR_BITS:
        return dtype, *_FOUR_BITS[dtype.name]
    if dtype.kind not in "iu":
        return None
    return dtype, int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)


def _scaled(node: NodeProto, inputs: list[Any]) -> tuple[Array, Array]:
    x, step = inputs[:2]
    zero = inputs[2] if len(inputs) > 2 else None
    axis = attribute(node, "axis", 1) % max(x.ndim, 1)
    offset = np.zeros((), x.dtype) if zero is None else _parameter(zero, x.ndim, axis).astype(x.dtype)
    return x / _parameter(step, x.ndim, axis), offset


def _parameter(value: Array, rank: int, axis: int) -> Array:
    """A scale or zero point, ready to broadcast."""
    return value.reshape([-1 if a == axis else 1 for a in range(rank)]) if value.size > 1 else value.reshape(())
