"""Recipro-CAM where every class has a sigmoid of its own, and its settings."""

from __future__ import annotations

import numpy as np
import pytest
from cfcam.runtime.errors import MethodError
from cfcam.runtime.methods import get_method, make_settings
from probing_nets import of_tail, some_activations


def test_independent_classes_get_a_sigmoid():
    a = some_activations()

    def tail(values):  # the second class rises as the first does, which a softmax would undo
        score = values.sum(axis=(1, 2, 3))
        return np.stack([score, score], axis=1)

    assert get_method("reciprocam").run(of_tail(a, tail)).empty
    found = get_method("reciprocam").run(of_tail(a, tail, independent=True))
    cells = 1 / (1 + np.exp(-a.sum(axis=0)))
    np.testing.assert_allclose(found.map, cells - cells.min(), atol=1e-6)


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("reciprocam", {"gaussian": "yes"}, "settings of 'reciprocam': gaussian: expected true or false"),
        ("reciprocam", {"score": "softmax"}, "score: expected one of 'probability', 'logit'"),
    ],
)
def test_settings_out_of_range(name, settings, words):
    with pytest.raises(MethodError, match=words):
        make_settings(get_method(name), settings)
