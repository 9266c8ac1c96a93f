"""Linear maps that act on each axis by itself: resizing, padding, averaging over windows.

Such a map is one small matrix per axis, and its adjoint the transposed matrices. A matrix is
read off the forward operator, applied to the identity, so that it has the operator's own
weights and rounding.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

__all__ = ["adjoint_along", "axis_matrix"]


def axis_matrix(size: int, dtype: torch.dtype, forward: Callable[[Tensor], Tensor]) -> Tensor:
    """What `forward` does to an axis of `size` cells: (size, cells after), in `dtype`.

    forward: takes unit vectors (size, size), one per row, to (size, cells after).
    """
    # The trace is interrupted: the numbers are a constant of the graph, not computed in it.
    with _disable_current_modes(), torch.no_grad():
        return forward(torch.eye(size, dtype=dtype))


def adjoint_along(axis: int, gradient: Tensor, matrix: Tensor) -> Tensor:
    """Multiply `gradient` along `axis` by the transpose of `matrix` (cells before, cells after)."""
    last = gradient.dim() - 1
    moved = gradient.transpose(axis, last)
    *sizes, cells = moved.shape
    rows = 1
    for size in sizes:
        rows = rows * size
    # A plain product of matrices: the broadcasting one reads the batch size as a number.
    product = torch.mm(moved.reshape(rows, cells), matrix.t())
    return product.reshape(*sizes, matrix.shape[0]).transpose(axis, last)
