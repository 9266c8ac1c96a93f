"""FEM, the feature explanation method: channels weighed by the share of cells that stand out in them.

Fuad et al., "Features Understanding in 3D CNNs for Actions Recognition in Video", IPTA 2020.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..checks import check_number
from .base import CamResult, FloatArray
from .numerics.scaling import finish, safe_float32, weighted_channels
from .registry import register_rule

__all__ = ["FemSettings", "fem"]


@dataclass(frozen=True, kw_only=True)
class FemSettings:
    """Settings of `fem`. k: a cell stands out where it is so many standard deviations above its channel's mean."""

    k: float = 2.0

    def __post_init__(self) -> None:
        check_number("settings of 'fem'", "k", self.k, 0, 100)


@register_rule("fem", settings=FemSettings)
def fem(activations: FloatArray, gradients: FloatArray, settings: FemSettings | None = None) -> CamResult:
    """FEM: ReLU(sum_k w_k A_k), w_k the share of cells that stand out in A_k; does not depend on the class.

    A cell stands out where A_k > mean(A_k) + k * std(A_k); of n cells none can where k is at least sqrt(n - 1). The
    gradients are looked at only to call a map empty that was asked for a class without any.
    """
    k = (settings or FemSettings()).k
    a, exponent = safe_float32(activations)
    g, _ = safe_float32(gradients)
    cells = a.reshape(len(a), -1).astype(np.float64)
    means, deviations = cells.mean(axis=1, keepdims=True), cells.std(axis=1, keepdims=True)
    # A constant channel has no cell that stands out, whatever rounding makes of its mean.
    varied = cells.max(axis=1) > cells.min(axis=1)
    weights = (cells > means + k * deviations).mean(axis=1) * varied
    nothing = f"no cell lies {k:g} standard deviations above its channel's mean, or such channels are nowhere positive"
    return finish(weighted_channels(weights, a), a, g, exponent=exponent, nothing=nothing)
