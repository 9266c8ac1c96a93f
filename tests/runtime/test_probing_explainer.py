"""Probes and smoothing by the `Explainer`, on a model whose every number can be computed by hand."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from cfcam.runtime import Explainer, Smoothing
from cfcam.runtime.cam import cam_map, normalise
from cfcam.runtime.engines.opening import open_engine
from cfcam.runtime.errors import ArrayError, MethodError, TargetError
from cfcam.runtime.methods import method_names
from cfcam.runtime.methods.numerics.resizing import resize, unit_range
from PIL import Image
from tiny_model import WITH_TAIL, reference

PROBES = method_names("probe")


def scene(width: int = 150, height: int = 100) -> Image.Image:
    image = Image.new("RGB", (width, height), (90, 90, 90))
    image.paste((230, 20, 20), (int(width * 0.58), int(height * 0.3), int(width * 0.68), int(height * 0.45)))
    image.paste((20, 230, 20), (int(width * 0.32), int(height * 0.55), int(width * 0.42), int(height * 0.7)))
    return image


def tensor(name: str, seed: int = 0) -> np.ndarray:
    """A random image in the variant's layout."""
    shape = (32, 48, 3) if WITH_TAIL[name].layout == "NHWC" else (3, 32, 48)
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.fixture
def explainer(tiny_path):
    with Explainer(tiny_path("tail"), threads=1) as opened:
        yield opened


