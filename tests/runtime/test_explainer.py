"""Image in, explanation out, on a model that can be computed by hand."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from cfcam.runtime import Explainer
from cfcam.runtime.contract.fused_spec import FusedSpec
from cfcam.runtime.engines.opening import open_engine
from cfcam.runtime.errors import (
    ArrayError,
    CfcamError,
    EngineError,
    ImageError,
    MethodError,
    ModelFileError,
    TargetError,
)
from cfcam.runtime.methods import get_method, method_names
from cfcam.runtime.photos.preprocess import prepare
from PIL import Image
from tiny_model import LABELS, VARIANTS, reference


def _scene(width: int = 150, height: int = 100) -> Image.Image:
    """Grey, with a red square right of and above the middle, a green one at the lower left."""
    image = Image.new("RGB", (width, height), (90, 90, 90))
    image.paste((230, 20, 20), (int(width * 0.58), int(height * 0.3), int(width * 0.68), int(height * 0.45)))
    image.paste((20, 230, 20), (int(width * 0.32), int(height * 0.55), int(width * 0.42), int(height * 0.7)))
    return image


_RED, _GREEN = (0.63, 0.375), (0.37, 0.625)


@pytest.fixture
def explainer(tiny_path):
    with Explainer(tiny_path("logits"), threads=1) as opened:
        yield opened


def test_the_peak_is_where_the_colour_is(explainer):
    for target, place in (("red", _RED), ("green", _GREEN)):
        explanation = explainer.explain(_scene(), target=target, method="gradcam")
        assert explanation.label == target
        assert explanation.peak == pytest.approx(place, abs=0.05)


@pytest.mark.parametrize("name", ["nhwc", "bgr", "float16", "stretch", "pad", "softmax", "sigmoid", "unlabelled"])
def test_the_peak_in_every_variant(tiny_path, name):
    with Explainer(tiny_path(name), threads=1) as explainer:
        explanation = explainer.explain(_scene(), target=1, method="gradcam")
    assert explanation.peak == pytest.approx(_GREEN, abs=0.06)
    assert explanation.label == ("1" if name == "unlabelled" else "green")


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_the_peak_is_in_the_upright_photo(explainer, tmp_path, orientation):
    turn = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "turned.png"
    _scene().transpose(turn).save(path, exif=exif)
    explanation = explainer.explain(path, target="red", method="gradcam")
    assert explanation.peak == pytest.approx(_RED, abs=0.05)
    assert explanation.photo.size == (150, 100)
    assert explanation.source == str(path)


def test_numbers_are_those_of_the_reference(explainer):
    model = VARIANTS["logits"]
    explanation = explainer.explain(_scene(), target=2, method="hirescam")
    want = reference(model, prepare(_scene(), model.spec.input).tensor, 2)
    assert explanation.logits == pytest.approx(want["logits"], abs=1e-4)
    odds = np.exp(want["logits"] - want["logits"].max())
    assert explanation.probabilities == pytest.approx(odds / odds.sum(), abs=1e-5)
    assert explanation.probability == explanation.probabilities[2]
    assert [i for i, _, _ in explanation.top] == np.argsort(-want["logits"])[:5].tolist()
    cam = np.maximum((want["activations"] * want["gradients"]).sum(axis=0), 0)
    tiles = explanation.map.reshape(8, 4, 12, 4).mean(axis=(1, 3))
    assert np.corrcoef(tiles.ravel(), cam.ravel())[0, 1] > 0.9
    assert explanation.map.shape == (32, 48)
    assert explanation.map.dtype == np.float32
    assert explanation.map.max() == 1
    assert explanation.map.min() >= 0
    assert explanation.grid == (8, 12)
    assert (explanation.layer, explanation.provider, explanation.method) == ("relu", "cpu", "hirescam")
    assert {"decode", "preprocess", "inference", "method", "resize", "total"} == set(explanation.times_ms)


def test_the_default_is_the_files_method(explainer, tiny_path):
    explanation = explainer.explain(_scene())
    assert explanation.method == "cfcam"
    assert explanation.target == int(np.argmax(explanation.probabilities))
    assert explanation.counts is not None
    assert set(explanation.counts) >= {"dominant", "clustered", "noise", "dead", "clusters"}
    assert explanation.settings["last"] is True  # from the file: its layer feeds the pooling
    given = explainer.explain(_scene(), settings={"last": False, "sigma": 1.0})
    assert (given.settings["last"], given.settings["sigma"]) == (False, 1.0)


def test_settings_in_the_file_hold_for_its_own_method(explainer):
    explainer.spec = explainer.spec.with_method("cfcam", {"sigma": 0.5})
    assert explainer.explain(_scene()).settings["sigma"] == 0.5
    assert explainer.explain(_scene(), method="cfcam").settings["sigma"] == 0.5
    assert explainer.explain(_scene(), method="gradcam").settings == {}


def test_every_registered_rule_runs(explainer):
    for name in method_names("rule"):
        if get_method(name).fusion:
            continue  # made for several layers
        explanation = explainer.explain(_scene(), target="red", method=name)
        assert explanation.empty or explanation.map.max() == 1, name


class _Counting:
    """An engine that counts its runs."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.runs, self.closed = inner, 0, False

    def describe(self):
        return self.inner.describe()

    def infer(self, inputs, outputs=None):
        self.runs += 1
        return self.inner.infer(inputs, outputs)

    def close(self):
        self.closed = True

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def test_a_batch_is_one_inference_and_equals_its_singles(tiny_path):
    engine = _Counting(open_engine(tiny_path("logits"), threads=1))
    images = [_scene(), _scene(90, 140), np.asarray(_scene(200, 200))]
    targets = ["red", None, 1]
    with Explainer(tiny_path("logits"), engine=engine) as explainer:
        batch = explainer.explain_batch(images, targets)
        assert engine.runs == 1
        for image, target, together in zip(images, targets, batch, strict=True):
            alone = explainer.explain(image, target)
            assert np.allclose(alone.map, together.map, atol=1e-6)
            assert alone.target == together.target
            assert alone.frame == together.frame
        assert explainer.explain_batch([]) == []
    assert not engine.closed  # it belongs to the caller


