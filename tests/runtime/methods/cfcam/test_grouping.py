from __future__ import annotations

import numpy as np
import pytest
from cfcam.runtime.methods.base import Grouping
from cfcam.runtime.methods.cfcam import grouping
from cfcam.runtime.methods.cfcam.grouping import (
    cluster_cosine,
    cosine_distances,
    dbscan,
    live_channels,
    neighbour_distance,
    shuffle_clusters,
    split_by_sign,
)


@pytest.mark.parametrize("rank", [1, 3, 16, 17, 60])
@pytest.mark.parametrize("count", [2, 3, 20, 50])
def test_neighbour_distance_equals_sorting(rank, count):
    rng = np.random.default_rng(rank * count)
    points = np.round(rng.random((count, 1)).astype(np.float32), 1)  # many ties
    distances = np.abs(points - points.T)
    before = distances.copy()
    expected = [np.sort(np.delete(row, i))[min(rank, count - 1) - 1] for i, row in enumerate(before)]
    np.testing.assert_array_equal(neighbour_distance(distances, rank), expected)
    np.testing.assert_array_equal(distances, before)


def test_cosine_distances():
    unit = np.array([[1, 0], [0, 1], [-1, 0], [0.6, 0.8]], np.float32)
    expected = [[0, 1, 2, 0.4], [1, 0, 1, 0.2], [2, 1, 0, 1.6], [0.4, 0.2, 1.6, 0]]
    distances = cosine_distances(unit)
    np.testing.assert_allclose(distances, expected, atol=1e-6)
    np.testing.assert_array_equal(distances, distances.T)


def test_identical_rows_are_at_distance_zero_or_rounding():
    unit = live_channels(np.repeat(np.random.default_rng(0).random((1, 49), np.float32), 9, axis=0), 0)[1]
    distances = cosine_distances(unit)
    assert distances.min() >= 0
    assert distances.max() < 1e-6


def test_live_channels():
    features = np.array([[3, 4], [0, 0], [1e-9, 0], [0, 1]], np.float32)
    live, unit = live_channels(features, 1e-6)
    assert live.tolist() == [0, 3]
    np.testing.assert_allclose(unit, [[0.6, 0.8], [0, 1]], rtol=1e-6)


def test_dbscan_counts_the_item_itself_and_takes_border_items_in():
    points = np.array([0, 1, 2, 3, 10, 20, 21.0])
    labels = dbscan(np.abs(points[:, None] - points), eps=1, min_samples=3)
    assert labels.tolist() == [0, 0, 0, 0, -1, -1, -1]
    assert dbscan(np.abs(points[:, None] - points), eps=1, min_samples=2).tolist() == [0, 0, 0, 0, -1, 1, 1]


def test_noise_joins_the_nearest_cluster():
    def at(degrees):
        return [np.cos(np.radians(degrees)), np.sin(np.radians(degrees))]

    angles = [0, 1, 2, 3, 4, 86, 87, 88, 89, 90, 20, 60]
    features = np.array([*map(at, angles), [0, 0]], np.float32) * 7
    clusters = cluster_cosine(features, live_threshold=1e-6, neighbour=3, min_samples=3)
    assert clusters.adopted is not None
    assert clusters.labels.tolist() == [0] * 5 + [1] * 5 + [0, 1, Grouping.DEAD]
    assert np.flatnonzero(clusters.adopted).tolist() == [10, 11]
    assert clusters.eps is not None
    assert clusters.eps == pytest.approx(1 - np.cos(np.radians(2.5)), rel=0.3)


@pytest.mark.parametrize("live", [0, 1, 2])
def test_too_few_live_channels_stay_on_their_own(live):
    features = np.zeros((5, 4), np.float32)
    features[:live] = np.eye(4)[:live]
    clusters = cluster_cosine(features, live_threshold=1e-6, neighbour=3, min_samples=3)
    assert clusters.adopted is not None
    assert clusters.labels.tolist() == [Grouping.NOISE] * live + [Grouping.DEAD] * (5 - live)
    assert not clusters.adopted.any()


def test_identical_channels_make_one_cluster_whatever_the_rounding():
    for seed in range(30):
        rng = np.random.default_rng(seed)
        features = np.repeat(rng.random((1, 49), np.float32), 40, axis=0)
        features *= rng.uniform(0.1, 30, (40, 1)).astype(np.float32)
        clusters = cluster_cosine(features, live_threshold=1e-6, neighbour=3, min_samples=3)
        assert clusters.adopted is not None
        assert set(clusters.labels.tolist()) == {0}
        assert not clusters.adopted.any()


