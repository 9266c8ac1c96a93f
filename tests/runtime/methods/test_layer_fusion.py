"""The maps of several layers as one, by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from cfcam.runtime.cam import normalise
from cfcam.runtime.contract.spec import DetailSpec, LayerSpec
from cfcam.runtime.errors import MethodError
from cfcam.runtime.inference import LayerTensors
from cfcam.runtime.methods import CamResult, CfcamSettings, Grouping, make_settings
from cfcam.runtime.methods.base import Form
from cfcam.runtime.methods.layer_fusion import FUSIONS, check_fusion, fuse_layers, run_on_layers, run_rule, settings_for
from cfcam.runtime.methods.registry import get_method

LAST = LayerSpec(name="last", value="v", channels=4, grid=(2, 2), pooled=True)
MIDDLE = LayerSpec(name="middle", value="w", channels=4, grid=(2, 2))


def result(*rows: list[float], empty: str | None = None) -> CamResult:
    return CamResult(np.array(rows, np.float32), None, empty)


ONE, TWO = result([4, 2], [1, 0]), result([0, 25], [100, 100])


@pytest.mark.parametrize(
    ("fusion", "expected"),
    [
        # Divided by the maximum: [1, .5, .25, 0] and [0, .25, 1, 1].
        ("product", [[0, 0.25], [0.25, 0]]),
        ("gate", [[0.3, 0.2375], [0.25, 0]]),
        ("mean", [[0.5, 0.375], [0.625, 0.5]]),
        ("max", [[1, 0.5], [1, 1]]),
    ],
)
def test_by_hand(fusion, expected):
    found = fuse_layers([ONE, TWO], fusion, ["last", "middle"])
    np.testing.assert_allclose(found.map, expected, atol=1e-6)
    assert found.map.dtype == np.float32
    assert found.empty is None


def test_a_product_of_three_gives_the_first_as_much_weight_as_of_two():
    third = result([1, 16], [16, 0])
    found = fuse_layers([ONE, TWO, third], "product", ["a", "b", "c"])
    m1, m2, m3 = (one.map / one.map.max() for one in (ONE, TWO, third))
    np.testing.assert_allclose(found.map, m1 * np.sqrt(np.sqrt(m2 * m3)), atol=1e-6)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_on_the_finest_grid_as_the_runtime_resizes(fusion):
    random = np.random.default_rng(0)
    coarse, fine = (CamResult(random.random(shape).astype(np.float32)) for shape in ((3, 4), (7, 9)))
    found = fuse_layers([coarse, fine], fusion, ["last", "middle"])
    up, here = normalise(coarse.map, (7, 9)), normalise(fine.map)
    expected = {
        "product": up * np.sqrt(here),
        "gate": up * (0.3 + 0.7 * here),
        "mean": (up + here) / 2,
        "max": np.maximum(up, here),
        "guided": up * (0.3 + 0.7 * here),
    }[fusion]
    np.testing.assert_allclose(found.map, expected, atol=1e-6)
    # Neither layer is finer in both directions: each gives its finer side.
    tall = CamResult(random.random((9, 2)).astype(np.float32))
    assert fuse_layers([coarse, tall], fusion, ["a", "b"]).map.shape == (9, 4)


@pytest.mark.parametrize("scale", [1e-38, 1.0, 1e38])
def test_the_scale_of_a_map_does_not_matter(scale):
    scaled = CamResult((ONE.map / 4 * np.float32(scale)).astype(np.float32))
    for fusion in FUSIONS:
        np.testing.assert_allclose(
            fuse_layers([scaled, TWO], fusion, ["a", "b"]).map,
            fuse_layers([ONE, TWO], fusion, ["a", "b"]).map,
            atol=1e-6,
        )


def test_empty_maps():
    nothing = result([0, 0], [0, 0], empty="all gradients are zero")
    assert fuse_layers([ONE, nothing], "product", ["a", "b"]).empty == "layer 'b': all gradients are zero"
    for fusion in ("mean", "max"):
        found = fuse_layers([nothing, TWO], fusion, ["a", "b"])
        assert found.empty is None
        np.testing.assert_allclose(normalise(found.map), TWO.map / 100)
        assert fuse_layers([nothing, nothing], fusion, ["a", "b"]).empty == "layer 'a': all gradients are zero"
    apart = result([0, 0], [0, 7])
    found = fuse_layers([ONE, apart], "product", ["a", "b"])
    assert found.empty == "the maps of the layers are nowhere positive together"
    assert not found.map.any()


def test_the_grouping_is_the_first_layers():
    grouping = Grouping(np.array([0, 0, -3]))
    one = CamResult(ONE.map, grouping)
    assert fuse_layers([one, TWO], "mean", ["a", "b"]).grouping is grouping


def test_what_is_refused():
    with pytest.raises(MethodError, match="unknown fusion 'sum': expected one of gate, product, mean, max, guided"):
        check_fusion("sum", [LAST, MIDDLE])
    with pytest.raises(MethodError, match="there is one layer only, 'last'"):
        check_fusion("mean", [LAST])
    check_fusion("mean", [LAST, MIDDLE])


def test_a_rule_is_handed_what_the_spec_says_of_each_layer():
    """Not what gradients look like: these are constant over the grid in both layers."""
    rng = np.random.default_rng(0)
    a = rng.random((2, 4, 2, 2), np.float32)
    g = np.broadcast_to(rng.normal(size=(2, 4, 1, 1)), a.shape).astype(np.float32)
    cfcam = get_method("cfcam")
    last, middle = run_on_layers(cfcam, CfcamSettings(), [LAST, MIDDLE], [LayerTensors(a, g)] * 2, 1, "mean")
    for found, pooled in ((last, True), (middle, False)):
        np.testing.assert_array_equal(found.map, cfcam.run(a[1], g[1], CfcamSettings(last=pooled)).map)
    assert np.abs(last.map - middle.map).max() > 0
    fused = run_rule(cfcam, CfcamSettings(), [LAST, MIDDLE], [LayerTensors(a, g)] * 2, 1, "mean")
    np.testing.assert_array_equal(fused.map, fuse_layers([last, middle], "mean", ["last", "middle"]).map)


def test_each_layer_knows_whether_it_is_the_last():
    settings = make_settings(get_method("cfcam"), None)
    assert settings_for(settings, LAST).last is True
    assert settings_for(settings, MIDDLE).last is False
    assert settings_for(CfcamSettings(last=True), MIDDLE).last is True
    assert settings_for(None, MIDDLE) is None


def test_details_guide_a_single_layer_and_the_first_of_several_where_the_fusion_says_so():
    rng = np.random.default_rng(0)
    a, detail = rng.random((2, 4, 2, 2), np.float32), rng.random((2, 5, 4, 4), np.float32)
    g = rng.normal(size=a.shape).astype(np.float32)
    rivals = (rng.normal(size=(2, 4, 1, 1)) / 10).astype(np.float32)
    cfcam, gradcam = get_method("cfcam"), get_method("gradcam")
    full, plain = LayerTensors(a, g, detail, rivals), LayerTensors(a, g)
    settings = CfcamSettings(last=True)
    expected = cfcam.run(a[1], g[1], settings, detail=detail[1], rivals=rivals[1])
    assert expected.form == Form(guided=True, contrast=0.3)
    alone = run_rule(cfcam, CfcamSettings(), [LAST], [full], 1, "gate")
    np.testing.assert_array_equal(alone.map, expected.map)
    both, layers = [full, plain], [LAST, MIDDLE]
    first, second = run_on_layers(cfcam, CfcamSettings(), layers, both, 1, "guided")
    np.testing.assert_array_equal(first.map, expected.map)
    np.testing.assert_array_equal(second.map, cfcam.run(a[1], g[1], CfcamSettings(last=False)).map)
    unguided, _ = run_on_layers(cfcam, CfcamSettings(), layers, both, 1, "gate")
    np.testing.assert_array_equal(unguided.map, cfcam.run(a[1], g[1], settings).map)
    np.testing.assert_array_equal(run_rule(gradcam, None, [LAST], [full], 1, "gate").map, gradcam.run(a[1], g[1]).map)


def test_a_guided_fusion_needs_a_detail_layer():
    with pytest.raises(MethodError, match="layer 'last' has no detail layer; export the model with --detail auto"):
        check_fusion("guided", [LAST, MIDDLE])
    detail = DetailSpec(name="d", value="d", channels=5, grid=(4, 4))
    check_fusion("guided", [replace(LAST, detail=detail), MIDDLE])
