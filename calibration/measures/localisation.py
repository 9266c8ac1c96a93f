"""Does the map lie on the object? Its peak, its energy, and every pixel's rank, against boxes and masks.

A map that is zero everywhere says as little as a constant one, and is measured as one: it gets
what a guess gets. An image whose region is empty (the object was cropped away) has no value.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...runtime.errors import ArrayError
from ...runtime.photos.frame import Frame
from .base import Measure, check_maps

__all__ = [
    "Localisation",
    "box_region",
    "check_regions",
    "energy_inside",
    "mask_region",
    "pixel_precision",
    "pointing_game",
]

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


def box_region(boxes: Sequence[Sequence[float]], frame: Frame) -> NDArray[np.bool_]:
    """bool (H, W): input pixels whose centre lies in one of `boxes`.

    boxes: (x0, y0, x1, y1) each, as fractions of the photo's width and height. frame: of the
    photo. A box that was cropped away leaves nothing. Raises `ArrayError`.
    """
    x, y = _centres(frame)
    region = np.zeros((len(y), len(x)), np.bool_)
    for box in boxes:
        values = np.asarray(box, np.float64)
        if values.shape != (4,) or not (values >= 0).all() or not (values <= 1).all():
            raise ArrayError(f"box: expected (x0, y0, x1, y1) as fractions from 0 to 1, got {box!r}")
        x0, y0, x1, y1 = values
        if x0 >= x1 or y0 >= y1:
            raise ArrayError(f"box: expected x0 < x1 and y0 < y1, got {box!r}")
        region |= ((y >= y0) & (y < y1))[:, None] & ((x >= x0) & (x < x1))[None, :]
    return region


def mask_region(mask: ArrayLike, frame: Frame) -> NDArray[np.bool_]:
    """bool (H, W): input pixels whose centre lies on a True pixel of `mask`, bool (h0, w0) like the photo.

    Padding is outside. Raises `ArrayError` for a mask of another size than the photo.
    """
    values = np.asarray(mask)
    width, height = frame.photo
    if values.shape != (height, width) or values.dtype != np.bool_:
        raise ArrayError(
            f"mask: expected bool of shape {(height, width)}, the photo's height and width, got {values.dtype} of "
            f"shape {values.shape}"
        )
    x, y = _centres(frame)
    on_photo = ((y >= 0) & (y < 1))[:, None] & ((x >= 0) & (x < 1))[None, :]
    columns, rows = (np.clip(np.floor(c * size), 0, size - 1).astype(np.intp) for c, size in ((x, width), (y, height)))
    return values[rows[:, None], columns[None, :]] & on_photo


def check_regions(regions: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """`regions` as bool of `shape` (N, H, W). Raises `ArrayError`."""
    values = np.asarray(regions)
    if values.shape != shape or values.dtype != np.bool_:
        raise ArrayError(
            f"regions: expected bool of the maps' shape {shape}, got {values.dtype} of shape {values.shape}"
        )
    return values


def _centres(frame: Frame) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """x of every input column and y of every input row, at pixel centres, as fractions of the photo."""
    columns = [frame.to_photo(x + 0.5, 0)[0] for x in range(frame.input[0])]
    rows = [frame.to_photo(0, y + 0.5)[1] for y in range(frame.input[1])]
    return np.array(columns), np.array(rows)
