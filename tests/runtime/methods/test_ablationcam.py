"""Ablation-CAM on a linear head, whose evidence is known."""

from __future__ import annotations

import numpy as np
import pytest
from cfcam.runtime.errors import MethodError
from cfcam.runtime.methods import get_method, make_settings
from probing_nets import linear, of_tail, some_activations


def test_ablation_of_a_linear_head_is_its_evidence():
    weights = np.array([1.0, -2, 3, 0, 0.5, -1])
    a = some_activations()
    a[4] = 0
    tail = linear(weights)
    found = get_method("ablationcam").run(of_tail(a, tail))
    score = float(tail(a[None])[0, 0])
    assert score > 0
    evidence = weights * a.mean(axis=(1, 2)) / score
    np.testing.assert_allclose(found.map, np.maximum(np.einsum("k,khw->hw", evidence, a), 0), rtol=1e-4, atol=1e-6)


def test_the_map_does_not_turn_round_where_the_logit_is_negative():
    a = some_activations()
    weights = np.arange(6.0) - 1
    maps = [get_method("ablationcam").run(of_tail(a, linear(weights, bias))).map for bias in (5, -50)]
    np.testing.assert_allclose(maps[0] / maps[0].max(), maps[1] / maps[1].max(), atol=1e-3)


def test_dead_channels_cost_nothing():
    a = some_activations()
    a[1:4] = 0
    count = []

    def tail(values):
        count.append(len(values))
        return linear(np.arange(6))(values)

    probing = of_tail(a, tail)
    count.clear()
    get_method("ablationcam").run(probing)
    assert sum(count) == 1 + 3


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("ablationcam", {"batch": 3}, "takes no settings"),
    ],
)
def test_settings_out_of_range(name, settings, words):
    with pytest.raises(MethodError, match=words):
        make_settings(get_method(name), settings)
