"""Noise at the input and in the gradients."""

from __future__ import annotations

import math

import numpy as np
import other_packages
import pytest
from cfcam.calibration.measures import (
    CentreGaussian,
    GradientNoise,
    InputNoise,
    MaxSensitivity,
)
from cfcam.calibration.measures.noise import agreement, noisy
from cfcam.runtime.cam import cam_results
from cfcam.runtime.errors import ArrayError


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


@pytest.mark.parametrize(("level", "samples"), [(0, 2), (-1, 2), (math.inf, 2), (math.nan, 2), (1, 0)])
def test_noise_is_checked(toy, level, samples):
    with pytest.raises(ArrayError, match="noise: expected a level above 0"):
        InputNoise(toy.explain, level=level, samples=samples)
    with pytest.raises(ArrayError, match="noise"):
        MaxSensitivity(toy.explain, radius=level, samples=samples)
