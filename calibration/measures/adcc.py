"""Coherency, complexity, and their harmonic mean with the drop: ADCC.

Poppi et al., "Revisiting the Evaluation of Class Activation Mapping for Explainability", CVPRW
2021, arXiv 2104.10252.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..sensitivity import pearson
from .base import Explain, Maps, Measure, Predict, check_classes, check_images, check_maps, explained, slices
from .confidence import average_drop, average_increase, class_probability, mask_images

__all__ = ["Adcc", "adcc", "coherency", "complexity"]

Values = NDArray[np.float64]


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
        drop, coherence, share = average_drop(before, after), coherency(maps, np.concatenate(again)), complexity(maps)
        return self._keep(
            average_drop=drop,
            average_increase=average_increase(before, after),
            coherency=coherence,
            complexity=share,
            adcc=adcc(drop, coherence, share),
        )
