"""What is measured, and what is refused before anything is."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
from cfcam.calibration.evaluate import (
    make_plan,
)
from cfcam.runtime.contract.fused_spec import FusedSpec
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


def test_fused_files_are_refused_with_one_piece_of_advice(explainer):
    spec = replace(explainer.spec, fused=FusedSpec(size=(explainer.spec.input.height, explainer.spec.input.width)))
    fused = cast(Any, SimpleNamespace(spec=spec, path="x.onnx"))
    for methods in (None, ["cfcam"], ["gradcam"]):
        with pytest.raises(MethodError, match=r"x\.onnx: is fused: .* export the model without --fused for this"):
            make_plan(fused, methods=methods)
