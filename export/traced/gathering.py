"""Adjoints of gathers along one axis: a product with a matrix of zeros and ones.

PyTorch adds the gradient into a tensor of zeros by index, which becomes a scatter with a
reduction in ONNX; TensorRT refuses it (and 8.6 is reported to ignore the reduction).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import UnsupportedOperatorError
from .along_axis import adjoint_along

__all__ = ["index_add", "index_put"]


def index_add(into: Tensor, dim: int, index: Tensor, source: Tensor, *, alpha: float = 1) -> Tensor:
    """`into` with slice i of `source` added at ``index[i]`` of axis `dim`; index: int64 (n,)."""
    axis = dim % into.dim()
    cells = torch.arange(into.shape[axis], device=index.device)
    place = (cells[:, None] == index[None, :]).to(source.dtype)
    added = adjoint_along(axis, source, place)
    return into + (added if alpha == 1 else alpha * added)


def index_put(into: Tensor, indices: Sequence[Any], values: Tensor, accumulate: bool = False) -> Any:
    """The adjoint of ``x[:, index]``, as `index_add`. Raises `UnsupportedOperatorError` for several indices.

    Without `accumulate` it is a plain write, and stays the operator that it is.
    """
    if not accumulate:
        return NotImplemented
    axes = [axis for axis, index in enumerate(indices) if index is not None]
    single = len(axes) == 1 and indices[axes[0]].dim() == 1 and indices[axes[0]].dtype == torch.int64
    if not single:
        raise UnsupportedOperatorError(
            "a tensor is indexed by several tensors at once (or by a mask) between the layer and the score: "
            "its adjoint is a scatter, which engines refuse; index one axis at a time, or choose a layer behind it"
        )
    return index_add(into, axes[0], indices[axes[0]], values)
