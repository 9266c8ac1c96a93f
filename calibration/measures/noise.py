"""Does the map stay where it is when noise enters: at the input, or in the gradients?"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...runtime.errors import ArrayError
from ...runtime.inference import LayerTensors
from ...runtime.methods.numerics.resizing import same_grid
from .base import Columns, Explain, Images, Maps, Measure, check_batch, check_images, explained, slices
from .ranks import spearman

__all__ = [
    "GradientNoise",
    "InputNoise",
    "MaxSensitivity",
    "Rule",
    "agreement",
    "check_level",
    "gradient_noise",
    "noisy",
]

#: What an inference gave of every target layer, for N images -> N maps (h, w).
Rule = Callable[[Sequence[LayerTensors]], Sequence[NDArray[np.float32]]]


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


class _NoisyImages(Measure):
    """Maps of images that noise was added to, against those of the clean ones.

    noisy: images -> the images with one draw of noise. compare: maps of the clean and of the noisy images -> a value
    per image. reduce: values (N, samples) and an axis -> what they come to.
    """

    def __init__(
        self,
        columns: Columns,
        explain: Explain,
        samples: int,
        batch: int,
        noisy: Callable[[Images], Images],
        compare: Callable[[Maps, Maps], ArrayLike],
        reduce: Callable[..., NDArray[np.float64]],
    ) -> None:
        super().__init__(columns)
        self._explain, self._samples, self._batch = explain, samples, batch
        self._noisy, self._compare, self._reduce = noisy, compare, reduce

    def update(self, images: ArrayLike, classes: ArrayLike, maps: Maps) -> dict[str, NDArray[np.float64]]:
        """images: (N, C, H, W); classes: int (N,); maps of the clean images. Returns N values."""
        x, targets, clean = check_batch(images, classes, maps)
        values = np.empty((len(x), self._samples))
        for part in slices(len(x), self._batch):
            for sample in range(self._samples):
                again = explained(self._explain, self._noisy(x[part]), targets[part])
                values[part, sample] = self._compare(clean[part], again)
        return self._keep(**dict.fromkeys(self.columns, self._reduce(values, axis=1)))


class InputNoise(_NoisyImages):
    """Spearman's correlation of the map with that of the noisy image, same class; the mean over `samples`.

    explain: images and classes -> maps. level: standard deviation of the noise over that of the image's
    preprocessed values. Higher is better; column ``input_noise``.

    Rewards maps that do not hang on single pixels. Gamed by maps that ignore the image: the centre
    baseline scores 1, and a class-blind map does well. Stability alone proves nothing.
    """

    def __init__(
        self, explain: Explain, *, level: float = 0.1, samples: int = 2, seed: int = 0, batch: int = 32
    ) -> None:
        check_level(level, samples)
        random = np.random.default_rng(seed)
        super().__init__(
            {"input_noise": "higher"},
            explain,
            samples,
            batch,
            lambda images: noisy(images, level, random),
            _agreements,
            np.mean,
        )


class MaxSensitivity(_NoisyImages):
    """max over d of |S(x + d) - S(x)| / |S(x)|, for d uniform in a box (Yeh et al., NeurIPS 2019, arXiv 1901.09392).

    explain: images and classes -> maps. radius: half the side of the box over the standard deviation of the
    image's preprocessed values. samples: how many d are drawn; the maximum grows with them, so that
    figures with different numbers do not compare. Norms are Euclidean, over the map; the division,
    which the paper does not have, takes the map's scale out. Lower is better; column
    ``max_sensitivity``; NaN where the map is zero.

    Rewards smooth maps. Gamed by maps that ignore the image, which score 0, and by large even ones, whose
    norm hides a change.
    """

    def __init__(
        self, explain: Explain, *, radius: float = 0.1, samples: int = 10, seed: int = 0, batch: int = 32
    ) -> None:
        check_level(radius, samples)
        random = np.random.default_rng(seed)

        def shaken(images: Images) -> Images:
            side = radius * images.std(axis=(1, 2, 3), keepdims=True)
            return (images + side * random.uniform(-1, 1, images.shape)).astype(images.dtype)

        super().__init__({"max_sensitivity": "lower"}, explain, samples, batch, shaken, _relative_changes, np.max)


class GradientNoise(Measure):
    """Spearman's correlation of the map with that from noisy gradients; the mean over `samples`.

    rule: activations and gradients -> maps. level: standard deviation of the noise over that of the
    image's gradients, over all channels and cells; 1 is as much noise as signal. Needs no network.
    Higher is better; column ``gradient_noise``.

    Rewards rules that average. Gamed by rules that hardly use the gradients: `eigencam` scores 1.
    """

    def __init__(
        self, rule: Callable[[Images, Images], Maps], *, level: float = 1.0, samples: int = 2, seed: int = 0
    ) -> None:
        super().__init__({"gradient_noise": "higher"})
        check_level(level, samples)
        self._rule: Rule = lambda layers: rule(layers[0].activations, layers[0].gradients)  # type: ignore[assignment]
        self._level, self._samples = level, samples
        self._random = np.random.default_rng(seed)

    def update(self, activations: ArrayLike, gradients: ArrayLike) -> dict[str, NDArray[np.float64]]:
        """activations, gradients: float (N, C, h, w). Returns N values. Raises `ArrayError`.

        For an exported file, with all that it gives of its layers, there is `EngineAccess.rule` and `gradient_noise`.
        """
        layers = (LayerTensors(check_images(activations), check_images(gradients)),)
        return self._keep(gradient_noise=_under_noise(self._rule, layers, self._level, self._samples, self._random))


def gradient_noise(
    rule: Rule, layers: Sequence[LayerTensors], *, level: float = 1.0, samples: int = 2, seed: int = 0
) -> NDArray[np.float64]:
    """`GradientNoise` of a rule on all that an inference gave.

    Every layer's gradients get noise of their own size; detail and rivals stay as they are.

    Args:
        rule: As `EngineAccess.rule`.
        layers: Of N images.
        level: As in `GradientNoise`.
        samples: As in `GradientNoise`.
        seed: Of the noise.

    Returns:
        Float64 (N,).

    Raises:
        ArrayError: The level or the number of samples is out of range.
    """
    check_level(level, samples)
    return _under_noise(rule, layers, level, samples, np.random.default_rng(seed))


def _under_noise(
    rule: Rule, layers: Sequence[LayerTensors], level: float, samples: int, random: np.random.Generator
) -> NDArray[np.float64]:
    clean = rule(layers)
    values = np.empty((len(clean), samples))
    for sample in range(samples):
        again = rule([replace(layer, gradients=noisy(layer.gradients, level, random)) for layer in layers])
        # A detail layer may be of use to one of the two alone, whose map is then finer.
        values[:, sample] = [agreement(*same_grid(pair)) for pair in zip(clean, again, strict=True)]
    return values.mean(axis=1)


def _agreements(clean: Maps, others: Maps) -> list[float]:
    return [agreement(a, b) for a, b in zip(clean, others, strict=True)]


def _relative_changes(clean: Maps, others: Maps) -> NDArray[np.float64]:
    """Of each map, over its own size; NaN where that is zero."""
    change, size = (np.linalg.norm(maps.astype(np.float64), axis=(1, 2)) for maps in (others - clean, clean))
    return np.where(size > 0, change / np.where(size > 0, size, 1), np.nan)


def check_level(level: float, samples: int) -> None:
    """Raises `ArrayError` unless level is positive and finite and there is a sample."""
    if not (level > 0 and math.isfinite(level)) or samples < 1:
        raise ArrayError(f"noise: expected a level above 0 and at least 1 sample, got {level!r} and {samples!r}")
