"""One map, and what is read off it more than once."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from .peaks import Peak, find_peak

__all__ = ["TOP_SHARE", "Heat"]

#: Share of an image's pixels that its "top" is.
TOP_SHARE = 0.2


class Heat:
    """A map float32 (H, W) in [0, 1], as `normalise` gives it; zero everywhere where it is empty."""

    def __init__(self, values: NDArray[np.float32]) -> None:
        self.values = values

    @property
    def empty(self) -> bool:
        return not self.values.any()

    @cached_property
    def ranks(self) -> NDArray[np.float64]:
        """(H, W); equal values share their mean rank."""
        from scipy.stats import rankdata

        return rankdata(self.values).reshape(self.values.shape)

    @cached_property
    def top(self) -> NDArray[np.bool_]:
        """bool (H, W): the highest fifth of the pixels, without those that are zero. Ties at its edge belong to it."""
        count = max(1, round(TOP_SHARE * self.values.size))
        edge = np.partition(self.values, self.values.size - count, axis=None)[self.values.size - count]
        return (self.values >= edge) & (self.values > 0)

    @cached_property
    def peak(self) -> Peak | None:
        return None if self.empty else find_peak(self.values)
