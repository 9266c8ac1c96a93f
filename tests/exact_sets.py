"""Sets of channels whose arithmetic has no rounding, and what scikit-learn makes of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from cfcam.runtime.methods.cfcam.method import CfcamSettings
from numpy.typing import NDArray
from sklearn.cluster import DBSCAN

__all__ = ["KINDS", "exact_rows", "largest_tie", "sklearn_labels", "wrong_labels"]

KINDS = ("random", "duplicates", "groups", "chain", "straight chain", "one cluster", "dead", "half dead", "one live")


def exact_rows(kind: str, count: int, random: np.random.Generator) -> NDArray[np.float32]:
    """Rows of 16 values whose length is a power of two: products of the unit rows have no rounding, and many of them
    are equal."""
    rows = random.choice([-1.0, 1.0], (count, 16))
    if kind == "duplicates":
        rows = rows[random.integers(0, max(count // 4, 1), count)]
    elif kind == "groups":
        rows = rows[random.integers(0, 6, count)] * np.where(random.random((count, 16)) < 0.06, -1, 1)
    elif "chain" in kind:  # each differs from the one before it in one place
        rows = np.cumprod(np.where(np.arange(16) == (np.arange(count) % 16)[:, None], -1.0, 1.0), axis=0)
        rows = rows if kind == "straight chain" else rows[random.permutation(count)]
    elif kind == "one cluster":
        rows = np.repeat(rows[:1], count, axis=0)
    elif kind == "dead":
        rows[:] = 0
    elif kind == "half dead":
        rows[random.random(count) < 0.5] = 0
    elif kind == "one live":
        rows[np.arange(count) != random.integers(count)] = 0
    return (rows * 2.0 ** random.integers(-2, 3, (count, 1))).astype(np.float32)


def sklearn_labels(rows: NDArray[np.float32], settings: CfcamSettings) -> tuple[NDArray[Any], NDArray[Any]]:
    """The places of the rows that are compared, and their labels before anything joins, -1 for noise; in float64."""
    norms = np.linalg.norm(rows.astype(np.float64), axis=1)
    live = np.flatnonzero(norms > settings.live_threshold * norms.max())
    if len(live) < 2:
        return live, np.full(len(live), -1)
    chosen = live[np.sort(np.argsort(-norms[live], kind="stable")[: settings.most_clustered])]
    unit = rows[chosen] / norms[chosen, None]
    distances = np.clip(1 - unit @ unit.T, 0, 2)
    nth = np.sort(distances, axis=1)[:, min(settings.neighbour, len(chosen) - 1)]
    eps = max(float(np.median(nth)), 1e-6)
    return chosen, DBSCAN(eps=eps, min_samples=settings.min_samples, metric="precomputed").fit(distances).labels_


def wrong_labels(found: NDArray[np.int64], rows: NDArray[np.float32], settings: CfcamSettings) -> int:
    """How many of the labels int64 (C,) that a graph gave to `rows` (C, 16) are not those of scikit-learn.

    Noise joins clusters afterwards, as the method's own rule says, and is not counted unless there is no cluster.
    """
    chosen, labels = sklearn_labels(rows, settings)
    joined, dead = labels >= 0, ~rows.any(axis=1)
    wrong = int((found[chosen[joined]] != labels[joined]).sum()) + int(((found == -3) != dead).sum())
    return wrong + (0 if joined.any() else int((found[~dead] != -1).sum()))


def largest_tie(
    found: NDArray[np.int64], other: NDArray[np.int64], rows: NDArray[np.float32], settings: CfcamSettings
) -> float:
    """How far apart the cosines to two centroids are, in float64, where two labels int64 (C,) of a channel differ; the
    largest, 0 where none differ.

    Of channels that join the nearest cluster: a centroid's length is rounded, so that equal cosines are not.
    """
    chosen, labels = sklearn_labels(rows, settings)
    unit = rows / np.maximum(np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True), 1e-300)
    apart = 0.0
    for channel in np.flatnonzero(found != other):
        pair = [unit[chosen[labels == label]].sum(axis=0) for label in (found[channel], other[channel])]
        cosines = [unit[channel] @ one / np.linalg.norm(one) for one in pair]
        apart = max(apart, abs(cosines[0] - cosines[1]))
    return apart
