"""Ablation-CAM: channels weighed by what the class's score loses without them.

Desai and Ramaswamy, "Ablation-CAM: Visual Explanations for Deep Convolutional Network via Gradient-free
Localization", WACV 2020.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .base import CamResult
from .numerics.scaling import NOWHERE_POSITIVE, finish, safe_float32, weighted_channels
from .probing import Probing
from .registry import register_probe

__all__ = ["ablationcam"]


@register_probe("ablationcam", needs_tail=True)
def ablationcam(probing: Probing, settings: None = None) -> CamResult:
    """Ablation-CAM: ReLU(sum_k w_k A_k), w_k the share of the class's logit that is lost without channel k.

    With y the logit, and y_k the logit with A_k set to zero::

        w_k = (y - y_k) / |y|

    The paper divides by y, which turns the map round where the logit is negative. One run of the tail per
    channel that is not zero already.
    """
    a = probing.activations
    live = np.flatnonzero(a.any(axis=(1, 2)))

    def ablated(part: slice) -> NDArray[np.float32]:
        chosen = live[part]
        batch = np.repeat(a[None], len(chosen), axis=0)
        batch[np.arange(len(chosen)), chosen] = 0
        return batch

    score = float(probing.tail(a[None])[0, probing.target])
    weights = np.zeros(len(a))
    weights[live] = (score - probing.sweep(probing.tail, len(live), ablated)) / (abs(score) or 1)
    scaled, exponent = safe_float32(a)
    nothing = NOWHERE_POSITIVE if weights.any() else "no channel moves the score"
    return finish(weighted_channels(weights, scaled), scaled, None, exponent=exponent, nothing=nothing)
