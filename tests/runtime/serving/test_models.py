"""Files under their names, and what a request may ask of them."""

from __future__ import annotations

import io
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import tiny_model
from cfcam.runtime import Explainer
from cfcam.runtime.contract.spec import FixedTargetSpec
from cfcam.runtime.errors import EngineError, ImageError, ManifestError, ModelFileError, TargetError
from cfcam.runtime.serving import models as serving_models
from cfcam.runtime.serving.limits import Refusal
from cfcam.runtime.serving.models import Question, ServedModel, built_in_photo, named, open_models, rules
from PIL import Image


def _png(color="red", size=(64, 64)):
    data = io.BytesIO()
    Image.new("RGB", size, color).save(data, "PNG")
    return data.getvalue()


def test_names():
    assert named("folder/net.cam.onnx") == ("net", "folder/net.cam.onnx")
    assert named("a=folder/net.cam.onnx") == ("a", "folder/net.cam.onnx")
    assert named("folder=x/net.onnx") == ("folder", "x/net.onnx")
    with pytest.raises(ModelFileError, match="give it a name, as in model="):
        named("folder/n t.onnx")


def test_two_files_of_one_name_are_refused(tiny_path):
    path = str(tiny_path("logits"))
    with pytest.raises(ModelFileError, match="another model is called 'logits'"):
        open_models([path, path])
    assert list(open_models([path, f"other={path}"])) == ["logits", "other"]


def test_a_product_whose_gate_failed_needs_a_flag(tiny_path, monkeypatch):
    def opened(path, **_):
        explainer = Explainer(path)
        explainer.manifest = SimpleNamespace(verdict="failed", is_engine=False)  # type: ignore[assignment]
        return explainer

    monkeypatch.setattr(serving_models, "Explainer", opened)
    with pytest.raises(ManifestError, match="--allow-failing"):
        open_models([str(tiny_path("logits"))])
    assert open_models([str(tiny_path("logits"))], allow_failing=True)["logits"].gate == "failed"


def test_answers_are_the_explainers_own(tiny_path):
    explainer = Explainer(tiny_path("logits"))
    model = ServedModel("m", explainer)
    tensor = np.random.default_rng(3).standard_normal((3, 32, 48)).astype(np.float32)
    by_photo, by_tensor = model.answers([Question(_png()), Question(tensor, "green")])
    assert by_photo.label == "red"
    np.testing.assert_array_equal(by_photo.map, explainer.explain(Image.new("RGB", (64, 64), "red")).map)
    logits = tiny_model.reference(tiny_model.TinyModel(), tensor)["logits"]
    assert by_tensor.logits is not None
    np.testing.assert_allclose(by_tensor.logits, logits, rtol=1e-4, atol=1e-5)
    assert by_tensor.target == 1
    assert (model.gate, model.has_logits) == ("none", True)
    model.check_ready()
    explainer.close()
    with pytest.raises(Exception, match="closed"):
        model.check_ready()


@pytest.mark.parametrize(
    "tensor",
    [np.float32(0), np.zeros((1, 3, 32, 48), np.float32), np.zeros((3, 32, 48)), np.zeros((3, 48, 32), np.float32)],
)
def test_a_tensor_of_another_shape_or_type_is_refused(tiny_path, tensor):
    model = ServedModel("m", Explainer(tiny_path("logits")))
    with pytest.raises(Refusal, match=r"expected the shape \[N, 3, 32, 48\] and float32"):
        model.answers([Question(tensor)])


def test_large_photos_may_be_decoded_at_a_part_of_their_size(tiny_path):
    data = io.BytesIO()
    Image.radial_gradient("L").resize((1024, 768)).convert("RGB").save(data, "JPEG")
    asked = [Question(data.getvalue())]
    explainer = Explainer(tiny_path("logits"))
    (exact,) = ServedModel("m", explainer).answers(asked)
    (fast,) = ServedModel("m", explainer, decode="fast").answers(asked)
    assert (exact.photo.size, fast.photo.size) == ((1024, 768), (512, 384))
    assert fast.probability == pytest.approx(exact.probability, abs=0.01)


def test_pixels_are_counted_over_all_photos_of_a_request(tiny_path):
    model = ServedModel("m", Explainer(tiny_path("logits")), max_pixels=2 * 64 * 64)
    assert len(model.answers([Question(_png())] * 2)) == 2
    with pytest.raises(Refusal, match="together") as caught:
        model.answers([Question(_png())] * 3)
    assert caught.value.status == 413
    with pytest.raises(ImageError, match="--max-pixels"):
        model.answers([Question(_png(size=(100, 100)))])


def test_an_overflow_is_the_senders_and_a_dead_engine_the_servers(tiny_path):
    model = ServedModel("m", Explainer(tiny_path("logits")))
    huge = np.full((3, 32, 48), np.finfo(np.float32).max, np.float32)
    with pytest.raises(Refusal, match="overflow") as caught:
        model.answers([Question(huge)])
    assert caught.value.status == 422
    model.explainer.close()
    with pytest.raises(EngineError):
        model.answers([Question(_png())])


@pytest.mark.parametrize("question", [{"target": "SECRET"}, {"target": 99}, {"method": "SECRET"}, {"method": "rise"}])
def test_what_is_not_served_is_refused_without_repeating_it(tiny_path, question):
    model = ServedModel("m", Explainer(tiny_path("logits")))
    with pytest.raises(Refusal) as caught:
        model.answers([Question(_png(), **question)])
    assert caught.value.status == 400
    assert "SECRET" not in str(caught.value)
    assert "99" not in str(caught.value)


def test_the_built_in_photo_and_the_rules():
    assert built_in_photo().size == (64, 64)
    assert len(np.unique(np.asarray(built_in_photo()).reshape(-1, 3), axis=0)) > 1000
    assert "cfcam" in rules()
    assert "rise" not in rules()


def test_a_file_that_explains_one_class_is_asked_for_no_other(tiny_path, monkeypatch):
    model = ServedModel("m", Explainer(tiny_path("logits")))
    model.explainer.spec = replace(model.explainer.spec, fixed_target=FixedTargetSpec(index=1))
    with pytest.raises(Refusal, match="explains one class alone") as refused:
        model.answers([Question(_png(), 2)])
    assert refused.value.status == 400

    def not_the_top_one(*_):
        raise TargetError("explains the top class alone")

    model.explainer.spec = replace(model.explainer.spec, fixed_target=FixedTargetSpec())
    monkeypatch.setattr(model.explainer, "explain", not_the_top_one)
    with pytest.raises(Refusal, match="leave the target out"):
        model.answers([Question(_png(), 2)])
