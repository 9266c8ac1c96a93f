"""Finer-CAM by finite differences of what it differentiates, and where there is nothing to compare."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from cfcam.runtime import Explainer
from cfcam.runtime.cam import normalise
from cfcam.runtime.errors import MethodError
from cfcam.runtime.methods import FinerCamSettings, Probing, finercam
from cfcam.runtime.methods.gradcam import gradcam
from tiny_model import VARIANTS, reference

#: Rows are classes, columns channels.
HEAD = np.array([[3.0, -1, 0.5, 2], [2, 1, -1, 0], [-4, 0, 2, 1], [1, 1, 1, -2], [0, -3, 1, 1]])
TARGET = 1


def probing(activations, **options):
    """A global mean and a linear head, whose gradients are rows of the head."""
    cells = activations[0].size

    def gradients_of(classes):
        return np.broadcast_to(HEAD[classes][:, :, None, None] / cells, (len(classes), *activations.shape))

    def unused(values):
        raise AssertionError("logits and gradients are all that is asked for")

    values = {
        "activations": activations,
        "gradients": gradients_of([TARGET])[0].astype(np.float32),
        "image": activations,
        "target": TARGET,
        "scores": unused,
        "probabilities": unused,
        "tail": unused,
        "logits": (activations.mean(axis=(1, 2)) @ HEAD.T).astype(np.float32),
        "gradients_of": gradients_of,
    }
    return Probing(**{**values, **options})


def contrast(activations, nearest, alpha, weights):
    """What is differentiated, in double precision."""
    logits = HEAD @ activations.mean(axis=(1, 2))
    powers = np.exp(logits[nearest] - logits.max()) if weights == "softmax" else np.ones(len(nearest))
    return logits[TARGET] - alpha * (powers / powers.sum()) @ logits[nearest]


@pytest.mark.parametrize("weights", ["softmax", "mean"])
@pytest.mark.parametrize("rivals", [1, 2, 4, 9])
def test_equals_finite_differences(weights, rivals):
    a = np.random.default_rng(3).random((4, 2, 3)) * 4
    logits = HEAD @ a.mean(axis=(1, 2))
    others = [k for k in range(5) if k != TARGET]
    nearest = sorted(others, key=lambda k: abs(logits[k] - logits[TARGET]))[:rivals]
    slopes, step = np.zeros_like(a), 1e-5
    for place in np.ndindex(a.shape):
        up, down = a.copy(), a.copy()
        up[place] += step
        down[place] -= step
        difference = contrast(up, nearest, 0.6, weights) - contrast(down, nearest, 0.6, weights)
        slopes[place] = difference / (2 * step)
    settings = FinerCamSettings(alpha=0.6, rivals=rivals, weights=weights)
    found = finercam(probing(a.astype(np.float32), batch=2), settings).map
    expected = np.maximum(np.einsum("k,khw->hw", slopes.mean(axis=(1, 2)), a), 0)
    assert expected.max() > 0
    np.testing.assert_allclose(found, expected, atol=1e-4 * expected.max())


def test_without_contrast_it_is_gradcam():
    one = probing(np.random.default_rng(0).random((4, 3, 3)).astype(np.float32))
    found = finercam(one, FinerCamSettings(alpha=0)).map
    np.testing.assert_allclose(found, gradcam(one.activations, one.gradients).map, rtol=1e-6)


@pytest.mark.parametrize("lacking", ["logits", "gradients_of"])
def test_what_cannot_be_compared_is_refused(lacking):
    one = dataclasses.replace(probing(np.ones((4, 2, 2), np.float32)), **{lacking: None})
    with pytest.raises(MethodError, match="take method 'gradcam'"):
        finercam(one)


@pytest.mark.parametrize("name", ["logits", "softmax", "softmax-and-logits", "nhwc", "float16", "fixed-batch"])
def test_on_a_file_as_by_hand(tiny_path, name):
    """Of a file that gives probabilities alone, their logarithms tell which classes are near."""
    model = VARIANTS[name]
    image = np.random.default_rng(1).normal(size=model.spec.input.shape(1)[1:]).astype(model.dtype)
    target = 2
    known = [reference(model, image, k) for k in range(model.classes)]
    logits = known[0]["logits"]
    nearest = [int(k) for k in np.argsort(np.abs(logits - logits[target]), kind="stable") if k != target][:2]
    slopes = known[target]["gradients"] - 0.5 * (known[nearest[0]]["gradients"] + known[nearest[1]]["gradients"])
    values = np.maximum(np.einsum("khw,khw->hw", slopes, known[0]["activations"]), 0).astype(np.float32)
    assert values.max() > 0
    with Explainer(tiny_path(name), threads=1) as explainer:
        settings = {"rivals": 2, "weights": "mean"}
        found = explainer.explain(image, target, "finercam", settings)
    np.testing.assert_allclose(found.map, normalise(values, found.map.shape), atol=5e-3)


@pytest.mark.parametrize("name", ["sigmoid", "binary"])
def test_classes_that_do_not_exclude_each_other_are_refused(tiny_path, name):
    with Explainer(tiny_path(name), threads=1) as explainer, pytest.raises(MethodError, match="that it excludes"):
        explainer.explain(np.zeros((3, 32, 48), np.float32), 0, "finercam")
