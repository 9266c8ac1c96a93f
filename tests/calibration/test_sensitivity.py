from __future__ import annotations

import math

import numpy as np
import pytest
from cfcam.calibration import class_sensitivity, pearson
from cfcam.runtime.errors import ArrayError


def test_equals_numpy():
    rng = np.random.default_rng(0)
    for _ in range(5):
        a, b = rng.normal(size=(2, 7, 9))
        assert pearson(a, b) == pytest.approx(np.corrcoef(a.ravel(), b.ravel())[0, 1], abs=1e-12)
        assert class_sensitivity(a, b) == pytest.approx(1 - pearson(a, b))


def test_scale_and_offset_do_not_matter():
    a, b = np.random.default_rng(1).random((2, 4, 4))
    assert pearson(a * 1e-300, b) == pytest.approx(pearson(a, b))
    assert pearson(a * 1e300, 3 - 2 * b) == pytest.approx(-pearson(a, b))


def test_ends_of_the_scale():
    a = np.array([[1.0, 0, 0]])
    assert class_sensitivity(a, 5 * a) == pytest.approx(0)
    assert class_sensitivity(a, 1 - a) == pytest.approx(2)
    assert -1 <= pearson(a, 1 - a) <= pearson(a, a) <= 1


@pytest.mark.parametrize("flat", [np.zeros((2, 2)), np.full((2, 2), 0.1)])
def test_a_constant_map_has_no_correlation(flat):
    assert math.isnan(class_sensitivity(flat, np.eye(2)))
    assert math.isnan(class_sensitivity(np.eye(2), flat))


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        (np.ones((2, 2)), np.ones((2, 3)), "one shape"),
        (np.ones((1, 1)), np.ones((1, 1)), "at least 2 cells"),
        (np.array([1, np.nan]), np.array([1, 2]), "NaN"),
        (np.array([1, 2]), np.array([1, np.inf]), "infinite"),
    ],
)
def test_refused(a, b, words):
    with pytest.raises(ArrayError, match=words):
        pearson(a, b)
