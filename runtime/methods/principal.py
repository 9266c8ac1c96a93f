"""First principal component of a layer: Eigen-CAM and Eigen-Grad-CAM.

`eigencam`: Muhammad and Yeasin, "Eigen-CAM", IJCNN 2020, arXiv 2008.00299. `eigengradcam` is
pytorch-grad-cam's variant of it, with G A in place of A; it has no paper. The cells are
centred, as there, which the paper does not say. The sign of a principal component is
arbitrary; the one taken here makes the value of largest magnitude positive (Chung and Ying,
"Seg-Eigen-CAM", Applied Sciences 15 (13), 2025, equation 13).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .base import CamResult, FloatArray, register_rule
from .numerics.matrix_products import gram
from .numerics.scaling import finish, prepare

__all__ = ["eigencam", "eigengradcam"]

_SAME_EVERYWHERE = "the channels are the same in every cell, so there is no principal component"


@register_rule("eigencam")
def eigencam(activations: FloatArray, gradients: FloatArray, settings: None = None) -> CamResult:
    """Eigen-CAM: ReLU of the activations' first principal component; does not depend on the class.

    With X the (HW, C) activations less their mean over the cells, and v the first right
    singular vector of X: map = ReLU(X v). The gradients are looked at only to call a map empty
    that was asked for a class without any.
    """
    a, a_exponent = prepare(activations)
    g, _ = prepare(gradients)
    return finish(_projection(a.astype(np.float64)), a, g, exponent=a_exponent, nothing=_SAME_EVERYWHERE)


@register_rule("eigengradcam")
def eigengradcam(activations: FloatArray, gradients: FloatArray, settings: None = None) -> CamResult:
    """Eigen-Grad-CAM: ReLU of the first principal component of G_k A_k; blind to the sign of G.

    As `eigencam`, with the products of gradients and activations instead of the activations.
    What speaks for the class and what speaks against it with all gradients reversed give the
    same map.
    """
    a, a_exponent = prepare(activations)
    g, g_exponent = prepare(gradients)
    values = _projection(a.astype(np.float64) * g)
    return finish(values, a, g, exponent=a_exponent + g_exponent, nothing=_SAME_EVERYWHERE)


def _projection(channels: NDArray[np.float64]) -> NDArray[np.float64]:
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
