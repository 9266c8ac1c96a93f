"""Mosaics of photos that the model knows, where the right place is known without a single box.

Rao et al., "Towards Better Understanding Attribution Methods", CVPR 2022. A mosaic of four classes,
explained for one of them, must light up in one cell: measure it with `Localisation` and that
cell as region (`cell_regions`), and `ClassSensitivity` between its classes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...runtime.errors import ArrayError
from ..statistics import TooFewPhotosError
from .base import Images, check_classes, check_images

__all__ = ["cell_regions", "choose_groups", "make_mosaic"]


def choose_groups(
    probabilities: ArrayLike, classes: ArrayLike, *, cells: int = 2, confidence: float = 0.9, seed: int = 0
) -> list[tuple[int, ...]]:
    """Which photos go into a mosaic together: groups of cells**2 indices, each photo in one group at most.

    probabilities: float (N, K) of N photos. classes: int (N,), what they show. Taken are photos
    that the model gives their class with at least `confidence`, so that a map that misses
    accuses the method and not the model; the classes of a group all differ. Groups share no
    photo, so each is one unit for an interval. Raises `TooFewPhotosError` when not even one
    group can be filled, and `ArrayError`.
    """
    p = np.asarray(probabilities)
    if p.ndim != 2:
        raise ArrayError(f"probabilities: expected (N, K), got shape {p.shape}")
    c = check_classes(classes, len(p), p.shape[1])
    known = np.flatnonzero(p[np.arange(len(p)), c] >= confidence)
    left = [int(index) for index in np.random.default_rng(seed).permutation(known)]
    size, groups = cells**2, []
    while True:
        # Classes with many photos first: they are the ones that would be left over.
        counts = np.bincount(c[left], minlength=p.shape[1])
        first = {int(c[index]): index for index in reversed(left)}
        if len(first) < size:
            break
        group = [first[label] for label in sorted(first, key=lambda label: -counts[label])[:size]]
        groups.append(tuple(group))
        left = [index for index in left if index not in group]
    if not groups:
        raise TooFewPhotosError(
            f"a mosaic needs {size} photos of different classes known with a probability of at least {confidence}: "
            f"{len(known)} of {len(p)} photos are, of {len(np.unique(c[known]))} classes"
        )
    return groups


def make_mosaic(images: ArrayLike, cells: int = 2) -> Images:
    """One image (C, H, W) of cells**2 preprocessed `images` (cells**2, C, H, W), row by row.

    Each is scaled down by the mean of cells x cells pixels, which commutes with preprocessing.
    Raises `ArrayError`, also where the sides do not divide.
    """
    values = check_images(images)
    count, channels, height, width = values.shape
    if count != cells**2 or height % cells or width % cells:
        raise ArrayError(
            f"a mosaic of {cells} x {cells} needs {cells**2} images whose sides it divides, got {count} of "
            f"{height} x {width}"
        )
    h, w = height // cells, width // cells
    small = values.reshape(cells, cells, channels, h, cells, w, cells).mean(axis=(4, 6))
    return small.transpose(2, 0, 3, 1, 4).reshape(channels, height, width)


def cell_regions(height: int, width: int, cells: int = 2) -> NDArray[np.bool_]:
    """bool (cells**2, H, W): the cells of a mosaic, row by row. Raises `ArrayError` where they are not whole pixels."""
    if cells < 1 or height % cells or width % cells:
        raise ArrayError(
            f"a mosaic of {cells} x {cells} needs a height and width that it divides, got {height} x {width}"
        )
    rows = np.repeat(np.arange(cells), height // cells)
    columns = np.repeat(np.arange(cells), width // cells)
    return (rows[:, None] * cells + columns[None, :]) == np.arange(cells**2)[:, None, None]
