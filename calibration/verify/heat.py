"""One map, and what is read off it more than once: its ranks, its top and its peak.

Maps are scaled up from grids as coarse as 7 x 7: the single highest pixel is an accident of the interpolation, and two
places of nearly the same height are a tie that the last bit decides. So a peak is a region, and two regions that are
hot in both maps are no move.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

__all__ = ["FAR", "HEIGHT", "TOP_SHARE", "Heat", "Peak", "find_peak", "moved", "peak_distance"]

#: Share of an image's pixels that its "top" is.
TOP_SHARE = 0.2
#: A peak is what hangs together above this share of the maximum.
HEIGHT = 0.9
#: Further than this share of the shorter side is another place. A neighbouring cell of a 7 x 7 grid is 1/7 away, a
#: diagonal one 0.20: beyond them another part of the photo is pointed at.
FAR = 0.25


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


@dataclass(frozen=True, eq=False)
class Peak:
    """centre: (y, x) in pixels, of the region's mass. region: bool (H, W)."""

    centre: tuple[float, float]
    region: NDArray[np.bool_]


def find_peak(values: NDArray[np.float32]) -> Peak:
    """The peak of a map (H, W) that is not zero everywhere; of several equal maxima the topmost, then leftmost."""
    from scipy.ndimage import label

    highest = values.max()
    groups, _ = label(values >= HEIGHT * highest, structure=np.ones((3, 3)))  # type: ignore[misc]
    y, x = np.unravel_index(int(values.argmax()), values.shape)
    region = groups == groups[y, x]
    rows, columns = np.nonzero(region)
    weights = values[rows, columns]
    return Peak((float(np.average(rows, weights=weights)), float(np.average(columns, weights=weights))), region)


def peak_distance(first: Peak, second: Peak) -> float:
    """Between the centres, as a share of the image's diagonal."""
    height, width = first.region.shape
    return _apart(first, second) / float(np.hypot(height, width))


def moved(first: Peak, second: Peak, values: NDArray[np.float32], others: NDArray[np.float32]) -> bool:
    """Whether the peak of the map `values` and that of `others` are two different places.

    They are when they lie further apart than `FAR` of the shorter side, unless either map is hot (`HEIGHT`) in
    the other's peak too: then both show both places, and rounding picks the higher one.
    """
    if _apart(first, second) <= FAR * min(first.region.shape):
        return False
    shared = min(values[second.region].max() / values.max(), others[first.region].max() / others.max())
    return bool(shared < HEIGHT)


def _apart(first: Peak, second: Peak) -> float:
    return float(np.hypot(first.centre[0] - second.centre[0], first.centre[1] - second.centre[1]))
