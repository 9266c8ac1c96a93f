"""Every rule on inputs that have nothing to say, or say it at the ends of the number range."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from cfcam.runtime.methods import CfcamSettings, get_method, method_names

NAMES = [
    "cfcam", "gradcam", "hirescam", "layercam", "cfcam-paper", "cfcam-released",
    "gradcam++", "xgradcam", "eigencam", "eigengradcam", "segeigencam", "kpcacam", "fem", "refinecam",
]  # fmt: skip
#: Principal components: blind to the sign of the gradients, and nothing where all cells are alike.
EIGEN = {"eigencam", "eigengradcam", "segeigencam", "kpcacam"}


def test_this_file_covers_every_rule():
    assert sorted(NAMES) == sorted(method_names("rule"))


def explain(name, a, g):
    """Run `name` with warnings as errors; check what holds for every result."""
    a.flags.writeable = g.flags.writeable = False
    before = a.copy(), g.copy()
    with warnings.catch_warnings(), np.errstate(invalid="raise", divide="raise", over="raise"):
        warnings.simplefilter("error")
        result = get_method(name).run(a, g)
    np.testing.assert_array_equal(a, before[0])
    np.testing.assert_array_equal(g, before[1])
    assert result.map.dtype == np.float32
    assert result.map.shape == a.shape[1:]
    assert np.isfinite(result.map).all()
    assert result.map.min() >= 0
    assert (result.empty is not None) == (result.map.max() == 0)
    if result.grouping is not None:
        assert result.grouping.labels.shape == (len(a),)
    return result


def random(shape, seed: int = 0, dtype: type = np.float32):
    rng = np.random.default_rng(seed)
    return np.abs(rng.normal(size=shape)).astype(dtype), rng.normal(size=shape).astype(dtype)


@pytest.mark.parametrize("name", NAMES)
class TestEveryRule:
    def test_zero_gradients(self, name):
        a, g = random((20, 7, 7))
        assert explain(name, a, 0 * g).empty == "all gradients are zero"

    def test_zero_activations(self, name):
        a, g = random((20, 7, 7))
        assert explain(name, 0 * a, g).empty == "all activations are zero"

    def test_everything_speaks_against(self, name):
        a, g = random((20, 7, 7))
        result = explain(name, a if "cfcam-" not in name else -a, -np.abs(g))
        expected = None if name in EIGEN | {"fem"} else "the weighted sum of the channels is nowhere positive"
        assert result.empty == expected

    @pytest.mark.parametrize("shape", [(1, 7, 7), (2, 7, 7), (3, 5, 5), (4, 2, 3), (30, 1, 1), (1, 1, 1), (40, 1, 9)])
    def test_small_shapes(self, name, shape):
        a, g = random(shape)
        empty = explain(name, a, np.abs(g)).empty
        if name in EIGEN and shape[1:] == (1, 1):
            assert empty == "the channels are the same in every cell, so there is no principal component"
        elif name == "fem" and shape[1] * shape[2] <= 6:  # of n values none is sqrt(n - 1) away
            assert empty is not None
            assert "no cell lies 2 standard deviations above" in empty
        else:
            assert empty is None

    def test_one_live_channel(self, name):
        a, g = random((20, 7, 7))
        a[1:] = 0
        assert explain(name, a, np.abs(g)).empty is None

    def test_identical_channels(self, name):
        a, g = random((1, 7, 7))
        a, g = np.repeat(a, 30, axis=0), np.repeat(np.abs(g), 30, axis=0)
        assert explain(name, a, g).empty is None

    def test_constant_activations(self, name):
        empty = explain(name, np.ones((30, 7, 7), np.float32), np.ones((30, 7, 7), np.float32)).empty
        assert (empty is None) == (name not in EIGEN | {"fem"})

    @pytest.mark.parametrize("a_scale", [1e-44, 1e-30, 1e30, 1e38])
    @pytest.mark.parametrize("g_scale", [1e-44, 1e-30, 1e30, 1e38])
    def test_ends_of_float32(self, name, a_scale, g_scale):
        a, g = random((25, 6, 7))
        a, g = np.minimum(a, 3) * np.float32(a_scale), np.minimum(np.abs(g), 3) * np.float32(g_scale)
        assert np.isfinite(a).all()
        assert a.any()
        assert explain(name, a, g).empty is None

    def test_one_huge_channel_among_tiny_ones(self, name):
        a, g = random((25, 7, 7))
        a *= np.float32(1e-30)
        a[3] *= np.float32(1e38)
        a[3] *= np.float32(1e29)
        assert explain(name, a, np.abs(g)).empty is None

    def test_beyond_float32(self, name):
        a, g = random((25, 7, 7), dtype=np.float64)
        assert explain(name, a * 1e100, np.abs(g) * 1e-100).empty is None
        assert explain(name, a * 1e-310, np.abs(g) * 1e300).empty is None

    @pytest.mark.parametrize("seed", range(3))
    def test_float16_is_used_at_its_values(self, name, seed):
        a, g = random((40, 7, 7), seed, np.float16)
        a *= np.float16(1000)
        half, single = explain(name, a, g), explain(name, a.astype(np.float32), g.astype(np.float32))
        np.testing.assert_array_equal(half.map, single.map)

    def test_memory_order_does_not_matter(self, name):
        a, g = random((40, 7, 5))
        strided = np.asfortranarray(a), np.ascontiguousarray(g.transpose(1, 2, 0)).transpose(2, 0, 1)
        expected = explain(name, a, g).map
        np.testing.assert_allclose(explain(name, *strided).map, expected, rtol=0, atol=1e-5 * expected.max())


def test_all_noise_leaves_every_channel_on_its_own():
    # One-hot channels far apart: no three of them are near each other.
    a = np.zeros((4, 1, 4), np.float32)
    a[np.arange(4), 0, np.arange(4)] = 1
    g = np.arange(1, 5, dtype=np.float32)[:, None, None] * np.ones_like(a)
    result = get_method("cfcam").run(a, g, CfcamSettings(feature_sigma=0, min_samples=5))
    assert result.grouping is not None
    assert result.grouping.counts() == {
        "dominant": 0, "noise": 4, "dead": 0, "clustered": 0, "clusters": 0, "adopted": 0,
    }  # fmt: skip
    np.testing.assert_allclose(result.map, [[1, 2, 3, 4]], rtol=1e-6)


def test_shape_survives_where_the_scale_cannot():
    a, g = random((10, 4, 4), dtype=np.float64)
    g = np.abs(g)
    usual = get_method("hirescam").run(a, g).map
    huge = get_method("hirescam").run((a * 1e30).astype(np.float32), (g * 1e30).astype(np.float32)).map
    np.testing.assert_allclose(huge / huge.max(), usual / usual.max(), rtol=1e-5)
