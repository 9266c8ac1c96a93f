"""How much the map changes with the class, over many images."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..sensitivity import class_sensitivity
from .base import Explain, Measure, check_classes, check_images, explained, slices

__all__ = ["ClassSensitivity"]


class ClassSensitivity(Measure):
    """1 - correlation between the maps of two classes of one image; see `cfcam.calibration.class_sensitivity`.

    explain: images and classes -> maps. Meant for the top class against another that is present,
    or against the second-ranked. Higher is better: 0 is blind to the class. NaN where one of the
    maps is constant.

    Give it maps at contrast 0, as `EngineAccess.without_contrast` makes them: contrast raises the figure by
    construction.

    Rewards maps that tell classes apart. Gamed by noise, which has a sensitivity of 1; two classes
    that look alike and share their evidence ought to get similar maps.
    """

    def __init__(self, explain: Explain, *, batch: int = 32) -> None:
        super().__init__({"class_sensitivity": "higher"})
        self._explain = explain
        self._batch = batch

    def update(self, images: ArrayLike, classes: ArrayLike, others: ArrayLike) -> dict[str, NDArray[np.float64]]:
        """images: (N, C, H, W); classes, others: int (N,), to compare pair by pair. Returns N values."""
        x = check_images(images)
        first, second = (check_classes(which, len(x)) for which in (classes, others))
        found = []
        for part in slices(len(x), self._batch):
            one, other = (explained(self._explain, x[part], which[part]) for which in (first, second))
            found += [class_sensitivity(a, b) for a, b in zip(one, other, strict=True)]
        return self._keep(class_sensitivity=found)
