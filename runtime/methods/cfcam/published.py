"""`cfcam-paper` and `cfcam-released`: CF-CAM as its authors published it, for comparison.

He, Pan, Yao, arXiv 2504.00060. Three stages: dominant channels and DBSCAN, one filtered
gradient per cluster, softmax weights. The two differ in the filter: the paper (v2) says
Gaussian, the released code has its own fixed kernel. Before a global pooling the softmax is
all but uniform and the map is the same for every class; ``docs/method.md`` shows why, and
`cfcam` is what to use for explanations.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...checks import check_number
from ...probabilities import softmax
from ..base import CamResult, FloatArray, Grouping
from ..numerics.scaling import finish, safe_float32, weighted_channels
from ..registry import register_rule
from .filtering import self_kernel_filter

__all__ = ["PaperSettings", "cfcam_paper", "cfcam_released", "published_groups"]

_DOMINANT_PERCENTILE = 75
_EPS_PERCENTILE = 25
_EPS_FLOOR = 1e-5
_MIN_SAMPLES_SHARE = 0.05

Plane = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class PaperSettings:
    """Settings of `cfcam-paper`.

    sigma: width of the Gaussian in cells, 0 for none. The paper's value is not known; 1.0
    is ours. With reflected borders it cannot matter, since only the filtered map's mean is
    used and this filter keeps it.
    """

    sigma: float = 1.0

    def __post_init__(self) -> None:
        check_number("settings of 'cfcam-paper'", "sigma", self.sigma, 0, 100)


@register_rule("cfcam-paper", settings=PaperSettings)
def cfcam_paper(activations: FloatArray, gradients: FloatArray, settings: PaperSettings | None = None) -> CamResult:
    """CF-CAM's three stages as published, with a Gaussian filter; blind to the class before pooling."""
    sigma = (settings or PaperSettings()).sigma

    def gaussian(plane: Plane) -> Plane:
        from scipy.ndimage import gaussian_filter

        return gaussian_filter(plane, sigma, mode="reflect") if sigma else plane

    return _published(activations, gradients, gaussian)


@register_rule("cfcam-released")
def cfcam_released(activations: FloatArray, gradients: FloatArray, settings: None = None) -> CamResult:
    """CF-CAM as its released code computes it; blind to the class before pooling."""
    return _published(activations, gradients, self_kernel_filter)


def published_groups(activations: FloatArray) -> Grouping:
    """Stage one: dominant channels by norm, DBSCAN over the others, the rest is noise.

    activations (C, H, W). Channels whose L2 norm reaches the 75th percentile are dominant.
    The others are clustered by Euclidean distance, with eps the 25th percentile of their
    off-diagonal distances but at least 1e-5, and 5 % of their number, but at least 2, as
    min_samples. The channel with the largest norm is always dominant, so that something is
    always kept.
    """
    # In float32, as the released code does: eps is often exactly one of the distances, and
    # whether that pair is "within eps" then hangs on the rounding.
    scaled, exponent = safe_float32(activations)
    rows = np.ascontiguousarray(scaled.reshape(len(scaled), -1))
    norms = np.linalg.norm(rows, axis=1)
    labels = np.full(len(rows), Grouping.DOMINANT, np.int64)
    others = np.flatnonzero(norms < np.percentile(norms, _DOMINANT_PERCENTILE))
    if len(others):
        labels[others] = _euclidean_dbscan(rows[others], math.ldexp(_EPS_FLOOR, min(-exponent, 1000)))
    return Grouping(labels)


def _euclidean_dbscan(rows: NDArray[np.float32], eps_floor: float) -> NDArray[np.int64]:
    from sklearn.cluster import DBSCAN

    pairs = [np.linalg.norm(rows[i + 1 :] - row, axis=1) for i, row in enumerate(rows)]
    # Every pair counts twice, as it does off the diagonal of the full matrix: that is what
    # puts the percentile exactly on a distance so often.
    between = np.repeat(np.concatenate(pairs), 2)
    eps = float(np.percentile(between, _EPS_PERCENTILE)) if len(between) else 0.0
    min_samples = max(2, int(_MIN_SAMPLES_SHARE * len(rows)))
    return DBSCAN(eps=max(eps, eps_floor), min_samples=min_samples).fit(rows).labels_.astype(np.int64)


def _published(activations: FloatArray, gradients: FloatArray, smooth: Callable[[Plane], Plane]) -> CamResult:
    grouping = published_groups(activations)
    labels = grouping.labels
    # Channel by channel, so that a float16 or float32 mean does not round or overflow.
    weights = gradients.mean(axis=(1, 2), dtype=np.float64)
    for cluster in range(int(labels.max()) + 1):
        members = labels == cluster
        weights[members] = smooth(gradients[members].mean(axis=0, dtype=np.float64)).mean()
    kept = labels != Grouping.NOISE
    alpha = softmax(weights[kept])
    return finish(weighted_channels(alpha, activations[kept]), activations, gradients, grouping=grouping)
