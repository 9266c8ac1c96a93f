"""A real file behind the measures: what the engine gives is what the Explainer says, for every layout."""

from __future__ import annotations

import numpy as np
import pytest
from cfcam.calibration.measures import (
    Adcc,
    ClassSensitivity,
    EngineAccess,
    InputNoise,
    InsertionDeletion,
    Jpeg,
    Localisation,
    Robustness,
    Shift,
    Transformed,
    baselines,
    box_region,
    gradient_noise,
)
from cfcam.runtime import Explainer
from cfcam.runtime.errors import MethodError
from cfcam.runtime.inference import LayerTensors
from PIL import Image

#: Of a red square on grey, as fractions.
BOX = (0.58, 0.3, 0.68, 0.45)


def scene(width: int = 150, height: int = 100) -> Image.Image:
    image = Image.new("RGB", (width, height), (90, 90, 90))
    x0, y0, x1, y1 = BOX
    image.paste((230, 20, 20), (int(width * x0), int(height * y0), int(width * x1), int(height * y1)))
    image.paste((20, 230, 20), (int(width * 0.32), int(height * 0.55), int(width * 0.42), int(height * 0.7)))
    return image


@pytest.mark.parametrize("variant", ["logits", "nhwc", "float16", "softmax", "pad"])
def test_gives_what_the_explainer_says(tiny_path, variant):
    with Explainer(tiny_path(variant), threads=1) as explainer:
        access = EngineAccess(explainer, "cfcam")
        images, frames = access.load([scene(), scene(90, 60)])
        expected = explainer.explain_batch([scene(), scene(90, 60)], [0, 1], method="cfcam")
        assert images.shape == (2, 3, *expected[0].map.shape)
        assert frames == [one.frame for one in expected]
        np.testing.assert_allclose(access.predict(images), [one.probabilities for one in expected], atol=1e-6)
        maps = access.explain(images, np.array([0, 1]))
        np.testing.assert_allclose(maps, [one.map for one in expected], atol=1e-5)


def test_all_measures_run_on_a_file(tiny_path):
    """The red square is found, better than by any baseline; its pixels first, and not last, make the class."""
    red = np.zeros(2, np.int64)
    with Explainer(tiny_path("logits"), threads=1) as explainer:
        access = EngineAccess(explainer, "gradcam")
        images, frames = access.load([scene(), scene(120, 100)])
        regions = np.stack([box_region([BOX], frame) for frame in frames])
        found = {}
        for name, explain in {"gradcam": access.explain, **baselines(grid=(8, 12))}.items():
            place = Localisation()
            place.update(explain(images, red), regions)
            found[name] = place.compute()
        for name in ("centre", "uniform", "random", "edges"):
            for column in ("pixel_precision", "energy_inside"):
                assert found["gradcam"][column] > found[name][column] + 0.01, (name, column)
        assert found["gradcam"]["pointing_game"] == 1

        maps = access.explain(images, red)
        order = InsertionDeletion(access.predict, steps=16, batch=8)
        right, wrong = (order.update(images, red, heat)["insertion_deletion"] for heat in (maps, 1 - maps))
        assert (right > wrong).all()
        stable = (
            InputNoise(access.explain, level=0.02),
            Transformed(access.explain, [Shift(1, 0), Jpeg(95, access.input)]),
        )
        for measure in stable:
            measure.update(images, red, maps)
            assert min(measure.compute().values()) > 0.5
        assert gradient_noise(access.rule, access.tensors(images, red).layers, level=0.2).min() > 0.5
        classes = ClassSensitivity(access.explain)
        classes.update(images, red, red + 1)
        assert classes.compute()["class_sensitivity"] > 0.5
        adcc = Adcc(access.predict, access.explain)
        adcc.update(images, red, maps)
        assert adcc.compute()["adcc"] > 0
        robust = Robustness(access.predict, access.explain)
        robust.update(images)
        assert 0 <= robust.compute()["consistency"] <= 1


def test_the_layer_is_last_whatever_the_noise(tiny_path):
    """Left to the gradients, `cfcam` would take a noisy last layer for a middle one."""
    with Explainer(tiny_path("logits"), threads=1) as explainer:
        access = EngineAccess(explainer, "cfcam")
        images, _ = access.load([scene()])
        (layer,) = access.tensors(images, [0]).layers
        noise = np.random.default_rng(0).normal(0, layer.gradients.std(), layer.gradients.shape)
        noisy = [LayerTensors(layer.activations, layer.gradients + noise.astype(np.float32))]
        fixed = EngineAccess(explainer, "cfcam", {"last": True}).rule(noisy)[0]
        np.testing.assert_array_equal(access.rule(noisy)[0], fixed)
        assert np.abs(EngineAccess(explainer, "cfcam", {"last": False}).rule(noisy)[0] - fixed).max() > 0


def test_refused(tiny_path):
    with Explainer(tiny_path("logits"), threads=1) as explainer, pytest.raises(MethodError, match="unknown method"):
        EngineAccess(explainer, "no-such-method")


@pytest.mark.parametrize("variant", ["tail", "tail-nhwc", "tail-float16", "tail-fixed-batch"])
@pytest.mark.parametrize("method", ["scorecam", "ablationcam"])
def test_probes_explain_but_are_no_rules(tiny_path, variant, method):
    with Explainer(tiny_path(variant), threads=1) as explainer:
        access = EngineAccess(explainer, method)
        images, _ = access.load([scene(), scene(90, 60)])
        expected = explainer.explain_batch([scene(), scene(90, 60)], [0, 1], method=method)
        maps = access.explain(images, np.array([0, 1]))
        np.testing.assert_allclose(maps, [one.map for one in expected], atol=1e-5)
        with pytest.raises(MethodError, match=f"'{method}' runs the model again and cannot work from arrays alone"):
            access.rule(access.tensors(images, [0, 1]).layers)


def test_a_probe_without_its_tail_is_refused_at_once(tiny_path):
    with Explainer(tiny_path("logits"), threads=1) as explainer, pytest.raises(MethodError, match="--with-tail"):
        EngineAccess(explainer, "ablationcam")
