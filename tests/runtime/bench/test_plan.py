from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
from cfcam.runtime.bench.plan import Taken, latency_plan, total
from cfcam.runtime.bench.timed_file import TimedFile
from cfcam.runtime.methods import method_names
from cfcam.runtime.methods.layer_fusion import fitting


def test_sums_of_parts():
    taken: Taken = {("a",): np.array([1.0, 1, 1, 1]), ("b",): np.array([2.0, 2, 2, 2])}
    assert total(taken, [(("a",), 1), (("b",), 5)]) == (11, 11)
    # One run in ten is slow: that both parts are slow at once is rarer than one in a hundred draws.
    rare: Taken = {("a",): np.array([1.0] * 9 + [11]), ("b",): np.array([1.0] * 9 + [11])}
    p50, p99 = total(rare, [(("a",), 1), (("b",), 1)])
    assert p50 == 2
    assert 12 <= p99 <= 22
    assert total(rare, [(("a",), 1)])[1] == 11


@pytest.fixture
def timed(tiny_path, photo):
    with TimedFile(tiny_path("tail"), photo, threads=1) as timed:
        timed.warm_up(1)
        yield timed


def test_every_choice_is_there_and_adds_up(timed):
    told = []
    plan = latency_plan(timed, rounds=5, budget_ms=1e6, progress=lambda done, total: told.append(done))
    assert plan.runs == 5
    assert told == [1, 2, 3, 4, 5]
    assert json.loads(json.dumps(asdict(plan)))["budget_ms"] == 1e6
    rows = {(row.method, row.classes, row.size): row for row in plan.rows}
    rules = fitting(method_names("rule"), timed.spec.layers)
    assert set(method_names("rule")) - set(rules) == {"refinecam"}, "which takes several layers"
    assert {key for key in rows if key[0] in rules} == {
        (rule, classes, size) for rule in rules for classes in (1, 2, 5) for size in ((8, 12), (32, 48))
    }
    # Probes are timed on this file, whose tail lies beside it, because everything is quick here.
    assert {row.method for row in plan.rows} - set(rules) == set(method_names("probe"))
    for row in plan.rows:
        assert row.p50 == pytest.approx(sum(row.parts.values()))
        assert row.p99 >= row.p50
        assert row.fits
        assert row.to_input == (row.size == (32, 48))
        once = rows[row.method, 1, row.size]
        for part in set(row.parts) - {"photo", "inference"}:
            assert row.parts[part] == pytest.approx(row.classes * once.parts[part])
        assert row.parts["photo"] == once.parts["photo"]
    assert {(check.method, check.classes) for check in plan.checks} == {
        (method, classes) for method in ("cfcam", "gradcam") for classes in (1, 5)
    }
    assert all(check.measured_p50 > 0 for check in plan.checks)


def test_what_does_not_fit_is_marked_and_slow_probes_are_given_up(timed):
    plan = latency_plan(timed, rounds=1, seconds=0.01, budget_ms=1e-6, photo=False, classes=(1,))
    assert not any(row.fits for row in plan.rows)
    assert not any("photo" in row.parts for row in plan.rows)
    assert set(plan.left_out) == set(method_names("probe"))
    assert all("given up after" in why for why in plan.left_out.values())


def test_without_a_budget_nothing_is_marked(timed):
    plan = latency_plan(timed, rounds=1, methods=["gradcam"], classes=(2,))
    assert {row.fits for row in plan.rows} == {None}
    assert {row.method for row in plan.rows} == {"gradcam"}
