"""Finer-CAM: Grad-CAM of what tells a class from those that are nearest to it.

Zhang et al., "Finer-CAM: Spotting the Difference Reveals Finer Details for Visual Explanation", CVPR 2025, arXiv
2501.11309.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ..checks import check_choice, check_integer, check_number
from ..errors import MethodError
from ..probabilities import softmax
from .base import CamResult
from .gradcam import gradcam
from .probing import Probing
from .registry import register_probe

__all__ = ["FinerCamSettings", "finercam"]

Weights = Literal["softmax", "mean"]

_WHERE = "settings of 'finercam'"


@dataclass(frozen=True, kw_only=True)
class FinerCamSettings:
    """Settings of `finercam`.

    alpha: how much the rivals count against the class; the paper finds 0.6 good, the authors' code has 1.
    rivals: how many classes it is compared with, those whose logits are nearest to its own.
    weights: ``softmax`` weighs each rival by its probability among them, and differentiates the weights too, as the
        authors' code and pytorch-grad-cam do; ``mean`` lets all of them count alike.
    """

    alpha: float = 1.0
    rivals: int = 3
    weights: Weights = "softmax"

    def __post_init__(self) -> None:
        check_number(_WHERE, "alpha", self.alpha, 0, 10)
        check_integer(_WHERE, "rivals", self.rivals, 1, 1000)
        check_choice(_WHERE, "weights", self.weights, get_args(Weights))


@register_probe("finercam", settings=FinerCamSettings, contrast="alpha")
def finercam(probing: Probing, settings: FinerCamSettings | None = None) -> CamResult:
    """Finer-CAM: Grad-CAM of z_c - alpha * sum_j q_j z_j, j the classes whose logits are nearest to z_c.

    q is the softmax of the rivals' logits, or 1 / K for each of K. With q differentiated too, rival j's gradient counts
    q_j (1 + z_j - sum_i q_i z_i). One inference more for each rival, as one batch.
    """
    settings = settings or FinerCamSettings()
    if probing.logits is None or probing.gradients_of is None:
        raise MethodError(
            "method 'finercam' compares a class with others that it excludes, by their logits, and the model has no "
            "such classes or the file does not give their logits: take method 'gradcam'"
        )
    logits, target = probing.logits.astype(np.float64), probing.target
    others = np.delete(np.arange(len(logits)), target)
    if not len(others):
        raise MethodError("method 'finercam' compares a class with others, and the model has one: take 'gradcam'")
    nearest = others[np.argsort(np.abs(logits[others] - logits[target]), kind="stable")][: settings.rivals]
    shares = _shares(logits[nearest], settings.weights)
    slopes = probing.gradients.astype(np.float64)
    for start in range(0, len(nearest), probing.batch):
        part = slice(start, start + probing.batch)
        slopes -= settings.alpha * np.einsum("j,jkhw->khw", shares[part], probing.gradients_of(nearest[part]))
        if probing.progress is not None:
            probing.progress(min(part.stop, len(nearest)), len(nearest))
    return gradcam(probing.activations, slopes)


def _shares(logits: NDArray[np.float64], weights: Weights) -> NDArray[np.float64]:
    if weights == "mean":
        return np.full(len(logits), 1 / len(logits))
    shares = softmax(logits)
    return shares * (1 + logits - shares @ logits)
