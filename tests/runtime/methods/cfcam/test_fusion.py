from __future__ import annotations

import numpy as np
import pytest
from cfcam.runtime.methods.cfcam.fusion import group_maps, group_weights


@pytest.mark.parametrize("shrinkage", [0, 0.3, 1])
@pytest.mark.parametrize("exponent", [-0.5, 0, 0.25])
def test_equals_a_loop(shrinkage, exponent):
    rng = np.random.default_rng(0)
    a, g = rng.normal(size=(2, 20, 3, 4)).astype(np.float32)
    groups = rng.integers(-1, 4, 20)
    expected = np.zeros((4, 3, 4))
    for j in range(4):
        members = np.flatnonzero(groups == j)
        for k in members:
            mixed = shrinkage * g[members].mean(axis=0) + (1 - shrinkage) * g[k]
            expected[j] += len(members) ** exponent * a[k] * mixed
    shares = group_maps(a, g, groups, shrinkage=shrinkage, size_exponent=exponent)
    assert shares.dtype == np.float32
    np.testing.assert_allclose(shares, expected, rtol=0, atol=1e-5)


def test_nothing_kept():
    a = np.ones((3, 2, 2), np.float32)
    assert group_maps(a, a, np.full(3, -1), shrinkage=0.5, size_exponent=0).shape == (0, 2, 2)


@pytest.mark.parametrize(("shrinkage", "exponent"), [(0.5, 0.0), (1.0, 0.25), (0.0, -0.5)])
def test_weights_are_the_shares_of_gradients_without_a_shape(shrinkage, exponent):
    rng = np.random.default_rng(0)
    a, w = rng.random((9, 3, 4), np.float32), rng.normal(size=9).astype(np.float32)
    groups = np.array([0, 1, -1, 1, 2, 0, 1, -1, 2])
    flat = np.broadcast_to(w[:, None, None], a.shape).astype(np.float32)
    how = {"shrinkage": shrinkage, "size_exponent": exponent}
    found = group_weights(w, groups, **how)
    assert not found[groups < 0].any()
    expected = group_maps(a, flat, groups, **how).sum(axis=0)
    np.testing.assert_allclose(np.einsum("k,khw->hw", found, a), expected, rtol=1e-4)
    assert not group_weights(w, np.full(9, -1), **how).any()
