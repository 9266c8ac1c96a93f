"""LayerCAM: activations weighed cell by cell with what of the gradient is positive.

Jiang et al., "LayerCAM: Exploring Hierarchical Class Activation Maps for Localization", IEEE TIP 2021.
"""

from __future__ import annotations

import numpy as np

from .base import CamResult, FloatArray
from .numerics.scaling import finish, safe_pair
from .registry import register_rule

__all__ = ["layercam"]


@register_rule("layercam")
def layercam(activations: FloatArray, gradients: FloatArray, settings: None = None) -> CamResult:
    """LayerCAM: ReLU(sum_k ReLU(G_k) A_k), positive gradients only."""
    a, g, exponent = safe_pair(activations, gradients)
    values = np.maximum(np.einsum("khw,khw->hw", np.maximum(g, 0), a), 0)
    return finish(values, a, g, exponent=exponent)
