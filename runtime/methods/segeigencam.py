"""Seg-Eigen-CAM: the first principal component of the activations, weighed by the gradients' size.

Chung and Ying, "Seg-Eigen-CAM: Eigen-Value-Based Visual Explanations for Semantic Segmentation Models", Applied
Sciences 15 (13), 2025.
"""

from __future__ import annotations

import numpy as np

from .base import CamResult, FloatArray
from .eigencam import NO_COMPONENT, first_component
from .numerics.scaling import finish, safe_pair
from .registry import register_rule

__all__ = ["segeigencam"]


@register_rule("segeigencam")
def segeigencam(activations: FloatArray, gradients: FloatArray, settings: None = None) -> CamResult:
    """Seg-Eigen-CAM: ReLU of the first principal component of abs(G_k) A_k; blind to the sign of G.

    As `eigencam`, which has the paper's sign, with abs(G) A, element by element, instead of the activations.
    """
    a, g, exponent = safe_pair(activations, gradients)
    values = first_component(a.astype(np.float64) * np.abs(g))
    return finish(values, a, g, exponent=exponent, nothing=NO_COMPONENT)