def softmax(values):
    powers = np.exp(values - values.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize("name", WITH_TAIL)
def test_ablation_and_single_cells_as_by_hand(tiny_path, name):
    image = tensor(name)
    model = WITH_TAIL[name]
    known = reference(model, image.astype(np.float16) if model.dtype == "float16" else image, 0)
    a, gradients, logits = known["activations"], known["gradients"], known["logits"]
    with Explainer(tiny_path(name), threads=1, probe_batch=3) as explainer:
        found = {probe: explainer.explain(image, 0, probe) for probe in ("ablationcam", "reciprocam")}
    # The tail is linear: a channel's absence costs its gradient times its activation.
    weights = (gradients * a).sum(axis=(1, 2)) / abs(logits[0])
    ablated = np.maximum(np.einsum("k,khw->hw", weights, a), 0).astype(np.float32)
    np.testing.assert_allclose(found["ablationcam"].map, normalise(ablated, (32, 48)), atol=2e-3)
    # A cell alone leaves every class its weights on that cell, and the bias.
    _, _, matrix, bias = model.weights()
    cells = np.einsum("ck,khw->hwc", matrix, a) / a[0].size + bias
    p = 1 / (1 + np.exp(-cells)) if model.kind in ("sigmoid", "binary") else softmax(cells)
    alone = (p[..., 0] - p[..., 0].min()).astype(np.float32)
    np.testing.assert_allclose(found["reciprocam"].map, normalise(alone, (32, 48)), atol=2e-3)


@pytest.mark.parametrize("name", ["tail", "tail-nhwc", "tail-fixed-batch", "tail-softmax", "tail-sigmoid"])
def test_scorecam_as_by_hand(tiny_path, name):
    """Logits where the file has them; else the probabilities that it shows."""
    model = WITH_TAIL[name]
    image = tensor(name)
    planes = np.moveaxis(image, -1, 0) if model.layout == "NHWC" else image
    a = reference(model, image, 1)["activations"].astype(np.float32)
    scores = []
    for mask in unit_range(resize(a, (32, 48))):
        masked = planes * mask
        logits = reference(model, np.moveaxis(masked, 0, -1) if model.layout == "NHWC" else masked, 1)["logits"]
        shown = {"softmax": softmax(logits), "sigmoid": 1 / (1 + np.exp(-logits))}.get(model.kind, logits)
        scores.append(shown[1])
    expected = np.einsum("k,khw->hw", softmax(np.array(scores)), a).astype(np.float32)
    with Explainer(tiny_path(name), threads=1, probe_batch=3) as explainer:
        found = explainer.explain(image, 1, "scorecam")
    np.testing.assert_allclose(found.map, normalise(expected, (32, 48)), atol=1e-3)
    assert found.times_ms["method"] > 0


@pytest.mark.parametrize("method", PROBES)
def test_of_a_batch_and_alone(explainer, method):
    together = explainer.explain_batch([scene(), scene(90, 140), scene(200, 200)], ["red", 1, None], method)
    for image, one in zip([scene(), scene(90, 140), scene(200, 200)], together, strict=True):
        alone = explainer.explain(image, one.target, method)
        np.testing.assert_allclose(one.map, alone.map, atol=1e-5)
        assert one.map.shape == (32, 48)
        assert one.map.max() == 1
        assert one.method == method
        assert one.counts is None


@pytest.mark.parametrize("method", PROBES)
@pytest.mark.parametrize("name", ["tail-nhwc", "tail-fixed-batch", "tail-float16"])
def test_the_same_map_in_every_variant(tiny_path, explainer, name, method):
    with Explainer(tiny_path(name), threads=1) as other:
        expected, found = (one.explain(scene(), "green", method) for one in (explainer, other))
    np.testing.assert_allclose(found.map, expected.map, atol=0.02 if "16" in name else 1e-4)


@pytest.mark.parametrize("method", ["ablationcam", "reciprocam", "fusioncam"])
def test_the_peak_is_where_the_colour_is(explainer, method):
    for target, place in (("red", (0.63, 0.375)), ("green", (0.37, 0.625))):
        assert explainer.explain(scene(), target, method).peak == pytest.approx(place, abs=0.06)


def test_bad_targets_and_sizes(explainer, tiny_path):
    for method in PROBES:
        with pytest.raises(TargetError, match="out of range"):
            explainer.explain(scene(), 6, method)
    with Explainer(tiny_path("tail-binary")) as binary:
        assert binary.explain(scene(), 0, "ablationcam").target == 0
        with pytest.raises(TargetError, match="out of range"):
            binary.explain(scene(), 1, "ablationcam")
    with pytest.raises(ArrayError, match="probe_batch: expected a whole number from 1"):
        Explainer(tiny_path("tail"), probe_batch=0)


def test_a_class_without_weights_has_no_map(explainer):
    for method in ("scorecam", "ablationcam"):
        explanation = explainer.explain(scene(), "nothing", method)
        assert explanation.empty
        assert "score" in (explanation.reason or "")
        assert explanation.peak is None


def test_probes_need_more_than_arrays():
    arrays = np.ones((2, 3, 3), np.float32)
    with pytest.raises(MethodError, match="'scorecam' runs the model again and cannot work from arrays alone"):
        cam_map(arrays, arrays, "scorecam")


def test_progress_goes_on_through_the_copies(explainer):
    told = []
    explainer.explain(scene(), 0, "ablationcam", smooth=3, progress=lambda *pair: told.append(pair))
    assert told[-1][0] == told[-1][1]
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert len(told) >= 3


def test_one_tail_for_several_threads_and_it_is_closed(tiny_path, monkeypatch):
    from cfcam.runtime import tail

    opened = []

    def watched(*args, **more):
        opened.append(open_engine(*args, **more))
        return opened[-1]

    monkeypatch.setattr(tail, "open_engine", watched)
    maps = []
    with Explainer(tiny_path("tail"), threads=1) as explainer:
        assert not opened, "opened before anything asked for it"
        work = [
            threading.Thread(target=lambda: maps.append(explainer.explain(scene(), 0, "ablationcam").map))
            for _ in range(4)
        ]
        for thread in work:
            thread.start()
        for thread in work:
            thread.join()
    assert len(opened) == 1
    assert all(np.array_equal(one, maps[0]) for one in maps)
    with pytest.raises(Exception, match="closed"):
        opened[0].infer({})


@pytest.mark.parametrize("method", ["cfcam", "gradcam", "scorecam", "reciprocam"])
def test_smoothing_is_the_mean_over_noisy_copies(explainer, method):
    smoothing = Smoothing(copies=5, noise=0.2, seed=3)
    image = tensor("tail")
    found = explainer.explain(image, None, method, smooth=smoothing)
    plain = explainer.explain(image, None, method)
    assert (found.target, found.probability) == (plain.target, plain.probability)
    assert found.smoothing == smoothing
    assert plain.smoothing is None
    assert found.to_dict()["smoothing"] == {"copies": 5, "noise": 0.2, "seed": 3}
    assert "smoothing" not in plain.to_dict()
    assert np.abs(found.map - plain.map).max() > 0.01
    np.testing.assert_array_equal(found.map, explainer.explain(image, None, method, smooth=smoothing).map)
    if method == "gradcam":
        raw = explainer.tensors(smoothing.noisy(image), found.target)
        grids = np.maximum(np.einsum("nkhw,nk->nhw", raw.activations, raw.gradients.mean(axis=(2, 3))), 0)
        np.testing.assert_allclose(found.map, normalise(grids.mean(axis=0), (32, 48)), atol=1e-5)


def test_smoothing_without_noise_changes_nothing(explainer):
    for method in ("hirescam", "ablationcam"):
        plain = explainer.explain(scene(), 0, method)
        smooth = explainer.explain(scene(), 0, method, smooth=Smoothing(copies=3, noise=0))
        np.testing.assert_allclose(smooth.map, plain.map, atol=1e-6)


def test_copies_are_one_inference(tiny_path):
    class Counting:
        def __init__(self, inner):
            self.inner, self.sizes = inner, []
            self.describe, self.close = inner.describe, inner.close

        def infer(self, inputs, outputs=None):
            self.sizes.append(len(inputs["image"]))
            return self.inner.infer(inputs, outputs)

    engine = Counting(open_engine(tiny_path("tail"), threads=1))
    with Explainer(tiny_path("tail"), engine=engine) as explainer:  # type: ignore[arg-type]
        explainer.explain(scene(), smooth=7)
    assert engine.sizes == [1, 7]


def test_an_empty_map_stays_empty_under_noise(explainer):
    explanation = explainer.explain(scene(), "nothing", "gradcam", smooth=3)
    assert explanation.empty
    assert explanation.reason == "all gradients are zero"


def test_maps_and_probabilities_of_tensors(explainer):
    images = np.stack([tensor("tail", seed) for seed in range(3)])
    for method in ("cfcam", "ablationcam"):
        expected = explainer.explain_batch(images, [0, 1, 2], method)
        np.testing.assert_allclose(explainer.maps(images, [0, 1, 2], method), [one.map for one in expected], atol=1e-6)
    np.testing.assert_allclose(explainer.probabilities(images), [one.probabilities for one in expected], atol=1e-6)
    with pytest.raises(ArrayError, match="expected a tensor of shape"):
        explainer.maps(images[:, :, :8])
