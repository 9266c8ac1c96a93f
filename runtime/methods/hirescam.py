"""HiResCAM: gradient times activation, cell by cell.

Draelos and Carin, "Use HiResCAM instead of Grad-CAM for faithful explanations of convolutional neural networks", arXiv
2011.08891.
"""

from __future__ import annotations

import numpy as np

from .base import CamResult, FloatArray
from .numerics.scaling import finish, safe_pair
from .registry import register_rule

__all__ = ["hirescam"]


@register_rule("hirescam")
def hirescam(activations: FloatArray, gradients: FloatArray, settings: None = None) -> CamResult:
    """HiResCAM: ReLU(sum_k G_k A_k), element by element."""
    a, g, exponent = safe_pair(activations, gradients)
    values = np.maximum(np.einsum("khw,khw->hw", g, a), 0)
    return finish(values, a, g, exponent=exponent)
