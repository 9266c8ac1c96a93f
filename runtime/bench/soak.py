"""Running for a long time: does it get slower, and does it hold more and more memory?"""

from __future__ import annotations

import gc
import time
from array import array
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .memory import resident
from .sampling import Clock
from .summary import Summary

__all__ = ["Part", "SoakReport", "soak"]

_PARTS = 10
#: Two runs for each part.
_LEAST = 2 * _PARTS
#: Memory is looked at so often, at most.
_LOOKS = 500
#: The last part's median over the first's from which it is slower, if the parts rise one after the other as well.
_SLOWER = 1.15
_RISING = 0.7
#: Growth that allocators may show without a leak: bytes, or this share of what was there.
_GROWTH_BYTES, _GROWTH_SHARE = 4 * 2**20, 0.01
#: A leak goes on: this share of the growth, at least, comes in the second half.
_GOES_ON = 0.25


@dataclass(frozen=True)
class Part:
    """A tenth of the runs. seconds: since the start, in its middle. p50: milliseconds. resident: bytes, or None."""

    seconds: float
    p50: float
    resident: int | None


@dataclass(frozen=True)
class SoakReport:
    """What `soak` saw.

    latency: milliseconds of all runs. parts: ten of them. drift: the last part's median over the first's.
    slope: of the parts' medians, milliseconds per minute. drifted: slower at the end, and rising on the way.
    growth: bytes from the second part to the last (the first is when allocators settle), or None where the
    system does not say. limit: bytes that are let pass. grew: more than that, and still going on in the
    second half.
    """

    seconds: float
    latency: Summary
    parts: tuple[Part, ...]
    drift: float
    slope: float
    drifted: bool
    growth: int | None
    limit: int | None
    grew: bool

    @property
    def passed(self) -> bool:
        return not (self.drifted or self.grew)

    @property
    def smallest_leak(self) -> float | None:
        """Bytes per run that a leak must have to be found in so many runs; None where memory is not known."""
        return None if self.limit is None else self.limit / (self.latency.n * (_PARTS - 2) / _PARTS)

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "passed": self.passed, "smallest_leak": self.smallest_leak}


def soak(
    call: Callable[[], object],
    seconds: float,
    *,
    clock: Clock = time.perf_counter_ns,
    memory: Callable[[], int | None] = resident,
    progress: Callable[[float], None] | None = None,
) -> SoakReport:
    """Call `call` again and again for `seconds`, twenty times at least. progress: told the seconds that have passed.

    What it keeps of every run is four bytes, so that it does not see itself grow.
    """
    times = array("f")
    looked, held = array("q"), array("q")
    gc.collect()
    begun = clock()
    next_look, passed = 0.0, 0.0
    while passed < seconds or len(times) < _LEAST:
        started = clock()
        call()
        ended = clock()
        times.append((ended - started) / 1e6)
        passed = (ended - begun) / 1e9
        if passed >= next_look or len(times) <= _LEAST:
            now = memory()
            if now is not None:
                looked.append(len(times) - 1)
                held.append(now)
            next_look = passed + seconds / _LOOKS
            if progress is not None:
                progress(passed)
    return _report(np.array(times, np.float64), np.array(looked), np.array(held), passed)


def _report(
    times: NDArray[np.float64], looked: NDArray[np.int64], held: NDArray[np.int64], seconds: float
) -> SoakReport:
    ends = times.cumsum() / 1000
    ends *= seconds / ends[-1]
    parts = []
    for runs in np.array_split(np.arange(len(times)), _PARTS):
        seen = held[(looked >= runs[0]) & (looked <= runs[-1])]
        # A part without a look has what was seen last before it.
        before = held[looked < runs[0]][-1:]
        some = seen if len(seen) else before
        parts.append(
            Part(
                seconds=float(ends[runs[len(runs) // 2]]),
                p50=float(np.median(times[runs])),
                resident=int(np.median(some)) if len(some) else None,
            )
        )
    medians = np.array([part.p50 for part in parts])
    minutes = np.array([part.seconds for part in parts]) / 60
    drift = float(medians[-1] / medians[0])
    growth, limit, grew = _growth([part.resident for part in parts])
    return SoakReport(
        seconds=seconds,
        latency=Summary.of(times),
        parts=tuple(parts),
        drift=drift,
        slope=float(np.polyfit(minutes, medians, 1)[0]),
        drifted=drift > _SLOWER and _rank_correlation(medians) > _RISING,
        growth=growth,
        limit=limit,
        grew=grew,
    )


def _growth(held: list[int | None]) -> tuple[int | None, int | None, bool]:
    first, middle, last = held[1], held[len(held) // 2], held[-1]
    if first is None or middle is None or last is None:
        return None, None, False
    growth = last - first
    limit = max(_GROWTH_BYTES, int(_GROWTH_SHARE * first))
    return growth, limit, growth > limit and last - middle >= _GOES_ON * growth


def _rank_correlation(values: NDArray[np.float64]) -> float:
    """Spearman's, of values with their order; 0 where all are equal."""
    if np.ptp(values) == 0:
        return 0.0
    ranks = np.argsort(np.argsort(values, kind="stable"), kind="stable")
    return float(np.corrcoef(ranks, np.arange(len(values)))[0, 1])
