"""Probabilities by the kind of output."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cfcam.runtime.errors import ArrayError
from cfcam.runtime.probabilities import class_probabilities


def test_by_kind() -> None:
    scores = np.array([[1000.0, 999.0, -1000.0]], np.float32)
    softmax = class_probabilities(scores, "logits")
    assert softmax[0] == pytest.approx([1 / (1 + np.exp(-1)), 1 / (1 + np.e), 0])
    already = np.array([[0.2, 0.5, 0.3]], np.float32)
    assert np.array_equal(class_probabilities(already, "softmax"), already)
    assert np.array_equal(class_probabilities(already, "sigmoid"), already)
    binary = class_probabilities(np.array([[0.0], [800.0], [-800.0]], np.float32), "binary")
    assert binary[:, 0] == pytest.approx([0.5, 1, 0])


def test_another_kind_is_refused() -> None:
    kind: Any = "percent"
    with pytest.raises(ArrayError, match="unknown kind of output 'percent'"):
        class_probabilities(np.zeros((1, 2)), kind)


def test_a_regression_has_no_probabilities() -> None:
    with pytest.raises(ArrayError, match="a regression, which has no probabilities"):
        class_probabilities(np.zeros((1, 2), np.float32), "regression")
