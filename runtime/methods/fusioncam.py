"""Fusion-CAM: a gradient map and a region map, joined by what each one recovers and where they agree.

Dekdegue et al., "Fusion-CAM: Integrating Gradient and Region-Based Class Activation Maps for Robust
Visual Explanations", arXiv 2603.05386, 2026.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..checks import check_number
from .base import CamResult
from .gradcam import gradcam
from .numerics.resizing import resize, unit_range
from .numerics.scaling import finish
from .probing import Probing
from .registry import register_probe
from .scorecam import scorecam

__all__ = ["FusionCamSettings", "fusioncam"]


@dataclass(frozen=True, kw_only=True)
class FusionCamSettings:
    """Settings of `fusioncam`. percentile: values of the gradient map below it become zero."""

    percentile: float = 10.0

    def __post_init__(self) -> None:
        check_number("settings of 'fusioncam'", "percentile", self.percentile, 0, 100)


@register_probe("fusioncam", settings=FusionCamSettings)
def fusioncam(probing: Probing, settings: FusionCamSettings | None = None) -> CamResult:
    """Fusion-CAM: Grad-CAM without its lowest values, and Score-CAM, fused by confidence and agreement.

    The map has the image's size. With D and R the two maps at that size, each brought to 0 to 1, D's
    values below its 10th percentile set to zero, and p(M) the class's probability on the image
    times M, less that on nothing::

        U     = unit(share(D, R) * D + share(R, D) * R)       share(M, N) = p(M) / (p(M) + p(N))
        a, b  = share(U, R) * U, share(R, U) * R
        s     = 1 - |a - b|
        map   = s * max(a, b) + (1 - s) * (a + b) / 2

    A p(M) below zero counts as zero, and two such maps count alike; the publication leaves open
    what happens then. "Nothing" is the mean colour, which is what masking leaves. Score-CAM's cost, and
    four runs more.
    """
    settings = settings or FusionCamSettings()
    image = probing.image
    size = (image.shape[1], image.shape[2])
    denoised, region = (
        unit_range(resize(found.map[None], size))[0]
        for found in (gradcam(probing.activations, probing.gradients), scorecam(probing))
    )
    denoised = unit_range(np.where(denoised < np.percentile(denoised, settings.percentile), 0, denoised)[None])[0]

    def recovered(*maps: NDArray[np.float32]) -> NDArray[np.float64]:
        masks = np.stack([np.zeros(size, np.float32), *maps])
        found = probing.probabilities(image * masks[:, None])[:, probing.target].astype(np.float64)
        return np.maximum(found[1:] - found[0], 0)

    of_denoised, of_region = recovered(denoised, region)
    mine, theirs = _shares(of_denoised, of_region)
    union = unit_range((mine * denoised + theirs * region)[None])[0]
    (of_union,) = recovered(union.astype(np.float32))
    mine, theirs = _shares(of_union, of_region)
    a, b = mine * union, theirs * region
    agreement = 1 - np.abs(a - b)
    values = agreement * np.maximum(a, b) + (1 - agreement) * (a + b) / 2
    return finish(values, probing.activations, None, nothing="Grad-CAM's and Score-CAM's maps are both empty")


def _shares(first: float, second: float) -> tuple[float, float]:
    total = first + second
    return (first / total, second / total) if total > 0 else (0.5, 0.5)
