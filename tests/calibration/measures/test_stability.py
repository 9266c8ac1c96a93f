"""Noise, transformations, max-sensitivity, class sensitivity and Sarkar's measure, on the toy."""

from __future__ import annotations

import io
import math
from typing import Literal

import numpy as np
import other_packages
import pytest
from cfcam.calibration.measures import (
    Brightness,
    CentreGaussian,
    ClassSensitivity,
    GradientNoise,
    InputNoise,
    Jpeg,
    MaxSensitivity,
    Robustness,
    Shift,
    Transformed,
    baselines,
)
from cfcam.calibration.measures.noise import agreement, noisy
from cfcam.calibration.measures.robustness import grid_segments, segment_order
from cfcam.calibration.sensitivity import class_sensitivity
from cfcam.runtime.cam import cam_results
from cfcam.runtime.contract.spec import InputSpec, ResizeSpec
from cfcam.runtime.errors import ArrayError
from PIL import Image


def spec(color: Literal["rgb", "bgr", "gray"] = "rgb"):
    channels = 1 if color == "gray" else 3
    return InputSpec(
        name="image", layout="NCHW", height=16, width=16, dtype="float32", color=color, scale=1 / 255,
        mean=(0.4, 0.5, 0.6)[:channels], std=(0.2, 0.3, 0.25)[:channels], resize=ResizeSpec(mode="stretch"),
    )  # fmt: skip


def test_noise_is_relative_to_each_image():
    values = np.random.default_rng(0).normal(size=(3, 4, 50, 50)) * np.array([1, 10, 100])[:, None, None, None]
    added = noisy(values, 0.5, np.random.default_rng(1)) - values
    np.testing.assert_allclose(added.std(axis=(1, 2, 3)) / values.std(axis=(1, 2, 3)), 0.5, rtol=0.03)


def test_agreement():
    a = np.array([[0.1, 0.5, 0.9]])
    assert agreement(a, a**2) == pytest.approx(1)
    assert agreement(a, 1 - a) == pytest.approx(-1)
    assert agreement(a, 0 * a) == 0
    assert math.isnan(agreement(0 * a, a))


def test_input_noise(toy, photos, classes):
    maps = toy.explain(photos, classes)
    little, much = (
        InputNoise(toy.explain, level=level, batch=4).update(photos, classes, maps)["input_noise"]
        for level in (0.01, 1)
    )
    assert little.min() > 0.97 > much.max()
    centre = CentreGaussian()
    assert InputNoise(centre).update(photos, classes, centre(photos, classes))["input_noise"].min() == 1
    again = InputNoise(toy.explain, level=1, batch=4).update(photos, classes, maps)["input_noise"]
    np.testing.assert_array_equal(much, again)


def test_gradient_noise():
    rng = np.random.default_rng(2)
    a = rng.random((3, 40, 6, 6), np.float32)
    g = np.broadcast_to(rng.normal(0.5, 1, size=(3, 40, 1, 1)), a.shape).astype(np.float32)

    def stability(method):
        def rule(activations, gradients):
            return np.stack([one.map for one in cam_results(activations, gradients, method)])

        return GradientNoise(rule).update(a, g)["gradient_noise"].mean()

    assert stability("eigencam") == pytest.approx(1)
    assert stability("gradcam") > 0.9 > stability("hirescam")


def test_shift_moves_the_map_back(toy, photos, classes):
    """The toy's map moves with the picture, so nothing is lost but what left it."""
    maps = toy.explain(photos, classes)
    measure = Transformed(toy.explain, [Shift(1, 0), Shift(-1, 2), Shift(0, -3)])
    for name, values in measure.update(photos, classes, maps).items():
        np.testing.assert_allclose(values, 1, err_msg=name)
    centre = CentreGaussian()
    fixed = Transformed(centre, [Shift(3, 0)]).update(photos, classes, centre(photos, classes))
    assert fixed["shift_3_0"].max() < 0.99


def test_shift_by_hand():
    images = np.arange(6.0).reshape(1, 1, 2, 3)
    np.testing.assert_array_equal(Shift(1, 0).apply(images)[0, 0], [[0, 0, 1], [3, 3, 4]])
    np.testing.assert_array_equal(Shift(-1, 1).apply(images)[0, 0], [[1, 2, 2], [1, 2, 2]])
    clean, changed = Shift(1, 0).align(images[:, 0], Shift(1, 0).apply(images)[:, 0])
    np.testing.assert_array_equal(clean, changed)
    assert clean.shape == (1, 2, 2)


def preprocessed(pixels, how):
    """Of uint8 (H, W, 3) RGB, by the definition."""
    planes = pixels[:, :, ::-1] if how.color == "bgr" else pixels
    return ((planes / 255 - np.array(how.mean)) / np.array(how.std)).transpose(2, 0, 1)[None].astype(np.float32)


@pytest.mark.parametrize("color", ["rgb", "bgr"])
def test_jpeg_and_brightness_act_on_the_pixels(color):
    how = spec(color)
    rows, columns = np.mgrid[:16, :16]
    pixels = np.stack([rows * 16, columns * 16, 255 - rows * 8], axis=-1).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=40)
    again = np.asarray(Image.open(buffer))
    assert (again != pixels).any()
    np.testing.assert_allclose(Jpeg(40, how).apply(preprocessed(pixels, how)), preprocessed(again, how), atol=1e-5)
    bright = np.minimum(pixels * 1.25, 255)
    np.testing.assert_allclose(
        Brightness(1.25, how).apply(preprocessed(pixels, how)), preprocessed(bright, how), atol=1e-5
    )


