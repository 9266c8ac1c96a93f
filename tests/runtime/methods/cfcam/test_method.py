"""`cfcam` against its formulas, and the properties that a map must have."""

from __future__ import annotations

import numpy as np
import pytest
from cfcam.runtime.errors import MethodError
from cfcam.runtime.methods import CfcamSettings, Grouping, get_method, is_pooled, make_settings
from scipy.ndimage import gaussian_filter
from sklearn.cluster import DBSCAN

run = get_method("cfcam").run


def grouping(result) -> Grouping:
    assert result.grouping is not None
    return result.grouping


def naive(activations, gradients, last, sigma=None, clustering="dbscan"):
    """The formulas one after the other, in float64; returns map, labels, adopted."""
    a, g = activations.astype(np.float64), gradients.astype(np.float64)

    def blur(stack, width):
        return np.array([gaussian_filter(plane, width, mode="reflect") if width else plane for plane in stack])

    filtered = blur(g, 1 if sigma is None else sigma)
    if last and sigma is None:
        filtered = g.mean(axis=(1, 2), keepdims=True) + 0 * g
    features = blur(a, 1.5).reshape(len(a), -1)
    norms = np.linalg.norm(features, axis=1)
    live = [k for k in range(len(a)) if norms[k] > 1e-6 * norms.max()]
    unit = features[live] / norms[live, None]
    distances = np.array([[max(0.0, 1 - p @ q) for q in unit] for p in unit])
    np.fill_diagonal(distances, 0)
    eps = np.median([np.sort(np.delete(row, i))[2] for i, row in enumerate(distances)])
    found = DBSCAN(eps=eps, min_samples=3, metric="precomputed").fit_predict(distances)
    centroids = [unit[found == j].mean(axis=0) for j in range(found.max() + 1)]
    adopted = found == -1
    if centroids:
        for i in np.flatnonzero(adopted):
            found[i] = np.argmax([unit[i] @ c / np.linalg.norm(c) for c in centroids])
    if clustering == "none":
        found[:] = 0
    groups = {}
    for place, k in enumerate(live):
        cluster = found[place] if found[place] >= 0 else -1 - place
        sign = 0 if last else np.sign((a[k] * filtered[k]).sum())
        groups.setdefault((cluster, sign), []).append(k)
    total = np.zeros(a.shape[1:])
    for members in groups.values():
        mean = filtered[members].mean(axis=0)
        share = sum(a[k] * (mean + filtered[k]) / 2 for k in members)
        total += share if last else np.maximum(share, 0)
    labels = np.full(len(a), Grouping.DEAD)
    labels[live] = found
    total = np.maximum(total, 0)
    return total if last else blur(total[None], 0.5)[0], labels, adopted.sum()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("pooled", [True, False])
@pytest.mark.parametrize(("grid", "signed"), [((7, 7), False), ((5, 9), False), ((14, 14), True)])
def test_equals_the_formulas(layer, seed, pooled, grid, signed):
    a, g = layer(seed, grid, pooled, signed)
    expected, labels, adopted = naive(a, g, last=pooled)
    result = run(a, g, CfcamSettings())
    assert result.empty is None
    assert result.map.dtype == np.float32
    np.testing.assert_allclose(result.map, expected, rtol=0, atol=1e-5 * expected.max())
    np.testing.assert_array_equal(grouping(result).labels, labels)
    counts = grouping(result).counts()
    assert counts["adopted"] == adopted > 0
    assert counts["clusters"] >= 3
    assert counts["dead"] == 10
    assert counts["noise"] == counts["dominant"] == 0


@pytest.mark.parametrize("last", [True, False])
def test_what_was_told_about_the_layer_decides_filter_and_fusion(layer, last):
    a, g = layer(12)
    expected, _, _ = naive(a, g, last)
    np.testing.assert_allclose(run(a, g, CfcamSettings(last=last)).map, expected, rtol=0, atol=1e-5 * expected.max())


@pytest.mark.parametrize("change", [{"sigma": 0}, {"sigma": 2.5}, {"clustering": "none"}])
@pytest.mark.parametrize("pooled", [True, False])
def test_controls_equal_the_formulas(layer, change, pooled):
    a, g = layer(11, pooled=pooled)
    expected, _, _ = naive(a, g, pooled, **change)
    np.testing.assert_allclose(run(a, g, CfcamSettings(**change)).map, expected, rtol=0, atol=1e-5 * expected.max())


def correlation(p, q):
    return np.corrcoef(p.ravel(), q.ravel())[0, 1]


@pytest.mark.parametrize(
    "change",
    [
        {"clustering": "none"},
        {"clustering": "random"},
        {"sigma": 0},
        {"shrinkage": 0},
        {"sign_split": False},
        {"map_sigma": 0},
    ],
)
def test_every_part_moves_the_map(layer, change):
    a, g = layer(3, (14, 14))
    assert correlation(run(a, g).map, run(a, g, CfcamSettings(**change)).map) < 0.9995


