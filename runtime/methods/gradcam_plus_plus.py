"""Grad-CAM++: one weight per channel, from its positive gradients.

Chattopadhay et al., "Grad-CAM++: Improved Visual Explanations for Deep Convolutional Networks", WACV 2018, arXiv
1710.11063.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..checks import check_number
from .base import CamResult, FloatArray
from .numerics.scaling import finish, safe_float32, weighted_channels
from .registry import register_rule

__all__ = ["GradCamPlusPlusSettings", "gradcam_plus_plus"]

# Powers of two beyond these are cut off: what they multiply is long lost or all that counts.
_LIMIT = 600


@dataclass(frozen=True, kw_only=True)
class GradCamPlusPlusSettings:
    """Settings of `gradcam++`.

    eps: added to the denominator of alpha, in units of a squared gradient. 0 is the published
    formula. pytorch-grad-cam has 1e-6; where gradients are below 1e-3, as before a global
    pooling, that is most of the denominator, and the weights become cubes of the gradients.
    """

    eps: float = 0.0

    def __post_init__(self) -> None:
        check_number("settings of 'gradcam++'", "eps", self.eps, 0, 1)


@register_rule("gradcam++", settings=GradCamPlusPlusSettings)
def gradcam_plus_plus(
    activations: FloatArray, gradients: FloatArray, settings: GradCamPlusPlusSettings | None = None
) -> CamResult:
    """Grad-CAM++: ReLU(sum_k w_k A_k), w_k a weighted sum of the channel's positive gradients.

    With S_k the sum of A_k over the grid (equation 19 of the paper, whose score is the
    exponential of the logit; its factor is the same for all channels)::

        alpha_k = G_k**2 / (2 G_k**2 + S_k G_k**3 + eps), 0 where G_k is 0
        w_k     = sum over cells of alpha_k * ReLU(G_k)

    Not homogeneous: a layer multiplied by 10 and its gradients divided by 10 give the same
    map, but both multiplied by 10 do not. S_k < 0, possible without a ReLU before the layer,
    brings a pole that the paper did not foresee; it is kept as published.
    """
    eps = (settings or GradCamPlusPlusSettings()).eps
    a, a_exponent = safe_float32(activations)
    g, g_exponent = safe_float32(gradients)
    slopes = np.maximum(g, 0).reshape(len(g), -1).astype(np.float64)
    sums = a.sum(axis=(1, 2), dtype=np.float64)[:, None]
    # alpha * G = G / (2 + S G + eps / G**2). S G is a number without a unit, so the scales that
    # were taken out come back here; a large one is divided out again, so that nothing overflows.
    unit = a_exponent + g_exponent
    shrink = min(max(unit, 0), _LIMIT)
    denominators = 2.0 ** (1 - shrink) + sums * slopes * 2.0 ** max(min(unit, _LIMIT) - shrink, -_LIMIT)
    if eps:
        floor = math.ldexp(eps, max(min(-2 * g_exponent - shrink, _LIMIT), -_LIMIT))
        denominators += floor / np.where(slopes > 0, slopes, 1) ** 2
    weights = (slopes / np.where(denominators == 0, np.inf, denominators)).sum(axis=1)
    return finish(weighted_channels(weights, a), a, g, exponent=a_exponent + g_exponent - shrink)
