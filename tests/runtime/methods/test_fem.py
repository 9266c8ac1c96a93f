"""FEM by hand, and where nothing stands out."""

import numpy as np
from cfcam.runtime.methods import FemSettings, fem


def test_by_hand():
    """Eight cells, one at 8: mean 1, deviation sqrt(7) = 2.65, so it alone stands out at k = 2, a share of 1 / 8."""
    a = np.array([[[8, 0, 0, 0, 0, 0, 0, 0]], [[1, 1, 1, 1, 0, 0, 0, 0]]], np.float32)
    g = np.ones_like(a)
    np.testing.assert_allclose(fem(a, g).map, [[1, 0, 0, 0, 0, 0, 0, 0]])
    # At k = 0.9 the four ones stand out too: mean 0.5, deviation 0.5.
    np.testing.assert_allclose(fem(a, g, FemSettings(k=0.9)).map, [[1.5, 0.5, 0.5, 0.5, 0, 0, 0, 0]])


def test_a_constant_channel_counts_nothing():
    a = np.full((3, 7, 7), 0.1, np.float32)
    found = fem(a, np.ones_like(a), FemSettings(k=0))
    assert found.empty is not None
    assert not found.map.any()


def test_the_class_is_not_seen():
    a, g, other = np.random.default_rng(2).random((3, 20, 5, 5), np.float32)
    np.testing.assert_array_equal(fem(a, g).map, fem(a, other).map)
    assert fem(a, 0 * g).empty == "all gradients are zero"
