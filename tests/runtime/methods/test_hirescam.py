"""HiResCAM against a hand-computed toy and a plain loop."""

from __future__ import annotations

import numpy as np
import pytest
from cfcam.runtime.methods import hirescam

# Two channels on a 1x2 grid, small enough for mental arithmetic.
A = np.array([[[1, 2]], [[3, 1]]], np.float32)
G = np.array([[[2, -1]], [[1, 3]]], np.float32)


def test_hirescam_by_hand():
    # (2*1 + 1*3, -1*2 + 3*1)
    np.testing.assert_allclose(hirescam(A, G).map, [[5.0, 1.0]])


def test_negative_cells_become_zero():
    np.testing.assert_allclose(hirescam(A, np.array([[[-9, 1]], [[0, 0]]], np.float32)).map, [[0.0, 2.0]])


@pytest.mark.parametrize("seed", range(3))
def test_against_a_loop(seed):
    rng = np.random.default_rng(seed)
    a, g = rng.normal(size=(2, 30, 5, 8)).astype(np.float32)
    expected = np.zeros(a.shape[1:])
    for plane, slope in zip(a.astype(np.float64), g.astype(np.float64), strict=True):
        expected += slope * plane
    np.testing.assert_allclose(hirescam(a, g).map, np.maximum(expected, 0), rtol=0, atol=1e-4)
