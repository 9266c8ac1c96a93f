"""How alike two maps of one image are, and two groupings of the same channels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...runtime.methods import Grouping
from ..sensitivity import pearson
from .heat import Heat, moved, peak_distance

__all__ = ["SCORED", "Likeness", "compare_maps", "grouping_agreement"]

#: The measures that have a score.
SCORED = ("spearman", "pearson", "iou")


@dataclass(frozen=True)
class Likeness:
    """Of a map to the one that it ought to equal, at the input's size. NaN where the latter is empty.

    spearman, pearson: correlation over pixels. iou: of the top fifth of the pixels, intersection over union.
    peak_distance: between the peaks, as a share of the diagonal. moved: 1 when the peak is another place, else 0.
    """

    spearman: float
    pearson: float
    iou: float
    peak_distance: float
    moved: float


_EQUAL = Likeness(1.0, 1.0, 1.0, 0.0, 0.0)
#: Nothing is left of the map, which must not count as less than being wrong.
_LOST = Likeness(0.0, 0.0, 0.0, 1.0, 1.0)
_UNKNOWN = Likeness(*[math.nan] * 5)


def compare_maps(reference: Heat, other: Heat) -> Likeness:
    """How alike `other` is to `reference`."""
    if reference.empty:
        return _UNKNOWN
    if np.array_equal(reference.values, other.values):
        return _EQUAL  # exactly, whatever the rounding of a correlation
    first, second = reference.peak, other.peak
    if first is None or second is None:
        return _LOST
    both, either = np.count_nonzero(reference.top & other.top), np.count_nonzero(reference.top | other.top)
    constant = np.ptp(other.values) == 0
    return Likeness(
        spearman=0.0 if constant else pearson(reference.ranks, other.ranks),
        pearson=0.0 if constant else pearson(reference.values, other.values),
        iou=both / either,
        peak_distance=peak_distance(first, second),
        moved=float(moved(first, second, reference.values, other.values)),
    )


def grouping_agreement(first: NDArray[np.int64], second: NDArray[np.int64]) -> float:
    """Adjusted Rand index of two groupings' labels (C,): 1 is the same groups, 0 is chance (Hubert and Arabie, 1985).

    Channels that are dead on both sides, which may be half of them, are left out; NaN when none is left.
    """
    from sklearn.metrics import adjusted_rand_score

    alive = (first != Grouping.DEAD) | (second != Grouping.DEAD)
    return float(adjusted_rand_score(first[alive], second[alive])) if alive.any() else math.nan
