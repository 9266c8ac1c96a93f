"""Stable while the prediction stays, and moving when the prediction moves: Sarkar's robustness measure.

Sarkar et al., "Assessing the Noise Robustness of Class Activation Maps", Image and Vision
Computing 2025, arXiv 2508.18154.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...runtime.errors import ArrayError
from .base import Explain, Measure, Predict, check_images, explained, predicted, slices
from .noise import check_level, noisy
from .ranks import rank_biased_overlap

__all__ = ["Robustness", "grid_segments", "segment_order"]


def grid_segments(height: int, width: int, side: int = 8) -> NDArray[np.int64]:
    """int64 (H, W): a grid of side x side segments, numbered row by row."""
    rows = np.arange(height) * side // height
    columns = np.arange(width) * side // width
    return rows[:, None] * side + columns[None, :]


def segment_order(heat: ArrayLike, segments: ArrayLike) -> NDArray[np.int64]:
    """Segment numbers by the map's mean in them, highest first; of equal ones the smaller number first.

    heat: float (H, W). segments: int (H, W), numbers from 0. Raises `ArrayError`.
    """
    values, labels = np.asarray(heat, np.float64), np.asarray(segments)
    if values.ndim != 2 or labels.shape != values.shape or labels.dtype.kind not in "iu" or labels.min() < 0:
        raise ArrayError(f"segments: expected numbers from 0 of the map's shape {values.shape}, got {labels.dtype} of "
                         f"shape {labels.shape}")  # fmt: skip
    sizes = np.bincount(labels.ravel())
    means = np.bincount(labels.ravel(), values.ravel()) / np.maximum(sizes, 1)
    order = np.argsort(-means, kind="stable")
    return order[sizes[order] > 0]


class Robustness(Measure):
    """Consistency, responsiveness and their product, from noisy copies of each image.

    Segments are ranked by the map's mean in them, for the class that the network predicts, clean and
    noisy, and the two orders compared by rank-biased overlap (RBO)::

        consistency    = mean RBO over noisy images whose prediction stays
        responsiveness = mean 1 - RBO over noisy images whose prediction changes
        robustness     = consistency * responsiveness        (of the means; only in `compute`)

    predict, explain: of the network and the method. levels: of the noise, over the image's own standard
    deviation; take some that change predictions, or responsiveness is NaN. persistence: of
    `rank_biased_overlap`. Higher is better. The paper segments by Quickshift and leaves the
    figures of RBO open; here segments are a grid of `side` x `side` unless `update` is given others.

    Rewards what stability measures cannot: a map that ignores image and class has consistency 1, and
    responsiveness 0. Gamed by noise, which has responsiveness; the product keeps it low. Which
    images count in the second mean is the network's choice, so figures of two networks do not compare.
    """

    def __init__(
        self,
        predict: Predict,
        explain: Explain,
        *,
        levels: Sequence[float] = (0.2, 0.5, 1.0),
        side: int = 8,
        persistence: float = 0.9,
        seed: int = 0,
        batch: int = 32,
    ) -> None:
        super().__init__({"consistency": "higher", "responsiveness": "higher"})
        for level in levels:
            check_level(level, 1)
        self._predict = predict
        self._explain = explain
        self._levels = tuple(levels)
        self._side = side
        self._persistence = persistence
        self._batch = batch
        self._random = np.random.default_rng(seed)

    def update(self, images: ArrayLike, segments: ArrayLike | None = None) -> dict[str, NDArray[np.float64]]:
        """images: (N, C, H, W). segments: int (N, H, W), numbers from 0, or None. Returns N values each."""
        x = check_images(images)
        shape = (len(x), *x.shape[2:])
        grids = np.broadcast_to(grid_segments(shape[1], shape[2], self._side), shape) if segments is None else segments
        labels = np.asarray(grids)
        if labels.shape != shape:
            raise ArrayError(f"segments: expected shape {shape}, a number for every pixel, got {labels.shape}")
        overlap = np.full((len(x), len(self._levels)), math.nan)
        changed = np.zeros(overlap.shape, np.bool_)
        for part in slices(len(x), self._batch):
            classes, orders = self._orders(x[part], labels[part])
            for j, level in enumerate(self._levels):
                others, again = self._orders(noisy(x[part], level, self._random), labels[part])
                pairs = zip(orders, again, strict=True)
                overlap[part, j] = [rank_biased_overlap(a, b, self._persistence) for a, b in pairs]
                changed[part, j] = classes != others
        return self._keep(consistency=_mean_where(overlap, ~changed), responsiveness=_mean_where(1 - overlap, changed))

    def compute(self) -> dict[str, float]:
        """The columns' means, and ``robustness``, their product."""
        means = super().compute()
        return {**means, "robustness": means["consistency"] * means["responsiveness"]}

    def _orders(
        self, images: NDArray[np.floating], segments: NDArray[np.integer]
    ) -> tuple[NDArray[np.int64], list[NDArray[np.int64]]]:
        classes = predicted(self._predict, images).argmax(axis=1).astype(np.int64)
        maps = explained(self._explain, images, classes)
        return classes, [segment_order(heat, labels) for heat, labels in zip(maps, segments, strict=True)]


def _mean_where(values: NDArray[np.float64], wanted: NDArray[np.bool_]) -> NDArray[np.float64]:
    counts = wanted.sum(axis=1)
    sums = np.where(wanted, values, 0).sum(axis=1)
    return np.where(counts > 0, sums / np.maximum(counts, 1), math.nan)