def test_clusters_move_the_map_in_the_last_layer(layer):
    a, g = layer(3, pooled=True)
    assert correlation(run(a, g).map, run(a, g, CfcamSettings(clustering="none")).map) < 0.9995


def test_without_its_parts_it_is_hirescam(layer):
    a, g = layer(5, pooled=True)
    bare = CfcamSettings(sigma=0, shrinkage=0)
    np.testing.assert_allclose(run(a, g, bare).map, get_method("hirescam").run(a, g).map, rtol=1e-4, atol=1e-7)


def test_random_groups_keep_the_sizes_and_follow_the_seed(layer):
    a, g = layer(4)
    found = grouping(run(a, g)).labels
    first, again, other = (
        grouping(run(a, g, CfcamSettings(clustering="random", seed=seed))).labels for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    for drawn in (first, other):
        np.testing.assert_array_equal(np.sort(drawn), np.sort(found))
        np.testing.assert_array_equal(drawn == Grouping.DEAD, found == Grouping.DEAD)
        assert (drawn != found).any()


def test_one_cluster_without_clustering(layer):
    a, g = layer(4)
    assert set(grouping(run(a, g, CfcamSettings(clustering="none"))).labels.tolist()) == {0, Grouping.DEAD}


def test_channel_order_dead_channels_and_mirrors_do_not_matter(layer):
    a, g = layer(6, (7, 9))
    expected = run(a, g).map
    near = {"rtol": 0, "atol": 1e-5 * expected.max()}
    order = np.random.default_rng(0).permutation(len(a))
    np.testing.assert_allclose(run(a[order], g[order]).map, expected, **near)
    more_a, more_g = np.concatenate([a, 0 * a[:5]]), np.concatenate([g, g[:5]])
    np.testing.assert_allclose(run(more_a, more_g).map, expected, **near)
    np.testing.assert_allclose(run(a[:, :, ::-1], g[:, :, ::-1]).map[:, ::-1], expected, **near)


def test_scale_passes_through(layer):
    a, g = layer(7)
    expected = run(a, g).map
    np.testing.assert_array_equal(run(a * 2.0**30, g).map, np.ldexp(expected, 30))
    np.testing.assert_array_equal(run(a, g * np.float32(2.0**-70)).map, np.ldexp(expected, -70))


def test_last_is_decided_from_the_data_and_can_be_told(layer):
    a, g = layer(8, pooled=True)
    assert is_pooled(g)
    assert is_pooled(np.broadcast_to(g.mean(axis=(1, 2), keepdims=True), g.shape).astype(np.float16))
    ripple = np.abs(g).max() * np.random.default_rng(0).uniform(-1, 1, g.shape).astype(np.float32)
    assert is_pooled(g + 1e-4 * ripple)
    assert not is_pooled(g + 1e-2 * ripple)
    np.testing.assert_array_equal(run(a, g).map, run(a, g, CfcamSettings(last=True)).map)
    assert correlation(run(a, g).map, run(a, g, CfcamSettings(last=False)).map) < 0.9995
    a, g = layer(8)
    assert not is_pooled(g)
    np.testing.assert_array_equal(run(a, g).map, run(a, g, CfcamSettings(last=False)).map)
    assert correlation(run(a, g).map, run(a, g, CfcamSettings(last=True)).map) < 0.9995


def test_two_classes_of_one_image_have_the_same_groups_and_different_maps(layer):
    a, g = layer(9, pooled=True)
    _, other = layer(10, pooled=True)
    other = np.resize(other[:, :1, :1], (len(a), 1, 1)) * np.ones_like(a)
    one, two = run(a, g), run(a, other)
    np.testing.assert_array_equal(grouping(one).labels, grouping(two).labels)
    assert correlation(one.map, two.map) < 0.95


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"sigma": -1}, "sigma"),
        ({"sigma": float("nan")}, "sigma"),
        ({"sigma": "2"}, "sigma"),
        ({"feature_sigma": 101}, "feature_sigma"),
        ({"live_threshold": 1}, "live_threshold"),
        ({"neighbour": 0}, "neighbour"),
        ({"min_samples": 2.5}, "min_samples"),
        ({"shrinkage": 1.1}, "shrinkage"),
        ({"size_exponent": True}, "size_exponent"),
        ({"sign_split": 1}, "sign_split"),
        ({"map_sigma": -1}, "map_sigma"),
        ({"last": "yes"}, "last"),
        ({"clustering": "kmeans"}, "'dbscan', 'random', 'none'"),
        ({"seed": -1}, "seed"),
        ({"sigmma": 1}, "did you mean 'sigma'"),
    ],
)
def test_settings_are_checked(values, words):
    with pytest.raises(MethodError, match=words) as caught:
        make_settings(get_method("cfcam"), values)
    assert "\n" not in str(caught.value)


def test_settings_from_json_types():
    settings = make_settings(get_method("cfcam"), {"sigma": 1, "last": None, "shrinkage": 1, "clustering": "none"})
    assert settings == CfcamSettings(sigma=1, shrinkage=1, clustering="none")
