"""Fusion-CAM: what it does without confidence, and its percentile."""

from __future__ import annotations

import numpy as np
import pytest
from cfcam.runtime.errors import MethodError
from cfcam.runtime.methods import FusionCamSettings, get_method, make_settings
from probing_nets import linear, of_tail, some_activations


def test_fusion_without_confidence_takes_both_alike():
    """The class's probability is highest on nothing, so neither map recovers any."""
    a = some_activations()
    found = get_method("fusioncam").run(of_tail(a, lambda values: -linear(np.ones(6))(values)))
    assert found.empty is None
    assert np.isfinite(found.map).all()


def test_the_percentile_is_what_is_cut_off():
    a = some_activations()
    one = of_tail(a, linear(np.arange(6)))
    low, high = (get_method("fusioncam").run(one, FusionCamSettings(percentile=p)).map for p in (0, 90))
    assert np.abs(low - high).max() > 0.05


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("fusioncam", {"percentile": 101}, "settings of 'fusioncam': percentile: expected a number from 0 to 100"),
    ],
)
def test_settings_out_of_range(name, settings, words):
    with pytest.raises(MethodError, match=words):
        make_settings(get_method(name), settings)
