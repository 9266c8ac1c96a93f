"""Grad-CAM: one weight per channel, the mean of its gradient.

Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", ICCV 2017.
"""

from __future__ import annotations

from .base import CamResult, FloatArray
from .numerics.scaling import finish, safe_pair, weighted_channels
from .registry import register_rule

__all__ = ["gradcam"]


@register_rule("gradcam")
def gradcam(activations: FloatArray, gradients: FloatArray, settings: None = None) -> CamResult:
    """Grad-CAM: ReLU(sum_k mean(G_k) A_k), one weight per channel."""
    a, g, exponent = safe_pair(activations, gradients)
    return finish(weighted_channels(g.mean(axis=(1, 2)), a), a, g, exponent=exponent)
