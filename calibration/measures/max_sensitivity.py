"""The largest change of the map that small noise brings about."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .base import Explain, Maps, Measure, check_classes, check_images, check_maps, explained, slices
from .noise import check_level

__all__ = ["MaxSensitivity"]


class MaxSensitivity(Measure):
    """max over d of |S(x + d) - S(x)| / |S(x)|, for d uniform in a box (Yeh et al., NeurIPS 2019, arXiv 1901.09392).

    explain: images and classes -> maps. radius: half the side of the box over the standard deviation of the
    image's preprocessed values. samples: how many d are drawn; the maximum grows with them, so that
    figures with different numbers do not compare. Norms are Euclidean, over the map; the division,
    which the paper does not have, takes the map's scale out. Lower is better; column
    ``max_sensitivity``; NaN where the map is zero.

    Rewards smooth maps. Gamed by maps that ignore the image, which score 0, and by large even ones, whose
    norm hides a change.
    """

    def __init__(
        self, explain: Explain, *, radius: float = 0.1, samples: int = 10, seed: int = 0, batch: int = 32
    ) -> None:
        super().__init__({"max_sensitivity": "lower"})
        check_level(radius, samples)
        self._explain = explain
        self._radius = radius
        self._samples = samples
        self._batch = batch
        self._random = np.random.default_rng(seed)

    def update(self, images: ArrayLike, classes: ArrayLike, maps: Maps) -> dict[str, NDArray[np.float64]]:
        """images: (N, C, H, W); classes: int (N,); maps of the clean images. Returns N values."""
        x = check_images(images)
        clean = check_maps(maps, (len(x), *x.shape[2:]))
        wanted = check_classes(classes, len(x))
        found = np.zeros(len(x))
        for part in slices(len(x), self._batch):
            radius = self._radius * x[part].std(axis=(1, 2, 3), keepdims=True)
            for _ in range(self._samples):
                shift = radius * self._random.uniform(-1, 1, x[part].shape)
                again = explained(self._explain, (x[part] + shift).astype(x.dtype), wanted[part])
                found[part] = np.maximum(found[part], _norms(again - clean[part]))
        sizes = _norms(clean)
        return self._keep(max_sensitivity=np.where(sizes > 0, found / np.where(sizes > 0, sizes, 1), np.nan))


def _norms(maps: Maps) -> NDArray[np.float64]:
    return np.sqrt((maps.astype(np.float64) ** 2).sum(axis=(1, 2)))
