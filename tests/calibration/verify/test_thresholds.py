"""Thresholds, by default and from a configuration."""

import pytest
from cfcam.calibration.verify import Thresholds, VerifyError
from cfcam.runtime.errors import MethodError


def test_thresholds_from_a_configuration():
    assert Thresholds.for_precision("int8").last_score == 0.93
    assert Thresholds.for_precision("float16") == Thresholds() == Thresholds.for_precision("something else")
    found = Thresholds.from_mapping({"middle_score": 0.6, "top1": None}, "int8")
    assert (found.last_score, found.middle_score, found.top1) == (0.93, 0.6, None)
    with pytest.raises(VerifyError, match="there is no 'midle_score'; did you mean 'middle_score'"):
        Thresholds.from_mapping({"midle_score": 1})
    for name, value in (("last_score", 1.1), ("moved_peaks", -0.1), ("class_sensitivity", 0), ("top1", "high")):
        with pytest.raises(MethodError, match=f"thresholds: {name}: expected a number"):
            Thresholds.from_mapping({name: value})
