"""A map in seven numbers: what audits write down of every photo and monitors watch."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from .errors import ArrayError

__all__ = ["MAP_COLUMNS", "map_columns"]

#: Their names, in order.
MAP_COLUMNS = ("area", "border", "centre_x", "centre_y", "spread", "peak_x", "peak_y")

#: How wide the border is, of a side.
_BORDER = 0.1


def map_columns(heat: NDArray[np.float32]) -> dict[str, float]:
    """Where a map lies and how far it spreads.

    Args:
        heat: Float32 (H, W), not negative and not zero everywhere; `Explanation.map`, say.

    Returns:
        ``area``: share of the pixels with at least half the maximum. ``border``: share of the sum within a tenth of the
        side from the border. ``centre_x``, ``centre_y``: centre of mass, as fractions of width and height.
        ``spread``: root mean square distance from it, in the same fractions. ``peak_x``, ``peak_y``: the first maximum.

    Raises:
        ArrayError: The array is no such map.

    >>> map_columns(np.eye(1, 4, 1, dtype=np.float32))["centre_x"]
    0.375
    """
    if heat.ndim != 2 or not heat.size:
        raise ArrayError(f"a map: expected an array of shape (H, W), got {heat.shape}")
    height, width = heat.shape
    flat = int(heat.argmax())
    row, column = divmod(flat, width)
    highest = float(heat[row, column])
    x, y = (np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height
    (left, right), (top, bottom) = _inner(x), _inner(y)
    # Sums over rows and columns say everything but the area, in two passes over the map.
    rows = heat.sum(axis=1, dtype=np.float64)
    between = heat[top:bottom].sum(axis=0, dtype=np.float64)
    columns = between + heat[:top].sum(axis=0, dtype=np.float64) + heat[bottom:].sum(axis=0, dtype=np.float64)
    total, inner = float(columns.sum()), float(between[left:right].sum())
    if not (math.isfinite(total) and highest > 0):
        raise ArrayError("a map: expected finite values that are not zero everywhere")
    centre_x, centre_y = float(columns @ x) / total, float(rows @ y) / total
    variance = float(columns @ (x - centre_x) ** 2 + rows @ (y - centre_y) ** 2) / total
    return {
        "area": float(np.count_nonzero(heat >= highest / 2)) / heat.size,
        "border": max(0.0, 1 - inner / total),
        "centre_x": centre_x,
        "centre_y": centre_y,
        "spread": math.sqrt(max(0.0, variance)),
        "peak_x": float(x[column]),
        "peak_y": float(y[row]),
    }


def _inner(axis: NDArray[np.float64]) -> tuple[int, int]:
    """First and last plus one of the pixels that are not in the border, on one axis."""
    places = np.flatnonzero(np.abs(axis - 0.5) <= 0.5 - _BORDER)
    return int(places[0]), int(places[-1]) + 1