def test_jpeg_of_grey_images():
    how = spec("gray")
    images = np.random.default_rng(0).uniform(-1, 1, (2, 1, 16, 16)).astype(np.float32)
    changed = Jpeg(90, how).apply(images)
    assert changed.shape == images.shape
    assert 0 < np.abs(changed - images).mean() < 0.3


def test_every_change_needs_a_name_of_its_own(toy):
    for changes in ([], [Shift(1, 0), Shift(1, 0)]):
        with pytest.raises(ArrayError, match="all of different names"):
            Transformed(toy.explain, changes)


def test_max_sensitivity_by_hand():
    """A map that is the image itself, of one pixel 1: the change is the noise, its norm the largest that was drawn."""
    image = np.zeros((1, 1, 1, 4), np.float32)
    image[0, 0, 0, 2] = 1

    def explain(images, _):
        return np.clip(images[:, 0], 0, 1)

    measure = MaxSensitivity(explain, radius=0.5, samples=3, seed=7)
    draws = np.random.default_rng(7)
    radius = 0.5 * image.std()
    norms = []
    for _ in range(3):
        moved = np.clip(image + radius * draws.uniform(-1, 1, image.shape), 0, 1)
        norms.append(np.linalg.norm(moved - image))
    found = measure.update(image, [0], image[:, 0])
    assert found["max_sensitivity"][0] == pytest.approx(max(norms), rel=1e-5)
    assert max(norms) > min(norms)
    assert math.isnan(measure.update(image, [0], 0 * image[:, 0])["max_sensitivity"][0])


def test_max_sensitivity_equals_quantus(toy, photos, classes):
    quantus = other_packages.quantus()
    torch = pytest.importorskip("torch")
    maps = toy.explain(photos, classes)
    radius = 0.1 * photos.std(axis=(1, 2, 3), keepdims=True)
    draws = np.random.default_rng(5)

    def perturb(arr, indices, **_):
        x = arr.reshape(photos.shape)
        return (x + radius * draws.uniform(-1, 1, x.shape)).astype(np.float32).reshape(arr.shape)

    def explain(model, inputs, targets, **_):
        return toy.explain(inputs, targets)[:, None]

    net = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()).eval()
    theirs = quantus.MaxSensitivity(
        nr_samples=4, perturb_func=perturb, normalise=False, abs=False, disable_warnings=True
    )(
        model=net, x_batch=photos, y_batch=classes, a_batch=maps[:, None], explain_func=explain, channel_first=True
    )  # fmt: skip
    ours = MaxSensitivity(toy.explain, radius=0.1, samples=4, seed=5).update(photos, classes, maps)
    np.testing.assert_allclose(ours["max_sensitivity"], theirs, rtol=1e-5)


def test_class_sensitivity(toy, photos, classes):
    others = (classes + 1) % 3
    found = ClassSensitivity(toy.explain, batch=4).update(photos, classes, others)["class_sensitivity"]
    pairs = zip(toy.explain(photos, classes), toy.explain(photos, others), strict=True)
    np.testing.assert_array_equal(found, [class_sensitivity(a, b) for a, b in pairs])
    blind = ClassSensitivity(baselines()["edges"]).update(photos, classes, others)["class_sensitivity"]
    np.testing.assert_allclose(blind, 0, atol=1e-12)


def test_segments():
    grid = grid_segments(5, 4, 2)
    assert grid.tolist() == [[0, 0, 1, 1]] * 3 + [[2, 2, 3, 3]] * 2
    heat = np.zeros((5, 4))
    heat[4, 3], heat[0, :2] = 1, 0.25
    assert segment_order(heat, grid).tolist() == [3, 0, 1, 2]
    gaps = np.where(grid == 1, 7, grid)
    assert segment_order(heat, gaps).tolist() == [3, 0, 2, 7]
    with pytest.raises(ArrayError, match="segments: expected numbers from 0"):
        segment_order(heat, grid - 1)


def test_robustness_tells_following_from_ignoring(toy):
    """Images without anything in them: any channel may have the largest mean, so noise changes the prediction."""
    photos = 0.2 * np.random.default_rng(0).random((12, 3, 16, 16))
    noise = {"levels": (0.02, 0.02, 4.0), "side": 4}
    following = Robustness(toy.predict, toy.explain, **noise)
    rows = following.update(photos)
    assert 2 < np.isfinite(rows["responsiveness"]).sum() < 12
    found = following.compute()
    assert found["consistency"] > 0.8
    assert found["responsiveness"] > 0.2
    assert found["robustness"] == pytest.approx(found["consistency"] * found["responsiveness"])
    ignoring = Robustness(toy.predict, CentreGaussian(), **noise)
    ignoring.update(photos)
    assert ignoring.compute() == {"consistency": 1, "responsiveness": 0, "robustness": 0}


def test_robustness_where_no_prediction_changes(toy, photos):
    measure = Robustness(toy.predict, toy.explain, levels=(1e-4,))
    rows = measure.update(photos, np.broadcast_to(grid_segments(16, 16, 2), (6, 16, 16)))
    np.testing.assert_allclose(rows["consistency"], 1)
    assert np.isnan(rows["responsiveness"]).all()
    assert math.isnan(measure.compute()["robustness"])
    with pytest.raises(ArrayError, match=r"segments: expected shape \(6, 16, 16\)"):
        measure.update(photos, grid_segments(16, 16, 2))


@pytest.mark.parametrize(("level", "samples"), [(0, 2), (-1, 2), (math.inf, 2), (math.nan, 2), (1, 0)])
def test_noise_is_checked(toy, level, samples):
    with pytest.raises(ArrayError, match="noise: expected a level above 0"):
        InputNoise(toy.explain, level=level, samples=samples)
    with pytest.raises(ArrayError, match="noise"):
        MaxSensitivity(toy.explain, radius=level, samples=samples)
