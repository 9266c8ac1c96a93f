"""Groups of channels into one map."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["group_maps", "group_weights"]


def group_maps(
    activations: NDArray[np.float32],
    gradients: NDArray[np.float32],
    groups: NDArray[np.int64],
    *,
    shrinkage: float,
    size_exponent: float,
) -> NDArray[np.float32]:
    """Each group's share of the map, (J, H, W).

    activations, gradients: float32 (C, H, W); groups: int64 (C,), 0 to J - 1 without
    gaps, or -1 for channels that are left out. With F_j the mean gradient of group j, of
    n_j channels::

        S_j = n_j ** size_exponent * sum over k in j of A_k * (shrinkage * F_j + (1 - shrinkage) * G_k)
    """
    grid = activations.shape[1:]
    kept = np.flatnonzero(groups >= 0)
    if len(kept) == 0:
        return np.zeros((0, *grid), np.float32)
    order = kept[np.argsort(groups[kept], kind="stable")]
    a = activations.reshape(len(groups), -1)[order]
    g = gradients.reshape(len(groups), -1)[order]
    sizes = np.bincount(groups[kept])
    starts = np.concatenate(([0], np.cumsum(sizes)[:-1]))
    count = sizes.astype(np.float32)[:, None]
    own = np.add.reduceat(a * g, starts, axis=0)
    # F_j is the same for the whole group, so it needs the sum of the activations only.
    shared = np.add.reduceat(g, starts, axis=0) / count * np.add.reduceat(a, starts, axis=0)
    shares = count**size_exponent * (shrinkage * shared + (1 - shrinkage) * own)
    return shares.astype(np.float32, copy=False).reshape(-1, *grid)


def group_weights(
    weights: NDArray[np.float32], groups: NDArray[np.int64], *, shrinkage: float, size_exponent: float
) -> NDArray[np.float32]:
    """What each channel's activations weigh in the sum of all groups' shares, where gradients are the same everywhere.

    weights: float32 (C,), the channels' gradients. groups: as in `group_maps`, whose sum over the groups is
    sum_k v_k A_k with v the (C,) that is returned; 0 for channels that are left out.
    """
    kept = groups >= 0
    places = groups[kept]
    sizes = np.bincount(places)
    means = np.bincount(places, weights[kept]) / np.maximum(sizes, 1)
    found = np.zeros(len(groups), np.float32)
    found[kept] = sizes[places] ** size_exponent * (shrinkage * means[places] + (1 - shrinkage) * weights[kept])
    return found
