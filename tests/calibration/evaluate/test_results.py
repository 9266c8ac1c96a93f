"""Results as JSON, of this version and of older ones."""

import json
from pathlib import Path

import numpy as np
import pytest
from cfcam.calibration.evaluate import (
    Evaluation,
    evaluate,
)
from cfcam.runtime.errors import ArrayError


def test_results_survive_json(explainer, coloured, small, boxes):
    found = evaluate(explainer, coloured[0][:2], small, annotations=boxes)
    again = Evaluation.from_dict(json.loads(json.dumps(found.to_dict(), allow_nan=False)))
    for one, other in zip(again.photos, found.photos, strict=True):
        np.testing.assert_array_equal(one.values, other.values)
    assert (again.rows, again.columns, again.groups) == (found.rows, found.columns, found.groups)
    with pytest.raises(ArrayError, match=r"expected the schema 'cfcam\.evaluate/2', got 'other'"):
        Evaluation.from_dict({"schema": "other"})
    with pytest.raises(ArrayError, match="does not hold what it should"):
        Evaluation.from_dict({"schema": "cfcam.evaluate/1"})


def test_a_document_of_the_first_schema_is_read():
    text = Path(__file__).with_name("evaluate-1.json").read_text()
    assert '"contender"' in text
    evaluation = Evaluation.from_dict(json.loads(text))
    assert evaluation.rows == ("cfcam", "gradcam", "centre")
    assert evaluation.values("gradcam", "complexity").tolist() == [0.25, 0.5]
    assert evaluation.to_dict()["schema"] == "cfcam.evaluate/2"
