"""How much a map depends on the class it explains."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from ..runtime.errors import ArrayError, one_line

__all__ = ["class_sensitivity", "pearson"]


def pearson(map_a: ArrayLike, map_b: ArrayLike) -> float:
    """Pearson correlation of two maps.

    Args:
        map_a: Finite numbers of any shape, at least two.
        map_b: As many, in the same shape.

    Returns:
        -1 to 1; NaN where one of the maps is constant.

    Raises:
        ArrayError: The shapes differ, there are fewer than two values, or some are not finite.
    """
    try:
        a, b = (np.asarray(values) for values in (map_a, map_b))
        if {a.dtype.kind, b.dtype.kind} - set("biuf"):
            raise ArrayError(f"correlation: expected two arrays of numbers, got {a.dtype} and {b.dtype}")
        a, b = a.astype(np.float64), b.astype(np.float64)
    except ArrayError:
        raise
    except Exception as error:  # whatever somebody else's array says about itself
        raise ArrayError(f"correlation: expected two arrays of numbers ({one_line(error)})") from error
    if a.shape != b.shape or a.size < 2:
        raise ArrayError(f"correlation: expected two maps of one shape with at least 2 cells, got {a.shape}, {b.shape}")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ArrayError("correlation: the maps hold NaN or infinite values")
    # A map's scale does not matter here, and without it no square can overflow or vanish.
    a, b = (values / (np.abs(values).max() or 1) for values in (a, b))
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return math.nan
    if np.array_equal(a, b):
        return 1.0  # exactly, whatever the rounding of the sums
    a, b = a - a.mean(), b - b.mean()
    value = float((a * b).sum() / math.sqrt((a**2).sum() * (b**2).sum()))
    return min(1.0, max(-1.0, value))


def class_sensitivity(map_a: ArrayLike, map_b: ArrayLike) -> float:
    """1 - correlation between one image's maps for two classes.

    Meant for the top class and another one that is present or ranks high.

    Args:
        map_a: The map for one class, of any shape.
        map_b: The map for the other class, in the same shape.

    Returns:
        0 where the map is blind to the class, 2 where the maps are opposite, NaN where a map is constant.

    Raises:
        ArrayError: The shapes differ, there are fewer than two values, or some are not finite.

    >>> class_sensitivity([[1.0, 0.0]], [[0.0, 1.0]])
    2.0
    """
    return 1 - pearson(map_a, map_b)
