"""What rows come to."""

import pytest
from cfcam.calibration.audit.plan import Plan
from cfcam.calibration.audit.row import empty_row
from cfcam.calibration.audit.summary import SCHEMA, summarise


def test_counts_latency_and_errors_are_those_of_the_rows():
    plan = Plan("ab", "gradcam", {}, rungs=("label", "map"), budget_ms=12.0)
    good = [
        empty_row(f"{i}.png", "same" if i < 2 else str(i))
        | {"empty": False, "ms": float(i), "over": i > 12, "rungs": ["label"] + ["map"] * (i > 3), "margin": 0.5}
        for i in range(15)
    ]
    good[5] |= {"empty": True, "findings": ["no_map"]}
    bad = [empty_row(f"x{i:02}.png", "") | {"error": "cannot be read"} for i in range(30)]
    document = summarise(bad + good, plan, {"file": "m"}, ["a remark"])
    assert document["schema"] == SCHEMA
    assert document["counts"] == {"photos": 45, "audited": 15, "errors": 30, "contents": 14, "with_finding": 1}
    assert document["findings"]["no_map"]["count"] == 1
    assert document["latency"] == {
        "clock": "cpu",
        "budget_ms": 12.0,
        "p50_ms": 7.0,
        "p99_ms": pytest.approx(13.86),
        "over": 2,
        "over_rate": pytest.approx(2 / 15),
        "rungs": {"label": 15, "map": 11},
    }
    assert len(document["errors"]) == 20
    assert document["errors"][0] == {"image": "x00.png", "error": "cannot be read"}
    assert document["warnings"] == ["a remark"]
