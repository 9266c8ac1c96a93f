"""RefineCAM: the product of Grad-CAM++ over several layers.

Domeniconi et al., "How to Evaluate and Refine your CAM", arXiv 2605.14641.
"""

from __future__ import annotations

from .base import CamResult, FloatArray
from .gradcam_plus_plus import GradCamPlusPlusSettings, gradcam_plus_plus
from .registry import register_rule

__all__ = ["refinecam"]


@register_rule("refinecam", settings=GradCamPlusPlusSettings, fusion="refine")
def refinecam(
    activations: FloatArray, gradients: FloatArray, settings: GradCamPlusPlusSettings | None = None
) -> CamResult:
    """RefineCAM: the product of the layers' Grad-CAM++ maps, each brought to 0 to 1.

    This is what happens on one layer; the registry says how the maps become one. It needs a file with several.
    """
    return gradcam_plus_plus(activations, gradients, settings)
