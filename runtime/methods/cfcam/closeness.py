"""How near a grouping is to another one: where rounding decides, two right programs may group differently."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .filtering import blurred_features
from .grouping import EPS_FLOOR, cosine_distances, live_channels, neighbour_distance
from .method import CfcamSettings, group_channels

__all__ = ["closest_decision"]


def closest_decision(activations: NDArray[np.float32], settings: CfcamSettings) -> float:
    """The smallest margin among the comparisons that decide a grouping, in units of the cosine.

    They are of distances with eps, of the two nearest centroids of a channel that joins one, and of the lengths between
    which the strongest channels end.

    Args:
        activations: Float32 (C, h, w), of one image.
        settings: Of `cfcam`.

    Returns:
        The margin; infinity where nothing is compared.
    """
    found = group_channels(activations, settings)
    features = blurred_features(activations, settings.feature_sigma)
    live, unit = live_channels(features, settings.live_threshold)
    if len(live) < 2:
        return float("inf")
    norms = np.linalg.norm(features.astype(np.float64), axis=1)
    least = settings.live_threshold * norms.max()
    margins = [float(np.abs(norms - least).min() / norms.max())] if settings.live_threshold else []
    some, most = unit, settings.most_clustered
    if most is not None and len(live) > most:
        order = np.argsort(-norms[live], kind="stable")
        first, next_ = norms[live][order[most - 1 : most + 1]]
        margins.append(float((first - next_) / norms.max()))
        some = unit[np.sort(order[:most])]
    distances = cosine_distances(some)
    eps = max(float(np.median(neighbour_distance(distances, settings.neighbour))), EPS_FLOOR)
    apart = np.abs(distances.astype(np.float64) - eps)
    np.fill_diagonal(apart, np.inf)
    # Of two equally far pairs one makes eps: that it is within eps no rounding changes.
    apart[distances == np.float32(eps)] = np.inf
    margins.append(float(apart.min()))
    labels = found.labels[live]
    joined = np.zeros(len(live), np.bool_) if found.adopted is None else found.adopted[live]
    if joined.any() and labels.max() > 0:
        own = (labels == np.arange(labels.max() + 1)[:, None]) & ~joined
        centroids = own.astype(np.float64) @ unit
        centroids /= np.maximum(np.linalg.norm(centroids, axis=1), 1e-30)[:, None]
        near = np.sort(unit[joined] @ centroids.T, axis=1)
        margins.append(float((near[:, -1] - near[:, -2]).min()))
    return min(margins)
