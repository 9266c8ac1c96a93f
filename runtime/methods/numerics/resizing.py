"""Linear interpolation of stacks of small maps to the size of an image.

Along one axis it is a small matrix, so that two products enlarge every channel at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from .matrix_products import product

__all__ = ["area_matrix", "line_matrix", "resize", "resize_back", "resize_part", "same_grid", "shrink", "unit_range"]


def resize(maps: NDArray[np.float32], size: tuple[int, int], *, align_corners: bool = False) -> NDArray[np.float32]:
    """`maps` float32 (C, h, w) at `size` (H, W): bilinear, with half-pixel centres.

    align_corners: the outer values lie on the outer pixels' centres instead. Made for
    enlarging: it does not average where it shrinks.
    """
    rows, columns = (line_matrix(old, new, align_corners) for old, new in zip(maps.shape[1:], size, strict=True))
    if len(maps) == 1:  # an image's size is enough to wake BLAS's threads
        return product(rows, product(maps[0], columns.T))[None]
    return rows @ (maps @ columns.T)


def resize_part(
    maps: NDArray[np.float32], size: tuple[int, int], start: tuple[int, int], part: tuple[int, int]
) -> NDArray[np.float32]:
    """The part (h', w') that begins at `start` of what `resize` makes of `maps` (C, h, w) at `size`: (C, h', w')."""
    rows, columns = (
        line_matrix(old, new, False)[first : first + length]
        for old, new, first, length in zip(maps.shape[1:], size, start, part, strict=True)
    )
    return rows @ (maps @ columns.T)


def resize_back(part: NDArray[np.float32], size: tuple[int, int], start: tuple[int, int]) -> NDArray[np.float32]:
    """`part` (h, w), put at `start` into zeros of `size`, which are then resized to (h, w).

    As `resize`, it does not average where it shrinks.
    """
    rows, columns = (
        line_matrix(old, new, False)[:, first : first + new]
        for old, new, first in zip(size, part.shape, start, strict=True)
    )
    return rows @ (part @ columns.T)


def same_grid(maps: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Maps (h, w) as one array (N, H, W), on the grid of the finest."""
    finest = max((one.shape for one in maps), key=lambda shape: shape[0] * shape[1])
    return np.stack([one if one.shape == finest else resize(one[None], finest)[0] for one in maps])


def shrink(maps: NDArray[np.float32], size: tuple[int, ...]) -> NDArray[np.float32]:
    """`maps` float32 (C, H, W) averaged to a grid `size` (h, w) that is no finer.

    A cell is the mean over its area: where the sizes are no multiples, cells at its border count in part.
    """
    (height, width), (rows, columns) = maps.shape[1:], size
    if height % rows == 0 and width % columns == 0 and height * width <= 4 * rows * columns:
        down, across = height // rows, width // columns
        parts = [maps[:, i::down, j::across] for i in range(down) for j in range(across)]
        return np.add.reduce(parts) / np.float32(len(parts))
    row_shares, column_shares = area_matrix(height, rows), area_matrix(width, columns)
    return row_shares @ (maps @ column_shares.T)


def unit_range(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each of `maps` (C, H, W) less its minimum, divided by its maximum then; 0 where it is constant."""
    low = maps.min(axis=(1, 2), keepdims=True)
    spread = maps.max(axis=(1, 2), keepdims=True) - low
    return (maps - low) / np.where(spread > 0, spread, 1)


@lru_cache(maxsize=64)
def line_matrix(old: int, new: int, align_corners: bool) -> NDArray[np.float32]:
    """(new, old) matrix M with ``M @ x`` = x interpolated at `new` places."""
    if align_corners:
        places = np.linspace(0, old - 1, new)
    else:
        places = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
    low = np.minimum(places.astype(int), max(old - 2, 0))
    matrix = np.zeros((new, old), np.float32)
    matrix[np.arange(new), low] = 1 - (places - low)
    matrix[np.arange(new), np.minimum(low + 1, old - 1)] += (places - low).astype(np.float32)
    matrix.flags.writeable = False
    return matrix


@lru_cache(maxsize=64)
def area_matrix(old: int, new: int) -> NDArray[np.float32]:
    """(new, old) matrix M with ``M @ x`` = the mean of x over each of `new` equal stretches."""
    edges = np.arange(new + 1) * old / new
    cells = np.arange(old)
    inside = np.minimum(edges[1:, None], cells + 1) - np.maximum(edges[:-1, None], cells)
    matrix = (np.maximum(inside, 0) * new / old).astype(np.float32)
    matrix.flags.writeable = False
    return matrix
