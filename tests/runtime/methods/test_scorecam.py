"""Score-CAM: which channels are asked about, and what those without shape do."""

from __future__ import annotations

import numpy as np
import pytest
from cfcam.runtime.errors import MethodError
from cfcam.runtime.methods import get_method, make_settings
from probing_nets import linear, of_tail, some_activations


def test_dead_channels_cost_nothing():
    a = some_activations()
    a[1:4] = 0
    count = []

    def tail(values):
        count.append(len(values))
        return linear(np.arange(6))(values)

    probing = of_tail(a, tail)
    count.clear()
    get_method("scorecam").run(probing)
    assert sum(count) == 3 + 1


def test_channels_without_shape_take_part_in_the_softmax_only():
    """As in the packages, where such a channel masks the whole image and weighs what is then left."""
    a = some_activations()
    a[2] = 1.5
    tail = linear(np.arange(6) * 10)
    found = get_method("scorecam").run(of_tail(a, tail))
    masks = a - a.min(axis=(1, 2), keepdims=True)
    masks /= np.maximum(masks.max(axis=(1, 2), keepdims=True), 1e-9)
    scores = tail(a[None] * masks[:, None])[:, 0]
    weights = np.exp(scores - scores.max())
    expected = np.einsum("k,khw->hw", weights / weights.sum(), a)
    np.testing.assert_allclose(found.map, expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("scorecam", {"weights": "mean"}, "settings of 'scorecam': weights: expected one of 'softmax', 'probability'"),
        ("scorecam", {"align_corners": 1}, "align_corners: expected true or false"),
        ("scorecam", {"align_corner": True}, "did you mean 'align_corners'"),
    ],
)
def test_settings_out_of_range(name, settings, words):
    with pytest.raises(MethodError, match=words):
        make_settings(get_method(name), settings)
