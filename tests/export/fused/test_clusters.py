"""Who is near to whom, and the clusters; labels against scikit-learn are in `test_rule`."""

import numpy as np
from cfcam.export.fused.clusters import SCALE, cluster, near
from cfcam.export.fused.components import hooked_by_masks
from cfcam.runtime.methods.cfcam.grouping import cluster_cosine
from cfcam.runtime.methods.cfcam.method import CfcamSettings

from .building import evaluated

SETTINGS = CfcamSettings(last=True, neighbour=1, min_samples=2)


def test_neighbours_by_hand():
    # The nearest are at 1 - .8, .8, .6 and .6 (of rows at 0, 37, 90 and 143 degrees): their median is .7.
    unit = np.array([[[1, 0], [0.8, 0.6], [0, 1], [-0.8, 0.6]]], np.float32)

    def build(e, values):
        around = near(e, values["unit"], values["alive"], SETTINGS, 2)
        return [around.far / e.constant(np.float32(SCALE)), around.core]

    far, core = evaluated(build, unit=unit, alive=np.ones((1, 4), np.float32))
    np.testing.assert_allclose(far[0, 0], [0.7 - 1, 0.7 - 0.8, 0.7, 0.7 + 0.8], atol=1e-6)
    np.testing.assert_array_equal(core, [[1, 1, 0, 0]])
    # Without the second the nearest are at 0, .6 and .6.
    far, core = evaluated(build, unit=unit, alive=np.array([[1, 0, 1, 1]], np.float32))
    np.testing.assert_allclose(far[0, 2, [0, 2, 3]], [0.6, -0.4, 0.0], atol=1e-6)
    np.testing.assert_array_equal(core, [[0, 0, 1, 1]])


def test_roots_are_the_first_core_channels():
    random = np.random.default_rng(3)
    rows = random.random((2, 60, 9), np.float32) ** 4
    settings = CfcamSettings(last=True, most_clustered=30)

    def build(e, values):
        found = cluster(e, values["rows"], settings, 30, hooked_by_masks)
        return [found.roots, found.live, found.present]

    roots, live, present = evaluated(build, rows=rows)
    assert live.all()
    for i in range(2):
        host = cluster_cosine(rows[i], live_threshold=1e-6, neighbour=3, min_samples=3, most=30).labels
        numbers = np.cumsum(present[i]) - 1
        np.testing.assert_array_equal(numbers[roots[i].astype(int)], host)
