"""`cam_map` and its relatives: shapes, resizing, what is refused."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from cfcam.runtime.cam import EmptyMapWarning, cam_map, cam_results, normalise
from cfcam.runtime.errors import ArrayError, MethodError
from cfcam.runtime.methods import CfcamSettings, Method, get_method, registry


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    a = np.abs(rng.normal(size=(3, 40, 5, 7))).astype(np.float32)
    return a, rng.normal(size=a.shape).astype(np.float32)


@pytest.mark.parametrize("method", ["cfcam", "hirescam", "cfcam-released"])
def test_a_batch_is_its_images(batch, method):
    a, g = batch
    maps = cam_map(a, g, method)
    assert maps.shape == (3, 5, 7)
    assert maps.dtype == np.float32
    for index in range(3):
        np.testing.assert_array_equal(cam_map(a[index], g[index], method), maps[index : index + 1])
        one = get_method(method).run(a[index], g[index]).map
        np.testing.assert_allclose(maps[index], one / one.max(), rtol=1e-6)
    np.testing.assert_array_equal(maps.max(axis=(1, 2)), 1)


def test_the_default_is_cfcam_and_settings_arrive(batch):
    np.testing.assert_array_equal(cam_map(*batch), cam_map(*batch, method="cfcam", settings=CfcamSettings()))
    assert (cam_map(*batch) != cam_map(*batch, settings={"clustering": "none"})).any()
    assert cam_results(*batch)[0].grouping is not None


@pytest.mark.parametrize(("size", "shape"), [(None, (5, 7)), (20, (20, 20)), ((11, 30), (11, 30)), ([3, 2], (3, 2))])
def test_sizes(batch, size, shape):
    maps = cam_map(*batch, method="hirescam", size=size)
    assert maps.shape == (3, *shape)
    assert maps.min() >= 0
    np.testing.assert_array_equal(maps.max(axis=(1, 2)), 1)


def bilinear(values, height, width):
    """Half-pixel centres, edges repeated, from the definition."""
    out = np.zeros((height, width))
    for y in range(height):
        for x in range(width):
            at = [((y + 0.5) * values.shape[0] / height - 0.5), ((x + 0.5) * values.shape[1] / width - 0.5)]
            low = [int(np.floor(v)) for v in at]
            for dy in (0, 1):
                for dx in (0, 1):
                    weight = (1 - abs(at[0] - low[0] - dy)) * (1 - abs(at[1] - low[1] - dx))
                    row = min(max(low[0] + dy, 0), values.shape[0] - 1)
                    column = min(max(low[1] + dx, 0), values.shape[1] - 1)
                    out[y, x] += weight * values[row, column]
    return out


@pytest.mark.parametrize(("height", "width"), [(224, 224), (13, 40), (7, 7)])
def test_enlarging_is_bilinear_with_half_pixel_centres(height, width):
    values = np.random.default_rng(1).random((7, 7), np.float32)
    expected = bilinear(values, height, width)
    np.testing.assert_allclose(normalise(values, (height, width)), expected / expected.max(), rtol=0, atol=2e-6)


@pytest.mark.parametrize("scale", [1e-45, 1e-38, 1.0, 1e38])
def test_normalise_at_the_ends_of_float32(scale):
    values = np.array([[0, 1], [2, 3]], np.float32) * np.float32(scale)
    for size in (None, 9):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = normalise(values, size)
        assert found.max() == 1
        assert found.min() == 0
        assert np.isfinite(found).all()


def test_normalise_leaves_its_input_alone():
    values = np.array([[0, 1], [2, 3]], np.float32)
    values.flags.writeable = False
    found = normalise(values)
    np.testing.assert_allclose(found, values / 3, rtol=1e-6)
    np.testing.assert_array_equal(values, [[0, 1], [2, 3]])
    found[:] = 0


def test_empty_maps_stay_zero_and_are_announced(batch):
    a, g = batch
    g = g.copy()
    g[1] = 0
    with pytest.warns(EmptyMapWarning, match="map 1 of 3 is empty: all gradients are zero") as caught:
        maps = cam_map(a, g, size=10)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert (maps.max(axis=(1, 2)) == [1, 0, 1]).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [result.empty for result in cam_results(a, g)] == [None, "all gradients are zero", None]


def spoiled(array, index, value):
    array = array.copy()
    array[index] = value
    return array


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a, g: (a, g[:2]), r"gradients: expected the shape of the activations, \(3, 40, 5, 7\)"),
        (lambda a, g: (a[0, 0], g[0, 0]), r"activations: expected \(N, C, H, W\) or \(C, H, W\), got shape \(5, 7\)"),
        (lambda a, g: (a[:0], g[:0]), "activations: expected no dimension of size 0"),
        (lambda a, g: (a.astype(int), g), "activations: expected float16, float32 or float64, got int64"),
        (lambda a, g: (a, g.astype(complex)), "gradients: .* got complex128"),
        (lambda a, g: (a, [[["x"]]]), "gradients: expected float16"),
        (lambda a, g: (a, [[1.0], [1.0, 2.0]]), "gradients: cannot be read as a numpy array"),
        (
            lambda a, g: (spoiled(a, (1, 2, 3, 4), np.nan), g),
            r"activations: 1 of 4200 values are NaN or infinite, the first is nan at \(n, c, h, w\) = \(1, 2, 3, 4\)",
        ),
        (
            lambda a, g: (a[0], spoiled(g[0], (slice(7, 9), 0, 6), -np.inf)),
            r"gradients: 2 of 1400 .* -inf at \(c, h, w\) = \(7, 0, 6\)",
        ),
    ],
)
def test_bad_arrays(batch, change, words):
    with pytest.raises(ArrayError, match=words) as caught:
        cam_map(*change(*batch))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("size", [0, -3, 2.5, (1, 2, 3), (4, 0), "44", True, {}])
def test_bad_sizes(batch, size):
    with pytest.raises(ArrayError, match="size: expected"):
        cam_map(*batch, size=size)


@pytest.mark.parametrize(
    "values", [np.ones(3), np.ones((0, 3)), np.ones((2, 2), int), np.array([[np.nan]]), np.array([[-1.0]])]
)
def test_bad_maps(values):
    with pytest.raises(ArrayError, match="map: expected"):
        normalise(values)


def test_bad_methods(batch, monkeypatch):
    with pytest.raises(MethodError, match="did you mean 'gradcam'"):
        cam_map(*batch, method="grad-cam")
    with pytest.raises(MethodError, match="no setting 'sgima'"):
        cam_map(*batch, settings={"sgima": 1})
    monkeypatch.setitem(registry._METHODS, "probing", Method("probing", "probe", get_method("hirescam").run))
    with pytest.raises(MethodError, match="use Explainer"):
        cam_map(*batch, method="probing")


def test_arrays_of_every_float_type(batch):
    a, g = (array.astype(np.float16) for array in batch)
    expected = cam_map(a, g)
    np.testing.assert_array_equal(cam_map(a.astype(np.float32), g.astype(np.float64)), expected)
    np.testing.assert_array_equal(cam_map(a.tolist(), g.tolist()), expected)
