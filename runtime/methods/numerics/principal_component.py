"""The first principal component of a layer's channels.

Cells are centred, as in pytorch-grad-cam, which the paper of Eigen-CAM does not say. The sign of a principal component
is arbitrary; the one taken here makes the value of largest magnitude positive (Chung and Ying, "Seg-Eigen-CAM", Applied
Sciences 15 (13), 2025, equation 13).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .matrix_products import gram

__all__ = ["NO_COMPONENT", "first_component"]

#: Why there is none, for an empty map.
NO_COMPONENT = "the channels are the same in every cell, so there is no principal component"


def first_component(channels: NDArray[np.float64]) -> NDArray[np.float64]:
    """ReLU of the cells' coordinate along the first principal component of float64 (C, H, W)."""
    from scipy.linalg import eigh

    grid = channels.shape[1:]
    cells = channels.reshape(len(channels), -1).T
    constant = (cells == cells[0]).all(axis=0)
    cells = np.where(constant, 0, cells - cells.mean(axis=0))
    if not cells.any():
        return np.zeros(grid)
    # The small one of the two Gram matrices has the same first eigenvector, up to a product with X.
    count, depth = cells.shape
    side = min(count, depth)
    _, vectors = eigh(gram(cells if count <= depth else cells.T), subset_by_index=[side - 1, side - 1])
    axis = vectors[:, 0]
    if count <= depth:
        axis = axis @ cells
        axis /= np.linalg.norm(axis)
    projection = cells @ axis
    if projection[np.abs(projection).argmax()] < 0:
        projection = -projection
    return np.maximum(projection, 0).reshape(grid)
