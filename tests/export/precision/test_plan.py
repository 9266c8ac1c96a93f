"""What a plan says of itself, and what none can be."""

from __future__ import annotations

from typing import Any

import pytest
from cfcam.export.errors import ExportError
from cfcam.export.precision.plan import Plan


def test_refusals() -> None:
    wrong: dict[str, Any]
    for wrong in ({"precision": "int4"}, {"calibrator": "best"}, {"percentile": 3}, {"rest": "int8"}):
        with pytest.raises(ExportError, match=next(iter(wrong))):
            Plan(**wrong)


@pytest.mark.parametrize("percentile", [50, 100.1, float("nan")])
def test_a_percentile_leaves_more_than_half(percentile: float) -> None:
    with pytest.raises(ExportError, match=f"above 50 and at most 100, got {percentile:g}"):
        Plan(percentile=percentile)
    assert Plan(percentile=100).percentile == 100


@pytest.mark.parametrize(
    ("plan", "quantised", "half"),
    [
        (Plan(), False, False),
        (Plan(precision="float16"), False, True),
        (Plan(precision="int8"), True, False),
        (Plan(precision="int8", rest="float16"), True, True),
        (Plan(rest="float16"), False, False),  # of float32 there is no rest
    ],
    ids=str,
)
def test_what_is_quantised_and_what_is_half(plan: Plan, quantised: bool, half: bool) -> None:
    assert (plan.quantised, plan.half) == (quantised, half)
