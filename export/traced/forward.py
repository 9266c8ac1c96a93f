"""Forward operators that are written in another way before they are differentiated.

How PyTorch takes these apart depends on the machine or on strides, and leaves operators that
no exporter knows. Each stands here in one form, with the same values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .attention import scaled_dot_product_attention
from .normalisation import layer_norm
from .resampling import RESIZES, circular_pad, resize

__all__ = ["FORWARD"]

aten = torch.ops.aten


def _adaptive_avg_pool2d(source: Tensor, size: Sequence[int]) -> Tensor:
    """To one cell it is a mean; of channels-last strides PyTorch would make an `as_strided`."""
    if list(size) == [1, 1]:
        return source.mean((2, 3), keepdim=True)
    return aten.adaptive_avg_pool2d.default(source, size)


def _adaptive_avg_pool1d(source: Tensor, size: Sequence[int]) -> Tensor:
    """Of tokens (N, C, T); the same in one dimension."""
    return _adaptive_avg_pool2d(source.unsqueeze(-2), [1, *size]).squeeze(-2)


def _addcmul(source: Tensor, first: Tensor, second: Tensor, *, value: float = 1) -> Tensor:
    """Of weights and an image's values; PyTorch's own cannot broadcast a weight to a symbolic batch."""
    product = first * second
    return source + (product if value == 1 else value * product)


def _reshape(source: Tensor, size: Sequence[Any]) -> Tensor:
    """A view needs strides that fit, and what it is a view of may have been made in another way."""
    return source.reshape(size)


def _pad(source: Tensor, padding: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
    if mode == "circular":
        return circular_pad(source, padding)
    return aten.pad.default(source, padding, mode, value)


def _rms_norm(
    source: Tensor, shape: Sequence[int], weight: Tensor | None = None, epsilon: float | None = None
) -> Tensor:
    """PyTorch's own writes into a temporary."""
    axes = list(range(-len(shape), 0))
    smallest = torch.finfo(source.dtype).eps if epsilon is None else epsilon
    normed = source * torch.rsqrt(source.square().mean(axes, keepdim=True) + smallest)
    return normed if weight is None else normed * weight


#: Operator -> what is traced in its place.
FORWARD: dict[Any, Callable[..., Any]] = {
    aten.scaled_dot_product_attention.default: scaled_dot_product_attention,
    aten.adaptive_avg_pool1d.default: _adaptive_avg_pool1d,
    aten.adaptive_avg_pool2d.default: _adaptive_avg_pool2d,
    aten.layer_norm.default: layer_norm,
    aten.addcmul.default: _addcmul,
    aten.view.default: _reshape,
    aten._unsafe_view.default: _reshape,
    aten.pad.default: _pad,
    aten.rms_norm.default: _rms_norm,
    **{operator.vec: resize(operator) for operator in RESIZES},
}
