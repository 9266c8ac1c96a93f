"""``summary.json``: what all rows of an audit come to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .findings import rates
from .plan import Plan
from .row import Row

__all__ = ["SCHEMA", "summarise"]

SCHEMA = "cfcam.audit/1"

#: How many photos with errors are named.
_NAMED = 20


def summarise(rows: Sequence[Row], plan: Plan, model: dict[str, Any], warnings: Sequence[str] = ()) -> dict[str, Any]:
    """The document of ``summary.json``.

    Args:
        rows: All of the audit, in any order.
        plan: That they were made by.
        model: What the file says about itself.
        warnings: Sentences about the audit as a whole.

    Returns:
        Model, plan, counts, rates of findings with their Wilson intervals, latency, and a sample of the errors;
        ``slices`` and ``limits`` are empty.
    """
    good = [row for row in rows if not row["error"]]
    bad = sorted((row for row in rows if row["error"]), key=lambda row: row["image"])
    return {
        "schema": SCHEMA,
        "model": model,
        "plan": {"method": plan.method, "ladder": plan.ladder, "rungs": list(plan.rungs)},
        "counts": {
            "photos": len(rows),
            "audited": len(good),
            "errors": len(bad),
            "contents": len({row["sha256"] for row in good}),
            "with_finding": sum(bool(row["findings"]) for row in good),
        },
        "findings": rates(rows),
        "slices": [],
        "limits": [],
        "latency": _latency(good, plan),
        "errors": [{"image": row["image"], "error": row["error"]} for row in bad[:_NAMED]],
        "warnings": list(warnings),
    }


def _latency(rows: Sequence[Row], plan: Plan) -> dict[str, Any]:
    """Milliseconds per photo; how many photos got each rung, which in the adaptive ladder is not all of them."""
    times = [row["ms"] for row in rows]
    p50, p99 = (round(float(np.quantile(times, q)), 3) if times else None for q in (0.5, 0.99))
    over = sum(bool(row["over"]) for row in rows)
    return {
        "clock": plan.clock,
        "budget_ms": plan.budget_ms,
        "p50_ms": p50,
        "p99_ms": p99,
        "over": over,
        "over_rate": over / len(rows) if rows else None,
        "rungs": {rung: sum(rung in row["rungs"] for row in rows) for rung in plan.rungs},
    }
