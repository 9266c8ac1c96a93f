"""KPCA-CAM: the first kernel principal component of a layer.

Karmani et al., "KPCA-CAM: Visual Explainability of Deep Computer Vision Models using Kernel PCA", arXiv 2410.00267.
Kernels and their constants are scikit-learn's, as in pytorch-grad-cam; the sign makes the value of largest magnitude
positive, as scikit-learn's does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ..checks import check_choice, check_number
from .base import CamResult, FloatArray
from .eigencam import NO_COMPONENT
from .numerics.matrix_products import gram
from .numerics.scaling import finish, safe_float32
from .registry import register_rule

__all__ = ["KpcaCamSettings", "kpcacam"]

Kernel = Literal["sigmoid", "rbf"]

_WHERE = "settings of 'kpcacam'"

#: Every cell is compared with every other, and the time grows with the cube of their number.
_MOST_CELLS = 4096

# Powers of two beyond these are cut off: a kernel is linear below them, and saturated above.
_LIMIT = 400


@dataclass(frozen=True, kw_only=True)
class KpcaCamSettings:
    """Settings of `kpcacam`.

    kernel: ``sigmoid``, tanh(gamma x.y + 1), or ``rbf``, exp(-gamma |x - y|^2).
    gamma: in units of an inverse squared activation; None is 1 / C.
    """

    kernel: Kernel = "sigmoid"
    gamma: float | None = None

    def __post_init__(self) -> None:
        check_choice(_WHERE, "kernel", self.kernel, get_args(Kernel))
        if self.gamma is not None:
            check_number(_WHERE, "gamma", self.gamma, 0, 1e6)


@register_rule("kpcacam", settings=KpcaCamSettings, most_cells=_MOST_CELLS)
def kpcacam(activations: FloatArray, gradients: FloatArray, settings: KpcaCamSettings | None = None) -> CamResult:
    """KPCA-CAM: ReLU of the activations' first kernel principal component; does not depend on the class.

    With x_i the channels of cell i less their mean over the cells, K_ij = kernel(x_i, x_j) with rows and columns
    centred, and (l, v) the largest eigenvalue of K and its vector: map = ReLU(sqrt(l) v). Unlike most rules it depends
    on the activations' scale.
    """
    settings = settings or KpcaCamSettings()
    a, exponent = safe_float32(activations)
    g, _ = safe_float32(gradients)
    cells = a.reshape(len(a), -1).T.astype(np.float64)
    cells = np.where((cells == cells[0]).all(axis=0), 0, cells - cells.mean(axis=0))
    values = np.zeros(len(cells))
    if cells.any():
        values = _first_component(_kernel(cells, exponent, settings))
    return finish(values.reshape(a.shape[1:]), a, g, nothing=NO_COMPONENT)


def _kernel(cells: NDArray[np.float64], exponent: int, settings: KpcaCamSettings) -> NDArray[np.float64]:
    """The kernel of ``cells * 2**exponent``, (HW, HW), less a constant, which centring takes away anyway.

    Left in, the constant would drown what small activations have to say.
    """
    gamma = 1 / cells.shape[1] if settings.gamma is None else settings.gamma
    products = gram(cells)
    power = max(min(2 * exponent, _LIMIT), -_LIMIT)
    if settings.kernel == "rbf":
        lengths = products.diagonal()
        squares = np.maximum(lengths[:, None] + lengths - 2 * products, 0)
        return np.expm1(-gamma * np.ldexp(squares, power))
    # tanh(x + 1) - tanh(1), without the difference of two numbers that are nearly the same.
    bent, one = np.tanh(gamma * np.ldexp(products, power)), np.tanh(1)
    return bent * (1 - one**2) / (1 + one * bent)


def _first_component(kernel: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.linalg import eigh

    means = kernel.mean(axis=0)
    centred = kernel - means - means[:, None] + means.mean()
    top = float(np.abs(centred).max())
    if top == 0:
        return np.zeros(len(kernel))
    last = len(kernel) - 1
    values, vectors = eigh(centred / top, subset_by_index=[last, last])
    if not values[0] > 1e-12:  # what rounding leaves
        return np.zeros(len(kernel))
    component = vectors[:, 0] * np.sqrt(values[0] * top)
    if component[np.abs(component).argmax()] < 0:
        component = -component
    return np.maximum(component, 0)
