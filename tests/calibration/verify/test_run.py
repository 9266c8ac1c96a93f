"""The gate on real files: what passes, and what must not."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import spoilt_files
import tiny_model
from cfcam.calibration.verify import GateError, Thresholds, verify
from cfcam.runtime.contract.modelfile import read_spec
from cfcam.runtime.engines.opening import open_engine
from cfcam.runtime.errors import EngineError, ImageError, MethodError
from cfcam.runtime.explainer import Explainer
from cfcam.runtime.photos.images import open_image
from cfcam.runtime.photos.preprocess import prepare
from cfcam.runtime.targets import TOP_CLASS


def _missed(report, place=None):
    """Names of the measures that fell short, in one layer or anywhere."""
    return {one.measure for one in report.failures if place is None or one.place == place}


def _score(report, place=0):
    """Spearman's."""
    score = report.places[place].measures["spearman"].score
    assert score is not None
    return score


def _tensors(path, photos):
    return [prepare(open_image(one), read_spec(path).input).tensor for one in photos]


def test_a_file_equals_itself_in_every_layer(mobilenet, photos):
    told = []
    report = verify(
        mobilenet, mobilenet, photos[:5], batch=2, threads=1, progress=lambda done, of: told.append((done, of))
    )
    assert report
    assert told == [(2, 5), (4, 5), (5, 5)]
    assert [(one.place.name, one.place.role, one.count) for one in report.places] == [
        ("t83", "last", 5),
        ("t75", "middle", 5),
        ("fused", "fused", 5),
    ]
    for one in report.places:
        assert [one.measures[name].score for name in ("spearman", "pearson", "iou")] == [1.0, 1.0, 1.0]
        assert one.measures["spearman"].worst == 1.0
        assert one.measures["peak_distance"].candidate == one.measures["moved"].candidate == 0
        assert one.kept == 1.0
        # The reference points lie where they must: a jittered photo above another class, and that above noise.
        spearman = one.measures["spearman"]
        assert 1 > spearman.jitter > spearman.other > spearman.noise
    assert [one.clusters for one in report.places[:2]] == [1.0, 1.0]
    assert (report.logits_max, report.logits_mean) == (0, 0)
    assert report.jitter_max > report.jitter_mean > 0
    assert report.top1.share == 1
    assert report.top1.low == pytest.approx(0.5655, abs=1e-4)  # Wilson, 5 of 5
    assert report.cases == (), "there is nothing to draw"
    # One layer of the two judged alone, and the seed decides everything else.
    alone = verify(mobilenet, mobilenet, photos[:5], layer="t75", pictures=0)
    assert len(alone.places) == 1
    assert alone.places[0].measures["spearman"].jitter == pytest.approx(report.places[1].measures["spearman"].jitter)


def test_frozen_gradients_are_caught_in_every_layer(mobilenet, photos, tmp_path):
    with Explainer(mobilenet, threads=1) as explainer:
        raw = explainer.tensors([photos[0]], TOP_CLASS)
    frozen = spoilt_files.freeze_gradients(mobilenet, tmp_path / "f.cam.onnx", [one.gradients for one in raw.layers])
    report = verify(frozen, mobilenet, photos[1:6], pictures=2)
    assert not report
    assert report.top1.share == 1, "no label shows it"
    assert report.logits_max == 0
    for one in report.places:
        assert one.kept == 0, "both classes have one map"
        assert {"class_sensitivity", "spearman", "iou"} <= _missed(report, one.place.name)
    assert len(report.cases) == 6
    assert {len(one.images) for one in report.cases} == {4}
    assert report.cases[0].likeness.spearman == report.places[0].measures["spearman"].worst
    # Each layer is judged by itself: the last one is as it was, and only what hangs on the other one falls short.
    only = spoilt_files.freeze_gradients(mobilenet, tmp_path / "o.cam.onnx", [None, raw.layers[1].gradients])
    report = verify(only, mobilenet, photos[1:4], pictures=1)
    assert _score(report) == 1
    assert {one.place for one in report.failures} == {"t75", "fused"}
    assert [one.place for one in report.cases] == ["t75", "fused"], "drawn is what fell short"


def test_the_gradient_of_another_class_is_caught(mobilenet, photos, tmp_path):
    wrong = spoilt_files.other_class(mobilenet, tmp_path / "w.cam.onnx")
    report = verify(wrong, mobilenet, photos[:5], pictures=0)
    assert report.top1.share == 1
    for number, one in enumerate(report.places):
        assert "spearman" in _missed(report, one.place.name)
        assert _score(report, number) < 0.5, "as far off as another class's map"


def test_a_broken_calibration_is_caught_and_a_good_one_passes(tiny_path, photos, tmp_path):
    plain = tiny_path("logits")
    good = spoilt_files.quantise(plain, tmp_path / "good.cam.onnx", _tensors(plain, photos))
    passed = verify(good, plain, photos, pictures=0)
    assert passed, [one.text for one in passed.failures]
    assert passed.thresholds == Thresholds.for_precision("int8")
    assert 0.95 < _score(passed) < 1
    grey = [np.full_like(_tensors(plain, photos[:1])[0], level) for level in (0.1, 0.3, 0.5)]
    broken = spoilt_files.quantise(plain, tmp_path / "broken.cam.onnx", grey)
    report = verify(broken, plain, photos, pictures=0)
    assert {"top1", "spearman", "pearson", "iou", "moved", "class_sensitivity"} == _missed(report)


def test_the_wrong_order_of_colours_is_caught(tiny_path, photos, tmp_path):
    plain = tiny_path("logits")
    spec = read_spec(plain)
    wrong = spoilt_files.with_spec(plain, tmp_path / "bgr.cam.onnx", input=dataclasses.replace(spec.input, color="bgr"))
    report = verify(wrong, plain, photos, pictures=0)
    assert not report
    assert {"top1", "spearman"} <= _missed(report)
    assert any(one.label != one.found_label for one in report.photos)


