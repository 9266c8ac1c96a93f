"""Adjoints of slices and selections: what was not taken gets zeros, by padding.

PyTorch's own decompositions write the gradient into a tensor of zeros, which becomes a
scatter in ONNX. A padding says the same, and every engine has it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["select_backward", "slice_backward"]

aten = torch.ops.aten


def slice_backward(gradient: Tensor, sizes: Sequence[int], dim: int, start: int, end: int, step: int) -> Tensor:
    """The adjoint of ``source[..., start:end:step, ...]`` along axis `dim`; source has `sizes`."""
    axis = dim % len(sizes)
    if gradient.shape[axis] == sizes[axis]:  # all of it, the batch for instance, whose size is a symbol
        return gradient
    size, count = int(sizes[axis]), int(gradient.shape[axis])
    if count == 0:
        return gradient.new_zeros(sizes)
    first = max(start + size if start < 0 else start, 0)
    if step > 1:  # step - 1 zeros behind each of the cells that were taken
        apart = _pad(gradient.unsqueeze(axis + 1), axis + 1, 0, step - 1)
        gradient = apart.reshape(*gradient.shape[:axis], count * step, *gradient.shape[axis + 1 :])
        count = min(count * step, size - first)
        gradient = gradient.narrow(axis, 0, count)
    return _pad(gradient, axis, first, size - first - count)


def select_backward(gradient: Tensor, sizes: Sequence[int], dim: int, index: int) -> Tensor:
    """The adjoint of one index of axis `dim`, which the result no longer has."""
    axis = dim % len(sizes)
    size = int(sizes[axis])
    place = index % size
    return _pad(gradient.unsqueeze(axis), axis, place, size - 1 - place)


def _pad(tensor: Tensor, axis: int, before: int, after: int) -> Tensor:
    if not before and not after:
        return tensor
    # Pairs are counted from the last axis.
    return aten.constant_pad_nd(tensor, [0, 0] * (tensor.dim() - 1 - axis) + [before, after], 0)
