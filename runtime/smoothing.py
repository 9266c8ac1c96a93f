"""Smoothing: the mean map of noisy copies of an image, for any method.

Smilkov et al., "SmoothGrad: removing noise by adding noise", arXiv 1706.03825, there for gradients of pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .checks import check_integer, check_number
from .errors import MethodError
from .methods.base import CamResult
from .methods.numerics.resizing import same_grid
from .methods.numerics.scaling import as_map
from .photos.preprocess import as_input

__all__ = ["Smoothing", "as_smoothing", "mean_result"]

_MOST_COPIES = 1000


@dataclass(frozen=True, kw_only=True)
class Smoothing:
    """Explain `copies` of the image with Gaussian noise, and take the mean of the maps.

    Attributes:
        copies: How many, 1 to 1000; they are in memory together.
        noise: Standard deviation, as a share of the preprocessed image's range (largest minus smallest value), 0 to 10.
            The paper finds 0.1 to 0.2 good, with 50 copies.
        seed: Of the noise. Every image gets the same noise, whatever is explained with it.

    Raises:
        MethodError: A value is out of range.
    """

    copies: int = 8
    noise: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        check_integer("smoothing", "copies", self.copies, 1, _MOST_COPIES)
        check_number("smoothing", "noise", self.noise, 0, 10)
        check_integer("smoothing", "seed", self.seed, 0)

    def noisy(self, image: NDArray[Any]) -> NDArray[Any]:
        """Copies of an image with noise.

        Args:
            image: The preprocessed image, of any shape.

        Returns:
            `copies` of it along a new first axis, in its type.
        """
        values = image.astype(np.float32)
        deviation = self.noise * float(np.ptp(values))
        noise = np.random.default_rng(self.seed).standard_normal((self.copies, *image.shape), np.float32)
        return as_input(values + deviation * noise, image.dtype)


def as_smoothing(smooth: Smoothing | Mapping[str, Any] | int | None) -> Smoothing | None:
    """`Smoothing` from what people give.

    Args:
        smooth: An object, its settings, a number of copies, or None.

    Returns:
        The object; None for None.

    Raises:
        MethodError: A setting is unknown or out of range.
    """
    if smooth is None or isinstance(smooth, Smoothing):
        return smooth
    if not isinstance(smooth, Mapping):
        return Smoothing(copies=smooth)
    try:
        return Smoothing(**smooth)
    except TypeError as error:
        raise MethodError(f"smoothing: {error}") from error


def mean_result(results: Sequence[CamResult]) -> CamResult:
    """The mean of maps that are not normalised; empty ones are zero, and all of them make an empty one."""
    if all(result.empty for result in results):
        return results[0]
    # A detail layer may be of no use in some of the copies, whose maps are then coarser.
    maps = same_grid([one.map for one in results])
    return CamResult(as_map(maps.mean(axis=0, dtype=np.float64)), form=results[0].form)
