"""Eigen-CAM: the first principal component of a layer.

Muhammad and Yeasin, "Eigen-CAM: Class Activation Map using Principal Components", IJCNN 2020, arXiv 2008.00299. Cells
are centred, as in pytorch-grad-cam, which the paper does not say. The sign of a principal component is arbitrary; the
one taken here makes the value of largest magnitude positive (Chung and Ying, "Seg-Eigen-CAM", Applied Sciences 15 (13),
2025, equation 13).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .base import CamResult, FloatArray
from .numerics.matrix_products import gram
from .numerics.scaling import finish, safe_float32
from .registry import register_rule

__all__ = ["NO_COMPONENT", "eigencam", "first_component"]

#: Why there is none, for an empty map.
NO_COMPONENT = "the channels are the same in every cell, so there is no principal component"


@register_rule("eigencam")
def eigencam(activations: FloatArray, gradients: FloatArray, settings: None = None) -> CamResult:
    """Eigen-CAM: ReLU of the activations' first principal component; does not depend on the class.

    With X the (HW, C) activations less their mean over the cells, and v the first right
    singular vector of X: map = ReLU(X v). The gradients are looked at only to call a map empty
    that was asked for a class without any.
    """
    a, a_exponent = safe_float32(activations)
    g, _ = safe_float32(gradients)
    return finish(first_component(a.astype(np.float64)), a, g, exponent=a_exponent, nothing=NO_COMPONENT)


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
