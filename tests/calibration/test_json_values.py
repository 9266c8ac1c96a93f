"""Results as values that JSON takes."""

import json
import math

from cfcam.calibration.json_values import plain


def test_numbers_that_are_not_finite_become_none_wherever_they_are():
    values = plain({1: (1.5, math.nan, [math.inf]), "same": {"a": "nan", "b": True, "c": None}})
    assert values == {"1": [1.5, None, [None]], "same": {"a": "nan", "b": True, "c": None}}
    assert json.loads(json.dumps(values, allow_nan=False)) == values
