"""SESS: the maps of windows that slide over the enlarged image, put together; for any method.

Tursun et al., "SESS: Saliency Enhancing with Scaling and Sliding", ECCV 2022, arXiv 2207.01769.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from .checks import check_choice, check_integer, check_number
from .errors import MethodError
from .methods.base import CamResult
from .methods.numerics.resizing import resize, resize_back, resize_part, unit_range

__all__ = ["Sess", "Window", "as_sess", "cut_windows"]

Pool = Literal["mean", "max"]

#: More windows than this are a slip of the keyboard.
_MOST_WINDOWS = 10_000


@dataclass(frozen=True)
class Window:
    """A part of the enlarged image, of the size of the image itself.

    top, left: in pixels of the enlarged image. size: of that, (H, W).
    """

    top: int
    left: int
    size: tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Sess:
    """Enlarge the image step by step, explain every window of it, and take the weighted mean of their maps.

    Attributes:
        scales: How many sizes, 1 to 32; the first is that of the model's input, which is also the window's.
        growth: By how much each is larger than the one before, as a share of the window's sides, 0.01 to 1.
        stride: From one window to the next, as a share of the window's sides, 0.1 to 1.
        keep: The share of windows, those with the highest probability, that are explained, above 0 up to 1.
        pool: ``mean`` of the windows whose maps are above zero at a pixel, or ``max``.
        blur: Width in pixels of the Gaussian over the result, which is cut at one width; 0 for none, at most 100.

    Raises:
        MethodError: A value is out of range.
    """

    scales: int = 12
    growth: float = 2 / 7
    stride: float = 1.0
    keep: float = 1.0
    pool: Pool = "mean"
    blur: float = 5.0

    def __post_init__(self) -> None:
        check_integer("sess", "scales", self.scales, 1, 32)
        check_number("sess", "growth", self.growth, 0.01, 1)
        check_number("sess", "stride", self.stride, 0.1, 1)
        check_number("sess", "keep", self.keep, 1e-6, 1)
        check_choice("sess", "pool", self.pool, get_args(Pool))
        check_number("sess", "blur", self.blur, 0, 100)

    def windows(self, size: tuple[int, int]) -> list[Window]:
        """All windows over an image.

        Args:
            size: Of the image, (H, W) in pixels.

        Returns:
            The windows, the smallest size first, then from top to bottom and from left to right.

        Raises:
            MethodError: They would be more than 10 000.
        """
        found: list[Window] = []
        for scale in range(self.scales):
            large = tuple(side + scale * round(side * self.growth) for side in size)
            rows, columns = (_starts(whole, side, self.stride) for whole, side in zip(large, size, strict=True))
            found += [Window(top, left, (large[0], large[1])) for top in rows for left in columns]
            if len(found) > _MOST_WINDOWS:
                raise MethodError(
                    f"sess: these settings make more than {_MOST_WINDOWS} windows; take fewer scales or a larger stride"
                )
        return found

    def best(self, weights: NDArray[np.float32]) -> NDArray[np.int64]:
        """Which windows are kept.

        Args:
            weights: Float32 (N,), of all windows: the class's probability.

        Returns:
            Int64 (M,), the numbers of the most probable ones, in their order.
        """
        count = math.ceil(len(weights) * self.keep - 1e-9)
        return np.sort(np.argsort(weights, kind="stable")[len(weights) - count :])

    def fuse(
        self,
        windows: Sequence[Window],
        results: Sequence[CamResult],
        weights: NDArray[np.float32],
        size: tuple[int, int],
    ) -> CamResult:
        """One map of those of the windows.

        Args:
            windows: N of them.
            results: What the method made of each; an empty map counts as zero.
            weights: Float32 (N,), not negative: the class's probability in each.
            size: Of the image, (H, W).

        Returns:
            The map, at the image's size; empty where all of them are.
        """
        if all(one.empty for one in results):
            return results[0]
        top = weights.max()
        shares = weights / top if top > 0 else np.ones_like(weights)
        total, count = np.zeros(size, np.float32), np.zeros(size, np.int64)
        for window, result, share in zip(windows, results, shares, strict=True):
            if result.empty:
                continue
            # Less its minimum first: what is zero stays exactly zero, and is not counted.
            heat = unit_range(resize(unit_range(result.map[None]), size))[0] * share
            part = resize_back(heat, window.size, (window.top, window.left))
            if self.pool == "max":
                np.maximum(total, part, out=total)
            else:
                total += part
                count += part > 0
        if self.pool == "mean":
            total /= np.maximum(count, 1)
        if self.blur:
            from scipy.ndimage import gaussian_filter

            total = gaussian_filter(total, self.blur, mode="mirror", truncate=1.0)
        nothing = None if total.any() else "the maps of all windows are the same everywhere"
        return CamResult(np.maximum(total, 0), empty=nothing, form=results[0].form)


def cut_windows(image: NDArray[np.float32], windows: Sequence[Window]) -> NDArray[np.float32]:
    """The windows of an image float32 (C, H, W), enlarged bilinearly: (N, C, H, W)."""
    size = (image.shape[1], image.shape[2])
    return np.stack([resize_part(image, one.size, (one.top, one.left), size) for one in windows])


def as_sess(sess: Sess | Mapping[str, Any] | int | bool | None) -> Sess | None:
    """`Sess` from what people give.

    Args:
        sess: An object, its settings, a number of scales, True for the defaults, False or None for none.

    Returns:
        The object, or None.

    Raises:
        MethodError: A setting is unknown or out of range.
    """
    if sess is None or isinstance(sess, Sess):
        return sess
    if isinstance(sess, bool):
        return Sess() if sess else None
    if not isinstance(sess, Mapping):
        return Sess(scales=sess)
    try:
        return Sess(**sess)
    except TypeError as error:
        raise MethodError(f"sess: {error}") from error


def _starts(length: int, window: int, stride: float) -> list[int]:
    """Where windows begin along one side; the last one ends where the side does."""
    step = max(1, round(window * stride))
    return [*range(0, length - window, step), length - window]