def test_split_by_sign_numbers_groups_without_gaps():
    labels = np.array([0, 0, 0, 2, 2, Grouping.DEAD, Grouping.NOISE, Grouping.NOISE])
    evidence = np.array([1.0, -1, 2, 0, -3, 5, 1, 1])
    groups = split_by_sign(labels, evidence)
    assert groups[5] == -1
    assert groups[0] == groups[2] != groups[1]
    assert groups[3] != groups[4]
    assert groups[6] != groups[7]
    assert sorted(set(groups.tolist())) == list(range(-1, 6))


def test_shuffle_leaves_the_dead_and_its_input_alone():
    labels = np.array([0, 0, 0, 1, 1, Grouping.DEAD, 2, 2, 2, 2])
    clusters = Grouping(labels.copy(), np.zeros(10, bool), 0.1)
    shuffled = shuffle_clusters(clusters, 3).labels
    assert shuffled[5] == Grouping.DEAD
    np.testing.assert_array_equal(np.sort(shuffled), np.sort(labels))
    np.testing.assert_array_equal(clusters.labels, labels)
    assert (shuffled != labels).any()


def _cases(count):
    """Distance matrices with and without ties, of points in one to six dimensions, in both precisions."""
    rng = np.random.default_rng(5)
    for index in range(count):
        points = rng.normal(size=(int(rng.integers(1, 90)), int(rng.integers(1, 7)))) * rng.uniform(0.2, 3)
        if index % 3 == 0:  # a raster: many distances are equal, and many equal eps
            points = np.round(points)
        distances = np.sqrt(((points[:, None] - points) ** 2).sum(axis=-1))
        distances = distances.astype(np.float32) if index % 2 else distances
        eps = float(rng.choice(distances.reshape(-1)) if index % 4 else distances.max() * rng.random())
        yield distances, max(eps, 1e-6), int(rng.integers(1, 8))


def test_labels_are_scikit_learns():
    from sklearn.cluster import DBSCAN

    kinds = set()
    for distances, eps, min_samples in _cases(500):
        expected = DBSCAN(eps=eps, min_samples=min_samples, metric="precomputed").fit(distances)
        found = dbscan(distances, eps=eps, min_samples=min_samples)
        assert found.dtype == np.int64
        np.testing.assert_array_equal(found, expected.labels_)
        border = np.count_nonzero(found >= 0) > len(expected.core_sample_indices_)
        kinds.add((min(int(found.max()), 2), bool((found < 0).any()), border))
    # None, one, two and more clusters; with and without noise; with and without border items.
    assert {kind[0] for kind in kinds} == {-1, 0, 1, 2}
    assert {(1, True, True), (1, False, False), (2, True, True)} <= kinds


def test_a_chain_is_one_cluster_after_few_rounds(monkeypatch):
    count, rounds = 2048, []
    order = np.random.default_rng(0).permutation(count)
    near = np.eye(count, dtype=bool)
    near[order[1:], order[:-1]] = near[order[:-1], order[1:]] = True
    hooked = grouping._hooked
    monkeypatch.setattr(grouping, "_hooked", lambda *values: rounds.append(1) or hooked(*values))
    assert not dbscan(np.where(near, 0.0, 1.0), eps=0.5, min_samples=2).any()
    assert len(rounds) <= 2 * np.ceil(np.log2(count)) + 1


def test_only_the_strongest_are_clustered_and_the_others_join():
    rng = np.random.default_rng(0)
    features = rng.random((60, 12), np.float32)
    features[:20] *= 10
    some = cluster_cosine(features[:20], live_threshold=1e-6, neighbour=3, min_samples=3)
    found = cluster_cosine(features, live_threshold=1e-6, neighbour=3, min_samples=3, most=20)
    assert some.adopted is not None
    assert found.adopted is not None
    assert found.eps == some.eps
    np.testing.assert_array_equal(found.labels[:20], some.labels)
    assert found.adopted[20:].all()
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    members = some.labels.copy()
    members[some.adopted] = -1
    centroids = np.array([unit[:20][members == j].mean(axis=0) for j in range(members.max() + 1)])
    centroids /= np.linalg.norm(centroids, axis=1, keepdims=True)
    np.testing.assert_array_equal(found.labels[20:], (unit[20:] @ centroids.T).argmax(axis=1))
