"""Eigen-Grad-CAM: pytorch-grad-cam's variant of Eigen-CAM, with G A in place of A; it has no paper."""

from __future__ import annotations

import numpy as np

from .base import CamResult, FloatArray
from .eigencam import NO_COMPONENT, first_component
from .numerics.scaling import finish, safe_pair
from .registry import register_rule

__all__ = ["eigengradcam"]


@register_rule("eigengradcam")
def eigengradcam(activations: FloatArray, gradients: FloatArray, settings: None = None) -> CamResult:
    """Eigen-Grad-CAM: ReLU of the first principal component of G_k A_k; blind to the sign of G.

    As `eigencam`, with the products of gradients and activations instead of the activations.
    What speaks for the class and what speaks against it with all gradients reversed give the
    same map.
    """
    a, g, exponent = safe_pair(activations, gradients)
    values = first_component(a.astype(np.float64) * g)
    return finish(values, a, g, exponent=exponent, nothing=NO_COMPONENT)
