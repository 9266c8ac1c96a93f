"""A network that can be worked out by hand: class c is the mean of channel c, its map is channel c."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from numpy.typing import NDArray


@dataclass
class Toy:
    """predict: each channel's mean over the sum of all three. explain: the class's channel over its maximum."""

    batches: list[int] = field(default_factory=list)

    def predict(self, images: NDArray) -> NDArray:
        self.batches.append(len(images))
        means = np.maximum(images, 0).mean(axis=(2, 3), dtype=np.float64) + 1e-9
        return means / means.sum(axis=1, keepdims=True)

    def explain(self, images: NDArray, classes: NDArray) -> NDArray:
        self.batches.append(len(images))
        planes = np.maximum(images[np.arange(len(images)), classes], 0)
        tops = planes.max(axis=(1, 2), keepdims=True)
        return planes / np.where(tops > 0, tops, 1)


@pytest.fixture
def toy() -> Toy:
    return Toy()


@pytest.fixture
def photos() -> NDArray:
    """float32 (6, 3, 16, 16): a bright blob of one channel on a dim background of the others."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:16, :16]
    images = 0.2 * rng.random((6, 3, 16, 16))
    for i in range(6):
        y, x = rng.uniform(3, 13, 2)
        images[i, i % 3] += np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / 12)
    return images.astype(np.float32)


@pytest.fixture
def classes() -> NDArray:
    return np.arange(6) % 3