def test_a_fixed_batch_is_filled_up(tiny_path):
    engine = _Counting(open_engine(tiny_path("fixed-batch"), threads=1))
    with Explainer(tiny_path("fixed-batch"), engine=engine) as fixed, Explainer(tiny_path("logits")) as free:
        images = [_scene(), _scene(90, 140), _scene(200, 200)]
        got = fixed.explain_batch(images, [0, 1, 2])
        assert engine.runs == 2
        want = free.explain_batch(images, [0, 1, 2])
    assert all(np.allclose(g.map, w.map, atol=1e-6) and g.target == w.target for g, w in zip(got, want, strict=True))


def test_raw_tensors(explainer):
    raw = explainer.tensors([_scene(), _scene(90, 140)], targets=[3, None])
    assert raw.activations.shape == raw.gradients.shape == (2, 8, 8, 12)
    assert raw.classes[0] == 3
    assert raw.classes.dtype == np.int64
    assert np.array_equal(raw.scores, raw.logits)
    assert len(raw.frames) == 2


def test_raw_tensors_of_several_classes_are_those_of_each_class_and_a_fused_file_has_none(explainer):
    images = np.stack([prepare(image, explainer.spec.input).tensor for image in (_scene(), _scene(90, 140))])
    found = explainer.columns(images, [2, -2])
    second = np.argsort(-explainer.tensors(images).scores, axis=1)[:, 1]
    for column, classes in zip(found, ([2, 2], second), strict=True):
        assert np.array_equal(column.classes, classes)
        assert np.array_equal(column.gradients, explainer.tensors(images, [int(index) for index in classes]).gradients)
    explainer.spec = dataclasses.replace(explainer.spec, fused=FusedSpec(size=(8, 12)))
    for ask in (explainer.tensors, lambda images: explainer.columns(images, [0])):
        with pytest.raises(MethodError, match="is fused: it gives out finished maps"):
            ask(images)


