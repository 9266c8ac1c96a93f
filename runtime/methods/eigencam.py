"""Eigen-CAM: the first principal component of a layer.

Muhammad and Yeasin, "Eigen-CAM: Class Activation Map using Principal Components", IJCNN 2020, arXiv 2008.00299.
"""

from __future__ import annotations

import numpy as np

from .base import CamResult, FloatArray
from .numerics.principal_component import NO_COMPONENT, first_component
from .numerics.scaling import finish, safe_float32
from .registry import register_rule

__all__ = ["eigencam"]


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
