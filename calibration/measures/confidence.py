"""What masking by the map does: to the class's probability (Average Drop and Increase), and to the map itself (ADCC).

Coherency, complexity, and their harmonic mean with the drop: Poppi et al., "Revisiting the Evaluation of Class
Activation Mapping for Explainability", CVPRW 2021, arXiv 2104.10252.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..sensitivity import pearson
from .base import (
    Explain,
    Images,
    Maps,
    Measure,
    Predict,
    check_classes,
    check_images,
    check_maps,
    explained,
    predicted,
    slices,
)

__all__ = [
    "Adcc",
    "Confidence",
    "adcc",
    "average_drop",
    "average_increase",
    "class_probability",
    "coherency",
    "complexity",
    "mask_images",
    "masking_columns",
]

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


def coherency(maps: ArrayLike, masked_maps: ArrayLike) -> Values:
    """(r + 1) / 2 per image, with r the correlation of S(x) and S(x * S(x)), maps of one class.

    maps, masked_maps: float (N, H, W) in [0, 1]. Higher is better. 0 where r is undefined
    because one of the maps is constant: a map that vanishes on what it left of the image does not
    cohere.

    Rewards maps that find themselves again. Gamed by maps that ignore the image, as the centre
    baseline does with a perfect score.
    """
    first = check_maps(maps)
    second = check_maps(masked_maps, first.shape)
    r = [pearson(a, b) if a.size > 1 else math.nan for a, b in zip(first, second, strict=True)]
    return np.nan_to_num((np.array(r) + 1) / 2, nan=0.0)


def complexity(maps: ArrayLike) -> Values:
    """Mean of the map in [0, 1] per image. Lower is better.

    Rewards small spots whatever they show; gamed by a map of one pixel, or an empty one.

    >>> complexity(np.array([[[1.0, 0.5, 0.0, 0.0]]])).tolist()
    [0.375]
    """
    return check_maps(maps).mean(axis=(1, 2), dtype=np.float64)


def adcc(drop: ArrayLike, coherence: ArrayLike, complexities: ArrayLike) -> Values:
    """3 / (1 / coherency + 1 / (1 - complexity) + 1 / (1 - drop)) per image; 0 where one of the three is 0.

    Higher is better. The harmonic mean punishes what games one of its parts. Still gamed by a small
    fixed spot where the object usually is: the centre baseline scores well.

    >>> adcc([0.5], [1.0], [0.25]).round(4).tolist()
    [0.6923]
    """
    parts = np.stack([np.asarray(coherence, np.float64), 1 - np.asarray(complexities), 1 - np.asarray(drop)])
    positive = (parts > 0).all(axis=0)
    inverse = 1 / np.where(positive, parts, 1)
    return np.where(positive, 3 / inverse.sum(axis=0), 0.0)


def masking_columns(before: ArrayLike, after: ArrayLike, maps: ArrayLike, masked_maps: ArrayLike) -> dict[str, Values]:
    """Everything that masking by the map says, by the names of `Adcc`'s columns.

    before, after: as in `average_drop`. maps, masked_maps: as in `coherency`.
    """
    drop, coherence, share = average_drop(before, after), coherency(maps, masked_maps), complexity(maps)
    return {
        "average_drop": drop,
        "average_increase": average_increase(before, after),
        "coherency": coherence,
        "complexity": share,
        "adcc": adcc(drop, coherence, share),
    }


class Adcc(Measure):
    """Average Drop, Average Increase, Coherency, Complexity and ADCC from one masked inference.

    predict: images -> probabilities. explain: images and classes -> maps, of the method that is
    measured. batch: images at once.
    """

    def __init__(self, predict: Predict, explain: Explain, *, batch: int = 32) -> None:
        super().__init__(
            {
                "average_drop": "lower",
                "average_increase": "higher",
                "coherency": "higher",
                "complexity": "lower",
                "adcc": "higher",
            }
        )
        self._predict = predict
        self._explain = explain
        self._batch = batch

    def update(self, images: ArrayLike, classes: ArrayLike, maps: Maps) -> dict[str, Values]:
        """images: (N, C, H, W); classes: int (N,); maps of them: (N, H, W) in [0, 1]. Returns N values each."""
        values = check_images(images)
        wanted = check_classes(classes, len(values))
        masked = mask_images(values, maps)
        before, after = (class_probability(self._predict, x, wanted, self._batch) for x in (values, masked))
        again = [explained(self._explain, masked[part], wanted[part]) for part in slices(len(values), self._batch)]
        return self._keep(**masking_columns(before, after, maps, np.concatenate(again)))
