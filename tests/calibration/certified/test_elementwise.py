"""Bounds of products and squares."""

from __future__ import annotations

import numpy as np
from cfcam.calibration.certified import IntervalNetwork
from onnx_classifiers import Builder


def test_products_and_squares():
    b = Builder()
    b("Mul", "image", "image", out="square")
    b("Mul", "image", b("Relu", "image", out="other"), out="product")
    model = b.model({"square": ["N", 3], "product": ["N", 3]}, ["N", 3])
    found = IntervalNetwork(model, "image", ["square", "product"])([[-2.0, 1, -3]], [[1.0, 2, -1]])
    np.testing.assert_allclose(found["square"].low, [[0, 1, 1]], atol=1e-5)
    np.testing.assert_allclose(found["square"].high, [[4, 4, 9]], atol=1e-5)
    np.testing.assert_allclose(found["product"].low, [[-2, 1, 0]], atol=1e-5)
    np.testing.assert_allclose(found["product"].high, [[1, 4, 0]], atol=1e-5)
