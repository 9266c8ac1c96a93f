"""The published forms against plain loops, and what is wrong with them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from cfcam.runtime.errors import MethodError
from cfcam.runtime.methods import Grouping, PaperSettings, get_method, make_settings
from cfcam.runtime.methods.cfcam.published import published_groups
from sklearn.cluster import DBSCAN


def grouping(result) -> Grouping:
    assert result.grouping is not None
    return result.grouping


def naive_kernel_filter(gradient):
    height, width = gradient.shape
    mean = gradient.mean()
    kernel = np.zeros((height, width))
    for i in range(height):
        for j in range(width):
            space = ((i - height / 2) ** 2 + (j - width / 2) ** 2) / (2 * 5.0**2)
            kernel[i, j] = math.exp(-space) * math.exp(-((gradient[i, j] - mean) ** 2) / (2 * 0.1**2))
    kernel /= kernel.sum() + 1e-6
    # 'same': H - 1 rows of padding in all, the smaller half above.
    top, left = (height - 1) // 2, (width - 1) // 2
    out = np.zeros((height, width))
    for i in range(height):
        for j in range(width):
            for u in range(height):
                for v in range(width):
                    y, x = i + u - top, j + v - left
                    if 0 <= y < height and 0 <= x < width:
                        out[i, j] += kernel[u, v] * gradient[y, x]
    return out


def naive(activations, gradients, smooth):
    """Stage by stage; returns the map and the labels."""
    a, g = activations.astype(np.float64), gradients.astype(np.float64)
    rows = activations.reshape(len(a), -1)
    norms = np.array([np.linalg.norm(row) for row in rows])
    threshold = np.percentile(norms, 75)
    others = [k for k in range(len(a)) if norms[k] < threshold]
    between = [np.linalg.norm(rows[p] - rows[q]) for p in others for q in others if p != q]
    labels = np.full(len(a), -2)
    labels[others] = DBSCAN(
        eps=max(np.percentile(between, 25), 1e-5), min_samples=max(2, int(0.05 * len(others)))
    ).fit_predict(rows[others])
    weights = {k: g[k].mean() for k in range(len(a)) if labels[k] == -2}
    for cluster in range(labels.max() + 1):
        members = np.flatnonzero(labels == cluster)
        shared = smooth(g[members].mean(axis=0))
        weights.update(dict.fromkeys(members.tolist(), shared.mean()))
    total = sum(math.exp(w) for w in weights.values())
    return np.maximum(sum(math.exp(w) / total * a[k] for k, w in weights.items()), 0), labels


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("grid", [(7, 7), (6, 6), (5, 8)])
@pytest.mark.parametrize("slope", [1, 300])
def test_released_equals_a_loop(layer, seed, grid, slope):
    a, g = layer(seed, grid)
    g = g * slope
    expected, labels = naive(a, g, naive_kernel_filter)
    result = get_method("cfcam-released").run(a, g)
    np.testing.assert_allclose(result.map, expected, rtol=0, atol=1e-5 * expected.max())
    np.testing.assert_array_equal(grouping(result).labels, labels)
    assert grouping(result).counts()["clustered"] > 0


@pytest.mark.parametrize("sigma", [0, 1, 2.5])
def test_paper_equals_a_loop_and_the_filter_changes_nothing(layer, sigma):
    a, g = layer(5)
    g = g * 300
    expected, labels = naive(a, g, lambda gradient: gradient)
    result = get_method("cfcam-paper").run(a, g, PaperSettings(sigma=sigma))
    np.testing.assert_allclose(result.map, expected, rtol=0, atol=1e-5 * expected.max())
    np.testing.assert_array_equal(grouping(result).labels, labels)


def test_released_filter_changes_something(layer):
    a, g = layer(5)
    released, paper = (get_method(name).run(a, g * 300).map for name in ("cfcam-released", "cfcam-paper"))
    assert np.abs(released - paper).max() > 1e-3 * paper.max()


def test_noise_is_left_out(layer):
    a, g = layer(2)
    result = get_method("cfcam-paper").run(a, g)
    noise = grouping(result).labels == Grouping.NOISE
    assert noise.any()
    changed = g.copy()
    changed[noise] *= -7
    np.testing.assert_array_equal(get_method("cfcam-paper").run(a, changed).map, result.map)


@pytest.mark.parametrize("name", ["cfcam-paper", "cfcam-released"])
def test_blind_to_the_class_before_pooling_where_cfcam_is_not(layer, name):
    a, g = layer(9, pooled=True)
    maps = {method: [get_method(method).run(a, slope).map.ravel() for slope in (g, -g)] for method in (name, "cfcam")}
    assert np.corrcoef(maps[name][0], maps[name][1])[0, 1] > 0.999
    assert np.corrcoef(maps["cfcam"][0], maps["cfcam"][1])[0, 1] < 0.5


def test_raw_distances_make_the_dead_channels_a_cluster():
    rng = np.random.default_rng(0)
    a = np.zeros((100, 7, 7), np.float32)
    a[:50] = rng.random((50, 7, 7))
    labels = published_groups(a).labels
    assert set(labels[50:].tolist()) == {0}
    assert 0 not in labels[:50]


def test_the_largest_channel_is_always_kept():
    rng = np.random.default_rng(0)
    for channels in range(1, 12):
        a = rng.random((channels, 3, 3), np.float32)
        assert published_groups(a).labels[np.argmax((a**2).sum(axis=(1, 2)))] == Grouping.DOMINANT


@pytest.mark.parametrize("sigma", [-0.5, float("inf"), "1", True])
def test_settings_are_checked(sigma):
    with pytest.raises(MethodError, match="sigma: expected a number"):
        make_settings(get_method("cfcam-paper"), {"sigma": sigma})
