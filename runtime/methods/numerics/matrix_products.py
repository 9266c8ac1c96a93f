"""Matrix products that stay on one thread while they are small.

BLAS spreads a product over its threads from about 2**18 multiply-adds. Right after an
inference the engine's own threads still spin on the cores, and such a product then waits for
them: on two cores one map took 36 ms instead of 5. The usual remedy, limiting BLAS, changes
a setting of the whole process; cutting the product into blocks does not.
"""

from __future__ import annotations

import math
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["gram", "product"]

Float = TypeVar("Float", np.float32, np.float64)

# OpenBLAS keeps a product of up to this many multiply-adds on the calling thread.
_SINGLE_THREAD = 2**18

# From here on the threads earn more than waiting for them costs.
_WORTH_THREADS = 2**27


def product(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float32]:
    """``left @ right`` for (n, k) and (k, m)."""
    rows, inner = left.shape
    columns = right.shape[1]
    side = _block_side(rows, columns, inner)
    out = np.empty((rows, columns), np.float32)
    for i in range(0, rows, side):
        for j in range(0, columns, side):
            np.matmul(left[i : i + side], right[:, j : j + side], out=out[i : i + side, j : j + side])
    return out


def gram(rows: NDArray[Float]) -> NDArray[Float]:
    """``rows @ rows.T``, exactly symmetric; float32 or float64."""
    count, inner = rows.shape
    side = _block_side(count, count, inner)
    # A copy, since numpy takes a slower routine for a matrix and its own transpose.
    columns = np.ascontiguousarray(rows.T)
    out = np.empty((count, count), rows.dtype)
    for i in range(0, count, side):
        for j in range(i, count, side):
            block = rows[i : i + side] @ columns[:, j : j + side]
            if i == j:  # the rim of a block may be another routine's, which rounds in its own way
                block = np.maximum(block, block.T)
            out[i : i + side, j : j + side] = block
            out[j : j + side, i : i + side] = block.T
    return out


def _block_side(rows: int, columns: int, inner: int) -> int:
    if rows * columns * inner > _WORTH_THREADS:
        return max(rows, columns)
    # A block of one row would be a matrix-vector product, which has a lower limit.
    return max(8, math.isqrt(_SINGLE_THREAD // inner))
