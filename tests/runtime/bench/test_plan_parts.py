"""The parts of a latency plan: what is left out, and what each choice adds up."""

from __future__ import annotations

import pytest
from cfcam.runtime.bench.plan import latency_plan
from cfcam.runtime.bench.plan_parts import Parts
from cfcam.runtime.bench.timed_file import TimedFile
from cfcam.runtime.errors import EngineError


@pytest.fixture
def timed(tiny_path, photo):
    with TimedFile(tiny_path("tail"), photo, threads=1) as timed:
        timed.warm_up(1)
        yield timed


def test_batches_that_the_engine_does_not_take_are_left_out(timed, monkeypatch):
    infer = timed.engine.infer

    def limited(inputs, outputs=None):
        if len(inputs["image"]) > 2:
            raise EngineError("at most 2")
        return infer(inputs, outputs)

    monkeypatch.setattr(timed.engine, "infer", limited)
    plan = latency_plan(timed, rounds=1, methods=["gradcam"])
    assert {row.classes for row in plan.rows} == {1, 2}
    assert plan.left_out == {"5 classes": "at most 2"}
    with pytest.raises(EngineError, match="at most 2"):
        latency_plan(timed, rounds=1, methods=["gradcam"], classes=(5,))


@pytest.mark.parametrize("counted", [True, False])
def test_a_choice_is_a_sum_of_calls(timed, counted):
    parts = Parts(timed, counted)
    parts.add_inferences([2])
    parts.add_rules(["gradcam"])
    parts.add_probes(["scorecam"], 1e6, lambda: 0)
    for choice in parts.choices(["gradcam"], ["scorecam"]):
        assert all(part in parts.calls for part, _ in choice.parts)
        assert ((("photo",), 1) in choice.parts) == counted
    for call in parts.calls.values():
        call()
    stages = {"inference", "method", "resize", "probe", *(["photo"] if counted else [])}
    assert {part[0] for part in parts.calls} == stages
