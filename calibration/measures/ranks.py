"""How alike two orders are: Spearman's correlation and rank-biased overlap."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from ...runtime.errors import ArrayError
from ..sensitivity import pearson

__all__ = ["rank_biased_overlap", "spearman"]


def spearman(map_a: ArrayLike, map_b: ArrayLike) -> float:
    """Spearman's rank correlation of two maps of one shape; equal values share their mean rank.

    NaN where one of the maps is constant. Raises `ArrayError` as `pearson` does.
    """
    from scipy.stats import rankdata

    a, b = np.asarray(map_a), np.asarray(map_b)
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ArrayError("rank correlation: the maps hold NaN or infinite values")
    return pearson(rankdata(a).reshape(a.shape), rankdata(b).reshape(b.shape))


def rank_biased_overlap(first: ArrayLike, second: ArrayLike, persistence: float = 0.9) -> float:
    """Rank-biased overlap of two orders of the same m items, best first (Webber et al., ACM TOIS 2010).

    With A_d the share of items that the first d places of both have in common::

        (1 - p) * sum over d from 1 to m of p**(d - 1) * A_d  +  p**m

    their extrapolated form (equation 32 for lists of one length; A_m is 1 here). 1 for equal
    orders. persistence: p, between 0 and 1; the first 10 places carry 86 % of the weight at 0.9.
    Raises `ArrayError` unless both hold the same items, each once.

    >>> round(rank_biased_overlap([0, 1, 2], [0, 2, 1], 0.5), 4)
    0.875
    """
    a, b = np.asarray(first), np.asarray(second)
    if a.ndim != 1 or a.shape != b.shape or len(a) == 0 or not 0 < persistence < 1:
        raise ArrayError(f"rank-biased overlap: expected two orders of the same items and 0 < persistence < 1, got "
                         f"{a.shape}, {b.shape} and {persistence!r}")  # fmt: skip
    items, index = np.unique(np.concatenate([a, b]), return_inverse=True)
    if len(items) != len(a) or len(np.unique(a)) != len(a) or len(np.unique(b)) != len(b):
        raise ArrayError("rank-biased overlap: expected two orders of the same items, each once")
    place_a, place_b = np.argsort(index[: len(a)]), np.argsort(index[len(a) :])
    # An item is common to both lists from the later of its two places on.
    common = np.cumsum(np.bincount(np.maximum(place_a, place_b), minlength=len(a)))
    depth = np.arange(1, len(a) + 1)
    weights = (1 - persistence) * persistence ** (depth - 1.0)
    return float((weights * common / depth).sum() + math.pow(persistence, len(a)))
