"""What a table of figures can show: intervals over photos, paired differences, many comparisons.

The unit is always the photo. Pixels of one photo, and mosaics that share a photo, are not
independent; rows of one photo are averaged before anything is drawn. NaN rows (a measure that
is undefined for a photo) are left out, of both sides of a difference.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..runtime.errors import ArrayError, CfcamError

__all__ = [
    "Difference",
    "Interval",
    "TooFewPhotosError",
    "holm",
    "mean_interval",
    "mean_of_known",
    "paired_difference",
    "photos_needed",
    "smallest_effect",
]

# Below this many photos an interval that promises 95 % holds the mean in less than 90 % of
# cases (normal values: 0.90 for 10 photos, 0.85 for 6, 0.75 for 3; 0.92 for 20, 0.94 for 30).
_LEAST = 10


class TooFewPhotosError(CfcamError, ValueError):
    """Fewer photos than an interval needs; the message says how many that is."""


@dataclass(frozen=True)
class Interval:
    """A mean over photos and the percentile interval around it.

    count: photos that it rests on. level: 0.95 for a 95 % interval.
    """

    mean: float
    low: float
    high: float
    count: int
    level: float


@dataclass(frozen=True)
class Difference(Interval):
    """A mean paired difference, first less second. p_value: two-sided, from flipping its signs."""

    p_value: float

    @property
    def shown(self) -> bool:
        """Whether the interval excludes zero. False means "no difference shown", not "no difference"."""
        return self.low > 0 or self.high < 0


def photos_needed(level: float = 0.95, comparisons: int = 1) -> int:
    """How many photos an interval takes, or a difference among `comparisons` under Holm's correction.

    The larger of 10, under which percentile intervals are too short, and of the number n from
    which flipping n signs, whose smallest p-value is 2**(1 - n), can reach
    (1 - level) / comparisons at all.
    """
    _check_level(level)
    return max(_LEAST, math.ceil(1 + math.log2(comparisons / (1 - level)) - 1e-9))


def mean_of_known(values: Iterable[float]) -> float:
    """Mean of the values that are not NaN; NaN where there are none."""
    known = [value for value in values if not math.isnan(value)]
    return fmean(known) if known else math.nan


def mean_interval(
    values: ArrayLike,
    photos: Sequence[Hashable] | None = None,
    *,
    level: float = 0.95,
    resamples: int = 5000,
    seed: int = 0,
) -> Interval:
    """Mean over photos with its percentile bootstrap interval (Efron, "Bootstrap Methods", 1979).

    values: float (n,), a row each. photos: n names; rows of one name are averaged first; None
    makes every row a photo of its own. Raises `ArrayError`, and `TooFewPhotosError` when fewer
    than `photos_needed(level)` photos have a value.
    """
    each = _by_photo(_rows(values), photos)
    _check_count(len(each), photos_needed(level))
    return _percentile_interval(each, level, resamples, seed)


def paired_difference(
    first: ArrayLike,
    second: ArrayLike,
    photos: Sequence[Hashable] | None = None,
    *,
    level: float = 0.95,
    comparisons: int = 1,
    resamples: int = 5000,
    seed: int = 0,
) -> Difference:
    """Mean of ``first - second``, both measured on the same photos, with interval and p-value.

    As `mean_interval` over the differences. The p-value is that of a sign-flip test (Fisher
    1935): the share of sign patterns whose mean is at least as far from zero, all of them where
    there are at most `resamples`, else drawn. comparisons: how many p-values go through `holm`
    together; it raises the number of photos that is asked for and nothing else.
    """
    from scipy.stats import permutation_test

    a, b = _rows(first), _rows(second)
    if a.shape != b.shape:
        raise ArrayError(f"paired difference: expected two rows of figures of one length, got {len(a)} and {len(b)}")
    each = _by_photo(a - b, photos)
    _check_count(len(each), photos_needed(level, comparisons))
    interval = _percentile_interval(each, level, resamples, seed)
    flipped = permutation_test(
        (each, np.zeros_like(each)),
        lambda one, other, axis: (one - other).mean(axis=axis),
        permutation_type="samples",
        n_resamples=resamples,
        batch=max(1, 1_000_000 // len(each)),
        vectorized=True,
        random_state=np.random.default_rng(seed),  # pyright: ignore[reportCallIssue]
    )
    return Difference(**asdict(interval), p_value=float(flipped.pvalue))


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """p-values corrected for being many (Holm, "A Simple Sequentially Rejective Test", 1979).

    The i-th smallest of m is multiplied by m - i + 1, and none falls below a smaller one's.
    Comparing the result with 0.05 keeps the chance of any false claim below 5 %.

    >>> holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, np.float64)
    if p.ndim != 1 or not ((p >= 0) & (p <= 1)).all():
        raise ArrayError(f"holm: expected a list of p-values from 0 to 1, got {p_values!r}")
    order = np.argsort(p, kind="stable")
    corrected = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    return np.minimum(corrected, 1)[np.argsort(order)]


def smallest_effect(
    spread: float, photos: int, *, level: float = 0.95, power: float = 0.8, comparisons: int = 1
) -> float:
    """The mean difference that `photos` photos will show with probability `power`.

    spread: standard deviation of the paired differences over photos, from a pilot. By the
    normal approximation, (z(1 - alpha / 2) + z(power)) * spread / sqrt(photos) with alpha =
    (1 - level) / comparisons. To be written down before looking at the test photos.
    """
    from scipy.special import ndtri

    _check_level(level)
    alpha = (1 - level) / comparisons
    return float((ndtri(1 - alpha / 2) + ndtri(power)) * spread / math.sqrt(photos))


def _rows(values: ArrayLike) -> NDArray[np.float64]:
    rows = np.asarray(values, np.float64)
    if rows.ndim != 1:
        raise ArrayError(f"expected one figure per row, got an array of shape {rows.shape}")
    return rows


def _by_photo(rows: NDArray[np.float64], photos: Sequence[Hashable] | None) -> NDArray[np.float64]:
    known = ~np.isnan(rows)
    if photos is None:
        return rows[known]
    if len(photos) != len(rows):
        raise ArrayError(f"photos: expected a name for each of {len(rows)} rows, got {len(photos)}")
    numbers: dict[Hashable, int] = {}
    index = np.array([numbers.setdefault(photo, len(numbers)) for photo in photos], np.int64)[known]
    counts = np.bincount(index, minlength=len(numbers))
    sums = np.bincount(index, rows[known], minlength=len(numbers))
    return sums[counts > 0] / counts[counts > 0]


def _percentile_interval(each: NDArray[np.float64], level: float, resamples: int, seed: int) -> Interval:
    from scipy.stats import bootstrap

    # SciPy calls it rng from 1.15 on and takes both.
    found = bootstrap(
        (each,),
        np.mean,
        n_resamples=resamples,
        batch=max(1, 1_000_000 // len(each)),
        confidence_level=level,
        method="percentile",
        random_state=np.random.default_rng(seed),  # pyright: ignore[reportCallIssue]
    ).confidence_interval
    return Interval(float(each.mean()), float(found.low), float(found.high), len(each), level)


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ArrayError(f"level: expected a number between 0 and 1, got {level!r}")


def _check_count(count: int, needed: int) -> None:
    if count < needed:
        raise TooFewPhotosError(
            f"{count} photos with a value are too few for an interval: at least {needed} are needed, and 30 are better"
        )