@pytest.mark.parametrize("variant", ["nhwc", "float16", "fixed-batch", "softmax-and-logits"])
def test_another_form_of_the_same_network_passes(tiny_path, photos, variant):
    report = verify(tiny_path(variant), tiny_path("logits"), photos, pictures=0)
    assert report, [one.text for one in report.failures]
    assert _score(report) > 0.9999


def test_a_model_of_one_class(tiny_path, photos):
    report = verify(tiny_path("binary"), tiny_path("binary"), photos, pictures=0)
    assert report
    (place,) = report.places
    assert place.typical_scale
    assert place.measures["spearman"].score == 1
    document = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert document["layers"][0]["class_sensitivity"]["kept"] is None
    assert document["layers"][0]["measures"]["spearman"]["other_class"] is None
    assert any("do not tell two classes apart" in one for one in report.warnings)


def test_other_methods_are_judged_by_the_same_gate(mobilenet, photos):
    report = verify(mobilenet, mobilenet, photos[:2], method="hirescam", pictures=0)
    assert (report.method, report.places[0].clusters) == ("hirescam", 1.0)
    blind = verify(mobilenet, mobilenet, photos[:2], method="eigencam", pictures=0)
    assert blind
    assert blind.places[0].typical_scale, "the method does not look at the class"
    with pytest.raises(MethodError, match="'scorecam' runs the model again and again"):
        verify(mobilenet, mobilenet, photos[:2], method="scorecam")


def test_corrupt_photos_are_named_and_the_others_go_on(tiny_path, photos, tmp_path):
    plain = tiny_path("logits")
    bad = [tmp_path / f"bad{number}.jpg" for number in range(3)]
    for number, path in enumerate(bad):
        path.write_bytes(photos[number].read_bytes()[: 40 * number])
    mixed = [bad[0], *photos[:3], bad[1], *photos[3:6], bad[2]]
    report = verify(plain, plain, mixed, batch=4, pictures=0)
    assert report, "that photos are damaged is not the candidate's fault"
    assert [one.name for one in report.photos] == [str(one) for one in photos[:6]]
    assert {one.name for one in report.failed} == {str(one) for one in bad}
    assert len(report.to_dict()["errors"]) == 3
    with pytest.raises(ImageError, match=r"none of 3 photos could be used: .*bad"):
        verify(plain, plain, bad)
    with pytest.raises(ImageError, match="no photos were given"):
        verify(plain, plain, [])


class _Overflowing:
    """An engine that fails on bright photos, as one that overflows does."""

    def __init__(self, path, limit):
        self._engine, self._limit = open_engine(path, threads=1), limit
        self.describe, self.close = self._engine.describe, self._engine.close

    def infer(self, inputs, outputs=None):
        found = self._engine.infer(inputs, outputs)
        for one, scores in zip(inputs["image"], found["scores"], strict=True):
            if one.mean() > self._limit:
                scores[:] = np.inf
        return found


def test_a_candidate_that_overflows_on_some_photos(tiny_path, photos):
    plain = tiny_path("logits")
    brightness = [float(one.mean()) for one in _tensors(plain, photos)]
    with Explainer(plain, engine=_Overflowing(plain, sorted(brightness)[-3])) as candidate:  # type: ignore[arg-type]
        report = verify(candidate, plain, photos, pictures=0)
        assert [one.text for one in report.failures] == [
            f"the candidate could not explain 2 of {len(photos)} photos",
        ]
        assert all(one.candidate and "NaN or infinity" in one.error for one in report.failed)
        assert len(report.photos) == len(photos) - 2
    always = Explainer(plain, engine=_Overflowing(plain, -9))  # type: ignore[arg-type]
    with always, pytest.raises(EngineError, match=r"could explain none of 2 photos; .*NaN or infinity"):
        verify(always, plain, photos[:2])


def test_files_that_do_not_belong_together(tiny_path, photos, tmp_path):
    plain = tiny_path("logits")
    spec = read_spec(plain)
    larger = tmp_path / "larger.cam.onnx"
    tiny_model.build(dataclasses.replace(tiny_model.VARIANTS["logits"], width=32), larger)
    other_layer = dataclasses.replace(spec.layer, name="conv7")
    pairs = [
        (tiny_path("binary"), "classes: 1 and 6"),
        (larger, "input size .*: 32 x 32 and 32 x 48"),
        (spoilt_files.with_spec(plain, tmp_path / "l.cam.onnx", layers=(other_layer,)), "target layers: conv7 .* relu"),
        (
            spoilt_files.with_spec(
                plain,
                tmp_path / "n.cam.onnx",
                output=dataclasses.replace(spec.output, labels=("blue", *tiny_model.LABELS[1:])),
            ),
            "label of class 0: blue and red",
        ),
        (
            spoilt_files.with_spec(
                plain, tmp_path / "m.cam.onnx", method=dataclasses.replace(spec.method, name="gradcam")
            ),
            "method: gradcam and cfcam",
        ),
    ]
    for candidate, words in pairs:
        with pytest.raises(GateError, match=f"{candidate.name} and .*logits.cam.onnx do not belong together: {words}"):
            verify(candidate, plain, photos[:1])
    half = spoilt_files.with_spec(plain, tmp_path / "h.cam.onnx", precision="float16")
    with pytest.raises(GateError, match="is float16 itself: verify against the float32 file"):
        verify(plain, half, photos[:1])
    found = verify(half, plain, photos[:1], {"top1": 0.5}, pictures=0)
    assert found.thresholds == Thresholds.from_mapping({"top1": 0.5}, "float16")
