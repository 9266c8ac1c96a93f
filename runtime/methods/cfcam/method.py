"""`cfcam`: clusters, a filter and fusion, in a form where each of them counts.

Based on He, Pan, Yao, "CF-CAM: Cluster Filter Class Activation Mapping for Reliable
Gradient-Based Interpretability", arXiv 2504.00060. ``docs/method.md`` says where it departs
from the published form and why.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ...checks import check_choice, check_flag, check_integer, check_number
from ..base import CamResult, FloatArray, Grouping
from ..numerics.scaling import finish, safe_float32, safe_pair
from ..registry import register_rule
from .filtering import gaussian
from .fusion import group_maps
from .grouping import cluster_cosine, live_channels, shuffle_clusters, split_by_sign

__all__ = ["CfcamSettings", "cfcam", "group_channels", "is_pooled"]

Clustering = Literal["dbscan", "random", "none"]

_WHERE = "settings of 'cfcam'"

#: Between what the numbers among the settings have to lie.
_RANGES = {
    "sigma": (0, 100),
    "feature_sigma": (0, 100),
    "live_threshold": (0, 0.5),
    "shrinkage": (0, 1),
    "size_exponent": (-1, 1),
    "map_sigma": (0, 100),
}

# Change of the gradient over the grid, relative to its largest magnitude, up to which it
# counts as constant: far above float16 rounding of one constant, far below what a layer
# with anything but a mean above it shows.
_CONSTANT = 1e-3


@dataclass(frozen=True, kw_only=True)
class CfcamSettings:
    """Settings of `cfcam`; lengths are in cells of the layer's grid.

    last: whether the layer feeds a global pooling; None looks at the data (`is_pooled`).
    sigma: width of the Gaussian over the gradients, 0 switches the filter off. None is the mean over
        the map in the last layer, where the gradient has no shape to keep, and 1 in others.
    feature_sigma: width of the Gaussian over the activations before they are compared.
    live_threshold: a channel is dead when its norm is at or below this times the largest.
    neighbour: DBSCAN's radius is the median distance to the neighbour of this rank.
    min_samples: DBSCAN's, the channel itself counted.
    shrinkage: 0 keeps each channel's own gradient, 1 replaces it by its group's mean.
    size_exponent: a group of n channels weighs n to this power.
    sign_split: divide clusters by the sign of each channel's evidence; None does so in layers other
        than the last.
    map_sigma: width of the Gaussian over the map; None is 0 in the last layer and 0.5 in others.
    clustering: ``dbscan``, or one of two controls: ``random`` (groups of the sizes that
        DBSCAN found, members drawn with `seed`) and ``none`` (one cluster of all).

    Raises `MethodError` for a value out of range.
    """

    last: bool | None = None
    sigma: float | None = None
    feature_sigma: float = 1.5
    live_threshold: float = 1e-6
    neighbour: int = 3
    min_samples: int = 3
    shrinkage: float = 0.5
    size_exponent: float = 0.0
    sign_split: bool | None = None
    map_sigma: float | None = None
    clustering: Clustering = "dbscan"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("last", "sign_split"):
            if getattr(self, name) is not None:
                check_flag(_WHERE, name, getattr(self, name))
        for name, (low, high) in _RANGES.items():
            if name not in ("sigma", "map_sigma") or getattr(self, name) is not None:
                check_number(_WHERE, name, getattr(self, name), low, high)
        for name, least in {"neighbour": 1, "min_samples": 1, "seed": 0}.items():
            check_integer(_WHERE, name, getattr(self, name), least)
        check_choice(_WHERE, "clustering", self.clustering, get_args(Clustering))


@register_rule("cfcam", settings=CfcamSettings)
def cfcam(activations: FloatArray, gradients: FloatArray, settings: CfcamSettings | None = None) -> CamResult:
    """Clustered channels, filtered gradients shrunk towards their group, groups fused.

    activations, gradients: finite float16, float32 or float64 (C, H, W), not written to.
    With A and G for them and G1 = gaussian(G, sigma)::

        groups j  = DBSCAN over directions of gaussian(A, feature_sigma), split by the sign of sum(A * G1)
        S_j       = n_j ** size_exponent * sum over k in j of A_k * (shrinkage * mean_j(G1) + (1 - shrinkage) * G1_k)
        map       = ReLU(sum_j S_j) in the last layer, gaussian(sum_j ReLU(S_j), map_sigma) in others

    In the last layer G1 is the mean over the map and clusters are not split. What each part is
    worth is measured in ``docs/evidence.md``.
    """
    settings = settings or CfcamSettings()
    a, g, exponent = safe_pair(activations, gradients)
    last = is_pooled(g) if settings.last is None else settings.last
    clusters = group_channels(a, settings)
    filtered = _filtered(g, settings.sigma, last)
    split = not last if settings.sign_split is None else settings.sign_split
    evidence = np.einsum("khw,khw->k", a, filtered) if split else np.zeros(len(a), np.float32)
    shares = group_maps(
        a,
        filtered,
        split_by_sign(clusters.labels, evidence),
        shrinkage=settings.shrinkage,
        size_exponent=settings.size_exponent,
    )
    values = np.maximum(shares.sum(axis=0), 0) if last else np.maximum(shares, 0).sum(axis=0)
    map_sigma = settings.map_sigma if settings.map_sigma is not None else (0.0 if last else 0.5)
    values = gaussian(values[None], map_sigma)[0]
    return finish(values, a, g, exponent=exponent, grouping=clusters)


def _filtered(gradients: NDArray[np.float32], sigma: float | None, last: bool) -> NDArray[np.float32]:
    if sigma is not None or not last:
        return gaussian(gradients, 1.0 if sigma is None else sigma)
    return np.broadcast_to(gradients.mean(axis=(1, 2), keepdims=True), gradients.shape)


def group_channels(activations: NDArray[np.float32], settings: CfcamSettings) -> Grouping:
    """The clusters of `activations` float32 (C, H, W): the part of `cfcam` that no class can change."""
    features = gaussian(activations, settings.feature_sigma).reshape(len(activations), -1)
    if settings.clustering == "none":
        labels = np.full(len(features), Grouping.DEAD, np.int64)
        labels[live_channels(features, settings.live_threshold)[0]] = 0
        return Grouping(labels, np.zeros(len(labels), np.bool_), None)
    clusters = cluster_cosine(
        features,
        live_threshold=settings.live_threshold,
        neighbour=settings.neighbour,
        min_samples=settings.min_samples,
    )
    return shuffle_clusters(clusters, settings.seed) if settings.clustering == "random" else clusters


def is_pooled(gradients: FloatArray) -> bool:
    """Whether `gradients` (C, H, W) are constant over the grid, as before a global mean pooling."""
    g, _ = safe_float32(gradients)
    flat = g.reshape(len(g), -1)
    return float(np.abs(flat - flat[:, :1]).max()) <= _CONSTANT * float(np.abs(flat).max())
