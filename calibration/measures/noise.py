"""Does the map stay where it is when noise enters: at the input, or in the gradients?"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...runtime.errors import ArrayError
from .base import Explain, Maps, Measure, check_classes, check_images, check_maps, explained, slices
from .ranks import spearman

__all__ = ["GradientNoise", "InputNoise", "Rule", "agreement", "check_level", "noisy"]

#: Activations and gradients (N, C, h, w), or tuples of them, with one for each target layer -> maps (N, h, w).
Rule = Callable[[Any, Any], Maps]


def agreement(clean: ArrayLike, other: ArrayLike) -> float:
    """Spearman's correlation of a map with another that ought to equal it.

    NaN where `clean` is constant, so that there is nothing to keep; 0 where only `other` is: the map
    was lost, which must not make the figure better by leaving it out.
    """
    value = spearman(clean, other)
    return 0.0 if math.isnan(value) and np.ptp(np.asarray(clean)) > 0 else value


def noisy(values: NDArray[np.floating[Any]], level: float, random: np.random.Generator) -> NDArray[np.floating[Any]]:
    """`values` (N, ...) plus normal noise of `level` times each item's own standard deviation."""
    spread = values.std(axis=tuple(range(1, values.ndim)), keepdims=True, dtype=np.float64)
    noise = random.standard_normal(values.shape, np.float32)
    return values + (level * spread).astype(values.dtype) * noise.astype(values.dtype, copy=False)


class InputNoise(Measure):
    """Spearman's correlation of the map with that of the noisy image, same class; the mean over `samples`.

    explain: images and classes -> maps. level: standard deviation of the noise over that of the image's
    preprocessed values. Higher is better; column ``input_noise``.

    Rewards maps that do not hang on single pixels. Gamed by maps that ignore the image: the centre
    baseline scores 1, and a class-blind map does well. Stability alone proves nothing.
    """

    def __init__(
        self, explain: Explain, *, level: float = 0.1, samples: int = 2, seed: int = 0, batch: int = 32
    ) -> None:
        super().__init__({"input_noise": "higher"})
        check_level(level, samples)
        self._explain = explain
        self._level = level
        self._samples = samples
        self._batch = batch
        self._random = np.random.default_rng(seed)

    def update(self, images: ArrayLike, classes: ArrayLike, maps: Maps) -> dict[str, NDArray[np.float64]]:
        """images: (N, C, H, W); classes: int (N,); maps of the clean images. Returns N values."""
        x = check_images(images)
        clean = check_maps(maps, (len(x), *x.shape[2:]))
        wanted = check_classes(classes, len(x))
        found = np.empty((len(x), self._samples))
        for part in slices(len(x), self._batch):
            for sample in range(self._samples):
                again = explained(self._explain, noisy(x[part], self._level, self._random), wanted[part])
                found[part, sample] = [agreement(a, b) for a, b in zip(clean[part], again, strict=True)]
        return self._keep(input_noise=found.mean(axis=1))


class GradientNoise(Measure):
    """Spearman's correlation of the map with that from noisy gradients; the mean over `samples`.

    rule: activations and gradients -> maps. level: standard deviation of the noise over that of the
    image's gradients, over all channels and cells; 1 is as much noise as signal. Needs no network.
    Higher is better; column ``gradient_noise``.

    Rewards rules that average. Gamed by rules that hardly use the gradients: `eigencam` scores 1.
    """

    def __init__(self, rule: Rule, *, level: float = 1.0, samples: int = 2, seed: int = 0) -> None:
        super().__init__({"gradient_noise": "higher"})
        check_level(level, samples)
        self._rule = rule
        self._level = level
        self._samples = samples
        self._random = np.random.default_rng(seed)

    def update(
        self, activations: ArrayLike | tuple[ArrayLike, ...], gradients: ArrayLike | tuple[ArrayLike, ...]
    ) -> dict[str, NDArray[np.float64]]:
        """activations, gradients: float (N, C, h, w); of several layers, tuples of such, and each layer's
        gradients get noise of their own size. Returns N values. Raises `ArrayError`.
        """
        a, g = _of_each_layer(check_images, activations), _of_each_layer(check_images, gradients)
        clean = self._rule(a, g)
        found = np.empty((len(clean), self._samples))
        for sample in range(self._samples):
            again = self._rule(a, _of_each_layer(lambda one: noisy(one, self._level, self._random), g))
            found[:, sample] = [agreement(before, after) for before, after in zip(clean, again, strict=True)]
        return self._keep(gradient_noise=found.mean(axis=1))


def _of_each_layer(function: Callable[[Any], Any], arrays: Any) -> Any:
    return tuple(function(one) for one in arrays) if isinstance(arrays, tuple) else function(arrays)


def check_level(level: float, samples: int) -> None:
    """Raises `ArrayError` unless level is positive and finite and there is a sample."""
    if not (level > 0 and math.isfinite(level)) or samples < 1:
        raise ArrayError(f"noise: expected a level above 0 and at least 1 sample, got {level!r} and {samples!r}")
