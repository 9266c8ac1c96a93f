"""LayerCAM against a hand-computed toy and a plain loop."""

from __future__ import annotations

import numpy as np
import pytest
from cfcam.runtime.methods import layercam

# Two channels on a 1x2 grid, small enough for mental arithmetic.
A = np.array([[[1, 2]], [[3, 1]]], np.float32)
G = np.array([[[2, -1]], [[1, 3]]], np.float32)


def test_layercam_by_hand():
    # negative gradients dropped before the sum: (2*1 + 1*3, 0*2 + 3*1)
    np.testing.assert_allclose(layercam(A, G).map, [[5.0, 3.0]])


@pytest.mark.parametrize("seed", range(3))
def test_against_a_loop(seed):
    rng = np.random.default_rng(seed)
    a, g = rng.normal(size=(2, 30, 5, 8)).astype(np.float32)
    expected = np.zeros(a.shape[1:])
    for plane, slope in zip(a.astype(np.float64), g.astype(np.float64), strict=True):
        expected += np.maximum(slope, 0) * plane
    np.testing.assert_allclose(layercam(a, g).map, np.maximum(expected, 0), rtol=0, atol=1e-4)
