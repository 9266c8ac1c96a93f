"""Spatial filters over stacks of small maps.

The grids are small (7x7 to 56x56), so a Gaussian along one axis is a small matrix: two
products blur every channel, several times faster than a general filter.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..numerics.matrix_products import product

__all__ = ["blurred_features", "feature_basis", "gaussian", "line_matrix", "self_kernel_filter"]

#: On grids of up to so many cells one product for both axes is faster than one for each.
_ONE_PRODUCT = 100
#: Coefficients of which a blur leaves less than this share are left out: they move a cosine by its square.
_REMOVED = 1e-3


def gaussian(maps: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Blur `maps` float32 (C, H, W) with a Gaussian of `sigma` cells; 0 returns them as they are.

    Half-sample reflection at the borders and a kernel cut at 4 sigma: equal to
    `scipy.ndimage.gaussian_filter(mode="reflect")` up to float32 rounding. A map that is
    constant stays what it is.
    """
    if sigma == 0:
        return maps
    _, height, width = maps.shape
    # One product per map and axis: each is far too small for BLAS to wake its threads.
    return line_matrix(height, sigma) @ (maps @ line_matrix(width, sigma).T)


def blurred_features(maps: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """What `gaussian` makes of `maps` (C, H, W), as rows (C, D) with the same lengths and angles.

    Under half-sample reflection the blur is diagonal in the cosine basis (DCT-II), which is orthonormal: its
    coefficients are as good as cells for comparing channels, and those that the blur all but removes are left out.
    """
    count, height, width = maps.shape
    basis = feature_basis(height, width, sigma)
    if basis is None:
        return maps.reshape(count, -1)
    if isinstance(basis, np.ndarray):
        return product(maps.reshape(count, -1), basis)
    rows, columns, kept = basis
    return (rows @ (maps @ columns.T)).reshape(count, -1)[:, kept]


def feature_basis(
    height: int, width: int, sigma: float
) -> NDArray[np.float32] | tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.intp]] | None:
    """What `blurred_features` multiplies maps of (height, width) with.

    Args:
        height: Of the grid.
        width: Of the grid.
        sigma: Of the blur, in cells.

    Returns:
        A matrix (height * width, D) for flattened maps; for larger grids (rows, columns, kept): two square matrices
        for ``rows @ map @ columns.T``, and the places (D,) of the flattened result that are kept. None without a blur,
        where features are the cells.
    """
    if sigma == 0:
        return None
    if height * width <= _ONE_PRODUCT:
        return _grid_basis(height, width, sigma)
    (rows, row_factors), (columns, column_factors) = (_cosine_basis(size, sigma) for size in (height, width))
    return rows, columns, np.flatnonzero(np.outer(row_factors, column_factors) > _REMOVED)


@lru_cache(maxsize=16)
def _grid_basis(height: int, width: int, sigma: float) -> NDArray[np.float32]:
    """(height * width, D) matrix from cells to the coefficients that are kept: both axes in one."""
    (rows, row_factors), (columns, column_factors) = (_cosine_basis(size, sigma) for size in (height, width))
    kept = np.flatnonzero(np.outer(row_factors, column_factors) > _REMOVED)
    matrix = np.ascontiguousarray(np.kron(rows, columns)[kept].T)
    matrix.flags.writeable = False
    return matrix


@lru_cache(maxsize=64)
def _cosine_basis(size: int, sigma: float) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """(size, size) matrix to the coefficients of the blurred line, and the blur's factor for each."""
    places = np.pi * (np.arange(size) + 0.5) / size
    basis = np.cos(np.arange(size)[:, None] * places) * np.sqrt(2 / size)
    basis[0] /= np.sqrt(2)
    factors = np.einsum("ij,jk,ik->i", basis, line_matrix(size, sigma).astype(np.float64), basis)
    weighted = (factors[:, None] * basis).astype(np.float32)
    weighted.flags.writeable = False
    return weighted, np.abs(factors)


@lru_cache(maxsize=64)
def line_matrix(size: int, sigma: float) -> NDArray[np.float32]:
    """(size, size) matrix M with ``M @ x`` = x blurred along its first axis."""
    # As scipy's gaussian_filter1d, without importing scipy.
    radius = int(4 * sigma + 0.5)
    offsets = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (offsets / sigma) ** 2)
    places = (np.arange(size)[:, None] + offsets) % (2 * size)
    places = np.minimum(places, 2 * size - 1 - places)
    matrix = np.zeros((size, size))
    np.add.at(matrix, (np.arange(size)[:, None], places), weights / weights.sum())
    matrix = matrix.astype(np.float32)
    matrix.flags.writeable = False
    return matrix


def self_kernel_filter(
    gradient: NDArray[np.floating[Any]], *, sigma_space: float = 5.0, sigma_range: float = 0.1
) -> NDArray[np.float64]:
    """The filter of the released CF-CAM code: `gradient` (H, W) correlated with a kernel made from itself.

    The code calls it bilateral. It is not: a bilateral filter has a kernel per cell, this
    is one kernel of the size of the map. Its cell (i, j) weighs
    ``exp(-((i - H/2)**2 + (j - W/2)**2) / (2 sigma_space**2))`` times
    ``exp(-(g[i, j] - mean(g))**2 / (2 sigma_range**2))``, all divided by their sum plus
    1e-6; the map is zero-padded, and for an even size the missing row comes after the map.
    """
    from scipy.signal import correlate

    g = np.asarray(gradient, np.float64)
    height, width = g.shape
    rows, columns = np.arange(height) - height / 2, np.arange(width) - width / 2
    space = np.exp(-(rows[:, None] ** 2 + columns**2) / (2 * sigma_space**2))
    # A hundred sigma is zero already, and larger squares could overflow.
    away = np.minimum(np.abs(g - g.mean()), 100 * sigma_range)
    kernel = space * np.exp(-(away**2) / (2 * sigma_range**2))
    kernel /= kernel.sum() + 1e-6
    full = correlate(g, kernel, mode="full", method="direct")
    # scipy's own mode "same" puts an even kernel one cell further up and left.
    top, left = height // 2, width // 2
    return full[top : top + height, left : left + width]
