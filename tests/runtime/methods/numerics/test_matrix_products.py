from __future__ import annotations

import numpy as np
import pytest
from cfcam.runtime.methods.numerics.matrix_products import gram, product


@pytest.mark.parametrize(("count", "inner"), [(1, 1), (5, 49), (300, 49), (73, 49), (90, 3000), (700, 300)])
def test_gram(count, inner):
    rows = np.random.default_rng(0).normal(size=(count, inner)).astype(np.float32)
    found = gram(rows)
    np.testing.assert_allclose(
        found, rows.astype(np.float64) @ rows.T.astype(np.float64), rtol=1e-5, atol=1e-4 * inner**0.5
    )
    np.testing.assert_array_equal(found, found.T)


@pytest.mark.parametrize(("rows", "inner", "columns"), [(1, 1, 1), (28, 476, 49), (244, 49, 28), (1000, 500, 400)])
def test_product(rows, inner, columns):
    rng = np.random.default_rng(0)
    left = rng.normal(size=(rows, inner)).astype(np.float32)
    right = rng.normal(size=(columns, inner)).astype(np.float32).T
    expected = left.astype(np.float64) @ right.astype(np.float64)
    np.testing.assert_allclose(product(left, right), expected, atol=1e-4 * inner**0.5)
