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
from ..base import CamResult, FloatArray, Form, Grouping
from ..numerics.scaling import finish, safe_float32, safe_pair
from ..registry import register_rule
from .filtering import blurred_features, gaussian
from .fusion import group_maps, group_weights
from .grouping import cluster_cosine, live_channels, shuffle_clusters, split_by_sign
from .guiding import guide

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
    "contrast": (0, 1),
    "gate_offset": (0, 1),
    "gate_floor": (0, 1),
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
    most_clustered: DBSCAN is given so many of the strongest live channels, and the others join the nearest cluster;
        its cost is quadratic. None gives it all.
    contrast: how much of the rivals' gradient is taken off the class's, where the file has it: 0 explains the
        logit, more the evidence for the class against the others.
    guided: sharpen the map by the detail layer, where the file has one.
    gate_offset: the share of the gate that depends on the detail layer alone, not on the class.
    gate_floor: what the gate lets pass where the detail layer has nothing.
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
    most_clustered: int | None = 512
    contrast: float = 0.3
    guided: bool = True
    gate_offset: float = 0.0
    gate_floor: float = 0.3
    clustering: Clustering = "dbscan"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("last", "sign_split"):
            if getattr(self, name) is not None:
                check_flag(_WHERE, name, getattr(self, name))
        check_flag(_WHERE, "guided", self.guided)
        if self.most_clustered is not None:
            check_integer(_WHERE, "most_clustered", self.most_clustered, 2)
        for name, (low, high) in _RANGES.items():
            if name not in ("sigma", "map_sigma") or getattr(self, name) is not None:
                check_number(_WHERE, name, getattr(self, name), low, high)
        for name, least in {"neighbour": 1, "min_samples": 1, "seed": 0}.items():
            check_integer(_WHERE, name, getattr(self, name), least)
        check_choice(_WHERE, "clustering", self.clustering, get_args(Clustering))


@register_rule("cfcam", settings=CfcamSettings, takes_detail=True, contrast="contrast", takes_grouping=True)
def cfcam(
    activations: FloatArray,
    gradients: FloatArray,
    settings: CfcamSettings | None = None,
    *,
    detail: FloatArray | None = None,
    rivals: FloatArray | None = None,
    grouping: Grouping | None = None,
) -> CamResult:
    """Clustered channels, filtered gradients shrunk towards their group, groups fused, and a finer layer as a guide.

    activations, gradients: finite float16, float32 or float64 (C, H, W), not written to. detail: activations
    (D, H', W') of a finer layer. rivals: the gradient of the logsumexp of the other classes' logits, (C, H, W) or
    anything that broadcasts to it. grouping: the clusters, where they are known from another class of the same
    image and the same settings. With A and G for activations and gradients, R for the rivals' and
    G1 = gaussian(G - contrast * R, sigma)::

        groups j  = DBSCAN over directions of gaussian(A, feature_sigma), split by the sign of sum(A * G1)
        S_j       = n_j ** size_exponent * sum over k in j of A_k * (shrinkage * mean_j(G1) + (1 - shrinkage) * G1_k)
        L         = sum_j S_j in the last layer, gaussian(sum_j ReLU(S_j), map_sigma) in others
        map       = ReLU(L), or with a detail layer what `guide` makes of L

    In the last layer G1 is the mean over the map and clusters are not split. What each part is
    worth is measured in ``docs/evidence.md``.
    """
    settings = settings or CfcamSettings()
    contrast = 0.0 if rivals is None else settings.contrast
    a, g, exponent = safe_pair(
        activations, gradients - contrast * rivals if rivals is not None and contrast else gradients
    )
    last = is_pooled(g) if settings.last is None else settings.last
    clusters = group_channels(a, settings) if grouping is None else grouping
    split = not last if settings.sign_split is None else settings.sign_split
    how = {"shrinkage": settings.shrinkage, "size_exponent": settings.size_exponent}
    if last and not split and settings.sigma is None:  # one number per channel, and no group counts by itself
        groups = split_by_sign(clusters.labels, np.zeros(len(a), np.float32))
        signed = _weighted(group_weights(g.mean(axis=(1, 2)), groups, **how), a)
    else:
        filtered = _filtered(g, settings.sigma, last)
        evidence = np.einsum("khw,khw->k", a, filtered) if split else np.zeros(len(a), np.float32)
        shares = group_maps(a, filtered, split_by_sign(clusters.labels, evidence), **how)
        signed = shares.sum(axis=0) if last else np.maximum(shares, 0).sum(axis=0)
    map_sigma = settings.map_sigma if settings.map_sigma is not None else (0.0 if last else 0.5)
    signed = gaussian(signed[None], map_sigma)[0]
    values, form = np.maximum(signed, 0), Form(contrast=contrast)
    if detail is not None and settings.guided and values.any():
        values, reason = guide(signed, safe_float32(detail)[0], offset=settings.gate_offset, floor=settings.gate_floor)
        form = Form(guided=not reason, contrast=contrast, unguided=reason)
    return finish(values, a, g, exponent=exponent, grouping=clusters, form=form)


def _weighted(weights: NDArray[np.float32], activations: NDArray[np.float32]) -> NDArray[np.float32]:
    return (weights @ activations.reshape(len(weights), -1)).reshape(activations.shape[1:])


def _filtered(gradients: NDArray[np.float32], sigma: float | None, last: bool) -> NDArray[np.float32]:
    if sigma is not None or not last:
        return gaussian(gradients, 1.0 if sigma is None else sigma)
    return np.broadcast_to(gradients.mean(axis=(1, 2), keepdims=True), gradients.shape)


def group_channels(activations: NDArray[np.float32], settings: CfcamSettings) -> Grouping:
    """The clusters of `activations` float32 (C, H, W): the part of `cfcam` that no class can change."""
    features = blurred_features(activations, settings.feature_sigma)
    if settings.clustering == "none":
        labels = np.full(len(features), Grouping.DEAD, np.int64)
        labels[live_channels(features, settings.live_threshold)[0]] = 0
        return Grouping(labels, np.zeros(len(labels), np.bool_), None)
    clusters = cluster_cosine(
        features,
        live_threshold=settings.live_threshold,
        neighbour=settings.neighbour,
        min_samples=settings.min_samples,
        most=settings.most_clustered,
    )
    return shuffle_clusters(clusters, settings.seed) if settings.clustering == "random" else clusters


def is_pooled(gradients: FloatArray) -> bool:
    """Whether `gradients` (C, H, W) are constant over the grid, as before a global mean pooling."""
    g, _ = safe_float32(gradients)
    flat = g.reshape(len(g), -1)
    return float(np.abs(flat - flat[:, :1]).max()) <= _CONSTANT * float(np.abs(flat).max())
