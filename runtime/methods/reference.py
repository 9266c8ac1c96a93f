"""Reference points: the well-known rules that every other map is compared with.

`gradcam`: Selvaraju et al., "Grad-CAM", ICCV 2017. `hirescam`: Draelos and Carin, "Use
HiResCAM instead of Grad-CAM", arXiv 2011.08891. `layercam`: Jiang et al., "LayerCAM", IEEE
TIP 2021.
"""

from __future__ import annotations

import numpy as np

from .base import CamResult, FloatArray, register_rule
from .numerics.scaling import finish, prepare

__all__ = ["gradcam", "hirescam", "layercam"]


@register_rule("gradcam")
def gradcam(activations: FloatArray, gradients: FloatArray, settings: None = None) -> CamResult:
    """Grad-CAM: ReLU(sum_k mean(G_k) A_k), one weight per channel."""
    a, a_exponent = prepare(activations)
    g, g_exponent = prepare(gradients)
    weights = g.mean(axis=(1, 2))
    values = np.maximum(np.einsum("k,khw->hw", weights, a), 0)
    return finish(values, a, g, exponent=a_exponent + g_exponent)


@register_rule("hirescam")
def hirescam(activations: FloatArray, gradients: FloatArray, settings: None = None) -> CamResult:
    """HiResCAM: ReLU(sum_k G_k A_k), element by element."""
    a, a_exponent = prepare(activations)
    g, g_exponent = prepare(gradients)
    values = np.maximum(np.einsum("khw,khw->hw", g, a), 0)
    return finish(values, a, g, exponent=a_exponent + g_exponent)


@register_rule("layercam")
def layercam(activations: FloatArray, gradients: FloatArray, settings: None = None) -> CamResult:
    """LayerCAM: ReLU(sum_k ReLU(G_k) A_k), positive gradients only."""
    a, a_exponent = prepare(activations)
    g, g_exponent = prepare(gradients)
    values = np.maximum(np.einsum("khw,khw->hw", np.maximum(g, 0), a), 0)
    return finish(values, a, g, exponent=a_exponent + g_exponent)
