"""Does the map lie on the object? Its peak, its energy, and every pixel's rank.

A map that is zero everywhere says as little as a constant one, and is measured as one: it gets
what a guess gets. An image whose region is empty (the object was cropped away) has no value.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...runtime.errors import ArrayError
from .base import Measure, check_maps
from .regions import check_regions

__all__ = ["Localisation", "energy_inside", "pixel_precision", "pointing_game"]

Values = NDArray[np.float64]


def pointing_game(maps: ArrayLike, regions: ArrayLike, tolerance: float = 0) -> Values:
    """Pointing game: 1 where the map's peak lies in the region, else 0 (Zhang et al., IJCV 2018).

    maps: float (N, H, W) in [0, 1]. regions: bool (N, H, W). tolerance: how many pixels beside
    the region still count (the paper takes 15). Of several equal peaks, as at the border of a
    map that was scaled up, the share inside counts; a constant map so gets the region's share of
    the image. NaN where a region is empty. Raises `ArrayError`.

    Rewards one right pixel, whatever the rest of the map does. Gamed by pointing at the middle
    of the image: print the centre baseline beside it. No monotone change of the map moves it.

    >>> pointing_game(np.array([[[0.2, 1.0]]]), np.array([[[False, True]]])).tolist()
    [1.0]
    """
    values, inside = _both(maps, regions)
    if not (math.isfinite(tolerance) and tolerance >= 0):
        raise ArrayError(f"tolerance: expected pixels, at least 0, got {tolerance!r}")
    near = inside if tolerance == 0 else np.stack([_grown(region, tolerance) for region in inside])
    peaks = values == values.max(axis=(1, 2), keepdims=True)
    hits = (peaks & near).sum(axis=(1, 2)) / peaks.sum(axis=(1, 2))
    return _where_there_is_a_region(hits, inside)


def energy_inside(maps: ArrayLike, regions: ArrayLike) -> Values:
    """Share of the map's sum that lies in the region (Wang et al., "Score-CAM", CVPRW 2020).

    As `pointing_game`. With a mosaic's cell as region it is the grid pointing game, GridPG (Rao
    et al., "Towards Better Understanding Attribution Methods", CVPR 2022).

    Rewards maps without a background. Gamed by any sharpening: squaring a map raises it. A
    comparison of methods by it alone says nothing; put a sharpened control in the table.

    >>> energy_inside(np.array([[[0.25, 0.75]]]), np.array([[[False, True]]])).tolist()
    [0.75]
    """
    values, inside = _both(maps, regions)
    values = np.where(values.any(axis=(1, 2), keepdims=True), values, 1)
    sums = values.sum(axis=(1, 2), dtype=np.float64)
    return _where_there_is_a_region((values * inside).sum(axis=(1, 2), dtype=np.float64) / sums, inside)


def pixel_precision(maps: ArrayLike, regions: ArrayLike) -> Values:
    """Average precision of the pixels, ranked by the map, against the region.

    As `pointing_game`. The sum over thresholds n of (recall_n - recall_(n-1)) * precision_n,
    without interpolation (scikit-learn's definition). Pixels of one value form one threshold: a
    constant map gets the region's share of the image, and the order of ties cannot matter.

    Rewards maps that cover the whole region before anything else. No monotone change of the map
    moves it. Gamed, on mosaics, by blur: put a blurred control in the table; and where objects
    fill the image, by large blobs.

    >>> pixel_precision(np.array([[[1.0, 0.5, 0.2]]]), np.array([[[True, False, True]]])).round(3).tolist()
    [0.833]
    """
    values, inside = _both(maps, regions)
    pairs = zip(values.reshape(len(values), -1), inside.reshape(len(inside), -1), strict=True)
    return np.array([_average_precision(pixels, truth) for pixels, truth in pairs])


class Localisation(Measure):
    """`pointing_game`, `energy_inside` and `pixel_precision` against boxes, masks or a mosaic's cells."""

    def __init__(self, tolerance: float = 0) -> None:
        super().__init__({"pointing_game": "higher", "energy_inside": "higher", "pixel_precision": "higher"})
        self._tolerance = tolerance

    def update(self, maps: ArrayLike, regions: ArrayLike) -> dict[str, Values]:
        """maps: float (N, H, W) in [0, 1]; regions: bool (N, H, W). Returns each column's N values."""
        return self._keep(
            pointing_game=pointing_game(maps, regions, self._tolerance),
            energy_inside=energy_inside(maps, regions),
            pixel_precision=pixel_precision(maps, regions),
        )


def _both(maps: ArrayLike, regions: ArrayLike) -> tuple[NDArray[np.floating], NDArray[np.bool_]]:
    values = check_maps(maps)
    return values, check_regions(regions, values.shape)


def _where_there_is_a_region(values: Values, regions: NDArray[np.bool_]) -> Values:
    return np.where(regions.any(axis=(1, 2)), values, math.nan)


def _grown(region: NDArray[np.bool_], tolerance: float) -> NDArray[np.bool_]:
    from scipy.ndimage import distance_transform_edt

    # Without any region there would be no pixel to measure the distance to.
    return np.asarray(distance_transform_edt(~region)) <= tolerance if region.any() else region


def _average_precision(pixels: NDArray[np.floating], truth: NDArray[np.bool_]) -> float:
    if not truth.any():
        return math.nan
    order = np.argsort(-pixels, kind="stable")
    ranked = pixels[order]
    found = np.cumsum(truth[order])
    ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    precision = found[ends] / (ends + 1)
    return float((np.diff(found[ends], prepend=0) * precision).sum() / found[-1])
