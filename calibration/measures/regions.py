"""Where the object is, on the pixels that the model saw: regions from boxes, masks and grids."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...runtime.errors import ArrayError
from ...runtime.photos.frame import Frame

__all__ = ["box_region", "cell_regions", "check_regions", "mask_region"]


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


def cell_regions(height: int, width: int, cells: int = 2) -> NDArray[np.bool_]:
    """bool (cells**2, H, W): the cells of a mosaic, row by row. Raises `ArrayError` where they are not whole pixels."""
    if cells < 1 or height % cells or width % cells:
        raise ArrayError(
            f"a mosaic of {cells} x {cells} needs a height and width that it divides, got {height} x {width}"
        )
    rows = np.repeat(np.arange(cells), height // cells)
    columns = np.repeat(np.arange(cells), width // cells)
    return (rows[:, None] * cells + columns[None, :]) == np.arange(cells**2)[:, None, None]


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
