"""Which rungs fit, and plans on disk."""

import json

import pytest
from cfcam.calibration.audit.errors import AuditError
from cfcam.calibration.audit.plan import RUNGS, USUAL, Plan, choose_rungs, read_plan, write_plan

TIMES = {rung: [10.0 * (place + 1), 10.0 * (place + 1) + 2] for place, rung in enumerate(RUNGS)}


def plan(**changes):
    return Plan(model_sha256="ab", method="gradcam", settings={}, **changes)


@pytest.mark.parametrize(("budget", "count"), [(15, 1), (15.1, 1), (27.5, 2), (27.4, 1), (1000, 5), (None, 5)])
def test_rungs_are_kept_while_their_slowest_photo_fits_with_headroom(budget, count):
    chosen = choose_rungs(plan(budget_ms=budget), TIMES)
    assert chosen.rungs == RUNGS[:count]
    assert chosen.rung_ms == {rung: 10.0 * (place + 1) + 2 for place, rung in enumerate(RUNGS)}
    assert chosen.sample == 2


def test_the_adaptive_ladder_keeps_all_rungs_and_knows_what_each_adds():
    chosen = choose_rungs(plan(budget_ms=30, ladder="adaptive"), TIMES)
    assert chosen.rungs == USUAL
    assert chosen.marginal_ms("label") == 15
    assert chosen.marginal_ms("class") == 12.5


def test_a_budget_below_the_cheapest_rung_is_refused_with_the_time_that_it_needs():
    with pytest.raises(AuditError, match=r"takes 15\.0 ms here .* give at least --budget-ms 15") as caught:
        choose_rungs(plan(budget_ms=14.9), TIMES)
    assert "'label'" in str(caught.value)
    assert choose_rungs(plan(budget_ms=15), TIMES).rungs == ("label",)  # the remedy


def test_a_plan_comes_back_from_disk_as_it_was(tmp_path):
    written = choose_rungs(plan(budget_ms=40.0, versions={"numpy": "2"}), TIMES)
    write_plan(tmp_path / "plan.json", written)
    assert read_plan(tmp_path / "plan.json") == written
    data = json.loads((tmp_path / "plan.json").read_text())
    del data["versions"]
    (tmp_path / "plan.json").write_text(json.dumps(data))
    assert read_plan(tmp_path / "plan.json") == plan(
        budget_ms=40.0, rung_ms=written.rung_ms, sample=2, rungs=written.rungs
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": "other"}, "is no plan"),
        ({"rungs": ["map"]}, "rungs"),
        ({"rungs": []}, "rungs"),
        ({"budget_ms": -1}, "budget_ms"),
        ({"budget_ms": "8"}, "budget_ms"),
        ({"clock": "sun"}, "clock"),
        ({"seed": 1.5}, "seed"),
        ({"versions": {"numpy": 2}}, "versions"),
        ({"rung_ms": {"label": "x"}}, "rung_ms"),
        ({"more": 1}, "missing or unknown: more"),
    ],
)
def test_a_plan_that_somebody_edited_is_refused_by_name(tmp_path, changes, message):
    write_plan(tmp_path / "plan.json", plan())
    data = json.loads((tmp_path / "plan.json").read_text()) | changes
    (tmp_path / "plan.json").write_text(json.dumps(data))
    with pytest.raises(AuditError, match=message):
        read_plan(tmp_path / "plan.json")


def test_differences_leave_out_what_planning_finds():
    planned = choose_rungs(plan(budget_ms=27.5), TIMES)
    assert planned.differences(plan(budget_ms=27.5)) == []
    assert planned.differences(plan(budget_ms=28, seed=1)) == ["budget_ms", "seed"]
