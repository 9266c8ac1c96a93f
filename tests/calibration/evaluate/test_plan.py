"""What is measured, and what is refused before anything is."""

import pytest
from cfcam.calibration.evaluate import (
    make_plan,
)
from cfcam.runtime.errors import ArrayError, CfcamError, MethodError


def test_plans(explainer):
    plan = make_plan(explainer)
    assert plan.methods[:2] == ("cfcam", "gradcam")
    assert len(plan.methods) == 6
    assert "localisation" not in plan.measures
    assert "localisation" in make_plan(explainer, annotated=True).measures
    assert len(make_plan(explainer, methods=["all"], measures=["all"], baselines=["all"]).methods) > 6
    for wrong, kind, words in (
        ({"methods": ["grad"]}, MethodError, "did you mean 'gradcam'"),
        ({"methods": []}, MethodError, "at least one method"),
        ({"measures": ["no"]}, CfcamError, "unknown measure 'no': expected some of adcc, "),
        ({"measures": ["localisation"]}, MethodError, "needs boxes or masks"),
        ({"baselines": ["no"]}, MethodError, "unknown baseline 'no'"),
        ({"target": "annotated"}, MethodError, "needs a file of boxes"),
        ({"steps": 0}, ArrayError, "steps: expected at least 1"),
    ):
        with pytest.raises(kind, match=words):
            make_plan(explainer, **wrong)  # pyright: ignore[reportArgumentType]
