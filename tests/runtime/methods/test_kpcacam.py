"""KPCA-CAM against scikit-learn, and at the ends of what a kernel can tell apart."""

from __future__ import annotations

import numpy as np
import pytest
from cfcam.runtime.cam import cam_results
from cfcam.runtime.contract.spec import LayerSpec
from cfcam.runtime.errors import MethodError
from cfcam.runtime.methods import KpcaCamSettings, get_method, kpcacam
from cfcam.runtime.methods.eigencam import first_component
from cfcam.runtime.methods.layer_fusion import check_layers, fitting
from sklearn.decomposition import KernelPCA


@pytest.mark.parametrize("settings", [{}, {"gamma": 0.3}, {"kernel": "rbf"}, {"kernel": "rbf", "gamma": 0.05}])
@pytest.mark.parametrize("shape", [(80, 5, 6), (12, 9, 7)])
def test_equals_scikit_learn(shape, settings):
    a = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    cells = a.reshape(len(a), -1).T.astype(np.float64)
    options = {"kernel": "sigmoid", **settings}
    expected = KernelPCA(1, eigen_solver="dense", **options).fit_transform(cells - cells.mean(axis=0))[:, 0]
    expected *= np.sign(expected[np.abs(expected).argmax()])
    found = kpcacam(a, np.ones_like(a), KpcaCamSettings(**settings)).map
    np.testing.assert_allclose(found.ravel(), np.maximum(expected, 0), atol=1e-4 * expected.max())


@pytest.mark.parametrize("scale", [1e-6, 1e-18, 1e-30])
def test_small_activations_have_a_linear_kernel(scale):
    """tanh(x + 1) is a line there, so that the map is Eigen-CAM's up to its scale."""
    a = np.random.default_rng(1).random((20, 6, 6)).astype(np.float32)
    found = kpcacam(a * np.float32(scale), np.ones_like(a)).map
    expected = first_component(a.astype(np.float64))
    np.testing.assert_allclose(found / found.max(), expected / expected.max(), atol=1e-4)


def test_a_large_grid_is_refused():
    a = np.ones((2, 64, 65), np.float32)
    with pytest.raises(MethodError, match="at most 4096 cells, and this one has 64x65: take a later layer, or another"):
        cam_results(a, a, "kpcacam")
    coarse, fine = (
        LayerSpec(name=name, value="", channels=2, grid=grid) for name, grid in (("a", (64, 64)), ("b", (64, 65)))
    )
    assert fitting(["kpcacam", "refinecam", "gradcam", "scorecam"], [coarse]) == ["kpcacam", "gradcam", "scorecam"]
    assert fitting(["kpcacam", "refinecam", "gradcam"], [coarse, fine]) == ["refinecam", "gradcam"]
    with pytest.raises(MethodError, match="layer 'b' has 64x65"):
        check_layers(get_method("kpcacam"), [coarse, fine])


def test_the_class_is_not_seen():
    a, g, other = np.random.default_rng(2).random((3, 20, 5, 5), np.float32)
    np.testing.assert_array_equal(kpcacam(a, g).map, kpcacam(a, other).map)
