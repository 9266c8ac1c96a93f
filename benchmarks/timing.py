"""How much longer an explained inference takes than a plain one."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

from cfcam.runtime.bench.sampling import Clock, sample

__all__ = ["Comparison", "compare"]


@dataclass(frozen=True)
class Comparison:
    """Medians over rounds. ratio: explained / plain; control: plain / plain, 1 where the machine is quiet.

    ratio_spread, control_spread: half of the range between the quartiles.
    """

    plain_ms: float
    explained_ms: float
    ratio: float
    ratio_spread: float
    control: float
    control_spread: float
    rounds: int

    @property
    def steady(self) -> bool:
        """Whether the control says that the ratio can be believed."""
        return 0.98 <= self.control <= 1.02


def compare(
    plain: Callable[[], object],
    explained: Callable[[], object],
    rounds: int = 40,
    clock: Clock = time.perf_counter_ns,
) -> Comparison:
    """Time two callables, interleaved.

    Every round runs plain, plain again (the control) and explained in shuffled order, so that
    a machine that slows down slows all three; ratios are taken within a round.
    """
    runs = {"plain": plain, "control": plain, "explained": explained}
    for run in runs.values():
        run()
    taken = sample(runs, rounds=rounds, clock=clock)
    ratios = (taken["explained"] / taken["plain"]).tolist()
    controls = (taken["control"] / taken["plain"]).tolist()
    return Comparison(
        plain_ms=float(statistics.median(taken["plain"])),
        explained_ms=float(statistics.median(taken["explained"])),
        ratio=statistics.median(ratios),
        ratio_spread=_half_quartile_range(ratios),
        control=statistics.median(controls),
        control_spread=_half_quartile_range(controls),
        rounds=rounds,
    )


def _half_quartile_range(values: list[float]) -> float:
    low, _, high = statistics.quantiles(values, n=4)
    return (high - low) / 2
