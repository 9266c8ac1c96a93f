"""What masking by the map does to the class's probability: Average Drop and Average Increase."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .base import Images, Maps, Measure, Predict, check_classes, check_images, check_maps, predicted, slices

__all__ = ["Confidence", "average_drop", "average_increase", "class_probability", "mask_images"]

Values = NDArray[np.float64]


def average_drop(before: ArrayLike, after: ArrayLike) -> Values:
    """max(0, p - p_e) / p per image (Chattopadhay et al., "Grad-CAM++", WACV 2018).

    before: p, the class's probability on the image, float (N,); after: p_e, on the image masked by
    the map. Lower is better. 0 where p is 0: there was nothing to lose.

    Rewards maps that keep what the class needs. Gamed by keeping everything: the uniform map
    has drop 0. Read it beside complexity, or as ADCC. A masked image is nothing that the network
    was trained on, so part of any drop is due to the mask and not to what is missing.

    >>> average_drop([0.8, 0.5], [0.2, 0.9]).round(2).tolist()
    [0.75, 0.0]
    """
    p, masked = np.asarray(before, np.float64), np.asarray(after, np.float64)
    return np.maximum(0, p - masked) / np.where(p > 0, p, 1)


def average_increase(before: ArrayLike, after: ArrayLike) -> Values:
    """1 where p_e > p, else 0: the mean is the share of images whose mask helps the class (same source).

    Higher is better. Rewards maps that hide what speaks for other classes. Says nothing of how
    much; gamed where p is already near 1, which no mask can raise, and by maps of a soft edge.
    """
    return (np.asarray(after) > np.asarray(before)).astype(np.float64)


def mask_images(images: ArrayLike, maps: ArrayLike) -> Images:
    """The preprocessed images (N, C, H, W) multiplied by the maps (N, H, W): hidden pixels get the mean colour."""
    values = check_images(images)
    planes = check_maps(maps, (len(values), *values.shape[2:]))
    return values * planes[:, None].astype(values.dtype, copy=False)


def class_probability(predict: Predict, images: Images, classes: ArrayLike, batch: int) -> Values:
    """float64 (N,): the probability of each image's class. Raises `TargetError` for a class the model lacks."""
    parts = []
    wanted = check_classes(classes, len(images))
    for part in slices(len(images), batch):
        p = predicted(predict, images[part])
        parts.append(p[np.arange(len(p)), check_classes(wanted[part], len(p), p.shape[1])])
    return np.concatenate(parts).astype(np.float64)


class Confidence(Measure):
    """`average_drop` and `average_increase`. predict: images -> probabilities; batch: images at once."""

    def __init__(self, predict: Predict, *, batch: int = 32) -> None:
        super().__init__({"average_drop": "lower", "average_increase": "higher"})
        self._predict = predict
        self._batch = batch

    def update(self, images: ArrayLike, classes: ArrayLike, maps: Maps) -> dict[str, Values]:
        """images: (N, C, H, W); classes: int (N,); maps of them: (N, H, W) in [0, 1]. Returns N values each."""
        values = check_images(images)
        masked = mask_images(values, maps)
        before, after = (class_probability(self._predict, x, classes, self._batch) for x in (values, masked))
        return self._keep(average_drop=average_drop(before, after), average_increase=average_increase(before, after))
