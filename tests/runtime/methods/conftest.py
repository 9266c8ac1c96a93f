"""Arrays that look like a layer's: channels that fire together, stray ones, dead ones."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

Arrays = tuple[NDArray[np.float32], NDArray[np.float32]]


@pytest.fixture
def layer() -> Callable[..., Arrays]:
    """Factory: layer(seed, grid=..., pooled=...) -> activations, gradients (C, H, W) float32."""

    def make(seed: int, grid: tuple[int, int] = (7, 7), pooled: bool = False, signed: bool = False) -> Arrays:
        rng = np.random.default_rng(seed)
        rows, columns = np.mgrid[: grid[0], : grid[1]]
        blobs = []
        for _ in range(5):
            y, x = rng.uniform(0, grid[0]), rng.uniform(0, grid[1])
            blob = np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / 3)
            blobs += [blob * rng.uniform(0.5, 3) + 0.05 * rng.random(grid) for _ in range(rng.integers(5, 15))]
        stray = [rng.random(grid) * (rng.random(grid) > 0.6) for _ in range(12)]
        dead = [np.zeros(grid)] * 10
        live = np.array([*blobs, *stray])
        if signed:
            live -= 0.2 * rng.random(live.shape)
        a = np.concatenate([live, dead])
        a = a[rng.permutation(len(a))]
        g = rng.normal(size=(len(a), 1, 1)) + (0 if pooled else rng.normal(size=a.shape))
        return a.astype(np.float32), np.broadcast_to(1e-3 * g, a.shape).astype(np.float32)

    return make