def test_ready_tensors(explainer):
    spec = explainer.spec.input
    tensor = prepare(_scene(), spec).tensor
    from_photo = explainer.explain(_scene(), target="red", method="gradcam")
    for ready in (tensor, tensor[None]):
        from_tensor = explainer.explain(ready, target="red", method="gradcam")
        assert np.array_equal(from_tensor.map, from_photo.map)
        assert from_tensor.photo.size == (48, 32)
        assert from_tensor.frame.seen == (0, 0, 1, 1)
    assert len(explainer.explain_batch(np.stack([tensor, tensor]))) == 2


def test_probabilities_are_not_softmaxed_twice(tiny_path):
    with Explainer(tiny_path("logits")) as a, Explainer(tiny_path("softmax")) as b:
        assert a.explain(_scene()).probabilities == pytest.approx(b.explain(_scene()).probabilities, abs=1e-6)
        assert b.explain(_scene()).logits is None
    with Explainer(tiny_path("softmax-and-logits")) as c:
        explanation = c.explain(_scene())
        assert explanation.logits is not None
        assert np.exp(explanation.logits).sum() != pytest.approx(1)
        assert explanation.probabilities.sum() == pytest.approx(1)
    with Explainer(tiny_path("sigmoid")) as d, Explainer(tiny_path("binary")) as e:
        assert d.explain(_scene()).probabilities.sum() > 1.5
        binary = e.explain(_scene())
        assert binary.target == 0
        assert binary.logits is not None
        assert binary.probability == pytest.approx(1 / (1 + np.exp(-binary.logits[0])), abs=1e-6)


@pytest.mark.parametrize("method", ["cfcam", "gradcam", "hirescam", "layercam"])
def test_no_gradient_is_reported_as_no_explanation(explainer, method):
    explanation = explainer.explain(_scene(), target="nothing", method=method)
    assert explanation.empty
    assert explanation.reason
    assert explanation.peak is None
    assert not explanation.map.any()


def test_bad_inputs(explainer, tmp_path):
    tensor = np.zeros((3, 32, 48), np.float32)
    cases: list[tuple[type[CfcamError], str, dict[str, Any]]] = [
        (TargetError, f"out of range: the model has {len(LABELS)} classes", {"image": _scene(), "target": 6}),
        (TargetError, "nearest: 'red'", {"image": _scene(), "target": "rad"}),
        (ImageError, "no such file", {"image": tmp_path / "none.jpg"}),
        (ArrayError, "expected a float32 tensor, got float64", {"image": tensor.astype(float)}),
        (ArrayError, "NaN", {"image": np.full_like(tensor, np.nan)}),
        (ArrayError, r"got \(3, 8, 8\)", {"image": tensor[:, :8, :8]}),
        (ArrayError, "use explain_batch", {"image": np.stack([tensor, tensor])}),
        (MethodError, "did you mean 'gradcam'", {"image": _scene(), "method": "grad-cam"}),
        (MethodError, "no setting 'sigmas'", {"image": _scene(), "settings": {"sigmas": 1}}),
    ]
    for kind, words, call in cases:
        with pytest.raises(kind, match=words) as caught:
            explainer.explain(**call)
        assert "\n" not in str(caught.value)
    for not_many in (_scene(), "photo.jpg", tensor):
        with pytest.raises(ArrayError, match="for a single image use explain"):
            explainer.explain_batch(not_many)


def test_a_file_that_is_not_ours(tiny_path, tmp_path):
    with pytest.raises(ModelFileError, match="was not made by `cfcam export`"):
        Explainer(tiny_path("plain"))
    with pytest.raises(ModelFileError, match="no such file"):
        Explainer(tmp_path / "none.cam.onnx")


