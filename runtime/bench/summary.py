"""Many times as a few numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["ENOUGH_FOR_P99", "Ratio", "Summary"]

#: Of fewer runs the 99th percentile is little else than the largest value.
ENOUGH_FOR_P99 = 100

_DRAWS = 2000


@dataclass(frozen=True)
class Summary:
    """Times of `n` runs in milliseconds. Percentiles are interpolated linearly between the two nearest runs."""

    n: int
    mean: float
    min: float
    p50: float
    p90: float
    p99: float
    max: float

    @classmethod
    def of(cls, values: Sequence[float] | NDArray[np.floating[Any]]) -> Summary:
        """Of at least one time."""
        times = np.asarray(values, np.float64)
        p50, p90, p99 = (float(p) for p in np.percentile(times, [50, 90, 99]))
        return cls(len(times), float(times.mean()), float(times.min()), p50, p90, p99, float(times.max()))

    @property
    def spread(self) -> float:
        """How far the slow tenth is from the usual run, as a share of it."""
        return (self.p90 - self.p50) / self.p50 if self.p50 > 0 else 0.0


@dataclass(frozen=True)
class Ratio:
    """Median over `n` rounds of the ratio of two times of one round, and a 95 % interval from bootstrap over rounds."""

    median: float
    low: float
    high: float
    n: int

    @classmethod
    def of(cls, above: NDArray[np.float64], below: NDArray[np.float64], seed: int = 0) -> Ratio:
        """Of two series (n,) that were taken in the same rounds."""
        ratios = above / below
        rng = np.random.default_rng(seed)
        count = len(ratios)
        draws = [float(np.median(ratios[rng.integers(0, count, count)])) for _ in range(_DRAWS)]
        low, high = np.percentile(draws, [2.5, 97.5])
        return cls(float(np.median(ratios)), float(low), float(high), count)
