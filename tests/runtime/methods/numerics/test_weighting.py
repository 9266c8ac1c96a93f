"""Sums of weighted channels."""

from __future__ import annotations

import numpy as np
import pytest
from cfcam.runtime.methods.numerics.weighting import weighted_channels


@pytest.mark.parametrize(("weights", "wider"), [(np.float32, np.float32), (np.float64, np.float64)])
def test_what_is_negative_becomes_zero_in_the_wider_type(weights, wider):
    channels = np.array([[[1, 2]], [[3, 1]]], np.float32)
    found = weighted_channels(np.array([1, -0.5], weights), channels)
    np.testing.assert_array_equal(found, [[0, 1.5]])
    assert found.dtype == wider