class _Broken(_Counting):
    """An engine that spoils one output."""

    def __init__(self, inner: Any, name: str, spoil: Any) -> None:
        super().__init__(inner)
        self.name, self.spoil = name, spoil

    def infer(self, inputs, outputs=None):
        values = dict(self.inner.infer(inputs, outputs))
        values[self.name] = self.spoil(values[self.name])
        return values


def _with_nan(value: np.ndarray) -> np.ndarray:
    value = value.copy()
    value[1].flat[0] = np.nan
    return value


@pytest.mark.parametrize(
    ("name", "spoil", "words"),
    [
        ("cam_gradients", _with_nan, "'cam_gradients' holds NaN or infinity for image 1"),
        ("scores", _with_nan, "'scores' holds NaN or infinity for image 1"),
        ("cam_gradients", lambda v: v[:, :3], "of one shape"),
        ("scores", lambda v: v[:, :3], "expected 6 classes"),
        ("cam_activations", lambda v: v[:1], "expected 2 images"),
    ],
)
def test_an_engine_that_misbehaves(tiny_path, name, spoil, words):
    engine = _Broken(open_engine(tiny_path("logits")), name, spoil)
    with Explainer(tiny_path("logits"), engine=engine) as explainer, pytest.raises(EngineError, match=words):
        explainer.explain_batch([_scene(), _scene()])


def test_explanations_are_frozen(explainer):
    explanation = explainer.explain(_scene())
    with pytest.raises(dataclasses.FrozenInstanceError):
        explanation.target = 3
    assert explanation.peak == explanation.peak


def test_a_photo_is_prepared_once(tiny_path, tmp_path):
    path = tmp_path / "scene.png"
    _scene().save(path)
    with Explainer(tiny_path("logits")) as explainer:
        prepared = explainer.prepare(path)
        assert explainer.prepare(prepared) is prepared
        assert (prepared.source, prepared.photo.size) == (str(path), _scene().size)
        path.unlink()  # nothing opens it again
        one, other = explainer.explain(prepared), explainer.explain_batch([prepared, prepared], [0, 1])[1]
        expected = explainer.explain(_scene(), 1)
        assert np.array_equal(other.map, expected.map)
        assert np.array_equal(explainer.tensors([prepared]).scores, explainer.tensors(prepared.tensor[None]).scores)
    assert one.source == str(path)
    assert one.frame == prepared.frame
    assert {name: one.times_ms[name] for name in ("decode", "preprocess")} == prepared.times_ms


@pytest.mark.parametrize("ask", ["probabilities", "maps", "tensors"])
def test_no_image_is_an_error_with_a_sentence(tiny_path, ask):
    with Explainer(tiny_path("logits")) as explainer:
        none = np.zeros(explainer.spec.input.shape(0), np.float32)
        with pytest.raises(ArrayError, match=r"expected at least one image, got .* shape \(0, 3, 32, 48\)"):
            getattr(explainer, ask)(none)
        assert explainer.explain_batch([]) == explainer.explain_batch(none) == []
        with pytest.raises(ArrayError, match="expected at least one image"):
            explainer.tensors([])


def test_several_classes_of_several_images_are_what_each_is_alone(explainer):
    photos = [_scene(), _scene(100, 150)]
    found = explainer.explain_classes(photos, ["green", -1, -2])
    for photo, classes in zip(photos, found, strict=True):
        top = explainer.explain(photo)
        second = top.top[1][0]
        for one, target in zip(classes, ["green", None, second], strict=True):
            alone = explainer.explain(photo, target)
            assert one.label == alone.label
            assert one.counts == alone.counts
            np.testing.assert_array_equal(one.map, alone.map)
    assert explainer.explain_classes([], ["green"]) == []
    with pytest.raises(TargetError, match="column 1"):
        explainer.explain_classes(photos, ["green", "purple"])
