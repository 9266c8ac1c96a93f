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


def test_certificates_for_which_the_budget_has_no_room_are_said_so():
    plan = Plan("ab", "gradcam", {}, rungs=("label", "map"), budget_ms=12.5, certified_cells=3)
    row = empty_row("0.png", "0") | {"empty": False, "ms": 1.0, "rungs": ["label", "map"], "margin": 0.5}
    document = summarise([row], plan, {})
    assert document["certified"]["why_not"] == "a budget of 12.5 ms leaves no room for it"
    assert document["warnings"] == ["no map is certified: a budget of 12.5 ms leaves no room for it"]
    certified = row | {"rungs": ["certified"], "certified_grey_levels": 0.5}
    document = summarise([certified], plan, {})
    assert (document["certified"]["why_not"], document["warnings"]) == (None, [])
