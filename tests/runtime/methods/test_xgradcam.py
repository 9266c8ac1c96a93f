"""XGrad-CAM against a hand-computed toy and a plain loop."""

from __future__ import annotations

import numpy as np
import pytest
from cfcam.runtime.methods import gradcam, hirescam, xgradcam

# Two channels on a 1x2 grid, small enough for mental arithmetic.
A = np.array([[[1, 2]], [[3, 1]]], np.float32)
G = np.array([[[2, -1]], [[1, 3]]], np.float32)


def test_xgradcam_by_hand():
    # (2*1 - 1*2) / 3 = 0 and (1*3 + 3*1) / 4 = 1.5
    np.testing.assert_allclose(xgradcam(A, G).map, [[4.5, 1.5]], rtol=1e-6)


def test_xgradcam_against_a_loop():
    rng = np.random.default_rng(1)
    a, g = np.abs(rng.normal(size=(20, 4, 5))), rng.normal(size=(20, 4, 5))
    expected = sum(((slope * plane).sum() / plane.sum()) * plane for plane, slope in zip(a, g, strict=True))
    np.testing.assert_allclose(xgradcam(a, g).map, np.maximum(expected, 0), rtol=1e-5, atol=1e-6)


def test_xgradcam_is_gradcam_before_pooling():
    """With a constant gradient the weights are that gradient, and the maps HiResCAM's as well."""
    rng = np.random.default_rng(2)
    a = rng.random((30, 7, 7), np.float32)
    g = np.broadcast_to(rng.normal(size=(30, 1, 1)), a.shape).astype(np.float32)
    for other in (gradcam, hirescam):
        np.testing.assert_allclose(xgradcam(a, g).map, other(a, g).map, rtol=1e-4, atol=1e-5)


def test_xgradcam_keeps_the_evidence_per_channel():
    """The paper's axiom of conservation: the map before the ReLU sums to that of G * A."""
    rng = np.random.default_rng(3)
    a, g = rng.random((10, 4, 4)), np.abs(rng.normal(size=(10, 4, 4)))
    assert xgradcam(a, g).map.sum() == pytest.approx((a * g).sum(), rel=1e-5)


def test_channels_without_activation_have_no_say():
    rng = np.random.default_rng(5)
    a, g = np.abs(rng.normal(size=(2, 8, 3, 3)))
    a[5:] = 0
    np.testing.assert_allclose(xgradcam(a, g).map, xgradcam(a[:5], g[:5]).map, rtol=1e-6)
