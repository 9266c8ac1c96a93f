"""A class against another: maps of the difference of their logits."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from cfcam.runtime import Explainer, MethodError, TargetError, cam_map
from cfcam.runtime.cam import normalise
from cfcam.runtime.contrast import rival_of
from cfcam.runtime.methods import get_method
from PIL import Image


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    """Grey, with a red square at the right and a green one at the left."""
    image = Image.new("RGB", (150, 100), (90, 90, 90))
    image.paste((230, 20, 20), (87, 30, 102, 45))
    image.paste((20, 230, 20), (48, 55, 63, 70))
    return image


@pytest.fixture(scope="module")
def explainer(tiny_path):
    with Explainer(tiny_path("logits"), threads=1) as opened:
        yield opened


def test_the_map_is_of_the_difference_and_not_that_of_either_class(explainer, photo):
    bright, green = (explainer.tensors([photo], target) for target in ("bright", "green"))
    weights = (bright.gradients[0] - green.gradients[0]).mean(axis=(1, 2))
    expected = np.maximum(np.einsum("k,khw->hw", weights, bright.activations[0]), 0)
    found = explainer.explain(photo, "bright", "gradcam", against="green")
    np.testing.assert_allclose(found.map, normalise(expected, (32, 48)), atol=1e-5)
    alone = explainer.explain(photo, "bright", "gradcam")
    assert np.abs(found.map - alone.map).max() > 0.05
    assert (found.label, found.against, found.against_label) == ("bright", 1, "green")
    assert found.probability == alone.probability
    assert found.to_dict()["against"] == {
        "target": 1,
        "label": "green",
        "probability": pytest.approx(float(found.probabilities[1])),
    }
    assert alone.against is None
    assert "against" not in alone.to_dict()


def test_each_class_against_the_other_is_where_its_colour_is(explainer, photo):
    one = explainer.explain(photo, "red", "gradcam", against="green")
    other = explainer.explain(photo, "green", "gradcam", against="red")
    assert one.peak == pytest.approx((0.63, 0.375), abs=0.05)
    assert other.peak == pytest.approx((0.37, 0.625), abs=0.05)
    assert one.title == "red against green"


def test_a_class_without_evidence_of_its_own_against_another(explainer, photo):
    """`nothing` has no gradient: what speaks for it rather than for red is what speaks against red."""
    found = explainer.explain(photo, "nothing", "hirescam", against="red")
    raw = explainer.tensors([photo], "red")
    expected = np.maximum(-(raw.gradients[0] * raw.activations[0]).sum(axis=0), 0)
    np.testing.assert_allclose(found.map, normalise(expected, (32, 48)), atol=1e-5)


def test_several_classes_and_images_against_one_are_what_each_is_alone(explainer, photo):
    photos = [photo, photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT)]
    rows = explainer.explain_classes(photos, [["red", "blue"], ["dark", "red"]], against="green")
    batch = explainer.explain_batch(photos, ["red", "dark"], against="green")
    for row, one, classes in zip(rows, photos, (["red", "blue"], ["dark", "red"]), strict=True):
        for found, target in zip(row, classes, strict=True):
            np.testing.assert_array_equal(found.map, explainer.explain(one, target, against="green").map)
    for found, row in zip(batch, rows, strict=True):
        np.testing.assert_array_equal(found.map, row[0].map)


def test_no_contrast_to_all_others_besides(guided_path):
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    with Explainer(guided_path, threads=1) as explainer:
        found = explainer.explain(image, 0, against=1)
        one, other = (explainer.tensors([image], target).layers[0] for target in (0, 1))
        forms = [explainer.explain(image, 0).form, found.form]
    assert [form and form.contrast for form in forms] == [0.3, 0]
    assert found.settings["contrast"] == 0
    expected = cam_map(
        one.activations, one.gradients - other.gradients, detail=one.detail, settings={"last": True}, size=(32, 32)
    )
    np.testing.assert_allclose(found.map, np.squeeze(expected), atol=1e-6)


def test_by_rank_and_where_the_class_is_its_own_rival(explainer, photo):
    best, second = (index for index, _, _ in explainer.explain(photo).top[:2])
    found = explainer.explain(photo, against=-2)
    assert (found.target, found.against) == (best, second)
    same = explainer.explain(photo, against=best)
    assert same.empty
    assert same.reason == "the class is the one that it is set against"
    for target, rival, words in (("red", 0, "class 0"), (None, -1, "the class of the highest score")):
        with pytest.raises(TargetError, match=f"against: {words} is the one that is explained"):
            explainer.explain(photo, target, against=rival)


def test_noisy_copies_are_of_the_difference_too(explainer, photo):
    found = explainer.explain(photo, "red", "gradcam", against="green", smooth={"copies": 2, "noise": 0})
    np.testing.assert_allclose(found.map, explainer.explain(photo, "red", "gradcam", against="green").map, atol=1e-6)


def test_what_knows_no_difference_is_refused(explainer, photo, tiny_path):
    with pytest.raises(MethodError, match="'scorecam' runs the model again for one class; take a rule"):
        explainer.explain(photo, method="scorecam", against="red")
    with pytest.raises(MethodError, match="sess weighs windows"):
        explainer.explain(photo, sess={"scales": 1}, against="red")
    with pytest.raises(TargetError, match="against: target 99 is out of range"):
        explainer.explain(photo, against=99)
    output = dataclasses.replace(explainer.spec.output, kind="regression")
    spec = dataclasses.replace(explainer.spec, output=output)
    with pytest.raises(MethodError, match="regression do not exclude each other"):
        rival_of("red", Path("x"), spec, get_method("gradcam"), by_windows=False)
