"""What fits into a budget here: every method, layer, number of classes and size of the map, from parts that are timed.

A whole explanation is a sum: reading the photo, one inference of as many images as there are classes, and a rule and
a resize for each. Timing the parts takes seconds where timing every sum would take hours; a few sums are timed
as a whole too, to see whether it adds up.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..methods import get_method, method_names
from ..methods.layer_fusion import fitting
from .plan_parts import Choice, Combination, Part, Parts
from .sampling import Clock, Progress, sample
from .timed_file import TimedFile

__all__ = ["CLASSES", "LatencyPlan", "PlanRow", "SpotCheck", "Taken", "latency_plan", "total"]

#: How many classes of one photo are explained.
CLASSES = (1, 2, 5)

#: A probe that has not ended after so many budgets, or milliseconds where there is no budget, is given up.
_BUDGETS, _PATIENCE_MS = 4, 1000.0
_LEAST = 5
_DRAWS = 2000

#: Milliseconds of every part in every round.
Taken = dict[Part, NDArray[np.float64]]


@dataclass(frozen=True)
class PlanRow(Combination):
    """One choice, and what it takes in milliseconds.

    p50: sum of the parts' medians. p99: 99th percentile of sums of parts drawn at random from their runs. fits: p99
    within the budget, None where there is none. parts: milliseconds of each, medians.
    """

    p50: float
    p99: float
    fits: bool | None
    parts: dict[str, float]


@dataclass(frozen=True)
class SpotCheck:
    """A row that was timed as a whole as well, in the same rounds; milliseconds."""

    method: str
    layers: tuple[str, ...]
    classes: int
    planned_p50: float
    measured_p50: float
    planned_p99: float
    measured_p99: float


@dataclass(frozen=True)
class LatencyPlan:
    """rows: every choice. checks: of some of them. left_out: what could not be timed, or was given up, and why.

    photo: whether reading and preparing the photo is counted. runs: of every part.
    """

    rows: tuple[PlanRow, ...]
    checks: tuple[SpotCheck, ...]
    left_out: dict[str, str]
    photo: bool
    runs: int
    budget_ms: float | None


def latency_plan(
    timed: TimedFile,
    *,
    budget_ms: float | None = None,
    photo: bool = True,
    methods: Sequence[str] | None = None,
    classes: Sequence[int] = CLASSES,
    rounds: int = 30,
    seconds: float | None = 60.0,
    clock: Clock = time.perf_counter_ns,
    progress: Progress | None = None,
) -> LatencyPlan:
    """Time the parts of every choice, interleaved, and add them up.

    budget_ms: marks what fits. photo: count reading and preparing the photo. methods: None for every rule, and every
    probe that ends within four budgets (probes are timed as a whole, on the first layer). rounds, seconds: whichever
    comes first, but five rounds at least.
    Raises a `CfcamError` where not even one image can be explained.
    """
    parts = Parts(timed, photo)
    rules, probes = _methods(timed, methods)
    parts.add_inferences(classes)
    parts.add_rules(rules)
    patience = _PATIENCE_MS if budget_ms is None else _BUDGETS * budget_ms
    parts.add_probes(probes, patience, clock)
    checks = parts.add_checks(rules, max(parts.batches))
    taken = sample(parts.calls, rounds=rounds, seconds=seconds, least=_LEAST, clock=clock, progress=progress)
    rows = [_row(choice, taken, budget_ms) for choice in parts.choices(rules, probes)]
    return LatencyPlan(
        rows=tuple(rows),
        checks=tuple(_check(part, rows, taken) for part in checks),
        left_out=parts.left_out,
        photo=photo,
        runs=len(next(iter(taken.values()))),
        budget_ms=budget_ms,
    )


def total(taken: Taken, parts: Sequence[tuple[Part, int]], seed: int = 0) -> tuple[float, float]:
    """(p50, p99) of a sum, milliseconds. parts: each with how often it is run.

    p50 is the sum of the medians. p99 is that of sums of runs that are drawn independently of each other: the sum of
    the parts' own p99 would say that everything is slow at once.
    """
    rng = np.random.default_rng(seed)
    sums = np.zeros(_DRAWS)
    for part, times in parts:
        for _ in range(times):
            sums += rng.choice(taken[part], _DRAWS)
    medians = sum(times * float(np.median(taken[part])) for part, times in parts)
    return medians, max(medians, float(np.percentile(sums, 99)))


def _methods(timed: TimedFile, names: Sequence[str] | None) -> tuple[list[str], list[str]]:
    wanted = [get_method(name) for name in (fitting(method_names(), timed.spec.layers) if names is None else names)]
    if names is None and timed.spec.tail is None:
        wanted = [method for method in wanted if not method.needs_tail]
    return [m.name for m in wanted if m.kind == "rule"], [m.name for m in wanted if m.kind == "probe"]


def _row(choice: Choice, taken: Taken, budget_ms: float | None) -> PlanRow:
    p50, p99 = total(taken, choice.parts)
    parts: dict[str, float] = {}
    for part, times in choice.parts:
        stage = str(part[0])
        parts[stage] = parts.get(stage, 0.0) + times * float(np.median(taken[part]))
    fits = None if budget_ms is None else p99 <= budget_ms
    return PlanRow(choice.method, choice.layers, choice.classes, choice.size, choice.to_input, p50, p99, fits, parts)


def _check(part: Part, rows: Sequence[PlanRow], taken: Taken) -> SpotCheck:
    _, method, names, count = part
    row = next(r for r in rows if (r.method, r.layers, r.classes, r.to_input) == (method, names, count, True))
    p50, p99 = np.percentile(taken[part], [50, 99])
    return SpotCheck(row.method, row.layers, row.classes, row.p50, float(p50), row.p99, float(p99))
