"""Stability in the table is what the measures say alone."""

import math

from cfcam.calibration.evaluate import get_measure
from cfcam.calibration.measures import Brightness, InputNoise, Jpeg, MaxSensitivity, Robustness, Shift, Transformed


def test_columns_are_those_of_the_measures(case):
    predict, explain, photo = case.access.predict, case.access.explain, (case.x, case.classes, case.maps)
    changes = [Brightness(1.2, case.access.input), Jpeg(50, case.access.input), Shift(1, 0), Shift(0, 1)]
    expected = {
        **InputNoise(explain, seed=case.seed).update(*photo),
        **MaxSensitivity(explain, seed=case.seed).update(*photo),
        **Transformed(explain, changes).update(*photo),
        **Robustness(predict, explain, seed=case.seed).update(case.x),
    }
    case.same(expected)
    names = ("input_noise", "max_sensitivity", "transformed", "robustness")
    assert set(expected) == {column for name in names for column in get_measure(name).columns}


def test_noise_in_gradients_is_for_rules_alone(case):
    assert 0.5 < case.evaluation.values("gradcam", "gradient_noise")[0] < 1
    assert math.isnan(case.evaluation.values("centre", "gradient_noise")[0])
