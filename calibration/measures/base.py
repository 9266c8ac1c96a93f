"""What every measure shares: the two callables that reach the network, checks, and the bookkeeping.

A measure is an object with `update`, `compute` and `reset`. It works on batches, keeps one
number per image and column (so that `calibration.statistics` can draw intervals) and nothing
else, and hands the batch's numbers back from `update`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...runtime.errors import ArrayError, TargetError
from ..statistics import mean_of_known

__all__ = [
    "Columns",
    "Explain",
    "Images",
    "Maps",
    "Measure",
    "Predict",
    "check_batch",
    "check_classes",
    "check_images",
    "check_maps",
    "explained",
    "predicted",
    "slices",
]

#: Preprocessed images, float (N, C, H, W). Zero is what preprocessing makes of its mean colour.
Images = NDArray[np.floating[Any]]
#: Maps in [0, 1] on the image's pixels, float (N, H, W).
Maps = NDArray[np.floating[Any]]
#: Images -> probabilities, float (N, K).
Predict = Callable[[Images], NDArray[np.floating[Any]]]
#: Images and classes, int (N,) -> maps of those classes.
Explain = Callable[[Images, NDArray[np.int64]], Maps]


#: What a measure measures -> whether more of it is better.
Columns = dict[str, Literal["higher", "lower"]]


class Measure:
    """Base of all measures; `columns` are the names of its figures."""

    def __init__(self, columns: Columns) -> None:
        self.columns = columns
        self._parts: dict[str, list[NDArray[np.float64]]] = {name: [] for name in columns}

    def reset(self) -> None:
        """Forget every image."""
        for parts in self._parts.values():
            parts.clear()

    def values(self, column: str) -> NDArray[np.float64]:
        """float64 (n,): one value per image in the order of the updates, NaN where it is undefined."""
        return np.concatenate([np.empty(0), *self._parts[column]])

    def compute(self) -> dict[str, float]:
        """Mean of each column over the images where it is defined; NaN where there are none."""
        return {name: mean_of_known(self.values(name)) for name in self.columns}

    def _keep(self, **columns: ArrayLike) -> dict[str, NDArray[np.float64]]:
        rows = {name: np.asarray(columns[name], np.float64) for name in self.columns}
        for name, row in rows.items():
            self._parts[name].append(row)
        return rows


def check_images(images: ArrayLike) -> Images:
    """`images` as a finite float array (N, C, H, W). Raises `ArrayError`."""
    values = np.asarray(images)
    if values.ndim != 4 or 0 in values.shape or values.dtype.kind != "f":
        raise ArrayError(f"images: expected floats of shape (N, C, H, W), got {values.dtype} of shape {values.shape}")
    if not np.isfinite(values).all():
        raise ArrayError("images: expected finite values, some are NaN or infinite")
    return values


def check_maps(maps: ArrayLike, shape: tuple[int, ...] | None = None) -> Maps:
    """`maps` as floats in [0, 1] of `shape` (N, H, W), None for any. Raises `ArrayError`."""
    values = np.asarray(maps)
    if values.ndim != 3 or 0 in values.shape or values.dtype.kind != "f":
        raise ArrayError(f"maps: expected floats of shape (N, H, W), got {values.dtype} of shape {values.shape}")
    if shape is not None and values.shape != shape:
        raise ArrayError(f"maps: expected shape {shape}, a value for every pixel of every image, got {values.shape}")
    if not ((values >= 0) & (values <= 1)).all():
        raise ArrayError("maps: expected values from 0 to 1; divide a map by its maximum, or use cam.normalise")
    return values


def check_classes(classes: ArrayLike, count: int, known: int | None = None) -> NDArray[np.int64]:
    """`classes` as int64 (count,) below `known`, the model's number of classes. Raises `TargetError`."""
    values = np.asarray(classes)
    if values.shape != (count,) or values.dtype.kind not in "iu":
        raise TargetError(f"classes: expected {count} whole numbers, got {values.dtype} of shape {values.shape}")
    if values.min() < 0 or (known is not None and values.max() >= known):
        limit = "" if known is None else f" to {known - 1}"
        raise TargetError(f"classes: expected 0{limit}, got {int(values.min())} to {int(values.max())}")
    return values.astype(np.int64)


def check_batch(images: ArrayLike, classes: ArrayLike, maps: ArrayLike) -> tuple[Images, NDArray[np.int64], Maps]:
    """Images (N, C, H, W), classes (N,) and maps (N, H, W), checked together. Raises `ArrayError`, `TargetError`."""
    x = check_images(images)
    clean = check_maps(maps, (len(x), *x.shape[2:]))
    return x, check_classes(classes, len(x)), clean


def predicted(predict: Predict, images: Images) -> NDArray[np.floating[Any]]:
    """``predict(images)``, checked to be probabilities (N, K). Raises `ArrayError`."""
    p = np.asarray(predict(images))
    if p.ndim != 2 or len(p) != len(images):
        raise ArrayError(f"predict: expected ({len(images)}, K) for {len(images)} images, got shape {p.shape}")
    # A softmax in float32 or float16 may end just above 1.
    if not ((p >= 0) & (p <= 1.01)).all():
        raise ArrayError("predict: expected probabilities from 0 to 1; does it return logits?")
    return p


def explained(explain: Explain, images: Images, classes: NDArray[np.int64]) -> Maps:
    """``explain(images, classes)``, checked to be maps in [0, 1] on the images' pixels. Raises `ArrayError`."""
    return check_maps(explain(images, classes), (len(images), *images.shape[2:]))


def slices(count: int, size: int) -> Iterator[slice]:
    """Parts of at most `size` that cover 0 to `count`."""
    if size < 1:
        raise ArrayError(f"batch: expected at least 1, got {size}")
    return (slice(start, min(start + size, count)) for start in range(0, count, size))
