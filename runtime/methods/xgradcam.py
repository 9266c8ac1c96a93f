"""XGrad-CAM: one weight per channel, its gradient's mean over where the channel is active.

Fu et al., "Axiom-based Grad-CAM: Towards Accurate Visualization and Explanation of CNNs", BMVC 2020, arXiv 2008.02312.
"""

from __future__ import annotations

import numpy as np

from .base import CamResult, FloatArray
from .numerics.scaling import finish, safe_pair, weighted_channels
from .registry import register_rule

__all__ = ["xgradcam"]


@register_rule("xgradcam")
def xgradcam(activations: FloatArray, gradients: FloatArray, settings: None = None) -> CamResult:
    """XGrad-CAM: ReLU(sum_k w_k A_k), w_k the mean gradient weighted by the channel's activation.

    w_k = sum over cells of G_k A_k / S_k, with S_k the sum of A_k over the grid; a channel
    with S_k = 0 is left out. Where activations may be negative a small S_k makes a large
    weight; that is the published form.
    """
    a, g, exponent = safe_pair(activations, gradients)
    sums = a.sum(axis=(1, 2), dtype=np.float64)
    evidence = np.einsum("khw,khw->k", g, a, dtype=np.float64)
    weights = evidence / np.where(sums == 0, np.inf, sums)
    return finish(weighted_channels(weights, a), a, g, exponent=exponent)
