"""Maps that explain nothing: rows that every table of measures needs beside the methods.

A method that does not beat them has shown nothing. Each is an `Explain`: it takes images
(N, C, H, W) and classes, and returns maps in [0, 1], float32 (N, H, W). None looks at the
class. (`eigencam` is a baseline of the same kind with the network's activations behind it.)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...runtime.cam import normalise
from ...runtime.errors import ArrayError
from .base import Explain, Images

__all__ = ["CentreGaussian", "Edges", "Random", "Uniform", "baselines"]

Classes = NDArray[np.int64]
FloatMaps = NDArray[np.float32]


class CentreGaussian:
    """A Gaussian around the centre of the image, `width` times its sides wide.

    Photographers put things in the middle: it beats many methods where boxes are large.
    """

    def __init__(self, width: float = 0.25) -> None:
        if not width > 0:
            raise ArrayError(f"width: expected a share of the side, more than 0, got {width!r}")
        self._width = width

    def __call__(self, images: Images, classes: Classes) -> FloatMaps:
        sides = images.shape[2:]
        rows, columns = (
            np.exp(-((np.arange(side) + 0.5 - side / 2) ** 2) / (2 * (self._width * side) ** 2)) for side in sides
        )
        plane = np.outer(rows, columns)
        return np.broadcast_to((plane / plane.max()).astype(np.float32), (len(images), *sides))


class Uniform:
    """1 everywhere: what an image is worth without any explanation."""

    def __call__(self, images: Images, classes: Classes) -> FloatMaps:
        return np.ones((len(images), *images.shape[2:]), np.float32)


class Random:
    """Uniform random values on a `grid` as coarse as a layer's, scaled up like its maps; new ones at every call."""

    def __init__(self, grid: tuple[int, int] = (7, 7), seed: int = 0) -> None:
        self._grid = grid
        self._random = np.random.default_rng(seed)

    def __call__(self, images: Images, classes: Classes) -> FloatMaps:
        size = (int(images.shape[2]), int(images.shape[3]))
        return np.stack([normalise(self._random.random(self._grid, np.float32), size) for _ in images])


class Edges:
    """Strength of the image's edges (Sobel), blurred by `blur` of the shorter side.

    What a class-blind map sees in a photo. Adebayo et al., "Sanity Checks for Saliency Maps",
    NeurIPS 2018: some methods are little more than this.
    """

    def __init__(self, blur: float = 0.02) -> None:
        self._blur = blur

    def __call__(self, images: Images, classes: Classes) -> FloatMaps:
        from scipy.ndimage import gaussian_filter, sobel

        grey = images.mean(axis=1, dtype=np.float64)
        strength = np.hypot(sobel(grey, axis=1), sobel(grey, axis=2))
        sigma = self._blur * min(grey.shape[1:])
        return np.stack([normalise(np.asarray(gaussian_filter(edges, sigma))) for edges in strength])


def baselines(grid: tuple[int, int] = (7, 7), seed: int = 0) -> dict[str, Explain]:
    """All of them by name; `grid` and `seed` are for the random one."""
    return {"centre": CentreGaussian(), "uniform": Uniform(), "random": Random(grid, seed), "edges": Edges()}
