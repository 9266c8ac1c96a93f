"""Resize by nearest neighbour or linear interpolation, one axis at a time."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from ...graph.graph import attribute

__all__ = ["resize"]

_SUPPORTED = {"half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"}


def resize(node: NodeProto, inputs: list[Any], opset: int) -> Any:
    """Resize (opset 11 and newer); NotImplemented for cubic, cropping and antialiased forms."""
    x = inputs[0]
    scales = inputs[2] if len(inputs) > 2 else None
    sizes = inputs[3] if len(inputs) > 3 else None
    mode = attribute(node, "mode", "nearest")
    frame = attribute(node, "coordinate_transformation_mode", "half_pixel")
    unusual = attribute(node, "antialias", 0) or attribute(node, "keep_aspect_ratio_policy", "stretch") != "stretch"
    if mode not in ("nearest", "linear") or frame not in _SUPPORTED or unusual:
        return NotImplemented
    axes = [a % x.ndim for a in attribute(node, "axes", None) or range(x.ndim)]
    for position, axis in enumerate(axes):
        size = x.shape[axis]
        if sizes is not None and sizes.size:
            out = int(sizes[position])
            scale = out / size
        elif scales is None:
            return NotImplemented
        else:
            scale = float(scales[position])
            out = math.floor(size * scale)
        if out == size and scale == 1:
            continue
        place = _coordinates(size, out, scale, frame)
        x = _nearest(x, axis, place, node) if mode == "nearest" else _linear(x, axis, place)
    return x


def _coordinates(size: int, out: int, scale: float, frame: str) -> NDArray[np.float64]:
    """Where each output cell lies among the input's cells."""
    index = np.arange(out, dtype=np.float64)
    if frame == "align_corners":
        return index * (size - 1) / (out - 1) if out > 1 else np.zeros(1)
    if frame == "asymmetric":
        return index / scale
    if frame == "pytorch_half_pixel" and out == 1:
        return np.zeros(1)
    return (index + 0.5) / scale - 0.5


def _nearest(x: NDArray[Any], axis: int, place: NDArray[np.float64], node: NodeProto) -> NDArray[Any]:
    rule = attribute(node, "nearest_mode", "round_prefer_floor")
    rounded = {
        "round_prefer_floor": lambda p: np.ceil(p - 0.5),
        "round_prefer_ceil": lambda p: np.floor(p + 0.5),
        "floor": np.floor,
        "ceil": np.ceil,
    }[rule](place)
    return np.take(x, np.clip(rounded, 0, x.shape[axis] - 1).astype(np.int64), axis)


def _linear(x: NDArray[Any], axis: int, place: NDArray[np.float64]) -> NDArray[Any]:
    size = x.shape[axis]
    place = np.clip(place, 0, size - 1)
    low = np.minimum(np.floor(place).astype(np.int64), max(size - 2, 0))
    high = np.minimum(low + 1, size - 1)
    share = (place - low).astype(x.dtype).reshape([-1 if a == axis else 1 for a in range(x.ndim)])
    return np.take(x, low, axis) * (1 - share) + np.take(x, high, axis) * share
