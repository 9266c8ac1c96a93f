"""Layer normalisation with a derivative that does not read the operator's statistics.

PyTorch's own derivative takes mean and deviation from the forward operator, which in ONNX
makes a LayerNormalization with three outputs: TensorRT refuses it. Here they are computed
anew where the gradient needs them, which is two means of what is at hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["layer_norm"]

aten = torch.ops.aten


class _LayerNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, source: Tensor, shape: Sequence[int], weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> Tensor:
        ctx.save_for_backward(source, weight)
        ctx.axes, ctx.eps = list(range(-len(shape), 0)), eps
        return aten.native_layer_norm(source, shape, weight, bias, eps)[0]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:  # type: ignore[override]
        source, weight = ctx.saved_tensors
        centred = source - source.mean(ctx.axes, keepdim=True)
        scale = torch.rsqrt((centred * centred).mean(ctx.axes, keepdim=True) + ctx.eps)
        normal = centred * scale
        if weight is not None:
            gradient = gradient * weight
        along = normal * (gradient * normal).mean(ctx.axes, keepdim=True)
        return (gradient - gradient.mean(ctx.axes, keepdim=True) - along) * scale, None, None, None, None


def layer_norm(
    source: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> Tensor:
    """`aten.layer_norm`, differentiable with respect to `source`."""
    result: Any = _LayerNorm.apply(source, normalized_shape, weight, bias, eps)
    return result
