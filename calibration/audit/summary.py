"""``summary.json``: what all rows of an audit come to."""

from __future__ import annotations

import heapq
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .findings import rates
from .plan import Plan
from .row import Row

__all__ = ["SCHEMA", "summarise"]

SCHEMA = "cfcam.audit/1"

#: How many photos with errors are named.
_NAMED = 20


@dataclass
class _Seen:
    """What is kept of the rows that went by: some bytes of each."""

    photos: int = 0
    with_finding: int = 0
    over: int = 0
    contents: set[str] = field(default_factory=set)
    times: array[float] = field(default_factory=lambda: array("d"))
    certified: list[float] = field(default_factory=list)
    rungs: Counter[str] = field(default_factory=Counter)
    errors: list[tuple[str, str]] = field(default_factory=list)

    def watched(self, rows: Iterable[Row]) -> Iterator[Row]:
        """The rows, counted on their way."""
        for row in rows:
            self.photos += 1
            if row["error"]:
                self.errors.append((row["image"], row["error"]))
            else:
                self.with_finding += bool(row["findings"])
                self.over += bool(row["over"])
                self.contents.add(row["sha256"])
                self.times.append(row["ms"])
                self.rungs.update(row["rungs"])
                if row["certified_grey_levels"] is not None:
                    self.certified.append(row["certified_grey_levels"])
            yield row


def summarise(rows: Iterable[Row], plan: Plan, model: dict[str, Any], warnings: Sequence[str] = ()) -> dict[str, Any]:
    """The document of ``summary.json``.

    Args:
        rows: All of the audit, in any order; they are read once.
        plan: That they were made by.
        model: What the file says about itself.
        warnings: Sentences about the audit as a whole.

    Returns:
        Model, plan, counts, rates of findings with their Wilson intervals, certificates, latency, and a sample of the
        errors; ``slices`` and ``limits`` are empty, ``against`` is None.
    """
    seen = _Seen()
    findings = rates(seen.watched(rows))
    certified = _certified(seen, plan)
    if certified is not None and certified["why_not"] != plan.certified_why_not:
        warnings = [*warnings, f"no map is certified: {certified['why_not']}"]
    return {
        "schema": SCHEMA,
        "model": model,
        "plan": {"method": plan.method, "ladder": plan.ladder, "rungs": list(plan.rungs)},
        "counts": {
            "photos": seen.photos,
            "audited": len(seen.times),
            "errors": len(seen.errors),
            "contents": len(seen.contents),
            "with_finding": seen.with_finding,
        },
        "findings": findings,
        "slices": [],
        "certified": certified,
        "limits": [],
        "against": None,
        "latency": _latency(seen, plan),
        "errors": [{"image": image, "error": error} for image, error in heapq.nsmallest(_NAMED, seen.errors)],
        "warnings": list(warnings),
    }


def _certified(seen: _Seen, plan: Plan) -> dict[str, Any] | None:
    """On how many photos certificates prove something, and how much; None where nobody asked."""
    if not plan.certified_cells:
        return None
    levels, why_not = seen.certified, plan.certified_why_not
    if why_not is None and plan.budget_ms is not None and not seen.rungs["certified"]:
        why_not = f"a budget of {plan.budget_ms:g} ms leaves no room for it"
    return {
        "cells": plan.certified_cells,
        "why_not": why_not,
        "of": len(levels),
        "proved": sum(level > 0 for level in levels),
        "median_grey_levels": float(np.median(levels)) if levels else None,
    }


def _latency(seen: _Seen, plan: Plan) -> dict[str, Any]:
    """Milliseconds per photo; how many photos got each rung, which in the adaptive ladder is not all of them."""
    count = len(seen.times)
    p50, p99 = (round(float(np.quantile(seen.times, q)), 3) if count else None for q in (0.5, 0.99))
    return {
        "clock": plan.clock,
        "budget_ms": plan.budget_ms,
        "p50_ms": p50,
        "p99_ms": p99,
        "over": seen.over,
        "over_rate": seen.over / count if count else None,
        "rungs": {rung: seen.rungs[rung] for rung in plan.rungs},
    }
