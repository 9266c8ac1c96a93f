"""Where a map is hottest, and whether that is still the same place.

Maps are scaled up from grids as coarse as 7 x 7: the single highest pixel is an accident of the interpolation, and two
places of nearly the same height are a tie that the last bit decides. So a peak is a region, and two regions that are
hot in both maps are no move.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["FAR", "HEIGHT", "Peak", "find_peak", "moved", "peak_distance"]

#: A peak is what hangs together above this share of the maximum.
HEIGHT = 0.9
#: Further than this share of the shorter side is another place. A neighbouring cell of a 7 x 7 grid is 1/7 away, a
#: diagonal one 0.20: beyond them another part of the photo is pointed at.
FAR = 0.25


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
