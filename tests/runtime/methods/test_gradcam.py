"""Grad-CAM against a hand-computed toy and a plain loop."""

from __future__ import annotations

import numpy as np
import pytest
from cfcam.runtime.methods import gradcam, hirescam

# Two channels on a 1x2 grid, small enough for mental arithmetic.
A = np.array([[[1, 2]], [[3, 1]]], np.float32)
G = np.array([[[2, -1]], [[1, 3]]], np.float32)


def test_gradcam_by_hand():
    # mean gradients 0.5 and 2: (0.5*1 + 2*3, 0.5*2 + 2*1)
    np.testing.assert_allclose(gradcam(A, G).map, [[6.5, 3.0]])


def test_negative_cells_become_zero():
    np.testing.assert_allclose(gradcam(A, -G).map, [[0.0, 0.0]])


@pytest.mark.parametrize("seed", range(3))
def test_against_a_loop(seed):
    rng = np.random.default_rng(seed)
    a, g = rng.normal(size=(2, 30, 5, 8)).astype(np.float32)
    expected = np.zeros(a.shape[1:])
    for plane, slope in zip(a.astype(np.float64), g.astype(np.float64), strict=True):
        expected += slope.mean() * plane
    np.testing.assert_allclose(gradcam(a, g).map, np.maximum(expected, 0), rtol=0, atol=1e-4)


def test_gradcam_equals_hirescam_before_pooling():
    rng = np.random.default_rng(0)
    a = rng.random((30, 7, 7), np.float32)
    g = np.broadcast_to(rng.normal(size=(30, 1, 1)), a.shape).astype(np.float32)
    np.testing.assert_allclose(gradcam(a, g).map, hirescam(a, g).map, rtol=1e-4, atol=1e-5)
